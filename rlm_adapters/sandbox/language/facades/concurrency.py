"""Threads and coroutines, built on the session's deterministic scheduler."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.tasks import Waitable, run_coroutine


def primitives(environment: Environment) -> dict[str, Any]:
    """Return the functions that the guest modules use. Only functions: cells can read what a guest object holds."""
    scheduler = environment.scheduler

    def spawn(function: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        """Start a task. Returns three functions: wait for it, whether it is done, its result or error."""
        task = scheduler.submit(function, *args, **kwargs)

        def outcome() -> tuple[Any, BaseException | None]:
            if isinstance(task.error, ControlFlow):
                return None, RuntimeError("the task has ended its cell")
            return task.value, task.error

        return (lambda: scheduler.wait_for(task)), (lambda: task.done), outcome

    def condition() -> tuple[Callable[[Callable[[], Any]], None], Callable[[], None]]:
        """Return two functions: wait until a predicate is true, and make the waiting tasks check again."""
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
    """Make the exception that a task group raises. Cells do not get its class (see `classes`)."""
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
