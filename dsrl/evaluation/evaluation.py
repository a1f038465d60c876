"""Questions -> samples -> rewards, batch by batch, all of it on disk; then the numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape
from transformers import PreTrainedModel

from dsrl.data.encoding import PromptEncoder
from dsrl.data.iteration_batches import IterationBatches
from dsrl.data.source import Row
from dsrl.errors import ConfigError
from dsrl.evaluation.config import EvaluationConfig, in_use
from dsrl.evaluation.results import results_line, results_table, summarise
from dsrl.evaluation.samples import Asked, SampleFile, read_samples
from dsrl.evaluation.statistics import questions_of
from dsrl.loop.collector import Collector, RolloutBatch
from dsrl.models.loading import load_model
from dsrl.models.policy import Policy
from dsrl.runs.hf_folder import policy_weights
from dsrl.runs.terminal import progress_bar, terminal
from dsrl.seeding import derive_seed
from dsrl.storage.atomic import atomic
from dsrl.storage.checkpoint_files import read_checkpoint
from dsrl.types import SamplingParams
from dsrl.verifiers.verifier import close_all

K = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The prompts that are sampled together: some of one set, in its order; k answers to each."""

    set: str
    number: int
    questions: int
    k: int


def evaluate(config: EvaluationConfig | Sequence[str], console: Console | None = None) -> dict[str, Any]:
    """Sample responses to held-out questions, check them, and report.

    Samples depend on seed, set, question and number alone, as in a run's validation, whose samples they are where the
    seed is the run's. Those that an interrupted evaluation has drawn are kept.

    Args:
        config: the checked configuration, or the words of a command line: `evaluate(["model=runs/mine", "k=32"])`.
        console: where tables are printed; None prints to the terminal.

    Returns:
        What results.json in the evaluation's folder holds: the numbers of each set and data source, with intervals.

    Raises:
        ConfigError: what is asked for cannot be evaluated.
    """
    if not isinstance(config, EvaluationConfig):
        config = EvaluationConfig.of(config)
    console = console or terminal()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    sets = {name: list(rows)[: config.limit] for name, rows in config.data.val_sets().items()}
    if not sets:
        raise ConfigError("data.val is not set: give what is to be evaluated, data.val=PATH or a benchmark's name")
    batches = list(_batches(sets, config))
    encoder = PromptEncoder.of(config.model, config.data)
    prompts = _prompts(sets, encoder, config)
    with SampleFile(config.run_dir / "samples.jsonl") as file:
        if config.resume is None and not file.empty:  # by another process, since the configuration was checked
            raise ConfigError(in_use(config.run_dir))
        done = file.keep(_asked(batch, prompts[batch.set]) for batch in batches)
        _greet(config, sets, batches[:done], console)
        if done < len(batches):
            _draw(config, sets, encoder, batches, done, file, console)
    summary = summarise(questions_of(read_samples(config.run_dir)))
    results = {"model": config.label, **summary, "config": _kept(config)}
    written = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(config.run_dir / "results.json") as partial:
        partial.write_text(written + "\n")
    console.print(results_table(summary["results"], "by set"))
    if summary["sources"]:
        console.print(results_table(summary["sources"], "by data source"))
    label = f"{config.label} (temperature {config.sampling.temperature:g}, seed {config.seed})"
    console.print(results_line(label, summary["results"]), soft_wrap=True, markup=False)
    console.print(f"{config.run_dir}/results.json, samples.jsonl", style="dim", soft_wrap=True, markup=False)
    return results


def _batches(sets: Mapping[str, Sequence[Row]], config: EvaluationConfig) -> Iterator[Batch]:
    size = config.questions_per_batch
    for name, rows in sets.items():
        repeats = {int(row.extra.get("repeats", K)) for row in rows}
        k = config.k or (repeats.pop() if len(repeats) == 1 else K)
        for number, first in enumerate(range(0, len(rows), size)):
            yield Batch(set=name, number=number, questions=min(size, len(rows) - first), k=k)


def _prompts(
    sets: Mapping[str, Sequence[Row]], encoder: PromptEncoder, config: EvaluationConfig
) -> dict[str, IterationBatches]:
    size = config.questions_per_batch
    return {name: IterationBatches(rows, encoder, batch=size, seed=None) for name, rows in sets.items()}


