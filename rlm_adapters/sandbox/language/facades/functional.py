"""``functools``, ``operator`` and ``contextlib``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NoReturn

from rlm_adapters.sandbox.language.facade import pick
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.language.hostclass import checked_class
from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.output import Writer

_OPERATORS: Final = """itemgetter add sub mul truediv floordiv mod pow matmul neg pos abs invert inv lshift rshift and_
    or_ xor not_ truth is_ is_not eq ne lt le gt ge contains concat countOf indexOf getitem setitem delitem index
    length_hint iadd isub imul itruediv ifloordiv imod ipow iand ior ixor iconcat"""


def _functools(environment: Environment) -> Mapping[str, object]:
    guards, classes = environment.guards, environment.classes

    def wraps(wrapped: Any, *_args: Any, **_kwargs: Any) -> Callable[[Any], Any]:
        """Give a wrapper the name and the docstring of the function that it wraps."""

        def decorate(wrapper: Any) -> Any:
            return update_wrapper(wrapper, wrapped)

        return decorate

    def update_wrapper(wrapper: Any, wrapped: Any, *_args: Any, **_kwargs: Any) -> Any:
        """As ``wraps``."""
        if not guards.is_own_function(wrapper):
            return wrapper
        for name in ("__name__", "__qualname__", "__doc__"):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(wrapper, name, guards.getattr(wrapped, name))
        return wrapper

    def cached(function: Any, maxsize: Any, typed: bool) -> Any:
        if not callable(function) or isinstance(function, type):
            raise TypeError("a cache takes a function here")
        return functools.lru_cache(maxsize, typed)(function)

    def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
        """Keep the results of the latest calls."""
        if callable(maxsize):
            return cached(maxsize, 128, typed)
        return lambda function: cached(function, maxsize, typed)

    def cache(function: Any, /) -> Any:
        """Keep the results of all calls."""
        return cached(function, None, typed=False)

    def total_ordering(cls: Any) -> Any:
        """Fill in the missing comparison methods."""
        if not classes.is_own_class(cls):
            raise TypeError("total_ordering() takes a class defined in a cell here")
        return functools.total_ordering(cls)

    return {
        **pick("functools", "reduce partial cmp_to_key cached_property"),
        "wraps": wraps,
        "update_wrapper": update_wrapper,
        "lru_cache": lru_cache,
        "cache": cache,
        "total_ordering": total_ordering,
    }


def _operator(environment: Environment) -> Mapping[str, object]:
    get = environment.guards.getattr

    def follow(value: Any, path: str) -> Any:
        for name in path.split("."):
            value = get(value, name)
        return value

    def attrgetter(*paths: str) -> Callable[[Any], Any]:
        """A function that reads attributes."""
        if not paths or not all(type(path) is str for path in paths):
            raise TypeError("attribute name must be a string")
        if len(paths) == 1:
            return lambda value: follow(value, paths[0])
        return lambda value: tuple(follow(value, path) for path in paths)

    def methodcaller(name: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """A function that calls a method."""
        return lambda value: get(value, name)(*args, **kwargs)

    return {**pick("operator", _OPERATORS), "attrgetter": attrgetter, "methodcaller": methodcaller}


class Suppress:
    """``contextlib.suppress`` that never suppresses an exception that ends a cell."""

    def __init__(self, *exceptions: Any) -> None:
        for exception in exceptions:
            if not (isinstance(exception, type) and issubclass(exception, BaseException)):
                raise TypeError("suppress() takes exception classes")
        self._exceptions = exceptions

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, value: object, trace: object) -> bool:
        return isinstance(value, self._exceptions) and not isinstance(value, ControlFlow)


class _ExitStack(contextlib.ExitStack):
    """``contextlib.ExitStack`` that never suppresses an exception that ends a cell."""

    def push(self, exit: Any) -> Any:  # noqa: A002 - as in contextlib
        """Register a function, or an object with an ``__exit__``, to be called at the end."""
        if hasattr(type(exit), "__exit__"):
            super().push(exit)
        else:
            super().push(lambda kind, value, _trace: exit(kind, value, None))
        return exit

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> bool:
        if isinstance(value, ControlFlow):
            super().__exit__(SystemExit, SystemExit("the cell is ending"), None)
            return False
        return bool(super().__exit__(kind, value, trace))


ExitStack: Final = checked_class(_ExitStack)


def _contextlib(environment: Environment) -> Mapping[str, object]:
    guards, output = environment.guards, environment.output

    def cell_contextmanager(function: Any) -> Any:
        """Make a context manager of a generator function."""
        if not guards.is_own_function(function):
            raise TypeError("contextmanager() takes a function defined in a cell here")
        return contextlib.contextmanager(function)

    def cell_asynccontextmanager(function: Any) -> Any:
        """Make an asynchronous context manager of an asynchronous generator function."""
        if not guards.is_own_function(function):
            raise TypeError("asynccontextmanager() takes a function defined in a cell here")
        return contextlib.asynccontextmanager(function)

    @contextmanager
    def redirect_stdout(target: Writer | None) -> Iterator[Writer]:
        """Send what is printed to ``target`` meanwhile."""
        with output.redirected(_Nowhere() if target is None else target) as redirected:
            yield redirected

    return {
        "contextmanager": cell_contextmanager,
        "asynccontextmanager": cell_asynccontextmanager,
        "suppress": Suppress,
        "nullcontext": contextlib.nullcontext,
        "closing": contextlib.closing,
        "ExitStack": ExitStack,
        "redirect_stdout": redirect_stdout,
        "redirect_stderr": redirect_stdout,
    }


class _Nowhere:
    def write(self, text: str, /) -> int:
        """Drop the text."""
        return len(text)


def unavailable(message: str) -> Callable[..., NoReturn]:
    """Make a function that raises an error with this message."""

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError(message)

    return refuse


MODULES: Final[dict[str, Builder]] = {
    "functools": _functools,
    "operator": _operator,
    "contextlib": _contextlib,
}
