"""Which samples count."""

import pytest
import torch

from dsrl import build

ADVANTAGES = torch.tensor([[0.5, -0.5, 0.0], [-1e-30, 1e-30, -0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all", [[True, True, True], [True, True, True]]),
        ("negative", [[False, True, False], [True, False, False]]),
        ("positive", [[True, False, False], [False, True, False]]),
        ("nonzero", [[True, True, False], [True, True, False]]),
    ],
)
def test_keep_looks_at_the_advantage(name, expected):
    kept = build("keep", name)(torch.zeros(2, 3), ADVANTAGES)
    assert kept.dtype == torch.bool
    assert kept.tolist() == expected


@pytest.mark.parametrize("advantage", ["group_center", "group_norm", "rloo"])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1])
@pytest.mark.parametrize("keep", ["negative", "positive", "nonzero"])
def test_a_group_of_equals_is_dropped(advantage, reward, keep):
    rewards = torch.full((1, 8), reward)
    assert not build("keep", keep)(rewards, build("advantage", advantage)(rewards)).any()


def test_signed_keeps_a_group_where_all_are_wrong():
    rewards = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    signed = build("advantage", "signed")(rewards)
    assert build("keep", "negative")(rewards, signed).tolist() == [[True, True], [False, True], [False, False]]
    assert build("keep", "positive")(rewards, signed).tolist() == [[False, False], [True, False], [True, True]]
