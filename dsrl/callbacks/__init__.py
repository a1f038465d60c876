"""Lightning callbacks: the phases, and what watches a run."""

from dsrl.callbacks.checkpoints import Checkpoints
from dsrl.callbacks.phase_scheduler import PhaseScheduler
from dsrl.callbacks.preemption import Preemption
from dsrl.callbacks.progress import Progress
from dsrl.callbacks.run_folder import RunFolder
from dsrl.callbacks.watchdog import Watchdog

__all__ = ["Checkpoints", "PhaseScheduler", "Preemption", "Progress", "RunFolder", "Watchdog"]
