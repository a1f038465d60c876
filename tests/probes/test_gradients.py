"""Level 1 against the gradients of single responses, put together as the objectives say."""

import dataclasses

import pytest
import torch
from by_hand import subject_of

from dsrl import build
from dsrl.probes.directions import directions_of
from dsrl.probes.gradients import RUNNING, measure_gradients, name_of
from dsrl.probes.groups import Grouping
from dsrl.seeding import derive_seed


@pytest.fixture(scope="module")
def products(sampled):
    policy, batch = sampled
    return measure_gradients(subject_of(policy, batch, micro_batch_tokens=300), Grouping(policy.model, "blocks"))


@pytest.fixture(scope="module")
def expected(sampled, brute):
    """The ascent direction of each objective's mean loss on each half, by name and half, as one vector."""
    _, batch = sampled
    rewards, lengths = batch.rewards.double(), batch.rollouts.lengths.double()
    generator = torch.Generator().manual_seed(derive_seed("minibatches", derive_seed(batch.params.seed, 0), 0))
    halves = torch.randperm(len(rewards), generator=generator).tensor_split(2)
    center = (rewards - rewards.mean(-1, keepdim=True)).flatten()
    norm = center / (rewards.std(-1).repeat_interleave(rewards.shape[1]) + 1e-6)
    vectors = {space: torch.cat(list(own.values()), dim=1) for space, own in brute.items()}
    found = {}
    for half, prompts in enumerate(halves):
        inside = torch.isin(torch.arange(len(rewards)), prompts).repeat_interleave(rewards.shape[1])
        for name, space, weights, kept in (
            ("grpo", "conditional", norm, inside),
            ("nsr", "conditional", norm, inside & (norm < 0)),
            ("psr", "conditional", norm, inside & (norm > 0)),
            ("reward", "conditional", center, inside),
            ("prerl", "marginal", center, inside),
            ("nsr_prerl", "marginal", center, inside & (center < 0)),
            ("psr_prerl", "marginal", center, inside & (center > 0)),
            ("common", "marginal", center.abs(), inside),
        ):
            found[name, half] = (weights * kept) @ vectors[space] / lengths[kept].sum()
    return found


def cosine(one, other):
    return float(one @ other / one.norm() / other.norm())


def test_all_products_are_those_of_single_gradients(products, expected):
    assert products.names == ("grpo", "nsr", "psr", "prerl", "nsr_prerl", "psr_prerl", "common", "reward")
    assert products.running == "nsr_prerl"
    vectors = torch.stack([expected[name, half] for half in (0, 1) for name in products.names])
    size = vectors.norm(dim=-1)
    assert (
        float(((products.total - vectors @ vectors.T).abs() / (size[:, None] * size)).max()) < 1e-6
    )  # rewards are float32


def test_groups_add_up_and_are_those_of_their_parameters(products, expected, sampled, brute):
    policy, _ = sampled
    grouping, place = Grouping(policy.model, "blocks"), products.names.index("nsr_prerl")
    squares, first = {}, 0
    for name, own in brute["marginal"].items():
        part = expected["nsr_prerl", 1][first : first + own.shape[1]]
        squares[grouping(name)] = squares.get(grouping(name), 0.0) + float(part @ part)
        first += own.shape[1]
    row = len(products.names) + place
    assert {group: float(own[row, row]) for group, own in products.by_group.items()} == pytest.approx(squares, rel=1e-6)


def test_what_directions_say(products, expected):
    found, reward = directions_of(products), [expected["reward", half] for half in (0, 1)]
    for name in products.names:
        own = [expected[name, half] for half in (0, 1)]
        crossed = (cosine(own[0], reward[1]) + cosine(own[1], reward[0])) / 2
        assert found[f"gain/{name}"] == pytest.approx(crossed, abs=1e-6)
        assert found[f"reliability/{name}"] == pytest.approx(cosine(*own), abs=1e-6)
        assert found[f"norm/{name}"] == pytest.approx(float(own[0].norm() + own[1].norm()) / 2, abs=1e-6)
    modes = [expected["common", half] for half in (0, 1)]
    own = [expected["nsr_prerl", half] for half in (0, 1)]
    assert found["common/nsr_prerl"] == pytest.approx(sum(map(cosine, own, modes)) / 2, abs=1e-6)
    freed = [vector - (vector @ mode) / (mode @ mode) * mode for vector, mode in zip(own, modes, strict=True)]
    crossed = (cosine(freed[0], reward[1]) + cosine(freed[1], reward[0])) / 2
    assert found["without_common/nsr_prerl"] == pytest.approx(crossed, abs=1e-6)
    inner = float(expected["psr", 0] @ expected["psr", 1])
    between = float(reward[0] @ reward[1])
    if inner > 0 and between > 0:
        crossed = float(expected["psr", 0] @ reward[1] + expected["psr", 1] @ reward[0]) / 2
        assert found["corrected/psr"] == pytest.approx(crossed / (inner * between) ** 0.5, abs=1e-6)
    assert found["gain/objective"] == found["gain/nsr_prerl"]
    assert {name.rpartition("/")[2] for name in found if name.startswith("norm/grpo/")} == set(products.by_group)


def test_another_objective_is_measured_beside_them(sampled, expected):
    """Of dr_grpo, group-centred and over a fixed length, the direction is that of the expected reward."""
    policy, batch = sampled
    subject = subject_of(policy, batch, objective="dr_grpo")
    found = directions_of(measure_gradients(subject, Grouping(policy.model, "kinds")))
    assert found["gain/objective"] == pytest.approx(found["gain/reward"], abs=1e-6)
    assert found["norm/objective"] < 0.9 * found["norm/reward"]  # over 96 tokens each, where answers have about 45


def test_a_preset_is_known_however_its_parts_are_spelled():
    spelled = build("objective", {"name": "grpo", "surrogate": {"name": "ppo_clip", "clip_low": 0.2}})
    assert name_of(spelled) == "grpo"
    assert name_of(build("objective", "nsr_prerl")) == "nsr_prerl"
    assert name_of(build("objective", {"name": "nsr_prerl", "advantage": "signed"})) == RUNNING
    assert name_of(build("objective", "mixed")) == RUNNING


def test_nothing_is_left_behind(sampled):
    policy, batch = sampled
    before = {name: own.clone() for name, own in policy.named_parameters()}
    measure_gradients(subject_of(policy, batch), Grouping(policy.model, "kinds"))
    assert all(own.grad is None and torch.equal(own, before[name]) for name, own in policy.named_parameters())


def test_where_all_answers_are_wrong_there_is_no_direction(sampled):
    policy, batch = sampled
    wrong = dataclasses.replace(batch, rewards=torch.zeros_like(batch.rewards))
    found = directions_of(measure_gradients(subject_of(policy, wrong), Grouping(policy.model, "kinds")))
    assert {name: value for name, value in found.items() if not name.startswith("norm/")} == {}
    assert set(found.values()) == {0.0}
