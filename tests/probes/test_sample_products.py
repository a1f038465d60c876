"""Level 2 against the gradients of single responses."""

import copy

import pytest
import torch
from by_hand import plain_gradients, subject_of
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dsrl.config.schema import LoraConfig
from dsrl.models.lora import add_adapters
from dsrl.models.policy import Policy
from dsrl.probes.by_prompt import estimated
from dsrl.probes.groups import Grouping
from dsrl.probes.samples import measure_samples, sample_sums


def llama(**settings):
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, initializer_range=0.3, **size, **settings))


def gpt2(**settings):
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3))


def adapted(**settings):
    model = llama()
    model.requires_grad_(False)
    add_adapters(model, LoraConfig(rank=3))
    for name, own in model.named_parameters():
        if "lora_" in name:
            own.data.normal_()
    return model


def compared(policy, batch, gradients, tolerance):
    """Compare every group of every response, and all parameters together, with written-out gradients."""
    grouping = Grouping(policy.model, "blocks")
    count = len(batch.rollouts.texts)
    found = measure_samples(subject_of(policy, batch), range(count), grouping)
    for which, (one, other) in {
        "inner": ("conditional", "marginal"),
        "given": ("conditional", "conditional"),
        "alone": ("marginal", "marginal"),
    }.items():
        expected = {}
        for name, own in gradients[one].items():
            product = (own.double() * gradients[other][name].double()).sum(-1)
            expected[grouping(name)] = expected.get(grouping(name), 0.0) + product
        assert getattr(found, which).keys() == expected.keys()
        for group, values in expected.items():
            scale = expected[group].abs().clamp_min(1e-12)
            assert float(((getattr(found, which)[group] - values).abs() / scale).max()) < tolerance
        total = sum(expected.values())
        assert float(((found.total(which) - total).abs() / total.abs()).max()) < tolerance
    return found


def test_the_embedded_model_with_tied_embeddings(sampled, brute):
    found = compared(*sampled, brute, 1e-7)
    assert found.covered == 1.0
    assert bool((found.cosines() > 0).all())


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (llama, {}),
        (llama, {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
        (gpt2, {}),
        (adapted, {}),
    ],
    ids=["untied", "tied, with biases", "gpt2", "lora"],
)
def test_other_architectures(sampled, make, settings):
    torch.manual_seed(0)
    policy, (_, batch) = Policy(make(**settings).double()), sampled
    batch = copy.deepcopy(batch)
    batch.rollouts.tokens %= 40
    gradients = {space: plain_gradients(policy, batch, space) for space in ("conditional", "marginal")}
    found = compared(policy, batch, gradients, 1e-6)
    assert found.covered == 1.0
    if make is adapted:
        assert not {"embeddings", "head", "norms"} & found.inner.keys()


def test_some_responses_in_small_batches_are_the_same(sampled, monkeypatch):
    policy, batch = sampled
    grouping = Grouping(policy.model, "kinds")
    every = measure_samples(subject_of(policy, batch), range(6), grouping)
    monkeypatch.setattr("dsrl.probes.samples.HELD", 1)
    some = measure_samples(subject_of(policy, batch), [1, 4], grouping)
    assert torch.allclose(some.total("inner"), every.total("inner")[[1, 4]])


def test_right_and_wrong_answers_apart(sampled):
    policy, batch = sampled
    count = len(batch.rollouts.texts)
    products = measure_samples(subject_of(policy, batch), range(count), Grouping(policy.model, "kinds"))
    found = {name: own.value for name, own in estimated(sample_sums(products, batch.rewards)).items()}
    cosines, right = products.cosines(), batch.rewards.flatten() > 0.5
    assert found["sample/cosine"] == pytest.approx(float(cosines.mean()))
    assert found["sample/cosine/right"] == pytest.approx(float(cosines[right].mean()))
    assert found["sample/cosine/wrong"] == pytest.approx(float(cosines[~right].mean()))
    assert found["sample/nonnegative"] == float((cosines >= 0).double().mean())
    assert found["sample/cosine/mlp"] == pytest.approx(float(products.cosines("mlp").mean()))


def test_a_parameter_that_no_module_shows_is_left_out(sampled):
    policy, batch = sampled
    policy = copy.deepcopy(policy)
    policy.model.model.layers[0].self_attn.o_proj.register_parameter("unused", torch.nn.Parameter(torch.ones(1000)))
    found = measure_samples(subject_of(policy, batch), range(2), Grouping(policy.model, "kinds"))
    assert 0.9 < found.covered < 1.0
