"""Records out of the datasets hub, through the library ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dialog_gym.data.corpora.files import CorpusError, File, Numbered, Source, split_of


class Hub(Source):
    """A data set of the hub, or a folder of Parquet files as it stores them, streamed.

    ``rows`` and ``json_array`` yield its rows; the other forms are those of files alone.
    """

    is_hub = True

    def __init__(self, name: str, *, split: str = "", skip_bad: bool = False, expected: str = "") -> None:
        """Remember the name.

        Args:
            name: ``"NAME"``, ``"NAME:CONFIG"``, ``"NAME@REVISION"`` or ``"NAME:CONFIG@REVISION"``.
            split: As the hub calls it, or one of ours; ``""``: all, one after the other.
            skip_bad: See ``Source``.
            expected: See ``Source``.

        Raises:
            CorpusError: There is no name.
        """
        name, _, self._revision = name.partition("@")
        self._name, _, self._config = name.partition(":")
        self._asked = split
        super().__init__(f"hub:{name}", split=split, skip_bad=skip_bad, expected=expected)

    def _look(self) -> None:
        if not self._name:
            raise CorpusError("this corpus has no name of its own on the datasets hub; give one: hub:NAME")

    def files(self, *patterns: str, split: bool = True) -> list[File]:
        """Refuse: rows of the hub lie in no files.

        Raises:
            CorpusError: Always.
        """
        raise CorpusError(f"{self.path}: this reader reads files only; download them and give their path")

    def has(self, *patterns: str) -> bool:
        """Return False: there are no files."""
        return False

    def is_table(self, *endings: str) -> bool:
        """Return False, too."""
        return False

    def rows(self, *patterns: str) -> Numbered:
        """Yield the rows.

        Raises:
            CorpusError: The data set cannot be had.
        """
        for split, table in self._tables():
            self._begin(f"{self.path} [{split}]", "row")
            rows = iter(table)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    break
                except Exception as error:  # the library has no common class for what can happen to a download
                    self.fail(f"{self.place(self._next())}: expected a row, the hub broke off: {error}", error)
                    break
                yield self._next(), row

    def json_array(self, *patterns: str) -> Numbered:
        """Yield the rows, which are what an element of the files' arrays is."""
        return self.rows()

    def _tables(self) -> Iterator[tuple[str, Any]]:
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise CorpusError(
                f"{self.path}: reading from the hub needs 'datasets': pip install dialog-gym[data]"
            ) from error
        try:
            found = load_dataset(self._name, self._config or None, revision=self._revision or None, streaming=True)
        except Exception as error:  # see above
            told = str(error).strip().splitlines()
            raise CorpusError(
                f"{self.path}: cannot get {self._name!r} from the datasets hub ({type(error).__name__}: "
                f"{told[0] if told else ''}); check the name and the network, add @refs/convert/parquet if it is a "
                "data set with a script, or download its files and give their path"
            ) from error
        wanted = [split for split in found if not self.split or split_of(split) == self.split]
        if not wanted:
            raise CorpusError(f"{self.path}: no split {self._asked!r}, it has {', '.join(map(repr, found))}")
        return ((split, found[split]) for split in wanted)
