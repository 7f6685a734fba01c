"""Any causal language model of transformers, frozen, batched and with a memory of each chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Embeddings, Generation, Messages, Position, Sampling, Schema, require
from dialog_gym.lm.chat import ChatFormat, eos_ids
from dialog_gym.lm.decoding import Replies
from dialog_gym.lm.kv_cache import KeyValueCache
from dialog_gym.lm.memory import ChatMemory
from dialog_gym.lm.network import Network
from dialog_gym.lm.prefix import embeddings_fingerprint
from dialog_gym.lm.pretrained import load_pretrained
from dialog_gym.lm.sampling import log_probability, random_numbers
from dialog_gym.lm.session import TransformersSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
MEMORY_BYTES = 1 << 29
"""What a ``TransformersLM`` on a CPU remembers of chats unless told otherwise."""

_log = getLogger(__name__)


class TransformersLM(Network):
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
        tokenizer: Its tokenizer.
        folder: Where it was loaded from, None if not from a folder.
        chat: How chats become tokens.
        memory: What has been computed of chats.
        batch_size: Most prompts in one batch, None for no limit.
        supports: ``prefix``, ``state`` and ``logprobs``.
        is_stop: For each token id, whether it ends a reply.
    """

    supports = frozenset({"prefix", "state", "logprobs"})

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "",
        *,
        memory_bytes: int | None = None,
    ) -> None:
        """Take a ``Network`` over ``model``.

        Args:
            model: A causal model.
            tokenizer: Its tokenizer.
            name: For people and logs.
            memory_bytes: What is remembered of chats, 0 for nothing; by default half a GiB on a CPU, elsewhere a
                tenth of the device.

        Raises:
            ValueError: The model cannot be read through a key-value cache with given positions.
        """
        super().__init__(model, name or str(getattr(model.config, "name_or_path", "")) or type(model).__name__)
        self.tokenizer = tokenizer
        self.folder: Path | None = None
        self.chat = ChatFormat(tokenizer, eos_ids(model.config, model.generation_config))
        self.memory = ChatMemory(_memory_of(self.device) if memory_bytes is None else memory_bytes)
        self.batch_size: int | None = None
        self.is_stop = torch.zeros(self.vocabulary, dtype=torch.bool, device=self.device)
        self.is_stop[sorted(self.chat.stop_ids)] = True

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        dtype: str = "float32",
        device: str | None = None,
        name: str = "",
        *,
        adapter: str | Path | None = None,
        memory_bytes: int | None = None,
    ) -> TransformersLM:
        """Load a model and its tokenizer from a folder or a hub.

        Args:
            name_or_path: Folder, or name on the hub.
            dtype: Of the weights: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored).
            device: Where it runs; None takes a CUDA device if there is one, else the CPU.
            name: For people and logs; default ``name_or_path``, and ``adapter`` behind a plus.
            adapter: Folder or name of a LoRA adapter that peft saved; it is merged into the weights.
            memory_bytes: What is remembered of chats, 0 for nothing; by default half a GiB on a CPU, elsewhere a
                tenth of the device.

        Raises:
            ValueError: There is no such model or adapter, or no such dtype.
            ModuleNotFoundError: An adapter was asked for and peft is not installed.
        """
        model, tokenizer = load_pretrained(name_or_path, dtype, device, adapter)
        name = name or (str(name_or_path) if adapter is None else f"{name_or_path}+{adapter}")
        lm = cls(model, tokenizer, name, memory_bytes=memory_bytes)
        lm.folder = Path(name_or_path) if Path(name_or_path).is_dir() else None
        return lm

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
        room = sampling.max_tokens + (1 if prefix is None else prefix.shape[1])

        def reply(part: slice) -> list[Generation]:
            session = self._recalled(tokens[part], room)
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
        return embeddings_fingerprint(self.embedding_matrix, self.hidden_size)

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

    def generations(self, replies: Replies) -> list[Generation]:
        """Return ``replies`` as texts with their tokens."""
        tokens = [ids[:n].tolist() for ids, n in zip(replies.tokens, replies.lengths, strict=True)]
        scores = [row[:n].tolist() for row, n in zip(replies.logprobs, replies.lengths, strict=True)]
        texts = self.chat.decode(tokens)
        return [
            Generation(text, tuple(ids), tuple(score), "end" if ended else "length")
            for text, ids, score, ended in zip(texts, tokens, scores, replies.ended, strict=True)
        ]

    def _recalled(self, tokens: list[list[int]], room: int) -> TransformersSession:
        """Return a session that has read ``tokens``; what is known is not read, what comes twice is read once."""
        once = list(dict.fromkeys(map(tuple, tokens)))
        session = TransformersSession(self, len(once))
        session.recall(self.memory, once, room)
        session.read_batch(range(len(once)), [list(ids) for ids in once])
        if len(once) == len(tokens):
            return session
        row = {ids: i for i, ids in enumerate(once)}
        return session.spread([row[tuple(ids)] for ids in tokens])

    def _scores(self, tokens: list[list[int]], replies: list[list[int]]) -> list[NDArray[np.float32]]:
        keep = 1 + max(map(len, replies))
        cache = KeyValueCache(len(tokens))
        logits = self.prefill(cache, range(len(tokens)), tokens, [0] * len(tokens), keep=keep).logits
        targets = torch.zeros((len(tokens), keep - 1), dtype=torch.long)
        for row, reply in enumerate(replies):
            targets[row, keep - 1 - len(reply) :] = torch.tensor(reply, dtype=torch.long)
        scores = log_probability(logits[:, :-1], targets.to(self.device)).cpu().numpy()
        return [score[keep - 1 - len(reply) :] for score, reply in zip(scores, replies, strict=True)]


def _memory_of(device: torch.device) -> int:
    if device.type != "cuda":
        return MEMORY_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory) // 10
