"""Score a list of strings with any verifier, without a model, a sampler or a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsrl.data.rows import ground_truth_text
from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.types import Prompt
from dsrl.verifiers.text_rollouts import rollouts_of_texts
from dsrl.verifiers.verifier import SupportsScore, close_all, compute_rewards

SINGULAR = {
    "prompt": "prompts",
    "answer": "ground_truths",
    "ground_truth": "ground_truths",
    "data_source": "data_sources",
}
"""Columns that have an argument of their own, and what that is called."""


def score_texts(
    verifier: str | Mapping[str, Any] | SupportsScore,
    responses: Sequence[str],
    *,
    ground_truths: Sequence[Any] | None = None,
    prompts: Sequence[str | Sequence[Mapping[str, str]]] | None = None,
    data_sources: Sequence[str] | None = None,
    completion_ids: Sequence[Sequence[int]] | None = None,
    **columns: Sequence[Any],
) -> list[float]:
    """Score N responses, each as the answer to a prompt of its own.

        >>> score_texts("exact", ["so # 4", "so # 5"], ground_truths=["4", "4"])
        [1.0, 0.0]

    Args:
        verifier: A registered name, a mapping {"name": NAME, parameter: value}, or an object with `score`. One given by
            name or mapping is closed at the end. An object is left open: keep one for many calls, since the processes
            of `math`, `python` and others take seconds to start, and close it yourself.
        responses: N texts.
        ground_truths: N of what the responses are compared with: text, a number, or the list or mapping that the
            verifier reads, such as the tests of `python`. Without it no response has a ground truth.
        prompts: N questions, each as text or as chat messages with role and content. Empty text by default.
        data_sources: N names, which `by_source` chooses by. Empty by default.
        completion_ids: The token ids of the N responses. Only verifiers that count tokens need them (`length`, and
            functions with a parameter of this name).
        columns: N values of another column of the rows, by its name, such as `entry` for `reasoning_gym` or `solution`
            for a reward function of TRL.

    Returns:
        N rewards, NaN where the verifier does not apply to a response.

    Raises:
        ConfigError: An argument does not hold one value for each response, or the verifier does not know the name or
            lacks something that it needs.
        DSRLError: The verifier cannot run, or returned what is no reward.
    """
    if renamed := [name for name in columns if name in SINGULAR]:
        raise ConfigError(f"score_texts: {renamed[0]} is called {SINGULAR[renamed[0]]}, with one for each response")
    given = {"ground_truths": ground_truths, "prompts": prompts, "data_sources": data_sources}
    given |= {"completion_ids": completion_ids, **columns}
    _check_lengths(responses, {name: values for name, values in given.items() if values is not None})
    count = len(responses)
    rows = [
        _prompt(
            position,
            question="" if prompts is None else prompts[position],
            truth=None if ground_truths is None else ground_truths[position],
            data_source="" if data_sources is None else data_sources[position],
            columns={name: values[position] for name, values in columns.items()},
        )
        for position in range(count)
    ]
    rollouts = rollouts_of_texts(responses, rows, completion_ids)
    built = build("verifier", verifier)
    try:
        rewards: list[float] = compute_rewards(built, rollouts)[0].flatten().tolist()
    finally:
        if built is not verifier:
            close_all([built])
    return rewards


def _check_lengths(responses: Sequence[str], given: Mapping[str, Sequence[Any]]) -> None:
    """Raise ConfigError for an argument that does not hold one value for each response."""
    if isinstance(responses, str) or not all(isinstance(response, str) for response in responses):
        raise ConfigError(f"score_texts: responses must be a list of texts, not {responses!r:.200}")
    for name, values in given.items():
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise ConfigError(f"score_texts: {name} must be a list with one for each response, not {values!r:.200}")
        if len(values) != len(responses):
            raise ConfigError(f"score_texts: {len(values)} {name} for {len(responses)} responses")


def _prompt(
    position: int,
    *,
    question: str | Sequence[Mapping[str, str]],
    truth: Any,
    data_source: str,
    columns: Mapping[str, Any],
) -> Prompt:
    """Make a prompt without tokens. Raises ConfigError for chat messages of another form."""
    if not isinstance(question, str) and not all(
        isinstance(message, Mapping) and {"role", "content"} <= {*message} for message in question
    ):
        raise ConfigError(
            f"score_texts: a prompt must be text, or a list of messages with role and content, not {question!r:.200}"
        )
    return Prompt(
        position=position,
        text=question if isinstance(question, str) else "\n".join(message["content"] for message in question),
        token_ids=(),
        messages=None if isinstance(question, str) else tuple(question),
        ground_truth="" if truth is None else ground_truth_text(truth),
        structured_ground_truth=truth if isinstance(truth, Mapping | list) else None,
        data_source=data_source,
        extra=columns,
    )
