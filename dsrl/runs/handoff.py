"""`resume=HANDOFF objective=NAME`: another objective for the phase that begins at a handoff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsrl.config.build import build_run_config_of
from dsrl.config.renamed import in_todays_words
from dsrl.config.run_config import RunConfig


def phase_that_begins(checkpoint: Mapping[str, Any]) -> int | None:
    """Return the number of the phase that begins with the iteration after a checkpoint; None within a phase."""
    state = checkpoint["callbacks"]["PhaseScheduler"]
    return state["entered"] + 1 if len(state["starts"]) > state["entered"] else None


def with_its_phases(config: RunConfig, checkpoint: Mapping[str, Any]) -> RunConfig:
    """Give the `objective` of a run that resumes from a handoff, `checkpoint`, to the phase that begins there.

    That is what it means where it differs from the objective of the first phase, which is over, or where the phase that
    begins is not configured. The phases before it, and its settings, are the checkpoint's. Any other run is left as it
    is. Raises ConfigError where the phases do not go together with the rest of the configuration.
    """
    if config.resume == "last":
        return config
    number, asked = phase_that_begins(checkpoint), config.resolved
    saved = in_todays_words(checkpoint["dsrl"]["config"])
    if number is None:
        return config
    objective = asked["objective"]
    if objective == saved["objective"] and asked[f"phase{number}"] is not None:
        return config
    earlier = {f"phase{before}": saved[f"phase{before}"] for before in range(2, number)}
    begins = {f"phase{number}": {**saved[f"phase{number}"], "objective": objective}}
    return build_run_config_of({**asked, "objective": saved["objective"], **earlier, **begins})
