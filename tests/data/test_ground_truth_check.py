"""Every row is asked about once, and what the verifier cannot hold ends the run with its place."""

from __future__ import annotations

import pytest
from records import jsonl, rows_of

import dsrl
from dsrl import build, compose
from dsrl.data import Row
from dsrl.data.ground_truth_check import check_ground_truths
from dsrl.errors import ConfigError

TRUTHS = ["72", "3:4", "$18", "east", "(1, 2)", "12:45", "5!"]


@pytest.fixture
def path(tmp_path):
    return jsonl(tmp_path / "sums.jsonl", *({"question": f"q{n}", "answer": truth} for n, truth in enumerate(TRUTHS)))


def test_rows_that_the_verifier_cannot_hold_are_counted_and_named(path):
    with pytest.raises(ConfigError) as told:
        check_ground_truths(build("verifier", "numeric"), rows_of(path), "data.train")
    assert str(told.value).splitlines() == [
        "data.train: the verifier cannot use 5 of 7 rows; choose another, or remove them:",
        f"  {path}, line 2: the ground truth '3:4' is no number; verifier=math can compare it, and verifier=auto "
        "chooses for each row",
        f"  {path}, line 4: the ground truth 'east' is no number; verifier=exact can compare it, and verifier=auto "
        "chooses for each row",
        f"  {path}, line 5: the ground truth '(1, 2)' is no number; verifier=math can compare it, and verifier=auto "
        "chooses for each row",
        "  ...",
    ]


@pytest.mark.parametrize("verifier", ["auto", "exact", "math", {"name": "regex", "pattern": "x"}, "format"])
def test_a_verifier_that_can_hold_them_says_nothing_against_them(path, verifier):
    check_ground_truths(build("verifier", verifier), rows_of(path), "data.train")


def test_the_log_says_what_auto_makes_of_the_rows(path, caplog):
    check_ground_truths(build("verifier", "auto"), rows_of(path), "data.train")
    told = "data.train: verifier=auto: 2 number (numeric), 1 words (exact), 4 math (math)"
    assert caplog.messages == [told]
    inner = {"name": "composite", "components": {"auto": 1.0, "format": 0.1}}
    check_ground_truths(build("verifier", inner), rows_of(path), "data.train")
    check_ground_truths(build("verifier", "auto"), rows_of(path), "data.train", log=False)
    assert caplog.messages == [told] * 2


def test_verifiers_made_of_others_ask_these(path):
    rows = rows_of(path)
    both = {"name": "composite", "components": {"exact": 1.0, "numeric": 0.5}}
    by_source = {"name": "by_source", "sources": {"sums": "choice"}}
    for verifier in (both, by_source):
        with pytest.raises(ConfigError, match="line 2: the ground truth '3:4' is no"):
            check_ground_truths(build("verifier", verifier), rows[1:], "data.train")
    nowhere = build("verifier", {"name": "by_source", "sources": {"other": "exact"}})
    with pytest.raises(ConfigError, match="cannot use 7 of 7 rows.*\n.*line 1: verifier by_source has none for"):
        check_ground_truths(nowhere, rows, "data.train")


def test_a_verifier_of_another_kind_is_not_asked():
    class Plain:
        def score(self, rollouts):
            raise AssertionError

    check_ground_truths(Plain(), [Row(question="q", ground_truth="3:4", data_source="s")], "data.train")
    with pytest.raises(ConfigError, match=r"data\.train, row 0: the ground truth '3:4'"):
        check_ground_truths(
            build("verifier", "numeric"), [Row(question="q", ground_truth="3:4", data_source="s")], "data.train"
        )


@pytest.mark.parametrize("key", ["train", "val"])
@pytest.mark.parametrize("broken", ["skip", "refuse"])
def test_a_run_ends_before_anything_is_sampled(path, tmp_path, key, broken):
    good = jsonl(tmp_path / "good.jsonl", *({"question": f"{n}+1=", "answer": n + 1} for n in range(4)))
    files = {"train": good, "val": good, key: path}
    words = ["data=questions", "verifier=numeric", f"data.broken_rows={broken}", f"run_dir={tmp_path / 'run'}"]
    words += [f"data.{name}={file}" for name, file in files.items()]
    with pytest.raises(ConfigError, match=r"sums\.jsonl, line 2: the ground truth '3:4' is no number; verifier=math"):
        dsrl.fit(compose([*words, "prompts_per_iteration=2", "logger=none", "iterations=1"]))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_evaluation_ends_before_the_model_is_loaded(path, tmp_path):
    words = [f"data.val={path}", "verifier=choice", f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(ConfigError, match=r"data\.val, sums: the verifier cannot use 7 of 7 rows"):
        dsrl.evaluate(["model=tiny", *words])
