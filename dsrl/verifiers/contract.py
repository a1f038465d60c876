"""What every verifier must do, as checks that a plugin's tests can run, too.

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        check(Bench(verifier=my_verifier, prompt=Prompt(position=0, text="1+1=", token_ids=(1,), ground_truth="2"),
                    right="2", wrong="3"))

A check raises AssertionError. The verifier is closed by the checks, and starts again.
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
"""Texts that a broken or a cunning model may write, and that no verifier may stumble over."""


@dataclass(kw_only=True)
class Bench:
    """A verifier with answers whose rewards differ.

    prompt: a question; right, wrong: responses to it, right with the higher reward. lethal: responses that crash or
    hang what this verifier runs; they must score `lost`. tokens: the length of each response in tokens is its number
    of characters, at most this. seconds: what one lethal or hostile response may take.
    """

    verifier: Any
    prompt: Prompt
    right: str
    wrong: str
    lethal: Sequence[str] = ()
    lost: float = 0.0
    hostile: Sequence[str] = HOSTILE
    tokens: int = 1000
    seconds: float = 10.0

    def rollouts(self, *groups: Sequence[str]) -> Rollouts:
        """G responses to the question for each group."""
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
        """[B, G]."""
        scored: list[list[float]] = compute_rewards(self.verifier, self.rollouts(*groups))[0].tolist()
        return scored


def rewards_line_up_with_the_responses(bench: Bench) -> None:
    """[B, G] float32 on the CPU, prompt by prompt, response by response; components of the same shape."""
    ((right, wrong),) = bench.rewards([bench.right, bench.wrong])
    assert right > wrong
    rollouts = bench.rollouts([bench.right, bench.wrong, bench.right], [bench.wrong, bench.wrong, bench.right])
    rewards, components = compute_rewards(bench.verifier, rollouts)
    assert rewards.dtype == torch.float32 and rewards.device.type == "cpu"
    assert rewards.tolist() == [[right, wrong, right], [wrong, wrong, right]]
    assert all(values.shape == rewards.shape for values in components.values())


def no_prompts_are_no_rewards(bench: Bench) -> None:
    """A rank may have none."""
    assert compute_rewards(bench.verifier, bench.rollouts())[0].shape == (0, 0)


def a_reward_does_not_depend_on_the_other_answers(bench: Bench) -> None:
    """Whatever they are: each hostile text scores as it does alone, in bounded time, and so do its neighbours."""
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
    """A crash, a hang, whatever a response brings about: it scores `lost`, and the others what they are worth."""
    ((right, wrong),) = bench.rewards([bench.right, bench.wrong])
    for text in bench.lethal:
        started = time.monotonic()
        assert bench.rewards([bench.right, text, bench.wrong]) == [[right, bench.lost, wrong]], text[:200]
        assert time.monotonic() - started < bench.seconds, f"{text[:20]!r}... took too long"


def any_thread_may_score(bench: Bench) -> None:
    """Also several at once."""
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
    """Nor a zombie, after lethal answers, too. To close twice is fine, and a closed verifier can score again."""
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
    """Ids of a process's children, zombies included (this process's by default); none where there is no /proc."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == (parent or os.getpid()):
            found.add(int(stat.parent.name))
    return found
