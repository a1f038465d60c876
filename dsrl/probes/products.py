"""Inner products of the gradients of many scalars in two passes, from what passes through modules: none is written out.

A linear layer that reads A [L, in], and whose output has the gradient B [L, out], has the weight gradient B^T A. So

    <B_1^T A_1, B_2^T A_2> = sum over tokens of both of (A_1 A_2^T) * (B_1 B_2^T),

which is exact (as gradient norms of single examples, arXiv 1510.01799, for two different passes). An embedding is the
same with one-hot inputs; other modules are run again, and their gradients are small.

Here n rows, each a scalar's, go through a pass together, of L tokens each. Gradients of padding are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    """The weight of a linear layer: the gradient B^T A of each row.

    Args:
        inputs: A, [n, L, in].
        gradients: B, [n, L, out].
    """

    inputs: Tensor
    gradients: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """The weight of an embedding: row ids[l] of the gradient has gradients[l] added, for each l.

    Args:
        ids: [n, L] long.
        gradients: [n, L, H].
    """

    ids: Tensor
    gradients: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """Any other parameter: its gradients, [n, numel]."""

    gradients: Tensor


Use = Outer | Looked | Whole
"""One use of a parameter in a pass. A parameter's gradient is the sum over its uses, as of tied embeddings and head."""


def product_of_uses(one: Sequence[Use], other: Sequence[Use], shape: Sequence[int]) -> Tensor:
    """Compute the inner products [n] float64 of a parameter's gradients in two passes, from its uses in each.

    shape: that of the parameter.
    """
    return torch.stack([_product(first, second, shape) for first in one for second in other]).sum(0)


def _product(one: Use, other: Use, shape: Sequence[int]) -> Tensor:
    if isinstance(one, Looked) and isinstance(other, Outer):
        one, other = other, one
    if isinstance(one, Outer) and isinstance(other, Outer):
        tokens, others = one.inputs.shape[1], other.inputs.shape[1]
        if tokens * others * (shape[0] + shape[1]) < (tokens + others) * shape[0] * shape[1]:
            return _sum((one.inputs @ other.inputs.mT) * (one.gradients @ other.gradients.mT))
    elif isinstance(one, Looked) and isinstance(other, Looked):
        same = one.ids[:, :, None] == other.ids[:, None]
        return _sum((one.gradients @ other.gradients.mT).masked_fill_(~same, 0.0))
    elif isinstance(one, Outer) and isinstance(other, Looked):
        # <B^T A, rows at ids> = sum over l, m of B[l, ids[m]] * (A[l] . gradients[m])
        ids = other.ids[:, None].expand(-1, one.gradients.shape[1], -1)
        return _sum(one.gradients.gather(-1, ids) * (one.inputs @ other.gradients.mT))
    return _sum(_dense(one, shape).double() * _dense(other, shape).double())


def _dense(use: Use, shape: Sequence[int]) -> Tensor:
    """Write the gradients out, [n, numel]."""
    if isinstance(use, Outer):
        return (use.gradients.mT @ use.inputs).flatten(1)
    if isinstance(use, Looked):
        count, width = use.gradients.shape[0], use.gradients.shape[-1]
        result = use.gradients.new_zeros(count, *shape)
        return result.scatter_add_(1, use.ids[..., None].expand(-1, -1, width), use.gradients).flatten(1)
    return use.gradients


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(-1, dtype=torch.float64)
