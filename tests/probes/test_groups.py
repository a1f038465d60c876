import pytest
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dsrl.errors import ConfigError
from dsrl.probes.groups import Grouping

SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 9}


def test_groups_of_a_llama():
    by = Grouping(LlamaForCausalLM(LlamaConfig(**SMALL)), "blocks")
    assert by("model.embed_tokens.weight") == "embeddings" and by("lm_head.weight") == "head"
    assert by("model.layers.1.self_attn.q_proj.weight") == "block1.attention"
    assert by("model.layers.0.mlp.down_proj.lora_A.default.weight") == "block0.mlp"
    assert by("model.layers.0.input_layernorm.weight") == "block0.norms" and by("model.norm.weight") == "norms"
    kinds = Grouping(LlamaForCausalLM(LlamaConfig(**SMALL)), "kinds")
    assert kinds("model.layers.1.self_attn.q_proj.weight") == "attention"


def test_groups_of_a_gpt2():
    by = Grouping(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9)), "blocks")
    assert by("transformer.wte.weight") == "embeddings" and by("transformer.h.0.attn.c_attn.bias") == "block0.attention"
    assert by("transformer.h.0.ln_1.weight") == "block0.norms" and by("transformer.ln_f.weight") == "norms"
    assert by("transformer.wpe.weight") == "other"


def test_an_unknown_grouping_is_refused():
    with pytest.raises(ConfigError, match=r"groups=block: allowed are kinds, blocks. Did you mean 'blocks'"):
        Grouping(LlamaForCausalLM(LlamaConfig(**SMALL)), "block")
