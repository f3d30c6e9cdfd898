# ruff: noqa: RUF001 - the characters that models write are the subject
"""Classify text around code: whether it is prose, takes something back, refuses, or states an answer."""

from __future__ import annotations

import re
from typing import Final

from rlm_adapters.replies.syntax import Syntax, acts

_ANSWER_TAG: Final = re.compile(r"<(answer|response|final_answer|final|result|output)>")
_TAKEN_BACK: Final = re.compile(
    r"^[ \t>*_-]*(?:but[ ,]+|oh[ ,]+|no[ ,]+|hold on[ ,]*)?(?:wait|hmm+)\b(?! for\b| until\b)"
    r"|\bthat(?:'s|’s| is| was| seems| looks) (?:wrong|incorrect|not right|not correct|a mistake)\b"
    r"|\b(?:i|we|still|but|first) (?:(?:still|also|first) )?needs? to (?:double[- ]?|re-?)?(?:check|verify)\b",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSES: Final = re.compile(
    r"\s*+(?:i['’]?m sorry|sorry|i apologi[sz]e|unfortunately)?[,. ]*+(?:but )?i(?:['’]?m| am)? ?"
    r"(?:not able to|unable to|can(?:no|['’])t|cannot|won['’]t|will not|must decline|have to decline)"
    r" (?:help|assist|comply|provide|do that|do this|fulfil|continue|engage|analy|process|share|answer|support)",
    re.IGNORECASE,
)
_ANNOUNCES: Final = re.compile(
    r"(?:(?:ok(?:ay)?|sure|alright|right|great|certainly|of course|now|first|next|then|so|yes)\b[,.!: ]*)*"
    r"(?:let(?:['’]s| me| us)\b|(?:i|we)(?:['’]ll|['’]d|['’]m going| will| would| shall| should| need| have to| must"
    r"| am going| are going| want to| can (?:now |then )?(?:look|search|check|read|start|begin|use|run|write))\b"
    r"|to (?:answer|find|solve|determine|do) (?:this|that|the|it|out)\b|(?:my|the) plan\b|plan:|step (?:1|one)\b"
    r"|here(?:['’]s| is) (?:my|the|a) (?:plan|approach|code)\b)",
    re.IGNORECASE,
)
_SAID: Final = re.compile(
    r"(?:\bfinal answer(?: is| would be)?|\banswer is|\bthe answer(?: would be)?:|^answer:)[ \t:*_]*"
    r"(?P<said>\S[^\n]{0,2000})",
    re.IGNORECASE | re.MULTILINE,
)
_WORDS: Final = re.compile(r"[\s>*#\d.)-]*[^\W\d_]['’\w-]*(?:,? [^\W\d_]['’\w-]*){2,}")
_CODE_SIGNS: Final = re.compile(
    r"^\s*(?:import |from \w+ import |def |class |for \w++(?>.*? in )[^:]*+:|if .*:$|while .*:$"
    r"|return\b|print\b|else:|try:|@)"
    r"|\w\(|\w\[|[\w\])] ?[+*/-]?=[^=]|[{}]"
)
_MAX_LINES: Final = 400
_MAX_SEARCHED: Final = 20_000


def is_prose(body: str, syntax: Syntax) -> bool:
    """Whether a text is prose and not broken code: no line of it looks like Python."""
    lines = [line for line in body.split("\n") if line.strip()]
    if not lines or len(lines) > _MAX_LINES:
        return False
    wordy = 0
    for line in lines:
        sentence = _WORDS.match(line)
        signs = _CODE_SIGNS.search(line)
        if sentence and (not signs or len(sentence[0].split()) >= 5):
            wordy += 1
        elif signs or ((tree := syntax.tree(line.strip())) is not None and acts(tree)):
            return False
    return wordy * 2 >= len(lines)


def takes_back(text: str) -> bool:
    """Whether the text after a finish takes it back. A remark ("the text actually spells it ...") does not."""
    return _TAKEN_BACK.search(text[:_MAX_SEARCHED]) is not None


def announces(text: str) -> bool:
    """Whether the text says what the model will do, or asks something, instead of giving a result."""
    stripped = text.strip(' \t\n*_>#"“`-')
    return _ANNOUNCES.match(stripped) is not None or stripped.endswith(("?", "？", ":"))


def declines(text: str) -> bool:
    """Whether a paragraph near the beginning is a refusal."""
    paragraphs = re.split(r"\n[ \t]*\n", text[:_MAX_SEARCHED])[:3]
    return any(_REFUSES.match(paragraph) for paragraph in paragraphs)


def without_answer_tag(text: str) -> str:
    """The text without a tag like ``<answer>`` around all of it."""
    stripped = text.strip()
    tagged = _ANSWER_TAG.match(stripped)
    if tagged and stripped.endswith(f"</{tagged[1]}>"):
        return stripped[tagged.end() : -len(tagged[0]) - 1].strip()
    return text


def stated_answer(text: str, prose: str) -> str | None:
    """An answer in a box, in a tag, or after "the final answer is". It is not a finish, but may be right."""
    boxed = _boxed(text)
    if boxed:
        return boxed
    if tagged := _ANSWER_TAG.search(text):
        close = text.rfind(f"</{tagged[1]}>")
        return text[tagged.end() : close].strip() or None if close > 0 else None
    said = None
    for said in _SAID.finditer(prose):  # noqa: B007 - the last one is wanted
        pass
    return said["said"].strip(" *_`").removesuffix(".") or None if said else None


def _boxed(text: str) -> str | None:
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth = 0
    for at in range(start + 6, min(len(text), start + 4000)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + 7 : at].strip() or None
    return None
