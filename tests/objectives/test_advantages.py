"""What a reward is worth: hand-worked values, independent numpy, and groups of equals."""

import numpy as np
import pytest
import torch

from dsrl import build, names
from dsrl.errors import ConfigError

REWARDS = [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
# One right of four: deviations 3/4 and -1/4; sum of squares 3/4; sample standard deviation sqrt(3/4 / 3) = 1/2.
CENTERED = [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, -0.75, 0.25], [0.0] * 4, [0.0] * 4]


def advantages(name, rewards, **parameters):
    return build("advantage", name, **parameters)(torch.tensor(rewards, dtype=torch.float64))


def test_group_center():
    assert advantages("group_center", REWARDS).tolist() == CENTERED


def test_group_norm_divides_by_the_sample_deviation_plus_epsilon():
    expected = np.array(CENTERED) / (0.5 + 1e-6)
    np.testing.assert_allclose(advantages("group_norm", REWARDS).numpy(), expected, atol=1e-14)


def test_group_norm_of_two():
    # Deviations +-1/2, sample standard deviation sqrt(1/2).
    expected = 0.5 / (0.5**0.5 + 1e-6)
    np.testing.assert_allclose(advantages("group_norm", [[1.0, 0.0]]).numpy(), [[expected, -expected]], atol=1e-14)


def test_rloo_is_the_mean_of_the_others():
    rewards = np.random.default_rng(0).normal(size=(3, 5))
    expected = np.empty_like(rewards)
    for b, g in np.ndindex(*rewards.shape):
        expected[b, g] = rewards[b, g] - np.delete(rewards[b], g).mean()
    np.testing.assert_allclose(advantages("rloo", rewards.tolist()).numpy(), expected, atol=1e-14)
    np.testing.assert_allclose(advantages("rloo", [[1.0, 0.0, 0.0]]).numpy(), [[1.0, -0.5, -0.5]], atol=1e-15)


def test_batch_norm_is_over_all_groups():
    rewards = np.random.default_rng(1).normal(size=(3, 5))
    expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(advantages("batch_norm", rewards.tolist()).numpy(), expected, atol=1e-14)
    # A group of equals has signal here: mean 1/2, deviations +-1/2, sample deviation sqrt(1/3).
    expected = 0.5 / (3**-0.5 + 1e-6)
    found = advantages("batch_norm", [[1.0, 1.0], [0.0, 0.0]]).numpy()
    np.testing.assert_allclose(found, [[expected] * 2, [-expected] * 2], atol=1e-14)


def test_batch_norm_takes_one_response_a_prompt():
    found = advantages("batch_norm", [[1.0], [0.0]]).numpy()
    np.testing.assert_allclose(found, [[0.7071057812], [-0.7071057812]], atol=1e-9)


def test_signed_counts_every_wrong_answer():
    assert advantages("signed", REWARDS).tolist() == [[1, -1, -1, -1], [1, 1, -1, 1], [-1] * 4, [1] * 4]


def test_signed_threshold_itself_is_wrong():
    assert advantages("signed", [[0.5, 0.51, -1.0]]).tolist() == [[-1, 1, -1]]
    assert advantages("signed", [[0.5, 0.51, 0.8]], threshold=0.75).tolist() == [[-1, -1, 1]]


def test_weighted():
    assert advantages("weighted", [[0.5, 0.51]]).tolist() == [[-1, 0.1]]
    assert advantages("weighted", [[1.0, 0.0, 0.0]]).tolist() == [[0.1, -1, -1]]
    assert advantages("weighted", [[1.0, 0.0, 0.5]], positive=0.25, threshold=0.4).tolist() == [[0.25, -1, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -0.3, 1 / 3, 1e6 + 0.1])
@pytest.mark.parametrize("size", [2, 3, 7, 8, 16])
@pytest.mark.parametrize("name", ["group_center", "group_norm", "rloo", "batch_norm"])
def test_equals_are_worth_exactly_nothing(name, size, value, dtype):
    """The mean of eight times 0.1 is not 0.1 in floating point; a residue would be kept as a signal."""
    rewards = torch.full((2, size), value, dtype=dtype)
    assert torch.count_nonzero(build("advantage", name)(rewards)) == 0


@pytest.mark.parametrize("name", ["group_center", "group_norm", "rloo"])
def test_groups_do_not_see_each_other(name):
    alone = torch.cat([build("advantage", name)(torch.tensor([row])) for row in REWARDS])
    assert torch.equal(build("advantage", name)(torch.tensor(REWARDS)), alone)


@pytest.mark.parametrize("name", ["group_center", "group_norm", "rloo"])
def test_a_group_of_one_is_refused(name):
    with pytest.raises(ConfigError, match=rf"{name}.*responses_per_prompt >= 2, not 1; raise it, or choose signed"):
        advantages(name, [[1.0], [0.0]])


def test_a_batch_of_one_is_refused():
    with pytest.raises(ConfigError, match="batch_norm.*at least 2"):
        advantages("batch_norm", [[1.0]])


@pytest.mark.parametrize("name", ["signed", "weighted"])
def test_a_group_of_one_is_fine_without_comparison(name):
    assert advantages(name, [[0.0]]).tolist() == [[-1.0]]


def test_all_are_tested_here():
    built_in = {"group_center", "group_norm", "rloo", "batch_norm", "signed", "weighted"}
    assert built_in <= set(names("advantage"))


@pytest.mark.parametrize("name", ["group_center", "group_norm", "rloo", "batch_norm", "signed", "weighted"])
def test_shape_and_dtype_are_kept(name):
    rewards = torch.tensor([[1.0, 0.0, 0.25], [0.0, 1.0, 1.0]], dtype=torch.float32)
    found = build("advantage", name)(rewards)
    assert found.shape == (2, 3) and found.dtype == torch.float32
    assert rewards.tolist() == [[1.0, 0.0, 0.25], [0.0, 1.0, 1.0]]
