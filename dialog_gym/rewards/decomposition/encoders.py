"""Encoders of turns: one vector for what was said up to, and in, an agent's turn.

==================== ==============================================================================================
``bag``              words, hashed into ``bag:256`` places, for each of five parts of what was said; with a network
                     on top, whose first layer then is a table of embeddings, a trained bag of embeddings
``facts``            what an attentive agent knows in an embedded world before it speaks (``World.facts``), and what
                     the partner understands of the response (``World.attributes``); nothing hidden
``tiny``, ...        a language model, anything ``dialog_gym.lm.load`` takes that runs here: ``tiny-chat``,
                     ``speaker:NAME``, ``hf:NAME``, a folder; it reads a chat
``semantic``         the encoder of the extra ``semantic`` (``dialog_gym.rewards.encoders``); it reads text
a folder             any model of transformers; causal ones read a chat, all others text (of encoder-decoders the
                     encoder alone runs)
==================== ==============================================================================================

A model's vector is its last hidden state at the last token (``pool="last"``: for BART the last ``</s>``, as in GELI),
the mean over all tokens, or both. ``notation`` is the id of an environment whose notation is read (``Task.messages``):
the tiny models know no other.
"""

from __future__ import annotations

import copy
import json
import re
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.decomposition.turns import response_place, written
from dialog_gym.rewards.encoders import SEMANTIC, encoder_folder
from dialog_gym.task import Task

Vectors = npt.NDArray[Any]
Pool = Literal["last", "mean", "both"]

MAX_TOKENS = 1024  # as in GELI; a model with fewer positions takes what it has
_BATCH_TOKENS, _BATCH_ROWS = 16_384, 128
_WORD = re.compile(r"\w+|[^\w\s]")
_PARTS = 5  # the response, what it answers, the agent's turn before, earlier turns of the partner and of the agent


class Encoder(Protocol):
    """Turns what was said into vectors.

    Attributes:
        name: Short, for folders.
        size: Numbers in a vector.
        dtype: How they are kept on disk.
        passes: How many texts were encoded so far.
    """

    name: str
    size: int
    dtype: str
    passes: int

    def words(self, heard: Dialogue) -> str:
        """Return all that is encoded of a beginning (``turns.beginnings``), as one text."""
        ...

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of what ``words`` returned, shape ``(n, size)``."""
        ...

    def fingerprint(self) -> str:
        """Return what tells this encoder from all others, 16 hexadecimal digits."""
        ...


def load_encoder(
    spec: str, *, pool: Pool = "last", max_tokens: int = MAX_TOKENS, notation: str = "", device: str | None = None
) -> Encoder:
    """Return the encoder that ``spec`` names; see the module.

    Args:
        spec: Which.
        pool: What of a model's states; the bag has no states.
        max_tokens: Most tokens that a model reads; the oldest are left out.
        notation: Id of the text environment whose notation is read; "": plain words.
        device: Where a model runs.

    Raises:
        ValueError: There is no such encoder.
    """
    task = notation_of(notation)
    if spec.partition(":")[0] == "bag":
        buckets = spec.partition(":")[2] or "256"
        if not buckets.isdigit() or not 1 <= int(buckets) <= 65_536:
            raise ValueError(f"a bag of words is named 'bag' or 'bag:PLACES' with 1 to 65536 places, got {spec!r}")
        return BagEncoder(int(buckets), task)
    if spec == "facts":
        return FactsEncoder(task)
    if pool not in ("last", "mean", "both"):
        raise ValueError(f"pool must be 'last', 'mean' or 'both', got {pool!r}")
    return ModelEncoder(spec, pool=pool, max_tokens=max_tokens, task=task, device=device)


def notation_of(env: str) -> Task | None:
    """Return the task of the environment ``env``, None for ""."""
    if not env:
        return None
    from dialog_gym.rewards.decomposition.worlds import task_of

    return task_of(env, {})


class BagEncoder:
    """Which words were said, by hash, in each of five parts of what was said; see the module.

    Words of the newest three utterances count once, of all earlier ones log(1 + count). The last two numbers are the
    share of turns (in tens) so far, and 1. An answer of the partner counts as what is answered.
    """

    name = "bag"
    dtype = "float16"

    def __init__(self, buckets: int = 256, task: Task | None = None) -> None:
        """Hash words into ``buckets`` places, read in the notation of ``task``."""
        self.buckets, self.task = buckets, task
        self.size = _PARTS * buckets + 2
        self.passes = 0

    def words(self, heard: Dialogue) -> str:
        """Return the utterances and whose they are."""
        agent = heard.roles[0]
        if self.task is None:
            said = [("assistant" if role == agent else "user", text) for role, text in heard.turns]
        else:
            chat = self.task.messages(heard, agent)
            said = [(one["role"], one["content"]) for one in chat if one["role"] != "system"]
        return json.dumps([response_place(heard), said], ensure_ascii=False)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the counts, shape ``(n, size)``."""
        found = np.zeros((len(texts), self.size), np.float32)
        for row, text in enumerate(texts):
            place, said = json.loads(text)
            for part, words in enumerate(_parts(place, said)):
                places = [part * self.buckets + zlib.crc32(w.encode(errors="replace")) % self.buckets for w in words]
                np.add.at(found[row], places, 1.0)
            found[row, -2:] = (place / 10, 1.0)
        recent = found[:, : 3 * self.buckets]
        np.minimum(recent, 1, out=recent)
        earlier = found[:, 3 * self.buckets : -2]
        np.log1p(earlier, out=earlier)
        self.passes += len(texts)
        return found

    def fingerprint(self) -> str:
        """Return a hash of number of places and notation."""
        notation = "" if self.task is None else type(self.task).__qualname__
        return _digest(f"bag 1 {self.buckets} {notation}".encode())


