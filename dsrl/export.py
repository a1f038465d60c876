"""`python -m dsrl.export CKPT OUT`: from a checkpoint to a folder that transformers and vLLM load."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import dsrl
from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.errors import ConfigError, DSRLError, print_error
from dsrl.models.loading import load_tokenizer
from dsrl.models.lora import write_adapter
from dsrl.models.policy import Policy
from dsrl.models.sharded_loading import model_without_weights
from dsrl.runs.checkpoint_files import read_checkpoint, read_tensors, tensors_in

OF_POLICY = "policy.model."


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dsrl.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of a run, a file or a folder")
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--adapter", action="store_true", help="of a run with model.lora: the adapter alone, for peft")
    given = parser.parse_args(arguments)
    try:
        export(given.checkpoint, given.out, adapter=given.adapter)
    except DSRLError as error:
        sys.exit(print_error(error))
    print(f"{given.out}: the policy of {given.checkpoint}")


def export(checkpoint: Path, out: Path, *, adapter: bool = False) -> None:
    """Write the policy of a checkpoint, of any strategy, as a Hugging Face folder, adapters merged; see `write_hf`.

    `adapter`: the adapter alone instead. Raises DSRLError where the checkpoint cannot be read, ConfigError where `out`
    exists or there is no adapter.
    """
    if not checkpoint.exists():
        raise ConfigError(f"{checkpoint}: no such checkpoint")
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another folder")
    content = read_checkpoint(checkpoint)
    about: Mapping[str, Any] = content["dsrl"]
    config = model_config(about["config"])
    if adapter and not config.lora.rank:
        raise ConfigError(f"{checkpoint}: trained without model.lora, so there is no adapter")
    weights = policy_weights(checkpoint, content)
    if adapter:
        out.mkdir(parents=True)
        write_adapter(out, config.lora, config.name, weights.items())
        (out / "README.md").write_text(card(about), encoding="utf-8")
        return
    model: Any = model_without_weights(config)
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    write_hf(out, config, Policy(model).named_tensors(), load_tokenizer(config), about)


def write_hf(
    folder: Path,
    config: ModelConfig,
    tensors: Iterable[tuple[str, Tensor]],
    tokenizer: PreTrainedTokenizerBase,
    about: Mapping[str, Any],
) -> None:
    """Write a Hugging Face folder: safetensors, configuration, generation config, tokenizer, model card.

    The folder appears when it is complete.

    Args:
        folder: the folder to write; one that is there is replaced.
        config: the model's settings.
        tensors: whole parameters by their names in transformers.
        tokenizer: the model's tokenizer.
        about: where the weights come from, configuration and iterations done, as in a checkpoint.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in tensors}
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model_without_weights(config.plain()).save_pretrained(partial, state_dict=weights)
    tokenizer.save_pretrained(partial)
    (partial / "README.md").write_text(card(about), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def model_config(resolved: Mapping[str, Any]) -> ModelConfig:
    """Read the model's settings from a configuration of plain values."""
    values = dict(resolved["model"])
    return ModelConfig(**{**values, "lora": LoraConfig(**values["lora"])})


def card(about: Mapping[str, Any]) -> str:
    """Write the model card, which says where the weights come from.

    about: configuration and iterations done, as in a checkpoint.
    """
    config = about["config"]
    phases = [config["objective"], *(config[f"phase{n}"]["objective"] for n in range(2, 6) if config.get(f"phase{n}"))]
    names = ", then ".join(spec if isinstance(spec, str) else spec["name"] for spec in phases)
    data = config["data"] if isinstance(config["data"], str) else config["data"].get("train", config["data"]["name"])
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [dsrl, reinforcement-learning]\n---\n\n"
        f"# {config['model']['name']}, trained with dsrl {dsrl.__version__}\n\n"
        f"| | |\n|---|---|\n"
        f"| from | `{config['model']['name']}` |\n"
        f"| objectives | {names} |\n"
        f"| iterations done | {about['iterations_done']} of {config['iterations']} |\n"
        f"| an iteration | {config['prompts_per_iteration']} prompts x {config['responses_per_prompt']} responses |\n"
        f"| learning rate | {config['optimizer']['lr']} |\n"
        f"| data | `{data}` |\n"
        f"| seed | {config['seed']} |\n"
    )


def policy_weights(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the policy's weights, by their names in the model, from a checkpoint.

    path: a file or a folder. content: what `read_checkpoint` read of it.
    """
    if not path.is_dir():
        found: dict[str, Tensor] = content["state_dict"]
        return {name.removeprefix(OF_POLICY): value for name, value in found.items() if name.startswith(OF_POLICY)}
    prefix = f"model.{OF_POLICY}"
    weights = {
        name: torch.empty(size, dtype=dtype)
        for name, (size, dtype) in tensors_in(path).items()
        if name.startswith(prefix)
    }
    read_tensors(path, weights)
    return {name.removeprefix(prefix): value for name, value in weights.items()}


if __name__ == "__main__":
    main()
