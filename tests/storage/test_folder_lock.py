"""One process owns a folder: others are told which, and none is held up by one that is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import dsrl.storage.folder_lock as module
from dsrl.errors import ConfigError, DSRLError
from dsrl.storage.folder_lock import FolderLock

HOLDER = (
    "import sys, time, pathlib; from dsrl.storage.folder_lock import FolderLock\n"
    "FolderLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the folder `run`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_owner_is_named_and_a_kill_lets_go(holder, tmp_path):
    with pytest.raises(ConfigError) as refused:
        FolderLock(tmp_path / "run").acquire()
    message = str(refused.value)
    assert message.startswith(f"run_dir={tmp_path / 'run'}: another process is writing it, {holder.pid} on ")
    assert socket.gethostname() in message and time.strftime("%Y-%m-%d") in message and "`-c " in message
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with FolderLock(tmp_path / "run") as lock:  # the file of the killed one lies there
        assert lock.held and json.loads(lock.path.read_text())["process"] == os.getpid()


def test_nothing_is_left_of_a_folder_in_which_nothing_was_written(tmp_path):
    with FolderLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert not (tmp_path / "a" / "b").exists()
    with FolderLock(tmp_path / "c") as lock:
        (tmp_path / "c" / "file").touch()
    assert not lock.held and os.listdir(tmp_path / "c") == ["file"]


def test_in_one_process_too_there_is_one_owner(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.acquire()  # it has it
    with pytest.raises(ConfigError, match="another process is writing it"):
        FolderLock(tmp_path).acquire()
    lock.release()
    lock.release()
    FolderLock(tmp_path).acquire()


def test_a_process_that_is_forked_holds_nothing(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ours, 1)  # outlives its parent's hold
        os._exit(0)
    lock.release()
    FolderLock(tmp_path).acquire()
    os.write(theirs, b" ")
    os.waitpid(child, 0)


def test_a_folder_that_vanishes_while_it_is_held(tmp_path):
    lock = FolderLock(tmp_path / "run")
    lock.acquire()
    lock.path.unlink()
    (tmp_path / "run").rmdir()
    with FolderLock(tmp_path / "run"):  # a new folder of that name
        lock.release()
        assert (tmp_path / "run" / ".lock").exists()


RECORD = {"host": socket.gethostname(), "started": "2026-01-01T00:00:00+00:00", "command": "train.py"}


@pytest.mark.parametrize(
    ("record", "refused"),
    [
        ({"process": os.getpid()}, True),
        ({"process": os.getpid(), "born": "1"}, False),  # another one had that number
        ({"process": 2**22 + 5}, False),  # there is none
        ({"process": os.getpid(), "host": "elsewhere"}, True),  # nobody knows
        (None, False),
    ],
)
def test_where_the_file_system_has_no_locks_the_record_decides(record, refused, tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    text = "half a rec" if record is None else json.dumps({**RECORD, **record})
    (tmp_path / ".lock").write_text(text)
    if not refused:
        FolderLock(tmp_path).acquire()
        return
    with pytest.raises(ConfigError, match=rf"if it is gone for certain, remove {tmp_path}/\.lock$"):
        FolderLock(tmp_path).acquire()


@pytest.mark.parametrize(
    ("options", "refused"), [("rw,vers=4.2", False), ("rw,vers=3,nolock", True), ("rw,local_lock=flock", True)]
)
def test_a_lock_that_other_hosts_do_not_see_does_not_outweigh_their_record(options, refused, tmp_path, monkeypatch):
    (tmp_path / "mounts").write_text(f"server:/home {tmp_path} nfs {options} 0 0\ntmpfs / tmpfs rw 0 0\n")
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "mounts")
    (tmp_path / ".lock").write_text(json.dumps({**RECORD, "process": 1, "host": "elsewhere"}))
    if refused:
        with pytest.raises(ConfigError, match="1 on elsewhere, started 2026-01-01"):
            FolderLock(tmp_path).acquire()
    else:
        FolderLock(tmp_path).acquire()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(DSRLError, match="run: cannot be written: File exists"):
        FolderLock(tmp_path / "run").acquire()
