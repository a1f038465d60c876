"""`python`: which code is run, against which tests, for which reward."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from dsrl.data.questions import Questions
from dsrl.errors import ConfigError
from dsrl.registry import build
from dsrl.types import Prompt
from dsrl.verifiers import Python
from dsrl.verifiers.contract import Bench

ADD = "def add(a, b): return a + b"
PROGRAM = "a, b = map(int, input().split())\nprint(a + b)"
SUMS = json.dumps({"inputs": ["1 2", "20 30"], "outputs": ["3", "50"]})
CALLS = json.dumps({"inputs": [[1, 2], ["a", "b"]], "outputs": [3, "ab"], "fn_name": "add"})


@pytest.fixture(scope="module")
def verifier() -> Iterator[Python]:
    verifier = Python(timeout=5.0, workers=2)
    if problems := verifier.check():
        pytest.skip(problems[0])
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("```py\nx = 1\n```\nor better\n```Python\nx = 2\n```", "x = 2"),
        ("```python\nx = 1", "```python\nx = 1"),
        ("x = 1\n", "x = 1"),
        ("1. So\n   ```python\nx = 1\n   ```", "x = 1"),
        ("```python\n```", ""),
        ("```python\r\nx = 1\r\ny = 2\r\n```\r\nDone.", "x = 1\ny = 2"),
        ('```python title="a.py"\nx = 1\n```', "x = 1"),
        ("```{python}\nx = 1\n```", "x = 1"),
        ("~~~python\nx = '```'\n~~~", "x = '```'"),
        ("````python\nx = 1\n```\n````", "x = 1\n```"),
        ("1. So\n   ```python\n   if x:\n       y = 1\n   ```", "if x:\n    y = 1"),
        ("```python\nx = 1\n```\nprints\n```text\n3\n```\nand\n```cpp\ny\n```", "x = 1"),
        ("```text\n3\n```\nfrom\n```python\nx = 1\n```", "x = 1"),
        ("```" + " " * 100_000 + "`", "```" + " " * 100_000 + "`"),
    ],
)
def test_the_code_is_the_last_fenced_block_else_everything(response: str, code: str) -> None:
    assert Python().extract_answer(response) == code


@pytest.mark.parametrize(
    ("code", "tests", "reward"),
    [
        (PROGRAM, SUMS, 1),
        ("print(3)", SUMS, 0),
        ("if __name__ == '__main__':\n    " + PROGRAM.replace("\n", "\n    "), SUMS, 1),
        (f"import sys\n{PROGRAM}\nsys.exit(0)", SUMS, 1),
        (f"import sys\n{PROGRAM}\nsys.exit(1)", SUMS, 0),
        (f"{PROGRAM}\n1 / 0", SUMS, 0),
        (ADD, CALLS, 1),
        ("class Solution:\n    def add(self, a: List[int], b): return a + b", CALLS, 1),
        ("def add(a, b): print('debug'); return a + b", CALLS, 1),
        ("def plus(a, b): return a + b", CALLS, 0),
        ("def add(a, b): return {a, b}", CALLS, 0),
        (ADD, "assert add(1, 2) == 3\nassert add([], []) == []", 1),
        (ADD, "assert add(1, 2) == 4", 0),
        ("from __future__ import annotations\n" + ADD, "assert add(1, 2) == 3", 1),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 3", "assert P().x == 3", 1),
        ("def f(x: int): pass", "assert f.__annotations__ == {'x': int}", 1),
        ("import sys; sys.exit(0)", "assert False", 0),
        ("import os; os._exit(0)", "assert False", 0),
        ("def add(a, b: return", "assert True", 0),
        ("x = '\0'", "assert True", 0),
        ("x = '\ud800'", "assert True", 0),
    ],
)
def test_rewards(verifier: Python, make_rollouts, code: str, tests: str, reward: float) -> None:
    assert verifier.score(make_rollouts([[f"```python\n{code}\n```"]], [tests])).item() == reward


READS_FAST = """
import os, sys
from io import BytesIO, IOBase
class Fast(IOBase):
    def __init__(self, file):
        self.number, self.buffer, self.write = file.fileno(), BytesIO(), None
        if "r" not in file.mode:
            self.write = lambda text: self.buffer.write(text.encode())
    def readline(self):
        return os.read(self.number, 1 << 16).decode()
    def flush(self):
        if self.write:
            os.write(self.number, self.buffer.getvalue())
            self.buffer.truncate(0), self.buffer.seek(0)
