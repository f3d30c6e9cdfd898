"""Write code that must wait only once, for sync and async.

Work that must wait (for a model, a worker, a slot, a child run) is a generator that yields a `Wait` where it would
block. `drive` runs it in the calling thread, `adrive` on the event loop. So both forms make the same decisions, and
only the waiting differs. A body that returns many values, one after the other, also yields each of them as an `Item`,
and is read as `Items`.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from rlm_adapters.crew import Crew

T = TypeVar("T")
R = TypeVar("R")

Steps: TypeAlias = "Generator[Wait, Any, T]"
"""The generator form of a function that returns ``T``."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Something to wait for, in both forms.

    Attributes:
        run: blocks and returns the result.
        arun: the same as an awaitable.
        timeout: seconds after which ``TimeoutError`` is raised in the generator; None: no time-out. After a time-out
            the blocking form continues in a daemon thread until it returns. Its result is dropped.
    """

    run: Callable[[], Any]
    arun: Callable[[], Awaitable[Any]]
    timeout: float | None = None


def sleep(seconds: float) -> Wait:
    """Wait for some seconds."""
    return Wait(lambda: time.sleep(seconds), lambda: asyncio.sleep(seconds))


def wait_for_future(future: Future[Any], timeout: float | None = None) -> Wait:
    """Wait for a `concurrent.futures.Future` that other code completes. Raises ``TimeoutError`` after ``timeout``."""

    async def arun() -> Any:
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(future)

    return Wait(lambda: future.result(timeout), arun)  # a time-out of a future needs no thread


def off_loop(work: Callable[[], Any]) -> Wait:
    """Do work that may take long or uses files. On an event loop it runs in a thread."""
    return Wait(work, lambda: asyncio.to_thread(work))


def gather(works: Sequence[Steps[T]], threads: int) -> Wait:
    """Run several generator bodies at the same time. Returns their results in order.

    When one raises, the wait ends. On the event loop the others are cancelled.

    Args:
        works: the bodies.
        threads: number of bodies that run at once in the blocking form.
    """

    def run() -> list[T]:
        return Crew(works, threads).results()

    async def arun() -> list[T]:
        tasks = [asyncio.ensure_future(adrive(work)) for work in works]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # no effect on finished tasks

    return Wait(run, arun)


async def together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run several coroutines at the same time. When one raises, or after a cancellation, the others are cancelled.

    It returns or raises when all have ended.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A value that a body returns before it continues."""

    value: T


@dataclass(frozen=True, slots=True)
class Items(Generic[T]):
    """The values of a body, for a sync or an async reader. They can be read once.

    Attributes:
        body: yields `Wait` and `Item`. It may yield `Wait` while it is being closed.
        within: a context in which the body runs, but not its reader.
        after: called with an item when the reader asks for the next one.
    """

    body: Generator[Wait | Item[T], Any, None]
    within: Callable[[], AbstractContextManager[None]]
    after: Callable[[T], None]

    def __iter__(self) -> Generator[T]:
        try:
            while (item := self._driven()) is not None:
                yield item.value
                self.after(item.value)
        finally:
            with self.within():
                drive(_closed(self.body))

    async def __aiter__(self) -> AsyncGenerator[T]:
        try:
            while (item := await self._adriven()) is not None:
                yield item.value
                self.after(item.value)
        finally:
            with self.within():
                await adrive(_closed(self.body))

    def _driven(self) -> Item[T] | None:
        with self.within():
            return drive(_to_the_next(self.body))

    async def _adriven(self) -> Item[T] | None:
        with self.within():
            return await adrive(_to_the_next(self.body))


def _to_the_next(body: Generator[Wait | Item[T], Any, None]) -> Steps[Item[T] | None]:
    """Run a body to its next item; None at its end."""
    try:
        told = next(body)
        while isinstance(told, Wait):
            try:
                value = yield told
            except BaseException as error:  # noqa: BLE001 - every outcome belongs to the body
                told = body.throw(error)
            else:
                told = body.send(value)
    except StopIteration:
        return None
    return told


def _closed(body: Generator[Wait | Item[Any], Any, None]) -> Steps[None]:
    """Close a body, and wait for its final work."""
    with suppress(StopIteration, GeneratorExit):
        told = body.throw(GeneratorExit())
        while isinstance(told, Wait):
            value = yield told
            told = body.send(value)


