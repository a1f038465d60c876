"""The system calls that an answer's code is refused: those that reach past sandbox.py and that no honest program needs.

Namespaces leave every system call open. Some calls take memory that no limit counts, leave something for the next
answer, make a new user namespace with all capabilities in it, or lead to the parts of the kernel where most of its
holes are found. A list of allowed calls would be stricter, and would break with every new C library or package. This is
a list of refused calls, so it does not cover holes that are not known yet. Calls newer than the list fail as if the
kernel did not have them. This file imports nothing of dsrl.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

REFUSED = {  # the numbers on x86-64 and on ARM64
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # memory that belongs to no process
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # keys, which stay with the user from one answer to the next
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "syslog": (103, 116),
}
CLONE, CLONE3, SOCKET, SOCKETPAIR, NEWER = (56, 220), (435, 435), (41, 198), (53, 199), 463
NEW_NAMESPACES = 0x7E020000  # all flags CLONE_NEW... that clone knows
FAMILIES = (1, 2, 10)  # of sockets, Unix and IP; those of a virtual machine (AF_VSOCK) would lead to its host
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # the column above, and AUDIT_ARCH
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
LOAD, RETURN, EQUAL, AT_LEAST, ANY_BIT = 0x20, 0x06, 0x15, 0x35, 0x45
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


def install() -> None:
    """Filter the system calls of this process and of all that it starts, for the rest of their lives.

    PR_SET_NO_NEW_PRIVS must be set. Raises OSError where the kernel installs no filter, and on a machine whose numbers
    of system calls are not listed here.
    """
    if platform.machine() not in MACHINES:
        raise OSError(f"seccomp: the numbers of system calls are not known on {platform.machine()}")
    code = program(*MACHINES[platform.machine()])
    held = ctypes.create_string_buffer(code)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    given = Program(len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(given), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp: the kernel installs no filter of system calls")


def program(machine: int, architecture: int) -> bytes:
    """Return the filter, in classic BPF, 8 bytes an instruction. It refuses calls of other architectures: i386, x32."""
    refuse, missing = REFUSE | errno.EPERM, REFUSE | errno.ENOSYS
    code = [
        _instruction(LOAD, ARCHITECTURE),
        _instruction(EQUAL, architecture, 1, 0),
        _instruction(RETURN, refuse),
        _instruction(LOAD, NUMBER),
        *_answer(AT_LEAST, NEWER, missing),  # and x32, whose numbers have a high bit
        *_answer(EQUAL, CLONE3[machine], missing),  # a filter cannot read its flags; the C library then uses clone
    ]
    for numbers in REFUSED.values():
        code += _answer(EQUAL, numbers[machine], refuse)
    code += _if_called(CLONE[machine], _answer(ANY_BIT, NEW_NAMESPACES, refuse))
    families = [part for family in FAMILIES for part in _answer(EQUAL, family, ALLOW)]
    for numbers in (SOCKET, SOCKETPAIR):
        code += _if_called(numbers[machine], [*families, _instruction(RETURN, refuse)])
    return b"".join([*code, _instruction(RETURN, ALLOW)])


def _if_called(number: int, rest: list[bytes]) -> list[bytes]:
    """Let `rest` decide about a call by its first argument; where `rest` does not return, allow the call."""
    rest = [_instruction(LOAD, FIRST_ARGUMENT), *rest, _instruction(RETURN, ALLOW)]
    return [_instruction(EQUAL, number, 0, len(rest)), *rest]


def _answer(test: int, value: int, returned: int) -> list[bytes]:
    """Return `returned` where the test holds for the value that is loaded; else go on."""
    return [_instruction(test, value, 0, 1), _instruction(RETURN, returned)]


def _instruction(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
