"""Families of models x the steps of a run: sampling, scoring in both spaces, two phases, export and reload.

docs/models.md shows the matrix. Weights are random, but large, so that what a step leaves out is seen.
"""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dsrl.config.compose import compose
from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.data import PromptEncoder
from dsrl.errors import ConfigError
from dsrl.models import families
from dsrl.models.families import attention_of, cannot_decode, freeze_beside_text, keeps_states
from dsrl.models.loading import EMBEDDED, load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.models.sharded_loading import load_parts, model_without_weights
from dsrl.runs.fit import fit
from dsrl.runs.hf_folder import export
from dsrl.samplers.drawing import draw_tokens
from dsrl.samplers.hf import HFSampler
from dsrl.seeding import uniforms
from dsrl.types import Prompt, SamplingParams

torch.set_num_threads(1)

V = 100  # of the embedded model's tokenizer
SIZES = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
LATENT = {
    **EXPERTS,
    **{"n_group": 1, "topk_group": 1, "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8},
    **{"qk_rope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1, "n_shared_experts": 1},
    **{"num_key_value_heads": 4, "head_dim": None},
}
WINDOW = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA = {**WINDOW, "query_pre_attn_scalar": 8}
CAPPED = {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 5.0}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 8}
LINEAR = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "layer_types": ["linear_attention", "full_attention"],
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}

