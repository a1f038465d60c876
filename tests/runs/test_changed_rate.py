"""A resumed run whose schedule spans other iterations: the learning rate before and after is told."""

import re

import pytest

from dsrl.config.compose import compose
from dsrl.runs.resume import changed_rate

PHASES = ("+phase2=grpo", "phase2.start=10", "phase2.schedule=linear", "phase2.lr=2e-6")


def after(done, iterations, *, starts=(0,)):
    """What a checkpoint says of a run of so many iterations, of which some are done."""
    about = {"config": {"iterations": iterations}, "iterations_done": done}
    return {"dsrl": about, "callbacks": {"PhaseScheduler": {"starts": [*starts], "entered": len(starts)}}}


@pytest.mark.parametrize(
    ("words", "checkpoint", "told"),
    [
        # cosine over 20 is at (1 + cos(pi * 15 / 20)) / 2 = 0.146 after 15, over 40 at (1 + cos(pi * 15 / 40)) / 2
        (("optimizer.schedule=cosine",), after(15, 20), "optimizer.schedule=cosine spans iterations=40 now, and 20.* "
         "goes on at 6.91e-07, where it would have been 1.46e-07; "),
        (("optimizer.schedule=linear",), after(20, 20), "goes on at 5e-07, where it would have been 0;"),
        (("optimizer.schedule=linear", "optimizer.warmup=30"), after(20, 35), None),  # both are in the warmup
        (("optimizer.schedule=cosine",), after(15, 40), None),
        ((), after(15, 20), None),
        (PHASES, after(10, 20, starts=(0,)), None),  # phase 1 is constant
        # 10 of phase 2's 15 are done: a third of 2e-6 is left; of 30 two thirds
        (PHASES, after(20, 25, starts=(0, 10)), "phase2.schedule=linear .* 1.33e-06, where .* 6.67e-07; phase2"),
    ],
)  # fmt: skip
def test_it_is_told_where_the_rate_changes(words, checkpoint, told):
    config = compose(["iterations=40", "optimizer.lr=1e-6", *words])
    found = changed_rate(config, checkpoint)
    assert (found is None) == (told is None)
    assert told is None or re.search(told, found)
