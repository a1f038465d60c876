"""The largest pass of a rank: as few and as long rows as fill its budget."""

import pytest

from dsrl.config.compose import compose
from dsrl.planning.workload import Workload


def workload(tokens, *words, positions=None):
    sizes = ["prompts_per_iteration=6", "responses_per_prompt=4", "plan.prompt_tokens=10", "sampling.max_new_tokens=30"]
    return Workload.of(compose([*sizes, *words]), positions=positions, micro_batch_tokens=tokens)


@pytest.mark.parametrize(
    ("tokens", "context", "expected"),
    [
        (1, 10, (1, 30)),  # a row is a pass whatever the budget
        (40, 10, (1, 30)),
        (80, 10, (2, 30)),
        (100, 10, (3, 23)),  # of 33 tokens each
        (10_000, 10, (24, 30)),  # there are no more
        (62, 1, (2, 30)),
    ],
)
def test_rows(tokens, context, expected):
    assert workload(tokens).rows(context) == expected


def test_a_step_of_a_rank():
    assert workload(80).rows_of_a_step == 24
    assert workload(80).micro_batches(10) == 12
    two = workload(80, "trainer=ddp", "trainer.devices=4", "update.minibatches=2")
    assert (two.ranks, two.prompts, two.rows_of_a_step) == (4, 2, 4)  # the rank with most
    assert (two.steps, two.all_steps) == (2, 80)


def test_positions_bound_a_row():
    short = workload(80, positions=25)
    assert (short.prompt_tokens, short.response_tokens) == (1, 24)
