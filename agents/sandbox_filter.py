"""The system calls that programs in the sandbox are refused: a filter in classic BPF, for x86-64 and arm64.

Refused is what holds memory that nobody counts (memfd, SysV memory, queues and semaphores), what makes namespaces and
mounts, where a program would have rights again and could mount memory, what reads other processes, and keys, which
outlive the program. A call answers EPERM, or ENOSYS where libraries then take another way; nothing is killed.

Layout of instructions and of `struct seccomp_data`: linux/bpf_common.h, linux/seccomp.h. Numbers of system calls:
the tables of the kernel, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

import errno
import os
import struct

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _MACHINE, _FIRST_LOW = 0, 4, 16
"""Offsets: the call's number, the machine's, the low half of its first argument."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PERMISSION, _UNKNOWN = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
NAMESPACES = 0x7E020000
"""Flags of clone that make namespaces."""
_X32 = 0x40000000
_REFUSED = {
    # name: number on x86-64, on arm64
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192),
    "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
}  # fmt: skip
_ABSENT = {"clone3": (435, 435), "io_uring_setup": (425, 425)}
"""Said to be unknown: the C library then calls clone, whose flags can be looked at."""
_CLONE = (56, 220)


def system_call_filter(machine: str = "") -> bytes:
    """Return the filter as the kernel takes it, eight bytes an instruction; b"" for a machine that has none here.

    Args:
        machine: As `uname -m` names it; this one if "".
    """
    machine = machine or os.uname().machine
    if machine not in _AUDIT:
        return b""
    column = list(_AUDIT).index(machine)
    refused = sorted(numbers[column] for numbers in _REFUSED.values())
    absent = sorted(numbers[column] for numbers in _ABSENT.values())
    code = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, _PERMISSION),  # 32-bit calls have numbers of their own
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _PERMISSION),
    ]
    for numbers, answer in ((refused, _PERMISSION), (absent, _UNKNOWN)):
        for number in numbers:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    code += [
        (_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_LOW),
        (_ANY_BIT, 0, 1, NAMESPACES),
        (_RETURN, 0, 0, _PERMISSION),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
