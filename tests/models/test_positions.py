"""LongRoPE: a token is scored by the positions that it was sampled with, however long the rows beside it are."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer
from dsrl.models.policy import Policy
from dsrl.models.positions import longrope_limit
from dsrl.samplers.hf import HFSampler
from dsrl.types import Prompt, SamplingParams

torch.set_num_threads(1)

LIMIT, LONGEST = 16, 40
FACTORS = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": LIMIT}
FACTORS |= {"short_factor": [1.0] * 4, "long_factor": [1.0, 3.0, 9.0, 30.0]}
SIZES = {
    **{"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": 2},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": 0, "max_position_embeddings": 64},
}


@torch.no_grad()
def policy_of(kind="phi3", **more):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, rope_parameters={**FACTORS, **more})
    config.original_max_position_embeddings = LIMIT
    model = AutoModelForCausalLM.from_config(config)
    for tensor in model.parameters():
        if tensor.ndim > 1:
            tensor.normal_(0, 0.3)
    model.generation_config.eos_token_id = 2
    return Policy(model)


def rows(lengths):
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens[mask] = torch.arange(int(mask.sum())) * 7 % 90 + 5
    return [(5, 6, 7)] * len(lengths), tokens, mask


@pytest.mark.parametrize("kind", ["phi3", "llama"])
def test_a_row_scores_the_same_beside_a_longer_one(kind):
    policy, (contexts, tokens, mask) = policy_of(kind), rows([6, 30])
    alone = policy(contexts[:1], tokens[:1, :6], mask[:1, :6])[0]
    without = policy(contexts, tokens, mask)[0, :6]
    assert (without - alone).abs().max() > 0.1  # what transformers does
    policy.read_up_to(LONGEST)
    alone, beside = policy(contexts[:1], tokens[:1, :6], mask[:1, :6])[0], policy(contexts, tokens, mask)[0, :6]
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sharded", [False, True], ids=["itself", "copy"])
def test_what_is_sampled_past_the_limit_is_scored_alike(sharded, monkeypatch):
    policy, encoder = policy_of(), PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")))
    policy.read_up_to(LONGEST)
    monkeypatch.setattr(Policy, "sharded", sharded)
    sampler = HFSampler()
    sampler.setup(policy, encoder)
    prompts = [Prompt(position=0, text="", token_ids=(5, 6, 7)), Prompt(position=1, text="", token_ids=(9,) * 12)]
    found = sampler.sample(prompts, SamplingParams(responses_per_prompt=3, max_new_tokens=28))
    assert int(found.lengths.max()) > LIMIT
    contexts = [found.prompt_of(row).token_ids for row in range(6)]
    scored = policy(contexts, found.tokens, found.mask)
    torch.testing.assert_close(scored, found.logprobs, atol=1e-4, rtol=0)


def test_sequences_within_the_limit_stay_as_they_are(caplog):
    policy, (contexts, tokens, mask) = policy_of(), rows([6, 10])
    before = policy(contexts, tokens, mask)
    policy.read_up_to(LIMIT)
    assert torch.equal(policy(contexts, tokens, mask), before)
    assert not caplog.records


def test_it_is_said_once_and_other_models_are_left_alone(caplog):
    assert longrope_limit(policy_of().model.config) == LIMIT
    for _ in range(2):
        policy_of().read_up_to(LONGEST + 1)
    (record,) = caplog.records
    assert "sequences may have up to 41 tokens, more than 16" in record.getMessage()
    assert longrope_limit(AutoConfig.for_model("llama", **SIZES)) is None
    assert longrope_limit(AutoConfig.for_model("gpt2")) is None


def test_positions_that_nothing_makes_the_same_are_refused():
    policy = policy_of("phimoe", short_mscale=1.0, long_mscale=2.0)
    with pytest.raises(ConfigError, match=r"phimoe turns tokens otherwise in sequences of more than 16 tokens.*not 40"):
        policy.read_up_to(LONGEST)
