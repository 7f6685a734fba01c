"""Folders of arrays and JSON that are whole and right, or not there at all.

A checkpoint is a folder with ``arrays.safetensors`` and ``checkpoint.json`` (kind, JSON data, size and
CRC-32 of the arrays). ``write`` fills a folder beside the target, flushes it to the disk and renames
it, so a crash at any moment leaves either the old folder or the new one (for an instant the old one
as ``.old-NAME``, which the next ``write`` brings back). Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

FORMAT = "dialog_gym checkpoint 1"
ARRAYS = "arrays.safetensors"
INDEX = "checkpoint.json"
_PARTIAL = ".partial-"


class CheckpointError(ValueError):
    """A folder is no checkpoint, a damaged one, or one of another kind."""


class Checkpoint(NamedTuple):
    """What ``write`` was given."""

    arrays: dict[str, npt.NDArray[Any]]
    data: dict[str, Any]


def write(
    folder: str | Path,
    kind: str,
    arrays: Arrays,
    data: Mapping[str, Any],
    *,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write a checkpoint to ``folder``, replacing one that is there.

    Args:
        folder: Where; the folders above it are made.
        kind: Who can read it, for instance ``"td3"``.
        arrays: NumPy arrays by name.
        data: JSON values by name. Floats come back exactly.
        beside: Called with the unfinished folder, to put further files into it.

    Raises:
        CheckpointError: ``folder`` holds something else, which would be lost.
        OSError: The disk is full, the folder is read-only, and so on. What was there is still there.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / INDEX).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} holds something that is no checkpoint; choose another folder to save to")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{_PARTIAL}{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _bring_back(folder)
        partial.mkdir()
        _fill(partial, kind, arrays, data)
        if beside is not None:
            beside(partial)
        flush_tree(partial)
        _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read(folder: str | Path, kind: str) -> Checkpoint:
    """Return what ``write`` put into ``folder``.

    Raises:
        CheckpointError: There is no checkpoint, it is of another kind, or its bytes have changed.
    """
    folder = Path(folder)
    index = read_index(folder)
    if index["kind"] != kind:
        raise CheckpointError(f"expected a checkpoint of kind {kind!r} in {folder}, found kind {index['kind']!r}")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / ARRAYS
    try:
        found = (path.stat().st_size, checksum(path))
        if found == (index["bytes"], index["crc32"]):
            return Checkpoint(load_file(path), index["data"])
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    raise CheckpointError(
        f"{path} is damaged: expected {index['bytes']} bytes with CRC-32 {index['crc32']}, "
        f"found {found[0]} with {found[1]}; take another copy or an older checkpoint"
    )


def read_index(folder: str | Path) -> dict[str, Any]:
    """Return ``checkpoint.json``: ``kind``, ``data``, ``bytes`` and ``crc32``.

    Raises:
        CheckpointError: It is missing or not ours.
    """
    path = Path(folder) / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: it has no {INDEX}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    known = isinstance(index, dict) and index.get("format") == FORMAT
    if not known or not {"kind", "data", "bytes", "crc32"} <= set(index):
        raise CheckpointError(f"{path} is not in the format {FORMAT!r}; was it written by another program or version?")
    return dict(index)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` so that the file is either the old or the new one, whatever happens."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def claim(path: Path, config: Mapping[str, Any]) -> Any:
    """Note in ``path`` what a folder beside it is made by.

    Args:
        path: A JSON file.
        config: All that the content depends on, as JSON values.

    Returns:
        None, or what was noted there before if that is something else; then it stays.
    """
    plain = json.loads(json.dumps(config))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, plain)
        return None
    old = json.loads(path.read_text(encoding="utf-8"))
    return None if old == plain else old


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that the file is either the old or the new one, whatever happens."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write a new ``path``; on leaving it takes the place of ``path``, after an error it is removed.

    The file is either the old or the new one, whatever happens.
    """
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    try:
        yield partial
        with open(partial, "r+b") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def need_target(flag: str, path: Path) -> None:
    """Refuse a file that could not be written later, before the work whose result it is to hold; make its folder.

    Raises:
        ValueError: No file can be written there; the message begins with ``flag``.
    """
    if blocking := next((above for above in path.parents if above.exists() and not above.is_dir()), None):
        raise ValueError(f"{flag}: {blocking} is a file, so nothing can be written below it")
    if path.is_dir():
        raise ValueError(f"{flag}: {path} is a folder; give the name of a file in it")
    if path.exists() and not path.is_file():
        raise ValueError(f"{flag}: expected a file to write, got {path}, which is none")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{flag}: {path} cannot be written ({error}); choose another file") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield where to make a folder ``path``, which is not there yet; on leaving it is, after an error nothing is.

    Whatever happens, there is never a part of the folder under its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    shutil.rmtree(partial, ignore_errors=True)  # what a crash left
    try:
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def flush_tree(folder: Path) -> None:
    """Have the disk hold every file and folder below ``folder``."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(parent))


def remove_partial(folder: Path) -> None:
    """Remove what a crash in mid-write left in ``folder``."""
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fill(folder: Path, kind: str, arrays: Arrays, data: Mapping[str, Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = folder / ARRAYS
    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except SafetensorError as error:  # how the library reports a full disk
        raise OSError(f"could not write {path}: {error}") from error
    index = {"format": FORMAT, "kind": kind, "bytes": path.stat().st_size, "crc32": checksum(path), "data": data}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    shutil.copymode(folder / INDEX, path)  # save_file lets nobody else read it


def _swap(new: Path, folder: Path) -> None:
    old = _old(folder)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _flush_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _bring_back(folder: Path) -> None:
    """Undo a swap that a crash cut in two, and remove what one left behind."""
    old = _old(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".old-{folder.name}")


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
