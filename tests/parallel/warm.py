"""Processes that begin with everything imported. They are forked from one that has done it, since imports take most of
the time of so small a run.

    python warm.py SOCKET SCRIPT    serves forks that run the script, until its standard input is closed
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

SOCKET = "WARM_SOCKET"
NAMESPACE = "WARM_NAMESPACE"
"""The variable that names the network namespace of a process, and of those that it starts."""
POLL = 0.02
MESSAGE = 2**20
"""Bytes of a request, at most."""


class WarmProcess:
    """A forked process, as `subprocess.Popen` shows one; it leads a process group, or joins `group`."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None = None,
        pipes: bool = False,
        group: int = 0,
    ) -> None:
        ends = [os.pipe() for _ in range(2)] if pipes else []
        self.stdout, self.stderr = [os.fdopen(end, encoding="utf-8") for end, _ in ends] or [None, None]
        files = [0, *(end for _, end in ends)] if pipes else [0, 1, 2]
        request = {"words": list(words), "env": dict(env), "cwd": cwd or os.getcwd(), "group": group}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(env[SOCKET])
        self._asking = threading.Lock()
        socket.send_fds(self._server, [json.dumps(request).encode() + b"\n"], files)
        for _, end in ends:
            os.close(end)
        self._answers = self._server.makefile()
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a warm process", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read all that it prints, until it has ended."""
        assert self.stdout is not None and self.stderr is not None
        found = {}

        def read(name: str, file: IO[str]) -> None:
            if not file.closed:
                with file:
                    found[name] = file.read()

        readers = [
            threading.Thread(target=read, args=pair, daemon=True)
            for pair in (("out", self.stdout), ("err", self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return found.get("out", ""), found.get("err", "")

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Tell it to end."""
        self.send_signal(signal.SIGTERM)

    def _ended(self, timeout: float | None) -> int | None:
        """Several threads may ask: Lightning's observer of the other ranks is one."""
        if self.returncode is None:
            select.select([self._server], [], [], timeout)
            with self._asking:
                if self.returncode is None and select.select([self._server], [], [], 0)[0]:
                    self.returncode = int(self._server.recv(64) or -signal.SIGKILL)
        return self.returncode


class Forks:
    """The process from which others are forked.

    Args:
        folder: for its socket.
        script: what the others run, with their own words.
        env: of the process.
    """

    def __init__(self, folder: Path, script: Path, env: Mapping[str, str]) -> None:
        self.path = folder / "warm.socket"
        command = [sys.executable, __file__, str(self.path), str(script)]
        self._process = subprocess.Popen(command, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def start(self, words: Sequence[str], env: Mapping[str, str]) -> WarmProcess:
        """Fork a process that runs the script."""
        while not self.path.exists():
            assert self._process.poll() is None
            time.sleep(POLL)
        return WarmProcess(words, env={**env, SOCKET: str(self.path)}, pipes=True)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _serve(path: str) -> dict[str, Any]:
    """Fork for every request. Returns in the forks, with the request; the first process ends here."""
    waiting = path + ".new"
    server = socket.socket(socket.AF_UNIX)
    server.bind(waiting)
    server.listen()
    server.settimeout(POLL)
    os.rename(waiting, path)
    running: dict[int, socket.socket] = {}
    os.set_blocking(0, False)
    while os.getppid() != 1:
        try:
            if os.read(0, 1) == b"":
                break
        except BlockingIOError:
            pass
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            with running.pop(pid) as client, suppress(OSError):  # who asked is gone
                client.send(str(os.waitstatus_to_exitcode(status)).encode())
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        text, files = b"", []
        while not text.endswith(b"\n"):
            more, own, _, _ = socket.recv_fds(client, MESSAGE, 3)
            text, files = text + more, files + own
        pid = os.fork()
        if not pid:
            request: dict[str, Any] = json.loads(text)
            os.setpgid(0, request["group"])
            for place, file in enumerate(files):
                os.dup2(file, place)
                os.close(file)
            for own_socket in (server, client, *running.values()):
                own_socket.close()
            if namespace := request["env"].get(NAMESPACE):
                _enter(namespace)
            return request
        running[pid] = client
        for file in files:
            os.close(file)
        client.send(f"{pid}\n".encode())
    sys.exit()


def _enter(namespace: str) -> None:
    """Go into a network namespace, as `ip netns exec` does."""
    with open(f"/var/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def _child(command: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None) -> WarmProcess:
    """Fork another rank, as Lightning's launcher starts one."""
    return WarmProcess(command[2:], env=env, cwd=cwd, group=os.getpgid(0))


if __name__ == "__main__":
    import torch  # noqa: F401

    import dsrl.runs.fit
    import dsrl.train  # noqa: F401

    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
    request = _serve(sys.argv[1])
    script = sys.argv[2]
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [script, *request["words"]]
    sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(":") if folder not in sys.path]
    from lightning.pytorch.strategies.launchers import subprocess_script

    subprocess_script.subprocess = SimpleNamespace(Popen=_child)  # type: ignore[assignment]
    runpy.run_path(script, run_name="__main__")
