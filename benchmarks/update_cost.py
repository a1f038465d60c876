"""One NSR-PreRL update, ours against the paper's way, on the same rollouts.

    python benchmarks/update_cost.py                    the embedded model
    python benchmarks/update_cost.py --model smollm2    SmolLM2-135M (needs the extra smollm2)

The paper's code (arXiv 2604.14142) computes old log-probabilities in both spaces, runs the conditional forward and
backward times 0, and scores all samples in the marginal space and masks those that do not count. Ours scores the kept
samples in the marginal space once. Both end in the same gradient, which is checked; timings are paired, ours and theirs
in turn, and the ratio is that of each pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dsrl import build
from dsrl.config.schema import ModelConfig
from dsrl.data import PromptEncoder
from dsrl.loop.collector import RolloutBatch
from dsrl.loop.experience import Experience, SpaceView, compute_advantages
from dsrl.loop.loss import compute_loss
from dsrl.loop.micro_batches import MicroBatch, OptimizerStep, cut, optimizer_steps
from dsrl.loop.scorer import Scorer
from dsrl.models.loading import load_model, load_tokenizer
from dsrl.models.policy import Policy
from dsrl.types import Prompt, Rollouts, SamplingParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, smollm2, a folder or a hub name")
    parser.add_argument("--prompts", type=int, help="B (default 32; SmolLM2 4)")
    parser.add_argument("--responses", type=int, default=8, help="G")
    parser.add_argument("--tokens", type=int, help="response length (default 80; SmolLM2 100)")
    parser.add_argument("--max-tokens", type=int, default=4096, help="tokens in a micro-batch")
    parser.add_argument("--pairs", type=int, help="paired timings (default 7; SmolLM2 3)")
    arguments = parser.parse_args()
    small = arguments.model == "tiny"
    prompts, tokens, pairs = (
        given or (default if small else other)
        for given, default, other in (
            (arguments.prompts, 32, 4),
            (arguments.tokens, 80, 100),
            (arguments.pairs, 7, 3),
        )
    )
    bench = UpdateCost(arguments.model, prompts, arguments.responses, tokens, arguments.max_tokens)
    bench.report(pairs)


class UpdateCost:
    """Frozen random rollouts, half of them kept, with prompts a tenth as long as the responses."""

    def __init__(self, model: str, prompts: int, responses: int, tokens: int, max_tokens: int) -> None:
        config = ModelConfig(name=model)
        self.policy = Policy(load_model(config))
        self.encoder = PromptEncoder(tokenizer=load_tokenizer(config))
        self.max_tokens, self.passes = max_tokens, 0
        generator = torch.Generator().manual_seed(0)
        vocabulary = len(self.encoder.tokenizer)
        questions = torch.randint(3, vocabulary, (prompts, max(1, tokens // 10)), generator=generator)
        self.rollouts = Rollouts(
            prompts=[Prompt(position=b, text="", token_ids=tuple(row)) for b, row in enumerate(questions.tolist())],
            tokens=torch.randint(3, vocabulary, (prompts * responses, tokens), generator=generator),
            mask=torch.ones(prompts * responses, tokens, dtype=torch.bool),
            logprobs=torch.zeros(prompts * responses, tokens),
            texts=[""] * (prompts * responses),
            finish_reasons=["length"] * (prompts * responses),
        )
        rewards = (torch.arange(prompts * responses) % 2).float().view(prompts, responses)
        params = SamplingParams(responses_per_prompt=responses, max_new_tokens=1)
        self.batch = RolloutBatch(rollouts=self.rollouts, params=params, rewards=rewards)
        self.scorer = Scorer(policy=self.policy, encoder=self.encoder, micro_batch_tokens=max_tokens)
        self.marginal = self.scorer.view("marginal", self.batch)
        self.marginal.terms.append(compute_advantages(0, 1.0, build("objective", "nsr_prerl"), self.rollouts, rewards))
        self.experience = Experience(batch=self.batch, views=[self.marginal])
        self.everything = torch.ones(len(self.rollouts.texts), dtype=torch.bool)

    def ours(self) -> None:
        """The product's own update."""
        step = self.step()
        for micro_batch in step.micro_batches:
            loss = compute_loss(micro_batch, self.score(micro_batch), step.counts).loss
            loss.backward()  # type: ignore[no-untyped-call]

    def theirs(self) -> None:
        """Both spaces' old log-probabilities, the conditional pass times 0, all samples in the marginal space."""
        conditional = self.scorer.view("conditional", self.batch)
        for view in (conditional, self.marginal):
            view.old_logprobs = torch.zeros(self.rollouts.mask.shape)
            with torch.no_grad():
                for micro_batch in self.cut(view):
                    for _, numbers in micro_batch.home:
                        view.old_logprobs[numbers] = self.score(micro_batch)
        step = self.step()
        for micro_batch in self.cut(conditional):
            (self.score(micro_batch).sum() * 0.0).backward()  # type: ignore[no-untyped-call]
        for micro_batch in self.cut(self.marginal):
            loss = compute_loss(micro_batch, self.score(micro_batch), step.counts).loss
            loss.backward()  # type: ignore[no-untyped-call]
        self.marginal.old_logprobs = None

    def step(self) -> OptimizerStep:
        (step,) = optimizer_steps(self.experience, layout=self.scorer.layout)
        return step

    def cut(self, view: SpaceView) -> list[MicroBatch]:
        """Micro-batches of all samples, each in a row of its own."""
        return cut(view, self.everything, dataclasses.replace(self.scorer.layout, shared=False))[0]

    def score(self, micro_batch: MicroBatch) -> Tensor:
        contexts = [micro_batch.view.contexts[numbers[0]] for numbers in micro_batch.together or ()]
        size = sum(len(context) for context in contexts) + micro_batch.view.tokens.numel()
        self.passes += size * (3 if torch.is_grad_enabled() else 1)  # a backward costs two forwards
        return self.scorer.score_tokens(micro_batch).logprobs

    def measure(self, update: Callable[[], None]) -> tuple[float, int, Tensor]:
        """Seconds, token passes (a backward counted as two) and the gradient of one update."""
        self.policy.zero_grad()
        self.passes = 0
        start = time.perf_counter()
        update()
        seconds = time.perf_counter() - start
        gradient = torch.cat([p.grad.flatten() for p in self.policy.parameters() if p.grad is not None])
        return seconds, self.passes, gradient

    def report(self, pairs: int) -> None:
        self.measure(self.ours), self.measure(self.theirs)  # warm-up
        timed = []
        for _ in range(pairs):
            ours, theirs = self.measure(self.ours), self.measure(self.theirs)
            timed.append((ours[0], theirs[0]))
            difference = (ours[2] - theirs[2]).abs().max() / theirs[2].abs().max()
        table = Table("", "seconds (median)", "token passes")
        table.add_row("ours", f"{statistics.median(a for a, _ in timed):.2f}", f"{ours[1]:,}")
        table.add_row("the paper's way", f"{statistics.median(b for _, b in timed):.2f}", f"{theirs[1]:,}")
        ratios = sorted(b / a for a, b in timed)
        console = Console()
        console.print(table)
        console.print(
            f"ratio: median {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) over {pairs} pairs; "
            f"token passes {theirs[1] / ours[1]:.2f}; gradients differ by {difference:.1e} of the largest"
        )


if __name__ == "__main__":
    main()