ATTENTION = {
    **{name: {} for name in ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "olmo2", "granite")},
    **{name: {} for name in ("cohere", "gpt_neox", "stablelm", "smollm3", "glm4", "bloom", "apertus")},
    **dict.fromkeys(("qwen3_moe", "mixtral", "gpt_oss", "granitemoe", "glm4_moe"), EXPERTS),
    "gemma2": {**GEMMA, **CAPPED},
    "gemma3_text": GEMMA,
    "gemma4_text": {**WINDOW, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": V, "global_head_dim": 8},
    "deepseek_v3": LATENT,
    "doge": {},
    "gpt2": GPT,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
}
STATES = {
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 4, "num_heads": 8, "n_groups": 1, "chunk_size": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, "mamba_dt_rank": 4},
    "bamba": {**MAMBA2, "attn_layer_indices": [1]},
    "falcon_h1": {**MAMBA2, "mamba_d_ssm": 64},
    "granitemoehybrid": {**EXPERTS, **MAMBA2, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 16},
    "qwen3_next": {**EXPERTS, **LINEAR, "shared_expert_intermediate_size": 16},
    "qwen3_5_text": LINEAR,
    "falcon_mamba": {"state_size": 4, "time_step_rank": 4},
    "zamba2": {
        **{"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "linear_attention"]},
        **{"mamba_d_state": 4, "mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 8, "chunk_size": 8},
        **{"num_key_value_heads": 4, "attention_hidden_size": 64, "attention_head_dim": 16},
        "time_step_min": 1e-6,  # which a full pass keeps to and decoding does not: docs/models.md
    },
    "nemotron_h": {
        **{"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
        **{"ssm_state_size": 4, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1, "chunk_size": 8},
        **{"n_routed_experts": 4, "moe_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16},
    },
}
REFUSED = {
    "recurrent_gemma": (
        {"lru_width": 32, "block_types": ["recurrent", "attention"]},
        "its states outside of the cache",
    ),
    "rwkv": ({"context_length": 64, "attention_hidden_size": 32}, "its states outside of the cache"),
    "xlstm": ({"num_heads": 4}, "its states outside of the cache"),
    "minimax": ({**EXPERTS, "layer_types": ["linear_attention", "full_attention"]}, "a cache of its own"),
}
FAMILIES = {**ATTENTION, **STATES}
ALL = {**FAMILIES, **{name: sizes for name, (sizes, _) in REFUSED.items()}}
IMAGES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 4}
TOWERS = {
    "gemma3": {**IMAGES, "model_type": "siglip_vision_model", "image_size": 8},
    "gemma4": {**IMAGES, "num_key_value_heads": 2, "head_dim": 8},
}
CONTEXTS = {
    "conditional": [(5, 6, 7, 8, 9, 10, 11), (1, 4), (3, 30, 11, 20), (12, 12, 13, 14)],
    "marginal": [(1,)] * 4,
}
RESPONSES = [(14, 15, 40), (16, 17, 18, 19, 20, 21, 2), (22,), (23, 24, 25, 2)]


def config_of(name):
    if name in TOWERS:
        text = {**SIZES, **ALL[f"{name}_text"], "model_type": f"{name}_text"}
        return AutoConfig.for_model(name, text_config=text, vision_config=TOWERS[name], mm_tokens_per_image=4)
    return AutoConfig.for_model(name, **{**SIZES, **ALL[name]})


@torch.no_grad()
def model_of(name):
    torch.manual_seed(0)
    config = config_of(name)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_of(config, "sdpa"))
    for tensor_name, tensor in model.named_parameters():
        if tensor.std() < 0.15 and (tensor.ndim > 1 or tensor_name.endswith("bias")):
            tensor.normal_(0, 0.15)
    for tensor_name, tensor in model.named_buffers():  # 0 or 1, where nothing was trained
        if tensor_name.endswith(("e_score_correction_bias", "layer_scalar")):
            tensor.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def encoder():
    return PromptEncoder(tokenizer=load_tokenizer(ModelConfig(name="tiny")))


@torch.no_grad()
def plain(model, ids):
    """One sequence, one forward, no cache: logits [L, V]."""
    return model.eval()(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def folder_of(model, folder):
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED["tiny"]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", FAMILIES)
def test_responses_to_ragged_prompts_are_those_of_one_row_after_another(name, temperature, encoder):
    model = model_of(name)
    model.generation_config.eos_token_id = 7
    sampler = HFSampler()
    sampler.setup(Policy(model), encoder)
    prompts = [Prompt(position=b, text="", token_ids=ids) for b, ids in enumerate(CONTEXTS["conditional"])]
    params = SamplingParams(responses_per_prompt=2, max_new_tokens=8, seed=4, temperature=temperature)
    found = sampler.sample(prompts, params)
    for row in range(8):
        tokens, prompt = found.tokens[row][found.mask[row]], found.prompt_of(row)
        logits = plain(model, [*prompt.token_ids, *tokens.tolist()])[len(prompt.token_ids) - 1 : -1]
        draws = uniforms(params.seed, params.iteration, prompt.position, row % 2, 8)[: len(tokens)]
        expected, logprobs = draw_tokens(logits, draws, params)
        assert tokens.tolist() == expected.tolist()
        torch.testing.assert_close(found.logprobs[row, : len(tokens)], logprobs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("space", CONTEXTS)
@pytest.mark.parametrize("name", ALL)
def test_scores_are_those_of_a_plain_forward_of_each_row(name, space):
    model = model_of(name)
    longest = max(map(len, RESPONSES))
    tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in RESPONSES])
    mask = torch.arange(longest) < torch.tensor([*map(len, RESPONSES)])[:, None]
    found = Policy(model)(CONTEXTS[space], tokens, mask)
    for row, context, response in zip(found, CONTEXTS[space], RESPONSES, strict=True):
        table = plain(model, [*context, *response]).log_softmax(-1)[len(context) - 1 : -1]
        expected = table.gather(-1, torch.tensor(response)[:, None])[:, 0]
        torch.testing.assert_close(row[: len(response)], expected, atol=1e-4, rtol=0)


def two_phases(folder, run_dir, *overrides):
    """One iteration on P(y), then one on P(y|x): a run, and the model that it began with."""
    return fit(
        compose(
            [
                *(
                    "objective=nsr_prerl",
                    "objective.advantage=signed",
                    "+phase2=grpo",
                    "phase2.start=1",
                    "iterations=2",
                ),
                *("model=hf", f"model.name={folder}", "optimizer.lr=1e-2", "phase2.lr=1e-2", f"run_dir={run_dir}"),
                *(
                    "prompts_per_iteration=3",
                    "responses_per_prompt=4",
                    "sampling.max_new_tokens=6",
                    "data.train_size=20",
                ),
                *("verifier=regex", "verifier.pattern='[a-m]'", "validation.every=0", "logger=none", *overrides),
            ]
        )
    )


def tensors_of(model):
    return {name: tensor.clone() for name, tensor in Policy(model).named_tensors()}


def changed(before, after):
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("name", [*FAMILIES, *TOWERS])
def test_two_phases_train_what_text_reaches_and_their_model_loads_again(name, tmp_path):
    model = model_of(name)
    before, trained = tensors_of(model), {key for key, _ in model.named_parameters() if "vision_" not in key}
    run = two_phases(folder_of(model, tmp_path / "model"), tmp_path / "run")
    assert [row["update/steps"] for row in run.metrics] == [1, 1]
    after = tensors_of(run.policy.model)
    assert changed(before, after) <= trained
    assert len(changed(before, after)) > 0.5 * len(trained)
    ids = [1, 5, 6, 30, 31, 40, 7]
    export(max((run.folder / "checkpoints").glob("iteration*")), tmp_path / "out")
    for folder in (run.folder / "hf", tmp_path / "out"):
        again = load_model(str(folder))
        assert changed(after, tensors_of(again)) == set()
        torch.testing.assert_close(plain(again, ids), plain(run.policy.model, ids), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_whose_states_are_elsewhere_is_refused_before_it_is_loaded(name, tmp_path):
    config_of(name).save_pretrained(tmp_path / "model")  # no weights: to load it would fail otherwise
    AutoTokenizer.from_pretrained(EMBEDDED["tiny"]).save_pretrained(tmp_path / "model")
    message = f"sampler=hf cannot sample from {name}: .* {REFUSED[name][1]}; sampler=vllm can, if vLLM has it"
    with pytest.raises(ConfigError, match=message):
        two_phases(tmp_path / "model", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_table_of_the_documentation_has_these_families():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    first_column = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")][1:]
    assert {*re.findall("`(.+?)`", "".join(first_column))} == {*ALL, *TOWERS}


def test_which_families_keep_states():
    assert {name for name in FAMILIES if keeps_states(config_of(name))} == {*STATES}
    assert {name for name in ALL if cannot_decode(config_of(name))} == {*REFUSED}


def trained_in(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", [*ALL, *TOWERS])
def test_every_trained_parameter_gets_a_gradient_from_text_as_ddp_needs(name):
    model = model_of(name).train()
    freeze_beside_text(model)
    model(input_ids=torch.arange(3, 40)[None], use_cache=False).logits.logsumexp(-1).sum().backward()
    assert {key for key, parameter in model.named_parameters() if parameter.grad is not None} == trained_in(model)


@pytest.mark.parametrize("name", TOWERS)
def test_adapters_of_what_text_never_reaches_are_frozen(name, tmp_path):
    pytest.importorskip("peft")
    folder = folder_of(model_of(name), tmp_path / "model")
    trained = trained_in(load_model(ModelConfig(name=str(folder), lora=LoraConfig(rank=2))))
    assert trained and all(".language_model." in key and ".lora_" in key for key in trained)


def test_attention_scores_are_capped_by_default_and_it_is_said_once(tmp_path, caplog):
    families._say.cache_clear()
    config, ids = ModelConfig(name=str(folder_of(model_of("gemma2"), tmp_path / "model"))), [1, 5, 6, 30, 31, 40, 7]
    found, shaped = load_model(config), model_without_weights(config)
    assert found.config._attn_implementation == shaped.config._attn_implementation == "eager"
    eager, sdpa = (
        plain(AutoModelForCausalLM.from_pretrained(config.name, attn_implementation=kind), ids)
        for kind in ("eager", "sdpa")
    )
    assert torch.equal(plain(found, ids), eager)
    assert (sdpa - eager).abs().max() > 0.01  # what it was without
    (message,) = {record.getMessage() for record in caplog.records if "attn_implementation" in record.getMessage()}
    assert "sdpa: it does not cap attention scores, as a model of type gemma2 does; it runs with eager" in message
    assert sum(record.getMessage() == message for record in caplog.records) == 1


def test_a_model_without_sdpa_loads_by_default(tmp_path):
    folder = str(folder_of(model_of("gpt_oss"), tmp_path / "model"))
    assert load_model(folder).config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["apertus", "gemma4_text"])
def test_persistent_buffers_are_read_where_each_rank_reads_its_part(name, tmp_path):
    model = model_of(name)
    config = ModelConfig(name=str(folder_of(model, tmp_path / "model")))
    copies = [model_without_weights(config) for _ in range(2)]
    load_parts(config, copies, torch.device("cpu"))
    assert any(key not in dict(model.named_parameters()) for key in tensors_of(model))
    assert [changed(tensors_of(model), tensors_of(found)) for found in copies] == [set(), set()]
