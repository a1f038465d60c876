"""The policy-gradient term: value, gradient and what clipping holds, token by token."""

import math

import pytest
import torch

from dsrl import build
from dsrl.errors import ConfigError


def run(spec, ratios, advantages, mask=None, old=-2.0, dtype=torch.float64):
    """Losses, gradient of their masked sum with respect to logprobs, and held, as lists."""
    ratios = torch.tensor(ratios, dtype=dtype)
    mask = torch.ones_like(ratios, dtype=torch.bool) if mask is None else torch.tensor(mask)
    old_logprobs = torch.full_like(ratios, old)
    logprobs = (old_logprobs + ratios.log()).requires_grad_()
    losses, held = build("surrogate", spec)(logprobs, old_logprobs, torch.tensor(advantages, dtype=dtype), mask)
    losses[mask].sum().backward()
    assert held.dtype == torch.bool and held.shape == losses.shape == logprobs.shape
    return losses.tolist(), logprobs.grad.tolist(), held.tolist()


# d/dlogp of -A rho is -A rho; a clipped token has no gradient.
@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "held"),
    [
        (1.0, 2.0, -2.0, -2.0, False),
        (1.1, 2.0, -2.2, -2.2, False),
        (1.5, 2.0, -2.4, 0.0, True),  # high clip: 1.2 * 2
        (0.5, 2.0, -1.0, -1.0, False),  # low ratio, right answer: not clipped, min is the unclipped
        (1.5, -2.0, 3.0, 3.0, False),  # raised wrong answer: not clipped
        (0.9, -2.0, 1.8, 1.8, False),
        (0.5, -2.0, 1.6, 0.0, True),  # low clip: 0.8 * 2
        (9.9, -2.0, 19.8, 19.8, False),
        (12.0, -2.0, 20.0, 0.0, True),  # dual clip: 10 * 2
        (12.0, 2.0, -2.4, 0.0, True),  # dual clip says nothing of right answers
        (7.0, 0.0, 0.0, 0.0, False),
    ],
)
def test_ppo_clip(ratio, advantage, loss, gradient, held):
    found = run("ppo_clip", [[ratio]], [advantage])
    assert found[0][0] == pytest.approx([loss], abs=1e-12)
    assert found[1][0] == pytest.approx([gradient], abs=1e-12)
    assert found[2] == [[held]]


def test_ppo_clip_higher():
    losses, gradient, held = run({"name": "ppo_clip", "clip_high": 0.28}, [[1.25, 1.3]], [1.0])
    assert losses[0] == pytest.approx([-1.25, -1.28], abs=1e-12)
    assert gradient[0] == pytest.approx([-1.25, 0.0], abs=1e-12)
    assert held == [[False, True]]


def test_ppo_clip_low():
    losses, _, held = run({"name": "ppo_clip", "clip_low": 0.1}, [[0.85, 0.95]], [-1.0])
    assert losses[0] == pytest.approx([0.9, 0.95], abs=1e-12)
    assert held == [[True, False]]


def test_dual_clip_can_be_left_out():
    losses, gradient, held = run({"name": "ppo_clip", "dual_clip": None}, [[12.0]], [-2.0])
    assert (losses[0], gradient[0], held) == (pytest.approx([24.0]), pytest.approx([24.0]), [[False]])


def test_dual_clip_bound():
    losses, gradient, held = run({"name": "ppo_clip", "dual_clip": 3.0}, [[2.9, 3.1]], [-2.0])
    assert losses[0] == pytest.approx([5.8, 6.0])
    assert gradient[0] == pytest.approx([5.8, 0.0])
    assert held == [[False, True]]


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("spec", ["ppo_clip", "cispo", {"name": "ppo_clip", "dual_clip": None}])
def test_a_ratio_that_overflows_float32_gives_no_nan(spec, advantage):
    logprobs = torch.tensor([[0.0, -1.0]], requires_grad=True)
    old = torch.tensor([[-100.0, -1.0]])
    losses, _ = build("surrogate", spec)(logprobs, old, torch.tensor([advantage]), torch.ones(1, 2, dtype=torch.bool))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert logprobs.grad.isfinite().all()
    assert logprobs.grad[0, 1] == -advantage


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dual_clip": 1.0}, "dual_clip must be above 1 or null, not 1.0"),
        ({"clip_low": -0.1}, r"clip_low must be in \[0, 1\]"),
        ({"clip_low": 1.5}, r"clip_low must be in \[0, 1\]"),
        ({"clip_high": -0.1}, "clip_high at least 0"),
        ({"clip_high": float("nan")}, "clip_high at least 0"),
    ],
)
def test_impossible_clips_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        run({"name": "ppo_clip", **parameters}, [[1.0]], [1.0])


@pytest.mark.parametrize("name", ["gspo", "cispo"])
def test_impossible_clips_of_the_others_are_refused(name):
    with pytest.raises(ConfigError, match="clip_low must be in"):
        run({"name": name, "clip_low": 2.0}, [[1.0]], [1.0])


