"""Judges what a cell reached of the host when there is no policy at all: the operating system's layers alone.

Every cell is plain Python here, so what it binds inside of its own process proves nothing. What counts is the host:
`Host` sets out things that an escape would touch (a file, an environment variable, listening sockets, a process,
an empty directory), and after an attack `TRY` makes the same worker try everything that an escape is good for.
"""

from __future__ import annotations

import ast
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rlm_adapters.sandbox import Done

MARKS = ("root:x:0:", "root:/root")
"""In every /etc/passwd."""
_VARIABLE = "RLM_CANARY_API_KEY"
_SHOW_CHARS = 20_000

TRY = '''
def __rlm_try(canary, directory, port, path, pid, parent):
    """Everything that an escape is good for; gives what succeeded."""
    import ctypes, mmap, os, signal, socket, subprocess
    def connect():
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            return s
    def unix():
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return s
    def call(name, *arguments):
        if getattr(ctypes.CDLL(None), name)(*arguments) < 0:
            raise OSError(name)
        return True
    attempts = {
        "read a file": lambda: open(canary).read(),
        "read a file by descriptor": lambda: os.open(canary, os.O_RDONLY),
        "read /etc/passwd": lambda: open("/etc/passwd", "rb").read(),
        "looked a file up": lambda: os.stat(canary),
        "wrote a file": lambda: open(directory + "/written", "w").write("x"),
        "overwrote a file": lambda: open(canary, "w").write("x"),
        "made a directory": lambda: os.mkdir(directory + "/made") or True,
        "removed a file": lambda: os.unlink(canary) or True,
        "listed a directory": lambda: os.listdir("/"),
        "read the environment": lambda: {k: v for k, v in os.environ.items() if "KEY" in k},
        "read the first environment": lambda: open("/proc/self/environ", "rb").read(),
        "read its parent's environment": lambda: open(f"/proc/{parent}/environ", "rb").read(),
        "read the host's memory": lambda: open(f"/proc/{pid}/mem", "rb").read(1),
        "connected to loopback": connect,
        "connected to a unix socket": unix,
        "made a datagram socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "forked": lambda: os.fork() or os._exit(0),
        "started a program": lambda: subprocess.run(["/bin/true"], timeout=5).returncode == 0,
        "signalled the host": lambda: os.kill(pid, 0) is None,
        "signalled its parent": lambda: os.kill(parent, 0) is None,
        "traced the host": lambda: call("ptrace", 16, pid, 0, 0),
        "made shared memory": lambda: call("shmget", 4242, 4096, 0o1666),
        "made a namespace": lambda: call("unshare", 0x10000000),
    }
    found = []
    for what, attempt in attempts.items():
        try:
            if attempt():
                found.append(what)
        except BaseException:
            pass
    return found, len(attempts)
'''
_SHOW = f"""
try:
    shown = (ascii(PWN)[:{_SHOW_CHARS}], str(PWN)[:{_SHOW_CHARS}])
except BaseException as error:
    shown = type(error)
print(shown)
"""


class Host:
    """What an escape would touch. Enter it before the sandbox starts its zygote.

    Attributes:
        secret: in the environment and in the file ``canary``.
        canary: a file that any process of this user could read.
        attempts: number of things that a worker was made to try, over all attacks.
        mute: number of attacks after which a worker could not be made to try (corrupted by the attack): these are
            judged by the host's side alone.
    """

    def __init__(self) -> None:
        self.secret = f"sk-canary-{secrets.token_hex(8)}"
        self.attempts = 0
        self.mute = 0
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-attacks-")))
        self._directory.chmod(0o777)
        self.canary = self._directory / "canary"
        self.canary.write_text(self.secret)
        self.canary.chmod(0o666)
        self._tcp = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._unix = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._unix.bind(str(self._directory / "socket"))
        self._unix.listen()
        for server in (self._tcp, self._unix):
            server.setblocking(False)
        self._bystander = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(3600)"], stdin=subprocess.DEVNULL
        )
        self._stack.callback(self._end_bystander)
        os.environ[_VARIABLE] = self.secret
        self._stack.callback(os.environ.pop, _VARIABLE, None)
        self._files = self._listing()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def reached(self, session: Any) -> list[str]:
        """What the worker of this session got hold of, or still can, after an attack ran in it; empty: nothing."""
        shown = session.start(_SHOW)
        found = list(self._seen_in(shown))
        session.start(TRY)
        arguments = (
            str(self.canary),
            str(self._directory),
            self._tcp.getsockname()[1],
            str(self._directory / "socket"),
            os.getpid(),
            session._workers._zygote._current()._process.pid,
        )
        tried = session.start(f"import sys\nsys.stdout.write(ascii(__rlm_try{arguments!r}))")
        found += self._seen_in(tried)
        count = _count(tried)
        with self._lock:
            if count is None:
                self.mute += 1
            else:
                found += count[0]
                self.attempts += count[1]
            return found + list(self._touched())

    def _seen_in(self, step: object) -> Iterator[str]:
        text = step.stdout if isinstance(step, Done) else repr(step)
        for mark in (self.secret, *MARKS):
            if mark in text:
                yield f"showed {mark!r}"

    def _touched(self) -> Iterator[str]:
        """What the host itself notices."""
        if self._listing() != self._files:
            yield "changed the host's files"
        for server in (self._tcp, self._unix):
            with contextlib.suppress(BlockingIOError):
                server.accept()[0].close()
                yield "connected to the host"
        if self._bystander.poll() is not None:
            yield "ended a process of the host"

    def _listing(self) -> dict[str, str]:
        return {p.name: p.read_text() if p.is_file() else "" for p in self._directory.iterdir()}

    def _end_bystander(self) -> None:
        self._bystander.kill()
        self._bystander.wait()


def _count(step: object) -> tuple[list[str], int] | None:
    """What `TRY` reported; None when the attack has left the worker unable to."""
    try:
        found, tried = ast.literal_eval(step.stdout)  # type: ignore[attr-defined]
    except (AttributeError, ValueError, SyntaxError, TypeError):
        return None
    return (found, tried) if isinstance(found, list) and isinstance(tried, int) else None
