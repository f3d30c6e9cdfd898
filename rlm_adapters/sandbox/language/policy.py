# ruff: noqa: N802, N815 - the methods are named after the kinds of syntax
"""The language policy: RestrictedPython's transformer, adapted to code that language models write.

As in RestrictedPython, syntax without a ``visit_`` method is refused, and every name and attribute is checked. The
difference is when the checks run. Attribute names are literals, so they are checked when the cell is compiled, and a
guard is called only where the object decides (`names.Access`). Subscripts, iteration and unpacking become plain
Python: RestrictedPython's guards for them have nothing to protect when one session owns the whole process. With
RestrictedPython's own guards, ``xs.append(i)`` was 6 times slower and only 10 of 70 cells as models write them
ran; with this policy they run at the speed of plain Python.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from RestrictedPython.transformer import RestrictingNodeTransformer

from rlm_adapters.sandbox.language.names import (
    CLASS_VARIABLES,
    LOADABLE_NAMES,
    METHODS,
    MODULE_VARIABLES,
    REFUSED_NAMES,
    Access,
    classify_attribute,
    is_assignable,
    is_field_name,
    is_reserved,
    mangle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_UPDATE_GUARDS = {Access.PLAIN: "_write_", Access.PRIVATE: "_update_private_"}
_Node = TypeVar("_Node", bound=ast.AST)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in a cell that the policy refuses."""

    line: int
    message: str


class PolicyError(Exception):
    """A cell uses something that the policy refuses. Nothing of the cell has run."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__(self.violations[0].message)


def compile_cell(
    source: str,
    filename: str,
    *,
    rewrite: Callable[[ast.Module], None] | None = None,
) -> CodeType:
    """Compile a cell under the policy. If its last statement is an expression, the value is passed to ``_display_``.

    Args:
        source: the code of the cell.
        filename: name of the cell in tracebacks.
        rewrite: changes the checked tree before it is compiled (used for the copy of a cell that runs ahead).

    Raises:
        SyntaxError: as Python raises it, and for code that is nested too deeply.
        PolicyError: the policy refuses something in it.
    """
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            # Models often write "\d" in a plain string literal. Its warning does not help them.
            warnings.simplefilter("ignore")
            tree = compile(source, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
            check_tree(tree)
            _display_last_expression(tree)
            if rewrite is not None:
                rewrite(tree)
            return cast("CodeType", compile(tree, filename, "exec", flags, dont_inherit=True))
    except (RecursionError, MemoryError):
        raise SyntaxError("the code is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise SyntaxError(f"the code has a character that is no valid Unicode text: {error.reason}") from None
    except ValueError as error:
        raise SyntaxError(str(error)) from None


def check_tree(tree: ast.Module) -> None:
    """Check a module and insert the guards, in place.

    Raises:
        PolicyError: the policy refuses something in it.
    """
    transformer = CellTransformer()
    transformer.visit(tree)
    if transformer.violations:
        raise PolicyError(transformer.violations)


def _display_last_expression(tree: ast.Module) -> None:
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        last.value = _call("_display_", [last.value], last)


def _call(guard: str, arguments: list[ast.expr], place: ast.AST) -> ast.Call:
    """A call of one of the policy's hooks, at the source position of ``place``."""
    function = ast.copy_location(ast.Name(guard, ast.Load()), place)
    return ast.copy_location(ast.Call(function, arguments, []), place)


def _text(value: str, place: ast.AST) -> ast.Constant:
    return ast.copy_location(ast.Constant(value), place)


