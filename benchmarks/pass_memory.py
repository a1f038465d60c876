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
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers import LlamaConfig, LlamaForCausalLM

from dsrl.models import Policy

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
    with FakeTensorMode() as fake:
        model = llama(vocabulary, length, hidden)
    score = WAYS[way](model, torch.ones(tokens // length, length, dtype=torch.long))
    with LiveTensors(fake) as live:
        score().sum().backward()  # type: ignore[no-untyped-call]
    return live.peak


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


class LiveTensors(TorchDispatchMode):
    """Compute with fake floating-point tensors and real integers, and count the bytes that operations make and hold."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.live, self.peak = fake, 0, 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(isinstance(x, FakeTensor) or x.is_floating_point() for x in given):
            if function is torch.ops.aten.index.Tensor:  # a mask chooses places that are known
                args = (args[0], [place for index in args[1] for place in places(index)])
            with self.fake:
                args, kwargs = tree_map_only(Tensor, self.as_fake, (args, kwargs))
                result = function(*args, **kwargs)
        else:
            result = tree_map_only(Tensor, self.fake_float, function(*args, **kwargs))
        before = {x.untyped_storage()._cdata for x in given}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in before:
                self.add(made)
        self.peak = max(self.peak, self.live)
        return result

    def as_fake(self, tensor: Tensor) -> Tensor:
        """Stand in for a real tensor."""
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)

    def fake_float(self, tensor: Tensor) -> Tensor:
        """Keep integers as they are."""
        return self.as_fake(tensor) if tensor.is_floating_point() else tensor

    def add(self, tensor: Tensor) -> None:
        """Count a storage until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += self.sizes[key]
            weakref.finalize(storage, self.free, key)

    def free(self, key: int) -> None:
        """Count it no more."""
        self.live -= self.sizes.pop(key)


def places(index: Tensor | None) -> list[Tensor | None]:
    """Turn a mask into the indices of its true places, one tensor for each of its dimensions."""
    return list(index.nonzero().unbind(1)) if index is not None and index.dtype == torch.bool else [index]


def real_peak(way: str, vocabulary: int, length: int, tokens: int, hidden: int) -> int:
    """Find by how many bytes the memory of a process grows while it computes a pass.

    glibc is told to give freed memory back, which it reads at the start of a process.
    """
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "1"}
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
    ended, seen = threading.Event(), [anonymous()]

    def watch() -> None:
        while not ended.wait(0.002):
            seen.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    score().sum().backward()  # type: ignore[no-untyped-call]
    ended.set()
    watcher.join()
    connection.send(max(seen) - seen[0])


def anonymous() -> int:
    """Measure this process's memory beside mapped files, in bytes (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def numbers(text: str) -> list[int]:
    """Read numbers with commas between."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
