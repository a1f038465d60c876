"""A policy as a Hugging Face folder: from a running policy (`write_hf`), or from a checkpoint (`export`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from dsrl.config.schema import LoraConfig, ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer
from dsrl.models.lora import write_adapter
from dsrl.models.policy import Policy
from dsrl.models.sharded_loading import model_without_weights
from dsrl.storage.atomic import atomic, remove
from dsrl.storage.checkpoint_files import read_checkpoint
from dsrl.storage.safetensors_files import on_disk, read_tensors, tensors_in
from dsrl.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PART_SIZE = "2GB"
"""Size of a file of weights; one is put together in memory."""

OF_POLICY = "policy.model."
"""How the names of the policy's weights begin in a checkpoint."""


def export(checkpoint: Path, out: Path, *, adapter: bool = False) -> None:
    """Write the policy of a checkpoint, made under any strategy, as a Hugging Face folder; see `write_hf`.

    Args:
        checkpoint: a file or a folder.
        out: the folder to write; it must not exist.
        adapter: write the LoRA adapter alone, for peft, instead of the model with the adapter merged.

    Raises:
        DSRLError: the checkpoint cannot be read.
        ConfigError: there is no checkpoint, `out` exists, or there is no adapter.
    """
    if not checkpoint.exists():
        raise ConfigError(f"{checkpoint}: no such checkpoint")
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another folder")
    content = read_checkpoint(checkpoint, verify=True)
    about: Mapping[str, Any] = content["dsrl"]
    config = model_config_of(about["config"])
    if adapter and not config.lora.rank:
        raise ConfigError(f"{checkpoint}: trained without model.lora, so there is no adapter")
    weights = policy_weights(checkpoint, content)
    if adapter:
        with atomic(out) as partial:
            partial.mkdir()
            write_adapter(partial, config, weights.items())
            (partial / "README.md").write_text(model_card(about), encoding="utf-8")
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

    The folder appears when it is complete, in place of one that was there. No more than a part of the weights is in
    memory at a time: they lie in files of a folder beside it meanwhile, which takes their size again.

    Args:
        folder: what to write.
        config: the model's configuration, as it was trained.
        tensors: those of `Policy.named_tensors`.
        tokenizer: the model's tokenizer.
        about: the run's configuration and the iterations done, as in a checkpoint; for the model card.
    """
    scratch = folder.with_name(f".{folder.name}.weights")
    with atomic(folder) as partial:
        remove(scratch)  # of a run that was killed
        scratch.mkdir()
        try:
            weights = {name: on_disk(tensor, scratch / f"{n}") for n, (name, tensor) in enumerate(tensors)}
            model = model_without_weights(config.plain())
            generation, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
            model.save_pretrained(partial, state_dict=weights, max_shard_size=PART_SIZE)
            # as the model came: transformers refuses to write some that it reads, with a temperature and no sampling
            generation.to_json_file(partial / GENERATION_CONFIG_NAME)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        tokenizer.save_pretrained(partial)
        (partial / "README.md").write_text(model_card(about), encoding="utf-8")


def policy_weights(checkpoint: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Collect the policy's full weights from a checkpoint, by their names in the model.

    `content` is what `read_checkpoint` gave for this file or folder.
    """
    if not checkpoint.is_dir():
        found: dict[str, Tensor] = content["state_dict"]
        return {name.removeprefix(OF_POLICY): value for name, value in found.items() if name.startswith(OF_POLICY)}
    prefix = f"model.{OF_POLICY}"
    weights = {
        name: torch.empty(size, dtype=dtype)
        for name, (size, dtype) in tensors_in(checkpoint).items()
        if name.startswith(prefix)
    }
    read_tensors(checkpoint, weights)
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def model_config_of(resolved: Mapping[str, Any]) -> ModelConfig:
    """Build the model's configuration from a run's, given as plain values."""
    values = dict(resolved["model"])
    return ModelConfig(**{**values, "lora": LoraConfig(**values["lora"])})


def model_card(about: Mapping[str, Any]) -> str:
    """Write the model card: which run the weights come from, and how far it was.

    `about` holds the run's configuration and the iterations done, as a checkpoint does.
    """
    config = about["config"]
    phases = [config["objective"], *(config[f"phase{n}"]["objective"] for n in range(2, 6) if config.get(f"phase{n}"))]
    names = ", then ".join(spec if isinstance(spec, str) else spec["name"] for spec in phases)
    data = config["data"] if isinstance(config["data"], str) else config["data"].get("train", config["data"]["name"])
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [dsrl, reinforcement-learning]\n---\n\n"
        f"# {config['model']['name']}, trained with dsrl {__version__}\n\n"
        f"| | |\n|---|---|\n"
        f"| from | `{config['model']['name']}` |\n"
        f"| objectives | {names} |\n"
        f"| iterations done | {about['iterations_done']} of {config['iterations']} |\n"
        f"| an iteration | {config['prompts_per_iteration']} prompts x {config['responses_per_prompt']} responses |\n"
        f"| learning rate | {config['optimizer']['lr']} |\n"
        f"| data | `{data}` |\n"
        f"| seed | {config['seed']} |\n"
    )
