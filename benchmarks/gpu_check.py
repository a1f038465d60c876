"""Check on GPUs, once, what has been checked without one only.

    python benchmarks/gpu_check.py                      # all that the devices here allow: 15 minutes on one GPU
    python benchmarks/gpu_check.py --list               # the claims, and how many GPUs each needs
    python benchmarks/gpu_check.py engine plan          # some of them, by name
    python benchmarks/gpu_check.py --accelerator cpu    # what also holds on a CPU

Each line is a claim of the documentation: docs/scaling.md, docs/sampling.md, docs/plan.md. A check starts the commands
that a user would, with small sizes and the embedded model, and reads what they print and write. The exit code is 1 if
one fails. Please send the table, and the folder that it names, to the project: nothing here has run on a GPU yet.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

ROOT = Path(__file__).parents[1]
SMALL = {
    "iterations": "3",
    "prompts_per_iteration": "16",
    "responses_per_prompt": "4",
    "validation.every": "0",
    "data.train_size": "200",
    "data.val_size": "8",
    "logger": "none",
}


PHASES = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=1")
"""A handoff after the first iteration."""


class Failed(Exception):
    """A claim that does not hold, with what was found instead."""


@dataclass(frozen=True)
class Check:
    """A claim, and how it is tried.

    Args:
        name: what it is called on the command line.
        claim: what the documentation says.
        devices: how many it needs.
        on_cpu: whether the claim is also of a CPU.
        run: tries it in a folder and returns what was measured. Raises Failed.
    """

    name: str
    claim: str
    devices: int
    on_cpu: bool
    run: Callable[["Runs"], str]


CHECKS: list[Check] = []


def check(claim: str, *, devices: int = 1, on_cpu: bool = False) -> Callable[..., None]:
    """Register a check under its function's name."""

    def register(run: Callable[["Runs"], str]) -> None:
        CHECKS.append(Check(run.__name__, claim, devices, on_cpu, run))

    return register


@dataclass(frozen=True)
class Runs:
    """Start runs on one kind of device, in folders of one folder."""

    accelerator: str
    folder: Path

    def words(self, name: str, given: tuple[str, ...]) -> list[str]:
        """Complete a command line; what is given takes the place of the small sizes."""
        sizes = SMALL | {"trainer.accelerator": self.accelerator, "run_dir": str(self.folder / name)}
        return [f"{key}={value}" for key, value in (sizes | dict(word.split("=", 1) for word in given)).items()]

    def start(self, name: str, *given: str, environment: Mapping[str, str] = {}) -> subprocess.Popen[str]:
        """Start `python train.py`."""
        command = [sys.executable, str(ROOT / "train.py"), *self.words(name, given)]
        environment = os.environ | environment
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)

    def train(self, name: str, *given: str, environment: Mapping[str, str] = {}) -> str:
        """Run it to its end and return what it printed. Raises Failed where it does not end well."""
        run = self.start(name, *given, environment=environment)
        try:
            output, _ = run.communicate(timeout=1200)
        finally:
            end(run)
        (self.folder / f"{name}.log").write_text(output)
        if run.returncode:
            raise Failed(f"{name} ended with code {run.returncode}: {output[-400:]}")
        return output

    def metrics(self, name: str) -> list[dict[str, float]]:
        """Read the lines of a run's iterations."""
        lines = map(json.loads, (self.folder / name / "metrics.jsonl").read_text().splitlines())
        return [line for line in lines if "reward/mean" in line]

    def python(self, module: str, *words: str) -> str:
        """Run another command of dsrl."""
        command = [sys.executable, "-m", module, *words]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=1200)
        if done.returncode:
            raise Failed(f"{' '.join(command[1:])}: {done.stderr[-400:]}")
        return done.stdout


