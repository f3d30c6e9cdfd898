"""The replies of the corpora are read as expected."""

from __future__ import annotations

import pytest

from tests.replies.corpus import as_expected, count, load, read


def test_every_reply_of_the_corpus_is_read_as_expected() -> None:
    good, total, others = count("replies.json")
    print(f"{good} of {total} read as expected")
    assert (good, total, others) == (114, 114, [])


@pytest.mark.parametrize("sample", load("replies.json"), ids=lambda s: s["id"])
def test_a_reply_is_read_as_expected(sample: dict) -> None:
    assert as_expected(read(sample), sample), read(sample)
