"""Metrics against numbers worked out by hand, on one rank and on several."""

import pytest
import torch

from dsrl.errors import DSRLError
from dsrl.loop.metrics import add_metrics, length_correlation, reduce_metrics, rollout_metrics
from dsrl.thoughts import Pattern, spans_of
from dsrl.types import Metric, Prompt, Rollouts


def test_a_mean_divides_by_what_was_counted_everywhere():
    one, two = {"x": Metric(6.0, 4)}, {"x": Metric(torch.tensor(2.0), torch.tensor(1))}
    assert reduce_metrics(add_metrics(one, two)) == {"x": 8 / 5}


def test_a_mean_of_nothing_is_left_out():
    assert reduce_metrics({"x": Metric(0.0, 0)}) == {}
    assert reduce_metrics({"x": Metric.mean(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))}) == {}


def test_a_mean_over_a_mask_does_not_see_what_the_mask_hides():
    values = torch.tensor([[1.0, float("nan")], [4.0, 7.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    metric = Metric.mean(values, mask)
    assert (float(metric.sum), int(metric.count)) == (5.0, 2) and not metric.sum.requires_grad
    assert reduce_metrics({"x": Metric.mean(torch.tensor([True, False, True, True]))}) == {"x": 0.75}


def test_sums_and_maxima():
    parts = [{"s": Metric.total(2.0), "m": Metric.largest(-3.0)}, {"s": Metric.total(0.5), "m": Metric.largest(-7.0)}]
    assert reduce_metrics(add_metrics(*parts)) == {"s": 2.5, "m": -3.0}


def test_a_deviation_of_parts_is_that_of_the_whole():
    values = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.5])
    parts = [{"d": Metric.std(part)} for part in values.split(2)]
    expected = values.double().std(correction=0).item()
    assert reduce_metrics(add_metrics(*parts)) == {"d": pytest.approx(expected, abs=1e-12)}
    assert reduce_metrics({"d": Metric.std(torch.full((3, 2), 0.1))})["d"] == pytest.approx(0.0, abs=1e-6)


def test_one_name_is_reduced_in_one_way():
    with pytest.raises(DSRLError, match="reduced by mean in one place and by sum in another"):
        add_metrics({"x": Metric(1.0)}, {"x": Metric.total(1.0)})


def test_over_ranks(monkeypatch):
    """A rank may lack what another has."""
    other = {"x": Metric(1.0, 3.0), "only there": Metric.total(4.0), "m": Metric.largest(9.0)}
    monkeypatch.setattr("dsrl.loop.metrics.gather", lambda mine: [mine, other])
    found = reduce_metrics({"x": Metric(2.0, 1.0), "only here": Metric(1.0, 2.0), "m": Metric.largest(1.0)})
    assert found == {"x": 0.75, "only here": 0.5, "only there": 4.0, "m": 9.0}


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
    logprobs=torch.full((6, 4), -0.25),  # on padding, too
    texts=["Wait, no. Wait.", "", "wait", "so", "Wait", "7"],
    finish_reasons=["stop", "length", "stop", "stop", "length", "length"],
)
REWARDS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
THOUGHTS = spans_of(Pattern(classes={"reflection": "Wait"}), ROLLOUTS.texts)


def test_an_iteration():
    components = {"code": torch.tensor([[1.0, float("nan")], [0.5, float("nan")], [0.0, float("nan")]])}
    found = rollout_metrics(ROLLOUTS, REWARDS, components, THOUGHTS)
    assert reduce_metrics(found) == pytest.approx(
        {
            "reward/mean": 3.5 / 6,
            "reward/std": torch.tensor([1, 0, 1, 1, 0, 0.5], dtype=torch.float64).std(correction=0).item(),
            "reward/code": 0.5,
            "group/all_right": 1 / 3,
            "group/all_wrong": 1 / 3,  # 0.5 is not above 0.5
            "group/length_correlation": 1.0,  # of the first group: elsewhere rewards or lengths are all the same
            "response/length_mean": 3.0,
            "response/entropy": 0.25,
            "response/truncated": 0.5,
            "thoughts/reflection/per_answer": 0.5,
            "thoughts/reflection/per_1000_tokens": 3 / 0.018,
            "thoughts/reflection/share": 2 / 6,
            "thoughts/reflection/right_with": 0.5,
            "thoughts/reflection/right_without": 0.5,
            "prompt/length_mean": 2.0,
            "prompt/truncated": 1 / 3,
            "tokens/sampled": 18.0,
        }
    )
    twice = reduce_metrics(add_metrics(found, found))  # two ranks with the same rollouts
    assert twice == pytest.approx({**reduce_metrics(found), "tokens/sampled": 36.0})
    assert not any(key.startswith("thoughts/") for key in rollout_metrics(ROLLOUTS, REWARDS, {}))


def test_lengths_and_rewards_correlate_within_groups_alone():
    rewards = torch.tensor([[0.0, 1.0, 2.0], [5.0, 4.0, 3.0], [0.1, 0.1, 0.1]])
    lengths = torch.tensor([1, 2, 3, 9, 9, 8, 1, 2, 3])
    found = length_correlation(rewards, lengths)
    # the second: deviations (1, 0, -1) and (1, 1, -2) / 3; the third has none
    assert reduce_metrics({"x": found}) == pytest.approx({"x": (1 + 1 / (2**0.5 * (6 / 9) ** 0.5)) / 2})
    assert reduce_metrics({"x": length_correlation(torch.zeros(0, 0), torch.zeros(0, dtype=torch.long))}) == {}


def test_a_component_that_is_applicable_nowhere_has_no_mean():
    nowhere = {"code": torch.full((3, 2), float("nan"))}
    assert "reward/code" not in reduce_metrics(rollout_metrics(ROLLOUTS, REWARDS, nowhere))
