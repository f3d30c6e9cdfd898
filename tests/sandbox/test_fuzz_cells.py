"""Cells grown at random out of dangerous atoms: nothing forbidden gets reachable, and the host stays up.

Every statement is a cell of its own, so that one refusal does not spoil the rest, and binds what it computes (or the
exception that it gets) to a name; afterwards a last cell walks over the attributes of all that is there. Everything
that is bound in the end is judged from outside by `attack_oracle`.

``FUZZ=20000`` in the environment runs so many programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_adapters.sandbox import Done, HostFunction, Sandbox, SandboxLimits, Value

FUZZ = int(os.environ.get("FUZZ") or 0)
"""How many programs to try; a few without it."""
PROFILE = settings(
    max_examples=FUZZ or 150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
ROOT = Path(__file__).parents[2]

DUNDERS = [
    "__class__",
    "__base__",
    "__bases__",
    "__mro__",
    "__subclasses__",
    "__dict__",
    "__globals__",
    "__closure__",
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__builtins__",
    "__self__",
    "__func__",
    "__wrapped__",
    "__module__",
    "__name__",
    "__qualname__",
    "__doc__",
    "__init__",
    "__new__",
    "__call__",
    "__get__",
    "__set__",
    "__set_name__",
    "__getattribute__",
    "__getattr__",
    "__setattr__",
    "__delattr__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__init_subclass__",
    "__class_getitem__",
    "__subclasshook__",
    "__instancecheck__",
    "__match_args__",
    "__slots__",
    "__annotations__",
    "__origin__",
    "__args__",
    "__parameters__",
    "__orig_bases__",
    "__thisclass__",
    "__self_class__",
    "__objclass__",
    "__traceback__",
    "__context__",
    "__cause__",
    "__notes__",
    "__weakref__",
    "__format__",
    "__iter__",
    "__next__",
    "__enter__",
    "__exit__",
    "__eq__",
    "__hash__",
    "__del__",
    "__prepare__",
    "__mro_entries__",
    "__dataclass_fields__",
    "__members__",
    "__await__",
    "__aenter__",
    "__index__",
    "__buffer__",
    "__loader__",
    "__spec__",
    "__path__",
    "__file__",
    "__import__",
    "__sizeof__",
    "__copy__",
]
INSPECTION = [
    "gi_frame",
    "gi_code",
    "gi_yieldfrom",
    "cr_frame",
    "cr_code",
    "cr_await",
    "ag_frame",
    "ag_code",
    "tb_frame",
    "tb_next",
    "f_back",
    "f_globals",
    "f_locals",
    "f_builtins",
    "f_code",
    "co_consts",
    "func_globals",
    "im_func",
]
PRIVATE = [
    "_real",
    "_classes",
    "_call",
    "_name",
    "_output",
    "_system",
    "_task",
    "_parts",
    "_scheduler",
    "_environment",
    "_root",
    "_page",
    "_pages",
    "_reader",
    "_stream",
    "_exceptions",
    "_facade_name",
    "_numbers",
    "_member_map_",
    "_member_type_",
    "_value_",
    "_convert_",
    "_missing_",
    "_fields",
    "_make",
    "_replace",
    "_asdict",
    "_field_defaults",
    "_getattr_",
    "_write_",
    "_private_",
    "_abc_impl",
    "_is_protocol",
    "_x",
    "_wait",
    "_notify",
    "_buffer",
]
PUBLIC = [
    "format",
    "format_map",
    "mro",
    "register",
    "obj",
    "with_traceback",
    "fget",
    "fset",
    "func",
    "args",
    "keywords",
    "copy",
    "update",
    "data",
    "maps",
    "new_child",
    "pop",
    "get",
    "items",
    "keys",
    "values",
    "append",
    "clear",
    "extend",
    "join",
    "split",
    "encode",
    "decode",
    "read",
    "write",
    "readinto",
    "getbuffer",
    "raw",
    "buffer",
    "detach",
    "truncate",
    "seek",
    "name",
    "mode",
    "send",
    "throw",
    "close",
    "gen",
    "thing",
    "value",
    "default",
    "default_factory",
    "metadata",
    "type",
    "fields",
    "run",
    "submit",
    "map",
    "result",
    "exception",
    "cancel",
    "add_done_callback",
    "acquire",
    "release",
    "target",
    "factory",
    "pattern",
    "groupindex",
    "encode",
    "decode",
    "default",
    "iterencode",
    "parse_object",
    "scan_once",
    "feed",
    "visit",
    "generic_visit",
    "exceptions",
    "derive",
    "split",
    "subgroup",
    "setter",
    "getter",
    "deleter",
    "attrname",
    "lock",
    "cache_info",
    "cache_parameters",
    "registry",
    "dispatch",
    "fromkeys",
    "from_float",
    "as_integer_ratio",
    "hex",
    "now",
    "today",
    "utcnow",
    "replace",
    "astimezone",
    "tzinfo",
    "shutdown",
    "as_completed",
    "queue",
    "kind",
]
NAMES = [*DUNDERS, *INSPECTION, *PRIVATE, *PUBLIC, *PUBLIC]
"""Public names twice: a refusal by name teaches nothing about the rest of its statement."""
MODULES = [
    "json",
    "re",
    "math",
    "collections",
    "collections.abc",
    "itertools",
    "functools",
    "operator",
    "datetime",
    "time",
    "random",
    "statistics",
    "string",
    "textwrap",
    "difflib",
    "dataclasses",
    "enum",
    "typing",
    "abc",
    "types",
    "copy",
    "heapq",
    "bisect",
    "decimal",
    "fractions",
    "csv",
    "io",
    "os",
    "os.path",
    "pathlib",
    "glob",
    "sys",
    "traceback",
    "contextlib",
    "asyncio",
    "concurrent.futures",
    "threading",
    "queue",
    "logging",
    "warnings",
    "hashlib",
    "base64",
    "html",
    "html.parser",
    "urllib.parse",
    "unicodedata",
    "uuid",
    "zlib",
    "gzip",
    "bz2",
    "struct",
    "ast",
    "pprint",
    "calendar",
    "numbers",
    "secrets",
    "xml.etree.ElementTree",
    "fnmatch",
    "pypdf",
    "binascii",
    "inspect",
    "builtins",
    "importlib",
    "ctypes",
    "gc",
    "socket",
    "subprocess",
    "pickle",
]
BUILTINS = [
    "llm_query",
    "llm_query_batched",
    "rlm_query",
    "tool",
    "SUBMIT",
    "FINAL",
    "SHOW_VARS",
    "SubCallError",
    "print",
    "open",
    "obj",
    "docs",
    "context",
    "raw_query",
    "type",
    "object",
    "super",
    "property",
    "classmethod",
    "staticmethod",
    "int",
    "str",
    "bytes",
    "list",
    "dict",
    "tuple",
    "set",
    "frozenset",
    "bytearray",
    "Exception",
    "BaseException",
    "AttributeError",
    "ExceptionGroup",
    "StopIteration",
    "map",
    "filter",
    "zip",
    "iter",
    "next",
    "range",
    "slice",
    "getattr",
    "hasattr",
    "setattr",
    "vars",
    "dir",
    "globals",
    "locals",
    "len",
    "repr",
    "sorted",
    "max",
    "sum",
    "id",
    "hash",
    "isinstance",
    "issubclass",
    "callable",
    "format",
    "enumerate",
    "reversed",
    "abs",
    "min",
    "any",
    "all",
    "input",
    "help",
    "exit",
    "NotImplemented",
    "Ellipsis",
    "memoryview",
]
OBJECTS = [
    "(lambda x=None: x)", "(x for x in [1])", "''", "'{0.__globals__}'", "'{0.__class__.__mro__}'", "b'x'", "()", "[]",
    "{}", "1", "1.5", "None", "...", "str.format", "list[int]", "(1).__class__", "f'{1}'", "int | str",
]  # fmt: skip
PROLOGUE = """
from collections import Counter, ChainMap, defaultdict, OrderedDict, deque, namedtuple, UserDict
from dataclasses import dataclass, field, asdict, fields
from enum import Enum, Flag, StrEnum, auto
from typing import Annotated, Protocol, runtime_checkable, Generic, TypeVar, NamedTuple, TypedDict, List
from functools import partial, reduce, wraps, lru_cache, cached_property, total_ordering
from operator import attrgetter, methodcaller, itemgetter, setitem
from contextlib import contextmanager, ExitStack, suppress, nullcontext, closing
from abc import ABC, abstractmethod
import copy, io, json, sys, os, asyncio, ast, csv, re, itertools
"""
PROLOGUE_CELLS = PROLOGUE.strip().splitlines() + ["import " + name for name in MODULES[:40]]
WALK = """
walked = []
for _k, _v in globals().items():
    if _k[0] == 'v':
        for _n in dir(_v):
            try:
                walked.append(getattr(_v, _n))
            except Exception:
                pass
