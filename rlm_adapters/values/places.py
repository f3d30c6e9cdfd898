"""Places for stored content: a local directory, or a remote file system with a local cache.

Each owner has a folder, with a file for each content. Its name is the hash of its bytes. Directories have mode 0700 and
files 0600. No file is used before the first use, so a store can be made on an event loop.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from rlm_adapters.errors import InputError
from rlm_adapters.forking import forget_in_children
from rlm_adapters.values.refs import check_key, check_owner, is_run_owner

_PREFIX = "rlm-content-"
_PASSES: Final = 100
"""Most attempts to remove a folder into which runs still write."""


class NameOf(Protocol):
    """Returns the name of a file after its last chunk is written."""

    def __call__(self) -> str:
        """The name."""
        ...


class Place(Protocol):
    """A place for content. All methods may block, and may be called from several threads and processes at once."""

    def write(self, owner: str, chunks: Iterable[bytes], name: NameOf) -> str:
        """Write a file. After the last chunk, ``name`` returns its name. Returns the name."""
        ...

    def find(self, owner: str, key: str) -> Path | None:
        """A local file with the content; None if it does not exist."""
        ...

    def has_written(self, owner: str) -> bool:
        """Whether this process has written content of an owner that still exists. Never blocks."""
        ...

    def remove(self, owner: str) -> None:
        """Remove all content of an owner."""
        ...

    def owners(self) -> Iterator[tuple[str, float]]:
        """The owners, each with the seconds since its last addition."""
        ...

    def close(self) -> None:
        """Remove content that is private to this process."""
        ...


class LocalPlace:
    """A local directory.

    Args:
        location: None for a private directory in the temporary directory, which is removed when the process ends. A
            relative path is relative to the working directory at the first use. Writes there are synced to the disk.
    """

    def __init__(self, location: Path | None = None) -> None:
        self._location = location
        self._durable = location is not None
        self._root: Path | None = None
        self._made: set[str] = set()
        self._lock = threading.Lock()
        self._remove: weakref.finalize[..., Any] | None = None
        self._inherited: Path | None = None
        forget_in_children(self)

    def forget_parent(self) -> None:
        """In a forked child: write into a new directory, and still read from that of the parent."""
        self._lock = threading.Lock()
        if self._location is None and self._root is not None:
            self._inherited, self._root = self._root, None
            self._made = set()

    @property
    def root(self) -> Path:
        """The directory. It is created at the first use."""
        if self._root is None:
            with self._lock:
                if self._root is None:
                    self._root = self._make()
        return self._root

    def _make(self) -> Path:
        if self._location is None:
            _remove_abandoned()
            _remove_put_off()
            root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
            self._remove = weakref.finalize(self, _remove_own, str(root), os.getpid())
            return root
        root = self._location.expanduser().absolute()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return root

    def write(self, owner: str, chunks: Iterable[bytes], name: NameOf) -> str:
        """Write to a temporary name and rename, so that a reader sees all of it or nothing."""
        folder = self._folder(owner)
        partial = folder / f".{uuid.uuid4().hex}.part"
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            key = check_key(name())
            partial.replace(folder / key)
        finally:
            partial.unlink(missing_ok=True)
        return key

    def find(self, owner: str, key: str) -> Path | None:
        """The file, if it is a regular file, and not a link, device or pipe."""
        name = Path(check_owner(owner), check_key(key))
        for root in (self.root, self._inherited):
            path = root / name if root is not None else None
            if path is not None and _is_regular(path):
                return path
        self._check_there()
        return None

    def has_written(self, owner: str) -> bool:
        """Whether this process has created the owner's folder."""
        return owner in self._made

    def remove(self, owner: str) -> None:
        """Remove the owner's folder, if it exists."""
        folder = self.root / check_owner(owner)
        if not is_run_owner(owner):  # what ends with a run must not take its answer along
            self._check_there()
        with self._lock:
            self._made.discard(owner)
        shutil.rmtree(folder, ignore_errors=True)  # as much as possible
        for left in reversed(range(_PASSES)):
            if not folder.exists():
                return
            try:
                shutil.rmtree(folder)
            except OSError as error:
                # A run that still writes has added or moved a file between the check and the removal.
                if not left or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                    raise
            else:
                return  # it may exist again, with newer content

    def owners(self) -> Iterator[tuple[str, float]]:
        """Owners with the age of their folder. Every new file updates the age."""
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".clock-") as probe:
            now = _now(Path(probe.name).stat().st_mtime)
        for folder in list(self.root.iterdir()):
            if _is_owner(folder.name):
                try:
                    yield folder.name, now - folder.stat().st_mtime
                except FileNotFoundError:  # another process has swept it
                    continue

    def close(self) -> None:
        """Remove a private directory. Other directories are kept."""
        if self._remove is not None:
            self._remove()

    def _check_there(self) -> None:
        """Nothing is said to be missing while the directory is away, such as one that is mounted from elsewhere."""
        if not self.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _folder(self, owner: str) -> Path:
        folder = self.root / check_owner(owner)
        if owner not in self._made or not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            with self._lock:
                self._made.add(owner)
        return folder


