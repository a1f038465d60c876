"""Train in one process, or with DDP: every rank holds the full model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch.nn.parallel import DistributedDataParallel

from dsrl.parallel.strategy import LoopStrategy


class SingleDevice(LoopStrategy, SingleDeviceStrategy):
    """Train in one process."""

    replicated = True


class DDP(LoopStrategy, DDPStrategy):
    """Average the gradients over ranks with the last micro-batch of an optimizer step."""

    replicated = True

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Exchange no gradients before the last micro-batch."""
        assert isinstance(self.model, DistributedDataParallel)
        return nullcontext() if last else self.model.no_sync()
