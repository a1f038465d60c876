"""Rows move between ranks before a pass: log-probabilities come home, and gradients add up to those of one process."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from dsrl import build
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.loop.collector import RolloutBatch
from dsrl.loop.loss import compute_loss
from dsrl.loop.micro_batches import optimizer_steps
from dsrl.loop.scorer import Scorer
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.parallel.collectives import exchange
from dsrl.types import Prompt, Rollouts, SamplingParams

PROMPTS, RESPONSES, LONGEST = 8, 4, 60


def batch_of(positions: list[int]) -> RolloutBatch:
    """The responses to prompts of these positions; the later a prompt, the longer they are."""
    rows = [(position, number) for position in positions for number in range(RESPONSES)]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 17, (PROMPTS * RESPONSES, LONGEST), generator=generator)
    chosen = torch.tensor([position * RESPONSES + number for position, number in rows])
    lengths = torch.tensor([1 + position * position * (number + 1) // 4 for position, number in rows]).clamp(
        max=LONGEST
    )
    width = int(lengths.max())
    mask = torch.arange(width) < lengths[:, None]
    rollouts = Rollouts(
        prompts=[Prompt(position=p, text="", token_ids=tuple(range(3, 8 + p))) for p in positions],
        tokens=tokens[chosen, :width] * mask,
        mask=mask,
        logprobs=torch.zeros(mask.shape),
        texts=[""] * len(rows),
        finish_reasons=["stop"] * len(rows),
    )
    rewards = ((torch.tensor(rows).sum(1) * 5 % 3) == 0).float().view(-1, RESPONSES)
    params = SamplingParams(responses_per_prompt=RESPONSES, max_new_tokens=LONGEST)
    return RolloutBatch(rollouts=rollouts, params=params, rewards=rewards)


def numbers_of(positions: list[int], *, share: bool) -> dict[str, torch.Tensor]:
    """Old log-probabilities of these prompts' responses; the loss and gradient of the micro-batches that come here."""
    torch.set_num_threads(1)
    config = ModelConfig(name="tiny")
    policy, encoder = Policy(load_model(config)), PromptEncoder(tokenizer=load_tokenizer(config))
    scorer = Scorer(policy=policy, encoder=encoder, micro_batch_tokens=200, several_steps=True, share_prompts=share)
    experience = scorer.score(batch_of(positions), build("objective", "grpo"))
    (step,) = optimizer_steps(experience, layout=scorer.layout)
    loss = torch.zeros(())
    for micro_batch in step.micro_batches:
        part = compute_loss(micro_batch, scorer.score_tokens(micro_batch).logprobs, step.counts).loss
        part.backward()
        loss += part.detach()
    old = experience.views[0].old_logprobs
    assert old is not None
    gradient = torch.cat([parameter.grad.flatten() for parameter in policy.parameters() if parameter.grad is not None])
    tokens = sum(int(batch.view.mask.sum()) for batch in step.micro_batches if not batch.idle)
    return {"old": old, "loss": loss, "gradient": gradient, "tokens": torch.tensor(tokens)}


def work(rank: int, ranks: int, folder: str, share: bool) -> None:
    store = dist.FileStore(f"{folder}/store", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=900))
    assert exchange([f"{rank} to {other}" for other in range(ranks)]) == [
        f"{other} to {rank}" for other in range(ranks)
    ]
    assert exchange([None] * ranks) == [None] * ranks
    size = PROMPTS // ranks
    torch.save(numbers_of(list(range(rank * size, (rank + 1) * size)), share=share), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [4])
def test_on_gloo_ranks_the_numbers_are_those_of_one_process(ranks: int, tmp_path: Path) -> None:
    alone = numbers_of(list(range(PROMPTS)), share=False)
    multiprocessing.set_forkserver_preload([Scorer.__module__])  # so that imports are made once
    start_processes(work, (ranks, str(tmp_path), True), nprocs=ranks, start_method="forkserver")
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    old = torch.cat([torch.nn.functional.pad(part["old"], (0, LONGEST - part["old"].shape[1])) for part in found])
    torch.testing.assert_close(old, torch.nn.functional.pad(alone["old"], (0, LONGEST - alone["old"].shape[1])))
    loss, gradient = (sum(part[name] for part in found) for name in ("loss", "gradient"))
    torch.testing.assert_close(loss, alone["loss"], atol=1e-6, rtol=1e-5)
    largest = float(alone["gradient"].abs().max())
    torch.testing.assert_close(gradient, alone["gradient"], atol=1e-5 * largest, rtol=0)
    last = batch_of(list(range(PROMPTS - PROMPTS // ranks, PROMPTS))).rollouts.mask.sum()  # the long ones lie there
    tokens = [int(part["tokens"]) for part in found]
    assert max(tokens) < 0.75 * int(last)
