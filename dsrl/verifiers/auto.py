"""Verifier `auto`: another verifier for each form of ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsrl.errors import ConfigError
from dsrl.registry import build, register
from dsrl.types import Prompt
from dsrl.verifiers.answer_forms import form_of
from dsrl.verifiers.ground_truth import ground_truth_of, text_problem
from dsrl.verifiers.routing import Routing

FORMS = ("choice", "number", "words", "math")


@register("verifier", "auto")
@dataclass(kw_only=True)
class Auto(Routing):
    """Score each response by the verifier that fits the form of its row's ground truth.

    - `choice`: the letter of a choice: A, (A), A., A. 5 meters, The answer is (C), \\boxed{A. 5 meters}
    - `number`: one number, with or without a unit: 72, 1,234.5, 3 1/2, 1e-3, $18, 5 km/h
    - `words`: words, dates, times of day, quantities in several units: east, no solution, 2020-01-05
    - `math`: everything else: LaTeX, expressions, percentages, tuples, intervals, ratios

    Before anything is sampled, the log says how many rows have which form. The mean reward of each form, over the
    responses of its own rows, is logged as `reward/FORM`.

    A row without a ground truth, or with one that is not text, is an error.
    """

    choice: Any = "choice"
    """The verifier of letters of choices: NAME or {name: NAME, parameter: value}, as the others."""
    number: Any = "numeric"
    """The verifier of numbers."""
    words: Any = field(default_factory=lambda: {"name": "exact", "words": True})
    """The verifier of words."""
    math: Any = "math"
    """The verifier of everything else."""

    def __post_init__(self) -> None:
        """Build the verifiers, so that a misspelt one is refused before anything is loaded."""
        super().__post_init__()
        for form in FORMS:
            spec = getattr(self, form)
            if spec is None or not isinstance(spec, str | Mapping):
                raise ConfigError(f"verifier auto: {form} must be a verifier, NAME or {{name: NAME}}, not {spec!r}")
        self._parts = {form: build("verifier", getattr(self, form)) for form in FORMS}
        self._labels = {form: form for form in FORMS}

    def route(self, prompt: Prompt) -> str:
        """Tell the form of a prompt's ground truth. Raises ConfigError where it is not text."""
        if problem := text_problem(prompt):
            raise ConfigError(problem)
        return form_of(ground_truth_of(prompt))

    def summary_of(self, prompts: Sequence[Prompt]) -> list[str]:
        """Say how many rows have which form, and which verifier scores them."""
        counts = Counter(self.route(prompt) for prompt in prompts)
        specs = {form: getattr(self, form) for form in FORMS}
        names = {form: spec if isinstance(spec, str) else spec.get("name", form) for form, spec in specs.items()}
        told = [f"{counts[form]:,} {form} ({names[form]})" for form in FORMS if counts[form]]
        return [f"verifier=auto: {', '.join(told)}"] if told else []
