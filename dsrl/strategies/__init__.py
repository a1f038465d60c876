"""Lightning strategies: how the ranks of a run share the model. Chosen by `trainer=auto|ddp|fsdp|fsdp1`."""

from dsrl.strategies.choose import lightning_precision, strategy_for
from dsrl.strategies.strategy import LoopStrategy

__all__ = ["LoopStrategy", "lightning_precision", "strategy_for"]
