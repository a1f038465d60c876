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

WITHOUT_ANSWER = {
    "boxnet": None,  # no task says how it is solved
    "graph_color": lambda known: json.dumps(known["possible_answer"]),
    "propositional_logic": lambda known: known["example_answer"],
    "rubiks_cube": lambda known: known["example_correct_answer"],
    "rush_hour": None,
}
"""Tasks whose entries have no answer, with one that is right where the metadata have it."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[ReasoningGym]:
    verifier = ReasoningGym(workers=1, timeout=20.0)
    yield verifier
    verifier.close()


def entry_of(task: str) -> dict:
    return reasoning_gym.create_dataset(task, size=1, seed=3)[0]


def prompt_of(entry, data_source: str = "any") -> Prompt:
    return Prompt(position=0, text="?", token_ids=(1,), data_source=data_source, extra={"extra_info": {"entry": entry}})


def own_score(task: str, answer: str, entry: dict) -> float:
    """0 where the task's scorer fails on an answer."""
    try:
        return float(reasoning_gym.get_score_answer_fn(task)(answer, entry))
    except Exception:
        return 0.0


def test_scores_are_the_tasks_own(verifier: ReasoningGym) -> None:
    """Of all tasks, of rows as `data=reasoning_gym` makes them and as files hold them, of right and wrong answers."""
    tasks = sorted(name for name in reasoning_gym.factory.DATASETS if name != "composite")
    assert len(tasks) == 105
    entries, prompts, answers = {}, [], []
    for task in tasks:
        entry = entries[task] = entry_of(task)
        known = WITHOUT_ANSWER.get(task, lambda known, entry=entry: entry["answer"])
        oracle = str(known(entry["metadata"]) if known else "")
        for form in (entry, json.dumps(entry, default=str)):
            prompts.append(prompt_of(form))
            answers.append([oracle, oracle[:-1], "1", "no idea", ""])
    made = Bench(verifier=verifier, prompt=prompts[0], right="", wrong="").rollouts(
        *[[f"so <answer>{answer}</answer>" for answer in group] for group in answers]
    )
    made.prompts = prompts
    rewards = verifier.score(made).tolist()
    for task, in_memory, from_file, group in zip(tasks, rewards[::2], rewards[1::2], answers[::2], strict=True):
        entry = entries[task]
        assert in_memory == from_file == [pytest.approx(own_score(task, answer, entry)) for answer in group], task
        assert in_memory[0] == 1 or WITHOUT_ANSWER.get(task, 1) is None, task
        assert (entry["answer"] is None) == (task in WITHOUT_ANSWER), task


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
    assert ReasoningGym().extract_answer(response) == answer


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
