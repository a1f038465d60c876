"""A plan of the embedded model against what is known by hand, on any number of ranks; the command; its errors."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import dsrl.plan
from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.planning.device import Device
from dsrl.planning.plan import plan_of

ROOT = Path(__file__).parents[2]
SIZES = (
    "prompts_per_iteration=8",
    "responses_per_prompt=2",
    "plan.prompt_tokens=16",
    "sampling.max_new_tokens=16",
    "update.micro_batch_tokens=128",
)
PARAMETERS = 505_216
KEYS = {
    *("model", "parameters", "strategy", "ranks", "peak_gib", "peak_at", "parts", "stages", "device", "device_gib"),
    *("fits", "micro_batch_tokens", "prompt_tokens", "response_tokens", "tokens", "flops", "phases"),
    *("sync_gib", "sync_seconds", "checkpoint_gib", "checkpoint_seconds", "remedies"),
}


def test_one_process():
    plan = plan_of(compose([*SIZES, "trainer.accelerator=cpu"]))
    update, step = plan.memory.stages["update"], plan.memory.stages["optimizer_step"]
    assert update["weights"] - 4 * PARAMETERS == 2 * 16 * 4  # rotary frequencies of half a head, and their copy
    assert update["gradients"] == 4 * PARAMETERS
    assert update["moments"] == step["moments"] == 2 * 4 * PARAMETERS
    assert update["communication"] == update["reference"] == update["engine"] == 0
    assert plan.memory.stages["sampling"]["keys_and_values"] == pytest.approx(
        # 16 rows of 32 tokens, keys and values of 3 layers; one buffer of a layer moves
        16 * 128 * 4 * (2 * 3 * 32 + 32)
    )


def test_a_reference_and_a_single_step():
    kl = "objective.kl.coefficient=0.1"
    plan = plan_of(compose([*SIZES, "iterations=1", kl]))
    assert plan.memory.stages["scoring"]["reference"] == pytest.approx(4 * PARAMETERS, rel=0.01)
    both = plan_of(compose([*SIZES, kl, "+phase2=grpo", "phase2.start=1", "initial_kl.every=1"]))
    assert both.memory.stages["scoring"]["reference"] == pytest.approx(8 * PARAMETERS, rel=0.01)
    assert plan.memory.stages["update"]["moments"] == 0  # the first step, which makes them, is the last
    assert plan.memory.stages["optimizer_step"]["moments"] == 8 * PARAMETERS


def test_ddp_has_buckets_and_adapters_have_few_gradients():
    pytest.importorskip("peft")
    plan = plan_of(compose([*SIZES, "trainer=ddp", "model.lora.rank=2"]))
    adapters = 3 * 2 * (4 * (128 + 128) + 3 * (128 + 256))
    update = plan.memory.stages["update"]
    assert update["gradients"] == update["communication"] == update["moments"] / 2 == 4 * adapters
    assert update["weights"] == pytest.approx(4 * (PARAMETERS + adapters), rel=0.01)


def test_checkpointing_and_smaller_passes_take_less():
    whole = plan_of(compose([*SIZES, "update.micro_batch_tokens=512"])).memory.stages["update"]["activations"]
    kept = plan_of(compose([*SIZES, "update.micro_batch_tokens=512", "model.gradient_checkpointing=true"]))
    fewer = plan_of(compose([*SIZES, "update.micro_batch_tokens=256"]))
    assert kept.memory.stages["update"]["activations"] < 0.6 * whole
    assert fewer.memory.stages["update"]["activations"] == pytest.approx(whole / 2, rel=0.05)


def test_offloaded_inputs_of_blocks_take_nothing_of_a_gpu(monkeypatch):
    monkeypatch.setattr("dsrl.models.offloading.SMALLEST", 1)
    long = ["sampling.max_new_tokens=240", "update.micro_batch_tokens=2048", "model.gradient_checkpointing=true"]
    sizes = [*SIZES, *long, "trainer.precision=32-true"]
    offloaded = [*sizes, "model.activation_offloading=true"]
    plans = [plan_of(compose(words), Device(kind="gpu", gib=80.0)) for words in (sizes, offloaded)]
    kept, without = (plan.memory.stages["update"]["activations"] for plan in plans)
    others = plans[0].shapes.layers - 1  # the input of the block that is computed again is there
    assert kept - without > 0.5 * others * 2048 * plans[0].shapes.hidden * 4
    on_cpu = plan_of(compose(offloaded), Device(kind="cpu", gib=80.0))
    assert on_cpu.memory.stages["update"]["activations"] == kept


def test_ranks_in_a_process_of_their_own():
    code = """
import json, sys
from dsrl.config.compose import compose
from dsrl.planning.plan import plan_of
nodes = ("trainer.devices=2", "trainer.num_nodes=4", "trainer.shard_within=node")
for ranks in (("trainer.devices=1",), ("trainer.devices=2",), ("trainer.devices=8",), nodes):
    config = compose([*sys.argv[1:], "trainer=fsdp", *ranks, "trainer.precision=bf16-mixed"])
    print(json.dumps({name: dict(parts) for name, parts in plan_of(config).memory.stages.items()}))
