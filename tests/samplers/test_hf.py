"""The decoding loop equals plain decoding of one sequence at a time, token for token."""

import itertools

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dsrl import build
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError, DSRLError
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.samplers.drawing import draw_tokens
from dsrl.samplers.hf import HFSampler, batches_within, casting_once
from dsrl.seeding import uniforms
from dsrl.types import Prompt, SamplingParams

torch.set_num_threads(1)

TINY = ModelConfig(name="tiny")
QUESTIONS = ["537+920=", "12+30=", "", "4321+1234=", "99999999+1="]


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder(tokenizer=load_tokenizer(TINY))


@pytest.fixture(scope="module")
def policy():
    return Policy(load_model(TINY))


@pytest.fixture(scope="module")
def prompts(encoder):
    return [Prompt(position=3 * b, text=q, token_ids=encoder.encode(q)) for b, q in enumerate(QUESTIONS)]


def sampler_of(policy, encoder, **fields):
    sampler = build("sampler", {"name": "hf", **fields})
    sampler.setup(policy, encoder)
    return sampler


def params_of(**changes):
    return SamplingParams(**{"responses_per_prompt": 3, "max_new_tokens": 24, "seed": 5, "iteration": 2, **changes})


def responses_of(rollouts):
    return [row[keep].tolist() for row, keep in zip(rollouts.tokens, rollouts.mask, strict=True)]


@torch.no_grad()
def naive(model, prompt, response_number, params, stop):
    """The whole sequence through the model at every step, no cache, no batch, tables in float64."""
    u = uniforms(params.seed, params.iteration, prompt.position, response_number, params.max_new_tokens).tolist()
    tokens, logprobs = [], []
    for t in range(params.max_new_tokens):
        logits = model(input_ids=torch.tensor([[*prompt.token_ids, *tokens]])).logits[0, -1].double()
        if params.temperature == 0:
            token = int(logits.argmax())
        else:
            logits = logits / params.temperature
            mass = list(itertools.accumulate(allowed(logits.softmax(-1).tolist(), params)))
            token = next(v for v, reached in enumerate(mass) if reached > u[t] * mass[-1])
        tokens.append(token)
        logprobs.append(float(logits.log_softmax(-1)[token]))
        if token in stop:
            break
    return tokens, logprobs


def allowed(probabilities, params):
    """Probabilities with 0 outside of top_k and then top_p, by sorting."""
    order = sorted(range(len(probabilities)), key=lambda v: -probabilities[v])
    order = order[: params.top_k] if params.top_k else order
    total, reached, kept = sum(probabilities[v] for v in order), 0.0, set()
    for v in order:
        if reached >= params.top_p * total:
            break
        kept.add(v)
        reached += probabilities[v]
    return [p if v in kept else 0.0 for v, p in enumerate(probabilities)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.5, "max_new_tokens": 12},
        {"temperature": 0.0, "responses_per_prompt": 1},
        {"top_k": 3},
        {"top_p": 0.8},
        {"top_k": 5, "top_p": 0.6, "temperature": 1.3},
        {"max_new_tokens": 1},
        {"stop_token_ids": (8,)},
    ],
    ids=str,
)
def test_token_for_token_that_of_plain_decoding(policy, encoder, prompts, changes):
    params = params_of(**changes)
    sampler = sampler_of(policy, encoder)
    found = sampler.sample(prompts, params)
    stop = {2, *params.stop_token_ids}
    assert sampler.end_token_ids == {2}
    rows = [(prompt, g) for prompt in prompts for g in range(params.responses_per_prompt)]
    for row, (prompt, g) in enumerate(rows):
        tokens, logprobs = naive(policy.model.eval(), prompt, g, params, stop)
        assert responses_of(found)[row] == tokens
        assert found.logprobs[row, : len(tokens)].tolist() == pytest.approx(logprobs, abs=1e-4)
        assert found.finish_reasons[row] == ("stop" if tokens[-1] in stop else "length")


def test_with_learned_absolute_positions(encoder, prompts):
    torch.manual_seed(0)
    policy = Policy(GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=16, n_layer=2, n_head=2)))
    policy.model.generation_config.eos_token_id = 2
    found = responses_of(
        sampler_of(policy, encoder, max_batch_total_tokens=250).sample(prompts, params_of(max_new_tokens=12))
    )
    expected = [
        naive(policy.model.eval(), p, g, params_of(max_new_tokens=12), {2})[0] for p in prompts for g in range(3)
    ]
    assert found == expected


