"""Exceptions of a cell for a failed call."""

from __future__ import annotations

from typing import NoReturn


class SubCallError(RuntimeError):
    """A sub-call failed, after all retries. It is a RuntimeError, as in other REPLs for LMs.

    Attributes:
        kind: ``rate_limit``, ``timeout``, ``server``, ``auth``, ``context_length``, ``refusal``, ``budget``, ...
        retryable: whether the same call may succeed later.
    """

    def __init__(self, message: str = "", kind: str = "other", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.retryable = retryable

    def __bool__(self) -> bool:
        return False


class ToolError(SubCallError):
    """A tool failed."""


class FailedAnswer(SubCallError):  # noqa: N818 - it is an answer that is an error
    """A missing answer in a batch. It is falsy, and cannot be used as text.

    Otherwise the message of an error could be joined into a prompt and be read as an answer of the model.
    """

    def refuse(self, *_args: object) -> NoReturn:
        """Raise the failure of the call."""
        raise SubCallError(self.message, self.kind, self.retryable)

    __str__ = __format__ = __len__ = __iter__ = __getitem__ = __contains__ = refuse
    __add__ = __radd__ = __mod__ = __mul__ = refuse

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(str, name) and not name.startswith("_"):
            self.refuse()
        raise AttributeError(f"'SubCallError' object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"SubCallError({self.message!r}, kind={self.kind!r})"
