"""Cells of ordinary Python, by what they show. Each must print what plain Python prints (see test_language)."""

CELLS = {
    "closures share a counter by nonlocal": """
def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step
c = counter()
print(c(), c(), c())
""",
    "global statements": """
hits = 0
def bump(k=1):
    global hits
    hits += k
for _ in range(3): bump()
bump(k=4)
print(hits)
""",
    "the walrus in while, if and comprehensions": """
data = iter("abc")
while (ch := next(data, None)) is not None:
    print(ch, end=" ")
print([y for x in range(6) if (y := x * x) > 5], (z := 3) + z)
""",
    "match on values, sequences, mappings, classes and guards": """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: int
def f(v):
    match v:
        case 0 | 1: return "small"
        case int(n) if n > 100: return f"big {n}"
        case [1, *rest]: return ("list", rest)
        case {"kind": "a", **rest}: return ("map", rest)
        case Point(x=0, y=y): return ("axis", y)
        case Point(a, b): return ("point", a, b)
        case str() as s: return s.upper()
        case None: return "none"
        case (a, (b, c)): return (a, b, c)
        case _: return "?"
for v in (0, 500, [1, 2, 3], {"kind": "a", "k": 1}, Point(0, 4), Point(2, 3), "x", None, (1, (2, 3)), 5.5):
    print(f(v))
""",
    "generators: send, throw, close, yield from": """
def averager():
    total, n, avg = 0, 0, None
    try:
        while True:
            try:
                x = yield avg
            except ValueError as e:
                print("thrown", e)
                continue
            total += x; n += 1; avg = total / n
    finally:
        print("closed")
g = averager(); next(g)
print(g.send(10), g.send(20)); g.throw(ValueError("v")); g.close()
def chain(*its):
    for it in its:
        r = yield from it
    return r
def inner():
    yield 1
    return "r"
def outer():
    v = yield from inner()
    print("got", v)
print(list(outer()), list(chain([1], (2, 3))))
""",
    "try, except, else, finally, raise from, nested": """
def f(x):
    try:
        return 10 / x
    except ZeroDivisionError as e:
        raise ValueError("bad") from e
    except (TypeError, KeyError):
        return "type"
    else:
        return "never"
    finally:
        print("finally", x)
for v in (2, "a", 0):
    try:
        print(f(v))
    except ValueError as e:
        print(repr(e), type(e.__cause__).__name__)
def g():
    for i in range(3):
        try:
            if i == 1: continue
            if i == 2: break
        finally:
            print("f", i)
    return "done"
print(g())
def h():
    try:
        return "try"
    finally:
        return "finally"
print(h())
for i in range(2):
    try:
        1 / 0
    finally:
        continue
print("swallowed")
""",
    "custom exceptions with attributes": """
class AppError(Exception):
    def __init__(self, msg, code=0, **extra):
        super().__init__(msg)
        self.code = code
        self.extra = extra
    def __str__(self):
        return f"[{self.code}] {self.args[0]} {self.extra}"
class NotFound(AppError): pass
try:
    raise NotFound("nope", 404, path="/x")
except AppError as e:
    print(e, e.code, type(e).__name__, isinstance(e, AppError), e.args)
""",
    "properties, class methods, static methods, class attributes": """
class Temp:
    count = 0
    _registry = {}
    def __init__(self, c):
        self._c = c
        Temp.count += 1
        self._registry[c] = self
        type(self)._last = c
    @property
    def f(self): return self._c * 9 / 5 + 32
    @f.setter
    def f(self, v): self._c = (v - 32) * 5 / 9
    @f.deleter
    def f(self): self._c = None
    @classmethod
    def zero(cls): return cls(0)
    @staticmethod
    def ok(x): return x > -273
t = Temp(100); t.f = 32
print(t.f, t._c, Temp.zero()._c, Temp.ok(-300), Temp.count, sorted(Temp._registry), Temp._last)
del t.f; print(t._c)
""",
    "operator methods and ordering": """
from functools import total_ordering
@total_ordering
class V:
    __slots__ = ("x", "y")
    def __init__(self, x, y): self.x, self.y = x, y
    def __add__(self, o): return V(self.x + o.x, self.y + o.y)
    def __radd__(self, o): return self if o == 0 else NotImplemented
    def __mul__(self, k): return V(self.x * k, self.y * k)
    __rmul__ = __mul__
    def __eq__(self, o): return isinstance(o, V) and (self.x, self.y) == (o.x, o.y)
    def __lt__(self, o): return abs(self) < abs(o)
    def __abs__(self): return (self.x ** 2 + self.y ** 2) ** 0.5
    def __hash__(self): return hash((self.x, self.y))
    def __repr__(self): return f"V({self.x}, {self.y})"
    def __bool__(self): return bool(self.x or self.y)
    def __neg__(self): return V(-self.x, -self.y)
    def __iter__(self): yield self.x; yield self.y
    def __getitem__(self, i): return (self.x, self.y)[i]
    def __len__(self): return 2
    def __contains__(self, v): return v in (self.x, self.y)
    def __call__(self, s): return f"{s}{self!r}"
    def __format__(self, spec): return f"<{self.x:{spec}}|{self.y:{spec}}>"
a, b = V(1, 2), V(3, 4)
print(a + b, 3 * a, sum([a, b]), a < b, a >= b, -a, bool(V(0, 0)), [*a], b[0], len(a), 4 in b, a("v"), f"{a:03d}", {a: 1}[V(1, 2)])
x, y = b
print(max(a, b), sorted([b, a]), x, y)
a += b
print(a)
""",
    "inheritance, super, abstract classes, mixins": """
from abc import ABC, abstractmethod
class Shape(ABC):
    def __init__(self, name): self.name = name
    @abstractmethod
    def area(self): ...
    @property
    @abstractmethod
    def sides(self): ...
    def __str__(self): return f"{self.name}:{self.area():.1f}:{self.sides}"
class Loud:
    def __str__(self): return super().__str__().upper()
class Sq(Loud, Shape):
    sides = 4
    def __init__(self, s):
        super().__init__("sq")
        self.s = s
    def area(self): return self.s ** 2
class Rect(Sq):
    def __init__(self, a, b):
        Sq.__init__(self, a)
        self.b = b
    def area(self): return super(Rect, self).area() / self.s * self.b
print(Sq(3), Rect(2, 5))
try:
    Shape("x")
except TypeError as e:
    print("abstract", "Shape" in str(e))
print(issubclass(Rect, Shape), isinstance(Rect(1, 1), Loud))
""",
    "metaclass=ABCMeta": """
from abc import ABCMeta, abstractmethod
import abc
class A(metaclass=ABCMeta):
    @abstractmethod
    def f(self): pass
class B(A):
    def f(self): return "ok"
class C(metaclass=abc.ABCMeta): pass
print(B().f(), C().__class__.__name__)
""",
    "context managers by class and by generator": """
from contextlib import contextmanager, suppress, nullcontext, ExitStack, closing, redirect_stdout
import io
class CM:
    def __init__(self, n): self.n = n
    def __enter__(self): print("in", self.n); return self
    def __exit__(self, et, e, tb): print("out", self.n, et.__name__ if et else None); return et is KeyError
@contextmanager
def tag(t):
    print(f"<{t}>")
    try:
        yield t.upper()
    finally:
        print(f"</{t}>")
with CM(1) as a, CM(2) as b, tag("p") as p:
    print(a.n, b.n, p)
with CM(3):
    raise KeyError("swallowed")
with suppress(ZeroDivisionError, ValueError): 1 / 0
with nullcontext(5) as n: print(n)
with ExitStack() as st:
    xs = [st.enter_context(tag(c)) for c in "ab"]
    st.callback(print, "callback")
    print(xs)
buf = io.StringIO()
with redirect_stdout(buf): print("hidden")
print(repr(buf.getvalue()))
@tag("deco")
def f(): return 7
print(f())
with (CM(4) as x, CM(5) as y): pass
""",
    "decorators with arguments, stacked, on classes": """
import functools
def log(prefix="", *, times=1):
    def deco(fn):
        @functools.wraps(fn)
        def wrapper(*a, **k):
            for _ in range(times): print(prefix, fn.__name__, a, k)
            return fn(*a, **k)
        wrapper.calls = []
        return wrapper
    return deco
@log("1", times=2)
@log(prefix="2")
def add(a, b=2, /, *, c=3): "Adds."; return a + b + c
print(add(1, c=5), add.__name__, add.__doc__, add.calls)
def register(cls):
    cls.tag = cls.__name__.lower()
    return cls
@register
class Foo: pass
print(Foo.tag)
class memo:
    def __init__(self, f): self.f, self.cache = f, {}
    def __call__(self, n):
        if n not in self.cache: self.cache[n] = self.f(n)
        return self.cache[n]
@memo
def sq(n): return n * n
print(sq(4), sq(4), sq.cache)
""",
    "dataclasses": """
from dataclasses import dataclass, field, asdict, astuple, replace, fields, is_dataclass, KW_ONLY
from typing import Optional, List, ClassVar
@dataclass
class Item:
    name: str
    price: float = 0.0
    tags: List[str] = field(default_factory=list)
    _secret: int = field(default=1, repr=False)
    kind: ClassVar[str] = "item"
    meta: Optional[dict] = None
    def __post_init__(self):
        self.label = self.name.title()
@dataclass(frozen=True, order=True)
class P:
    x: int
    y: int = 0
@dataclass
class Order(Item):
    items: list = field(default_factory=list)
    _: KW_ONLY
    metadata: dict = field(default_factory=dict)
    format: str = "json"
i = Item("pen", 1.5, ["a"])
print(i, i.label, asdict(i), astuple(P(1, 2)), replace(P(1, 2), y=5), [f.name for f in fields(i)], is_dataclass(i))
o = Order("o", items=[P(1), i], metadata={"a": 1})
print(o, o.format, o.metadata, asdict(o)["items"][0])
print(sorted([P(2), P(1, 5), P(1)]), P(1) == P(1), hash(P(1)) == hash(P(1)))
try:
    P(1).x = 3
except Exception as e:
    print(type(e).__name__, e)
@dataclass(slots=True, kw_only=True)
class S:
    a: int
    b: str = "x"
s = S(a=1); s.b += "y"
print(s)
""",
    "enumerations": """
from enum import Enum, IntEnum, Flag, auto, unique, StrEnum
@unique
class Color(Enum):
    RED = "r"
    GREEN = "g"
    def nice(self): return self.name.title()
    @property
    def code(self): return self.value * 2
    @classmethod
    def parse(cls, s): return cls(s.lower())
class N(IntEnum):
    LOW = auto(); HIGH = auto()
class Perm(Flag):
    R = auto(); W = auto(); X = auto()
class L(str, Enum):
    A = "alpha"
class S(StrEnum):
    ONE = auto()
print(Color.RED, repr(Color.GREEN), Color("r").nice(), Color["GREEN"].code, list(Color), Color.parse("G"), Color.RED == Color.RED)
print(N.LOW < N.HIGH, N.HIGH + 1, Perm.R | Perm.X, Perm.R in (Perm.R | Perm.W), L.A == "alpha", L.A.value, S.ONE, f"{S.ONE}-{N.LOW:02d}")
print(Color.__members__["RED"].value, len(Color), Color.RED in Color, type(Color.RED).__name__, {Color.RED: 1}[Color.RED])
E = Enum("E", "A B C"); F = Enum("F", {"x": 1, "y": 2}); G = Enum("G", ["p", "q"])
print(E.B.value, F.y.name, G.q, [m.name for m in E])
try:
    Color("zzz")
except ValueError as e:
    print(e)
""",
    "named tuples and typed dictionaries": """
from collections import namedtuple
from typing import NamedTuple, TypedDict
P = namedtuple("P", "x y z", defaults=[0])
p = P(1, 2)
print(p, p._asdict(), p._replace(x=9), P._fields, P._make([4, 5, 6]), p.z, p[0], len(p), p == (1, 2, 0))
x, y, z = p
class Emp(NamedTuple):
    name: str
    age: int = 30
    def older(self, n): return self._replace(age=self.age + n)
e = Emp("Bo")
print(e, e.older(5), Emp._fields, e < Emp("Cy"))
class Q(namedtuple("QB", ["a", "b"])):
    __slots__ = ()
    @property
    def total(self): return self.a + self.b
    def __str__(self): return f"Q<{self.total}>"
print(Q(1, 2), repr(Q(1, 2)), Q(1, 2).total)
class TD(TypedDict, total=False):
    a: int
    b: str
t: TD = {"a": 1}
print(t, TD(a=2))
R = NamedTuple("R", [("u", int), ("v", str)])
print(R(1, "z"))
match p:
    case P(1, yy): print("matched", yy)
""",
    "typing: aliases, generics, protocols": """
from __future__ import annotations
from typing import (Any, Callable, Dict, Generic, Iterable, Iterator, List, Literal, NewType, Optional, Protocol,
                    Sequence, Set, Tuple, TypeAlias, TypeVar, Union, cast, runtime_checkable, Final, overload)
Vector: TypeAlias = List[float]
Handler = Callable[[str, int], Dict[str, Any]]
UserId = NewType("UserId", int)
T = TypeVar("T"); K = TypeVar("K", bound=str)
MAX: Final = 3
class Stack(Generic[T]):
    def __init__(self) -> None: self._items: list[T] = []
    def push(self, x: T) -> Stack[T]: self._items.append(x); return self
    def __iter__(self) -> Iterator[T]: return iter(self._items)
s = Stack[int]().push(1).push(2)
@runtime_checkable
class Sized2(Protocol):
    def size(self) -> int: ...
class Box:
    def size(self): return 3
def f(a: Union[int, str] | None = None, *, mode: Literal["a", "b"] = "a") -> Optional[Tuple[int, ...]]: return cast(Any, (1, 2))
print(list(s), UserId(5), f(), isinstance(Box(), Sized2), isinstance(3, Sized2), MAX)
class Pair(Dict[str, int]): pass
print(Pair(a=1), dict[str, list[int]], list[int], Optional[int], int | None)
print(f.__annotations__["mode"])
""",
    "collections": """
from collections import Counter, defaultdict, OrderedDict, deque, ChainMap, abc
import collections
c = Counter("mississippi"); c.update("sss"); c["z"] += 0
print(c.most_common(2), c["q"], sum(c.values()), Counter(a=3) - Counter(a=1), Counter("ab") + Counter("b"), sorted((c & Counter("msi")).elements()))
print(isinstance(c + c, Counter), type(c + c) is Counter, c.total(), dict(Counter(["a", "a"])))
d = defaultdict(lambda: defaultdict(list)); d["x"]["y"].append(1)
print({k: dict(v) for k, v in d.items()}, d.get("nope"), defaultdict(int, a=1))
q = deque(range(5), maxlen=5); q.rotate(2); q.appendleft(9); print(q, q.popleft(), q[-1])
o = OrderedDict(b=1, a=2); o.move_to_end("b"); print(list(o), o.popitem(last=False))
cm = ChainMap({"a": 1}, {"a": 2, "b": 3}); print(cm["a"], cm["b"], dict(cm), isinstance(cm, abc.Mapping))
print(isinstance([], abc.Sequence), isinstance({}, abc.Mapping), isinstance(3, abc.Mapping), isinstance("", collections.abc.Iterable), callable(print))
class Low(dict):
    def __getitem__(self, k): return super().__getitem__(k.lower())
    def __missing__(self, k): return None
class Count2(Counter):
    def top(self): return self.most_common(1)[0][0]
print(Low(a=1)["A"], Count2("aab").top(), Count2("ab") + Count2("b"))
class Deck(abc.Sequence):
    def __init__(self, xs): self._xs = list(xs)
    def __len__(self): return len(self._xs)
    def __getitem__(self, i): return self._xs[i]
dk = Deck("abc"); print(list(reversed(dk)), "b" in dk, dk.index("c"), dk.count("a"))
from collections import UserDict, UserList
class U(UserDict):
    def __setitem__(self, k, v): super().__setitem__(k, v * 2)
u = U(a=1); u["b"] = 2; print(u, len(u), sorted(u))
""",
    "copying": """
import copy
a = {"x": [1, {"y": (2, [3])}], "s": {1, 2}}
b = copy.deepcopy(a); c = copy.copy(a)
b["x"][1]["y"][1].append(4); c["x"].append(5)
print(a, b, c)
class N:
    def __init__(self, v, nxt=None): self.v, self.nxt, self._p = v, nxt, [v]
n = N(1); n.nxt = N(2, n)
m = copy.deepcopy(n); m._p.append(7)
print(m.v, m.nxt.nxt is m, n._p, m._p)
l = [[0] * 2] * 2
d = copy.deepcopy(l); d[0][0] = 1; print(d, copy.copy(l)[0] is l[0])
""",
    "string methods and formatting": """
s = "  Hello, World  "
print(s.strip().lower().title().swapcase().center(20, "*"), s.split(","), "a-b-c".rsplit("-", 1), "x=1;y=2".partition(";"))
print("%-10s|%5.2f|%03d|%x|%r|%s" % ("ab", 3.14159, 7, 255, "q", None), "{:>10}|{:<6}|{:^7}|{:,}|{:.1%}|{:e}".format("r", "l", "c", 1234567, 0.256, 12345.678))
print("{0}{1}{0}".format("a", "b"), "{name!r:>8}".format(name="z"), "{d[k]} {o.real} {l[0]}".format(d={"k": 5}, o=3, l=[1]), "{:{w}.{p}f}".format(2.71828, w=9, p=2))
n, w = 255, 12
print(f"{n:#x} {n:b} {n:>{w}} {n!s:<5}| {'nested ' + f'{n}'} {n = } {1_000_000:,} {3.0:g} {'a' 'b'}")
print("tel: {}".format_map({}) if False else "{a}-{b}".format_map({"a": 1, "b": 2}), "abc".translate(str.maketrans("ab", "xy")), "a\\tb".expandtabs(4))
print("ß".casefold(), "éa".encode("utf-8"), b"\\xc3\\xa9".decode(), "x".zfill(3), "abcabc".find("c", 3), "aXbX".replace("X", "-", 1), "line1\\nline2\\r\\nl3".splitlines(), "abc".startswith(("x", "a")), "prefix_x".removeprefix("prefix_"))
print(", ".join(f"{k}={v!r}" for k, v in {"a": 1, "b": "c"}.items()), "é".isalpha(), "12".isdigit(), ascii("é"), repr("it's"), "\\N{BULLET}")
print(str.upper("x"), list(map(str.strip, [" a ", "b "])), sorted(["b", "A"], key=str.lower), "{}".format, sep="\\n") if False else None
T = "Q: {q}\\nA: {a}"
print(T.format(q="why?", a="{braces}"), "{{literal}} {}".format(1), "{!r}".format("x"))
""",
    "slices, unpacking, star expressions": """
xs = list(range(10))
print(xs[::2], xs[::-1], xs[-3:], xs[2:5], xs[slice(1, 4)])
xs[1:3] = ["a", "b", "c"]; del xs[-2:]; xs[::3] = [0] * len(xs[::3])
print(xs)
first, *mid, last = range(5); (a, b), c = (1, 2), 3; [p, [q, *r]] = [1, [2, 3, 4]]
print(first, mid, last, a, b, c, p, q, r)
def f(a, b=2, *args, c, d=4, **kw): return a, b, args, c, d, kw
print(f(1, c=3), f(*[1, 2, 3], **{"c": 9, "z": 0}), [*range(3), *"ab"], {**{"x": 1}, "y": 2}, {*[1, 2], 3})
print((lambda *a, k=1, **kw: (a, k, kw))(1, 2, k=3, z=4))
i = j = 0; i, j = j + 1, i + 2; print(i, j)
t = 1, 2, *[3, 4]; print(t)
""",
    "comprehensions of all kinds": """
print([(x, y) for x in range(3) for y in range(x) if (x + y) % 2], {k: [v for v in range(k)] for k in range(3)}, {c for c in "hello" if c not in "l"})
m = [[1, 2, 3], [4, 5, 6]]
print([[row[i] for row in m] for i in range(3)], list(zip(*m)), sum(x for r in m for x in r), any(x > 5 for r in m for x in r), all(r for r in m))
class K:
    xs = [1, 2, 3]
    ys = [x * 2 for x in xs]
print(K.ys, dict(enumerate("ab")), [x if x else "none" for x in (0, 1)], sorted({"b": 1, "a": 2}.items(), key=lambda kv: kv[1]))
""",
    "regular expressions": """
import re
t = "Date: Jan 06, 2023 || User: 1001 || Instance: who?\\nDate: Feb 10, 2024 || User: 7 || Instance: what?"
pat = re.compile(r"Date: (?P<mon>[A-Z][a-z]{2}) (?P<day>\\d+), (?P<year>\\d{4}) \\|\\| User: (\\d+)", re.M | re.I)
for m in pat.finditer(t): print(m.group("mon"), m["day"], m.groupdict(), m.groups()[-1], m.span(), m.start("year"), m.lastindex)
print(re.sub(r"(\\w+), (\\d+)", r"\\2-\\1", "Jan 6, 2023: a, 5"), re.sub(r"\\d+", lambda m: str(int(m[0]) * 2), "a1 b22"), re.split(r"[;,]\\s*", "a, b;c"), re.findall(r"(a)(b)?", "abaa"), re.escape("a.b"), re.subn("a", "b", "aa"))
print(re.match(r"x", "ax"), re.search(r"(?i)A", "ba").group(), re.fullmatch(r"\\d+", "12").end(), bool(re.search(r"^l2$", "l1\\nl2", flags=re.MULTILINE)), pat.pattern[:4], pat.groupindex["day"], pat.flags & re.I != 0)
m = re.match(r"(?P<a>.)(?P<b>.)", "xy"); print(m.expand(r"\\g<b>\\1"), m.string, m.re.pattern, m.lastgroup, m.regs if False else "")
try:
    re.compile("(")
except re.error as e:
    print("re.error", e)
""",
    "json": """
import json, io
d = {"a": [1, 2.5, None, True], "n": {"x": "é"}, 3: "three"}
s = json.dumps(d, indent=2, ensure_ascii=False, sort_keys=False)
print(s, json.loads(s)["n"], json.dumps([1, (2,)], separators=(",", ":")))
try:
    json.loads("{bad")
except json.JSONDecodeError as e:
    print(e.msg, e.pos, e.lineno, e)
class Enc(json.JSONEncoder):
    def default(self, o):
        if isinstance(o, set): return sorted(o)
        return super().default(o)
print(json.dumps({"s": {2, 1}}, cls=Enc), json.dumps({"x": {1}}, default=list), json.loads('{"a": 1}', object_hook=lambda o: list(o)))
f = io.StringIO(); json.dump({"k": 1}, f); f.seek(0); print(json.load(f), json.JSONDecoder().raw_decode('[1] tail'))
try:
    json.dumps({1, 2})
except TypeError as e:
    print(e)
""",
    "csv": """
import csv, io
src = 'name,age,city\\nAnn,30,"New York, NY"\\nBob,25,"said ""hi"" ok"\\n'
rows = list(csv.reader(io.StringIO(src))); print(rows)
for r in csv.DictReader(io.StringIO(src)): print(dict(r), r["city"])
out = io.StringIO()
w = csv.writer(out, delimiter=";", quoting=csv.QUOTE_MINIMAL); w.writerow(["a", 'b;c', 1]); w.writerows([[1, 2], [3, 4]])
dw = csv.DictWriter(out, fieldnames=["x", "y"], extrasaction="ignore"); dw.writeheader(); dw.writerow({"x": 1, "y": 2, "z": 3})
print(out.getvalue(), csv.Sniffer().sniff("a;b;c\\n1;2;3").delimiter)
print(csv.DictReader(io.StringIO("a\\tb\\n1\\t2"), delimiter="\\t").fieldnames)
""",
    "dates and times": """
from datetime import datetime, timedelta, date, time as dtime, timezone
import datetime as dt, calendar, time
d = datetime.strptime("2023-01-06 13:45", "%Y-%m-%d %H:%M")
print(d, repr(d), d.date(), d.isoformat(), d.strftime("%b %d, %Y"), d.weekday(), d + timedelta(days=30, hours=2), (datetime(2024, 2, 29) - d).days, d.replace(year=2020) < d)
print(date(2024, 2, 29).isoformat(), date.fromisoformat("2024-03-01") - date(2024, 2, 1), timedelta(seconds=3661), timedelta(hours=1) / 2, dtime(9, 30), datetime.combine(date(2020, 1, 1), dtime(1)), d.timetuple().tm_yday)
print(datetime(2024, 1, 1, tzinfo=timezone.utc).isoformat(), datetime.fromtimestamp(0, timezone.utc), dt.date(2020, 5, 17).strftime("%A"), calendar.monthrange(2024, 2), calendar.month_name[3], isinstance(datetime(2020, 1, 1), date), datetime.min.year, type(d).__name__, d.date() == date(2023, 1, 6), isinstance(d.date(), date))
print(time.strftime("%Y", time.gmtime(0)), time.strptime("2020", "%Y").tm_year, sorted([date(2021, 1, 1), date(2020, 1, 1)])[0], f"{d:%d/%m/%y}", d.timestamp() if False else "")
class Holiday(date):
    pass
print(Holiday(2020, 1, 1).year)
""",
    "numbers": """
from decimal import Decimal, getcontext, ROUND_HALF_UP, localcontext
from fractions import Fraction
import math, statistics, random, numbers, cmath, operator
getcontext().prec = 10
print(Decimal("1.1") + Decimal("2.2"), Decimal(1) / Decimal(7), Decimal("2.345").quantize(Decimal("0.01"), rounding=ROUND_HALF_UP))
with localcontext() as ctx:
    ctx.prec = 4
    print(Decimal(1) / 3)
getcontext().prec = 28
f = Fraction(1, 3) + Fraction("1/6"); print(f, f.numerator, f.limit_denominator(3), float(f), isinstance(f, Fraction), type(f) is Fraction, isinstance(f, numbers.Number), Fraction(0.5), f ** 2, -f, f > 0.4)
print(math.factorial(20), math.gcd(12, 18), math.comb(5, 2), math.pi, math.inf > 1, math.isnan(math.nan), math.ceil(1.2), math.prod([2, 3]), math.dist((0, 0), (3, 4)), math.fsum([.1] * 10), math.hypot(3, 4))
print(statistics.mean([1, 2, 4]), statistics.median([3, 1, 2]), statistics.pstdev([1, 2, 3, 4]), statistics.mode("aab"), statistics.quantiles([1, 2, 3, 4, 5], n=4), statistics.mean([Fraction(1, 2), Fraction(1, 4)]), statistics.linear_regression([1, 2, 3], [2, 4, 6]).slope, statistics.NormalDist(0, 1).cdf(0))
r = random.Random(42); print([r.randint(1, 6) for _ in range(5)], r.choice("abc"), r.sample(range(100), 3)); random.seed(1); print(random.random(), random.sample(list("abcdef"), 2), random.shuffle([1, 2]))
print(divmod(-7, 2), 7 // -2, -7 % 3, 2 ** -1, 10 ** 20, 0.1 + 0.2, round(2.5), round(3.14159, 2), abs(-3), int("0x1f", 16), int(3.9), float("1e3"), 1 / 3, 5 & 3 | 8 ^ 2, ~5, 1 << 10, complex(1, 2) * 1j, pow(3, -1, 7), bin(10), oct(8), hex(255), (255).bit_length(), (3.5).is_integer(), int.from_bytes(b"\\x01\\x00", "big"), (258).to_bytes(2, "little"), sum([0.1] * 3), min(3, 1, 2), max([1, 5], default=0), operator.mul(3, 4))
""",
    "itertools and functools": """
import itertools as it, functools as ft, operator as op
print(list(it.chain.from_iterable([[1], [2, 3]])), list(it.islice(it.count(5, 2), 3)), list(it.accumulate([1, 2, 3], op.mul)), list(it.permutations("ab")), list(it.product("ab", [1, 2]))[:3], list(it.zip_longest([1], [2, 3], fillvalue=0)), list(it.takewhile(lambda x: x < 3, [1, 2, 5, 1])), list(it.pairwise("abc")), list(it.repeat("x", 2)), list(it.starmap(pow, [(2, 3)])), [list(g) for _, g in it.groupby("aab")], list(it.compress("abc", [1, 0, 1])), list(it.dropwhile(str.isalpha, "ab1c")), it.tee([1, 2])[0].__next__() if False else "")
print(ft.reduce(op.add, [1, 2, 3], 10), ft.partial(int, base=2)("101"), sorted([3, 1], key=ft.cmp_to_key(lambda a, b: b - a)), op.itemgetter(1, 0)("ab"), op.attrgetter("real", "imag")(3 + 4j), op.methodcaller("upper")("x"), op.methodcaller("format", 5)("{:03}"))
@ft.lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
@ft.cache
def sq(n): return n * n
class C:
    @ft.cached_property
    def slow(self): print("computed"); return 42
c = C(); print(fib(30), fib.cache_info().hits > 0, sq(3), c.slow, c.slow); fib.cache_clear()
""",
    "text utilities": """
import textwrap, difflib, string, html, unicodedata, base64, hashlib, urllib.parse, pprint, shlex if False else string
""".replace(", shlex if False else string", "")
    + """
print(textwrap.fill("the quick brown fox jumps", 12), textwrap.dedent("  a\\n    b\\n"), textwrap.shorten("hello big world", 11), textwrap.indent("a\\nb", "> "), textwrap.wrap("aaa bbb", 3))
print(round(difflib.SequenceMatcher(None, "abcd", "bcde").ratio(), 3), difflib.get_close_matches("appel", ["ape", "apple"]), list(difflib.unified_diff(["a"], ["b"], lineterm=""))[-2:], [x for x in difflib.ndiff(["a"], ["a", "b"])])
print(string.ascii_lowercase[:3], string.punctuation[:3], string.Template("$a ${b} $$").substitute(a=1, b=2), string.capwords("a b"), html.escape("<a&b>"), html.unescape("&lt;&eacute;"), unicodedata.normalize("NFKD", "é").encode("ascii", "ignore"), unicodedata.category("A"), unicodedata.name("é"))
print(base64.b64encode(b"hi"), base64.urlsafe_b64decode("aGk="), hashlib.sha256(b"x").hexdigest()[:8], hashlib.md5("é".encode()).hexdigest()[:6], hashlib.new("sha1", b"a").hexdigest()[:4], urllib.parse.urlparse("http://h:80/p?q=1#f").netloc, urllib.parse.quote("a b/é"), urllib.parse.parse_qs("a=1&a=2"), urllib.parse.urlencode({"x": "y z"}), urllib.parse.urljoin("http://a/b/", "c"), urllib.parse.unquote("%20"))
pprint.pprint({"b": [1] * 3, "a": "x"}); print(pprint.pformat(list(range(30)), width=40, compact=True)); pprint.PrettyPrinter(indent=1).pprint({1})
u = urllib.parse.urlsplit("https://x.org/a?b=c"); print(u.scheme, u.path, u._replace(path="/z").geturl(), u)
import html.parser
class Strip(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(); self._parts = []; self.tags = []
    def handle_data(self, d): self._parts.append(d)
    def handle_starttag(self, tag, attrs): self.tags.append((tag, attrs))
p = Strip(); p.feed("<p class='a'>Hi <b>there</b> &amp; you</p>"); p.close(); print("".join(p._parts), p.tags)
""",
    "xml": """
import xml.etree.ElementTree as ET
root = ET.fromstring("<r a='1'><item id='x'>one</item><item id='y'>two<sub/></item>tail</r>")
print(root.tag, root.attrib, [(i.get("id"), i.text) for i in root.findall("item")], root.find("item[@id='y']").text, len(root), root[0].tail, [e.tag for e in root.iter()], root.findtext("item"))
e = ET.SubElement(root, "new", {"k": "v"}); e.text = "t<>" if False else None
print(ET.tostring(root, encoding="unicode"))
try:
    ET.fromstring("<a>")
except ET.ParseError as err:
    print("ParseError", err.position)
""",
    "heaps, bisection, algorithms": """
import heapq, bisect
h = []
for p, n in [(3, "c"), (1, "a"), (2, "b")]: heapq.heappush(h, (p, n))
print(heapq.heappop(h), heapq.nsmallest(2, [5, 1, 3]), list(heapq.merge([1, 4], [2, 3])), heapq.heapreplace(h, (0, "z")))
xs = [1, 3, 5]; bisect.insort(xs, 4); print(xs, bisect.bisect_left(xs, 3), bisect.bisect_right([1, 1, 2], 1), bisect.bisect([{"k": 1}], 1, key=lambda d: d["k"]))
def quick(a): return a if len(a) < 2 else quick([x for x in a[1:] if x < a[0]]) + [a[0]] + quick([x for x in a[1:] if x >= a[0]])
def lev(a, b):
    prev = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        cur = [i]
        for j, cb in enumerate(b, 1): cur.append(min(prev[j] + 1, cur[-1] + 1, prev[j - 1] + (ca != cb)))
        prev = cur
    return prev[-1]
print(quick([3, 1, 2, 3]), lev("kitten", "sitting"))
g = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
def bfs(s):
    from collections import deque
    seen, q, order = {s}, deque([s]), []
    while q:
        n = q.popleft(); order.append(n)
        for m in g[n]:
            if m not in seen: seen.add(m); q.append(m)
    return order
print(bfs("a"))
""",
    "sets, dictionaries and their views": """
d = {"a": 1, "b": 2}
d.update(c=3); d.setdefault("z", []).append(1); d |= {"y": 0}; e = d | {"a": 9}
print(d, e["a"], d.pop("z"), d.pop("none", None), list(d.keys() & {"a", "q"}), d.items() >= {("a", 1)}, {v: k for k, v in d.items()}, dict(zip("ab", [1, 2])), dict.fromkeys("ab", 0), list(reversed(d)), d.get("nope", "dflt"), "a" in d, max(d, key=d.get), sorted(d, key=lambda k: -d[k]))
s = {1, 2, 3}; s.add(4); s -= {1}; s ^= {9}; print(sorted(s), s.issuperset({2}), frozenset([1]) | {2}, {1, 2}.symmetric_difference({2, 3}), set() or "empty", len({*"aab"}))
try:
    d["missing"]
except KeyError as e:
    print("KeyError", e, e.args)
for k in list(d): del d[k]
print(d)
n = {}; n.setdefault("x", {}).setdefault("y", {})["z"] = 1; print(n)
""",
    "errors as Python words them": """
tests = ["1/0", "'a' + 1", "[][0]", "{}['k']", "int('x')", "None.foo", "undefined_name", "len(5)", "(lambda a: a)()", "'x'.foo", "max([])", "[1, 2].remove(3)", "float('abc')", "import_me.x", "'abc'[10]", "b'a'.decode('utf-16')", "next(iter([]))"]
fs = [lambda: 1 / 0, lambda: "a" + 1, lambda: [][0], lambda: {}["k"], lambda: int("x"), lambda: None.foo, lambda: undefined_name, lambda: len(5), lambda: (lambda a: a)(), lambda: "x".foo, lambda: max([]), lambda: [1, 2].remove(3), lambda: float("abc"), lambda: "abc"[10], lambda: b"a".decode("utf-16"), lambda: next(iter([])), lambda: dict([1]), lambda: sorted([1, "a"]), lambda: {[]: 1}, lambda: [1, 2, 3].index(9), lambda: "%d" % "x", lambda: "{}{}".format(1), lambda: "{x}".format(y=1), lambda: sum(["a"]), lambda: range(1.5), lambda: int([]), lambda: [a for a, b in [(1,)]], lambda: print(1, foo=2) if False else 1 @ 2]
for f in fs:
    try:
        f()
        print("no error")
    except Exception as e:
        print(type(e).__name__, "|", e)
""",
    "introspection that is harmless": """
class A:
    "doc"
    x = 1
    def __init__(self): self.y = 2; self._z = 3
    def m(self): "mdoc"
a = A()
print(type(a).__name__, a.__class__.__name__, A.__name__, A.__doc__, a.m.__doc__, a.__dict__, vars(a), hasattr(a, "y"), getattr(a, "q", "dflt"), [n for n in dir(a) if not n.startswith("_")], isinstance(a, A), type(a) is A, type(A) is type, type(3) == int, isinstance(3, (int, float)), callable(a.m), type(None), type([]), type(lambda: 0).__name__, a.__class__ is A, A.__qualname__, A.m.__name__)
setattr(a, "w", 5); delattr(a, "y"); print(a.w, hasattr(a, "y"), sorted(vars(a)))
def f(a, b: int = 2) -> str: return ""
print(f.__name__, f.__doc__, f.__annotations__)
globals()["made"] = 5; globals().update(made2=6); print(made, made2)
def loc(a, b=2):
    c = 3
    return sorted(locals()), "{a}-{c}".format(**locals()), "q" in locals()
print(loc(1))
print("x" in globals(), [k for k in sorted(globals()) if k in ("a", "f", "A")], type(globals()).__name__)
print(issubclass(bool, int), bool.__name__, int.__name__, type(type(a)).__name__, type(int).__name__, str(type(1.0)), (1).__class__, "a".__len__(), [1, 2].__contains__(1), {}.__class__ is dict)
""",
    "asyncio": """
import asyncio
async def work(i, d=0.01):
    await asyncio.sleep(d)
    return i * 2
async def main():
    rs = await asyncio.gather(*(work(i) for i in range(3)))
    t = asyncio.create_task(work(10))
    first = await t
    r = await asyncio.wait_for(work(7), timeout=5)
    ex = await asyncio.gather(work(1), boom(), return_exceptions=True)
    q = asyncio.Queue()
    async def producer():
        for i in range(3): await q.put(i)
        await q.put(None)
    async def consumer():
        got = []
        while (x := await q.get()) is not None: got.append(x)
        return got
    _, got = await asyncio.gather(producer(), consumer())
    done, pending = await asyncio.wait([asyncio.create_task(work(1)), asyncio.create_task(work(2))])
    return rs, first, r, [type(e).__name__ for e in ex], got, sorted(t.result() for t in done), len(pending)
async def boom(): raise ValueError("boom")
print(asyncio.run(main()))
class ACM:
    async def __aenter__(self): print("enter"); return 5
    async def __aexit__(self, *a): print("exit", a[0].__name__ if a[0] else None)
class Count:
    def __init__(self, n): self.n = n
    def __aiter__(self): return self
    async def __anext__(self):
        if self.n == 0: raise StopAsyncIteration
        self.n -= 1
        return self.n
async def agen():
    for i in range(3):
        yield i
async def use():
    async with ACM() as v: print(v)
    async for x in Count(2): print(x, end=" ")
    print([x async for x in agen()], {x: 1 async for x in agen() if x})
    sem = asyncio.Semaphore(2); lock = asyncio.Lock(); active = 0; peak = 0
    async def limited(i):
        nonlocal active, peak
        async with sem:
            active += 1; peak = max(peak, active)
            await asyncio.sleep(0)
            active -= 1
        async with lock: return i
    print(await asyncio.gather(*map(limited, range(5))), peak <= 2)
    try:
        async with ACM(): raise KeyError("k")
    except KeyError: print("caught")
    out = []
    for c in asyncio.as_completed([work(1), work(2)]): out.append(await c)
    print(sorted(out), await asyncio.to_thread(sum, [1, 2]))
    async with asyncio.TaskGroup() as tg:
        ts = [tg.create_task(work(i)) for i in range(2)]
    print([t.result() for t in ts])
    e = asyncio.Event()
    async def waiter(): await e.wait(); return "woken"
    w = asyncio.create_task(waiter()); await asyncio.sleep(0); e.set(); print(await w)
asyncio.run(use())
loop = asyncio.new_event_loop()
print(loop.run_until_complete(work(21)), asyncio.iscoroutinefunction(work))
""",
    "except*": """
try:
    raise ValueError("v")
except* ValueError as eg:
    print(type(eg).__name__, [str(e) for e in eg.exceptions])
except* TypeError:
    print("no")
import asyncio
async def bad(i): raise (ValueError if i else TypeError)(i)
async def main():
    try:
        async with asyncio.TaskGroup() as tg:
            for i in range(2): tg.create_task(bad(i))
    except* ValueError as eg: print("V", len(eg.exceptions))
    except* TypeError as eg: print("T", len(eg.exceptions))
asyncio.run(main())
""",
    "thread pools and threads": """
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
import concurrent.futures, threading, queue
def sq(x): return x * x
def bad(x): raise ValueError(x)
with ThreadPoolExecutor(max_workers=4) as ex:
    print(list(ex.map(sq, range(5))), [f.result() for f in [ex.submit(sq, i) for i in range(3)]])
    fs = {ex.submit(pow, i, 2): i for i in range(3)}
    print(sorted((fs[f], f.result()) for f in as_completed(fs)), ex.submit(sq, x=3).done() in (True, False))
    f = ex.submit(bad, 1)
    try: f.result()
    except ValueError as e: print("raised", e, type(f.exception()).__name__)
    done, not_done = wait([ex.submit(sq, 3)]); print([d.result() for d in done], len(not_done))
with concurrent.futures.ThreadPoolExecutor() as ex: print(list(ex.map(lambda a, b: a + b, [1, 2], [3, 4])))
out, lock = [], threading.Lock()
def work(n):
    with lock: out.append(n)
ts = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for t in ts: t.start()
for t in ts: t.join()
print(sorted(out), any(t.is_alive() for t in ts))
q = queue.Queue()
for i in range(3): q.put(i)
print([q.get() for _ in range(3)], q.empty())
ev = threading.Event(); r = []
t = threading.Thread(target=lambda: (ev.wait(), r.append("go"))); t.start(); ev.set(); t.join(); print(r)
""",
    "files in the workspace": """
import os, json, glob, io
from pathlib import Path
with open("a.txt", "w", encoding="utf-8") as f: f.write("one\\ntwo\\n"); f.writelines(["three\\n"])
with open("a.txt", "a") as f: print("four", file=f)
with open("a.txt") as f: print(f.readline().strip(), f.read().split(), f.closed)
with open("a.txt") as f: print([l.rstrip() for l in f], sum(1 for _ in open("a.txt")))
with open("b.bin", "wb") as f: f.write(bytes(range(5)))
with open("b.bin", "rb") as f: f.seek(2); print(f.read(2), f.tell(), f.read())
with open("c.txt", "w+") as f: f.write("hello"); f.seek(0); print(f.read())
print(sorted(os.listdir(".")), os.path.exists("a.txt"), os.path.isfile("nope"), os.path.getsize("b.bin"), os.path.join("d", "e.txt"), os.path.splitext("x.tar.gz"), os.path.basename("/q/w.txt"), os.path.dirname("/q/w.txt"), os.sep)
os.makedirs("sub/deep", exist_ok=True); Path("sub/deep/x.json").write_text(json.dumps({"k": 1}))
p = Path("sub") / "deep" / "x.json"
print(p.exists(), p.name, p.stem, p.suffix, str(p.parent), json.loads(p.read_text()), p.parts, p.with_suffix(".md"), [str(q) for q in sorted(Path("sub").rglob("*.json"))], sorted(str(q) for q in Path(".").glob("*.txt")), p.is_file(), Path("sub").is_dir())
print(sorted(glob.glob("*.txt")), sorted(glob.glob("**/*.json", recursive=True)), [(r, sorted(d), sorted(f)) for r, d, f in os.walk("sub")])
os.remove("c.txt"); os.rename("a.txt", "z.txt"); print(os.path.exists("a.txt"), Path("z.txt").read_text().count("\\n"), Path("z.txt").stat().st_size)
try: open("missing.txt")
except FileNotFoundError as e: print("FileNotFoundError", e.errno, e.filename)
try: open("x" , "q")
except ValueError as e: print("ValueError", e)
Path("n.txt").write_text("é"); print(Path("n.txt").read_bytes(), open("n.txt", encoding="utf-8").read())
import gzip, zlib, bz2
with gzip.open("g.gz", "wt") as f: f.write("packed")
with gzip.open("g.gz", "rt") as f: print(f.read(), zlib.decompress(zlib.compress(b"abc" * 5)), gzip.decompress(gzip.compress(b"q")), bz2.decompress(bz2.compress(b"w")))
""",
    "classes that wrap and iterate": """
class Tree:
    def __init__(self, v, *kids): self.v, self.kids = v, list(kids)
    def __iter__(self):
        yield self.v
        for k in self.kids: yield from k
    def depth(self): return 1 + max((k.depth() for k in self.kids), default=0)
    def __getattr_name__(self): pass
""".replace("    def __getattr_name__(self): pass\n", "")
    + """
t = Tree(1, Tree(2, Tree(3)), Tree(4)); print(list(t), t.depth(), sum(t), 3 in t)
class It:
    def __init__(self, n): self.n = n
    def __iter__(self): return self
    def __next__(self):
        if self.n <= 0: raise StopIteration
        self.n -= 1
        return self.n
print(list(It(3)), max(It(4)), sorted(It(3)), dict(enumerate(It(2))), "".join(map(str, It(3))), *It(2), sep=",")
class LRU:
    def __init__(self, cap): self.cap, self._d = cap, {}
    def get(self, k):
        if k not in self._d: return -1
        self._d[k] = self._d.pop(k)
        return self._d[k]
    def put(self, k, v):
        self._d.pop(k, None); self._d[k] = v
        if len(self._d) > self.cap: del self._d[next(iter(self._d))]
l = LRU(2); l.put(1, 1); l.put(2, 2); l.get(1); l.put(3, 3); print(l.get(2), l.get(1), l._d)
class Meta2:
    def __init__(self): self.__hidden = 1
    def bump(self): self.__hidden += 1; return self.__hidden
    def __priv(self): return "p"
    def pub(self): return self.__priv()
m = Meta2(); print(m.bump(), m.pub(), m._Meta2__hidden)
class Acc:
    total = 0
    def add(self, x): self.total += x; self.hist = getattr(self, "hist", []) + [x]; return self
print(Acc().add(1).add(2).total, Acc().add(5).hist)
def make(n):
    class Local:
        val = n
        def get(self): return n + self.val
    return Local
print(make(3)().get(), make(4).val)
""",
    "statements of every kind": """
assert True, "fine"
try:
    assert 1 > 2, f"msg {1}"
except AssertionError as e: print("AssertionError", e)
for i in range(3):
    if i == 5: break
else: print("no break")
while True:
    break
x: int = 5; y: "str"; del x
if not "x" in dir(): print("deleted")
pass; ...
a = b = c = []; a += [1]; print(a is c, b)
lst = [3, 1]; lst.sort(reverse=True); lst *= 2; print(lst)
print("chained", 1 < 2 < 3 != 4, not 1 == 2, 1 if lst else 2, None or "or", "" and 1, 5 is not None)
def deflt(x, acc=[]): acc.append(x); return acc
deflt(1); print(deflt(2))
def rec(n): return 1 if n <= 1 else n * rec(n - 1)
print(rec(50))
print(*[1, 2], sep="-", end="!\\n"); print(); print("a", "b", sep="")
lines = '''multi
line'''
print(lines, r"raw\\n", b"bytes", "con" "cat", "tab\\tx", 'q"q', 0b11, 0o7, 0xFF, 1e-3, 1_000, 3j)
import sys; print(sys.maxsize > 0, sys.version_info >= (3, 11), file=sys.stdout); sys.stdout.write("w\\n")
exec_count = 0
_private = 1; __dunderish = 2; print(_private, __dunderish)
print((lambda: (yield))() is not None, [i for i in (lambda: iter([1]))()])
""",
    "ast and literal_eval": """
import ast
print(ast.literal_eval("{'a': [1, 2, (3, None, True)], 'b': -1.5e3}"))
src = '''
import os
async def a(): pass
def b(x, y=1):
    "doc of b"
    return x + y
class C:
    def m(self): return b(1)
'''
t = ast.parse(src)
print([n.name for n in ast.walk(t) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))], [type(n).__name__ for n in t.body], ast.get_docstring(t.body[2]), ast.unparse(t.body[2].body[-1]), t.body[1].lineno)
class V(ast.NodeVisitor):
    def __init__(self): self.calls = []
    def visit_Call(self, node): self.calls.append(node.func.id); self.generic_visit(node)
v = V(); v.visit(t); print(v.calls, ast.dump(ast.parse("1+x", mode="eval")), [c.__class__.__name__ for c in ast.iter_child_nodes(t)])
try: ast.parse("def (")
except SyntaxError as e: print("SyntaxError", e.lineno)
try: ast.literal_eval("f(1)")
except ValueError as e: print("ValueError")
""",
    "tracebacks and logging helpers": """
import traceback, logging, warnings
try:
    {}["k"]
except KeyError as e:
    print(traceback.format_exc().splitlines()[-1], traceback.format_exception_only(type(e), e)[-1].strip())
warnings.filterwarnings("ignore")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
logging.getLogger(__name__).debug("not shown")
logging.basicConfig(level=logging.ERROR)
log = logging.getLogger("x"); log.setLevel("CRITICAL"); log.info("no %s", 1)
print(logging.INFO)
""",
    "types.SimpleNamespace and operator tricks": """
from types import SimpleNamespace
import types
ns = SimpleNamespace(a=1, b=[2]); ns.c = 3; ns.b.append(4); ns.a += 1
print(ns, ns.a, hasattr(ns, "z"), vars(ns), ns == SimpleNamespace(a=2, b=[2, 4], c=3), isinstance(len, types.BuiltinFunctionType), isinstance(lambda: 0, types.FunctionType))
""",
    "uuid, struct, zlib and bytes": """
import uuid, struct, zlib, binascii
u = uuid.UUID("12345678123456781234567812345678")
print(u, u.hex[:4], uuid.uuid5(uuid.NAMESPACE_DNS, "x.org"), len(str(uuid.uuid4())), uuid.UUID(int=5) == uuid.UUID(int=5))
print(struct.pack(">IH", 1, 2), struct.unpack("<h", b"\\x01\\x00"), struct.calcsize("i"), zlib.crc32(b"abc"), binascii.hexlify(b"\\xff"))
b = bytearray(b"abc"); b[0] = 122; b.append(33); b += b"!"; b.extend([65, 66]); del b[1]; print(b, b.decode(), bytes(b), b[1:3], b.find(b"c"), len(b), b == b"zc!!AB", list(b)[:2], b.upper())
print(b"a,b".split(b","), bytes.fromhex("ff00"), b"\\x00".hex(), b"abc"[1], b"abc"[1:], b"x" * 3, b"%d" % 5, "é".encode("latin-1"), b"\\xff".decode("utf-8", "replace"), b"\\xff".decode(errors="ignore"))
import io
f = io.BytesIO(b"abcdef"); print(f.read(2), f.seek(0, 2), f.getvalue(), io.StringIO("a\\nb").readlines())
""",
    "iteration protocol helpers": """
it = iter([1, 2, 3]); print(next(it), list(it), next(it, "end"), list(iter(lambda c=iter("ab!"): next(c), "!")))
print(list(map(lambda a, b: a * b, [1, 2], [3, 4])), list(filter(None, [0, 1, "", "a"])), list(zip("abc", range(2))), list(reversed([1, 2])), sorted("bca", reverse=True), list(enumerate("ab", 1)), sum([[1], [2]], []), list(zip(*[(1, 2), (3, 4)])), any([]), all([]), min("b", "a", key=ord), [*map(int, "1 2".split())], list(range(10, 0, -3)), range(5)[2], len(range(0, 10, 3)), 3 in range(5))
try: list(zip([1], [1, 2], strict=True))
except ValueError as e: print(e)
""",
    "regular expressions over lines": r"""
from collections import Counter, defaultdict
import re, json
text = "Date: Jan 1\n" * 3
pat = re.compile(r'(?m)^Date: (\w+) (\d)$')
print(Counter(m.groups() for m in pat.finditer(text)), pat.sub(lambda m: m[2]+m[1], text).splitlines(), pat)
print(json.dumps({k: list(v) for k, v in {'a': {1}}.items()}, default=str, indent=1))
""",
    "capturing what is printed": r"""
import io, sys, contextlib
buf = io.StringIO()
with contextlib.redirect_stdout(buf):
    print('x'); sys.stdout.write('y')
print(buf.getvalue().split())
old = sys.stdout
print('done', file=old)
""",
    "composing functions": r"""
from functools import reduce
compose = lambda *fs: reduce(lambda f, g: lambda x: f(g(x)), fs)
print(compose(str, abs, lambda x: x - 5)(2))
pipeline = [str.strip, str.lower, lambda s: s.replace(' ', '_')]
s = '  Hello World '
for f in pipeline: s = f(s)
print(s, list(map(len, ['a', 'bb'])), sorted('bca', key=str.upper))
""",
    "batches and windows": r"""
def batched(it, n):
    from itertools import islice
    it = iter(it)
    while batch := list(islice(it, n)):
        yield batch
print(list(batched(range(7), 3)))
def window(seq, n):
    return [seq[i:i+n] for i in range(len(seq) - n + 1)]
print(window('abcd', 2), [*zip(*[iter('abcdef')] * 2)])
""",
    "walking nested data": r"""
from typing import Union
Json = Union[dict, list, str, int, float, bool, None]
def walk(j: Json, path='$'):
    match j:
        case dict():
            for k, v in j.items(): yield from walk(v, f'{path}.{k}')
        case list():
            for i, v in enumerate(j): yield from walk(v, f'{path}[{i}]')
        case _: yield path, j
print(dict(walk({'a': [1, {'b': None}], 'c': 'x'})))
""",
    "a singleton with item access": r"""
class Config:
    _instance = None
    DEFAULTS = {'a': 1}
    @classmethod
    def get(cls):
        if cls._instance is None: cls._instance = cls()
        return cls._instance
    def __init__(self): self.values = dict(self.DEFAULTS)
    def __getitem__(self, k): return self.values[k]
    def __setitem__(self, k, v): self.values[k] = v
    def __delitem__(self, k): del self.values[k]
    def __iter__(self): return iter(self.values)
c = Config.get(); c['b'] = 2; del c['a']
print(Config.get() is c, list(c), Config._instance['b'])
""",
    "handlers by kind, chains and notes": r"""
import traceback
def risky(n):
    if n == 0: raise ValueError('zero')
    if n == 1: raise KeyError('one')
    if n == 2: raise TimeoutError('slow')
    return n
for i in range(4):
    try:
        r = risky(i)
    except (ValueError, KeyError) as e:
        print(type(e).__name__, e, repr(e), e.args, str(e))
    except OSError as e:
        print('os', e)
    except Exception as e:
        print('other', e)
    else:
        print('ok', r)
try:
    try: risky(0)
    except ValueError as e: raise RuntimeError('wrapped') from e
except RuntimeError as e:
    print(e, '<-', e.__cause__)
try:
    raise Exception('a', 'b')
except Exception as e: print(e, e.args)
class Retry(Exception): pass
n = 0
while True:
    try:
        n += 1
        if n < 3: raise Retry
        break
    except Retry: continue
print(n)
e = ValueError('kept'); e.add_note('note'); print(e.__notes__)
""",
    "sorting by several keys": r"""
from operator import itemgetter, attrgetter
rows = [{'n': 'b', 'v': 2}, {'n': 'a', 'v': 2}, {'n': 'c', 'v': 1}]
print(sorted(rows, key=itemgetter('v', 'n')), max(rows, key=lambda r: (r['v'], r['n'])), sorted(rows, key=lambda r: (-r['v'], r['n'])))
import json
""",
    "chunks that overlap": r"""
def chunk_text(text: str, size: int = 100, overlap: int = 20) -> list[str]:
    '''Split text.'''
    chunks, i = [], 0
    while i < len(text):
        chunks.append(text[i:i + size])
        i += size - overlap
    return chunks
cs = chunk_text('x' * 250)
print(len(cs), [len(c) for c in cs], chunk_text.__doc__)
""",
    "every kind of assignment target": r"""
d = {}
d['a'], d['b'] = 1, 2
class O: pass
o = O(); o.x, o.y = 3, 4
[o.z, *o.rest] = [5, 6, 7]
for d['k'], o.i in [(1, 2), (3, 4)]: pass
print(d, o.x, o.y, o.z, o.rest, o.i)
with open('f.txt', 'w') as o.f: o.f.write('hi')
print(open('f.txt').read())
(o.p) = q = 8; print(o.p, q)
o.lst = [1]; o.lst += [2]; o.lst[0] -= 5; o.n = 0; o.n += 1; o.n **= 2; print(o.lst, o.n)
""",
    "lambdas that capture": r"""
fs = [lambda x, i=i: x + i for i in range(3)]
print([f(10) for f in fs], (lambda: [lambda: 1][0]())())
adders = {k: (lambda v: lambda x: x + v)(v) for k, v in {'a': 1}.items()}
print(adders['a'](5))
""",
    "value objects": r"""
class Money:
    def __init__(self, c): self.c = c
    def __eq__(self, o): return self.c == o.c
    def __lt__(self, o): return self.c < o.c
    def __add__(self, o): return Money(self.c + (o.c if isinstance(o, Money) else o))
    __radd__ = __add__
    def __str__(self): return f'${self.c / 100:.2f}'
    def __hash__(self): return hash(self.c)
ms = [Money(500), Money(50)]
print(sum(ms), min(ms), str(max(ms)), Money(1) == Money(1), len({Money(1), Money(1)}))
""",
    "subclasses of builtin containers": r"""
class Graph(dict):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.edges = 0
    def add(self, a, b):
        self.setdefault(a, set()).add(b); self.setdefault(b, set()).add(a); self.edges += 1
    def __missing__(self, k): return set()
    def __repr__(self): return f'Graph({len(self)}, {self.edges})'
g = Graph(); g.add(1, 2); g.add(2, 3)
print(g, g[9], sorted(g), g.edges, dict(g), isinstance(g, dict))
class Stack(list):
    def push(self, x): self.append(x)
    @property
    def top(self): return self[-1]
s = Stack([1]); s.push(2); print(s, s.top, s[::-1], type(s).__name__)
class Name(str):
    def initials(self): return ''.join(p[0] for p in self.split())
print(Name('ada lovelace').initials(), Name('x') + 'y', Name('{}').format(3))
""",
    "splitting command lines": r"""
import shlex, string, itertools
print(shlex.split('a "b c" d'), shlex.quote('x y'))
""",
    "time zones by offset": r"""
from datetime import datetime, timezone, timedelta
est = timezone(timedelta(hours=-5), 'EST')
print(datetime(2024, 1, 1, tzinfo=est).astimezone(timezone.utc), est)
""",
    "deques, named tuples and counters in detail": r"""
from collections import deque, OrderedDict
import collections
d = deque([1,2,3]); d.extend([4]); d.extendleft([0]); d.remove(2); print(d, list(d)[::2], deque('abc', 2))
Point = collections.namedtuple('Point', ['x', 'y']); print(Point(1, y=2), Point._fields, Point(**{'x': 3, 'y': 4})._asdict())
c = collections.Counter(); c[('a', 1)] += 1; print(c, c.most_common(), +c, c.subtract({('a', 1): 1}), c)
""",
    "sets of words": r"""
words = 'the quick the lazy'.split()
print({w: words.count(w) for w in set(words)} == {'the': 2, 'quick': 1, 'lazy': 1}, sorted({len(w) for w in words}), dict(sorted({'b': 1, 'a': 2}.items())))
""",
    "patterns for addresses, dates and units": r"""
import re
print(re.findall(r'[\w.+-]+@[\w-]+\.[\w.]+', 'a.b@c.org, x@y.z!'), re.sub(r'(?P<y>\d{4})-(?P<m>\d\d)', r'\g<m>/\g<y>', '2024-05'), re.split(r'(\s)', 'a b'), [m.group() for m in re.finditer('a|b', 'cab')], re.compile('x').findall('axbx', 2))
pattern = r'''
   (\d+)   # number
   \s*
   ([a-z]+) # unit
'''
print(re.findall(pattern, '12 kg 3m', re.VERBOSE), re.match('a', 'b') is None, type(re.match('a', 'a')).__name__)
""",
    "text beyond ASCII": r"""
s = 'naïve café — “quotes” 日本 🎉'
print(len(s), s.encode('utf-8')[:8], s.upper(), [hex(ord(c)) for c in s[-1]], s.encode('ascii', 'xmlcharrefreplace')[-9:], s[::-1][0], 'ﬁ'.casefold(), '日本'.isidentifier())
日本 = 5; print(日本)
""",
    "large integers": r"""
print(2**200, len(str(3**1000)), int('1'*50) % 97, (1 << 70) >> 68, -(-7 // 2), hash(2**61-1), 0xdeadbeef.bit_count())
""",
    "reading an HTML table": r"""
from html.parser import HTMLParser
class T(HTMLParser):
    def __init__(self):
        super().__init__(); self.rows, self._row, self._in = [], None, False
    def handle_starttag(self, tag, attrs):
        if tag == 'tr': self._row = []
        if tag == 'td': self._in = True
    def handle_endtag(self, tag):
        if tag == 'tr': self.rows.append(self._row)
        if tag == 'td': self._in = False
    def handle_data(self, data):
        if self._in: self._row.append(data)
t = T(); t.feed('<table><tr><td>a</td><td>b</td></tr></table>'); print(t.rows)
""",
    "cycles and counts": r"""
from itertools import chain, count, cycle

c = cycle('ab'); print([next(c) for _ in range(5)], list(zip(count(1), 'xy')))
""",
    "more string methods": r"""
print('a,b,,c'.split(','), 'a  b'.split(), 'x'.join(['1', '2']), 'Hello'.isupper(), 'abc'.index('c'), 'aXb'.partition('X'), 'tEST'.capitalize(), 'a-b_c'.replace('-', '_').split('_'), 'abc'.rjust(5, '.'), 'ab' 'cd', 'ab' * 2, 'b' in 'abc', 'abc'[::-1], 'é'.encode().hex())
""",
    "functions with state": r"""
cache = {}
def memo(f):
    def g(*a):
        if a not in cache: cache[a] = f(*a)
        return cache[a]
    return g
@memo
def sq(x): return x * x
sq(2); sq(3); print(cache, sq.__name__)
def outer():
    x = 'enclosing'
    def inner():
        nonlocal x
        x = 'changed'
    inner(); return x
print(outer())
""",
    "all forms of print": r"""
print('a', 'b', sep='', end='\n\n'); print(*range(3), sep=', '); print(f"{'=' * 10}"); print(None, True, 1.0, [], {}, ()); print("multi\nline"); print(); print({'k': 'v'}, end=''); print(' tail')
import pprint; pprint.pprint({'a': {'b': [1, 2]}}); pprint.pp([1])
print(repr('a\nb'), ascii('é'), str(b'x'), [1.10, 2e-7, 1e100], 1/3)
""",
    "the interpreter's own data": r"""
import sys
print(sys.version_info[0], sys.version_info.major, sys.version_info >= (3, 8), sys.byteorder, sys.maxsize == 2**63-1, sys.getsizeof([]) > 0, len(sys.argv) >= 0)
sys.setrecursionlimit(3000)
""",
    "a calculator from operators": r"""
import operator
ops = {'+': operator.add, '-': operator.sub, '*': operator.mul, '/': operator.truediv}
def calc(e):
    a, o, b = e.split(); return ops[o](float(a), float(b))
print(calc('3 * 4'), calc('1 / 8'))
""",
}
