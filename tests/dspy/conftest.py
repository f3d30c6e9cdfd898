"""Every test has DSPy settings and a cache of its own."""

from collections.abc import Iterator

import dspy
import pytest


@pytest.fixture(autouse=True)
def own_lm() -> Iterator[None]:
    """What a test or an example configures as the LM of the process ends with the test."""
    before = dspy.settings.lm
    yield
    if dspy.settings.lm is not before:
        dspy.configure(lm=before)


@pytest.fixture(autouse=True)
def own_cache() -> Iterator[None]:
    """Answers of earlier runs must not reach a test through DSPy's cache on disk."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    yield
    dspy.cache = before
