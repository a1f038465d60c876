"""avg@k and pass@j against enumeration and numbers worked out by hand."""

import itertools
import math

import pytest
import torch

from dsrl.loop.accuracy import SampledAccuracy, pass_at


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 7])
def test_pass_at_j_is_the_share_of_subsets_with_a_right_answer(samples):
    for right, j in itertools.product(range(samples + 1), range(1, samples + 1)):
        subsets = list(itertools.combinations([True] * right + [False] * (samples - right), j))
        assert pass_at(j, samples, right) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_j_of_many_samples_is_exact():
    assert pass_at(1, 1000, 1) == pytest.approx(1e-3, rel=1e-9)
    assert pass_at(1000, 1000, 1) == 1.0
    assert pass_at(500, 1000, 1) == pytest.approx(0.5, rel=1e-9)


def accuracy_of(*batches, k=4, **options):
    metric = SampledAccuracy(k)
    for batch in batches:
        metric.update(torch.tensor(batch), **options)
    return metric


def values_of(metric):
    return {key: float(value) for key, value in metric.compute().items()}


def test_sampled_accuracy():
    metric = accuracy_of([[1.0, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 0, 0], [1, 1, 0, 0]])
    expected = {
        "avg@4": 7 / 16,
        "pass@1": (1 / 4 + 1 + 0 + 1 / 2) / 4,
        "pass@2": (1 / 2 + 1 + 0 + 5 / 6) / 4,
        "pass@3": (3 / 4 + 1 + 0 + 1) / 4,
        "pass@4": 3 / 4,
        "questions": 4,
    }
    assert values_of(metric) == pytest.approx(expected, abs=1e-12)
    assert list(metric.compute()) == list(expected)


def test_partial_rewards_are_averaged_and_count_as_right_above_the_threshold():
    metric = accuracy_of([[0.25, 0.5], [0.75, 0.0]], k=2)
    assert values_of(metric) == {"avg@2": 0.375, "pass@1": 0.25, "pass@2": 0.5, "questions": 2}
    assert values_of(accuracy_of([[0.25, 0.5], [0.75, 0.0]], k=2, threshold=0.2))["pass@2"] == 1.0


def test_how_questions_are_batched_or_ranked_does_not_matter():
    rewards = (torch.rand(30, 5, generator=torch.Generator().manual_seed(0)) > 0.6).float()
    whole, parts, other = SampledAccuracy(5), SampledAccuracy(5), SampledAccuracy(5)
    whole.update(rewards)
    for part in rewards[:17].split(4):
        parts.update(part)
    other.update(rewards[17:])
    parts.merge_state(other)
    assert values_of(parts) == pytest.approx(values_of(whole), abs=1e-12)
    assert whole.passed.dtype == whole.average.dtype == torch.float64


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_questions_there_is_no_number():
    reset = accuracy_of([[1.0, 1.0]], k=2)
    reset.reset()
    for metric in (SampledAccuracy(2), reset):
        values = values_of(metric)
        assert values.pop("questions") == 0
        assert all(math.isnan(value) for value in values.values())
