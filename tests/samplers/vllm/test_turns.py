"""Trainer and engine take turns in a GPU's memory; weights on their way: what needs neither a GPU nor an engine."""

import gc
import multiprocessing
import tempfile
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from dsrl import build
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import DSRLError
from dsrl.loop.metrics import memory_metrics, reduce_metrics
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.samplers.vllm import memory, weights
from dsrl.samplers.vllm.checkpoint_tensors import checkpoint_tensors
from dsrl.samplers.vllm.process import Deadline, EngineProcess, gpu_environment
from dsrl.samplers.vllm.weights import BLOCK_BYTES, Delivery, HostBuffer, Outbox

TINY = ModelConfig(name="tiny")
GIB = 2**30


class SpiedEngine:
    """Stands in for an engine's process, and notes what it is asked to do; it computes what the policy does."""

    def __init__(self, policy, steps):
        self.policy, self.steps = policy, steps

    def call(self, method, *arguments, deadline=None):
        assert deadline.option == "sampler.sync_timeout"
        self.steps.append(" ".join([method, *(given for given in arguments if isinstance(given, str))]))
        if method == "score":
            (tokens,) = arguments
            mask = torch.ones(1, len(tokens) - 1, dtype=torch.bool)
            return self.policy([tokens[:1]], torch.tensor([tokens[1:]]), mask)[0].tolist()
        return None

    def load(self, named_tensors, deadline):
        self.steps.append("load")
        self.dtypes = {tensor.dtype for _, tensor in named_tensors}
        return Delivery(checksum=5, size=GIB // 4, workers=[(5, [])])


@pytest.fixture
def steps(monkeypatch):
    found = []
    monkeypatch.setattr("dsrl.parallel.sharding.reshard", lambda model: found.append("reshard"))
    monkeypatch.setattr(gc, "collect", lambda: found.append("collect"))
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: found.append("empty"))
    return found


@pytest.fixture
def sampler(steps):
    made = build("sampler", {"name": "vllm", "dtype": "bfloat16"})
    made.policy, made.encoder = Policy(load_model(TINY)), PromptEncoder(tokenizer=load_tokenizer(TINY))
    made.process = SpiedEngine(made.policy, steps)
    made.syncs, made.version, made.asleep, made.level, made.longest = 0, None, False, 2, 512
    return made


def test_before_an_engine_wakes_the_trainers_memory_is_free_and_again_before_keys_and_values(sampler, steps):
    sampler.sleep()
    found = sampler.sync(sampler.policy.named_tensors(sampler.sync_dtype))
    room = ["reshard", "collect", "empty"]
    weights, probe = ["load", "reshard"], ["score", "reshard"]  # so that weights are those of the last update
    assert steps == ["sleep", *room, "wake_up weights", *weights, *room, "wake_up kv_cache", *probe, "serve"]
    assert sampler.process.dtypes == {torch.bfloat16} and sampler.version == 1
    numbers = reduce_metrics(found)
    assert numbers.keys() == {"sync/seconds", "sync/gib"} and numbers["sync/gib"] == 0.25


def test_an_engine_that_is_awake_needs_no_room(sampler, steps):
    sampler.sync(sampler.policy.named_tensors())
    assert steps == ["load", "reshard", "score", "reshard", "serve"]
    assert sampler.process.dtypes == {torch.bfloat16}  # whatever it was given


def test_an_update_leaves_no_gradients(fit):
    module = fit("iterations=1", "validation.every=0")
    assert module.metrics["update/steps"] == 1
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ("expandable_segments:True", "expandable_segments:False"),
        ("max_split_size_mb:512, expandable_segments:true", "max_split_size_mb:512, expandable_segments:False"),
        ("roundup_power2_divisions:[256:1,512:2]", "roundup_power2_divisions:[256:1,512:2]"),
    ],
)
def test_the_engine_gets_no_expandable_segments(given, engine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", given)
    assert gpu_environment(2) == {"CUDA_VISIBLE_DEVICES": "5,6", "PYTORCH_CUDA_ALLOC_CONF": engine}


def test_buffers_for_cuda_ipc_are_allocated_in_segments_that_do_not_expand(monkeypatch):
    steps = []
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:64")
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", steps.append)
    monkeypatch.setattr(weights, "reduce_tensor", lambda tensor: steps.append("share") or (len, (0,) * 8))
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **rest: steps.append("allocate") or empty(*size, **rest))
    weights.DeviceBuffer(64, torch.device("cpu"))
    on, off = (f"expandable_segments:{state},max_split_size_mb:64" for state in (True, False))
    assert steps == [off, "allocate", on, "share"]
    steps.clear()
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    weights.DeviceBuffer(64, torch.device("cpu"))
    assert steps == ["allocate", "share"]


