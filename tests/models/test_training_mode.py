"""While it is trained, a policy computes what the model that came computes in evaluation, and changes none of it."""

import copy
from functools import partial

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dsrl.models.policy import Policy

torch.set_num_threads(1)

SIZES = {
    **{"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0},
    **{"bos_token_id": 1, "eos_token_id": 2},
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
KINDS = {
    "phimoe": {**EXPERTS, "router_jitter_noise": 0.3},  # draws experts at random, and masks them by the "noise"
    "mixtral": {**EXPERTS, "router_jitter_noise": 0.3},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "layerdrop": 0.9},
    "biogpt": {"layerdrop": 0.9},
    "xglm": {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 48, "layerdrop": 0.9},
    "dbrx": {
        **{"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64, "resid_pdrop": 0.5, "emb_pdrop": 0.5},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "moe_jitter_eps": 0.3},
        "attn_config": {"kv_n_heads": 2, "attn_pdrop": 0.5, "clip_qkv": 8.0, "rope_theta": 10000.0},
    },
    "gemma3n_text": {  # clips weights as it computes
        **{"altup_coef_clip": 0.05, "altup_num_inputs": 2, "hidden_size_per_layer_input": 8, "laurel_rank": 4},
        **{"vocab_size_per_layer_input": 100, "head_dim": 8, "num_kv_shared_layers": 0, "intermediate_size": [48] * 3},
        "activation_sparsity_pattern": [0.0] * 3,
    },
}
CONTEXT, RESPONSE = (5, 6, 7, 8), (14, 15, 40, 41, 42)


@torch.no_grad()
def model_of(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SIZES, **KINDS[name]}))
    for tensor in model.parameters():
        if tensor.ndim > 1:
            tensor.normal_(0, 0.3)
    return model.train()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("name", KINDS)
def test_a_policy_in_training_computes_as_the_model_in_evaluation(name, checkpointing):
    model = model_of(name)
    before = copy.deepcopy(model).eval()
    expected = before(input_ids=torch.tensor([[*CONTEXT, *RESPONSE]]), use_cache=False).logits[0].float()
    expected = expected.log_softmax(-1)[len(CONTEXT) - 1 : -1].gather(-1, torch.tensor(RESPONSE)[:, None])[:, 0]
    expected.sum().backward()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy = Policy(model)
    score = partial(policy, [CONTEXT], torch.tensor([RESPONSE]), torch.ones(1, len(RESPONSE)) == 1)
    for _ in range(2):  # what is drawn at random would differ
        found = score()[0]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    found.sum().backward()
    assert policy.training
    for (parameter, own), its_copy in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(own, its_copy), parameter
        assert (own.grad is None) == (its_copy.grad is None), parameter
        if own.grad is not None:
            torch.testing.assert_close(own.grad, its_copy.grad, atol=1e-3, rtol=1e-3, msg=parameter)


def test_activations_are_checkpointed_in_training_alone():
    model = model_of("opt")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy, calls = Policy(model), []
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False) and hasattr(module, "_gradient_checkpointing_func"):
            function = module._gradient_checkpointing_func
            module._gradient_checkpointing_func = lambda *given, call=function: calls.append(0) or call(*given)
    score = partial(policy, [CONTEXT], torch.tensor([RESPONSE]), torch.ones(1, len(RESPONSE)) == 1)
    for training, layers in ((True, 3), (False, 0), (True, 3)):
        policy.train(training)
        score()
        assert len(calls) == layers
        calls.clear()
