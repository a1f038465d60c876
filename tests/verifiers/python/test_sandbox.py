"""What the sandbox of `python` holds: each attack prints `done` where it succeeds, which would score 1."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import running

from dsrl.errors import DSRLError
from dsrl.verifiers import Python
from dsrl.verifiers.contract import children
from dsrl.verifiers.python import fingerprint, sandbox
from dsrl.verifiers.python import python as python_verifier
from dsrl.verifiers.workers import pool
from dsrl.verifiers.workers.pool import encode_request

FOLDER = Path(sandbox.__file__).parent
DONE = json.dumps({"inputs": [""], "outputs": ["done"]})


@pytest.fixture(scope="module")
def verifier() -> Iterator[Python]:
    verifier = Python(timeout=2.0, memory=256, workers=1)
    if problems := verifier.check():
        pytest.skip(problems[0])
    yield verifier
    verifier.close()


@pytest.fixture
def succeeds(verifier: Python, make_rollouts) -> Callable[[str], bool]:
    return lambda code: verifier.score(make_rollouts([[f"```python\n{code}\n```"]], [DONE])).item() == 1.0


def outside(code: str) -> bool:
    """Whether the same code succeeds without a sandbox: else its containment would show nothing."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"SECRET": "key"})
    return done.stdout == "done\n"


def test_what_a_program_may_do(succeeds) -> None:
    assert succeeds("print('done')")
    assert succeeds("import fractions, json, random\nopen('x', 'w').write('done')\nprint(open('/tmp/x').read())")
    assert succeeds("import threading\nt = threading.Thread(target=print, args=('done',))\nt.start()\nt.join()")
    assert succeeds("import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(\"done\")'])")


def test_processes_are_few_and_die_with_the_answer(succeeds) -> None:
    started = time.monotonic()
    assert not succeeds("import os\nwhile True: os.fork()")
    assert time.monotonic() - started < 25
    fork = "import os, time\nfor _ in range({}):\n    if os.fork() == 0: time.sleep(60)\nprint('done')"
    assert succeeds(fork.format(3))
    assert not succeeds(fork.format(4))
    daemon = "    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)"
    assert succeeds(f"import os, time\nif os.fork() == 0:\n{daemon}\nprint('done')")
    assert not succeeds("import os, time\nwhile os.fork() == 0: os.setsid()\ntime.sleep(60)")
    (worker,) = [pid for pid in children() if "python/python_handler.py" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert children(worker) == set()


def test_numpy_takes_no_more_processes_than_the_answer(make_rollouts) -> None:
    verifier = Python(processes=1, workers=1)
    if problems := verifier.check():
        pytest.skip(problems[0])
    assert (
        verifier.score(make_rollouts([["import numpy\nprint('done')"]], [DONE])).item() == 1
    )  # on any number of cores
    verifier.close()


def test_time_is_bounded(succeeds) -> None:
    for loop in ("while True: pass", "import time\ntime.sleep(60)", "10 ** 10 ** 9"):
        started = time.monotonic()
        assert not succeeds(f"{loop}\nprint('done')")
        assert time.monotonic() - started < 25


def test_memory_is_bounded(succeeds) -> None:
    assert succeeds("x = bytearray(20 << 20)\nprint('done')")
    assert not succeeds("x = bytearray(10 << 30)\nprint('done')")
    assert not succeeds("x = []\nwhile True: x.append(bytearray(1 << 20))")


def test_files_are_bounded(succeeds) -> None:
    assert succeeds("open('x', 'wb').write(bytes(8 << 20))\nprint('done')")
    assert not succeeds("open('x', 'wb').write(bytes(17 << 20))\nprint('done')")
    many = "for n in range(4): open(str(n), 'wb').write(bytes(5 << 20))\nprint('done')"
    assert not succeeds(many)
    assert not succeeds("for n in range(5000): open(str(n), 'w').close()\nprint('done')")
    assert not succeeds("import os\nos.ftruncate(0, 17 << 20)\nprint('done')")


def test_nothing_is_written_outside_its_folder(succeeds, tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'x')!r}, 'w').write('y')\nprint('done')"
    assert outside(code)
    (tmp_path / "x").unlink()
    assert not succeeds(code)
    assert not (tmp_path / "x").exists()
    for folder in ("/", "/usr", "/dev", "/etc", sys.prefix, sys.base_prefix):
        assert not succeeds(f"open({folder!r} + '/dsrl-test', 'w')\nprint('done')")
        assert not Path(folder, "dsrl-test").exists()
    assert not succeeds(f"import os\nos.chmod({sys.prefix!r}, 0o777)\nprint('done')")


def test_nothing_is_left_for_the_next_answer(succeeds) -> None:
    assert succeeds("open('/tmp/left', 'w').write('x')\nprint('done')")
    assert not succeeds("open('/tmp/left')\nprint('done')")


def test_no_file_of_the_machine_is_seen(succeeds) -> None:
    for path in ("/etc/passwd", "/proc/1/environ", "/proc/self/status", "/home", __file__, "/sys", "/var"):
        assert not succeeds(f"import os\nos.stat({path!r})\nprint('done')")


def test_no_network(succeeds) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket\nsocket.create_connection({server.getsockname()!r}, 1)\nprint('done')"
        assert outside(code)
        assert not succeeds(code)
    name = f"dsrl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        code = f"import socket\nsocket.socket(socket.AF_UNIX).connect('\\0{name}')\nprint('done')"
        assert outside(code.replace("\\0", "\\x00"))
        assert not succeeds(code.replace("\\0", "\\x00"))


