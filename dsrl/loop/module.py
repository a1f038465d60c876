"""The loop, on one screen: `DSRLModule.training_step`."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from itertools import chain
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from dsrl.config.checks import AUTO
from dsrl.config.metric_names import is_known
from dsrl.config.run_config import RunConfig
from dsrl.data.datamodule import PromptData
from dsrl.data.encoding import PromptEncoder
from dsrl.devices import precision_of
from dsrl.errors import ConfigError, DSRLError, nearest
from dsrl.loop.accuracy import SampledAccuracy
from dsrl.loop.callbacks import callbacks_among
from dsrl.loop.collector import Collector
from dsrl.loop.experience import Experience
from dsrl.loop.logged import LoggedTokens, TokenPull
from dsrl.loop.loss import compute_loss, score_metrics
from dsrl.loop.metrics import add_metrics, memory_metrics, reduce_metrics
from dsrl.loop.micro_batches import OptimizerStep, optimizer_steps
from dsrl.loop.nonfinite import leave_out
from dsrl.loop.optimizer import adamw
from dsrl.loop.probe import AfterStep, Probe, Subject, run_probe
from dsrl.loop.pulls import pulls_of
from dsrl.loop.readiness import check_ready
from dsrl.loop.scorer import Scorer
from dsrl.loop.stopwatch import Stopwatch
from dsrl.models.offloading import saving_of
from dsrl.models.policy import Policy
from dsrl.parallel.collectives import world_size
from dsrl.parallel.sharding import clip_gradients, copy_weights, drop_gradients, parameter_count
from dsrl.parallel.strategy import accumulating, place_models
from dsrl.phases.phase import Phase
from dsrl.seeding import derive_seed
from dsrl.threads import ComputeThreads
from dsrl.types import Metric, Metrics, Prompt, SamplingParams
from dsrl.verifiers.verifier import close_all

OF_REWARDS = ("reward/mean", "reward/std", "group/all_right", "group/all_wrong")
"""Metrics that every iteration has."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What an optimizer step found on this rank: metrics, and how it pulled on the tokens of logged responses."""

    metrics: Metrics
    pulls: list[TokenPull]