def test_reinforce_has_no_ratio():
    losses, gradient, held = run("reinforce", [[1.0, 3.0]], [2.0])
    assert losses[0] == pytest.approx([4.0, -2.0 * (-2.0 + math.log(3.0))])
    assert gradient == [[-2.0, -2.0]]
    assert held == [[False, False]]


def test_gspo_has_one_ratio_a_sequence():
    # Ratios 2 and 1/2 over two tokens: their geometric mean is 1. The third token is padding.
    losses, gradient, held = run("gspo", [[2.0, 0.5, 64.0]], [3.0], mask=[[True, True, False]])
    assert losses[0] == pytest.approx([-3.0] * 3, abs=1e-12)
    # The sum of two equal losses, each with d/dlogp_t = -A s / 2.
    assert gradient[0] == pytest.approx([-3.0, -3.0, 0.0], abs=1e-12)
    assert held[0][:2] == [False, False]


def test_gspo_clips_the_whole_sequence():
    # sqrt(1.02 * 1) is about 1.01, over 1 + 4e-4: both tokens are held, the one with ratio 1 too.
    losses, gradient, held = run("gspo", [[1.02, 1.0], [1.02, 1.0]], [1.0, -1.0])
    assert losses[0] == pytest.approx([-1.0004] * 2, abs=1e-12)
    assert losses[1] == pytest.approx([1.02**0.5] * 2, abs=1e-12)
    assert gradient[0] == [0.0, 0.0]
    assert gradient[1] == pytest.approx([1.02**0.5] * 2, abs=1e-12)
    assert held == [[True, True], [False, False]]


def test_gspo_low_clip_by_default():
    losses, _, held = run("gspo", [[0.9996], [0.9998]], [-1.0, -1.0])
    assert [row[0] for row in losses] == pytest.approx([0.9997, 0.9998], abs=1e-12)
    assert held == [[True], [False]]


def test_gspo_low_clip_and_parameters():
    losses, _, held = run({"name": "gspo", "clip_low": 0.1, "clip_high": 0.3}, [[0.5], [1.25], [1.4]], [-1.0, 1.0, 1.0])
    assert [row[0] for row in losses] == pytest.approx([0.9, -1.25, -1.3], abs=1e-12)
    assert held == [[True], [False], [True]]


def test_gspo_has_no_dual_clip():
    losses, gradient, held = run("gspo", [[12.0]], [-2.0])
    assert (losses[0], gradient[0], held) == (pytest.approx([24.0]), pytest.approx([24.0]), [[False]])


@pytest.mark.parametrize("padding", [-1e4, float("-inf"), float("nan")])
def test_gspo_never_reads_padding(padding):
    mask = torch.tensor([[True, False]])
    logprobs = torch.tensor([[-1.0, padding]], requires_grad=True)
    losses, _ = build("surrogate", "gspo")(logprobs, torch.tensor([[-1.0, 0.0]]), torch.tensor([1.0]), mask)
    losses[mask].sum().backward()
    assert losses[0, 0] == -1.0
    assert logprobs.grad.tolist() == [[-1.0, 0.0]]


def test_gspo_sequence_without_a_token():
    losses, gradient, _ = run("gspo", [[2.0, 2.0]], [1.0], mask=[[False, False]])
    assert all(map(math.isfinite, losses[0])) and gradient == [[0.0, 0.0]]


def test_cispo_bounds_the_weight_and_keeps_the_gradient():
    # Ratio 7 is bounded to 1 + 4; log p is -2 + log(ratio). d/dlogp of -w A log p is -w A, the weight being a constant.
    losses, gradient, held = run("cispo", [[1.0, 7.0, 0.01]], [2.0])
    expected = [-2.0 * w * (-2.0 + math.log(r)) for w, r in ((1.0, 1.0), (5.0, 7.0), (0.01, 0.01))]
    assert losses[0] == pytest.approx(expected, abs=1e-12)
    assert gradient[0] == pytest.approx([-2.0, -10.0, -0.02], abs=1e-12)
    assert held == [[False, True, False]]


def test_cispo_parameters():
    _, gradient, held = run({"name": "cispo", "clip_low": 0.5, "clip_high": 0.2}, [[0.1, 1.1, 3.0]], [-1.0])
    assert gradient[0] == pytest.approx([0.5, 1.1, 1.2], abs=1e-12)
    assert held == [[True, False, True]]


@pytest.mark.parametrize("name", ["ppo_clip", "reinforce", "gspo", "cispo"])
def test_a_surrogate_is_proportional_to_the_advantage(name):
    """What lets the loop leave rows of advantage 0 out: no loss, no gradient, nothing counted as clipped."""
    losses, gradient, held = run(name, [[0.01, 1.0, 50.0]], [0.0])
    assert not any(losses[0]) and not any(gradient[0]) and not any(held[0])


@pytest.mark.parametrize("name", ["ppo_clip", "reinforce", "gspo", "cispo"])
@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_on_policy_all_have_the_policy_gradient(name, advantage):
    """At ratio 1 the gradient of the mean over tokens is -A / T for every one of them."""
    _, gradient, held = run(name, [[1.0, 1.0]], [advantage])
    assert gradient[0] == pytest.approx([-advantage] * 2, abs=1e-12)
    assert held == [[False, False]]
