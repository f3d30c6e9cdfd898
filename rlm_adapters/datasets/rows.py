"""Read the rows of a data set one after the other: JSON lines, a JSON list, CSV, or dicts."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from rlm_adapters.errors import InputError

STDIN: Final = "-"
Rows: TypeAlias = "str | Path | Iterable[Mapping[str, Any]]"
"""A file's path, ``"-"`` for standard input, or dicts."""

_SHOWN: Final = 80  # characters of a value in an error
_LIST: Final = b"["


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        id: text or number; the same in every start.
        values: values by column.
        place: place of the row, for messages.
    """

    id: str | int
    values: Mapping[str, Any]
    place: str


def read_rows(data: Rows, id_field: str | None) -> Iterator[Row]:
    """Read rows one at a time. A JSON list is read at once.

    Args:
        data: the rows.
        id_field: the column with the id of a row; None: its line number and a hash of its content.

    Raises:
        InputError: the data or a row cannot be read. The message names the line.
    """
    for number, (place, values) in enumerate(_values(data), 1):
        if not isinstance(values, Mapping):
            what = f"{type(values).__name__} ({str(values)[:_SHOWN]!r})"
            raise InputError(f'{place} is a {what}: give an object, such as {{"text": ...}}')
        name = row_id(values, place, id_field)
        yield Row(f"{number}-{name}" if id_field is None else name, values, place)


def is_file(data: Rows) -> bool:
    """Whether the rows are in a regular file, and so can be read twice."""
    return isinstance(data, str | Path) and str(data) != STDIN and Path(data).is_file()


def check_exists(data: Rows) -> None:
    """Refuse a path that does not exist.

    Raises:
        InputError: it does not exist.
    """
    if isinstance(data, str | Path) and str(data) != STDIN and (not Path(data).exists() or Path(data).is_dir()):
        what = "is a directory" if Path(data).is_dir() else "does not exist"
        raise InputError(f"{data} {what}: give a file of JSON lines, a .json list, or a .csv table")


def name_of(data: Rows) -> str:
    """The name of the data in messages."""
    if isinstance(data, str | Path):
        return "standard input" if str(data) == STDIN else str(data)
    return "the data"


def row_id(values: Mapping[str, Any], place: str, field: str | None) -> str | int:
    """The name of a row.

    Args:
        values: by column.
        place: where it stands, for messages.
        field: the column that names it; None: a hash of what it says.

    Raises:
        InputError: it has no such column, or nothing that can be a name there.
    """
    if field is None:
        try:
            text = json.dumps(values, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{place}: the row cannot be written as JSON ({error}): give plain values") from error
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if field not in values:
        raise InputError(f"{place} has no {field!r}, the column of the id: it has {_names(values)}")
    found = values[field]
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise InputError(f"{place}: the id {field}={str(found)[:_SHOWN]!r} is not a text or a whole number")
    return found


def _values(data: Rows) -> Iterator[tuple[str, Any]]:
    if not isinstance(data, str | Path):
        if isinstance(data, Mapping) or not isinstance(data, Iterable):
            raise InputError(f"rows={str(data)[:_SHOWN]!r}: give a path, or an iterable of dicts")
        for number, values in enumerate(data, 1):
            yield f"row {number}", values
        return
    name = name_of(data)
    try:
        if str(data) == STDIN:
            yield from _lines(sys.stdin.buffer, name)
            return
        path = Path(data)
        with path.open("rb") as file:
            kind = path.suffix.lower()
            if kind in {".csv", ".tsv"}:
                yield from _table(path, name, "\t" if kind == ".tsv" else ",")
            elif kind == ".json" and file.read(1_000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == _LIST:
                yield from _list(path, name)
            else:
                file.seek(0)
                yield from _lines(file, name)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; give a file that can be read") from error


def _lines(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, Any]]:
    for number, raw in enumerate(lines, 1):
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if line.strip():
            place = f"{name}, line {number}"
            yield place, _parsed(line, place, "give one JSON object on each line")


def _parsed(data: bytes, place: str, remedy: str) -> Any:
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 ({error.reason} at byte {error.start}): save the file as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON ({error}): {remedy}") from None


def _list(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    for number, values in enumerate(_parsed(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), name, "mend it"), 1):
        yield f"{name}, entry {number}", values


def _table(path: Path, name: str, delimiter: str) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            columns = reader.fieldnames or ()
            double = next((column for column in columns if list(columns).count(column) > 1), None)
            if double is not None:
                raise InputError(f"{name} has two columns {double!r}: rename one of them")
            for values in reader:
                place = f"{name}, line {reader.line_num}"
                if None in values or None in values.values():
                    raise InputError(f"{place} has more or fewer values than the {len(columns)} columns of the header")
                yield place, values
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8 ({error.reason}): save the file as UTF-8") from None
        except csv.Error as error:
            remedy = "raise it with csv.field_size_limit, or give JSON lines" if "limit" in str(error) else "mend it"
            raise InputError(f"{name}, line {reader.line_num}: {error}: {remedy}") from None


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(values)[:20])) or "no columns"
