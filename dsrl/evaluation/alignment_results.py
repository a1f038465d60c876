"""Summarise a measurement of alignment: as JSON, and as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from dsrl.bootstrap import Estimate
from dsrl.loop.collector import RolloutBatch
from dsrl.probes.alignment import Observed
from dsrl.probes.by_prompt import estimated
from dsrl.probes.gradients import DIRECTIONS, RUNNING
from dsrl.reports.intervals import mean_of
from dsrl.types import CORRECT_THRESHOLD

OF_DIRECTIONS = {
    "gain": "gain",
    "gain_corrected": "corrected",
    "gain_without_common": "without_common",
    "common": "common",
    "reliability": "reliability",
    "norm": "norm",
}
"""Keys of the results, and what the probe calls them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchFound:
    """What was measured of one batch, and the seconds that it took, by part."""

    batch: RolloutBatch
    observed: Observed
    seconds: dict[str, float]


def summarise(found: Sequence[BatchFound]) -> dict[str, Any]:
    """Put the batches together: the keys of docs/alignment.md, without `model` and `config`."""
    rewards = torch.cat([one.batch.rewards for one in found])
    names = {name for one in found for name in one.observed.sums}
    sums = {name: torch.cat([one.observed.sums[name] for one in found]) for name in names}
    estimates = estimated(sums)
    seconds = {name: sum(one.seconds[name] for one in found) for name in found[0].seconds}
    return {
        "questions": len(rewards),
        "responses": rewards.numel(),
        "tokens": int(sum(int(one.batch.rollouts.lengths.sum()) for one in found)),
        "accuracy": float((rewards[~rewards.isnan()] > CORRECT_THRESHOLD).double().mean()),
        **_of_samples(found, estimates, sums),
        **_of_directions([one.observed.directions for one in found]),
        "logits": _of_logits(found, estimates, sums),
        "seconds": seconds,
    }


