"""pass@j by enumeration of subsets, votes by hand, intervals against a distribution that is known."""

import math
from itertools import combinations
from math import comb

import numpy as np
import pytest

from dsrl.bootstrap import estimates, ratio_estimates, resampled_means
from dsrl.evaluation.results import results_line, results_table, summarise
from dsrl.evaluation.statistics import SampledQuestion, majority, questions_of, thought_estimates


def sample(reward, extracted_answer="a", **fields):
    known = {"set": "s", "question": 0, "data_source": "d", "prompt": "p", "ground_truth": "a", "length": 4}
    known |= {"extracted_answer": extracted_answer, "finish_reason": "stop", "components": {}}
    return {**known, "reward": reward, **fields}


def question(rewards, **fields):
    (found,) = questions_of([sample(reward, **fields) for reward in rewards])
    return found


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_pass_at_j_is_the_share_of_subsets_with_a_right_answer(count):
    for right in range(count + 1):
        rewards = [1.0] * right + [0.0] * (count - right)
        metrics = question(rewards).metrics()
        for j in range(1, count + 1):
            subsets = list(combinations(rewards, j))
            assert metrics[f"pass@{j}"] == pytest.approx(sum(map(max, subsets)) / len(subsets), abs=1e-12)
        assert metrics["avg"] == right / count == pytest.approx(metrics["pass@1"])


def test_rewards_between_0_and_1_are_averaged_and_right_above_a_half():
    metrics = question([0.2, 0.6, 0.5, 1.5]).metrics()
    assert metrics["avg"] == pytest.approx(0.7) and metrics["pass@1"] == 0.5 and metrics["pass@4"] == 1.0


@pytest.mark.parametrize(
    ("answers", "rewards", "expected"),
    [
        (["3", "3", "4"], [1, 1, 0], 1.0),
        (["3", "4", "4"], [1, 0, 0], 0.0),
        (["3", "4"], [1, 0], 0.5),  # one of two at random
        (["3", "4", "5", "4", "3"], [1, 0, 0, 0, 1], 0.5),
        (["x = 3", "x=3", "4"], [1, 1, 0], 1.0),  # whitespace apart
        (["", "", "", "3"], [0, 0, 0, 1], 1.0),  # no answer is no vote
        (["", " "], [0, 0], 0.0),
    ],
)
def test_majority(answers, rewards, expected):
    assert majority(answers, rewards) == expected


def test_lengths_truncation_and_components():
    samples = [sample(1.0, length=2, finish_reason="length", components={"format": 1.0}), sample(0.0, length=8)]
    samples[1]["components"] = {"format": 0.0}
    metrics = SampledQuestion(set="s", data_source="d", prompt="p", ground_truth="a", samples=samples).metrics()
    assert (metrics["length"], metrics["truncated"], metrics["reward/format"]) == (5.0, 0.5, 0.5)


def test_a_component_counts_where_it_is_applicable():
    samples = [sample(1.0, components={"a": 1.0, "b": 0.0}), sample(0.0, components={"a": 0.0})]
    metrics = SampledQuestion(set="s", data_source="d", prompt="p", ground_truth="a", samples=samples).metrics()
    assert (metrics["reward/a"], metrics["reward/b"]) == (0.5, 0.0)


def test_samples_are_gathered_by_set_and_question():
    samples = [sample(r, set=s, question=q) for s in "ab" for q in (0, 1) for r in (0.0, 1.0)]
    found = questions_of(samples)
    assert [(own.set, len(own.samples)) for own in found] == [("a", 2), ("a", 2), ("b", 2), ("b", 2)]


def binomial_quantile(level, count, chance):
    """The smallest number of successes whose cumulative probability reaches the level."""
    cumulative = np.cumsum([comb(count, i) * chance**i * (1 - chance) ** (count - i) for i in range(count + 1)])
    return int(np.argmax(cumulative >= level))


@pytest.mark.parametrize(("count", "right"), [(20, 8), (50, 5), (128, 64)])
def test_of_right_and_wrong_the_resampled_mean_is_binomial(count, right):
    """Each of Q draws is right with probability c/Q, so the interval and the standard error are known exactly."""
    values = [1.0] * right + [0.0] * (count - right)
    found = estimates({"avg": values}, resamples=20_000)["avg"]
    chance = right / count
    assert found.value == chance
    assert found.stderr == pytest.approx((chance * (1 - chance) / count) ** 0.5, rel=0.02)
    for edge, level in ((found.low, 0.025), (found.high, 0.975)):
        assert abs(edge * count - binomial_quantile(level, count, chance)) < 1.01  # the next number, at most


def test_metrics_are_resampled_together_and_the_same_each_time():
    table = np.array([[0.0, 10.0], [1.0, 11.0], [5.0, 15.0]])
    means = resampled_means(table, 50)
    assert np.allclose(means[:, 1] - means[:, 0], 10) and means[:, 0].std() > 0
    assert np.array_equal(means, resampled_means(table, 50))


