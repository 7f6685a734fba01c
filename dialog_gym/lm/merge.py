"""Linear merging of models: ``sum_i w_i theta_i`` with weights that are normalised to 1 (P-SACPO, arXiv:2404.11049).

Sources are folders of one kind: models of transformers, LoRA adapters of peft, or language-model policies of this
package (runs or agents), which merge to a policy. Merging a model with what was trained from it (P-SACPO) and merging
models that were trained apart from each other ("naive") are the same.

- *Models* are merged from safetensors to safetensors, one tensor in memory at a time (with the one being summed up).
- *Adapters* are merged exactly, by putting their ranks together (``dialog_gym.lm.merge_adapters``): the merged rank is
  the sum of theirs.
- *Policies with adapters* may begin from different models if these differ by an adapter, as the stages of SACPO do;
  what they have in common is there once.

A source of weight 0 is left out, and one that is left alone is copied byte for byte. Nothing is written before all has
been compared, and what is written is whole or not there at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dialog_gym import checkpoint
from dialog_gym.lm.merge_adapters import ADAPTER_WEIGHTS, base_of, is_adapter, sum_adapters, without_adapter
from dialog_gym.lm.merge_tensors import (
    INDEX,
    WEIGHTS,
    MergeError,
    Source,
    mean_of,
    same_names,
    same_shapes,
    weight_files,
    widest,
    write_tensors,
)

__all__ = ["MergeError", "merge", "merge_grid"]

Parts = Sequence[tuple[Path, float]]
"""Folders of one kind, with weights that sum to 1."""

_MODEL, _SUMS = "model", "checksums.json"  # of a policy, see dialog_gym.agents.lm_policy
_OTHER_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf"}
"""Endings of files that hold a source's own weights (or its optimiser), which are not those of the merged model."""


def merge(out: str | Path, parts: Mapping[str | Path, float]) -> Path:
    """Write the weighted mean of models to ``out``, and return it.

    Args:
        out: A folder that does not exist yet.
        parts: Weights by folder; they need not sum to 1.

    Raises:
        MergeError: A weight is negative or all are 0, sources are of different kinds, names or shapes, or ``out`` is
            there already. Nothing has been written.
        OSError: The disk is full, and so on. ``out`` is not there then.
    """
    out, used = Path(out), _normalised(parts)
    if out.exists():
        raise MergeError(f"{out} is there already: choose a new folder, or remove it")
    folders = [(_agent_of(folder), weight) for folder, weight in used]
    write = _copy if len(folders) == 1 else _writer([folder for folder, _ in folders])
    with checkpoint.new_folder(out) as partial:
        write(partial, folders)
        checkpoint.flush_tree(partial)
    return out


def merge_grid(out: str | Path, first: str | Path, second: str | Path, grid: Iterable[float]) -> dict[float, Path]:
    """Write ``(1 - q) first + q second`` for each q of ``grid`` to ``out/q-Q``; what is there already is left alone.

    Raises:
        MergeError: As ``merge``, or a q is not in [0, 1], or both are one folder, or ``out`` holds merges of others.
    """
    places = {q: Path(out) / f"q-{q:g}" for q in grid}
    if wrong := [q for q in places if not 0 <= q <= 1]:
        raise MergeError(f"q must be in [0, 1], got {wrong[0]}")
    if Path(first) == Path(second):
        raise MergeError(f"a grid needs two models, got {first} twice")
    note, sources = Path(out) / "grid.json", [str(Path(folder).resolve()) for folder in (first, second)]
    if note.exists() and (others := json.loads(note.read_text(encoding="utf-8"))) != sources:
        raise MergeError(f"{out} holds merges of {others}, and now {sources} are to be merged: choose a new folder")
    for q in sorted(places, key=lambda q: q in (0, 1)):  # an end is copied after what does not fit was refused
        if not places[q].exists():
            merge(places[q], {first: 1 - q, second: q})
            checkpoint.write_json(note, sources)
    return places


# --- sources ------------------------------------------------------------------------------------


def _normalised(parts: Mapping[str | Path, float]) -> list[tuple[Path, float]]:
    """Return the sources whose weight is not 0, with weights that sum to 1."""
    for folder, weight in parts.items():
        if not 0 <= weight < float("inf"):
            raise MergeError(f"weights must be numbers of at least 0, got {weight} for {folder}")
        if not Path(folder).is_dir():
            raise MergeError(f"there is no folder {folder}: give a model, an adapter, an agent or a run")
        _kind(_agent_of(Path(folder)))
    total = sum(parts.values())
    if not total:
        raise MergeError("expected at least one source with a weight above 0, got none")
    return [(Path(folder), weight / total) for folder, weight in parts.items() if weight]


def _agent_of(folder: Path) -> Path:
    """Return the agent of a run folder; any other folder as it is."""
    return folder / "agent" if (folder / "agent" / checkpoint.INDEX).exists() else folder


def _kind(folder: Path) -> str:
    if (folder / checkpoint.INDEX).exists():
        return "a policy"
    if is_adapter(folder):
        return "an adapter"
    if (folder / WEIGHTS).exists() or (folder / INDEX).exists():
        return "a model"
    raise MergeError(
        f"{folder} holds no weights that can be merged: expected {WEIGHTS} (or {INDEX}), {ADAPTER_WEIGHTS}, or an "
        "agent or run of a language model"
    )


