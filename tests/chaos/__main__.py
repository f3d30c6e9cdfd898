"""``make chaos``: the long form, on SQLite and on a PostgreSQL server of its own.

python -m tests.chaos [--kills 300] [--seed 1] [--savers sqlite,postgres]
"""

import argparse
import itertools
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.harness import Chaos, Count, chaos, files_left, first_messages
from tests.chaos.job import Job
from tests.postgres import find_program, postgres_server

CONFIGURATIONS = tuple(
    itertools.product(("sync", "async"), ("sync", "async", "exit"), ("ahead", "off"), ("graph", "chat"))
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="at least so many, over all configurations")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--savers", default="sqlite,postgres")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    total: dict[tuple[str, ...], Count] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-chaos-")))
        url = ""
        if "postgres" in options.savers:
            if find_program("initdb") is None:
                print("PostgreSQL is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
                return 2
            url = stack.enter_context(postgres_server())
        used = stack.enter_context(chaos(folder, options.seed))
        whole = Count()
        rounds = itertools.count()
        while whole.kills.total() < options.kills:
            number = next(rounds)
            for saver, configuration in itertools.product(options.savers.split(","), CONFIGURATIONS):
                form, durability, parallel, kind = configuration
                if kind == "chat" and (durability, parallel) != ("sync", "ahead"):
                    continue  # the chat model chooses them
                tag = f"{kind}{number}{saver[0]}{form[0]}{durability[0]}{parallel[0]}"
                count = one(used, tag, url if saver == "postgres" else "", *configuration)
                total.setdefault((saver, kind, form, durability, parallel), Count()).add(count)
                whole.add(count)
                for line in count.wrong:
                    print("WRONG", line, flush=True)
                for line in count.repeated_committed:
                    print("COMMITTED AGAIN", tag, line, flush=True)
                if whole.kills.total() >= options.kills:
                    break
            print(f"{whole.runs} runs, {whole.kills.total()} kills, {whole.faults} faults", flush=True)
    whole.files = 0
    report(total, whole)
    return 1 if whole.faults else 0


def one(used: Chaos, tag: str, url: str, form: str, durability: str, parallel: str, kind: str) -> Count:
    """A run of one configuration, and what it left behind."""
    folder = used.folder / tag
    messages = first_messages(tag) if kind == "chat" else None
    location = url or str(used.folder / f"{tag}.db")
    job = Job(tag, location, str(folder), used.server.url, form, durability, parallel, (), messages)
    count = used.run(job)
    left = files_left(used.folder)
    count.files = len(left)
    for path in left:
        print("LEFT", path, flush=True)
    return count


def report(total: dict[tuple[str, ...], Count], whole: Count) -> None:
    """Print what was counted."""
    head = ("runs", "kills", "wrong", "lost", "calls", "again committed", "again in window", "tools again", "tools in window", "sandbox errors", "orphans", "files")  # fmt: skip
    print("\n" + " | ".join(("saver, kind, form, durability, parallel", *head)))
    for name, count in [*sorted(total.items()), (("all",), whole)]:
        row = (count.runs, count.kills.total(), len(count.wrong), count.lost, count.calls, len(count.repeated_committed), count.repeated_in_window, count.tools_again, count.tools_in_window, count.refused, count.orphans, count.files)  # fmt: skip
        print(" | ".join((" ".join(name), *map(str, row))))
    print("\nkilled: " + ", ".join(f"{what} {number}" for what, number in whole.kills.most_common()))


if __name__ == "__main__":
    sys.exit(main())