def test_buffers_follow_the_policy_to_a_gpu(monkeypatch):
    class FakeBuffer(HostBuffer):
        def __init__(self, size, device):
            super().__init__(size)

    monkeypatch.setattr(weights, "DeviceBuffer", FakeBuffer)
    outbox = Outbox()
    try:
        host = outbox._buffer(0, BLOCK_BYTES, torch.device("cpu"))
        assert outbox._buffer(0, BLOCK_BYTES, torch.device("cpu")) is host and not isinstance(host, FakeBuffer)
        moved = outbox._buffer(0, BLOCK_BYTES, torch.device("cuda", 0))
        assert isinstance(moved, FakeBuffer) and len(host.bytes) == 0  # the old one is given back
        assert outbox._buffer(0, BLOCK_BYTES, torch.device("cuda", 0)) is moved
    finally:
        outbox.close()


@pytest.fixture
def hanging():
    """An engine's process that takes requests and never answers, and what becomes of it."""
    process, (ours, theirs) = object.__new__(EngineProcess), multiprocessing.Pipe()
    process.connection, process.outbox, ended = ours, Outbox(), []
    process._finalize = lambda: ended.append(True)
    with tempfile.TemporaryFile() as process.log:
        yield process, theirs, ended
    process.outbox.close()


def test_an_engine_that_hangs_when_it_is_to_wake_up_is_ended_with_a_message(hanging):
    process, _, ended = hanging
    began = time.monotonic()
    with pytest.raises(DSRLError, match=r"did not come back from: wake_up weights, within sampler.sync_timeout=0.2 s"):
        process.call("wake_up", "weights", deadline=Deadline("sampler.sync_timeout", 0.2))
    assert ended and time.monotonic() - began < 20


def test_an_engine_that_hangs_when_it_is_to_load_is_ended_after_all_weights_were_gathered(hanging):
    process, theirs, ended = hanging
    theirs.send(("done", None))  # begin_weights
    gathered = []

    def tensors():
        for number in range(40):
            gathered.append(number)
            yield str(number), torch.zeros(2**20)  # 4 MiB each

    with pytest.raises(DSRLError, match=r"receive_weights, of which 0.0\d GiB were ready, within sampler.sync_timeout"):
        process.load(tensors(), Deadline("sampler.sync_timeout", 0.2))
    assert ended and gathered == list(range(40))


def test_each_worker_answers_for_the_parameters_that_it_holds():
    assert Delivery(checksum=7, size=1, workers=[(7, []), (7, [])]).problem() is None
    missing = Delivery(checksum=7, size=1, workers=[(7, ["b"]), (7, ["a", "b"])]).problem()
    assert missing == "gave no weights for the engine's a, b"
    changed = Delivery(checksum=7, size=1, workers=[(7, []), (255, ["a"])]).problem()
    assert changed.startswith(
        "failed: checksum 00000000000000ff of the bytes that the engine received, 0000000000000007"
    )


SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
EXPERTS = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("kind", "sizes", "name"),
    [
        ("mixtral", {"num_local_experts": 3}, "model.layers.1.block_sparse_moe.experts.2.w1.weight"),
        ("qwen3_moe", {"num_experts": 3, "moe_intermediate_size": 16}, "model.layers.0.mlp.experts.1.down_proj.weight"),
        (
            "glm4_moe",
            {"n_routed_experts": 4, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1},
            "model.layers.1.mlp.gate.e_score_correction_bias",
        ),
        ("gpt2", {"n_embd": 32, "n_head": 2, "n_layer": 2}, "transformer.h.1.attn.c_attn.weight"),
    ],
)
def test_an_engine_gets_what_a_checkpoint_would_hold(kind, sizes, name, tmp_path):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **EXPERTS, **sizes))
    found = dict(checkpoint_tensors(model, Policy(model).named_tensors(), torch.bfloat16))
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert name in found and found.keys() == saved.keys()
    assert all(torch.equal(tensor.float(), saved[name].to(tensor.dtype).float()) for name, tensor in found.items())
    narrow = {name for name, tensor in found.items() if tensor.dtype == torch.bfloat16}
    assert {name.rpartition(".")[2] for name in found.keys() - narrow} <= {"e_score_correction_bias"}


def test_peaks_of_memory_are_metrics_on_a_gpu_and_start_over(monkeypatch):
    peaks = {"allocated": 3 * GIB, "reserved": 4 * GIB}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks["allocated"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: peaks["reserved"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update(allocated=0, reserved=0))
    device = torch.device("cuda", 0)
    assert reduce_metrics(memory_metrics(device)) == {"memory/allocated_gib": 3.0, "memory/reserved_gib": 4.0}
    assert reduce_metrics(memory_metrics(device)) == {"memory/allocated_gib": 0.0, "memory/reserved_gib": 0.0}
    assert memory_metrics(torch.device("cpu")) == {}


def test_the_engines_memory_is_what_the_trainer_does_not_hold(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 24 * GIB)
    assert reduce_metrics(memory.memory_of_others(torch.device("cuda", 0))) == {"memory/engine_gib": 36.0}
    assert memory.memory_of_others(torch.device("cpu")) == {}
