"""Measure how fast `verifier=math` scores answers of five kinds, and compare it with math-verify alone in one process.

    python benchmarks/verifier_throughput.py math_train.parquet
    python benchmarks/verifier_throughput.py math_train.parquet --answers 200 --workers 2

From the ground truths of a file in verl's schema it makes equal parts of right answers, right answers in another
format, wrong answers (those of another row), malformed answers, and hostile answers, which are built to hang or crash
what reads them. The verifier scores all of them. math-verify alone, in the main thread of this process and with its own
time limit, scores those that are not hostile. The table says how often both agree, and the last lines how long each
took. Hostile answers that are rewarded are shown, since some end in a number that may be the ground truth.
"""

from __future__ import annotations

import argparse
import random
import time

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from rich.console import Console
from rich.table import Table

from dsrl.data.questions import Questions
from dsrl.verifiers import Math, score_texts
from dsrl.verifiers.contract import children

KINDS = ("right", "reformatted", "wrong", "malformed", "hostile")
HOSTILE = (
    r"\boxed{{9^{{9^{{9^{{{n}}}}}}}}}",
    r"\boxed{{{n}00000000!}}",
    r"\boxed{{\sum_{{k=1}}^{{10^{{{n}0}}}} k!}}",
    "\\boxed{{{n}" + "\\frac{{1}}{{" * 900 + "2" + "}}" * 901,
    "{n}" + "{{" * 50_000 + "}}" * 50_000,
    "\\boxed{{" * 50_000 + "{n}",
    "$" + "(" * 3_000 + "{n}" + ")" * 3_000 + "$",
    "{n}" + "x = 1 " * 500_000,
    "\\boxed{{{n}" + "9" * 9_000 + "}}",
    "\\boxed{{\ud800{n}}}\0",
)
READING = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="parquet or JSON lines with mathematical ground truths")
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--workers", type=int, help="worker processes; by default one for each core, at most 8")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds that the check of an answer may take")
    arguments = parser.parse_args()
    answers = make_answers(arguments.file, arguments.answers)
    report(answers, arguments.workers, arguments.timeout)


def make_answers(file: str, count: int) -> list[tuple[str, str, str]]:
    """Make answers (kind, response, ground truth), in random order."""
    rng, rows = random.Random(0), Questions(train=file).train_rows()
    answers = []
    for number in range(count):
        kind, row = KINDS[number % len(KINDS)], rows[rng.randrange(len(rows))]
        other = rows[rng.randrange(len(rows))].ground_truth
        response = {
            "right": f"We compute. So the answer is $\\boxed{{{row.ground_truth}}}$.",
            "reformatted": reformatted(row.ground_truth, number),
            "wrong": f"Clearly it is $\\boxed{{{other}}}$.",
            "malformed": malformed(row.ground_truth, number),
            "hostile": HOSTILE[number // len(KINDS) % len(HOSTILE)].format(n=number),
        }[kind]
        answers.append((kind, response, row.ground_truth))
    rng.shuffle(answers)
    return answers


def reformatted(truth: str, number: int) -> str:
    """Write the same value in another format."""
    return (
        f"\\boxed{{{truth.replace(chr(92) + 'frac', chr(92) + 'dfrac')}}}",
        f"The final answer is ${truth}$",
        f"\\boxed{{ x = {truth} }}",
        f"first $1$, then \\boxed{{\\left({truth}\\right)}}",
        f"\\[ {truth} \\]",
    )[number % 5]


def malformed(truth: str, number: int) -> str:
    """Write an answer as a model does that makes mistakes in the format."""
    return (
        f"\\boxed{{{truth}",
        f"\\boxed {truth}}}",
        "",
        f"\\boxed{{\\frac{{{truth}}}}}",
        f"the answer is {truth[::-1]} \\boxed{{}}",
    )[number % 5]


def timed(answers: list[tuple[str, str, str]], workers: int | None, timeout: float) -> tuple[float, list[float]]:
    """Score all answers with warm workers; return the seconds that it took, and the rewards."""
    verifier = Math(workers=workers, timeout=timeout)
    score_texts(verifier, [str(number) for number in range(16)], ground_truths=["-1"] * 16)
    responses, truths = [response for _, response, _ in answers], [truth for _, _, truth in answers]
    start = time.perf_counter()
    rewards = score_texts(verifier, responses, ground_truths=truths)
    seconds = time.perf_counter() - start
    verifier.close()
    return seconds, rewards


def alone(response: str, truth: str) -> float:
    """Return math-verify's own verdict."""
    try:
        return float(verify(parse(f"\\boxed{{{truth}}}", READING), parse(response, READING)))
    except Exception:
        return 0.0


def report(answers: list[tuple[str, str, str]], workers: int | None, timeout: float) -> None:
    before = children()
    seconds, rewards = timed(answers, workers, timeout)
    harmless = [number for number, (kind, _, _) in enumerate(answers) if kind != "hostile"]
    tame = [answers[number] for number in harmless]
    parallel, _ = timed(tame, workers, timeout)
    single, _ = timed(tame, 1, timeout)
    start = time.perf_counter()
    verdicts = [alone(response, truth) for _, response, truth in tame]
    by_hand = time.perf_counter() - start
    table = Table("kind", "answers", "rewarded", "same as math-verify alone")
    for kind in KINDS:
        mine = [reward for (name, _, _), reward in zip(answers, rewards, strict=True) if name == kind]
        pairs = [(rewards[n], v) for n, v in zip(harmless, verdicts, strict=True) if answers[n][0] == kind]
        same = f"{sum(a == b for a, b in pairs)} of {len(pairs)}" if pairs else "not run alone"
        table.add_row(kind, str(len(mine)), f"{sum(mine):.0f}", same)
    console = Console()
    console.print(table)
    for (kind, response, truth), reward in zip(answers, rewards, strict=True):
        if kind == "hostile" and reward:
            shown = f"{response[:40]!r}...{response[-40:]!r}"
            console.print(f"hostile, rewarded: {shown} ({len(response)} characters) for {truth!r}", markup=False)
    for number, verdict in zip(harmless, verdicts, strict=True):
        if rewards[number] != verdict:
            _, response, truth = answers[number]
            console.print(
                f"differs: {response!r} for {truth!r}: {rewards[number]:.0f}, alone {verdict:.0f}", markup=False
            )
    console.print(
        f"all {len(answers)}: {seconds:.1f} s\nthe {len(tame)} that are not hostile: {parallel:.1f} s, with one worker "
        f"{single:.1f} s (ratio {single / parallel:.2f}), math-verify alone in one process {by_hand:.1f} s "
        f"(ratio {by_hand / parallel:.2f})\nprocesses left: {len(children() - before)}"
    )


if __name__ == "__main__":
    main()
