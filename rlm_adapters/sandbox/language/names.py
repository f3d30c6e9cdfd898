"""Decides from the name alone which names and attributes a cell may use.

Attribute names are literals in the source, so most are decided when a cell is compiled, and ``obj.attr`` stays a
plain attribute load. Only a name that is allowed on some objects costs a call at run time.
"""

from __future__ import annotations

from enum import Enum

from RestrictedPython.transformer import INSPECT_ATTRIBUTES


def words(text: str) -> frozenset[str]:
    """Split a text into names. A long list of names is easier to read as one text."""
    return frozenset(text.split())


INSPECTION = INSPECT_ATTRIBUTES | words(
    """tb_frame tb_next tb_lasti
    f_back f_builtins f_code f_generator f_globals f_lasti f_locals f_trace f_trace_lines f_trace_opcodes
    co_code co_consts co_names co_varnames co_cellvars co_freevars co_linetable co_lnotab co_exceptiontable
    co_filename co_positions co_lines
    gi_frame gi_code gi_yieldfrom gi_running gi_suspended gi_state
    cr_await cr_frame cr_code cr_origin cr_running cr_suspended cr_state
    ag_await ag_frame ag_code ag_running ag_suspended ag_state
    func_globals func_code func_closure im_func im_self im_class"""
)
"""Attributes of frames, code objects, tracebacks and generators: never available."""

GUARDED = words(
    """format format_map mro obj register with_traceback now today utcnow groupindex metadata
    fget fset fdel"""
)
"""Public names that are harmless on most objects but not on all: checked at run time (see `guards`)."""

METHODS = words(
    """__init__ __post_init__ __repr__ __str__ __format__ __bytes__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__
    __hash__ __bool__ __len__ __length_hint__ __iter__ __next__ __reversed__ __contains__ __getitem__ __setitem__
    __delitem__ __missing__ __call__ __enter__ __exit__ __aenter__ __aexit__ __aiter__ __anext__ __await__
    __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __matmul__ __rmatmul__
    __imatmul__ __truediv__ __rtruediv__ __itruediv__ __floordiv__ __rfloordiv__ __ifloordiv__ __mod__ __rmod__
    __imod__ __divmod__ __rdivmod__ __pow__ __rpow__ __ipow__ __lshift__ __rlshift__ __ilshift__ __rshift__
    __rrshift__ __irshift__ __and__ __rand__ __iand__ __or__ __ror__ __ior__ __xor__ __rxor__ __ixor__ __neg__
    __pos__ __abs__ __invert__ __int__ __float__ __complex__ __index__ __round__ __trunc__ __floor__
    __ceil__ __fspath__ __copy__ __deepcopy__"""
)
"""Special methods that a class in a cell may define: Python passes a privileged object to none of them.

A class may not define ``__getattribute__``, ``__getattr__``, ``__setattr__``, ``__new__``, ``__del__``, ``__reduce__``,
``__init_subclass__``, ``__class_getitem__``, ``__set_name__``, ``__get__`` or ``__match_args__``: they run when Python
code outside the cell reads an object, or they decide what that code reads.
"""

READABLE_DUNDERS = words(
    "__name__ __qualname__ __doc__ __class__ __dict__ __module__ __version__ __members__ __annotations__ "
    "__cause__ __context__ __notes__"
)
"""Special attributes that can be read; their values are filtered at run time."""

LOADABLE_NAMES = frozenset({"__name__", "__doc__"})
"""Special names that can be read as variables."""

CLASS_VARIABLES = frozenset({"__doc__", "__slots__"})
"""Special names that can be assigned in a class body, besides methods."""

MODULE_VARIABLES = frozenset({"__all__", "__author__", "__version__", "__doc__"})
"""Special names that can be assigned at the top of a cell, as scripts do."""

NAMEDTUPLE_ATTRIBUTES = frozenset({"_asdict", "_replace", "_fields", "_make", "_field_defaults"})

HOST_PRIVATE = frozenset({"_abc_impl", "_is_protocol", "_is_runtime_protocol", "_fields_defaults", "_cls"})
"""Names with one underscore that the standard library puts into classes made in a cell."""

REFUSED_CALLS = {
    "exec": "exec() is not available here; write the code directly",
    "eval": "eval() is not available here; write the expression directly, or use ast.literal_eval() for data",
    "compile": "compile() is not available here; write the code directly",
    "breakpoint": "breakpoint() is not available here; print what you want to see",
}
"""Builtins whose error message, when a cell calls them, says what to write instead."""

REFUSED_NAMES = frozenset({"__builtins__", "__loader__", "__spec__", "builtins"})


class Access(Enum):
    """How an attribute of a given name can be read or written."""

    PLAIN = "plain"
    GUARDED = "guarded"
    PRIVATE = "private"
    REFUSED = "refused"


def is_reserved(name: str) -> bool:
    """True for ``_x_`` (hooks of the policy) and ``__x__`` (Python's special names)."""
    return len(name) > 2 and name[0] == "_" and name[-1] == "_" and name.strip("_") != ""


def is_dunder(name: str) -> bool:
    """True for ``__x__``."""
    return len(name) > 4 and name[:2] == "__" and name[-2:] == "__"


def classify_attribute(name: str) -> Access:
    """How an attribute called ``name`` may be read."""
    if name in INSPECTION or name in HOST_PRIVATE or name.endswith("__roles__"):
        return Access.REFUSED
    if name[:1] != "_":
        return Access.GUARDED if name in GUARDED else Access.PLAIN
    if name in READABLE_DUNDERS or name in METHODS or name in NAMEDTUPLE_ATTRIBUTES:
        return Access.GUARDED
    if name.strip("_") == "" or is_reserved(name) or is_dunder(name):
        return Access.PLAIN if name == "_" else Access.REFUSED
    return Access.PRIVATE


def is_assignable(name: str) -> bool:
    """Whether an attribute called ``name`` may be set or deleted on an object that the cell owns."""
    if name in INSPECTION or name in HOST_PRIVATE or name in NAMEDTUPLE_ATTRIBUTES:
        return False
    return name[:1] != "_" or classify_attribute(name) in (Access.PRIVATE, Access.PLAIN) or name == "__doc__"


def is_field_name(name: object) -> bool:
    """Whether ``name`` may name a field of a generated class (dataclass, Enum, named tuple, TypedDict).

    The standard library generates source code from these names, and reads them with an unguarded ``getattr``.
    """
    return (
        type(name) is str
        and name.isidentifier()
        and classify_attribute(name) in (Access.PLAIN, Access.PRIVATE)
        and not is_dunder(name)
    )


def mangle(name: str, class_name: str | None) -> str:
    """Apply Python's name mangling of ``__x`` inside ``class_name``."""
    if class_name is None or name[:2] != "__" or name[-2:] == "__" or not class_name.strip("_"):
        return name
    return f"_{class_name.lstrip('_')}{name}"
