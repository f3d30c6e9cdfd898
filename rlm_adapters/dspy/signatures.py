"""Check signatures that a cell wrote: their types must be names from a list. Nothing in them is evaluated.

DSPy trusts the types in a signature: it imports the modules that they name and reads their attributes, and pydantic
evaluates text in them. A cell is not trusted.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from rlm_adapters.prompts.dspy_private import CALL_TOOL, CONSTRUCT_TOOL, SIGNATURE_MARKER
from rlm_adapters.replies.syntax import undisturbed

_PLAIN: Final = frozenset({"str", "int", "float", "bool", "complex", "bytes", "Any", "NoneType"})
_GENERIC: Final = frozenset({
    "list", "dict", "tuple", "set", "frozenset", "List", "Dict", "Tuple", "Set", "FrozenSet", "Optional", "Union",
    "Sequence", "Mapping", "Iterable", "Collection",
})  # fmt: skip
_LITERAL: Final = "Literal"
_PRIVILEGED: Final = frozenset({"signature", "new_signature", "lm"})
"""Inputs with a special meaning for a predictor: the signature and the model."""
_OPTIONS: Final = frozenset({"rationale_field", "rationale_field_type", "callbacks", "interpreter_factory"})
"""Options whose values are Python objects."""
_MAX_CHARS: Final = 20_000


def check_facade_call(
    tool: str, args: Sequence[Any], kwargs: Mapping[str, Any], custom_types: Collection[str] = ()
) -> None:
    """Check a cell's call of one of the two tools of DSPy's host side (``dspy.primitives.facade``).

    Args:
        tool: name of the tool. Other tools are not checked.
        args: positional arguments from the cell.
        kwargs: keyword arguments from the cell.
        custom_types: names of the types that the module's author allows in cells.

    Raises:
        ValueError: an argument is more than data. The message is for the cell.
    """
    if tool == CONSTRUCT_TOOL:
        given = {**dict(zip(("kind", "signature", "attr_name", "kwargs"), args, strict=False)), **kwargs}
        check_predictor(given.get("signature"), given.get("kwargs"), custom_types)
    elif tool == CALL_TOOL:
        given = {**dict(zip(("handle", "inputs"), args, strict=False)), **kwargs}
        check_inputs(given.get("inputs"))


def check_predictor(signature: Any, options: Any, custom_types: Collection[str] = ()) -> None:
    """Check a signature and the options of a predictor; see `check_facade_call`.

    Raises:
        ValueError: one of them cannot be used.
    """
    text = signature.get("signature") if isinstance(signature, Mapping) and SIGNATURE_MARKER in signature else signature
    if not isinstance(text, str) or len(text) > _MAX_CHARS:
        raise ValueError(f"signature={str(text)[:80]!r}: give text such as 'question, pages: list[str] -> answer: int'")
    if isinstance(signature, Mapping) and not isinstance(signature.get("instructions"), str | None):
        raise ValueError("instructions of a signature are text")  # noqa: TRY004 - as the others: the cell sees it
    for side in text.split("->"):
        _check_fields(side, frozenset(custom_types))
    named = sorted(_OPTIONS & set(options or ()))
    if named:
        raise ValueError(f"the options {', '.join(named)} cannot be given in a cell")


def check_inputs(inputs: Any) -> None:
    """Check the inputs of a call; see `check_facade_call`.

    Raises:
        ValueError: an input is not a field of the signature.
    """
    named = sorted(_PRIVILEGED & set(inputs or ()))
    if named:
        raise ValueError(f"{', '.join(named)} cannot be given to a predictor in a cell: rename the field")


def _check_fields(side: str, custom_types: frozenset[str]) -> None:
    try:
        (function,) = undisturbed(ast.parse, f"def f({side}): pass").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{side.strip()[:80]!r} are no fields of a signature: {type(error).__name__}") from None
    if not isinstance(function, ast.FunctionDef) or function.args.defaults:
        raise ValueError(f"{side.strip()[:80]!r} are no fields of a signature: give names with types")
    for field in function.args.args:
        if field.annotation is not None:
            _check_type(field.annotation, custom_types)


def _check_type(node: ast.expr, custom_types: frozenset[str]) -> None:
    name = _name(node)
    if name is not None and name in _PLAIN | _GENERIC | custom_types:
        return
    if isinstance(node, ast.Constant) and node.value is None:
        return
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        _check_type(node.left, custom_types)
        _check_type(node.right, custom_types)
        return
    if isinstance(node, ast.Subscript):
        generic = _name(node.value)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if generic == _LITERAL and all(_is_literal(item) for item in items):
            return
        if generic in _GENERIC:
            for item in items:
                if not (isinstance(item, ast.Constant) and item.value is Ellipsis):
                    _check_type(item, custom_types)
            return
    raise ValueError(
        f"the type {ast.unparse(node)[:80]!r} cannot be used in a cell's signature: use str, int, float, bool, "
        "list[...], dict[..., ...], Literal[...], Optional[...]"
    )


def _name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "typing":
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str | int | bool))
