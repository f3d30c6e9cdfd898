"""Random inputs: programs grown out of dangerous atoms, and garbage in place of what a worker sends.

What is counted besides the inputs: failures (something forbidden was reachable, an exception that the host does not
expect) and hangs (an input that took far longer than any limit allows). The strategies are those of the tests.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from benchmarks.security.report import Part
from rlm_adapters.sandbox import Done, Pending, Sandbox, SandboxLimits
from tests.sandbox import test_fuzz_cells as cells
from tests.sandbox.protocol import test_fuzz_frames as frames

_HANG_SECONDS = 60.0
"""No single input may take as long: limits of the sessions here are a few seconds."""
_GIVE_UP_SECONDS = 180.0
"""After so long with one input it is the host itself that hangs: the program then ends with its stack and an error."""
_ROUND = 50


@dataclass(slots=True)
class Tally:
    """What came of the inputs of one kind."""

    tried: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    hangs: int = 0

    def run(self, work: Callable[[], object], name: str) -> None:
        start = time.monotonic()
        faulthandler.dump_traceback_later(_GIVE_UP_SECONDS, exit=True)
        try:
            work()
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever it is, it is counted
            self.failures[name] = f"{type(error).__name__}: {error}"[:300]
        finally:
            faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - start > _HANG_SECONDS:
            self.hangs += 1
            self.failures.setdefault(name, "took too long")
        self.tried += 1


def run() -> Iterator[Part]:
    yield _part("programs, judged by what they hold", _programs_by_value(count=250, seconds=25))
    yield _part("programs through sessions", _programs_through_sessions(count=80, seconds=25))
    yield _part("scripted hostile workers", _scripted_workers(seconds=60))
    yield _part("noise in place of a worker", _noisy_workers(count=150, seconds=20))
    yield _part("frames, messages and streams", _frames(count=500, seconds=7))


def _part(what: str, tally: Tally) -> Part:
    crashes = len(tally.failures) - tally.hangs
    return Part(f"{what}: {tally.tried} inputs, {crashes} failures, {tally.hangs} hangs", tally.failures)


def _fuzz(strategy: SearchStrategy[Any], work: Callable[[Any], object], *, count: int, seconds: float) -> Tally:
    """Give ``work`` random inputs, at most ``count`` and for about so many seconds."""
    tally = Tally()
    deadline = time.monotonic() + seconds

    @settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one_round(value: Any) -> None:
        if time.monotonic() < deadline:
            tally.run(lambda: work(value), repr(value)[:120])

    while tally.tried < count and time.monotonic() < deadline:
        one_round()
    return tally


def _programs_by_value(*, count: int, seconds: float) -> Tally:
    runner = cells.Runner()
    try:
        return _fuzz(
            cells.programs,
            lambda program: cells.check(runner.run([*program, cells.WALK])),
            count=count,
            seconds=seconds,
        )
    finally:
        runner.close()


def _programs_through_sessions(*, count: int, seconds: float) -> Tally:
    check = _check_of(cells.test_a_session_survives_any_program)
    limits = SandboxLimits(cpu_seconds=0.3, wall_seconds=3, output_chars=5_000, file_bytes=1 << 20)
    with Sandbox(limits=limits) as sandbox:
        return _fuzz(cells.programs, lambda program: check(sandbox, program), count=count, seconds=seconds)


def _scripted_workers(*, seconds: float) -> Tally:
    tally = Tally()
    deadline = time.monotonic() + seconds
    for name, script in frames.SCRIPTS.items():
        if time.monotonic() < deadline:
            tally.run(lambda script=script: _play(script), f"a worker that {name}")  # type: ignore[misc]
    return tally


def _noisy_workers(*, count: int, seconds: float) -> Tally:
    check = _check_of(frames.test_a_session_survives_a_noisy_worker)
    return _fuzz(frames.mutated_frames(), check, count=count, seconds=seconds)


def _play(script: frames.Script) -> None:
    session, source = frames.session_with(script)
    with session:
        step = frames.take(session, "x = 1")
        if not isinstance(step, (Done, Pending)):
            raise TypeError(f"a step is a {type(step).__name__}")
    source.join()


def _frames(*, count: int, seconds: float) -> Tally:
    total = Tally()
    for strategy, test in (
        (frames.messages, frames.test_a_message_is_understood_or_refused),
        (frames.mutated_frames(), frames.test_a_stream_of_noise_ends_in_one_of_three_errors),
        (frames.mutated_frames(), frames.test_any_body_is_a_message_or_refused),
    ):
        tally = _fuzz(strategy, _check_of(test), count=count, seconds=seconds)
        total.tried += tally.tried
        total.hangs += tally.hangs
        total.failures |= tally.failures
    return total


def _check_of(test: Any) -> Callable[..., object]:
    """What a property test does with one input."""
    check: Callable[..., object] = test.hypothesis.inner_test
    return check
