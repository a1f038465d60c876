"""Level 2: each response's gradients of log P(y|x) and log P(y), and their inner product, exact.

Rows of a batch do not see each other, so one pass gives the uses of every response's parameters: what modules read, and
the gradients of what they wrote. Two passes, one a space, give all inner products and norms.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dsrl.loop.probe import Subject
from dsrl.models.rows import lay_out
from dsrl.probes.by_prompt import Sums, sums_of
from dsrl.probes.groups import Grouping
from dsrl.probes.products import Looked, Outer, Use, Whole, product_of_uses
from dsrl.types import CORRECT_THRESHOLD

HELD = 2**27
"""Numbers that a pass holds of its responses, unless a single one has more: half a gigabyte in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleProducts:
    """Inner products of n responses' gradients in the two spaces, by group of parameters.

    Args:
        numbers: which responses these are, of this rank's N.
        inner: [n] of each group, <grad log P(y|x), grad log P(y)>, float64.
        given: [n] of each group, |grad log P(y|x)|^2.
        alone: [n] of each group, |grad log P(y)|^2.
        covered: share of the trained parameters that these are over; others are used in ways that no module shows.
    """

    numbers: list[int]
    inner: dict[str, Tensor]
    given: dict[str, Tensor]
    alone: dict[str, Tensor]
    covered: float

    def total(self, which: str) -> Tensor:
        """Add up the groups of `inner`, `given` or `alone`, [n]."""
        found: dict[str, Tensor] = getattr(self, which)
        return torch.stack([*found.values()]).sum(0) if found else torch.zeros(len(self.numbers))

    def cosines(self, group: str | None = None) -> Tensor:
        """Compute the cosine of each response, [n]; 0 where a gradient vanishes."""
        inner, given, alone = (
            self.total(which) if group is None else getattr(self, which)[group] for which in ("inner", "given", "alone")
        )
        norms = (given * alone).sqrt()
        return (inner / norms.clamp_min(1e-300)).where(norms > 0, 0.0)


def measure_samples(subject: Subject, numbers: Sequence[int], grouping: Grouping) -> SampleProducts:
    """Compute the inner products of responses of this rank, whose weights are whole. No collective.

    Args:
        subject: whose policy and rollouts.
        numbers: of the responses, n of this rank's N.
        grouping: the groups of parameters.
    """
    scorer, rollouts = subject.scorer, subject.experience.batch.rollouts
    model: Any = scorer.policy.model
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    tables = {grouping(name): torch.zeros(len(numbers), 3, dtype=torch.float64) for name in trained}
    shown: set[str] = set()
    views: list[list[Sequence[int]]] = [
        [rollouts.prompt_of(number).token_ids for number in numbers],
        [(scorer.encoder.start_token_id,)] * len(numbers),
    ]
    lengths = rollouts.lengths[list(numbers)].tolist()
    for rows in _batches(views[0], lengths, _numbers_of_a_token(model)):
        chosen = [numbers[row] for row in rows]
        one, other = (_uses_in([contexts[row] for row in rows], chosen, subject) for contexts in views)
        for name in trained.keys() & one.keys() & other.keys():
            shown.add(name)
            for column, (first, second) in enumerate(((one, other), (one, one), (other, other))):
                found = product_of_uses(first[name], second[name], trained[name].shape)
                tables[grouping(name)][rows, column] += found.cpu()
    whole = sum(parameter.numel() for parameter in trained.values())
    return SampleProducts(
        numbers=list(numbers),
        **{
            which: {group: table[:, column] for group, table in tables.items()}
            for column, which in enumerate(("inner", "given", "alone"))
        },
        covered=sum(trained[name].numel() for name in shown) / max(1, whole),
    )


def sample_sums(products: SampleProducts, rewards: Tensor) -> Sums:
    """Add up what the responses show, for each prompt.

    Args:
        products: of whole groups.
        rewards: [B, G].

    Returns:
        `sample/nonnegative` and `sample/cosine` of all, of right and of wrong answers, and by group of parameters;
        `sample/norm_ratio`, |grad log P(y)| / |grad log P(y|x)|.
    """
    prompts, size = rewards.shape

    def spread(values: Tensor) -> Tensor:
        result = torch.zeros(prompts * size, dtype=torch.float64)
        result[products.numbers] = values.double()
        return result

    measured = torch.zeros(prompts * size, dtype=torch.bool)
    measured[products.numbers] = True
    right, wrong = (rewards > CORRECT_THRESHOLD).flatten(), (rewards <= CORRECT_THRESHOLD).flatten()
    alone, given = spread(products.total("alone")), spread(products.total("given"))
    ratio = (alone / given.where(given > 0, 1.0)).sqrt()
    found = {"sample/norm_ratio": sums_of(ratio, measured & (given > 0), prompts)}
    cosines = products.cosines()
    for label, rows in (("", measured), ("/right", measured & right), ("/wrong", measured & wrong)):
        found[f"sample/cosine{label}"] = sums_of(spread(cosines), rows, prompts)
        found[f"sample/nonnegative{label}"] = sums_of(spread((cosines >= 0).double()), rows, prompts)
    for group in products.inner:
        cosines = products.cosines(group)
        found[f"sample/cosine/{group}"] = sums_of(spread(cosines), measured, prompts)
        found[f"sample/nonnegative/{group}"] = sums_of(spread((cosines >= 0).double()), measured, prompts)
    return found


