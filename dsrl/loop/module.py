"""The loop, on one screen: `DSRLModule.training_step`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from dsrl.config.run_config import RunConfig
from dsrl.data.datamodule import PromptData
from dsrl.data.encoding import PromptEncoder
from dsrl.errors import ConfigError, DSRLError, nearest
from dsrl.loop.experience import Experience, OptimizerStep, optimizer_steps
from dsrl.loop.metrics import Stopwatch, component_means, component_sums, rollout_means, rollout_sums
from dsrl.loop.mismatch import Mismatch
from dsrl.loop.scorer import Scoring
from dsrl.models.policy import Policy
from dsrl.parallel.collectives import sum_by_key, world_size
from dsrl.parallel.sharding import clip_gradients, copy_weights
from dsrl.parallel.strategy import LoopStrategy
from dsrl.phases.phase import Phase
from dsrl.seeding import derive_seed
from dsrl.types import Prompt


class DSRLModule(Scoring):
    """Puts policy, sampler, verifier and the running phase's objective together. One batch is one iteration.

    `phase` belongs to PhaseScheduler. `metrics` holds the last iteration's numbers, global over ranks; `experience` its
    rollouts and rewards on this rank.
    """

    @classmethod
    def of(cls, module: L.LightningModule) -> DSRLModule:
        """The module that a callback's hook is given, by its own type."""
        assert isinstance(module, cls)
        return module

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.sampler, self.verifier = config, config.sampler, config.verifier
        self.phase: Phase = config.phases[0]
        self.reference: Policy | None = None
        self.encoder = PromptEncoder.of(config.model, config.data)
        for token in (token for phase in config.phases for token in phase.sampling.stop):
            self.encoder.token_id(token)  # raises for a token that is not there, before the model is loaded
        self.accuracies = torch.nn.ModuleDict()  # one SampledAccuracy a validation set
        self.metrics: dict[str, float] = {}
        self.validated: dict[str, float] = {}  # by the last validation, after `validated_at` iterations
        self.validated_at = -1
        self.tallied: dict[str, Tensor | float] = {}
        self.components: dict[str, Tensor] = {}  # of the last rewards, each [B, G]
        self.summed: dict[str, tuple[float, str]] = {}  # a sum over this rank's rollouts, and what divides it, if any
        self.experience: Experience | None = None
        self.mismatch = Mismatch()  # of the iteration
        self.clock = Stopwatch()

    def training_step(self, prompts: list[Prompt], batch_idx: int) -> None:
        """One iteration: prompts -> rollouts -> rewards -> advantages -> scoring -> loss -> optimizer steps -> sync."""
        with self.clock("sample"):
            rollouts = self.sampler.sample(prompts, self.sampling_params(self.phase.sampling))
        with self.clock("verify"):
            rewards = self.verify(rollouts)
        rollouts, rewards = self.refill(rollouts, rewards)
        self.sampler.sleep()
        with self.clock("score"):
            experience = self.weigh(rollouts, rewards)
        with self.clock("update"):
            for step in self.optimizer_steps(experience):
                for number, micro_batch in enumerate(step.micro_batches, start=1):
                    with self.strategy.accumulating(last=number == len(step.micro_batches)):
                        logprobs = self.logprobs(self.policy, micro_batch, rollouts)
                        share = step.loss(logprobs, micro_batch, rollouts)
                        self.manual_backward(share.loss * world_size())  # strategies average gradients over ranks
                    self.tally(loss=share.loss, **share.metrics)
                self.take(step)
        with self.clock("sync"):
            self.sampler.sync(self.policy.named_tensors())
        self.conclude(experience)

    def optimizer_steps(self, experience: Experience) -> Iterator[OptimizerStep]:
        """The iteration's optimizer steps: `update.minibatches` x `update.epochs` of them."""
        return optimizer_steps(
            experience,
            minibatches=self.config.update.minibatches,
            epochs=self.config.update.epochs,
            max_tokens=self.config.update.micro_batch_tokens,
            max_new_tokens=self.phase.sampling.max_new_tokens,
            seed=derive_seed(self.config.seed, self.iteration),
            device=self.device,
        )

    def take(self, step: OptimizerStep) -> None:
        """One optimizer step on the accumulated gradient; none where no sample was kept on any rank."""
        optimizer: Any = self.optimizers()
        if not step.keeps_nothing:
            for parameter in self.policy.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    # All advantages are 0, and so is the gradient; moments and weight decay still act.
                    parameter.grad = torch.zeros_like(parameter)
            norm = clip_gradients(self.policy.model, self.config.update.clip_norm)
            if not math.isfinite(norm):
                raise DSRLError(
                    f"iteration {self.iteration}: the gradient is not finite (norm {norm}); no step was taken"
                )
            optimizer.step()
            self.tally(grad_norm=norm, **{"update/steps": 1.0})
        optimizer.zero_grad()

    def tally(self, **shares: Tensor | float) -> None:
        """Add to this rank's shares of the iteration's metrics."""
        for key, value in shares.items():
            self.tallied[key] = self.tallied.get(key, 0.0) + (value.detach() if isinstance(value, Tensor) else value)

    def conclude(self, experience: Experience) -> None:
        """The iteration's metrics: sums over micro-batches and ranks, means over optimizer steps."""
        steps, norm = (float(self.tallied.pop(key, 0.0)) for key in ("update/steps", "grad_norm"))
        shares = {key: float(value) / max(1.0, steps) for key, value in self.tallied.items()}
        data: PromptData = self.trainer.datamodule  # type: ignore[attr-defined]
        self.summed |= data.curriculum.sums()
        extra = {"ranks": 1.0, **{name: value for name, (value, _) in self.summed.items()}}
        of_rollouts = rollout_sums(experience, re.compile(self.config.model.reflection))
        sums = sum_by_key({**of_rollouts, **component_sums(self.components), **extra})
        optimizer: Any = self.optimizers()
        self.tallied, self.experience = {}, experience
        self.metrics = {
            **rollout_means(sums),
            **component_means(sums),
            **{name: sums[name] / max(1.0, sums.get(by, 1.0)) for name, (_, by) in self.summed.items()},
            **self.mismatch.metrics(self.device),
            "loss": 0.0,
            **sum_by_key(shares),
            "grad_norm": norm / max(1.0, steps),
            "update/steps": steps,
            "lr": optimizer.param_groups[0]["lr"],
            **self.clock.read(),
        }
        self.summed = {}
        logged = {**self.metrics, "phase": float(self.phase.number), "step": float(self.iteration)}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)

    def metric(self, metric: str, key: str) -> float | None:
        """A metric of the iteration that ends, or of the validation after it; None where there was no validation.

        Raises ConfigError, naming the configuration's `key`, where no metric has that name.
        """
        of_validation = metric.startswith("val/")
        found = self.validated if of_validation else self.metrics
        if found and metric not in found:
            raise ConfigError(f"{key}: there is no metric '{metric}'.{nearest(metric, found)}")
        return None if of_validation and self.validated_at != self.iteration + 1 else found[metric]

    @property
    def strategy(self) -> LoopStrategy:
        """How the ranks share the model."""
        strategy = self.trainer.strategy
        assert isinstance(strategy, LoopStrategy)
        return strategy

    def sync_reference(self, prompts: list[Prompt]) -> None:
        """Copy the policy into the reference, where there is one, and see that both score the prompts alike.

        Raises DSRLError where they do not.
        """
        if self.reference is None:
            return
        copy_weights(self.policy.model, self.reference.model)
        difference = self.difference(self.policy, self.reference, prompts)
        if not difference <= 1e-4:
            raise DSRLError(
                f"iteration {self.iteration}: the reference is no copy of the policy: log-probabilities differ by up "
                f"to {difference:.2g}"
            )

    def configure_model(self) -> None:
        """Load the policy, a frozen copy of it where some phase needs a reference, and set the sampler up. Once."""
        if hasattr(self, "policy"):
            return
        models = self.strategy.models(self.config.model, copies=2 if self.config.needs_reference else 1)
        self.policy = Policy(models[0])
        if self.config.needs_reference:
            self.reference = Policy(models[1]).requires_grad_(False).eval()
        longest = max(phase.sampling.max_new_tokens for phase in self.config.phases)
        self.encoder.leave_room(self.policy.model, longest, self.sampler.max_length)
        self.sampler.setup(self.policy, self.encoder)
        self.trainer.datamodule.encoder = self.encoder  # type: ignore[attr-defined]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the policy. Its structure is the same in every phase."""
        settings = self.config.optimizer
        return torch.optim.AdamW(
            [parameter for parameter in self.policy.parameters() if parameter.requires_grad],
            lr=self.phase.lr,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )

    def on_train_start(self) -> None:
        """Give the sampler the weights that training begins with: those of a checkpoint, after a resume."""
        self.sampler.sync(self.policy.named_tensors())
        self.clock = Stopwatch()

    def on_train_epoch_start(self) -> None:
        """Validate after the last iteration, whatever `validation.every` says."""
        if self.config.validation.every and self.iteration + 1 == self.config.iterations:
            self.trainer.check_val_every_n_epoch = 1

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint, and a model card, say of the run."""
        return {"config": self.config.resolved, "iterations_done": min(self.iteration + 1, self.config.iterations)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, which a resumed run is compared with."""
        checkpoint["dsrl"] = self.provenance

    def teardown(self, stage: str) -> None:
        """Close sampler and verifier."""
        for part in (self.sampler, self.verifier):
            getattr(part, "close", lambda: None)()
