"""Exceptions of this package.

A failure of the infrastructure is an exception, never an answer; a mistake of the model is an observation
that the model reads, never an exception. So what is raised here concerns the caller or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RLMError(Exception):
    """Base of all exceptions that this package raises on purpose."""


class InputError(RLMError, ValueError):
    """The caller gave something unusable: the message names the value and the remedy."""


class MissingExtraError(RLMError, ImportError):
    """An optional dependency is not installed: the message names the extra to install."""


class ContentError(RLMError):
    """Stored content is missing, damaged or sealed, or the content store cannot be reached or is full.

    The message names the run and the key, and no path of this machine: clients of a server read it too.
    """


class SandboxError(RLMError):
    """The sandbox itself failed (not the code in it): it could not start, or answered nonsense."""


class IsolationError(SandboxError):
    """The isolation that was required cannot be had on this machine."""


class ReplayDivergenceError(SandboxError):
    """A journal replayed in a new worker did not ask for what the first worker had asked for."""


class ModelCallError(RLMError):
    """A model call failed for good, after the retries.

    Attributes:
        kind: ``rate_limit``, ``timeout``, ``server``, ``auth``, ``context_length``, ``refusal``, ``bad_request``,
            ``network`` or ``other``.
        retryable: whether the same call may succeed later.
    """

    def __init__(self, message: str, *, kind: str = "other", retryable: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable


class BudgetExceededError(RLMError):
    """A limit of the run does not allow the next call.

    Attributes:
        limit: the name of the field of ``Limits`` that was reached.
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class NoAnswerError(RLMError):
    """A run ended without an answer where the caller expects one (a chat model must answer or raise).

    Attributes:
        finish_reason: as in the graph's output: ``error``, ``max_iterations``, ``budget`` or ``timeout``.
        usage: what the run has used (``input_tokens``, ``output_tokens``, ``cost``, ``by_model``, ...).
    """

    def __init__(self, message: str, *, finish_reason: str, usage: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.finish_reason = finish_reason
        self.usage = dict(usage or {})
