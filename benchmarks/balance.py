"""How even the work of ranks is, before and after rows are dealt out, on simulated ranks.

    python benchmarks/balance.py

128 prompts x 8 responses whose lengths are log-normal, at most 8,192 tokens, as in long reasoning. GRPO scores all of
them behind their prompts; NSR-PreRL the wrong ones of mixed groups, behind a start token. `padding` is the tokens that
are computed for each token that is read, `slowest` what ranks take the time of that wait for each other in every
micro-batch. `own` is without dealing: a rank scores what it sampled. No rank can have less than the longest row, which
is the bound.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics

from rich.console import Console
from rich.table import Table

from dsrl.loop.balance import Row, Work, deal, work_of

PROMPTS, RESPONSES, LONGEST = 128, 8, 8192


def sampled(seed: int, objective: str) -> list[list[int]]:
    """Tokens of the rows of each prompt."""
    draws = random.Random(seed)
    found = []
    for _ in range(PROMPTS):
        mean, prompt = draws.gauss(6.9, 0.5), min(1024, int(draws.lognormvariate(5.0, 0.5))) + 60
        responses = [min(LONGEST, max(8, int(math.exp(draws.gauss(mean, 0.6))))) for _ in range(RESPONSES)]
        if objective == "nsr_prerl":
            right = draws.betavariate(1.2, 0.6)
            wrong = [length for length in responses if draws.random() > right]
            responses, prompt = wrong if len(wrong) < RESPONSES else [], 1
        found.append([prompt + length for length in responses])
    return found


def undealt(prompts: list[list[int]], ranks: int, tokens: int) -> Work:
    """Each rank cuts the rows of its own prompts, longest first."""
    rows = [[Row(size, float(size)) for group in prompts[rank::ranks] for size in group] for rank in range(ranks)]
    everything = [row for own in rows for row in own]
    first, dealt = 0, []
    for own in rows:
        (batches,) = deal(own, ranks=1, tokens=tokens, padded=True)
        dealt.append([[first + number for number in batch] for batch in batches])
        first += len(own)
    rounds = max(map(len, dealt))
    return work_of(everything, [batches + [[]] * (rounds - len(batches)) for batches in dealt], padded=True)


def main() -> None:
    """Print a row for each number of ranks and objective."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 64, 1024])
    parser.add_argument("--tokens", type=int, default=32_768, help="in a micro-batch")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    table = Table(
        "ranks", "objective", "own: padding", "slowest", "padded: padding", "slowest", "packed: slowest", "bound"
    )
    for ranks in arguments.ranks:
        for objective in ("grpo", "nsr_prerl"):
            found: list[list[float]] = []
            for seed in range(arguments.seeds):
                prompts = sampled(seed, objective)
                rows = [Row(size, float(size)) for group in prompts for size in group]
                ways = [undealt(prompts, ranks, arguments.tokens)]
                for padded in (True, False):
                    dealt = deal(rows, ranks=ranks, tokens=arguments.tokens, padded=padded)
                    ways.append(work_of(rows, dealt, padded=padded))
                own, padded_rows, packed = ways
                bound = max(1.0, max(row.tokens for row in rows) * ranks / own.real)
                figures = (own.computed, own.slowest, padded_rows.computed, padded_rows.slowest, packed.slowest)
                found.append([*(tokens / own.real for tokens in figures), bound])
            table.add_row(
                str(ranks), objective, *(f"{statistics.mean(column):.2f}" for column in zip(*found, strict=True))
            )
    Console().print(table)


if __name__ == "__main__":
    main()
