"""The head in chunks against the model's own logits of everything, for many kinds of heads."""

import copy

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from dsrl.models import head
from dsrl.models.policy import Policy
from dsrl.samplers.decoding import left_pad

V, N = 37, 4
SIZE = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OLD = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
KINDS = {
    "llama": ("LlamaConfig", SIZE),
    "qwen2": ("Qwen2Config", {**SIZE, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", SIZE),
    "mistral": ("MistralConfig", SIZE),
    "gemma2": ("Gemma2Config", {**SIZE, "final_logit_softcapping": 3.0, "attn_logit_softcapping": None}),
    "gemma3": ("Gemma3TextConfig", {**SIZE, "final_logit_softcapping": 2.0}),
    "granite": ("GraniteConfig", {**SIZE, "logits_scaling": 4.0}),
    "cohere": ("CohereConfig", {**SIZE, "logit_scale": 0.25}),
    "cohere2": ("Cohere2Config", {**SIZE, "logit_scale": 0.5}),
    "phi": ("PhiConfig", SIZE),  # a head with a bias
    "olmo2": ("Olmo2Config", SIZE),
    "qwen3_moe": ("Qwen3MoeConfig", {**SIZE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}),
    "gpt2": ("GPT2Config", {**ENDS, "vocab_size": V, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "gpt_neox": ("GPTNeoXConfig", {**OLD, **ENDS, "intermediate_size": 24, "max_position_embeddings": 64}),
    "opt": (
        "OPTConfig",
        {"vocab_size": V, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 4, **ENDS},
    ),
}
FLOAT32_NORMS = ("gemma2", "gemma3", "cohere", "cohere2")
CONTEXTS = [(5, 6, 7), (8,), (9, 10), (11, 12, 13, 14)]
LENGTHS = torch.tensor([5, 1, 3, 4])
MASK = torch.arange(5) < LENGTHS[:, None]
TOKENS = (torch.arange(20).view(4, 5) * 7 % (V - 4) + 4) * MASK
WEIGHTS = torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)


def model_of(kind, dtype=torch.float64):
    name, size = KINDS[kind]
    torch.manual_seed(1)
    config = getattr(transformers, name)(**size)
    config._experts_implementation = "eager"  # the others have no float64
    model = transformers.AutoModelForCausalLM.from_config(config)
    return model.to(dtype).train()


def whole(model, temperature):
    """Log-probabilities and entropies [N, T] of the same batch, with every logit of it in memory."""
    contexts, context_mask = left_pad(CONTEXTS, TOKENS.device)
    seen = torch.cat([context_mask, torch.ones_like(MASK[:, :-1])], dim=1).long()
    logits = model(
        input_ids=torch.cat([contexts, TOKENS[:, :-1]], dim=1),
        attention_mask=seen,
        position_ids=(seen.cumsum(-1) - 1).clamp(min=0),
        use_cache=False,
    ).logits[:, -TOKENS.shape[1] :]
    table = (logits / temperature).log_softmax(-1)
    logprobs = table.gather(-1, TOKENS[..., None])[..., 0].masked_fill(~MASK, 0.0)
    return logprobs, -(table.exp() * table).sum(-1).masked_fill(~MASK, 0.0)


@pytest.fixture
def chunks_of_three(monkeypatch):
    """13 response tokens are then 5 chunks."""
    monkeypatch.setattr(head, "CHUNK_BYTES", 3 * 4 * V)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_whole_logits_in_float64(kind, temperature, chunks_of_three):
    policy = Policy(model := model_of(kind))
    assert policy.chunks == (kind != "opt")  # whose forward calls a part of its base
    logprobs, entropy = whole(model, temperature)
    gradients = torch.autograd.grad((logprobs * WEIGHTS).sum(), list(model.parameters()), allow_unused=True)
    found = policy.score(CONTEXTS, TOKENS, MASK, temperature)
    torch.testing.assert_close(found.logprobs, logprobs, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.entropy, entropy, atol=1e-12, rtol=0)
    assert not found.entropy.requires_grad
    mine = torch.autograd.grad((found.logprobs * WEIGHTS).sum(), list(model.parameters()), allow_unused=True)
    for gradient, expected in zip(mine, gradients, strict=True):
        assert (gradient is None) == (expected is None)
        if expected is not None:  # some norms compute in float32, whatever the model
            torch.testing.assert_close(gradient, expected, atol=1e-6 if kind in FLOAT32_NORMS else 1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen2", "gpt2"])
def test_chunks_change_no_gradient_in_float32(kind, monkeypatch):
    gradients = []
    for size in (2**28, 4 * V):
        monkeypatch.setattr(head, "CHUNK_BYTES", size)
        policy = Policy(model_of(kind, torch.float32))
        (policy(CONTEXTS, TOKENS, MASK) * WEIGHTS).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-6 * gradients[0].abs().max()


def test_a_copy_scores_with_its_own_weights(chunks_of_three):
    policy = Policy(model_of("llama"))
    other = copy.deepcopy(policy)
    for parameter in other.parameters():
        parameter.data.add_(0.1)
    expected = whole(other.model, 1.0)[0]
    torch.testing.assert_close(other(CONTEXTS, TOKENS, MASK), expected, atol=1e-12, rtol=0)
    assert (policy(CONTEXTS, TOKENS, MASK) - expected).abs().max() > 1e-3


def test_the_models_own_forward_stays(chunks_of_three):
    model, ids = model_of("gemma2"), torch.tensor([[5, 6, 7, 8]])
    before = model(input_ids=ids, use_cache=False).logits
    Policy(model)(CONTEXTS, TOKENS, MASK)
    assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)
    assert torch.equal(model(ids).logits, before)


def test_a_model_without_a_head_of_its_own_is_scored_by_its_whole_logits(chunks_of_three):
    class Own(torch.nn.Module):
        base_model_prefix = ""

        def __init__(self):
            super().__init__()
            self.inner = model_of("llama")
            self.config = self.inner.config

        def forward(self, **named):
            return self.inner(**named)

    policy = Policy(Own())
    assert not policy.chunks
    found, expected = policy.score(CONTEXTS, TOKENS, MASK, 0.7), whole(policy.model.inner, 0.7)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("vocabulary", [8_192, 32_768])
def test_no_tensor_of_a_pass_grows_with_the_vocabulary(vocabulary, monkeypatch):
    """Forward and backward of 512 tokens: beside the head's own weights, nothing is larger than a chunk."""
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * 2**18)
    config = transformers.LlamaConfig(**{**SIZE, "vocab_size": vocabulary, "max_position_embeddings": 512})
    policy = Policy(transformers.AutoModelForCausalLM.from_config(config))
    tokens = torch.randint(4, vocabulary, (2, 256))
    with Largest() as largest:
        policy([(5,), (6,)], tokens, torch.ones_like(tokens, dtype=torch.bool)).sum().backward()
    assert largest.elements <= max(2**18, vocabulary * SIZE["hidden_size"])
