"""Rewrite a cell's syntax tree for the child that runs ahead, after the policy has checked it.

Two things are changed. If Python would have to decide an expression with an unknown answer, the expression becomes
unknown (`unknown.Operations`). And each statement is put into a ``try``: if it fails because of an unknown, it is
skipped, and all names and objects that it would have changed become unknown. Statements that leave a block must not be
skipped: an unknown ``if`` around ``break``, ``return``, ``raise`` or ``SUBMIT`` ends the loop or the function there,
because the real run may never reach the code after it.

The result of a cell does not depend on this code, because the real run does not use it.
"""

from __future__ import annotations

import ast
from typing import Any, Final, cast

from rlm_adapters.sandbox.runahead.unknown import MUTATORS

_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LOOPS: Final = (ast.For, ast.AsyncFor, ast.While)
_UNGUARDED: Final = (
    *_SCOPES, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Pass, ast.Break, ast.Continue, ast.Return,
    ast.Raise,
)  # fmt: skip
_FINISHING: Final = frozenset({"SUBMIT", "FINAL", "FINAL_VAR", "exit", "quit"})
_CATCH_ALL: Final = frozenset({"_Exception_", "Exception", "BaseException"})
_PASSED_HOOKS: Final = frozenset({"_getattr_", "_private_", "_format_"})
"""Hooks of the policy whose results are checked. Other hooks are not changed."""
_EXHAUSTING: Final = frozenset(
    {"sum", "list", "tuple", "set", "sorted", "max", "min", "dict", "frozenset", "Counter", "join", "extend", "update"}
)
"""Callables that use all items of a generator. It can be replaced by a list, which can be unknown as a whole."""


def rewrite(tree: ast.Module) -> None:
    """Rewrite a module in place."""
    _Rewriter().visit(tree)
    ast.fix_missing_locations(tree)


