"""`format`: think and answer tags."""

from __future__ import annotations

import dataclasses

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.verifiers import Format

WHOLE = "<think>1 + 1</think>\n<answer>2</answer>"


@pytest.mark.parametrize(
    ("response", "both", "think"),
    [
        (WHOLE, 1, 1),
        (f"\n {WHOLE} \n", 1, 1),
        ("<think>1 + 1</think> 2", 0, 1),
        ("<think>1 + 1</think>", 0, 0),
        ("<think> </think><answer>2</answer>", 0, 0),
        ("<think>x</think><answer> </answer>", 0, 1),
        (f"Sure! {WHOLE}", 0, 0),
        (f"{WHOLE} Done.", 0, 1),
        ("<think>x</think> so <answer>2</answer>", 0, 1),
        ("<answer>2</answer><think>x</think>", 0, 0),
        (f"{WHOLE}<answer>3</answer>", 0, 1),
        ("<think>a</think><think>b</think><answer>2</answer>", 0, 0),
        ("<think>a<think>b</think></think><answer>2</answer>", 0, 0),
        ("<think>a<answer>1</answer></think><answer>2</answer>", 0, 1),
        ("<Think>x</Think><answer>2</answer>", 0, 0),
        ("<think>x<answer>2</answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_rewards(make_rollouts, response: str, both: float, think: float) -> None:
    rollouts = make_rollouts([[response]], [""])
    assert Format().score(rollouts).item() == both
    assert Format(layout="think").score(rollouts).item() == think


def test_a_prompt_may_open_the_thought(make_rollouts) -> None:
    rollouts = make_rollouts([["1 + 1</think><answer>2</answer>", WHOLE]], [""])
    assert Format().score(rollouts).tolist() == [[0, 1]]
    rollouts.prompts = [dataclasses.replace(rollouts.prompts[0], text="<|assistant|><think>\n")]
    assert Format().score(rollouts).tolist() == [[1, 0]]


def test_the_answer_for_people() -> None:
    assert Format().extract_answer(WHOLE) == "2"
    assert Format().extract_answer("<think>x</think> 3") == "3"
    assert Format().extract_answer("4") == "4"


def test_an_unknown_layout() -> None:
    with pytest.raises(ConfigError, match="layout=thin: allowed are think_answer, think. Did you mean 'think'?"):
        build("verifier", {"name": "format", "layout": "thin"})
