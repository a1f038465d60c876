"""What every strategy adds to Lightning's: how models are placed, and checkpoints that each of them can read."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch.plugins.precision import HalfPrecision
from lightning.pytorch.strategies import ParallelStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from dsrl.config.schema import ModelConfig
from dsrl.errors import ConfigError
from dsrl.models.loading import load_model
from dsrl.models.sharded_loading import blocks
from dsrl.parallel.launcher import Launcher
from dsrl.parallel.network import point_gloo_to
from dsrl.parallel.plain_names import plain_name
from dsrl.storage.checkpoint_files import read_checkpoint, write_file, write_folder
from dsrl.storage.safetensors_files import read_tensors, tensors_in

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds after which a checkpoint that is still being written is mentioned, again and again."""

PARTS = StateDictOptions(flatten_optimizer_state_dict=True)

COPIES = REFERENCE, INITIAL = "reference.", "initial."
"""How the names of the frozen copies' weights begin: those of the module's attributes."""


class LoopStrategy(Strategy):
    """Place models, and write checkpoints that every strategy can read; mixed into Lightning's strategies.

    Weights and optimizer state are stored under the parameters' names, so that a run can go on with other ranks and
    under another strategy.
    """

    replicated = False
    """Whether every rank holds all of the model and of the optimizer's state."""
    alone = False
    """Whether this rank does everything without the others, and for them: see `on_its_own`."""
    save_parts = False
    """Let each rank write its part into a folder, instead of rank 0 everything into one file."""
    saving: tuple[Path, Future[None]] | None = None
    """The checkpoint that is being written while training goes on, and what is done when it is complete."""

    def models(self, config: ModelConfig, copies: int) -> list[Any]:
        """Load the model and place `copies` of it on this rank."""
        return [self.place(model) for model in _load_copies(config, copies)]

    def place(self, model: Any) -> Any:
        """Put the model into the form in which this rank holds it."""
        return model

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return a context for forward and backward of a micro-batch.

        `last` says that it is the last one of its optimizer step, after which gradients must be those of all ranks.
        """
        return nullcontext()

    def _configure_launcher(self) -> None:
        if isinstance(self, ParallelStrategy):
            environment = self.cluster_environment
            assert environment is not None
            self._launcher = Launcher(environment, self.num_processes, self.num_nodes)  # type: ignore[attr-defined]

    def setup_environment(self) -> None:
        """Set up as Lightning does, and choose the network between nodes.

        Batches are left as they are: they are prompts, and hold no tensors that a precision would convert. New tensors
        of the loop, such as random numbers, are in float32, also where the weights are in a narrower type.
        """
        self.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]
        if isinstance(self.precision_plugin, HalfPrecision):
            self.precision_plugin.forward_context = nullcontext  # type: ignore[assignment,method-assign]
        if isinstance(self, ParallelStrategy) and self.num_nodes > 1:  # type: ignore[attr-defined]
            assert self.cluster_environment is not None
            point_gloo_to(self.cluster_environment.main_address)
        super().setup_environment()

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """True: `load_checkpoint` restores model and optimizer once they are in place."""
        return True

    @property
    def lightning_restore_optimizer(self) -> bool:
        """False: `load_checkpoint` restores it."""
        return False

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Do nothing: `load_checkpoint` has restored the weights."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Collect the weights by name: this rank's parts, or full ones on rank 0 and none elsewhere."""
        assert self.lightning_module is not None
        return get_model_state_dict(self.lightning_module, options=self.saved_form)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Collect the optimizer's state by parameter names.

        It is empty before the first step: to ask torch for it would take a step.
        """
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        assert self.lightning_module is not None
        if not optimizer.state:
            return {}
        return get_optimizer_state_dict(self.lightning_module, optimizer, options=self.saved_form)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, or begin to where each rank writes its part. Called on every rank; the path is rank 0's.

        However slow the disk is, no rank waits for another with a time limit; the watchdog ends what hangs.
        """
        if self.alone:
            write_file(checkpoint, Path(filepath))
            return
        self.finish_saving()
        path, group = Path(self.broadcast(str(filepath))), self.saving_group
        if self.save_parts:
            (state,) = checkpoint["optimizer_states"]
            moments = _tensors(state)
            tensors = {"model": self._untied(checkpoint.pop("state_dict")), "optimizer": moments}
            checkpoint["optimizer_states"] = [{key: value for key, value in state.items() if key not in moments}]
            self.saving = path, write_folder(checkpoint, tensors, path, group=group)
            return
        if self.is_global_zero:
            write_file(checkpoint, path)
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until every rank is here and nothing is being written, however long one writes to a disk."""
        if self.alone:
            return
        self.finish_saving()
        if (group := self.saving_group) is not None:
            dist.barrier(group)

    @contextmanager
    def on_its_own(self) -> Iterator[None]:
        """Let this rank go through what all do together, such as to save a checkpoint, after another one has failed.

        Only for a strategy that is `replicated`.
        """
        self.alone = True
        try:
            yield
        finally:
            self.alone = False

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the other ranks, unless this one is on its own."""
        if not self.alone:
            super().barrier(*args, **kwargs)  # type: ignore[safe-super]

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Give rank 0's value to all; this rank's own where it is on its own."""
        return obj if self.alone else super().broadcast(obj, src)  # type: ignore[safe-super]

    def finish_saving(self) -> None:
        """Wait for the checkpoint that is being written, if any, on every rank. Raises what its writing failed with."""
        if self.saving is None:
            return
        path, complete = self.saving
        while not wait([complete], timeout=PATIENCE).done:
            logger.warning("%s: still being written", path)
        self.saving = None
        complete.result()

    @cached_property
    def saving_group(self) -> dist.ProcessGroup | None:
        """All ranks, for what concerns checkpoints alone; None in a run of one process. A collective the first time."""
        return dist.new_group(backend="gloo", timeout=timedelta(days=7)) if dist.is_initialized() else None

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Restore weights and optimizer from a run under any strategy; returns the rest of the checkpoint."""
        path, module, (optimizer,) = Path(checkpoint_path), self.lightning_module, self.optimizers
        assert module is not None
        checkpoint = read_checkpoint(path)
        (state,) = checkpoint["optimizer_states"]
        every = get_model_state_dict(module, options=PARTS)
        held = [name.removeprefix("model.") for name in tensors_in(path)] if path.is_dir() else checkpoint["state_dict"]
        # Copies of a run that needed none of its own until now.
        absent = tuple(copied for copied in COPIES if not any(name.startswith(copied) for name in held))
        own = {name: value for name, value in every.items() if not name.startswith(absent)}
        if path.is_dir():
            weights = {**own}
            current = get_optimizer_state_dict(module, optimizer, options=PARTS) if state else {}
            parts = {"model": self._untied(weights), "optimizer": _tensors(current)}
            read_tensors(path, parts, self.saving_group)
            state, options = current | state if state else {}, PARTS
        else:
            weights = checkpoint.pop("state_dict")
            weights = {name: weights[name] for name in own}
            options = StateDictOptions(full_state_dict=True)
        if INITIAL in absent:  # a reference beside it was both, never synced, and is what the policy was at first
            sources = {name: name.replace(INITIAL, REFERENCE, 1) for name in every if name.startswith(INITIAL)}
            weights |= {name: weights[source] for name, source in sources.items() if source in weights}
        set_model_state_dict(module, weights, options=replace(options, strict=False))  # names were seen to
        if state:
            set_optimizer_state_dict(module, optimizer, state, options=options)
        return checkpoint

    @property
    def saved_form(self) -> StateDictOptions:
        """Torch's options of a saved state: parts as they are, or full tensors on rank 0's CPU."""
        if self.alone:
            return StateDictOptions(cpu_offload=True)
        return PARTS if self.save_parts else StateDictOptions(full_state_dict=True, cpu_offload=True)

    def _untied(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Keep one name of each weight; those of tied parameters have two."""
        module = self.lightning_module
        assert module is not None
        own = [*module.named_parameters(), *module.named_buffers()]
        names = {plain_name(name) for name, _ in own}
        return {name: value for name, value in weights.items() if name in names}


def place_models(strategy: Strategy, config: ModelConfig, copies: int, *, compiled: bool = False) -> list[Any]:
    """Load the model, `copies` times, each placed on this rank by the trainer's strategy.

    Lightning's own strategy for one device does, too.

    Args:
        strategy: the trainer's.
        config: which model.
        copies: how many.
        compiled: whether `torch.compile` compiles the transformer blocks. Blocks of one kind are compiled once, in the
            first pass of each kind; names of parameters stay what they were.

    Raises:
        ConfigError: the strategy is any other that is not of dsrl, or the model does not say what its blocks are.
    """
    models = _place(strategy, config, copies)
    for model in models if compiled else ():
        if not blocks(model):
            raise ConfigError(f"trainer.compile=true: {config.name} does not say which of its modules are blocks")
        for block in blocks(model):
            block.compile(dynamic=True)
    return models


def _place(strategy: Strategy, config: ModelConfig, copies: int) -> list[Any]:
    if isinstance(strategy, LoopStrategy):
        return strategy.models(config, copies)
    if not isinstance(strategy, SingleDeviceStrategy):
        raise ConfigError(
            f"Trainer(strategy={type(strategy).__name__}): several ranks need a strategy of dsrl, which `dsrl.fit` "
            "chooses by trainer.strategy; a Trainer of your own can have strategy=dsrl.strategy_for(config)"
        )
    return _load_copies(config, copies)


def _load_copies(config: ModelConfig, copies: int) -> list[Any]:
    model = load_model(config)
    return [model, *(copy.deepcopy(model) for _ in range(copies - 1))]


def accumulating(strategy: Strategy, *, last: bool) -> AbstractContextManager[Any]:
    """Surround forward and backward of a micro-batch; gradients are exchanged with the `last` of an optimizer step."""
    return strategy.accumulating(last=last) if isinstance(strategy, LoopStrategy) else nullcontext()


def wait_for_all(strategy: Strategy) -> None:
    """Wait until every rank is here and its checkpoint is written. Every rank calls it."""
    if isinstance(strategy, LoopStrategy):
        strategy.wait_for_all()


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
