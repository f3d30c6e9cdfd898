"""The replies of the corpora are read as expected."""

from __future__ import annotations

import pytest

from tests.replies.corpus import as_expected, count, load, read


@pytest.mark.parametrize(("corpus", "size"), [("replies.json", 114), ("replies_own.json", 140)])
def test_every_reply_of_a_corpus_is_read_as_expected(corpus: str, size: int) -> None:
    good, total, others = count(corpus)
    print(f"{good} of {total} read as expected")
    assert (good, total, others) == (size, size, [])


@pytest.mark.parametrize("sample", load("replies.json") + load("replies_own.json"), ids=lambda s: s["id"])
def test_a_reply_is_read_as_expected(sample: dict) -> None:
    assert as_expected(read(sample), sample), read(sample)
