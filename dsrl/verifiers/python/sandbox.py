"""A sandbox for untrusted code, made of what the Linux kernel has: namespaces, a root of its own, no rights, limits.

`run(task, ...)` calls `task` in a process of its own and returns what it returned. That process, and all it starts,

    sees     a read-only root that holds the system's libraries and Python, and nothing else (no /proc, /home, /etc)
    writes   to /tmp, which is memory of a bounded size and is gone afterwards
    reaches  no network, not even that of the machine itself, and no process outside
    has      no capabilities and no way to gain any; where the trainer is root, it has a user id of its own
    calls    the kernel, except for the system calls that seccomp.py refuses
    ends     as a whole: the process is the first of its own PID namespace, and the kernel kills the rest with it

Where the kernel refuses one of these, SandboxError says which; nothing runs with less. This file imports nothing of
dsrl. docs/your_verifier.md says what the sandbox does not keep out.
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
ROOT = "/proc"  # where the new root is mounted before it is entered: it always exists, and nothing of it is shared
SHARED = ("/usr", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix, "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
FILES = 4096
OPEN_FILES = 64
UIDS = range(60_000, 61_000)
"""User ids for workers of a trainer that is root: the kernel counts processes by user, so each worker needs its own."""

CLONE = {"NEWNS": 0x20000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}
NEWUSER = 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
MOUNT_SETATTR = 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


class SandboxError(Exception):
    """Report which part of the sandbox the kernel refuses."""


def run(task: Callable[[], Any], *, seconds: float, disk: int) -> Any:
    """Call `task` inside a new sandbox; return its result, which must be JSON, or None where it was not there in time.

    seconds: wall time that it may take. disk: bytes that /tmp may hold. Raises SandboxError where the kernel refuses a
    part of the sandbox.
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
        os.kill(gate, signal.SIGKILL)  # and the sandbox with it, whose first process becomes a child of this one
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # this returns when all processes of the sandbox have ended
    if not written.endswith(b"\n"):
        return None
    reply = json.loads(written)
    if "refused" in reply:
        raise SandboxError(reply["refused"])
    return reply["returned"]


def limit(*, memory: int, cpu: float, file_size: int, processes: int) -> None:
    """Limit this process and each that it starts.

    memory: bytes of address space of each; cpu: seconds of CPU time of each; file_size: bytes of a file; processes: how
    many there may be at once, together.
    """
    beside = os.getuid() not in UIDS  # the gate process, which has the same user where the trainer is not root
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, max(1, round(cpu + 0.5))),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NPROC, processes + 1 + beside),  # the first process of the sandbox
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def _gate(task: Callable[[], Any], write_end: int, disk: int) -> None:
    """Run as the process between outside and inside: enter new namespaces, and start one process in them."""
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
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which would reset it
    _call("prctl", PR_SET_DUMPABLE, 0)  # so that the processes it starts cannot read its memory
    # nor end it: a signal without a handler does not reach the first process of a namespace
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    # else numpy starts a thread for each core, more than `processes` allows, and is killed
    os.environ["OMP_NUM_THREADS"] = "1"
    SECCOMP["install"]()
    try:
        returned = task()
    except Exception:
        returned = None
    _send(write_end, {"returned": returned})


def _enter_new_root(options: str) -> None:
    """Mount a root with SHARED, DEVICES and an empty /tmp, and make it the root of this process."""
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
    # attr_set, attr_clr, propagation, userns_fd; the flags are those of mount
    attributes = (ctypes.c_uint64 * 4)(flags)
    _call("syscall", MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, attributes, ctypes.sizeof(attributes))


def _without_nested(paths: tuple[str, ...]) -> Iterator[str]:
    for path in dict.fromkeys(paths):
        if not any(Path(path).is_relative_to(other) for other in paths if other != path):
            yield path


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library. Raises SandboxError, with name and reason, where it does not return 0."""
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
    """Read everything that is written until the other end closes, or `seconds` have passed."""
    end, poll, written = time.monotonic() + seconds, select.poll(), b""
    poll.register(read_end, select.POLLIN)
    while poll.poll(max(0.0, end - time.monotonic()) * 1000):
        part = os.read(read_end, 1 << 16)
        if not part:
            break
        written += part
    return written
