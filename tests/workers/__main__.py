"""``make workers``: many runs, some workers killed, on a PostgreSQL server of its own.

python -m tests.workers [--runs 50] [--workers 2] [--kills 1] [--seed 1]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.postgres import postgres_server
from tests.workers.crew import CALLS, crew


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("runs", 50), ("workers", 2), ("kills", 1), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="rlm-workers-") as folder, postgres_server() as url:
        seen = crew(url, Path(folder), **options)
    print(f"{options['runs']} runs, {options['workers']} workers, {options['kills']} killed, {seen.seconds:.1f} s")
    print(f"right {seen.answered - len(seen.wrong)}, wrong {seen.wrong}, lost calls {seen.lost}")
    print(f"calls {CALLS * options['runs']}, asked again {seen.repeated}")
    print(f"ended by {dict(seen.by_worker)}, gone on with by another worker {seen.gone_on}")
    print(f"threads run by two at once: {seen.by_two_at_once}")
    return 1 if seen.wrong or seen.lost or seen.by_two_at_once or seen.answered != options["runs"] else 0


if __name__ == "__main__":
    sys.exit(main())
