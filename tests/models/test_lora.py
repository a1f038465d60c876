"""Adapters of every layer type that peft adapts: merged, they compute what they do beside it, or they are refused."""

import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_families import EXPERTS, SIZES, config_of
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.families import attention_of
from dsrl.models.loading import EMBEDDED, load_model
from dsrl.models.lora import ADAPTER, add_adapters, has_adapters, initialize_adapters, merge_adapters, write_adapter
from dsrl.models.policy import Policy
from dsrl.models.sharded_loading import load_parts, model_without_weights
from dsrl.runs.hf_folder import write_hf
from dsrl.samplers.vllm.checkpoint_tensors import checkpoint_tensors

peft = pytest.importorskip("peft")
torch.set_num_threads(1)

IDS = torch.tensor([[1, 26, 24, 28, 16, 30, 21, 34], [5, 9, 3, 40, 41, 42, 7, 2]])
UNTIED = {"tie_word_embeddings": False}
EXPERT_PARAMETERS = ["experts.gate_up_proj", "experts.down_proj"]
MERGED = {
    "gpt2, all-linear": ("gpt2", {}, {}),
    "gpt2, square Conv1D": ("gpt2", {}, {"target_modules": ["attn.c_proj"]}),
    "gpt2, positions": ("gpt2", {}, {"target_modules": ["c_attn", "wpe"]}),
    "gpt2 untied, embedding and head": ("gpt2", UNTIED, {"target_modules": ["c_fc", "wte", "lm_head"]}),
    "llama, all-linear": ("llama", {}, {}),
    "llama untied, embedding": ("llama", UNTIED, {"target_modules": ["q_proj", "embed_tokens"]}),
    "llama untied, head": ("llama", UNTIED, {"target_modules": ["lm_head"]}),
    "llama, a regular expression": ("llama", UNTIED, {"target_modules": r".*layers\.1\..*(q|up)_proj"}),
    "llama, a weight as a parameter": (
        "llama",
        UNTIED,
        {"target_modules": ["q_proj"], "target_parameters": ["o_proj.weight"]},
    ),
    "gemma3, scaled embedding": ("gemma3_text", UNTIED, {"target_modules": ["embed_tokens", "o_proj"]}),
    "phi, biases": ("phi", {}, {}),
    "gpt_neox, fused queries": ("gpt_neox", {}, {}),
    "bloom, fused queries": ("bloom", {}, {}),
    "falcon, a forward of its own": ("falcon", {}, {}),
    "qwen3_moe, experts and router": ("qwen3_moe", EXPERTS, {}),
    "mixtral, experts and router": ("mixtral", EXPERTS, {}),
    "glm4_moe, experts": ("glm4_moe", EXPERTS, {"target_modules": [], "target_parameters": EXPERT_PARAMETERS}),
    "gpt_oss, experts of the other order": (
        "gpt_oss",
        EXPERTS,
        {"target_modules": ["q_proj"], "target_parameters": EXPERT_PARAMETERS},
    ),
    "deepseek_v3, latent attention": ("deepseek_v3", {}, {}),
    "qwen3_next, linear attention": ("qwen3_next", {}, {}),
    "mamba, its projections": ("mamba", {}, {"target_modules": ["in_proj"]}),
}
REFUSED = {
    "gpt2 tied, embedding": (
        "gpt2",
        {},
        {"target_modules": ["wte"]},
        r"wte \(Embedding\) which shares its weight with lm_head",
    ),
    "llama tied, head": (
        "llama",
        {"tie_word_embeddings": True},
        {"target_modules": ["q_proj", "lm_head"]},
        r"\[q_proj, lm_head\]: no adapters for lm_head \(Linear\) which shares its weight with model.embed_tokens"
        r".*; the others can have them: model.lora.target_modules=\[q_proj\]",
    ),
    "llama tied, by a regular expression": (
        "llama",
        {"tie_word_embeddings": True},
        {"target_modules": ".*(q_proj|embed_tokens)"},
        r"embed_tokens \(Embedding\) which shares its weight",
    ),
    "opt, positions": ("opt", {}, {"target_modules": ["embed_positions"]}, r"embed_positions \(OPTLearnedPositional"),
    "mamba, all-linear": ("mamba", {}, {}, "'out_proj' is incompatible with Mamba"),
    "lfm2, convolution": ("lfm2", {}, {"target_modules": ["conv.conv"]}, "Conv1d with groups=32 and rank 2"),
    "lfm2, convolution of a fitting rank": (
        "lfm2",
        {},
        {"rank": 32, "target_modules": ["conv.conv"]},
        r"conv \(Conv1d\) which is a convolution in groups",
    ),
    "jamba, read by a kernel": ("jamba", {}, {}, r"dt_proj \(Linear\) whose weight JambaMambaMixer also reads"),
    "bamba, read by a kernel": (
        "bamba",
        {},
        {},
        r"out_proj \(Linear\) whose weight BambaMixer also reads.*modules=\[.*q_proj",
    ),
    "no such layer": ("llama", {}, {"target_modules": ["q_prj", "v_proj"]}, "no layer q_prj. Did you mean 'q_proj'"),
    "nothing of it": ("llama", {}, {"target_modules": ["query"]}, "peft cannot adapt them: .*not found"),
    "no such parameter": ("llama", {}, {"target_parameters": ["experts.w1"]}, "no layer experts.w1"),
    "a norm": ("llama", {}, {"target_modules": ["input_layernorm"]}, "LlamaRMSNorm.* is not supported"),
}


