"""Level 1: the gradients of objectives on two halves of the prompts, and all inner products between them.

On-policy, before the first optimizer step, a loss with a ratio of 1 has the gradient of -sum A log P / count. So those
of nsr and psr add up to that of grpo, those of nsr_prerl and psr_prerl to that of prerl: five gradients give all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsrl.loop.experience import Experience, compute_advantages
from dsrl.loop.loss import compute_loss
from dsrl.loop.micro_batches import OptimizerStep, optimizer_steps
from dsrl.loop.probe import Subject
from dsrl.objectives import Objective, PolicyGradient
from dsrl.parallel.collectives import all_sum, world_size
from dsrl.parallel.sharding import drop_gradients, gradient_parts
from dsrl.probes.groups import Grouping
from dsrl.registry import KINDS, build, full_spec

HALVES = 2
CHUNK = 2**20
"""Numbers of a parameter whose products are computed at a time."""
PARTS = ("nsr", "psr", "nsr_prerl", "psr_prerl", "reward")
"""Whose gradients are computed. `reward` is that of the expected reward, sum (r - mean of its group) log P(y|x)."""
SUMS: Mapping[str, Mapping[str, float]] = {
    "grpo": {"nsr": 1, "psr": 1},
    "prerl": {"nsr_prerl": 1, "psr_prerl": 1},
    "common": {"nsr_prerl": -1, "psr_prerl": 1},
}
"""What adds up to the others. `common` is the common mode, sum |A| log P(y): whatever was sampled, more of it."""
DIRECTIONS = ("grpo", "nsr", "psr", "prerl", "nsr_prerl", "psr_prerl", "common", "reward")
RUNNING = "objective"
"""The running objective, where it is none of these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Products:
    """Inner products of K directions on two halves of the prompts, ascent directions of mean losses.

    Args:
        names: the K directions.
        by_group: for each group of parameters, [2 K, 2 K] float64: row h * K + k is direction k on half h.
        running: which direction is that of the running objective.
    """

    names: tuple[str, ...]
    by_group: dict[str, Tensor]
    running: str

    @property
    def total(self) -> Tensor:
        """Those of all parameters together, [2 K, 2 K]."""
        return torch.stack(list(self.by_group.values())).sum(0)


def measure_gradients(subject: Subject, grouping: Grouping) -> Products:
    """Compute the gradients, and their products from the parts that each rank holds. A collective.

    A gradient waits in the CPU's memory, each rank its part: 10 times the trained weights, 12 where the running
    objective is none of the directions.
    """
    running = name_of(subject.objective)
    computed = [*PARTS, *([RUNNING] if running == RUNNING else [])]
    gradients: list[dict[str, Tensor]] = []
    tokens: dict[str, list[float]] = {}
    for name in computed:
        experience = subject.experience if name == RUNNING else _scored(subject, _objective(name))
        halves = list(half_gradients(subject, experience))
        gradients += [gradient for _, gradient in halves]
        tokens[name] = [step.counts[0].tokens for step, _ in halves]
    own = _products(gradients, grouping)
    groups = sorted(own)
    size = len(gradients)
    summed = all_sum(torch.stack([own[group] for group in groups]).flatten().tolist())
    products = torch.tensor(summed, dtype=torch.float64).view(len(groups), size, size)
    combine = _combination(computed, tokens)
    by_group = {group: combine @ products[place] @ combine.T for place, group in enumerate(groups)}
    names = (*DIRECTIONS, *([RUNNING] if running == RUNNING else []))
    return Products(names=names, by_group=by_group, running=running)


def name_of(objective: Objective) -> str:
    """Find the direction that an objective has: that of a preset whose every part it has, else `objective`."""
    presets = [name for name in DIRECTIONS if name not in ("common", "reward")]
    return next((name for name in presets if _fields(build("objective", name)) == _fields(objective)), RUNNING)


def half_gradients(subject: Subject, experience: Experience) -> Iterator[tuple[OptimizerStep, dict[str, Tensor]]]:
    """Compute the gradient of an experience's loss on each half of the prompts, as two optimizer steps would.

    The halves depend on seed and iteration alone. Yields each step, and this rank's part of the gradient by the names
    of parameters, on the CPU.
    """
    scorer, model = subject.scorer, subject.scorer.policy.model
    for step in optimizer_steps(experience, minibatches=HALVES, layout=scorer.layout):
        drop_gradients(model)
        for micro_batch in step.micro_batches:
            with subject.alone():
                scores = scorer.score_tokens(micro_batch, entropy=False)
                loss = compute_loss(micro_batch, scores.logprobs, step.counts).loss
                (loss * world_size()).backward()  # type: ignore[no-untyped-call]
        yield step, {name: part.to("cpu", copy=True) for name, part in gradient_parts(model)}
        drop_gradients(model)


def _objective(name: str) -> Objective:
    if name == "reward":
        return PolicyGradient(advantage="group_center", surrogate="reinforce")
    objective: Objective = build("objective", name)
    return objective


def _fields(objective: Objective) -> tuple[type, dict[str, Any]]:
    """An objective's class and fields, the parameters of its parts written out."""
    values = vars(objective)
    return type(objective), {
        field.name: full_spec(field.name, values[field.name])
        if field.name in KINDS and isinstance(values[field.name], str | Mapping)
        else values[field.name]
        for field in dataclasses.fields(objective)
    }


def _scored(subject: Subject, objective: Objective) -> Experience:
    """What an objective keeps of the rollouts; nothing is computed beforehand, since its ratio is 1."""
    batch = subject.experience.batch
    space: Any = objective.space
    view = subject.scorer.view(space, batch)
    view.terms.append(compute_advantages(0, 1.0, objective, batch.rollouts, batch.rewards))
    return Experience(batch=batch, views=[view])


def _products(gradients: list[dict[str, Tensor]], grouping: Grouping) -> dict[str, Tensor]:
    """Multiply all of S gradients with one another, group by group: [S, S] float64 each."""
    found: dict[str, Tensor] = {}
    for name in gradients[0]:
        total = found.setdefault(grouping(name), torch.zeros(len(gradients), len(gradients), dtype=torch.float64))
        for chunk in zip(*(torch.split(gradient[name], CHUNK) for gradient in gradients), strict=True):
            stacked = torch.stack(chunk).double()
            total += stacked @ stacked.T
    return found


def _combination(computed: list[str], tokens: Mapping[str, list[float]]) -> Tensor:
    """Say how directions are made of the gradients that were computed, on each half.

    A mean over kept tokens times their number is a sum; divided by all tokens, those of `reward`, it is a part of the
    mean over all.

    Returns:
        [2 K, 2 S] float64, for S gradients, each on both halves in turn.
    """
    rows = []
    for half in range(HALVES):
        for direction in (*DIRECTIONS, *(name for name in computed if name == RUNNING)):
            row = torch.zeros(len(computed), HALVES, dtype=torch.float64)
            if direction in SUMS:
                for part, sign in SUMS[direction].items():
                    row[computed.index(part), half] = sign * tokens[part][half] / max(1.0, tokens["reward"][half])
            else:
                row[computed.index(direction), half] = 1.0
            rows.append(-row.flatten())  # up, where a loss goes down
    return torch.stack(rows)
