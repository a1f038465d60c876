"""The loop, on one screen: `DSRLModule.training_step`."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from dsrl.config.run_config import RunConfig
from dsrl.config.schema import SamplingConfig
from dsrl.data.encoding import PromptEncoder
from dsrl.distributed import sum_by_key, world_size
from dsrl.draws import seed_of
from dsrl.errors import ConfigError, DSRLError
from dsrl.experience import (
    Experience,
    MicroBatch,
    OptimizerStep,
    SpaceView,
    contexts_in,
    cut,
    optimizer_steps,
    space_key,
    weigh,
)
from dsrl.metrics import (
    SampledAccuracy,
    Stopwatch,
    component_means,
    component_sums,
    rollout_means,
    rollout_sums,
)
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.objectives.kl import KL, KLPenalty, k1
from dsrl.phases import Phase
from dsrl.policy import Policy
from dsrl.types import Prompt, Rollouts, SamplingParams
from dsrl.verifiers import judge


class DSRLModule(L.LightningModule):
    """Puts policy, sampler, verifier and the running phase's objective together. One batch is one iteration.

    `phase` belongs to PhaseScheduler. `metrics` holds the last iteration's numbers, global over ranks; `experience` its
    rollouts and rewards on this rank.
    """

    policy: Policy

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
        self.encoder = PromptEncoder(
            tokenizer=load_tokenizer(config.model),
            start_token=config.model.start_token,
            chat=config.model.chat,
            system_prompt=config.data.system_prompt,
            max_tokens=config.data.max_prompt_tokens,
        )
        for token in (token for phase in config.phases for token in phase.sampling.stop):
            self.encoder.token_id(token)  # raises for a token that is not there, before the model is loaded
        self.accuracies = torch.nn.ModuleDict()  # one SampledAccuracy a validation set
        self.metrics: dict[str, float] = {}
        self.validated: dict[str, float] = {}  # by the last validation, after `validated_at` iterations
        self.validated_at = -1
        self.tallied: dict[str, Tensor | float] = {}
        self.summed: dict[str, tuple[float, str]] = {}  # a sum over this rank's rollouts, and what divides it
        self.components: dict[str, float] = {}  # sums of the reward's components over this rank's rollouts
        self.experience: Experience | None = None
        self.clock = Stopwatch()

    def training_step(self, prompts: list[Prompt], batch_idx: int) -> None:
        """One iteration: prompts -> rollouts -> rewards -> advantages -> scoring -> loss -> optimizer steps -> sync."""
        with self.clock("sample"):
            rollouts = self.sampler.sample(prompts, self.sampling_params(self.phase.sampling))
        with self.clock("verify"):
            rewards = self.verify(rollouts)
        with self.clock("score"):
            experience = self.weigh(rollouts, rewards)
        with self.clock("update"):
            for step in self.optimizer_steps(experience):
                for micro_batch in step.micro_batches:
                    logprobs = self.logprobs(self.policy, micro_batch, rollouts)
                    share = step.loss(logprobs, micro_batch, rollouts)
                    self.manual_backward(share.loss * world_size())  # strategies average gradients over ranks
                    self.tally(loss=share.loss, **share.metrics)
                self.take(step)
        with self.clock("sync"):
            self.sampler.sync(self.policy.named_tensors())
        self.conclude(experience)

    def verify(self, rollouts: Rollouts) -> Tensor:
        """Rewards [B, G] float32, on the CPU. Raises DSRLError where the verifier returns another shape or a NaN."""
        rewards, components = judge(self.verifier, rollouts)
        self.summed, self.components = {}, component_sums(components)
        return rewards.cpu()

    def weigh(self, rollouts: Rollouts, rewards: Tensor) -> Experience:
        """What each term of the objective keeps, in which space; old and reference log-probabilities where needed."""
        views: dict[str, SpaceView] = {}
        terms = self.phase.objective.terms
        several = sum(not isinstance(objective, KLPenalty) for _, objective in terms) > 1
        for index, (weight, objective) in enumerate(terms):
            shaped = rewards if objective.reward_kl is None else self.less_kl(rewards, rollouts, objective.reward_kl)
            key = space_key(objective.space)
            views[key] = views.get(key) or self.view(objective.space, rollouts)
            term = weigh(index, weight, objective, rollouts, shaped)
            term.label = f"{type(objective).__name__}{index}/" if several else ""
            views[key].terms.append(term)
        for view in views.values():
            if self.config.steps_per_iteration > 1:  # else the first forward of the update is the policy that sampled
                view.old_logprobs = self.frozen_logprobs(
                    self.policy, view, rollouts, view.needing("needs_old_logprobs")
                )
            if self.reference is not None and (rows := view.needing("needs_reference")).any():
                view.reference_logprobs = self.frozen_logprobs(self.reference, view, rollouts, rows)
        return Experience(rollouts=rollouts, rewards=rewards, views=list(views.values()))

    def optimizer_steps(self, experience: Experience) -> Iterator[OptimizerStep]:
        """The iteration's optimizer steps: `update.minibatches` x `update.epochs` of them."""
        return optimizer_steps(
            experience,
            minibatches=self.config.update.minibatches,
            epochs=self.config.update.epochs,
            max_tokens=self.config.update.max_tokens,
            max_new_tokens=self.phase.sampling.max_new_tokens,
            seed=seed_of(self.config.seed, self.iteration),
            device=self.device,
        )

    def logprobs(self, policy: Policy, micro_batch: MicroBatch, rollouts: Rollouts) -> Tensor:
        """Log-probabilities [n, T] of a micro-batch's responses in its space; T is the longest of them."""
        rows = micro_batch.rows
        longest = int(rollouts.lengths[rows].max())
        tokens, mask = (part[rows, :longest].to(self.device) for part in (rollouts.tokens, rollouts.mask))
        contexts = [micro_batch.view.contexts[row] for row in rows.tolist()]
        logprobs: Tensor = policy(contexts, tokens, mask, self.phase.sampling.temperature)
        return logprobs

    @torch.no_grad()
    def frozen_logprobs(self, policy: Policy, view: SpaceView, rollouts: Rollouts, rows: Tensor) -> Tensor:
        """Log-probabilities [N, T] of the chosen rows [N] bool without gradient, 0 elsewhere; on the CPU."""
        result = torch.zeros(rollouts.mask.shape)
        for micro_batch in cut(view, rollouts, rows, self.config.update.max_tokens, self.device):
            logprobs = self.logprobs(policy, micro_batch, rollouts).cpu()
            if not micro_batch.idle:
                result[micro_batch.rows, : logprobs.shape[1]] = logprobs
        return result

    def view(self, space: Any, rollouts: Rollouts) -> SpaceView:
        """The rollouts in a space, with no terms yet."""
        contexts = contexts_in(
            space,
            rollouts.prompts,
            self.encoder,
            responses=rollouts.responses_per_prompt,
            seed=self.config.seed,
            iteration=self.iteration,
        )
        return SpaceView(contexts=contexts)

    def less_kl(self, rewards: Tensor, rollouts: Rollouts, kl: KL) -> Tensor:
        """Rewards [B, G] less the k1 penalty, summed over each response's tokens."""
        assert self.reference is not None
        view, rows = self.view(kl.space, rollouts), torch.ones(len(rollouts.texts), dtype=torch.bool)
        policy, reference = (self.frozen_logprobs(p, view, rollouts, rows) for p in (self.policy, self.reference))
        penalty = k1(policy, reference).sum(-1)
        before, _ = self.summed.get("kl/mean", (0.0, ""))
        self.summed["kl/mean"] = before + float(penalty.sum()), "length"
        return rewards - kl.coefficient * penalty.view_as(rewards)

    def take(self, step: OptimizerStep) -> None:
        """One optimizer step on the accumulated gradient; none where no sample was kept on any rank."""
        optimizer: Any = self.optimizers()
        if not step.keeps_nothing:
            parameters = list(self.policy.parameters())
            for parameter in parameters:
                if parameter.grad is None:  # all advantages 0: the gradient is 0, moments and weight decay still act
                    parameter.grad = torch.zeros_like(parameter)
            limit = self.config.update.clip_norm or math.inf
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
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
        extra = {name: value for name, (value, _) in self.summed.items()}
        sums = sum_by_key(
            {**rollout_sums(experience, re.compile(self.config.model.reflection)), **self.components, **extra}
        )
        optimizer: Any = self.optimizers()
        self.tallied, self.experience = {}, experience
        self.metrics = {
            **rollout_means(sums),
            **component_means(sums),
            **{name: sums[name] / max(1.0, sums[divisor]) for name, (_, divisor) in self.summed.items()},
            "loss": 0.0,
            **sum_by_key(shares),
            "grad_norm": norm / max(1.0, steps),
            "update/steps": steps,
            "lr": optimizer.param_groups[0]["lr"],
            **self.clock.read(),
        }
        logged = {**self.metrics, "phase": float(self.phase.number), "step": float(self.iteration)}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, prompts: list[Prompt], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Sample `validation.k` answers to each held-out question of a batch, and count those that are right."""
        if prompts:
            name = self.validation_sets[dataloader_idx]
            rewards = self.verify(self.sampler.sample(prompts, self.validation_params(name)))
            self.accuracy(name).update(rewards)

    def on_validation_epoch_end(self) -> None:
        """`val/SET/avg@k` and `val/SET/pass@j` of every set, over all ranks."""
        self.validated = {}
        for name in self.validation_sets:
            for key, value in self.accuracy(name).compute().items():
                self.validated[f"val/{name}/{key}"] = float(value)
            self.accuracy(name).reset()
        self.validated_at = self.iteration if self.trainer.sanity_checking else self.iteration + 1
        self.log_dict({**self.validated, "step": float(self.validated_at)}, batch_size=1)

    def sampling_params(self, sampling: SamplingConfig) -> SamplingParams:
        """How this iteration's training samples are drawn."""
        return SamplingParams(
            responses_per_prompt=self.config.responses_per_prompt,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            stop_token_ids=tuple(self.encoder.token_id(token) for token in sampling.stop),
            seed=self.config.seed,
            iteration=self.iteration,
        )

    def validation_params(self, name: str) -> SamplingParams:
        """How a validation set's samples are drawn: every time with the same random numbers."""
        return dataclasses.replace(
            self.sampling_params(self.phase.sampling),
            responses_per_prompt=self.config.validation.k,
            temperature=self.config.validation.temperature,
            top_p=1.0,
            top_k=0,
            seed=seed_of("validation", self.config.seed, name),
            iteration=0,
        )

    @property
    def iteration(self) -> int:
        """The iteration under way, from 0: Lightning's epoch."""
        return self.trainer.current_epoch

    @property
    def validation_sets(self) -> list[str]:
        """Names of the validation sets, in the order of their dataloaders."""
        names: list[str] = self.trainer.datamodule.val_names  # type: ignore[attr-defined]
        return names

    def accuracy(self, name: str) -> SampledAccuracy:
        """The metric of a validation set."""
        key = str(self.validation_sets.index(name))  # a module's name cannot hold the dot that a file's may
        if key not in self.accuracies:
            self.accuracies[key] = SampledAccuracy(self.config.validation.k).to(self.device)
        metric = self.accuracies[key]
        assert isinstance(metric, SampledAccuracy)
        return metric

    def sync_reference(self) -> None:
        """Copy the policy into the reference, where there is one."""
        if self.reference is not None:
            self.reference.load_state_dict(self.policy.state_dict())

    def configure_model(self) -> None:
        """Load the policy, a frozen copy of it where some phase needs a reference, and set the sampler up. Once."""
        if hasattr(self, "policy"):
            return
        self.policy = Policy(load_model(self.config.model))
        self.fit_prompts()
        if self.config.needs_reference:
            self.reference = Policy(copy.deepcopy(self.policy.model)).requires_grad_(False).eval()
        self.sampler.setup(self.policy, self.encoder)
        self.trainer.datamodule.encoder = self.encoder  # type: ignore[attr-defined]

    def fit_prompts(self) -> None:
        """Leave room for the longest response in the model's positions: longer prompts lose their beginning."""
        positions = getattr(self.policy.model.config, "max_position_embeddings", None)
        longest = max(phase.sampling.max_new_tokens for phase in self.config.phases)
        if positions is not None:
            if positions <= longest:
                raise ConfigError(
                    f"sampling.max_new_tokens={longest}: the model has {positions} positions, which a prompt shares"
                )
            self.encoder.max_tokens = min(self.encoder.max_tokens, positions - longest)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the policy. Its structure is the same in every phase."""
        settings = self.config.optimizer
        return torch.optim.AdamW(
            self.policy.parameters(),
            lr=self.phase.lr,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )

    def on_train_epoch_start(self) -> None:
        """Validate after the last iteration, whatever `validation.every` says."""
        if self.config.validation.every and self.iteration + 1 == self.config.iterations:
            self.trainer.check_val_every_n_epoch = 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, which a resumed run is compared with."""
        checkpoint["dsrl"] = {"config": self.config.resolved, "iterations_done": self.iteration + 1}

    def teardown(self, stage: str) -> None:
        """Close sampler and verifier."""
        for part in (self.sampler, self.verifier):
            getattr(part, "close", lambda: None)()
