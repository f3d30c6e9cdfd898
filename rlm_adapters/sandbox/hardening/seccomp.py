"""A seccomp filter that allows only what a running worker needs.

It is an allowlist. The denylist of the prototype did not cover SysV shared memory, setpriority for other processes,
inotify and others. Allowed are: reading and writing open descriptors (the channel, and the null device), memory without
execute permission, threads, the clock, random numbers, and signals to itself.

The filter is classic BPF with about 90 instructions. It is assembled here without a library.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import signal
import struct
from typing import Final

from rlm_adapters.sandbox.hardening import linux
from rlm_adapters.sandbox.hardening.syscalls import ARCHITECTURES, Architecture

ALLOWED: Final = (
    # ordered by how often a cell needs them
    *("futex", "munmap", "mremap", "brk", "madvise", "read", "write", "clock_gettime"),
    *("rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "restart_syscall", "setitimer"),
    *("clock_nanosleep", "nanosleep", "clock_getres", "gettimeofday", "time", "getrandom"),
    *("getpid", "gettid", "sched_yield", "set_robust_list", "rseq", "close", "exit", "exit_group"),
)
"""Calls that are allowed with any arguments."""

ALLOWED_TO_FORK: Final = ("wait4", "pipe2", "poll", "ppoll", "select", "pselect6", "getppid")
"""Further calls in a worker that can fork itself for run-ahead."""

_PROT_EXEC: Final = 0x4
_THREAD_FLAGS: Final = (0x3D0F00, 0x7D0F00)
"""Flags of clone in pthread_create of glibc and musl: CLONE_THREAD and related flags, no namespaces."""
_FORK_FLAGS: Final = (0x01200011, 0x11)
"""Flags of clone in fork of glibc and musl."""

_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER_EQUAL: Final = 0x35
_JUMP_BITS_SET: Final = 0x45
_RETURN: Final = 0x06
_NUMBER_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4
_ARGUMENTS_OFFSET: Final = 16

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000

_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1


class Program:
    """A BPF program. Every test jumps over its own two or three instructions only."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        """Load a word of ``struct seccomp_data``."""
        self._instructions.append((_LOAD, 0, 0, offset))

    def load_argument(self, index: int) -> None:
        """Load the lower word of an argument of the system call."""
        self.load(_ARGUMENTS_OFFSET + 8 * index)

    def finish(self, action: int) -> None:
        """End with this action."""
        self._instructions.append((_RETURN, 0, 0, action))

    def finish_if(self, test: int, value: int, action: int) -> None:
        """End with this action if the loaded word passes the test."""
        self._instructions.append((test, 0, 1, value))
        self.finish(action)

    def finish_unless(self, test: int, value: int, action: int) -> None:
        """End with this action if the loaded word does not pass the test."""
        self._instructions.append((test, 1, 0, value))
        self.finish(action)

    def block_if_equal(self, value: int, block: Program) -> None:
        """Run ``block``, which must end with an action, if the loaded word has this value."""
        self._instructions.append((_JUMP_EQUAL, 0, len(block), value))
        self._instructions += block._instructions

    def __len__(self) -> int:
        return len(self._instructions)

    def __bytes__(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self._instructions)


def build(architecture: Architecture, *, allow_fork: bool) -> Program:
    """The filter for a machine."""
    numbers = architecture.numbers
    refuse = _ERRNO | errno.EPERM
    program = Program()
    program.load(_ARCH_OFFSET)
    program.finish_unless(_JUMP_EQUAL, architecture.audit, _KILL)
    program.load(_NUMBER_OFFSET)
    if architecture.first_foreign is not None:
        program.finish_if(_JUMP_GREATER_EQUAL, architecture.first_foreign, _KILL)
    for name in (*ALLOWED, *(ALLOWED_TO_FORK if allow_fork else ())):
        if name in numbers:
            program.finish_if(_JUMP_EQUAL, numbers[name], _ALLOW)
    for name in ("mmap", "mprotect"):  # memory must not be executable
        block = Program()
        block.load_argument(2)
        block.finish_if(_JUMP_BITS_SET, _PROT_EXEC, refuse)
        block.finish(_ALLOW)
        program.block_if_equal(numbers[name], block)
    clone = Program()
    clone.load_argument(0)
    for flags in (*_THREAD_FLAGS, *(_FORK_FLAGS if allow_fork else ())):
        clone.finish_if(_JUMP_EQUAL, flags, _ALLOW)
    clone.finish(refuse)
    program.block_if_equal(numbers["clone"], clone)
    # A filter cannot see its flags, which are in memory. After ENOSYS the C library uses clone.
    program.finish_if(_JUMP_EQUAL, numbers["clone3"], _ERRNO | errno.ENOSYS)
    if allow_fork:  # a copy must end with its worker
        prctl = Program()
        prctl.load_argument(0)
        prctl.finish_unless(_JUMP_EQUAL, linux.PR_SET_PDEATHSIG, refuse)
        prctl.load_argument(1)
        prctl.finish_unless(_JUMP_EQUAL, signal.SIGKILL, refuse)
        prctl.finish(_ALLOW)
        program.block_if_equal(numbers["prctl"], prctl)
    program.finish(refuse)
    return program


def apply(*, allow_fork: bool) -> None:
    """Install the filter for all threads of this process. It cannot be removed.

    Raises:
        OSError: The kernel refused it.
        KeyError: This machine's system calls are not known.
    """
    architecture = ARCHITECTURES[platform.machine()]
    code = bytes(build(architecture, allow_fork=allow_fork))
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    blocked_thread = linux.syscall(
        architecture.numbers["seccomp"], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, program
    )
    if blocked_thread:
        raise OSError(errno.EBUSY, f"thread {blocked_thread} could not be filtered")
