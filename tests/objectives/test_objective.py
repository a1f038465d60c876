"""The base class, and what a plugin's author does with it and with PolicyGradient."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from dsrl import build, register
from dsrl.errors import ConfigError, DSRLError
from dsrl.objectives import Objective, PolicyGradient
from dsrl.objectives.presets import GRPO, NSRPreRL
from dsrl.types import Counts, LossBatch, LossOutput, Metric

REWARDS = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)


pytestmark = pytest.mark.usefixtures("own_registry")


def undivided(objective, logprobs, rewards=REWARDS):
    advantages = objective.advantages(rewards)
    kept = objective.kept(rewards, advantages).flatten()
    mask = torch.ones(logprobs.shape, dtype=torch.bool) & kept[:, None]
    counts = Counts.of(mask[kept])
    batch = LossBatch(old_logprobs=logprobs.detach().clone(), mask=mask, advantages=advantages.flatten(), counts=counts)
    return objective.loss(logprobs, batch)


def scored(objective):
    advantages = objective.advantages(REWARDS)
    return objective.scored(objective.kept(REWARDS, advantages), advantages).tolist()


def test_an_objective_from_the_base_class():
    @register("objective", "likelihood")
    @dataclass(kw_only=True)
    class Likelihood(Objective):
        space: Any = "marginal"

        def advantages(self, rewards):
            return rewards * 0

        def loss(self, logprobs, batch):
            return LossOutput(loss=-self.coefficient * logprobs.sum() / batch.counts.tokens)

    objective = build("objective", "likelihood", coefficient=2.0)
    assert objective.terms == [(1.0, objective)]
    assert (objective.space, objective.reward_kl) == ("marginal", None)
    assert (objective.needs_old_logprobs, objective.needs_reference) == (True, False)
    assert scored(objective) == [[True, True], [True, True]]  # advantage 0, yet its loss is its own affair
    assert undivided(objective, torch.full((4, 3), -1.5, dtype=torch.float64)).loss.item() == 3.0


def test_the_base_class_alone_computes_nothing():
    with pytest.raises(NotImplementedError):
        Objective().advantages(REWARDS)
    with pytest.raises(NotImplementedError):
        undivided(Objective.__new__(type("Half", (Objective,), {"advantages": lambda self, r: r})), torch.zeros(4, 1))


def test_changing_one_default():
    @register("objective", "of_this_test")
    @dataclass(kw_only=True)
    class Mine(GRPO):
        space: str = "marginal"

    objective = build("objective", "of_this_test")
    assert (objective.space, objective.advantage, objective.keep) == ("marginal", "group_norm", "all")
    assert build("objective", {"name": "of_this_test", "space": "conditional"}).space == "conditional"
    with pytest.raises(ConfigError, match="objective 'of_this_test' has no parameter 'spcae'.*Did you mean 'space'"):
        build("objective", {"name": "of_this_test", "spcae": "marginal"})


def test_changing_one_method_and_using_super():
    @register("objective", "confident")
    @dataclass(kw_only=True)
    class Confident(NSRPreRL):
        threshold: float = -1.0

        def __post_init__(self):
            super().__post_init__()
            if self.threshold >= 0:
                raise ConfigError(f"threshold must be below 0, not {self.threshold}")

        def kept(self, rewards, advantages):
            return super().kept(rewards, advantages) & (rewards < 0.5)

        def loss(self, logprobs, batch):
            out = super().loss(logprobs, batch)
            extra = Metric.mean(logprobs < self.threshold, batch.mask)
            return LossOutput(loss=2 * out.loss, metrics={**out.metrics, "mine/low": extra})

    logprobs = torch.tensor([[-2.0], [-2.0], [-2.0], [-2.0]], dtype=torch.float64)
    objective = build("objective", "confident")
    out = undivided(objective, logprobs)
    assert out.loss.item() == 2 * undivided(build("objective", "nsr_prerl"), logprobs).loss.item() == 1.0
    low = out.metrics["mine/low"]
    assert (float(low.sum) / int(low.count), set(out.metrics)) == (1.0, {"clip/fraction", "mine/low"})
    with pytest.raises(ConfigError, match="threshold must be below 0, not 1.0"):
        build("objective", "confident", threshold=1)


def test_a_loss_of_ones_own_scores_all_kept():
    """It may want those without advantage, as this entropy-like bonus does; PolicyGradient's own loss does not."""

    @dataclass(kw_only=True)
    class Bonus(PolicyGradient):
        def loss(self, logprobs, batch):
            out = super().loss(logprobs, batch)
            return LossOutput(loss=out.loss + (logprobs * batch.mask).sum() / batch.counts.tokens)

    @dataclass(kw_only=True)
    class OtherAdvantage(PolicyGradient):
        def advantages(self, rewards):
            return super().advantages(rewards) * 2

    assert scored(PolicyGradient()) == [[True, True], [False, False]]
    assert scored(OtherAdvantage()) == [[True, True], [False, False]]
    assert scored(Bonus()) == [[True, True], [True, True]]
    assert scored(Bonus(keep="negative")) == [[False, True], [False, False]]