def drive(steps: Steps[T]) -> T:
    """Run a generator body to its end in this thread."""

    def once(wait: Wait) -> Any:
        return wait.run() if wait.timeout is None else _run_within(wait.run, wait.timeout)

    send: Callable[[], Wait] = lambda: next(steps)  # noqa: E731 - re-bound in the loop below
    while True:
        try:
            wait = send()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            value = once(wait)
        except BaseException as error:  # noqa: BLE001 - every outcome belongs to the body, cancellation included
            caught = error
            send = lambda caught=caught: steps.throw(caught)  # type: ignore[misc]  # noqa: E731
        else:
            send = lambda value=value: steps.send(value)  # type: ignore[misc]  # noqa: E731


async def adrive(steps: Steps[T]) -> T:
    """Run a generator body to its end on the running event loop."""
    send: Callable[[], Wait] = lambda: next(steps)  # noqa: E731 - re-bound in the loop below
    while True:
        try:
            wait = send()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            value = await wait.arun() if wait.timeout is None else await _await_within(wait)
        except BaseException as error:  # noqa: BLE001 - every outcome belongs to the body, cancellation included
            caught = error
            send = lambda caught=caught: steps.throw(caught)  # type: ignore[misc]  # noqa: E731
        else:
            send = lambda value=value: steps.send(value)  # type: ignore[misc]  # noqa: E731


async def _await_within(wait: Wait) -> Any:
    async with asyncio.timeout(wait.timeout):
        return await wait.arun()


def _run_within(run: Callable[[], R], timeout: float) -> R:
    """Run a blocking call in a daemon thread, and stop waiting after ``timeout`` seconds."""
    if timeout <= 0:
        raise TimeoutError
    return _in_thread(run, contextvars.copy_context(), "rlm-wait").result(timeout)


def _in_thread(run: Callable[[], R], context: contextvars.Context, name: str) -> Future[R]:
    """Run a blocking call in a daemon thread."""
    future: Future[R] = Future()

    def work() -> None:
        try:
            result = context.run(run)
        except BaseException as error:  # noqa: BLE001 - carried to whoever asks for the result
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, daemon=True, name=name).start()
    return future


def run_coroutine(coroutine: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run a coroutine function to its end from sync code, also if this thread has a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine())
    return _in_thread(lambda: asyncio.run(coroutine()), contextvars.copy_context(), "rlm-coroutine").result()


@dataclass(frozen=True, slots=True)
class Started(Generic[T]):
    """A body that was started and runs independently.

    Attributes:
        future: gets the result or the exception.
        cancel: cancels it, from any thread. On an event loop it ends; in a thread it continues, and its result is
            dropped.
    """

    future: Future[T]
    cancel: Callable[[], object]


Starter: TypeAlias = "Callable[[Steps[Any]], Started[Any]]"
"""Starts a generator body in the background, from any thread."""


def starter() -> Wait:
    """Returns the `Starter` for the waiting code: it uses tasks of the event loop, or daemon threads."""

    async def arun() -> Starter:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        return lambda work: _start_task(work, loop, context)

    def run() -> Starter:
        context = contextvars.copy_context()
        return lambda work: _start_thread(work, context)

    return Wait(run, arun)


def _start_task(work: Steps[T], loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> Started[T]:
    task = adrive(work)
    try:
        future = context.copy().run(asyncio.run_coroutine_threadsafe, task, loop)
    except RuntimeError as error:  # the loop is closed
        task.close()
        failed: Future[T] = Future()
        failed.set_exception(error)
        return Started(failed, failed.cancel)
    return Started(future, future.cancel)


def _start_thread(work: Steps[T], context: contextvars.Context) -> Started[T]:
    heard: Future[T] = Future()

    def pass_on(done: Future[T]) -> None:
        if heard.set_running_or_notify_cancel():
            error = done.exception()
            heard.set_result(done.result()) if error is None else heard.set_exception(error)

    _in_thread(lambda: drive(work), context.copy(), "rlm-early").add_done_callback(pass_on)
    return Started(heard, heard.cancel)
