"""score_texts: rewards of a list of strings, by every built-in verifier and by one with `score` alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dsrl import build, names, register
from dsrl.errors import ConfigError, DSRLError
from dsrl.registry import find, registered_parts
from dsrl.types import Prompt, Rollouts
from dsrl.verifiers import Function, Math, Python, score_texts, texts
from dsrl.verifiers.contract import children
from dsrl.verifiers.text_rollouts import rollouts_of_texts
from dsrl.verifiers.verifier import close_all

REWARDS = Path(__file__).with_name("rewards.py")
CHAIN = {"question": "1 + 1 =", "answer": "2", "metadata": {"source_dataset": "chain_sum"}}
ADD = "```python\ndef add(a, b): return a + b\n```"
CASES = {
    "exact": ({}, ["so # 4", "so # 5"], {"ground_truths": ["4", "4"]}, [1, 0]),
    "numeric": ({"rel_tol": 0.1}, ["4.1 m", "5"], {"ground_truths": [4, 4.0]}, [1, 0]),
    "choice": ({}, ["It is (B)", "It is (C)"], {"ground_truths": ["B. 5 m", "(B)"]}, [1, 0]),
    "auto": (
        {},
        ["4.0", "(A)", "It is east", "It is west"],
        {"ground_truths": [4, "A", "East", "East"]},
        [1, 1, 1, 0],
    ),
    "math": ({"workers": 1}, [r"\boxed{\frac12}", r"\boxed{2}"], {"ground_truths": ["0.5", "0.5"]}, [1, 0]),
    "regex": ({"pattern": r"\d"}, ["4", "four"], {}, [1, 0]),
    "format": (
        {"layout": "think"},
        ["<think>a</think> b", "a</think> b", "a</think> b"],
        {"prompts": ["?", "?", "? <think>"]},
        [1, 0, 1],
    ),
    "length": ({"max_length": 4, "cache": 2}, ["a", "b"], {"completion_ids": [[7, 8], [7, 8, 9]]}, [0, -0.5]),
    "reasoning_gym": ({"workers": 1}, ["<answer>2</answer>", "3"], {"entry": [CHAIN, CHAIN]}, [1, 0]),
    "python": (
        {"workers": 1},
        [ADD, "def add(a, b): return 3", ADD],
        {"ground_truths": [["assert add(1, 1) == 2"]] * 2 + ['{"inputs": [[1, 2]], "outputs": [4], "fn_name": "add"}']},
        [1, 0, 0],
    ),
    "function": (
        {"path": f"{REWARDS}:accuracy_reward", "workers": 1},
        ["4", "5"],
        {"prompts": [[{"role": "user", "content": "2+2="}]] * 2, "solution": ["4", "4"]},
        [1, 0],
    ),
    "composite": (
        {"components": {"exact": 1.0, "regex": {"pattern": r"\d", "weight": 0.5}}},
        ["# 4", "# 5", "# no"],
        {"ground_truths": ["4", "4", "4"]},
        [1.5, 0.5, 0],
    ),
    "by_source": (
        {"sources": {"words": "exact", "numbers/*": "numeric"}},
        ["4.0", "4.0"],
        {"ground_truths": ["4", "4"], "data_sources": ["words", "numbers/a"]},
        [0, 1],
    ),
}


def built_in() -> list[str]:
    return [name for name in names("verifier") if find("verifier", name).__module__.startswith("dsrl.")]


@pytest.mark.parametrize("name", built_in())
def test_every_verifier_scores_a_list_of_strings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By score_texts, and by its `score_all`, whatever it implements; `length` alone needs more than texts."""
    if name == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    if name == "python" and (problems := Python(workers=1).check()):
        pytest.skip(problems[0])
    parameters, responses, given, expected = CASES[name]
    before = children()
    verifier, prompts = build("verifier", {"name": name, **parameters}), []
    monkeypatch.setattr(texts, "rollouts_of_texts", lambda *made: prompts.extend(made[1]) or rollouts_of_texts(*made))
    rewards = score_texts(verifier, responses, **given)
    assert rewards == pytest.approx(expected)
    assert all(type(reward) is float for reward in rewards)
    if name == "length":
        with pytest.raises(ConfigError, match="counts tokens"):
            verifier.score_all(responses, prompts)
    else:
        assert verifier.score_all(responses, prompts) == pytest.approx(expected)
    close_all([verifier])
    assert children() == before


