"""Seconds of blocks, against a clock that the test sets."""

import pytest

from dsrl.loop.stopwatch import Stopwatch


@pytest.fixture
def now(monkeypatch):
    clock = {"now": 100.0}
    monkeypatch.setattr("dsrl.loop.stopwatch.time.perf_counter", lambda: clock["now"])
    return clock


def test_stopwatch(now):
    watch = Stopwatch()
    for seconds, what in ((2.0, "sample"), (0.5, "update"), (1.0, "sample")):
        with watch(what):
            now["now"] += seconds
    now["now"] += 0.25
    assert watch.read() == {"time/sample": 3.0, "time/update": 0.5, "time/iteration": 3.75}
    now["now"] += 4.0
    assert watch.read() == {"time/iteration": 4.0}


def test_stopwatch_counts_a_block_that_fails(now):
    watch = Stopwatch()
    with pytest.raises(KeyError), watch("update"):
        now["now"] += 1.5
        raise KeyError
    assert watch.read()["time/update"] == 1.5
