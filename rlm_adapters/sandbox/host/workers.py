"""Make workers for a session: from the zygote, or from a holder of the session's big inputs.

Decoding 100 MB of text takes 110 to 200 ms. Forking a process that has it takes 10 ms, and the pages are shared. So big
texts are first loaded into a holder, which forks the workers: the first one, its replacement after a kill, and those of
other sessions of the same scope with the same inputs. A holder belongs to one scope, so a worker is never forked from
a process with inputs of another run.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Hashable, Sequence
from typing import Final

from rlm_adapters.errors import InputError, SandboxError
from rlm_adapters.sandbox.host.channel import ChannelClosedError, ChannelTimeoutError, ChannelUnsentError
from rlm_adapters.sandbox.host.forkserver import ForkServerGoneError, Holder, WorkerProcess
from rlm_adapters.sandbox.host.inputs import Big, loads_to_hold
from rlm_adapters.sandbox.host.messages import parse_failure
from rlm_adapters.sandbox.host.spec import SessionSpec
from rlm_adapters.sandbox.host.zygotes import SharedZygote
from rlm_adapters.sandbox.protocol.frames import Message, ProtocolError

_START_SECONDS: Final = 600.0


class Held:
    """Some big inputs and their holder. The holder is started at the first use, and again if it dies."""

    def __init__(self, zygote: SharedZygote, bigs: Sequence[Big]) -> None:
        self._zygote = zygote
        self._bigs = bigs  # keeps the objects alive, so that keys from their ids stay valid
        self._lock = threading.Lock()
        self._holder: Holder | None = None

    def fork(self, *, max_frame_bytes: int) -> WorkerProcess:
        """A worker that shares the inputs.

        Raises:
            InputError: One of them cannot be read or decoded.
            SandboxError: There is no holder.
        """
        for _ in range(2):
            with self._lock:
                try:
                    holder = self._holder = self._holder or self._make()
                    return holder.fork(max_frame_bytes=max_frame_bytes)
                except ForkServerGoneError:
                    self._holder = None
        raise SandboxError("no worker could be started: the process that holds its inputs died twice")

    def _make(self) -> Holder:
        holder = self._zygote.fork_holder()
        for load in loads_to_hold(self._bigs):
            holder.load(load)
        return holder


class HeldInputs:
    """The big inputs in holders for the sessions of a sandbox, by scope and content."""

    def __init__(self, zygote: SharedZygote) -> None:
        self._zygote = zygote
        self._lock = threading.Lock()
        self._held: weakref.WeakValueDictionary[tuple[Hashable, frozenset[str]], Held] = weakref.WeakValueDictionary()

    def get(self, scope: Hashable | None, bigs: Sequence[Big]) -> Held:
        """The holder for these inputs in this scope; without a scope, a new one."""
        unique = list({big.key: big for big in bigs}.values())
        if scope is None:
            return Held(self._zygote, unique)
        key = (scope, frozenset(big.key for big in unique))
        with self._lock:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = Held(self._zygote, unique)
            return held


class WorkerFactory:
    """Makes the workers of one session."""

    def __init__(
        self, zygote: SharedZygote, spec: SessionSpec, held_inputs: HeldInputs, scope: Hashable | None
    ) -> None:
        self.spec = spec
        self._zygote = zygote
        self._bigs = spec.inputs.big()
        self._held: Held | None = held_inputs.get(scope, self._bigs) if self._bigs else None

    def start(self) -> WorkerProcess:
        """Start a confined worker with the session's inputs, which waits for a cell.

        Raises:
            InputError: An input cannot be read or decoded.
            SandboxError: The worker did not start.
        """
        source = self._held or self._zygote
        worker = source.fork(max_frame_bytes=self.spec.limits.frame_bytes)
        deadline = time.monotonic() + _START_SECONDS
        try:
            with contextlib.suppress(ChannelUnsentError):  # it has given up and sent the reason
                for load in self.spec.inputs.loads(held=self._bigs):
                    worker.channel.send({"t": "load", "items": list(load.items)}, deadline=deadline, fds=load.fds)
                worker.channel.send(self.spec.begin(), deadline=deadline)
            self._check_ready(worker.channel.receive(deadline=deadline))
        except BaseException as error:
            worker.end()
            if isinstance(error, (ChannelClosedError, ChannelTimeoutError, ProtocolError)):
                raise SandboxError(f"a worker did not start: {error or 'it took too long'}") from None
            raise
        return worker

    def close(self) -> None:
        """Release the inputs. The holder ends with the last session that uses it."""
        self._held = None

    def _check_ready(self, message: Message) -> None:
        """Refuse inputs that could not be decoded, and workers without a layer that this machine has."""
        if message["t"] == "refused":
            raise InputError(parse_failure(message))
        if message["t"] == "failed":
            raise SandboxError(f"a worker did not start: {parse_failure(message)}")
        if message["t"] != "ready" or sorted(message["layers"]) != sorted(self.spec.layers):
            raise SandboxError("a worker is not confined as it should be")