@pytest.mark.parametrize("budget", [1, 70, 110, 250, 400, 10**6])
def test_the_budget_changes_nothing(policy, encoder, prompts, budget):
    whole = sampler_of(policy, encoder).sample(prompts, params_of())
    parts = sampler_of(policy, encoder, max_batch_total_tokens=budget).sample(prompts, params_of())
    assert responses_of(parts) == responses_of(whole)
    assert (parts.texts, parts.finish_reasons) == (whole.texts, whole.finish_reasons)
    torch.testing.assert_close(parts.logprobs, whole.logprobs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ragged", [False, True])
def test_responses_that_have_ended_leave_the_batch(policy, encoder, prompts, ragged, monkeypatch):
    widths = []
    forward = policy.model.forward
    monkeypatch.setattr(
        policy.model, "forward", lambda **inputs: widths.append(tuple(inputs["input_ids"].shape)) or forward(**inputs)
    )
    chosen = prompts[:3] if ragged else prompts[:1]
    found = sampler_of(policy, encoder).sample(chosen, params_of(responses_per_prompt=16, max_new_tokens=60))
    assert widths[0] == (len(chosen), max(len(prompt.token_ids) for prompt in chosen))  # a prompt is read once
    assert widths[1][0] == 16 * len(chosen)
    assert [width[0] for width in widths[1:]] == sorted((width[0] for width in widths[1:]), reverse=True)
    assert len(widths) == int(found.lengths.max())  # none after the last end
    for step, (width, _) in enumerate(widths[1:], start=1):
        alive = int((found.lengths > step).sum())
        assert alive <= width < alive / 0.9 + 1


@pytest.mark.parametrize(
    ("budget", "reads", "largest"),
    [
        (1, [1, 1], 1),
        (99, [1, 1], 3),  # the prompts have 7 and 9 tokens, and a response 24: 31 x 3 and 33 x 3
        (98, [1, 1], 3),
        (92, [1, 1], 2),
        (527, [1, 1], 8),  # of both: 33 x 16 = 528
        (528, [2], 16),
    ],
)
def test_a_batch_is_no_larger_than_it_may_and_a_prompt_is_read_once(
    policy, encoder, prompts, budget, reads, largest, monkeypatch
):
    shapes = []
    forward = policy.model.forward
    monkeypatch.setattr(
        policy.model, "forward", lambda **inputs: shapes.append(tuple(inputs["input_ids"].shape)) or forward(**inputs)
    )
    sampler_of(policy, encoder, max_batch_total_tokens=budget).sample(prompts[:2], params_of(responses_per_prompt=8))
    assert [rows for rows, width in shapes if width > 1] == reads
    assert max(rows for rows, width in shapes if width == 1) == largest


def test_gradient_checkpointing_changes_nothing(encoder, prompts):
    plain, checkpointed = (
        Policy(load_model(ModelConfig(name="tiny", gradient_checkpointing=on))) for on in (False, True)
    )
    assert checkpointed.training
    found = [responses_of(sampler_of(policy, encoder).sample(prompts, params_of())) for policy in (plain, checkpointed)]
    assert found[0] == found[1]


def test_sharded_weights_are_copied_and_synced(encoder, prompts, monkeypatch):
    policy = Policy(load_model(TINY))
    plain = sampler_of(policy, encoder).sample(prompts, params_of())
    monkeypatch.setattr(Policy, "sharded", True)
    sampler = sampler_of(policy, encoder)
    monkeypatch.setattr(policy.model, "forward", None)  # a collective, which ranks would enter at different times
    assert responses_of(sampler.sample(prompts, params_of())) == responses_of(plain)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(-1.0)
    sampler.sync(policy.named_tensors())
    assert responses_of(sampler.sample(prompts, params_of())) != responses_of(plain)
    assert all(map(torch.equal, sampler.model.parameters(), policy.model.parameters()))
    assert sum(parameter.requires_grad for parameter in sampler.model.parameters()) == 0
    with pytest.raises(DSRLError, match=r"no weights for model.norm.weight$"):
        sampler.sync((name, tensor) for name, tensor in policy.named_tensors() if name != "model.norm.weight")


def test_a_plain_policy_is_not_copied(policy, encoder):
    assert not policy.sharded
    assert sampler_of(policy, encoder).model is policy.model


def test_an_error_leaves_the_policy_in_training_mode(policy, encoder, prompts, monkeypatch):
    policy.train()
    monkeypatch.setattr("dsrl.samplers.hf.draw_tokens", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sampler_of(policy, encoder).sample(prompts, params_of())
    assert policy.training


def test_end_tokens_are_those_of_tokenizer_and_generation_config(encoder):
    policy = Policy(load_model(TINY))
    policy.model.generation_config.eos_token_id = [4, 5]
    assert sampler_of(policy, encoder).end_token_ids == {2, 4, 5}
    policy.model.generation_config.eos_token_id = None
    assert sampler_of(policy, encoder).end_token_ids == {2}


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"sampler.max_batch_total_tokens must be at least 1, not 0"):
        build("sampler", {"name": "hf", "max_batch_total_tokens": 0})


def test_batches_within_a_budget():
    lengths = [9, 2, 30, 5, 2]
    batches = [*batches_within(240, lengths, responses=4, longest=10)]
    # 2 x 4 x 12 = 96; a third prompt: 3 x 4 x 15 = 180; a fourth: 4 x 4 x 19 = 304 > 240
    assert batches == [[1, 4, 3], [0], [2]]  # 2 x 4 x 40 = 320
    assert [*batches_within(1, lengths, responses=4, longest=10)] == [[1], [4], [3], [0], [2]]
    assert [*batches_within(240, [], responses=4, longest=10)] == []


def test_the_default_decodes_the_default_run_at_once():
    assert len([*batches_within(HFSampler().max_batch_total_tokens, [10] * 64, responses=8, longest=96)]) == 1


# One draw.


def counts_of(logits, params, size=40_000):
    generator = torch.Generator().manual_seed(11)
    token, _ = draw_tokens(logits.expand(size, -1), torch.rand(size, generator=generator), params)
    return torch.bincount(token, minlength=len(logits)).double()


def chi_square(counts, probabilities):
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = probabilities[possible] * counts.sum()
    return float(((counts[possible] - expected) ** 2 / expected).sum())


LOGITS = torch.tensor([0.3, -1.0, 2.0, float("-inf"), 1.0, 0.0, -2.0, 1.5])


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_follow_the_softmax(temperature):
    counts = counts_of(LOGITS, params_of(temperature=temperature))
    assert chi_square(counts, (LOGITS.double() / temperature).softmax(-1)) < 22.5  # 6 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    ("changes", "possible"),
    [
        ({"top_p": 0.8}, [2, 7, 4]),
        ({"top_k": 3}, [2, 7, 4]),
        ({"top_p": 0.5}, [2, 7]),  # 0.424 alone does not reach it
        ({"top_p": 0.4}, [2]),
        ({"top_p": 1e-9}, [2]),
        ({"top_k": 3, "top_p": 0.8}, [2, 7]),  # 0.814 of what top_k leaves, though 0.681 of all
        ({"top_k": 100}, [0, 1, 2, 4, 5, 6, 7]),
    ],
    ids=str,
)
def test_draws_within_top_k_and_top_p(changes, possible):
    probabilities = torch.zeros(8, dtype=torch.float64)
    probabilities[possible] = LOGITS[possible].double().softmax(-1)
    assert chi_square(counts_of(LOGITS, params_of(**changes)), probabilities) < 22.5