class DSRLModule(L.LightningModule):
    """Train a policy by reinforcement learning, in the space of the running phase's objective. One batch is one
    iteration.

    It is put together of parts that work without Lightning: a Collector (sampler, verifier) and a Scorer (policy,
    reference). A PhaseScheduler among the trainer's callbacks owns `phase`.

    Args:
        config: made by `dsrl.compose`.

    Attributes:
        policy: the model that is trained, once the trainer has configured it.
        reference: a frozen copy, where some phase has a KL.
        initial: a frozen copy of the policy that the run began with, where `initial_kl` needs one of its own.
        experience: the rollouts of the last iteration and what the objective kept of them, on this rank.
        updated: while an iteration whose optimizer steps are over has no metrics yet, what they will be made of.
        metrics: the numbers of the last iteration, over all ranks: of `measured_at`.
        validated: the numbers of the last validation, after `validated_at` iterations.
    """

    @classmethod
    def of(cls, module: L.LightningModule) -> DSRLModule:
        """Take the module that a callback's hook is given for what it is. Raises ConfigError for any other."""
        if not isinstance(module, cls):
            raise ConfigError(f"dsrl's callbacks run with a DSRLModule, not with {type(module).__name__}")
        return module

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        if config.update.micro_batch_tokens == AUTO:
            raise ConfigError(f"update.micro_batch_tokens={AUTO}: dsrl.fit makes a number of it; here it must be one")
        self.automatic_optimization = False
        self.config, self.sampler, self.verifier = config, config.sampler, config.verifier
        self.phase: Phase = config.phases[0]
        self.encoder = PromptEncoder.of(config.model, config.data)
        for token in (token for phase in config.phases for token in phase.sampling.stop):
            self.encoder.token_id(token)  # raises for a token that is not there, before the model is loaded
        self.clock = Stopwatch()
        self.collector = Collector(
            sampler=config.sampler,
            verifier=config.verifier,
            dynamic_sampling=config.dynamic_sampling,
            thoughts=config.thoughts,
            clock=self.clock,
        )
        self.validation_collector = dataclasses.replace(self.collector, sampler=config.sampler.for_validation)
        self.threads = ComputeThreads(None)
        self.reference: Policy | None = None
        self.initial: Policy | None = None
        self.accuracies = torch.nn.ModuleDict()  # a SampledAccuracy for each validation set
        self.thoughts_found: dict[str, Metrics] = {}  # thoughts of the responses to each validation set
        self.skipped_in_a_row = 0  # optimizer steps left out since their gradients were not finite
        self.experience: Experience | None = None
        self.metrics: dict[str, float] = {}
        self.looked_up: set[str] = set()  # metrics that have been found
        self.measured_at = -1
        self.updated: tuple[Experience, list[Metrics]] | None = None
        self.validated: dict[str, float] = {}
        self.validated_at = -1

    def training_step(self, prompts: list[Prompt], batch_idx: int) -> None:
        """Run one iteration: prompts -> rollouts and rewards -> scored experience -> optimizer steps -> sampler."""
        batch = self.collector.collect(prompts, self.sampling_params(), self.data.batches)
        self.sampler.sleep()
        with self.clock("score"):
            experience = self.scorer.score(batch, self.phase.objective)
        probed, probe_step = self.probe(experience)
        with self.clock("update"):
            update, layout = self.config.update, self.scorer.layout
            steps = optimizer_steps(experience, minibatches=update.minibatches, epochs=update.epochs, layout=layout)
            updates = [self.update_policy(step, experience.logged) for step in steps]
        found = [batch.metrics, experience.metrics, *(update.metrics for update in updates)]
        self.updated = experience, found
        with self.clock("score"):
            pulls = chain.from_iterable(update.pulls for update in updates)
            experience.logged = self.scorer.score_moved(experience.logged, batch, pulls)
        found += [probed, probe_step()]
        with self.clock("sync"):
            found.append(self.sampler.sync(self.policy.named_tensors(self.sampler.sync_dtype)) or {})
        self.log_metrics(experience, add_metrics(*found))

    def update_policy(self, step: OptimizerStep, logged: LoggedTokens | None = None) -> Update:
        """Take one optimizer step; none where no response was kept on any rank."""
        found, pulls = [step.metrics], []
        total: float | Tensor = 0.0
        for number, micro_batch in enumerate(step.micro_batches, start=1):
            with accumulating(self.trainer.strategy, last=number == len(step.micro_batches)):
                scores = self.scorer.score_tokens(micro_batch)
                output = compute_loss(micro_batch, scores.logprobs, step.counts)
                loss = output.loss * world_size()  # strategies average gradients over ranks
                self.manual_backward(loss)
            total = total + loss.detach()
            found += [output.metrics, score_metrics(micro_batch, scores)]
            if logged is not None:
                own = pulls_of(micro_batch, scores.logprobs, step.counts, rows=logged.rows, length=logged.length)
                pulls.extend(own)
        optimizer: Any = self.optimizers()
        if not step.keeps_nothing:
            for parameter in self.policy.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    # All advantages are 0, and so is the gradient; moments and weight decay still act.
                    parameter.grad = torch.zeros_like(parameter)
            norm = clip_gradients(self.policy.model, self.config.update.clip_norm)
            if math.isfinite(norm):
                optimizer.step()
                self.skipped_in_a_row = 0
                found.append({"loss": Metric(total), "grad_norm": Metric(norm), "update/steps": Metric(1.0, 0.0)})
            else:
                self.skipped_in_a_row += 1
                where = f"phase {self.phase.number}, iteration {self.iteration}"
                found.append(leave_out(step, norm, self.scorer, where, self.config.update, self.skipped_in_a_row))
        drop_gradients(self.policy.model)
        return Update(metrics=add_metrics(*found), pulls=pulls)

    def probe(self, experience: Experience) -> tuple[Metrics, AfterStep]:
        """Let the probe measure the iteration, where there is one and it is due; see `dsrl.loop.probe.run_probe`."""
        probe: Probe | None = self.config.probe
        if probe is None or self.iteration % probe.every:
            return {}, dict
        subject = Subject(
            experience=experience,
            objective=self.phase.objective,
            scorer=self.scorer,
            alone=partial(accumulating, self.trainer.strategy, last=False),
        )
        return run_probe(probe, subject, self.clock)

    def log_metrics(self, experience: Experience, found: Metrics) -> None:
        """Reduce what the iteration found over all ranks, keep it for callbacks, and give it to the loggers."""
        optimizer: Any = self.optimizers()
        nothing = {"loss": 0.0, "grad_norm": 0.0}  # of an iteration without a step
        unknown = dict.fromkeys(OF_REWARDS, math.nan)  # of one in which no response has a reward
        every_rank: Metrics = {"update/steps": Metric(0.0), **memory_metrics(self.scorer.device)}
        if self.config.update.on_nonfinite == "skip":
            every_rank["update/skipped"] = Metric(0.0)
        self.experience = experience
        reduced = reduce_metrics(add_metrics(found, every_rank))
        times = self.trainer.strategy.broadcast(self.clock.read())  # no two ranks decide by different numbers
        self.metrics = {
            **nothing,
            **unknown,
            **reduced,
            "lr": optimizer.param_groups[0]["lr"],
            **times,
            "throughput/tokens_per_second": reduced["tokens/sampled"] / max(1e-9, times["time/iteration"]),
        }
        logged = {**self.metrics, "phase": float(self.phase.number), "step": float(self.iteration)}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)
        self.measured_at, self.updated = self.iteration, None

    def validation_step(self, prompts: list[Prompt], batch_idx: int, dataloader_idx: int = 0) -> STEP_OUTPUT:
        """Sample `validation.k` responses to each held-out question of a batch, and count the correct ones.

        Returns `set`, the name of the set, and `batch`, the RolloutBatch, for callbacks.
        """
        name = self.data.val_names[dataloader_idx]
        batch = self.validation_collector.collect(prompts, self.validation_params(name))
        if prompts:
            self._accuracy(name).update(batch.rewards)
        own = {key: metric for key, metric in batch.metrics.items() if key.startswith("thoughts/")}
        self.thoughts_found[name] = add_metrics(self.thoughts_found.get(name, {}), own)
        return {"set": name, "batch": batch}

    def on_validation_epoch_end(self) -> None:
        """Compute `val/SET/avg@k`, `pass@j`, `questions` and `thoughts/...` of every set, over all ranks."""
        found: dict[str, float] = {}
        for name in self.data.val_names:
            for key, value in self._accuracy(name).compute().items():
                found[f"val/{name}/{key}"] = float(value)
            self._accuracy(name).reset()
            thoughts = reduce_metrics(self.thoughts_found.pop(name, {}))
            found |= {f"val/{name}/{key}": value for key, value in thoughts.items()}
        if self.trainer.sanity_checking and self.trainer.num_sanity_val_steps != math.inf:
            return  # of some questions only, as a Trainer does by default: not the sets' accuracy
        self.validated = found
        self.validated_at = self.iteration if self.trainer.sanity_checking else self.iteration + 1
        self.log_dict({**self.validated, "step": float(self.validated_at)}, batch_size=1)

    def metric(self, name: str, key: str) -> float | None:
        """Look up a metric of the iteration that ends, or of the validation after it; None where it was not measured,
        or is a mean of nothing (NaN).

        Raises ConfigError, which names the configuration's `key`, where no metric has had that name yet, and none will
        for sure.
        """
        of_validation = name.startswith("val/")
        found = self.validated if of_validation else self.metrics
        if name in found:
            self.looked_up.add(name)
        elif found:
            if name in self.looked_up or is_known(self.config, name):
                return None
            raise ConfigError(f"{key}: there is no metric '{name}'.{nearest(name, found)}")
        if name not in found or (of_validation and self.validated_at != self.iteration + 1):
            return None
        return None if math.isnan(found[name]) else found[name]

    @property
    def iteration(self) -> int:
        """The iteration under way, from 0: Lightning's epoch."""
        return self.trainer.current_epoch

    @property
    def data(self) -> PromptData:
        """The data module that the trainer was given. Raises ConfigError for any other than PromptData."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, PromptData):
            raise ConfigError("prompts come from a PromptData: trainer.fit(module, datamodule=PromptData.of(config))")
        return data

    def sampling_params(self) -> SamplingParams:
        """Say how this iteration's training responses are drawn."""
        config = self.config
        return SamplingParams.of(
            self.phase.sampling, self.encoder, config.responses_per_prompt, seed=config.seed, iteration=self.iteration
        )

    def validation_params(self, name: str) -> SamplingParams:
        """Say how a validation set's responses are drawn: every time with the same random numbers."""
        validation, seed = self.config.validation, derive_seed("validation", self.config.seed, name)
        sampling = dataclasses.replace(self.phase.sampling, temperature=validation.temperature, top_p=1.0, top_k=0)
        return SamplingParams.of(sampling, self.encoder, validation.k, seed=seed)

    def sync_reference(self, prompts: list[Prompt]) -> None:
        """Copy the policy into the reference, where there is one, and check that both score the prompts alike.

        Raises DSRLError where they do not.
        """
        if self.reference is None:
            return
        copy_weights(self.policy.model, self.reference.model)
        difference = self.scorer.max_logprob_difference(prompts)
        if not difference <= 1e-4:
            raise DSRLError(
                f"iteration {self.iteration}: the reference is no copy of the policy: log-probabilities differ by up "
                f"to {difference:.2g}"
            )

    def configure_model(self) -> None:
        """Load the policy, frozen copies of it where they are needed, and set the sampler up. Once."""
        if hasattr(self, "policy"):
            return
        config, strategy = self.config, self.trainer.strategy
        models = place_models(strategy, config.model, 1 + config.frozen_copies, compiled=config.trainer.compile)
        self.policy = Policy(models[0], saving_of(config.model))
        if strategy.root_device.type == "cpu":
            self.threads = ComputeThreads.of(parameter_count(self.policy), config.trainer.devices)
        frozen = [Policy(model).requires_grad_(False).eval() for model in models[1:]]
        initial = frozen[-1] if config.initial_kl.every else None
        self.reference = frozen[0] if config.needs_reference else None
        self.initial = initial if initial is not self.reference else None
        longest = max(phase.sampling.max_new_tokens for phase in config.phases)
        self.encoder = self.encoder.fitting(self.policy, longest, self.sampler.max_length)
        for model in frozen:
            model.read_up_to(self.encoder.max_tokens + longest)
        self.sampler.setup(self.policy, self.encoder)
        device = strategy.root_device
        copies = {"reference": self.reference, "initial": initial}
        self.scorer = Scorer.of(config, self.policy, self.encoder, **copies, device=device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make AdamW over the policy. Its structure is the same in every phase."""
        return adamw(self.policy.parameters(), self.config.optimizer, self.phase.lr)

    def on_fit_start(self) -> None:
        """Check that the trainer runs the loop as the configuration says, and that model and data go with it.

        The model is on its device, and nothing is sampled yet. Raises ConfigError where something is wrong.
        """
        trainer, config = self.trainer, self.config
        data = self.data  # refuses any other data module
        if trainer.max_epochs != config.iterations:
            raise ConfigError(
                f"Trainer(max_epochs={trainer.max_epochs}): an epoch is an iteration, and the configuration has "
                f"iterations={config.iterations}; give Trainer(max_epochs=config.iterations)"
            )
        scheduled = len(config.phases) > 1 or self.phase.schedule != "constant" or self.phase.warmup > 0
        if scheduled and not any(hasattr(callback, "phases") for callback in callbacks_among(trainer, L.Callback)):
            raise ConfigError(
                "phases and learning rate schedules need the scheduler: "
                "Trainer(callbacks=[PhaseScheduler(config.phases), ...])"
            )
        with trainer.precision_plugin.forward_context():
            check_ready(config, self.policy, self.encoder, data)

    def on_train_start(self) -> None:
        """Give the sampler the weights that training begins with: those of a checkpoint, after a resume."""
        self.sampler.sync(self.policy.named_tensors(self.sampler.sync_dtype))
        self.clock.read()

    def on_train_epoch_start(self) -> None:
        """Validate after the last iteration, whatever `validation.every` says."""
        if self.config.validation.every and self.iteration + 1 == self.config.iterations:
            self.trainer.check_val_every_n_epoch = 1

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint, and a model card, say of the run."""
        iterations: Any = self.trainer.fit_loop.epoch_progress.current
        return {
            "config": self.config.resolved,
            "iterations_done": max(iterations.processed, self.measured_at + 1),
            "precision": precision_of(self.config.trainer),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, which a resumed run is compared with."""
        checkpoint["dsrl"] = {**self.provenance, "skipped_in_a_row": self.skipped_in_a_row}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore how many steps have been left out."""
        self.skipped_in_a_row = int(checkpoint["dsrl"].get("skipped_in_a_row", 0))

    def teardown(self, stage: str) -> None:
        """Close sampler and verifier."""
        close_all([self.sampler, self.verifier])
        self.threads.restore()

    def _accuracy(self, name: str) -> SampledAccuracy:
        """The accuracy of a validation set."""
        key = str(self.data.val_names.index(name))  # a module's name cannot hold the dot that a file's may
        if key not in self.accuracies:
            self.accuracies[key] = SampledAccuracy(self.config.validation.k).to(self.device)
        accuracy = self.accuracies[key]
        assert isinstance(accuracy, SampledAccuracy)
        return accuracy
