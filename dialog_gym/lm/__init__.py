"""Language models behind one interface; ``load("tiny")`` needs no network and no download."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from dialog_gym.lm.base import Generation, LanguageModel, Messages, Sampling, require
from dialog_gym.lm.speaker_cache import built_speaker
from dialog_gym.lm.spec import EMBEDDED, Spec, arguments, parse

if TYPE_CHECKING:
    from dialog_gym.lm.prefix import PrefixMap

__all__ = ["EMBEDDED", "Generation", "LanguageModel", "Messages", "Sampling", "load", "load_prefix"]

WEIGHTS = Path(__file__).parent / "weights"

_LOADED: WeakValueDictionary[tuple[str, str, str | None], LanguageModel] = WeakValueDictionary()
_LOADING = threading.RLock()


def load(spec: str, *, dtype: str = "float32", device: str | None = None) -> LanguageModel:
    """Return the language model that ``spec`` names.

    A model is frozen, so that one copy serves all who ask for it while somebody holds it.

    - ``tiny``: the small model that ships with the package; ``tiny-bargain``, ``tiny-chat``, ... know one world each,
      and take prefixes better.
    - ``speaker:NAME``: a small model that ``dialog-gym fit speaker`` has built into the user's cache.
    - ``hf:NAME_OR_PATH``: any causal model, through transformers; the path of a folder alone means the same.
    - ``vllm:NAME_OR_PATH``: the same through vLLM, in this process.
    - ``openai:MODEL@URL``: a model behind any OpenAI-compatible server; URL is the base, with ``/v1``.

    Options stand behind ``?``: ``hf:NAME?dtype=bfloat16&device=cpu&adapter=FOLDER``,
    ``openai:MODEL@URL?concurrency=32&timeout=60&key_env=MY_KEY&cache=FILE``. They are the arguments of
    ``TransformersLM.from_pretrained``, ``VllmLM.from_pretrained`` and ``OpenAILM``, which tell what they do.

    Args:
        spec: Which model.
        dtype: Of the weights of a model in this process, where the spec does not say.
        device: Where a transformers model runs, where the spec does not say.

    Raises:
        ValueError: Nothing has this name, or an option is unknown.
        ModuleNotFoundError: The package that runs it is not installed.
    """
    key = (spec, dtype, device)
    with _LOADING:
        found = _LOADED.get(key)
        if found is None:
            found = _LOADED[key] = _load(spec, parse(spec), dtype, device)
        return found


def load_prefix(spec: str, lm: LanguageModel) -> PrefixMap:
    """Return the prefix map that ``spec`` names, for ``lm``.

    Args:
        spec: A folder with a saved map; ``"pca"``, which is computed from the model's embeddings (action size 16,
            two tokens before the reply); or the name of a map that lies in the model's own folder (``"steer"``).
        lm: The model to be steered; its input embeddings are known here (``embedding_matrix``).

    Raises:
        UnsupportedError: The model takes no prefix.
        ValueError: There is no such map, or it belongs to another model.
    """
    from dialog_gym.lm.prefix import PcaMap, PrefixMap

    require(lm, {"prefix"}, f"prefix map {spec!r}")
    steerable: Any = lm
    home: Path | None = steerable.folder
    for folder in (Path(spec), None if home is None else home / spec):
        if folder is not None and (folder / "prefix.json").is_file():
            return PrefixMap.load(folder, steerable)
    if spec == "pca":
        return PcaMap.of(steerable.embedding_matrix).bind(steerable)
    have = sorted(path.parent.name for path in home.glob("*/prefix.json")) if home else []
    raise ValueError(
        f"no prefix map {spec!r} for language model {lm.name!r}: expected 'pca', a folder with a saved map, or one of "
        f"the maps that come with the model ({', '.join(have) or 'none'}); 'dialog-gym fit prefix' makes one"
    )


def _load(text: str, spec: Spec, dtype: str, device: str | None) -> LanguageModel:
    if spec.backend == "openai":
        make = _backend(text, "openai_lm", "OpenAILM", "api")
        model: LanguageModel = make(spec.name, spec.url, **arguments(make, spec.options, ("model", "url")))
        return model
    if spec.backend == "vllm":
        make, device = _backend(text, "vllm_lm", "VllmLM", "vllm").from_pretrained, None
    else:
        make = _backend(text, "transformers_lm", "TransformersLM", "torch").from_pretrained
    options = {"dtype": dtype, "name": text, **({} if device is None else {"device": device})}
    options.update(arguments(make, spec.options, ("name_or_path", "name")))
    made: LanguageModel = make(_folder(spec), **options)
    return made


def _folder(spec: Spec) -> Path | str:
    if spec.backend == "speaker":
        return built_speaker(spec.name)
    return _embedded(spec.name) if spec.name in EMBEDDED else spec.name


def _backend(text: str, module: str, name: str, extra: str) -> Any:
    try:
        return getattr(import_module(f"dialog_gym.lm.{module}"), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the language model {text.partition('?')[0]!r} needs {error.name}: pip install 'dialog-gym[{extra}]'",
            name=error.name,
        ) from error


def _embedded(name: str) -> Path:
    folder = WEIGHTS / name
    if not (folder / "config.json").is_file():
        raise ValueError(f"the package has no weights for {name!r}: build them, see dialog_gym.lm.build_tiny")
    return folder
