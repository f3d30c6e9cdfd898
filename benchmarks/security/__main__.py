"""Runs all parts (or those that are named), prints what they found, and fails if anything is not as it must be."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from benchmarks.measure import machine
from benchmarks.security import attacks, cells, fuzz, leaks
from benchmarks.security.report import Part
from rlm_adapters.sandbox import Sandbox

PARTS: dict[str, Callable[[], Iterable[Part]]] = {
    "cells": cells.run,
    "attacks": attacks.run,
    "fuzzing": fuzz.run,
    "leaks": leaks.run,
}


def main(names: Sequence[str] = ()) -> int:
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        print(f"there is no part {unknown[0]!r}: there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    print(machine())
    with Sandbox() as sandbox:
        report = sandbox.report
    print(f"workers are confined at level {report.level!r}: {', '.join(report.layers)}")
    for note in report.notes:
        print(f"  {note}")
    failed = 0
    for name in names or PARTS:
        start = time.monotonic()
        print(f"\n== {name}", flush=True)
        for part in PARTS[name]():
            part.show()
            failed += not part.ok
        print(f"   ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"\n{'everything is as it must be' if not failed else f'{failed} parts failed'}", end="")
    cpu = sum(os.times()[:4])  # of this process and those that it has waited for
    print(f" ({time.monotonic() - began:.0f} s, {cpu:.0f} s of CPU time)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
