"""Numbers of the system calls that the hardening uses, by machine.

``tests/sandbox/hardening/test_hardening.py`` compares both tables with the kernel's headers, if they are installed.
aarch64 does not have old calls that newer ones have replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Architecture:
    """Data about a machine for a seccomp filter.

    Attributes:
        audit: its AUDIT_ARCH number.
        numbers: system call numbers by name.
        first_foreign: numbers from this one on belong to another ABI of the machine (x32); None: there is none.
    """

    audit: int
    numbers: Mapping[str, int]
    first_foreign: int | None = None


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "x86_64": Architecture(
        audit=0xC000003E,
        first_foreign=0x40000000,
        numbers={
            "read": 0,
            "write": 1,
            "close": 3,
            "poll": 7,
            "mmap": 9,
            "mprotect": 10,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "select": 23,
            "sched_yield": 24,
            "mremap": 25,
            "madvise": 28,
            "nanosleep": 35,
            "setitimer": 38,
            "getpid": 39,
            "clone": 56,
            "fork": 57,
            "exit": 60,
            "wait4": 61,
            "gettimeofday": 96,
            "getppid": 110,
            "sigaltstack": 131,
            "prctl": 157,
            "gettid": 186,
            "time": 201,
            "futex": 202,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "clock_getres": 229,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "pselect6": 270,
            "ppoll": 271,
            "set_robust_list": 273,
            "pipe2": 293,
            "seccomp": 317,
            "getrandom": 318,
            "rseq": 334,
            "clone3": 435,
            "landlock_create_ruleset": 444,
            "landlock_add_rule": 445,
            "landlock_restrict_self": 446,
        },
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        numbers={
            "close": 57,
            "pipe2": 59,
            "read": 63,
            "write": 64,
            "pselect6": 72,
            "ppoll": 73,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "set_robust_list": 99,
            "nanosleep": 101,
            "setitimer": 103,
            "clock_gettime": 113,
            "clock_getres": 114,
            "clock_nanosleep": 115,
            "sched_yield": 124,
            "restart_syscall": 128,
            "sigaltstack": 132,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "prctl": 167,
            "gettimeofday": 169,
            "getpid": 172,
            "getppid": 173,
            "gettid": 178,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "clone": 220,
            "mmap": 222,
            "mprotect": 226,
            "madvise": 233,
            "wait4": 260,
            "seccomp": 277,
            "getrandom": 278,
            "rseq": 293,
            "clone3": 435,
            "landlock_create_ruleset": 444,
            "landlock_add_rule": 445,
            "landlock_restrict_self": 446,
        },
    ),
}
