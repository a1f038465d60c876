"""Watched metrics that no iteration will have are refused before anything is loaded, with the nearest name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from dsrl.config.compose import compose
from dsrl.config.metric_names import is_known, metric_problems
from dsrl.config.schema import CheckpointConfig
from dsrl.errors import ConfigError
from dsrl.objectives import PolicyGradient

TWO = ("objective=nsr_prerl", "+phase2=grpo")


def watching(metric: str, *overrides: str):
    return compose([f"checkpoint.best={metric}", *TWO, *overrides])


@pytest.mark.parametrize(
    ("metric", "overrides", "said"),
    [
        ("reward/men", "", "there is no such metric. Did you mean 'reward/mean'?"),
        ("val/arithmetic/avg@8", "", "there is no such metric. Did you mean 'val/arithmetic/avg@4'?"),
        ("val/arithmetic/pass@5", "", "there is no such metric. Did you mean 'val/arithmetic/pass@"),
        ("val/arithmetik/avg@4", "", "there is no such metric. Did you mean 'val/arithmetic/avg@4'?"),
        ("val/arithmetic/avg@4", "validation.every=0", "it needs a validation, which has data.val"),
        ("val/arithmetic/avg@4", "data.val_size=0", "it needs a validation, which has data.val"),
        ("kl/initial", "", "it needs initial_kl.every of at least 1"),
        ("kl/mean", "", "there is no such metric."),
        ("thoughts/reflexion/share", "", "there is no such metric. Did you mean 'thoughts/reflection/share'?"),
        ("update/skipped", "", "it needs update.on_nonfinite=skip"),
        ("reward/failed", "", "there is no such metric."),
        ("reward/exakt", "verifier=composite verifier.components={exact:1}", "Did you mean 'reward/exact'?"),
        ("probe/alignment/known", "", "there is no such metric."),
        ("sync/gib", "", "it needs sampler=vllm"),
        ("iteration", "", "there is no such metric."),
    ],
)
def test_what_is_not_there_is_refused(metric, overrides, said):
    with pytest.raises(ConfigError) as refused:
        watching(metric, *overrides.split())
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"checkpoint.best={metric}: ") and said in line


@pytest.mark.parametrize(
    ("metric", "overrides"),
    [
        ("val/arithmetic/pass@2", ""),
        ("val/arithmetic/questions", ""),
        ("val/arithmetic/thoughts/reflection/right_with", ""),
        ("marginal/entropy", ""),
        ("conditional/entropy", ""),
        ("kl/initial", "initial_kl.every=2"),
        ("kl/mean", "phase2.objective.kl.coefficient=0.1"),
        ("NSRPreRL1/clip/fraction", "objective=mixed"),
        ("kept/tokens", "objective.token_weight=known"),
        ("dynamic_sampling/prompts", "dynamic_sampling=1"),
        ("reward/a/applicable", "verifier=composite verifier.components={a:{name:function,path:a.py:f}}"),
        ("reward/number", "verifier=auto"),
        ("probe/alignment/known", "+probe=alignment"),
        ("mismatch/mean", ""),
    ],
)
def test_what_some_iterations_have_may_be_watched(metric, overrides, monkeypatch):
    monkeypatch.setattr("dsrl.verifiers.Function.check", lambda verifier: [])
    assert watching(metric, *overrides.split()).checkpoint.best == metric


def test_a_phase_is_watched_by_what_the_one_before_measures():
    start = "phase2.start={name: threshold, above: 1, metric: %s}"
    compose([*TWO, start % "marginal/entropy"])
    with pytest.raises(
        ConfigError, match="phase2.start.metric=conditional/entropy: there is no such metric in phase 1."
    ):
        compose([*TWO, start % "conditional/entropy"])


def test_a_term_of_several_has_its_metrics_under_its_own_name():
    with pytest.raises(
        ConfigError, match="=clip/fraction: there is no such metric. Did you mean 'GRPO0/clip/fraction'"
    ):
        compose(["objective=mixed", "checkpoint.best=clip/fraction"])


@dataclass(kw_only=True)
class OwnLoss(PolicyGradient):
    def loss(self, logprobs, batch):
        return super().loss(logprobs, batch)


def test_metrics_of_plugins_are_taken_on_trust_unless_their_names_are_like_the_loops():
    config = compose(["objective=grpo"])
    phases = [replace(config.phases[0], objective=OwnLoss())]

    def problems(metric):
        return [*metric_problems(replace(config, phases=phases, checkpoint=CheckpointConfig(best=metric)))]

    assert problems("margin/mean") == [] and not is_known(config, "margin/mean")
    assert problems("reward/men") == [
        "checkpoint.best=reward/men: there is no such metric. Did you mean 'reward/mean'?"
    ]
    assert is_known(config, "group/length_correlation") and not is_known(config, "kl/initial")
