"""Load the model of an evaluation, or of a measurement, onto its device."""

from __future__ import annotations

from pathlib import Path

import torch

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.loading import load_model
from dsrl.models.policy import Policy
from dsrl.runs.hf_folder import policy_weights
from dsrl.storage.checkpoint_files import read_checkpoint


def load_policy(config: ModelConfig, checkpoint: str | None, accelerator: str) -> Policy:
    """Load a model in evaluation mode.

    Args:
        config: which model.
        checkpoint: a checkpoint of a run, whose weights take the place of the model's.
        accelerator: kind of device: auto, cpu, gpu, cuda, mps.

    Raises:
        ConfigError: the checkpoint is not of this model, or there is no such device.
    """
    model = load_model(config)
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        weights = policy_weights(path, read_checkpoint(path, verify=True))
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise ConfigError(f"checkpoint={path}: is not of model.name={config.name}, which has no {unknown[0]}")
    return Policy(model).to(_device(accelerator)).eval()


def _device(accelerator: str) -> torch.device:
    if accelerator in ("auto", "gpu"):
        found = torch.accelerator.current_accelerator(check_available=True)
        if found is None and accelerator == "gpu":
            raise ConfigError("accelerator=gpu: there is none; auto takes the CPU then")
        return found or torch.device("cpu")
    return torch.device(accelerator)
