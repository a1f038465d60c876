"""What must hold of a run that replays the rollouts of another, or that records its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from dsrl.config.renamed import in_todays_words
from dsrl.samplers import ReplaySampler

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig

RECORD = ("none", "all")
SAME = ("prompts_per_iteration", "responses_per_prompt", "data")
"""Keys that must be as in the recorded run, since its rollouts follow from them; validation sets may differ."""


def replay_problems(config: RunConfig) -> Iterator[str]:
    """Find what keeps a run from replaying the rollouts that its sampler names. None for other samplers."""
    sampler = config.sampler
    if config.record not in RECORD:
        yield f"record={config.record}: allowed are {', '.join(RECORD)}"
    if not isinstance(sampler, ReplaySampler):
        return
    if sampler.check():  # told among the parts' own problems
        return
    if config.record != "none":
        yield f"record={config.record}: what is replayed is recorded already, in sampler.run={sampler.run}"
    if config.dynamic_sampling:
        yield (
            f"dynamic_sampling={config.dynamic_sampling}: recorded rollouts cannot be replaced by others; "
            "give dynamic_sampling=0"
        )
    for kind in ("always_right", "always_wrong"):
        if (weight := getattr(config.curriculum, kind)) < 1:
            yield (
                f"curriculum.{kind}={weight}: the questions are those that were recorded, and none is passed over; "
                f"give curriculum.{kind}=1"
            )
    recorded = list(sampler.files)
    missing = [number for number in range(recorded[0], config.iterations) if number not in sampler.files]
    if missing:
        yield (
            f"iterations={config.iterations}: sampler.run={sampler.run} has the rollouts of iterations {recorded[0]} "
            f"to {recorded[-1]}, and not of {', '.join(map(str, missing[:5]))}{' ...' if missing[5:] else ''}"
        )
    if recorded[0] and config.resume is None:
        yield (
            f"sampler.run={sampler.run}: its first recorded iteration is {recorded[0]}; go on from a checkpoint that "
            "was written before it: resume=PATH"
        )
    yield from _other_than_recorded(config, sampler)


def _other_than_recorded(config: RunConfig, sampler: ReplaySampler) -> Iterator[str]:
    path = Path(sampler.run).expanduser() / "config.yaml"
    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.load(path))
        before: Mapping[str, Any] = in_todays_words(loaded)
    except Exception as error:  # whatever a damaged file leads the reader into
        yield f"sampler.run={sampler.run}: config.yaml cannot be read ({type(error).__name__})"
        return
    same = SAME if sampler.rewards == "verifier" else (*SAME, "verifier")
    for key in same:
        then, now = _of_training(before.get(key)), _of_training(config.resolved[key])
        if then == now:
            continue
        way_out = ", or sampler.rewards=verifier, which computes rewards anew" if key == "verifier" else ""
        yield f"{key}={now}: sampler.run={sampler.run} was recorded with {then}; give the same{way_out}"


def _of_training(value: Any) -> Any:
    """A value of the configuration without what concerns validations alone."""
    return {key: part for key, part in value.items() if not key.startswith("val")} if isinstance(value, dict) else value
