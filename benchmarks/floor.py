"""How far our front doors are from the floor: a bare client with ``exec()``, beside them in one run, over HTTP.

    python -m benchmarks.floor [--quick] [--doors graph,chat] [--beside PATH]

Each door is a process of its own, warmed up before. Rounds alternate, so that whatever else the machine does hits all
of them, and what counts is the ratio to the floor: the median over the rounds, with the smallest and the largest.
Cells, drivers and scripted model are those of `benchmarks.peers`, whose processes are cold. Takes two minutes.
``--beside`` measures the same doors of another checkout of this package in the same rounds: before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.measure import machine, memory, ratio, seconds, table
from benchmarks.peers import script
from benchmarks.peers.drive import answered, at_once, make_context, query_of
from benchmarks.peers.driver import FLOOR, Config, load
from benchmarks.peers.scenarios import SCENARIOS, Plan
from benchmarks.peers.watch import tree_of
from tests.server import ModelServer

ROOT = Path(__file__).parents[1]
DOORS = ("graph", "chat")
RUNS = 50
BATCH = 100
"""Calls, all in flight at once: the floor has a thread for each."""
_KEY = "sk-bench-key"
_LIGHT_SECONDS = 14.0
"""Longer than an idle thread of ours lives."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is compared.

    Attributes:
        title: of its row.
        scenario: of `benchmarks.peers`.
        rounds: how often it is run.
        goal: the ratio that is wanted.
    """

    title: str
    scenario: str
    rounds: int
    goal: float

    def per(self, plan: Plan) -> int:
        """By what the time of a run is divided."""
        return len(plan.cells) if self.scenario == "start" else 1


MEASURES = (
    Measure("iteration", "start", 7, 1.5),
    Measure(f"batch of {BATCH}", "batch", 7, 1.2),
    Measure("input of 100 MB", "input-100", 5, 2.0),
    Measure(f"{RUNS} runs at once", "runs-50", 4, 1.3),
)


class Door:
    """A front door in a process of its own.

    Args:
        name: of the driver in `benchmarks.peers`.
        server: of the model.
        package: folder in which `rlm_adapters` is.
        label: what it is called here.
    """

    def __init__(self, name: str, server: ModelServer, package: Path, label: str) -> None:
        self.name, self._server = label, server
        self.dialect = load(name).DIALECT
        config = Config(
            base_url=server.url,
            api_key=_KEY,
            model=label,
            max_iterations=30,
            max_calls=2_000,
            max_concurrency=BATCH,
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.floor", "--serve", name, json.dumps(asdict(config))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": f"{package}{os.pathsep}{ROOT}",
                "OPENAI_API_KEY": _KEY,
                "OPENAI_BASE_URL": server.url,
                "NO_PROXY": "127.0.0.1",
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def plan(self, scenario: str) -> Plan:
        """What a scenario is here."""
        plan = SCENARIOS[scenario].plan(self.dialect)
        assert plan is not None, scenario
        return plan

    def begin(self, plan: Plan) -> None:
        """Have it make the runs of a plan."""
        self._server.script(self.name, script.script_of(self.dialect, plan))
        order = {"megabytes": plan.megabytes, "runs": plan.runs if plan.together else 1, "together": plan.together}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def end(self, plan: Plan) -> float:
        """Seconds that the runs took.

        Raises:
            RuntimeError: one did not give the right answer.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: its process has died")
        done = json.loads(line)
        wrong = next((one for one in done["answers"] if one.removeprefix("ok:").strip("'\" ") != plan.expect), None)
        if wrong is not None:
            raise RuntimeError(f"{self.name}: {wrong[:300]!r} instead of {plan.expect!r}")
        return float(done["seconds"])

    def run(self, plan: Plan) -> float:
        """Make the runs of a plan, and wait for their end."""
        self.begin(plan)
        return self.end(plan)

    def processes(self) -> list[int]:
        """Its own and those of its workers."""
        return tree_of(self._process.pid)

    def threads(self) -> int:
        """Of its own process."""
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))


def serve(name: str, config: Config) -> None:
    """Make runs inside a door's process, as standard input orders them."""
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    driver = load(name).make(config)
    contexts: dict[float, str] = {}
    for line in sys.stdin:
        order = json.loads(line)
        size = order["megabytes"]
        if size not in contexts:
            contexts[size] = make_context(size)
        context = contexts[size]
        begun = time.perf_counter()
        if order["together"]:
            answers = at_once(driver, context, order["runs"])
        else:
            answers = [answered(lambda: driver.run(query_of(0), context))]  # noqa: B023 - called at once
        said.write(json.dumps({"seconds": time.perf_counter() - begun, "answers": answers}) + "\n")


