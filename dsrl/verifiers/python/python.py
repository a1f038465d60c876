"""The verifier `python`: which code of a response is run, against which tests, for which reward."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dsrl.verifiers.python.fingerprint as fingerprint
from dsrl.errors import ConfigError, DSRLError
from dsrl.registry import register
from dsrl.types import Prompt
from dsrl.verifiers.ground_truth import column_of, ground_truth_of
from dsrl.verifiers.python.cases import Case, read_tests
from dsrl.verifiers.workers.pool import Worker
from dsrl.verifiers.workers.pooled_verifier import PooledVerifier

HANDLER = Path(__file__).with_name("python_handler.py")
FENCE = re.compile(  # a block, and the first word after the fence, its language: python title="a.py", {.python}
    r"^[ \t]*(`{3,}|~{3,})[ \t{.]*+(\w*+)[^\n`~]*+\n(.*?)^[ \t]*\1", re.DOTALL | re.MULTILINE
)
PYTHON = {"", "python", "python3", "py", "py3"}
MIB = 2**20
PROBE = "import decimal, os, sys\nprint(2 if os.access(sys.executable, os.X_OK) else 1)"
ENOUGH = 10.0  # seconds in which PROBE ends on any machine
HELP = (
    "It is made of Linux namespaces: run as root with CAP_SYS_ADMIN, or as a user who may make user namespaces "
    "(kernel 5.14 or newer; in a container, --cap-add SYS_ADMIN or a seccomp profile that allows unshare and mount)"
)
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}


@register("verifier", "python")
@dataclass(kw_only=True)
class Python(PooledVerifier):
    """Score 1 where the response's code passes all tests of its row, else 0; with `partial`, the share that it passes.

    The code is the last fenced block that is marked as Python or not marked at all; without one it is the whole
    response. The tests are the row's ground truth or the column that `tests` names, in any form that `read_tests`
    reads. Each test runs the code anew, in a sandbox (sandbox.py). Code that fails, or exceeds a limit, does not pass
    the test.

    A row without tests, or with tests in another form, is an error. So is a machine that cannot make the sandbox: the
    run ends before anything is loaded.
    """

    timeout: float = 10.0
    """Seconds that all tests of a response may take together, of wall time and of CPU time."""
    memory: int = 1024
    """MiB of address space for each process; at least 64."""
    file_size: int = 16
    """MiB that one file may have, and that all files in /tmp may have together."""
    processes: int = 4
    """Processes that may run at once, that of the code included. A thread counts as a process."""
    tests: str | None = None
    """The column of the row, or of its extra_info, that holds the tests; null: they are the ground truth."""
    prelude: str = "from typing import *"
    """Python code that runs before the response's code."""
    partial: bool = False
    """Whether a response that passes some of its tests scores their share, instead of 0."""

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
        """Return why no response could be right on this machine, if so: the sandbox, the prelude or the timeout."""
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
        except DSRLError as error:  # a worker does not start
            return [str(error)]
        return []

    def _fails(self) -> str | None:
        """Return why a program that prints 2 does not pass here, or None where it does."""
        worker = self.worker()
        try:
            reply = worker.ask(self._request(PROBE, [{"stdin": ""}]))
        finally:
            worker.stop()
        if not reply or "refused" in reply:
            return str(reply["refused"]) if reply else "its process was lost"
        if reply["outputs"] == [fingerprint.of_lines("2")]:
            return None
        if reply["outputs"] == [fingerprint.of_lines("1")]:
            return (
                f"its programs run as a user of their own, who may not reach Python's environment, {sys.prefix}, and "
                "could import nothing from it: let every user into each folder on the way (chmod o+rx), or move it"
            )
        return "a program that prints 2 fails in it (is Python's folder readable by all users?)"

    def worker(self) -> Worker:
        """Describe a worker that runs the code of each request in a sandbox."""
        return Worker(handler=HANDLER, timeout=self.timeout + 2.0, environment=ENVIRONMENT)

    def score_all(self, responses: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """Return a score from 0.0 to 1.0 for each of N responses.

        Raises ConfigError for a row without tests that can be read, and DSRLError where there can be no sandbox.
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
        """Return the code."""
        blocks = FENCE.findall(response.replace("\r\n", "\n"))
        codes = [code for _, language, code in blocks if language.lower() in PYTHON]
        code = str(codes[-1] if codes else response).strip("\n")
        return (
            textwrap.dedent(code) if code[:1].isspace() else code
        ).strip()  # in an item of a list the code is indented

    def _cases(self, prompt: Prompt) -> list[Case]:
        if self.tests is not None:
            given = column_of(prompt, self.tests)
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
