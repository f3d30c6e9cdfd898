"""The same package on both sides: what they send each other has no version of its own."""

from __future__ import annotations

import sys

from rlm_adapters.errors import SandboxError


class VersionError(SandboxError):
    """The nodes of the cluster have another version of rlm-adapters than the caller."""


def version_here() -> str:
    """Version of this package in this process."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def check_version(caller: str) -> None:
    """In an actor: refuse a caller of another version.

    Raises:
        VersionError: it is one.
    """
    if caller != (here := version_here()):
        raise VersionError(
            f"this process has rlm-adapters {caller}, the nodes of the cluster have {here}: install the same version "
            f'there, or give runtime_env={{"pip": ["rlm-adapters[ray]=={caller}"]}}'
        )