class RemotePlace:
    """A file system of fsspec, with a private local cache of written and read content.

    Content of unsaved runs stays in the cache, because no other process needs it.

    Args:
        url: such as ``s3://bucket/prefix`` or ``memory://x``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._cache = LocalPlace()
        self._made: set[str] = set()
        self._opened: tuple[Any, str] | None = None
        self._lock = threading.Lock()

    def _open(self) -> tuple[Any, str]:
        with self._lock:
            if self._opened is None:
                import fsspec  # noqa: PLC0415 - only needed for remote stores

                try:
                    fs, prefix = fsspec.core.url_to_fs(self._url)
                except (ValueError, ImportError) as error:
                    raise InputError(f"the content store {self._url!r} cannot be opened: {error}") from error
                self._opened = fs, prefix.rstrip("/")
            return self._opened

    def write(self, owner: str, chunks: Iterable[bytes], name: NameOf) -> str:
        """Write into the cache, then upload. A reader detects an incomplete upload by its hash."""
        key = self._cache.write(owner, chunks, name)
        if is_run_owner(owner):
            return key
        fs, prefix = self._open()
        folder = f"{prefix}/{check_owner(owner)}"
        with self._lock:
            known = owner in self._made
        if not known:
            fs.makedirs(folder, exist_ok=True)
            with self._lock:
                self._made.add(owner)
        fs.put_file(str(self._cache.find(owner, key)), f"{folder}/{key}")
        return key

    def find(self, owner: str, key: str) -> Path | None:
        """The cached file. If it is missing, it is fetched."""
        cached = self._cache.find(owner, key)
        if cached is not None or is_run_owner(owner):
            return cached
        fs, prefix = self._open()
        target = f"{prefix}/{check_owner(owner)}/{check_key(key)}"
        try:  # `exists` of many file systems says no when they cannot be reached
            opened = fs.open(target, "rb")
        except FileNotFoundError:
            return None
        with opened as file:
            self._cache.write(owner, iter(lambda: file.read(1 << 20), b""), lambda: key)
        return self._cache.find(owner, key)

    def has_written(self, owner: str) -> bool:
        """Whether this process has written for the owner. All written content is also in the cache."""
        return self._cache.has_written(owner)

    def remove(self, owner: str) -> None:
        """Remove the owner's remote folder, and its folder in the cache."""
        self._cache.remove(owner)
        if is_run_owner(owner):
            return
        with self._lock:
            self._made.discard(owner)
        fs, prefix = self._open()
        with suppress(FileNotFoundError):  # it has nothing there, or another process was faster
            fs.rm(f"{prefix}/{check_owner(owner)}", recursive=True)

    def owners(self) -> Iterator[tuple[str, float]]:
        """Owners with the age of their newest file."""
        fs, prefix = self._open()
        try:
            folders = fs.ls(prefix, detail=False, refresh=True)
        except FileNotFoundError:
            return
        now = None
        for folder in folders:
            owner = folder.rstrip("/").rpartition("/")[2]
            if _is_owner(owner):
                times = [fs.modified(file).timestamp() for file in fs.find(folder)]
                now = self._now(fs, prefix) if now is None else now
                yield owner, now - max(times) if times else float("inf")

    def _now(self, fs: Any, prefix: str) -> float:
        probe = f"{prefix}/.clock-{uuid.uuid4().hex}"
        fs.pipe_file(probe, b"now")
        try:
            return _now(fs.modified(probe).timestamp())
        finally:
            fs.rm_file(probe)

    def close(self) -> None:
        """Remove the cache."""
        self._cache.close()


def place_of(location: str | os.PathLike[str] | None) -> LocalPlace | RemotePlace:
    """The place for a location."""
    if location is None:
        return LocalPlace()
    text = os.fspath(location)
    if "\0" in text or not text.strip():
        raise InputError(f"location={text!r} of a content store: give a directory, or a URL such as 's3://bucket/x'")
    return RemotePlace(text) if isinstance(location, str) and "://" in text else LocalPlace(Path(text))


def _now(there: float) -> float:
    """The time by the clock that dates what is stored.

    Where the place is on another machine, the clock of this one may be wrong by an hour, and what others need would be
    taken for old. Within a second it is believed: it is finer.

    Args:
        there: when a file was written there just now.
    """
    return max(there, min(time.time(), there + 1.0))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _is_owner(name: str) -> bool:
    try:
        check_owner(name)
    except InputError:
        return False
    return True


def _remove_own(root: str, pid: int) -> None:
    """Remove a private directory; later, if its last user went away on an event loop, which must not wait for files."""
    _put_off.append((root, pid))
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _remove_put_off()


_put_off: Final[deque[tuple[str, int]]] = deque()


@atexit.register
def _remove_put_off() -> None:
    while _put_off:
        try:
            root, pid = _put_off.popleft()
        except IndexError:  # another thread took the last one
            return
        if os.getpid() == pid:  # a forked child must not remove the directory of its parent
            shutil.rmtree(root, ignore_errors=True)


@cache
def _remove_abandoned() -> None:
    """Remove private directories of killed processes, once per process."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-\w+", path.name)
        if found and not _alive(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
