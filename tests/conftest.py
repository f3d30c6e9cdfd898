"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest

from tests.server import ModelServer


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A model server of its own for the test: give it scripts, point clients at ``model_server.url``."""
    with ModelServer() as server:
        yield server
