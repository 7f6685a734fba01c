"""Records out of files: plain, ``.gz`` or ``.zip``, and folders of these, always streamed.

A ``Source`` yields numbered records and never holds more than one of them, however long the file. Numbers count from 0
over all files of the source; messages name the file, and the number within it from 1. What is damaged raises a
``CorpusError``, or with ``skip_bad`` is counted and left out; all that stands before a cut is read.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from dialog_gym.data.columns import DatasetError
from dialog_gym.data.corpora.json_stream import LONGEST, JsonStream, Part
from dialog_gym.dialogue import Json

CHUNK = 1 << 16
SHOWN = 20  # messages that are kept of bad records
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Names of the splits, and what files call them."""
TABLES = ("*.jsonl", "*.json", "*.csv", "*.tsv", "*.parquet")
"""Files that ``Source.rows`` reads."""

Numbered = Iterator[tuple[int, Any]]
Keyed = Iterator[tuple[int, str, Any]]

_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)  # what unpacking raises
_WRONG = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


class CorpusError(DatasetError):
    """A corpus is damaged or of another format; the message names file, record, what was expected and what came."""


class File(NamedTuple):
    """One file of a source.

    Attributes:
        path: Inside the folder or archive, with ``/`` and without the endings ``.gz`` and ``.zip``.
        disk: Where it lies, or the archive that it is in.
        member: Its name in the archive, ``""`` where there is none.
    """

    path: str
    disk: Path
    member: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.disk}/{self.member}" if self.member else str(self.disk)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it, unpacked."""
        with ExitStack() as stack:
            raw: Any
            if self.member:
                archive = stack.enter_context(zipfile.ZipFile(self.disk))
                raw = stack.enter_context(_member(archive, self.member))
            else:
                raw = stack.enter_context(open(self.disk, "rb"))
            if raw.peek(2)[:2] == b"\x1f\x8b":
                raw = stack.enter_context(gzip.GzipFile(fileobj=raw))
            yield raw