def _of_samples(
    found: Sequence[BatchFound], estimates: Mapping[str, Estimate], sums: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Level 2; `samples` is 0 and the rest null where it was not measured."""
    measured = [one.observed.samples for one in found if one.observed.samples is not None]
    cosines = torch.cat([own.cosines() for own in measured]) if measured else torch.zeros(0)
    groups = list(measured[0].inner) if measured else []
    results = {
        "samples": len(cosines),
        **_share_and_cosine(estimates, ""),
        "cosine_sd": float(cosines.std()) if len(cosines) > 1 else None,
        "cosine_min": float(cosines.min()) if len(cosines) else None,
        "norm_ratio": _value(estimates, "sample/norm_ratio"),
        "covered": min((own.covered for own in measured), default=None),
    }
    for label in ("right", "wrong"):
        counted = sums.get(f"sample/cosine/{label}")
        count = 0 if counted is None else int(counted[:, 1].sum())
        results[label] = {"samples": count, **_share_and_cosine(estimates, f"/{label}")}
    results["by_group"] = {
        group: {
            "share_nonnegative": _value(estimates, f"sample/nonnegative/{group}"),
            "cosine_mean": _value(estimates, f"sample/cosine/{group}"),
        }
        for group in groups
    }
    return results


def _share_and_cosine(estimates: Mapping[str, Estimate], label: str) -> dict[str, Any]:
    return {
        "share_nonnegative": _value(estimates, f"sample/nonnegative{label}"),
        "cosine_mean": _value(estimates, f"sample/cosine{label}"),
        "cosine_interval": _interval(estimates, f"sample/cosine{label}"),
    }


def _of_directions(batches: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Level 1, each a mapping by objective: means over batches, and half the width of their 95% intervals."""
    results: dict[str, Any] = {}
    for key, what in OF_DIRECTIONS.items():
        names = dict.fromkeys(name for one in batches for name in one if name.startswith(f"{what}/"))
        own = {name.removeprefix(f"{what}/"): [one[name] for one in batches if name in one] for name in names}
        results[key] = {name: mean_of(values).value for name, values in own.items() if "/" not in name}
        if key == "gain":
            halves = {name: mean_of(values).half for name, values in own.items() if "/" not in name}
            results["gain_half_width"] = {name: half for name, half in halves.items() if half is not None}
        if key in ("gain", "norm"):
            grouped: dict[str, dict[str, float]] = {}
            for name, values in own.items():
                direction, _, group = name.partition("/")
                if group:
                    grouped.setdefault(direction, {})[group] = mean_of(values).value
            results[f"{key}_by_group"] = grouped
    return results


def _of_logits(
    found: Sequence[BatchFound], estimates: Mapping[str, Estimate], sums: Mapping[str, Tensor]
) -> dict[str, Any] | None:
    """Level 0; null where it was not measured."""
    inner = [one.observed.tokens.inner[one.batch.rollouts.mask] for one in found if one.observed.tokens is not None]
    if not inner:
        return None
    every = torch.cat(inner)
    bins = [name for name in sums if name.startswith("logits/cosine/")]
    return {
        "tokens": len(every),
        "inner_min": float(every.min()) if len(every) else None,
        "share_nonnegative": float((every >= 0).double().mean()) if len(every) else None,
        **{
            key: {"mean": _value(estimates, name), "interval": _interval(estimates, name)}
            for key, name in (
                ("inner", "logits/inner"),
                ("cosine", "logits/cosine"),
                ("known", "known"),
                ("difference", "difference"),
            )
        },
        "bins": {
            name.removeprefix("logits/cosine/"): {
                "tokens": int(sums[name][:, 1].sum()),
                "cosine": estimates[name].value,
            }
            for name in sorted(bins, key=_bin_order)
            if name in estimates
        },
    }


def _bin_order(name: str) -> tuple[str, float]:
    kind, _, edge = name.rpartition("_")
    return kind, float(edge)


def _value(estimates: Mapping[str, Estimate], name: str) -> float | None:
    return estimates[name].value if name in estimates else None


def _interval(estimates: Mapping[str, Estimate], name: str) -> list[float] | None:
    if name not in estimates or math.isnan(estimates[name].low):
        return None
    return [estimates[name].low, estimates[name].high]


def tables(results: Mapping[str, Any]) -> Iterator[Table | str]:
    """Draw the results: responses, groups of parameters, objectives, tokens."""
    yield (
        f"{escape(str(results['model']))}: {results['questions']} questions, {results['responses']} responses of "
        f"{results['tokens'] / results['responses']:.0f} tokens, {results['accuracy']:.1%} right"
    )
    if results["samples"]:
        yield _samples_table(results)
        yield _groups_table(results["by_group"])
    if results["gain"]:
        yield _directions_table(results)
    if results["logits"]:
        yield _logits_table(results["logits"])
    took = ", ".join(f"{name} {value:.1f}" for name, value in results["seconds"].items())
    yield f"[dim]seconds: {took}[/]"


def _table(title: str, first: str, columns: Sequence[str], caption: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption=caption or None, caption_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _samples_table(results: Mapping[str, Any]) -> Table:
    caption = f"the gradients of log P(y|x) and log P(y) of each response, over {results['covered']:.1%} of the weights"
    table = _table("by response", "", ["responses", "inner product >= 0", "cosine", "95% interval"], caption)
    for label, own in (("all", results), ("right", results["right"]), ("wrong", results["wrong"])):
        low_high = own["cosine_interval"]
        spread = f" ± {results['cosine_sd']:.2f} sd" if label == "all" and results["cosine_sd"] is not None else ""
        table.add_row(
            label,
            str(own["samples"]),
            _shown(own["share_nonnegative"], "{:.1%}"),
            _shown(own["cosine_mean"]) + spread,
            "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}",
        )
    return table


def _groups_table(groups: Mapping[str, Mapping[str, float | None]]) -> Table:
    table = _table("by group of parameters", "", ["inner product >= 0", "cosine"])
    for group, own in groups.items():
        table.add_row(group, _shown(own["share_nonnegative"], "{:.1%}"), _shown(own["cosine_mean"]))
    return table


def _directions_table(results: Mapping[str, Any]) -> Table:
    caption = (
        "cosines; gain: of the direction on one half of the questions with the gradient of the expected reward on the "
        "other; corrected: without the noise of the halves; common: with sum |A| log P(y)"
    )
    columns = ["gain", "corrected", "without common", "common", "reliability", "norm"]
    table = _table("by objective", "", columns, caption)
    for name in (*DIRECTIONS, RUNNING):
        norms = results["norm"]
        if name not in norms or (name == RUNNING and norms[name] in [norms[known] for known in DIRECTIONS]):
            continue  # the objective is one of those above
        half = results["gain_half_width"].get(name)
        table.add_row(
            name,
            _shown(results["gain"].get(name), "{:+.3f}") + (f" ± {half:.3f}" if half is not None else ""),
            *(_shown(results[key].get(name), "{:+.3f}") for key in ("gain_corrected", "gain_without_common", "common")),
            _shown(results["reliability"].get(name), "{:+.3f}"),
            _shown(results["norm"].get(name), "{:.3g}"),
        )
    return table


def _logits_table(logits: Mapping[str, Any]) -> Table:
    table = _table(f"by token ({logits['tokens']} tokens)", "", ["mean", "95% interval"])
    words = {
        "inner": "inner product in logits",
        "cosine": "cosine in logits",
        "known": "share that P(y) can know",
        "difference": "log P(y|x) - log P(y)",
    }
    for key, label in words.items():
        interval = logits[key]["interval"]
        between = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        table.add_row(label, _shown(logits[key]["mean"]), between)
    for name, own in logits["bins"].items():
        kind, _, edge = name.rpartition("_")
        table.add_row(f"cosine, {kind} from {edge}", _shown(own["cosine"]), f"{own['tokens']} tokens")
    return table


def _shown(value: float | None, form: str = "{:.3f}") -> str:
    return "" if value is None else form.format(value)