def end(run: subprocess.Popen[str]) -> None:
    """Kill what is left of a run, which has a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)


def hold(true: bool, found: str) -> str:
    """Return what was found where a claim holds. Raises Failed with it where it does not."""
    if not true:
        raise Failed(found)
    return found


def apart(one: list[dict[str, float]], other: list[dict[str, float]]) -> float:
    """Find the largest difference between losses and norms of two runs."""
    keys = [key for key in one[0] if key.startswith("loss") or key.endswith("norm")]
    return max(abs(a[key] - b[key]) for a, b in zip(one, other, strict=True) for key in keys)


@check("a run computes in bf16-mixed on a GPU with bfloat16, and says so")
def precision(runs: Runs) -> str:
    """`trainer.precision=auto`."""
    output = " ".join(runs.train("precision").split())
    return hold("in bf16-mixed" in output, output[:200])


@check("both phases learn: over 0.8 held out after 20 iterations of the default run", on_cpu=True)
def learns(runs: Runs) -> str:
    """The default run, made half as long."""
    phases = ("objective=nsr_prerl", "+phase2=grpo", "phase2.start=5")
    sizes = ("iterations=20", "prompts_per_iteration=64", "responses_per_prompt=8")
    validation = ("validation.every=20", "data.train_size=9000", "data.val_size=100")
    output = runs.train("learns", *phases, *sizes, *validation)
    lines = map(json.loads, (runs.folder / "learns" / "metrics.jsonl").read_text().splitlines())
    values = [line["val/arithmetic/avg@4"] for line in lines if "val/arithmetic/avg@4" in line]
    return hold(bool(values) and values[-1] > 0.8, f"{values[0]:.3f} -> {values[-1]:.3f}" if values else output[-200:])


@check("rows that share a prompt, and packed rows, score as single rows do, in every kind of attention")
def layouts(runs: Runs) -> str:
    """`Policy.shares_contexts` and `Policy.packs`, each of which tries it on the model."""
    code = (
        "import sys, torch; from dsrl.config.schema import ModelConfig; from dsrl.models import Policy, load_model\n"
        "for attention in sys.argv[1:]:\n"
        "    with torch.autocast('cuda', dtype=torch.bfloat16):\n"
        "        policy = Policy(load_model(ModelConfig(name='tiny', attn_implementation=attention))).cuda()\n"
        "        print(attention, policy.shares_contexts or policy.packs, policy.packs)\n"
    )
    flash = ["flash_attention_2"] if subprocess.run([sys.executable, "-c", "import flash_attn"]).returncode == 0 else []
    kinds = ["sdpa", "flex_attention", *flash]
    done = subprocess.run([sys.executable, "-c", code, *kinds], cwd=ROOT, text=True, capture_output=True)
    expected = {f"{kind} True {kind != 'sdpa'}" for kind in kinds}
    return hold({*done.stdout.splitlines()} == expected, (done.stdout or done.stderr[-300:]).replace("\n", "; "))


@check("an engine of vLLM sleeps while the policy trains, wakes, and serves every update")
def engine(runs: Runs) -> str:
    """`sampler=vllm`, at the default level of sleep; each sync compares log-probabilities."""
    runs.train("engine", *PHASES, "sampler=vllm", "iterations=5")
    last = runs.metrics("engine")[-1]
    return hold(last["mismatch/mean"] < 0.2, _named(last, "sync/", "memory/", "mismatch/"))


@check("the same at sleep level 1, and with expandable segments in the trainer")
def engine_otherwise(runs: Runs) -> str:
    """`sampler.sleep_level=1`; PYTORCH_CUDA_ALLOC_CONF."""
    runs.train("engine_1", *PHASES, "sampler=vllm", "sampler.sleep_level=1")
    segments = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    runs.train("engine_segments", *PHASES, "sampler=vllm", environment=segments)
    return _named(runs.metrics("engine_segments")[-1], "sync/", "memory/")


@check("a plan is within 15 percent of the memory that a run allocates")
def plan(runs: Runs) -> str:
    """The update of a pass of 65,536 tokens, in which activations are most of the memory."""
    sizes = ("prompts_per_iteration=64", "responses_per_prompt=16", "update.micro_batch_tokens=65536")
    words = (*sizes, "objective.advantage=signed", "sampling.temperature=20", "iterations=2")
    runs.train("plan", *words)
    planned = json.loads(runs.python("dsrl.plan", *runs.words("plan", words), "plan.prompt_tokens=12", "json=true"))
    process = planned["parts"]["process"]
    used = max(line["memory/allocated_gib"] for line in runs.metrics("plan"))
    ratio = (planned["peak_gib"] - process) / used
    return hold(abs(ratio - 1) < 0.15, f"planned / allocated {ratio:.2f} ({used:.2f} GiB)")


@check("activation offloading changes no number, and takes less memory")
def offloading(runs: Runs) -> str:
    """`model.activation_offloading`."""
    words = ("trainer.precision=32-true", "model.gradient_checkpointing=true")
    sizes = ("prompts_per_iteration=64", "responses_per_prompt=16", "update.micro_batch_tokens=65536", "iterations=1")
    runs.train("kept", *words, *sizes)
    runs.train("offloaded", *words, *sizes, "model.activation_offloading=true")
    kept, offloaded = (runs.metrics(name) for name in ("kept", "offloaded"))
    memory = [lines[0]["memory/allocated_gib"] for lines in (kept, offloaded)]
    found = f"{apart(kept, offloaded):.1e} apart; {memory[0]:.2f} -> {memory[1]:.2f} GiB"
    return hold(apart(kept, offloaded) < 1e-4 and memory[1] < memory[0], found)


@check("compiled blocks give the losses of those that are not", on_cpu=True)
def compiled(runs: Runs) -> str:
    """`trainer.compile`."""
    words = ("trainer.precision=32-true", "iterations=1")
    runs.train("eager", *words)
    runs.train("compiled", *words, "trainer.compile=true")
    found = apart(runs.metrics("eager"), runs.metrics("compiled"))
    return hold(found < 1e-3, f"{found:.1e} apart")


@check("with trainer.deterministic=true two runs are the same, and so is one that is killed and goes on", on_cpu=True)
def deterministic(runs: Runs) -> str:
    """All metrics but times, to the last bit."""
    words = (*PHASES, "trainer.deterministic=true", "iterations=4", "checkpoint.every=1")
    for name in ("first", "second"):
        runs.train(name, *words)
    run = runs.start("killed", *words)
    while run.poll() is None and not [*(runs.folder / "killed" / "checkpoints").glob("iteration1*.ckpt")]:
        time.sleep(0.1)
    end(run)
    runs.train("killed", *words, "resume=last")
    first, second, killed = (_without_times(runs.metrics(name)) for name in ("first", "second", "killed"))
    return hold(first == second == killed, f"second run {first == second}, resumed run {first == killed}")


@check("two ranks have the numbers of one process, under ddp, fsdp and fsdp1", devices=2, on_cpu=True)
def ranks(runs: Runs) -> str:
    """The first iteration, in which all sample from the same weights."""
    words = ("trainer.precision=32-true", "iterations=1")
    runs.train("one", *words)
    found = {}
    for strategy in ("ddp", "fsdp", "fsdp1"):
        runs.train(strategy, *words, f"trainer={strategy}", "trainer.devices=2")
        found[strategy] = apart(runs.metrics("one"), runs.metrics(strategy))
    return hold(max(found.values()) < 1e-3, ", ".join(f"{name} {value:.1e}" for name, value in found.items()))


@check("FSDP with parts in the CPU's memory trains, clips and saves", devices=2)
def offloaded_parts(runs: Runs) -> str:
    """`trainer.cpu_offload`."""
    runs.train("offloaded_parts", *PHASES, "trainer=fsdp", "trainer.devices=2", "trainer.cpu_offload=true")
    return _named(runs.metrics("offloaded_parts")[-1], "memory/")


@check("a checkpoint in parts is continued on one device, and is the run that it was", devices=2, on_cpu=True)
def parts(runs: Runs) -> str:
    """`checkpoint.sharded`, on by default under fsdp."""
    runs.train("parts", *PHASES, "trainer=fsdp", "trainer.devices=2", "checkpoint.every=1", "iterations=2")
    runs.train("parts", *PHASES, "trainer=auto", "resume=last", "iterations=3")
    return hold(len(runs.metrics("parts")) == 3, "goes on")


@check("two ranks sample with an engine each, and with one engine for both", devices=2)
def engines(runs: Runs) -> str:
    """`sampler.tensor_parallel_size`."""
    for size in (1, 2):
        runs.train(
            f"engines_{size}",
            "sampler=vllm",
            "trainer=fsdp",
            "trainer.devices=2",
            f"sampler.tensor_parallel_size={size}",
        )
    return _named(runs.metrics("engines_2")[-1], "sync/", "mismatch/")


@check("a rank that is stopped ends the run, which names it", devices=2, on_cpu=True)
def hangs(runs: Runs) -> str:
    """SIGSTOP to rank 1, with `trainer.timeout=20`."""
    words = ("trainer=ddp", "trainer.devices=2", "trainer.timeout=20", "iterations=100000", "checkpoint.every=0")
    run, lines = runs.start("hangs", *words), runs.folder / "hangs" / "metrics.jsonl"
    while run.poll() is None and not (lines.exists() and lines.read_text().count("\n") > 2):
        time.sleep(0.1)
    (child, *_) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGSTOP)
    began = time.monotonic()
    try:
        output, _ = run.communicate(timeout=300)
    finally:
        end(run)
    seconds = time.monotonic() - began
    return hold("rank 1" in output and seconds < 90, f"{seconds:.0f} s: {output.strip().splitlines()[-1][:120]}")


@check("an evaluation on two devices writes the samples of one", devices=2, on_cpu=True)
def evaluation(runs: Runs) -> str:
    """`devices=2` of `python -m dsrl.evaluate`, byte by byte."""
    kind = "cpu" if runs.accelerator == "cpu" else "gpu"
    for devices in (1, 2):
        words = ("data=arithmetic", "data.val_size=40", "k=4", f"accelerator={kind}", f"devices={devices}")
        runs.python("dsrl.evaluate", "model=tiny", *words, f"run_dir={runs.folder / f'evaluation_{devices}'}")
    one, two = ((runs.folder / f"evaluation_{devices}" / "samples.jsonl").read_bytes() for devices in (1, 2))
    return hold(one == two, f"{len(one)} bytes, {'the same' if one == two else 'others'}")


def _named(line: Mapping[str, float], *prefixes: str) -> str:
    return ", ".join(f"{key} {value:.3g}" for key, value in line.items() if key.startswith(prefixes))


def _without_times(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    volatile = ("time/", "sync/", "memory/", "throughput")
    return [{key: value for key, value in line.items() if not key.startswith(volatile)} for line in lines]


def main() -> None:
    """Run the checks that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="checks to run; all by default")
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument("--accelerator", choices=["gpu", "cpu"], default="gpu" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    known = {check.name: check for check in CHECKS}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no check {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.names] or CHECKS
    console = Console(highlight=False, soft_wrap=True)
    devices = torch.cuda.device_count() if options.accelerator == "gpu" else 2  # ranks that share the cores
    folder, failed = Path(tempfile.mkdtemp(prefix="gpu_check-")), False
    for one in chosen:
        needs = f"{one.devices} GPU{'s' * (one.devices > 1)}{', or a CPU' * one.on_cpu}"
        if options.list or devices < one.devices or not (options.accelerator == "gpu" or one.on_cpu):
            console.print(f"not run  [bold]{one.name}[/] ({needs}): {one.claim}")
            continue
        began = time.monotonic()
        with console.status(one.claim):
            try:
                found, result = one.run(Runs(options.accelerator, folder)), "[green]pass   [/]"
            except Exception as error:  # whatever it is, the other claims are tried
                found, result, failed = f"{type(error).__name__}: {error}", "[red]FAIL   [/]", True
        seconds = f"{time.monotonic() - began:.0f} s"
        console.print(f"{result}  [bold]{one.name}[/] ({seconds}): {one.claim}")
        console.print(f"         {escape(found.strip())}", style="dim")
    console.print("not tried by this script: HSDP over two nodes, which examples/two_nodes.sbatch starts")
    console.print(f"torch {torch.__version__}, {devices} x {options.accelerator}; logs in {folder}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
