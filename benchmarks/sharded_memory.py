"""Compare the peak memory of a rank under FSDP2 over two processes with that of one process.

    python benchmarks/sharded_memory.py

The run is one optimizer step of SmolLM2 (135M). Each process's anonymous memory (`RssAnon`, on Linux; pages of mapped
files do not count) is polled. Prompts and responses are short, so that weights, gradients and moments are what is
measured. The numbers include the full copy that `sampler=hf` keeps on each rank under FSDP (0.5 GiB here), and rank 0's
copy from which `hf/` is written. glibc is told to give freed memory back: by default it keeps what FSDP's gathered
blocks took.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from measuring.memory import peaks_gib

from dsrl.models import load_model, load_tokenizer

ROOT = Path(__file__).parents[1]


def peaks(model: Path, folder: Path, *overrides: str) -> list[float]:
    """Run one iteration, and measure the peak memory of each of its processes in GiB."""
    command = [sys.executable, str(ROOT / "train.py"), "model=hf", f"model.name={model}", f"run_dir={folder}"]
    sizes = [
        "prompts_per_iteration=2",
        "responses_per_prompt=2",
        "sampling.max_new_tokens=8",
        "update.micro_batch_tokens=64",
    ]
    rest = [
        "iterations=1",
        "validation.every=0",
        "logger=none",
        "trainer.accelerator=cpu",
        "objective.advantage=signed",
    ]
    words = [*command, *sizes, *rest, *overrides]
    return [peak for peak in peaks_gib(words) if peak > 0.3]


def main() -> None:
    """Measure both runs and print the ratio of their largest peaks."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        load_model("smollm2").save_pretrained(model)
        load_tokenizer("smollm2").save_pretrained(model)
        one = peaks(model, Path(scratch) / "one")
        two = peaks(model, Path(scratch) / "two", "trainer=fsdp", "trainer.devices=2")
    print("one process:", ", ".join(f"{peak:.2f} GiB" for peak in one))
    print("FSDP2, two:  ", ", ".join(f"{peak:.2f} GiB" for peak in two))
    print(f"ratio of the largest: {max(two) / max(one):.2f}")


if __name__ == "__main__":
    main()