def test_nothing_of_the_environment_is_seen(succeeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "key")
    code = "import os\nprint('done' if os.environ.get('SECRET') else '')"
    assert outside(code)
    assert not succeeds(code)
    assert succeeds("import os\nprint('done' if os.environ == {'OMP_NUM_THREADS': '1'} else '')")
    (worker,) = [pid for pid in children() if "python/python_handler.py" in Path(f"/proc/{pid}/cmdline").read_text()]
    given = Path(f"/proc/{worker}/environ").read_text()  # stays in the memory of every process that it forks
    assert {entry.partition("=")[0] for entry in given.split("\0")} == {"", *python_verifier.ENVIRONMENT}


def test_no_rights_and_no_other_process(succeeds) -> None:
    for change in (
        "os.setuid(0)",
        "os.kill(1, 9) or os.kill(os.getppid(), 2) or 1 / 0",
        f"os.kill({os.getpid()}, 0)",
        "os.chroot('/tmp')",
        "1 / (libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0)",
        "1 / (libc.ptrace(16, 1, 0, 0) == 0)",
        "1 / (libc.sethostname(b'x', 1) == 0)",
        "os.mknod('sda', 0o60600, os.makedev(8, 0))",
    ):
        assert not succeeds(f"import ctypes, os\nlibc = ctypes.CDLL(None)\n{change}\nprint('done')")
    assert succeeds("import os\nos.kill(1, 2)\nos.kill(1, 15)\nprint('done')")  # reaches it, and does nothing


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("sandbox.py", '_call("unshare", ', '_call("unshare", 1 | ', "SandboxError: unshare: Invalid argument"),
        ("seccomp.py", "SECCOMP_MODE_FILTER = 22, 2", "SECCOMP_MODE_FILTER = 22, 3", "OSError: .* seccomp: the kernel"),
    ],
)
def test_what_is_refused_is_an_error_and_not_a_reward(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_rollouts, file: str, old: str, new: str, message: str
) -> None:
    if file == "seccomp.py" and (problems := Python(workers=1).check()):  # it comes after all that else is refused
        pytest.skip(problems[0])
    for name in ("sandbox.py", "seccomp.py", "fingerprint.py", "python_handler.py"):
        shutil.copy(FOLDER / name, tmp_path)
    source = (tmp_path / file).read_text()
    broken = source.replace(old, new)
    assert broken != source
    (tmp_path / file).write_text(broken)
    monkeypatch.setattr(python_verifier, "HANDLER", tmp_path / "python_handler.py")
    verifier = Python(workers=1)
    (problem,) = verifier.check()
    assert re.search(f"the sandbox cannot be had here: {message}.*. It is made of Linux", problem)
    with pytest.raises(DSRLError, match=f"the sandbox cannot be had: {message}"):
        verifier.score(make_rollouts([["print('done')"]], [DONE]))
    verifier.close()


def test_everything_ends_with_a_killed_worker(verifier: Python, make_rollouts) -> None:
    verifier.score(make_rollouts([["print('done')"]], [DONE]))
    before = children()
    assert before
    slow = Python(timeout=30.0, workers=1)
    worker = slow.worker()
    process = worker._running()
    assert process.stdin is not None
    request = slow._request("import time\ntime.sleep(60)", [{"stdin": ""}])
    process.stdin.write(encode_request(request))
    process.stdin.flush()
    end = time.monotonic() + 20
    while not (inside := _below(process.pid)) or len(inside) < 3:
        assert time.monotonic() < end
        time.sleep(0.02)
    worker.stop()
    end = time.monotonic() + 20
    while any(map(running, inside)):
        assert time.monotonic() < end, "a process outlived its worker"
        time.sleep(0.02)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_holds_for_a_user_who_is_not_root(tmp_path: Path) -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if python is None:
        pytest.skip("needs a Python that every user may run")
    for path in (
        pool.PROGRAM,
        *(FOLDER / name for name in ("python_handler.py", "sandbox.py", "seccomp.py", "fingerprint.py")),
    ):
        (copy := tmp_path / path.name).write_text(path.read_text())
        copy.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    codes = {
        "import os\nprint(os.getpid(), os.path.exists('/etc/passwd'), os.path.exists('/proc/self'))": "2 False False\n",
        "import os\nos.kill(1, 2)\nos.kill(1, 9)\nprint('still here')": "still here\n",
        "import os\nwhile True: os.fork()": None,
        "import ctypes\nprint(ctypes.CDLL(None).ptrace(16, 1, 0, 0))": "-1\n",
        "import ctypes\nprint(ctypes.CDLL(None).unshare(0x10000000))": "-1\n",
        "open('/x', 'w')": None,
        "open('x', 'w')": "",
    }
    limits = {"memory": 1 << 28, "cpu": 1, "file_size": 1 << 24, "processes": 4}
    request = {"prelude": "", "cases": [{"stdin": ""}], "seconds": 1, "limits": limits}
    requests = b"".join(encode_request({"code": code, **request}) for code in codes)
    command = [python, "-P", str(tmp_path / pool.PROGRAM.name), str(tmp_path / "python_handler.py"), "9", "0"]
    if subprocess.run([python, "-P", "-c", ""], capture_output=True).returncode:
        pytest.skip("needs Python 3.11")
    nobody: dict[str, object] = {"user": 65534, "group": 65534, "extra_groups": [], "env": {}}
    done = subprocess.run(command, input=requests, capture_output=True, **nobody)
    ready, *replies = [json.loads(line) for line in done.stdout.splitlines()]
    if "refused" in replies[0][0]:
        pytest.skip(f"this kernel lets no user make namespaces: {replies[0][0]['refused']}")
    assert ready == {"ready": True}
    expected = [[text if text is None else fingerprint.of_lines(text)] for text in codes.values()]
    assert [reply["outputs"] for reply, _, _ in replies] == expected


def _below(parent: int) -> set[int]:
    found = children(parent)
    return found.union(*map(_below, found)) if found else found