def test_a_subclass_of_a_loss_of_ones_own_inherits_what_it_scores():
    @dataclass(kw_only=True)
    class Bonus(PolicyGradient):
        def loss(self, logprobs, batch):
            return LossOutput(loss=logprobs.sum())

    @dataclass(kw_only=True)
    class Again(Bonus):
        keep: Any = "all"

    assert scored(Again()) == [[True, True], [True, True]]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("surrogate", "ppo_clp", "unknown surrogate 'ppo_clp'.*Did you mean 'ppo_clip'"),
        ("keep", "negatives", "unknown keep 'negatives'.*Did you mean 'negative'"),
        ("aggregate", "tokenmean", "unknown aggregate 'tokenmean'.*Did you mean 'token_mean'"),
        ("advantage", "group_cente", "unknown advantage .*Did you mean 'group_center'"),
        ("space", "marginale", "unknown space 'marginale'.*Did you mean 'marginal'"),
        ("kl", {"space": "margin"}, "unknown space 'margin'.*Did you mean 'marginal'"),
        ("surrogate", {"name": "ppo_clip", "clip_hi": 0.3}, "surrogate 'ppo_clip' has no parameter 'clip_hi'"),
        ("surrogate", {"name": "ppo_clip", "clip_high": "wide"}, "clip_high='wide' is not of type float"),
        ("surrogate", {"clip_high": 0.3}, "has no name; write {name: ..., parameter: value}"),
        ("keep", None, "keep must be a name or {name: ..., parameter: value}, not None"),
        ("coefficient", "small", "objective 'grpo': coefficient='small' is not of type float"),
    ],
)
def test_a_misspelt_part_is_refused_when_the_objective_is_built(field, value, message):
    with pytest.raises(ConfigError, match=message):
        build("objective", "grpo", **{field: value})


def test_objectives_take_keywords_only():
    with pytest.raises(TypeError):
        GRPO(0.01)


def test_objectives_compare_by_value():
    assert build("objective", "dapo") == build("objective", "dapo")
    assert build("objective", "dapo") != build("objective", "dapo", coefficient=0.5)


def test_a_metric_that_is_no_sum_and_count_is_refused():
    """A plain number would depend on how the batch is cut into micro-batches."""
    with pytest.raises(DSRLError, match="metric 'mine/low' must be a Metric.*not Tensor"):
        LossOutput(loss=torch.zeros(()), metrics={"mine/low": torch.zeros(())})


def test_a_loss_of_ones_own_scores_what_has_no_advantage_unless_it_says_otherwise():
    kept, advantages = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.0, 1.0]])

    class Own(PolicyGradient):
        def loss(self, logprobs, batch):
            return super().loss(logprobs, batch)

    class Declared(Own):
        skips_zero_advantages = True

        def loss(self, logprobs, batch):
            return super().loss(logprobs, batch)

    class Narrower(PolicyGradient):
        def advantages(self, rewards):
            return super().advantages(rewards) * 2

    assert Own().scored(kept, advantages).tolist() == [[True, True]]
    assert Declared().scored(kept, advantages).tolist() == [[False, True]]
    assert PolicyGradient().scored(kept, advantages).tolist() == [[False, True]]
    assert Narrower().scored(kept, advantages).tolist() == [[False, True]]
