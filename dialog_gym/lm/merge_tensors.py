"""Weights on disk, tensor by tensor: reading several safetensors files at once, comparing them, writing a mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

Make = Callable[[str], Tensor]
"""Returns the tensor that is to be written under a name."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class MergeError(ValueError):
    """Models cannot be merged; nothing has been written."""


class Source:
    """The tensors of a folder, read one at a time.

    Attributes:
        folder: Where they lie.
        files: The names of the tensors in each file.
    """

    def __init__(self, folder: Path, names: Sequence[str], stack: ExitStack) -> None:
        """Open the files ``names`` in ``folder``, until ``stack`` is closed."""
        self.folder = folder
        self.files: dict[str, list[str]] = {}
        self._open: dict[str, Any] = {}
        for name in names:
            file = stack.enter_context(safe_open(str(folder / name), framework="pt"))
            self.files[name] = list(file.keys())
            self._open.update(dict.fromkeys(self.files[name], file))

    @property
    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._open)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return tuple(self._open[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor without reading it.

        Raises:
            MergeError: It is none that can be merged (quantised weights).
        """
        told = str(self._open[name].get_slice(name).get_dtype())
        if told not in _DTYPES:
            raise MergeError(
                f"{name!r} in {self.folder} is of type {told}, which cannot be merged; take float weights"
            )
        return _DTYPES[told]

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor."""
        found: Tensor = self._open[name].get_tensor(name)
        return found


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files that hold a model's weights.

    Raises:
        MergeError: The index names a file that is missing.
    """
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    names = sorted(set(index["weight_map"].values()))
    if missing := [name for name in names if not (folder / name).exists()]:
        raise MergeError(f"{folder / missing[0]} is missing, and {INDEX} names it; take a whole copy of the model")
    return names


def same_names(sources: Sequence[Source]) -> None:
    """Refuse sources that do not have tensors of the same names.

    Raises:
        MergeError: They have not.
    """
    first = sources[0]
    for other in sources[1:]:
        if strange := sorted(set(first.names) ^ set(other.names)):
            owner = first if strange[0] in first.names else other
            raise MergeError(
                f"{first.folder} and {other.folder} have different weights: only {owner.folder} has {strange[0]!r} "
                f"({len(strange)} such names); models of one architecture can be merged"
            )


def same_shapes(sources: Sequence[Source]) -> None:
    """Refuse sources whose tensors do not have the same shapes.

    Raises:
        MergeError: They have not.
    """
    first = sources[0]
    for other in sources[1:]:
        for name in first.names:
            if first.shape(name) != other.shape(name):
                raise MergeError(
                    f"{name!r} has the shape {first.shape(name)} in {first.folder} and {other.shape(name)} in "
                    f"{other.folder}; models of one shape can be merged"
                )


def mean_of(sources: Sequence[Source], weights: Sequence[float], name: str) -> Tensor:
    """Return the weighted sum of a tensor over sources, of the widest of their dtypes.

    It is computed in float64 where that is float32 or wider, else in float32.

    Raises:
        MergeError: Whole numbers differ, which have no mean.
    """
    dtype = widest(sources, name)
    if not dtype.is_floating_point:
        values = [source[name] for source in sources]
        if any(not torch.equal(values[0], value) for value in values[1:]):
            raise MergeError(f"{name!r} holds whole numbers that differ between {sources[0].folder} and the others")
        return values[0]
    wide = torch.float64 if dtype in (torch.float32, torch.float64) else torch.float32
    total = torch.zeros(sources[0].shape(name), dtype=wide)
    for source, weight in zip(sources, weights, strict=True):
        total.add_(source[name].to(wide), alpha=weight)
    return total.to(dtype)


def widest(sources: Sequence[Source], name: str) -> torch.dtype:
    """Return the dtype that holds a tensor of every source."""
    dtype = sources[0].dtype(name)
    for source in sources[1:]:
        dtype = torch.promote_types(dtype, source.dtype(name))
    return dtype


def write_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, torch.dtype], make: Make
) -> None:
    """Write a safetensors file, asking ``make`` for one tensor after the other."""
    with open(path, "wb") as file:
        _write_header(file, shapes, dtypes)
        for name in shapes:
            tensor = make(name)
            if tuple(tensor.shape) != shapes[name] or tensor.dtype != dtypes[name]:
                raise MergeError(
                    f"{name!r}: expected {shapes[name]} {dtypes[name]}, made {tensor.shape} {tensor.dtype}"
                )
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _write_header(file: IO[bytes], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, torch.dtype]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        end = place + torch.Size(shape).numel() * dtypes[name].itemsize
        header[name] = {"dtype": _NAMES[dtypes[name]], "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants tensors aligned
    file.write(len(text).to_bytes(8, "little") + text)
