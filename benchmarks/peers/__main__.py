"""Measures this package beside its peers: ``python -m benchmarks.peers`` (``make bench-peers``).

Each result is a line in a file as soon as it is there; started again with the same file, it goes on. ``--quick`` is a
short form: one round of a few scenarios with the peers that start fast, and no page.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import report
from benchmarks.peers.driver import FLOOR, NAMES, OURS
from benchmarks.peers.environments import ROOT, Environment, install
from benchmarks.peers.run import Line, run
from benchmarks.peers.scenarios import QUICK, SCENARIOS, in_rounds

RESULTS = Path(__file__).with_name("results.jsonl")
QUICK_PEERS = (*OURS, FLOOR, "rlms", "minrlm")


def read(path: Path) -> list[Line]:
    """Results of earlier starts; a line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(Line(**json.loads(line)))
        except (ValueError, TypeError):
            print(f"{path}: a line is no result and is left out: {line[:80]}", file=sys.stderr)
    return found


def installed(names: Sequence[str], *, again: bool) -> list[Environment]:
    """Environments of the peers that can be installed."""
    found = []
    for name in names:
        try:
            found.append(install(name, again=again))
        except (subprocess.CalledProcessError, StopIteration, OSError) as error:
            print(f"{name} cannot be installed here: {error}", file=sys.stderr)
    return found


def newest(lines: Sequence[Line]) -> list[Line]:
    """Results of the version of each peer that was measured last."""
    versions = {one.peer: one.version for one in lines}
    return [one for one in lines if versions[one.peer] == one.version]


def measure(
    environments: Sequence[Environment], names: list[str], path: Path, *, once: bool, until: float = math.inf
) -> None:
    """Measure what has no result yet, in rounds over all peers.

    Args:
        environments: of the peers.
        names: of the scenarios.
        path: file of the results.
        once: one round only.
        until: monotonic time after which nothing begins.
    """
    lines = read(path)
    done = {(one.peer, one.version, one.scenario, one.round) for one in lines}
    failed = {(one.peer, one.version, one.scenario) for one in lines if one.outcome != "ok"}
    if path.exists() and path.read_bytes()[-1:] not in {b"", b"\n"}:
        with path.open("a") as file:
            file.write("\n")  # a start that was killed had written half a line
    logs = ROOT / "build" / "peers"
    logs.mkdir(parents=True, exist_ok=True)
    for scenario, number in in_rounds(names, once=once):
        turn = number % len(environments)  # nobody is always the first after a heavy one
        for environment in (*environments[turn:], *environments[:turn]):
            what = (environment.peer, environment.version, scenario.name)
            if (*what, number) in done or what in failed:  # what fails once is not waited for again
                continue
            if time.monotonic() > until:
                return
            line = run(environment, scenario, number, logs)
            if line.outcome != "ok":
                failed.add(what)
            with path.open("a") as file:
                file.write(line.to_json() + "\n")
            print(f"{scenario.name} {number} {environment.peer}: {line.outcome}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--peers", default="", help=f"some of {', '.join(NAMES)}; default: all")
    parser.add_argument("--scenarios", default="", help=f"some of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--results", type=Path, help="file of the results")
    parser.add_argument("--upgrade", action="store_true", help="install the newest versions again")
    parser.add_argument("--again", action="store_true", help="forget the results of these peers and scenarios first")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    parser.add_argument("--page", action="store_true", help="only write the page from the results that are there")
    given = parser.parse_args(arguments)
    peers = given.peers.split(",") if given.peers else list(QUICK_PEERS if given.quick else NAMES)
    names = given.scenarios.split(",") if given.scenarios else list(QUICK if given.quick else SCENARIOS)
    for what, one, known in [
        *(("peer", one, NAMES) for one in peers),
        *(("scenario", one, SCENARIOS) for one in names),
    ]:
        if one not in known:
            parser.error(f"there is no {what} {one!r}: there are {', '.join(known)}")
    path = given.results or (ROOT / "build" / "peers-quick.jsonl" if given.quick else RESULTS)
    if given.quick and given.results is None:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
    if given.again:
        kept = [one for one in read(path) if one.peer not in peers or one.scenario not in names]
        path.write_text("".join(f"{one.to_json()}\n" for one in kept))
    if not given.page:
        until = time.monotonic() + 60 * given.minutes
        measure(installed(peers, again=given.upgrade), names, path, once=given.quick, until=until)
    lines = newest(read(path))
    if given.quick:
        print(report.tables(lines))
        return 0 if all(one.outcome in {"ok", "skipped"} for one in lines if one.peer in OURS) else 1
    from benchmarks.peers import plots  # needs matplotlib

    pictures = plots.draw(lines, ROOT / "docs" / "pictures")
    (ROOT / "docs" / "benchmarks.md").write_text(report.page(lines, pictures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
