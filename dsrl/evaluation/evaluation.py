"""Questions -> samples on disk, in order, from one device or several; then the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import transformers
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from dsrl.data.askable import askable
from dsrl.data.encoding import PromptEncoder
from dsrl.data.first_prompt import shown_prompt
from dsrl.data.ground_truth_check import check_ground_truths
from dsrl.data.mixture import Mixture
from dsrl.data.source import Row
from dsrl.errors import ConfigError
from dsrl.evaluation.answering import Answerer, Line
from dsrl.evaluation.batches import Batch, batches_of
from dsrl.evaluation.config import EvaluationConfig, in_use
from dsrl.evaluation.results import results_line, results_table, summarise, thoughts_table
from dsrl.evaluation.samples import SampleFile, read_samples
from dsrl.evaluation.statistics import questions_of
from dsrl.evaluation.workers import answer_on_devices
from dsrl.planning.architecture import architecture_of
from dsrl.planning.plan import positions_of
from dsrl.runs.failure_file import FILE
from dsrl.runs.terminal import progress_bar, terminal
from dsrl.storage.atomic import atomic


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
    encoder = _encoder(config)
    sets = _sets(config, encoder)
    for name, rows in sets.items():
        check_ground_truths(config.verifier, rows, f"data.val, {name}")
    batches = batches_of(sets, config)
    with SampleFile(config.run_dir / "samples.jsonl") as file:
        if config.resume is None and not file.empty:  # by another process, since the configuration was checked
            raise ConfigError(in_use(config.run_dir))
        done = file.keep(batch.asked(encoder) for batch in batches)
        _greet(config, sets, batches[:done], console)
        name, rows = next(iter(sets.items()))
        console.print(shown_prompt(f"first prompt of {name}", rows[0], encoder), soft_wrap=True, markup=False)
        if done < len(batches):
            _draw(config, encoder, batches, done, file, console)
    summary = summarise(questions_of(read_samples(config.run_dir)))
    results = {"model": config.label, **summary, "config": _kept(config)}
    written = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(config.run_dir / "results.json") as partial:
        partial.write_text(written + "\n")
    console.print(results_table(summary["results"], "by set"))
    if summary["sources"]:
        console.print(results_table(summary["sources"], "by data source"))
    if thoughts := thoughts_table(summary["results"]):
        console.print(thoughts)
    label = f"{config.label} (temperature {config.sampling.temperature:g}, seed {config.seed})"
    console.print(results_line(label, summary["results"]), soft_wrap=True, markup=False)
    if (failures := config.run_dir / FILE).exists():
        told = f"the verifier failed on responses, which score 0: {failures} has the first of them"
        console.print(told, style="yellow", soft_wrap=True, markup=False)
    console.print(f"{config.run_dir}/results.json, samples.jsonl", style="dim", soft_wrap=True, markup=False)
    return results


def first_prompts(config: EvaluationConfig) -> str:
    """Write the first prompt of each set, whole, without the model. Raises ConfigError as `evaluate` does."""
    encoder = _encoder(config)
    return "\n".join(
        shown_prompt(f"first prompt of {name}", rows[0], encoder, most=None)
        for name, rows in _sets(config, encoder).items()
    )


def _encoder(config: EvaluationConfig) -> PromptEncoder:
    """Make the encoder, whose prompts leave room for the longest response."""
    positions = positions_of(architecture_of(config.model))
    encoder = PromptEncoder.of(config.model, config.data)
    return encoder.leaving_room(positions, config.sampling.max_new_tokens, config.sampler.max_length)


def _sets(config: EvaluationConfig, encoder: PromptEncoder) -> dict[str, list[Row]]:
    """Read the questions of each set that can be asked, at most `limit`."""
    broken = getattr(config.data, "broken_rows", "refuse")
    sets = {
        name: askable(Mixture.of(rows), encoder, label=f"data.val {name}", broken=broken)[: config.limit]
        for name, rows in config.data.val_sets().items()
    }
    if not sets:
        raise ConfigError("data.val is not set: give what is to be evaluated, data.val=PATH or a benchmark's name")
    return sets


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
        console.print(f"going on: {sum(len(batch.rows) for batch in done)} questions are answered already")


def _draw(
    config: EvaluationConfig,
    encoder: PromptEncoder,
    batches: Sequence[Batch],
    done: int,
    file: SampleFile,
    console: Console,
) -> None:
    """Draw the batches after the first `done`, and write them in order, each as soon as those before it are there.

    config.yaml is written with the first samples: what fails before leaves a folder that can be used again.
    """
    bar = progress_bar(console)
    total, before = (sum(len(batch.rows) for batch in some) for some in (batches, batches[:done]))
    task = bar.add_task("questions", total=total, completed=before, status="")
    early: dict[int, list[Line]] = {}
    written, right, samples = done, 0.0, 0

    def record(batch: Batch, lines: list[Line]) -> None:
        nonlocal written, right, samples
        early[batch.number] = lines
        while written in early:
            if file.empty:
                with atomic(config.run_dir / "config.yaml") as partial:
                    partial.write_text(OmegaConf.to_yaml(OmegaConf.create(_kept(config))))
            file.append(early.pop(written))
            written += 1
        rewards = [line["reward"] for line in lines if line["reward"] is not None]
        right, samples = right + sum(rewards), samples + len(rewards)
        bar.update(task, advance=len(batch.rows), status=f"{batch.set}  reward {right / max(1, samples):.3f}")

    if config.devices > 1:
        with bar:
            answer_on_devices(config, batches[done:], record)
    else:
        with Answerer(config, encoder) as answerer, bar:
            answerer.sample_all(batches[done:], lambda batch, rollouts: record(batch, answerer.lines(batch, rollouts)))
