"""Faulty plugins of every kind: each ends in one message that names it, with its file, before anything is loaded."""

import functools
import importlib
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

import dsrl
from dsrl import Probe, registry
from dsrl.config.compose import compose
from dsrl.config.dry_run import try_condition, try_monitor, try_objective
from dsrl.errors import ConfigError, DSRLError
from dsrl.loop.contexts import contexts_in
from dsrl.loop.probe import run_probe
from dsrl.loop.stopwatch import Stopwatch
from dsrl.loop.token_choice import choose_tokens
from dsrl.objectives import TokenWeight
from dsrl.registry import build
from dsrl.registry.blame import PartError, blamed, blaming
from dsrl.samplers.border import draw
from dsrl.types import Prompt, Rollouts, SamplingParams

QUICK = ("responses_per_prompt=4", "data.train_size=50", "iterations=1", "validation.every=0", "logger=none")

HEAD = """
from dataclasses import dataclass
import torch
from dsrl import EarlyWarning, Metric, Monitor, register
from dsrl.conditions import Condition
from dsrl.objectives import Objective, PolicyGradient, TokenWeight
from dsrl.types import LossOutput

"""
OBJECTIVE = """
@register("objective", "faulty")
@dataclass(kw_only=True)
class Faulty(PolicyGradient):
"""
LOSS = OBJECTIVE + "    def loss(self, logprobs, batch):\n"
FROM_BASE = """
@register("objective", "faulty")
@dataclass(kw_only=True)
class Faulty(Objective):
    space: str = "conditional"
    def advantages(self, rewards):
        return rewards
"""
CONDITION = """
@register("condition", "faulty")
@dataclass(kw_only=True)
class Faulty(Condition):
    def met(self, history):
"""
MONITOR = """
@register("monitor", "faulty")
@dataclass(kw_only=True)
class Faulty(Monitor):
    def observe(self, metrics, history):
"""

