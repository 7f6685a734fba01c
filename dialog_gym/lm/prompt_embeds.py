"""Prompts with a prefix as one tensor of input embeddings: how a model that runs elsewhere is steered.

Only the tokenizer, the chat template and the table of input embeddings are needed here; the model itself is in a
server or an engine that takes embeddings instead of token ids.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils.hub import cached_file

from dialog_gym.lm.base import Embeddings, Messages, Position
from dialog_gym.lm.chat import ChatFormat, eos_ids
from dialog_gym.lm.prefix import embeddings_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptEmbedder:
    """Writes chats as token ids and as input embeddings, as ``TransformersLM`` does for the same model.

    Attributes:
        tokenizer: The model's tokenizer.
        chat: How chats become tokens.
        embedding_matrix: The input embeddings, (vocabulary, embedding size).
        embedding_size: Length of one embedding.
        hidden_size: Length of what the output layer reads; part of the fingerprint.
        folder: Where it was read from, None if not from a folder.
    """

    def __init__(
        self,
        chat: ChatFormat,
        embedding_matrix: Tensor,
        *,
        hidden_size: int | None = None,
        scale: float = 1.0,
        folder: Path | None = None,
    ) -> None:
        """Embed by ``embedding_matrix``.

        Args:
            chat: How chats become tokens.
            embedding_matrix: (vocabulary, embedding size).
            hidden_size: Where it is another one than the embedding size.
            scale: What the model multiplies embeddings of tokens by (Gemma does); prefixes stay as they are.
            folder: Where prefix maps that come with the model lie.
        """
        self.chat = chat
        self.tokenizer: PreTrainedTokenizerBase = chat.tokenizer
        self.embedding_matrix = embedding_matrix.detach()
        self.embedding_size = embedding_matrix.shape[1]
        self.hidden_size = hidden_size or self.embedding_size
        self.folder = folder
        self._scale = scale

    @classmethod
    def from_pretrained(cls, name_or_path: str, dtype: str = "auto") -> Self:
        """Read tokenizer, settings and the table of input embeddings of a model; no other weights are loaded.

        Args:
            name_or_path: A folder, or the name of a model on a hub.
            dtype: What the model runs in, ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored):
                prompts and prefixes are rounded to it.

        Raises:
            ValueError: There is no such model, or its embeddings cannot be told apart in its weights.
        """
        if dtype not in ("float32", "bfloat16", "float16", "auto"):
            raise ValueError(f"dtype must be float32, bfloat16, float16 or auto, got {dtype!r}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            config = AutoConfig.from_pretrained(name_or_path)
            with torch.device("meta"):
                skeleton: Any = AutoModelForCausalLM.from_config(config)
            try:
                generation: Any = GenerationConfig.from_pretrained(name_or_path)
            except OSError:
                generation = None
            embeddings = skeleton.get_input_embeddings()
            (name,) = (name for name, one in skeleton.named_parameters() if one is embeddings.weight)
            matrix = _stored(name_or_path, name, tuple(embeddings.weight.shape))
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"cannot read the input embeddings of {name_or_path!r}: give a folder with config.json, tokenizer and "
                f"safetensors, or the name of one on a hub that can be reached ({error})"
            ) from error
        if dtype != "auto":
            matrix = matrix.to(getattr(torch, dtype))
        chat = ChatFormat(tokenizer, eos_ids(config, generation))
        folder = Path(name_or_path) if Path(name_or_path).is_dir() else None
        hidden = skeleton.get_output_embeddings().weight.shape[1]
        return cls(chat, matrix, hidden_size=hidden, scale=_scale(embeddings), folder=folder)

    def encode(self, prompts: Sequence[Messages], limit: int | None = None) -> list[list[int]]:
        """Return the token ids of each prompt with its generation prompt; ``limit`` as in ``ChatFormat.encode``."""
        return self.chat.encode(prompts, limit)

    def embed(
        self,
        prompts: Sequence[Messages],
        prefixes: Embeddings | None = None,
        position: Position = "end",
        limit: int | None = None,
    ) -> list[Tensor]:
        """Return each prompt as embeddings, (tokens + prefix tokens, embedding size).

        Args:
            prompts: Chats, n of them.
            prefixes: (n, prefix tokens, embedding size), or None.
            position: ``"end"`` puts a prefix right before the reply, ``"start"`` after BOS (or first of all).
            limit: As in ``ChatFormat.encode``; the prefix does not count.

        Raises:
            ValueError: The prefixes have another shape, or are not finite.
        """
        tokens = self.encode(prompts, limit)
        embedded = [self._look_up(ids) for ids in tokens]
        if prefixes is None:
            return embedded
        prefix = torch.as_tensor(prefixes).detach().to(self.embedding_matrix.device, self.embedding_matrix.dtype)
        if prefix.ndim != 3 or prefix.shape[0] != len(tokens) or prefix.shape[2] != self.embedding_size:
            raise ValueError(
                f"expected prefixes of shape ({len(tokens)}, prefix tokens, {self.embedding_size}), "
                f"got {tuple(prefix.shape)}"
            )
        if not bool(torch.isfinite(prefix).all()):
            raise ValueError("prefixes must be finite, got NaN or infinity: check the action and the prefix map")
        bos = self.tokenizer.bos_token_id
        places = [len(ids) if position == "end" else int(ids[:1] == [bos]) for ids in tokens]
        return [
            torch.cat([row[:at], steer, row[at:]]) for row, steer, at in zip(embedded, prefix, places, strict=True)
        ]

    def fingerprint(self) -> dict[str, int | str]:
        """Return what tells these input embeddings from another model's; as ``TransformersLM.fingerprint``."""
        return embeddings_fingerprint(self.embedding_matrix, self.hidden_size)

    def _look_up(self, ids: Sequence[int]) -> Tensor:
        rows = self.embedding_matrix[torch.tensor(list(ids), device=self.embedding_matrix.device)]
        return rows if self._scale == 1.0 else rows * torch.tensor(self._scale, dtype=rows.dtype)