FALCON = {key: value for key, value in SIZES.items() if key not in ("head_dim", "num_key_value_heads")}


@torch.no_grad()
def model_of(kind, changes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **FALCON) if kind == "falcon" else config_of(kind)
    for key, value in changes.items():
        setattr(config, key, value)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_of(config, "sdpa"))
    for tensor in model.parameters():
        if tensor.ndim > 1:
            tensor.normal_(0, 0.15)
    return model.eval()


def adapted(kind, changes, targets):
    """A model with adapters that are far from doing nothing, and the same model without."""
    model = model_of(kind, changes)
    add_adapters(model, LoraConfig(rank=2, alpha=3, **targets))
    initialize_adapters(model)
    move(model)
    return model, model_of(kind, changes)


@torch.no_grad()
def move(model):
    for number, (name, parameter) in enumerate(model.named_parameters()):
        if ADAPTER.match(name):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.3)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=IDS, use_cache=False).logits.float()


@torch.no_grad()
def filled(model, tensors):
    tensors, names = dict(tensors), {name for name, _ in model.named_parameters()}
    assert names <= {*tensors}
    model.load_state_dict(tensors, strict=False)
    return model


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_model_computes_what_adapters_beside_it_do(name):
    model, plain = adapted(*MERGED[name])
    expected = logits(model)
    assert (expected - logits(plain)).abs().max() > 0.05
    torch.testing.assert_close(logits(filled(plain, Policy(model).named_tensors())), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MERGED)
def test_new_adapters_change_nothing_and_are_the_only_trained_weights(name):
    kind, changes, targets = MERGED[name]
    model = model_of(kind, changes)
    before = logits(model)
    add_adapters(model, LoraConfig(rank=2, **targets))
    initialize_adapters(model)
    torch.testing.assert_close(logits(model), before, atol=1e-6, rtol=0)  # kernels differ by where memory begins
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert trained and all(ADAPTER.match(key) for key in trained)
    for key, value in trained.items():  # one of the two is at random, so that the other gets a gradient
        match = ADAPTER.match(key)
        assert bool(value.any()) == ((match["which"] == "A") != bool(match["embedding"]))
    again = model_of(kind, changes)
    add_adapters(again, LoraConfig(rank=2, **targets))
    initialize_adapters(again)
    assert all(torch.equal(value, again.get_parameter(key)) for key, value in trained.items())
    model.train()(input_ids=IDS, use_cache=False).logits.logsumexp(-1).sum().backward()
    moved = {key for key, value in trained.items() if value.grad is not None and value.grad.any()}
    assert {ADAPTER.match(key)["layer"] for key in moved} == {ADAPTER.match(key)["layer"] for key in trained}


