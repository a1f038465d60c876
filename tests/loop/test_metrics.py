"""Metrics against enumeration and numbers worked out by hand."""

import itertools
import math
import re

import pytest
import torch

from dsrl import build
from dsrl.loop.experience import Experience, SpaceView, space_key, weigh
from dsrl.loop.metrics import (
    SampledAccuracy,
    Stopwatch,
    component_means,
    component_sums,
    pass_at,
    replace_components,
    rollout_means,
    rollout_sums,
)
from dsrl.types import Prompt, Rollouts


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
    }
    assert values_of(metric) == pytest.approx(expected, abs=1e-12)
    assert list(metric.compute()) == list(expected)


def test_partial_rewards_are_averaged_and_count_as_right_above_the_threshold():
    metric = accuracy_of([[0.25, 0.5], [0.75, 0.0]], k=2)
    assert values_of(metric) == {"avg@2": 0.375, "pass@1": 0.25, "pass@2": 0.5}
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
    assert all(math.isnan(value) for value in values_of(SampledAccuracy(2)).values())
    metric = accuracy_of([[1.0, 1.0]], k=2)
    metric.reset()
    assert all(math.isnan(value) for value in values_of(metric).values())


# Rollouts: 3 prompts, 2 responses each.

PROMPTS = [
    Prompt(position=0, text="a", token_ids=(5, 6, 7)),
    Prompt(position=1, text="b", token_ids=(5,), truncated=True),
    Prompt(position=2, text="c", token_ids=(5, 6)),
]
LENGTHS = torch.tensor([4, 2, 1, 3, 4, 4])
ROLLOUTS = Rollouts(
    prompts=PROMPTS,
    tokens=torch.full((6, 4), 9),
    mask=torch.arange(4) < LENGTHS[:, None],
    logprobs=torch.zeros(6, 4),
    texts=["Wait, no. Wait.", "", "wait", "so", "Wait", "7"],
    finish_reasons=["stop", "length", "stop", "stop", "length", "length"],
)
REWARDS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
REFLECTION = re.compile("Wait")


def experience_of(spec, rewards=REWARDS):
    views = {}
    for index, (weight, term) in enumerate(build("objective", spec).terms):
        sizes = [3, 3, 1, 1, 2, 2] if term.space == "conditional" else [1] * 6
        view = views.setdefault(space_key(term.space), SpaceView(contexts=[(5,) * size for size in sizes]))
        view.terms.append(weigh(index, weight, term, ROLLOUTS, rewards))
    return Experience(rollouts=ROLLOUTS, rewards=rewards, views=list(views.values()))


def test_sums_of_an_iteration():
    assert rollout_sums(experience_of("nsr_prerl"), REFLECTION) == {
        "samples": 6,
        "prompts": 3,
        "reward": 3.5,
        "reward_squared": 3.25,
        "solved_all": 1,
        "solved_none": 1,  # 0.5 is not above 0.5
        "length": 18,
        "truncated": 3,
        "reflections": 3,
        "prompt_length": 6,
        "prompt_truncated": 1,
        "kept": 2,  # rows 1 and 4
        "scored": 2,
        "scored_tokens": (1 + 2) + (1 + 4),
    }


def test_means_of_an_iteration():
    sums = rollout_sums(experience_of("nsr_prerl"), REFLECTION)
    means = rollout_means({key: value + value for key, value in sums.items()})  # two ranks with the same rollouts
    assert means == pytest.approx(
        {
            "reward/mean": 3.5 / 6,
            "reward/std": torch.tensor([1, 0, 1, 1, 0, 0.5], dtype=torch.float64).std(correction=0).item(),
            "group/all_right": 1 / 3,
            "group/all_wrong": 1 / 3,
            "response/length_mean": 3.0,
            "response/truncated": 0.5,
            "response/reflections": 0.5,
            "prompt/length_mean": 2.0,
            "prompt/truncated": 1 / 3,
            "kept/fraction": 1 / 3,
            "scored/fraction": 1 / 3,
            "tokens/sampled": 36.0,
            "tokens/scored": 16.0,
        }
    )


@pytest.mark.parametrize(
    ("spec", "kept", "scored", "tokens"),
    [
        ("grpo", 6, 4, (3 + 4) + (3 + 2) + (2 + 4) + (2 + 4)),  # the group that is all right is kept and not scored
        ("dapo", 4, 4, 24),
        ("mixed", 6, 4, 24 + (1 + 2) + (1 + 4)),  # tokens of both passes, samples once
        # A pull to the reference scores everything and chooses nothing.
        ({"name": "nsr_prerl", "kl": {"coefficient": 0.1}}, 2, 6, 8 + (3 + 3 + 1 + 1 + 2 + 2) + 18),
    ],
    ids=str,
)
def test_what_is_kept_and_what_is_scored(spec, kept, scored, tokens):
    sums = rollout_sums(experience_of(spec), REFLECTION)
    assert (sums["kept"], sums["scored"], sums["scored_tokens"]) == (kept, scored, tokens)


def test_equal_rewards_have_no_deviation():
    sums = rollout_sums(experience_of("grpo", torch.full((3, 2), 0.1)), REFLECTION)
    assert rollout_means(sums)["reward/std"] == pytest.approx(0.0, abs=1e-6)


# Time.


@pytest.fixture
def now(monkeypatch):
    clock = {"now": 100.0}
    monkeypatch.setattr("dsrl.loop.metrics.time.perf_counter", lambda: clock["now"])
    return clock


def test_stopwatch(now):
    watch = Stopwatch()
    for seconds, what in ((2.0, "sample"), (0.5, "update"), (1.0, "sample")):
        with watch(what):
            now["now"] += seconds
    now["now"] += 0.25
    assert watch.read() == {"time/sample": 3.0, "time/update": 0.5, "time/iteration": 3.75}
    now["now"] += 4.0
    assert watch.read() == {"time/iteration": 4.0}


def test_stopwatch_counts_a_block_that_fails(now):
    watch = Stopwatch()
    with pytest.raises(KeyError), watch("update"):
        now["now"] += 1.5
        raise KeyError
    assert watch.read()["time/update"] == 1.5


def test_means_of_components_are_over_where_they_are_applicable():
    nan = float("nan")
    one = component_sums({"math": torch.tensor([[1.0, 0.0]]), "code": torch.tensor([[nan, 0.5]])})
    two = component_sums({"math": torch.tensor([[1.0, 1.0]]), "code": torch.tensor([[1.0, nan]])})
    assert component_means(one) == {"reward/math": 0.5, "reward/code": 0.5}
    assert component_means({key: one[key] + two[key] for key in one}) == {"reward/math": 0.75, "reward/code": 0.75}
    assert component_means(component_sums({"code": torch.tensor([[nan, nan]])})) == {}


def test_components_that_one_side_lacks_are_not_applicable_there():
    nan = float("nan")
    old = {"math": torch.tensor([[1.0], [0.0], [nan]]), "code": torch.tensor([[nan], [nan], [0.5]])}
    fresh = {"math": torch.tensor([[0.25], [nan]]), "logic": torch.tensor([[nan], [0.75]])}
    found = replace_components(old, fresh, torch.tensor([2, 0]))
    assert {key: [repr(value) for (value,) in values.tolist()] for key, values in found.items()} == {
        "math": ["nan", "0.0", "0.25"],
        "code": ["nan", "nan", "nan"],
        "logic": ["0.75", "nan", "nan"],
    }
    assert replace_components({}, {}, torch.tensor([0])) == {}