class CellTransformer(RestrictingNodeTransformer):
    """Checks a cell's syntax tree and inserts the run-time guards.

    The inserted hooks have names of the form ``_x_``, which cells can neither read nor assign.
    """

    def __init__(self) -> None:
        super().__init__()
        self.violations: list[Violation] = []
        self._scopes: list[str | None] = []
        """The enclosing scopes, outermost first: the name of a class, or None for a function."""

    # Reporting and scopes

    def error(self, node: ast.AST, info: str) -> None:
        """Record a violation."""
        violation = Violation(getattr(node, "lineno", 0), info)
        if violation not in self.violations:  # a name that occurs twice in an f-string or in ``a += a`` is one mistake
            self.violations.append(violation)

    def not_allowed(self, node: ast.AST) -> None:
        """Refuse a kind of syntax that has no ``visit_`` method."""
        self.error(node, f"{type(node).__name__} syntax is not available here")

    @property
    def _in_class_body(self) -> bool:
        return bool(self._scopes) and self._scopes[-1] is not None

    def _mangled(self, name: str) -> str:
        class_name = next((scope for scope in reversed(self._scopes) if scope is not None), None)
        return mangle(name, class_name)

    def _contents(self, node: _Node) -> _Node:
        return self.node_contents_visit(node)

    def _visit_expression(self, node: ast.expr) -> ast.expr:
        return cast("ast.expr", self.visit(node))

    # Names

    def check_name(self, node: ast.AST, name: str | None, allow_magic_methods: bool = False) -> None:
        """Refuse to assign or read a reserved ``name``."""
        if name is None:
            return
        if name in REFUSED_NAMES or name.endswith("__roles__"):
            self.error(node, f"the name {name!r} is not available here")
        elif is_reserved(name) and not (allow_magic_methods and name in METHODS and self._in_class_body):
            self.error(node, f"the name {name!r} is not available here: names like _x_ are reserved")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Check a variable."""
        if isinstance(node.ctx, ast.Load):
            if node.id == "super":
                # The real one could start its search after the checked versions of classes.
                return ast.copy_location(ast.Name("_super_", ast.Load()), node)
            if node.id == "__import__":
                return ast.copy_location(ast.Name("_import_", ast.Load()), node)
            if node.id not in LOADABLE_NAMES:
                self.check_name(node, node.id, allow_magic_methods=True)
        elif node.id in CLASS_VARIABLES and self._in_class_body:
            if node.id == "__slots__":
                self.error(node, "__slots__ takes a literal tuple of names here")
        elif not (node.id in MODULE_VARIABLES and not self._scopes):
            self.check_name(node, node.id, allow_magic_methods=True)
        return node

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> ast.AST:
        """Check the names in a ``global`` or ``nonlocal`` statement, which are plain strings in the tree."""
        for name in node.names:
            self.check_name(node, name)
        return node

    visit_Nonlocal = visit_Global

    # Attributes

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Leave harmless reads unchanged; guard other reads and all writes."""
        name = self._mangled(node.attr)
        if not isinstance(node.ctx, ast.Load):
            if not is_assignable(name):
                self.error(node, f"the attribute {node.attr!r} cannot be assigned here")
            value = self._visit_expression(node.value)
            node.value = _call("_write_", [value, _text(name, node)], node.value)
            return node
        access = classify_attribute(name)
        if access is Access.REFUSED:
            self.error(node, f"the attribute {node.attr!r} is not available here")
        if access in (Access.PLAIN, Access.REFUSED):
            return self._contents(node)
        guard = "_private_" if access is Access.PRIVATE else "_getattr_"
        return _call(guard, [self._visit_expression(node.value), _text(name, node)], node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """``obj.x += 1`` both reads and writes ``x``; names and items need no guard."""
        if not isinstance(node.target, ast.Attribute):
            return self._contents(node)
        name = self._mangled(node.target.attr)
        if not is_assignable(name):
            self.error(node, f"the attribute {node.target.attr!r} cannot be assigned here")
        guard = _UPDATE_GUARDS.get(classify_attribute(name), "_update_")
        owner = self._visit_expression(node.target.value)
        node.target.value = _call(guard, [owner, _text(name, node)], node.target.value)
        node.value = self._visit_expression(node.value)
        return node

    # Calls

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Send ``x.format(...)`` to the guarded formatter."""
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and not node.keywords:
            return node  # bound to the enclosing method: Python finds the class by exactly this name
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            # One call, instead of a bound guard that is discarded after one use.
            node.args.insert(0, node.func.value)
            node.func = ast.copy_location(ast.Name("_format_", ast.Load()), node.func)
            self._visit_arguments(node)
            return node
        return self._contents(node)

    def _visit_arguments(self, node: ast.Call) -> None:
        node.args = [self._visit_expression(argument) for argument in node.args]
        node.keywords = [self._contents(keyword) for keyword in node.keywords]

    # Nodes that need no check

    def _plain(self, node: _Node) -> _Node:
        return self._contents(node)

    visit_Module = visit_Subscript = visit_AnnAssign = visit_With = visit_Match = visit_match_case = _plain
    visit_MatchValue = visit_MatchSingleton = visit_MatchSequence = visit_MatchOr = _plain
    visit_AsyncFor = visit_AsyncWith = guard_iter = _plain

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Only ``__slots__`` needs a check: it must be a tuple before Python reads it."""
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == "__slots__" and self._in_class_body:
                return self._slots(node)
        return self._contents(node)

    def _slots(self, node: ast.Assign) -> ast.AST:
        value = node.value
        elements = value.elts if isinstance(value, (ast.Tuple, ast.List, ast.Set)) else [value]
        constants = [element for element in elements if isinstance(element, ast.Constant)]
        if (
            len(node.targets) > 1
            or len(constants) < len(elements)
            or not all(is_field_name(c.value) for c in constants)
        ):
            self.error(node, "__slots__ takes a literal tuple of names here")
        # The cell could add names to a list after Python has checked it.
        node.value = ast.copy_location(ast.Tuple(elements, ast.Load()), value)
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        """``await llm_query(p)`` works although ``llm_query`` returns a plain string."""
        node.value = _call("_await_", [self._visit_expression(node.value)], node.value)
        return node

    # Functions and classes

    def visit_FunctionDef(self, node: _Function) -> ast.AST:
        """Check the names of a function; methods may have special names."""
        self.check_name(node, node.name, allow_magic_methods=True)
        self.check_function_argument_names(node)
        node.decorator_list = [self._visit_expression(decorator) for decorator in node.decorator_list]
        decorators, node.decorator_list = node.decorator_list, []
        self._scopes.append(None)
        node = self._contents(node)
        self._scopes.pop()
        node.decorator_list = decorators
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Check the names of the arguments."""
        self.check_function_argument_names(node)
        self._scopes.append(None)
        node = self._contents(node)
        self._scopes.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Check the name. Bases and metaclass are checked when the class is made (see `classes`)."""
        self.check_name(node, node.name)
        node.bases = [self._visit_expression(base) for base in node.bases]
        node.keywords = [self._contents(keyword) for keyword in node.keywords]
        node.decorator_list = [self._visit_expression(decorator) for decorator in node.decorator_list]
        outside = node.bases, node.keywords, node.decorator_list
        node.bases, node.keywords, node.decorator_list = [], [], []
        self._scopes.append(node.name)
        node = self._contents(node)
        self._scopes.pop()
        node.bases, node.keywords, node.decorator_list = outside
        return node

    def visit_TypeVar(self, node: Any) -> ast.AST:
        """Check the name of a type parameter (Python 3.12 and later)."""
        self.check_name(node, node.name)
        return self._contents(cast("ast.AST", node))

    visit_ParamSpec = visit_TypeVarTuple = visit_TypeVar
    visit_TypeAlias = _plain

    # Exceptions

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """Turn a bare ``except`` into ``except Exception``: it must not catch exceptions that end a cell."""
        node = self._contents(node)
        self.check_name(node, node.name)
        if node.type is None:
            node.type = ast.copy_location(ast.Name("_Exception_", ast.Load()), node)
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """Guard early exits from a ``finally`` block: they must not suppress an exception that ends a cell."""
        node = self._contents(node)
        node.finalbody = [_guard_exits(statement, in_loop=False) for statement in node.finalbody]
        return node

    # ``except*`` itself is safe while no cell can subclass an exception group (CVE-2025-22153 needs a subclass with its
    # own ``split``), and cells get no exception group class.
    visit_TryStar = visit_Try  # type: ignore[assignment]

    # Patterns and imports: names and attributes that are plain strings in the tree

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> ast.AST:
        """Check a captured name."""
        self.check_name(node, node.name)
        return self._contents(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        """Check the name of the rest."""
        self.check_name(node, node.rest)
        return self._contents(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        """Check the attributes of a class pattern: Python reads them in C, without the guards.

        Positional patterns are safe: a cell cannot set ``__match_args__``, and the functions that set it (dataclass,
        named tuple) check their field names.
        """
        for name in node.kwd_attrs:
            if classify_attribute(name) is not Access.PLAIN:
                self.error(node, f"the attribute {name!r} is not available in a class pattern")
        return self._contents(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST:
        """Check imported names. Whether a module exists is decided at run time."""
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            path = f"{module}.{alias.name}" if module else alias.name
            self._check_import_path(node, path)
            self.check_name(node, alias.asname or alias.name.split(".")[0])
        if getattr(node, "is_lazy", False):
            self.error(node, "lazy imports are not available here")
        return node

    visit_ImportFrom = visit_Import

    def _check_import_path(self, node: ast.AST, path: str) -> None:
        for part in path.split("."):
            if part == "*":
                self.error(node, "'import *' is not available here; import the names that you need")
            elif part.startswith("_") and part != "__future__":
                self.error(node, f"{path!r} cannot be imported here")


def _guard_exits(node: _Node, *, in_loop: bool) -> _Node:
    """Insert a check before each statement that can leave a ``finally`` block early."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return node
    leaves: tuple[type[ast.AST], ...] = (ast.Return,) if in_loop else (ast.Return, ast.Break, ast.Continue)
    if isinstance(node, leaves):
        check = ast.copy_location(ast.Expr(_call("_check_", [], node)), node)
        always = ast.copy_location(ast.Constant(value=True), node)
        return cast("_Node", ast.copy_location(ast.If(always, [check, cast("ast.stmt", node)], []), node))
    is_loop = isinstance(node, (ast.For, ast.AsyncFor, ast.While))
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            inside = in_loop or (is_loop and field == "body")
            guarded = [_guard_exits(v, in_loop=inside) if isinstance(v, ast.AST) else v for v in value]
            setattr(node, field, guarded)
    return node
