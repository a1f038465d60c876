"""Responses as a page holds them."""

import json

import pytest
from run_folders import run_folder, sample, with_tokens

from dsrl.reports.reading import RunRecord, read_run
from dsrl.reports.samples import COLUMNS, SAMPLE_BYTES, TEXT_LIMIT, pack_samples, spread


def record(tmp_path, lines):
    return RunRecord(folder=tmp_path, name="run", samples=lines)


def packed(run):
    notes = []
    found, _ = pack_samples([run], notes)
    return found, [dict(zip(COLUMNS, row, strict=True)) for row in found["rows"]], notes


def test_a_repeated_text_is_held_once(tmp_path):
    found, rows, notes = packed(read_run(run_folder(tmp_path / "run")))
    assert found["texts"].count("1+2=") == 1
    assert len(rows) == 12 and notes == []
    assert [(row["iteration"], row["question"], row["number"]) for row in rows[:2]] == [(0, 0, 0), (0, 0, 1)]


def test_thoughts_are_where_javascript_finds_them(tmp_path):
    """Places in UTF-16 units, and the number of the class; of thoughts that overlap the first counts."""
    lines = [
        sample(0, "a?b", thoughts={"reflection": [1, 2], "rest": [0, 1]}),
        sample(0, "\U0001f600?b", thoughts={"rest": [0, 1], "reflection": [1, 2]}),
        sample(0, "abc", thoughts={"reflection": [0, 2, 1, 3, 2, 9]}),
        sample(0, "abc"),
    ]
    found, rows, _ = packed(record(tmp_path, lines))
    assert found["classes"] == ["reflection", "rest"]
    assert [row["thoughts"] for row in rows] == [[0, 1, 1, 1, 2, 0], [0, 2, 1, 2, 3, 0], [0, 2, 0], []]


@pytest.mark.parametrize("thoughts", [None, 3, {"a": 3}, {"a": ["x", "y"]}, {"a": [2]}, {"a": [-5, -1]}, {"a": [2, 1]}])
def test_what_are_no_thoughts_is_not_marked(tmp_path, thoughts):
    _, rows, _ = packed(record(tmp_path, [sample(0, thoughts=thoughts)]))
    assert rows[0]["thoughts"] == []


def test_a_long_text_is_cut_and_its_length_kept(tmp_path):
    _, rows, _ = packed(record(tmp_path, [sample(0, "x" * 1_000_000), sample(0, "x")]))
    assert [(len(row["response"]), row["cut"]) for row in rows] == [(TEXT_LIMIT, 1_000_000), (1, 0)]


def test_fields_of_other_types_are_left_out(tmp_path):
    line = {
        "response": "x",
        "reward": "high",
        "components": [1],
        "iteration": True,
        "kept": 1,
        "tokens": [1],
        "prompt": {},
    }
    found, rows, _ = packed(record(tmp_path, [line]))
    row = rows[0]
    assert (row["reward"], row["components"], row["iteration"], row["kept"], row["tokens"]) == (
        None,
        {},
        None,
        None,
        None,
    )
    assert found["texts"][row["prompt"]] == "{}"


def test_too_many_responses_are_thinned_evenly_by_whole_groups(tmp_path):
    lines = [
        sample(at, "y" * 500, prompt=f"question {at} {group}", response_number=number)
        for at in range(2000)
        for group in range(3)
        for number in range(8)
    ]
    found, rows, notes = packed(record(tmp_path, lines))
    assert len(json.dumps(found["rows"])) < 1.1 * SAMPLE_BYTES
    kept = sorted({row["iteration"] for row in rows})
    assert max(after - before for before, after in zip(kept, kept[1:], strict=False)) <= 8
    groups = {}
    for row in rows:
        groups.setdefault((row["iteration"], row["prompt"]), []).append(row["number"])
    assert all(numbers == list(range(8)) for numbers in groups.values())
    assert notes == [
        f"{len(rows):,} of 48,000 responses are on this page, whole groups spread evenly over the run; "
        "samples.jsonl has all"
    ]


def test_items_are_spread_over_all_within_the_budget():
    assert spread("abcdefgh", [1] * 8, 4) == ["b", "d", "f", "h"]
    assert spread("abc", [10, 100, 10], 60) == ["c"]
    assert spread("abc", [1, 1, 1], 3) == ["a", "b", "c"]


def test_tokens_need_a_number_for_each(tmp_path):
    whole = with_tokens(sample(0, "ab"))
    short = whole | {"logprobs": {"conditional": [-1.0]}, "entropies": None, "changes": [], "pulls": 3}
    found, rows, _ = packed(record(tmp_path, [whole, short | {"clipped": {"marginal": 1}}]))
    assert [row["tokens"] for row in rows] == [0, None]
    assert found["tokens"] == [
        {
            "texts": ["a", "b"],
            "of": 2,
            "logprobs_conditional": [-0.5, -0.5],
            "logprobs_marginal": [-2.0, -2.0],
            "entropies_conditional": [-0.5, -0.5],
            "entropies_marginal": [-2.0, -2.0],
            "changes_conditional": [0.01, 0.01],
            "changes_marginal": [-0.02, -0.02],
            "pulls_marginal": [-0.5, 0.0],
            "clipped_marginal": [1],
        }
    ]
