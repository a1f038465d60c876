"""Draws are functions of names: literal values, equal on every machine."""

import itertools

import pytest
import torch

from dsrl.seeding import derive_seed, uniforms


def test_seeds_are_these_on_every_machine():
    assert derive_seed() == 5460801731388113703
    assert derive_seed(0) == 7210762507766007076
    assert derive_seed("0") == 2864763844733986431
    assert derive_seed("space", 0, 1, 2) == 7009007228370857039


def test_seeds_fit_a_generator_and_tell_their_parts_apart():
    parts = [(), (0,), ("0",), (0, 1), (1, 0), (10,), (1, 0, 0), ("a", "b"), ("ab",), ("a, b",), (-1,)]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_uniforms_are_these_on_every_machine():
    assert uniforms(0, 0, 0, 0, 4).tolist() == pytest.approx(
        [0.3647158145904541, 0.13351285457611084, 0.3070341944694519, 0.016102135181427002], abs=1e-9
    )
    assert uniforms(7, 3, 11, 2, 3).tolist() == pytest.approx(
        [0.15652716159820557, 0.42706555128097534, 0.9243799448013306], abs=1e-9
    )


def test_uniforms_depend_on_each_name_and_on_nothing_else():
    torch.manual_seed(1)
    first = {names: uniforms(*names, 8) for names in itertools.product((0, 1), repeat=4)}
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = {names: uniforms(*names, 8) for names in reversed(list(first))}
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's randomness is used up
    assert all(torch.equal(first[names], second[names]) for names in first)
    assert len({tuple(values.tolist()) for values in first.values()}) == 16


@pytest.mark.parametrize("length", [1, 7, 16, 100])
def test_a_longer_response_begins_with_the_same_draws(length):
    assert torch.equal(uniforms(0, 1, 2, 3, length), uniforms(0, 1, 2, 3, 1000)[:length])


def test_uniforms_look_uniform_over_positions_and_within_a_response():
    within = torch.cat([uniforms(0, 0, position, 0, 1000) for position in range(20)])
    across = torch.cat([uniforms(0, 0, position, response, 1) for position in range(2500) for response in range(8)])
    for values in (within, across):
        assert values.min() >= 0 and values.max() < 1
        counts = torch.histc(values, bins=20, min=0, max=1)
        assert float(((counts - 1000) ** 2 / 1000).sum()) < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
