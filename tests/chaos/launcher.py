"""Forks jobs from a process that has everything imported: a new interpreter would take seconds each.

It has no threads, adopts what its killed children leave behind, and so can tell whether any of that lives on. As a
program: a job as JSON on each line of standard input, a line with what became of its process on standard output.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.chaos import processes

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 5.0
_JOB_SECONDS = 120.0


class Launcher:
    """The launcher's process, as the harness uses it.

    Args:
        folder: for the temporary files of its jobs.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(folder)},
            cwd=Path(__file__).parents[2],
        )

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job to its end, or to its death.

        Returns:
            ``status`` of its process (negative: the signal that killed it), and ``orphans``: how many processes of its
            sandbox were still there some seconds later.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the launcher has ended"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)


def main() -> None:
    from tests.chaos import job as jobs

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        job = jobs.Job.from_json(line)
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            _be(job)
        status = _wait(pid)
        orphans = _orphans()
        print(json.dumps({"status": status, "orphans": orphans}), flush=True)


def _be(job: Any) -> None:
    from tests.chaos import job as jobs

    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)  # standard output is the launcher's
        jobs.run(job)
        code = 0
    except BaseException:
        (Path(job.folder) / "error").write_text(traceback.format_exc())
    finally:
        import atexit

        atexit._run_exitfuncs()  # as an interpreter that ends by itself would
        os._exit(code)


def _wait(pid: int) -> int:
    """The status of a job's process; one that hangs is killed, and counts as failed."""
    end = time.monotonic() + _JOB_SECONDS
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 99
        time.sleep(0.003)


def _orphans() -> int:
    """Processes that live on without their host; they get some seconds, and are ended then."""
    end = time.monotonic() + _GRACE_SECONDS
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        left = processes.descendants(os.getpid())
        if not left or time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return len(left)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
