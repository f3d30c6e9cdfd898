"""All attacks at once: each is tried in three ways, and every way that it is not stopped is told.

- ``oracle``: in-process, the values that it got hold of judged by `attack_oracle`;
- ``session``: through a session as users open them, judged by what reaches the host;
- ``bare``: through a session without the language policy, judged by `os_oracle`.

`test_attacks_own` does the first two attack by attack; this is for counting, and for the third.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeAlias

from rlm_adapters.sandbox import Sandbox
from tests.sandbox.attacks.attack_corpus import Attack
from tests.sandbox.attacks.test_attacks_own import check_done, check_usable, drive, open_session
from tests.sandbox.hardening.os_oracle import Host

ROOT = Path(__file__).parents[3]
Failures: TypeAlias = dict[str, str]
"""Why attacks were not stopped, by their id."""


def family(attack: Attack) -> str:
    """The first word of its class."""
    return attack.family.split("/")[0].split("-")[0]


def sweep_oracle(attacks: Iterable[Attack], *, threads: int = 2) -> Failures:
    """Run attacks in forks of processes that hold objects of the host; those that need a limit are left out."""
    with _Runners(threads) as runners:
        return _sweep(lambda attack: _judge_values(attack, runners), _with_values(attacks), threads)


def has_values(attack: Attack) -> bool:
    """Whether the attack is one that gets hold of something, in contrast to one that must be ended by a limit."""
    return attack.kind in ("escape", "tamper")


def sweep_session(attacks: Iterable[Attack], sandbox: Sandbox, *, threads: int = 4) -> Failures:
    """Run attacks through sessions: reports must be clean, and the session usable afterwards."""

    def judge(attack: Attack) -> str | None:
        with open_session(sandbox, attack) as session:
            check_done(attack, drive(session, attack.source))
            check_usable(session, attack)
        return None

    return _sweep(judge, attacks, threads)


def sweep_bare(attacks: Iterable[Attack], sandbox: Sandbox, host: Host, *, threads: int = 4) -> Failures:
    """Run attacks as plain Python in confined workers, and see what they reached of the host."""

    def judge(attack: Attack) -> str | None:
        with open_session(sandbox, attack) as session:
            drive(session, "PWN = None")
            drive(session, attack.source)
            return ", ".join(host.reached(session)) or None

    return _sweep(judge, attacks, threads)


def _sweep(judge: Callable[[Attack], str | None], attacks: Iterable[Attack], threads: int) -> Failures:
    def why(attack: Attack) -> str | None:
        try:
            return judge(attack)
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:500]

    attacks = list(attacks)
    with ThreadPoolExecutor(threads) as pool:
        verdicts = zip(attacks, pool.map(why, attacks), strict=True)
        return {attack.id: verdict for attack, verdict in verdicts if verdict}


def _with_values(attacks: Iterable[Attack]) -> list[Attack]:
    return [attack for attack in attacks if has_values(attack)]


def _judge_values(attack: Attack, runners: _Runners) -> str | None:
    sources = [attack.source]
    if "llm_query" in attack.source and attack.kind == "escape":
        # The same with a function of the host's own, which sessions never hold: a harder case.
        sources.append(attack.source.replace("llm_query", "raw_query"))
    for source in sources:
        verdict = runners.ask({"source": source, "files": attack.files, "probe": attack.probe})
        if "broken" in verdict or "died" in verdict:
            return str(verdict)
        if why := verdict["leak"] or (attack.kind == "escape" and verdict["printed"]):
            return str(why)
        if attack.probe and verdict["probe"] != attack.expect:
            return f"the probe printed {verdict['probe']!r}"
    return None


class _Runners:
    """Processes that attempt attacks in forks of themselves; each serves one thread at a time."""

    def __init__(self, count: int) -> None:
        self._processes = [_start_runner() for _ in range(count)]
        self._free = list(self._processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._free.pop()  # as many threads as processes
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            verdict: dict[str, Any] = json.loads(process.stdout.readline())
            return verdict
        finally:
            self._free.append(process)


def _start_runner() -> Any:
    command: Sequence[str] = [sys.executable, "-m", "tests.sandbox.attacks.attack_runner"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
