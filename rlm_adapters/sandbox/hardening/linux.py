"""System calls that Python's standard library does not have."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from functools import cache
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_THP_DISABLE: Final = 41


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Call the kernel directly.

    Raises:
        OSError: The call failed.
    """
    return _check(_libc().syscall(ctypes.c_long(number), *map(_register, arguments)))


def prctl(option: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    """Change a property of this process.

    Raises:
        OSError: The call failed.
    """
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _check(_libc().prctl(ctypes.c_int(option), *map(_register, padded)))


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that forked it ends. Only for single-threaded parents."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent had already ended
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of orphans of its descendants, because init may never reap them."""
    if sys.platform == "linux":
        prctl(PR_SET_CHILD_SUBREAPER, 1)


def use_small_pages() -> None:
    """Give this process no more pages of 2 MB. It keeps those that it has."""
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel without such pages
            prctl(PR_SET_THP_DISABLE, 1)


def _register(argument: int | ctypes.Array[ctypes.c_char] | None) -> ctypes.c_ulong | ctypes.c_void_p:
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, int):
        return ctypes.c_ulong(argument)
    return ctypes.c_void_p(ctypes.addressof(argument))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
