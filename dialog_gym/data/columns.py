"""What a column of a data set may hold, and a row as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

JsonRow = dict[str, Any]


class DatasetError(ValueError):
    """A folder holds no data set, a damaged one, or one of another kind, or cannot be written."""


class ColumnKind(NamedTuple):
    """How values of one kind lie in Parquet: the Arrow type, and the way there and back from JSON."""

    arrow: Callable[[], pa.DataType]
    there: Callable[[Any], Any] = lambda value: value
    back: Callable[[Any], Any] = lambda value: value


def _arrow(make: Callable[[Any], pa.DataType]) -> Callable[[], pa.DataType]:
    def made() -> pa.DataType:
        import pyarrow

        return make(pyarrow)

    return made


COLUMN_KINDS: Mapping[str, ColumnKind] = {
    "integer": ColumnKind(_arrow(lambda pa: pa.int64())),
    "number": ColumnKind(_arrow(lambda pa: pa.float64())),
    "truth": ColumnKind(_arrow(lambda pa: pa.bool_())),
    "text": ColumnKind(_arrow(lambda pa: pa.string())),
    "numbers": ColumnKind(_arrow(lambda pa: pa.list_(pa.float64()))),
    "texts": ColumnKind(_arrow(lambda pa: pa.list_(pa.string()))),
    "vectors": ColumnKind(_arrow(lambda pa: pa.list_(pa.list_(pa.float32())))),
    "chat": ColumnKind(_arrow(lambda pa: pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))),
    "named": ColumnKind(
        _arrow(lambda pa: pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.float64()))]))),
        lambda value: [{"name": name, "values": values} for name, values in value.items()],
        lambda value: {one["name"]: one["values"] for one in value},
    ),
    "json": ColumnKind(_arrow(lambda pa: pa.string()), lambda value: _text(value), json.loads),
}
"""What a column may hold; ``json`` is any JSON value, as text."""


def row_line(data: JsonRow) -> bytes:
    """Return a row as a line of the journal; the same row gives the same bytes."""
    try:
        return f"{_text(data)}\n".encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"a row has a lone surrogate, which no file can hold: {error}; replace it") from error
    except (TypeError, ValueError) as error:
        where = _first_bad(data, "")
        raise DatasetError(
            f"a row must hold finite numbers and JSON values alone, got {where or error}; mend what made it"
        ) from error


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _first_bad(value: Any, name: str) -> str:
    """Return name and value of the first thing that is not finite or no JSON."""
    if isinstance(value, Mapping):
        return next((bad for key, one in value.items() if (bad := _first_bad(one, f"{name}.{key}"))), "")
    if isinstance(value, (list, tuple)):
        return next((bad for at, one in enumerate(value) if (bad := _first_bad(one, f"{name}[{at}]"))), "")
    try:
        _text(value)
    except (TypeError, ValueError):
        return f"{name.removeprefix('.')} = {value!r:.60}"
    return ""
