"""`trainer.compile`: the blocks are compiled, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from dsrl.config.compose import compose
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.models import Policy, load_tokenizer
from dsrl.models.sharded_loading import blocks
from dsrl.parallel.data_parallel import SingleDevice
from dsrl.parallel.strategy import place_models
from dsrl.samplers import HFSampler
from dsrl.types import Prompt, SamplingParams

counters = torch._dynamo.utils.counters

CONFIG = ModelConfig(name="tiny")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    torch._dynamo.reset()
    counters.clear()


def placed(compiled):
    (model,) = place_models(SingleDevice(device=CPU), CONFIG, 1, compiled=compiled)
    return Policy(model)


@pytest.mark.slow
def test_a_compiled_policy_gives_the_same_loss_and_gradients():
    plain, compiled = placed(False), placed(True)
    tokens = torch.randint(3, 100, (6, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(20) < torch.tensor([20, 3, 9, 20, 12, 7])[:, None]
    losses = []
    for policy in (plain, compiled):
        loss = policy([(1, 5, 9)] * 6, tokens, mask).sum() / mask.sum()
        loss.backward()
        losses.append(float(loss.detach()))
    assert counters["stats"]["unique_graphs"] == 1  # one graph for all blocks
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-3)


def test_names_of_parameters_stay():
    plain, compiled = placed(False), placed(True)
    assert [*compiled.state_dict()] == [*plain.state_dict()]
    assert all(block._compiled_call_impl is not None for block in blocks(compiled))
    assert all(block._compiled_call_impl is None for block in blocks(plain))


def test_blocks_are_found_when_they_are_sharded():
    policy = placed(False)
    found = blocks(policy)
    for block in found:  # as fully_shard does
        block.__class__ = type(f"FSDP{type(block).__name__}", (FSDPModule, type(block)), {})
    assert len(found) == 3 and blocks(policy) == found


def test_sampling_compiles_nothing():
    encoder, found = PromptEncoder(tokenizer=load_tokenizer(CONFIG)), []
    prompt = Prompt(position=0, text="", token_ids=encoder.encode("12+34="))
    for compiled in (False, True):
        sampler = HFSampler()
        sampler.setup(placed(compiled), encoder)
        found.append(sampler.sample([prompt], SamplingParams(responses_per_prompt=4, max_new_tokens=24)).texts)
    assert found[0] == found[1]
    assert counters["stats"]["unique_graphs"] == 0


def test_what_cannot_be_compiled_is_refused(monkeypatch):
    line = ["trainer.compile=true", "trainer.accelerator=cpu"]
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"^trainer.compile=true: on a CPU it needs a C\+\+ compiler, .* no-such"):
        compose(line)
    monkeypatch.setenv("CXX", "python3")  # is there, which is all that is asked
    assert compose(line).trainer.compile
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("mps"))
    with pytest.raises(ConfigError, match=r"^trainer.compile=true: on a CPU or a CUDA GPU, not on mps"):
        compose(["trainer.compile=true"])
    monkeypatch.setattr("dsrl.parallel.strategy.blocks", lambda model: [])
    with pytest.raises(ConfigError, match=r"^trainer.compile=true: tiny does not say which of its modules are blocks"):
        placed(True)