def test_draws_by_inverse_transform():
    logits = torch.tensor([[0.5, 0.25, 0.0, 0.25]]).log()  # cumulative 0.5, 0.75, 0.75, 1
    uniform = torch.tensor([0.0, 0.4999, 0.5, 0.7499, 0.75, 1 - 2**-24])
    token, logprob = draw_tokens(logits.expand(6, -1), uniform, params_of())
    assert token.tolist() == [0, 0, 1, 1, 3, 3]
    assert logprob.exp().tolist() == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25, 0.25])


def test_the_largest_uniform_never_draws_what_has_no_probability():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 2000, generator=generator) * 4
    logits[:, 1500:] = float("-inf")
    token, logprob = draw_tokens(logits, torch.full((500,), 1 - 2**-24), params_of())
    assert (token < 1500).all() and logprob.isfinite().all()


def test_log_probabilities_are_those_before_top_k_and_of_temperature_one_when_greedy():
    for changes, logits in (({"top_k": 1, "temperature": 0.5}, LOGITS / 0.5), ({"temperature": 0.0}, LOGITS)):
        token, logprob = draw_tokens(LOGITS[None], torch.tensor([0.3]), params_of(**changes))
        assert token.item() == 2
        assert logprob.item() == pytest.approx(logits.log_softmax(-1)[2].item())


def test_under_autocast_weights_are_cast_once_and_those_of_the_next_batch_anew():
    layer, seen = torch.nn.Linear(4, 4), torch.ones(1, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        with casting_once("cpu"):
            before = layer(seen)
        layer.weight.add_(1.0)
        with casting_once("cpu"):
            after = layer(seen)
    assert after.dtype == torch.bfloat16 and (after - before).min() > 3
    with casting_once("cpu"):
        assert layer(seen).dtype == torch.float32


def test_what_else_a_generation_config_asks_for_changes_nothing(encoder, prompts):
    """As of Qwen-2.5 and Llama-3: its temperature, penalty and bounds would sample from another distribution."""
    plain, asking = Policy(load_model(TINY)), Policy(load_model(TINY))
    asked = {"temperature": 0.1, "top_k": 1, "top_p": 0.1, "min_p": 0.5, "repetition_penalty": 5.0}
    asked |= {"suppress_tokens": [4, 5, 6], "bad_words_ids": [[7]], "no_repeat_ngram_size": 1, "max_new_tokens": 1}
    for name, value in asked.items():
        setattr(asking.model.generation_config, name, value)
    found = [responses_of(sampler_of(policy, encoder).sample(prompts, params_of())) for policy in (plain, asking)]
    assert found[0] == found[1]
