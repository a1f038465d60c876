"""The whole way, in small: what a run leaves behind, and what it never does."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsrl.config.compose import compose
from dsrl.errors import ConfigError, DSRLError
from dsrl.models.policy import Policy
from dsrl.registry import register
from dsrl.runs.fit import build_trainer
from dsrl.samplers.hf import HFSampler
from dsrl.verifiers import Verifier


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.policy.parameters()])


@register("verifier", "constant_test")
@dataclass(kw_only=True)
class ConstantVerifier:
    """The same reward for every response."""

    value: float = 0.0

    def score(self, rollouts):
        return torch.full((len(rollouts.prompts), rollouts.responses_per_prompt), self.value)


def test_two_phases_leave_a_complete_run_folder(fit, tmp_path):
    module = fit("objective=nsr_prerl", "+phase2=grpo", "phase2.start=2", "validation.every=3")
    folder = tmp_path / "run"
    every = lines(folder / "metrics.jsonl")
    iterations = [line for line in every if "reward/mean" in line]
    assert [(line["iteration"], line["phase"], line["objective"]) for line in iterations] == [
        (0, 1, "nsr_prerl"),
        (1, 1, "nsr_prerl"),
        (2, 2, "grpo"),
        (3, 2, "grpo"),
    ]
    needed = {"response/length_mean", "kept/fraction", "loss", "grad_norm", "time/iteration", "time/sample", "lr"}
    assert all(needed <= set(line) for line in iterations)
    # before any update, after 3, and after the last, whatever `every` says
    validations = [line for line in every if "reward/mean" not in line]
    assert [line["iteration"] for line in validations] == [-1, 2, 3]
    assert [line["iterations_done"] for line in validations] == [0, 3, 4]
    assert set(validations[0]) == {
        "iteration",
        "iterations_done",
        *(f"val/arithmetic/{m}" for m in ("avg@2", "pass@1", "pass@2", "questions")),
        *(key for key in validations[0] if key.startswith("val/arithmetic/thoughts/reflection/")),
    }
    assert "val/arithmetic/thoughts/reflection/per_answer" in validations[0]
    assert every[0] == validations[0]
    samples = lines(folder / "samples.jsonl")
    assert {"prompt", "response", "reward", "extracted_answer", "ground_truth"} <= set(samples[0])
    assert {line["iteration"] for line in samples if "phase" in line} == {0, 1, 2, 3}
    held_out = [(line["iteration"], line["question"], line["response_number"]) for line in samples if "set" in line]
    assert held_out == [(after, *place) for after in (-1, 2, 3) for place in itertools.product((0, 1, 3, 4), range(2))]
    assert OmegaConf.load(folder / "config.yaml").phase2.start == 2
    assert (folder / "checkpoints" / "handoff-phase2-iteration2.ckpt").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(folder / "hf")
    assert torch.equal(weights(module), weights(type("", (), {"policy": loaded})))
    assert AutoTokenizer.from_pretrained(folder / "hf")("1+1=").input_ids


def test_each_phase_runs_only_the_passes_that_its_objective_needs(fit, monkeypatch):
    seen: list[tuple[int, set[int], bool]] = []
    score = Policy.score

    def spy(self, contexts, *arguments, **layout):
        seen.append((len(contexts), {len(context) for context in contexts}, torch.is_grad_enabled()))
        return score(self, contexts, *arguments, **layout)

    monkeypatch.setattr(Policy, "score", spy)
    monkeypatch.setattr(Policy, "shares_contexts", True)  # else it is tried first
    module = fit("objective=nsr_prerl", "iterations=1", "validation.every=0", "logged_tokens=0")
    # one start token, no pass without gradient for old log-probabilities, and no row that is not kept
    assert all(contexts == {1} and graded for _, contexts, graded in seen)
    assert sum(rows for rows, _, _ in seen) == round(module.metrics["kept/fraction"] * 24) < 24
    seen.clear()
    other = f"run_dir={module.config.run_dir}-2"
    fit("objective=grpo", "iterations=1", "validation.every=0", "logged_tokens=0", other)
    assert all(contexts == {11} and graded for _, contexts, graded in seen)


def test_nothing_kept_takes_no_step_and_the_schedule_advances(fit):
    module = fit("verifier=constant_test", "objective=nsr_prerl", "optimizer.schedule=linear", "validation.every=0")
    fresh = build_trainer(compose(["run_dir=/nowhere-is-written", "logger=none"]))[1]
    fresh.trainer = module.trainer
    fresh.configure_model()
    assert torch.equal(weights(module), weights(fresh))
    assert module.trainer.global_step == 0
    metrics = module.metrics
    assert (metrics["loss"], metrics["grad_norm"], metrics["update/steps"], metrics["kept/fraction"]) == (0, 0, 0, 0)
    assert metrics["lr"] == pytest.approx(1e-4 * (1 - 3 / 4))


def test_signed_moves_the_weights_where_every_answer_is_wrong(fit):
    module = fit("verifier=constant_test", "objective=nsr_prerl", "objective.advantage=signed", "validation.every=0")
    assert module.trainer.global_step == 4
    assert module.metrics["kept/fraction"] == 1
    assert module.metrics["grad_norm"] > 0


def test_all_advantages_zero_but_kept_is_a_step_with_gradient_zero(fit):
    module = fit("verifier=constant_test", "objective=grpo", "validation.every=0", "iterations=1")
    assert module.trainer.global_step == 1
    assert (module.metrics["grad_norm"], module.metrics["scored/fraction"]) == (0, 0)


def test_adamw_is_fused_and_equals_the_plain_one(fit):
    module = fit("iterations=1", "validation.every=0", "optimizer.lr=1e-3")
    optimizer = module.configure_optimizers()
    assert optimizer.param_groups[0]["fused"]
    parameters = optimizer.param_groups[0]["params"]
    copies = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    plain = torch.optim.AdamW(copies, lr=1e-3, weight_decay=0.01, foreach=False, fused=False)
    generator = torch.Generator().manual_seed(0)
    before = weights(module)
    for _ in range(5):
        for parameter, its_copy in zip(parameters, copies, strict=True):
            parameter.grad = its_copy.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        plain.step()
    apart = weights(module) - torch.cat([parameter.detach().flatten() for parameter in copies])
    assert (weights(module) - before).abs().mean() > 1e-3 and apart.abs().max() < 1e-6


@pytest.mark.parametrize("devices", [("cpu",), ()], ids=["to fused", "from fused"])
def test_a_run_goes_on_with_another_implementation_of_adamw(fit, devices, monkeypatch, tmp_path):
    line = ("iterations=2", "validation.every=0", "optimizer.lr=1e-3", "sampling.max_new_tokens=16")
    whole = fit(*line, f"run_dir={tmp_path}/whole")
    monkeypatch.setattr("dsrl.loop.optimizer.FUSED_DEVICES", () if devices else ("cpu",))
    fit(*line, "iterations=1")
    monkeypatch.setattr("dsrl.loop.optimizer.FUSED_DEVICES", devices)
    module = fit(*line, "resume=last")
    (group,) = module.optimizers().param_groups
    assert bool(group["fused"]) == bool(devices)
    assert {float(state["step"]) for state in module.optimizers().state.values()} == {2.0}
    torch.testing.assert_close(weights(module), weights(whole), atol=1e-6, rtol=0)


def test_several_steps_on_one_batch(fit):
    module = fit("update.minibatches=2", "update.epochs=2", "iterations=1", "validation.every=0")
    assert module.trainer.global_step == 4
    assert module.metrics["update/steps"] == 4


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_pull_to_the_reference(fit, estimator):
    pull = ("objective.kl.coefficient=0.1", f"objective.kl.estimator={estimator}")
    module = fit(*pull, "iterations=3", "validation.every=0", "optimizer.lr=1e-3")
    assert module.metrics["kl/mean"] != 0
    assert not any(parameter.requires_grad for parameter in module.reference.parameters())


def test_kl_in_the_reward_is_a_mean_over_tokens_however_many_steps_follow(fit, monkeypatch, tmp_path):
    monkeypatch.setattr("dsrl.loop.scorer.k1", lambda policy, reference: torch.ones_like(policy) * 0.5)
    pull = ("objective.kl.coefficient=0.1", "objective.kl.estimator=k1", "iterations=1", "validation.every=0")
    means = [
        fit(*pull, f"update.minibatches={steps}", f"run_dir={tmp_path / str(steps)}").metrics["kl/mean"]
        for steps in (1, 2)
    ]
    assert means[0] == pytest.approx(means[1])


def test_a_validation_file_may_have_a_dot_in_its_name(fit, tmp_path):
    for name in ("train", "held.out"):
        (tmp_path / f"{name}.jsonl").write_text('{"question": "1111+2222=", "answer": "3333"}\n')
    files = (f"data.train={tmp_path}/train.jsonl", f"data.val={tmp_path}/held.out.jsonl")
    small = ("prompts_per_iteration=1", "iterations=1", "validation.k=2")
    module = fit("data=parquet", *files, *small)
    known = {key for key in module.validated if "/thoughts/" not in key}
    assert known == {f"val/held.out/{metric}" for metric in ("avg@2", "pass@1", "pass@2", "questions")}


def test_mixed_scores_both_spaces(fit):
    module = fit("objective=mixed", "iterations=1", "validation.every=0")
    assert module.metrics["grad_norm"] > 0
    assert [term.weight for term in module.experience.terms] == [1.0, 0.01]
    assert len(module.experience.views) == 2


def test_bf16_and_gradient_checkpointing(fit):
    both = ("trainer.precision=bf16-mixed", "model.gradient_checkpointing=true")
    module = fit(*both, "iterations=2", "validation.every=0")
    assert module.metrics["grad_norm"] > 0
    assert next(module.policy.parameters()).dtype == torch.float32


def test_a_reward_that_is_not_finite_ends_the_run(fit):
    with pytest.raises(DSRLError, match="not all finite"):
        fit("verifier=constant_test", "verifier.value=-1", "objective=grpo", callbacks=(_Spoil(),))


class _Spoil(__import__("lightning").Callback):
    def on_fit_start(self, trainer, pl_module):
        pl_module.verifier.value = float("nan")


@register("verifier", "uneven_test")
@dataclass(kw_only=True)
class UnevenVerifier(Verifier):
    """Right answers of a question: none, one or all, by the remainder of its ground truth."""

    def score(self, rollouts):
        rewards = torch.zeros(len(rollouts.prompts), rollouts.responses_per_prompt)
        for row, prompt in enumerate(rollouts.prompts):
            rewards[row, : (0, 1, rollouts.responses_per_prompt)[int(prompt.ground_truth) % 3]] = 1.0
        return rewards

    def score_with_components(self, rollouts):
        rewards = self.score(rollouts)
        return rewards, {"itself": rewards}


UNEVEN = ("verifier=uneven_test", "validation.every=0", "prompts_per_iteration=12", "sampling.max_new_tokens=8")


def test_groups_without_signal_are_refilled_up_to_a_bound(fit, tmp_path):
    def silent(module):
        return module.metrics["group/all_right"] + module.metrics["group/all_wrong"]

    modules = [
        fit(*UNEVEN, "iterations=1", f"dynamic_sampling={bound}", f"run_dir={tmp_path}/{bound}") for bound in (0, 1, 20)
    ]
    assert silent(modules[0]) > silent(modules[1]) > silent(modules[2]) == 0
    assert "dynamic_sampling/prompts" not in modules[0].metrics
    assert modules[1].metrics["dynamic_sampling/prompts"] == round(12 * silent(modules[0]))
    last = modules[2].experience
    assert modules[2].metrics["dynamic_sampling/prompts"] == sum(
        prompt.position // 12 for prompt in last.batch.rollouts.prompts
    )
    assert last.batch.rewards.sum(-1).tolist() == [1.0] * 12
    assert all(int(prompt.ground_truth) % 3 == 1 for prompt in last.batch.rollouts.prompts)
    for module in modules:  # components follow their groups
        assert module.metrics["reward/itself"] == pytest.approx(module.metrics["reward/mean"])
    # groups that had a signal are as they were
    for before, after in zip(modules[0].experience.batch.rollouts.prompts, last.batch.rollouts.prompts, strict=True):
        assert after == before or int(before.ground_truth) % 3 != 1


def test_tokens_of_replaced_groups_count_as_sampled(fit, monkeypatch):
    drawn, sample = [], HFSampler.sample

    def recording(self, prompts, params):
        rollouts = sample(self, prompts, params)
        drawn.append(int(rollouts.lengths.sum()))
        return rollouts

    monkeypatch.setattr(HFSampler, "sample", recording)
    module = fit(*UNEVEN, "iterations=1", "dynamic_sampling=1")
    assert len(drawn) == 2 and module.metrics["tokens/sampled"] == sum(drawn)


def test_a_curriculum_goes_on_after_a_resume(fit, tmp_path):
    line = (*UNEVEN, "curriculum.always_right=0", "curriculum.always_wrong=0", "data.train_size=40")
    whole = fit(*line, "iterations=6", f"run_dir={tmp_path}/whole")
    fit(*line, "iterations=3", f"run_dir={tmp_path}/parts")
    parts = fit(*line, "iterations=6", f"run_dir={tmp_path}/parts", "resume=last")
    assert torch.equal(weights(whole), weights(parts))
    timeless = [
        [
            {key: value for key, value in found.items() if not key.startswith(("time/", "throughput/"))}
            for found in lines(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1]
    first, *_, last = timeless[0]
    assert first["curriculum/passed_over"] == 0 < last["curriculum/passed_over"]
    assert last["curriculum/always_right"] + last["curriculum/always_wrong"] > 12
    assert first["group/all_wrong"] > 0 == last["group/all_wrong"] == last["group/all_right"]


@pytest.mark.parametrize("change", ["another answer", "another order", "a row less"])
def test_rows_that_have_changed_since_are_refused(change, fit, tmp_path):
    """Verdicts of a curriculum, and the place in the order, are of rows by their number."""
    rows = [json.dumps({"question": f"{i}000+1000=", "answer": f"{i + 1}000"}) for i in range(1, 5)]
    other = {
        "another answer": [*rows[:3], rows[3].replace("5", "6")],
        "another order": rows[::-1],
        "a row less": rows[1:],
    }
    path = tmp_path / "rows.jsonl"
    line = ("data=questions", f"data.train={path}", "resume=last")
    path.write_text("\n".join(rows))
    fit(*line, "iterations=1")
    path.write_text("\n".join(other[change]))
    with pytest.raises(ConfigError, match=r"data\.train holds other rows .*: \d rows \(hash .*\) now, 4 rows \(hash"):
        fit(*line, "iterations=2")
    path.write_text("\n".join(rows) + "\n")
    fit(*line, "iterations=2")