"""


class Tape:
    """Choices read off a tape of bytes, which hypothesis draws at once: ten times faster than a draw for each."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def number(self, below: int) -> int:
        """A number from 0; when the tape has ended, 0."""
        return (next(self._bytes, 0) * 256 + next(self._bytes, 0)) % below

    def choice(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[self.number(len(options))]


def spelled(tape: Tape) -> str:
    """An attribute name as a string expression that hides it."""
    name = tape.choice(NAMES)
    cut = tape.number(len(name) + 1)
    return tape.choice(
        [repr(name), f"{name[:cut]!r} + {name[cut:]!r}", f"''.join([{name[:cut]!r}, {name[cut:]!r}])", f"S({name!r})"]
    )


def value(tape: Tape, bound: int, depth: int = 2) -> str:
    """An expression: an atom, something bound before, or an operation on expressions."""
    kind = tape.number(10) if depth else tape.number(4)
    if kind == 0:
        return tape.choice(BUILTINS)
    if kind == 1:
        return tape.choice(OBJECTS)
    if kind < 4:
        return f"v{tape.number(bound)}" if bound else tape.choice(["A", "A()", "B", "B('x')", "S('x')"])
    x, y = value(tape, bound, depth - 1), value(tape, bound, depth - 1)
    name, hidden = tape.choice(NAMES), spelled(tape)
    operations = [
        f"({x}).{name}", f"({x}).{name}({y})", f"({x}).{name}()", f"getattr({x}, {hidden})", f"getattr({x}, {hidden})({y})",
        f"getattr({x}, {hidden}, {y})", f"hasattr({x}, {hidden}) and {x}", f"attrgetter({hidden})({x})",
        f"attrgetter({name + '.' + tape.choice(NAMES)!r})({x})", f"methodcaller({hidden}, {y})({x})", f"methodcaller({hidden})({x})",
        f"list(map(({x}).{name}, [{y}]))", f"partial({x}, {y})()", f"reduce(getattr, [{hidden}], {x})",
        f"reduce(lambda a, b: a(b), [{x}, {y}])", f"'{{0.{name}}}'.format({x})", f"'{{0.{name}[0]}}'.format({x})",
        f"'{{a.{name}}}'.format_map({{'a': {x}}})", f"f'{{({x}).{name}}}'", f"'{{:{{1.{name}}}}}'.format({x}, {y})",
        f"({x})({y})", f"({x})()", f"({x})({y}, {y})", f"({x})(*[{y}])", f"({x})(**{{{hidden}: {y}}})", f"({x})[{y}]",
        f"type({x})", f"type({x})({y})", f"vars({x})", f"dir({x})", f"iter({x})", f"next(iter({x}))", f"[{x}, {y}]",
        f"({x}, {y})", f"{{{hidden}: {x}}}", f"[{x} for _ in [1]]", f"(lambda *a, **k: {x})({y})", f"({x}) | ({y})",
        f"({x}) + ({y})", f"({x}) % ({y})", f"copy.copy({x})", f"copy.deepcopy({x})", f"Annotated[{x}, 1].{name}",
        f"super({x}, {y}).{name}", f"super({x}, {y})", f"wraps({x})({y})", f"lru_cache({x})", f"cached_property({x}).{name}",
        f"contextmanager({x})", f"dataclass({x})", f"total_ordering({x})", f"runtime_checkable({x})", f"property({x})",
        f"Enum('E', {{{hidden}: {x}}})", f"StrEnum('E', [({hidden}, {x})])", f"namedtuple('N', [{hidden}])",
        f"NamedTuple('N', [({hidden}, {x})])", f"TypedDict('T', {{{hidden}: {x}}})", f"asdict({x})", f"json.dumps({x}, default={y})",
        f"sorted([{x}, {y}], key={x})", f"max([{x}], key={y})", f"re.sub('x', {x}, 'x')", f"asyncio.run({x})",
        f"itertools.starmap({x}, [({y},)])", f"next(itertools.starmap({x}, [({y}, {y})]))", f"setattr({x}, {hidden}, {y})",
        f"ExitStack().push({x})", f"ExitStack().enter_context({x})", f"io.BytesIO({x})", f"open({x})", f"print({x}, file={y})",
        f"issubclass({x}, {y})", f"isinstance({x}, {y})", f"({x} := {y})" if x.isidentifier() else f"[{x}]",
        f"Counter({x})", f"ChainMap({x}, {y})", f"deque({x})", f"OrderedDict({x})", f"str({x})", f"repr({x})", f"ast.dump({x})",
        f"property.__init__({x}, {y})", f"suppress({x})", f"closing({x})", f"nullcontext({x})", f"field(default_factory={x})",
    ]  # fmt: skip
    return tape.choice(operations)


def attempt_to_bind(number: int, body: str) -> str:
    """The statement; what it raises is bound as well."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"try:\n{lines}\nexcept Exception as error:\n    v{number} = error"


def statement(tape: Tape, number: int) -> str:
    """A cell that binds ``v<number>``."""
    v = f"v{number}"
    x, y, name, hidden = value(tape, number), value(tape, number), tape.choice(NAMES), spelled(tape)
    module = tape.choice(MODULES)
    # The policy sees what is written out, so names appear in every place that a name can have.
    forms = [
        f"{v} = {x}", f"{v} = {x}", f"{v} = {x}",
        f"match {x}:\n    case object({name}={v}):\n        pass", f"match {x}:\n    case {{'k': {v}, **{v}r}}:\n        pass",
        f"match {x}:\n    case [{v}, *{v}r]:\n        pass", f"match {x}:\n    case A({v}) | B({v}):\n        pass",
        f"fmt = {x}\nmatch Spy():\n    case fmt.{name}:\n        {v} = spied",
        f"for {v} in {x}:\n    break", f"with {x} as {v}:\n    pass", f"{v}, *rest = {x}",
        f"class K({x}):\n    pass\n{v} = K", f"class K({x}):\n    {name} = {y}\n{v} = K",
        f"class K({x}, {y}):\n    pass\n{v} = K()", f"class K({x}):\n    def {name}(self, *a):\n        return a\n{v} = K",
        f"class K({x}):\n    {name}: object\n{v} = dataclass(init=False)(K)",
        f"@dataclass(init=False)\nclass K:\n    {name}: object\nclass L(K, {x}):\n    pass\nmatch L({y}):\n    case K(got):\n        {v} = got",
        f"class K({x}):\n    def f(self):\n        return super().{name}\n{v} = K().f()",
        f"class K({x}):\n    def f(self):\n        return getattr(super(), {hidden})\n{v} = K({y}).f()",
        f"@{x}\ndef {v}(*a):\n    return a", f"@{x}\nclass {v}:\n    pass", f"@partial({x}, {y})\ndef {v}():\n    pass",
        f"def f({name}=None):\n    return {x}\n{v} = f({y})", f"def f(*{name}, **k):\n    return {x}\n{v} = f({y})",
        f"async def f():\n    return await {x}\n{v} = asyncio.run(f())", f"async def f():\n    async with {x} as g:\n        return g\n{v} = asyncio.run(f())",
        f"c = (lambda: (yield {x}))()\n{v} = c.{name}", f"async def f():\n    yield {x}\n{v} = f().{name}",
        f"({x}).{name} = {y}\n{v} = {x}", f"({x}).{name} += {y}\n{v} = {x}", f"for ({x}).{name} in [{y}]:\n    {v} = {x}",
        f"del ({x}).{name}\n{v} = {x}", f"import json as {name}\n{v} = {name}", f"from json import dumps as {name}\n{v} = {name}",
        f"from {module} import {name} as {v}", f"import {module} as {v}",
        f"import {module} as m\n{v} = m.{name}", f"import {module} as m\n{v} = [getattr(m, n) for n in dir(m)]",
        f"global {name}\n{name} = {x}\n{v} = {name}", f"{v} = [{name} for {name} in [{x}]]", f"{v} = ({name} := {x})",
        f"try:\n    raise {x}\nexcept {y} as {v}e:\n    {v} = {v}e.{name}", f"try:\n    ({x}).{name}\nexcept Exception as e:\n    {v} = [e.args, e.{tape.choice(NAMES)}]",
        f"try:\n    raise {x}\nexcept* Exception as {v}g:\n    {v} = {v}g.exceptions",
        f"class C:\n    def __enter__(self):\n        return {x}\n    def __exit__(self, *a):\n        global {v}\n        {v} = a\n        return True\nwith C():\n    1 / 0",
        f"class D(dict):\n    def __missing__(self, k):\n        return {x}\n    def get(self, k, d=None):\n        global {v}\n        {v} = d\nmatch D(a=1):\n    case {{'b': _}}:\n        pass",
        f"class G({x}):\n    def __eq__(self, o):\n        global {v}\n        {v} = o\n    __hash__ = None\nG() == {y}",
        f"class I:\n    def __index__(self):\n        return {x}\n    def __len__(self):\n        return 3\n    def __setitem__(self, k, w):\n        global {v}\n        {v} = w\n({y}).{name}(I())",
        f"type P = {x}\n{v} = P.__value__", f"def f[T: {x}]():\n    pass\n{v} = f",
    ]  # fmt: skip
    return attempt_to_bind(number, tape.choice(forms))


def program_of(data: bytes) -> list[str]:
    """Cells that build on each other."""
    tape = Tape(data)
    return [statement(tape, number) for number in range(3 + tape.number(7))]


programs = st.binary(min_size=300, max_size=300).map(program_of)


CLASSES = """
class S(str):
    left = 0
    def __eq__(self, other):
        if S.left:
            S.left -= 1
            return False
        return str.__eq__(self, other)
    __hash__ = str.__hash__
class A:
    _x = 1
    maps = [(), {}]
    data = 'x'
class B(str):
    pass
class Spy:
    def __eq__(self, other):
        global spied
        spied = other
        return True
"""


class Runner:
    """The process in which cells run in forks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.attacks.attack_runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

        assert not any(self._ask({"prepare": [*PROLOGUE_CELLS, CLASSES]})["errors"])

    def run(self, cells: list[str]) -> dict[str, Any]:
        """The verdict on these cells, run after the prologue."""
        return self._ask({"cells": cells})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


ENDED_BY_A_LIMIT = frozenset({"SIGXCPU", "SIGALRM", "SIGKILL"})


def check(verdict: dict[str, Any]) -> None:
    if verdict.get("died") in ENDED_BY_A_LIMIT:
        return
    assert verdict.get("leak", "no verdict") is None, verdict


@PROFILE
@given(program=programs)
def test_no_program_gets_hold_of_anything(runner, program):
    check(runner.run([*program, WALK]))


def test_the_fuzzer_would_see_a_leak(runner):
    """An oracle that sees nothing would pass everything: plant something that the walk must find."""
    planted = runner.run(["v0 = [{'a': ('S3CR3T-TOKEN',)}]", WALK])
    assert "S3CR3T" in planted["leak"]
    walked = runner.run(["class Z:\n    inner = 'S3CR3T-TOKEN'\nv0 = Z()", WALK])
    assert walked["leak"].startswith("walked")


def test_the_grown_programs_do_run(runner):
    """Most statements must get past the policy, or the fuzzer would only test refusals."""
    ran, refused = 0, 0

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cells=programs)
    def count(cells: list[str]) -> None:
        nonlocal ran, refused
        errors = runner.run(cells).get("errors", [])
        refused += sum(bool(error) and error.startswith(("policy", "syntax")) for error in errors)
        ran += sum(not error for error in errors)

    count()
    assert ran > refused


