"""Convert tables and arrays of pandas, Polars, PyArrow and NumPy to plain records for cells.

None of these packages is imported here. If there is a value of a package, the package is already imported.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from rlm_adapters.errors import InputError

_SHOWN_COLUMNS: Final = 60
"""Most columns whose types the root LM sees."""


def plain_table(value: Any) -> tuple[Any, str] | None:
    """A table, column or array as plain JSON values, with a note.

    Returns:
        ``(records, note)``: a list with a dict for each row (a plain list for an array, or a column with a plain
        index), and a line with the kind and the types of the columns for the root LM. None for other values.

    Raises:
        InputError: it is a lazy table, which must be computed first.
    """
    for kind, package in ((kind.__name__, kind.__module__.partition(".")[0]) for kind in type(value).__mro__):
        convert = _CONVERTERS.get((package, kind))
        if convert is not None:
            return convert(value)
    return None


def _pandas_frame(frame: Any) -> tuple[Any, str]:
    frame = _with_index(frame)
    names = _unique([_label(name) for name in frame.columns])
    columns = [frame.iloc[:, position] for position in range(len(names))]
    records = _records(names, [_pandas_values(column) for column in columns], len(frame))
    return records, _note(len(records), "pandas DataFrame", names, [column.dtype for column in columns])


def _pandas_series(series: Any) -> tuple[Any, str]:
    if not _is_plain_index(series.index):
        return _pandas_frame(series.to_frame(name="value" if series.name is None else series.name))
    return _pandas_values(series), f"values of a pandas Series of type {series.dtype}"


def _pandas_index(index: Any) -> tuple[Any, str]:
    return _plain_list(index.tolist()), f"values of a pandas Index of type {index.dtype}"


def _with_index(frame: Any) -> Any:
    """The table with its index as columns, unless it only counts the rows."""
    if _is_plain_index(frame.index):
        return frame
    index = frame.index
    plain = frame.reset_index(drop=True)
    plain.columns = [_label(name) for name in plain.columns]
    for level in range(index.nlevels):
        default = "index" if index.nlevels == 1 else f"index_{level}"
        name = default if index.names[level] is None else _label(index.names[level])
        plain.insert(level, name, index.get_level_values(level), allow_duplicates=True)
    return plain


def _is_plain_index(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1 and index.name is None


def _pandas_values(series: Any) -> list[Any]:
    kind = getattr(series.dtype, "kind", "O")
    values = series.tolist()
    return values if kind in "biu" and not hasattr(series.dtype, "na_value") else _plain_list(values)


def _polars_frame(frame: Any) -> tuple[Any, str]:
    records = _records(frame.columns, [_plain_list(column.to_list()) for column in frame.get_columns()], frame.height)
    return records, _note(len(records), "Polars DataFrame", frame.columns, frame.dtypes)


def _polars_series(series: Any) -> tuple[Any, str]:
    return _plain_list(series.to_list()), f"values of a Polars Series of type {series.dtype}"


def _polars_lazy(_: Any) -> tuple[Any, str]:
    raise InputError("a Polars LazyFrame is a query that has not run: give frame.collect()")


def _arrow_table(table: Any) -> tuple[Any, str]:
    names = _unique(list(table.column_names))
    records = _records(names, [_plain_list(column.to_pylist()) for column in table.columns], table.num_rows)
    return records, _note(len(records), "PyArrow table", names, [field.type for field in table.schema])


def _numpy_array(array: Any) -> tuple[Any, str]:
    shape = " x ".join(map(str, array.shape)) or "scalar"
    if array.dtype.names and array.ndim == 1:
        names = list(array.dtype.names)
        records = _records(names, [_plain_list(array[name].tolist()) for name in names], len(array))
        return records, _note(len(records), "NumPy array", names, [array.dtype[name] for name in names])
    plain = array.tolist()
    return (
        plain if array.dtype.kind in "biu" else plain_value(plain),
        f"a NumPy array, {shape}, of type {array.dtype}",
    )


def _numpy_scalar(scalar: Any) -> tuple[Any, str]:
    return plain_value(scalar.item()), f"a NumPy {scalar.dtype}"


_CONVERTERS: Final[Mapping[tuple[str, str], Callable[[Any], tuple[Any, str]]]] = {
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): _pandas_series,
    ("pandas", "Index"): _pandas_index,
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "Series"): _polars_series,
    ("polars", "LazyFrame"): _polars_lazy,
    ("pyarrow", "Table"): _arrow_table,
    ("numpy", "ndarray"): _numpy_array,
    ("numpy", "generic"): _numpy_scalar,
}


# ------------------------------------------------------------------------------------------------ parts


def _records(names: Sequence[str], columns: Sequence[list[Any]], rows: int) -> list[dict[str, Any]]:
    if not columns:
        return [{} for _ in range(rows)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _note(rows: int, kind: str, names: Sequence[str], types: Iterable[Any]) -> str:
    shown = [f"{name}: {dtype}" for name, dtype in zip(names[:_SHOWN_COLUMNS], types, strict=False)]
    more = f", and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return f"{rows:,} rows of a {kind} with the columns {', '.join(shown)}{more}" if names else f"an empty {kind}"


def _label(name: Any) -> str:
    """The name of a column, with joined levels of a MultiIndex."""
    if isinstance(name, tuple):
        return ".".join(str(part) for part in name if str(part))
    return str(name)


def _unique(names: Sequence[str]) -> list[str]:
    """Unique names, because a dict would drop a column."""
    found: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found[free] = None
    return list(found)


def _plain_list(values: Iterable[Any]) -> list[Any]:
    return [plain_value(value) for value in values]


def plain_scalar(value: Any) -> Any:
    """A date, time or Decimal in JSON types. Other values are not changed."""
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta | uuid.UUID):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return None if value.is_nan() else float(value)
    return value


def plain_value(value: Any) -> Any:
    """One value in JSON types: missing values are None, times are ISO 8601, and other values become text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if type(value).__name__ in ("NaTType", "NAType"):  # missing values in pandas
        return None
    scalar = plain_scalar(value)
    if scalar is not value:
        return scalar
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return _plain_list(value)
    table = plain_table(value)
    return str(value) if table is None else table[0]
