"""Rows of several sequences score as single rows do: packed, or with a context that is read once."""

import copy
import shutil

import pytest
import torch
import transformers
from test_head import KINDS, SIZE, model_of

from dsrl.config.schema import ModelConfig
from dsrl.models.loading import load_model
from dsrl.models.policy import Policy
from dsrl.models.rows import RowCost, lay_out

CONTEXTS = [(5, 6, 7, 9, 12), (5, 6, 7, 9, 12), (9, 10), (9, 10), (8,)]
LENGTHS = torch.tensor([5, 1, 3, 4, 2])
MASK = torch.arange(5) < LENGTHS[:, None]
TOKENS = (torch.arange(25).view(5, 5) * 7 % 33 + 4) * MASK
WEIGHTS = torch.linspace(-1, 1, 25).view(5, 5)
LAYOUTS = {
    "packed": {"packed": True},
    "shared": {"together": [[0, 1], [3, 2], [4]]},
    "shared and packed": {"together": [[0, 1], [3, 2], [4]], "packed": True},
}
WINDOWS = {"mistral", "gemma2", "gemma3", "cohere2"}


def policy_of(kind, attention="sdpa"):
    """A model of that kind; where it has sliding windows, of 3 tokens."""
    model = model_of(kind, torch.float32)
    config = copy.deepcopy(model.config)
    config._attn_implementation = attention
    if kind in WINDOWS:
        config.sliding_window = 3
    again = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    again.load_state_dict(model.state_dict())
    return Policy(again.train())


def single(policy):
    """Log-probabilities [n, T] of one row after the other."""
    rows = []
    for context, tokens, mask in zip(CONTEXTS, TOKENS, MASK, strict=True):
        found = policy([context], tokens[mask][None], mask[mask][None])[0]
        rows.append(torch.nn.functional.pad(found, (0, 5 - len(found))))
    return torch.stack(rows)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_scores_as_single_rows(kind, attention):
    policy = policy_of(kind, attention)
    expected = single(policy)
    gradients = torch.autograd.grad((expected * WEIGHTS).sum(), list(policy.parameters()), allow_unused=True)
    for layout in ({}, *LAYOUTS.values()):
        found = policy.score(CONTEXTS, TOKENS, MASK, **layout).logprobs
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        mine = torch.autograd.grad((found * WEIGHTS).sum(), list(policy.parameters()), allow_unused=True)
        largest = max(float(gradient.abs().max()) for gradient in gradients if gradient is not None)
        for gradient, other in zip(mine, gradients, strict=True):
            assert (gradient is None) == (other is None)
            if other is not None:
                torch.testing.assert_close(gradient, other, atol=1e-5 * largest, rtol=0)


def test_windows_are_not_idle_in_these_tests():
    for kind in WINDOWS:
        policy = policy_of(kind)
        wide = Policy(model_of(kind, torch.float32).train())
        assert (single(policy) - single(wide)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_these_families_share_contexts(kind):
    policy = policy_of(kind)
    assert policy.shares_contexts
    assert not policy.packs  # sdpa would compute attention between the sequences


def test_a_window_in_the_configuration_that_the_model_ignores_is_found_out():
    """Masks would have it, and the model's own way would not: as in weights that were converted from another family."""
    config = transformers.LlamaConfig(**SIZE, sliding_window=32)
    policy = Policy(transformers.AutoModelForCausalLM.from_config(config))
    assert not policy.shares_contexts
    assert config.sliding_window == policy.model.config.sliding_window == 32


def test_the_trial_leaves_the_model_as_it_was():
    policy = policy_of("gemma3")
    assert policy.shares_contexts and policy.training
    assert policy.model.config.sliding_window == 3


def test_eager_attention_shares_nothing():
    assert not policy_of("llama", "eager").shares_contexts  # it would keep every score that the mask hides


RECURRENT = {
    "MambaConfig": {"state_size": 4},
    "RwkvConfig": {"attention_hidden_size": 16, "context_length": 64},
    "BloomConfig": {"n_head": 4, "n_layer": 2},
    "Qwen3NextConfig": {
        **SIZE,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 0,
    },
}


@pytest.mark.parametrize("name", RECURRENT)
def test_models_with_a_state_or_with_positions_of_their_own_do_not(name):
    torch.manual_seed(0)
    size = {"vocab_size": 37, "hidden_size": 16, "num_hidden_layers": 2} | RECURRENT[name]
    config = getattr(transformers, name)(**size)
    policy = Policy(transformers.AutoModelForCausalLM.from_config(config))
    assert not policy.shares_contexts and not policy.packs
    assert policy.row_cost.token > 0
    torch.testing.assert_close(policy(CONTEXTS, TOKENS, MASK), single(policy), atol=1e-5, rtol=0)


def test_by_positions_the_sequences_of_a_row_need_no_mask():
    """What flash attention is given; it runs on a GPU alone."""
    rows = lay_out(CONTEXTS, TOKENS, MASK, packed=True)
    config = transformers.LlamaConfig(**SIZE)
    config._attn_implementation = "flash_attention_2"
    given = rows.arguments(config, torch.float32)
    assert given["attention_mask"] is None
    assert given["position_ids"].tolist() == [[*range(9), *range(5), *range(4), *range(5), *range(2)]]
    assert given["input_ids"].shape == given["position_ids"].shape


def test_blocks_hide_what_a_mask_hides():
    rows = lay_out(CONTEXTS, TOKENS, MASK, **LAYOUTS["shared and packed"])
    config = transformers.LlamaConfig(**SIZE)
    masks = []
    for attention in ("sdpa", "flex_attention"):
        config._attn_implementation = attention
        masks.append(rows.arguments(config, torch.float32)["attention_mask"])
    dense, blocks = masks
    length = rows.input_ids.shape[1]
    place = torch.arange(length)
    seen = blocks.mask_mod(torch.tensor(0), torch.tensor(0), place[:, None], place)
    assert torch.equal(seen, dense[0, 0] == 0)


def test_what_a_token_costs():
    policy = Policy(load_model(ModelConfig(name="tiny")))
    config, parameters = policy.model.config, policy.model.num_parameters()
    tied = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    width = config.num_attention_heads * config.head_dim
    assert policy.row_cost == RowCost(2.0 * (parameters - tied), 4.0 * config.num_hidden_layers * width)


def test_of_experts_only_those_that_a_token_is_routed_to_cost():
    model = model_of("qwen3_moe", torch.float32)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    routed = sum(size for name, size in sizes.items() if ".experts." in name)
    everything = sum(sizes.values())
    assert routed > 0
    expected = 2.0 * (everything - routed + routed * 2 / 4 - 37 * 16)
    assert Policy(model).row_cost.token == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="FlexAttention is compiled")
def test_flex_attention_scores_rows_of_several_sequences():
    """On a CPU it runs forward alone."""
    policy, expected = policy_of("gemma3", "flex_attention"), single(policy_of("gemma3"))
    with torch.no_grad():
        found = policy.score(CONTEXTS, TOKENS, MASK, **LAYOUTS["shared and packed"]).logprobs
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=0)
