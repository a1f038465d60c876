"""Two evaluations, paired by question."""

import json

import numpy as np
import pytest
from rich.console import Console

from dsrl.errors import ConfigError
from dsrl.evaluation.comparison import compare, comparison_table, comparison_values, thought_ratio_table


def folder_of(path, *rewards, name="s", finished=True):
    """rewards: of each question, its samples'."""
    path.mkdir()
    (path / ("results.json" if finished else "config.yaml")).touch()
    lines = [
        {
            "set": name,
            "question": number,
            "sample": index,
            "prompt": prompt,
            "response": "",
            "extracted_answer": "1",
            "ground_truth": "1",
            "reward": reward,
            "components": {},
            "length": 5,
            "finish_reason": "stop",
            "data_source": "d",
        }
        for number, (prompt, given) in enumerate(pair for some in rewards for pair in some.items())
        for index, reward in enumerate(given)
    ]
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def printed(*comparison, styles=False):
    console = Console(record=True, width=250, force_terminal=True)
    console.print(comparison_table(*comparison))
    return console.export_text(styles=styles)


def test_what_makes_a_question_hard_for_both_cancels(tmp_path):
    """Questions spread over 0 to 0.8, the second 0.2 better at each: the difference has no spread at all, so that all
    doubt is how many others, up to 1 - 0.025^(1/5), might differ by -1 or by 1."""
    first = {f"q{i}": [1.0] * i + [0.0] * (5 - i) for i in range(5)}
    second = {f"q{i}": [1.0] * (i + 1) + [0.0] * (4 - i) for i in range(5)}
    (found,) = compare(folder_of(tmp_path / "a", first), folder_of(tmp_path / "b", second)).values()
    change = found.difference["avg"]
    assert (found.questions, found.unpaired) == (5, 0)
    assert found.first["avg"].value == pytest.approx(0.4) and found.second["avg"].value == pytest.approx(0.6)
    unlike = 1 - 0.025 ** (1 / 5)
    assert [change.value, change.low, change.high] == pytest.approx([0.2, 0.2 - 1.2 * unlike, 0.2 + 0.8 * unlike])
    assert found.first["avg"].high - found.first["avg"].low > 0.3


def test_questions_are_found_by_what_they_ask(tmp_path):
    first = folder_of(tmp_path / "a", {"x": [1.0, 1.0], "y": [0.0, 0.0], "only a": [1.0, 1.0]})
    second = folder_of(tmp_path / "b", {"y": [1.0, 0.0, 1.0], "x": [1.0, 1.0, 1.0]})
    (found,) = compare(first, second).values()
    assert (found.questions, found.unpaired) == (2, 1)
    assert found.difference["avg"].value == pytest.approx((0 + 2 / 3) / 2)
    assert "pass@2" in found.difference and "pass@3" not in found.difference
    assert found.k == (2, 3) and "maj" not in found.difference
    told = printed({"s": found}, first, second)
    assert "2 (1 unpaired)" in told and "2, 3" in told and "maj" not in told


def test_nothing_in_common(tmp_path):
    first, second = folder_of(tmp_path / "a", {"x": [1.0]}), folder_of(tmp_path / "b", {"y": [1.0]})
    with pytest.raises(ConfigError, match="share no question"):
        compare(first, second)


def test_equal_questions_are_paired_in_their_order(tmp_path):
    first = folder_of(tmp_path / "a", {"x": [1.0, 1.0]}, {"x": [0.0, 0.0]}, {"x": [0.0, 0.0]})
    second = folder_of(tmp_path / "b", {"x": [0.0, 0.0]}, {"x": [1.0, 1.0]})
    (found,) = compare(first, second).values()
    assert (found.questions, found.unpaired, found.first["avg"].value, found.second["avg"].value) == (2, 1, 0.5, 0.5)
    assert found.difference["avg"].low < -0.9


def test_one_pair_is_no_evidence(tmp_path):
    first, second = folder_of(tmp_path / "a", {"x": [0.0, 0.0]}), folder_of(tmp_path / "b", {"x": [1.0, 1.0]})
    found = compare(first, second)
    assert "+1.000" in printed(found, first, second) and "nan" not in printed(found, first, second)
    assert "\x1b[1m+1.000" not in printed(found, first, second, styles=True)
    assert comparison_values(found)["s"]["metrics"]["maj"] == {"first": 0.0, "second": 1.0, "difference": 1.0}


def test_as_plain_values(tmp_path):
    first = folder_of(tmp_path / "a", {"x": [0.0, 0.0], "y": [1.0, 0.0]})
    found = comparison_values(compare(first, folder_of(tmp_path / "b", {"x": [1.0, 1.0], "y": [1.0, 1.0]})))
    assert (found["s"]["questions"], found["s"]["unpaired"], found["s"]["k"]) == (2, 0, [2, 2])
    change = found["s"]["metrics"]["avg"]
    assert (change["first"], change["second"], change["difference"]) == (0.25, 1.0, 0.75)
    low, high = change["ci95"]  # two questions say little of others
    assert -1 < low < 0 and 0.9 < high < 1