@pytest.mark.parametrize("name", MERGED)
def test_peft_reads_the_adapter_alone(name, tmp_path):
    kind, changes, targets = MERGED[name]
    model, plain = adapted(kind, changes, targets)
    config = ModelConfig(name="base", lora=LoraConfig(rank=2, alpha=3, **targets))
    write_adapter(tmp_path, config, model.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = peft.PeftModel.from_pretrained(plain, tmp_path)
        torch.testing.assert_close(logits(found), logits(model), atol=1e-4, rtol=0)
        torch.testing.assert_close(logits(found.merge_and_unload()), logits(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["gpt2, all-linear", "llama untied, embedding", "qwen3_moe, experts and router"])
def test_a_folder_and_an_engine_get_the_adapted_model(name, tmp_path):
    kind, changes, targets = MERGED[name]
    model_of(kind, changes).save_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["tiny"])
    config = ModelConfig(name=str(tmp_path / "model"), lora=LoraConfig(rank=2, alpha=3, **targets))
    model = load_model(config)
    move(model)
    expected = logits(model)
    about = {"iterations_done": 1, "config": {**ABOUT, "model": {"name": "base"}}}
    write_hf(tmp_path / "hf", config, Policy(model).named_tensors(), tokenizer, about)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    torch.testing.assert_close(logits(written), expected, atol=1e-4, rtol=0)
    sent = dict(checkpoint_tensors(model, Policy(model).named_tensors(torch.float32), torch.float32))
    assert not any("lora" in key or "base_layer" in key for key in sent)
    reader = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "model"))
    reader.save_pretrained(tmp_path / "sent", state_dict=reader.state_dict())
    file = tmp_path / "sent" / "model.safetensors"
    assert {*load_file(file)} == {*sent}  # the names and shapes of a checkpoint, which engines read
    save_file({key: value.contiguous() for key, value in sent.items()}, file, metadata={"format": "pt"})
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "sent")), expected, atol=1e-4, rtol=0
    )


ABOUT = {
    **{"objective": "grpo", "data": "arithmetic", "iterations": 1, "prompts_per_iteration": 1, "seed": 0},
    **{"responses_per_prompt": 1, "optimizer": {"lr": 1.0}},
}


@pytest.mark.parametrize("name", ["gpt2 untied, embedding and head", "gpt_oss, experts of the other order"])
def test_each_rank_that_reads_its_part_gets_the_same_model(name, tmp_path):
    kind, changes, targets = MERGED[name]
    model_of(kind, changes).save_pretrained(tmp_path)
    config = ModelConfig(name=str(tmp_path), lora=LoraConfig(rank=2, **targets))
    whole, parts = load_model(config), model_without_weights(config)
    load_parts(config, [parts], torch.device("cpu"))
    assert has_adapters(parts)
    for (name, tensor), (its_name, part) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        assert name == its_name and torch.equal(tensor, part)


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_be_merged_is_refused_with_target_and_type(name):
    kind, changes, targets, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        add_adapters(model_of(kind, changes), LoraConfig(**{"rank": 2, **targets}))


def test_a_convolution_is_merged():
    inner = torch.nn.Sequential()
    inner.conv = torch.nn.Conv1d(3, 4, 5)
    plain = torch.nn.Conv1d(3, 4, 5)
    plain.load_state_dict(inner.conv.state_dict())
    add_adapters(inner, LoraConfig(rank=2, alpha=3, target_modules=["conv"]))
    initialize_adapters(inner)
    move(inner)
    plain.load_state_dict(
        {key.removeprefix("conv."): value for key, value in merge_adapters(inner, inner.named_parameters())}
    )
    inputs = torch.randn(2, 3, 9)
    torch.testing.assert_close(inner(inputs), plain(inputs), atol=1e-5, rtol=0)


def test_a_merge_is_worked_out_by_hand():
    """W + alpha / rank * B A: [[1, 0], [0, 1]] + 6 / 2 * [[1, 0], [0, 2]] [[1, 2], [0, 1]]; of embeddings (B A)^T."""
    a, b, expected = [[1.0, 2.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]], [[4.0, 6.0], [0.0, 7.0]]
    for layer, turned in ((torch.nn.Linear(2, 2, bias=False), False), (torch.nn.Embedding(2, 2), True)):
        model = torch.nn.Sequential()
        model.one = layer
        layer.weight.data = torch.eye(2, dtype=torch.bfloat16)
        add_adapters(model, LoraConfig(rank=2, alpha=6, target_modules=["one"]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if match := ADAPTER.match(name):
                    parameter.copy_(torch.tensor(a if match["which"] == "A" else b))
        ((name, merged),) = merge_adapters(model, model.named_parameters())
        assert (name, merged.dtype) == ("one.weight", torch.bfloat16)
        assert merged.T.tolist() == expected if turned else merged.tolist() == expected
