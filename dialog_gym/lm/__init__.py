"""Language models behind one interface; ``load("tiny")`` needs no network and no download."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from weakref import WeakValueDictionary

from dialog_gym.lm.base import Generation, LanguageModel, Messages, Sampling

__all__ = ["Generation", "LanguageModel", "Messages", "Sampling", "load"]

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
    if Path(spec).is_dir():
        return spec
    near = get_close_matches(spec, EMBEDDED, n=1)
    raise ValueError(
        f"unknown language model {spec!r}: expected one of {EMBEDDED}, 'hf:NAME_OR_PATH' or the path of a folder"
        + (f"; did you mean {near[0]!r}?" if near else "")
    )
