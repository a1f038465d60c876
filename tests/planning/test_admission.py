"""The start of a run: refused where it cannot fit, `auto` becomes a number that stays, small runs are let through."""

import pytest
import torch
import transformers
import yaml

from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.loop.module import DSRLModule
from dsrl.planning import admission
from dsrl.planning.budget import largest_budget
from dsrl.planning.fake_iteration import NotPlannable
from dsrl.planning.memory import Memory
from dsrl.planning.plan import plan_of
from dsrl.planning.workload import Workload
from dsrl.runs.fit import fit
from dsrl.runs.start import start_of

TINY = (
    "iterations=1",
    "prompts_per_iteration=4",
    "responses_per_prompt=4",
    "sampling.max_new_tokens=8",
    "validation.every=0",
    "data.train_size=20",
    "logger=none",
    "trainer.accelerator=cpu",
)
LARGE = ("model=hf", "model.name=Qwen/Qwen3-8B", "trainer.accelerator=cpu", "prompts_per_iteration=8")


def test_a_run_that_cannot_fit_is_refused_before_it_loads(tmp_path):
    with pytest.raises(ConfigError) as refused:
        fit(compose([*LARGE, "plan.device_gib=24", "sampling.max_new_tokens=64", f"run_dir={tmp_path}/run"]))
    first, *rest = str(refused.value).splitlines()
    assert first.startswith("model.name=Qwen/Qwen3-8B: a rank needs 1")  # 16 bytes a parameter, and more
    assert "its device (cpu) has 24.0; `python -m dsrl.plan`" in first and "plan.refuse=false runs anyhow" in first
    assert any(line.startswith("  trainer=fsdp trainer.devices=8: about ") for line in rest)
    assert not (tmp_path / "run").exists()


def test_it_runs_anyhow_where_that_is_asked_for():
    admission.refuse_what_cannot_fit(compose([*LARGE, "plan.device_gib=24", "plan.refuse=false"]))


def test_a_small_run_is_not_planned(monkeypatch):
    monkeypatch.setattr(admission, "plan_of", lambda *_: pytest.fail("it was planned"))
    admission.refuse_what_cannot_fit(compose(["plan.device_gib=4"]))


def test_other_processes_of_a_node_leave_it_to_the_first(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    admission.refuse_what_cannot_fit(compose([*LARGE, "plan.device_gib=1"]))


@pytest.mark.parametrize(
    "words", [(), ("model=smollm2", "sampling.max_new_tokens=64"), ("objective.kl.coefficient=1",)]
)
def test_the_estimate_is_above_the_plan(words):
    config = compose([*TINY, *words, "plan.prompt_tokens=16", "update.micro_batch_tokens=1024"])
    plan = plan_of(config)
    assert admission.estimate_gib(config, plan.device) > plan.memory.without("keys_and_values").peak / 2**30


def test_keys_and_values_alone_refuse_nothing():
    words = [*TINY, "sampling.max_new_tokens=400", "responses_per_prompt=200", "plan.device_gib=0.9"]
    many = "sampler.max_batch_total_tokens=1000000"
    config = compose([*words, "update.micro_batch_tokens=512", "plan.prompt_tokens=1", many])
    assert plan_of(config).fits is False
    admission.refuse_what_cannot_fit(config)


def test_a_model_that_cannot_be_planned_runs(monkeypatch, caplog):
    def fails(*_):
        raise NotPlannable("its memory cannot be planned")

    monkeypatch.setattr(admission, "plan_of", fails)
    admission.refuse_what_cannot_fit(compose([*LARGE, "plan.device_gib=1"]))
    assert "(its memory cannot be planned); whether it fits is seen when it runs" in caplog.text


def test_auto_is_a_number_that_the_run_folder_and_a_resumed_run_have(tmp_path):
    words = [*TINY, "update.micro_batch_tokens=auto", "plan.prompt_tokens=16", f"run_dir={tmp_path}/run"]
    run = fit(compose([*words, "plan.device_gib=0.56"]))
    tokens = run.config.update.micro_batch_tokens
    assert run.config.resolved["update"]["micro_batch_tokens"] == tokens
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["update"]["micro_batch_tokens"] == tokens
    config, checkpoint = start_of(compose([*words, "iterations=2", "resume=last", "plan.device_gib=4"]))
    assert checkpoint is not None and config.update.micro_batch_tokens == tokens
    config, _ = start_of(compose([*words, "iterations=2", "resume=last", "update.micro_batch_tokens=77"]))
    assert config.update.micro_batch_tokens == 77


def planned(gib, rows=100, longest=10, token=1000):
    """The budget of a run whose update takes 2**30 bytes and so many more a token."""
    workload = Workload(
        ranks=1,
        prompts=rows,
        responses=1,
        prompt_tokens=1,
        response_tokens=longest - 1,
        micro_batch_tokens=1,
        rows_of_a_step=rows,
        steps=1,
        all_steps=1,
    )

    def peaks(tokens):
        return Memory(stages={"update": admission_counter(2**30 + token * tokens)})

    return largest_budget(peaks, workload, vocabulary=2**26, gib=gib)


def admission_counter(size):
    from collections import Counter

    return Counter(activations=size)


def test_the_largest_budget_by_hand():
    # 0.9 * 2 GiB less 1 GiB, over 2**20 bytes a token: 819.2; in steps of 256 tokens
    assert planned(2.0, token=2**20) == 768
    assert planned(2.0, token=1) == 1000  # all that there is
    assert planned(0.1) == 10  # a row is a pass, whatever the budget
    assert planned(2.0, rows=1) == 10


def test_the_plan_of_auto_fits_what_auto_fills():
    plan = plan_of(
        compose([*TINY, "update.micro_batch_tokens=auto", "plan.prompt_tokens=16", "responses_per_prompt=400"]),
        device=type("Small", (), {"kind": "cpu", "gib": 0.6}),
    )
    filled = plan.memory.stages["update"].total() / 2**30
    assert 0.85 * 0.6 < filled <= 0.91 * 0.6


def test_ranks_that_came_to_different_numbers(monkeypatch):
    monkeypatch.setattr(admission, "gather", lambda tokens: [tokens, 512, tokens])
    with pytest.raises(ConfigError, match=r"came to 512 to 768; give the smallest, update.micro_batch_tokens=512"):
        admission.SameBudget(768).setup(None, None, "fit")
    admission.SameBudget(512).setup(None, None, "fit")


def test_nothing_is_left_of_a_plan_of_several_ranks():
    plan_of(compose([*TINY, "trainer=fsdp", "trainer.devices=2"]))
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
        ("OPTConfig", {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2}),
    ],
)
def test_models_of_other_shapes_are_let_through(kind, size, tmp_path, caplog):
    getattr(transformers, kind)(vocab_size=64, **size, architectures=["x"]).save_pretrained(tmp_path)
    config = compose([*TINY, "model=hf", f"model.name={tmp_path}", "plan.device_gib=4"])
    admission.refuse_what_cannot_fit(config)
    assert "cannot be planned" not in caplog.text
    assert plan_of(config).peak_gib < 1


def test_a_plan_that_fails_ends_no_run(monkeypatch, caplog):
    monkeypatch.setattr(admission, "estimate_gib", lambda *_: 1 / 0)
    admission.refuse_what_cannot_fit(compose([*TINY]))
    assert "cannot be planned (division by zero)" in caplog.text


def test_auto_is_no_number_outside_of_fit():
    with pytest.raises(ConfigError, match="micro_batch_tokens=auto"):
        DSRLModule(compose([*TINY, "update.micro_batch_tokens=auto"]))
