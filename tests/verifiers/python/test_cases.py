"""Tests of rows, in the forms that data sets have."""

from __future__ import annotations

import json

import pytest

from dsrl.errors import ConfigError
from dsrl.verifiers.python import fingerprint
from dsrl.verifiers.python.cases import read_tests


def read(given):
    return [
        ({key: value for key, value in case.request.items() if key != "token"}, case.expected)
        for case in read_tests(given)
    ]


PROGRAMS = [({"stdin": "1 2\n"}, "3\n"), ({"stdin": "5 5"}, "10")]
CALLS = [({"call": "add", "args": [1, 2]}, 3), ({"call": "add", "args": [[], []]}, [])]


@pytest.mark.parametrize(
    ("given", "cases"),
    [
        ({"inputs": ["1 2\n", "5 5"], "outputs": ["3\n", "10"]}, PROGRAMS),
        ({"inputs": [["a", "b"]], "outputs": [["c", "d"]]}, [({"stdin": "a\nb"}, "c\nd")]),
        ({"inputs": [[1, 2], [[], []]], "outputs": [3, []], "fn_name": "add"}, CALLS),
        ({"inputs": ["1\n2", "[]\n[]"], "outputs": ["3", "[]"], "fn_name": "add"}, CALLS),
        ([{"input": "1 2\n", "output": "3\n"}, {"input": "5 5", "output": "10", "type": "stdin_stdout"}], PROGRAMS),
        ({"language": "python", "test_cases": [{"input": "1 2\n", "output": "3\n"}]}, PROGRAMS[:1]),
        ([{"input": [1, 2], "output": 3, "fn_name": "add"}], CALLS[:1]),
        ({"inputs": ["1 2\n", "5 5"], "outputs": ["3\n", "10"], "fn_name": None, "assert_case": []}, PROGRAMS),
        ({"inputs": [[1]], "outputs": [{"a": None}], "fn_name": "f"}, [({"call": "f", "args": [1]}, {"a": None})]),
    ],
)
@pytest.mark.parametrize("form", [lambda given: given, json.dumps, str], ids=["as it is", "JSON", "repr"])
def test_inputs_and_outputs(given, cases, form) -> None:
    assert read(form(given)) == cases


ASSERTION = "assert add(1, 2) == 3"


@pytest.mark.parametrize(
    "given",
    [
        ASSERTION,
        [ASSERTION],
        json.dumps([ASSERTION]),
        {"assert_case": [ASSERTION]},
        json.dumps({"assert_case": ASSERTION, "entry_point": "add"}),
        {"inputs": [], "outputs": [], "fn_name": "add", "assert_case": [ASSERTION]},
    ],
)
def test_statements_leave_a_token_that_cannot_be_guessed(given) -> None:
    (case,), (again,) = read_tests(given), read_tests(given)
    assert case.request["tests"] == ASSERTION
    assert case.passes(fingerprint.of_lines(case.request["token"])) and not case.passes("") and not case.passes(None)
    assert case.request["token"] != again.request["token"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("5", "tests must be .* found '5'"),
        ("", "tests must be"),
        ([], "tests must be|there are no tests"),
        ({"inputs": [], "outputs": []}, "there are no tests"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ([1, 2], "tests must be"),
        ({"inputs": ["1"]}, "tests must be"),
        ("assert add(1, 2 == 3", "tests are not Python code"),
        (["assert True", "# none"], "a test without a statement, which every answer would pass: '# none'"),
        ([""], "a test without a statement"),
        ({"inputs": ["1"], "outputs": [None]}, "without fn_name inputs and outputs must be text or lists of lines"),
        ({"inputs": [{"a": 1}], "outputs": ["1"]}, "without fn_name .* found {'a': 1}"),
        ({"inputs": [[1]], "outputs": [1], "fn_name": 5}, "fn_name must be the name of a function, found 5"),
        (
            {"inputs": [[1]], "outputs": [1], "fn_name": "Solution().f"},
            "must be the name of a function, found 'Solution",
        ),
        ({"inputs": [[1]], "outputs": ["{1, 2}"], "fn_name": "f"}, "a result is compared as JSON, and {1, 2} is none"),
        ({"test_cases": [1]}, "tests must be"),
        (None, "tests must be"),
    ],
)
def test_what_cannot_be_read(given, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tests(given)


@pytest.mark.parametrize(
    ("expected", "output", "passes"),
    [
        ("1\n2\n", "1\n2", True),
        ("1\n2", "1  \n2\n\n", True),
        ("1\n2", "1 2", False),
        ("1", "1.0", False),
        ("", "", True),
        ("", "1", False),
        ("\n1", "1", False),
        ("1\n2", "1\r\n2\t\x0c", True),
    ],
)
def test_output_is_compared_line_by_line_without_trailing_space(expected: str, output: str, passes: bool) -> None:
    (case,) = read_tests({"inputs": [""], "outputs": [expected]})
    assert case.passes(fingerprint.of_lines(output)) == passes
    assert not case.passes(None)


@pytest.mark.parametrize(
    ("expected", "output", "passes"),
    [
        (3, "3", True),
        ([3], "3", True),  # APPS wraps results in a list
        ([3], "[3]", True),
        (3, "[3]", False),
        (None, "null", True),
        ({"a": [1]}, '{"a": [1]}', True),
        ("x", '"x"', True),
        ("(1, 2)", "[1, 2]", True),
        ("{1: 'a'}", '{"1": "a"}', True),
        ({"a": 1, "b": 2}, '{"b": 2.0, "a": true}', True),
        (3, '"3"', False),
        (0.5, "0.25", False),
    ],
)
def test_results_are_compared_as_json(expected, output: str, passes: bool) -> None:
    (case,) = read_tests([{"input": [], "output": expected, "fn_name": "f"}])
    assert case.passes(fingerprint.of_value(json.loads(output))) == passes
    assert not case.passes(None)
