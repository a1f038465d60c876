"""dsrl: reinforcement learning of language models in two spaces, P(y|x) and P(y).

From Python:

    from dsrl import compose, fit

    run = fit(compose(["objective=nsr_prerl", "+phase2=grpo"]))
    run.metrics, run.policy, run.folder

The way of the data, and where each step lives:

    prompts              dsrl/data          rows of a source; what the model reads of them; which come when
    -> rollouts          dsrl/samplers      G responses to each prompt, from the policy
    -> rewards           dsrl/verifiers     checked by program
    -> advantages, keep  dsrl/objectives    what a reward is worth, which responses count
    -> log-probabilities dsrl/models        of the response, in the objective's space (policy.py)
    -> loss              dsrl/objectives    surrogate and aggregate
    -> optimizer step    dsrl/loop          all of the above, on one screen (module.py)
    -> next phase        dsrl/phases        PhaseScheduler: Policy Reincarnation

Every replaceable part is registered by kind and name: `from dsrl import register, build, names`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dsrl.errors import ConfigError, DSRLError
from dsrl.registry import build, names, register
from dsrl.threads import wait_asleep
from dsrl.version import __version__

wait_asleep()  # here, since nothing of dsrl that loads torch comes before

if TYPE_CHECKING:
    from dsrl.conditions import Condition
    from dsrl.config.compose import compose
    from dsrl.config.run_config import RunConfig
    from dsrl.data import DataSource, PromptEncoder, Row
    from dsrl.data.datamodule import PromptData
    from dsrl.evaluation import evaluate
    from dsrl.loop.collector import Collector, RolloutBatch
    from dsrl.loop.experience import Experience
    from dsrl.loop.module import DSRLModule
    from dsrl.loop.probe import Probe, Subject
    from dsrl.loop.scorer import Scorer
    from dsrl.models.policy import Policy
    from dsrl.monitors import EarlyWarning, Monitor
    from dsrl.objectives import Objective, PolicyGradient
    from dsrl.parallel.choose import strategy_for
    from dsrl.phases.phase import Phase
    from dsrl.phases.scheduler import PhaseScheduler
    from dsrl.runs.fit import Run, build_trainer, fit
    from dsrl.samplers import Sampler
    from dsrl.thoughts import Thought, Thoughts
    from dsrl.types import Counts, LossBatch, LossOutput, Metric, Prompt, Rollouts, SamplingParams
    from dsrl.verifiers import Verifier

__all__ = [
    "Collector",
    "Condition",
    "ConfigError",
    "Counts",
    "DSRLError",
    "DSRLModule",
    "DataSource",
    "EarlyWarning",
    "Experience",
    "LossBatch",
    "LossOutput",
    "Metric",
    "Monitor",
    "Objective",
    "Phase",
    "PhaseScheduler",
    "Policy",
    "PolicyGradient",
    "Probe",
    "Prompt",
    "PromptData",
    "PromptEncoder",
    "RolloutBatch",
    "Rollouts",
    "Row",
    "Run",
    "RunConfig",
    "Sampler",
    "SamplingParams",
    "Scorer",
    "Subject",
    "Thought",
    "Thoughts",
    "Verifier",
    "__version__",
    "build",
    "build_trainer",
    "compose",
    "evaluate",
    "fit",
    "names",
    "register",
    "strategy_for",
]

_HOMES = {
    "dsrl.conditions": ("Condition",),
    "dsrl.config.compose": ("compose",),
    "dsrl.config.run_config": ("RunConfig",),
    "dsrl.data": ("DataSource", "PromptEncoder", "Row"),
    "dsrl.data.datamodule": ("PromptData",),
    "dsrl.evaluation": ("evaluate",),
    "dsrl.loop.collector": ("Collector", "RolloutBatch"),
    "dsrl.loop.experience": ("Experience",),
    "dsrl.loop.module": ("DSRLModule",),
    "dsrl.loop.probe": ("Probe", "Subject"),
    "dsrl.loop.scorer": ("Scorer",),
    "dsrl.models.policy": ("Policy",),
    "dsrl.monitors": ("EarlyWarning", "Monitor"),
    "dsrl.objectives": ("Objective", "PolicyGradient"),
    "dsrl.parallel.choose": ("strategy_for",),
    "dsrl.phases.phase": ("Phase",),
    "dsrl.phases.scheduler": ("PhaseScheduler",),
    "dsrl.runs.fit": ("Run", "build_trainer", "fit"),
    "dsrl.samplers": ("Sampler",),
    "dsrl.thoughts": ("Thought", "Thoughts"),
    "dsrl.types": ("Counts", "LossBatch", "LossOutput", "Metric", "Prompt", "Rollouts", "SamplingParams"),
    "dsrl.verifiers": ("Verifier",),
}
"""Where the public names are defined. They are imported when first used: torch and Lightning take seconds, which
`python train.py --help` does not need.
"""


def __getattr__(name: str) -> Any:
    for home, held in _HOMES.items():
        if name in held:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'dsrl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