def _batches(contexts: Sequence[Sequence[int]], lengths: Sequence[int], held: int) -> Iterator[list[int]]:
    """Cut responses into batches, those of one length together, so that what is held of all their tokens is little."""
    sizes = [len(context) + length for context, length in zip(contexts, lengths, strict=True)]
    rows: list[int] = []
    for row in sorted(range(len(sizes)), key=lambda row: -sizes[row]):
        if rows and (len(rows) + 1) * sizes[rows[0]] * held > HELD:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _numbers_of_a_token(model: Any) -> int:
    """Estimate the numbers that a pass holds of each token: logits, their gradients, both sides of each layer."""
    sides = [sum(module.weight.shape) for module in model.modules() if type(module) is nn.Linear]
    return 3 * int(model.config.get_text_config().vocab_size) + 2 * sum(sides)


def _uses_in(contexts: Sequence[Sequence[int]], numbers: Sequence[int], subject: Subject) -> dict[str, list[Use]]:
    """The uses of each trained parameter, by its name, in a pass over n responses, a row each, after their contexts."""
    batch, policy = subject.experience.batch, subject.scorer.policy
    chosen, device = torch.tensor(list(numbers)), policy.device
    longest = int(batch.rollouts.lengths[chosen].max())
    tokens, mask = batch.rollouts.tokens[chosen, :longest], batch.rollouts.mask[chosen, :longest]
    rows = lay_out(contexts, tokens, mask).to(device)
    tokens, mask, model = tokens.to(device), mask.to(device), policy.model
    given: dict[str, Any] = {"input_ids": rows.input_ids, "use_cache": False}
    if "position_ids" in inspect.signature(type(model).forward).parameters:  # a row of them for each response
        given["position_ids"] = torch.arange(rows.input_ids.shape[1], device=device).expand_as(rows.input_ids)
    with torch.enable_grad(), _recording(model, len(numbers)) as calls:
        logits = model(**given).logits.flatten(0, 1)[rows.predicting[mask]]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / batch.params.temperature
        total = logits.log_softmax(-1).gather(-1, tokens[mask][:, None]).sum()
    gradients = torch.autograd.grad(total, [call.output for call in calls], allow_unused=True)
    found: dict[str, list[Use]] = {}
    for call, gradient in zip(calls, gradients, strict=True):
        for name, use in call.uses(gradient) if gradient is not None else ():
            found.setdefault(name, []).append(use)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """One call of a module that owns trained parameters: what it read and what it wrote, n rows each."""

    module: nn.Module
    names: dict[str, str]  # in the model, of its trained parameters
    inputs: Tensor
    output: Tensor

    def uses(self, gradient: Tensor) -> Iterator[tuple[str, Use]]:
        """The uses of its parameters, with the gradient of what it wrote."""
        if type(self.module) is nn.Linear:
            inputs, gradient = self.inputs.flatten(1, -2), gradient.flatten(1, -2)
            if "weight" in self.names:
                yield self.names["weight"], Outer(inputs=inputs, gradients=gradient)
            if "bias" in self.names:
                yield self.names["bias"], Whole(gradients=gradient.sum(1))
        elif type(self.module) is nn.Embedding:
            yield self.names["weight"], Looked(ids=self.inputs.flatten(1), gradients=gradient.flatten(1, -2))
        else:
            parameters = dict(self.module.named_parameters(recurse=False))
            trained = [parameters[own] for own in self.names]
            rows = []
            for inputs, own in zip(self.inputs, gradient, strict=True):
                with torch.enable_grad():
                    again = self.module(inputs[None])
                rows.append(torch.autograd.grad(again, trained, own[None]))
            for name, column in zip(self.names.values(), zip(*rows, strict=True), strict=True):
                yield name, Whole(gradients=torch.stack(column).flatten(1))


@contextmanager
def _recording(model: nn.Module, count: int) -> Iterator[list[_Call]]:
    """Record the calls of modules that own trained parameters, read one tensor and write one, of `count` rows each."""
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    calls: list[_Call] = []

    def record(owned: dict[str, str], module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if len(given) != 1 or not isinstance(given[0], Tensor) or not isinstance(output, Tensor):
            return
        if output.requires_grad and len(given[0]) == len(output) == count and given[0].shape[:2] == output.shape[:2]:
            calls.append(_Call(module=module, names=owned, inputs=given[0].detach(), output=output))

    handles = []
    for module in model.modules():
        own = module.named_parameters(recurse=False)
        if owned := {name: names[id(parameter)] for name, parameter in own if id(parameter) in names}:
            handles.append(module.register_forward_hook(partial(record, owned)))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
