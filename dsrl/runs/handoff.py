"""`resume=HANDOFF objective=NAME`: another objective for the phase that begins at a handoff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from dsrl.storage.checkpoint_files import UnreadableCheckpoint, read_checkpoint


def phase_that_begins(checkpoint: Mapping[str, Any]) -> int | None:
    """Number of the phase that begins with the iteration after a checkpoint; None within a phase."""
    state = checkpoint["callbacks"]["PhaseScheduler"]
    return state["entered"] + 1 if len(state["starts"]) > state["entered"] else None


def with_its_phases(composed: DictConfig) -> DictConfig:
    """The configuration of a run that resumes from a handoff: its `objective` is that of the phase that begins there.

    So it is where it differs from the objective of the first phase, which is over, or where the phase that begins is
    not configured. The phases before it, and its settings, are the checkpoint's. Any other run is left as it is.
    """
    path = Path(str(composed.resume))
    if composed.resume in (None, "last") or not path.exists():
        return composed
    try:
        checkpoint = read_checkpoint(path)
    except UnreadableCheckpoint:  # said where it is resumed
        return composed
    number, saved = phase_that_begins(checkpoint), checkpoint["dsrl"]["config"]
    if number is None:
        return composed
    objective = OmegaConf.to_container(composed, resolve=True)["objective"]  # type: ignore[call-overload,index]
    if objective == saved["objective"] and composed[f"phase{number}"] is not None:
        return composed
    composed = composed.copy()
    with open_dict(composed):
        composed.objective = saved["objective"]
        for earlier in range(2, number):
            composed[f"phase{earlier}"] = saved[f"phase{earlier}"]
        composed[f"phase{number}"] = {**saved[f"phase{number}"], "objective": objective}
    return composed
