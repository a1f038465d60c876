"""Measure what admits a world and its model: `python -m dsrl.worlds.admission MODEL [--world MODEL] [--json]`.

    python -m dsrl.worlds.admission retry                        the embedded model of that name
    python -m dsrl.worlds.admission OUT                          what dsrl.worlds.pretrain wrote
    python -m dsrl.worlds.admission runs/mine/hf --world retry   the policy of a run, in the world of another model

The numbers that are needed are those of docs/worlds.md, fixed before any was measured. The model answers held-out
questions at temperature 1, once as it is and once for each of `BIASES`, where retries are forced: a bias is added to
the logit of `?` at every token.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dsrl.command import command
from dsrl.errors import DSRLError, print_error
from dsrl.models.loading import folder_of, load_model, load_tokenizer
from dsrl.reports.intervals import share_half_width
from dsrl.worlds.answers import Answers, draw_answers, known_share
from dsrl.worlds.world import World
from dsrl.worlds.world_file import load_world

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BIASES = (2.0, 4.0)
"""Added to the logit of `?`; the last one is that of the admission."""

RIGHT = (0.05, 0.5)
"""From which to which share of the base's answers may be right."""

RARE = 0.5
"""The most retries an answer."""

IN_THEMSELVES = 0.95
"""The least share of forced retries that do what they set out to do: of the first, of the second, of the third."""

PAY = 0.1
"""By how much forced retries must raise the share of right answers."""

COUNTED = 3
"""Retries of an answer that are looked at: the first ones."""

ENOUGH = 20
"""With fewer second or third retries than this, their share says nothing, and is not asked for."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part of some things that are counted, with its 95% interval (Wilson)."""

    count: int
    share: float

    @classmethod
    def of(cls, values: Sequence[bool]) -> Share:
        """Count what is true; NaN of nothing."""
        return cls(count=len(values), share=statistics.fmean(values) if values else float("nan"))

    def __str__(self) -> str:
        half = share_half_width(self.share, self.count) if self.count else float("nan")
        return f"{self.share:.3f} ± {half:.3f} of {self.count:,}"


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What a model's answers were like."""

    bias: float
    """What was added to the logit of `?`."""
    right: Share
    retries: float
    """Retries an answer."""
    tokens: float
    """Tokens an answer."""
    right_by_retries: list[Share]
    """Of the answers with 0, 1, .. retries; the last are those with `COUNTED` or more."""
    in_themselves: list[Share]
    """Of the first, second, .. retries of an answer: how many do what they set out to do."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One number that admits, with what is needed of it."""

    name: str
    found: float
    needed: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What was measured of a world and its model."""

    base: Answering
    forced: list[Answering]
    known: float
    """Share of the base's tokens that P(y) can know."""
    samples: list[str]
    """Questions and the base's answers to them, the first ones drawn."""

    def criteria(self) -> list[Criterion]:
        """Compare with the numbers that were fixed."""
        right, retries, forced = self.base.right.share, self.base.retries, self.forced[-1]
        weakest = min((each.share for each in forced.in_themselves if each.count >= ENOUGH), default=float("nan"))
        gain = forced.right.share - right
        return [
            Criterion(
                name="right", found=right, needed=f"{RIGHT[0]} to {RIGHT[1]}", holds=RIGHT[0] <= right <= RIGHT[1]
            ),
            Criterion(name="retries an answer", found=retries, needed=f"at most {RARE}", holds=retries <= RARE),
            Criterion(
                name="forced retries right in themselves",
                found=weakest,
                needed=f"at least {IN_THEMSELVES}",
                holds=weakest >= IN_THEMSELVES,
            ),
            Criterion(name="right by force, more", found=gain, needed=f"at least {PAY}", holds=gain >= PAY),
        ]

    @property
    def admitted(self) -> bool:
        """Tell whether every criterion holds."""
        return all(criterion.holds for criterion in self.criteria())

    def as_json(self) -> dict[str, Any]:
        """Write everything as plain values; the share of nothing is None."""
        criteria = [_plain(criterion) for criterion in self.criteria()]
        return {"admitted": self.admitted, "criteria": criteria, **_plain(self)}

    def __str__(self) -> str:
        lines = [
            f"{'holds' if each.holds else 'FAILS':6} {each.name:34} {each.found:.3f}, needed {each.needed}"
            for each in self.criteria()
        ]
        lines += ["", f"tokens that P(y) can know {self.known:.3f}"]
        for each in (self.base, *self.forced):
            lines += [
                "",
                f"bias of `?` {each.bias:g}: right {each.right}",
                f"    retries an answer {each.retries:.2f}, tokens {each.tokens:.1f}",
                *(
                    f"    right with {n} retries{'' if n < COUNTED else ' or more'} {share}"
                    for n, share in enumerate(each.right_by_retries)
                ),
                *(f"    retry {n} right in itself {share}" for n, share in enumerate(each.in_themselves, 1)),
            ]
        return "\n".join([*lines, "", *self.samples])