def _parts(place: int, said: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the words of the five parts."""
    own = [number for number, (role, _) in enumerate(said[:place]) if role == "assistant"]
    before = own[-1] if own else -1
    words = [[*_WORD.findall(text.lower())] for _, text in said]
    parts: list[list[str]] = [words[place], [], words[before] if own else [], [], []]
    for number in range(len(said)):
        if number > place or before < number < place:
            parts[1] += words[number]
        elif number < before:
            parts[4 if said[number][0] == "assistant" else 3] += words[number]
    return parts


class FactsEncoder:
    """What is known in an embedded world, as its author counts it; see the module.

    Small, and free of the question how well a model reads: for checks of methods. It does not read answers, and needs
    dialogues from their beginning (``fit reward`` gives it those, whatever ``utterances`` is).
    """

    name = "facts"
    dtype = "float32"

    def __init__(self, task: Any) -> None:
        """Take the world.

        Raises:
            ValueError: There is none.
        """
        if not hasattr(task, "facts") or not hasattr(task, "attributes"):
            raise ValueError(
                "the encoder 'facts' needs an embedded world: notation='dialog_gym/Chat-v0', for instance"
            )
        self.task = task
        self.size = len(task.fact_names) + len(task.attribute_names)
        self.passes = 0

    def words(self, heard: Dialogue) -> str:
        """Return the numbers as JSON."""
        place = response_place(heard)
        before = Dialogue(heard.scenario, heard.roles, heard.seed, heard.turns[:place])
        role, text = heard.turns[place]
        known = [*self.task.facts(before).tolist(), *self.task.attributes(before, role, text).tolist()]
        return json.dumps([round(number, 6) for number in known])

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the numbers, shape ``(n, size)``."""
        self.passes += len(texts)
        return np.array([json.loads(text) for text in texts], np.float32).reshape(-1, self.size)

    def fingerprint(self) -> str:
        """Return a hash of the world and the names of the numbers."""
        names = [type(self.task).__qualname__, *self.task.fact_names, *self.task.attribute_names]
        return _digest(json.dumps(names).encode())


class ModelEncoder:
    """Hidden states of a model of transformers; frozen, unless a copy is asked for (``tuned_copy``).

    Attributes:
        model: The network that gives the states: a decoder without its output layer, or an encoder.
        lm: The language model, None for text encoders.
    """

    dtype = "float32"

    def __init__(
        self,
        spec: str,
        *,
        pool: Pool = "last",
        max_tokens: int = MAX_TOKENS,
        task: Task | None = None,
        device: str | None = None,
    ) -> None:
        """Load a model; ``load_encoder`` tells of the arguments.

        Raises:
            ValueError: There is no such model, or it cannot give states.
        """
        if max_tokens < 8:
            raise ValueError(f"max_tokens must be at least 8, got {max_tokens}")
        self.pool, self.task, self.passes = pool, task, 0
        self.name = re.sub(r"\W+", "-", Path(spec).name.partition("?")[0]).strip("-") or "model"
        self.lm: Any = None
        self._wording: Any = None
        if _is_text_encoder(spec):
            self._load_text_encoder(spec, device)
        else:
            self._load_language_model(spec, device)
        config = self.model.config
        positions = getattr(config, "max_position_embeddings", None) or max_tokens
        offset = 2 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0  # positions begin at 2 there
        self.max_tokens = min(max_tokens, positions - offset)
        self.size = int(config.hidden_size) * (2 if pool == "both" else 1)

    def _load_text_encoder(self, spec: str, device: str | None) -> None:
        from transformers import AutoModel, AutoTokenizer

        from dialog_gym.rewards.reward_model import quiet

        folder = str(encoder_folder(spec))
        with quiet():
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            model: Any = AutoModel.from_pretrained(folder)
        if model.config.is_encoder_decoder:
            model = model.get_encoder()  # what a decoder makes of it is read by nobody
        self.tokenizer.truncation_side = "left"
        self.model: Any = model.eval().requires_grad_(False).to(device or "cpu")
        self._separator = self.tokenizer.sep_token or self.tokenizer.eos_token or "\n"

    def _load_language_model(self, spec: str, device: str | None) -> None:
        from dialog_gym.lm import load
        from dialog_gym.lm.transformers_lm import TransformersLM
        from dialog_gym.lm.wording import Wording

        self.lm = load(spec, device=device)
        if not isinstance(self.lm, TransformersLM):
            raise ValueError(f"an encoder must run in this process and give its states (transformers), got {spec!r}")
        self.tokenizer, self.model = self.lm.tokenizer, self.lm.model.get_decoder()
        self._wording = None if self.task is None else Wording(self.task, self.lm)

    @property
    def device(self) -> Any:
        """Where the model is."""
        return next(self.model.parameters()).device

    def words(self, heard: Dialogue) -> str:
        """Return the text, or the chat as JSON, as the agent's role has it."""
        if self.lm is None:
            return written(heard, self._separator)
        agent = heard.roles[0]
        chat = heard.messages(agent) if self._wording is None else self._wording.messages(heard, agent)
        return json.dumps(chat, ensure_ascii=False)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, at most ``max_tokens``: the oldest are left out."""
        if self.lm is None:
            read = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)
            return [list(ids) for ids in read["input_ids"]]
        chats = [json.loads(text) for text in texts]
        return [ids[-self.max_tokens :] for ids in self.lm.chat.encode(chats, self.max_tokens)]

    def states(self, tokens: Sequence[Sequence[int]]) -> Any:
        """Return the vectors of one batch as a tensor, shape ``(n, size)``; gradients reach a model that is tuned."""
        import torch

        longest = max(map(len, tokens))
        ids = torch.zeros(len(tokens), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, some in enumerate(tokens):
            ids[row, : len(some)] = torch.tensor(some, dtype=torch.long)
            mask[row, : len(some)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        self.passes += len(tokens)
        last = hidden[torch.arange(len(tokens)), mask.sum(1) - 1]
        if self.pool == "last":
            return last
        mean = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return mean if self.pool == "mean" else torch.cat([last, mean], 1)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, shape ``(n, size)``; texts of like length share a batch."""
        import torch

        tokens = self.tokens(texts)
        if empty := [row for row, ids in enumerate(tokens) if not ids]:
            raise ValueError(f"texts {empty} have no token, so there is nothing to encode: {texts[empty[0]]!r:.80}")
        found = np.zeros((len(texts), self.size), np.float32)
        with torch.inference_mode():
            for rows in batches([len(ids) for ids in tokens]):
                found[rows] = self.states([tokens[row] for row in rows]).cpu().numpy()
        return found

    def tuned_copy(self) -> ModelEncoder:
        """Return a copy whose model has weights of its own, which take gradients; it stays in evaluation mode."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model).requires_grad_(True)
        return other

    def fingerprint(self) -> str:
        """Return a hash of weights, words and settings."""
        digest = blake2b(digest_size=8)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        notation = "" if self.task is None else type(self.task).__qualname__
        about = [self.pool, self.max_tokens, notation, getattr(self.tokenizer, "chat_template", None)]
        digest.update(json.dumps([*about, sorted(self.tokenizer.get_vocab().items())]).encode())
        return digest.hexdigest()


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Return rows in batches, those of like length together, none of more than 16,384 tokens with its padding.

    >>> batches([5, 20_000, 4])
    [[2, 0], [1]]
    """
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = not found or len(found[-1]) == _BATCH_ROWS
        if full or (len(found[-1]) + 1) * lengths[row] > _BATCH_TOKENS:
            found.append([])
        found[-1].append(row)
    return found


def _is_text_encoder(spec: str) -> bool:
    """Return whether ``spec`` is an encoder that reads text; any other model is taken for a causal one."""
    if spec == SEMANTIC:
        return True
    config = Path(spec) / "config.json"
    if not config.is_file():
        return False
    told = json.loads(config.read_text(encoding="utf-8")).get("architectures") or [""]
    return not told[0].endswith("ForCausalLM")


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