def compare(doors: Sequence[Door], measure: Measure, rounds: int) -> dict[str, list[float]]:
    """Seconds by door, round by round; nobody is always the first."""
    plans = {door.name: door.plan(measure.scenario) for door in doors}
    for door in doors:
        door.run(plans[door.name])
    found: dict[str, list[float]] = {door.name: [] for door in doors}
    for number in range(rounds):
        turn = number % len(doors)
        for door in (*doors[turn:], *doors[:turn]):
            plan = plans[door.name]
            found[door.name].append(door.run(plan) / measure.per(plan))
    return found


def sessions(door: Door) -> tuple[float, float]:
    """Megabytes of PSS for each of the sessions that are open at once: of the workers, and of everything that grew."""
    plan = door.plan("runs-50")
    plan = replace(plan, root_latency=1.0)
    before = sum(map(memory, door.processes()))
    door.begin(plan)
    workers = whole = 0.0
    most = 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = door.processes()
        if len(found) < most:
            break
        sizes = [memory(pid) for pid in found]
        if len(found) >= most:
            most, workers, whole = len(found), max(workers, sum(sizes[1:])), max(whole, sum(sizes) - before)
        time.sleep(0.2)
    door.end(plan)
    return workers / 1e6 / RUNS, whole / 1e6 / RUNS


def shrinking(door: Door) -> tuple[int, int]:
    """Threads after a burst, and after some seconds with little to do."""
    plan = door.plan("runs-50")
    door.run(plan)
    after, until = door.threads(), time.monotonic() + _LIGHT_SECONDS
    light = door.plan("input-1")
    while time.monotonic() < until:
        door.run(light)
        time.sleep(0.2)
    return after, door.threads()


@contextlib.contextmanager
def opened(names: Sequence[str], beside: Path | None) -> Iterator[list[Door]]:
    """The floor and the doors, on one server; those of another checkout before ours."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ModelServer())
        doors = [Door(FLOOR, server, ROOT, FLOOR)]
        for name in names:
            if beside is not None:
                alone = Path(
                    stack.enter_context(tempfile.TemporaryDirectory())
                )  # it has benchmarks, which are not meant
                (alone / "rlm_adapters").symlink_to(beside.resolve() / "rlm_adapters")
                doors.append(Door(name, server, alone, f"{name}, beside"))
            doors.append(Door(name, server, ROOT, name))
        for door in doors:
            stack.enter_context(door)
        yield doors


def shown(found: dict[str, list[float]], door: str) -> str:
    """A door's ratio to the floor: the median over the rounds, the smallest and the largest."""
    ratios = [one / floor for one, floor in zip(found[door], found[FLOOR], strict=True)]
    return f"{ratio(statistics.median(ratios), 1)} [{min(ratios):.2f} to {max(ratios):.2f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds, and neither memory nor threads")
    parser.add_argument("--doors", default=",".join(DOORS), help=f"some of {', '.join((*DOORS, 'module'))}")
    parser.add_argument("--measures", default="", help=f"some of {', '.join(one.scenario for one in MEASURES)}")
    parser.add_argument("--beside", type=Path, help="another checkout of this package, measured too")
    parser.add_argument("--serve", nargs=2, metavar=("DOOR", "CONFIG"), help=argparse.SUPPRESS)
    given: Any = parser.parse_args(arguments)
    if given.serve:
        serve(given.serve[0], Config(**json.loads(given.serve[1])))
        return 0
    chosen = [one for one in MEASURES if not given.measures or one.scenario in given.measures.split(",")]
    print(machine())
    with opened(given.doors.split(","), given.beside) as doors:
        rows, names = [], [door.name for door in doors[1:]]
        for one in chosen:
            found = compare(doors, one, 2 if given.quick else one.rounds)
            times = [f"{seconds(statistics.median(found[name]))}, {shown(found, name)}" for name in names]
            rows.append([one.title, seconds(statistics.median(found[FLOOR])), *times, f"{one.goal}x"])
            print(f"{one.title}: done", file=sys.stderr)
        table("Beside a bare client with exec()", ["", "exec()", *names, "wanted"], rows)
        if given.quick:
            return 0
        memories = [[door.name, *(f"{one:.1f} MB" for one in sessions(door))] for door in doors[1:]]
        table(f"Memory of {RUNS} sessions at once, each", ["", "workers", "with the host's growth"], memories)
        threads = [[door.name, *shrinking(door)] for door in doors[1:]]
        table("Threads of the host", ["", f"after {RUNS} runs", f"{_LIGHT_SECONDS:.0f} s later"], threads)
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
