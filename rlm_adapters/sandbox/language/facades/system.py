"""Replacements for access to the machine: time, files, and the interpreter's own modules."""

from __future__ import annotations

import calendar
import fnmatch
import glob
import io
import os
import posixpath
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facade import pick
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.language.tracebacks import format_exception, message_of, type_name
from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.files import ROOT
from rlm_adapters.sandbox.runtime.output import OutputStream


def _time(environment: Environment) -> Mapping[str, object]:
    clock = environment.clock

    def moment(seconds: float | None) -> float:
        return clock.time() if seconds is None else seconds

    def gmtime(seconds: float | None = None, /) -> time.struct_time:
        """The time as a struct; local time is UTC."""
        return time.gmtime(moment(seconds))

    def strftime(format: str, t: Any = None, /) -> str:  # noqa: A002 - as in time
        """The time as text."""
        return time.strftime(format, gmtime() if t is None else t)

    def sleep(seconds: float, /) -> None:
        """Move the session's clock on; nothing waits."""
        clock.sleep(seconds)

    return {
        "time": clock.time,
        "time_ns": lambda: int(clock.time() * 1e9),
        "perf_counter": clock.monotonic,
        "perf_counter_ns": lambda: int(clock.monotonic() * 1e9),
        "monotonic": clock.monotonic,
        "process_time": clock.monotonic,
        "sleep": sleep,
        "gmtime": gmtime,
        "localtime": gmtime,
        "strftime": strftime,
        "strptime": time.strptime,
        "mktime": lambda t: float(calendar.timegm(t)),
        "ctime": lambda seconds=None: time.asctime(gmtime(seconds)),
        "asctime": lambda t=None: time.asctime(gmtime() if t is None else t),
        "struct_time": time.struct_time,
        "timezone": 0,
        "tzname": ("UTC", "UTC"),
    }


def _datetime(environment: Environment) -> Mapping[str, object]:
    names = pick("datetime", "datetime date time timedelta timezone tzinfo MINYEAR MAXYEAR UTC")
    for cls in ("datetime", "date", "time", "timedelta", "tzinfo"):
        environment.classes.allow(names[cls], base=True, plain=True)
    return names


