"""Rows on disk: sealed Parquet shards, and a journal for the shard that is still open.

::

    manifest.json          format, kind of rows and columns; written once
    shard-000000.parquet   a sealed shard; its footer holds the content hash before and after its rows
    journal-000001.jsonl   the rows after the last shard, one JSON value per line, each with the content hash up to it
    rows                   how many rows there are, as a number
    lock                   held by the process that writes here

A row is in the journal when ``Writer.add`` returns. Every ``shard_rows`` rows the journal becomes a shard, which is
written beside, flushed to the disk and renamed. The rename is the only commit: from then on the journal of the
same number does not count, and is removed. So a kill at any moment loses nothing but the row in flight, and no row
is there twice. (A power cut may take what the system had not yet written of the journal; shards are flushed.)

The content hash is a chain over the rows as JSON. It depends on the rows and their order, not on shards. A changed,
missing or exchanged line of the journal does not fit the hash that it holds, and is refused.

The number in ``rows`` is overwritten in place after each row is in the journal, so a kill leaves it right or one too
small, never too large. Where there are fewer rows, somebody cut the journal or took the last shards away: loading and
writing warn, ``verify`` refuses. Data sets written before journals had hashes and ``rows`` was there are read as well.
"""

from __future__ import annotations

import json
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from dialog_gym import checkpoint
from dialog_gym.data.columns import COLUMN_KINDS, DatasetError, JsonRow, row_line
from dialog_gym.runs import RunFolderError, lock_folder

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

log = logging.getLogger("dialog_gym")

FORMAT = "dialog_gym data 1"
MANIFEST = "manifest.json"
SHARD_ROWS = 1000
_FOOTER = b"dialog_gym"
_BATCH = 256  # rows that are in memory when shards are read
_COUNT = "rows"
_HASH = re.compile(rb',"_hash":"([0-9a-f]{32})"\}\n$')  # the end of a line of the journal

Row = TypeVar("Row")


class Table(ABC, Generic[Row]):
    """Rows in a folder, as they were when it was loaded. Use ``load`` to read and ``writing`` to write.

    Attributes:
        path: The folder.
        kind: What the rows are, in the manifest.
        columns: What is stored of a row: kind of column by name.
        shown: Columns of the shards that follow from the others, for those who read the files themselves.
        content_hash: Hash of all rows in their order, 32 hexadecimal digits.
        missing: How many rows less there are than were written.
    """

    kind: ClassVar[str]
    columns: ClassVar[Mapping[str, str]]
    shown: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    @abstractmethod
    def encode(row: Any) -> JsonRow:
        """Return ``row`` as JSON values by the names in ``columns``.

        Raises:
            ValueError: It cannot be stored.
        """

    @staticmethod
    @abstractmethod
    def decode(data: JsonRow) -> Any:
        """Return the row that ``encode`` was given."""

    @staticmethod
    def show(row: Any) -> JsonRow:
        """Return the values of the columns ``shown``."""
        return {}

    def __init__(self, path: Path) -> None:
        """Look at the folder; use ``load``."""
        self.path = path
        written = _count(path)  # first: rows that are added meanwhile are not missing
        while True:
            self._shards = _shards(path)
            journal = _journal(path, self._shards, self.kind)
            if journal.lines or not _shard_path(path, len(self._shards)).exists():
                break  # else the journal was sealed between two looks
        if journal.cut:
            log.warning("%s: left out a half-written last row; its writer was killed, or is at work", path)
        self._open_rows = len(journal.lines)
        self.content_hash = journal.content_hash
        self.missing = max(0, written - len(self))
        if self.missing:
            log.warning("%s: %d of %d rows are missing at the end", path, self.missing, written)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the rows in ``path``. A half-written last row is left out, with a warning.

        Raises:
            DatasetError: There is no data set of this kind, or it is damaged.
        """
        path = Path(path)
        read_manifest(path, cls)
        return cls(path)

    @classmethod
    def writing(cls, path: str | Path, *, shard_rows: int = SHARD_ROWS) -> Writer[Row]:
        """Return a writer that adds rows to ``path``, which is made if need be. Use it in a ``with`` block.

        Args:
            path: The folder.
            shard_rows: Rows per shard, at least 1. Does not change the content hash.

        Raises:
            DatasetError: The folder is in use, read-only, or holds something else.
        """
        return Writer(cls, Path(path), shard_rows)

    @property
    def shards(self) -> int:
        """Number of sealed shards."""
        return len(self._shards)

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(shard.rows for shard in self._shards) + self._open_rows

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order; a few hundred are in memory at a time."""
        return (self.decode(data) for data in self.select(*self.columns))

    def select(self, *names: str) -> Iterator[JsonRow]:
        """Yield only these of the columns, as JSON values by name; the others are not read.

        Raises:
            DatasetError: A shard or a line of the journal is damaged.
        """
        for number in range(len(self._shards)):
            yield from self._sealed(number, names)
        yield from self._unsealed(names)

    def verify(self) -> None:
        """Read every row, count them and compare the content hash.

        Raises:
            DatasetError: The rows are not those that were written.
        """
        if self.missing:
            raise DatasetError(
                f"{self.path} is damaged: {self.missing} of {len(self) + self.missing} rows are missing at the end; "
                "take another copy, or go on writing and make them again"
            )
        found = chain(_start(self.kind), (row_line(data) for data in self.select(*self.columns)))
        if found != self.content_hash:
            raise DatasetError(
                f"{self.path} is damaged: expected rows with content hash {self.content_hash}, found {found}; "
                "take another copy"
            )

    def to_dataset(self) -> datasets.Dataset:
        """Return all rows as a Hugging Face data set in memory, with the columns ``shown`` besides.

        For more rows than memory holds, iterate over the table, or read the shards with
        ``datasets.load_dataset("parquet", data_files=FOLDER/*.parquet, streaming=True)``.
        """
        import datasets
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = arrow_schema(type(self))
        tables = [
            pq.read_table(_shard_path(self.path, number), memory_map=True).cast(schema)
            for number in range(len(self._shards))
        ]
        rest = arrow_table(type(self), list(self._unsealed(self.columns)))
        return datasets.Dataset(pa.concat_tables([*tables, rest]))

    def _sealed(self, number: int, names: Iterable[str]) -> Iterator[JsonRow]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = _shard_path(self.path, number)
        kinds = {name: COLUMN_KINDS[self.columns[name]] for name in names}
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH, columns=list(kinds)):
                    for row in batch.to_pylist():
                        yield {name: kind.back(row[name]) for name, kind in kinds.items()}
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path} cannot be read: {error}; take another copy") from error

    def _unsealed(self, names: Iterable[str]) -> Iterator[JsonRow]:
        """Yield the rows that were in the journal when this was loaded."""
        if not self._open_rows:
            return
        number = len(self._shards)
        try:
            with open(_journal_path(self.path, number), "rb") as file:
                for at, line in enumerate(islice(file, self._open_rows)):
                    data = _parsed(_plain(line)[0], self.path, at)
                    yield {name: data[name] for name in names}
        except FileNotFoundError:  # its writer has sealed it meanwhile
            yield from islice(self._sealed(number, names), self._open_rows)