sys.stdin, sys.stdout = Fast(sys.stdin), Fast(sys.stdout)
print(int(sys.stdin.readline()) * 2)
"""
DOUBLE = "print(int(input()) * 2)"


@pytest.mark.parametrize(
    "code",
    [
        f"import sys\nsys.stdout = open(1, 'w')\n{DOUBLE}",
        f"import sys\nsys.stdin = open(0)\n{DOUBLE}",
        f"import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\n{DOUBLE}",
        f"import sys, io\nsys.stdout = io.StringIO()\nprint('debug')\nsys.stdout = sys.__stdout__\n{DOUBLE}",
        f"import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf8')\n{DOUBLE}",
        READS_FAST,
        f"import threading, time\ndef main(): time.sleep(0.1); {DOUBLE}\nthreading.Thread(target=main).start()",
        "import atexit, sys\natexit.register(lambda: sys.stdout.write(str(int(input()) * 2)))",
        "w = open(1, 'w')\nw.write(str(int(input()) * 2))",
        "class Ring: pass\nr = Ring()\nr.r, r.w = r, open(1, 'w')\nr.w.write(str(int(input()) * 2))",
        f"import sys\n{DOUBLE}\nsys.stdout.close()",
        f"import sys\n{DOUBLE}\nsys.stdout = None\nsys.exit()",
        "import os\nprint(int(input()) * 2, flush=True)\nos._exit(0)",
    ],
)
def test_a_program_begins_and_ends_as_in_python(verifier: Python, make_rollouts, code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], input="21", capture_output=True, text=True)
    assert done.stdout.strip() == "42"
    tests = json.dumps({"inputs": ["21", "4"], "outputs": ["42", "8"]})
    assert verifier.score(make_rollouts([[code]], [tests])).item() == 1


def test_an_end_that_takes_too_long_is_a_failure(make_rollouts) -> None:
    verifier = Python(timeout=1.0, workers=1)
    if problems := verifier.check():
        pytest.skip(problems[0])
    waits = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint(3)"
    crashes = "import atexit, os\natexit.register(os.abort)\nprint(3)"
    tests = json.dumps({"inputs": [""], "outputs": ["3"]})
    assert verifier.score(make_rollouts([[waits, crashes, "print(3)"]], [tests])).tolist() == [[0, 0, 1]]
    verifier.close()


def test_long_outputs_are_bounded_by_file_size_and_cost_little(verifier: Python, make_rollouts) -> None:
    tests = {"inputs": ["1500000"] * 20, "outputs": ["\x01" * 1_500_000] * 20}
    started = time.monotonic()
    code = "print(chr(1) * int(input()))"
    assert verifier.score(make_rollouts([[code]], [json.dumps(tests)])).item() == 1
    assert time.monotonic() - started < 15
    too_long = json.dumps({"inputs": [""], "outputs": ["x" * (17 << 20)]})
    assert verifier.score(make_rollouts([["print('x' * (17 << 20))"]], [too_long])).item() == 0


def test_a_result_too_deep_to_be_read_is_a_failure(verifier: Python, make_rollouts) -> None:
    code = "import os\ndef add(a, b):\n    os.write(3, b'[' * 100_000)\n    os._exit(0)"
    assert verifier.score(make_rollouts([[code]], [CALLS])).item() == 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prelude": "import nosuch"}, "prelude must be code that runs .* this one does not: 'import nosuch'"),
        ({"prelude": "("}, "prelude must be code that runs .* this one does not: '\\('"),
        ({"timeout": 1e-6}, "timeout=1e-06 is too short here for prelude and a program that prints 2"),
    ],
)
def test_what_makes_every_answer_wrong_is_named(verifier: Python, parameters: dict[str, object], message: str) -> None:
    (problem,) = build("verifier", {"name": "python", **parameters}).check()
    assert re.search(message, problem)
    assert "sandbox cannot be had" not in problem


def test_partial_is_the_share_of_tests_that_pass(make_rollouts) -> None:
    verifier = Python(partial=True, workers=1)
    if problems := verifier.check():
        pytest.skip(problems[0])
    assert verifier.score(make_rollouts([[PROGRAM, "print(3)", "print(4)"]], [SUMS])).tolist() == [[1, 0.5, 0]]
    verifier.close()


def test_the_expected_output_never_meets_the_code(verifier: Python, make_rollouts) -> None:
    looks = "import gc\nprint(next((t for t in map(str, gc.get_objects()) if '73519' + '42' in t), ''))"
    tests = json.dumps({"inputs": [""], "outputs": ["7351942"]})
    assert verifier.score(make_rollouts([[looks]], [tests])).item() == 0


def test_time_is_for_all_tests_of_an_answer(make_rollouts) -> None:
    verifier = Python(timeout=1.0, workers=1, partial=True)
    if problems := verifier.check():
        pytest.skip(problems[0])
    tests = json.dumps({"inputs": ["0", "60", "0"], "outputs": ["", "", ""]})
    assert verifier.score(make_rollouts([["import time\ntime.sleep(int(input()))"]], [tests])).item() == pytest.approx(
        1 / 3
    )
    verifier.close()


def test_tests_may_be_in_a_column(make_rollouts) -> None:
    verifier = Python(tests="test_list", workers=1)
    if problems := verifier.check():
        pytest.skip(problems[0])
    rollouts = make_rollouts([[ADD], [ADD]], ["", ""])
    extras = ({"test_list": ["assert add(1, 1) == 2"]}, {"extra_info": {"test_list": ["assert add(1, 1) == 3"]}})
    rollouts.prompts = [dataclasses.replace(p, extra=extra) for p, extra in zip(rollouts.prompts, extras, strict=True)]
    assert verifier.score(rollouts).tolist() == [[1], [0]]
    with pytest.raises(ConfigError, match="'set' has no column 'test_list'; it has none"):
        verifier.score(make_rollouts([[ADD]], ["x"]))
    verifier.close()


FORMS = {
    "programs": (PROGRAM, {"inputs": ["1 2\n", "20 30\n"], "outputs": ["3\n", "50\n"]}),
    "programs, with the fields of calls": (PROGRAM, {"inputs": ["1 2"], "outputs": ["3"], "fn_name": None}),
    "calls, an argument a line": (ADD, {"inputs": ["1\n2", "[1]\n[2]"], "outputs": ["3", "[1, 2]"], "fn_name": "add"}),
    "calls, arguments in lists": (ADD, {"inputs": [[2, 2]], "outputs": [[4]], "fn_name": "add"}),
    "assertions": (ADD, ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"]),
}


@pytest.mark.parametrize("form", ["JSON", "as it is", "a column"])
@pytest.mark.parametrize("name", FORMS)
def test_a_file_in_verls_schema(verifier: Python, tmp_path: Path, name: str, form: str) -> None:
    """From the file to the reward: the tests as the ground truth, in JSON or in parquet's own types, or in a column."""
    right, tests = FORMS[name]
    truth = {"JSON": json.dumps(tests), "as it is": tests, "a column": "unused"}[form]
    record = {
        "data_source": "taco",
        "prompt": [{"role": "user", "content": "Add."}],
        "reward_model": {"style": "rule", "ground_truth": truth},
        "tests": tests,
    }
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "code.parquet")
    (row,) = Questions(train=str(tmp_path / "code.parquet")).train_rows()
    fields = {
        "ground_truth": row.ground_truth,
        "structured_ground_truth": row.structured_ground_truth,
        "extra": row.extra,
    }
    bench = Bench(
        verifier=dataclasses.replace(verifier, tests="tests", workers=1) if form == "a column" else verifier,
        prompt=Prompt(position=0, text="Add.", token_ids=(1,), **fields),
        right=f"```python\n{right}\n```",
        wrong="```python\ndef add(a, b): return 3\nprint(4)\n```",
    )
    assert bench.rewards([bench.right, bench.wrong]) == [[1, 0]]
    if form == "a column":
        bench.verifier.close()


