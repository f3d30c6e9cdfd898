"""What kind of failure a client's exception is."""

from __future__ import annotations

import pytest

from rlm_adapters.models.calling import classify


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (RuntimeError("Event loop is closed"), "network", True),  # of a connection from an earlier asyncio.run
        (RuntimeError("something else is closed"), "other", False),
        (ConnectionResetError("reset by peer"), "network", True),
        (TimeoutError(), "timeout", True),
        (ValueError("maximum context length is 8192 tokens"), "context_length", False),
    ],
)
def test_an_exception_is_classified(error, kind, retryable):
    failure = classify(error)
    assert (failure.kind, failure.retryable) == (kind, retryable)
