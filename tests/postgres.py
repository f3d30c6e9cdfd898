"""A PostgreSQL server of the tests' own, in a temporary directory, on a Unix socket only."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DEBIAN = "/usr/lib/postgresql"


def find_program(name: str) -> str | None:
    """The path of one of the server's programs; None where PostgreSQL is not installed."""
    versions = sorted(Path(_DEBIAN).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]), reverse=True)
    return shutil.which(name) or (str(versions[0]) if versions else None)


class PostgresServer:
    """A server in a folder of its own.

    Attributes:
        url: of its database, on a Unix socket.
    """

    def __init__(self, root: Path, user: str | None) -> None:
        self.url = f"postgresql://test@/postgres?host={root}"
        self._root = root
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [find_program("postgres"), "-D", self._root / "data", "-k", self._root]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, cwd=self._root, stdout=log, stderr=log)
        _wait_for(self.url, self._process, self._root / "log")

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it; by default its sessions are ended. SIGQUIT: as if the machine had lost its power."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()


@contextmanager
def postgres_server() -> Iterator[str]:
    """A running server; gives its URL."""
    with running_postgres() as server:
        yield server.url


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A running server.

    PostgreSQL refuses to run as root, so there it runs as another user.
    """
    initdb = find_program("initdb")
    assert initdb
    user = next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.geteuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="rlm-pg-"))
    if user is not None:
        shutil.chown(root, user)
    server = PostgresServer(root, user)
    try:
        make = [initdb, "--pgdata", root / "data", "--username", "test", "--auth", "trust"]
        make += ["--no-sync", "--no-instructions"]
        done = subprocess.run(make, user=user, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    import time

    import psycopg

    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            return
