"""Any causal language model of transformers, frozen, batched and with a memory of each chat."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from dialog_gym.lm.base import Counts, Embeddings, Generation, Messages, Position, Sampling, Schema, require
from dialog_gym.lm.chat import ChatFormat, eos_ids
from dialog_gym.lm.decoding import NOWHERE, Replies
from dialog_gym.lm.kv_cache import KeyValueCache
from dialog_gym.lm.sampling import log_probability
from dialog_gym.lm.session import TransformersSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Masks = Tensor | dict[str, Tensor]
_ATTENTION = ("sdpa", "eager")


class TransformersLM:
    """A ``LanguageModel`` over a causal model of transformers.

    The model is frozen: evaluation mode, no gradients for its weights. Chats are written by the tokenizer's
    template (``dialog_gym.lm.chat``). A reply ends at an EOS of tokenizer or generation config, or at the special
    token with which the template ends a turn.

    Attributes:
        name: For people and logs.
        model: The network.
        tokenizer: Its tokenizer.
        folder: Where it was loaded from, None if not from a folder.
        chat: How chats become tokens.
        hidden_size: Length of a state: what the output layer reads, which is the last hidden state after the
            final norm.
        embedding_size: Length of one prefix embedding.
        max_positions: Most tokens the model can read, None if it has no limit.
        supports: ``prefix``, ``state`` and ``logprobs``.
        counts: Work done so far.
        is_stop: For each token id, whether it ends a reply.
        window: How many tokens a layer with sliding attention sees, None if there is none.
    """

    supports = frozenset({"prefix", "state", "logprobs"})

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "") -> None:
        """Freeze ``model`` and check that it gives the same answer through the cache as without it.

        Raises:
            ValueError: The model cannot be read through a key-value cache with given positions.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.folder: Path | None = None
        self.name = name or str(getattr(model.config, "name_or_path", "")) or type(model).__name__
        config = model.config.get_text_config(decoder=True)
        self.max_positions: int | None = getattr(config, "max_position_embeddings", None)
        self.chat = ChatFormat(tokenizer, eos_ids(model.config, model.generation_config))
        self.counts = Counts()
        self._embeddings: torch.nn.Module = model.get_input_embeddings()
        self._head: torch.nn.Module = model.get_output_embeddings()
        self._decoder: torch.nn.Module = model.get_decoder()
        self._check_architecture()
        vocabulary, self.hidden_size = cast(Tensor, self._head.weight).shape
        self.embedding_size = self.embedding_matrix.shape[1]
        self.is_stop = torch.zeros(vocabulary, dtype=torch.bool, device=self.device)
        self.is_stop[sorted(self.chat.stop_ids)] = True
        self.window, self._layer_types = _attention_kinds(config)
        self._check_cache()

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, dtype: str = "float32", device: str | None = None, name: str = ""
    ) -> TransformersLM:
        """Load a model and its tokenizer from a folder or a hub.

        Args:
            name_or_path: Folder, or name on the hub.
            dtype: Of the weights: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored).
            device: Where it runs; None takes a CUDA device if there is one, else the CPU.
            name: For people and logs; default ``name_or_path``.

        Raises:
            ValueError: There is no such model, or no such dtype.
        """
        if dtype not in ("float32", "bfloat16", "float16", "auto"):
            raise ValueError(f"dtype must be float32, bfloat16, float16 or auto, got {dtype!r}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
            with _no_bar() if Path(name_or_path).is_dir() else nullcontext():
                model: Any = AutoModelForCausalLM.from_pretrained(str(name_or_path), dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cannot load a causal language model from {str(name_or_path)!r}: give a folder with config.json, "
                f"weights and tokenizer, or the name of one on a hub that can be reached ({error})"
            ) from error
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        lm = cls(model.to(device), tokenizer, name or str(name_or_path))
        lm.folder = Path(name_or_path) if Path(name_or_path).is_dir() else None
        return lm

    @property
    def device(self) -> torch.device:
        """Where the input embeddings lie."""
        return self.embedding_matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the input embeddings."""
        return self.embedding_matrix.dtype

    @property
    def embedding_matrix(self) -> Tensor:
        """The input embeddings, (vocabulary, embedding size)."""
        return cast(Tensor, self._embeddings.weight)

    def session(self, rows: int, *, mean: bool = False) -> TransformersSession:
        """Return a memory for ``rows`` chats that go on from call to call; ``mean`` as in ``LanguageModel``."""
        return TransformersSession(self, rows, mean=mean)

    def generate(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
        schema: Schema | None = None,
    ) -> list[Generation]:
        """Return one reply to each prompt; see ``Session.write``.

        Raises:
            UnsupportedError: ``schema`` is given.
        """
        if schema is not None:
            require(self, {"json"}, "a reply by JSON schema")
        if not prompts:
            return []
        session = self.session(len(prompts))
        rows = range(len(prompts))
        session.read(rows, prompts)
        return session.write(rows, sampling, prefixes=prefixes, seeds=seeds, position=position)

    def embed(self, prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Return the state of each prompt, (n, hidden_size): that of its last token, generation prompt included."""
        return self.session(max(len(prompts), 1)).read(range(len(prompts)), prompts)

    @torch.inference_mode()
    def logprobs(
        self, prompts: Sequence[Messages], continuations: Sequence[str | Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Return the log-probability of each token of each continuation, in one batched pass.

        A continuation is a text, scored without an end-of-turn token, or token ids as in ``Generation.tokens``.
        """
        if len(prompts) != len(continuations):
            raise ValueError(f"expected one continuation per prompt, got {len(continuations)} for {len(prompts)}")
        if not prompts:
            return []
        replies = [
            self.chat.encode_reply(said, prompt) if isinstance(said, str) else [int(token) for token in said]
            for prompt, said in zip(prompts, continuations, strict=True)
        ]
        tokens = [ids + reply for ids, reply in zip(self.encode(prompts), replies, strict=True)]
        self.check_length(max(map(len, tokens)))
        keep = 1 + max(map(len, replies))
        rows = range(len(prompts))
        logits, _, _ = self.prefill(KeyValueCache(len(tokens)), rows, tokens, [0] * len(tokens), keep=keep)
        targets = torch.zeros((len(tokens), keep - 1), dtype=torch.long)
        for row, reply in enumerate(replies):
            targets[row, keep - 1 - len(reply) :] = torch.tensor(reply, dtype=torch.long)
        scores = log_probability(logits[:, :-1], targets.to(self.device)).cpu().numpy()
        return [score[keep - 1 - len(reply) :] for score, reply in zip(scores, replies, strict=True)]

    def fingerprint(self) -> dict[str, int | str]:
        """Return what tells this model's input embeddings from another's: their sizes and a hash.

        Values are hashed in bfloat16, so that the dtype a model is loaded in does not matter.
        """
        digest = blake2b(digest_size=16)
        for chunk in self.embedding_matrix.detach().split(8192):
            digest.update(chunk.to(torch.bfloat16).contiguous().view(torch.int16).cpu().numpy().tobytes())
        return {
            "hidden_size": self.hidden_size,
            "vocabulary": self.embedding_matrix.shape[0],
            "embeddings": digest.hexdigest(),
        }

    # What sessions and decoders are made of.

    def encode(self, prompts: Sequence[Messages]) -> list[list[int]]:
        """Return the token ids of prompts, each of at least one token and within the model's positions."""
        tokens = self.chat.encode(prompts)
        if empty := [i for i, ids in enumerate(tokens) if not ids]:
            raise ValueError(f"prompts {empty} have no token: a chat needs a message or a generation prompt")
        self.check_length(max(map(len, tokens)))
        return tokens

    def check_length(self, length: int) -> None:
        """Refuse a prompt (with its prefix) of ``length`` tokens if the model cannot read as many."""
        if self.max_positions is not None and length > self.max_positions:
            raise ValueError(
                f"a prompt of {length} tokens is longer than the {self.max_positions} positions of {self.name}: "
                "shorten the scenario, end the dialogue earlier, or take a model with a longer context"
            )

    def as_prefix(self, prefixes: Embeddings, rows: int) -> Tensor:
        """Return ``prefixes`` as a tensor of the model's dtype and device; refuse wrong shapes and values."""
        prefix = torch.as_tensor(prefixes).detach().to(self.device, self.dtype)
        expected = (rows, *prefix.shape[1:2], self.embedding_size)
        if tuple(prefix.shape) != expected or not prefix.shape[1]:
            raise ValueError(
                f"expected prefixes of shape ({rows}, prefix tokens, {self.embedding_size}), got {tuple(prefix.shape)}"
            )
        if not bool(torch.isfinite(prefix).all()):
            raise ValueError("prefixes must be finite, got NaN or infinity: check the action and the prefix map")
        return prefix

    def clamp(self, positions: Tensor) -> Tensor:
        """Return ``positions``, those of padding moved to where the model has a position."""
        last = NOWHERE if self.max_positions is None else self.max_positions - 1
        return positions.clamp(0, last)

    def masks(self, key_positions: Tensor, positions: Tensor) -> Masks:
        """Return additive attention masks, (n, 1, queries, columns), from the positions of columns and queries.

        A query sees the columns whose position is not after its own, and in layers with a sliding window those
        within it. Models that mix kinds of layers take one mask per kind.
        """
        distance = positions[:, :, None] - key_positions[:, None, :]
        full = self._additive(distance >= 0)
        if self.window is None:
            return full
        near = self._additive((distance >= 0) & (distance < self.window))
        if not self._layer_types:
            return near
        return {kind: near if kind == "sliding_attention" else full for kind in self._layer_types}

    def prefill(
        self,
        cache: KeyValueCache,
        rows: Sequence[int],
        tokens: Sequence[Sequence[int]],
        kept: Sequence[int],
        *,
        keep: int = 1,
        prefix: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Feed ``tokens[i][kept[i]:]`` to row ``rows[i]`` of ``cache``, which holds the first ``kept[i]`` of them.

        With ``prefix`` (n, P, embedding size; nothing kept), its embeddings go in after a BOS.

        Returns:
            Logits behind the last ``keep`` tokens of each row, (n, keep, vocabulary), the state at the last, and
            the sum of the states of all tokens fed, each (n, hidden size).
        """
        if prefix is not None:
            hole = [0] * prefix.shape[1]
            at = [int(ids[0] == self.tokenizer.bos_token_id) for ids in tokens]
            tokens = [[*ids[:i], *hole, *ids[i:]] for ids, i in zip(tokens, at, strict=True)]
            self.check_length(max(map(len, tokens)))
        lengths = [len(ids) for ids in tokens]
        ids, positions = self._right_aligned(tokens, kept)
        self.counts.prefilled += sum(lengths) - sum(kept)
        width = max(lengths)
        cache.fill(rows, positions.where(positions >= 0, width), width, reserve=width + 1)  # padding: a column unseen
        masks = self.masks(torch.arange(width, device=self.device)[None, :], positions)
        inputs: dict[str, Tensor] = {"ids": ids}
        if prefix is not None:
            embedded: Tensor = self._embeddings(ids)
            first = ids.shape[1] - torch.tensor(lengths) + torch.tensor(at)
            columns = first[:, None] + torch.arange(prefix.shape[1])
            embedded[torch.arange(len(at))[:, None], columns] = prefix
            inputs = {"embeddings": embedded}
        states: list[Tensor] = []
        hook = self._decoder.register_forward_hook(lambda _module, _inputs, output: states.append(output[0]))
        try:
            logits = self.forward(cache, self.clamp(positions), masks, keep=keep, **inputs)
        finally:
            hook.remove()
        real = (positions >= 0).unsqueeze(-1)
        return logits, states[-1][:, -1], (states[-1].float() * real).sum(1)

    def forward(
        self,
        cache: KeyValueCache,
        positions: Tensor,
        masks: Masks,
        *,
        ids: Tensor | None = None,
        embeddings: Tensor | None = None,
        keep: int = 1,
    ) -> Tensor:
        """Run the network once over token ``ids`` or ``embeddings``; return the last ``keep`` logits of each row."""
        self.counts.forwards += 1
        output = self.model(
            input_ids=ids,
            inputs_embeds=embeddings,
            attention_mask=masks,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
            return_dict=True,
        )
        return cast(Tensor, output.logits)

    def generations(self, replies: Replies) -> list[Generation]:
        """Return ``replies`` as texts with their tokens."""
        tokens = [ids[:n].tolist() for ids, n in zip(replies.tokens, replies.lengths, strict=True)]
        scores = [row[:n].tolist() for row, n in zip(replies.logprobs, replies.lengths, strict=True)]
        texts = self.chat.decode(tokens)
        return [
            Generation(text, tuple(ids), tuple(score), "end" if ended else "length")
            for text, ids, score, ended in zip(texts, tokens, scores, replies.ended, strict=True)
        ]

    def _right_aligned(self, tokens: Sequence[Sequence[int]], kept: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the new ids and their positions, (n, longest); padding on the left has id 0, position -1."""
        longest = max(len(ids) - count for ids, count in zip(tokens, kept, strict=True))
        ids = np.zeros((len(tokens), longest), np.int64)
        positions = np.full((len(tokens), longest), -1, np.int64)
        for row, (new, count) in enumerate(zip(tokens, kept, strict=True)):
            first = longest - len(new) + count
            ids[row, first:] = new[count:]
            positions[row, first:] = np.arange(count, len(new))
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(positions).to(self.device)

    def _additive(self, seen: Tensor) -> Tensor:
        hidden = torch.finfo(self.dtype).min
        return torch.zeros((), dtype=self.dtype, device=seen.device).where(seen, hidden)[:, None]

    def _check_architecture(self) -> None:
        wanted = {"position_ids", "past_key_values", "logits_to_keep", "inputs_embeds"}
        missing = sorted(wanted - set(inspect.signature(self.model.forward).parameters))
        if missing or self._head is None or getattr(self.model, "_is_stateful", False):
            raise ValueError(
                f"{type(self.model).__name__} cannot be steered and rewound: it needs attention with a key-value "
                f"cache and an output layer, and to take {sorted(wanted)}"
                + (f"; it does not take {missing}" if missing else "")
            )
        if self.model.config._attn_implementation not in _ATTENTION:
            raise ValueError(
                f"attention must be one of {_ATTENTION}, which take a mask of our own, got "
                f"{self.model.config._attn_implementation!r}: load the model with attn_implementation='sdpa'"
            )

    @torch.inference_mode()
    def _check_cache(self) -> None:
        """Refuse a model whose answer changes when it is read in two parts, through a padded cache."""
        tokens = [[token % len(self.is_stop) for token in (11, 7, 5, 3, 2)]] * 2
        plain = self.model(input_ids=torch.tensor(tokens[:1], device=self.device)).logits[:, -1]
        cache = KeyValueCache(2)
        self.prefill(cache, range(2), [tokens[0][:3], tokens[1][:1]], [0, 0])
        parts = self.prefill(cache, range(2), tokens, [3, 1])[0][:, -1]
        self.counts.reset()
        apart = float((parts - plain).abs().max() / plain.abs().max().clamp(min=1.0))
        if not apart < (1e-3 if self.dtype == torch.float32 else 0.1):
            raise ValueError(
                f"{type(self.model).__name__} gives other logits (by {apart:.2g}) when a prompt is read in parts "
                "through a cache with given positions, so that chats cannot be kept from turn to turn"
            )


@contextmanager
def _no_bar() -> Iterator[None]:
    """Keep the progress bar over the tensors of a file off the screen."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _attention_kinds(config: Any) -> tuple[int | None, tuple[str, ...]]:
    """Return the sliding window, if a layer has one, and the kinds of layers, if the model is told them."""
    window: int | None = getattr(config, "sliding_window", None)
    kinds = tuple(sorted(set(getattr(config, "layer_types", None) or ())))
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        raise ValueError(f"layers of the kinds {sorted(unknown)} cannot be rewound; full or sliding attention can")
    if kinds == ("full_attention",):
        return None, kinds
    return window, kinds
