"""Failures of verifiers: which of them stop a run, and that those of parts are heard of."""

from __future__ import annotations

import logging

import pytest

from dsrl.errors import DSRLError
from dsrl.registry import build
from dsrl.verifiers.failures import KEPT, RECENT, Failure, FailureLog
from dsrl.verifiers.verifier import failures_of
from dsrl.verifiers.workers.pool import Worker

RAISED = Failure(message="ValueError: a (f.py, line 1)", traceback="Traceback ...", response="x" * 300)
LOST = Failure(message="its process was lost", traceback="", response="y")


def test_one_bad_row_stops_no_run_that_has_gone_on_well_and_a_verifier_that_breaks_does():
    log = FailureLog("verifier mine", 0.5)
    log.add([None] * 100)
    for _ in range(4):
        log.add([RAISED] * 8)  # 32 of the last 64
    with pytest.raises(DSRLError, match=f"^verifier mine failed on 33 of the last {RECENT} responses: ValueError: a"):
        log.add([RAISED])
    with pytest.raises(DSRLError, match="failed on 101 of the last 200 responses"):  # a larger batch counts whole
        FailureLog("verifier mine", 0.5).add([RAISED] * 101 + [None] * 99)
    FailureLog("verifier mine", 1.0).add([RAISED] * 200)


def test_few_responses_decide_nothing_unless_it_raised_on_all_of_several_or_may_on_none():
    log = FailureLog("verifier mine", 0.5)
    log.add([RAISED])
    log.add([None])
    log.add([RAISED] * 61)  # 62 of 63
    with pytest.raises(DSRLError, match="failed on 63 of the last 64 responses"):
        log.add([RAISED])
    with pytest.raises(DSRLError, match="failed on each of 2 responses"):
        FailureLog("verifier mine", 0.5).add([RAISED] * 2)
    with pytest.raises(DSRLError, match="failed on 1 of the last 3 responses"):
        FailureLog("verifier mine", 0.0).add([RAISED, None, None])


def test_what_took_too_long_is_counted_apart_and_stops_nothing(caplog):
    log = FailureLog("verifier mine", 0.0)
    with caplog.at_level(logging.WARNING):
        log.add([LOST] * 30)
        log.add([LOST])
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        "verifier mine raised on 0 of 30 responses, and its process crashed or took too long on 30, which score 0; "
        "the first: its process was lost on the response 'y'"
    )
    taken = log.take()
    assert (taken.raised, taken.lost, len(taken.kept)) == (0, 31, KEPT)


def test_a_response_is_shown_shortened(caplog):
    FailureLog("verifier mine", 1.0).add([None, RAISED])
    assert caplog.records[0].getMessage().endswith(f"on the response '{'x' * 200}...'")


def test_what_a_handler_raises_comes_from_its_process(tmp_path):
    (tmp_path / "handler.py").write_text("def reply(request):\n    return 1 / request\n")
    worker = Worker(handler=tmp_path / "handler.py", timeout=5.0)
    answer = worker.answer(0)
    assert (
        answer.reply is None
        and answer.problem == f"ZeroDivisionError: division by zero ({tmp_path}/handler.py, line 2)"
    )
    assert "program.py" not in answer.traceback and "return 1 / request" in answer.traceback
    assert worker.ask(2) == 0.5 and worker.answer(2).problem == ""
    worker.stop()


def test_verifiers_that_are_made_of_others_pass_on_what_these_failed_on():
    inner = {"name": "function", "path": "a.py:f"}
    made = build("verifier", {"name": "composite", "components": {"one": inner, "exact": 1.0}})
    assert [found.verifier for found in failures_of(made)] == ["verifier function: a.py:f"]
    routed = build("verifier", {"name": "by_source", "sources": {"a": inner, "b": "math", "c": "exact"}})
    assert [found.verifier for found in failures_of(routed)] == ["verifier function: a.py:f", "verifier math"]
    assert failures_of(object()) == []