class _Rewriter(ast.NodeTransformer):
    def __init__(self) -> None:
        self._functions: list[set[str]] = []
        """Local names of the enclosing functions, from the outside in."""
        self._in_class = False
        self._facts: dict[ast.stmt, tuple[bool, set[str], set[str]]] = {}
        """For each original statement: whether it may leave the block, which names it binds, and which it changes."""

    def visit(self, node: ast.AST) -> Any:
        """Rewrite a node."""
        if isinstance(node, ast.stmt):
            leaves = _leaves(node, (ast.Break, ast.Continue, ast.Return, ast.Raise))
            self._facts[node] = (leaves, *_changed_names(node))
        return super().visit(node)

    # Statements

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node = _generic(self, node)
        node.body = self._block(node.body)
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(one) for one in node.decorator_list]
        node.args = self.visit(node.args)
        names = _own_names(node)
        stored, changed = _joined(node.body)
        declared = {
            name
            for part in _own_scope(node.body)
            if isinstance(part, (ast.Global, ast.Nonlocal))
            for name in part.names
        }
        self._functions.append(names)
        was_in_class, self._in_class = self._in_class, False
        body = [self.visit(statement) for statement in node.body]
        node.body = self._block(body)
        if not _contains(node.body, (ast.Yield, ast.YieldFrom)):
            handler = [_spoil(name) for name in sorted(changed)]
            handler += [_assign(name) for name in sorted(stored & declared)]
            node.body = [_try(node.body, [*handler, ast.Return(_load("_UNK_"))])]
        self._functions.pop()
        self._in_class = was_in_class
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815 - names of ast.NodeVisitor

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        was_in_class, self._in_class = self._in_class, True
        node = _generic(self, node)
        self._in_class = was_in_class
        return node

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> ast.AST:
        target = (
            {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
            if not isinstance(node, ast.While)
            else set()
        )
        bare = list(node.body)
        stored, changed = _joined(bare)
        leaves = any(_leaves(statement, (ast.Break, ast.Return, ast.Raise)) for statement in bare)
        node = self._blocks(_generic(self, node))
        if not leaves and not self._in_class:
            node.body = [_try(node.body, [*self._lose(stored - target, changed - target), ast.Continue()])]
        return node

    visit_For = visit_AsyncFor = visit_While = _loop  # noqa: N815 - names of ast.NodeVisitor

    def _blocks(self, node: Any) -> Any:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block:
                setattr(node, name, self._block(block))
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            part.body = self._block(part.body)
        return node

    def _compound(self, node: Any) -> ast.AST:
        return cast("ast.AST", self._blocks(_generic(self, node)))

    visit_If = visit_With = visit_AsyncWith = visit_Try = visit_TryStar = visit_Match = _compound  # noqa: N815 - names of ast.NodeVisitor

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        if self._in_class:
            return statements
        return [self._guarded(statement) for statement in statements]

    def _guarded(self, statement: ast.stmt) -> ast.stmt:
        leaves, stored, changed = self._facts[statement]
        if leaves or isinstance(statement, _UNGUARDED):
            return statement
        return _try([statement], self._lose(stored, changed) or [ast.Pass()])

    def _lose(self, stored: set[str], changed: set[str]) -> list[ast.stmt]:
        """Statements that make names unknown: names that would have been bound, and names of changed objects."""
        lines: list[ast.stmt] = [self._spoil(name) for name in sorted(changed - stored)]
        return lines + [self._set(name) for name in sorted(stored)]

    def _is_own(self, name: str) -> bool:
        return not self._functions or name in self._functions[-1]

    def _spoil(self, name: str) -> ast.stmt:
        return _spoil(name, rebind=self._is_own(name))

    def _set(self, name: str) -> ast.stmt:
        if self._is_own(name):
            return _assign(name)
        if any(name in names for names in self._functions):
            return ast.Pass()
        return ast.Expr(_hook("_forget_", ast.Constant(name)))

    # Expressions

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = _called_name(node)
        if name in _EXHAUSTING and len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp):
            generator = node.args[0]
            if not any(part.is_async for part in generator.generators):
                node.args[0] = ast.copy_location(ast.ListComp(generator.elt, generator.generators), generator)
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in MUTATORS
            and isinstance(node.func.value, ast.Subscript)
        ):
            # ``d[label].append(x)`` with an unknown label changes ``d``. It must fail, so that ``d`` becomes unknown.
            owner = node.func.value
            owner.value, owner.slice = self.visit(owner.value), self.visit(owner.slice)
        else:
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        if isinstance(node.func, ast.Name):
            hook = node.func.id.startswith("_") and node.func.id.endswith("_") and len(node.func.id) > 1
            if node.func.id == "super" or (hook and node.func.id not in _PASSED_HOOKS):
                return node
        return ast.copy_location(ast.Call(_load("_call_"), [node.func, *node.args], node.keywords), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                part.value = self.visit(part.value)
        return _hook("_text_", node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node = _generic(self, node)
        if not isinstance(node.ctx, ast.Load):
            return node
        if isinstance(node.slice, ast.Constant):
            return node
        return _hook("_item_", node.value, _index(node.slice))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        node = _generic(self, node)
        return _hook("_mod_", node.left, node.right) if isinstance(node.op, ast.Mod) else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        node = _generic(self, node)
        return _hook("_not_", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        node = _generic(self, node)
        if len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            hook = "_in_" if isinstance(node.ops[0], ast.In) else "_not_in_"
            return _hook(hook, node.left, node.comparators[0])
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node = _generic(self, node)
        stop = "_and_" if isinstance(node.op, ast.And) else "_or_"
        *first, result = node.values
        for value in reversed(first):
            result = ast.IfExp(_hook(stop, value), _hook("_kept_"), result)
        return result

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node = _generic(self, node)
        known = ast.IfExp(_hook("_kept_"), node.body, node.orelse)
        return ast.IfExp(_hook("_if_", node.test), _load("_UNK_"), known)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        plain = not _contains([node.body], (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr))
        self._functions.append(_own_names(node))
        node = _generic(self, node)
        self._functions.pop()
        if plain:
            nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
            node.body = _hook("_try_", ast.Lambda(nothing, node.body))
        return node

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.AST:
        node = _generic(self, node)
        if isinstance(node, ast.DictComp):
            pair = ast.Tuple([node.key, node.value], ast.Load())
            made: ast.expr = _hook("_dict_", self._tracked(ast.ListComp(pair, node.generators)))
        elif isinstance(node, ast.SetComp):
            made = _hook("_set_", self._tracked(ast.ListComp(node.elt, node.generators)))
        else:
            made = self._tracked(node)
        return made

    visit_ListComp = visit_SetComp = visit_DictComp = _comprehension  # noqa: N815 - names of ast.NodeVisitor

    def _tracked(self, node: ast.ListComp) -> ast.expr:
        for part in node.generators:
            if not part.is_async:
                part.iter = _hook("_iter_", part.iter)
            part.ifs = [_hook("_truth_", test) for test in part.ifs]
        return _hook("_end_", _hook("_begin_"), node)


def _generic(rewriter: ast.NodeTransformer, node: Any) -> Any:
    return rewriter.generic_visit(node)


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _hook(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(_load(name), list(arguments), [])


def _index(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Slice):
        return _hook("_slice_", *(part or ast.Constant(None) for part in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.Tuple):
        node.elts = [_index(one) for one in node.elts]
    return node


def _try(body: list[ast.stmt], handler: list[ast.stmt]) -> ast.Try:
    return ast.Try(body, [ast.ExceptHandler(_load("_Observed_"), None, handler)], [], [])


def _assign(name: str) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], _load("_UNK_"))


def _spoil(name: str, *, rebind: bool = False) -> ast.stmt:
    """``name = _spoil_(name)``, or only the call if the name belongs to another scope. It may be unbound."""
    lost = _hook("_spoil_", _load(name))
    statement: ast.stmt = ast.Assign([ast.Name(name, ast.Store())], lost) if rebind else ast.Expr(lost)
    return ast.Try([statement], [ast.ExceptHandler(_load("NameError"), None, [ast.Pass()])], [], [])


def _called_name(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _base(node: ast.expr) -> str | None:
    """The first name of ``name.a[b].c``, also inside policy hooks."""
    while True:
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
            node = node.value
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id.startswith("_") and node.func.id.endswith("_"):
                if not node.args:
                    return None
                node = node.args[0]
            else:
                node = node.func
        else:
            return node.id if isinstance(node, ast.Name) and not _is_hook(node.id) else None


def _is_hook(name: str) -> bool:
    return len(name) > 1 and name[0] == name[-1] == "_"


def _own_scope(body: list[Any]) -> list[ast.AST]:
    """The nodes of a scope, without those inside its functions and classes."""
    found: list[ast.AST] = []

    def walk(node: ast.AST) -> None:
        found.append(node)
        if not isinstance(node, _SCOPES):
            for child in ast.iter_child_nodes(node):
                walk(child)

    for node in body:
        walk(node)
    return found


def _own_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """Names that are local in a function, or declared global or nonlocal. Assigning them changes no scope."""
    arguments = node.args
    names = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {one.arg for one in (arguments.vararg, arguments.kwarg) if one is not None}
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    for part in _own_scope(body):
        if isinstance(part, (ast.Global, ast.Nonlocal)):
            names |= set(part.names)
    return names | _joined(body)[0]


def _joined(body: list[Any]) -> tuple[set[str], set[str]]:
    stored: set[str] = set()
    changed: set[str] = set()
    for statement in body:
        one = _changed_names(statement)
        stored |= one[0]
        changed |= one[1]
    return stored, changed


def _changed_names(statement: ast.AST) -> tuple[set[str], set[str]]:
    """Names that a statement binds in its scope, and names whose objects it changes."""
    stored: set[str] = set()
    changed: set[str | None] = set()

    def scan(node: ast.AST, *, inside: bool) -> None:
        """``inside``: inside a comprehension, whose variables are local."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and not inside:
            stored.add(node.id)
        elif isinstance(node, ast.NamedExpr):
            stored.add(node.target.id)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            changed.add(_base(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            changed.add(_base(node.func))
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            stored.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            stored.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
        ):
            changed.add(_base(node.value.func))
        if isinstance(node, _SCOPES):
            if not isinstance(node, ast.Lambda) and not inside:
                stored.add(node.name)
            return
        for child in ast.iter_child_nodes(node):
            scan(child, inside=inside or isinstance(node, _COMPREHENSIONS))

    scan(statement, inside=False)
    own = {name for name in stored if not _is_hook(name)}
    return own, {name for name in changed if name}


def _contains(body: list[Any], kinds: tuple[type[ast.AST], ...]) -> bool:
    return any(isinstance(node, kinds) for node in _own_scope(body))


def _leaves(node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> bool:
    """Whether a statement may leave its block by one of these kinds, by ``yield``, or by submitting an answer."""

    def walk(node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> bool:
        if isinstance(node, _SCOPES):
            return False
        if isinstance(node, (*kinds, ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FINISHING:
            return True
        if isinstance(node, _LOOPS):
            inner = tuple(kind for kind in kinds if kind not in (ast.Break, ast.Continue))
            head = [node.test] if isinstance(node, ast.While) else [node.iter]
            return any(walk(one, inner) for one in (*head, *node.body)) or any(walk(one, kinds) for one in node.orelse)
        if isinstance(node, ast.Try) and _catches_all(node):
            inner = tuple(kind for kind in kinds if kind is not ast.Raise)
            return any(walk(one, inner) for one in node.body) or any(
                walk(one, kinds) for one in (*node.handlers, *node.orelse, *node.finalbody)
            )
        return any(walk(child, kinds) for child in ast.iter_child_nodes(node))

    return walk(node, kinds)


def _catches_all(node: ast.Try) -> bool:
    return any(
        handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id in _CATCH_ALL)
        for handler in node.handlers
    )
