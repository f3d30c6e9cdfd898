"""Scenarios: which cells the scripted model writes, and within what time they must be over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.peers.driver import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, and what the server does."""

    cells: tuple[str, ...]
    expect: str | None
    """The answer; None: any."""
    seconds: float = 60
    """After this it is ended from outside."""
    megabytes: float = 0.001
    runs: int = 1
    together: bool = False
    root_latency: float = 0.0
    sub_latency: float = 0.0
    sub_fails_once: bool = False
    max_calls: int = 2_000
    bounded: bool = False
    """Cells have limits, where the package knows any."""
    memory: bool = False
    """Memory is watched closely."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something to be measured."""

    name: str
    rounds: int
    plan: Callable[[Dialect], Plan | None]
    """None: the package has nothing of the kind."""


def marked(number: int, body: str) -> str:
    """A cell; its mark comes first, so that a cell that dies has been taken too."""
    return f"# BENCHSTEP{number}\nprint('BENCH' + 'STEP{number} begins')\n{body}\n"


def last(number: int, dialect: Dialect, answer: str) -> str:
    """The cell that ends the run."""
    return f"# BENCHSTEP{number}\n{dialect.final.format(answer=answer)}\n"


def _cells(dialect: Dialect, *bodies: str, answer: str) -> tuple[str, ...]:
    cells = [marked(number, body) for number, body in enumerate(bodies, 1)]
    return (*cells, last(len(bodies) + 1, dialect, answer))


def _start(dialect: Dialect) -> Plan:
    bodies = [f"x = {number}" for number in range(1, 21)]
    return Plan(cells=_cells(dialect, *bodies, answer="'done ' + str(x)"), expect="done 20", runs=2)


def _loop(dialect: Dialect) -> Plan:
    ask = dialect.ask.format(prompt="'BENCH' + 'SUB part ' + str(i)")
    body = f"results = []\nfor i in range(100):\n    results.append({ask})\nprint(len(results), len(set(results)))"
    return Plan(cells=_cells(dialect, body, answer="str(len(results))"), expect="100", sub_latency=0.05)


def _batch(count: int) -> Callable[[Dialect], Plan | None]:
    def plan(dialect: Dialect) -> Plan | None:
        if dialect.batch is None:
            return None
        body = (
            f"prompts = ['BENCH' + 'SUB part ' + str(i) for i in range({count})]\n"
            f"results = {dialect.batch.format(prompts='prompts')}\nprint(len(results), len(set(results)))"
        )
        return Plan(
            cells=_cells(dialect, body, answer="str(len(results))"),
            expect=str(count),
            sub_latency=0.05,
            seconds=90,
            memory=count > 100,
        )

    return plan


def _input(megabytes: int) -> Callable[[Dialect], Plan]:
    def plan(dialect: Dialect) -> Plan:
        body = (
            f"import re\nsize = len({dialect.context})\n"
            f"codes = len(re.findall('CODE-[0-9]+', {dialect.context}))\nprint(size, codes)"
        )
        return Plan(
            cells=_cells(dialect, body, answer="str(codes > 0)"),
            expect="True",
            megabytes=megabytes,
            seconds=120,
            memory=True,
        )

    return plan


def _runs(count: int) -> Callable[[Dialect], Plan]:
    """Every run has an id in its context, so output that comes to another run is seen."""

    def plan(dialect: Dialect) -> Plan:
        own = f"{dialect.context}[{dialect.context}.index('RUN' + 'ID'):][:8]"
        bodies = [f"x = {number}\nbusy = sum(range(100000))\nprint('OWN' + 'ER', {own})" for number in range(1, 5)]
        return Plan(
            cells=_cells(dialect, *bodies, answer="'done ' + str(x)"),
            expect="done 4",
            runs=count,
            together=True,
            root_latency=0.1,
            seconds=90,
            memory=count > 2,
        )

    return plan


def _tokens(dialect: Dialect) -> Plan:
    bodies = [
        f"print(''.join('{number:02d} lorem ipsum %05d ' % i for i in range(300))[:5000])" for number in range(1, 21)
    ]
    return Plan(cells=_cells(dialect, *bodies, answer="'done'"), expect="done")


def _fault(body: str) -> Callable[[Dialect], Plan]:
    def plan(dialect: Dialect) -> Plan:
        cells = _cells(dialect, body, "y = 2", answer="'recovered'")
        return Plan(cells=cells, expect="recovered", seconds=30, bounded=True, memory=True)

    return plan


def _failing_server(dialect: Dialect) -> Plan:
    body = f"r = {dialect.ask.format(prompt=repr('BENCH') + ' + ' + repr('SUB one'))}\nprint('GO' + 'T', r)"
    return Plan(cells=_cells(dialect, body, answer="'recovered'"), expect="recovered", sub_fails_once=True)


def _budget(dialect: Dialect) -> Plan:
    ask = dialect.ask.format(prompt="'BENCH' + 'SUB ' + str(i)")
    body = f"results = []\nfor i in range(30):\n    results.append({ask})"
    return Plan(cells=_cells(dialect, body, answer="str(len(results))"), expect=None, max_calls=10)


SCENARIOS: Mapping[str, Scenario] = {
    one.name: one
    for one in (
        Scenario("start", 5, _start),
        Scenario("tokens", 1, _tokens),
        Scenario("loop", 3, _loop),
        Scenario("batch", 3, _batch(100)),
        Scenario("thousand", 3, _batch(1_000)),
        Scenario("input-1", 3, _input(1)),
        Scenario("input-10", 3, _input(10)),
        Scenario("input-100", 3, _input(100)),
        Scenario("runs-2", 1, _runs(2)),
        Scenario("runs-50", 3, _runs(50)),
        Scenario("runs-500", 2, _runs(500)),
        Scenario("hang", 1, _fault("while True:\n    pass")),
        Scenario("greedy", 1, _fault("a = []\nwhile True:\n    a.append('x' * 10000000 + str(len(a)))")),
        Scenario("killed", 1, _fault("import os\nos._exit(1)")),
        Scenario("server-500", 1, _failing_server),
        Scenario("budget", 1, _budget),
    )
}
QUICK = ("start", "tokens", "batch", "input-1", "runs-2", "budget")
"""Scenarios of the short form, a round each."""


def in_rounds(names: list[str], *, once: bool) -> Iterator[tuple[Scenario, int]]:
    """Scenarios round by round: a run that is cut short has all of them, with fewer rounds."""
    chosen = [SCENARIOS[name] for name in names]
    for number in range(1 if once else max((one.rounds for one in chosen), default=0)):
        yield from ((one, number) for one in chosen if number < one.rounds)
