"""Give up rights that a worker's process may have."""

from __future__ import annotations

import os
import sys
from typing import Final

from rlm_adapters.sandbox.hardening import linux

_NOBODY: Final = 65534
_OWN_USERS: Final = 1 << 30
"""User ids from this number up to twice this number are not used in practice."""


def drop() -> bool:
    """If this process belongs to root, change to a user without rights. In any case, forbid debuggers.

    This is not a layer: without root there is nothing to drop, and the layers do not depend on it if users cannot be
    changed (in a container with few user ids).

    Returns:
        Whether this process is now the only one of its user, so that limits per user apply only to it.
    """
    own_user = False
    if os.geteuid() == 0:
        alone = _OWN_USERS | (int.from_bytes(os.urandom(4), "big") % _OWN_USERS)
        own_user = _become(alone)
        if not own_user:
            _become(_NOBODY)
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.die_with_parent(os.getppid())  # a change of the user removes this setting
    return own_user


def _become(user: int) -> bool:
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except (OSError, AttributeError):  # macOS has no setresuid
        return False
    return True
