"""What the caller and the actors send each other: plain, frozen records that pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox.host.inputs import Place
from rlm_adapters.sandbox.host.runahead import AheadTerms
from rlm_adapters.sandbox.protocol.types import (
    Answer,
    CellRecord,
    Done,
    HostFunction,
    Isolation,
    Pending,
    SandboxLimits,
)


class InputsLostError(SandboxError):
    """Inputs are not in the cluster's object store any more: they have to be put there again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What an actor's sandbox is made with; see `rlm_adapters.Sandbox`."""

    limits: SandboxLimits
    require: Isolation | None
    allow_modules: tuple[str, ...]
    ahead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What an actor tells of itself when it is ready.

    Attributes:
        node: id of its node.
        isolation: of its workers; None: it has none of its own.
        notes: why it is no better.
    """

    node: str
    isolation: Isolation | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One input of a session: its content, or the digest of content that the object store has.

    Attributes:
        place: where it belongs.
        kind: of `rlm_adapters.sandbox.protocol.encoding`.
        inline: the content as base64, if it is small.
        digest: SHA-256 of the content, if it is not.
    """

    place: Place
    kind: str
    inline: str = ""
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """All that a session is opened with on a node; see `rlm_adapters.sandbox.host.executor.Executor.open`."""

    items: tuple[Item, ...]
    later: tuple[tuple[int, float | None], ...]
    """Of each `LaterInputs`: cells before it, and the instant to which the clock moves on."""
    functions: tuple[HostFunction, ...]
    output_fields: tuple[str, ...] | None
    seed: int
    epoch: float
    journal: tuple[CellRecord, ...]
    width: int
    """Most calls that go out together."""
    scope: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Run a cell, or go on with the one that waits.

    Attributes:
        what: which of both.
        code: the cell; empty to go on.
        answers: that the session has not been told yet.
        ahead: how far it may run ahead.
    """

    what: Literal["start", "resume"]
    code: str
    answers: Mapping[str, Answer]
    ahead: AheadTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """How far it got.

    Attributes:
        outcome: as of `ExecutorSession.start`.
        used: ids of the answers that the finished cell was given.
        failed: its worker was killed in it.
        stdout_sha256: hash of its output, as in the journal.
        found: of each look ahead: calls found, and how many there was room for.
    """

    outcome: Pending | Done
    used: tuple[str, ...] = ()
    failed: bool = False
    stdout_sha256: str = ""
    found: tuple[tuple[int, int], ...] = ()
