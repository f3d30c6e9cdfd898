"""The messages between the caller and the actors: plain, frozen records that can be pickled."""

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
    """Inputs are not in the cluster's object store any more. They must be put there again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """Settings of an actor's sandbox; see `rlm_adapters.Sandbox`."""

    limits: SandboxLimits
    require: Isolation | None
    allow_modules: tuple[str, ...]
    ahead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message of an actor when it is ready.

    Attributes:
        node: id of its node.
        isolation: isolation level of its workers; None: it has no workers.
        notes: why the level is not higher.
    """

    node: str
    isolation: Isolation | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One input of a session: its content, or the digest of content that the object store has.

    Attributes:
        place: its place in the session.
        kind: see `rlm_adapters.sandbox.protocol.encoding`.
        inline: small content as base64.
        digest: SHA-256 of big content.
    """

    place: Place
    kind: str
    inline: str = ""
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """All arguments to open a session on a node; see `rlm_adapters.sandbox.host.executor.Executor.open`."""

    items: tuple[Item, ...]
    later: tuple[tuple[int, float | None], ...]
    """For each `LaterInputs`: number of cells before it, and the time to which the clock is set."""
    functions: tuple[HostFunction, ...]
    output_fields: tuple[str, ...] | None
    seed: int
    epoch: float
    journal: tuple[CellRecord, ...]
    width: int
    """Most calls that are sent together."""
    scope: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Run a cell, or continue the waiting cell.

    Attributes:
        what: which of the two.
        code: the cell; empty to continue.
        answers: answers that the session does not have yet.
        ahead: how far it may run ahead.
    """

    what: Literal["start", "resume"]
    code: str
    answers: Mapping[str, Answer]
    ahead: AheadTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """The outcome of a `Step`.

    Attributes:
        outcome: as from `ExecutorSession.start`.
        used: ids of the answers that the finished cell got.
        failed: whether its worker was killed in it.
        stdout_sha256: hash of its output, as in the journal.
        found: for each look-ahead: number of calls found, and the number that was allowed.
    """

    outcome: Pending | Done
    used: tuple[str, ...] = ()
    failed: bool = False
    stdout_sha256: str = ""
    found: tuple[tuple[int, int], ...] = ()
