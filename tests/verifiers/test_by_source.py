"""`by_source`: another verifier for each data source."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from dsrl.errors import ConfigError
from dsrl.loop.metrics import add_metrics, reduce_metrics, rollout_metrics
from dsrl.registry import build
from dsrl.verifiers import compute_rewards, extracted_answers_of
from dsrl.verifiers.routing import rows_of


@pytest.fixture
def mixed(make_rollouts):
    def make(*sources: str):
        rollouts = make_rollouts([["4.0", "4"]] * len(sources), ["4"] * len(sources))
        rollouts.prompts = [
            dataclasses.replace(prompt, data_source=source)
            for prompt, source in zip(rollouts.prompts, sources, strict=True)
        ]
        return rollouts

    return make


def by_source(sources, **parameters):
    return build("verifier", {"name": "by_source", "sources": sources, **parameters})


def values(components):
    return {
        name: [["-" if math.isnan(value) else value for value in row] for row in rows.tolist()]
        for name, rows in components.items()
    }


def test_each_row_is_scored_by_its_own(mixed) -> None:
    verifier = by_source({"words": "exact", "numbers": "numeric"})
    rewards, components = compute_rewards(verifier, mixed("words", "numbers", "words"))
    assert rewards.tolist() == [[0, 1], [1, 1], [0, 1]]
    assert values(components) == {
        "words": [[0, 1], ["-", "-"], [0, 1]],
        "numbers": [["-", "-"], [1, 1], ["-", "-"]],
    }


def test_the_longest_prefix_counts_and_a_whole_name_most(mixed) -> None:
    other = {"name": "regex", "pattern": "x"}
    verifier = by_source({"gym/*": other, "gym/num*": "numeric", "gym/numbers_not": other}, default="exact")
    rollouts = mixed("gym/words", "gym/numbers", "gym/numbers_not", "elsewhere")
    rewards, components = compute_rewards(verifier, rollouts)
    assert rewards.tolist() == [[0, 0], [1, 1], [0, 0], [0, 1]]
    assert list(components) == ["gym", "gym/num", "gym/numbers_not", "other"]


def test_components_of_a_composite_are_named_below_its_source(mixed) -> None:
    verifier = by_source({"a": {"name": "composite", "components": {"exact": 1.0, "numeric": 0.5}}, "b": "numeric"})
    rewards, components = compute_rewards(verifier, mixed("b", "a"))
    assert rewards.tolist() == [[1, 1], [0.5, 1.5]]
    assert values(components)["a/exact"] == [["-", "-"], [0, 1]]


def test_keys_of_one_short_form_keep_their_own_metrics(mixed) -> None:
    never = {"name": "regex", "pattern": "x"}
    verifier = by_source({"se": "numeric", "se/*": "exact", "other": never, "mean*": "exact"}, default="numeric")
    rewards, components = compute_rewards(verifier, mixed("se", "se/a", "other", "elsewhere", "mean"))
    assert rewards.tolist() == [[1, 1], [0, 1], [0, 0], [1, 1], [0, 1]]
    assert {name: scores.nansum().item() for name, scores in components.items()} == {
        "se": 2,
        "se/*": 1,
        "other": 0,
        "mean*": 1,
        "*": 2,
    }


def test_two_verifiers_for_all_others_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sources has '\*', for all others, and default is set"):
        by_source({"*": "exact"}, default="numeric")


def test_the_answer_is_what_the_verifier_of_the_row_takes_for_it(mixed) -> None:
    rollouts = mixed("a", "b", "c")
    rollouts.texts = ["x # y = 1", "2", "x # y = 3", "4", "x # y = 5", " 6 "]
    last = {"name": "exact", "marker": "="}
    verifier = by_source({"a": "exact", "b": {"name": "composite", "components": {"last": {**last, "weight": 1.0}}}})
    with pytest.raises(ConfigError, match="none for data source 'c'"):
        extracted_answers_of(verifier, rollouts)
    verifier = by_source({"a": "exact", "b": last}, default={"name": "length", "max_length": 9, "cache": 3})
    assert extracted_answers_of(verifier, rollouts) == ["y = 1", "2", "3", "4", "x # y = 5", "6"]


def test_an_unknown_source_is_an_error_that_names_it(mixed) -> None:
    with pytest.raises(ConfigError, match="none for data source 'number'; it has numbers. .* Did you mean 'numbers'?"):
        compute_rewards(by_source({"numbers": "numeric"}), mixed("number"))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "sources must be a mapping"),
        ("exact", "sources must be a mapping"),
        ({"a": "exct"}, "unknown verifier 'exct'"),
        ({"mean": "exact"}, r"a source cannot be called 'mean': reward/mean is a metric already; write 'mean\*'"),
        ({"std": "exact"}, "a source cannot be called 'std'"),
    ],
)
def test_impossible_sources(sources, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        by_source(sources)


def test_rows_of_some_prompts(make_rollouts) -> None:
    rollouts = make_rollouts([["a", "b"], ["c", "d"], ["e", "f"]], ["1", "2", "3"])
    rollouts.tokens = torch.arange(6)[:, None]
    some = rows_of(rollouts, [2, 0])
    assert some.texts == ["e", "f", "a", "b"]
    assert some.tokens.flatten().tolist() == [4, 5, 0, 1]
    assert [prompt.ground_truth for prompt in some.prompts] == ["3", "1"]
    assert some.responses_per_prompt == 2


def test_the_share_that_has_a_reward_is_that_of_all_ranks(mixed, tmp_path) -> None:
    """Three of four responses have one, whether or not those without are on another rank."""
    (tmp_path / "mine.py").write_text(
        "def some(response, prompt):\n    return None if response == '4.0' else 1.0\n", encoding="utf-8"
    )
    function = {"name": "function", "path": f"{tmp_path / 'mine.py'}:some", "workers": 1}
    verifier = by_source({"words": "exact", "mine": function})
    whole, *ranks = mixed("words", "mine"), mixed("words"), mixed("mine")
    found = [rollout_metrics(rollouts, *compute_rewards(verifier, rollouts)) for rollouts in (whole, *ranks)]
    verifier.close()
    together, alone = reduce_metrics(add_metrics(*found[1:])), reduce_metrics(found[0])
    assert alone["reward/applicable"] == together["reward/applicable"] == 0.75
    assert together == pytest.approx(alone)


def test_where_every_verifier_applies_nothing_is_said_of_it(mixed) -> None:
    verifier = by_source({"words": "exact", "numbers": "numeric"})
    assert "applicable" not in compute_rewards(verifier, mixed("words"))[1]
    assert "applicable" not in verifier.component_names()
