"""Loading a causal model, its tokenizer and perhaps an adapter from a folder or a hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16", "auto")


def load_pretrained(
    name_or_path: str | Path, dtype: str, device: str | None, adapter: str | Path | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model and its tokenizer; the arguments are those of ``TransformersLM.from_pretrained``.

    Raises:
        ValueError: There is no such model or adapter, or no such dtype.
        ModuleNotFoundError: An adapter was asked for and peft is not installed.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be float32, bfloat16, float16 or auto, got {dtype!r}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
        with no_bar() if Path(name_or_path).is_dir() else nullcontext():
            model: Any = AutoModelForCausalLM.from_pretrained(str(name_or_path), dtype=dtype)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot load a causal language model from {str(name_or_path)!r}: give a folder with config.json, "
            f"weights and tokenizer, or the name of one on a hub that can be reached ({error})"
        ) from error
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return (model if adapter is None else _adapted(model, adapter)), tokenizer


def _adapted(model: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    """Return ``model`` with the weights of ``adapter`` merged into its own, so that it costs nothing per token."""
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the adapter {str(adapter)!r} needs {error.name}: pip install 'dialog-gym[peft]'", name=error.name
        ) from error
    try:
        merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"cannot put the adapter {str(adapter)!r} on {type(model).__name__}: give a folder (or a name on a hub) "
            f"with adapter_config.json and weights made for this very model by peft ({error!s:.300})"
        ) from error
    return merged


@contextmanager
def no_bar() -> Iterator[None]:
    """Keep the progress bars over the tensors of files off the screen."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
