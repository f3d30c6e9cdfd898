"""The actor: an ordinary sandbox on a node, with the sessions of callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_adapters.cluster.content import NodeContent
from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.orders import Hello, HostSettings, InputsLostError, Item, Opening, Step, Stepped
from rlm_adapters.cluster.versions import check_version
from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox.host.inputs import FileVariable
from rlm_adapters.sandbox.host.runahead import AheadAccount
from rlm_adapters.sandbox.host.sandbox import Sandbox
from rlm_adapters.sandbox.host.session import Session
from rlm_adapters.sandbox.protocol.encoding import load_value
from rlm_adapters.sandbox.protocol.types import LaterInputs, Pending


class _Account(AheadAccount):
    """The account of a session. The caller counts for the run, so this only records what to count."""

    def __init__(self, width: int, *, enabled: bool) -> None:
        super().__init__(width, enabled=enabled)
        self.looks: list[tuple[int, int]] = []

    def found(self, count: int, room: int) -> None:
        self.looks.append((count, room))
        super().found(count, room)


@dataclass(slots=True)
class _Guest:
    """A session in this actor."""

    session: Session
    account: _Account
    digests: list[str] = field(default_factory=list)


class SandboxHost:
    """Runs sessions for remote callers. Ray runs its methods on one event loop.

    Args:
        version: version of the caller's package.
        settings: of the sandbox.

    Raises:
        VersionError: the package here has another version.
        IsolationError: this node does not have the required isolation.
    """

    def __init__(self, version: str, settings: HostSettings) -> None:
        check_version(version)
        self._library = Library("an actor of RaySandbox")
        self._sandbox = Sandbox(
            limits=settings.limits,
            require=settings.require,
            allow_modules=settings.allow_modules,
            parallel="ahead" if settings.ahead else "off",
        )
        self._content = NodeContent()
        self._guests: dict[str, _Guest] = {}
        self._opening: set[str] = set()
        self._gone: set[str] = set()
        """Names of sessions that were closed while they were being opened."""

    async def hello(self) -> Hello:
        """Returns when the zygote is ready."""
        report = await self._sandbox.in_pool(lambda: self._sandbox.report)
        return Hello(node=self._library.node(), isolation=report.level, notes=report.notes)

    async def open(self, name: str, opening: Opening, refs: Mapping[str, Any]) -> None:
        """Open a session, and replay its journal.

        Args:
            name: name of the new session.
            opening: its inputs and settings.
            refs: its big inputs in the object store, by digest.

        Raises:
            InputsLostError: the object store does not have them.
        """
        self._opening.add(name)
        try:
            guest = await self._opened(opening, refs)
        finally:
            self._opening.discard(name)
            closed = name in self._gone
            self._gone.discard(name)
        if closed:
            await self._end(guest)
        else:
            self._guests[name] = guest

    async def step(self, name: str, step: Step) -> Stepped:
        """Run a cell of a session until it ends or waits."""
        guest = self._guests.get(name)
        if guest is None:
            raise SandboxError("the session was closed")
        guest.account.keep_to(step.ahead)
        guest.account.looks.clear()
        session = guest.session
        if step.what == "start":
            outcome = await session.astart(step.code, answers=step.answers)
        else:
            outcome = await session.aresume(step.answers)
        found = tuple(guest.account.looks)
        if isinstance(outcome, Pending):
            return Stepped(outcome=outcome, found=found)
        record = session.journal[-1]
        return Stepped(
            outcome=outcome,
            used=tuple(record.answers),
            failed=record.failed,
            stdout_sha256=record.stdout_sha256,
            found=found,
        )

    async def close(self, name: str) -> None:
        """End a session, also in the middle of a cell."""
        guest = self._guests.pop(name, None)
        if guest is not None:
            await self._end(guest)
        elif name in self._opening:
            self._gone.add(name)

    async def end(self) -> None:
        """End all sessions: nothing is left on the node."""
        await asyncio.to_thread(self._sandbox.close)

    async def _opened(self, opening: Opening, refs: Mapping[str, Any]) -> _Guest:
        digests = list(refs)
        for digest in self._content.missing(digests):
            try:
                shared = await refs[digest]
            except Exception as error:
                if self._library.is_lost(error):
                    raise InputsLostError("an input is not in the object store any more") from None
                raise
            await self._sandbox.in_pool(lambda digest=digest, shared=shared: self._content.add(digest, shared))  # type: ignore[misc]
        account = _Account(opening.width, enabled=True)
        files = self._content.use(digests)
        try:
            session = await self._sandbox.in_pool(lambda: self._open(opening, files, account))
        except BaseException:
            self._content.give_back(digests)
            raise
        return _Guest(session, account, digests)

    async def _end(self, guest: _Guest) -> None:
        with contextlib.suppress(SandboxError):
            await asyncio.shield(self._sandbox.in_pool(guest.session.close))
        self._content.give_back(guest.digests)

    def _open(self, opening: Opening, files: Mapping[str, int], account: AheadAccount) -> Session:
        given: list[dict[str, dict[str, Any]]] = [{"variable": {}, "file": {}} for _ in range(len(opening.later) + 1)]
        for item in opening.items:
            target, name, number = item.place
            given[number][target][name] = _value(item, files)
        first, *rest = given
        later = [
            LaterInputs(after=after, epoch=epoch, variables=one["variable"], files=one["file"])
            for (after, epoch), one in zip(opening.later, rest, strict=True)
        ]
        return self._sandbox.open(
            variables=first["variable"],
            files=first["file"],
            functions=opening.functions,
            output_fields=opening.output_fields,
            seed=opening.seed,
            epoch=opening.epoch,
            journal=opening.journal,
            ahead=account,
            scope=opening.scope,
            later=later,
        )


def _value(item: Item, files: Mapping[str, int]) -> Any:
    """An input for the sandbox of this node. Content is named only by digests, never by paths."""
    if item.digest is None:
        return load_value({"kind": item.kind, "inline": item.inline}, ())
    fd = files[item.digest]
    if item.place[0] == "file":
        return f"/dev/fd/{fd}"
    if item.kind in ("text", "bytes", "json"):
        return FileVariable(path=fd, kind=item.kind)  # type: ignore[arg-type] # one of them
    return load_value({"kind": item.kind, "fd": 0}, (fd,))
