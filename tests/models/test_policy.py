"""Log-probabilities of responses equal those of one plain forward a sequence, in every space and batch."""

import random
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dsrl.loop.contexts import contexts_in
from dsrl.models.offloading import saved_on_host
from dsrl.models.policy import Policy
from dsrl.types import Prompt, Rollouts

torch.set_num_threads(1)

V = 31
START = 1
PROMPTS = [(5, 6, 7, 8, 9), (4,), (3, 2, 30, 11), (12, 12, 13)]
RESPONSES = [(14, 15), (16, 17, 18, 19, 20, 21, 2), (22,), (23, 24, 25, 2)]


def build_model(kind, dtype=torch.float32):
    torch.manual_seed(3)
    if kind == "gpt2":  # learned absolute positions, dropout on by default
        model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=V,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=32,
                tie_word_embeddings=kind == "tied",
                initializer_range=0.3,
                attention_dropout=0.5,
            )
        )
    return model.to(dtype).train()


KINDS = ("tied", "untied", "gpt2")


@pytest.fixture(params=KINDS)
def policy(request):
    return Policy(build_model(request.param))


def pad(responses, fill=0):
    longest = max(map(len, responses))
    tokens = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in responses])
    return tokens, torch.arange(longest) < torch.tensor([len(row) for row in responses])[:, None]


def plain(model, context, response, temperature=1.0):
    """One sequence, one forward, nothing clever."""
    logits = model(input_ids=torch.tensor([[*context, *response]])).logits[0]
    table = (logits / temperature).log_softmax(-1)
    return torch.stack([table[len(context) - 1 + t, token] for t, token in enumerate(response)])


def scored(policy, contexts, responses, temperature=1.0):
    logprobs = policy(contexts, *pad(responses), temperature)
    return [row[: len(response)] for row, response in zip(logprobs, responses, strict=True)]


def in_space(space, prompts):
    """The context of one response to each prompt."""
    count = len(prompts)
    rollouts = Rollouts(
        prompts=[Prompt(position=i, text="", token_ids=ids) for i, ids in enumerate(prompts)],
        tokens=torch.zeros(count, 1, dtype=torch.long),
        mask=torch.ones(count, 1, dtype=torch.bool),
        logprobs=torch.zeros(count, 1),
        texts=[""] * count,
        finish_reasons=["length"] * count,
    )
    return contexts_in(space, rollouts, SimpleNamespace(start_token_id=START), seed=0, iteration=0)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("space", ["conditional", "marginal"])
def test_equal_to_a_plain_forward_of_each_sequence(policy, space, temperature):
    contexts = PROMPTS if space == "conditional" else [(START,)] * 4
    found = scored(policy, in_space(space, PROMPTS), RESPONSES, temperature)
    for row, context, response in zip(found, contexts, RESPONSES, strict=True):
        torch.testing.assert_close(row, plain(policy.model, context, response, temperature), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float64_the_batch_adds_nothing_to_the_rounding(kind):
    policy = Policy(build_model(kind, torch.float64))
    for row, context, response in zip(scored(policy, PROMPTS, RESPONSES), PROMPTS, RESPONSES, strict=True):
        assert row.dtype == torch.float64
        torch.testing.assert_close(row, plain(policy.model, context, response), atol=1e-10, rtol=0)


def test_the_softmax_of_a_narrow_model_is_in_float32():
    policy = Policy(build_model("tied", torch.bfloat16))
    (found,) = scored(policy, PROMPTS[:1], RESPONSES[:1], 0.7)
    logits = policy.model(input_ids=torch.tensor([[*PROMPTS[0], *RESPONSES[0]]])).logits[0].double() / 0.7
    expected = [logits.log_softmax(-1)[4 + t, token] for t, token in enumerate(RESPONSES[0])]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), torch.stack(expected), atol=1e-5, rtol=0)


def test_alone_or_in_any_batch_the_same(policy):
    together = scored(policy, PROMPTS, RESPONSES)
    rng = random.Random(0)
    for size in (1, 2, 3, 4, 9):
        chosen = [rng.randrange(4) for _ in range(size)]
        found = scored(policy, [PROMPTS[i] for i in chosen], [RESPONSES[i] for i in chosen])
        for row, i in zip(found, chosen, strict=True):
            torch.testing.assert_close(row, together[i], atol=1e-5, rtol=0)


def test_the_marginal_space_never_sees_a_prompt(policy):
    others = [(9, 9), (8, 7, 6, 5, 4, 3), (20,), ()]
    mine, theirs = (policy(in_space("marginal", prompts), *pad(RESPONSES)) for prompts in (PROMPTS, others))
    assert torch.equal(mine, theirs)
    mine, theirs = (policy(in_space("conditional", prompts), *pad(RESPONSES)) for prompts in (PROMPTS, others))
    assert (mine - theirs)[0].abs().max() > 1e-3  # the check above can fail


def test_an_empty_context_is_the_start_token(policy):
    assert in_space("conditional", [(), (7,)]) == [(START,), (7,)]


def test_padding_is_zero_and_what_stands_there_does_not_matter(policy):
    zeros, mask = pad(RESPONSES)
    junk, _ = pad(RESPONSES, fill=29)
    first, second = policy(PROMPTS, zeros, mask), policy(PROMPTS, junk, mask)
    assert torch.equal(first, second)
    assert (first[~mask] == 0).all() and (first[mask] < 0).all()


