"""One body for sync and async.

A piece of work that must wait (for a model, a worker, a slot, a child run) is written once, as a generator that
yields a `Wait` wherever it would block. `drive` runs it in the calling thread, `adrive` on the event loop. The
decisions are the same by construction; only the waiting differs. A body that hands over many things, one after the
other, yields each of them as an `Item` too, and is read as `Items`.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

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
        timeout: seconds after which ``TimeoutError`` is raised into the generator; None waits for ever. A blocking
            form that is given up goes on in a daemon thread until it returns by itself; its result is dropped.
    """

    run: Callable[[], Any]
    arun: Callable[[], Awaitable[Any]]
    timeout: float | None = None


def sleep(seconds: float) -> Wait:
    """Wait for some seconds."""
    return Wait(lambda: time.sleep(seconds), lambda: asyncio.sleep(seconds))


def wait_for_future(future: Future[Any], timeout: float | None = None) -> Wait:
    """Wait for a `concurrent.futures.Future` that somebody else completes; ``TimeoutError`` after some seconds."""

    async def arun() -> Any:
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(future)

    return Wait(lambda: future.result(timeout), arun)  # no thread is needed to give a future up


def off_loop(work: Callable[[], Any]) -> Wait:
    """Do something that may take long or touches files: in a thread, where there is an event loop to keep free."""
    return Wait(work, lambda: asyncio.to_thread(work))


def gather(works: Sequence[Steps[T]], threads: int) -> Wait:
    """Wait for several generator bodies that run at the same time; gives their results in order.

    The first one that raises ends the wait, and on the event loop the others with it.

    Args:
        works: the bodies.
        threads: how many of them run at once in the blocking form.
    """

    def run() -> list[T]:
        pool = ThreadPoolExecutor(min(threads, len(works)), thread_name_prefix="rlm-gather")
        try:
            futures = [pool.submit(contextvars.copy_context().run, drive, work) for work in works]
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for calls that are in flight

    async def arun() -> list[T]:
        tasks = [asyncio.ensure_future(adrive(work)) for work in works]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # those that are done do not mind

    return Wait(run, arun)


async def together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do several things at the same time; the first one that raises, or a cancellation, ends the others.

    It returns, or raises, when all have ended.
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
    """Something that a body hands over before it goes on."""

    value: T


@dataclass(frozen=True, slots=True)
class Items(Generic[T]):
    """What a body hands over, for sync and async readers; for one of them, once.

    Attributes:
        body: yields `Wait` and `Item`. It may yield `Wait` while it is closed.
        within: the body runs within this, and its reader does not.
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
    """Run a body until it hands something over; None at its end."""
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
    """End a body, waiting for what it does at its end."""
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
    """Run a blocking call in a daemon thread and give it up after ``timeout`` seconds."""
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
    """Run a coroutine function to its end from sync code, whether or not this thread has a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine())
    return _in_thread(lambda: asyncio.run(coroutine()), contextvars.copy_context(), "rlm-coroutine").result()


@dataclass(frozen=True, slots=True)
class Started(Generic[T]):
    """A body that was started and goes on by itself.

    Attributes:
        future: completed with what it returns or raises.
        cancel: gives it up, from any thread. On an event loop it ends; in a thread it goes on to its end, unheard.
    """

    future: Future[T]
    cancel: Callable[[], object]


Starter: TypeAlias = "Callable[[Steps[Any]], Started[Any]]"
"""Starts a generator body beside what is going on, from any thread."""


def starter() -> Wait:
    """Gives the `Starter` of where this is waited for: tasks of the event loop, or daemon threads."""

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
