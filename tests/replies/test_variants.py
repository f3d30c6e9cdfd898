"""What stands around a reply does not change how it is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.replies.corpus import as_expected, load, read

VARIANTS: dict[str, Callable[[str], str]] = {
    "CRLF": lambda raw: raw.replace("\r\n", "\n").replace("\n", "\r\n"),
    "blank lines": lambda raw: f"\n\n{raw}\n\n\n",
    "a thought before": lambda raw: (
        f"<think>\nPerhaps\n```python\nprint(context)\n```\nor\nFINAL(7)?\n</think>\n\n{raw}"
    ),
    "a thought with an open fence before": lambda raw: (
        f"<think>\nOr\n```python\nprint(context)\nno.\n</think>\n\n{raw}"
    ),
    "a stray close before": lambda raw: f"I could say\nFINAL(7)\nbut no.\n</think>\n\n{raw}",
    "a stray close after a fence before": lambda raw: f"Or run\n```python\nprint(context)\n```\nno.\n</think>\n{raw}",
    "an end token after": lambda raw: f"{raw}<|im_end|>",
    "an end of sequence after": lambda raw: f"{raw}</s>",
    "a turn in tokens after": lambda raw: (
        f"{raw}<|im_end|>\n<|im_start|>user\nok<|im_end|>\n<|im_start|>assistant\nFINAL(99)<|im_end|>"
    ),
    "a turn in words after": lambda raw: f"{raw}\n\nUser: Thanks, go on.\n\nAssistant: FINAL(99)",
    "a turn with code after": lambda raw: f"{raw}\n\nHuman: And?\n\nAssistant: Sure.\n```python\nprint(1)\n```\n",
    "prose before": lambda raw: f"Let me think about what to do next.\n\n{raw}",
    "prose after": lambda raw: f"{raw}\n\nLet me know if this helps.",
    "prose around": lambda raw: f"Sure, here we go.\n\n{raw}\n\nI will look at the result next.",
}

# Code without any container ends where prose begins, so prose behind it makes it a guess.
BARE = {"020-no-fence", "own-052-opening-eaten", "own-072-bare-def", "own-073-bare-with-finish"}
# These are what they are only from their first character on.
FROM_THE_START = {"own-012-harmony-words", "own-014-llama-header", "own-052-opening-eaten"}
EXCEPTIONS = {
    "prose after": BARE,
    "prose before": FROM_THE_START,
    "prose around": BARE | FROM_THE_START,
    "a turn with code after": {"own-052-opening-eaten"},
    "a thought before": {"own-012-harmony-words"},
    "a thought with an open fence before": {"own-012-harmony-words"},
    "a stray close before": {"own-012-harmony-words"},
    "a stray close after a fence before": {"own-012-harmony-words"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("corpus", ["replies.json", "replies_own.json"])
def test_a_variant_is_read_like_the_reply(corpus: str, variant: str) -> None:
    change, exceptions = VARIANTS[variant], EXCEPTIONS.get(variant, set())
    others = [s["id"] for s in load(corpus) if not as_expected(read(s, change(s["raw"] or "")), s)]
    assert set(others) <= exceptions
