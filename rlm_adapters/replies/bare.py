"""Cells without a fence or tag: a reply that is code, or that ends in code, and ReAct's action input."""

from __future__ import annotations

import ast
import re
import textwrap
from typing import Final

from rlm_adapters.replies.calls import without_fence
from rlm_adapters.replies.invented_turns import ROLE_LINE
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.syntax import Syntax, acts

_REACT: Final = re.compile(
    r"^[ \t*]*+Action[ \t*]*+:[ \t*]*+(?P<name>[^\n]*+)\n\s*+[*]*+Action[ _]Input[ \t*]*+:[*]*+(?P<input>.*?)"
    r"(?=^[ \t*]*+(?:Observation|Thought)[ \t*]*+:|\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_LABEL_LINE: Final = re.compile(r"\s*(?:python3?|py|repl|ipython|tool_code|>>>[ ]?python)[ \t]*\n", re.IGNORECASE)
_CODE_LINE: Final = re.compile(
    r"(?:import |from [\w.]+ import |def |class |for .*:$|if .*:$|while .*:$|with .*:$|try:$|print\("
    r"|[\w.\[\]\"']+ ?[+*/-]?= ?"
    r"|[\w.]+\(|>>> |In \[\d*\]:|!|%|@|\#)"
)
_MAX_TAILS: Final = 60


def react_action(text: str) -> tuple[str, str] | None:
    """Tool name and input of the first ReAct action."""
    found = _REACT.search(text)
    if found is None:
        return None
    return found["name"].strip(" *`[]"), without_fence(found["input"].strip("\n").lstrip(" ")).rstrip().removesuffix(
        "```"
    )


def bare_code(text: str, syntax: Syntax) -> tuple[str, str] | None:
    """The cell that is the whole reply, or its last paragraphs, and the prose before it.

    Code at the start or in the middle is not used: its end would be a guess, and only half of it might run.
    """
    turn = _before_invented_turn(text).strip("\n")
    label = _LABEL_LINE.match(turn)
    if label:
        turn = turn[label.end() :]
    whole = turn.strip("\n")
    tree = syntax.tree(whole)
    if tree is not None:
        return (mended(whole, syntax) or whole, "") if _is_cell(tree, whole) else None
    first = whole.lstrip().partition("\n")[0]
    if _CODE_LINE.match(first):
        repaired = mended(whole, syntax)
        tree = syntax.tree(repaired) if repaired is not None else None
        if repaired is not None and tree is not None and _is_cell(tree, repaired):
            return repaired, ""
    for paragraph in list(re.finditer(r"\n[ \t]*\n(?=\S|    \S|\t\S)", whole))[-_MAX_TAILS:]:
        tail = whole[paragraph.end() :]
        if tail.startswith(("    ", "\t")):  # Markdown's indented block
            tail = textwrap.dedent(tail)
        tree = syntax.tree(tail)
        if tree is not None and _is_cell(tree, tail) and _is_clearly_code(tree):
            return mended(tail, syntax) or tail, whole[: paragraph.start()]
    return None


def _before_invented_turn(text: str) -> str:
    """The text up to a role line at the start of a paragraph, if there may be code before it."""
    for role in ROLE_LINE.finditer(text):
        line_start = text.rfind("\n", 0, role.start() + 1) + 1
        if line_start == role.start() and text.endswith("\n\n", 0, line_start) and text[:line_start].strip():
            return text[:line_start]
    return text


def _is_cell(tree: ast.Module, source: str) -> bool:
    """Whether the code has an effect, and is not only a finish (``FINAL(x)`` has other rules) or ``Sure (yes)``."""
    others = [s for s in tree.body if not _is_finish(s)]
    if not others or not acts(ast.Module(others, [])):
        return False
    return len(tree.body) > 1 or not re.match(r"[\w]+[ \t]+\(", source.strip())


def _is_clearly_code(tree: ast.Module) -> bool:
    others = [s for s in tree.body if not _is_finish(s)]
    return any(
        isinstance(node, ast.Call | ast.Import | ast.ImportFrom | ast.FunctionDef)
        for s in others
        for node in ast.walk(s)
    )


def _is_finish(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id="FINAL" | "FINAL_VAR"))):
            return True
    return False
