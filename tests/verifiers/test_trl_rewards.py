"""TRL's own reward functions, taken as they are, and ours beside them."""

from __future__ import annotations

import dataclasses

import pytest

from dsrl.registry import build
from dsrl.types import Prompt
from dsrl.verifiers import Function, compute_rewards
from dsrl.verifiers.contract import Bench

rewards = pytest.importorskip("trl.rewards")
pytestmark = pytest.mark.trl

THOUGHTS = [
    "<think>a</think> b",
    "<think>a</think>",
    "a</think> b",
    "x <think>a</think> b",
    "<think>a<think>b</think> c",
]
ANSWERS = [r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", r"\boxed{2}", "no idea"]


@pytest.fixture
def chat(make_rollouts):
    def make(texts, **columns):
        made = make_rollouts([texts], ["1/2"])
        asked = ({"role": "user", "content": "?"},)
        made.prompts = [dataclasses.replace(prompt, messages=asked, extra=columns) for prompt in made.prompts]
        return made

    return make


def as_trl_calls(function, texts, **columns):
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    prompts = [[{"role": "user", "content": "?"}] for _ in texts]
    repeated = {name: [value] * len(texts) for name, value in columns.items()}
    return function(prompts=prompts, completions=completions, **repeated)


def test_a_function_of_trl_gives_what_it_gives_in_trl(chat) -> None:
    for name, texts, columns in (
        ("think_format_reward", THOUGHTS, {}),
        ("accuracy_reward", ANSWERS, {"solution": r"$\frac{1}{2}$"}),
    ):
        verifier = Function(path=f"trl.rewards:{name}", workers=1)
        assert verifier.check() == []
        expected = as_trl_calls(getattr(rewards, name), texts, **columns)
        scored, components = compute_rewards(verifier, chat(texts, **columns))
        verifier.close()
        assert scored.tolist() == [expected]
        assert len(set(expected)) == 2
        assert components["applicable"].tolist() == [[1] * len(texts)]


def test_format_agrees_where_there_is_an_answer_after_the_thought(chat) -> None:
    expected = dict(zip(THOUGHTS, as_trl_calls(rewards.think_format_reward, THOUGHTS), strict=True))
    ours = build("verifier", {"name": "format", "layout": "think"}).score(chat(THOUGHTS)).tolist()[0]
    differing = [text for text, score in zip(THOUGHTS, ours, strict=True) if score != expected[text]]
    assert differing == ["<think>a</think>"]  # a thought without an answer, which TRL rewards


def test_length_is_trls_soft_overlong_punishment() -> None:
    lengths = (0, 1, 12, 13, 14, 16, 19, 20, 21, 40)
    punish = rewards.get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=8)
    verifier = build("verifier", {"name": "length", "max_length": 20, "cache": 8})
    bench = Bench(verifier=verifier, prompt=Prompt(position=0, text="", token_ids=(1,)), right="", wrong="")
    (ours,) = bench.rewards(["x" * length for length in lengths])  # a token each
    assert ours == pytest.approx(punish(completion_ids=[[1] * length for length in lengths]))
