"""The builtins that cells have."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.bytearrays import ByteArray
from rlm_adapters.sandbox.language.classes import EXCEPTION_CLASSES, RootStandIn
from rlm_adapters.sandbox.language.facades import Environment
from rlm_adapters.sandbox.language.names import REFUSED_CALLS, REFUSED_NAMES, is_reserved, words
from rlm_adapters.sandbox.runtime.control import reraise_control_flow
from rlm_adapters.sandbox.runtime.failures import FailedAnswer
from rlm_adapters.sandbox.runtime.formatting import exact_str
from rlm_adapters.sandbox.runtime.output import OutputStream
from rlm_adapters.sandbox.runtime.tasks import awaitable

_PLAIN: Final = words(
    """abs aiter all anext any ascii bin bool bytes callable chr classmethod complex dict divmod enumerate
    filter float format frozenset hash hex int isinstance issubclass iter len list map max min next oct ord pow
    property range repr reversed round set slice sorted staticmethod str sum super tuple zip
    None True False Ellipsis NotImplemented"""
)


def make_builtins(
    environment: Environment,
    import_statement: Callable[..., Any],
    namespace: dict[str, Any],
    variables: Callable[[], Mapping[str, object]],
) -> dict[str, Any]:
    """Make the builtins of one session, including the policy's hooks.

    Args:
        environment: the parts of the session.
        import_statement: the function that an import statement calls.
        namespace: the globals of the cells.
        variables: the variables of the cells, for ``globals()`` and ``dir()``.
    """
    guards, classes = environment.guards, environment.classes
    names: dict[str, Any] = {name: getattr(builtins, name) for name in _PLAIN if hasattr(builtins, name)}
    names.update({cls.__name__: cls for cls in EXCEPTION_CLASSES})
    names.update({"IOError": OSError, "EnvironmentError": OSError})
    # The exceptions that end a cell are BaseExceptions, so no cell may catch every BaseException.
    names["BaseException"] = Exception
    classes.allow(ByteArray, shown_for=bytearray)
    names.update(
        type=classes.type,
        object=RootStandIn,
        bytearray=ByteArray,
        getattr=guards.getattr,
        hasattr=guards.hasattr,
        setattr=guards.setattr,
        delattr=guards.delattr,
        open=environment.files.open,
        id=_Identities(),
        input=_no_input,
        exit=_leave,
        quit=_leave,
        __build_class__=classes.build_class,
        __import__=import_statement,
        __name__="__main__",
    )
    names.update(_namespace_functions(environment, namespace, variables))
    names.update({name: _refusing(name, hint) for name, hint in REFUSED_CALLS.items()})
    names["print"] = _make_print(environment)
    names["_stdout_"] = OutputStream(environment.output, "<stdout>")
    names.update(
        _getattr_=guards.getattr,
        _private_=guards.private,
        _write_=guards.write,
        _update_=guards.update,
        _update_private_=guards.update_private,
        _format_=guards.call_format,
        _super_=guards.super,
        _await_=awaitable,
        _import_=_make_import(import_statement),
        _check_=reraise_control_flow,
        _Exception_=Exception,
    )
    return names


class _Identities:
    """``id`` without memory addresses: objects are numbered in the order in which cells ask.

    The objects are kept until the end of the cell, so that no two of them share a number.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[int, object]] = {}
        self._count = 0

    def __call__(self, value: object, /) -> int:
        known = self._numbers.get(builtins.id(value))
        if known is None:
            self._count += 1
            known = self._numbers[builtins.id(value)] = self._count, value
        return known[0]

    def forget(self) -> None:
        """Let go of the objects."""
        self._numbers.clear()


