"""What kind of failure a client's exception is."""

from __future__ import annotations

import pytest

from rlm_adapters.models.failures import classify
from rlm_adapters.models.provider_errors import chain, network_error, never_connected


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


def raised(*, suppress):
    try:
        try:
            raise ConnectionRefusedError(111, "Connect call failed")
        except OSError as error:
            if suppress:
                raise ValueError("wrapped") from None
            raise KeyError("wrapped") from error
    except (ValueError, KeyError):
        raise RuntimeError("Connection error.")  # noqa: B904 - as some clients do


@pytest.mark.parametrize("suppress", [False, True])
def test_what_the_operating_system_said_is_found_whichever_way_a_client_wraps_it(suppress):
    with pytest.raises(RuntimeError) as error:
        raised(suppress=suppress)
    assert network_error(error.value) == "Connect call failed"
    assert never_connected(error.value)
    assert classify(error.value).kind == "network"


def test_a_chain_of_exceptions_that_goes_in_a_circle_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    assert list(chain(first)) == [first, second]
    assert network_error(first) is None
