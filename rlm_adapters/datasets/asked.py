"""Save the question and settings next to the file of answers. A file never has answers to two questions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError

_FORM: Final = 1
_SHOWN: Final = 60  # characters of each of two values in an error
_SAME: Final = 20  # characters before the difference


def path_beside(answers: Path) -> Path:
    """The path of this file."""
    return answers.with_name(f"{answers.name}.asked")


def write_asked(answers: Path, asked: Mapping[str, Any]) -> None:
    """Write the file, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = path_beside(answers)
    partial = path.with_name(f".{path.name}.part")
    text = json.dumps({"form": _FORM, **asked}, indent=2, default=str)
    with partial.open("wb") as file:
        file.write(f"{text}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def check_asked(answers: Path, asked: Mapping[str, Any]) -> None:
    """Check that a file of answers was started with the same question and settings.

    Raises:
        InputError: it was not, or this is not known.
    """
    path = path_beside(answers)
    remedy = "give another file for the answers"
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{answers} is not empty, and there is no {path.name} next to it: {remedy}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): {remedy}") from None
    now = json.loads(json.dumps({"form": _FORM, **asked}, default=str))
    if not isinstance(before, dict):
        raise InputError(f"{path} was not written by rlm map: {remedy}")
    for key in dict.fromkeys((*now, *before)):
        if before.get(key) != now.get(key):
            first, second = _shown(before.get(key), now.get(key))
            name = key.replace("_", " ")
            raise InputError(f"{answers} was started with the {name} {first}, and now it is {second}: {remedy}")


def _shown(first: Any, second: Any) -> tuple[str, str]:
    """Two values, each from a little before the difference."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in (first, second)]
    same = next((place for place, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
    start = max(0, same - _SAME) if max(map(len, texts)) > _SHOWN else 0
    return tuple(  # type: ignore[return-value] # two
        repr(("..." if start else "") + text[start : start + _SHOWN] + ("..." if text[start + _SHOWN :] else ""))
        for text in texts
    )
