"""The learning rate of a phase, worked out by hand."""

import pytest

from dsrl.config.schema import SamplingConfig
from dsrl.objectives import PolicyGradient
from dsrl.phases.phase import Phase


@pytest.mark.parametrize(
    ("schedule", "warmup", "length", "rates"),
    [
        ("constant", 0, 4, [8.0, 8.0, 8.0, 8.0]),
        ("constant", 4, 6, [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]),
        ("linear", 0, 4, [8.0, 6.0, 4.0, 2.0]),
        ("linear", 2, 6, [4.0, 8.0, 8.0, 6.0, 4.0, 2.0]),
        ("cosine", 0, 4, [8.0, 6.8284271, 4.0, 1.1715729]),  # 4 (1 + cos(pi k / 4))
        ("linear", 2, 2, [4.0, 8.0, 8.0]),  # nothing left after the warmup
        ("linear", 0, 2, [8.0, 4.0, 0.0, 0.0]),  # beyond its length
    ],
)
def test_learning_rate(schedule, warmup, length, rates):
    phase = Phase(
        number=1,
        name="grpo",
        objective=PolicyGradient(),
        start=0,
        lr=8.0,
        schedule=schedule,
        warmup=warmup,
        sampling=SamplingConfig(max_new_tokens=1),
    )
    assert [phase.learning_rate(ran, length) for ran in range(len(rates))] == pytest.approx(rates)