class Source:
    """A corpus on disk, and the count of what was bad in it.

    Attributes:
        path: File or folder.
        is_hub: Whether it is a data set of the hub instead, see ``Hub``.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``""`` for all.
        skip_bad: Whether bad records are left out.
        skipped: How many were.
        bad: The first of their messages.
        expected: What messages say was expected.
    """

    is_hub = False

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = "",
        skip_bad: bool = False,
        encoding: str = "utf-8",
        expected: str = "another format",
    ) -> None:
        """Look for ``path``; nothing is read yet.

        Args:
            path: A file (plain, ``.gz``, ``.zip``) or a folder.
            split: A name of a split, as files call it.
            skip_bad: Count bad records and go on.
            encoding: Of text files; a byte order mark of UTF-8 is left out.
            expected: See above.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Unknown split or encoding.
        """
        self.path, self.expected = Path(path), expected
        self.split, self.skip_bad, self.skipped = split_name(split), skip_bad, 0
        self.bad: list[str] = []
        self._count = 0
        self._begun: list[tuple[int, str, str]] = []  # of each file: its first number, its name, what is counted
        try:
            self._encoding = codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(f"expected an encoding that Python knows (utf-8, cp1252), got {encoding!r}") from error
        self._look()

    def _look(self) -> None:
        if not self.path.exists():
            raise FileNotFoundError(f"no file or folder {str(self.path)!r}; expected {self.expected}")

    # --- files ---------------------------------------------------------------------------------

    def files(self, *patterns: str, split: bool = True) -> list[File]:
        """Return the files that match, sorted by path.

        Args:
            patterns: Of the file's name (``"dialogues_*.json"``) or path (``"*reward/*.json"``) without ``.gz`` and
                ``.zip``; none: all. A single file that was given by its own name always matches.
            split: Leave out files of other splits, if one was asked for. A file belongs to a split if it has its name
                as a word of its own in its name or that of a folder (``dev/dialogues_001.json``); all that lies in a
                source that is called so does.

        Raises:
            CorpusError: There are none, or an archive is damaged.
        """
        everything = list(_walk(self.path, self.path.name))
        found = everything
        if patterns and not (self.path.is_file() and len(everything) == 1):
            found = [file for file in found if _matches(file.path, patterns)]
        if split and self.split:
            found = [
                file for file in found if self.path.name in SPLITS[self.split] or _in_split(file.path, self.split)
            ]
        if not found:
            wanted = " or ".join(patterns) or "any file"
            wanted += f" of split {self.split!r}" if split and self.split else ""
            there = ", ".join(file.path for file in everything[:5]) or "nothing"
            raise CorpusError(f"{self.path}: expected {self.expected}; wanted {wanted}, got {there}")
        return sorted(found)

    def has(self, *patterns: str) -> bool:
        """Tell whether some file matches, whatever its split."""
        return any(_matches(file.path, patterns) for file in _walk(self.path, self.path.name))

    def is_table(self, *endings: str) -> bool:
        """Tell whether this is one file with one of the endings, by default ``.csv`` or ``.tsv``."""
        return self.path.is_file() and self.files(split=False)[0].path.endswith(endings or (".csv", ".tsv"))

    # --- records -------------------------------------------------------------------------------

    def json_array(self, *patterns: str) -> Numbered:
        """Yield the elements of the JSON arrays that the files are."""
        for file in self.files(*patterns):
            with self._whole(file) as text:
                for number, _, value in self._values(JsonStream(text).array()):
                    yield number, value

    def json_object(self, *patterns: str, split: bool = True) -> Keyed:
        """Yield number, key and value of the members of the JSON objects that the files are."""
        for file in self.files(*patterns, split=split):
            with self._whole(file) as text:
                yield from self._values(JsonStream(text).members())

    def json_arrays(self, *patterns: str) -> Keyed:
        """Yield number, key and element of the arrays in JSON objects as ``{"train": [...], "dev": [...]}``.

        The split is the reader's to look at: it is in the file.
        """
        for file in self.files(*patterns, split=False):
            with self._whole(file) as text:
                yield from self._values(JsonStream(text).arrays())

    def lines(self, *patterns: str) -> Numbered:
        """Yield lines without their end; empty ones are left out."""
        for file in self.files(*patterns):
            yield from self._lines(file)

    def csv(self, *patterns: str, delimiter: str = ",", header: bool = True, quoted: bool = True) -> Numbered:
        """Yield the rows of tables: dicts by the heading, or lists of cells without ``header``.

        A row that is shorter than the heading lacks its last columns; a longer one is bad. Without ``quoted``, quotes
        are characters like others.
        """
        for file in self.files(*patterns):
            yield from self.table(file, delimiter, header, quoted)

    def rows(self, *patterns: str) -> Numbered:
        """Yield records of the kind that the ending tells.

        ``.json``: an array, or objects one after the other; ``.jsonl``; ``.csv`` and ``.tsv`` with a heading (dicts of
        texts); ``.parquet``.
        """
        for file in self.files(*(patterns or TABLES)):
            ending = PurePosixPath(file.path).suffix.lower()
            if ending == ".parquet":
                yield from self._parquet(file)
            elif ending in (".csv", ".tsv"):
                yield from self.table(file, "\t" if ending == ".tsv" else ",", True, True)
            elif ending == ".json":
                with self._whole(file) as text:
                    for number, _, value in self._values(JsonStream(text).records()):
                        yield number, value
            else:
                yield from self._json_lines(file)

    def json(self, *patterns: str) -> Json:
        """Return the one JSON value that the one matching file is, read at once.

        Raises:
            CorpusError: There are several files, or it is no JSON; never skipped.
        """
        files = self.files(*patterns, split=False)
        if len(files) > 1:
            raise CorpusError(f"{self.path}: expected one file like {' or '.join(patterns)}, got {len(files)}")
        try:
            with files[0].open() as raw:
                return json.loads(_clean("".join(_decoded(raw, self._encoding)), self._encoding))
        except (*_BROKEN, ValueError, RecursionError) as error:
            raise CorpusError(f"{files[0].name}: expected {self.expected}, got damaged JSON: {error}") from error

    # --- what is bad ---------------------------------------------------------------------------

    @contextmanager
    def record(self, number: int, name: object = "", expected: str = "") -> Iterator[None]:
        """Turn errors of the block into a ``CorpusError`` that names the record, or skip it under ``skip_bad``.

        Args:
            number: That of the record.
            name: Its id, if it is known.
            expected: What it should look like; default: what the corpus is.
        """
        try:
            yield
        except CorpusError:
            raise
        except _WRONG as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            self.fail(f"{self.place(number, name)}: expected {expected or self.expected}; got another: {why}", error)

    def place(self, number: int, name: object = "") -> str:
        """Return what messages call a record: ``"train.json, record 3 (PMUL0698)"``."""
        where = bisect_right(self._begun, number, key=lambda begun: begun[0]) - 1
        first, file, unit = self._begun[where] if where >= 0 else (0, str(self.path), "record")
        return f"{file}, {unit} {number - first + 1}" + ("" if name is None or name == "" else f" ({name!s:.60})")

    def fail(self, message: str, cause: BaseException | None = None) -> None:
        """Raise ``message`` as a ``CorpusError``, or count it under ``skip_bad``."""
        if not self.skip_bad:
            raise CorpusError(f"{message} (skip_bad or --skip-bad leaves such records out)") from cause
        self.skipped += 1
        if len(self.bad) < SHOWN:
            self.bad.append(message)

    # --- reading -------------------------------------------------------------------------------

    def _begin(self, name: str, unit: str) -> None:
        self._begun.append((self._count, name, unit))

    def _next(self) -> int:
        self._count += 1
        return self._count - 1

    @contextmanager
    def _whole(self, file: File, unit: str = "record") -> Iterator[Iterator[str]]:
        """Give the text of a file in pieces; what breaks it off is one bad record, and ends it."""
        self._begin(file.name, unit)
        try:
            with file.open() as raw:
                yield _decoded(raw, self._encoding)
        except CorpusError:
            raise
        except (*_BROKEN, ValueError) as error:
            self.fail(f"{self.place(self._next())}: expected {self.expected}; the file breaks off: {error}", error)

    def _values(self, parts: Iterator[Part]) -> Keyed:
        for key, text in parts:
            number = self._next()
            with self.record(number, key, "JSON"):
                yield number, key or "", json.loads(_clean(text, self._encoding))

    def _json_lines(self, file: File) -> Numbered:
        for number, line in self._lines(file):
            with self.record(number, expected="one JSON value a line"):
                yield number, json.loads(line)

    def _lines(self, file: File) -> Numbered:
        with self._whole(file, "line") as text:
            for line in _split_lines(text):
                number = self._next()
                if line.strip():
                    with self.record(number, expected="text in " + self._encoding):
                        yield number, _clean(line.rstrip("\r\n"), self._encoding)

    def table(self, file: File, delimiter: str = ",", header: bool = True, quoted: bool = True) -> Numbered:
        """Yield the rows of one file as ``csv`` does."""
        with self._whole(file, "row") as text:
            rows = csv.reader(
                _split_lines(text), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
            )
            heading = [_clean(cell, self._encoding) for cell in next(rows, [])] if header else []
            while True:
                number = self._next()
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    self.fail(
                        f"{self.place(number)}: expected a row of a table (is a quote left open?); {error}", error
                    )
                    continue
                if cells:
                    with self.record(number):
                        cells = [_clean(cell, self._encoding) for cell in cells]
                        yield number, _named(cells, heading) if header else cells

    def _parquet(self, file: File) -> Numbered:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._begin(file.name, "row")
        try:
            with pq.ParquetFile(file.disk) as table:
                for batch in table.iter_batches(256):
                    for row in batch.to_pylist():
                        yield self._next(), row
        except (OSError, pa.ArrowException) as error:
            self.fail(f"{self.place(self._next())}: expected {self.expected}; the file breaks off: {error}", error)


