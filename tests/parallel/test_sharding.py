"""Sharded weights on a process group of one rank: what is gathered, in which dtype, and what is let go of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, OffloadPolicy

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.data import PromptEncoder
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.parallel.fsdp import mixed_precision, shard
from dsrl.parallel.plain_names import plain_name
from dsrl.parallel.sharding import compute_dtype, drop_gradients, full_parameters, reshard
from dsrl.samplers.hf import HFSampler

TINY = ModelConfig(name="tiny")
KINDS = ("fsdp", "fsdp1")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sharded(kind: str, compute: torch.dtype | None) -> Any:
    model, mesh = load_model(TINY), init_device_mesh("cpu", (1,))
    if kind == "fsdp":
        return shard(model, mesh, mixed_precision(compute), OffloadPolicy())
    precision = None if compute is None else MixedPrecision(param_dtype=compute)
    return FullyShardedDataParallel(
        model, device_id=torch.device("cpu"), device_mesh=mesh, mixed_precision=precision, use_orig_params=True
    )


def scores(policy: Policy) -> torch.Tensor:
    return policy([[2, 3]], torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_pass_without_gradient_the_weights_are_the_parts_and_not_the_gathered_ones(kind: str) -> None:
    policy, given = Policy(sharded(kind, torch.bfloat16)), dict(load_model(TINY).named_parameters())
    with torch.no_grad():
        scores(policy)
    found = {name: tensor.clone() for name, tensor in full_parameters(policy.model)}
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], given[name]) for name in given)  # bfloat16 would have rounded them
    cast = {name: tensor.clone() for name, tensor in policy.named_tensors(torch.bfloat16)}
    assert all(torch.equal(cast[name], given[name].bfloat16()) for name in given)


@pytest.mark.usefixtures("alone")
def test_a_gathered_root_is_let_go_of() -> None:
    policy = Policy(sharded("fsdp", torch.bfloat16))
    with torch.no_grad():
        scores(policy)
    embeddings = policy.model.get_input_embeddings()
    assert embeddings.weight.dtype == torch.bfloat16
    reshard(policy.model)
    assert embeddings.weight.dtype == torch.float32


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_is_left(kind: str) -> None:
    policy = Policy(sharded(kind, torch.bfloat16))
    scores(policy).sum().backward()

    def left() -> int:
        handles = [getattr(module, "_handle", None) for module in policy.modules()]
        flat = [handle.flat_param for handle in handles if handle is not None]
        return sum(parameter.grad is not None for parameter in (*policy.parameters(), *flat))

    assert left() > 0
    drop_gradients(policy.model)
    assert left() == 0
    scores(policy).sum().backward()  # and the next update has its own
    assert left() > 0


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_hf_decodes_with_a_copy_in_the_dtype_in_which_the_policy_computes(
    kind: str, compute: torch.dtype | None
) -> None:
    policy, sampler = Policy(sharded(kind, compute)), HFSampler()
    sampler.setup(policy, PromptEncoder(tokenizer=load_tokenizer(TINY)))
    expected = compute or torch.float32
    assert compute_dtype(policy.model) == sampler.sync_dtype == expected
    assert {parameter.dtype for parameter in sampler.model.parameters()} == {expected}
    if kind == "fsdp":  # FSDP1's output is cast in another place
        with torch.no_grad():
            assert torch.allclose(scores(Policy(sampler.model)), scores(policy), atol=1e-5)


def test_adapters_are_merged_before_they_are_cast() -> None:
    policy = Policy(load_model(ModelConfig(name="tiny", lora=LoraConfig(rank=2))))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    merged = dict(policy.named_tensors())
    cast = dict(policy.named_tensors(torch.bfloat16))
    assert all(torch.equal(cast[name], merged[name].bfloat16()) for name in merged)


def test_names_are_those_of_the_unwrapped_model():
    assert (
        plain_name("_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.mlp.weight") == "model.layers.0.mlp.weight"
    )
    assert plain_name("model.layers.0._fsdp_wrapped_module") == "model.layers.0"
    assert plain_name("_fsdp_wrapped_module") == plain_name("") == ""
    assert plain_name("model.norm.weight") == "model.norm.weight"
