"""Runs, kills, resumes and counts."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage, message_to_dict

from tests.chaos import savers, script
from tests.chaos.job import Aim, Job
from tests.chaos.launcher import Launcher
from tests.server import ModelServer

MOST_KILLS = 7
"""Of one run; from then on it is left alone."""
_AIMS = 3
"""Of one process: a sandbox process that is killed does not end it."""


@dataclass
class Count:
    """What was seen in some runs."""

    runs: int = 0
    kills: Counter = field(default_factory=Counter)
    """By what was killed, and when."""
    wrong: list[str] = field(default_factory=list)
    """Runs that did not end, or not with the right answer."""
    lost: int = 0
    """Sub-calls that the answer needs and nobody asked."""
    calls: int = 0
    repeated_committed: list[str] = field(default_factory=list)
    """Sub-calls asked again although their answer was in the saver's tables when the process died, and where it was."""
    repeated_in_window: int = 0
    """Sub-calls asked again whose answer was not there yet."""
    tools_again: int = 0
    """Tools run again after their result had been committed."""
    tools_in_window: int = 0
    refused: int = 0
    """Processes that ended with a `SandboxError`, or without a lease; their run went on in the next one."""
    orphans: int = 0
    files: int = 0
    """Temporary files left behind when all runs had ended."""

    @property
    def faults(self) -> int:
        """What must not be."""
        again = len(self.repeated_committed) + self.tools_again
        return len(self.wrong) + self.lost + again + self.orphans + self.files

    def add(self, other: "Count") -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, mine + value)


@dataclass
class Chaos:
    """Where runs are killed."""

    server: ModelServer
    launcher: Launcher
    folder: Path
    dice: random.Random

    def run(
        self,
        job: Job,
        meanwhile: Callable[[], None] = lambda: None,
        aims: Callable[[], tuple[Aim, ...]] | None = None,
    ) -> Count:
        """One run: killed again and again, resumed each time, to its end.

        Args:
            job: of its first process.
            meanwhile: called after each kill.
            aims: of each process; default: by chance.
        """
        folder = Path(job.folder)
        folder.mkdir(parents=True)
        count = Count(runs=1)
        asked: Counter[str] = Counter()
        committed: dict[str, str] = {}
        chat = job.messages is not None
        tools_committed, tools_seen, killed, answer_lost = False, 0, 0, False
        while True:
            aimed = (aims or self._aims)() if killed < MOST_KILLS else ()
            before = len(self.server.requests)
            ended = self.launcher.run(asdict(replace(job, aims=aimed)))
            count.orphans += ended["orphans"]
            for record in self.server.requests[before:]:
                if record.model == "sub":
                    prompt = str(record.messages[-1]["content"])
                    if asked[prompt]:
                        if prompt in committed:
                            count.repeated_committed.append(f"{prompt} ({committed[prompt]})")
                        else:
                            count.repeated_in_window += 1
                    asked[prompt] += 1
            noted = folder / "tool"
            tools = len(noted.read_text().splitlines()) if noted.exists() else 0
            again = tools - max(1, tools_seen) if tools > tools_seen else 0
            count.tools_again += again if tools_committed else 0
            count.tools_in_window += 0 if tools_committed else again
            tools_seen = tools
            lost = False
            for killed_file in folder.glob("killed-*"):
                lost = lost or killed_file.read_text().startswith("lease")
                count.kills[killed_file.read_text()] += 1
                killed_file.unlink()
                killed += 1
            saved = savers.saved(job.saver, _thread(job))
            # The first turn of a chat model has no id that its client could come back with: it begins again.
            known = not chat or len(job.messages or ()) > 1
            if known and not saved and all(asked[prompt] for prompt in script.prompts_of(job.tag)):
                # Its thread was deleted: it had ended, and the answer was lost on its way to the client. What the
                # client begins then has a thread that it cannot name, as a first turn has.
                answer_lost = True
                committed.clear()
            if known and not answer_lost:
                for prompt in asked:
                    place = _place_of(script.answer_to(prompt), saved)
                    if place is not None:
                        committed.setdefault(prompt, place)
            tools_committed = tools_committed or _place_of(f"noted tool {job.tag}", saved) is not None
            if ended["status"] == -9:
                meanwhile()
                continue
            if ended["status"] != 0 or not job.result.exists():
                error = folder / "error"
                reason = error.read_text()[-1500:] if error.exists() else f"status {ended['status']}"
                broken = "SandboxError" in reason  # its processes were killed more often than they are replaced
                broken = broken or (
                    lost and ("AdminShutdown" in reason or "OperationalError" in reason)
                )  # the lease's session, while it was opened
                if aimed and broken:
                    error.unlink()
                    count.refused += 1
                    continue
                count.wrong.append(f"{job.tag}: {reason}")
                break
            result = _result(job)
            if result.get("suspended"):
                continue
            if chat:
                message = result["message"]
                calls = message["data"]["tool_calls"]
                if calls:
                    returned = [ToolMessage(f"sun in {c['args']['city']}", tool_call_id=c["id"]) for c in calls]
                    added = [message, *map(message_to_dict, returned)]
                    job = replace(job, messages=[*(job.messages or ()), *added])
                    continue
                answer = message["data"]["content"]
            else:
                answer = result["answer"]
            if answer != script.right_answer(job.tag):
                count.wrong.append(f"{job.tag}: {answer!r:.300} {result}")
            break
        wanted = script.prompts_of(job.tag)
        count.calls = len(wanted)
        count.lost = sum(not asked[prompt] for prompt in wanted)
        shutil.rmtree(folder)
        savers.delete(job.saver)
        return count

    def _aims(self) -> tuple[Aim, ...]:
        return tuple(Aim.random(self.dice) for _ in range(_AIMS))


def _thread(job: Job) -> str:
    """Where the thread's name ends with: a chat model's is in its tool calls; empty, before the first, for all."""
    if job.messages is None:
        return job.tag
    calls = [call["id"] for message in job.messages for call in message["data"].get("tool_calls") or ()]
    return calls[-1].split("_")[1] if calls else ""


def _place_of(text: str, saved: list[savers.Saved]) -> str | None:
    """Where a text is among what was saved; None: nowhere."""
    return next((one.place for one in saved if text.encode() in one.data), None)


def _result(job: Job) -> dict[str, Any]:
    result = json.loads(job.result.read_text())
    job.result.unlink()
    return result


def first_messages(tag: str) -> list[dict[str, Any]]:
    """What the client of a chat model begins with."""
    return [message_to_dict(HumanMessage(f"Do it. TAG={tag}"))]


@contextmanager
def chaos(folder: Path, seed: int) -> Iterator[Chaos]:
    """A model server and a launcher."""
    with ModelServer(latency=0.02) as server:
        server.script("root", script.root)
        server.script("sub", script.sub)
        launcher = Launcher(folder / "tmp")
        try:
            yield Chaos(server, launcher, folder, random.Random(seed))
        finally:
            launcher.close()


def files_left(folder: Path) -> list[Path]:
    """Temporary files that jobs have left."""
    return sorted((folder / "tmp").iterdir())
