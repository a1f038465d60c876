"""Every registered sampler that draws keeps the contract; `replay` gives what another run recorded."""

import importlib.util

import pytest
import torch

from dsrl import build, names
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.models import Policy, load_model, load_tokenizer
from dsrl.samplers.contract import CHECKS, SamplerBench

torch.set_num_threads(1)

TINY = ModelConfig(name="tiny")
SPECS = {"vllm": {"name": "vllm", "dtype": "float32", "enforce_eager": True, "kv_cache_gib": 0.5}}


def marked(name):
    without = name.startswith("vllm") and importlib.util.find_spec("vllm") is None
    engine = [pytest.mark.slow, pytest.mark.vllm] if name == "vllm" else []
    spec = SPECS.get(name, name)
    return pytest.param(spec, marks=[*engine, pytest.mark.skipif(without, reason="needs the package vllm")], id=name)


@pytest.fixture(scope="module", params=[marked(name) for name in names("sampler") if name != "replay"])
def bench(request, one_core):
    model, tokenizer = load_model(TINY), load_tokenizer(TINY)
    added = tokenizer.add_tokens(["<think>", "</think>", "<answer>"])  # a vocabulary grown by its user
    torch.manual_seed(0)
    model.resize_token_embeddings(model.config.vocab_size + added)
    policy, encoder = Policy(model), PromptEncoder(tokenizer=tokenizer)
    sampler = build("sampler", request.param)
    sampler.setup(policy, encoder)
    yield SamplerBench(sampler=sampler, policy=policy, encoder=encoder)
    sampler.close()


def test_the_vocabulary_has_added_tokens(bench):
    """Which the checks below sample from, and read."""
    assert bench.policy.model.get_output_embeddings().weight.shape[0] == len(bench.encoder.tokenizer) == 103
    assert 102 in bench.encoder.encode("1<answer>")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(bench, check):
    check(bench)
