"""Sums of LoRA adapters, exactly.

An adapter changes a weight by ``scale * B A``. The sum of such changes is one adapter whose ranks are those of all put
together, ``A = [A_1; A_2]`` and ``B = [c_1 scale_1 B_1, c_2 scale_2 B_2]``; averaging A and B apart from each other
would add products of the one's A with the other's B.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from dialog_gym.lm.merge_tensors import MergeError, Source, same_names, widest, write_tensors
from dialog_gym.lm.spec import parse

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter."""
    return (folder / ADAPTER).exists() and (folder / ADAPTER_WEIGHTS).exists()


def sum_adapters(out: Path, parts: Sequence[tuple[Path, float]]) -> int:
    """Write ``sum_i c_i adapter_i`` as one adapter to the new folder ``out``, and return its rank.

    Raises:
        MergeError: One is no plain LoRA adapter, or they are not for weights of the same names and shapes. Nothing
            has been written.
    """
    configs = [_config(folder) for folder, _ in parts]
    ranks = [int(config["r"]) for config in configs]
    factors = [factor * _scale(config) for (_, factor), config in zip(parts, configs, strict=True)]
    with ExitStack() as stack:
        sources = [Source(folder, [ADAPTER_WEIGHTS], stack) for folder, _ in parts]
        _check(sources, ranks)
        names = sources[0].names
        rank = sum(ranks)
        shapes = {name: _shape(sources[0].shape(name), name, rank) for name in names}
        dtypes = {name: widest(sources, name) for name in names}

        def make(name: str) -> Tensor:
            if name.endswith(_DOWN):
                return torch.cat([source[name].to(dtypes[name]) for source in sources], 0)
            scaled = [source[name].double() * factor for source, factor in zip(sources, factors, strict=True)]
            return torch.cat(scaled, 1).to(dtypes[name])

        out.mkdir(parents=True)
        write_tensors(out / ADAPTER_WEIGHTS, shapes, dtypes, make)
    config = {**configs[0], "r": rank, "lora_alpha": rank, "use_rslora": False, "inference_mode": True}
    (out / ADAPTER).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return rank


def base_of(folder: Path) -> str:
    """Return the model that an adapter says it is for."""
    return str(_config(folder).get("base_model_name_or_path"))


def without_adapter(spec: str) -> tuple[str, Path | None]:
    """Return a model spec without the adapter it names, and that adapter.

    >>> without_adapter("hf:NAME?adapter=runs/a&dtype=bfloat16")
    ('hf:NAME?dtype=bfloat16', PosixPath('runs/a'))
    """
    options = dict(parse(spec).options)
    adapter = options.pop("adapter", None)
    if adapter is None:
        return spec, None
    tail = "&".join(f"{name}={quote(value, safe='/')}" for name, value in options.items())
    return spec.rpartition("?")[0] + (f"?{tail}" if tail else ""), Path(adapter)


def with_adapter(spec: str, adapter: Path) -> str:
    """Return a model spec with an adapter.

    >>> with_adapter("tiny", Path("runs/a"))
    'tiny?adapter=runs/a'

    Raises:
        ValueError: It has one already.
    """
    options = parse(spec).options
    if "adapter" in options:
        raise ValueError(f"{spec!r} has an adapter already; put both together with sum_adapters")
    return f"{spec}{'&' if options else '?'}adapter={quote(str(adapter), safe='/')}"


def _config(folder: Path) -> dict[str, Any]:
    """Return the settings of an adapter.

    Raises:
        MergeError: It is more than matrices A and B of one rank.
    """
    found: dict[str, Any] = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    kind = str(found.get("peft_type")).rpartition(".")[2]
    strange = [
        name
        for name in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "trainable_token_indices")
        if found.get(name)
    ]
    if kind != "LORA" or strange or found.get("bias", "none") != "none":
        what = strange[0] if strange else "bias" if kind == "LORA" else kind
        raise MergeError(
            f"{folder} is no plain LoRA adapter ({what}); put it into its model's weights (peft's merge_and_unload) "
            "and merge the models"
        )
    return found


def _scale(config: dict[str, Any]) -> float:
    rank = config["r"]
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check(sources: Sequence[Source], ranks: Sequence[int]) -> None:
    """Refuse adapters that are not for the same weights."""
    same_names(sources)
    first = sources[0]
    if odd := [name for name in first.names if not name.endswith((_DOWN, _UP))]:
        raise MergeError(f"{first.folder} holds {odd[0]!r} beside the matrices of an adapter, which cannot be merged")
    for source, rank in zip(sources, ranks, strict=True):
        for name in source.names:
            expected = _shape(first.shape(name), name, rank)
            if source.shape(name) != expected:
                raise MergeError(
                    f"{name!r} has the shape {source.shape(name)} in {source.folder}, expected {expected} as in "
                    f"{first.folder}: the adapters are for different models"
                )


def _shape(shape: tuple[int, ...], name: str, rank: int) -> tuple[int, ...]:
    """Return the shape of a matrix of an adapter with another rank."""
    return (rank, shape[1]) if name.endswith(_DOWN) else (shape[0], rank)
