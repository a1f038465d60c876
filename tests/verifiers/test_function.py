"""`function`: a callable in any of three signatures, at its own cost alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dsrl.errors import ConfigError, DSRLError
from dsrl.registry import build
from dsrl.types import Rollouts
from dsrl.verifiers import Function, compute_rewards
from dsrl.verifiers.verifier import extracted_answers_of

REWARDS = Path(__file__).with_name("rewards.py")


@contextmanager
def function(name: str, **parameters) -> Iterator[Function]:
    verifier = Function(path=f"{REWARDS}:{name}", workers=1, **parameters)
    yield verifier
    verifier.close()


@pytest.fixture
def rollouts(make_rollouts) -> Callable[..., Rollouts]:
    def make(texts, truths, chat: bool = False, extra=None) -> Rollouts:
        made = make_rollouts(texts, truths)
        messages = ({"role": "user", "content": "?"},) if chat else None
        made.prompts = [dataclasses.replace(prompt, messages=messages, extra=extra or {}) for prompt in made.prompts]
        return made

    return make


def test_trl_gets_chats_and_columns_as_lists(rollouts) -> None:
    made = rollouts([["4", "5"], ["4", "5"]], ["x", "x"], chat=True)
    made.prompts = [dataclasses.replace(p, extra={"solution": s}) for p, s in zip(made.prompts, "45", strict=True)]
    with function("accuracy_reward") as verifier:
        assert verifier.score(made).tolist() == [[1, 0], [0, 1]]


def test_trl_gets_texts_where_there_is_no_chat_and_only_the_columns_it_names(rollouts) -> None:
    with function("plain_trl") as verifier:
        assert verifier.score(rollouts([["4", "5"]], ["5"], extra={"level": 3})).tolist() == [[0, 1]]


def test_trl_gets_the_columns_of_extra_info_too(rollouts) -> None:
    made = rollouts([["a", "b"], ["c", "d"]], ["1", "2"], extra={"extra_info": {"level": "hard"}})
    with function("columns_seen") as verifier:
        assert verifier.score(made).tolist() == [[4, 4], [4, 4]]  # all four in one call of the one worker


def test_trl_gets_the_tokens_where_it_asks(rollouts) -> None:
    made = rollouts([["a", "b"]], ["1"])
    made.tokens, made.mask = torch.tensor([[5, 6, 7], [5, 0, 0]]), torch.tensor([[True] * 3, [True, False, False]])
    with function("token_count") as verifier:
        assert verifier.score(made).tolist() == [[3, 1]]


def test_what_trls_trainer_alone_has_is_left_at_its_default(rollouts) -> None:
    """Also where a column of the rows has its name, or that of the completions."""
    clash = {"trainer_state": "a", "log_extra": "b", "completions": "c"}
    with function("every_keyword") as verifier:
        assert verifier.check() == []
        assert verifier.score(rollouts([["4", "5"]], ["5"], extra=clash)).tolist() == [[1, 0]]


def test_a_ground_truth_that_is_a_mapping_arrives_as_one(rollouts) -> None:
    made = rollouts([["24", "25"]], ['{"target": 24}'])
    made.prompts = [dataclasses.replace(prompt, structured_ground_truth={"target": 24}) for prompt in made.prompts]
    for name in ("countdown", "countdown_trl"):
        with function(name) as verifier:
            assert verifier.score(made).tolist() == [[1, 0]]


def test_none_is_not_applicable(rollouts) -> None:
    with function("sometimes") as verifier:
        rewards, components = compute_rewards(verifier, rollouts([["code", "four"]], ["1"]))
        assert verifier.score(rollouts([["four"]], ["1"])).tolist() == [[4]]
    assert rewards.isnan().tolist() == [[True, False]] and rewards[0, 1] == 4
    assert components["applicable"].tolist() == [[0, 1]]
    assert components["failed"].tolist() == [[0, 0]]


def test_verls_and_coroutines(rollouts) -> None:
    with function("compute_score") as verifier:
        assert verifier.score(rollouts([["4", "5"]], ["5"])).tolist() == [[0, 1]]
    with function("later") as verifier:
        assert verifier.score(rollouts([["4", "5"]], ["5"])).tolist() == [[2, 2]]


@pytest.mark.parametrize("name", ["short_verl", "later_verl", "later_ours"])
def test_verls_with_fewer_parameters_and_coroutines_of_one_response(rollouts, name: str) -> None:
    with function(name) as verifier:
        assert verifier.check() == []
        assert verifier.score(rollouts([["4", "5"], ["5", "5"]], ["5", "5"])).tolist() == [[0, 1], [1, 1]]


def test_a_column_that_no_row_has_is_an_error_with_those_there_are(rollouts) -> None:
    with (
        function("accuracy_reward") as verifier,
        pytest.raises(
            ConfigError,
            match=r"rewards.py:accuracy_reward requires solution, .* there are solutions, answer, ground_truth, "
            r"data_source, completion_ids. .*solution=None. Did you mean 'solutions'\?",
        ),
    ):
        verifier.score(rollouts([["4", "5"]], ["5"], chat=True, extra={"solutions": "5"}))


def test_a_later_batch_may_lack_a_column(rollouts) -> None:
    """It may hold the rows of one source of several alone."""
    with function("accuracy_reward") as verifier:
        first = verifier.score(rollouts([["4", "5"]], ["5"], chat=True, extra={"solution": "5"}))
        later = verifier.score(rollouts([["4", "5"]], ["5"], chat=True))
        assert (first.tolist(), later.tolist()) == ([[0, 1]], [[0, 0]])


def test_a_column_that_some_rows_have_is_none_in_others(rollouts) -> None:
    made = rollouts([["4"], ["5"]], ["", ""], chat=True)
    made.prompts[1] = dataclasses.replace(made.prompts[1], extra={"solution": "5"})
    for workers in (1, 2):  # in one call, and in two
        verifier = Function(path=f"{REWARDS}:accuracy_reward", workers=workers)
        rewards, components = compute_rewards(verifier, made)
        verifier.close()
        assert (rewards.tolist(), components["failed"].tolist()) == ([[0], [1]], [[0], [0]])


def test_a_score_beyond_float32_counts_as_failed(rollouts) -> None:
    with function("huge", max_failed=1.0) as verifier:
        rewards, components = compute_rewards(verifier, rollouts([["1e300", "-1e39", "1e38"]], [""]))
    assert rewards.tolist() == [[0, 0, pytest.approx(1e38)]]
    assert components["failed"].tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("name", ["dangerous", "dangerous_trl"])
def test_an_answer_on_which_it_fails_costs_itself_alone(rollouts, name: str) -> None:
    texts = ["5", "crash", "exit", "nan", "nothing readable", "4", "5"]
    with function(name, max_failed=1.0) as verifier:
        rewards, components = compute_rewards(verifier, rollouts([texts], ["5"]))
    assert rewards.tolist() == [[1, 0, 0, 0, 0, 0, 1]]
    assert components["failed"].tolist() == [[0, 1, 1, 1, 1, 0, 0]]


def test_a_fork_of_the_worker_does_not_answer_in_its_name(rollouts) -> None:
    with function("forks") as verifier:
        assert verifier.score(rollouts([["1", "2"], ["3", "4"]], ["", ""])).tolist() == [[1, 2], [3, 4]]


def test_a_function_that_always_fails_is_an_error(rollouts) -> None:
    with (
        function("always_broken") as verifier,
        pytest.raises(
            DSRLError, match=r"failed on each of 2 responses: AttributeError: .*no_such_thing.*rewards.py, line"
        ),
    ):
        verifier.score(rollouts([["4", "5"]], ["5"]))


def test_the_first_error_is_told_once_and_all_are_kept_for_the_run_folder(rollouts, caplog) -> None:
    made = rollouts([["5", "crash", "nan", "exit"]], ["5"])
    with function("dangerous", max_failed=1.0) as verifier:
        verifier.score(made)
        verifier.score(made)
        (found,), (later,) = verifier.take_failures(), verifier.take_failures()
    (told,) = [record.getMessage() for record in caplog.records]
    assert "rewards.py:dangerous raised on 2 of 4 responses, and its process crashed or took too long on 1" in told
    assert (
        "RuntimeError: it broke (" in told and "rewards.py, line" in told and told.endswith("on the response 'crash'")
    )
    assert (found.checked, found.raised, found.lost) == (8, 4, 2) and later.failed == later.checked == 0
    assert [failure.response for failure in found.kept] == ["crash", "nan", "exit"] * 2
    head, *frames, last = found.kept[0].traceback.splitlines()
    assert head == "Traceback (most recent call last):" and last == "RuntimeError: it broke"
    assert "function_handler.py" not in "".join(frames) and "rewards.py" in frames[0]


def test_it_stops_where_it_raises_on_more_than_its_share(rollouts) -> None:
    with function("dangerous") as verifier:
        verifier.score(rollouts([["5", "crash", "crash"]], ["5"]))
        with pytest.raises(DSRLError, match=r"failed on 62 of the last 64 responses: ValueError: .*max_failed=0.5 is"):
            verifier.score(rollouts([["5"] + ["nan"] * 60], ["5"]))
        assert verifier.take_failures()[0].raised == 62  # what ended the run is in its folder, too
    with function("always_broken", max_failed=1.0) as verifier:
        assert verifier.score(rollouts([["4", "5"]], ["5"])).tolist() == [[0, 0]]
    with pytest.raises(ConfigError, match="max_failed must be a share, 0 to 1, not 2"):
        build("verifier", {"name": "math", "max_failed": 2})


def test_answers_are_those_that_a_mapping_has_beside_its_score(rollouts) -> None:
    made = rollouts([["1+1=2", "2"], ["=3", "1=4"]], ["2", "4"])
    with function("with_answer") as verifier:
        assert verifier.score(made).tolist() == [[1, 0], [0, 1]]
        assert extracted_answers_of(verifier, made) == ["2", "", "3", "4"]
    parts = {"first": {"name": "function", "path": f"{REWARDS}:with_answer", "workers": 1}}
    composite = build("verifier", {"name": "composite", "components": parts})
    composite.score(made)
    assert extracted_answers_of(composite, made) == ["2", "", "3", "4"]
    composite.close()


def test_a_function_that_extracts_no_answers_has_none(rollouts) -> None:
    made = rollouts([["4", "5"]], ["5"])
    with function("compute_score") as verifier:
        verifier.score(made)
        assert extracted_answers_of(verifier, made) == [None, None]


def test_what_a_file_defines_can_be_pickled(rollouts, tmp_path: Path) -> None:
    """Whatever way processes start; and the name of a module that the file imports is not taken from that."""
    for name in ("mine", "json"):
        (tmp_path / f"{name}.py").write_text(
            "import json, multiprocessing, pickle\n"
            "from concurrent.futures import ProcessPoolExecutor\n"
            "class Point: x = 2\n"
            "def work(point): return point.x\n"
            "def score(response, prompt):\n"
            "    assert json.loads('[1]') == [1]\n"
            "    with ProcessPoolExecutor(1, multiprocessing.get_context(response)) as pool:\n"
            "        return pool.submit(work, Point()).result()\n"
        )
    for name, ways in (("mine", ["fork", "spawn"]), ("json", ["fork"])):
        verifier = Function(path=f"{tmp_path}/{name}.py:score", workers=1)
        rewards = verifier.score(rollouts([ways], [""]))
        verifier.close()
        assert rewards.tolist() == [[2] * len(ways)]


def test_a_module_on_the_trainers_path(rollouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "mine.py").write_text("print('noise')\ndef score(response, prompt): return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    verifier = Function(path="my_package.mine:score", workers=1)
    assert verifier.check() == []
    assert verifier.score(rollouts([["4"]], ["5"])).tolist() == [[3]]
    verifier.close()
    assert "my_package" not in sys.modules


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{REWARDS}:nothing", "has no function nothing"),
        ("no_such_module_here:score", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("nowhere/file.py:score", "FileNotFoundError"),
        (
            f"{REWARDS}:needs_the_trainer",
            "requires trainer_state and log_metric, .*; give a default, trainer_state=None",
        ),
        (f"{REWARDS}:other_verl", "requires model_output, and verl's are given data_source, solution_str, .*=None"),
        (f"{REWARDS}:by_position", "completions cannot be given by name: take the / out of its parameters"),
        (f"{REWARDS}:no_signature", r"its parameters must be \(response, prompt\), TRL's .* not \(text\)"),
    ],
)
def test_what_is_not_there_is_found_before_the_run(path: str, message: str) -> None:
    (problem,) = Function(path=path).check()
    assert problem.startswith(f"verifier function: path={path}: ")
    assert pytest.importorskip("re").search(message, problem)


@pytest.mark.parametrize("path", ["rewards", "rewards:", ":score", "rewards:not a name"])
def test_a_path_of_another_form(path: str) -> None:
    with pytest.raises(ConfigError, match="path must be package.module:function or file.py:function"):
        build("verifier", {"name": "function", "path": path})
