"""Buffers hold what concatenation would, and grouped attention is that of transformers."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.models.loading import load_tokenizer
from dsrl.models.policy import Policy
from dsrl.samplers import HFSampler
from dsrl.samplers.decoding import BufferedLayer, DecodingCache, decoding_attention, left_pad
from dsrl.types import Prompt, SamplingParams

torch.set_num_threads(1)

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def grouped(**changes):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, **changes)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # far from uniform, so that draws depend on what was read
    return model


def states(*shape):
    return torch.randn(*shape, 2, 3, generator=torch.Generator().manual_seed(sum(shape))).movedim(-2, 1)


def test_buffers_hold_what_concatenation_would():
    layer, keys, values = BufferedLayer(203), states(2, 3), states(2, 3) + 1
    layer.update(keys, values)
    assert layer.buffers[0].shape[2] == 3  # a prompt that is only read has no room to come
    layer.batch_repeat_interleave(2)
    keys, values = (part.repeat_interleave(2, 0) for part in (keys, values))
    for step in range(200):
        new = states(len(keys), 1) + step
        found = layer.update(new, -new)
        keys, values = torch.cat([keys, new], 2), torch.cat([values, -new], 2)
        if step == 100:
            order = torch.tensor([0, 3, 2])
            layer.batch_select_indices(order)
            keys, values = keys[order], values[order]
            found = layer.keys, layer.values
        assert torch.equal(found[0], keys) and torch.equal(found[1], values)
        assert layer.get_seq_length() == keys.shape[2]
    assert layer.buffers[0].shape[2] == 203  # as much as was said, and no more


def test_layers_of_other_kinds_are_those_of_transformers():
    config = MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4)
    kinds = [type(layer) for layer in DecodingCache(config, 20).layers]
    assert kinds == [type(layer) for layer in DynamicCache(config=config).layers] and BufferedLayer not in kinds


@torch.no_grad()
@pytest.mark.parametrize("ragged", [False, True])
def test_grouped_attention_is_that_of_transformers(ragged):
    model = grouped()
    ids = torch.randint(3, 100, (3, 9), generator=torch.Generator().manual_seed(0))
    seen = torch.ones(3, 9, dtype=torch.long)
    if ragged:
        seen[1, :4] = 0
    position = (seen.cumsum(-1) - 1).clamp(min=0)
    whole = model(ids, attention_mask=seen, position_ids=position).logits[:, -1]
    with decoding_attention(model):
        assert model.config._attn_implementation != "sdpa"
        cache = DecodingCache(model.config, 9)
        model(ids[:, :8], attention_mask=seen[:, :8], position_ids=position[:, :8], past_key_values=cache)
        last = model(ids[:, 8:], attention_mask=seen, position_ids=position[:, 8:], past_key_values=cache)
    torch.testing.assert_close(last.logits[:, -1], whole, atol=1e-4, rtol=1e-4)
    assert model.config._attn_implementation == "sdpa"


def test_attention_is_as_before_after_an_error():
    model = grouped()
    with pytest.raises(ZeroDivisionError), decoding_attention(model):
        1 / 0  # noqa: B018
    assert model.config._attn_implementation == "sdpa"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["grouped", "sliding"])
def test_long_responses_to_ragged_prompts_are_those_of_one_at_a_time(kind):
    if kind == "grouped":
        model = grouped()
    else:
        torch.manual_seed(0)
        model = MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=16)).eval()
    encoder = PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")))
    sampler = HFSampler()
    sampler.setup(Policy(model), encoder)
    prompts = [Prompt(position=b, text="", token_ids=tuple(range(3, 3 + size))) for b, size in enumerate((1, 7, 20))]
    params = SamplingParams(responses_per_prompt=4, max_new_tokens=150)
    together = sampler.sample(prompts, params)
    assert int(together.lengths.max()) > 100 and len(set(together.lengths.tolist())) > 4
    for b, prompt in enumerate(prompts):
        alone = sampler.sample([prompt], params)
        rows = slice(4 * b, 4 * b + 4)
        assert together.lengths[rows].tolist() == alone.lengths.tolist()
        width = alone.tokens.shape[1]
        assert torch.equal(together.tokens[rows, :width], alone.tokens)
        scored = sampler.policy([prompt.token_ids] * 4, alone.tokens, alone.mask)
        torch.testing.assert_close(together.logprobs[rows, :width], scored, atol=1e-4, rtol=1e-4)


def test_left_pad():
    ids, mask = left_pad([(1, 2, 3), (4,)], torch.device("cpu"))
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]
