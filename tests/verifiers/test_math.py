"""`math`: math-verify's verdicts, from processes that any text may crash, hang or explode."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.verifiers import Math

REAL_DATA = Path(__file__).parents[3] / "shared" / "data" / "math_train.parquet"
TOWER = r"\boxed{9^{9^{9^9}}}"


@pytest.fixture(scope="module")
def verifier() -> Iterator[Math]:
    """Impatient, so that what is built to hang costs a second."""
    verifier = Math(timeout=1.0, workers=2)
    yield verifier
    verifier.close()


@pytest.fixture(scope="module")
def patient() -> Iterator[Math]:
    """For what takes no time, except on a machine that is busy with something else."""
    verifier = Math(workers=1)
    yield verifier
    verifier.close()


@pytest.fixture
def reward(patient: Math, make_rollouts) -> Callable[[str, str], float]:
    return lambda response, truth: patient.score(make_rollouts([[response]], [truth])).item()


@pytest.mark.parametrize(
    ("response", "truth"),
    [
        (r"so the answer is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{0.5}", r"\frac{1}{2}"),
        (r"\boxed{\dfrac12}", "1/2"),
        (r"\boxed{x}", "$x$"),
        (r"\boxed{42.0}", "42"),
        (r"\boxed{42}", r"\boxed{42}"),
        (r"\boxed{\text{(A)}}", r"\text{(A)}"),
        (r"\boxed{A}", r"\text{(A)}"),
        (r"\boxed{33800}", "33,800"),
        (r"\boxed{5\text{ cm}}", "5"),
        (r"\boxed{(x+1)^2}", "x^2+2x+1"),
        (r"\boxed{[2\sqrt{2}, 4]}", r"[\sqrt{8},4]"),
        (r"\boxed{\{2, 1\}}", r"\{1,2\}"),
        (r"\boxed{6}, or rather \boxed{7} ", r"\{6,7\}"),
        (r"$x = 6$, then $x = 7$", "7"),
        ("first 6, and finally 7", "7"),
        (r"\boxed{7} is right, $8$ is not", "7"),
        (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\boxed{\begin{bmatrix}1 & 0.5\end{bmatrix}}", r"\begin{pmatrix}1 & \frac12\end{pmatrix}"),
        ("50%", "50"),
        (r"\boxed{50\%}", r"50\%"),
        (r"\boxed{3 \text{ hours}}", "3"),
        (r"\boxed{(-\infty, 0.5] \cup (3, \infty)}", r"(-\infty,\frac{1}{2}]\cup(3,\infty)"),
        (r"\boxed{x \in (1, 2)}", "(1,2)"),
        (r"\boxed{90^\circ}", "90"),
        (r"\boxed{1.5 \times 10^3}", "1500"),
        (r"\boxed{2\frac{1}{2}}", r"\frac{5}{2}"),
        (r"\boxed{]{}}", "]{}"),
        (f"{'x' * 50_000}\\boxed{{7}}", "7"),
        ("x = 1 " * 800_000, "1"),  # however long it is, its last expression is the truth
    ],
)
def test_right(reward, response: str, truth: str) -> None:
    assert reward(response, truth) == 1.0


@pytest.mark.parametrize(
    ("response", "truth"),
    [
        (r"\boxed{8}", "7"),
        (r"$7$, so \boxed{8}", "7"),
        ("", "7"),
        ("no idea", "7"),
        (r"\boxed{(1,2)}", "(2,1)"),
        (r"\boxed{[1,2)}", "[1,2]"),
        (r"\boxed{\{1,2,3\}}", r"\{1,2\}"),
        (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
        (r"\boxed{5\%}", r"50\%"),
        (r"\boxed{50\%}", "50"),  # as math-verify reads it
        (r"\boxed{y}", "$x$"),
        (r"\boxed{B}", r"\text{(A)}"),
        (rf"\boxed{{7}}{' ' * 10_000}", "7"),
    ],
)
def test_wrong(reward, response: str, truth: str) -> None:
    assert reward(response, truth) == 0.0


HOSTILE = {
    "tower of powers": TOWER,
    "factorial": r"\boxed{100000000!}",
    "factorials": r"\boxed{10000000!!!}",
    "sum": r"\boxed{\sum_{n=1}^{10^{100}} n!}",
    "fractions in fractions": "\\boxed{" + "\\frac{1}{" * 900 + "2" + "}" * 901,
    "100,000 braces": "{" * 100_000 + "}" * 100_000,
    "braces in a box": "\\boxed{" + "{" * 4_900 + "1" + "}" * 4_901,
    "100,000 boxes": "\\boxed{" * 100_000,
    "parentheses": "$" + "(" * 4_000 + "1" + ")" * 4_000 + "$",
    "dollars": "$" * 100_000,
    "digits": "\\boxed{" + "9" * 9_900 + "}",
    "five megabytes": "x = 1 " * 800_000,
    "NULs": "\0" * 100 + "\\boxed{\0}",
    "lone surrogates": "\\boxed{\ud800}\udfff",
    "the worker's own language": '\n["right", false]\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_scores_0_in_time(verifier: Math, make_rollouts, name: str) -> None:
    started = time.monotonic()
    assert verifier.score(make_rollouts([[HOSTILE[name]], [r"\boxed{3}"]], ["3", "3"])).tolist() == [[0], [1]]
    assert time.monotonic() - started < 20


def test_a_lost_answer_costs_itself_alone(verifier: Math, make_rollouts) -> None:
    texts = [[TOWER, r"\boxed{1}"], [r"\boxed{2}", HOSTILE["factorial"]], [r"\boxed{4}", r"\boxed{3}"]]
    assert verifier.score(make_rollouts(texts, ["1", "2", "3"])).tolist() == [[0, 1], [1, 0], [0, 1]]


LENIENCY = [
    (r"\boxed{y + 1}", "x + 1", 0, 1),
    (r"\boxed{a + b}", "x + y", 0, 1),
    (r"\boxed{(1,2,3)}", r"\{1,2,3\}", 1, 1),
    (r"\boxed{1 < x < 2}", "(1,2)", 0, 1),
    (r"\boxed{x + 2}", "x + 1", 0, 0),
    (r"\boxed{x + 1}", "x + 1", 1, 1),
]


def test_lenient_is_math_verifys_own(patient: Math, make_rollouts) -> None:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    reading = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    lenient = Math(workers=1, strict=False)
    rollouts = make_rollouts([[response] for response, *_ in LENIENCY], [truth for _, truth, *_ in LENIENCY])
    rewards = patient.score(rollouts).flatten().tolist(), lenient.score(rollouts).flatten().tolist()
    lenient.close()
    for row, (response, truth, *_) in enumerate(LENIENCY):
        gold, given = parse(f"\\boxed{{{truth}}}", reading), parse(response, reading)
        for strict, scored in zip((True, False), rewards, strict=True):
            assert scored[row] == verify(gold, given, strict=strict, allow_set_relation_comp=not strict)
    assert [*zip(*rewards, strict=True)] == [(strict, loose) for *_, strict, loose in LENIENCY]


def test_equal_pairs_are_checked_once(verifier: Math, make_rollouts) -> None:
    started = time.monotonic()
    assert verifier.score(make_rollouts([[TOWER] * 20], ["5"])).sum() == 0
    assert time.monotonic() - started < 20


def test_agrees_with_math_verify_alone(patient: Math, make_rollouts) -> None:
    if not REAL_DATA.exists():
        pytest.skip(f"needs {REAL_DATA}")
    parquet = pytest.importorskip("pyarrow.parquet")
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    rows = parquet.read_table(REAL_DATA).slice(100, 60).to_pylist()
    truths = [row["reward_model"]["ground_truth"] for row in rows]
    texts = []
    for truth, other in zip(truths, truths[1:] + truths[:1], strict=True):
        right, wrong = truth.replace(r"\frac", r"\dfrac "), other
        texts.append(
            [f"We see that $\\boxed{{{right}}}$.", f"\\boxed{{{wrong}}}", f"It is ${right}$", f"It is {wrong}"]
        )
    reading = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    alone = [
        [float(verify(parse(f"${truth}$", reading), parse(text, reading))) for text in group]
        for truth, group in zip(truths, texts, strict=True)
    ]
    assert patient.score(make_rollouts(texts, truths)).tolist() == alone
    assert 60 < sum(map(sum, alone)) < 180


def test_works_outside_the_main_thread(verifier: Math, make_rollouts) -> None:
    rewards = []
    rollouts = make_rollouts([[r"\boxed{3}", TOWER]], ["3"])
    thread = threading.Thread(target=lambda: rewards.append(verifier.score(rollouts).tolist()))
    thread.start()
    thread.join(20)
    assert rewards == [[[1, 0]]]


def test_the_answer_for_people() -> None:
    verifier = Math()
    assert verifier.extract_answer("x\n\\boxed{6}, \\boxed{ 7 }.") == "7"
    assert verifier.extract_answer("first\nso $x = 7$\n") == "so $x = 7$"
    assert verifier.extract_answer("") == ""


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"timeout": 0}, "timeout must be above 0"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"size": 1}, "size"),
    ],
)
def test_impossible_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("verifier", {"name": "math", **parameters})


def test_a_missing_ground_truth_is_refused(verifier: Math, make_rollouts) -> None:
    with pytest.raises(ConfigError, match="no ground truth"):
        verifier.score(make_rollouts([["1"]], [""]))
