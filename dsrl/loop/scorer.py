"""RolloutBatch + objective -> Experience: advantages, spaces, and log-probabilities without gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dsrl.config.run_config import RunConfig
from dsrl.data.encoding import PromptEncoder
from dsrl.loop.collector import RolloutBatch
from dsrl.loop.contexts import contexts_in, space_key, space_name
from dsrl.loop.experience import Experience, SpaceView, compute_advantages
from dsrl.loop.logged import LoggedTokens, TokenPull, add_pulls, logged_rows
from dsrl.loop.metrics import add_metrics
from dsrl.loop.micro_batches import MicroBatch, RowLayout, in_micro_batches
from dsrl.loop.mismatch import Correction, correction_of, mismatch_metrics
from dsrl.loop.token_choice import choose_in_views, token_metrics
from dsrl.models.head import TokenScores
from dsrl.models.policy import Policy
from dsrl.objectives import KL, KLPenalty, Objective
from dsrl.objectives.kl import k1, k3
from dsrl.parallel.collectives import all_max, gather, own_rank
from dsrl.types import Metric, Metrics, Prompt

LOGGED_SPACES = ("conditional", "marginal")
"""Spaces in which the tokens of logged responses are scored, whatever the objective does."""

PROBED_RESPONSES = 8
"""Responses of a rank on which the mismatch is measured where no pass of the objective shows it."""


@dataclass(kw_only=True)
class Scorer:
    """Score what was collected, with the policy and its reference.

    A pass over a sharded policy is a collective: every rank takes part in each, with what it has.

    Args:
        policy: computes log P(response | context).
        encoder: makes the contexts of the spaces.
        reference: the frozen model of a KL; needed where an objective has one.
        initial: the policy that the run began with, frozen; needed where its KL is measured.
        correction: importance weights against the sampler, in the space that responses are drawn in.
        micro_batch_tokens: tokens in a micro-batch.
        share_prompts: whether responses read a common context once, where the model can and it is cheaper.
        several_steps: whether more than one optimizer step uses a batch. Log-probabilities of the policy that sampled
            are then computed beforehand; else the first forward of the update gives them.
        initial_kl_every: iterations between measurements of the KL to the initial policy; 0: none.
        mismatch_every: iterations between measurements of the sampler's log-probabilities where no pass of the
            objective shows them; 0 measures none.
        logged_samples: responses of rank 0 that are logged.
        logged_tokens: tokens of a logged response, at most, that are scored in both spaces to be logged; 0: none.
        device: where passes run.
    """

    policy: Policy
    encoder: PromptEncoder
    reference: Policy | None = None
    initial: Policy | None = None
    correction: Correction | None = None
    micro_batch_tokens: int = 8192
    share_prompts: bool = True
    several_steps: bool = False
    initial_kl_every: int = 0
    mismatch_every: int = 0
    logged_samples: int = 0
    logged_tokens: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of(cls, config: RunConfig, policy: Policy, encoder: PromptEncoder, **settings: Any) -> Scorer:
        """Make the scorer of a configuration. `settings` are further fields."""
        may_differ = config.sampler.compute_dtype is not None or not config.sampler.on_policy
        return cls(
            policy=policy,
            encoder=encoder,
            correction=correction_of(config.mismatch, exact=config.exact),
            micro_batch_tokens=int(config.update.micro_batch_tokens),
            share_prompts=config.update.share_prompts,
            several_steps=config.steps_per_iteration > 1,
            initial_kl_every=config.initial_kl.every,
            mismatch_every=config.mismatch.every if may_differ else 0,
            logged_samples=config.logged_samples,
            logged_tokens=config.logged_tokens,
            **settings,
        )

    def score(self, batch: RolloutBatch, objective: Objective) -> Experience:
        """Compute what each term of the objective keeps, in which space; old and reference log-probabilities where
        they are needed.
        """
        views: dict[str, SpaceView] = {}
        metrics: list[Metrics] = []
        several = sum(not isinstance(term, KLPenalty) for _, term in objective.terms) > 1
        for index, (weight, part) in enumerate(objective.terms):
            rewards = batch.rewards
            if part.reward_kl is not None:
                rewards, found = self.apply_kl_penalty(batch, part.reward_kl)
                metrics.append(found)
            key = space_key(part.space)
            view = views[key] = views.get(key) or self.view(part.space, batch)
            term = compute_advantages(index, weight, part, batch.rollouts, rewards)
            term.label = f"{type(part).__name__}{index}/" if several else ""
            view.terms.append(term)
        metrics += [self._probe_mismatch(views.values(), batch), self.measure_initial_kl(batch)]
        chosen_by = self.choose_tokens(views, batch)
        metrics += [
            token_metrics(term, view) for view in views.values() for term in view.terms if term.index in chosen_by
        ]
        for view in views.values():
            if self.several_steps:
                rows = view.rows_needing("needs_old_logprobs")
                view.old_logprobs = self.frozen_logprobs(self.policy, view, rows)
                metrics.append(_measured(view, view.old_logprobs, rows))
            if self.reference is not None and any(term.objective.needs_reference for term in view.terms):
                rows = view.rows_needing("needs_reference")
                view.reference_logprobs = self.frozen_logprobs(self.reference, view, rows)
        experience = Experience(batch=batch, views=list(views.values()), logged=self.score_logged(batch))
        experience.metrics = add_metrics(*metrics, _selection_metrics(experience))
        return experience

    @torch.no_grad()
    def choose_tokens(self, views: Mapping[str, SpaceView], batch: RolloutBatch) -> set[int]:
        """Set the `counted` of views with a term whose objective chooses tokens, and return the indices of those terms.

        The policy that sampled scores what they keep, in the spaces that they ask for; nothing where none does.
        """

        def score(space: str, rows: Tensor, parts: int) -> Tensor:
            view = views.get(space_key(space)) or self.view(space, batch)
            return self._frozen_scores(self.policy, view, rows, parts=parts)

        return choose_in_views(views.values(), score)

    def view(self, space: Any, batch: RolloutBatch) -> SpaceView:
        """Put the responses into a space, with no terms yet. `space` is the spec of a registered one. A collective:
        where one rank's responses were drawn after other contexts, none were `sampled_here`.
        """
        rollouts, params = batch.rollouts, batch.params
        contexts = contexts_in(space, rollouts, self.encoder, seed=params.seed, iteration=params.iteration)
        drawn_in = all(tuple(context) == rollouts.prompt_of(row).token_ids for row, context in enumerate(contexts))
        sampled_here = not all_max(float(not drawn_in)) and not params.restricted
        return SpaceView.of(
            rollouts,
            contexts,
            space=space_name(space),
            temperature=params.temperature,
            sampled_here=sampled_here,
            correction=self.correction if sampled_here else None,
        )

    @property
    def layout(self) -> RowLayout:
        """How responses become rows and micro-batches, with what the policy can do. The first time, that is tried."""
        return RowLayout(
            tokens=self.micro_batch_tokens,
            shared=self.share_prompts and self.policy.shares_contexts,
            packed=self.policy.packs,
            cost=self.policy.row_cost,
        )

    def score_tokens(
        self, micro_batch: MicroBatch, policy: Policy | None = None, *, entropy: bool = True
    ) -> TokenScores:
        """Compute log-probabilities and entropies [n, T] of a micro-batch's responses in its space; T is the longest.

        With gradient, of the policy, unless another model is given. Without `entropy`, that is 0.
        """
        view = micro_batch.view
        return (policy or self.policy).score(
            view.contexts,
            view.tokens,
            view.mask,
            view.temperature,
            together=micro_batch.together,
            packed=micro_batch.packed,
            entropy=entropy,
            device=self.device,
        )

    @torch.no_grad()
    def frozen_logprobs(self, policy: Policy, view: SpaceView, rows: Tensor) -> Tensor:
        """Compute log-probabilities [N, T] of some rows [N] bool without gradient, 0 elsewhere; on the CPU."""
        return self._frozen_scores(policy, view, rows, parts=1)[..., 0]

    def score_logged(self, batch: RolloutBatch) -> LoggedTokens | None:
        """Score the first `logged_tokens` tokens of rank 0's logged responses by the policy that sampled them.

        None where no tokens are to be logged. A collective.
        """
        if not (self.logged_samples and self.logged_tokens):
            return None
        rows = gather(logged_rows(batch.rollouts, self.logged_samples))[0]
        scores = self._logged_scores(batch, rows, parts=2)
        before = {space: TokenScores(*found.unbind(-1)) for space, found in scores.items()}
        return LoggedTokens(rows=rows, length=self.logged_tokens, before=before)

    def score_moved(
        self, logged: LoggedTokens | None, batch: RolloutBatch, pulls: Iterable[TokenPull]
    ) -> LoggedTokens | None:
        """Add what an update did to logged tokens: `pulls`, which this rank found in it, and their scores after it.

        A collective.
        """
        if logged is None:
            return None
        everywhere = add_pulls(chain.from_iterable(gather(list(pulls))))
        scores = self._logged_scores(batch, logged.rows, parts=1)
        return replace(logged, after={space: found[..., 0] for space, found in scores.items()}, pulls=everywhere)

    @torch.no_grad()
    def _logged_scores(self, batch: RolloutBatch, numbers: list[int], *, parts: int) -> dict[str, Tensor]:
        """Score the first tokens of some responses of rank 0, [n, t, parts], in each space that is logged."""
        numbers = numbers if own_rank() == 0 else []
        rows = torch.zeros(len(batch.rollouts.texts), dtype=torch.bool)
        rows[numbers] = True
        found = {}
        for space in LOGGED_SPACES:
            view = self.view(space, batch)
            view.mask = view.mask & (torch.arange(view.mask.shape[1]) < self.logged_tokens)
            found[space] = self._frozen_scores(self.policy, view, rows, parts=parts)[numbers, : self.logged_tokens]
        return found

    def _frozen_scores(self, policy: Policy, view: SpaceView, rows: Tensor, *, parts: int) -> Tensor:
        """Score some rows [N] bool without gradient: log-probabilities, and with 2 `parts` entropies, [N, T, parts],
        0 elsewhere; on the CPU.
        """

        def scores(batch: MicroBatch) -> Tensor:
            return torch.stack(self.score_tokens(batch, policy, entropy=parts > 1)[:parts], -1)

        return in_micro_batches(view, rows, self.layout, scores, torch.zeros(*view.mask.shape, parts))

    def apply_kl_penalty(self, batch: RolloutBatch, kl: KL) -> tuple[Tensor, Metrics]:
        """Take the k1 penalty, summed over each response's tokens, from the rewards [B, G]. `kl/mean` is a token's."""
        assert self.reference is not None
        view, every = self.view(kl.space, batch), torch.ones(len(batch.rollouts.texts), dtype=torch.bool)
        policy, reference = (self.frozen_logprobs(model, view, every) for model in (self.policy, self.reference))
        penalty = k1(policy, reference).sum(-1)
        found = {"kl/mean": Metric(float(penalty.sum()), float(batch.rollouts.lengths.sum()))}
        return batch.rewards - kl.coefficient * penalty.view_as(batch.rewards), found

    def measure_initial_kl(self, batch: RolloutBatch) -> Metrics:
        """Estimate the KL of a token, from the initial policy, every `initial_kl_every` iterations: `kl/initial`.

        It is the mean of k3, in float64, over the tokens of all responses in the conditional space, in which they were
        drawn (http://joschu.net/blog/kl-approx.html): unbiased where the policy drew them, and top_p and top_k left out
        nothing. A collective.
        """
        if self.initial is None or batch.params.iteration % self.initial_kl_every:
            return {}
        view, every = self.view("conditional", batch), torch.ones(len(batch.rollouts.texts), dtype=torch.bool)
        policy, initial = (self.frozen_logprobs(model, view, every) for model in (self.policy, self.initial))
        return {"kl/initial": Metric.mean(k3(policy.double(), initial.double()), view.mask)}

    @torch.no_grad()
    def max_logprob_difference(self, prompts: list[Prompt], length: int = 64) -> float:
        """Compare policy and reference: the largest difference of log-probabilities over all ranks, in nats.

        They score the first `length` tokens of a few prompts, as responses after the start token.
        """
        assert self.reference is not None
        rows = [prompt.token_ids[:length] for prompt in prompts[:8]]
        tokens = pad_sequence([torch.tensor(row, device=self.device) for row in rows], batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        contexts = [[self.encoder.start_token_id]] * len(rows)
        one, other = (model(contexts, tokens, mask) for model in (self.policy, self.reference))
        return all_max(float((one - other).abs().nan_to_num(math.inf).max()))

    def _probe_mismatch(self, views: Iterable[SpaceView], batch: RolloutBatch) -> Metrics:
        """Every `mismatch_every` iterations, measure the mismatch on a few responses where no view will."""
        due = self.mismatch_every > 0 and batch.params.iteration % self.mismatch_every == 0
        if not due or not all_max(float(not any(view.sampled_here for view in views))):
            return {}
        view = self.view("conditional", batch)
        if not view.sampled_here:
            return {}
        view.correction = None  # nothing is corrected in the spaces of this objective
        rows = torch.arange(len(batch.rollouts.texts)) < PROBED_RESPONSES
        return _measured(view, self.frozen_logprobs(self.policy, view, rows), rows)


def _measured(view: SpaceView, logprobs: Tensor, rows: Tensor) -> Metrics:
    """The mismatch of the sampler on some rows [N] bool, from the trainer's log-probabilities [N, T]."""
    if not view.sampled_here:
        return {}
    sampled, mask = view.sampled_logprobs, view.mask & rows[:, None]
    found = mismatch_metrics(logprobs, sampled, mask)
    if view.correction is not None:
        found |= view.correction.metrics(view.correction.weights(logprobs, sampled, mask), mask)
    return found


def _selection_metrics(experience: Experience) -> Metrics:
    """How many responses, and tokens of passes, the objective uses."""
    scored = torch.stack([view.scored for view in experience.views]).any(0)
    lengths, tokens = experience.batch.rollouts.lengths, 0.0
    for view in experience.views:
        contexts = torch.tensor([len(context) for context in view.contexts])
        tokens += float((view.scored * (contexts + lengths)).sum())
    return {
        "kept/fraction": Metric.mean(experience.kept),
        "scored/fraction": Metric.mean(scored),
        "tokens/scored": Metric.total(tokens),
    }