OBJECTIVES = {
    "detached": (LOSS + "        return super().loss(logprobs.detach(), batch)", "no gradient of its loss reaches"),
    "a number": (LOSS + "        return 1.0", "must return a LossOutput of its loss, not float"),
    "a tensor": (LOSS + "        return logprobs.sum()", "must return a LossOutput of its loss, not Tensor"),
    "nothing": (LOSS + "        logprobs.sum()", "must return a LossOutput of its loss, not None"),
    "a loss that is a number": (LOSS + "        return LossOutput(loss=1.0)", "loss, a float tensor scalar = [], not"),
    "a loss of each token": (LOSS + "        return LossOutput(loss=logprobs)", "not one of shape [8, 3]"),
    "a whole loss": (LOSS + "        return LossOutput(loss=logprobs.long().sum())", "not one of int64"),
    "no number": (LOSS + "        return LossOutput(loss=logprobs.sum() * float('nan'))", "must return a finite loss"),
    "an infinite gradient": (
        LOSS + "        return LossOutput(loss=(logprobs - logprobs.detach()).clamp(min=0).sqrt().sum())",
        "the gradient of its loss is not finite",
    ),
    "a typo": (LOSS + "        return LossOutput(loss=logprobs.smu())", "failed: AttributeError: 'Tensor' object has"),
    "another shape": (
        LOSS + "        return LossOutput(loss=(logprobs * batch.advantages).sum())",
        "failed: RuntimeError: The size of tensor a (3) must match",
    ),
    "a missing argument": (
        OBJECTIVE + "    def loss(self, logprobs):\n        return 1",
        "takes 2 positional arguments",
    ),
    "a metric that is a number": (
        LOSS + "        return LossOutput(loss=logprobs.sum(), metrics={'margin': 1.0})",
        "metric 'margin' must be a Metric",
    ),
    "a metric of the loop": (
        LOSS + "        return LossOutput(loss=logprobs.sum(), metrics={'reward/mean': Metric.total(5.0)})",
        "a metric cannot be called 'reward/mean'",
    ),
    "the name of the loss": (
        LOSS + "        return LossOutput(loss=logprobs.sum(), metrics={'loss': Metric.total(5.0)})",
        "a metric cannot be called 'loss'",
    ),
    "advantages of groups": (
        OBJECTIVE + "    def advantages(self, rewards):\n        return rewards.mean(-1)",
        "must return advantages, a float tensor [B, G] = [2, 4], not one of shape [2]",
    ),
    "advantages in a list": (
        OBJECTIVE + "    def advantages(self, rewards):\n        return rewards.tolist()",
        "must return advantages, a float tensor [B, G] = [2, 4], not list",
    ),
    "whole advantages": (
        OBJECTIVE + "    def advantages(self, rewards):\n        return (rewards > 0.5).long()",
        "not one of int64",
    ),
    "advantages over nothing": (
        OBJECTIVE + "    def advantages(self, rewards):\n        return rewards / 0",
        "must return finite advantages, not nan",
    ),
    "kept weights": (
        OBJECTIVE + "    def kept(self, rewards, advantages):\n        return rewards",
        "must return kept, a bool tensor [B, G] = [2, 4], not one of float32",
    ),
    "nothing kept": (
        OBJECTIVE + "    def kept(self, rewards, advantages):\n        pass",
        "must return kept, a bool tensor [B, G] = [2, 4], not None",
    ),
    "scored samples": (
        OBJECTIVE + "    def scored(self, kept, advantages):\n        return kept.nonzero()",
        "must return scored, a bool tensor",
    ),
    "no loss": (FROM_BASE, "failed: NotImplementedError"),
    "terms that fail": (
        OBJECTIVE + "    @property\n    def terms(self):\n        return self.parts",
        "'Faulty' object has no attribute 'parts'",
    ),
    "a constructor that fails": (
        OBJECTIVE + "    def __post_init__(self):\n        {}['x']",
        "objective 'faulty' cannot be made: KeyError: 'x'",
    ),
}
PARTS = {
    "advantage": {
        "of groups": ("def faulty(rewards):\n    return rewards.mean(-1)", "not one of shape [2]"),
        "nothing": ("def faulty(rewards):\n    pass", "must return advantages, a float tensor"),
        "two arguments": ("def faulty(rewards, prompts):\n    return rewards", "missing 1 required positional"),
        "an index": ("def faulty(rewards):\n    return rewards[99]", "failed: IndexError"),
    },
    "keep": {
        "indices": ("def faulty(rewards, advantages):\n    return advantages.nonzero()", "must return kept, a bool"),
        "floats": ("def faulty(rewards, advantages):\n    return advantages", "not one of float32"),
        "one argument": (
            "def faulty(rewards):\n    return rewards > 0",
            "cannot be called with what it is given: faulty() takes 1",
        ),
    },
    "surrogate": {
        "one tensor": (
            "def faulty(logprobs, old, advantages, mask):\n    return logprobs",
            "must return the loss of each token and whether it is clipped, a pair of tensors [N, T], not Tensor",
        ),
        "means": (
            "def faulty(logprobs, old, advantages, mask):\n    return logprobs.mean(-1), mask",
            "must return losses, a float tensor [N, T]",
        ),
        "ratios as clipped": (
            "def faulty(logprobs, old, advantages, mask):\n    return logprobs, logprobs",
            "must return clipped, a bool tensor [N, T]",
        ),
        "detached": (
            "def faulty(logprobs, old, advantages, mask):\n    return logprobs.detach(), ~mask",
            "no gradient of its loss reaches",
        ),
    },
    "aggregate": {
        "rows": (
            "def faulty(losses, mask, counts):\n    return losses.sum(-1)",
            "must return loss, a float tensor scalar",
        ),
        "a number": ("def faulty(losses, mask, counts):\n    return losses.sum().item()", "not float"),
        "a count that is not there": (
            "def faulty(losses, mask, counts):\n    return losses.sum() / counts.rows",
            "'Counts' object has no attribute 'rows'",
        ),
    },
}
CONDITIONS = {
    "the last value": ("        return history[-1] > 0.5", "failed: IndexError"),
    "a value": ("        return len(history) * 0.5", "must return True or False of `met`, not float"),
    "nothing": ("        pass", "must return True or False of `met`, not None"),
    "a reason that fails": (
        "        return True\n    def finding(self, history):\n        return history[-1]",
        "failed: IndexError",
    ),
    "a reason that is no text": (
        "        return True\n    def finding(self, history):\n        return len(history)",
        "must return text of `finding`, not int",
    ),
}
MONITORS = {
    "a text": ("        return 'reward falls'", "must return an EarlyWarning, or None, not str"),
    "True": ("        return True", "must return an EarlyWarning, or None, not bool"),
    "the iteration before": ("        return history[-1]['reward/mean'] and None", "failed: IndexError"),
    "fields that are missing": ("        return EarlyWarning(metric='reward/mean')", "failed: TypeError"),
}


def a_part(kind, source):
    return f'@register("{kind}", "faulty")\n{source}\n'


CASES = [
    *((f"objective: {name}", source, ["objective=faulty"], said) for name, (source, said) in OBJECTIVES.items()),
    *(
        (f"{kind}: {name}", a_part(kind, source), [f"objective.{kind}=faulty"], said)
        for kind, parts in PARTS.items()
        for name, (source, said) in parts.items()
    ),
    *(
        (f"condition: {name}", CONDITION + source, ["+phase2=grpo", "phase2.start=faulty"], said)
        for name, (source, said) in CONDITIONS.items()
    ),
    *((f"monitor: {name}", MONITOR + source, [], said) for name, (source, said) in MONITORS.items()),
]


