"""The records that travel the way of the data.

Legend of shapes, everywhere in this package:

    B  prompts of an iteration (on this rank)      P  context length, in tokens
    G  responses per prompt                        T  response length, in tokens (the longest of the batch)
    N  = B * G responses; row n = b * G + g        V  vocabulary
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from dsrl.errors import DSRLError

if TYPE_CHECKING:
    from dsrl.config.schema import SamplingConfig
    from dsrl.data.encoding import PromptEncoder

CORRECT_THRESHOLD = 0.5
"""A response with a greater reward counts as correct, and one with any other as wrong. One without a reward, which is
NaN, is neither."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity as one rank found it: a sum, and how much was counted.

    Metrics of one name add up, over micro-batches, optimizer steps and ranks; `dsrl.loop.metrics.reduce_metrics` makes
    one number of each, the same on every rank.

    Args:
        sum: the sum of the values, a number or a scalar tensor (which stays on its device until it is reduced).
        count: how many values that are.
        reduction: "mean": sum / count over all ranks, no number where the count is 0; "sum": the sum over all ranks;
            "max": the largest, of which `sum` is this rank's; "std": the population standard deviation.
        squares: the sum of the squared values, for "std".
    """

    sum: float | Tensor
    count: float | Tensor = 1.0
    reduction: Literal["mean", "sum", "max", "std"] = "mean"
    squares: float | Tensor = 0.0

    @classmethod
    def mean(cls, values: Tensor, mask: Tensor | None = None) -> Metric:
        """Average values of any shape, where `mask` (of that shape) is true: `Metric.mean(entropy, batch.mask)`."""
        exact = _exact(values)
        if mask is None:
            return cls(exact.sum(), exact.numel())
        chosen = mask != 0
        return cls(exact.masked_fill(~chosen, 0.0).sum(), chosen.sum())

    @classmethod
    def std(cls, values: Tensor) -> Metric:
        """Take the population standard deviation of values of any shape."""
        exact = _exact(values)
        return cls(exact.sum(), exact.numel(), "std", exact.square().sum())

    @classmethod
    def total(cls, value: float | Tensor) -> Metric:
        """Add up over ranks, and divide by nothing."""
        return cls(value, 1.0, "sum")

    @classmethod
    def largest(cls, value: float | Tensor) -> Metric:
        """Take the largest of all ranks."""
        return cls(value, 1.0, "max")

    def __add__(self, other: Metric) -> Metric:
        """Put two shares of one metric together. Raises DSRLError where they are reduced differently."""
        if self.reduction != other.reduction:
            raise DSRLError(f"a metric is reduced by {self.reduction} in one place and by {other.reduction} in another")
        top = max(self.sum, other.sum) if self.reduction == "max" else self.sum + other.sum
        return Metric(top, self.count + other.count, self.reduction, self.squares + other.squares)


Metrics = dict[str, Metric]
"""Metrics by name: `reward/mean`, `clip/fraction`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One question, ready to be sampled from.

    `position` is its place in the batch of all ranks; draws depend on it and on nothing else of the batch.
    `row` is where it stands in the training data.
    `messages` is the chat, or None where the prompt is plain text. `truncated` says whether its beginning was cut.
    `ground_truth` is what verifiers compare with, as text; `structured_ground_truth` is it as the row held it, where
    that was a mapping or a list. `extra` holds whatever else the row carried.
    """

    position: int
    row: int = -1
    text: str
    token_ids: tuple[int, ...]
    truncated: bool = False
    messages: tuple[Mapping[str, str], ...] | None = None
    ground_truth: str = ""
    structured_ground_truth: Any = None
    data_source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def raw_ground_truth(self) -> Any:
        """The ground truth as the row held it."""
        return self.ground_truth if self.structured_ground_truth is None else self.structured_ground_truth


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to draw responses. A draw is a function of (seed, iteration, prompt position, response number) alone.

    `top_k` 0 and `top_p` 1 leave the distribution whole. `temperature` 0 is greedy. `stop_token_ids` end a response,
    and belong to it; the sampler adds the model's own end-of-sequence tokens.
    """

    responses_per_prompt: int
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop_token_ids: tuple[int, ...] = ()
    seed: int = 0
    iteration: int = 0

    @classmethod
    def of(
        cls,
        sampling: SamplingConfig,
        encoder: PromptEncoder,
        responses_per_prompt: int,
        *,
        seed: int,
        iteration: int = 0,
    ) -> SamplingParams:
        """Put together what a configuration says of sampling. Raises ConfigError for a stop token that is not there."""
        return cls(
            responses_per_prompt=responses_per_prompt,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            stop_token_ids=tuple(encoder.token_id(token) for token in sampling.stop),
            seed=seed,
            iteration=iteration,
        )

    @property
    def restricted(self) -> bool:
        """Whether top_p or top_k leave out tokens, so that responses are not drawn from P(y|x) itself."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewards:
    """What N = B * G responses are worth, as a verifier finds it.

    Args:
        values: [B, G] float32, on the CPU; NaN where the verifier does not apply, and the response has no reward.
        components: what they are made of by name, each [B, G]; NaN where one is not applicable.
        extracted_answers: N texts, what the verifier takes for the answer in each response; None where it extracts no
            answers.
    """

    values: Tensor
    components: dict[str, Tensor] = field(default_factory=dict)
    extracted_answers: list[str | None] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Rollouts:
    """Sampled responses.

    tokens [N, T] long, padded on the right; mask [N, T] bool, true on response tokens (the end token included);
    logprobs [N, T] float, the sampler's own log P(token) at the sampling temperature, 0 on padding;
    texts, N strings as they were written, without the tokens that end them; finish_reasons, N of "stop" or "length";
    rewards, where the sampler knows them, as of a record: no verifier is asked then.
    """

    prompts: list[Prompt]
    tokens: Tensor
    mask: Tensor
    logprobs: Tensor
    texts: list[str]
    finish_reasons: list[str]
    rewards: Rewards | None = None

    def __post_init__(self) -> None:
        """Raises DSRLError where the parts are not of the same responses."""
        shapes = [list(part.shape) for part in (self.tokens, self.mask, self.logprobs)]
        rows, count = len(self.texts), max(1, len(self.prompts))
        alike = len(shapes[0]) == 2 and shapes[0] == shapes[1] == shapes[2] and shapes[0][0] == rows
        if not alike or len(self.finish_reasons) != rows or rows % count:
            raise DSRLError(
                f"rollouts of {len(self.prompts)} prompts: tokens, mask and logprobs [N, T] are {shapes}, "
                f"texts {rows}, finish_reasons {len(self.finish_reasons)}; N must be the same, G for each prompt"
            )

    @property
    def responses_per_prompt(self) -> int:
        """G."""
        return len(self.texts) // max(1, len(self.prompts))

    @property
    def lengths(self) -> Tensor:
        """Response lengths in tokens, [N] long."""
        return self.mask.sum(-1)

    def replacing(self, groups: Sequence[int], fresh: Rollouts) -> Rollouts:
        """These rollouts, without rewards, with some groups, prompt and responses, replaced by the fresh ones in their
        order.
        """
        if not groups:
            return self
        count = self.responses_per_prompt
        rows = [group * count + number for group in groups for number in range(count)]
        width = max(self.tokens.shape[1], fresh.tokens.shape[1])

        def merged(old: Tensor, new: Tensor) -> Tensor:
            result = pad(old, (0, width - old.shape[1]))
            result[rows] = pad(new, (0, width - new.shape[1]))
            return result

        mask = merged(self.mask, fresh.mask)
        longest = int(mask.sum(-1).max())
        prompts, texts, reasons = list(self.prompts), list(self.texts), list(self.finish_reasons)
        for group, prompt in zip(groups, fresh.prompts, strict=True):
            prompts[group] = prompt
        for row, text, reason in zip(rows, fresh.texts, fresh.finish_reasons, strict=True):
            texts[row], reasons[row] = text, reason
        return Rollouts(
            prompts=prompts,
            tokens=merged(self.tokens, fresh.tokens)[:, :longest],
            mask=mask[:, :longest],
            logprobs=merged(self.logprobs, fresh.logprobs)[:, :longest],
            texts=texts,
            finish_reasons=reasons,
        )

    def prompt_of(self, row: int) -> Prompt:
        """The prompt that response `row` answers."""
        return self.prompts[row // self.responses_per_prompt]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Denominators of one optimizer step: what a term keeps, summed over micro-batches and ranks.

    tokens: kept response tokens that count; sequences: kept responses with at least one of them; samples: kept
    responses; max_new_tokens: the longest response that sampling allows (the fixed length of Dr. GRPO).
    """

    tokens: float
    sequences: float
    samples: float
    max_new_tokens: int

    @classmethod
    def of(cls, mask: Tensor, max_new_tokens: int | None = None) -> Counts:
        """Counts of one undivided batch; mask [N, T]. `max_new_tokens` is T unless given."""
        lengths = mask.sum(-1)
        return cls(
            tokens=float(lengths.sum()),
            sequences=float((lengths > 0).sum()),
            samples=float(mask.shape[0]),
            max_new_tokens=max_new_tokens or mask.shape[1],
        )