def _writer(folders: Sequence[Path]) -> Callable[[Path, Parts], None]:
    """Return what merges folders of their kind."""
    kinds = [_kind(folder) for folder in folders]
    for folder, kind in zip(folders, kinds, strict=True):
        if kind != kinds[0]:
            raise MergeError(f"only one kind can be merged, got {folders[0]} ({kinds[0]}) and {folder} ({kind})")
    return {"a model": _merge_models, "an adapter": _merge_adapters, "a policy": _merge_policies}[kinds[0]]


def _copy(out: Path, parts: Parts) -> None:
    shutil.copytree(parts[0][0], out)


# --- models and adapters --------------------------------------------------------------------------


def _merge_models(out: Path, parts: Parts) -> None:
    weights = [weight for _, weight in parts]
    with ExitStack() as stack:
        sources = [Source(folder, weight_files(folder), stack) for folder, _ in parts]
        same_names(sources)
        same_shapes(sources)
        _same_words([folder for folder, _ in parts])
        dtypes = {name: widest(sources, name) for name in sources[0].names}
        out.mkdir(parents=True)
        for path in sorted(parts[0][0].iterdir()):
            if path.is_file() and path.suffix not in _OTHER_WEIGHTS and path.name != _SUMS:
                shutil.copy2(path, out / path.name)
        for file, names in sources[0].files.items():
            shapes = {name: sources[0].shape(name) for name in names}
            write_tensors(out / file, shapes, dtypes, lambda name: mean_of(sources, weights, name))


def _same_words(folders: Sequence[Path]) -> None:
    """Refuse models whose tokens are not the same words."""
    told = [_vocabulary(folder / "tokenizer.json") for folder in folders]
    for folder, words in zip(folders, told, strict=True):
        if words != told[0]:
            raise MergeError(
                f"the tokenizers of {folders[0]} and {folder} differ: their tokens are not the same words"
            )


def _vocabulary(path: Path) -> Any:
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found.get("model"), found.get("added_tokens")


def _merge_adapters(out: Path, parts: Parts) -> None:
    bases = [base_of(folder) for folder, _ in parts]
    for (folder, _), base in zip(parts, bases, strict=True):
        if base != bases[0]:
            raise MergeError(
                f"{parts[0][0]} is for the model {bases[0]!r} and {folder} for {base!r}: adapters of one model can be "
                "merged"
            )
    sum_adapters(out, parts)


# --- policies ---------------------------------------------------------------------------------------


def _merge_policies(out: Path, parts: Parts) -> None:
    """Merge policies to one that has the settings of the first."""
    told = [checkpoint.read_index(folder) for folder, _ in parts]
    for (folder, _), index in zip(parts, told, strict=True):
        _check_policy(folder, index, parts[0][0], told[0])
    data: dict[str, Any] = dict(told[0]["data"])
    models = [(folder / _MODEL, weight) for folder, weight in parts]
    adapted = bool(data["args"]["lora"])
    data["more"] = {**data["more"], "merged": {str(folder): weight for folder, weight in parts}}
    if adapted:
        root, sums = _common_base(told, models)
        data["base"] = {**data["base"], "spec": root}
        data["args"] = {**data["args"], "lm": root}

    def fill(folder: Path) -> None:
        place = folder / _MODEL
        if adapted:
            sum_adapters(place, sums)
            for path in models[0][0].glob("*token*"):
                shutil.copy2(path, place / path.name)
        else:
            _merge_models(place, models)
        found = {path.name: checkpoint.checksum(path) for path in sorted(place.iterdir())}
        (place / _SUMS).write_text(json.dumps(found), encoding="utf-8")

    checkpoint.write(out, str(told[0]["kind"]), {}, data, beside=fill)


def _check_policy(folder: Path, index: Mapping[str, Any], first: Path, other: Mapping[str, Any]) -> None:
    """Refuse what is no policy whose model is all of it, or one of another form than the first."""
    from safetensors import safe_open

    with safe_open(str(folder / checkpoint.ARRAYS), framework="np") as arrays:
        heads = list(arrays.keys())
    if not (folder / _MODEL).is_dir() or heads:
        raise MergeError(f"{folder} ({index['kind']}) is more than a language model, and cannot be merged as a policy")
    mine, theirs = (bool(one["data"]["args"]["lora"]) for one in (index, other))
    if mine != theirs or index["data"]["tokens"] != other["data"]["tokens"]:
        raise MergeError(
            f"{first} and {folder} are not alike: both must have an adapter or none, and the same tokens added"
        )


def _common_base(told: Sequence[Mapping[str, Any]], models: Parts) -> tuple[str, list[tuple[Path, float]]]:
    """Return the model that all policies go back to, and the sum of adapters on it that is their mean."""
    factors: dict[Path, float] = {}
    roots = []
    for index, (place, weight) in zip(told, models, strict=True):
        root, below = without_adapter(index["data"]["base"]["spec"])
        roots.append(root)
        for adapter in (place, *([] if below is None else [below])):
            key = adapter.resolve()
            factors[key] = factors.get(key, 0.0) + weight
    for (place, _), root in zip(models, roots, strict=True):
        if root != roots[0]:
            raise MergeError(f"{models[0][0]} goes back to the model {roots[0]!r} and {place} to {root!r}")
    return roots[0], list(factors.items())
