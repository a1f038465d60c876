"""Two evaluations, paired by question."""

import json

import pytest
from rich.console import Console

from dsrl.errors import ConfigError
from dsrl.evaluation.comparison import compare, table_of


def folder_of(path, rewards):
    """rewards: of each question, its samples'."""
    path.mkdir()
    lines = [
        {
            "set": "s",
            "question": number,
            "sample": index,
            "prompt": prompt,
            "response": "",
            "answer": "1",
            "ground_truth": "1",
            "reward": reward,
            "components": {},
            "length": 5,
            "finish_reason": "stop",
            "data_source": "d",
        }
        for number, (prompt, given) in enumerate(rewards.items())
        for index, reward in enumerate(given)
    ]
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


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
    console = Console(record=True, width=160)
    console.print(table_of({"s": found}, first, second))
    assert "2 (1 unpaired)" in console.export_text()


def test_nothing_in_common(tmp_path):
    first, second = folder_of(tmp_path / "a", {"x": [1.0]}), folder_of(tmp_path / "b", {"y": [1.0]})
    with pytest.raises(ConfigError, match="share no question"):
        compare(first, second)
