"""Which row comes when, of one set of rows and of several that are mixed."""

from collections import Counter

import pytest

from dsrl.data import Row
from dsrl.data.mixture import Mixture
from dsrl.errors import ConfigError


def part(name, size):
    return [Row(question=f"{name}{i}", ground_truth="1", data_source=name) for i in range(size)]


def drawn(mixture, places, seed=0):
    return [mixture[mixture.at(place, seed)].question for place in places]


def test_without_weights_each_row_has_one_place_a_turn():
    mixture = Mixture([part("a", 3), part("b", 2)])
    assert len(mixture) == 5
    assert (
        drawn(mixture, range(5), seed=None) == drawn(mixture, range(5, 10), seed=None) == ["a0", "a1", "a2", "b0", "b1"]
    )
    assert [row.question for row in mixture] == ["a0", "a1", "a2", "b0", "b1"]
    turns = [tuple(drawn(mixture, range(5 * turn, 5 * turn + 5))) for turn in range(20)]
    assert all(sorted(turn) == ["a0", "a1", "a2", "b0", "b1"] for turn in turns) and len(set(turns)) > 10


def test_with_weights_every_turn_has_their_proportion_and_every_row_its_turn():
    mixture = Mixture([part("a", 8), part("b", 2)], [1, 4])
    turns = [drawn(mixture, range(10 * turn, 10 * turn + 10)) for turn in range(8)]
    assert all(Counter(question[0] for question in turn) == {"a": 2, "b": 8} for turn in turns)
    counts = Counter(question for turn in turns for question in turn)
    assert counts == {**{f"a{i}": 2 for i in range(8)}, "b0": 32, "b1": 32}
    assert sorted(question for turn in turns[:4] for question in turn if question[0] == "a") == [
        f"a{i}" for i in range(8)
    ]


def test_a_place_depends_on_nothing_that_came_before():
    parts = [part("a", 5), part("b", 3)]
    expected = drawn(Mixture(parts, [1, 2]), range(40))
    assert drawn(Mixture(parts, [1, 2]), reversed(range(40))) == expected[::-1]
    assert drawn(Mixture(parts, [1, 2]), range(40), seed=1) != expected


def test_without_shuffling_parts_stand_beside_each_other_and_rows_in_their_order():
    mixture = Mixture([part("a", 6), part("b", 3)], [1, 2])
    assert drawn(mixture, range(9), seed=None) == ["b0", "a0", "b1", "b2", "a1", "b0", "b1", "a2", "b2"]
    assert drawn(mixture, range(9, 12), seed=None) == ["b0", "a3", "b1"]
    large = Mixture([part("a", 700), part("b", 200), part("c", 100)], [5, 3, 2])
    for stretch in (10, 100, 1000, 2510):
        counts = Counter(name[0] for name in drawn(large, range(stretch), seed=None))
        assert all(abs(counts[name] - stretch * share) <= 1 for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)))


def test_which_rows_of_a_part_come_first_depends_on_the_seed():
    mixture = Mixture([part("a", 100), part("b", 100)], [1, 19])
    firsts = [frozenset(name for name in drawn(mixture, range(200), seed) if name[0] == "a") for seed in range(5)]
    assert len(set(firsts)) == 5 and {len(first) for first in firsts} == {10}
    assert len(frozenset.union(*firsts)) > 30


@pytest.mark.parametrize(
    ("sizes", "weights", "places"),
    [
        ([10, 10], [1, 1], [10, 10]),
        ([4, 6], [2, 1], [7, 3]),
        ([1, 9], [0.5, 0.5], [5, 5]),
        ([3, 3, 4], [1, 1, 1], [4, 3, 3]),
    ],
)
def test_places_by_largest_remainder(sizes, weights, places):
    assert Mixture([part(str(i), size) for i, size in enumerate(sizes)], weights).places == places


def test_a_weight_too_small_to_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="weight 0.001 is less than one row in 10"):
        Mixture([part("a", 5), part("b", 5)], [1, 0.001])


def test_filtering_keeps_the_proportions():
    mixture = Mixture([part("a", 8), part("b", 2)], [1, 4]).filtered(lambda row: row.question != "b0")
    assert mixture.places == [2, 7] and {row.question for row in mixture if row.data_source == "b"} == {"b1"}
    assert len(Mixture.of(part("a", 3)).filtered(lambda row: False)) == 0


def test_a_weighted_part_without_rows_is_named():
    with pytest.raises(ConfigError, match="its entry 2 has a weight, but no rows that can be used"):
        Mixture([part("a", 8), part("b", 2)], [1, 4]).filtered(lambda row: row.data_source == "a")
    assert len(Mixture([part("a", 8), part("b", 2)], [1, 4]).filtered(lambda row: False)) == 0
    assert len(Mixture([part("a", 8), part("b", 2)]).filtered(lambda row: row.data_source == "a")) == 8