def as_base64(embeddings: Tensor) -> str:
    """Return a tensor as vLLM's server takes it in ``prompt_embeds``: base64 of what ``torch.save`` writes."""
    written = io.BytesIO()
    torch.save(embeddings.detach().contiguous().cpu().clone(), written)
    return base64.b64encode(written.getvalue()).decode("ascii")


def _scale(embeddings: torch.nn.Module) -> float:
    """Return what an embedding layer multiplies its rows by."""
    if type(embeddings) is torch.nn.Embedding:
        return 1.0
    scale = getattr(embeddings, "scalar_embed_scale", None)
    if not isinstance(scale, (int, float)):
        raise ValueError(f"its layer of input embeddings, {type(embeddings).__name__}, does more than look rows up")
    return float(scale)


def _stored(name_or_path: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor ``name`` out of the safetensors of a model.

    Weights may be stored under the name the base model has for them, which is the end of the whole name.
    """
    for file, names in _files(name_or_path).items():
        with safe_open(file, framework="pt") as stored:
            for key in names or stored.keys():
                if key == name or name.endswith(f".{key}") or key.endswith(f".{name}"):
                    tensor: Tensor = stored.get_tensor(key)
                    if tuple(tensor.shape) == shape:
                        return tensor
    raise ValueError(f"no tensor {name!r} of shape {shape} in its safetensors")


def _files(name_or_path: str) -> dict[str, list[str]]:
    """Return the files of weights to look into, each with the names of its tensors if an index tells them."""
    index = cached_file(
        name_or_path,
        "model.safetensors.index.json",
        _raise_exceptions_for_missing_entries=False,
    )
    if index is None:
        return {str(cached_file(name_or_path, "model.safetensors")): []}
    where: dict[str, str] = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
    files: dict[str, list[str]] = {}
    for key, file in where.items():
        if "emb" in key or "wte" in key:
            files.setdefault(file, []).append(key)
    return {str(cached_file(name_or_path, file)): keys for file, keys in files.items()}