def test_a_name_is_no_markup(tmp_path):
    folders = [folder_of(tmp_path / f"[x]{side}", {"x": [1.0], "y": [1.0]}, name="set[v2][/b]") for side in "ab"]
    told = printed(compare(*folders), *folders)
    assert "set[v2][/b]" in told and "[x]b less" in told


def test_an_unfinished_evaluation_is_not_compared(tmp_path):
    first = folder_of(tmp_path / "a", {"x": [1.0]})
    with pytest.raises(ConfigError, match=r"b: the evaluation is unfinished; resume=.*b goes on with it"):
        compare(first, folder_of(tmp_path / "b", {"x": [1.0]}, finished=False))


def test_a_question_without_some_of_its_samples_is_not_compared(tmp_path):
    first = folder_of(tmp_path / "a", {"x": [1.0, 1.0], "y": [1.0]})
    with pytest.raises(ConfigError, match=r"a question of s has 1 samples, another 2: some are gone"):
        compare(first, first)


def with_thoughts(folder, counts, *, length=5, way="seal"):
    """counts: of each question, the thoughts of class `doubt` in each sample; it says how they were found."""
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for line, count in zip(lines, [count for some in counts for count in some], strict=True):
        line |= {"thoughts": {"doubt": [0, 1] * count, "rest": []}, "length": length}
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text(f"thoughts: {way}\n")
    return folder


ASKED = {f"q{i}": [0.0, 1.0] for i in range(6)}


def test_a_ratio_of_thoughts(tmp_path):
    """24 thoughts in 12 answers of 5 tokens; 72 in 12 of 10: three times as many an answer, 1.5 times a token."""
    first = with_thoughts(folder_of(tmp_path / "a", ASKED), [[1, 3]] * 6)
    second = with_thoughts(folder_of(tmp_path / "b", ASKED), [[4, 8]] * 6, length=10)
    found = compare(first, second)
    ratio = found["s"].thoughts["doubt"]
    assert ratio.thoughts == (24, 72)
    assert (ratio.per_answer.value, ratio.per_answer.low, ratio.per_answer.high) == (3.0, 3.0, 3.0)
    assert (ratio.per_1000_tokens.value, ratio.per_1000_tokens.stderr) == (pytest.approx(1.5), 0.0)
    assert comparison_values(found)["s"]["thoughts"]["rest"] == {"first": 0, "second": 0, "too_rare": True}
    console = Console(record=True, width=250)
    console.print(thought_ratio_table(found, first, second))
    told = console.export_text()
    assert "3.00x (3.00 to 3.00)" in told and "1.50x (1.50 to 1.50)" in told and "too rare (under 20)" in told


def test_the_interval_of_a_ratio(tmp_path):
    """Against a bootstrap of its own: with the first the same everywhere, the ratio is the second's mean over 2."""
    counts = [[2, 2], [2, 4], [8, 0], [2, 2], [12, 2], [0, 0]]
    first = with_thoughts(folder_of(tmp_path / "a", ASKED), [[2, 2]] * 6)
    second = with_thoughts(folder_of(tmp_path / "b", ASKED), counts)
    ratio = compare(first, second)["s"].thoughts["doubt"].per_answer
    means = np.array([sum(own) / 4 for own in counts])
    drawn = np.random.default_rng(7).choice(means, size=(20_000, 6)).mean(1)
    assert ratio.value == pytest.approx(1.5)
    assert (ratio.low, ratio.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.1)


def test_where_all_thoughts_of_the_first_are_in_one_answer_the_ratio_has_no_upper_end(tmp_path):
    """A third of the resamples leave that question out."""
    first = with_thoughts(folder_of(tmp_path / "a", ASKED), [[12, 12]] + [[0, 0]] * 5)
    second = with_thoughts(folder_of(tmp_path / "b", ASKED), [[4, 8]] * 6)
    found = compare(first, second)
    values = comparison_values(found)["s"]["thoughts"]["doubt"]
    assert values["per_answer"] == 3.0 and values["per_answer_stderr"] is None
    assert values["per_answer_ci95"][0] < 3 and values["per_answer_ci95"][1] is None
    json.dumps(values, allow_nan=False)
    console = Console(record=True, width=200)
    console.print(thought_ratio_table(found, first, second))
    assert "to ∞)" in console.export_text()


def test_nineteen_are_too_rare(tmp_path):
    first = with_thoughts(folder_of(tmp_path / "a", ASKED), [[2, 2]] * 6)
    second = with_thoughts(folder_of(tmp_path / "b", ASKED), [[9, 10]] + [[0, 0]] * 5)
    ratio = compare(first, second)["s"].thoughts["doubt"]
    assert ratio.thoughts == (24, 19) and ratio.per_answer is None and ratio.per_1000_tokens is None


def test_thoughts_found_in_two_ways_are_not_compared(tmp_path):
    first = with_thoughts(folder_of(tmp_path / "a", ASKED), [[2, 2]] * 6)
    second = with_thoughts(folder_of(tmp_path / "b", ASKED), [[2, 2]] * 6, way="words")
    assert compare(first, second)["s"].thoughts == {}
    assert thought_ratio_table(compare(first, second), first, second) is None
