"""A sweep goes on after whatever a job fails with, and says at its end what has failed."""

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.global_hydra import GlobalHydra

import dsrl.train
from dsrl.config.compose import compose
from dsrl.errors import ConfigError, DSRLError
from dsrl.runs.fit import fit
from dsrl.runs.sweep import Sweep, run_apart, stop_sweep

ENDS = {
    "config": (ConfigError("model.name=x: no such model\nanother line"), "model.name=x: no such model"),
    "dsrl": (DSRLError("verifier function failed"), "verifier function failed"),
    "crash": (RuntimeError("away"), "RuntimeError: away"),
    "memory": (MemoryError(), "MemoryError"),
    "disk": (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    "assert": (AssertionError(), "AssertionError"),
    "index": (IndexError("out of range"), "IndexError: out of range"),
    "exit": (SystemExit(3), "ended with code 3"),
    "exit with words": (SystemExit("no licence"), "ended with code no licence"),
    "unicode": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "UnicodeDecodeError: 'utf-8' codec"),
}


def run_all(sweep, ends):
    ran = []
    for number, end in enumerate(ends):
        with sweep.job(number, ["seed=0", f"x={number}"], Path(f"run/{number}")):
            ran.append(number)
            if end is not None:
                raise end
    return ran


@pytest.mark.parametrize("kind", ENDS)
def test_the_next_job_runs_whatever_one_fails_with(kind, capsys):
    error, reason = ENDS[kind]
    sweep = Sweep()
    assert run_all(sweep, [error, None]) == [0, 1]
    head, line = sweep.failures().splitlines()
    assert head == "1 of 2 jobs of the sweep failed:"
    assert line.startswith(f"  job 0 (x=0), run/0: {reason}")
    told = capsys.readouterr().err
    assert ("Traceback" in told) == (not isinstance(error, DSRLError | SystemExit))


def test_the_list_has_every_job_that_failed_and_none_other():
    sweep = Sweep()
    run_all(sweep, [None, DSRLError("a"), SystemExit(0), DSRLError("b")])
    assert sweep.failures().splitlines() == [
        "2 of 4 jobs of the sweep failed:",
        "  job 1 (x=1), run/1: a",
        "  job 3 (x=3), run/3: b",
    ]
    alone = Sweep()
    run_all(alone, [DSRLError("a")])
    assert alone.failures() == "1 of 1 jobs of the sweep failed:\n  job 0 (seed=0 x=0), run/0: a"
    assert Sweep().failures() is None


def test_each_job_has_a_run_of_its_own_in_wandb(monkeypatch):
    finished = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: finished.append(True)))
    run_all(Sweep(), [None, DSRLError("a"), None])
    assert len(finished) == 3


def test_ctrl_c_ends_it():
    with pytest.raises(KeyboardInterrupt):
        run_all(Sweep(), [KeyboardInterrupt(), None])
    with pytest.raises(KeyboardInterrupt):
        stop_sweep(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        stop_sweep(signal.SIGUSR1)
    assert ended.value.code == 138


def test_a_launcher_of_other_processes_gets_the_error():
    with pytest.raises(RuntimeError, match="away"):
        run_all(Sweep(process=os.getpid() + 1), [RuntimeError("away")])


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """Run `train.py -m` with three seeds, whose jobs end as they are given; returns code, what ran, and stderr."""

    def run(*ends, words=()):
        ran = []

        def train(composed):
            ran.append(composed.seed)
            end = ends[composed.seed]
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setattr(dsrl.train, "_train", train)
        monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1,2", f"run_dir={tmp_path}/sweep", *words])
        code = 0
        try:
            dsrl.train.main()
        except SystemExit as ended:
            code = ended.code
        GlobalHydra.instance().clear()
        return code, ran, capsys.readouterr().err

    return run


def test_the_command_line_goes_on_and_ends_with_1(sweep, tmp_path):
    code, ran, told = sweep(RuntimeError("away"), None, DSRLError("no room"))
    assert (code, ran) == (1, [0, 1, 2])
    assert told.splitlines()[-3:] == [
        "error: 2 of 3 jobs of the sweep failed:",
        f"  job 0 (seed=0), {tmp_path}/sweep/0: RuntimeError: away",
        f"  job 2 (seed=2), {tmp_path}/sweep/2: no room",
    ]


def test_a_sweep_that_is_told_to_stop_begins_no_other_job(sweep):
    told = "stopped by SIGTERM; the same sweep with resume=last goes on\n"
    assert sweep(None, signal.SIGTERM, None) == (143, [0, 1], told)
    assert sweep(KeyboardInterrupt(), None, None) == (130, [0], "")


def test_two_sweeps_do_not_share_a_folder(sweep, tmp_path):
    from dsrl.storage.folder_lock import FolderLock

    with FolderLock(tmp_path / "sweep"):
        code, ran, told = sweep(None, None, None)
    assert (code, ran) == (2, []) and f"run_dir={tmp_path}/sweep: another process is writing it, {os.getpid()}" in told


def test_resumed_it_leaves_finished_jobs_alone_and_goes_on_with_the_others(tmp_path, monkeypatch, capsys):
    line = ["iterations=1", "prompts_per_iteration=2", "responses_per_prompt=2", "sampling.max_new_tokens=8"]
    line += ["validation.every=0", "logger=none", "data.train_size=20", "report=false"]
    fit(compose([*line, "seed=0", f"run_dir={tmp_path}/sweep/0"]))
    words = [*line, "seed=0,1", f"run_dir={tmp_path}/sweep", "resume=last"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *words])
    dsrl.train.main()
    GlobalHydra.instance().clear()
    assert "sweep/0/checkpoints/iteration0.ckpt: the run is finished" in capsys.readouterr().out
    rows = [(tmp_path / "sweep" / job / "metrics.jsonl").read_text().splitlines() for job in "01"]
    assert [[json.loads(row)["iteration"] for row in own] for own in rows] == [[0], [0]]


@pytest.mark.parametrize(
    ("program", "message"),
    [("import os; os._exit(1)", "ended with code 1"), ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL")],
)
def test_a_job_in_a_process_of_its_own_may_die(program, message, tmp_path, monkeypatch):
    (tmp_path / "job.py").write_text(program)
    monkeypatch.setattr("dsrl.runs.sweep.program_of_this", lambda: [str(tmp_path / "job.py")])
    with pytest.raises(DSRLError, match=f"its process {message}"):
        run_apart([])
    (tmp_path / "job.py").write_text("import sys; sys.exit(sys.argv[1:] != ['a=1'])")
    assert run_apart(["a=1"]) is None


def test_a_job_in_a_process_of_its_own_is_told_to_stop(tmp_path, monkeypatch):
    wait = "import signal, sys, time, os; signal.signal(15, lambda *a: sys.exit(0)); os.kill(os.getppid(), 15)"
    (tmp_path / "job.py").write_text(f"{wait}; time.sleep(30); sys.exit(1)")
    monkeypatch.setattr("dsrl.runs.sweep.program_of_this", lambda: [str(tmp_path / "job.py")])
    assert run_apart([]) == signal.SIGTERM