class Writer(Generic[Row]):
    """Adds rows to a data set; one process at a time.

    Attributes:
        rows: How many rows the data set has now.
        content_hash: Hash of all of them.
    """

    def __init__(self, table: type[Table[Row]], path: Path, shard_rows: int) -> None:
        """Use ``Table.writing``."""
        if shard_rows < 1:
            raise ValueError(f"shard_rows must be at least 1, got {shard_rows}")
        self.table, self.path, self.shard_rows = table, path, shard_rows
        self.rows, self.content_hash = 0, ""
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path, "data set")
        except RunFolderError as error:
            raise DatasetError(str(error)) from error
        except OSError as error:
            raise self._failed("begin", error) from error
        try:
            self._begin()
        except OSError as error:
            self._lock.close()
            raise self._failed("begin", error) from error
        except BaseException:
            self._lock.close()
            raise

    def add(self, row: Row) -> None:
        """Append ``row``; when this returns, a kill can no longer lose it.

        Raises:
            DatasetError: The row holds what cannot be stored (NaN, a lone surrogate), or the disk refuses it. The
                data set is as it was.
        """
        line = row_line(self.table.encode(row))
        content_hash = chain(self.content_hash, (line,))
        try:
            self._journal.write(_hashed(line, content_hash))
            self._journal.flush()
        except OSError as error:
            self._open(len(self._shards))  # cuts off what was written of the row
            raise self._failed("add a row", error) from error
        self.content_hash = content_hash
        self._open_rows += 1
        self.rows += 1
        self._tell_count()
        if self._open_rows >= self.shard_rows:
            self.seal()

    def extend(self, rows: Iterable[Row]) -> None:
        """Append ``rows`` one by one."""
        for row in rows:
            self.add(row)

    def seal(self) -> None:
        """Make the rows of the journal a shard. Happens by itself every ``shard_rows`` rows.

        Raises:
            DatasetError: The disk refuses it. The rows are still in the journal.
        """
        if not self._open_rows:
            return
        number = len(self._shards)
        lines = _journal(self.path, self._shards, self.table.kind).lines
        rows = [_parsed(line, self.path, at) for at, line in enumerate(lines)]
        shard = _Shard(len(rows), _last_hash(self.path, self._shards, self.table.kind), self.content_hash)
        try:
            write_shard(_shard_path(self.path, number), arrow_table(self.table, rows), shard)
            self._shards.append(shard)
            self._open(number + 1)
            _journal_path(self.path, number).unlink()
        except OSError as error:
            raise self._failed("seal a shard", error) from error

    def close(self) -> None:
        """Have the disk hold the journal, and let others write. The rows since the last shard stay in the journal."""
        if not self._journal.closed:
            self._journal.flush()
            os.fsync(self._journal.fileno())
            self._journal.close()
            self._counter.close()
        self._lock.close()

    def __enter__(self) -> Self:
        """Return the writer, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _begin(self) -> None:
        if (self.path / MANIFEST).exists():
            read_manifest(self.path, self.table)
        else:
            others = sorted(f.name for f in self.path.iterdir() if f.name != "lock" and not f.name.startswith("."))
            if others:
                raise DatasetError(
                    f"{self.path} holds {others[0]!r} and no {MANIFEST}, so it is no data set; choose another folder"
                )
            checkpoint.write_json(self.path / MANIFEST, manifest(self.table))
        checkpoint.remove_partial(self.path)
        self._shards = _shards(self.path)
        for stale in self.path.glob("journal-*.jsonl"):
            if stale != _journal_path(self.path, len(self._shards)):
                stale.unlink()
        self._journal: IO[bytes] = BytesIO()  # until there is one
        self._open(len(self._shards))
        self.rows = sum(shard.rows for shard in self._shards) + self._open_rows
        written = _count(self.path)
        if written > self.rows:
            log.warning("%s: %d of %d rows were missing at the end", self.path, written - self.rows, written)
        descriptor = os.open(self.path / _COUNT, os.O_RDWR | os.O_CREAT, 0o666)
        self._counter: IO[bytes] = open(descriptor, "r+b", buffering=0)  # noqa: SIM115, closed by close()
        self._tell_count()

    def _tell_count(self) -> None:
        """Write down how many rows there are; one write of always the same size, which no kill can halve."""
        self._counter.seek(0)
        self._counter.write(b"%020d\n" % self.rows)

    def _open(self, number: int) -> None:
        """Go on with journal ``number`` behind its last whole line."""
        path = _journal_path(self.path, number)
        found = _journal(self.path, self._shards, self.table.kind)
        if found.cut:
            log.warning("%s: cut off a half-written last row, which a killed process left behind", self.path)
        self._journal.close()
        self._journal = open(path, "ab")  # noqa: SIM115, closed by close()
        self._journal.truncate(found.size)
        self._open_rows = len(found.lines)
        self.content_hash = found.content_hash

    def _failed(self, what: str, error: OSError) -> DatasetError:
        return DatasetError(
            f"could not {what} in the data set {self.path}: {error}. All rows before are safe; mend the disk and go on"
        )


class _Shard(NamedTuple):
    rows: int
    before: str  # content hash
    after: str


def manifest(table: type[Table[Any]]) -> JsonRow:
    """Return what ``manifest.json`` of a table holds."""
    return {"format": FORMAT, "kind": table.kind, "columns": dict(table.columns), "shown": dict(table.shown)}


def read_manifest(path: Path, table: type[Table[Any]] | None = None) -> JsonRow:
    """Return the manifest of the data set in ``path``.

    Raises:
        DatasetError: There is none, or it is not one of ``table``.
    """
    if path.is_file():
        raise DatasetError(
            f"{path} is a file, and a data set is a folder; `dialog-gym data import` makes one of a file"
        )
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is no data set: it has no {MANIFEST}") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path / MANIFEST} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DatasetError(f"{path} is not in the format {FORMAT!r}; was it written by another program or version?")
    if table is None:
        return found
    if found.get("kind") != table.kind:
        raise DatasetError(f"expected a data set of {table.kind} in {path}, found one of {found.get('kind')}")
    if found.get("columns") != dict(table.columns):
        strange = sorted({*found.get("columns", {})} ^ {*table.columns}) or ["the same names"]
        raise DatasetError(f"{path} has other columns than this version reads: {', '.join(strange)}")
    return found


def chain(digest: str, lines: Iterable[bytes]) -> str:
    """Return the content hash of what ``digest`` stands for, followed by ``lines``."""
    for line in lines:
        digest = blake2b(digest.encode() + line, digest_size=16).hexdigest()
    return digest


def arrow_schema(table: type[Table[Any]]) -> pa.Schema:
    """Return the columns of a shard."""
    import pyarrow as pa

    return pa.schema([(name, COLUMN_KINDS[kind].arrow()) for name, kind in {**table.columns, **table.shown}.items()])


def arrow_table(table: type[Table[Any]], rows: list[JsonRow]) -> pa.Table:
    """Return ``rows``, as ``encode`` gave them, with the columns ``shown``."""
    import pyarrow as pa

    shown = [table.show(table.decode(row)) for row in rows]
    columns = {
        **{name: [COLUMN_KINDS[kind].there(row[name]) for row in rows] for name, kind in table.columns.items()},
        **{name: [one[name] for one in shown] for name in table.shown},
    }
    return pa.table(columns, schema=arrow_schema(table))


def write_shard(path: Path, table: pa.Table, shard: _Shard) -> None:
    """Write a shard so that it is there whole, or not at all.

    Raises:
        OSError: It could not be written.
    """
    import pyarrow.parquet as pq

    footer = {_FOOTER: json.dumps(shard._asdict())}
    with checkpoint.replacing(path) as partial:
        pq.write_table(table.replace_schema_metadata(footer), partial, compression="zstd")


def _shard_path(path: Path, number: int) -> Path:
    return path / f"shard-{number:06d}.parquet"


def _journal_path(path: Path, number: int) -> Path:
    return path / f"journal-{number:06d}.jsonl"


def _start(kind: str) -> str:
    return chain("", [f"{FORMAT} {kind}".encode()])


def _last_hash(path: Path, shards: list[_Shard], kind: str) -> str:
    return shards[-1].after if shards else _start(kind)


def _shards(path: Path) -> list[_Shard]:
    """Return the footers of the sealed shards.

    Raises:
        DatasetError: One is missing, damaged, or does not follow upon the one before it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = sorted(f.name for f in path.iterdir() if re.fullmatch(r"shard-\d{6,}\.parquet", f.name))
    shards: list[_Shard] = []
    for number, name in enumerate(names):
        if name != _shard_path(path, number).name:
            raise DatasetError(f"{path} is damaged: {_shard_path(path, number).name} is missing; take another copy")
        try:
            shard = _Shard(**json.loads(pq.read_metadata(path / name).metadata[_FOOTER]))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{path / name} cannot be read as a shard: {error}; take another copy") from error
        if shards and shard.before != shards[-1].after:
            raise DatasetError(f"{path / name} does not follow upon the shard before it; was one of them replaced?")
        shards.append(shard)
    return shards


