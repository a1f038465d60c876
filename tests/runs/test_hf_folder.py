"""From checkpoints to Hugging Face folders."""

from __future__ import annotations

import json
import weakref

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsrl.config.compose import compose
from dsrl.errors import ConfigError, DSRLError
from dsrl.models import Policy, load_model, load_tokenizer
from dsrl.runs.hf_folder import export, write_hf

LORA = ("model.lora.rank=4", "optimizer.lr=1e-2")
IDS = torch.arange(3, 13).view(1, 10)


def logprobs(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.log_softmax(-1)


def newest(module):
    return max((module.config.run_dir / "checkpoints").glob("iteration*"))


@pytest.mark.parametrize("form", ["checkpoint.sharded=false", "checkpoint.sharded=true"])
@pytest.mark.parametrize("adapters", [(), LORA], ids=["full", "lora"])
def test_the_export_is_the_policy(form, adapters, fit, tmp_path):
    module = fit("iterations=2", "objective.advantage=signed", form, *adapters)
    export(newest(module), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logprobs(model), logprobs(module.policy.model), atol=2e-5, rtol=0)
    base = AutoModelForCausalLM.from_pretrained("dsrl/models/tiny")
    assert (logprobs(model) - logprobs(base)).abs().max() > 1e-3  # it learned something
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == module.encoder.tokenizer.eos_token
    assert model.generation_config.eos_token_id == module.policy.model.generation_config.eos_token_id
    saved = AutoModelForCausalLM.from_pretrained(module.config.run_dir / "hf")
    assert torch.equal(logprobs(saved), logprobs(model))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert not any("lora" in name or "lm_head" in name for name in load_file(tmp_path / "out" / "model.safetensors"))


def test_weights_are_written_in_parts_none_of_which_stays_in_memory(fit, tmp_path, monkeypatch):
    module = fit("iterations=1")
    monkeypatch.setattr("dsrl.runs.hf_folder.PART_SIZE", "500KB")
    held = []

    def tensors():
        for name, tensor in module.policy.named_tensors():
            yield name, (made := tensor.clone())
            held.append(weakref.ref(made))
            del made
            assert sum(reference() is not None for reference in held) <= 1

    write_hf(tmp_path / "out", module.config.model, tensors(), module.encoder.tokenizer, module.provenance)
    assert len([*(tmp_path / "out").glob("*.safetensors")]) > 3
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logprobs(saved), logprobs(module.policy.model))


@pytest.mark.parametrize("legacy", [False, True], ids=["generation_config.json", "config.json"])
def test_a_generation_config_that_transformers_would_not_write_is_kept(legacy, tmp_path):
    """As of Llama-2 and Vicuna: a temperature, and no sampling. A run would end without its model."""
    model, asked = load_model("tiny"), {"do_sample": False, "temperature": 0.6, "top_p": 0.9}
    model.save_pretrained(tmp_path / "model")
    load_tokenizer("tiny").save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / ("config.json" if legacy else "generation_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **asked}))
    config = compose(["model=hf", f"model.name={tmp_path / 'model'}"])
    policy = Policy(load_model(config.model))
    about = {"config": config.resolved, "iterations_done": 1}
    write_hf(tmp_path / "out", config.model, policy.named_tensors(), load_tokenizer(config.model), about)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logprobs(saved), logprobs(policy.model))
    kept = saved.generation_config
    assert kept.eos_token_id == model.generation_config.eos_token_id
    assert legacy or (kept.do_sample, kept.temperature, kept.top_p) == (False, 0.6, 0.9)


def test_the_card_says_where_it_comes_from(fit, tmp_path):
    module = fit("iterations=3", "objective=nsr_prerl", "+phase2=grpo", "phase2.start=1")
    handoff = module.config.run_dir / "checkpoints" / "handoff-phase2-iteration1.ckpt"
    export(handoff, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| objectives | nsr_prerl, then grpo |" in card
    assert "| iterations done | 1 of 3 |" in card


def test_an_adapter_alone(fit, tmp_path):
    peft = pytest.importorskip("peft")
    module = fit("iterations=2", "objective.advantage=signed", *LORA)
    export(newest(module), tmp_path / "adapter", adapter=True)
    base = AutoModelForCausalLM.from_pretrained("dsrl/models/tiny")
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logprobs(adapted), logprobs(module.policy.model), atol=2e-5, rtol=0)


def test_what_cannot_be_exported(fit, tmp_path):
    module = fit("iterations=1", "checkpoint.every=1")
    with pytest.raises(ConfigError, match="no such checkpoint"):
        export(tmp_path / "nothing.ckpt", tmp_path / "out")
    with pytest.raises(ConfigError, match="without model.lora"):
        export(newest(module), tmp_path / "out", adapter=True)
    (tmp_path / "broken.ckpt").write_bytes(newest(module).read_bytes()[:1000])
    with pytest.raises(DSRLError, match="not a readable checkpoint"):
        export(tmp_path / "broken.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        export(newest(module), tmp_path / "out")
