"""Measure how the seconds of an iteration grow with its sizes: prompts, responses, lengths, ranks; stage by stage.

    python benchmarks/growth.py                                 tables, in under 5 minutes
    python benchmarks/growth.py --plot docs/img/growth.svg      and a picture (needs matplotlib)
    python benchmarks/growth.py --computed                      for Qwen3-4B on GPUs, by arithmetic: not measured

Each size is varied alone around a base: prompts B, responses to each G, tokens of a response T, tokens of a prompt P,
and ranks (DDP over gloo, B over all of them). The model is the embedded one, in a copy whose end token is one that it
does not write, so that responses have T tokens. Every response counts, and an iteration takes two optimizer steps, so
that there are old log-probabilities to score. Each process computes with one thread. Seconds are the medians of a run's
iterations, without the first. The exponent is the slope of a line through the logarithms: 1 is linear growth.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table

from dsrl import compose, fit
from dsrl.models import load_model, load_tokenizer

ROOT = Path(__file__).parents[1]
BASE = {"B": 8, "G": 8, "T": 64, "P": 32, "ranks": 1}
VALUES = {
    "B": [4, 8, 16, 32],
    "G": [4, 8, 16, 32],
    "T": [32, 64, 128, 256],
    "P": [32, 64, 128, 256],
    "ranks": [1, 2],
}
STAGES = {"sampling": "time/sample", "score": "time/score", "update": "time/update", "sync": "time/sync"}
WHOLE = "iteration"
SHORTEST = 1e-3
"""Seconds: a stage that takes less has no exponent."""

Seconds = dict[str, float]
"""By stage, and of the whole iteration."""

COMPUTED_BASE = {"B": 128, "G": 8, "T": 2048, "P": 256, "ranks": 8}
COMPUTED_VALUES = {
    "B": [64, 128, 256, 512],
    "G": [4, 8, 16, 32],
    "T": [512, 1024, 2048, 4096],
    "P": [256, 512, 1024, 2048],
    "ranks": [8, 16, 32, 64],
}


def main() -> None:
    """Run every point, and print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, base in BASE.items():
        parser.add_argument(f"--{name.lower()}", type=int, default=base, help=f"{name} at the base (default {base})")
    parser.add_argument("--vary", default=",".join(VALUES), help="sizes to vary (default: all)")
    parser.add_argument("--most", type=int, default=4, help="values of each, the smallest first")
    parser.add_argument("--iterations", type=int, default=4, help="of a run; the first is not counted")
    parser.add_argument("--plot", type=Path, help="picture to write, .svg or .png")
    parser.add_argument("--computed", action="store_true", help="compute what GPUs would take, and run nothing")
    given = parser.parse_args()
    console = Console(highlight=False)
    if given.computed:
        console.print(f"computed, not measured: {Assumptions()}")
        for name, values in COMPUTED_VALUES.items():
            console.print(table(name, {value: computed(COMPUTED_BASE | {name: value}) for value in values}))
        return
    varied = given.vary.split(",")
    if not set(varied) <= set(VALUES):
        parser.error(f"--vary {given.vary}: must be of {', '.join(VALUES)}, with commas between")
    if given.iterations < 2:
        parser.error(f"--iterations {given.iterations}: must be at least 2, of which the first does not count")
    base = {name: getattr(given, name.lower()) for name in BASE}
    found: dict[str, dict[int, Seconds]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            growth = Growth(Path(scratch), given.iterations)
            for name in varied:
                found[name] = {value: growth.seconds(base | {name: value}) for value in VALUES[name][: given.most]}
    finally:
        torch.set_num_threads(threads)
    console.print(f"base: {', '.join(f'{name} {value}' for name, value in base.items())}")
    for name, points in found.items():
        console.print(table(name, points))
    if given.plot:
        plot(found, given.plot)


class Growth:
    """The model, and the runs, in a folder. A run's seconds are kept: the base is a point of every size."""

    def __init__(self, folder: Path, iterations: int) -> None:
        self.folder, self.iterations, self.model = folder, iterations, folder / "model"
        self.known: dict[tuple[int, ...], Seconds] = {}
        transformers.utils.logging.disable_progress_bar()
        model, self.tokenizer = load_model("tiny"), load_tokenizer("tiny")
        end = max(self.tokenizer.added_tokens_decoder)
        self.tokenizer.eos_token = self.tokenizer.convert_ids_to_tokens(end)
        model.config.eos_token_id = model.generation_config.eos_token_id = end
        model.save_pretrained(self.model)
        self.tokenizer.save_pretrained(self.model)

    def seconds(self, sizes: dict[str, int]) -> Seconds:
        """Run some iterations, of these sizes. Exits where responses did not have their length."""
        key = tuple(sizes.values())
        if key not in self.known:
            rows = self.run(sizes)[1:]
            length = statistics.mean(row["response/length_mean"] for row in rows)
            if length < 0.98 * sizes["T"]:
                sys.exit(f"{sizes}: responses had {length:.1f} tokens on average")
            names = {**STAGES, WHOLE: "time/iteration"}
            self.known[key] = {stage: statistics.median(row[name] for row in rows) for stage, name in names.items()}
        return self.known[key]

    def run(self, sizes: dict[str, int]) -> list[dict[str, float]]:
        """Train, and return the metrics of each iteration."""
        folder = self.folder / "-".join(map(str, sizes.values()))
        overrides = [
            *("model=hf", f"model.name={self.model}", "data=questions", f"data.train={self.questions(sizes)}"),
            *(f"prompts_per_iteration={sizes['B']}", f"responses_per_prompt={sizes['G']}"),
            *(f"sampling.max_new_tokens={sizes['T']}", f"iterations={self.iterations}", f"run_dir={folder}"),
            *("objective=grpo", "objective.advantage=signed", "update.minibatches=2", "optimizer.lr=1e-6"),
            *("trainer.accelerator=cpu", "validation.every=0", "checkpoint.every=0", "logger=none"),
        ]
        if sizes["ranks"] == 1:
            return fit(compose(overrides)).metrics
        command = [sys.executable, ROOT / "train.py", *overrides, "trainer=ddp", f"trainer.devices={sizes['ranks']}"]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-4000:])
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    def questions(self, sizes: dict[str, int]) -> Path:
        """Write B questions of P tokens, each a character but those that the tokenizer adds."""
        file, draw = self.folder / f"{sizes['B']}x{sizes['P']}.jsonl", random.Random(0)
        characters = sizes["P"] - len(self.tokenizer("").input_ids)
        with file.open("w") as lines:
            for _ in range(sizes["B"]):
                question = "".join(draw.choices("0123456789", k=characters))
                lines.write(json.dumps({"question": question, "answer": "none"}) + "\n")
        return file


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of GPUs (H100 SXM) and of the model (Qwen3-4B), to compute seconds from sizes.

    Work is spread evenly over ranks, and what ranks exchange is hidden behind it. All responses have T tokens and are
    decoded at once. Activations and chunks of the head are recomputed in the backward pass. Every row has its prompt.
    """

    flops: float = 989e12  # dense bfloat16
    compute: float = 0.4  # share of it that passes reach
    bandwidth: float = 3.35e12  # bytes/s of the memory
    read: float = 0.6  # share of it that decoding reaches
    sync: float = 50e9  # bytes/s at which weights reach an engine
    layers: int = 36
    body: int = 36 * (2560 * (2 * 4096 + 2 * 1024) + 3 * 2560 * 9728)  # weights in products, without the head
    head: int = 2560 * 151936
    queries: int = 32 * 128
    keys: int = 8 * 128


def computed(sizes: dict[str, int], gpu: Assumptions = Assumptions()) -> Seconds:  # noqa: B008  (frozen)
    """Compute the seconds of an iteration on GPUs, with two optimizer steps and all responses scored."""
    rows, length, prompt = sizes["B"] * sizes["G"] / sizes["ranks"], sizes["T"], sizes["P"]

    def forward(length: int, scored: int) -> float:
        """FLOPs of a row: products, attention to all tokens before, and the head where a token is scored."""
        return 2 * gpu.body * length + 2 * gpu.layers * gpu.queries * length**2 + 2 * gpu.head * scored

    speed, decoding = gpu.flops * gpu.compute, gpu.bandwidth * gpu.read
    weights, a_token = 2 * (gpu.body + gpu.head), 2 * 2 * gpu.layers * gpu.keys  # bytes in bfloat16
    decoded = rows * 2 * (gpu.body + gpu.head)  # FLOPs of a token of each row
    step = max(weights / decoding, decoded / speed) + rows * a_token * (prompt + length / 2) / decoding
    found = {
        "sampling": rows / sizes["G"] * forward(prompt, 1) / speed + length * step,
        "score": rows * forward(prompt + length, length) / speed,
        "update": 4 * rows * forward(prompt + length, length) / speed,  # forward, again, and twice that backward
        "sync": weights / gpu.sync,
    }
    return {**found, WHOLE: sum(found.values())}


def table(name: str, points: dict[int, Seconds]) -> Table:
    """Lay out the seconds against one size, and the exponents, as Markdown."""
    shown = Table(name, *STAGES, WHOLE, box=box.MARKDOWN)
    for value, seconds in points.items():
        shown.add_row(str(value), *(f"{seconds[stage]:.3f}" for stage in (*STAGES, WHOLE)))
    shown.add_row("exponent", *(exponent({v: s[stage] for v, s in points.items()}) for stage in (*STAGES, WHOLE)))
    return shown


def exponent(seconds: dict[int, float]) -> str:
    """Fit a line to the logarithms, and write its slope."""
    if len(seconds) < 2 or min(seconds.values()) < SHORTEST:
        return "-"
    slope, _ = statistics.linear_regression(list(map(math.log, seconds)), list(map(math.log, seconds.values())))
    return f"{slope:.2f}"


def plot(found: dict[str, dict[int, Seconds]], picture: Path) -> None:
    """Draw the seconds against each size, on logarithmic axes; a dotted line grows linearly."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        1, len(found), figsize=(2.6 * len(found), 3), sharey=True, squeeze=False, constrained_layout=True
    )
    for axes, (name, points) in zip(grid[0], found.items(), strict=True):
        for stage in (*STAGES, WHOLE):
            if min(seconds[stage] for seconds in points.values()) >= SHORTEST:
                style = {"color": "black", "linewidth": 2} if stage == WHOLE else {}
                axes.plot(list(points), [seconds[stage] for seconds in points.values()], "o-", label=stage, **style)
        first, power = next(iter(points)), -1 if name == "ranks" else 1
        ideal = [points[first][WHOLE] * (value / first) ** power for value in points]
        axes.plot(list(points), ideal, ":", color="grey", label="linear")
        axes.set(xscale="log", yscale="log", xlabel=name, xticks=list(points), xticklabels=list(points))
        axes.minorticks_off()
    grid[0][0].set_ylabel("seconds")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