EXPORTS = """
import {module} as module
class U:
    maps = [(), {{}}]
    data = 'x'
    def __init__(self, *a, **k):
        pass
walked = []
def poke(f):
    for args in [(U,), (U, 'X'), (U, U), (U(),), (U(), 'x'), (int,), ('x',), ()]:
        try:
            r = f(*args)
            walked.append(r)
            if type(r).__name__ in ('generator', 'map', 'filter', 'zip'):
                walked.extend(r if False else [next(r)])
        except Exception as e:
            walked.append(e)
skip = {{'count', 'cycle', 'repeat', 'SUBMIT', 'exit', 'product', 'sleep', 'input', 'fromkeys', 'scrypt', 'pbkdf2_hmac'}}
for n in dir(module):
    if n in skip:
        continue
    x = getattr(module, n)
    walked.append(x)
    for m in dir(x):
        if m in skip:
            continue
        try:
            f = getattr(x, m)
        except Exception as e:
            continue
        walked.append(f)
        if callable(f):
            poke(f)
    if callable(x):
        poke(x)
"""
EXPORTING = [
    name
    for name in MODULES
    if name not in {"inspect", "builtins", "importlib", "ctypes", "socket", "subprocess", "pickle"}
]


@pytest.mark.parametrize("module", EXPORTING)
def test_nothing_that_a_module_exports_leads_out_when_it_is_called(module, runner):
    """Every name, its attributes, and what calls of them give: also unbound methods with a class as ``self``."""
    verdict = runner.run([EXPORTS.format(module=module)])
    check(verdict)


# Through a session: the host's side


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    limits = SandboxLimits(cpu_seconds=0.3, wall_seconds=3, output_chars=5_000, file_bytes=1 << 20)
    with Sandbox(limits=limits) as sandbox:
        yield sandbox


@settings(PROFILE, max_examples=FUZZ // 20 or 40)
@given(program=programs)
def test_a_session_survives_any_program(sandbox, program):
    functions = [HostFunction(name="llm_query", effects=False), HostFunction(name="tool")]
    answer: Callable[[Any], Any] = lambda step: {call.id: Value("ok") for call in step.calls}  # noqa: E731
    with sandbox.open(functions=functions, epoch=0.0) as session:
        for cell in ["\n".join(PROLOGUE_CELLS), CLASSES, *program, "print('alive')"]:
            step = session.start(cell)
            for _ in range(100):
                if isinstance(step, Done):
                    break
                step = session.resume(answer(step))
        assert isinstance(step, Done)
        assert step.stdout == "alive\n" or "print" in "".join(program), step