def measure_admission(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    *,
    problems: int = 1000,
    seed: int = 0,
    samples: int = 5,
) -> Admission:
    """Let a model answer held-out problems of a world, as it is and with retries forced.

    Args:
        model: a causal language model, on a CPU.
        tokenizer: its tokenizer, in which `?` is one token.
        world: where the problems come from.
        problems: how many, each answered once at temperature 1; the same for every bias.
        seed: of problems and answers.
        samples: how many of the base's answers are kept.
    """
    rng = random.Random(seed)
    drawn = [world.sample_problem(rng, held_out=True) for _ in range(problems)]
    plain = draw_answers(model, tokenizer, drawn, world.max_new_tokens, seed=seed)
    forced = [draw_answers(model, tokenizer, drawn, world.max_new_tokens, seed=seed, bias=bias) for bias in BIASES]
    return Admission(
        base=answering(world, plain, 0.0),
        forced=[answering(world, answers, bias) for answers, bias in zip(forced, BIASES, strict=True)],
        known=known_share(model, tokenizer, plain),
        samples=[f"{q}{text}" for q, text in zip(plain.questions[:samples], plain.texts, strict=False)],
    )


def _plain(record: Any) -> dict[str, Any]:
    """Write a record as plain values, NaN, which JSON does not have, as None."""
    return dataclasses.asdict(
        record, dict_factory=lambda pairs: {key: None if value != value else value for key, value in pairs}
    )


def answering(world: World, answers: Answers, bias: float) -> Answering:
    """Count what N answers were like; `bias` is what was added to the logit of `?` when they were drawn."""
    right = [world.is_right(text, truth) for text, truth in zip(answers.texts, answers.ground_truths, strict=True)]
    retries = [world.retries(question, text) for question, text in zip(answers.questions, answers.texts, strict=True)]
    by_number = [
        Share.of([is_right for is_right, each in zip(right, retries, strict=True) if min(len(each), COUNTED) == number])
        for number in range(COUNTED + 1)
    ]
    return Answering(
        bias=bias,
        right=Share.of(right),
        retries=statistics.fmean(map(len, retries)),
        tokens=float(answers.mask.sum()) / len(right),
        right_by_retries=by_number,
        in_themselves=[Share.of([each[n] for each in retries if len(each) > n]) for n in range(COUNTED)],
    )


@command
def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exits with 0 where the world is admitted, with 1 where it is not."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        world = load_world(folder_of(given.world or given.model))
        found = measure_admission(
            load_model(given.model),
            load_tokenizer(given.model),
            world,
            problems=given.problems,
            seed=given.seed,
            samples=given.samples,
        )
    except DSRLError as error:
        sys.exit(print_error(error))
    if given.json:
        print(json.dumps(found.as_json()))
    else:
        print(found)
    sys.exit(0 if found.admitted else 1)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m dsrl.worlds.admission",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", help="the name of an embedded model, or a folder")
    made.add_argument("--world", help="a model whose world it is to be measured in (the model itself)")
    made.add_argument("--problems", type=int, default=1000, help="held-out problems (%(default)s)")
    made.add_argument("--samples", type=int, default=5, help="answers to show (%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of problems and answers (%(default)s)")
    made.add_argument("--threads", type=int, default=1, help="the draws depend on it (%(default)s)")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


if __name__ == "__main__":
    main()
