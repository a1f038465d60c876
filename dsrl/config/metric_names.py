"""The names of metrics that a configuration leads to, known before it runs, and those that it watches.

NAMES has each name of docs/metrics.md as it stands there, with its placeholders; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from dsrl.devices import device_type
from dsrl.errors import nearest
from dsrl.objectives import Objective, PolicyGradient
from dsrl.objectives.checked import is_taken
from dsrl.objectives.entropy_bonus import EntropyBonus
from dsrl.objectives.kl_penalty import KLPenalty
from dsrl.phases.conditions import Condition
from dsrl.phases.phase import Phase
from dsrl.registry import parse_spec
from dsrl.registry.blame import is_foreign
from dsrl.verifiers.verifier import component_names

if TYPE_CHECKING:
    from dsrl.config.run_config import RunConfig

OF_THOUGHTS = ("per_answer", "per_1000_tokens", "share", "right_with", "right_without")
PLACEHOLDERS = ("reward/NAME", "SPACE", "CLASS/NAME", "CLASS", "SET", "TERM/NAME", "@k", "@j")
"""What stands for names of a run's own, in NAMES."""
OPEN = re.compile(r"(?<!\\)\.[+*]")
"""What a pattern has in the place of names that only a plugin knows."""
OWN_METRICS: Mapping[object, tuple[str, ...]] = {
    PolicyGradient.loss: ("clip/fraction",),
    KLPenalty.loss: ("kl/mean",),
    EntropyBonus.loss: ("surprise/mean",),
}
"""The metrics that a term's `loss` measures; those of another are not known."""


class Scope(NamedTuple):
    """A configuration, and those of its phases in which a metric is watched."""

    config: RunConfig
    phases: Sequence[Phase]

    @property
    def terms(self) -> list[Objective]:
        """The terms of these phases."""
        return [term for phase in self.phases for _, term in phase.objective.terms]

    @property
    def spaces(self) -> list[str]:
        """The names of the spaces that these phases score."""
        return list(dict.fromkeys(parse_spec("space", term.space)[0] for term in self.terms))


def _validates(scope: Scope) -> bool:
    return scope.config.validation.every > 0 and scope.config.data.val_names() != []


def _corrects(scope: Scope) -> bool:
    correction = scope.config.mismatch.correction
    corrected = correction == "on" or (correction == "auto" and not scope.config.exact)
    return corrected and "conditional" in scope.spaces


def _measures_mismatch(scope: Scope) -> bool:
    sampler = scope.config.sampler
    may_differ = sampler.compute_dtype is not None or not sampler.on_policy
    return "conditional" in scope.spaces or (may_differ and scope.config.mismatch.every > 0)


def _has_engine(scope: Scope) -> bool:
    return type(scope.config.sampler).__module__.startswith("dsrl.samplers.vllm")


def _has_gpu(scope: Scope) -> bool:
    return device_type(scope.config.trainer.accelerator) == "cuda"


class Family(NamedTuple):
    """Metrics that are there under one condition.

    Args:
        names: as docs/metrics.md has them.
        there: whether a run has them, in some iterations at least.
        needs: what a run needs that has none, for messages.
    """

    names: tuple[str, ...]
    there: Callable[[Scope], bool] = lambda _: True
    needs: str = ""


NAMES = (
    Family(("reward/mean", "reward/std", "reward/NAME", "group/all_right", "group/all_wrong")),
    Family(("group/length_correlation", "response/length_mean", "response/entropy", "response/truncated")),
    Family(
        ("prompt/length_mean", "prompt/truncated", "tokens/sampled", "throughput/tokens_per_second", "kept/fraction")
    ),
    Family(("scored/fraction", "tokens/scored", "SPACE/logprob", "SPACE/entropy", "SPACE/certain")),
    Family(("loss", "grad_norm", "update/steps", "lr", "update/padding", "update/slowest")),
    Family(tuple(f"time/{stage}" for stage in ("sample", "verify", "score", "update", "sync", "iteration"))),
    Family(tuple(f"thoughts/CLASS/{name}" for name in OF_THOUGHTS)),
    Family(("TERM/NAME", "clip/fraction", "kl/mean", "kept/tokens")),
    Family(
        ("dynamic_sampling/prompts",), lambda scope: scope.config.dynamic_sampling > 0, "dynamic_sampling of at least 1"
    ),
    Family(
        ("curriculum/passed_over", "curriculum/always_right", "curriculum/always_wrong"),
        lambda scope: min(scope.config.curriculum.always_right, scope.config.curriculum.always_wrong) < 1,
        "curriculum.always_right or curriculum.always_wrong below 1",
    ),
    Family(("kl/initial",), lambda scope: scope.config.initial_kl.every > 0, "initial_kl.every of at least 1"),
    Family(("update/skipped",), lambda scope: scope.config.update.on_nonfinite == "skip", "update.on_nonfinite=skip"),
    Family(
        ("mismatch/mean", "mismatch/max"),
        _measures_mismatch,
        "an objective in the conditional space, or a sampler that computes by itself and mismatch.every",
    ),
    Family(
        ("mismatch/weight", "mismatch/capped"),
        _corrects,
        "mismatch.correction in an objective of the conditional space",
    ),
    Family(("time/probe",), lambda scope: scope.config.probe is not None, "a probe, +probe=NAME"),
    Family(("sync/seconds", "sync/gib"), _has_engine, "sampler=vllm"),
    Family(("memory/allocated_gib", "memory/reserved_gib"), _has_gpu, "a GPU"),
    Family(("memory/engine_gib",), lambda scope: _has_gpu(scope) and _has_engine(scope), "a GPU and sampler=vllm"),
    Family(
        ("val/SET/avg@k", "val/SET/pass@j", "val/SET/questions", "val/SET/thoughts/CLASS/NAME"),
        _validates,
        "a validation, which has data.val and validation.every of at least 1",
    ),
)


