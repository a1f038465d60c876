"""The typed configuration: what may be set, of which type, with which default.

The docstring under a field is what `python train.py --help` says of it. Parts of a registered kind (objective, phase2,
data, sampler, verifier) are specs: a name with parameters beside it.

    run.py         the root, and what has a key at the root
    model.py       the model
    training.py    sampling, optimizer, update, validation, phases
    trainer.py     devices, checkpoints, plan
"""

from dsrl.config.schema.model import LoraConfig, ModelConfig
from dsrl.config.schema.run import TrainSchema
from dsrl.config.schema.trainer import CheckpointConfig, PlanConfig, TrainerConfig
from dsrl.config.schema.training import (
    CurriculumConfig,
    InitialKLConfig,
    MismatchConfig,
    OptimizerConfig,
    PhaseConfig,
    PhaseSamplingConfig,
    SamplingConfig,
    UpdateConfig,
    ValidationConfig,
)

__all__ = [
    "CheckpointConfig",
    "CurriculumConfig",
    "LoraConfig",
    "InitialKLConfig",
    "MismatchConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PhaseConfig",
    "PhaseSamplingConfig",
    "PlanConfig",
    "SamplingConfig",
    "TrainSchema",
    "TrainerConfig",
    "UpdateConfig",
    "ValidationConfig",
]
