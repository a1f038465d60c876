"""The processes of `math`: lost, killed, full, orphaned, closed. None of it may cost more than one answer."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import running, seconds_of

from dsrl.errors import DSRLError
from dsrl.verifiers import Function, Math
from dsrl.verifiers import math as mathematical
from dsrl.verifiers.contract import children
from dsrl.verifiers.workers.pool import Worker

ROOT = Path(__file__).parents[3]
TOWER = r"\boxed{9^{9^{9^9}}}"


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_memory_is_limited_and_a_worker_that_has_used_half_is_replaced(
    monkeypatch: pytest.MonkeyPatch, make_rollouts
) -> None:
    roomy, tight, before = Math(workers=1), Math(timeout=30.0, workers=1), children()
    assert roomy.score(make_rollouts([[r"\boxed{3}"]], ["3"])).item() == 1
    (worker,) = children() - before
    assert f"Max address space         {2 * 2**30} " in Path(f"/proc/{worker}/limits").read_text()
    roomy.close()
    monkeypatch.setattr(mathematical, "MEMORY", 100 * 2**20)
    assert tight.score(make_rollouts([[r"\boxed{3}", r"\boxed{3.0}"]], ["3"])).tolist() == [[1, 1]]
    assert children() == before


def test_a_request_arrives_as_it_is_and_what_cannot_be_sent_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "told.py"
    program.write_text("def reply(request): return repr(request)")
    worker = Worker(handler=program, timeout=5.0)
    request = {1: (2, [3]), "when": datetime.date(2026, 1, 2), "text": "\ud800\n"}
    assert worker.ask(request) == repr(request)
    with pytest.raises(DSRLError, match="a row holds what cannot be sent to a verifier's process: .*lambda"):
        worker.ask({"column": lambda: 1})
    assert worker.ask(1) == "1"
    worker.stop()


def test_a_worker_outlives_its_answers(make_rollouts) -> None:
    verifier, before = Math(timeout=1.0, workers=1), children()
    for answer in ("1", "2"):
        assert verifier.score(make_rollouts([[answer]], [answer])).item() == 1
    workers = children() - before
    time.sleep(1.2)
    assert all(map(running, workers))
    assert verifier.score(make_rollouts([["3"]], ["3"])).item() == 1
    assert children() - before == workers
    verifier.close()


def test_a_worker_killed_in_flight_costs_its_answer_alone_and_one_killed_at_rest_nothing(make_rollouts) -> None:
    verifier, before, rewards = Math(timeout=60.0, workers=1), children(), []
    assert verifier.score(make_rollouts([[r"\boxed{1}"]], ["1"])).item() == 1
    (worker,) = children() - before
    assert "torch" not in Path(f"/proc/{worker}/maps").read_text()
    os.kill(worker, signal.SIGKILL)
    assert within(5, lambda: not running(worker))
    assert verifier.score(make_rollouts([[r"\boxed{2}"]], ["2"])).item() == 1

    (worker,) = children() - before
    rollouts = make_rollouts([[TOWER, r"\boxed{3}"]], ["3"])
    thread = threading.Thread(target=lambda: rewards.append(verifier.score(rollouts).tolist()))
    before_it = seconds_of(worker)
    thread.start()
    assert within(30, lambda: seconds_of(worker) > before_it + 0.1)
    os.kill(worker, signal.SIGKILL)
    thread.join(50)
    assert rewards == [[[0, 1]]]
    verifier.close()
    verifier.close()
    assert children() == before
    assert verifier.score(make_rollouts([[r"\boxed{3}"]], ["3"])).item() == 1
    verifier.close()
    assert children() == before


def test_workers_end_with_a_killed_trainer() -> None:
    script = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests" / "verifiers")!r})
import conftest
from dsrl.verifiers import Math
make_rollouts, verifier = conftest.make_rollouts.__wrapped__(), Math(timeout=3.0, workers=2)
verifier.score(make_rollouts([["1", "2"]], ["1"]))
print("warm", flush=True)
verifier.score(make_rollouts([[{TOWER!r}]], ["1"]))
"""
    trainer = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == "warm\n"
    workers = children(trainer.pid)
    assert len(workers) == 2
    time.sleep(0.3)
    with trainer:
        trainer.kill()
    assert within(5, lambda: not any(map(running, workers)))


REWARDS = ROOT / "tests" / "verifiers" / "rewards.py"


@pytest.mark.parametrize("then", ["return", "hang"])
def test_nothing_that_a_function_starts_outlives_its_worker(make_rollouts, tmp_path: Path, then: str) -> None:
    verifier = Function(path=f"{REWARDS}:leaves_processes", timeout=30.0 if then == "return" else 2.0, workers=1)
    reward = float(then == "return")
    assert verifier.score(make_rollouts([[f"{tmp_path}/ids {then}"]], [""])).tolist() == [[reward]]
    verifier.close()
    ids = (tmp_path / "ids").read_text().split()
    assert len(ids) == 3
    assert within(5, lambda: not any(running(int(pid)) for pid in ids))


@pytest.mark.parametrize("then", ["return", "hang"])
def test_nor_a_killed_trainer(tmp_path: Path, then: str) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests" / "verifiers")!r})
import conftest, time
from dsrl.verifiers import Function
verifier = Function(path={f"{REWARDS}:leaves_processes"!r}, timeout=3.0, workers=1)
verifier.score(conftest.make_rollouts.__wrapped__()([[{f"{tmp_path}/ids {then}"!r}]], [""]))
time.sleep(300)
"""
    trainer = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    ids = tmp_path / "ids"
    assert within(60, lambda: ids.exists() and len(ids.read_text().split()) == 3)
    with trainer:
        trainer.kill()
    assert within(10, lambda: not any(running(int(pid)) for pid in ids.read_text().split()))


def test_workers_that_cannot_start_are_an_error_and_not_a_reward(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_rollouts
) -> None:
    program = tmp_path / "broken.py"
    program.write_text("import nothing_of_this_name")
    monkeypatch.setattr(mathematical, "HANDLER", program)
    verifier = Math(workers=1)
    with pytest.raises(DSRLError, match="broken.py did not start: ModuleNotFoundError: No module named 'nothing_of"):
        verifier.score(make_rollouts([["1"]], ["1"]))
    verifier.close()
