"""What the products of gradients on two halves of the prompts say: norms, cosines, reliability, held-out gain.

With d an objective's ascent direction and r that of the expected reward, each on half A or B:

    gain         mean of cos(d_A, r_B) and cos(d_B, r_A): what the direction is worth on prompts that it has not seen
    reliability  cos(d_A, d_B): how much of a half's direction is not noise
    corrected    (<d_A, r_B> + <d_B, r_A>) / 2 / sqrt(<d_A, d_B> <r_A, r_B>): the gain without the noise of the halves,
                 Spearman's correction for attenuation; there is none where a half agrees with the other by chance only
"""

from __future__ import annotations

import math

from torch import Tensor

from dsrl.probes.gradients import RUNNING, Products


def directions_of(products: Products) -> dict[str, float]:
    """Compute, for each direction D, and the first two for each group of parameters, too:

    `gain/D`, `norm/D`, `reliability/D`, `corrected/D`; `common/D`, its cosine with the common mode on the same half;
    `without_common/D`, its gain once that component is taken out. A cosine of nothing is left out.
    """
    found = _of_all(products)
    if products.running != RUNNING:
        own = f"/{products.running}"
        found |= {key.replace(own, f"/{RUNNING}"): value for key, value in found.items() if key.endswith(own)}
    for group, table in products.by_group.items():
        halves = _halves(table, len(products.names))
        reward = products.names.index("reward")
        for place, name in enumerate(products.names):
            found[f"gain/{name}/{group}"] = _gain(halves, place, reward)
            found[f"norm/{name}/{group}"] = _norm(halves, place)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _of_all(products: Products) -> dict[str, float]:
    halves = _halves(products.total, len(products.names))
    reward, common = (products.names.index(name) for name in ("reward", "common"))
    found: dict[str, float] = {}
    for place, name in enumerate(products.names):
        found |= {
            f"gain/{name}": _gain(halves, place, reward),
            f"norm/{name}": _norm(halves, place),
            f"reliability/{name}": _cosine(halves, (0, place), (1, place)),
            f"corrected/{name}": _corrected(halves, place, reward),
        }
        if name not in ("common", "reward"):
            same = [_cosine(halves, (half, place), (half, common)) for half in (0, 1)]
            found[f"common/{name}"] = sum(same) / 2
            found[f"without_common/{name}"] = _without(halves, place, common, reward)
    return found


def _halves(table: Tensor, count: int) -> Tensor:
    """[2, K, 2, K]: half and direction, twice."""
    return table.view(2, count, 2, count)


def _product(halves: Tensor, one: tuple[int, int], other: tuple[int, int]) -> float:
    return float(halves[one][other])


def _cosine(halves: Tensor, one: tuple[int, int], other: tuple[int, int]) -> float:
    norms = _product(halves, one, one) * _product(halves, other, other)
    return _product(halves, one, other) / math.sqrt(norms) if norms > 0 else math.nan


def _gain(halves: Tensor, place: int, reward: int) -> float:
    return (_cosine(halves, (0, place), (1, reward)) + _cosine(halves, (1, place), (0, reward))) / 2


def _norm(halves: Tensor, place: int) -> float:
    return sum(math.sqrt(max(0.0, _product(halves, (half, place), (half, place)))) for half in (0, 1)) / 2


def _corrected(halves: Tensor, place: int, reward: int) -> float:
    between = _product(halves, (0, place), (1, place)), _product(halves, (0, reward), (1, reward))
    if min(between) <= 0:
        return math.nan
    crossed = _product(halves, (0, place), (1, reward)) + _product(halves, (1, place), (0, reward))
    return crossed / 2 / math.sqrt(between[0] * between[1])


def _without(halves: Tensor, place: int, common: int, reward: int) -> float:
    """The gain of d - <d, c> c / |c|^2 on each half, with c the common mode of that half."""
    gains = []
    for half in (0, 1):
        own, mode, other = (half, place), (half, common), (1 - half, reward)
        length = _product(halves, mode, mode)
        if length <= 0:
            return math.nan
        share = _product(halves, own, mode) / length
        square = _product(halves, own, own) - share**2 * length
        inner = _product(halves, own, other) - share * _product(halves, mode, other)
        norms = square * _product(halves, other, other)
        if norms <= 0:
            return math.nan
        gains.append(inner / math.sqrt(norms))
    return sum(gains) / 2
