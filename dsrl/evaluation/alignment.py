"""Questions -> responses -> how far P(y) and P(y|x) agree on them: the probe `alignment` on any model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.markup import escape

from dsrl.data.askable import askable
from dsrl.data.encoding import PromptEncoder
from dsrl.data.first_prompt import shown_prompt
from dsrl.data.ground_truth_check import check_ground_truths
from dsrl.data.iteration_batches import IterationBatches
from dsrl.data.mixture import Mixture
from dsrl.errors import ConfigError
from dsrl.evaluation.align_config import AlignConfig
from dsrl.evaluation.alignment_results import BatchFound, summarise, tables
from dsrl.evaluation.loaded_model import load_policy
from dsrl.loop.collector import Collector
from dsrl.loop.probe import Subject
from dsrl.loop.scorer import Scorer
from dsrl.loop.stopwatch import Stopwatch
from dsrl.models.agreement import check_rows
from dsrl.models.policy import Policy
from dsrl.planning.architecture import architecture_of
from dsrl.runs.terminal import progress_bar, terminal
from dsrl.storage.atomic import atomic
from dsrl.types import Prompt, SamplingParams
from dsrl.verifiers.verifier import close_all


def align(config: AlignConfig | Sequence[str], console: Console | None = None) -> dict[str, Any]:
    """Sample responses to questions, and measure how far P(y) and P(y|x) agree on them, as probe `alignment` does.

    The first batch holds the questions, and the responses, of the first iteration of a run with this seed.

    Args:
        config: the checked configuration, or the words of a command line: `align(["model=runs/mine", "limit=16"])`.
        console: where tables are printed; None prints to the terminal.

    Returns:
        What `json=true` prints: see docs/alignment.md.

    Raises:
        ConfigError: what is asked for cannot be measured.
    """
    if not isinstance(config, AlignConfig):
        config = AlignConfig.of(config)
    console = console or terminal()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config.sampler.check_architecture(architecture_of(config.model))
    encoder = PromptEncoder.of(config.model, config.data)
    broken = getattr(config.data, "broken_rows", "refuse")
    rows = askable(Mixture.of(config.data.train_rows()), encoder, label="data.train", broken=broken)
    check_ground_truths(config.verifier, rows, "data.train")
    if len(rows) < config.limit:
        raise ConfigError(f"limit={config.limit}: data.train holds {len(rows)} questions; give at most as many")
    policy = load_policy(config.model, config.checkpoint, config.accelerator)
    encoder = encoder.fitting(policy, config.sampling.max_new_tokens, config.sampler.max_length)
    size = config.limit // config.batches
    batches = IterationBatches(rows, encoder, batch=size, seed=config.seed, shuffle=config.data.shuffle)
    try:
        config.sampler.setup(policy, encoder)
        check_rows(policy, padded=config.micro_batch_tokens != 1)
        config.sampler.check_logprobs()
        if console.is_terminal and not config.json:
            first = rows[rows.at(0, config.seed if config.data.shuffle else None)]
            console.print(shown_prompt("first prompt", first, encoder), soft_wrap=True, markup=False)
        found = list(_measured(config, policy, encoder, [batches[number] for number in range(config.batches)], console))
    finally:
        close_all([config.sampler, config.verifier])
    results = {"model": config.label, **summarise(found), "config": config.resolved}
    written = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    if config.out is not None:
        with atomic(Path(config.out).expanduser()) as partial:
            partial.write_text(written + "\n", encoding="utf-8")
    if config.json:
        print(written)
    else:
        for table in tables(results):
            console.print(table)
    return results


def _measured(
    config: AlignConfig, policy: Policy, encoder: PromptEncoder, batches: list[list[Prompt]], console: Console
) -> Iterator[BatchFound]:
    """Measure each batch in turn."""
    collector = Collector(sampler=config.sampler, verifier=config.verifier)
    scorer = Scorer(policy=policy, encoder=encoder, micro_batch_tokens=config.micro_batch_tokens, device=policy.device)
    bar = progress_bar(console)
    task = bar.add_task("batches", total=len(batches), status="")
    shown = console.is_terminal and not config.json
    if shown:
        console.print(f"[bold]dsrl[/]  {escape(config.label)}: {config.limit} questions, {config.k} responses each")
        bar.start()
    try:
        for number, prompts in enumerate(batches):
            params = SamplingParams.of(config.sampling, encoder, config.k, seed=config.seed, iteration=number)
            clock = Stopwatch()
            bar.update(task, status="sampling")
            with clock("sample"), torch.no_grad():
                batch = collector.collect(prompts, params)
            with clock("measure"):
                bar.update(task, status="measuring")
                experience = scorer.score(batch, config.objective)
                subject = Subject(experience=experience, objective=config.objective, scorer=scorer)
                observed = config.probe.observe(subject)
            yield BatchFound(batch=batch, observed=observed, seconds=clock.seconds | observed.seconds)
            bar.update(task, advance=1)
    finally:
        bar.stop()
