"""Run one iteration of rank 0 on fake tensors, with the code of a real one, and note the memory of each stage."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.fsdp import OffloadPolicy
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import PreTrainedConfig, PreTrainedModel

from dsrl.config.run_config import RunConfig
from dsrl.config.schema import ModelConfig
from dsrl.devices import SHARDED, cast_dtype
from dsrl.errors import DSRLError
from dsrl.loop.optimizer import adamw
from dsrl.models.offloading import saved_on_host
from dsrl.models.policy import Policy
from dsrl.parallel.fsdp import copies_of, mixed_precision, shard, shard_mesh
from dsrl.parallel.sharding import clip_gradients
from dsrl.planning.architecture import shaped_model
from dsrl.planning.balance import layout_of
from dsrl.planning.dtypes import compute_dtype_of
from dsrl.planning.tracking import HOST, MemoryTracker, local_bytes
from dsrl.planning.workload import Workload
from dsrl.samplers.drawing import draw_tokens
from dsrl.samplers.hf import HFSampler
from dsrl.types import SamplingParams


class NotPlannable(DSRLError):
    """The model's code asks for numbers, which fake tensors do not have."""


def fake_iteration(
    config: RunConfig, architecture: PreTrainedConfig, workload: Workload, *, offloads: bool = False
) -> dict[str, Counter[str]]:
    """Run an iteration of rank 0 with everything as long as may be, and return each stage's peak: bytes by part.

    Nothing is computed and nothing communicated. Call it where no process group is: it makes one of fake ranks, and
    ends it.

    Args:
        config: the run.
        architecture: the model's.
        workload: sizes of the rank's share.
        offloads: whether tensors that wait for the backward pass lie in another memory.

    Raises:
        NotPlannable: the model cannot run on fake tensors.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    tracker = MemoryTracker(fake, vocabulary=architecture.get_text_config().vocab_size)
    sharded = config.trainer.strategy in SHARDED
    copies = sharded and isinstance(config.sampler, HFSampler)  # every rank decodes with a full copy
    models = _Models(
        policy=shaped_model(architecture, config.model),
        frozen=[shaped_model(architecture, config.model) for _ in range(config.frozen_copies)],
        sampler=shaped_model(architecture, _decoding(config)) if copies else None,
    )
    with _fake_ranks(workload.ranks, together=sharded), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kernels that would be slow, and of collectives on fake tensors
        try:
            with fake, tracker:
                _Iteration(config, models, workload, tracker, offloads).run()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise NotPlannable(f"model.name={config.model.name}: its memory cannot be planned: {reason}") from error
    return tracker.peaks


def _decoding(config: RunConfig) -> ModelConfig:
    """The model of which a full copy decodes."""
    return replace(config.model.plain(), dtype=compute_dtype_of(config))


@dataclass
class _Models:
    """The models of a rank, on the meta device."""

    policy: PreTrainedModel
    frozen: list[PreTrainedModel]
    sampler: PreTrainedModel | None


@dataclass
class _Iteration:
    config: RunConfig
    models: _Models
    workload: Workload
    tracker: MemoryTracker
    offloads: bool

    def run(self) -> None:
        config, tracker = self.config, self.tracker
        with tracker.part("weights"):
            policy = self._placed(self.models.policy)
        tracker.assign([*policy.parameters()], "weights")
        frozen = []
        for model in self.models.frozen:
            with tracker.part("reference"):
                frozen.append(self._placed(model).requires_grad_(False).eval())
            tracker.assign([*frozen[-1].parameters()], "reference")
        trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]

        def note(parameter: Tensor) -> None:
            assert parameter.grad is not None
            tracker.assign([parameter.grad], "gradients")

        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]
        optimizer = adamw(trained, config.optimizer, config.phases[0].lr)
        with tracker.part("moments"):  # they stand in for those that the first step makes
            moments = [torch.empty_like(parameter) for parameter in (trained if self.workload.all_steps > 1 else ())]
            moments += [torch.empty_like(moment) for moment in moments]
        with tracker.part("communication"):  # DDP's buckets, which stay
            buckets = [torch.empty_like(parameter) for parameter in trained] if self._buckets else []
        with ExitStack() as stack:
            if config.trainer.strategy not in SHARDED and (dtype := cast_dtype(config.trainer.precision)):
                stack.enter_context(torch.autocast("cpu", dtype=dtype))
            if isinstance(config.sampler, HFSampler):
                self._sample(policy)
            self._score(policy, frozen)
            self._update(policy, trained)
        del moments
        with tracker.stage("optimizer_step"), tracker.part("optimizer_step"):
            clip_gradients(policy.model, config.update.clip_norm)
            optimizer.step()
        made = sum(local_bytes(state[name]) for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq"))
        tracker.peaks["optimizer_step"].update({"moments": made, "optimizer_step": -made})
        del buckets

    @property
    def _sharded(self) -> bool:
        return self.config.trainer.strategy in SHARDED

    @property
    def _buckets(self) -> bool:
        return not self._sharded and (self.config.trainer.strategy == "ddp" or self.workload.ranks > 1)

    def _placed(self, model: Any) -> Policy:
        """The model as the trainer's strategy places it."""
        _materialize(model)
        if self._sharded:
            mesh = shard_mesh("cpu", self.workload.ranks, copies_of(self.config.trainer))
            compute = cast_dtype(self.config.trainer.precision)
            model = shard(model, mesh, mixed_precision(compute), OffloadPolicy())
        return Policy(model, partial(saved_on_host, self._to_host) if self.offloads else nullcontext)

    def _to_host(self, tensor: Tensor) -> Tensor:
        with self.tracker.part(HOST):
            return tensor.clone()

    @torch.no_grad()
    def _sample(self, policy: Policy) -> None:
        """Read prompts, and draw a token of each response; keys and values are counted apart."""
        config, workload = self.config, self.workload
        model: nn.Module = policy.model
        if self.models.sampler is not None:
            with self.tracker.part("sampler"):
                _materialize(self.models.sampler)
            model = self.models.sampler.requires_grad_(False)
        assert isinstance(config.sampler, HFSampler)
        rows = config.sampler.rows_at_once(workload.longest_row, workload.prompts, workload.responses)
        prompts = max(1, rows // workload.responses)
        params = SamplingParams(responses_per_prompt=1, max_new_tokens=1, seed=0)
        with self.tracker.stage("sampling"):
            ids = torch.zeros(prompts, workload.prompt_tokens, dtype=torch.long)
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
            logits = model(input_ids=torch.zeros(rows, 1, dtype=torch.long), use_cache=False).logits[:, -1]
            draw_tokens(logits, torch.rand(rows), params)

    @torch.no_grad()
    def _score(self, policy: Policy, frozen: list[Policy]) -> None:
        """Run the passes without gradient: of the policy that sampled, of frozen copies."""
        with self.tracker.stage("scoring"):
            if self.config.steps_per_iteration > 1 or self.config.initial_kl.every:
                self._pass(policy, self.workload.prompt_tokens)
            for model in frozen:
                self._pass(model, self.workload.prompt_tokens)

    def _update(self, policy: Policy, trained: list[nn.Parameter]) -> None:
        """Run a pass of the update. Where a step has several, the gradients of those before are there already."""
        spaces = {str(term.space) for phase in self.config.phases for _, term in phase.objective.terms}
        context = 1 if spaces == {"marginal"} else self.workload.prompt_tokens
        if self.workload.micro_batches(context) > 1:
            with self.tracker.part("gradients"):
                for parameter in trained:
                    parameter.grad = torch.zeros_like(parameter)
        with self.tracker.stage("update"):
            mask = self._mask(policy, context)
            torch.autograd.backward(self._pass(policy, context).sum())
            gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
            self.tracker.assign(gradients, "gradients")
            del mask

    def _pass(self, policy: Policy, context: int) -> Tensor:
        rows, response = self.workload.rows(context)
        # Contexts differ, as those of different prompts do.
        contexts = [[row % 7] * context for row in range(rows)]
        tokens = torch.zeros(rows, response, dtype=torch.long)
        self.mask = self._mask(policy, context)
        return policy.score(contexts, tokens, torch.ones(rows, response, dtype=torch.bool), 1.0).logprobs

    def _mask(self, policy: Policy, context: int) -> Tensor:
        """The mask of a micro-batch of rows in which responses share a context, if the longest ones do."""
        workload, layout = self.workload, layout_of(self.config, policy.row_cost, self.workload)
        lengths = [workload.response_tokens] * workload.responses
        together = layout.together([(0,) * context] * len(lengths), lengths, range(len(lengths)), layout.tokens)
        largest = max(map(len, together))
        masked = largest > 1 and not layout.packed
        longest = layout.row(context, lengths[:largest]).tokens if masked else 0
        rows = max(1, layout.tokens // max(1, longest))
        return torch.empty(rows, longest, longest, dtype=cast_dtype(self.config.trainer.precision))


def _materialize(model: nn.Module) -> None:
    """Give the parameters and buffers of a model on the meta device memory, as far as the tracker knows."""
    made: dict[int, nn.Parameter] = {}  # a tied parameter has one memory
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in made:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module.register_parameter(name, made[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


@contextmanager
def _fake_ranks(count: int, *, together: bool) -> Iterator[None]:
    """Be rank 0 of so many, as far as torch knows; `together` asks for a process group of one rank, too."""
    if count == 1 and not together:
        yield
        return
    if dist.is_initialized():
        raise DSRLError("a plan of several ranks is made before the process group of a run, or in another process")
    dist.init_process_group("fake", rank=0, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()
