"""`RestrictedPythonInterpreter`: the sandbox of this package as a dspy ``CodeInterpreter``.

    dspy.configure(interpreter_factory=RestrictedPythonInterpreter)      # for every RLM, CodeAct, ProgramOfThought
    dspy.RLM("context, query -> answer", interpreter_factory=RestrictedPythonInterpreter)

It starts in milliseconds, without Deno, in a confined process. `rlm_adapters.RLM` uses the sandbox directly and has
also suspended cells, recursion and checkpoints.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import keyword
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, NoReturn, Self

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput
from dspy.utils.callback import BaseCallback, with_callbacks
from pydantic_core import PydanticSerializationError

from rlm_adapters.dspy.echo import ECHO, with_echo, without_echo
from rlm_adapters.dspy.inputs import to_repl
from rlm_adapters.dspy.runtime import default_sandbox
from rlm_adapters.dspy.signatures import check_facade_call
from rlm_adapters.dspy.sub_agents import STAND_IN, names_dspy, sandbox_name
from rlm_adapters.effects import Wait, drive, run_coroutine
from rlm_adapters.errors import InputError, SandboxError
from rlm_adapters.prompts.dspy_private import HOST_TOKEN_VAR
from rlm_adapters.prompts.rules import EXECUTION_INSTRUCTIONS
from rlm_adapters.sandbox import Answer, Done, Failure, HostCall, HostFunction, Pending, Sandbox, Session, Value
from rlm_adapters.values.answers import to_plain

_FETCH: Final = "_host_variable"
"""Function that gives a cell a variable which was added after the session was opened."""
_RESERVED: Final = frozenset({"SUBMIT", "__builtins__", _FETCH})
_PURE: Final = frozenset({"llm_query"})
"""Tools that only call a model. The calls of a loop are made together."""
_MAX_CONCURRENT: Final = 32


class RestrictedPythonInterpreter:
    """Runs Python in a confined worker process. Variables stay from one execution to the next.

    A variable is sent to the worker if it is new, or if its value has changed since the last execution. Otherwise the
    worker keeps the value that the code has assigned to the name.

    Args:
        tools: host functions by name, sync or async, called by position or keyword. Arguments and results are JSON
            values; pydantic models and dataclasses become dicts.
        output_fields: fields of ``SUBMIT``: dicts with ``name`` and optionally ``type``.
        execution_timeout: seconds for one execution, with host tools. After this time the session ends. None: only the
            limits of the sandbox; when one is reached, the session continues without the effects of that execution.
        sandbox: starts the worker; default: one sandbox for the process.
        callbacks: DSPy callback handlers of this interpreter.

    Raises:
        ValueError: a name or the time-out is wrong.
    """

    execution_instructions = EXECUTION_INSTRUCTIONS

    def __init__(
        self,
        tools: dict[str, Callable[..., Any]] | None = None,
        output_fields: list[dict[str, Any]] | None = None,
        *,
        execution_timeout: float | None = None,
        sandbox: Sandbox | None = None,
        callbacks: list[BaseCallback] | None = None,
    ) -> None:
        if execution_timeout is not None and execution_timeout <= 0:
            raise ValueError(f"execution_timeout={execution_timeout!r}: give seconds above 0, or None")
        self.tools = dict(tools or {})
        self.output_fields = None if output_fields is None else [dict(field) for field in output_fields]
        _check_tools(self.tools)
        _check_fields(self.output_fields)
        self.execution_timeout = execution_timeout
        self.callbacks = list(callbacks or [])
        self._sandbox = sandbox
        self._session: Session | None = None
        self._offered: dict[str, HostFunction] = {}
        self._fields: tuple[str, ...] | None = None
        self._first: dict[str, Any] = {}
        self._given: dict[str, Any] = {}
        self._fetchable: dict[str, Any] = {}
        self._facade: Literal["none", "wanted", "there"] = "none"
        self._ended = False
        self._busy = threading.Lock()

    # -- dspy's protocol

    @with_callbacks  # type: ignore[untyped-decorator]
    def start(self) -> None:
        """Prepare workers. The session opens with the first execution, when its variables are known.

        Raises:
            CodeInterpreterError: the interpreter was shut down, or the sandbox cannot start.
        """
        self._check_alive()
        if self._session is None:
            try:
                _ = (self._sandbox or default_sandbox()).report
            except SandboxError as error:
                self._end(str(error), error)

    @with_callbacks  # type: ignore[untyped-decorator]
    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run code.

        Args:
            code: Python source.
            variables: values by name: JSON values, bytes, pydantic models.

        Returns:
            `FinalOutput` if the code called SUBMIT; else the value of its last expression, if it is not None; else its
            output; None if there is none.

        Raises:
            SyntaxError: the code is not Python.
            CodeExecutionError: the code failed, or a sandbox limit stopped it. The session continues.
            CodeInterpreterError: the interpreter failed, took too long or was shut down. The session has ended.
            ValueError: the name of a tool or field cannot be used.
        """
        if not self._busy.acquire(blocking=False):
            raise CodeInterpreterError(
                "the interpreter is running other code: it cannot execute recursively; use one for each thread"
            )
        try:
            return self._execute(code, variables or {})
        finally:
            self._busy.release()

    @with_callbacks  # type: ignore[untyped-decorator]
    def invoke_tool(self, tool_name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a host tool, sync or async.

        Raises:
            CodeInterpreterError: there is no tool of this name any more.
        """
        tool = self.tools.get(tool_name)
        if tool is None:
            raise CodeInterpreterError(f"Unknown tool: {tool_name}")
        custom_types = getattr(getattr(tool, "__self__", None), "_custom_types", None) or ()
        check_facade_call(tool_name, args, kwargs, custom_types)
        positional, named = _by_name(tool, args, kwargs)
        result = tool(*positional, **named)
        return run_coroutine(lambda: _awaited(result)) if inspect.isawaitable(result) else result

    @with_callbacks  # type: ignore[untyped-decorator]
    def shutdown(self) -> None:
        """End the worker. Can be called twice."""
        self._ended = True
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __call__(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """`execute`."""
        return self.execute(code, variables)

    # -- one execution

    def _execute(self, code: str, variables: Mapping[str, Any]) -> Any:
        _check_tools(self.tools)
        _check_fields(self.output_fields)
        if HOST_TOKEN_VAR in variables:  # DSPy's facade for `import dspy`; ours is added when code first uses the name
            self._facade = "wanted"
            return None
        if not isinstance(code, str):
            raise CodeInterpreterError(f"code must be a string, not {type(code).__name__}")
        _check_variables(variables, self.tools)
        if self._session is None:
            self.start()
        try:
            session = self._ready(variables)
            # The time to open the session does not count.
            deadline = None if self.execution_timeout is None else time.monotonic() + self.execution_timeout
            self._hand_over(session, variables, deadline)
            self._offer_dspy(session, code, deadline)
            done = self._run(session, with_echo(code), deadline)
        except (SandboxError, InputError) as error:
            self._end(f"the sandbox failed: {error}", error)
        return self._outcome(done)

    def _ready(self, variables: Mapping[str, Any]) -> Session:
        """The session with the current tools and fields. If the tools have changed, it is opened again and replayed."""
        functions = {name: _describe(sandbox_name(name), tool) for name, tool in self.tools.items()}
        fields = None if self.output_fields is None else tuple(field["name"] for field in self.output_fields)
        if self._session is not None and functions.items() <= self._offered.items() and fields == self._fields:
            return self._session
        journal = () if self._session is None else self._session.journal
        if self._session is not None:
            self._session.close()
        else:
            self._given = dict(variables)
            self._fetchable = {name: _plain(name, value) for name, value in variables.items()}
            self._first = dict(self._fetchable)
        self._offered |= functions
        self._fields = fields
        fetch = HostFunction(name=_FETCH, parameters=("name",))
        self._session = (self._sandbox or default_sandbox()).open(
            variables=self._first,
            functions=[fetch, *self._offered.values()],
            output_fields=fields,
            journal=journal,
        )
        return self._session

    def _hand_over(self, session: Session, variables: Mapping[str, Any], deadline: float | None) -> None:
        """Set new and changed variables, with a separate cell."""
        changed = [name for name, value in variables.items() if not _same(self._given.get(name, _FETCH), value)]
        if not changed:
            return
        self._given |= {name: variables[name] for name in changed}
        self._fetchable |= {name: _plain(name, variables[name]) for name in changed}
        done = self._run(session, "\n".join(f"{name} = {_FETCH}({name!r})" for name in changed), deadline)
        if done.error is not None:
            raise SandboxError(f"the variables {changed} could not be set in the sandbox: {done.error.message}")

    def _offer_dspy(self, session: Session, code: str, deadline: float | None) -> None:
        """Define the stand-in for the ``dspy`` module in the session, when code first uses the name."""
        if self._facade != "wanted" or not names_dspy(code):
            return
        done = self._run(session, STAND_IN, deadline)
        if done.error is not None:
            raise SandboxError(f"the dspy module of the sandbox could not be set up: {done.error.message}")
        self._facade = "there"

    def _run(self, session: Session, code: str, deadline: float | None) -> Done:
        step = self._within(deadline, lambda: session.start(code))
        while isinstance(step, Pending):
            calls = step.calls
            answers = self._within(deadline, lambda: self._answer(calls))  # noqa: B023 - called at once
            step = self._within(deadline, lambda: session.resume(answers))  # noqa: B023 - called at once
        done: Done = step
        return done

    def _within(self, deadline: float | None, work: Callable[[], Any]) -> Any:
        """Do some work until the deadline. After it, the work is not waited for."""
        if deadline is None:
            return work()

        def steps() -> Generator[Wait, Any, Any]:
            return (yield Wait(work, _never, max(0.001, deadline - time.monotonic())))

        try:
            return drive(steps())
        except TimeoutError as error:
            self._end(f"the code exceeded execution timeout of {self.execution_timeout:g} seconds", error)

    def _answer(self, calls: Sequence[HostCall]) -> dict[str, Answer]:
        """Call the tools. Calls of a batch, or found by run-ahead, run at the same time."""
        if len(calls) == 1:
            return {calls[0].id: self._answer_one(calls[0])}
        with ThreadPoolExecutor(min(len(calls), _MAX_CONCURRENT), "rlm-tool") as pool:
            futures = {call.id: pool.submit(contextvars.copy_context().run, self._answer_one, call) for call in calls}
            return {key: future.result() for key, future in futures.items()}

    def _answer_one(self, call: HostCall) -> Answer:
        if call.function == _FETCH:
            return Value(self._fetchable[call.args[0]])
        try:
            name = next((name for name in self.tools if sandbox_name(name) == call.function), call.function)
            return Value(_result(self.invoke_tool(name, list(call.args), dict(call.kwargs))))
        except Exception as error:  # noqa: BLE001 - a failing tool is the code's to handle
            return Failure(f"{type(error).__name__}: {error}")

    def _outcome(self, done: Done) -> Any:
        final = done.final
        if final is not None and isinstance(final.value, dict) and set(final.value) == {ECHO}:
            value = final.value[ECHO]
            return value if value is not None else _printed(done)
        if final is not None:
            return FinalOutput(final.value if final.fields else self._named(final.value))
        error = done.error
        if error is None:
            return _printed(done)
        if error.kind == "syntax":
            raise SyntaxError(f"Invalid Python syntax. message: {error.message}")
        text = without_echo(error.traceback) or f"{error.type}: {error.message}"
        printed = _printed(done)
        raise CodeExecutionError(f"{text}\nPrinted before that:\n{printed}" if printed else text)

    def _named(self, value: Any) -> Any:
        """A single value as the dict of fields that DSPy expects."""
        if self._fields is None:
            return {"output": value}
        if len(self._fields) == 1 and not (isinstance(value, dict) and self._fields[0] in value):
            return {self._fields[0]: value}
        return value

    def _check_alive(self) -> None:
        if self._ended:
            raise CodeInterpreterError("the interpreter has been shut down and its session has ended: make a new one")

    def _end(self, message: str, cause: BaseException) -> NoReturn:
        """End the session with an error."""
        self.shutdown()
        raise CodeInterpreterError(message) from cause


# ------------------------------------------------------------------------------------------------ checks


def _usable(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and name not in _RESERVED


def _check_tools(tools: Mapping[str, Any]) -> None:
    invalid = [name for name in tools if not _usable(name)]
    if invalid:
        raise ValueError(f"tools need names that are Python identifiers and not reserved; invalid names: {invalid!r}")


def _check_fields(fields: Sequence[Mapping[str, Any]] | None) -> None:
    names = [field.get("name") for field in fields or ()]
    if not all(map(_usable, names)) or len(names) != len(set(names)):
        raise ValueError(f"output fields need different names that are Python identifiers; invalid names: {names!r}")


def _check_variables(variables: Mapping[str, Any], tools: Mapping[str, Any]) -> None:
    invalid = [name for name in variables if not _usable(name) or name in tools]
    if invalid:
        raise CodeInterpreterError(
            f"Invalid variable name {invalid[0]!r}: give Python identifiers, not reserved and not those of tools; "
            f"invalid names: {invalid!r}"
        )


def _plain(name: str, value: Any) -> Any:
    try:
        return to_repl(name, value)
    except PydanticSerializationError as error:
        reason = f"Unable to serialize {type(value).__name__} as JSON: {error}"
        raise CodeInterpreterError(f"the variable {name!r} cannot be set in the sandbox: {reason}") from error
    except InputError as error:
        raise CodeInterpreterError(f"the variable {name!r} cannot be set in the sandbox: {error}") from error


def _same(left: Any, right: Any) -> bool:
    """Whether a variable still has the value that was sent. False if this is not certain."""
    if left is right:
        return True
    try:
        return type(left) is type(right) and bool(left == right)
    except Exception:  # noqa: BLE001 - comparing is the value's own code
        return False


def _result(value: Any) -> Any:
    """A tool's result for the code. A named tuple keeps its names.

    Raises:
        CodeInterpreterError: it cannot be converted to JSON.
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _result(item) for name, item in value._asdict().items()}
    try:
        return to_plain(value)
    except PydanticSerializationError as error:
        raise CodeInterpreterError(f"Unable to serialize {type(value).__name__} as JSON: {error}") from error


def _describe(name: str, tool: Callable[..., Any]) -> HostFunction:
    doc = (inspect.getdoc(tool) or "").partition("\n")[0]
    if name in _PURE:
        return HostFunction(name=name, effects=False, parameters=("prompt",), doc=doc)
    return HostFunction(name=name, doc=doc)


def _by_name(
    tool: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Positional arguments as keyword arguments, if the tool names them: dspy.RLM's tools accept only these."""
    try:
        parameters = list(inspect.signature(tool).parameters.values())[: len(args)]
    except (TypeError, ValueError):
        return args, kwargs
    if len(parameters) < len(args) or any(one.kind is not one.POSITIONAL_OR_KEYWORD for one in parameters):
        return args, kwargs
    names = [one.name for one in parameters]
    if set(names) & set(kwargs):
        return args, kwargs  # given twice: the tool raises an error
    return (), {**dict(zip(names, args, strict=True)), **kwargs}


def _printed(done: Done) -> str | None:
    return done.stdout.rstrip("\n") or None


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


async def _never() -> None:
    await asyncio.Event().wait()