"""
    done = subprocess.run([sys.executable, "-c", code, *SIZES], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    plans = [json.loads(line) for line in done.stdout.splitlines()]
    for ranks, stages in zip((1, 2, 8, 2), plans, strict=True):  # in the last, each of four nodes has a copy
        update = stages["update"]
        assert update["moments"] == pytest.approx(2 * 4 * PARAMETERS / ranks, rel=0.03)  # of 100 rows, rank 0 has 13
        assert update["weights"] == pytest.approx(4 * PARAMETERS / ranks, rel=0.04)
        assert stages["optimizer_step"]["gradients"] == pytest.approx(4 * PARAMETERS / ranks, rel=0.04)
        assert update["sampler"] == pytest.approx(2 * PARAMETERS, rel=0.01)  # in full on every rank, in bf16
        largest = 2 * 4 * PARAMETERS  # a block in bf16, its gradient in float32, and copies of both
        assert 0 < update["communication"] < largest


def test_vllm_has_its_share_while_it_is_awake():
    words = [*SIZES, "sampler=vllm", "plan.device_gib=80"]
    try:
        config = compose(words)
    except ConfigError as error:
        pytest.skip(str(error))
    stages = plan_of(config).memory.stages
    assert stages["sampling"]["engine"] == int(0.4 * 80 * 2**30)
    assert stages["update"]["engine"] == 0


def test_what_a_script_reads(capsys):
    dsrl.plan.run([*SIZES, "+phase2=grpo", "objective=nsr_prerl", "json=true", "plan.device_gib=0.001"], Console())
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == KEYS
    assert sum(found["parts"].values()) == pytest.approx(found["peak_gib"], abs=1e-3)
    assert found["stages"][found["peak_at"]] == max(found["stages"].values()) == found["peak_gib"]
    assert (found["fits"], found["device"], found["parameters"]) == (False, "gpu", PARAMETERS)
    assert found["tokens"] == sum(found["phases"][1]["tokens"].values())
    assert [phase["objective"] for phase in found["phases"]] == ["nsr_prerl", "grpo"]


def test_no_device(capsys, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    dsrl.plan.run([*SIZES, "trainer.accelerator=gpu", "json=true"], Console())
    found = json.loads(capsys.readouterr().out)
    assert (found["fits"], found["device_gib"]) == (None, None)
    with pytest.raises(ConfigError, match="micro_batch_tokens=auto: no device is found here; give plan.device_gib=GIB"):
        dsrl.plan.run([*SIZES, "trainer.accelerator=gpu", "update.micro_batch_tokens=auto"], Console())


def test_what_people_read():
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    dsrl.plan.run([*SIZES, "plan.device_gib=0.5"], console)
    text = console.export_text()
    assert "does not fit 0.5 GiB (gpu)" in text
    assert "keys_and_values" in text and "model.gradient_checkpointing=true" not in text  # the process alone is larger
    assert "Prompts of 16 tokens, responses as long as may be" in text


def test_the_papers_recipe_needs_no_data():
    config = dsrl.plan.compose_to_plan(["experiment=paper_qwen3_4b"])
    assert config.data.max_prompt_tokens == 1024
    with pytest.raises(ConfigError, match=r"missing.jsonl: no such file"):
        dsrl.plan.compose_to_plan(["experiment=paper_qwen3_4b", "data.train=missing.jsonl"])


def test_a_machine_without_vllm_or_a_gpu_plans_for_another(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else found(name, *rest))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = [*SIZES, "sampler=vllm", "sampler.sleep_level=2", "trainer=fsdp", "trainer.cpu_offload=true"]
    plan = plan_of(dsrl.plan.compose_to_plan(words), Device(kind="gpu", gib=80.0))
    assert plan.memory.stages["sampling"]["engine"] == pytest.approx(0.4 * 80 * 2**30)
    with pytest.raises(ConfigError) as refused:
        compose(words)
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == [
        "trainer.cpu_offload=true",
        "sampler=vllm needs vLLM",
        "sampler.sleep_level=2",
    ]
    with pytest.raises(ConfigError, match=r"sampler.max_num_seqs=0: must be above 0"):
        dsrl.plan.compose_to_plan([*words, "sampler.max_num_seqs=0"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan.device_gb=8"], "unknown key 'plan.device_gb'. Did you mean 'plan.device_gib'?"),
        (["model.name=./nowhere"], "model.name=./nowhere: no config.json in that folder"),
        (["trainer.devices=0"], "trainer.devices=0: must be at least 1"),
        (["plan.device_gib=0"], "plan.device_gib=0.0: must be above 0"),
        (["plan.prompt_tokens=-1"], "plan.prompt_tokens=-1: must be above 0"),
        (["json=yes"], "json=yes: must be true or false"),
        (["--json"], "--json: there is --help"),
        (["update.micro_batch_tokens=most"], "update.micro_batch_tokens=most: must be a whole number, at least 1, or"),
        (["update.micro_batch_tokens=0"], "update.micro_batch_tokens=0: must be a whole number, at least 1, or auto"),
        (["update.micro_batch_tokens=1.5"], "update.micro_batch_tokens=1.5: must be a whole number, at least 1, or"),
    ],
)
def test_refused(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dsrl-plan", *words])
    with pytest.raises(SystemExit) as ended:
        dsrl.plan.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith(f"error: {message}")


def test_help(capsys):
    dsrl.plan.run(["--help"], Console())
    assert "python -m dsrl.plan experiment=paper_qwen3_4b" in capsys.readouterr().out