def test_further_padding_on_the_right_does_not_matter(policy):
    tokens, mask = pad(RESPONSES)
    wider = [torch.nn.functional.pad(part, (0, 5)) for part in (tokens, mask)]
    torch.testing.assert_close(policy(PROMPTS, *wider)[:, :7], policy(PROMPTS, tokens, mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_plain_forwards(kind):
    policy = Policy(build_model(kind, torch.float64))
    weights = [torch.linspace(-1, 2, len(response), dtype=torch.float64) for response in RESPONSES]

    def gradient(logprobs):
        policy.zero_grad()
        sum((row * weight).sum() for row, weight in zip(logprobs, weights, strict=True)).backward()
        return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])

    found = gradient(scored(policy, PROMPTS, RESPONSES, 0.7))
    expected = gradient([plain(policy.model, c, r, 0.7) for c, r in zip(PROMPTS, RESPONSES, strict=True)])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_responses_of_one_token(policy):
    found = policy([(4, 5), (6,)], *pad([(7,), (8,)]))
    expected = torch.stack([plain(policy.model, (4, 5), (7,)), plain(policy.model, (6,), (8,))])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_response_of_no_token_has_no_log_probability(policy):
    tokens, mask = pad([(), (7, 8)])
    found = policy([(4, 5), (6,)], tokens, mask)
    torch.testing.assert_close(found[1], plain(policy.model, (6,), (7, 8)), atol=1e-5, rtol=0)
    assert (found[0] == 0).all()
    nothing = policy([(4, 5), (6,)], tokens[:, :0], mask[:, :0])
    assert nothing.shape == (2, 0)
    nothing.sum().backward()


def inputs_of(policy, monkeypatch, *arguments, **layout):
    """What a pass gives the model."""
    given = {}
    forward = policy.model.forward
    with monkeypatch.context() as patch:
        patch.setattr(policy.model, "forward", lambda **inputs: given.update(inputs) or forward(**inputs))
        policy.score(*arguments, **layout)
    return given


def test_rows_are_padded_on_the_right_and_need_no_mask(policy, monkeypatch):
    given = inputs_of(policy, monkeypatch, [(4, 5, 6), (7,)], *pad([(8, 9), (10, 11)]))
    assert given["input_ids"].tolist() == [[4, 5, 6, 8], [7, 10, 0, 0]]
    assert "attention_mask" not in given and "position_ids" not in given  # every kernel of attention takes them


def test_a_shared_context_is_read_once(policy, monkeypatch):
    contexts, responses = [(4, 5), (6,), (4, 5)], pad([(8, 9, 10), (12, 13), (11, 3)])
    given = inputs_of(policy, monkeypatch, contexts, *responses, together=[[0, 2], [1]])
    assert given["input_ids"].tolist() == [[4, 5, 8, 9, 11], [6, 12, 0, 0, 0]]
    assert given["position_ids"].tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    seen = given["attention_mask"][0, 0] == 0
    assert seen.tolist() == [[True] + [False] * 4, [True] * 2 + [False] * 3, [True] * 3 + [False] * 2,
                             [True] * 4 + [False], [True, True, False, False, True]]  # fmt: skip
    assert (given["attention_mask"][1] == 0).any(-1).all()  # padding sees itself: no softmax over nothing


def test_the_head_sees_the_response_alone(policy, monkeypatch):
    seen = []
    policy.model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    policy(PROMPTS, *pad(RESPONSES))
    assert seen == [(1, sum(map(len, RESPONSES)), V)]


def test_there_is_no_dropout_in_training_mode(policy):
    assert policy.training
    assert torch.equal(policy(PROMPTS, *pad(RESPONSES)), policy(PROMPTS, *pad(RESPONSES)))
    training = policy(PROMPTS, *pad(RESPONSES))
    assert torch.equal(training, policy.eval()(PROMPTS, *pad(RESPONSES)))


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        policy = Policy(build_model("tied", torch.float64))
        if checkpointing:
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            policy.train()
        policy(PROMPTS, *pad(RESPONSES)).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_activation_offloading_changes_no_gradient_and_moves_the_inputs_of_blocks(monkeypatch):
    monkeypatch.setattr("dsrl.models.offloading.SMALLEST", 1)
    gradients, moved = [], []

    def to_host(tensor):
        moved.append(tuple(tensor.shape))
        return tensor.clone()

    for saving in (nullcontext, partial(saved_on_host, to_host)):
        policy = Policy(build_model("tied", torch.float64), saving)
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy.train()
        policy(PROMPTS, *pad(RESPONSES)).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)
    config = policy.model.config
    inputs = [shape for shape in moved if len(shape) == 3 and shape[-1] == config.hidden_size]
    assert len(inputs) >= config.num_hidden_layers
    assert not {tuple(weight.shape) for weight in policy.parameters() if weight.ndim == 2} & set(moved)


def test_tied_weights_come_once():
    names = {kind: [name for name, _ in Policy(build_model(kind)).named_tensors()] for kind in ("tied", "untied")}
    assert "lm_head.weight" in names["untied"] and "lm_head.weight" not in names["tied"]
    assert names["untied"] == [*names["tied"], "lm_head.weight"]
    assert names["tied"][0] == "model.embed_tokens.weight"