def test_tests_that_cannot_be_read_are_the_users_error(verifier: Python, make_rollouts) -> None:
    with pytest.raises(ConfigError, match="tests must be .* The question begins 'question 0'"):
        verifier.score(make_rollouts([["x"]], ["42"]))
    with pytest.raises(ConfigError, match="no ground truth"):
        verifier.score(make_rollouts([["x"]], [""]))
    rollouts = make_rollouts([["x"]], ["neither"])
    rollouts.prompts = [dataclasses.replace(rollouts.prompts[0], structured_ground_truth={"target": 24})]
    with pytest.raises(ConfigError, match="tests must be .* found \"{'target': 24}\". The question begins"):
        verifier.score(rollouts)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"memory": 1}, "memory must be at least 64, not 1"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"file_size": 0}, "file_size must be at least 1"),
        ({"timeout": -1}, "timeout must be above 0"),
    ],
)
def test_impossible_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("verifier", {"name": "python", **parameters})


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, whose programs run as somebody else")
def test_an_environment_that_is_closed_to_others_is_named(tmp_path, monkeypatch) -> None:
    """Its programs could import no package, and right ones would score 0."""
    if problems := Python().check():
        pytest.skip(problems[0])
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python").symlink_to(os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "executable", str(closed / "python"))
    assert "may not reach Python's environment" in Python().check()[0]
