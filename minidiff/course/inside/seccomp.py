"""System calls that no answer needs, refused by the kernel (seccomp, Linux only).

Memory files and System V segments hold memory that belongs to no process, so that no limit and no watch would count it;
the others look into processes or reach into the kernel.
"""

import ctypes
import platform
import struct
import sys

# name → number on x86_64 and on aarch64
_REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH of <linux/audit.h>
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of <linux/bpf_common.h>
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # <linux/seccomp.h>
_NR, _ARCH = 0, 4  # offsets in struct seccomp_data


def program(machine: str) -> bytes:
    """The filter as BPF instructions of 8 bytes: code, jump if true, jump if false, operand."""
    column, arch = _MACHINES[machine]
    steps = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR)]
    steps += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _EPERM)]  # the numbers of x32 on x86_64
    for numbers in _REFUSED.values():
        steps += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _EPERM)]
    return b"".join(struct.pack("<HBBI", *step) for step in [*steps, (_RETURN, 0, 0, _ALLOW)])


def refuse() -> bool:
    """Refuse these calls to this process and its children, for good. False where there is no seccomp."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        return False
    code = ctypes.create_string_buffer(program(machine), len(program(machine)))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(code))  # struct sock_fprog
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    no_new_privileges, set_filter, mode_filter = 38, 22, 2
    prctl(no_new_privileges, 1, 0, 0, 0)
    return prctl(set_filter, mode_filter, ctypes.c_char_p(header), 0, 0) == 0
