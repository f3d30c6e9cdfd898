"""The zygote: a small single-threaded process with all imports, which forks workers on request.

A fork takes 4 ms, a new interpreter 100 ms. The host is never forked, because it may have threads. The zygote does not
reap a worker until the host allows it, so the pid of the worker is not reused. The host identifies a worker by the pid
from the zygote, and never by a message of the worker.

A *holder* is the same loop in a process that has loaded the inputs of one session. Its workers share the decoded inputs
copy-on-write. The zygote never has inputs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from rlm_adapters.sandbox.hardening import linux, probe
from rlm_adapters.sandbox.protocol.exits import EXIT_FAILED
from rlm_adapters.sandbox.protocol.frames import Message
from rlm_adapters.sandbox.repl.repl import Repl
from rlm_adapters.sandbox.worker import worker
from rlm_adapters.sandbox.worker.channel import WorkerChannel

_MAX_FILES: Final = 1024
_REAP_SECONDS: Final = 0.05
_STATUS_SECONDS: Final = 0.005
_STATUS_TRIES: Final = 20


class ForkServer:
    """Forks workers from this process and ends them.

    Args:
        channel: to the host.
        loaded: inputs for the workers.
        prepared: a namespace for each of them: a worker is a copy of this process, and so has one of its own.
    """

    def __init__(self, channel: WorkerChannel, loaded: worker.Loaded, prepared: Repl) -> None:
        self._channel = channel
        self._loaded = loaded
        self._prepared = prepared
        self._children: set[int] = set()
        self._dying: set[int] = set()

    def serve(self) -> NoReturn:
        """Answer requests until the host closes the channel or ends. Then end all processes."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                timeout = _REAP_SECONDS if self._dying else None
                if select.select([self._channel.fd], [], [], timeout)[0]:
                    request, fds = self._channel.receive_fds()
                    answer = self._answer(request, fds)
                    if answer is not None:
                        self._channel.send(answer)
                self._reap()
        for pid in self._children:
            _kill_group(pid)
        with contextlib.suppress(ChildProcessError):  # init may not reap orphans
            while True:
                os.waitpid(-1, 0)
        os._exit(0)

    def _answer(self, request: Message, fds: Sequence[int]) -> Message | None:
        """The answer to a request; None: no answer is expected."""
        if request["t"] == "end":
            status = self._end(request["pid"], wait=request["wait"])
            return {"t": "ended", "status": status} if request["wait"] else None
        if request["t"] == "load":
            try:
                self._loaded.take(request["items"], fds, self._channel.fill)
            except (ValueError, MemoryError) as error:
                return {"t": "failed", "message": str(error) or "there is not enough memory for it"}
            gc.freeze()
            return {"t": "loaded"}
        return {"t": "forked", "pid": self._fork(fds[0], holder=request["t"] == "fork_holder")}

    def _fork(self, fd: int, *, holder: bool) -> int:
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            try:
                _settle(fd, parent)
                if holder:
                    linux.adopt_orphans()
                    ForkServer(WorkerChannel(fd), worker.Loaded(), self._prepared).serve()
                if not self._loaded.held:
                    linux.use_small_pages()
                worker.main(fd, self._loaded, self._prepared)
            finally:
                os._exit(EXIT_FAILED)
        os.close(fd)
        with contextlib.suppress(OSError):  # the child does the same; the first one wins
            os.setpgid(pid, pid)
        self._children.add(pid)
        return pid

    def _end(self, pid: int, *, wait: bool) -> int | None:
        """Kill a worker with its process group and reap it. Returns its wait status, if ``wait``."""
        if pid not in self._children:
            return None
        status = None
        if wait:  # it has closed its socket, so it is ending: get its status before killing it
            status = _status_soon(pid)
        _kill_group(pid)
        self._children.discard(pid)
        self._dying.add(pid)
        self._reap()
        return status

    def _reap(self) -> None:
        """Reap the ended processes of groups that are ending (this process is the parent of their orphans)."""
        for group in list(self._dying):
            try:
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                self._dying.discard(group)


def _settle(fd: int, parent: int) -> None:
    """In a new child: set a new process group, end with the parent, and close all descriptors but ``fd`` and 0-2."""
    os.setpgid(0, 0)
    linux.die_with_parent(parent)
    os.closerange(3, fd)
    os.closerange(fd + 1, _MAX_FILES)


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # its group may not exist yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _status_soon(pid: int) -> int | None:
    """The exit status of a child that has just closed its socket, without reaping it; None: it still runs."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return None
    for _ in range(_STATUS_TRIES):
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is not None:
            return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        select.select([], [], [], _STATUS_SECONDS)
    return None


def main(fd: int, modules: Sequence[str]) -> NoReturn:
    """Run as the zygote on this descriptor. Does not return.

    Args:
        fd: socket to the host.
        modules: modules to import now, for every worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = WorkerChannel(fd)
    try:
        for module in modules:
            importlib.import_module(module)
        linux.adopt_orphans()
        _quiet()
        prepared = Repl()
        gc.collect()
        gc.freeze()
        found = probe.probe()
        channel.send({"t": "hello", "layers": sorted(found.layers), "notes": list(found.notes)})
    except BaseException:  # noqa: BLE001 - whatever it is, the host should hear of it
        channel.send({"t": "failed", "message": traceback.format_exc()})
        os._exit(1)
    ForkServer(channel, worker.Loaded(), prepared).serve()


def _quiet() -> None:
    """Redirect the standard streams to the null device, limit the descriptors, and empty the environment."""
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > _MAX_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES, _MAX_FILES))
    del soft
    os.environ.clear()