@pytest.fixture
def plugin(tmp_path, monkeypatch, own_registry):
    """Import a module of this text, whose parts are forgotten afterwards."""
    monkeypatch.setattr(registry.plugins, "_failed", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(text):
        (tmp_path / "faulty_plugin.py").write_text(HEAD + textwrap.dedent(text) + "\n")
        importlib.import_module("faulty_plugin")
        return tmp_path / "faulty_plugin.py"

    yield written
    sys.modules.pop("faulty_plugin", None)


def try_parts(words):
    """Try the parts that a command line chooses, without composing all of it."""
    for word in words:
        key, _, value = word.partition("=")
        spec = {"name": value} if key == "objective" else {"name": "grpo", key.rpartition(".")[2]: value}
        if key.startswith("objective"):
            objective = build("objective", spec)
            for _, term in blaming(lambda made=objective: made.terms, owner=objective):
                try_objective(term, 2, 4)
        elif key == "phase2.start":
            try_condition(build("condition", value))
    if not words:
        try_monitor(build("monitor", "faulty"))


@pytest.mark.parametrize(("source", "words", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_named_before_anything_is_loaded(source, words, said, plugin):
    file = plugin(source)
    with pytest.raises(DSRLError) as error:
        try_parts(words)
    message = str(error.value)
    assert said in message, message
    assert "'faulty'" in message and (str(file) in message or "cannot be made" in message), message
    assert len(message.splitlines()) < 8


@pytest.mark.parametrize(
    ("kind", "words", "key"),
    [
        ("objective: detached", ["objective=faulty"], "objective"),
        ("objective: a typo", ["objective=grpo", "+phase2=faulty"], "phase2.objective"),
        ("condition: nothing", ["+phase2=grpo", "phase2.start=faulty"], "phase2.start"),
        ("monitor: True", [], "monitors.faulty"),
    ],
)
def test_the_command_line_says_which_key_chose_it(kind, words, key, plugin):
    source, _, said = next(case[1:] for case in CASES if case[0] == kind)
    plugin(source)
    with pytest.raises(ConfigError) as error:
        compose(words)
    assert str(error.value).startswith(f"{key}: ") and said in str(error.value)


# While a run goes on


@dataclass
class Draws:
    """A sampler that draws two responses to each prompt, changed by a test."""

    change: Callable[[Rollouts], Any]

    def sample(self, prompts, params):
        mask = torch.tensor([[True, True], [True, False]] * len(prompts))
        good = Rollouts(
            prompts=prompts,
            tokens=mask.long() * 5,
            mask=mask,
            logprobs=-mask.float(),
            texts=["a"] * len(mask),
            finish_reasons=["stop"] * len(mask),
        )
        return self.change(good)


PROMPTS = [Prompt(position=position, text="q", token_ids=(1,)) for position in (0, 1)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda good: None, "must return Rollouts, not None"),
        (lambda good: replace(good, prompts=PROMPTS[::-1]), r"of prompts [1, 0], not of those that were asked, [0, 1]"),
        (lambda good: replace(good, prompts=good.prompts * 2), "are of prompts [0, 1, 0, 1]"),
        (lambda good: replace(good, tokens=good.tokens.int()), "tokens must be int64, not int32"),
        (lambda good: replace(good, tokens=good.tokens - 9), "token -4 is not among the model's"),
        (lambda good: replace(good, tokens=good.tokens.clamp(min=0) * 2**61), "is not among the model's"),
        (lambda good: replace(good, mask=good.mask.long()), "mask must be bool, not int64"),
        (
            lambda good: replace(good, mask=good.mask.flip(-1)),
            "mask must be true on the tokens of a response",
        ),
        (lambda good: replace(good, mask=good.mask & good.mask[:, 1:]), "response 1 has no token"),
        (lambda good: replace(good, logprobs=good.logprobs / 0), "the log-probability of a token is -inf"),
        (lambda good: replace(good, logprobs=-good.logprobs), "the log-probability of a token is 1.0"),
        (lambda good: replace(good, logprobs=good.logprobs.long()), "logprobs must be floating numbers, not int64"),
        (lambda good: replace(good, finish_reasons=["eos"] * 4), "finish_reasons hold 'eos'; allowed are stop, length"),
        (lambda good: replace(good, texts=[b"a"] * 4), "texts must hold text"),
    ],
)
def test_a_samplers_draws_are_checked(change, said):
    with pytest.raises(PartError) as error:
        draw(Draws(change), PROMPTS, SamplingParams(responses_per_prompt=2, max_new_tokens=4))
    assert said in str(error.value) and "Draws" in str(error.value) and __file__ in str(error.value)


def test_more_tokens_or_responses_than_were_asked_for_are_refused():
    for count, length, said in (
        (2, 1, "a response has 2 tokens, where at most 1"),
        (3, 4, "where 3 to each were asked"),
    ):
        with pytest.raises(PartError, match=said):
            draw(Draws(lambda good: good), PROMPTS, SamplingParams(responses_per_prompt=count, max_new_tokens=length))


@pytest.mark.parametrize("found", [None, "text", ["a"], [1.5], [-1], 7])
def test_a_space_gives_token_ids(found):
    rollouts = Draws(lambda good: good).sample(PROMPTS, None)
    with pytest.raises(PartError, match=r"space .* must return token ids, a sequence of whole numbers"):
        contexts_in(lambda prompt, encoder, rng: found, rollouts, None, seed=0, iteration=0)


@pytest.mark.parametrize("found", [None, torch.ones(3), torch.ones(2, dtype=torch.bool), [True] * 3])
def test_a_token_weight_says_of_each_token_whether_it_counts(found):
    @dataclass(kw_only=True)
    class Mine(TokenWeight):
        spaces = ("conditional",)

        def counts(self, logprobs, entropies):
            return found

    kept = torch.tensor([[True, True], [True, False]])
    with pytest.raises(PartError, match=r"Mine .* must return counts, a bool tensor \[M\] = \[3\], not"):
        choose_tokens(Mine(), kept, {"conditional": torch.zeros(2, 2, 1)})


@pytest.mark.parametrize(
    ("measured", "after", "said"),
    [
        (None, dict, "must return metrics, {name: Metric}, not None"),
        ({"a": 1.0}, dict, "metric 'a' must be a Metric"),
        ({}, None, "watch_step must return a function, not None"),
        ({}, lambda: 3, "must return metrics, {name: Metric}, not int"),
    ],
)
def test_a_probe_returns_metrics(measured, after, said, monkeypatch):
    monkeypatch.setattr("dsrl.parallel.sharding.drop_gradients", lambda model: None)

    class Mine(Probe):
        def measure(self, subject):
            return measured

        def watch_step(self, subject):
            return after

    subject = SimpleNamespace(scorer=SimpleNamespace(policy=SimpleNamespace(model=None)))
    with pytest.raises(PartError) as error:
        run_probe(Mine(), subject, Stopwatch())[1]()
    assert said in str(error.value) and "Mine" in str(error.value)


class Raises(L.Callback):
    """A callback with a bug in a helper."""

    def on_train_epoch_end(self, trainer, module):
        self.helper({})

    def helper(self, values):
        return values["reward"]


def test_a_callback_that_raises_is_named_with_its_lines_alone(fit):
    with pytest.raises(KeyError) as error:
        fit("iterations=1", "validation.every=0", callbacks=(Raises(),))
    first, *lines = str(blamed(error.value)).splitlines()
    assert first.startswith(f"callback Raises ({__file__}:") and first.endswith("failed: KeyError: 'reward'")
    assert [line.partition(" in ")[2] for line in lines][-2:] == [
        "on_train_epoch_end: self.helper({})",
        'helper: return values["reward"]',
    ]
    assert not any("lightning" in line for line in lines)


def test_a_part_whose_file_is_not_known_hides_nothing(plugin):
    plugin(LOSS + "        return logprobs.absent")
    typed = type("Typed", (), {"__module__": "typed_into_an_interpreter"})
    dsrl.register("verifier", "typed")(dataclass(typed))
    with pytest.raises(PartError, match=r"objective 'faulty' \(.*faulty_plugin.py:\d+\) failed: AttributeError"):
        try_parts(["objective=faulty"])


def test_an_error_of_dsrl_or_of_a_library_alone_is_nobodys():
    def raised(call):
        try:
            call()
        except Exception as error:
            return error.with_traceback(error.__traceback__.tb_next)  # without this frame, which is a test's

    own = raised(functools.partial(build, "objective", "grop"))
    assert blamed(own) is own
    assert blamed(raised(functools.partial(torch.ones(2).view, 3))) is None


def test_a_run_says_phase_and_iteration_and_leaves_the_exception_as_it_is(tmp_path, plugin):
    plugin(
        """
        @register("advantage", "faulty")
        def faulty(rewards):
            return {}["late"] if rewards.numel() > 8 else rewards - 0.5
        """
    )
    config = compose(["objective.advantage=faulty", "prompts_per_iteration=6", *QUICK, f"run_dir={tmp_path / 'run'}"])
    with pytest.raises(KeyError) as error:
        dsrl.fit(config)
    told = blamed(error.value)
    assert str(told).startswith("advantage 'faulty' (") and "failed: KeyError: 'late'" in str(told)
    assert told.__notes__ == ["in phase 1, iteration 0"]
