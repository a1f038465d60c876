"""Parts for runs in these tests, registered through DSRL_PLUGINS."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.optim.optimizer import register_optimizer_step_post_hook

from dsrl import register
from dsrl.data.encoding import PromptEncoder
from dsrl.models import head
from dsrl.models.policy import Policy
from dsrl.parallel.strategy import wait_for_all
from dsrl.parallel.watchdog import Watchdog
from dsrl.runs.checkpoints import Checkpoints
from dsrl.samplers.hf import HFSampler
from dsrl.samplers.sampler import Sampler
from dsrl.types import Prompt, Rollouts, SamplingParams
from dsrl.verifiers.exact import Exact
from dsrl.worlds import ArithmeticWorld

head.CHUNK_BYTES = 2**13  # so that the passes of the small model have several chunks, too
Watchdog.__init__.__defaults__ = (0.5,)  # `beat`: a failure is known in half the time


def _wait_less(watchdog: Watchdog, trainer: L.Trainer, module: L.LightningModule) -> None:
    """From the first iteration on, wait for other ranks as many seconds as the variable says, for a sign of life and in
    a collective, not `trainer.timeout`, which has to be long enough for all of them to start on a busy machine."""
    if given := os.environ.get("TIMEOUTS"):
        watchdog.timeout, collective = map(float, given.split())
        watchdog.standstill.timeout = watchdog.timeout
        _set_pg_timeout(timedelta(seconds=collective))


Watchdog.on_train_start = _wait_less


def _abort(watchdog: Watchdog, trainer: L.Trainer, module: L.LightningModule, error: BaseException) -> None:
    """End as NCCL does when a collective has waited too long: by a signal, without an exception."""
    if os.environ.get("ABORTS") and "timed out" in str(error).lower():
        os.abort()
    _on_exception(watchdog, trainer, module, error)


_on_exception, Watchdog.on_exception = Watchdog.on_exception, _abort


@register("sampler", "written")
@dataclass(kw_only=True)
class WrittenSampler(Sampler):
    """Writes answers itself, without the model: the rollouts of an iteration are the same bits whatever the policy has
    learned and however many ranks there are. Some questions it always gets right, some never.

    Its sync checks that weights cast before ranks exchange them are those cast afterwards."""

    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        numbers = range(params.responses_per_prompt)
        texts = [self._answer(prompt, number, params) for prompt in prompts for number in numbers]
        end = min(self.end_token_ids)
        rows = [[*self.encoder.tokenizer.encode(text, add_special_tokens=False), end] for text in texts]
        width = max(map(len, rows), default=0)
        mask = torch.arange(width) < torch.tensor([len(row) for row in rows], dtype=torch.long)[:, None]
        tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.long).view(mask.shape)
        return Rollouts(
            prompts=prompts,
            tokens=tokens,
            mask=mask,
            logprobs=torch.where(mask, -0.5, 0.0),
            texts=texts,
            finish_reasons=["stop"] * len(texts),
        )

    def _answer(self, prompt: Prompt, number: int, params: SamplingParams) -> str:
        error_rate = random.Random(prompt.text).choice((0.0, 0.3, 0.5, 1.0))
        draw = random.Random(f"{params.seed} {params.iteration} {prompt.position} {number}")
        return ArithmeticWorld(error_rate=error_rate).write_trace(draw, prompt.text, retry_rate=0.3)

    def sync(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        after = {name: tensor.bfloat16() for name, tensor in named_tensors}
        before = {name: tensor.clone() for name, tensor in self.policy.named_tensors(torch.bfloat16)}
        if before.keys() != after.keys() or not all(torch.equal(before[name], after[name]) for name in after):
            raise ValueError("a cast before the gather gave other weights")


@register("verifier", "hangs")
@dataclass(kw_only=True)
class HangingVerifier(Exact):
    """Hangs on rank 1, in the fourth iteration."""

    calls: int = 0

    def score(self, rollouts: Rollouts) -> Tensor:
        self.calls += 1
        if self.calls > 3 and dist.get_rank() == 1:
            time.sleep(1000)
        return super().score(rollouts)


# Where a run is killed, with every process of it: a stage, and which one of its kind (`a_stage`).


def a_stage(kind: str, which: object) -> None:
    """Kill the run here where the variable DIES_AT names this stage, as in `update 3`."""
    if os.environ.get("DIES_AT") == f"{kind} {which}":
        os.killpg(0, signal.SIGKILL)


@register("sampler", "staged")
@dataclass(kw_only=True)
class StagedSampler(HFSampler):
    """Has the stages `start 0`, `sample ITERATION`, before its responses, and `verify ITERATION`, after them."""

    def setup(self, policy: Policy, encoder: PromptEncoder) -> None:
        super().setup(policy, encoder)
        a_stage("start", 0)

    def sample(self, prompts: list[Prompt], params: SamplingParams) -> Rollouts:
        a_stage("sample", params.iteration)
        found = super().sample(prompts, params)
        a_stage("verify", params.iteration)
        return found


def _updated(optimizer: object, arguments: object, rest: object) -> None:
    global updates
    a_stage("update", updates)
    if os.environ.get("HANGS_AT") == f"update {updates}" and dist.get_rank() == 1:
        time.sleep(1000)
    updates += 1


updates = 0  # by this process
register_optimizer_step_post_hook(_updated)


def _on_disk(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
    """The stage `save NAME`: all bytes of a checkpoint are written, and it does not have its name yet.

    SLOW_DISK, seconds and a number of iterations, is how long large files of checkpoints take: so many seconds, and as
    long as the run has reported fewer iterations.
    """
    path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    name = next((part for part in path.parts if ".ckpt" in part), "")
    a_stage("save", name.lstrip(".").partition(".")[0])
    if name and os.fstat(descriptor).st_size > 2**20 and (given := os.environ.get("SLOW_DISK")):
        seconds, iterations = map(int, given.split())
        time.sleep(seconds)
        lines = next(parent for parent in path.parents if parent.name == "checkpoints").with_name("metrics.jsonl")
        while lines.read_text().count("\n") < iterations:
            time.sleep(0.1)
    sync(descriptor)


os.fsync = _on_disk


class Fails(L.Callback):
    """Fails in iteration 2 on the ranks that the variable FAILS names."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.current_epoch == 2 and str(trainer.global_rank) in os.environ["FAILS"]:
            raise ZeroDivisionError(f"fails on {os.environ['FAILS']}")


def _and_save(saving: Checkpoints, trainer: L.Trainer, module: L.LightningModule) -> None:
    """Write `expected.ckpt` beside the checkpoints at the end of iteration 1, for the run that fails in the next."""
    _end_iteration(saving, trainer, module)
    if os.environ.get("FAILS") and trainer.current_epoch == 1:
        trainer.save_checkpoint(saving.folder.parent / "expected.ckpt")
        wait_for_all(trainer.strategy)


_end_iteration, Checkpoints.on_train_epoch_end = Checkpoints.on_train_epoch_end, _and_save
