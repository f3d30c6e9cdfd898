"""A Landlock domain without any right: no file or directory, no TCP, no signal to another process.

It forbids mostly the same as the seccomp filter, but with other code of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

from rlm_adapters.sandbox.hardening import linux
from rlm_adapters.sandbox.hardening.syscalls import ARCHITECTURES

_VERSION_FLAG: Final = 1
_FS_RIGHTS_BY_ABI: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of file rights of an ABI version. Refer, truncate and device ioctl were added later."""
_NET_SINCE: Final = 4
_NET_RIGHTS: Final = 0b11
_SCOPES_SINCE: Final = 6
_SCOPES: Final = 0b11


def abi() -> int:
    """Version of the kernel's Landlock interface.

    Raises:
        OSError: The kernel has none, or it is switched off.
        KeyError: This machine's system calls are not known.
    """
    return linux.syscall(_number("landlock_create_ruleset"), None, 0, _VERSION_FLAG)


def apply() -> None:
    """Put this thread, and all threads that it starts, into the domain. This cannot be undone.

    Raises:
        OSError: The kernel refused it.
        KeyError: This machine's system calls are not known.
    """
    version = abi()
    file_rights = (1 << max(count for since, count in _FS_RIGHTS_BY_ABI.items() if version >= since)) - 1
    fields = [file_rights]
    if version >= _NET_SINCE:
        fields.append(_NET_RIGHTS)
    if version >= _SCOPES_SINCE:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = linux.syscall(_number("landlock_create_ruleset"), buffer, len(attributes), 0)
    try:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        linux.syscall(_number("landlock_restrict_self"), ruleset, 0)
    finally:
        os.close(ruleset)


def _number(name: str) -> int:
    return ARCHITECTURES[platform.machine()].numbers[name]