def _make_print(environment: Environment) -> Callable[..., None]:
    output = environment.output
    write = output.write

    def text(value: object) -> str:
        return repr(value) if type(value) is FailedAnswer else str(value)

    def option(name: str, value: Any, default: str) -> str:
        if value is None:
            return default
        if not isinstance(value, str):
            raise TypeError(f"{name} must be None or a string, not {type(value).__name__}")
        return exact_str(value, "print")

    def cell_print(*values: object, sep: Any = " ", end: Any = "\n", file: Any = None, flush: bool = False) -> None:
        """Print values to the cell's output."""
        del flush
        if type(sep) is not str:
            sep = option("sep", sep, " ")
        if type(end) is not str:
            end = option("end", end, "\n")
        line = sep.join([value if type(value) is str else text(value) for value in values]) + end
        if file is None:
            write(line)
        else:
            file.write(line)

    cell_print.__name__ = "print"
    return cell_print


def _namespace_functions(
    environment: Environment, namespace: dict[str, Any], variables: Callable[[], Mapping[str, object]]
) -> dict[str, Callable[..., Any]]:
    guards = environment.guards

    def cell_globals() -> dict[str, object]:
        """The variables of the cells; setting an item sets the variable."""
        view: dict[str, object] = environment.run_guest("namespace", {"_bind": bind, "_unbind": unbind})["dict"](
            variables()
        )
        return view

    def bind(name: Any, value: object) -> None:
        namespace[assignable_variable(name)] = value

    def unbind(name: Any) -> None:
        namespace.pop(assignable_variable(name), None)

    def caller_locals() -> dict[str, Any]:
        """The variables of the function that asks, if it is one of a cell."""
        frame = sys._getframe(2)  # noqa: SLF001 - there is no other way
        if frame.f_globals is not namespace or frame.f_locals is namespace:
            return cell_globals()
        return {name: value for name, value in frame.f_locals.items() if name.isidentifier() and not is_reserved(name)}

    def cell_locals() -> dict[str, Any]:
        """A copy of the local variables."""
        return caller_locals()

    def cell_vars(*owner: Any) -> dict[str, Any]:
        """A copy of the attributes of an object, or of the local variables."""
        return guards.vars(*owner) if owner else caller_locals()

    def cell_dir(*owner: Any) -> list[str]:
        """The names in an object, or the local variables."""
        return guards.dir(*owner) if owner else sorted(caller_locals())

    def cell_help(*subject: Any) -> None:
        """Print the documentation of an object."""
        for one in subject:
            name = guards.getattr(one, "__name__", None) or repr(one)
            environment.output.write(f"{name}: {guards.getattr(one, '__doc__', None) or 'no documentation'}\n")

    return {"globals": cell_globals, "locals": cell_locals, "vars": cell_vars, "dir": cell_dir, "help": cell_help}


def assignable_variable(name: object) -> str:
    """A name that ``globals()[name] = value`` may bind: one that an assignment statement could."""
    if type(name) is not str or not name.isidentifier() or is_reserved(name) or name in REFUSED_NAMES:
        raise KeyError(f"the variable {name!r} cannot be set here")
    return name


def _make_import(import_statement: Callable[..., Any]) -> Callable[..., Any]:
    def cell_import(name: Any, globals: Any = None, locals: Any = None, fromlist: Any = (), level: Any = 0) -> Any:  # noqa: A002
        """Import a module that an import statement could import."""
        del globals, locals
        wanted = [name, *(fromlist or ())]
        if not all(type(one) is str for one in wanted):
            raise TypeError("__import__() takes names as str here")
        for one in ".".join(wanted).split("."):
            if one == "*" or (one.startswith("_") and one != "__future__"):
                raise ImportError(f"{one!r} cannot be imported here")
        return import_statement(name, None, None, tuple(wanted[1:]), 1 if level else 0)

    cell_import.__name__ = cell_import.__qualname__ = "__import__"
    return cell_import


def _refusing(name: str, hint: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(hint)

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = hint
    return refuse


def _no_input(*_prompt: object) -> None:
    """Refuse."""
    raise RuntimeError("input() is not available here: nobody can answer; use the variables that you have")


def _leave(status: Any = None, /) -> None:
    """End the cell."""
    raise SystemExit(status)
