"""Answer batches of questions with one model on one device: sample, and check the batch before meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from dsrl.data.encoding import PromptEncoder
from dsrl.evaluation.batches import Batch
from dsrl.evaluation.config import EvaluationConfig
from dsrl.evaluation.loaded_model import load_policy
from dsrl.loop.collector import Collector
from dsrl.parallel.sharding import parameter_count
from dsrl.planning.architecture import architecture_of
from dsrl.runs.failure_file import append_failures
from dsrl.samplers.border import draw
from dsrl.seeding import derive_seed
from dsrl.threads import ComputeThreads
from dsrl.types import Rollouts, SamplingParams
from dsrl.verifiers.verifier import close_all, failures_of

Line = dict[str, Any]
"""A line of samples.jsonl."""


class Answerer:
    """Hold the model on its device, and the sampler and the verifier of an evaluation; a context that closes them."""

    def __init__(self, config: EvaluationConfig, encoder: PromptEncoder) -> None:
        """Load the model and start the sampler. Raises DSRLError, ConfigError for what cannot be evaluated."""
        self.config = config
        config.sampler.check_architecture(architecture_of(config.model))
        self.collector = Collector(sampler=config.sampler, verifier=config.verifier, thoughts=config.thoughts)
        policy = load_policy(config.model, config.checkpoint, config.accelerator).requires_grad_(False)
        self.threads = ComputeThreads(None)
        if policy.device.type == "cpu":
            self.threads = ComputeThreads.of(parameter_count(policy))
        try:
            self.encoder = encoder.fitting(policy, config.sampling.max_new_tokens, config.sampler.max_length)
            config.sampler.setup(policy, self.encoder)
            config.sampler.check_logprobs()
        except BaseException:
            self.close()
            raise

    def sample_all(self, batches: Iterable[Batch], finish: Callable[[Batch, Rollouts], None]) -> None:
        """Sample batch after batch, each in a thread, and call `finish` with the one before meanwhile.

        Verifiers stay in this thread, as in training: some set a signal's handler, which works in the main one alone.
        """
        before: tuple[Batch, Rollouts] | None = None
        for batch in batches:
            sampled: Future[Rollouts] = Future()
            threading.Thread(target=self._sample, args=(batch, sampled), name="sample", daemon=True).start()
            if before is not None:
                finish(*before)
            before = batch, sampled.result()
        if before is not None:
            finish(*before)

    def _sample(self, batch: Batch, sampled: Future[Rollouts]) -> None:
        try:
            sampled.set_result(draw(self.collector.sampler, batch.prompts(self.encoder), self._params(batch)))
        except BaseException as error:
            sampled.set_exception(error)

    def lines(self, batch: Batch, rollouts: Rollouts) -> list[Line]:
        """Check a batch's responses, and make the line of each, question by question.

        What the verifier fails on is written to verifier_failures.jsonl.
        """
        try:
            checked = self.collector.verify(rollouts, self._params(batch))
        finally:
            append_failures(self.config.run_dir, failures_of(self.config.verifier), set=batch.set)
        return [
            {
                "set": batch.set,
                "question": rollouts.prompt_of(row).position,
                "sample": row % batch.k,
                **checked.record(row),
            }
            for row in range(len(rollouts.texts))
        ]

    def close(self) -> None:
        """Close the sampler and the verifier."""
        close_all([self.collector.sampler, self.collector.verifier])
        self.threads.restore()

    def _params(self, batch: Batch) -> SamplingParams:
        seed = derive_seed("validation", self.config.seed, batch.set)
        return SamplingParams.of(self.config.sampling, self.encoder, batch.k, seed=seed)

    def __enter__(self) -> Answerer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
