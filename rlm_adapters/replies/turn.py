"""Steps one and two: the assistant's own text, without chat template, Harmony channels and thoughts."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_adapters.replies.clean import is_blank, own_turn
from rlm_adapters.replies.finish_calls import FinishCalls
from rlm_adapters.replies.harmony import split_harmony
from rlm_adapters.replies.prose import without_answer_tag
from rlm_adapters.replies.thoughts import Spoken, drop_thoughts


@dataclass(frozen=True, slots=True)
class Turn:
    """The assistant's own turn."""

    text: str
    """The text outside thoughts."""
    thoughts: tuple[str, ...]
    calls: tuple[tuple[str, str], ...]
    """Recipient and body of each call on a Harmony channel."""
    unclosed: bool
    """A thought has no end, so there is no text."""
    only_thought: bool
    """The reply is not empty, but all of it is thought."""

    @classmethod
    def of(cls, text: str) -> Turn:
        """The turn in a raw reply whose line ends are normalised."""
        harmony = split_harmony(text)
        text = text if harmony is None else harmony.text
        spoken = _spoken(text)
        said = _without_tag_around_finish(spoken.text)
        return cls(
            text=said,
            thoughts=(*(() if harmony is None else (harmony.thought,)), spoken.thought),
            calls=() if harmony is None else harmony.calls,
            unclosed=spoken.unclosed,
            only_thought=is_blank(said) and not is_blank(text),
        )


def _spoken(text: str) -> Spoken:
    """The assistant's turn without its thoughts."""
    spoken = drop_thoughts(own_turn(text))
    said = own_turn(spoken.text)
    if is_blank(said) and not spoken.unclosed:  # the opening mark of the turn came after the thought
        said = own_turn(drop_thoughts(text).text)
    return Spoken(said, spoken.thought, spoken.unclosed)


def _without_tag_around_finish(text: str) -> str:
    """The text without a tag like ``<answer>`` around all of it, if there is a finish in the tag."""
    inner = without_answer_tag(text)
    return inner if FinishCalls(inner).opens(0) else text
