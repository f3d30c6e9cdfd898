"""Check that both sides have the same version of the package, because their messages have no version."""

from __future__ import annotations

import sys

from rlm_adapters.errors import SandboxError


class VersionError(SandboxError):
    """The nodes of the cluster have another version of rlm-adapters than the caller."""


def version_here() -> str:
    """Version of this package in this process."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def check_version(caller: str) -> None:
    """In an actor: refuse a caller with another version.

    Raises:
        VersionError: the caller has another version.
    """
    if caller != (here := version_here()):
        raise VersionError(
            f"this process has rlm-adapters {caller}, the nodes of the cluster have {here}: install the same version "
            f'there, or give runtime_env={{"pip": ["rlm-adapters[ray]=={caller}"]}}'
        )
