"""Use any dspy CodeInterpreter as the executor of the graph.

It runs a cell to its end in one call and calls tools itself. So a cell never suspends, there is no run-ahead, and a run
cannot be rebuilt from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreter, FinalOutput
from dspy.utils.exceptions import format_error_for_lm

from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox import Answer, CellError, CellRecord, Done, Final, Pending
from rlm_adapters.values.answers import to_plain


class InterpreterSandbox:
    """One interpreter instead of a `Sandbox`, for one call of the module.

    Args:
        interpreter: with its tools; the code that made it shuts it down.
        variables: passed to it with every cell, as in dspy.RLM.
    """

    def __init__(self, interpreter: CodeInterpreter, variables: Mapping[str, Any]) -> None:
        self._interpreter = interpreter
        self._variables = dict(variables)

    def open(self, *, journal: Sequence[CellRecord] = (), **_: Any) -> InterpreterSession:
        """The session. The interpreter already has its inputs and functions."""
        if journal:
            raise SandboxError(
                f"a run on {type(self._interpreter).__name__} cannot be resumed: leave interpreter_factory out to use "
                "the sandbox of this package, which can"
            )
        return InterpreterSession(self._interpreter, self._variables)

    def thread_pool(self) -> Executor:
        """An executor that opens the session in the calling thread, because this does not block."""
        return _Here()


class _Here(Executor):
    """Runs submitted work at once, in the submitting thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it, and return a finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised again by whoever asks for the result
            future.set_exception(error)
        return future


class InterpreterSession:
    """A session that runs cells with ``interpreter.execute``.

    The async form runs in the event loop's thread, as in dspy.RLM, because an interpreter may belong to one thread.
    """

    def __init__(self, interpreter: CodeInterpreter, variables: Mapping[str, Any]) -> None:
        self._interpreter = interpreter
        self._variables = variables
        self._records: list[CellRecord] = []
        self.closed = False

    @property
    def journal(self) -> tuple[CellRecord, ...]:
        """The finished cells."""
        return tuple(self._records)

    def start(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:  # noqa: ARG002
        """Run a cell to its end.

        Raises:
            CodeInterpreterError: the interpreter itself failed.
        """
        try:
            result = self._interpreter.execute(code, variables=dict(self._variables))
        except (CodeExecutionError, SyntaxError) as error:
            message = format_error_for_lm(error)
            kind = "syntax" if isinstance(error, SyntaxError) else "exception"
            done = Done("", error=CellError(kind, type(error).__name__, message, traceback=message))
        else:
            done = _done(result)
        self._records.append(CellRecord(code))
        return done

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """Run a cell to its end."""
        return self.start(code, answers=answers)

    def resume(self, answers: Mapping[str, Answer]) -> Pending | Done:  # noqa: ARG002
        """Not possible: a cell never waits."""
        raise SandboxError("a cell of a caller's interpreter never waits for answers")

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """Not possible: a cell never waits."""
        return self.resume(answers)

    def kill(self) -> None:
        """Does nothing: the interpreter belongs to the caller."""

    def close(self) -> None:
        """End the session. The caller shuts the interpreter down."""
        self.closed = True


def _done(result: Any) -> Done:
    """The end of a cell, from the result of ``execute``."""
    if isinstance(result, FinalOutput):
        return Done("", final=Final("SUBMIT", to_plain(result.output), fields=isinstance(result.output, Mapping)))
    text = "\n".join(map(str, result)) if isinstance(result, list) else str(result) if result else ""
    return Done(text, stdout_chars=len(text))
