"""One scenario with one peer: what happened, and what was measured."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.peers import script
from benchmarks.peers.driver import Config, Dialect, Order, load
from benchmarks.peers.environments import Environment
from benchmarks.peers.scenarios import Plan, Scenario
from benchmarks.peers.watch import Watched, watch
from tests.server import ModelServer, RequestRecord

_KEY = "sk-bench-key"
_OWNER = re.compile(r"OWNER RUNID(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A result, as its file has it."""

    peer: str
    version: str
    scenario: str
    round: int
    date: str
    load: float
    """Load of the machine before it."""
    spin: float
    """Milliseconds of a fixed piece of work before it: tells a busy machine from a quiet one."""
    outcome: str
    """``ok``, ``skipped``, or what went wrong."""
    measures: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def spin() -> float:
    """Milliseconds of a fixed piece of work."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        sum(range(1_000_000))
        times.append(time.perf_counter() - begun)
    return round(1000 * min(times), 1)


def run(environment: Environment, scenario: Scenario, number: int, logs: Path) -> Line:
    """Run it.

    Args:
        environment: of the peer.
        scenario: what is measured.
        number: of the round.
        logs: folder for what the peer prints.
    """
    dialect = load(environment.peer).DIALECT
    plan = scenario.plan(dialect)
    line = Line(
        peer=environment.peer,
        version=environment.version,
        scenario=scenario.name,
        round=number,
        date=time.strftime("%Y-%m-%d"),
        load=round(os.getloadavg()[0], 1),
        spin=spin(),
        outcome="skipped",
    )
    if plan is None:
        return line
    with ModelServer() as server:
        server.script(script.MODEL, script.script_of(dialect, plan))
        seen = watch(
            [
                environment.python,
                Path(__file__).with_name("drive.py"),
                json.dumps(asdict(_order(environment, plan, server))),
            ],
            {**environment.variables(), "OPENAI_API_KEY": _KEY, "OPENAI_BASE_URL": server.url},
            logs / f"{environment.peer}.{scenario.name}.log",
            seconds=plan.seconds,
            begun=lambda: bool(server.requests),
            closely=plan.memory,
        )
        server.failures.clear()
        requests = list(server.requests)
        in_flight = server.max_in_flight
    found = _Found(dialect, plan, seen, requests, in_flight)
    return replace(line, outcome=found.outcome(), measures={name: round(value, 4) for name, value in found.measures()})


def _order(environment: Environment, plan: Plan, server: ModelServer) -> Order:
    config = Config(
        base_url=server.url,
        api_key=_KEY,
        model=script.MODEL,
        max_iterations=len(plan.cells) + 5,
        max_calls=plan.max_calls,
        cell_seconds=5.0 if plan.bounded else None,
        cell_megabytes=1_000 if plan.bounded else None,
    )
    return Order(peer=environment.peer, config=config, megabytes=plan.megabytes, runs=plan.runs, together=plan.together)


class _Found:
    """Reads figures off what was seen and asked."""

    def __init__(
        self, dialect: Dialect, plan: Plan, seen: Watched, requests: list[RequestRecord], in_flight: int
    ) -> None:
        self.dialect, self.plan, self.seen, self.in_flight = dialect, plan, seen, in_flight
        self.roots = [one for one in requests if script.run_of(one) is not None]
        self.subs = [one for one in requests if script.run_of(one) is None]
        self.answers: list[str] = seen.events.get("done", {}).get("answers", [])

    def outcome(self) -> str:
        """How it ended."""
        if self.seen.ended:
            return self.seen.ended
        if not self.answers:
            return "process died" if "go" in self.seen.events else "does not start"
        right = [self._is_right(one) for one in self.answers]
        if all(right):
            return "ok"
        wrong = self.answers[right.index(False)]
        said = wrong.removeprefix("error:").split("\n")[0][:100] if wrong.startswith("error:") else "another answer"
        return said if len(right) == 1 else f"{sum(right)} of {len(right)} runs right: {said}"

    def _is_right(self, answer: str) -> bool:
        said = answer.removeprefix("ok:").strip().strip("'\"")
        return answer.startswith("ok:") and (self.plan.expect is None or said == self.plan.expect)

    def measures(self) -> list[tuple[str, float]]:
        """All that can be known of it, by name; seconds and megabytes."""
        found = {"roots": float(len(self.roots)), "subs": float(len(self.subs)), "in_flight": float(self.in_flight)}
        times = {name: event["time"] for name, event in self.seen.events.items()}
        if "ready" in times:
            found["import"] = self.seen.events["ready"]["import_seconds"]
        if "go" in times and self.roots:
            found["first"] = self.roots[0].time - times["go"]
        if self.seen.base:
            found["base"] = self.seen.base
            found["peak"] = self.seen.peak
            found["grown"] = max(0.0, self.seen.peak - self.seen.base)
        if "done" in times:
            found["wall"] = times["done"] - times.get("again", times["go"])
        if "again" in times:
            second = [one for one in self.roots if script.run_of(one) == 1]
            found["warm"] = second[0].time - times["again"] if second else 0.0
            gaps = [after.time - before.time for before, after in itertools.pairwise(second)]
            if gaps:
                found["iteration"] = statistics.median(gaps)
        if self.subs and len(self.roots) > 1 and self.roots[0].seconds is not None:
            found["cell"] = self.roots[1].time - self.roots[0].time - self.roots[0].seconds
        return [*found.items(), *self._prompts(), *self._outputs()]

    def _prompts(self) -> list[tuple[str, float]]:
        """Of the first run, in tokens of four characters."""
        prompts = [script.whole_prompt(one) for one in self.roots if script.run_of(one) == 0]
        if not prompts:
            return []
        return [
            ("first_prompt", len(prompts[0]) / 4),
            ("prompts", sum(map(len, prompts)) / 4),
            ("cached", script.cached_share(prompts)),
        ]

    def _outputs(self) -> list[tuple[str, float]]:
        """Of runs at once: how many saw their own output, and how many that of another run."""
        if not self.plan.together:
            return []
        seen: dict[int, set[int]] = {}
        for one in self.roots:
            seen.setdefault(script.run_of(one) or 0, set()).update(map(int, _OWNER.findall(one.prompt)))
        return [
            ("own", float(sum(run in owners for run, owners in seen.items()))),
            ("foreign", float(sum(bool(owners - {run}) for run, owners in seen.items()))),
        ]