def split_name(name: str) -> str:
    """Return the name of a split that files may call otherwise: ``"dev"`` is ``"validation"``.

    Raises:
        ValueError: No split is called so.
    """
    split = split_of(name)
    if split and split not in SPLITS:
        raise ValueError(f"split must be 'train', 'validation', 'test' or '' for all, got {name!r}")
    return split


def split_of(name: str) -> str:
    """Return our name of a split where we have one, else ``name``."""
    return next((split for split, names in SPLITS.items() if name in names), name)


def key_of(data: object, name: str) -> object:
    """Return ``data[name]`` for a message, ``""`` where there is none."""
    return data.get(name, "") if isinstance(data, Mapping) else ""


def _walk(path: Path, name: str) -> Iterator[File]:
    """Yield the files in a folder or archive, or the file itself; hidden ones are passed over."""
    if path.is_dir():
        for below in sorted(path.rglob("*")):
            inside = below.relative_to(path)
            if below.is_file() and not any(part.startswith(".") for part in inside.parts):
                yield from _walk(below, inside.as_posix())
        return
    with open(path, "rb") as file:
        packed = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    if not packed and path.suffix != ".zip":
        yield File(name.removesuffix(".gz"), path)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"{path}: expected a zip archive, got a damaged or other file: {error}") from error
    for member in members:
        if not any(part.startswith((".", "__MACOSX")) for part in member.split("/")):
            yield File(member.removesuffix(".gz"), path, member)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    try:
        return archive.open(name)
    except RuntimeError as error:  # a password is needed, or a method that Python does not know
        raise zipfile.BadZipFile(str(error)) from error


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) or fnmatch(path.rpartition("/")[2], pattern) for pattern in patterns)


