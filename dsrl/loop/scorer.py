"""What rollouts are worth in each space: contexts, log-probabilities, advantages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dsrl.loop.collector import Collecting
from dsrl.loop.experience import Experience, MicroBatch, SpaceView, contexts_in, cut, space_key, weigh
from dsrl.loop.mismatch import Mismatch, correction_of
from dsrl.models.policy import Policy, left_pad
from dsrl.objectives.kl import KL, KLPenalty, k1
from dsrl.parallel.collectives import all_max
from dsrl.types import Prompt, Rollouts

PROBED = 8  # responses of a rank on which the mismatch is measured where no pass of the objective shows it


class Scoring(Collecting):
    """The loop's scoring of what was collected, with the policy and its reference.

    A pass over a sharded policy is a collective: every rank takes part in each, with what it has.
    """

    policy: Policy
    reference: Policy | None
    mismatch: Mismatch

    def weigh(self, rollouts: Rollouts, rewards: Tensor) -> Experience:
        """What each term of the objective keeps, in which space; old and reference log-probabilities where needed."""
        views: dict[str, SpaceView] = {}
        self.mismatch = Mismatch()
        terms = self.phase.objective.terms
        several = sum(not isinstance(objective, KLPenalty) for _, objective in terms) > 1
        for index, (weight, objective) in enumerate(terms):
            shaped = rewards if objective.reward_kl is None else self.less_kl(rewards, rollouts, objective.reward_kl)
            key = space_key(objective.space)
            views[key] = views.get(key) or self.view(objective.space, rollouts)
            term = weigh(index, weight, objective, rollouts, shaped)
            term.label = f"{type(objective).__name__}{index}/" if several else ""
            views[key].terms.append(term)
        self.probe(views.values(), rollouts)
        for view in views.values():
            if self.config.steps_per_iteration > 1:  # else the first forward of the update is the policy that sampled
                rows = view.needing("needs_old_logprobs")
                view.old_logprobs = self.frozen_logprobs(self.policy, view, rollouts, rows)
                if view.mismatch is not None:
                    mask = rollouts.mask & rows[:, None]
                    view.mismatch.observe(view.old_logprobs, rollouts.logprobs, mask, view.correction)
            if self.reference is not None and any(term.objective.needs_reference for term in view.terms):
                rows = view.needing("needs_reference")
                view.reference_logprobs = self.frozen_logprobs(self.reference, view, rollouts, rows)
        return Experience(rollouts=rollouts, rewards=rewards, views=list(views.values()))

    def logprobs(self, policy: Policy, micro_batch: MicroBatch, rollouts: Rollouts) -> Tensor:
        """Log-probabilities [n, T] of a micro-batch's responses in its space; T is the longest of them."""
        rows = micro_batch.rows
        longest = int(rollouts.lengths[rows].max())
        tokens, mask = (part[rows, :longest].to(self.device) for part in (rollouts.tokens, rollouts.mask))
        contexts = [micro_batch.view.contexts[row] for row in rows.tolist()]
        logprobs: Tensor = policy(contexts, tokens, mask, self.phase.sampling.temperature)
        return logprobs

    @torch.no_grad()
    def frozen_logprobs(self, policy: Policy, view: SpaceView, rollouts: Rollouts, rows: Tensor) -> Tensor:
        """Log-probabilities [N, T] of the chosen rows [N] bool without gradient, 0 elsewhere; on the CPU."""
        result = torch.zeros(rollouts.mask.shape)
        for micro_batch in cut(view, rollouts, rows, self.config.update.micro_batch_tokens, self.device):
            logprobs = self.logprobs(policy, micro_batch, rollouts).cpu()
            if not micro_batch.idle:
                result[micro_batch.rows, : logprobs.shape[1]] = logprobs
        return result

    def view(self, space: Any, rollouts: Rollouts) -> SpaceView:
        """The rollouts in a space, with no terms yet."""
        contexts = contexts_in(
            space,
            rollouts.prompts,
            self.encoder,
            responses=rollouts.responses_per_prompt,
            seed=self.config.seed,
            iteration=self.iteration,
        )
        view = SpaceView(contexts=contexts)
        drawn_in = all(tuple(context) == rollouts.prompt_of(row).token_ids for row, context in enumerate(contexts))
        if drawn_in and not self.phase.sampling.restricted:
            view.mismatch = self.mismatch
            view.correction = correction_of(self.config.mismatch, exact=self.config.exact)
        return view

    def probe(self, views: Iterable[SpaceView], rollouts: Rollouts) -> None:
        """Every `mismatch.every` iterations, measure the mismatch on a few responses where no view will, unless it is
        the policy itself that samples.
        """
        every = self.config.mismatch.every if self.sampler.compute_dtype is not None else 0
        due = every > 0 and self.iteration % every == 0
        if due and all_max(float(all(view.mismatch is None for view in views)), self.device):
            view = self.view("conditional", rollouts)
            if view.mismatch is not None:
                rows = torch.arange(len(rollouts.texts)) < PROBED
                found = self.frozen_logprobs(self.policy, view, rollouts, rows)
                view.mismatch.observe(found, rollouts.logprobs, rollouts.mask & rows[:, None])

    def less_kl(self, rewards: Tensor, rollouts: Rollouts, kl: KL) -> Tensor:
        """Rewards [B, G] less the k1 penalty, summed over each response's tokens."""
        assert self.reference is not None
        view, rows = self.view(kl.space, rollouts), torch.ones(len(rollouts.texts), dtype=torch.bool)
        policy, reference = (self.frozen_logprobs(p, view, rollouts, rows) for p in (self.policy, self.reference))
        penalty = k1(policy, reference).sum(-1)
        before, _ = self.summed.get("kl/mean", (0.0, ""))
        self.summed["kl/mean"] = before + float(penalty.sum()), "length"
        return rewards - kl.coefficient * penalty.view_as(rewards)

    @torch.no_grad()
    def difference(self, one: Policy, other: Policy, prompts: list[Prompt], length: int = 64) -> float:
        """Largest difference of two policies' log-probabilities of some prompts' first tokens, over all ranks."""
        rows = [prompt.token_ids[:length] for prompt in prompts[:8]]
        tokens, mask = (side.flip(1) for side in left_pad([row[::-1] for row in rows], self.device))
        contexts = [[self.encoder.start_token_id]] * len(rows)
        scores = [policy(contexts, tokens, mask) for policy in (one, other)]
        return all_max(float((scores[0] - scores[1]).abs().nan_to_num(math.inf).max()), self.device)
