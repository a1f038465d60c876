"""Memory counted on fake tensors, against what is known by hand; code that looks at numbers that decide runs on."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from dsrl.planning.tracking import MemoryTracker


@pytest.fixture
def tracker():
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    made = MemoryTracker(fake, vocabulary=50)
    with fake, made:
        yield made


def test_what_lives_is_counted_once_and_let_go_of(tracker):
    with tracker.part("weights"):
        weight = torch.empty(10, 20)
    assert isinstance(weight, FakeTensor)
    view = weight.view(200)[3:]
    assert tracker.live["weights"] == 800
    del weight
    assert tracker.live["weights"] == 800  # the view holds it
    del view
    assert tracker.live["weights"] == 0


def test_the_peak_of_a_stage_has_what_was_there_before(tracker):
    with tracker.part("weights"):
        weight = torch.empty(100, 100)
    with tracker.stage("update"):
        product = torch.empty(30, 100) @ weight  # 12,000 bytes each, one of which is let go of
        product = product.exp()
        del product
        torch.empty(10, 50)  # of the vocabulary's size, when less is held
    peak = tracker.peaks["update"]
    assert (peak["weights"], peak["activations"], peak["head"]) == (40_000, 24_000, 0)
    with tracker.stage("head"):
        torch.empty(30, 100) @ torch.empty(100, 50)
    assert tracker.peaks["head"]["head"] == 30 * 50 * 4 + 100 * 50 * 4  # whatever has V columns


def test_gradients_of_a_layer(tracker):
    with tracker.part("weights"):
        layer = torch.nn.Linear(64, 64, bias=False)
    layer.weight.register_post_accumulate_grad_hook(lambda weight: tracker.assign([weight.grad], "gradients"))
    layer(torch.empty(8, 64)).sum().backward()
    assert tracker.live["weights"] == tracker.live["gradients"] == 64 * 64 * 4


def test_integers_and_masks_are_real(tracker):
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mask.sum(1).tolist() == [2, 1] and not bool(mask.all())
    hidden = torch.empty(2, 3, 16, requires_grad=True)
    chosen = hidden[mask]
    assert isinstance(chosen, FakeTensor) and chosen.shape == (3, 16)
    chosen.sum().backward()
    assert hidden.grad.shape == hidden.shape
    assert torch.arange(4).tolist() == [0, 1, 2, 3]
    assert float(torch.empty(3).sum()) == 1.0  # of a number that nobody has


def test_a_buffer_that_is_emptied_in_place_is_not_held(tracker):
    buffer = torch.empty(1000)
    tracker.assign([buffer], "communication")
    buffer.untyped_storage().resize_(0)
    with tracker.stage("later"):
        torch.empty(10)
    assert tracker.peaks["later"]["communication"] == 0