def test_a_verifier_with_score_alone() -> None:
    class Plain:
        def score(self, rollouts: Rollouts) -> torch.Tensor:
            assert rollouts.responses_per_prompt == 1
            scores = [
                len(text) + len(prompt.text) for text, prompt in zip(rollouts.texts, rollouts.prompts, strict=True)
            ]
            return torch.tensor(scores).view(-1, 1)

    assert score_texts(Plain(), ["a", "bb"], prompts=["", "xyz"]) == [1.0, 5.0]


def test_a_registered_class_with_score_alone_has_score_all_once_it_is_built(monkeypatch) -> None:
    monkeypatch.setitem(registered_parts, "verifier", {**registered_parts["verifier"]})

    @register("verifier", "lengths_alone")
    @dataclass
    class Lengths:
        def score(self, rollouts: Rollouts) -> torch.Tensor:
            return torch.tensor([float(len(text)) for text in rollouts.texts]).view(-1, 1)

    prompt = Prompt(position=0, text="", token_ids=())
    assert build("verifier", "lengths_alone").score_all(["a", "bcd"], [prompt, prompt]) == [1.0, 3.0]


def test_one_that_is_built_stays_open_and_one_by_name_does_not() -> None:
    before = children()
    verifier = Math(workers=1)
    assert score_texts(verifier, ["4"], ground_truths=["4"]) == [1.0]
    (worker,) = children() - before
    assert score_texts(verifier, ["5"], ground_truths=["4"]) == [0.0]
    assert children() - before == {worker}
    verifier.close()
    assert score_texts("math", ["4"], ground_truths=["4"]) == [1.0]
    assert children() == before


def test_no_responses_have_no_rewards() -> None:
    assert score_texts("exact", []) == []
    assert score_texts("exact", [], ground_truths=[]) == []


def test_structured_ground_truths_and_columns_arrive_as_they_are() -> None:
    with_target = {"name": "function", "path": f"{REWARDS}:countdown", "workers": 1}
    assert score_texts(with_target, ["24", "25"], ground_truths=[{"target": 24}] * 2) == [1.0, 0.0]
    with pytest.raises(ConfigError, match="is not text but {'target': 24}"):
        score_texts("exact", ["24"], ground_truths=[{"target": 24}])


def test_lengths_in_tokens_are_never_guessed() -> None:
    with pytest.raises(ConfigError, match="verifier length counts tokens, .* in score_texts, give completion_ids"):
        score_texts({"name": "length", "max_length": 4, "cache": 2}, ["a long text"])
    counts = Function(path=f"{REWARDS}:token_count", workers=1)
    assert score_texts(counts, ["a", "b"], completion_ids=[[1, 2], [3]]) == [2.0, 1.0]
    fresh = dataclasses.replace(counts)
    with pytest.raises(ConfigError, match="token_count requires completion_ids, and no row has such a column"):
        score_texts(fresh, ["a", "b"])
    counts.close()
    fresh.close()


@pytest.mark.parametrize(
    ("responses", "given", "message"),
    [
        ("4", {}, "responses must be a list of texts, not '4'"),
        (["4", None], {}, r"responses must be a list of texts, not \['4', None\]"),
        (["4"], {"ground_truths": "4"}, "ground_truths must be a list with one for each response, not '4'"),
        (["4"], {"ground_truths": 4}, "ground_truths must be a list with one for each response, not 4"),
        (["4"], {"ground_truths": ["4", "5"]}, "2 ground_truths for 1 responses"),
        (["4"], {"level": []}, "0 level for 1 responses"),
        (["4"], {"ground_truth": ["4"]}, "ground_truth is called ground_truths, with one for each response"),
        (["4"], {"data_source": ["a"]}, "data_source is called data_sources"),
        (["4"], {"prompts": [{"role": "user", "content": "?"}]}, "a prompt must be text, or a list of messages"),
        (["4"], {"prompts": [[{"role": "user"}]]}, "a prompt must be text, or a list of messages"),
        (["4"], {}, "has no ground truth to compare answers with"),
    ],
)
def test_what_does_not_fit_is_an_error(responses, given, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_texts("exact", responses, **given)


def test_an_unknown_name_and_what_is_no_reward() -> None:
    class Broken:
        def score(self, rollouts: Rollouts) -> torch.Tensor:
            return torch.zeros(3)

    with pytest.raises(ConfigError, match="unknown verifier 'exct'.*Did you mean 'exact'"):
        score_texts("exct", ["4"])
    with pytest.raises(DSRLError, match=r"Broken: rewards must be a tensor \[B, G\] = \[1, 1\], not \[3\]"):
        score_texts(Broken(), ["4"])