class _Journal(NamedTuple):
    lines: list[bytes]  # rows, as ``row_line`` made them
    size: int  # of the whole lines in the file, in bytes
    cut: bool  # half a line follows
    content_hash: str


def _journal(path: Path, shards: list[_Shard], kind: str) -> _Journal:
    """Return what the journal behind the last shard holds.

    Raises:
        DatasetError: A line is not what was written there.
    """
    try:
        content = _journal_path(path, len(shards)).read_bytes()
    except FileNotFoundError:
        content = b""
    size = content.rfind(b"\n") + 1
    lines, digest = [], _last_hash(path, shards, kind)
    for at, written in enumerate(content[:size].split(b"\n")[:-1]):
        line, told = _plain(written + b"\n")
        lines.append(line)
        digest = chain(digest, (line,))
        if told not in ("", digest):
            raise DatasetError(
                f"line {at + 1} of the journal in {path} is damaged: expected content hash {told}, found {digest}; "
                "take another copy"
            )
    return _Journal(lines, size, size < len(content), digest)


def _hashed(line: bytes, content_hash: str) -> bytes:
    """Return the line of the journal for the row ``line``: the same JSON object with one more entry."""
    return line[:-2] + f',"_hash":"{content_hash}"}}\n'.encode()


def _plain(line: bytes) -> tuple[bytes, str]:
    """Return the row in a line of the journal, and the content hash that it holds; ``""`` in older journals."""
    found = _HASH.search(line)
    return (line, "") if found is None else (line[: found.start()] + b"}\n", found[1].decode())


def _count(path: Path) -> int:
    """Return how many rows were written, 0 where nobody has counted."""
    try:
        return int((path / _COUNT).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _parsed(line: bytes, path: Path, at: int) -> JsonRow:
    try:
        return dict(json.loads(line))
    except (TypeError, ValueError) as error:
        raise DatasetError(f"line {at + 1} of the journal in {path} is damaged: {error}; take another copy") from error
