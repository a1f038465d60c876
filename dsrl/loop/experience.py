"""What the update learns from: which responses each term of an objective keeps, and in which space they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dsrl.loop.collector import RolloutBatch
from dsrl.loop.logged import LoggedTokens
from dsrl.loop.mismatch import Correction
from dsrl.objectives import KLPenalty, Objective
from dsrl.objectives.checked import choose
from dsrl.parallel.collectives import gather_rows
from dsrl.types import Metrics, Rollouts


@dataclass(kw_only=True, slots=True)
class Term:
    """One term of an objective over N responses.

    Args:
        index: its place among the terms of the iteration.
        weight: what its loss is multiplied with.
        objective: advantages, keep and loss.
        advantages: [N].
        kept: [N] bool, the responses that count in its denominators.
        scored: [N] bool, the responses that the model must score: those kept, less those that add nothing to the loss.
        label: put before the names of its metrics, where several terms would give the same ones.
    """

    index: int
    weight: float
    objective: Objective
    advantages: Tensor
    kept: Tensor
    scored: Tensor
    label: str = ""

    def select(self, rows: Tensor) -> Term:
        """Take the responses of these numbers [n] alone."""
        return self.with_rows(self.advantages[rows], self.kept[rows], self.scored[rows])

    def with_rows(self, advantages: Tensor, kept: Tensor, scored: Tensor) -> Term:
        """Make the same term over other responses."""
        return replace(self, advantages=advantages, kept=kept, scored=scored)


@dataclass(kw_only=True, slots=True)
class SpaceView:
    """N responses in one space, with the terms that share its passes.

    Args:
        contexts: N token sequences, the context of each response.
        tokens: [N, T] long, the responses, padded on the right.
        mask: [N, T] bool, true on their tokens.
        sampled_logprobs: [N, T], the sampler's own.
        space: its name, before the names of the metrics of its passes.
        temperature: log-probabilities are those of logits over this temperature.
        sampled_here: whether responses were drawn from the model after these contexts, unrestricted by top-p or top-k.
        correction: importance weights against the sampler; only where `sampled_here`.
        terms: the terms that are scored in this space.
        old_logprobs: [N, T] of the policy that sampled, where they are computed before the update.
        reference_logprobs: [N, T] of the frozen reference, where a term needs it.
        counted: [N, T] int, whose bit i says whether the token counts for the term of index i; None where all do.
    """

    contexts: list[Sequence[int]]
    tokens: Tensor
    mask: Tensor
    sampled_logprobs: Tensor
    space: str = ""
    temperature: float = 1.0
    sampled_here: bool = False
    correction: Correction | None = None
    terms: list[Term] = field(default_factory=list)
    old_logprobs: Tensor | None = None
    reference_logprobs: Tensor | None = None
    counted: Tensor | None = None

    @classmethod
    def of(cls, rollouts: Rollouts, contexts: list[Sequence[int]], **settings: Any) -> SpaceView:
        """Put the responses of rollouts behind their contexts. `settings` are further fields."""
        return cls(
            contexts=contexts,
            tokens=rollouts.tokens,
            mask=rollouts.mask,
            sampled_logprobs=rollouts.logprobs,
            **settings,
        )

    @property
    def lengths(self) -> Tensor:
        """Tokens of each response, [N] long."""
        return self.mask.sum(-1)

    @property
    def scored(self) -> Tensor:
        """Rows that some term needs scored, [N] bool."""
        return torch.stack([term.scored for term in self.terms]).any(0)

    def counted_for(self, term: Term) -> Tensor:
        """Find the tokens that count for one of its terms where the response is kept, [N, T] bool."""
        return self.mask if self.counted is None else self.mask & (self.counted >> term.index & 1).bool()

    def rows_needing(self, what: str) -> Tensor:
        """Find the rows scored by terms whose objective `needs_old_logprobs` or `needs_reference`, [N] bool."""
        needed = torch.zeros_like(self.scored)
        for term in self.terms:
            if getattr(term.objective, what):
                needed |= term.scored
        return needed

    def select(self, numbers: Sequence[int]) -> SpaceView:
        """Take the responses of these numbers alone; T is then the longest of them."""
        rows = torch.tensor(numbers)
        longest = int(self.lengths[rows].max())
        tensors: dict[str, Any] = {
            name: value if value is None else value[rows, :longest] for name, value in self._tensors().items()
        }
        terms = [term.select(rows) for term in self.terms]
        return replace(self, contexts=[self.contexts[number] for number in numbers], terms=terms, **tensors)

    def rows(self) -> tuple[Any, ...]:
        """Give what belongs to the responses alone, and not to their space: to be sent to another rank."""
        return self.contexts, self._tensors(), [(term.advantages, term.kept, term.scored) for term in self.terms]

    def with_rows(self, parts: Sequence[tuple[Any, ...]]) -> SpaceView:
        """Make a view of this space over the responses of several `rows`, one part behind the other."""
        contexts, tensors, terms = zip(*parts, strict=True)
        longest = max(part["mask"].shape[1] for part in tensors)

        def joined(name: str) -> Any:
            values = [part[name] for part in tensors]
            if values[0] is None:
                return None
            return torch.cat([nn.functional.pad(value, (0, longest - value.shape[1])) for value in values])

        own = zip(self.terms, zip(*terms, strict=True), strict=True)
        return replace(
            self,
            contexts=[context for part in contexts for context in part],
            terms=[term.with_rows(*(torch.cat(values) for values in zip(*part, strict=True))) for term, part in own],
            **{name: joined(name) for name in tensors[0]},
        )

    def _tensors(self) -> dict[str, Any]:
        names = ("tokens", "mask", "sampled_logprobs", "old_logprobs", "reference_logprobs", "counted")
        return {name: getattr(self, name) for name in names}


@dataclass(kw_only=True, slots=True)
class Experience:
    """One iteration on this rank, scored: its spaces with their terms, and what scoring measured.

    Args:
        batch: what was collected: N = B * G responses and their rewards.
        views: a view for each space.
        logged: what is known of the tokens of logged responses; None where none are logged.
        metrics: `kept/fraction`, `scored/fraction`, `tokens/scored`, and what the passes of scoring found.
    """

    batch: RolloutBatch
    views: list[SpaceView]
    logged: LoggedTokens | None = None
    metrics: Metrics = field(default_factory=dict)

    @property
    def terms(self) -> list[Term]:
        """All terms, by index."""
        return sorted((term for view in self.views for term in view.terms), key=lambda term: term.index)

    @property
    def choosing_terms(self) -> list[Term]:
        """Those that choose among the responses: not the pull to a reference, which is over all."""
        return [term for term in self.terms if not isinstance(term.objective, KLPenalty)]

    @property
    def kept(self) -> Tensor:
        """The responses that some term keeps, [N] bool."""
        return torch.stack([term.kept for term in self.choosing_terms]).any(0)


def compute_advantages(index: int, weight: float, objective: Objective, rollouts: Rollouts, rewards: Tensor) -> Term:
    """Compute the advantages of one term, and which responses it keeps. A collective.

    A response without a reward, which is NaN, has the advantage 0, and no term keeps it, that of a KL neither: nothing
    of it is in the update, nor in a denominator.

    Args:
        index: the term's place among those of the iteration.
        weight: what its loss is multiplied with.
        objective: sees the rewards of all ranks, in the order of their positions.
        rollouts: this rank's responses.
        rewards: [B, G] of this rank.

    Raises:
        PartError: the objective has no number for a response that has a reward, or returns what it must not.
    """
    everywhere, own = gather_rows(rewards, [prompt.position for prompt in rollouts.prompts])
    mine = [values[own].reshape(-1) for values in choose(objective, everywhere)]
    return Term(index=index, weight=weight, objective=objective, advantages=mine[0], kept=mine[1], scored=mine[2])
