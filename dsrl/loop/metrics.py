"""From what each rank found to one number a metric: the one place where metrics are added up and reduced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dsrl.parallel.collectives import gather
from dsrl.thoughts import thought_metrics
from dsrl.thoughts.counting import Spans
from dsrl.types import CORRECT_THRESHOLD, Metric, Metrics, Rollouts


def add_metrics(*shares: Mapping[str, Metric]) -> Metrics:
    """Put the metrics of several steps together; those of one name add up."""
    total: Metrics = {}
    for share in shares:
        for name, metric in share.items():
            total[name] = total[name] + metric if name in total else metric
    return total


def reduce_metrics(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Make one number of each metric over all ranks. A collective; every rank gets the same.

    A rank may lack a metric that another has. A mean of nothing is left out.
    """
    local = {
        name: Metric(float(metric.sum), float(metric.count), metric.reduction, float(metric.squares))
        for name, metric in metrics.items()
    }
    found = {name: _number(metric) for name, metric in add_metrics(*gather(local)).items()}
    return {name: number for name, number in found.items() if number is not None}


def rollout_metrics(
    rollouts: Rollouts, rewards: Tensor, components: Mapping[str, Tensor], thoughts: Sequence[Spans] = ()
) -> Metrics:
    """Measure sampled responses and their rewards.

    Args:
        rollouts: N = B * G responses.
        rewards: [B, G], NaN where a response has none: the figures of rewards are then those of the others.
        components: what rewards are made of by name, each [B, G], NaN where it is not applicable.
        thoughts: those of each response by class; empty where none were looked for.
    """
    prompts, reasons, judged = rollouts.prompts, rollouts.finish_reasons, ~rewards.isnan()
    correct, wrong = rewards > CORRECT_THRESHOLD, rewards <= CORRECT_THRESHOLD
    responses, sampled = len(rollouts.texts), float(rollouts.lengths.sum())
    return {
        "reward/mean": Metric.mean(rewards.double(), judged),
        "reward/std": Metric.std(rewards[judged]),
        **{f"reward/{name}": Metric.mean(values, ~values.isnan()) for name, values in components.items()},
        "group/all_right": Metric.mean(~wrong.any(-1), judged.any(-1)),
        "group/all_wrong": Metric.mean(~correct.any(-1), judged.any(-1)),
        "group/length_correlation": length_correlation(rewards, rollouts.lengths),
        "response/length_mean": Metric(sampled, responses),
        "response/entropy": Metric(-float((rollouts.logprobs.double() * rollouts.mask).sum()), sampled),
        "response/truncated": Metric(sum(reason == "length" for reason in reasons), responses),
        **thought_metrics(thoughts, rewards, rollouts.lengths),
        "prompt/length_mean": Metric(sum(len(prompt.token_ids) for prompt in prompts), len(prompts)),
        "prompt/truncated": Metric(sum(prompt.truncated for prompt in prompts), len(prompts)),
        "tokens/sampled": Metric.total(sampled),
    }


def length_correlation(rewards: Tensor, lengths: Tensor) -> Metric:
    """Correlate rewards [B, G] and lengths [N] within each group, averaged over the groups in which both differ.

    Responses without a reward, which is NaN, are left out.
    """
    rewards, lengths = rewards.double(), lengths.view_as(rewards).double().masked_fill(rewards.isnan(), math.nan)
    rewards, lengths = ((values - values.nanmean(-1, keepdim=True)).nan_to_num() for values in (rewards, lengths))
    spread = rewards.norm(dim=-1) * lengths.norm(dim=-1)
    differ = spread > 1e-9
    return Metric.mean((rewards * lengths).sum(-1) / spread.where(differ, 1.0), differ)


def memory_metrics(device: torch.device) -> Metrics:
    """Measure the most memory that tensors took on this rank's GPU, and that its allocator held, since the last call.

    Returns `memory/allocated_gib` and `memory/reserved_gib`, of which the largest rank counts; nothing on a CPU.
    """
    if device.type != "cuda":
        return {}
    found = {"allocated": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}
    torch.cuda.reset_peak_memory_stats(device)
    return {f"memory/{name}_gib": Metric.largest(size / 2**30) for name, size in found.items()}


def _number(metric: Metric) -> float | None:
    total, count = float(metric.sum), float(metric.count)
    if metric.reduction in ("sum", "max"):
        return total
    if not count:
        return None
    mean = total / count
    return mean if metric.reduction == "mean" else math.sqrt(max(0.0, float(metric.squares) / count - mean**2))
