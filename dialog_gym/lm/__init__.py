"""Language models behind one interface; ``load("tiny")`` needs no network and no download."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from dialog_gym.lm.base import Generation, LanguageModel, Messages, Sampling

if TYPE_CHECKING:
    from dialog_gym.lm.prefix import PrefixMap

__all__ = ["Generation", "LanguageModel", "Messages", "Sampling", "load", "load_prefix"]

EMBEDDED = ("tiny", "tiny-steerable")
"""Models that ship with the package: the plain one, and the one tuned together with its prefix map."""

WEIGHTS = Path(__file__).parent / "weights"

_LOADED: WeakValueDictionary[tuple[str, str, str | None], LanguageModel] = WeakValueDictionary()


def load(spec: str, *, dtype: str = "float32", device: str | None = None) -> LanguageModel:
    """Return the language model that ``spec`` names.

    A model is frozen, so that one copy serves all who ask for it while somebody holds it.

    Args:
        spec: ``"tiny"``, ``"tiny-steerable"``, ``"hf:NAME_OR_PATH"`` (transformers) or the path of a folder.
        dtype: Of the weights, see ``TransformersLM.from_pretrained``.
        device: Where it runs, likewise.

    Raises:
        ValueError: Nothing has this name.
        ModuleNotFoundError: torch or transformers is not installed.
    """
    key = (spec, dtype, device)
    found = _LOADED.get(key)
    if found is None:
        found = _LOADED[key] = _load(spec, dtype, device)
    return found


def load_prefix(spec: str, lm: LanguageModel) -> PrefixMap:
    """Return the prefix map that ``spec`` names, for ``lm``.

    Args:
        spec: A folder with a saved map; ``"pca"``, which is computed from the model's embeddings (action size 16,
            two tokens before the reply); or the name of a map that lies in the model's own folder (``"steer"``).
        lm: The model to be steered; one that runs in this process and has ``"prefix"`` among what it supports.

    Raises:
        ValueError: There is no such map, it belongs to another model, or the model takes no prefix.
    """
    from dialog_gym.lm.prefix import PcaMap, PrefixMap
    from dialog_gym.lm.transformers_lm import TransformersLM

    if not isinstance(lm, TransformersLM):
        raise ValueError(f"language model {lm.name!r} has no input embeddings here, which prefix {spec!r} needs")
    own = None if lm.folder is None else lm.folder / spec
    for folder in (Path(spec), own):
        if folder is not None and (folder / "prefix.json").is_file():
            return PrefixMap.load(folder, lm)
    if spec == "pca":
        return PcaMap.of(lm.embedding_matrix).bind(lm)
    have = sorted(path.parent.name for path in lm.folder.glob("*/prefix.json")) if lm.folder else []
    raise ValueError(
        f"no prefix map {spec!r} for language model {lm.name!r}: expected 'pca', a folder with a saved map, or one of "
        f"the maps that come with the model ({', '.join(have) or 'none'}); 'dialog-gym fit prefix' makes one"
    )


def _load(spec: str, dtype: str, device: str | None) -> LanguageModel:
    source = _source(spec)
    try:
        from dialog_gym.lm.transformers_lm import TransformersLM
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the language model {spec!r} needs {error.name}: pip install 'dialog-gym[torch]'", name=error.name
        ) from error
    return TransformersLM.from_pretrained(source, dtype, device, name=spec)


def _source(spec: str) -> str:
    if spec in EMBEDDED:
        folder = WEIGHTS / spec
        if not (folder / "config.json").is_file():
            raise ValueError(f"the package has no weights for {spec!r}: build them, see dialog_gym.lm.build_tiny")
        return str(folder)
    if spec.startswith("hf:") and len(spec) > 3:
        return spec.removeprefix("hf:")
    if spec and Path(spec).is_dir():
        return spec
    near = get_close_matches(spec, EMBEDDED, n=1)
    raise ValueError(
        f"unknown language model {spec!r}: expected one of {EMBEDDED}, 'hf:NAME_OR_PATH' or the path of a folder"
        + (f"; did you mean {near[0]!r}?" if near else "")
    )
