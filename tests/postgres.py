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


@contextmanager
def postgres_server() -> Iterator[str]:
    """A running server; gives its URL.

    PostgreSQL refuses to run as root, so there it runs as another user.
    """
    initdb, server = find_program("initdb"), find_program("postgres")
    assert initdb
    assert server
    user = next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.geteuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="rlm-pg-"))
    if user is not None:
        shutil.chown(root, user)
    data = root / "data"
    try:
        make = [initdb, "--pgdata", data, "--username", "test", "--auth", "trust", "--no-sync", "--no-instructions"]
        done = subprocess.run(make, user=user, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        command = [server, "-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(command, user=user, cwd=root, stdout=log, stderr=log)
        try:
            url = f"postgresql://test@/postgres?host={root}"
            _wait_for(url, process, root / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # ends what sessions a failed test has left
            process.wait()
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
