"""Which system calls an answer's code is refused: each attack works here, or would with rights, and not inside."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import struct
from collections.abc import Callable, Iterator

import pytest

from dsrl.types import Prompt
from dsrl.verifiers import Python
from dsrl.verifiers.python import seccomp

DONE = json.dumps({"inputs": [""], "outputs": ["done"]})
MACHINE = seccomp.MACHINES.get(platform.machine(), (0, 0))[0]
EPERM, ENOSYS, ALLOWED = errno.EPERM, errno.ENOSYS, 0


@pytest.fixture(scope="module")
def succeeds() -> Iterator[Callable[..., bool]]:
    verifier = Python(timeout=5.0, memory=512, workers=1)
    if problems := verifier.check():
        pytest.skip(problems[0])
    prompt = Prompt(position=0, text="?", token_ids=(1,), ground_truth=DONE)
    yield lambda code: verifier.score_all([code], [prompt]) == [1.0]
    verifier.close()


def decided(machine: int, number: int, first: int = 0, architecture: int | None = None) -> int:
    """The error that the filter gives for a call, 0 where it lets it pass: its instructions, followed by hand."""
    known = dict(seccomp.MACHINES.values())[machine]
    data = struct.pack("=IIQQ", number, known if architecture is None else architecture, 0, first)
    code = [*struct.iter_unpack("=HBBI", seccomp.program(machine, known))]
    position, loaded = 0, 0
    while True:
        operation, if_true, if_false, value = code[position]
        position += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return ALLOWED if value == 0x7FFF0000 else value & 0xFFFF
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[operation]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", [0, 1])
def test_what_the_filter_decides(machine: int) -> None:
    for numbers in seccomp.REFUSED.values():
        assert decided(machine, numbers[machine]) == EPERM
    refused = {numbers[machine] for numbers in seccomp.REFUSED.values()}
    assert len(refused) == len(seccomp.REFUSED)
    special = {435, *range(463, 600)}
    assert {number for number in range(600) if decided(machine, number) == ENOSYS} == special
    socket = {seccomp.SOCKET[machine], seccomp.SOCKETPAIR[machine]}
    assert {number for number in range(600) if decided(machine, number) == EPERM} == refused | socket
    assert decided(machine, 1, architecture=0x40000003) == EPERM  # i386


@pytest.mark.parametrize(("machine", "clone", "socket"), [(0, 56, 41), (1, 220, 198)])
def test_what_depends_on_an_argument(machine: int, clone: int, socket: int) -> None:
    fork, thread = 0x01200011, 0x003D0F00
    assert decided(machine, clone, fork) == decided(machine, clone, thread) == ALLOWED
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decided(machine, clone, fork | flag) == EPERM
    assert [decided(machine, socket, family) for family in (1, 2, 10, 16, 38, 40)] == [0, 0, 0, EPERM, EPERM, EPERM]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is of x86-64")
def test_numbers_of_x32_do_not_exist(succeeds) -> None:
    assert decided(0, 0x40000000 | 39) == ENOSYS
    assert succeeds(_refused(0x40000000 | 39, "ENOSYS"))


@pytest.mark.parametrize("name", [*seccomp.REFUSED])
def test_the_kernel_is_not_asked(succeeds, name: str) -> None:
    assert succeeds(_refused(seccomp.REFUSED[name][MACHINE], "EPERM"))


def _refused(number: int, error: str) -> str:
    return (
        "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"if libc.syscall({number}, -1, -1, -1, -1, -1, -1) + 1 == 0 and ctypes.get_errno() == errno.{error}:\n"
        "    print('done')"
    )


def test_a_user_namespace_with_all_capabilities_cannot_be_had(succeeds) -> None:
    for code in (
        "libc.unshare(0x10020000 | 0x40000000)",
        f"libc.syscall({seccomp.CLONE[MACHINE]}, 0x10000011, 0, 0, 0, 0)",
    ):
        attack = (
            f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ncode = {code}\nif code == 0: print('done')"
        )
        assert not succeeds(attack)


def test_memory_that_no_process_has_cannot_be_had(succeeds) -> None:
    if os.fork() == 0:  # with the same code as below, to see that it takes memory where nothing refuses it
        number = ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600)
        ctypes.CDLL(None).shmctl(number, 0, None)
        os._exit(number < 0)
    assert os.wait()[1] == 0
    assert not succeeds("import ctypes\nif ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0: print('done')")
    assert not succeeds("import os\nos.memfd_create('x')\nprint('done')")


def test_what_honest_programs_do_works(succeeds) -> None:
    assert succeeds("import threading\nthreading.Thread(target=print, args=('done',)).start()")
    assert succeeds("import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(\"done\")'])")
    assert succeeds("import os\nif os.fork() == 0: print('done')\nelse: os.wait()")
    assert succeeds("import asyncio\nasync def main(): print('done')\nasyncio.run(main())")
    assert succeeds(
        "import mmap, socket, tempfile\n"
        "mmap.mmap(-1, 4096)\nsocket.socketpair()\ntempfile.TemporaryFile()\nprint('done')"
    )
    assert succeeds("import numpy\nnumpy.linalg.inv(numpy.eye(3))\nprint('done')")
