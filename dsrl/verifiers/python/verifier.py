"""The code of an answer, run against its row's tests where it can do no harm."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsrl.errors import ConfigError, DSRLError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.pooled import PooledVerifier
from dsrl.verifiers.python import fingerprint
from dsrl.verifiers.python.cases import Case, read_tests
from dsrl.verifiers.verifier import column, ground_truth_of
from dsrl.verifiers.worker_pool import Worker

PROGRAM = Path(__file__).with_name("worker.py")
FENCE = re.compile(  # a block of any language, told by the first word: python title="a.py", {.python}
    r"^[ \t]*(`{3,}|~{3,})[ \t{.]*+(\w*+)[^\n`~]*+\n(.*?)^[ \t]*\1", re.DOTALL | re.MULTILINE
)
PYTHON = {"", "python", "python3", "py", "py3"}
MIB = 2**20
PROBE = "import decimal\nprint(2)"
ENOUGH = 10.0  # seconds for it on any machine
HELP = (
    "It is made of Linux namespaces: run as root with CAP_SYS_ADMIN, or as a user who may make user namespaces "
    "(kernel 5.14 or newer; in a container, --cap-add SYS_ADMIN or a seccomp profile that allows unshare and mount)"
)
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}


@register("verifier", "python")
@dataclass(kw_only=True)
class Python(PooledVerifier):
    """1 where the answer's code passes all of its row's tests, else 0; with `partial`, the share that it passes.

    The code is the last fenced block of the response, else all of it. `tests` names the row's column that holds the
    tests, in any form of `read_tests`; null: the ground truth. `prelude` is code that runs before the answer's.

    All tests of an answer have `timeout` seconds together, of wall time and of CPU time. memory, file_size: MiB, a
    process and a file (and all files together); processes: at once, that of the answer included, and each thread is
    one. See sandbox.py.
    """

    timeout: float = 10.0
    memory: int = 1024
    file_size: int = 16
    processes: int = 4
    tests: str | None = None
    prelude: str = "from typing import *"
    partial: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, least in (
            ("memory", self.memory, 64),
            ("file_size", self.file_size, 1),
            ("processes", self.processes, 1),
        ):
            if value < least:
                raise ConfigError(f"verifier python: {name} must be at least {least}, not {value}")
        if not sys.platform.startswith("linux"):
            raise ConfigError("verifier python needs Linux, whose namespaces its sandbox is made of")

    def check(self) -> list[str]:
        """Why no answer could be right on this machine, if so: the sandbox, the prelude or the time."""
        alone = replace(self, prelude="", timeout=max(self.timeout, ENOUGH))
        try:
            if why := alone._fails():
                return [f"verifier python: the sandbox cannot be had here: {why}. {HELP}"]
            if replace(alone, prelude=self.prelude)._fails():
                return [
                    "verifier python: prelude must be code that runs alone in the sandbox and prints nothing; "
                    f"this one does not: {self.prelude!r}"
                ]
            if self._fails():
                return [
                    f"verifier python: timeout={self.timeout} is too short here for prelude and a program that prints 2"
                ]
        except DSRLError as error:  # of a process that does not start
            return [str(error)]
        return []

    def _fails(self) -> str | None:
        """Why a program that prints 2 is not right, if so."""
        worker = self.worker()
        try:
            reply = worker.ask(self._request(PROBE, [{"stdin": ""}]))
        finally:
            worker.stop()
        if not reply or "refused" in reply:
            return str(reply["refused"]) if reply else "its process was lost"
        if reply["outputs"] == [fingerprint.of_lines("2")]:
            return None
        return "a program that prints 2 fails in it (is Python's folder readable by all users?)"

    def worker(self) -> Worker:
        """One that locks a process up for each request."""
        return Worker(file=PROGRAM, timeout=self.timeout + 2.0, environment=ENVIRONMENT)

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """From 0.0 to 1.0 for each of N responses.

        Raises ConfigError for a row without tests that can be read, DSRLError where the sandbox cannot be had.
        """
        cases = [self._cases(prompt) for prompt in prompts]
        requests = [
            self._request(self.extract_answer(response), [dict(case.request) for case in tests])
            for response, tests in zip(responses, cases, strict=True)
        ]
        scores = []
        for reply, tests in zip(self.ask_all(requests), cases, strict=True):
            if reply and "refused" in reply:
                raise DSRLError(f"verifier python: the sandbox cannot be had: {reply['refused']}. {HELP}")
            outputs = (reply and reply["outputs"]) or [None] * len(tests)
            passed = sum(case.passes(output) for case, output in zip(tests, outputs, strict=True))
            scores.append(passed / len(tests) if self.partial else float(passed == len(tests)))
        return scores

    def extract_answer(self, response: str) -> str:
        """The code."""
        blocks = FENCE.findall(response.replace("\r\n", "\n"))
        codes = [code for _, language, code in blocks if language.lower() in PYTHON]
        code = str(codes[-1] if codes else response).strip("\n")
        return (textwrap.dedent(code) if code[:1].isspace() else code).strip()  # of a list's item it is indented

    def _cases(self, prompt: Prompt) -> list[Case]:
        if self.tests is not None:
            given = column(prompt, self.tests)
        else:
            given = (
                ground_truth_of(prompt) if prompt.structured_ground_truth is None else prompt.structured_ground_truth
            )
        try:
            return read_tests(given)
        except ConfigError as error:
            raise ConfigError(f"{error}. The question begins {prompt.text[:80]!r}") from error

    def _request(self, code: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        limits = {
            "memory": self.memory * MIB,
            "cpu": self.timeout,
            "file_size": self.file_size * MIB,
            "processes": self.processes,
        }
        return {"code": code, "prelude": self.prelude, "cases": cases, "seconds": self.timeout, "limits": limits}
