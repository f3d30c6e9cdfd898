"""Exceptions of this package.

A failure of the infrastructure is an exception, never an answer. A mistake of the model is an observation that the
model reads, never an exception. So each exception means a problem of the caller or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class RLMError(Exception):
    """Base class of all exceptions of this package. All of them can be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)


class InputError(RLMError, ValueError):
    """An argument, a file or an input cannot be used. The message names the value and says what to do."""


class MissingExtraError(RLMError, ImportError):
    """An optional dependency is not installed: the message names the extra to install."""


class ContentError(RLMError):
    """Stored content is missing, damaged or sealed, or the content store cannot be reached or is full.

    The message names the run and the key, but no path of this machine, because clients of a server may read it.
    """


class CheckpointError(RLMError):
    """Checkpoints of a thread are missing, or newer than this machine's clock. The message says what to do."""


class OutputError(RLMError):
    """Answers cannot be written: the disk is full, or the pipe is closed. Earlier answers are kept."""


class ThreadBusyError(RLMError):
    """Another call is already running this thread, in this or another process. The message names the thread."""


class LeaseLostError(ThreadBusyError):
    """Another call has taken over the thread of this call and continues it. Everything saved is kept."""


class SandboxError(RLMError):
    """The sandbox failed, not the code in it: it could not start, or sent invalid data."""


class IsolationError(SandboxError):
    """This machine does not have the required isolation."""


class ReplayDivergenceError(SandboxError):
    """A new worker that replayed a journal made other calls than the first worker."""


PERMANENT: Final = frozenset({"auth", "unknown_model", "address", "quota"})
"""Kinds of failures for which a retry cannot help: the key, the name, the address or the plan must be changed."""


class ModelCallError(RLMError):
    """A model call failed, after all retries. The message names the model, its role, its address and the remedy.

    Attributes:
        kind: ``rate_limit``, ``timeout``, ``server``, ``auth``, ``quota``, ``unknown_model``, ``address`` (no such
            server, or another kind of server), ``context_length``, ``refusal``, ``bad_request``, ``network`` or
            ``other``.
        retryable: whether the same call may succeed later.
        detail: message of the model's server.
        model: name of the model; None if the failure does not belong to a call.
        role: ``root LM`` or ``sub-LM``.
        address: the called address, if known.
        remedy: what to do.
        tries: number of attempts.
        usage: usage of the run, if the failure ended it.
    """

    def __init__(self, message: str, *, kind: str = "other", retryable: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.detail = message
        self.model: str | None = None
        self.role = ""
        self.address: str | None = None
        self.remedy = ""
        self.tries = 1
        self.usage: dict[str, Any] = {}

    @property
    def permanent(self) -> bool:
        """Whether every further call of this model would fail, too. Such a failure ends the run."""
        return self.kind in PERMANENT

    def __str__(self) -> str:
        if self.model is None:
            return self.detail
        place = f" at {self.address}" if self.address else ""
        tries = f" {self.tries} times" if self.tries > 1 else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.role} {self.model!r}{place} failed{tries} ({self.kind}): {self.detail}{remedy}"


class BudgetExceededError(RLMError):
    """A limit of the run does not allow the next call.

    Attributes:
        limit: the name of the field of ``Limits`` that was reached.
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class NoAnswerError(RLMError):
    """A run of a chat model ended without an answer.

    The message shows the start of the last reply, why an answer was refused, and what may help.

    Attributes:
        finish_reason: as in the graph's output: ``error``, ``max_iterations``, ``budget`` or ``timeout``.
        usage: usage of the run (``input_tokens``, ``output_tokens``, ``cost``, ``by_model``, ...).
    """

    def __init__(self, message: str, *, finish_reason: str, usage: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.finish_reason = finish_reason
        self.usage = dict(usage or {})


def _again(kind: type[RLMError], args: tuple[Any, ...], attributes: dict[str, Any]) -> RLMError:
    """Make an unpickled exception without ``__init__``, which may need more arguments."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