def _in_split(path: str, split: str) -> bool:
    return not set(SPLITS[split]).isdisjoint(re.split(r"[^a-z]+", path.lower()))


def _decoded(raw: IO[bytes], encoding: str) -> Iterator[str]:
    """Yield text as it comes, bytes of another encoding as lone surrogates: ``_clean`` tells in which record."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    read = raw.read1  # type: ignore[attr-defined]  # what is there: of a cut archive, all before the cut
    data = read(CHUNK)
    if encoding == "utf-8":
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("it begins like UTF-16; give its encoding (utf-16)")
        data = data.removeprefix(codecs.BOM_UTF8)
    while data:
        yield decoder.decode(data)
        data = read(CHUNK)
    yield decoder.decode(b"", True)


def _clean(text: str, encoding: str) -> str:
    if not text.isascii() and (found := re.search("[\udc80-\udcff]", text)):
        near = text[max(0, found.start() - 20) : found.start()]
        raise ValueError(f"byte 0x{ord(found[0]) - 0xDC00:02x} after {near!r} is no {encoding}; give the encoding")
    return text


def _split_lines(pieces: Iterator[str]) -> Iterator[str]:
    """Yield lines with their ends; only a line feed ends one: texts may hold other separators."""
    kept: list[str] = []
    length = 0
    for piece in pieces:
        first, *rest = piece.split("\n")
        kept.append(first)
        length += len(first)
        if length > LONGEST:
            raise ValueError(f"a line is longer than {LONGEST} characters")
        for part in rest:
            yield "".join(kept) + "\n"
            kept, length = [part], len(part)
    if last := "".join(kept):
        yield last


def _named(cells: list[str], heading: list[str]) -> dict[str, str]:
    if len(cells) > len(heading):
        raise ValueError(f"the heading has {len(heading)} columns ({', '.join(heading)}), the row {len(cells)}")
    return dict(zip(heading, cells, strict=False))
