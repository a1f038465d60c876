"""Measure what a forward and backward pass of the policy holds, against the vocabulary and the length of rows.

    python benchmarks/pass_memory.py            nothing is computed: under a minute
    python benchmarks/pass_memory.py --real     and compares one point with the memory of a process that computes it

The model is a Llama with a body of fixed size. The same number of tokens is scored each time: at several sizes of the
vocabulary V, and in rows of several lengths T. What counts are the bytes of live tensors beside weights and their
gradients, at their highest. "ours" is `Policy.score`, whose head runs in chunks; "whole logits" is the plain way, the
model's logits of all tokens and their log-softmax. Floating-point tensors are fake, so that sizes are exact and
nothing is computed; integers and masks are real, since code may branch on them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import torch
from measuring.memory import GIVING_BACK, held
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from dsrl.models import Policy
from dsrl.planning.tracking import MemoryTracker

MIB = 2**20


def main() -> None:
    """Print both tables, and how flat each way is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384, help="of a pass, N x T")
    parser.add_argument("--vocabularies", type=numbers, default=[2**n for n in range(13, 19)], help="V, commas between")
    parser.add_argument(
        "--lengths", type=numbers, default=[512, 1024, 2048, 4096, 8192, 16384], help="T, commas between"
    )
    parser.add_argument("--vocabulary", type=int, default=65536, help="V where T varies")
    parser.add_argument("--length", type=int, default=1024, help="T where V varies")
    parser.add_argument("--hidden", type=int, default=256, help="width of the body, of 2 layers")
    parser.add_argument("--real", action="store_true", help="compute at the smallest V, too, and compare")
    given = parser.parse_args()
    console = Console(highlight=False)
    compare(console, "V", [(v, given.length) for v in given.vocabularies], given.tokens, given.hidden)
    compare(console, "T", [(given.vocabulary, length) for length in given.lengths], given.tokens, given.hidden)
    if given.real:
        for way in WAYS:
            sizes = (min(given.vocabularies), given.length, given.tokens, given.hidden)
            fake, real = fake_peak(way, *sizes) / MIB, real_peak(way, *sizes) / MIB
            console.print(
                f"{way}, V = {sizes[0]}, computed: {real:.0f} MiB more than before; by fake tensors {fake:.0f}"
            )


def compare(console: Console, what: str, points: Sequence[tuple[int, int]], tokens: int, hidden: int) -> None:
    """Print the peaks at some (V, T)."""
    table = Table(what, "rows", *(f"{way}, MiB" for way in WAYS), box=box.MARKDOWN)
    peaks: list[list[float]] = []
    for vocabulary, length in points:
        peaks.append([fake_peak(way, vocabulary, length, tokens, hidden) / MIB for way in WAYS])
        shown = vocabulary if what == "V" else length
        table.add_row(f"{shown:,}", f"{tokens // length} x {length}", *(f"{peak:,.0f}" for peak in peaks[-1]))
    console.print(table)
    ratios = [
        f"{way} {max(column) / min(column):.2f}" for way, column in zip(WAYS, zip(*peaks, strict=True), strict=True)
    ]
    console.print(f"largest / smallest over {what}: {', '.join(ratios)}")


def ours(model: LlamaForCausalLM, tokens: Tensor) -> Callable[[], Tensor]:
    """Score rows [N, T] by the product's way, each after a context of one token of its own."""
    policy, mask = Policy(model), torch.ones_like(tokens, dtype=torch.bool)
    contexts = [[row + 1] for row in range(len(tokens))]
    return lambda: policy.score(contexts, tokens, mask, 1.0).logprobs


def whole_logits(model: LlamaForCausalLM, tokens: Tensor) -> Callable[[], Tensor]:
    """Score them by logits [N, T, V] and their log-softmax."""
    ids = torch.cat([torch.arange(1, len(tokens) + 1)[:, None], tokens[:, :-1]], dim=1)

    def score() -> Tensor:
        logprobs = model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        return logprobs.gather(-1, tokens[..., None])[..., 0]

    return score


WAYS = {"ours": ours, "whole logits": whole_logits}


def fake_peak(way: str, vocabulary: int, length: int, tokens: int, hidden: int) -> int:
    """Find the bytes that a pass holds at its peak, beside weights and gradients, without computing."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        model = llama(vocabulary, length, hidden)
    score = WAYS[way](model, torch.ones(tokens // length, length, dtype=torch.long))
    with fake, MemoryTracker(fake, vocabulary) as tracker:
        tracker.assign([held for weight in model.parameters() for held in (weight, weight.grad)], "weights")
        with tracker.stage("pass"):
            score().sum().backward()  # type: ignore[no-untyped-call]
    return tracker.peaks["pass"].total() - tracker.peaks["pass"]["weights"]


def llama(vocabulary: int, length: int, hidden: int) -> LlamaForCausalLM:
    """Build the model, whose weights have gradients, as within an optimizer step of several passes."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=2,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=length + 1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return model


def real_peak(way: str, vocabulary: int, length: int, tokens: int, hidden: int) -> int:
    """Find by how many bytes the memory of a process grows while it computes a pass.

    glibc is told to give freed memory back, which it reads at the start of a process.
    """
    os.environ |= GIVING_BACK
    context = multiprocessing.get_context("spawn")
    ours_end, theirs_end = context.Pipe()
    process = context.Process(target=compute, args=(theirs_end, way, vocabulary, length, tokens, hidden))
    process.start()
    theirs_end.close()
    found: int = ours_end.recv()
    process.join()
    return found


def compute(connection: Connection, way: str, vocabulary: int, length: int, tokens: int, hidden: int) -> None:
    """Compute a pass and send the growth of memory: the program of a process of its own."""
    score = WAYS[way](llama(vocabulary, length, hidden), torch.ones(tokens // length, length, dtype=torch.long))
    ended, seen = threading.Event(), [held(os.getpid())[os.getpid()]]

    def watch() -> None:
        while not ended.wait(0.002):
            seen.append(held(os.getpid())[os.getpid()])

    watcher = threading.Thread(target=watch)
    watcher.start()
    score().sum().backward()  # type: ignore[no-untyped-call]
    ended.set()
    watcher.join()
    connection.send(max(seen) - seen[0])


def numbers(text: str) -> list[int]:
    """Read numbers with commas between."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
