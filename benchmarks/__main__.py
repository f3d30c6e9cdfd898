"""Runs the measurements that are here, one after the other, each in a process of its own.

``python -m benchmarks`` runs all, ``python -m benchmarks NAME ...`` those; `security` only when it is named, since it
has a target of its own (``make security``), and `ray_runs`, which needs Ray.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import benchmarks

NOT_MEASUREMENTS = frozenset({"__main__", "measure"})
ONLY_WHEN_NAMED = frozenset({"ray_runs", "security"})


def available() -> list[str]:
    """Names of the modules that are here and can be run."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in NOT_MEASUREMENTS and not module.name.startswith("_")
    )


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(available()))
    if unknown:
        print(f"there is no measurement {unknown[0]!r}: there are {', '.join(available())}", file=sys.stderr)
        return 2
    failed = []
    for name in names or [name for name in available() if name not in ONLY_WHEN_NAMED]:
        print(f"\n==== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
