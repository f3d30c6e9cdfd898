"""Giving up what a worker's process may have been born with."""

from __future__ import annotations

import contextlib
import os
import sys

from rlm_adapters.sandbox.hardening import linux

_NOBODY = 65534


def drop() -> None:
    """Become nobody if this process is root's, and invisible to debuggers in any case.

    Not counted as a layer: without root there is nothing to drop, and where users cannot be changed (a container
    with one user) the layers do not depend on it.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        linux.die_with_parent(os.getppid())  # changing the user has undone it
