"""`reasoning_gym`: the tasks' own scorers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from dsrl.errors import ConfigError
from dsrl.types import Prompt
from dsrl.verifiers import ReasoningGym
from dsrl.verifiers.contract import Bench

reasoning_gym = pytest.importorskip("reasoning_gym")

TASKS = ("chain_sum", "countdown", "leg_counting", "word_ladder", "kakurasu", "arc_agi", "rearc")  # lists, and tuples


@pytest.fixture(scope="module")
def verifier() -> Iterator[ReasoningGym]:
    verifier = ReasoningGym(workers=1, timeout=20.0)
    yield verifier
    verifier.close()


def entry_of(task: str) -> dict:
    return reasoning_gym.create_dataset(task, size=1, seed=3)[0]


def prompt_of(entry, data_source: str = "any") -> Prompt:
    return Prompt(position=0, text="?", token_ids=(1,), data_source=data_source, extra={"extra_info": {"entry": entry}})


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", [dict, lambda entry: json.dumps(entry, default=str)], ids=["mapping", "JSON"])
def test_scores_are_the_tasks_own(verifier: ReasoningGym, task: str, form) -> None:
    entry = entry_of(task)
    score = reasoning_gym.get_score_answer_fn(task)
    answers = [str(entry["answer"]), "1", "no idea", ""]
    bench = Bench(verifier=verifier, prompt=prompt_of(form(entry)), right="", wrong="")
    assert bench.rewards([f"so <answer>{answer}</answer>" for answer in answers]) == [
        [pytest.approx(score(answer, entry)) for answer in answers]
    ]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer> 4 </answer>", "4"),
        ("<answer>3</answer> no <answer>4\n5</answer>", "4\n5"),
        ("<answer>3 <answer>4</answer>", "4"),
        (r"\boxed{4}", "4"),
        (r"<answer>3</answer> \boxed{4}", "3"),
        (" 4 ", "4"),
        ("", ""),
    ],
)
def test_the_answer_is_tagged_else_boxed_else_everything(response: str, answer: str) -> None:
    assert ReasoningGym().answer(response) == answer


def test_the_task_is_that_of_the_entry_else_of_the_data_source(verifier: ReasoningGym) -> None:
    entry = entry_of("chain_sum")
    nameless = {
        **entry,
        "metadata": {key: value for key, value in entry["metadata"].items() if key != "source_dataset"},
    }
    prompt = prompt_of(nameless, "reasoning_gym/chain_sum")
    assert Bench(verifier=verifier, prompt=prompt, right="", wrong="").rewards([entry["answer"]]) == [[1]]
    unknown = dataclasses.replace(prompt, data_source="reasoning_gym/chain_sun")
    with pytest.raises(ConfigError, match="task 'chain_sun'.*not registered"):
        Bench(verifier=verifier, prompt=unknown, right="", wrong="").rewards(["1"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "has no column 'entry'; it has extra_info, entry"),
        ("{", "not JSON"),
        ({"question": "?"}, "must hold question, answer and metadata"),
    ],
)
def test_a_row_without_an_entry(verifier: ReasoningGym, entry, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bench(verifier=verifier, prompt=prompt_of(entry), right="", wrong="").rewards(["1"])
