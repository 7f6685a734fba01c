"""Encodings of texts on disk: each distinct text is encoded once, whoever asks, and read by memory map.

A folder holds ``vectors`` (numbers, row after row), ``keys`` (a 16-byte hash of each row's text) and ``about.json``.
Rows are added at the end, vectors before keys, so a kill leaves at most some vectors that have no key, which the next
addition overwrites. The folder's name has the encoder's fingerprint, so another encoder has another folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from dialog_gym import checkpoint
from dialog_gym.lm.speaker_cache import cache_folder
from dialog_gym.rewards.decomposition.encoders import Encoder
from dialog_gym.runs import RunFolderError, lock_folder

_KEY = 16  # bytes
_PATIENCE = 60.0  # seconds that another process may take to add its rows


class Store(Protocol):
    """Where the turns of a corpus are, each distinct one once.

    Attributes:
        encoder: Reads them.
    """

    encoder: Encoder

    def rows(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the row of each text, shape ``(n,)``; new ones are added."""
        ...


def default_folder() -> Path:
    """Return where encodings lie unless told otherwise: ``encodings`` in the user's cache."""
    return cache_folder() / "encodings"


class EncodingCache:
    """The encodings of one encoder. Memory holds the hashes; vectors stay on disk.

    Attributes:
        folder: Where they lie.
        encoder: Makes those that are missing.
        encoded: How many texts were encoded here, so far.
    """

    def __init__(self, folder: str | Path, encoder: Encoder) -> None:
        """Open the part of ``folder`` that is the encoder's; it is made if need be."""
        self.encoder = encoder
        self.folder = Path(folder) / f"{encoder.name}-{encoder.fingerprint()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.encoded = 0
        self._dtype = np.dtype(encoder.dtype)
        self._row_bytes = encoder.size * self._dtype.itemsize
        self._known: dict[bytes, int] = {}
        if not (self.folder / "about.json").exists():
            about = {"encoder": encoder.name, "size": encoder.size, "dtype": self._dtype.name}
            checkpoint.write_json(self.folder / "about.json", about)
        self._look()

    def __len__(self) -> int:
        """Return how many texts are known."""
        return len(self._known)

    def rows(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the row of each text in ``vectors``, shape ``(n,)``; those that are missing are encoded."""
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            vectors = np.ascontiguousarray(self.encoder(list(missing.values())), self._dtype)
            self.encoded += len(missing)
            self._add(list(missing), vectors)
        return np.array([self._known[key] for key in keys], np.int64)

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """What is known, as a memory map of shape ``(len(self), encoder.size)``; read-only."""
        if not self._known:
            return np.zeros((0, self.encoder.size), self._dtype)
        shape = (len(self._known), self.encoder.size)
        return np.memmap(self.folder / "vectors", self._dtype, "r", shape=shape)

    def _look(self) -> None:
        """Take in the keys that were added since, by whomever; rows never move."""
        path = self.folder / "keys"
        if not path.exists():
            return
        with open(path, "rb") as file:
            file.seek(len(self._known) * _KEY)
            new = file.read()
        for start in range(0, len(new) - _KEY + 1, _KEY):
            self._known[new[start : start + _KEY]] = len(self._known)

    def _add(self, keys: list[bytes], vectors: npt.NDArray[Any]) -> None:
        lock = self._locked()
        try:
            self._look()  # another process may have been faster
            places = [place for place, key in enumerate(keys) if key not in self._known]
            count = len(self._known)
            self._append("vectors", count * self._row_bytes, vectors[places].tobytes())
            self._append("keys", count * _KEY, b"".join(keys[place] for place in places))
            self._look()
        finally:
            lock.close()

    def _append(self, name: str, at: int, data: bytes) -> None:
        path = self.folder / name
        path.touch()
        with open(path, "r+b") as file:
            file.truncate(at)
            file.seek(at)
            file.write(data)

    def _locked(self) -> IO[str]:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return lock_folder(self.folder, "cache of encodings")
            except RunFolderError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


class TextFile:
    """Texts in one file, for an encoder that is tuned: its encodings change, so there is nothing to keep of them.

    Attributes:
        encoder: Reads them.
    """

    def __init__(self, path: Path, encoder: Encoder) -> None:
        """Begin an empty file at ``path``."""
        self.encoder = encoder
        self._path = path
        self._ends = [0]
        self._known: dict[bytes, int] = {}
        path.write_bytes(b"")

    def rows(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the row of each text, shape ``(n,)``; new ones are added."""
        keys = [_key(text) for text in texts]
        with open(self._path, "ab") as file:
            for key, text in zip(keys, texts, strict=True):
                if key not in self._known:
                    self._known[key] = len(self._known)
                    self._ends.append(self._ends[-1] + file.write(text.encode(errors="surrogatepass")))
        return np.array([self._known[key] for key in keys], np.int64)

    def texts(self, rows: Sequence[int]) -> list[str]:
        """Return the texts of ``rows``."""
        found = []
        with open(self._path, "rb") as file:
            for row in rows:
                file.seek(self._ends[row])
                found.append(file.read(self._ends[row + 1] - self._ends[row]).decode(errors="surrogatepass"))
        return found

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


def _key(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_KEY).digest()
