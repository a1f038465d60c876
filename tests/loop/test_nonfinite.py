"""A gradient that is not finite: the cause is named, and a run stops or leaves the step out, as it is told."""

import json
from dataclasses import dataclass

import lightning as L
import pytest
import torch

from dsrl import register
from dsrl.errors import DSRLError
from dsrl.loop.micro_batches import optimizer_steps
from dsrl.loop.nonfinite import suspects
from dsrl.objectives import PolicyGradient
from dsrl.types import LossOutput

QUICK = ("validation.every=0", "iterations=3", "checkpoint.every=1", "checkpoint.keep=10")


pytestmark = pytest.mark.usefixtures("own_registry")


class Poison(L.Callback):
    """Makes a weight NaN before the updates of some iterations, and sound again after them."""

    def __init__(self, iterations):
        self.iterations, self.sound = iterations, None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        weight = module.policy.model.model.norm.weight
        if module.iteration in self.iterations:
            self.sound = weight.data.clone()
            original = module.scorer.score

            def score(*arguments):
                module.scorer.score = original
                found = original(*arguments)
                weight.data[0] = float("nan")
                return found

            module.scorer.score = score

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.sound is not None:
            module.policy.model.model.norm.weight.data.copy_(self.sound)
            self.sound = None


def test_the_response_whose_log_probability_is_no_number_is_named(fit):
    with pytest.raises(DSRLError) as error:
        fit(*QUICK, "objective=grpo", callbacks=(Poison({1}),))
    message = str(error.value)
    assert message.startswith("phase 1, iteration 1: the gradient is not finite (norm nan), and no step was taken; ")
    assert "in space conditional, a log-probability is nan in response " in message and "of rank 0" in message
    assert "What to do: lower optimizer.lr" in message


def test_the_objective_whose_loss_has_no_slope_is_named(fit):
    @register("objective", "broken")
    @dataclass(kw_only=True)
    class Broken(PolicyGradient):
        def loss(self, logprobs, batch):
            found = super().loss(logprobs, batch)
            if logprobs.shape[0] <= 8:  # as in the dry run
                return found
            return LossOutput(loss=found.loss + (logprobs[-1, 0] - logprobs[-1, 0].detach()).sqrt())

    with pytest.raises(DSRLError, match="the loss of objective Broken has no finite slope in response"):
        fit(*QUICK, "objective=broken", "update.share_prompts=false")


def test_steps_are_left_out_and_counted_and_the_run_goes_on(fit, tmp_path):
    module = fit(*QUICK, "objective=grpo", "update.on_nonfinite=skip", callbacks=(Poison({1}),))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update/skipped"] for line in lines] == [0, 1, 0]
    assert [line["update/steps"] for line in lines] == [1, 0, 1]
    assert all(tensor.isfinite().all() for tensor in module.policy.parameters())


def test_too_many_in_a_row_end_the_run_also_after_a_resume(fit):
    settings = (*QUICK, "objective=grpo", "update.on_nonfinite=skip", "update.max_skipped=1")
    with pytest.raises(DSRLError, match="update.max_skipped=1 steps in a row were left out before"):
        fit(*settings, callbacks=(Poison({1, 2}),))
    with pytest.raises(DSRLError, match="update.max_skipped=1 steps in a row were left out before"):
        fit(*settings, "resume=last", callbacks=(Poison({2}),))


def test_where_all_is_finite_the_steepest_loss_is_named(fit):
    module = fit(*QUICK, "objective=grpo")
    (step,) = optimizer_steps(module.experience, minibatches=1, epochs=1, layout=module.scorer.layout)
    batch = step.micro_batches[0]
    with torch.no_grad():
        logprobs = module.scorer.score_tokens(batch).logprobs
    found = list(suspects(batch, logprobs, step.counts, module.encoder.tokenizer))
    assert [suspect.certain for suspect in found] == [False] and "is steepest" in found[0].text
