"""Two evaluations, paired by question."""

import json

import pytest
from rich.console import Console

from dsrl.errors import ConfigError
from dsrl.evaluation.comparison import compare, comparison_table, comparison_values


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
    """Questions spread over 0 to 0.8, the second 0.2 better at each: the difference has no spread at all."""
    first = {f"q{i}": [1.0] * i + [0.0] * (5 - i) for i in range(5)}
    second = {f"q{i}": [1.0] * (i + 1) + [0.0] * (4 - i) for i in range(5)}
    (found,) = compare(folder_of(tmp_path / "a", first), folder_of(tmp_path / "b", second)).values()
    change = found.difference["avg"]
    assert (found.questions, found.unpaired) == (5, 0)
    assert found.first["avg"].value == pytest.approx(0.4) and found.second["avg"].value == pytest.approx(0.6)
    assert [change.value, change.low, change.high] == pytest.approx([0.2] * 3)
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
    assert found.difference["avg"].low == -1


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
    assert change["ci95"] == [0.5, 1.0]


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
