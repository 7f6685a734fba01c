"""What data a run has learned from, by content."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes
from dialog_gym.data.rankings import Rankings
from dialog_gym.data.store import Table, read_manifest

TABLES: dict[str, type[Table[Any]]] = {table.kind: table for table in (Episodes, Rankings)}


def load(path: str | Path) -> Table[Any]:
    """Return the data set in ``path``, of whichever kind it is.

    Raises:
        DatasetError: There is none, or it is damaged.
    """
    found = read_manifest(Path(path))
    if found.get("kind") not in TABLES:
        raise DatasetError(f"{path} holds {found.get('kind')!r}; this version reads {' and '.join(TABLES)}")
    return TABLES[found["kind"]].load(path)


def content_hash(path: str | Path) -> str:
    """Return the content hash of a data set, or of a single file, 32 hexadecimal digits.

    A data set is not read for it but for its journal and the ends of its shards.

    Raises:
        DatasetError: There is neither a data set nor a file.
    """
    path = Path(path)
    if path.is_dir():
        return load(path).content_hash
    digest = blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"cannot read the data {path}: {error}") from error
    return digest.hexdigest()


def hashes(paths: Iterable[str | Path]) -> dict[str, str]:
    """Return the content hash of each data set or file, for the configuration of a run.

    A run folder compares its configuration when it is opened again, so a run does not go on with other data.
    """
    return {str(path): content_hash(path) for path in paths}
