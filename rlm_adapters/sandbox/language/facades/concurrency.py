"""Threads and coroutines, over the session's deterministic scheduler."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.tasks import Waitable, run_coroutine


def primitives(environment: Environment) -> dict[str, Any]:
    """What the guest modules are built on: functions only, since cells can read what a guest object holds."""
    scheduler = environment.scheduler

    def spawn(function: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        """Start a task: functions to wait for it, to ask whether it is done, and to have its outcome."""
        task = scheduler.submit(function, *args, **kwargs)

        def outcome() -> tuple[Any, BaseException | None]:
            if isinstance(task.error, ControlFlow):
                return None, RuntimeError("the task has ended its cell")
            return task.value, task.error

        return (lambda: scheduler.wait_for(task)), (lambda: task.done), outcome

    def condition() -> tuple[Callable[[Callable[[], Any]], None], Callable[[], None]]:
        """Functions to wait until a predicate holds, and to let those who wait look again."""
        waitable = Waitable()
        return (
            lambda predicate: scheduler.wait(waitable, lambda: bool(predicate())),
            lambda: scheduler.wake(waitable),
        )

    def run(coroutine: Any) -> Any:
        """Run a coroutine in the current task."""
        if not isinstance(coroutine, types.CoroutineType):
            raise TypeError(f"a coroutine was expected, got {coroutine!r}")
        return run_coroutine(coroutine)

    return {
        "_spawn": spawn,
        "_condition": condition,
        "_run": run,
        "_sleep": lambda seconds: scheduler.sleep(float(seconds)),
        "_time": environment.clock.monotonic,
        "_is_coroutine": lambda value: isinstance(value, types.CoroutineType),
        "_is_coroutine_function": inspect.iscoroutinefunction,
        "_exception_group": _exception_group,
    }


def _exception_group(message: str, errors: list[Exception]) -> ExceptionGroup[Exception]:
    """What a task group raises. The class itself is not for cells (see `classes`)."""
    return ExceptionGroup(message, errors)


def _guest(name: str) -> Builder:
    def build(environment: Environment) -> Mapping[str, object]:
        return environment.run_guest(name, primitives(environment))

    return build


MODULES: Final[dict[str, Builder]] = {
    "concurrent": lambda _: {},
    "concurrent.futures": _guest("futures"),
    "threading": _guest("threading"),
    "asyncio": _guest("asyncio"),
    "nest_asyncio": _guest("nest_asyncio"),
}