def metric_problems(config: RunConfig) -> Iterator[str]:
    """Find watched metrics that no iteration will have, as far as their names can be known."""
    watched = [
        (f"phase{phase.number}.start.metric", phase.start.metric, config.phases[phase.number - 2 : phase.number - 1])
        for phase in config.phases[1:]
        if isinstance(phase.start, Condition)
    ]
    if config.checkpoint.best is not None:
        watched.append(("checkpoint.best", config.checkpoint.best, config.phases))
    for label, monitor in config.monitors.items():
        if isinstance(named := getattr(monitor, "metric", None), str):
            watched.append((f"monitors.{label}.metric", named, config.phases))
    for key, name, phases in watched:
        if problem := _problem(name, Scope(config, phases)):
            yield f"{key}={name}: {problem}"


def is_known(config: RunConfig, name: str) -> bool:
    """Whether some iterations of a run have a metric of this name, whatever its plugins measure."""
    scope = Scope(config, config.phases)
    return name in _known(scope)


def _problem(name: str, scope: Scope) -> str | None:
    """Say why no iteration of these phases has a metric; None where one has, or may have."""
    if _fits(name, _there(scope)) or _is_of_a_plugin(name, scope):
        return None
    for family in NAMES:
        named = name.startswith("val/") if family.there is _validates else _fits(name, _patterns(family, scope))
        if named and not family.there(scope):
            return f"it needs {family.needs}"
    known = _known(scope)
    ending = [other for other in known if other.endswith(f"/{name}")]  # of one of several terms
    where = "" if len(scope.phases) == len(scope.config.phases) else f" in phase {scope.phases[0].number}"
    return f"there is no such metric{where}.{nearest(name, ending or known)}"


def _known(scope: Scope) -> list[str]:
    """List the names that are there for sure, in some iterations at least: those that no plugin gives."""
    return [re.sub(r"\\(.)", r"\1", pattern) for pattern in _there(scope) if not OPEN.search(pattern)]


def _there(scope: Scope) -> list[str]:
    return [pattern for family in NAMES if family.there(scope) for pattern in _patterns(family, scope)]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _is_of_a_plugin(name: str, scope: Scope) -> bool:
    """Whether a part that is not dsrl's own may measure it."""
    probe = scope.config.probe
    if probe is not None and name.startswith("probe/"):
        return True
    foreign = [part for part in (scope.config.sampler, probe) if part is not None and is_foreign(part)]
    unknown = any(type(term).loss not in OWN_METRICS for term in scope.terms)
    return (bool(foreign) or unknown) and not is_taken(name)


def _patterns(family: Family, scope: Scope) -> Iterator[str]:
    """Write the names of a family as regular expressions, with a run's own names in their places."""
    for template in family.names:
        present = [placeholder for placeholder in PLACEHOLDERS if placeholder in template]
        if "CLASS/NAME" in present:
            present.remove("CLASS")
        if template in ("clip/fraction", "kl/mean", "kept/tokens"):
            continue  # TERM/NAME has those of the terms that there are
        choices = [list(_named(placeholder, scope)) for placeholder in present]
        for chosen in product(*choices):
            written = re.escape(template)
            for placeholder, pattern in zip(present, chosen, strict=True):
                written = written.replace(re.escape(placeholder), pattern)
            yield written


def _named(placeholder: str, scope: Scope) -> Iterator[str]:
    """Yield what a placeholder stands for, as regular expressions."""
    config, k = scope.config, scope.config.validation.k
    if placeholder == "reward/NAME":
        components = component_names(config.verifier)
        yield from ["reward/.+"] if components is None else (re.escape(f"reward/{name}") for name in components)
    elif placeholder == "SPACE":
        yield from map(re.escape, scope.spaces)
    elif placeholder == "CLASS":
        yield from map(re.escape, config.thoughts.class_names)
    elif placeholder == "CLASS/NAME":
        yield from (re.escape(f"{name}/{key}") for name in config.thoughts.class_names for key in OF_THOUGHTS)
    elif placeholder == "SET":
        sets = config.data.val_names()
        yield from ["[^/].*"] if sets is None else map(re.escape, sets)
    elif placeholder == "TERM/NAME":
        for phase in scope.phases:
            yield from map(re.escape, _of_terms([term for _, term in phase.objective.terms]))
    elif placeholder == "@k":
        yield f"@{k}"
    elif placeholder == "@j":
        yield from (f"@{j}" for j in range(1, k + 1))


def _of_terms(terms: Sequence[Objective]) -> Iterator[str]:
    """Yield the names of the terms' own metrics, as the loop writes them."""
    several = sum(not isinstance(term, KLPenalty) for term in terms) > 1
    for index, term in enumerate(terms):
        label = f"{type(term).__name__}{index}/" if several else ""
        yield from (f"{label}{name}" for name in OWN_METRICS.get(type(term).loss, ()))
        if term.chosen_tokens is not None:
            yield f"{label}kept/tokens"
        if term.reward_kl is not None:
            yield "kl/mean"
