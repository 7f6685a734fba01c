"""Any causal language model of transformers, frozen, batched and with a memory of each chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.attention import Attention, Masks
from dialog_gym.lm.base import Counts, Embeddings, Generation, Messages, Position, Sampling, Schema, require
from dialog_gym.lm.chat import ChatFormat, eos_ids
from dialog_gym.lm.decoding import NOWHERE, Replies
from dialog_gym.lm.kv_cache import KeyValueCache
from dialog_gym.lm.memory import ChatMemory
from dialog_gym.lm.pretrained import load_pretrained
from dialog_gym.lm.sampling import log_probability, random_numbers
from dialog_gym.lm.session import TransformersSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
MEMORY_BYTES = 2 << 30
"""What ``TransformersLM`` remembers of chats unless told otherwise."""

_log = getLogger(__name__)


class TransformersLM:
    """A ``LanguageModel`` over a causal model of transformers.

    The model is frozen: evaluation mode, no gradients for its weights.

    - *Chats* are written by the tokenizer's template, or plainly without one (``dialog_gym.lm.chat``). A reply ends
      at an EOS of tokenizer or generation config, or at the special token with which the template ends a turn.
    - *Memory*: ``generate`` and ``embed`` go on from what an earlier call computed of the same chat, found by its
      tokens. It holds ``memory.limit`` bytes; chats used longest ago are forgotten first. It saves time and never
      changes a result beyond float rounding. A ``session`` has its own memory, by row.
    - *Batches*: whatever the tokenizer says of padding, prompts of different lengths are padded on the left, unseen
      and without a position. In float32 a reply does not depend on the batch. In bfloat16 or float16 the kernels
      round differently for other batches, so that a greedy reply may.
    - *Out of memory* on an accelerator: the memory is emptied, then batches are halved until they fit, and stay as
      small (``batch_size``).
    - *Long histories*: a prompt that leaves no room for a reply loses its oldest turns, whole ones, never a system
      message and never the newest turn (``ChatFormat.encode``).

    Attributes:
        name: For people and logs.
        model: The network.
        tokenizer: Its tokenizer.
        folder: Where it was loaded from, None if not from a folder.
        chat: How chats become tokens.
        memory: What has been computed of chats.
        batch_size: Most prompts in one batch, None for no limit.
        hidden_size: Length of a state: what the output layer reads, which is the last hidden state after the
            final norm.
        embedding_size: Length of one prefix embedding.
        max_positions: Most tokens the model can read, None if it has no limit.
        supports: ``prefix``, ``state`` and ``logprobs``.
        counts: Work done so far.
        is_stop: For each token id, whether it ends a reply.
        attention: What its layers see.
    """

    supports = frozenset({"prefix", "state", "logprobs"})

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "",
        *,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Freeze ``model`` and check that it gives the same answer through the cache as without it.

        Args:
            model: A causal model.
            tokenizer: Its tokenizer.
            name: For people and logs.
            memory_bytes: What is remembered of chats, 0 for nothing.

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
        self.memory = ChatMemory(memory_bytes)
        self.batch_size: int | None = None
        self.counts = Counts()
        self._embeddings: torch.nn.Module = model.get_input_embeddings()
        self._head: torch.nn.Module = model.get_output_embeddings()
        self._decoder: torch.nn.Module = model.get_decoder()
        self.attention = Attention(model)
        vocabulary, self.hidden_size = cast(Tensor, self._head.weight).shape
        self.embedding_size = self.embedding_matrix.shape[1]
        self.is_stop = torch.zeros(vocabulary, dtype=torch.bool, device=self.device)
        self.is_stop[sorted(self.chat.stop_ids)] = True
        self._check_cache()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        dtype: str = "float32",
        device: str | None = None,
        name: str = "",
        *,
        adapter: str | Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> TransformersLM:
        """Load a model and its tokenizer from a folder or a hub.

        Args:
            name_or_path: Folder, or name on the hub.
            dtype: Of the weights: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored).
            device: Where it runs; None takes a CUDA device if there is one, else the CPU.
            name: For people and logs; default ``name_or_path``, and ``adapter`` behind a plus.
            adapter: Folder or name of a LoRA adapter that peft saved; it is merged into the weights.
            memory_bytes: What is remembered of chats, 0 for nothing.

        Raises:
            ValueError: There is no such model or adapter, or no such dtype.
            ModuleNotFoundError: An adapter was asked for and peft is not installed.
        """
        model, tokenizer = load_pretrained(name_or_path, dtype, device, adapter)
        name = name or (str(name_or_path) if adapter is None else f"{name_or_path}+{adapter}")
        lm = cls(model, tokenizer, name, memory_bytes=memory_bytes)
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
        tokens = self.encode(prompts)
        prefix = None if prefixes is None or not tokens else self.as_prefix(prefixes, len(tokens))
        uniform = random_numbers(sampling, seeds, len(tokens), self.device)

        def reply(part: slice) -> list[Generation]:
            session = self._recalled(tokens[part])
            numbers = None if uniform is None else uniform[part]
            some = None if prefix is None else prefix[part]
            found = session.write_batch(range(session.rows), sampling, numbers, some, position)
            session.remember(self.memory)
            return found

        return self.in_batches(len(tokens), reply)

    def embed(self, prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Return the state of each prompt, (n, hidden_size): that of its last token, generation prompt included."""
        tokens = self.encode(prompts)

        def states(part: slice) -> list[NDArray[np.float32]]:
            session = TransformersSession(self, len(tokens[part]))
            session.recall(self.memory, tokens[part])
            found = session.read_batch(range(session.rows), tokens[part])
            session.remember(self.memory)
            return list(found)

        return np.array(self.in_batches(len(tokens), states), np.float32).reshape(-1, self.hidden_size)

    @torch.inference_mode()
    def logprobs(
        self, prompts: Sequence[Messages], continuations: Sequence[str | Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Return the log-probability of each token of each continuation, given its prompt.

        A continuation is a text, scored without an end-of-turn token, or token ids as in ``Generation.tokens``.
        """
        if len(prompts) != len(continuations):
            raise ValueError(f"expected one continuation per prompt, got {len(continuations)} for {len(prompts)}")
        replies = [
            self.chat.encode_reply(said, prompt) if isinstance(said, str) else [int(token) for token in said]
            for prompt, said in zip(prompts, continuations, strict=True)
        ]
        starts = self.encode(prompts, max(map(len, replies), default=0))
        tokens = [ids + reply for ids, reply in zip(starts, replies, strict=True)]
        self.check_length(max(map(len, tokens), default=0))
        return self.in_batches(len(tokens), lambda part: self._scores(tokens[part], replies[part]))

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

    def encode(self, prompts: Sequence[Messages], room: int = 64) -> list[list[int]]:
        """Return the token ids of prompts, each of at least one token and within the model's positions.

        A prompt that leaves fewer than ``room`` positions (at most a quarter of all) loses its oldest turns.
        """
        if self.max_positions is None:
            tokens = self.chat.encode(prompts)
        else:
            tokens = self.chat.encode(prompts, self.max_positions - min(room, self.max_positions // 4))
        if empty := [i for i, ids in enumerate(tokens) if not ids]:
            raise ValueError(f"prompts {empty} have no token: a chat needs a message or a generation prompt")
        self.check_length(max(map(len, tokens), default=0))
        return tokens

    def check_length(self, length: int) -> None:
        """Refuse a prompt (with its prefix) of ``length`` tokens if the model cannot read as many."""
        if self.max_positions is not None and length > self.max_positions:
            raise ValueError(
                f"a prompt of {length} tokens, system messages and newest turn alone, is longer than the "
                f"{self.max_positions} positions of {self.name}: shorten the scenario or what may be said in a turn, "
                "or take a model with a longer context"
            )

    def in_batches(self, count: int, run: Callable[[slice], list[T]]) -> list[T]:
        """Return what ``run`` returns for each of ``count`` things, asked for in batches that fit into memory.

        Raises:
            LanguageModelError: One alone does not fit.
        """
        done: list[T] = []
        while len(done) < count:
            size = min(self.batch_size or count, count - len(done))
            try:
                done += run(slice(len(done), len(done) + size))
                continue
            except torch.OutOfMemoryError as error:
                if size == 1 and not self.memory.bytes:
                    raise LanguageModelError(
                        f"{self.name} runs out of memory on a single dialogue: take a smaller dtype, shorter "
                        "dialogues or a smaller model",
                        len(done),
                    ) from error
            if not self.memory.bytes:
                self.batch_size = -(-size // 2)
                _log.warning("%s ran out of memory: from now on at most %d in a batch", self.name, self.batch_size)
            self.memory.clear()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return done

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
        masks = self.attention.masks(torch.arange(width, device=self.device)[None, :], positions)
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

    def _recalled(self, tokens: list[list[int]]) -> TransformersSession:
        """Return a session that has read ``tokens``; what is known is not read, what comes twice is read once."""
        once = list(dict.fromkeys(map(tuple, tokens)))
        session = TransformersSession(self, len(once))
        session.recall(self.memory, once)
        session.read_batch(range(len(once)), [list(ids) for ids in once])
        if len(once) == len(tokens):
            return session
        row = {ids: i for i, ids in enumerate(once)}
        return session.spread([row[tuple(ids)] for ids in tokens])

    def _scores(self, tokens: list[list[int]], replies: list[list[int]]) -> list[NDArray[np.float32]]:
        keep = 1 + max(map(len, replies))
        cache = KeyValueCache(len(tokens))
        logits, _, _ = self.prefill(cache, range(len(tokens)), tokens, [0] * len(tokens), keep=keep)
        targets = torch.zeros((len(tokens), keep - 1), dtype=torch.long)
        for row, reply in enumerate(replies):
            targets[row, keep - 1 - len(reply) :] = torch.tensor(reply, dtype=torch.long)
        scores = log_probability(logits[:, :-1], targets.to(self.device)).cpu().numpy()
        return [score[keep - 1 - len(reply) :] for score, reply in zip(scores, replies, strict=True)]

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
