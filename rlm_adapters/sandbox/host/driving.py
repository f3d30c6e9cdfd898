"""Answer the calls of a cell with plain callables, for direct use of a session."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

from rlm_adapters.errors import InputError, ModelCallError
from rlm_adapters.sandbox.protocol.frames import to_plain
from rlm_adapters.sandbox.protocol.types import Answer, Failure, HostCall, HostFunction, Value

MAX_CONCURRENT_CALLS: Final = 32


def answer_calls(calls: Sequence[HostCall], callables: Mapping[str, Callable[..., Any]]) -> dict[str, Answer]:
    """Answer the calls. Calls of a batch run at the same time."""
    if len(calls) == 1:
        return {calls[0].id: answer_call(calls[0], callables)}
    with ThreadPoolExecutor(min(MAX_CONCURRENT_CALLS, len(calls)), "rlm-call") as pool:
        futures = [pool.submit(contextvars.copy_context().run, answer_call, call, callables) for call in calls]
        try:
            return {call.id: future.result() for call, future in zip(calls, futures, strict=True)}
        except BaseException:  # Ctrl-C: cancel calls that have not started
            pool.shutdown(wait=False, cancel_futures=True)
            raise


async def aanswer_calls(
    calls: Sequence[HostCall], callables: Mapping[str, Callable[..., Any]], pool: Executor
) -> dict[str, Answer]:
    """`answer_calls` on an event loop. Coroutine functions are awaited; others run in ``pool``."""
    slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS)

    async def answer(call: HostCall) -> Answer:
        async with slots:
            function = callables[call.function]
            if not inspect.iscoroutinefunction(function):
                run = contextvars.copy_context().run
                return await asyncio.get_running_loop().run_in_executor(pool, run, answer_call, call, callables)
            try:
                return Value(to_plain(await function(*call.args, **call.kwargs)))
            except Exception as error:  # noqa: BLE001 - a failing tool is the cell's to handle
                return _failure(error)

    answers = await asyncio.gather(*(answer(call) for call in calls))
    return {call.id: answer for call, answer in zip(calls, answers, strict=True)}


def answer_call(call: HostCall, callables: Mapping[str, Callable[..., Any]]) -> Answer:
    """The answer of the callable with this name. An exception becomes a `Failure`."""
    try:
        return Value(to_plain(callables[call.function](*call.args, **call.kwargs)))
    except Exception as error:  # noqa: BLE001 - a failing tool is the cell's to handle
        return _failure(error)


def _failure(error: Exception) -> Failure:
    if isinstance(error, ModelCallError):
        return Failure(str(error), kind=error.kind, retryable=error.retryable)
    return Failure(f"{type(error).__name__}: {error}")


def describe_functions(
    functions: Mapping[str, Callable[..., Any] | HostFunction] | Sequence[HostFunction],
) -> tuple[tuple[HostFunction, ...], dict[str, Callable[..., Any]]]:
    """The functions for cells, and the callables that answer them.

    Args:
        functions: descriptions, or callables by name. A value can also be a description, to offer a batch form:
            ``{"ask": f, "ask_all": HostFunction(name="ask_all", batch_of="ask")}``.

    Raises:
        InputError: A name is not an identifier, occurs twice, or its ``batch_of`` does not exist.
    """
    callables: dict[str, Callable[..., Any]] = {}
    described = []
    if isinstance(functions, Mapping):
        for name, function in functions.items():
            if isinstance(function, HostFunction):
                described.append(function)
            elif callable(function):
                callables[name] = function
                described.append(HostFunction(name=name, parameters=_parameters(function), doc=_first_line(function)))
            else:
                raise InputError(f"the function {name!r} is a {type(function).__name__}: give a callable")
    else:
        described = list(functions)
    names = [function.name for function in described]
    for function in described:
        if not function.name.isidentifier() or names.count(function.name) > 1:
            raise InputError(f"the function name {function.name!r} is not a Python identifier, or is given twice")
    return tuple(described), callables


def _parameters(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Parameter names of a function, with ``=`` after optional ones; None if they are not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY) for p in parameters):
        return None
    return tuple(p.name if p.default is p.empty else f"{p.name}=" for p in parameters)


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
