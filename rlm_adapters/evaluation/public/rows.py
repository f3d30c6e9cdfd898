"""Rows of a file: JSON lines, a JSON list, or parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError, MissingExtraError
from rlm_adapters.values.lines import json_object

_SUFFIXES: Final = (".jsonl", ".json", ".parquet")


def rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows with their places, from a file or from all files under a folder, sorted by name.

    Raises:
        InputError: a file cannot be read, or is in another form.
        MissingExtraError: a parquet file needs polars.
    """
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
        if not files:
            raise InputError(f"{path} has no file that ends in {', '.join(_SUFFIXES)}")
        for one in files:
            yield from rows(one)
        return
    read = {".json": _list, ".parquet": _parquet}.get(path.suffix, _lines)
    try:
        yield from read(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file that can be read") from error


def field(row: Mapping[str, Any], place: str, *names: str) -> Any:
    """The first of these fields that a row has.

    Raises:
        InputError: the row has none of them.
    """
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise InputError(
        f"{place} has no {' or '.join(names)}: give the file in its published form (it has {sorted(row)[:12]})"
    )


def text(row: Mapping[str, Any], place: str, *names: str) -> str:
    """A field with a text.

    Raises:
        InputError: it is missing, or not a text.
    """
    value = field(row, place, *names)
    if not isinstance(value, str):
        raise InputError(f"{place}: {names[0]}={str(value)[:80]!r} is not a text: give the file in its published form")
    return value


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"{path}, line {number}"
                yield place, json_object(line, place, what="row", remedy="give the file in its published form")


def _list(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): give the file in its published form") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{path} is not a list of objects: give the file in its published form")
    yield from ((f"{path}, row {number}", one) for number, one in enumerate(found, 1))


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import polars  # noqa: ICN001, PLC0415 - not needed for other forms
    except ImportError as error:
        raise MissingExtraError(f"{path} needs polars: pip install polars") from error
    found = polars.read_parquet(path).iter_rows(named=True)
    yield from ((f"{path}, row {number}", one) for number, one in enumerate(found, 1))