@dataclass(kw_only=True, slots=True)
class LossBatch:
    """What an objective sees beside log-probabilities: one micro-batch, in the objective's own space.

    old_logprobs [N, T], of the policy that sampled (no gradient); mask [N, T], true on the tokens that count of kept
    samples; advantages [N]; counts, of the whole optimizer step over all ranks; reference_logprobs [N, T] where the
    objective needs a reference; weights [N, T], importance weights that correct for a sampler whose probabilities are
    not quite the trainer's, to be multiplied with the losses of tokens (no gradient). A mean divides by `counts`, so
    that micro-batches add up to the mean over the optimizer step.
    """

    old_logprobs: Tensor
    mask: Tensor
    advantages: Tensor
    counts: Counts
    reference_logprobs: Tensor | None = None
    weights: Tensor | None = None


@dataclass(kw_only=True, slots=True)
class LossOutput:
    """A micro-batch's share of an optimizer step's loss (scalar, with gradient), and what it measured.

    Shares of the loss add up over micro-batches and ranks; so do metrics, each a sum and a count.
    """

    loss: Tensor
    metrics: Metrics = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises DSRLError for a metric that is a plain number: it would depend on how a batch is cut."""
        for name, metric in self.metrics.items():
            if not isinstance(metric, Metric):
                raise DSRLError(
                    f"metric '{name}' must be a Metric, a sum and a count (Metric.mean(values, batch.mask)), not "
                    f"{type(metric).__name__}"
                )


def _exact(values: Tensor) -> Tensor:
    """The values without gradient, in the most exact type that their device has."""
    return values.detach().to(torch.float32 if values.device.type == "mps" else torch.float64)