def _asked(batch: Batch, prompts: IterationBatches) -> Iterator[Asked]:
    """What the samples of a batch say of themselves, in order."""
    for prompt in prompts[batch.number]:
        yield from ((batch.set, prompt.position, number, prompt.text, prompt.ground_truth) for number in range(batch.k))


def _kept(config: EvaluationConfig) -> dict[str, Any]:
    """The configuration as it is written down."""
    return {**config.resolved, "resume": None}


def _greet(
    config: EvaluationConfig, sets: Mapping[str, Sequence[Row]], done: Sequence[Batch], console: Console
) -> None:
    parts = ", ".join(f"{name} ({len(rows)} questions)" for name, rows in sets.items())
    verifier = config.resolved["verifier"]
    console.print(
        f"[bold]dsrl[/]  {escape(f'{config.label}: {parts}')}; temperature {config.sampling.temperature:g}, verifier "
        f"{verifier if isinstance(verifier, str) else verifier['name']}",
        soft_wrap=True,
    )
    if done:
        console.print(f"going on: {sum(batch.questions for batch in done)} questions are answered already")


def _draw(
    config: EvaluationConfig,
    sets: Mapping[str, Sequence[Row]],
    encoder: PromptEncoder,
    batches: Sequence[Batch],
    done: int,
    file: SampleFile,
    console: Console,
) -> None:
    """Draw the batches after the first `done`. config.yaml is written with the first samples: what fails before leaves
    a folder that can be used again.
    """
    policy = Policy(_model(config)).to(_device(config.accelerator)).requires_grad_(False).eval()
    encoder = encoder.leaving_room(policy.positions, config.sampling.max_new_tokens, config.sampler.max_length)
    prompts, collector = _prompts(sets, encoder, config), Collector(sampler=config.sampler, verifier=config.verifier)
    bar = progress_bar(console)
    right = samples = 0.0
    try:
        config.sampler.setup(policy, encoder)
        with bar:
            total, before = (sum(batch.questions for batch in some) for some in (batches, batches[:done]))
            task = bar.add_task("questions", total=total, completed=before, status="")
            for batch in batches[done:]:
                seed = derive_seed("validation", config.seed, batch.set)
                params = SamplingParams.of(config.sampling, encoder, batch.k, seed=seed)
                lines = _lines(batch.set, collector.collect(prompts[batch.set][batch.number], params))
                if file.empty:
                    with atomic(config.run_dir / "config.yaml") as partial:
                        partial.write_text(OmegaConf.to_yaml(OmegaConf.create(_kept(config))))
                file.append(lines)
                right, samples = right + sum(line["reward"] for line in lines), samples + len(lines)
                bar.update(task, advance=batch.questions, status=f"{batch.set}  reward {right / samples:.3f}")
    finally:
        close_all([config.sampler, config.verifier])


def _model(config: EvaluationConfig) -> PreTrainedModel:
    model = load_model(config.model)
    if config.checkpoint is not None:
        path = Path(config.checkpoint).expanduser()
        unknown = model.load_state_dict(policy_weights(path, read_checkpoint(path)), strict=False).unexpected_keys
        if unknown:
            raise ConfigError(f"checkpoint={path}: is not of model.name={config.model.name}, which has no {unknown[0]}")
    return model


def _lines(name: str, batch: RolloutBatch) -> list[dict[str, Any]]:
    """What is written of each of N samples, question by question."""
    size = batch.rollouts.responses_per_prompt
    return [
        {
            "set": name,
            "question": batch.rollouts.prompt_of(row).position,
            "sample": row % size,
            **batch.record(row),
        }
        for row in range(len(batch.rollouts.texts))
    ]


def _device(accelerator: str) -> torch.device:
    if accelerator in ("auto", "gpu"):
        found = torch.accelerator.current_accelerator(check_available=True)
        if found is None and accelerator == "gpu":
            raise ConfigError("accelerator=gpu: there is none; auto takes the CPU then")
        return found or torch.device("cpu")
    return torch.device(accelerator)
