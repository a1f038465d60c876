"""Compare the memory that a plan says with what the run takes: one iteration of SmolLM2 (135M) on a CPU.

    python benchmarks/plan_memory.py [KEY=VALUE ...]

The run's anonymous memory (`RssAnon`, on Linux) is polled, of the process that takes most. Its temperature is so high
that no response ends early, and its prompts are cut to one length, so that plan and run have the same sizes. glibc is
told to give freed memory back. Words are added to both command lines.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring.memory import peaks_gib

ROOT = Path(__file__).parents[1]

SIZES = (
    "model=smollm2",
    "iterations=1",
    "prompts_per_iteration=4",
    "responses_per_prompt=8",
    "data.max_prompt_tokens=32",
    "sampling.max_new_tokens=96",
    "sampling.temperature=20",
    "update.micro_batch_tokens=2048",
    "objective.advantage=signed",
    "validation.every=0",
    "logger=none",
    "trainer.accelerator=cpu",
)
"""What is run: 32 responses of 96 tokens, all of which are scored."""


def planned(words: list[str]) -> dict:
    """Plan a command line."""
    command = [sys.executable, "-m", "dsrl.plan", *words, "json=true"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def used_gib(words: list[str], folder: Path) -> float:
    """Run a command line, and measure the peak of the process that takes most, in GiB."""
    return max(peaks_gib([sys.executable, str(ROOT / "train.py"), *words, f"run_dir={folder}"]))


def main() -> None:
    """Print plan and measurement, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="further words of both command lines")
    words = [*SIZES, *parser.parse_args().words]
    plan = planned(words)
    with tempfile.TemporaryDirectory() as scratch:
        used = used_gib(words, Path(scratch) / "run")
    print("planned:", f"{plan['peak_gib']:.2f} GiB in {plan['peak_at']};", plan["stages"])
    print("used:   ", f"{used:.2f} GiB")
    print("planned / used:", f"{plan['peak_gib'] / used:.3f}")


if __name__ == "__main__":
    main()
