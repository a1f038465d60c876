"""From rewards to micro-batches: what each objective keeps, in which space, and how an iteration is cut.

rollouts, rewards -> Experience: for each space, the terms scored in it
                  -> OptimizerStep: the rows of a mini-batch and the global counts of each term
                  -> MicroBatch: rows of one space within a budget of padded tokens
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dsrl.data.encoding import PromptEncoder
from dsrl.loop.mismatch import Correction, Mismatch
from dsrl.objectives import Objective
from dsrl.parallel.collectives import all_max, all_sum, gather_rows
from dsrl.registry import build, full_spec
from dsrl.seeding import derive_seed
from dsrl.types import Counts, LossBatch, LossOutput, Prompt, Rollouts


@dataclass(kw_only=True, slots=True)
class Term:
    """One objective's view of the rollouts: advantages [N]; kept and scored [N] bool (see `Objective`).

    `index` is its place among the terms of the iteration; `label` goes before its metrics where several terms would
    give the same.
    """

    index: int
    weight: float
    objective: Objective
    advantages: Tensor
    kept: Tensor
    scored: Tensor
    label: str = ""


@dataclass(kw_only=True, slots=True)
class SpaceView:
    """The rollouts in one space: a context for each response, and the terms that share its passes.

    contexts, N token sequences; old_logprobs, reference_logprobs [N, T], once computed. `mismatch` and `correction`
    compare with the sampler's log-probabilities, in the space that responses are drawn in.
    """

    contexts: list[Sequence[int]]
    terms: list[Term] = field(default_factory=list)
    old_logprobs: Tensor | None = None
    reference_logprobs: Tensor | None = None
    mismatch: Mismatch | None = None
    correction: Correction | None = None

    @property
    def scored(self) -> Tensor:
        """Rows that some term needs scored, [N] bool."""
        return torch.stack([term.scored for term in self.terms]).any(0)

    def needing(self, what: str) -> Tensor:
        """Rows scored by the terms whose objective `needs_reference` or `needs_old_logprobs`, [N] bool."""
        needed = torch.zeros_like(self.scored)
        for term in self.terms:
            if getattr(term.objective, what):
                needed |= term.scored
        return needed


@dataclass(kw_only=True, slots=True)
class Experience:
    """One iteration on this rank: rollouts, rewards [B, G], and their views."""

    rollouts: Rollouts
    rewards: Tensor
    views: list[SpaceView]

    @property
    def terms(self) -> list[Term]:
        """All terms, by index."""
        return sorted((term for view in self.views for term in view.terms), key=lambda term: term.index)


@dataclass(kw_only=True, slots=True)
class MicroBatch:
    """Rows [n] of one view. An idle one stands in for ranks that have fewer: it is scored and adds nothing."""

    view: SpaceView
    rows: Tensor
    idle: bool = False


@dataclass(kw_only=True, slots=True)
class OptimizerStep:
    """Micro-batches whose gradients add up to one step; counts, one a term, over all of them and all ranks."""

    micro_batches: list[MicroBatch]
    counts: list[Counts]

    @property
    def keeps_nothing(self) -> bool:
        """Whether no term keeps a sample on any rank."""
        return all(counts.samples == 0 for counts in self.counts)

    def loss(self, logprobs: Tensor, micro_batch: MicroBatch, rollouts: Rollouts) -> LossOutput:
        """The weighted sum of the terms' shares; logprobs [n, T] of the micro-batch's rows."""
        view, rows = micro_batch.view, micro_batch.rows
        total, width = LossOutput(loss=logprobs.sum() * 0.0), logprobs.shape[1]
        if micro_batch.idle:
            return total
        old = logprobs.detach()
        sampled, mask = (part[rows, :width].to(logprobs.device) for part in (rollouts.logprobs, rollouts.mask))
        if view.old_logprobs is not None:
            old = view.old_logprobs[rows, :width].to(logprobs.device)
        elif view.mismatch is not None:
            view.mismatch.observe(old, sampled, mask, view.correction)
        weights = None if view.correction is None else view.correction.weights(old, sampled, mask)
        for term in view.terms:
            reference = view.reference_logprobs
            batch = LossBatch(
                old_logprobs=old,
                mask=mask & term.scored[rows, None].to(mask.device),
                advantages=term.advantages[rows].to(logprobs.device),
                counts=self.counts[term.index],
                reference_logprobs=None if reference is None else reference[rows, :width].to(logprobs.device),
                weights=weights,
            )
            output = term.objective.loss(logprobs, batch)
            total.loss = total.loss + term.weight * output.loss
            for name, value in output.metrics.items():
                key = f"{term.label}{name}"
                total.metrics[key] = total.metrics[key] + value if key in total.metrics else value
        return total


def weigh(index: int, weight: float, objective: Objective, rollouts: Rollouts, rewards: Tensor) -> Term:
    """Advantages and keep of one term. rewards [B, G] of this rank; advantages see those of all ranks."""
    everywhere, own = gather_rows(rewards, [prompt.position for prompt in rollouts.prompts])
    advantages = objective.advantages(everywhere)
    kept = objective.kept(everywhere, advantages)
    scored = objective.scored(kept, advantages)
    mine = [values[own].reshape(-1) for values in (advantages, kept, scored)]
    return Term(index=index, weight=weight, objective=objective, advantages=mine[0], kept=mine[1], scored=mine[2])


def contexts_in(
    space: Any, prompts: Sequence[Prompt], encoder: PromptEncoder, *, responses: int, seed: int, iteration: int
) -> list[Sequence[int]]:
    """The context of each of the N responses in a space, chosen by its spec."""
    context_of = build("space", space)
    contexts = [
        tuple(context_of(prompt, encoder, random.Random(derive_seed("space", seed, iteration, prompt.position))))
        for prompt in prompts
    ]
    return [context or (encoder.start_token_id,) for context in contexts for _ in range(responses)]


def space_key(space: Any) -> str:
    """Equal for specs of the same space with the same parameters: terms of one space share its passes."""
    spec = full_spec("space", space) if isinstance(space, str | Mapping) else space
    return json.dumps(spec, sort_keys=True, default=repr)


def optimizer_steps(
    experience: Experience,
    *,
    minibatches: int,
    epochs: int,
    max_tokens: int,
    max_new_tokens: int,
    seed: int,
    device: torch.device,
) -> Iterator[OptimizerStep]:
    """Cut an iteration into optimizer steps. Which prompts share one does not depend on the number of ranks."""
    rollouts = experience.rollouts
    positions, own = gather_rows(
        torch.tensor([prompt.position for prompt in rollouts.prompts]), [p.position for p in rollouts.prompts]
    )
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive_seed("minibatches", seed, epoch))
        order = (
            torch.arange(len(positions)) if minibatches == 1 else torch.randperm(len(positions), generator=generator)
        )
        for part in order.tensor_split(minibatches):
            prompts = torch.isin(own, part)
            rows = prompts.repeat_interleave(rollouts.responses_per_prompt)
            yield OptimizerStep(
                micro_batches=[
                    micro_batch
                    for view in experience.views
                    for micro_batch in cut(view, rollouts, view.scored & rows, max_tokens, device)
                ],
                counts=_counts(experience, rows, max_new_tokens, device),
            )


def cut(view: SpaceView, rollouts: Rollouts, rows: Tensor, max_tokens: int, device: torch.device) -> list[MicroBatch]:
    """Micro-batches of the chosen rows [N] bool, longest first, each within `max_tokens` padded tokens or of one row.

    Every rank gets as many as the one that has most, so that all take part in the collectives of a forward.
    """
    lengths: list[int] = rollouts.lengths.tolist()
    size = [len(context) for context in view.contexts]
    longest_first = sorted(range(len(size)), key=lambda row: (-lengths[row], -size[row], row))
    needed = set(rows.nonzero()[:, 0].tolist())
    batches: list[list[int]] = []
    context = response = 0
    for row in filter(needed.__contains__, longest_first):
        context, response = max(context, size[row]), max(response, lengths[row])
        if batches and (len(batches[-1]) + 1) * (context + response) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            context, response = size[row], lengths[row]
    found = [MicroBatch(view=view, rows=torch.tensor(batch)) for batch in batches]
    idle = MicroBatch(view=view, rows=torch.tensor(longest_first[-1:]), idle=True)
    return found + [idle] * (int(all_max(len(found), device)) - len(found))


def _counts(experience: Experience, rows: Tensor, max_new_tokens: int, device: torch.device) -> list[Counts]:
    lengths = experience.rollouts.lengths
    local: list[float] = []
    for term in experience.terms:
        kept = term.kept & rows
        local += [float(lengths[kept].sum()), float((lengths[kept] > 0).sum()), float(kept.sum())]
    total = all_sum(local, device)
    return [
        Counts(tokens=tokens, sequences=sequences, samples=samples, max_new_tokens=max_new_tokens)
        for tokens, sequences, samples in zip(total[::3], total[1::3], total[2::3], strict=True)
    ]
