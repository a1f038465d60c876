"""Processes several at once: what is done is left alone, a failure stops no other and is named with its log."""

import io
import signal
import time
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress

from dsrl.errors import ConfigError, DSRLError
from dsrl.replication.jobs import Job, Left, run_jobs
from dsrl.verifiers.contract import children


@pytest.fixture
def writing(tmp_path, monkeypatch):
    """Jobs that write a file after some seconds; those of 0 fail, those of 60 tell their parent to end."""
    (tmp_path / "writes.py").write_text(
        "import os, sys, time\n"
        "path, seconds = sys.argv[1:3]\n"
        "if seconds == '60': os.kill(os.getppid(), 15)\n"
        "time.sleep(float(seconds))\n"
        "if seconds == '0': sys.exit('no such thing')\n"
        "open(path, 'a').write(' '.join(sys.argv[3:]) + '.')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def job(name, seconds, going_on=()):
        path = tmp_path / name
        return Job(
            name=name,
            module="writes",
            words=(str(path), str(seconds)),
            log=tmp_path / "logs" / f"{name}.log",
            done=path.exists,
            going_on=lambda: going_on,
        )

    return job


def run(jobs, at_once=2):
    run_jobs(jobs, at_once=at_once, console=Console(file=io.StringIO()), title="runs")


def test_jobs_run_together_once_and_go_on_with_what_they_began(writing, tmp_path):
    jobs = [writing("a", 0.4), writing("b", 0.4, ("resume=last",))]
    start = time.monotonic()
    run(jobs)
    assert time.monotonic() - start < 30
    assert (tmp_path / "a").read_text() == "." and (tmp_path / "b").read_text() == "resume=last."
    run(jobs)
    assert (tmp_path / "a").read_text() == "."


def test_a_log_has_a_line_for_each_job(writing):
    log = io.StringIO()
    run_jobs([writing("a", 0.1), writing("b", 0.1)], at_once=1, console=Console(file=log, width=80), title="runs")
    assert log.getvalue().startswith("runs: 1 of 2, a\nruns: 2 of 2, b\n")


def test_a_job_that_fails_stops_no_other_and_is_named(writing, tmp_path):
    with pytest.raises(
        DSRLError, match=r"1 of 3 jobs failed: bad; .* with code 1; .*\n +\$ python .*\n +no such thing"
    ):
        run([writing("bad", 0), writing("a", 0.1), writing("b", 0.1)], at_once=1)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


def test_sigterm_stops_what_was_started(writing, tmp_path):
    before, others = signal.getsignal(signal.SIGTERM), children()
    with pytest.raises(KeyboardInterrupt):
        run([writing("slow", 60)])
    assert children() == others and not (tmp_path / "slow").exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_was_made_with_other_words_is_not_taken_for_a_job(writing, tmp_path):
    asked = replace(writing("a", 0.1, ("resume=last",)), places=("here",))
    run([asked])
    run([replace(asked, places=("there",))])
    other = replace(asked, words=(*asked.words, "optimizer.lr=3e-4"))
    with pytest.raises(
        ConfigError, match=r"^a was made with other words: - then, optimizer.lr=3e-4 now; give another out="
    ):
        run([writing("b", 0.1), other])
    assert not (tmp_path / "b").exists()


def test_what_is_left_is_reckoned_from_what_ended_since_the_start():
    with Progress(Left()) as progress:
        progress.add_task("runs", total=10, completed=4, before=4)
        task = progress.tasks[0]
        assert str(Left().render(task)) == "-:--:-- left"
        progress.update(task.id, completed=6)
        task.start_time = task.get_time() - 60
        assert str(Left().render(task)) == "0:02:00 left"
