"""What a run computes on, and in which precision, on machines that are not there."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from dsrl.config.compose import compose
from dsrl.config.schema import CheckpointConfig, TrainerConfig
from dsrl.devices import described_precision, device_type, precision_of
from dsrl.parallel.choose import lightning_precision, strategy_for
from dsrl.parallel.fsdp import FSDP2
from dsrl.runs.fit import fit as run
from dsrl.samplers import HFSampler


@pytest.fixture
def machine(monkeypatch):
    """Make torch find a device of a type, None for a CPU alone, with or without bfloat16 of its own."""

    def make(kind, bfloat16=True):
        found = kind and torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: found)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16 or including_emulation
        )

    return make


@pytest.mark.parametrize(
    ("kind", "bfloat16", "accelerator", "device", "precision"),
    [
        (None, False, "auto", "cpu", "32-true"),
        ("cuda", True, "auto", "cuda", "bf16-mixed"),
        ("cuda", True, "gpu", "cuda", "bf16-mixed"),
        ("cuda", True, "cpu", "cpu", "32-true"),
        ("cuda", False, "auto", "cuda", "32-true"),  # emulated, which is slower than float32
        ("mps", True, "auto", "mps", "32-true"),
    ],
)
def test_auto_is_what_the_machine_can(kind, bfloat16, accelerator, device, precision, machine):
    machine(kind, bfloat16)
    trainer = TrainerConfig(accelerator=accelerator)
    assert (device_type(accelerator), precision_of(trainer), lightning_precision(trainer)) == (
        device,
        precision,
        precision,
    )
    assert strategy_for(trainer, CheckpointConfig()).root_device == torch.device(device, *[0] * (device != "cpu"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_what_is_given_stays(precision, machine):
    for kind in (None, "cuda"):
        machine(kind)
        assert precision_of(TrainerConfig(precision=precision)) == precision


def test_float32_on_a_gpu_says_whether_it_is_tf32(machine):
    machine("cuda")
    assert described_precision(TrainerConfig(precision="32-true")) == "32-true (TF32 off)"
    assert described_precision(TrainerConfig()) == "bf16-mixed"
    torch.set_float32_matmul_precision("high")
    try:
        assert described_precision(TrainerConfig(precision="32-true")) == "32-true (TF32 on)"
        machine(None)
        assert described_precision(TrainerConfig(precision="32-true")) == "32-true"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_fsdp_casts_by_itself_as_resolved(machine):
    trainer = TrainerConfig(strategy="fsdp")
    for kind, compute in ((None, None), ("cuda", torch.bfloat16)):
        machine(kind)
        assert strategy_for(trainer, CheckpointConfig()).mixed_precision.param_dtype == compute
        assert lightning_precision(trainer) == "32-true"


def test_a_sampler_in_float32_is_exact_where_the_trainer_is(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(HFSampler, "compute_dtype", "float32")
    config = compose([f"run_dir={tmp_path}/run"])
    assert (config.trainer.precision, config.resolved["trainer"]["precision"]) == ("auto", "auto")
    assert config.exact
    machine("cuda")
    assert not config.exact


def test_a_run_says_in_which_precision_it_computes(tmp_path, capsys):
    small = ("prompts_per_iteration=2", "responses_per_prompt=2", "sampling.max_new_tokens=8", "validation.every=0")
    line = [*small, "data.train_size=20", "logger=none", "trainer.accelerator=cpu", f"run_dir={tmp_path}/run"]
    run(compose([*line, "iterations=1"]))
    assert "parameters) on cpu in 32-true, 1 iterations" in capsys.readouterr().out.replace("\n", " ")
    run(compose([*line, "iterations=2", "resume=last"]))
    assert "goes on in" not in capsys.readouterr().out
    run(compose([*line, "iterations=3", "resume=last", "trainer.precision=bf16-mixed"]))
    shown = capsys.readouterr().out
    assert "it goes on in bf16-mixed; the checkpoint was written by a run in 32-true" in shown


def test_both_phases_run_with_deterministic_kernels_alone(tmp_path):
    small = ("prompts_per_iteration=4", "responses_per_prompt=4", "sampling.max_new_tokens=24", "validation.every=0")
    phases = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=1", "phase2.objective.kl.coefficient=0.1")
    words = [*small, *phases, "sampling.top_p=0.9", "logger=none", "trainer.accelerator=cpu", "iterations=2"]
    try:
        runs = [run(compose([*words, "trainer.deterministic=true", f"run_dir={tmp_path}/{n}"])) for n in (1, 2)]
    finally:
        torch.use_deterministic_algorithms(False)
    one, two = (
        [{k: v for k, v in row.items() if not k.startswith(("time/", "throughput/"))} for row in made.metrics]
        for made in runs
    )
    assert one == two


def test_a_run_in_bfloat16_alone(tmp_path):
    """Its batches are prompts, which no precision may convert."""
    line = (
        "objective=grpo",
        "iterations=1",
        "prompts_per_iteration=4",
        "sampling.max_new_tokens=8",
        "validation.every=0",
    )
    run(compose([*line, "trainer.accelerator=cpu", "trainer.precision=bf16-true", f"run_dir={tmp_path}/run"]))
    assert (tmp_path / "run" / "hf").is_dir()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "fsdp1"])
def test_process_groups_take_tensors_of_the_cpu_and_of_the_gpu(strategy, machine):
    trainer = TrainerConfig(strategy=strategy, devices=2)
    machine("cuda")
    assert strategy_for(trainer, CheckpointConfig()).process_group_backend == "cpu:gloo,cuda:nccl"
    machine(None)
    assert strategy_for(trainer, CheckpointConfig()).process_group_backend == "gloo"


def test_a_collective_waits_longer_than_the_watchdog(machine):
    machine(None)
    strategy = strategy_for(TrainerConfig(strategy="ddp", devices=2, timeout=600.0), CheckpointConfig())
    assert strategy._timeout.total_seconds() == 750.0


@pytest.mark.parametrize(
    ("strategy", "sharded", "parts"),
    [("auto", None, False), ("ddp", None, False), ("fsdp", None, True), ("fsdp1", None, True), ("fsdp", False, False)],
)
def test_checkpoints_are_in_parts_where_ranks_hold_parts(strategy, sharded, parts, machine):
    machine(None)
    chosen = strategy_for(TrainerConfig(strategy=strategy, devices=2), CheckpointConfig(sharded=sharded))
    assert chosen.save_parts == parts


def test_offloaded_parts_stay_on_the_cpu_and_buffers_do_not(machine, monkeypatch):
    machine("cuda")
    moved = []
    monkeypatch.setattr(FSDP2, "root_device", torch.device("meta"))  # in the place of a GPU
    monkeypatch.setattr(ModelParallelStrategy, "model_to_device", lambda strategy: moved.append(strategy))
    for offload, device in ((True, "cpu"), (False, "meta")):
        strategy = strategy_for(TrainerConfig(strategy="fsdp", cpu_offload=offload), CheckpointConfig())
        strategy._model = torch.nn.BatchNorm1d(3)
        assert strategy.device_of_parts == torch.device(device)
        strategy.model_to_device()
        assert moved == ([] if offload else [strategy])
        assert {weight.device.type for weight in strategy.model.parameters()} == {"cpu"}
        assert {buffer.device.type for buffer in strategy.model.buffers()} == {"meta" if offload else "cpu"}
