"""A locked room for untrusted code, of what the Linux kernel has: namespaces, a root of its own, no rights, limits.

`run(task, ...)` calls `task` in a process of its own and gives back what it returned. That process, and all it starts,

    sees     a read-only root that holds the system's libraries and Python, and nothing else (no /proc, /home, /etc)
    writes   to /tmp, which is memory of a bounded size and is gone afterwards
    reaches  no network, not that of the machine itself, either, and no process outside
    is       nobody: without capabilities or ways to gain them, where the trainer is root under a user id of its own
    calls    the kernel for what is not refused in seccomp.py
    ends     together: the process is the first of its own PID namespace, and the kernel kills the rest with it

Where the kernel refuses one of these, SandboxError says which; nothing runs with less. It imports nothing of dsrl.
docs/your_verifier.md says what the room does not hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import runpy
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECCOMP = runpy.run_path(str(Path(__file__).with_name("seccomp.py")))
LIBC = ctypes.CDLL(None, use_errno=True)
ROOT = "/proc"  # where the new root is mounted before it is entered: always there, and holds nothing that goes into it
SHARED = ("/usr", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix, "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
FILES = 4096
OPEN_FILES = 64
UIDS = range(60_000, 61_000)
"""Where the trainer is root, a worker has one of these to itself: the kernel counts the processes of a user."""

CLONE = {"NEWNS": 0x20000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}
NEWUSER = 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
MOUNT_SETATTR = 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


class SandboxError(Exception):
    """The kernel refuses a part of the sandbox."""


def run(task: Callable[[], Any], *, seconds: float, disk: int) -> Any:
    """What `task` returns, as JSON carries it, from inside; None where it did not return within `seconds`.

    disk: bytes of /tmp. Raises SandboxError where the sandbox cannot be had.
    """
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    read_end, write_end = os.pipe()
    gate = os.fork()
    if gate == 0:
        os.close(read_end)
        _leave(write_end, lambda: _gate(task, write_end, disk))
    os.close(write_end)
    written = _read(read_end, seconds)
    os.close(read_end)
    if not written.endswith(b"\n"):
        os.kill(gate, signal.SIGKILL)  # and with it the room, whose first process then is a child of this one
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # the kernel gives that back when the whole room has ended
    if not written.endswith(b"\n"):
        return None
    reply = json.loads(written)
    if "refused" in reply:
        raise SandboxError(reply["refused"])
    return reply["returned"]


def limit(*, memory: int, cpu: float, file_size: int, processes: int) -> None:
    """Limits of this process, and of each that it starts: bytes, seconds, bytes; processes count together."""
    beside = os.getuid() not in UIDS  # the gate, which is of the same user where the trainer is not root
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, max(1, round(cpu + 0.5))),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NPROC, processes + 1 + beside),  # the first of the room
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def _gate(task: Callable[[], Any], write_end: int, disk: int) -> None:
    """The process between outside and inside: leaves the namespaces behind and lets one process in."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    root, uid, gid = os.getuid() == 0, os.getuid(), os.getgid()
    _call("unshare", sum(CLONE.values()) | (0 if root else NEWUSER))
    if root:
        uid = gid = UIDS[os.getppid() % len(UIDS)]
    else:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _enter_new_root(f"size={disk},nr_inodes={FILES},mode=700,uid={uid},gid={gid}")
    inside = os.fork()
    if inside == 0:
        _leave(write_end, lambda: _inside(task, write_end, uid if root else None))
    os.close(write_end)
    os.waitpid(inside, 0)


def _inside(task: Callable[[], Any], write_end: int, uid: int | None) -> None:
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _call("capset", header, nothing)
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user takes it back: after that
    _call("prctl", PR_SET_DUMPABLE, 0)  # so that what it starts cannot look into it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nor end it: what has no handler does not reach a first process
    os.environ.clear()
    os.environ["OMP_NUM_THREADS"] = "1"  # else numpy starts a thread a core, more than `processes`, and is killed
    SECCOMP["install"]()
    try:
        returned = task()
    except Exception:
        returned = None
    _send(write_end, {"returned": returned})


def _enter_new_root(options: str) -> None:
    """Mount a root of SHARED, DEVICES and an empty /tmp, and make it this process's."""
    quiet = MS_NOSUID | MS_NODEV
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", b"tmpfs", ROOT.encode(), b"tmpfs", quiet, b"size=1m,mode=755")
    for source in _without_nested(SHARED):
        _share(source, MS_RDONLY | quiet)
    for source in DEVICES:
        _share(source, MS_RDONLY | MS_NOSUID)
    os.mkdir(f"{ROOT}/tmp")
    _call("mount", b"tmpfs", f"{ROOT}/tmp".encode(), b"tmpfs", quiet, options.encode())
    _call("mount", None, ROOT.encode(), None, MS_REMOUNT | MS_BIND | MS_RDONLY | quiet, None)
    os.chdir(ROOT)
    if platform.machine() not in PIVOT_ROOT:
        raise SandboxError(f"pivot_root: its number is not known on {platform.machine()}")
    _call("syscall", PIVOT_ROOT[platform.machine()], b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/tmp")


def _share(source: str, flags: int) -> None:
    if not os.path.exists(source):
        return
    target = ROOT + source
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    _call("mount", source.encode(), target.encode(), None, MS_BIND | MS_REC, None)
    attributes = (ctypes.c_uint64 * 4)(
        flags
    )  # attr_set, attr_clr, propagation, userns_fd; the flags are those of mount
    _call("syscall", MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, attributes, ctypes.sizeof(attributes))


def _without_nested(paths: tuple[str, ...]) -> Iterator[str]:
    for path in dict.fromkeys(paths):
        if not any(Path(path).is_relative_to(other) for other in paths if other != path):
            yield path


def _call(name: str, *arguments: Any) -> None:
    """A function of the C library that returns 0. Raises SandboxError with its name and reason."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    if getattr(LIBC, name)(*converted) != 0:
        raise SandboxError(f"{name}: {os.strerror(ctypes.get_errno())}")


def _leave(write_end: int, task: Callable[[], None]) -> None:
    """Run `task` and end this process; what stops it is sent to the one outside."""
    try:
        task()
    except BaseException as error:
        _send(write_end, {"refused": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


def _send(write_end: int, message: dict[str, Any]) -> None:
    rest = json.dumps(message).encode() + b"\n"
    while rest:
        rest = rest[os.write(write_end, rest) :]


def _read(read_end: int, seconds: float) -> bytes:
    """Everything that is written until the other end closes, or `seconds` have passed."""
    end, poll, written = time.monotonic() + seconds, select.poll(), b""
    poll.register(read_end, select.POLLIN)
    while poll.poll(max(0.0, end - time.monotonic()) * 1000):
        part = os.read(read_end, 1 << 16)
        if not part:
            break
        written += part
    return written
