"""Giving up what a worker's process may have been born with."""

from __future__ import annotations

import os
import sys
from typing import Final

from rlm_adapters.sandbox.hardening import linux

_NOBODY: Final = 65534
_OWN_USERS: Final = 1 << 30
"""Users from here up to twice this number belong to nobody in practice."""


def drop() -> bool:
    """Become a user without rights if this process is root's, and invisible to debuggers in any case.

    Not counted as a layer: without root there is nothing to drop, and where users cannot be changed (a container
    with few of them) the layers do not depend on it.

    Returns:
        Whether this process is now the only one of its user, so that limits by user are its own.
    """
    own_user = False
    if os.geteuid() == 0:
        alone = _OWN_USERS | (int.from_bytes(os.urandom(4), "big") % _OWN_USERS)
        own_user = _become(alone)
        if not own_user:
            _become(_NOBODY)
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.die_with_parent(os.getppid())  # changing the user has undone it
    return own_user


def _become(user: int) -> bool:
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except (OSError, AttributeError):  # macOS has no setresuid
        return False
    return True
