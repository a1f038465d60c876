"""The tests of a row, read from the forms that data sets of programming problems have."""

from __future__ import annotations

import ast
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dsrl.verifiers.python.fingerprint as fingerprint
from dsrl.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Hold one test: the request that python_handler.py runs, and the output or result that is expected of it."""

    request: Mapping[str, Any]
    expected: Any

    def passes(self, output: str | None) -> bool:
        """Say whether `output` is the fingerprint of what was expected; None is a failed run, and passes nothing."""
        if "call" not in self.request:
            return output == fingerprint.of_lines(self.expected)
        wrapped = (
            isinstance(self.expected, list) and len(self.expected) == 1
        )  # as in APPS, which wraps results in lists
        return output in [fingerprint.of_value(value) for value in (self.expected, *(self.expected if wrapped else ()))]


def read_tests(given: Any) -> list[Case]:
    """Read the tests of a row, in one of these forms, each as it is or as JSON in a string:

    - {"inputs": [...], "outputs": [...]}, as in APPS, TACO and verl: what a program reads, and what it should print.
      With "fn_name": the arguments of that function, and what it should return.
    - a list of {"input": ..., "output": ...}, perhaps with "fn_name", as in open-r1 and LiveCodeBench: the same.
    - Python code, or a list of it, as MBPP's test_list: statements that run after the answer's code.
    - {"test_cases": ...} or {"assert_case": ...} with one of these.

    Raises ConfigError for anything else, and where there are no tests.
    """
    found = _decoded(given)
    if isinstance(found, Mapping) and not found.get("inputs"):
        found = found.get("test_cases") or found.get("assert_case") or found
    if isinstance(found, Mapping) and isinstance(found.get("inputs"), list) and isinstance(found.get("outputs"), list):
        if len(found["inputs"]) != len(found["outputs"]):
            raise ConfigError(f"tests have {len(found['inputs'])} inputs and {len(found['outputs'])} outputs")
        pairs = zip(found["inputs"], found["outputs"], strict=True)
        cases = [_case(given, wanted, found.get("fn_name")) for given, wanted in pairs]
    elif isinstance(found, list) and all(
        isinstance(item, Mapping) and {"input", "output"} <= {*item} for item in found
    ):
        cases = [_case(item["input"], item["output"], item.get("fn_name")) for item in found]
    elif isinstance(found, list) and all(isinstance(item, str) for item in found):
        cases = [_statements(item) for item in found]
    elif isinstance(found, str) and found.strip():
        cases = [_statements(found)]
    else:
        raise ConfigError(
            "tests must be {inputs: [...], outputs: [...]}, a list of {input, output}, or Python code, "
            f"found {str(given)[:200]!r}"
        )
    if not cases:
        raise ConfigError("there are no tests")
    return cases


def _case(given: Any, wanted: Any, name: Any) -> Case:
    if not name:
        return Case(request={"stdin": _text(given)}, expected=_text(wanted))
    if not (isinstance(name, str) and name.isidentifier()):
        raise ConfigError(f"fn_name must be the name of a function, found {name!r}")
    if isinstance(given, str):  # LiveCodeBench: a line of JSON for each argument
        given = [_decoded(line) for line in given.splitlines() if line.strip()]
    arguments = list(given) if isinstance(given, Sequence) else [given]
    return Case(request={"call": name, "args": arguments}, expected=_as_json(_decoded(wanted)))


def _statements(code: str) -> Case:
    try:
        statements = ast.parse(code).body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"tests are not Python code ({error}): {code[:200]!r}") from error
    if not statements:
        raise ConfigError(f"a test without a statement, which every answer would pass: {code[:200]!r}")
    token = secrets.token_hex(8)
    return Case(request={"tests": code, "token": token}, expected=token)


def _text(value: Any) -> str:
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str | int | float) for line in lines):
        raise ConfigError(f"without fn_name inputs and outputs must be text or lists of lines, found {value!s:.200}")
    return "\n".join(map(str, lines))


def _as_json(value: Any) -> Any:
    """Return a value as a function's result arrives, which travels as JSON: a tuple becomes a list, a key text."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a result is compared as JSON, and {value!s:.200} is none ({error})") from error


def _decoded(value: Any) -> Any:
    """Decode JSON, or a Python literal, in a string; return anything else as it is."""
    if not isinstance(value, str):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value
