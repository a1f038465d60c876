"""What every verifier must do, as checks that a plugin's tests can run as well.

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        check(Bench(verifier=my_verifier, prompt=Prompt(position=0, text="1+1=", token_ids=(1,), ground_truth="2"),
                    right="2", wrong="3"))

A check that fails raises AssertionError. The checks close the verifier, and use it again.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dsrl.types import Prompt, Rollouts
from dsrl.verifiers.verifier import close_all, compute_rewards

HOSTILE = (
    "",
    " \n\t" * 50,
    "\0" * 100 + "\\boxed{\0}",
    "\ud800\\boxed{\udfff}",
    "{" * 100_000 + "}" * 100_000,
    "\\boxed{" * 100_000,
    "x = 1 " * 500_000,
    "<think>" * 50_000 + "</answer>" * 50_000,
    "```python\n" * 20_000,
    "1" * 200_000 + "e" + "9" * 200_000,
    '["ready"]\n{"scores": [1.0]}\n[1.0, false]\n',
)
"""Texts that a broken or a cunning model may write. Each must score as it does alone, in bounded time."""


@dataclass(kw_only=True)
class Bench:
    """Hold a verifier to be checked, a question, and responses to it."""

    verifier: Any
    """The verifier."""
    prompt: Prompt
    """The question, with the ground truth and columns that the verifier reads."""
    right: str
    """A response whose reward is higher than that of `wrong`."""
    wrong: str
    """A response whose reward is lower than that of `right`."""
    lethal: Sequence[str] = ()
    """Responses that crash or hang what the verifier runs."""
    lost: float = 0.0
    """The reward that a lethal response must get."""
    hostile: Sequence[str] = HOSTILE
    """Responses that may have any reward, but must not change that of others."""
    tokens: int = 1000
    """The largest length of a response in tokens. A response has a token for each character, up to this number."""
    seconds: float = 10.0
    """Seconds that a lethal or a hostile response may take."""

    def rollouts(self, *groups: Sequence[str]) -> Rollouts:
        """Make rollouts of B groups, each of G responses to the question."""
        texts = [text for group in groups for text in group]
        lengths = torch.tensor([min(len(text), self.tokens) for text in texts], dtype=torch.long)
        mask = torch.arange(int(lengths.max()) if texts else 0) < lengths[:, None]
        return Rollouts(
            prompts=[dataclasses.replace(self.prompt, position=position) for position in range(len(groups))],
            tokens=mask.long(),
            mask=mask,
            logprobs=torch.zeros(mask.shape),
            texts=texts,
            finish_reasons=["stop"] * len(texts),
        )

    def rewards(self, *groups: Sequence[str]) -> list[list[float]]:
        """Compute rewards [B, G] of B groups of G responses."""
        scored: list[list[float]] = compute_rewards(self.verifier, self.rollouts(*groups))[0].tolist()
        return scored


def rewards_line_up_with_the_responses(bench: Bench) -> None:
    """Check that rewards are [B, G] float32 on the CPU, in the order of the responses, and components [B, G]."""
    ((right, wrong),) = bench.rewards([bench.right, bench.wrong])
    assert right > wrong
    rollouts = bench.rollouts([bench.right, bench.wrong, bench.right], [bench.wrong, bench.wrong, bench.right])
    rewards, components = compute_rewards(bench.verifier, rollouts)
    assert rewards.dtype == torch.float32 and rewards.device.type == "cpu"
    assert rewards.tolist() == [[right, wrong, right], [wrong, wrong, right]]
    assert all(values.shape == rewards.shape for values in components.values())


def no_prompts_are_no_rewards(bench: Bench) -> None:
    """Check that no prompts give rewards [0, 0], since a rank may have none."""
    assert compute_rewards(bench.verifier, bench.rollouts())[0].shape == (0, 0)


def a_reward_does_not_depend_on_the_other_answers(bench: Bench) -> None:
    """Check that each hostile text scores as it does alone, in bounded time, and that its neighbours do."""
    ((right,),) = bench.rewards([bench.right])
    alone = []
    for text in bench.hostile:
        started = time.monotonic()
        ((reward,),) = bench.rewards([text])
        assert time.monotonic() - started < bench.seconds, f"{text[:20]!r}... took too long"
        alone.append(reward)
    together = [bench.right, *bench.hostile, bench.right]
    assert bench.rewards(together, together[::-1]) == [[right, *alone, right], [right, *alone[::-1], right]]


def a_lost_answer_costs_itself_alone(bench: Bench) -> None:
    """Check that a response that crashes or hangs the check scores `lost`, and that others keep their rewards."""
    ((right, wrong),) = bench.rewards([bench.right, bench.wrong])
    for text in bench.lethal:
        started = time.monotonic()
        assert bench.rewards([bench.right, text, bench.wrong]) == [[right, bench.lost, wrong]], text[:200]
        assert time.monotonic() - started < bench.seconds, f"{text[:20]!r}... took too long"


def any_thread_may_score(bench: Bench) -> None:
    """Check that several threads can score at once."""
    expected = bench.rewards([bench.right, bench.wrong])
    found: list[Any] = []

    def score() -> None:
        found.append(bench.rewards([bench.right, bench.wrong]))

    threads = [threading.Thread(target=score) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


def closing_leaves_no_process(bench: Bench) -> None:
    """Check that closing leaves no process or zombie, may be repeated, and that a closed verifier can score again."""
    close_all([bench.verifier])
    before = children()
    expected = bench.rewards([bench.right, *bench.lethal[:1], bench.wrong])
    for _ in range(2):
        close_all([bench.verifier])
        close_all([bench.verifier])
        assert children() <= before
        assert bench.rewards([bench.right, *bench.lethal[:1], bench.wrong]) == expected
    close_all([bench.verifier])
    assert children() <= before


CHECKS: tuple[Callable[[Bench], None], ...] = (
    rewards_line_up_with_the_responses,
    no_prompts_are_no_rewards,
    a_reward_does_not_depend_on_the_other_answers,
    a_lost_answer_costs_itself_alone,
    any_thread_may_score,
    closing_leaves_no_process,
)


def children(parent: int | None = None) -> set[int]:
    """Return the ids of the children, zombies included, of a process: of this one by default. None without /proc."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == (parent or os.getpid()):
            found.add(int(stat.parent.name))
    return found
