"""Before training, a few tokens show whether sampler, padded rows and a plain forward compute the same."""

import pytest
import torch
from test_families import ALL, EXPERTS, LINEAR, REFUSED, SIZES, TOWERS, config_of, folder_of, model_of
from transformers import AutoConfig, AutoModelForCausalLM

from dsrl import build
from dsrl.config.compose import compose
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.evaluation.evaluation import evaluate
from dsrl.models import agreement, families
from dsrl.models.agreement import check_rows, check_sampler
from dsrl.models.families import attention_of
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.runs.fit import fit

torch.set_num_threads(1)


MORE = {  # families beside those of the table, tried here alone
    **dict.fromkeys(("arcee", "exaone4", "hunyuan_v1_dense", "llama4_text", "olmo3", "olmo_hybrid", "seed_oss"), {}),
    "falcon": {},
    "lfm2_moe": {**EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "qwen3_5_moe_text": {**EXPERTS, **LINEAR, "shared_expert_intermediate_size": 16},
    "zamba": {
        **{"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4, "n_mamba_heads": 2},
        **{"num_key_value_heads": 4, "attention_hidden_size": 64, "attention_head_dim": 16},
    },
}


@torch.no_grad()
def another(name):
    torch.manual_seed(0)
    left_out = {"head_dim", "num_key_value_heads"} if name == "falcon" else set()
    sizes = {key: value for key, value in {**SIZES, **MORE[name]}.items() if key not in left_out}
    config = AutoConfig.for_model(name, **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_of(config, "sdpa"))
    for tensor in model.parameters():
        if tensor.ndim > 1 and tensor.std() < 0.15:
            tensor.normal_(0, 0.15)
    return model


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")))


def sampler_of(model, encoder):
    sampler = build("sampler", {"name": "hf"})
    sampler.setup(Policy(model), encoder)
    return sampler


@pytest.mark.parametrize("name", [name for name in (*ALL, *TOWERS) if name not in REFUSED])
def test_models_of_the_table_pass(name, encoder):
    sampler = sampler_of(model_of(name).train(), encoder)
    check_rows(sampler.policy)
    sampler.check_logprobs()
    assert sampler.policy.training


@pytest.mark.parametrize("name", MORE)
def test_models_beside_the_table_pass(name, encoder):
    sampler = sampler_of(another(name), encoder)
    check_rows(sampler.policy)
    sampler.check_logprobs()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["tiny", "retry"])
def test_any_type_of_the_compute_passes(name, dtype, encoder):
    sampler_of(load_model(name).to(dtype), encoder).check_logprobs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sampler_of(load_model(name), encoder).check_logprobs()


def without(monkeypatch, name):
    """Let a family through that is refused by its architecture, as one of tomorrow would be."""
    monkeypatch.setattr(families, "cannot_decode", lambda architecture: None)
    return model_of(name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_outside_of_the_cache_is_found_without_knowing_the_family(name, encoder, monkeypatch):
    sampler = sampler_of(without(monkeypatch, name), encoder)
    with pytest.raises(ConfigError, match=rf"sampler=hf cannot sample from {name} \(.*; use sampler=vllm, if vLLM"):
        sampler.check_logprobs()


def ignore_padding(patch, sampler):
    read = sampler_modules().next_logits

    def blind(model, ids, position, seen, cache):
        return read(model, ids, position, None, cache)

    patch(sampler_modules(), "next_logits", blind)


def sampler_modules():
    from dsrl.samplers import decoding

    return decoding


def count_positions_from_the_padding(patch, sampler):
    read = sampler_modules().next_logits

    def shifted(model, ids, position, seen, cache):
        return read(model, ids, position + (0 if seen is None else (~seen).sum(1, keepdim=True)), seen, cache)

    patch(sampler_modules(), "next_logits", shifted)


def mix_responses_up(patch, sampler):
    def cycled(cache, rows, repeats):
        for layer in cache.layers:
            layer.batch_repeat_interleave(repeats)
            layer.batch_select_indices(torch.arange(rows * repeats).roll(1))

    patch(sampler_modules().DecodingCache, "repeat", cycled)


def keep_the_rows_of_responses_that_have_ended(patch, sampler):
    def first(cache, indices):
        for layer in cache.layers:
            layer.batch_select_indices(torch.arange(len(indices)))

    patch(sampler_modules().DecodingCache, "select", first)


def forget_the_cache(patch, sampler):
    read = sampler_modules().next_logits

    def forgetful(model, ids, position, seen, cache):
        from transformers import DynamicCache

        return read(model, ids, position, None, DynamicCache(config=model.config))

    patch(sampler_modules(), "next_logits", forgetful)


def sample_from_other_weights(patch, sampler):
    torch.manual_seed(1)
    sampler.model = AutoModelForCausalLM.from_config(sampler.policy.model.config).eval()
    for tensor in sampler.model.parameters():
        tensor.data.normal_(0, 0.15)
    sampler.model.to(next(sampler.policy.parameters()).dtype)


def scale_the_logits(patch, sampler):
    read = sampler_modules().next_logits
    patch(sampler_modules(), "next_logits", lambda *arguments: read(*arguments) * 1.3)


def give_no_number(patch, sampler):
    sample = sampler._draw

    def broken(prompts, params):
        found = sample(prompts, params)
        found.logprobs[0, 0] = float("nan")
        return found

    patch(sampler, "_draw", broken)


@pytest.mark.parametrize(
    ("broken", "kind", "dtype"),
    [
        *((broken, kind, torch.float32) for broken in (ignore_padding, mix_responses_up) for kind in ("gpt2", "llama")),
        (count_positions_from_the_padding, "gpt2", torch.float32),  # llama's are relative
        (keep_the_rows_of_responses_that_have_ended, "llama", torch.float32),
        (forget_the_cache, "llama", torch.float32),
        (sample_from_other_weights, "llama", torch.float32),
        (scale_the_logits, "llama", torch.float32),
        (give_no_number, "llama", torch.float32),
        (ignore_padding, "llama", torch.bfloat16),
        (mix_responses_up, "llama", torch.bfloat16),
        (sample_from_other_weights, "llama", torch.bfloat16),
        (give_no_number, "llama", torch.bfloat16),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_sampler_that_draws_from_something_else_ends_the_run(broken, kind, dtype, encoder, monkeypatch):
    sampler = sampler_of(model_of(kind).to(dtype), encoder)
    broken(monkeypatch.setattr, sampler)
    with pytest.raises(ConfigError, match=rf"sampler=hf cannot sample from {kind} \(\w+\)"):
        sampler.check_logprobs()


@torch.no_grad()
def looking_ahead():
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("bert", **sizes, intermediate_size=48, max_position_embeddings=64, is_decoder=False)
    model = AutoModelForCausalLM.from_config(config)
    for tensor in model.parameters():
        if tensor.ndim > 1:
            tensor.normal_(0, 0.3)
    return model


def test_a_model_that_looks_ahead_is_refused(encoder):
    policy = Policy(looking_ahead())
    for padded in (True, False):
        with pytest.raises(ConfigError, match=r"bert \(BertLMHeadModel\) looks ahead: .*is_decoder=false, true"):
            check_rows(policy, padded=padded)
    with pytest.raises(ConfigError, match="cannot sample from bert"):
        check_sampler(policy, "hf", sampler_of(policy.model, encoder)._draw)


def test_a_model_that_reads_padding_is_refused_unless_there_is_none(encoder):
    policy = Policy(model_of("llama"))
    forward = policy.model.forward

    def of_all_tokens(input_ids, **named):
        return forward(input_ids=(input_ids + input_ids.eq(0).sum()) % 100, **named)

    policy.model.forward = of_all_tokens
    check_rows(policy, padded=False)
    with pytest.raises(
        ConfigError, match=r"llama \(LlamaForCausalLM\) reads padding: .*micro_batch_tokens=1 pads none"
    ):
        check_rows(policy)


def test_runs_and_evaluations_end_before_the_first_sample(tmp_path, monkeypatch):
    folder = folder_of(without(monkeypatch, "recurrent_gemma"), tmp_path / "model")
    message = r"sampler=hf cannot sample from recurrent_gemma \(RecurrentGemmaForCausalLM\)"
    sizes = ["prompts_per_iteration=2", "responses_per_prompt=2", "sampling.max_new_tokens=4", "logger=none"]
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=message):
        fit(compose(["model=hf", f"model.name={folder}", "iterations=1", f"run_dir={run}", *sizes]))
    assert not [*run.glob("samples.jsonl"), *run.glob("metrics.jsonl"), *run.glob("checkpoints/*")]
    with pytest.raises(ConfigError, match=message):
        evaluate(
            [
                f"model={folder}",
                "data.val=arithmetic",
                "k=1",
                "sampling.max_new_tokens=4",
                f"run_dir={tmp_path / 'evaluation'}",
            ]
        )
    assert not [*(tmp_path / "evaluation").glob("config.yaml")]


def test_weights_of_rwkv_stay_what_they_are_when_it_is_evaluated(tmp_path):
    """It halves those of its blocks from the 7th on, in place, for float16; a file written meanwhile would too."""
    config = config_of("rwkv")
    config.num_hidden_layers = 8
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    check_rows(Policy(model))
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([[1, 5, 6]]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


def test_it_takes_a_few_short_forwards(encoder):
    sampler, calls = sampler_of(load_model("tiny"), encoder), []
    forward = sampler.policy.model.forward

    def counted(*arguments, **named):
        calls.append(tuple(named["input_ids"].shape))
        return forward(*arguments, **named)

    sampler.policy.model.forward = counted
    check_rows(sampler.policy)
    sampler.check_logprobs()
    assert len(calls) <= 4 + 1 + 1 + agreement.NEW_TOKENS + 8
    assert max(rows * length for rows, length in calls) <= 4 * (6 + 8)
