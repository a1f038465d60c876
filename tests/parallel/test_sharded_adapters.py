"""Adapters of every kind of layer under FSDP: the full, merged weights, and a check of what is sampled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, OffloadPolicy
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from transformers import AutoConfig, AutoModelForCausalLM

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.models.agreement import check_rows
from dsrl.models.loading import load_tokenizer
from dsrl.models.lora import ADAPTER, add_adapters, initialize_adapters
from dsrl.models.lora_targets import check_fsdp1
from dsrl.models.policy import Policy
from dsrl.models.sharded_loading import blocks
from dsrl.parallel.fsdp import mixed_precision, shard
from dsrl.samplers.hf import HFSampler

pytest.importorskip("peft")

SIZES = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "Conv1D": ("gpt2", {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, "all-linear"),
    "embedding and head": (
        "llama",
        {**SIZES, **HEADS, "tie_word_embeddings": False},
        ["q_proj", "embed_tokens", "lm_head"],
    ),
    "experts": ("qwen3_moe", {**SIZES, **HEADS, **EXPERTS}, "all-linear"),
}

NOT_BY_FSDP1 = ("experts", "fsdp1")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@torch.no_grad()
def adapted(case: str) -> Any:
    kind, sizes, targets = CASES[case]
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))  # type: ignore[no-untyped-call]
    add_adapters(model, LoraConfig(rank=2, target_modules=targets))
    initialize_adapters(model)
    for name, parameter in model.named_parameters():
        if ADAPTER.match(name) or parameter.ndim > 1:
            parameter.normal_(0, 0.15)
    return model


def sharded(model: Any, kind: str) -> Any:
    mesh = init_device_mesh("cpu", (1,))
    if kind == "fsdp":
        return shard(model, mesh, mixed_precision(None), OffloadPolicy())
    policy = ModuleWrapPolicy({type(block) for block in blocks(model)})
    return FullyShardedDataParallel(
        model, device_id=torch.device("cpu"), device_mesh=mesh, auto_wrap_policy=policy, use_orig_params=True
    )


def scores(policy: Policy) -> torch.Tensor:
    return policy([[2, 3], [7]], torch.arange(12).view(2, 6) * 7, torch.ones(2, 6, dtype=torch.bool))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("case", "kind"), [(case, kind) for case in CASES for kind in ("fsdp", "fsdp1") if (case, kind) != NOT_BY_FSDP1]
)
def test_what_ranks_hold_is_merged_and_sampled_from_as_the_full_model_is(case: str, kind: str) -> None:
    full = Policy(adapted(case))
    expected, merged = scores(full), {name: tensor.clone() for name, tensor in full.named_tensors()}
    policy, sampler = Policy(sharded(adapted(case), kind)), HFSampler()
    with torch.no_grad():
        torch.testing.assert_close(scores(policy), expected, atol=1e-5, rtol=0)
    found = {name: tensor.clone() for name, tensor in policy.named_tensors()}
    assert found.keys() == merged.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, merged[name], atol=1e-6, rtol=0)
    sampler.setup(policy, PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny"))))
    assert sampler.model is not policy.model
    check_rows(policy)
    sampler.check_logprobs()
    if kind == "fsdp":
        scores(policy).sum().backward()
        after = {name: tensor.clone() for name, tensor in policy.named_tensors()}
        assert all(torch.equal(after[name], tensor) for name, tensor in found.items())


def test_fsdp1_refuses_adapters_of_parameters() -> None:
    with pytest.raises(ConfigError, match="trainer=fsdp1: no adapter for model.layers.0.mlp.* trainer=fsdp can"):
        check_fsdp1(adapted("experts"))
    check_fsdp1(adapted("Conv1D"))