def _path(environment: Environment) -> Mapping[str, object]:
    files = environment.files

    def text(path: Any) -> str:
        path = os.fspath(path)
        if not isinstance(path, str):
            raise TypeError(f"expected str or path, not {type(path).__name__}")
        return str.__str__(path)

    def on_text(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *paths: function(*[text(path) for path in paths])

    names = "join basename dirname split splitext normpath isabs splitdrive"
    pure = {name: on_text(function) for name, function in pick("posixpath", names).items()}
    return {
        **pure,
        "exists": files.exists,
        "lexists": files.exists,
        "isfile": files.is_file,
        "isdir": files.is_dir,
        "islink": lambda _path: False,
        "getsize": files.size,
        "getmtime": lambda _path: environment.clock.time(),
        "abspath": files.full_path,
        "realpath": files.full_path,
        "expanduser": text,
        "expandvars": text,
        "relpath": lambda path, start=".": posixpath.relpath(files.full_path(path), files.full_path(start)),
        "commonprefix": lambda paths: posixpath.commonprefix([text(path) for path in paths]),
        "commonpath": lambda paths: posixpath.commonpath([text(path) for path in paths]),
        "samefile": lambda a, b: files.full_path(a) == files.full_path(b),
        "sep": "/",
        "curdir": ".",
        "pardir": "..",
        "extsep": ".",
    }


def _os(environment: Environment) -> Mapping[str, object]:
    files = environment.files

    def makedirs(name: Any, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Create a directory and those above it."""
        del mode
        files.make_directory(name, parents=True, exist_ok=exist_ok)

    def mkdir(path: Any, mode: int = 0o777) -> None:
        """Create a directory."""
        del mode
        files.make_directory(path, parents=False, exist_ok=False)

    environment_variables: dict[str, str] = {}

    def getenv(key: str, default: Any = None) -> Any:
        """An environment variable; there are none."""
        return environment_variables.get(key, default)

    return {
        "path": environment.import_module("os.path"),
        "listdir": files.listdir,
        "walk": lambda top, **_options: files.walk(top),
        "getcwd": lambda: ROOT,
        "stat": files.stat,
        "makedirs": makedirs,
        "mkdir": mkdir,
        "remove": files.remove,
        "unlink": files.remove,
        "rmdir": files.remove_directory,
        "rename": files.rename,
        "replace": files.rename,
        "fspath": os.fspath,
        "environ": environment_variables,
        "getenv": getenv,
        "cpu_count": lambda: 1,
        "getpid": lambda: 1,
        "urandom": environment.random.randbytes,
        "PathLike": os.PathLike,
        "sep": "/",
        "linesep": "\n",
        "name": "posix",
        "curdir": ".",
        "pardir": "..",
        "devnull": "/dev/null",
        "pathsep": ":",
    }


def _glob(environment: Environment) -> Mapping[str, object]:
    files = environment.files

    def iglob(pathname: Any, *, recursive: bool = False, root_dir: Any = None, **_: Any) -> Iterator[str]:
        """The paths that match a pattern."""
        pattern = str.__str__(os.fspath(pathname))
        top = "/" if pattern.startswith("/") else os.fspath(root_dir or ".")
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        yield from sorted(_expand(files, top, "/" if top == "/" else "", parts, recursive=recursive))

    return {
        "glob": lambda pathname, **options: list(iglob(pathname, **options)),
        "iglob": iglob,
        "escape": glob.escape,
        "has_magic": lambda text: any(letter in text for letter in "*?["),
    }


def _expand(files: Any, directory: str, prefix: str, parts: list[str], *, recursive: bool) -> set[str]:
    """Match the parts of a pattern, one directory level at a time."""
    if not parts or not files.is_dir(directory):
        return set()
    first, *rest = parts
    found = set()
    if first == "**" and recursive:
        for here, _, _ in files.walk(directory):
            below = posixpath.join(prefix, posixpath.relpath(here, directory)) if here != directory else prefix
            found |= _expand(files, here, below, rest or ["*"], recursive=recursive)
        return found
    for name in files.listdir(directory):
        if fnmatch.fnmatchcase(name, first) and not (name.startswith(".") and not first.startswith(".")):
            path = posixpath.join(prefix, name)
            found |= (
                {path} if not rest else _expand(files, posixpath.join(directory, name), path, rest, recursive=recursive)
            )
    return found


def _sys(environment: Environment) -> Mapping[str, object]:
    def leave(status: Any = None, /) -> None:
        """End the cell."""
        raise SystemExit(status)

    def exc_info() -> tuple[Any, Any, None]:
        """The exception that is being handled, without its traceback."""
        error = handled_exception()
        return (environment.classes.type_of(error) if error else None), error, None

    return {
        **pick("sys", "maxsize maxunicode float_info int_info byteorder getsizeof intern getdefaultencoding version"),
        "version_info": sys.version_info,
        "platform": "linux",
        "implementation": None,
        "argv": [""],
        "path": [],
        "executable": "",
        "stdout": environment.builtins["_stdout_"],
        "stderr": OutputStream(environment.output, "<stderr>"),
        "exit": leave,
        "exc_info": exc_info,
        "getrecursionlimit": sys.getrecursionlimit,
        "setrecursionlimit": lambda _limit: None,
        "set_int_max_str_digits": lambda _digits: None,
    }


class BytesIO(io.BytesIO):
    """``io.BytesIO`` without ``getbuffer``, which gives access to its memory."""

    def getbuffer(self) -> Any:
        """Refuse."""
        raise io.UnsupportedOperation("getbuffer() is not available here; use getvalue()")


def _io(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(BytesIO, shown_for=io.BytesIO)
    return {
        **pick("io", "StringIO SEEK_SET SEEK_CUR SEEK_END UnsupportedOperation"),
        "BytesIO": BytesIO,
        "open": environment.files.open,
    }


def _traceback(environment: Environment) -> Mapping[str, object]:
    sources, output = environment.sources, environment.output

    def as_error(args: tuple[Any, ...], value: Any) -> BaseException | None:
        for candidate in (value, *args):
            if isinstance(candidate, BaseException):
                return candidate
        return handled_exception()

    def format_exc(*_: object, **__: object) -> str:
        """The exception that is being handled, as Python prints it."""
        error = handled_exception()
        return "NoneType: None\n" if error is None else format_exception(error, sources)

    def print_exc(*_: object, file: Any = None, **__: object) -> None:
        """Print the exception that is being handled."""
        (output if file is None else file).write(format_exc())

    def format_one(*args: Any, value: Any = None, **_: object) -> list[str]:
        """An exception as a list of lines."""
        error = as_error(args, value)
        return [] if error is None else format_exception(error, sources).splitlines(keepends=True)

    def print_exception(*args: Any, value: Any = None, file: Any = None, **_: object) -> None:
        """Print an exception."""
        (output if file is None else file).write("".join(format_one(*args, value=value)))

    def format_exception_only(*args: Any, value: Any = None, **_: object) -> list[str]:
        """The last line of an exception's text."""
        error = as_error(args, value)
        return [] if error is None else [f"{type_name(error)}: {message_of(error)}\n"]

    return {
        "format_exc": format_exc,
        "print_exc": print_exc,
        "format_exception": format_one,
        "print_exception": print_exception,
        "format_exception_only": format_exception_only,
        "format_tb": lambda *_: [],
        "print_stack": lambda *_: None,
    }


def handled_exception() -> BaseException | None:
    """The exception that the cell is handling. Exceptions that end a cell are not shown to it."""
    error = sys.exc_info()[1]
    return None if isinstance(error, ControlFlow) else error


def _calendar(_: Environment) -> Mapping[str, object]:
    return pick(
        "calendar",
        "monthrange month_name month_abbr day_name day_abbr isleap leapdays timegm weekday monthcalendar month "
        "MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY SUNDAY",
    )


MODULES: Final[dict[str, Builder]] = {
    "time": _time,
    "datetime": _datetime,
    "calendar": _calendar,
    "os": _os,
    "os.path": _path,
    "posixpath": _path,
    "glob": _glob,
    "fnmatch": lambda _: pick("fnmatch", "fnmatch fnmatchcase filter translate"),
    "sys": _sys,
    "io": _io,
    "traceback": _traceback,
    "gc": lambda _: {"collect": lambda *_: 0},
    "pathlib": lambda environment: environment.run_guest("pathlib"),
    "queue": lambda environment: environment.run_guest("queue"),
    "logging": lambda environment: environment.run_guest("logging"),
    "warnings": lambda environment: environment.run_guest("warnings"),
    "tqdm": lambda environment: environment.run_guest("tqdm"),
    "tqdm.auto": lambda environment: environment.run_guest("tqdm"),
}