def test_each_metric_is_over_the_questions_that_have_it():
    found = estimates({"whole": [0.0, 1.0, 1.0], "part": [0.0, 1.0], "other": [2.0, 3.0, 3.0], "one": [1.0]})
    assert list(found) == ["whole", "part", "other", "one"]
    assert [own.value for own in found.values()] == pytest.approx([2 / 3, 0.5, 8 / 3, 1.0])
    assert found["other"].low - found["whole"].low == pytest.approx(2)


def test_one_question_says_nothing_of_others():
    found = estimates({"avg": [0.25]})["avg"]
    assert found.value == 0.25 and all(map(math.isnan, (found.stderr, found.low, found.high)))


def test_equal_questions_say_nothing_of_others_unless_a_range_does():
    found = estimates({"length": [0.25] * 7, "avg": [0.25] * 7}, within={"avg": (0.0, 1.0)})
    assert found["length"].value == 0.25 and math.isnan(found["length"].low) and math.isnan(found["length"].stderr)
    unlike = 1 - 0.025 ** (1 / 7)  # of the questions, at most, are unlike these seven
    assert found["avg"].low == pytest.approx(0.25 - unlike * 0.25)
    assert found["avg"].high == pytest.approx(0.25 + unlike * 0.75)
    assert found["avg"].stderr == pytest.approx(unlike / 3.92)


def test_none_right_of_sixty():
    samples = [sample(0.0, question=q, extracted_answer="b") for q in range(60) for _ in range(4)]
    numbers = summarise(questions_of(samples))["results"]["s"]
    for key in ("avg@4", "pass@1", "pass@4", "maj@4", "truncated"):
        assert numbers[key] == 0
        assert numbers[f"{key}_ci95"] == pytest.approx([0, 0.0596], abs=1e-4)
        assert numbers[f"{key}_stderr"] == pytest.approx(0.0152, abs=1e-4)
    assert "length_ci95" not in numbers  # all are as long, which says nothing of others
    assert results_line("x", {"s": numbers}) == "x | s: avg@4 0.000 ± 0.015, pass@4 0.000 ± 0.015, maj@4 0.000 ± 0.015"
    cells = [column._cells[0] for column in results_table({"s": numbers}, "").columns]
    assert cells[3] == "0.000 [dim]± 0.060[/]"


def test_a_share_of_thoughts_at_the_edge():
    """Of 30 questions with 2 answers, none has a thought: so have up to 1 - 0.025^(1/30) of all answers."""
    spans = [sample(1.0, question=q, thoughts={"doubt": []}) for q in range(30) for _ in range(2)]
    found = thought_estimates(questions_of(spans))
    share = found["thoughts/doubt/share"]
    assert (share.low, share.high) == pytest.approx((0, 0.1157), abs=1e-4)
    assert found["thoughts/doubt/right_without"].low == pytest.approx(1 - 0.1157, abs=1e-4)
    assert math.isnan(found["thoughts/doubt/per_answer"].high)  # of thoughts an answer may have any number


def test_there_is_no_majority_where_the_verifier_extracts_no_answers():
    assert "maj" not in question([1.0, 0.0], extracted_answer=None).metrics()
    assert question([1.0, 0.0], extracted_answer="").metrics()["maj"] == 0


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios():
    found = ratio_estimates({"x": ([1.0, 8.0], [1.0, 2.0]), "nothing": ([0.0, 0.0], [0.0, 0.0])})
    assert list(found) == ["x"]
    assert (found["x"].value, found["x"].low, found["x"].high) == (3.0, 1.0, 4.0)  # both, the first alone, the second


def test_where_every_denominator_is_1_a_ratio_is_a_mean():
    values = [0.0, 1.0, 1.0, 3.0, 0.5]
    (ratio,), (mean,) = ratio_estimates({"x": (values, [1.0] * 5)}).values(), estimates({"x": values}).values()
    assert [ratio.value, ratio.stderr, ratio.low, ratio.high] == pytest.approx(
        [mean.value, mean.stderr, mean.low, mean.high], abs=1e-12
    )


def test_thoughts_of_questions_by_hand():
    """Answers of question 0: two thoughts and right, none and wrong; of question 1: one and wrong, none and right."""
    spans = [[0, 1, 2, 3], [], [0, 1], []]
    given = zip((0, 0, 1, 1), (1.0, 0.0, 0.0, 1.0), spans, strict=True)
    samples = [sample(right, question=q, thoughts={"doubt": own}) for q, right, own in given]
    found = {name: estimate.value for name, estimate in thought_estimates(questions_of(samples)).items()}
    assert found == {
        "thoughts/doubt/per_answer": 3 / 4,
        "thoughts/doubt/per_1000_tokens": 3000 / 16,
        "thoughts/doubt/share": 1 / 2,
        "thoughts/doubt/right_with": 1 / 2,
        "thoughts/doubt/right_without": 1 / 2,
    }
    assert thought_estimates(questions_of([*samples, sample(1.0, question=2)])) == {}  # not looked for in all
    assert thought_estimates([]) == {}
