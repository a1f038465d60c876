"""What `python -m dsrl.claims` is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dsrl.errors import ConfigError, nearest
from dsrl.threads import cores

WORLDS = {"arithmetic": ("model=tiny", "data=arithmetic"), "retry": ("model=retry", "data=retry")}
"""The embedded worlds, by the words that choose their model and their questions."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of a replication.

    Args:
        mode: quick, full or map.
        out: folder of all runs and results.
        worlds: names of embedded worlds, or `given` where the command line names a model or data.
        words: words of `python train.py` that go to every run.
        iterations: of runs of grpo and dsrl.
        short_iterations: of the runs in P(y) alone, which claim 2 compares.
        validate_every: iterations between two points of a curve.
        k: answers to each held-out question at each of them.
        learning_rates: tried for every arm.
        bonuses: coefficients tried for the bonus for entropy.
        tuning_seeds: of the runs by which these are chosen.
        seeds: of the runs that are measured; none of the tuning seeds is among them.
        align_samples: responses whose gradients are compared, at each moment of each seed.
        jobs: runs at once.
    """

    mode: str
    out: Path
    worlds: tuple[str, ...]
    words: tuple[str, ...] = ()
    iterations: int
    short_iterations: int = 20
    validate_every: int = 5
    k: int = 8
    learning_rates: tuple[float, ...]
    bonuses: tuple[float, ...] = (0.003, 0.01, 0.03)
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    align_samples: int
    jobs: int

    def of_world(self, world: str) -> tuple[str, ...]:
        """The words that choose a world, and those that go to every run."""
        return (*WORLDS.get(world, ()), *self.words)


MODES: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "worlds": ("arithmetic",),
        "iterations": 20,
        "learning_rates": (1e-4, 3e-4),
        "bonuses": (0.003, 0.01),
        "tuning_seeds": (100,),
        "seeds": (0, 1, 2),
        "align_samples": 64,
        "words": ("prompts_per_iteration=32", "data.val_size=64"),
    },
    "full": {
        "worlds": ("arithmetic", "retry"),
        "iterations": 30,
        "learning_rates": (3e-5, 1e-4, 3e-4, 1e-3),
        "bonuses": (0.003, 0.01, 0.03, 0.1),
        "tuning_seeds": (100, 101),
        "seeds": (0, 1, 2, 3, 4),
        "align_samples": 128,
        "words": ("prompts_per_iteration=32", "data.val_size=128"),
    },
    "map": {
        "worlds": ("arithmetic",),
        "iterations": 20,
        "learning_rates": (1e-4,),
        "tuning_seeds": (),
        "seeds": (0, 1, 2),
        "align_samples": 0,
        "words": ("prompts_per_iteration=32", "data.val_size=64"),
    },
}
RESERVED = {
    **dict.fromkeys(("run_dir", "resume"), "each run has its own; out=FOLDER is that of all"),
    "seed": "each run has its own; give seeds=[..]",
    "objective": "each run has its own",
    "optimizer.lr": "each run has its own; give learning_rates=[..]",
    "validation.every": "give validate_every=..",
    "validation.k": "give k=..",
}
"""Keys of `python train.py` that no command line can give, and what to do instead."""
OWN = (
    *("worlds", "iterations", "short_iterations", "validate_every", "k", "learning_rates", "bonuses"),
    *("tuning_seeds", "seeds", "align_samples", "jobs"),
)
"""Settings that can be given as KEY=VALUE; other keys are those of `python train.py`."""
NOT_OF_MAP = ("worlds", "short_iterations", "bonuses", "tuning_seeds", "align_samples")
SEEDS = 2**32
"""Seeds are below it."""


def settings_of(arguments: Sequence[str]) -> Settings:
    """Read a command line: `[quick|full|map] [out=FOLDER] [KEY=VALUE ...]`. Raises ConfigError."""
    modes = [word for word in arguments if "=" not in word]
    if len(modes) > 1 or (modes and modes[0] not in MODES):
        wrong = modes[-1]
        raise ConfigError(f"{wrong}: give one of {', '.join(MODES)}, and KEY=VALUE.{nearest(wrong, MODES)}")
    mode = modes[0] if modes else "quick"
    given = dict(word.partition("=")[::2] for word in arguments if "=" in word)
    if unused := [key for key in given if mode == "map" and key in NOT_OF_MAP]:
        raise ConfigError(f"{unused[0]}: the map has no use for it")
    out = Path(given.pop("out", f"claims/{mode}")).expanduser()
    own: dict[str, Any] = {"jobs": cores(), **MODES[mode]}
    given_own = {key: _value(key, given.pop(key), own.get(key)) for key in OWN if key in given}
    own |= given_own
    if reserved := [key for key in given if key in RESERVED]:
        raise ConfigError(f"{reserved[0]}: {RESERVED[reserved[0]]}")
    words = tuple(f"{key}={value}" for key, value in given.items())
    if given.keys() & {"model", "data", "model.name"}:
        if "worlds" in given_own:
            raise ConfigError("worlds: are the embedded ones; model= and data= name another")
        own["worlds"] = ("given",)
        if mode == "map":
            raise ConfigError("map varies the embedded worlds: model= and data= are for quick and full")
    defaults = tuple(word for word in own.pop("words", ()) if word.partition("=")[0] not in given)
    if own["worlds"] == ("given",):
        defaults = ()  # which are sizes for the embedded worlds
    made = Settings(mode=mode, out=out, words=(*defaults, *words), **own)
    return _checked(replace(made, short_iterations=min(made.short_iterations, made.iterations)))


def _value(key: str, text: str, default: Any) -> Any:
    """A setting as the type of its default."""
    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))  # YAML, as on every command line
        plain = loaded["value"]
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{key}={text}: {str(error).splitlines()[0]}") from error
    if isinstance(default, tuple) or key == "bonuses":
        return tuple(plain) if isinstance(plain, list) else (plain,)
    return plain


def _checked(made: Settings) -> Settings:
    """Raise ConfigError for a setting that cannot be."""
    compares = made.mode != "map"  # the gradients of groups of responses, too
    least = {"k": 2, "align_samples": 1} if compares else {"k": 1}
    for key in ("iterations", "short_iterations", "validate_every", "jobs", *least):
        value = getattr(made, key)
        if type(value) is not int or value < least.get(key, 1):
            raise ConfigError(f"{key}={value}: must be a whole number, at least {least.get(key, 1)}")
    for key in ("learning_rates", "bonuses"):
        values = getattr(made, key)
        if not values or not all(type(value) in (int, float) and 0 < value < math.inf for value in values):
            raise ConfigError(f"{key}={list(values)}: must be numbers above 0")
        if len({f"{value:g}" for value in values}) < len(values):
            raise ConfigError(f"{key}={list(values)}: must be different in the first six digits")
    if not compares and len(made.learning_rates) > 1:
        raise ConfigError(f"learning_rates={list(made.learning_rates)}: the map has one, which its cells vary")
    for key in ("seeds", "tuning_seeds"):
        values = getattr(made, key)
        whole = all(type(value) is int and 0 <= value < SEEDS for value in values)
        if not whole or len(set(values)) < len(values):
            raise ConfigError(f"{key}={list(values)}: must be different whole numbers, below 2**32")
    if not made.seeds:
        raise ConfigError("seeds=[]: at least one is needed")
    if both := set(made.seeds) & set(made.tuning_seeds):
        raise ConfigError(f"tuning_seeds={list(made.tuning_seeds)}: {min(both)} is among seeds, which must be apart")
    if not made.tuning_seeds and made.mode != "map" and max(len(made.learning_rates), len(made.bonuses)) > 1:
        raise ConfigError("tuning_seeds=[]: needed to choose among several learning_rates or bonuses; give one of each")
    for key in ("iterations", "short_iterations"):
        if getattr(made, key) % made.validate_every:
            raise ConfigError(f"{key}={getattr(made, key)}: must be a multiple of validate_every={made.validate_every}")
    if unknown := [str(world) for world in made.worlds if world not in (*WORLDS, "given")]:
        raise ConfigError(f"worlds={list(made.worlds)}: allowed are {', '.join(WORLDS)}.{nearest(unknown[0], WORLDS)}")
    if not made.worlds or len(set(made.worlds)) < len(made.worlds):
        raise ConfigError(f"worlds={list(made.worlds)}: give each of {', '.join(WORLDS)} once, or one of them")
    return made
