"""Weights in bfloat16 lose steps that are below half of the way to a neighbour."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dsrl.config.schema import LoraConfig, ModelConfig, OptimizerConfig
from dsrl.loop.optimizer import adamw
from dsrl.loop.rounding import share_changed, warn_of_lost_updates
from dsrl.models.loading import load_model

torch.set_num_threads(1)


def weights(values, dtype=torch.bfloat16):
    return [nn.Parameter(torch.tensor(values, dtype=dtype))]


@pytest.mark.parametrize(
    ("weight", "step", "expected"),
    [
        # bfloat16 has 7 bits after the point: from 2^e to 2^(e+1) the spacing is 2^(e-7), below 2^e half of that.
        (1.0, 2.0**-8, 0.5),  # up: half of the spacing 2^-7, a tie, which goes to the even 1.0; down: a full spacing
        (1.0, 2.0**-8 * 1.01, 1.0),
        (1.0, 2.0**-9 * 0.99, 0.0),
        (1.5, 2.0**-8 * 1.01, 1.0),  # within its binade both ways are as long
        (1.5, 2.0**-8 * 0.99, 0.0),
        (-1.5, 2.0**-8 * 1.01, 1.0),
        (2.0**-12 * 1.5, 1e-6, 1.0),  # spacing 2^-19 = 1.9e-6, half of it 9.5e-7
        (2.0**-11 * 1.5, 1e-6, 0.0),  # half of the spacing is 1.9e-6
        (2.0**-11, 1e-6, 0.5),  # only down, where the spacing is half
        (0.02, 1e-6, 0.0),
        (0.02, 1e-4, 1.0),  # spacing 2^-13 = 1.2e-4
        (0.0, 1e-6, 1.0),
    ],
)
def test_a_weight_moves_where_a_step_is_more_than_half_of_the_way(weight, step, expected):
    assert share_changed(weights([weight]), step) == expected


def test_float16_has_three_bits_more_and_float32_sixteen():
    assert share_changed(weights([1.5], torch.float16), 2.0**-11 * 1.01) == 1.0
    assert share_changed(weights([1.5], torch.float16), 2.0**-11 * 0.99) == 0.0
    assert share_changed(weights([1.5], torch.float32), 2.0**-24 * 1.01) == 1.0
    assert share_changed(weights([1.5] * 3 + [0.0]), 1e-6) == 0.25
    assert share_changed([], 1e-6) == 1.0


@pytest.mark.parametrize("lr", [1e-6, 1e-5, 1e-4])
def test_it_is_what_the_first_step_of_adamw_changes(lr):
    parameters = [*load_model(ModelConfig(name="tiny", dtype="bfloat16")).parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = adamw(parameters, OptimizerConfig(lr=lr, weight_decay=0.0), lr)
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)).to(
            torch.bfloat16
        )
    expected = share_changed(before, lr)
    optimizer.step()
    changed = sum(int((a != b).sum()) for a, b in zip(parameters, before, strict=True))
    total = sum(parameter.numel() for parameter in parameters)
    assert changed / total == pytest.approx(expected, rel=0.1)


def said(caplog, model, *phases):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_lost_updates(
            model.parameters(), [SimpleNamespace(number=number, lr=lr) for number, lr in enumerate(phases, start=1)]
        )
    return [record.getMessage() for record in caplog.records]


def test_it_is_said_with_the_figure_and_what_helps(caplog):
    tiny = load_model(ModelConfig(name="tiny", dtype="bfloat16"))
    (message,) = said(caplog, tiny, 1e-6, 1e-2)
    share = share_changed(tiny.parameters(), 1e-6)
    assert 0 < share < 0.02
    assert f"in bfloat16, and a step of AdamW with optimizer.lr=1e-06 changes {share:.2%} of them" in message
    assert (
        "phase2" not in message and "model.dtype=float32 trainer.precision=bf16-mixed keeps them in float32" in message
    )
    (message,) = said(caplog, tiny, 1e-2, 1e-6)
    assert "phase2.lr=1e-06" in message and "optimizer.lr" not in message


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_said_of_steps_that_arrive(dtype, caplog):
    assert said(caplog, load_model(ModelConfig(name="tiny", dtype=dtype)), 1e-2) == []
    assert said(caplog, load_model(ModelConfig(name="tiny")), 1e-6) == []


def test_of_a_model_with_adapters_these_alone_count(caplog):
    """B is 0, from where any step arrives, and A is not."""
    pytest.importorskip("peft")
    model = load_model(ModelConfig(name="tiny", dtype="bfloat16", lora=LoraConfig(rank=2)))
    sizes = {which: sum(p.numel() for name, p in model.named_parameters() if which in name) for which in ("_A", "_B")}
    (message,) = said(caplog, model, 1e-6)
    (share,) = [float(word[:-1]) / 100 for word in message.split() if word.endswith("%")]
    assert share == pytest.approx(sizes["_B"] / sum(sizes.values()), abs=0.02)
