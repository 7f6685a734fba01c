"""Fitting prefix maps to a language model.

``pca`` is computed, ``clone`` trains a map on a model that stays frozen, ``steer`` tunes a copy of the model together
with its map. Randomness comes from the seed alone, and a map's state input from the prompt alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from dialog_gym.dialogue import Draws
from dialog_gym.lm.base import Messages, Position, Sampling
from dialog_gym.lm.prefix import CloneMap, PcaMap, PrefixMap, SteerMap
from dialog_gym.lm.transformers_lm import TransformersLM

Kind = Literal["pca", "clone", "steer"]
Attributes = Callable[[Sequence[str]], NDArray[Any]]
"""Numbers that describe replies (a price, a style, ...): from n texts to (n, k)."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a map is trained.

    Attributes:
        steps: Updates.
        batch: Replies per update.
        max_tokens: Longest reply learned from.
        samples: Replies drawn from the model per prompt (``clone``).
        informed: Whether an encoder of the reply adds a code to the planner's, as a variational autoencoder, so that
            the action can mean something (``clone``; ``steer`` is always so).
        beta: Weight of the divergence from the prior of codes, reached after ``ramp`` steps.
        ramp: Steps until ``beta`` is reached.
        told: Share of replies that come with a prefix; the rest keep the unsteered model alive (``steer``).
        rates: Learning rates of encoder, map and model.
        token_weights: Weight of each token of the vocabulary in the loss, None for 1.
    """

    steps: int = 300
    batch: int = 32
    max_tokens: int = 48
    samples: int = 1
    informed: bool = False
    beta: float = 1e-3
    ramp: int = 200
    told: float = 0.8
    rates: tuple[float, float, float] = (2e-3, 5e-3, 1e-3)
    token_weights: Sequence[float] | None = None


class Example(NamedTuple):
    """A reply to a prompt; ``state`` is computed from the prompt alone."""

    prompt: list[int]
    reply: list[int]
    text: str
    state: NDArray[np.float32]


class Batch(NamedTuple):
    """What a model is given to learn a reply behind a prefix.

    Attributes:
        inputs: Embeddings of padding, prompt with prefix, reply, padding: (n, columns, embedding size).
        seen: 1 where there is no padding, (n, columns).
        labels: Ids of the reply's tokens in their columns, -100 on prompt, prefix and padding.
        longest: Columns of the reply.
    """

    inputs: Tensor
    seen: Tensor
    labels: Tensor
    longest: int


class ReplyEncoder(nn.Module):
    """From a reply, as the mean of its embeddings and its attributes, to a normal distribution of codes."""

    def __init__(self, embedding_size: int, attributes: int, code_size: int, hidden: int = 192) -> None:
        """Make two hidden layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(embedding_size + attributes, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 2 * code_size),
        )

    def forward(self, bag: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code, each (n, code size)."""
        mean, log_variance = self.layers(torch.cat([bag, attributes], dim=-1)).chunk(2, dim=-1)
        return mean, log_variance.clamp(-8.0, 4.0)


@dataclass(slots=True)
class Fitted:
    """A fitted map with what belongs to it.

    Attributes:
        map: The map, bound to ``lm``.
        lm: The model it steers: for ``steer`` a tuned copy, else the model given.
        unsteered: Loss of the replies without a prefix, under the model given (NaN for ``pca``).
        losses: Loss at each step.
        encoder: Finds the code of a reply, if one was trained.
        attributes: What the encoder was told of a reply besides its words.
    """

    map: PrefixMap
    lm: TransformersLM
    unsteered: float = float("nan")
    losses: list[float] = field(default_factory=list)
    encoder: ReplyEncoder | None = None
    attributes: Attributes | None = None

    def encode(self, replies: Sequence[str]) -> NDArray[np.float32]:
        """Return the actions that say ``replies``, as far as the encoder knows; (n, action size) in [-1, 1]."""
        if self.encoder is None:
            raise ValueError(
                "this prefix map was fitted without an encoder: fit 'steer', or 'clone' with informed=True"
            )
        with torch.no_grad():
            ids = [[*self.lm.chat.encode_reply(text), *self.lm.chat.end_of_turn] for text in replies]
            mean, _ = self.encoder(_bags(self.lm, ids), _numbers(self.attributes, replies).to(self.lm.device))
        reach = self.map.reach if isinstance(self.map, CloneMap) else 2.0
        actions: NDArray[np.float32] = (mean / reach).clamp(-1.0, 1.0).float().cpu().numpy()
        return actions


def fit_prefix(
    kind: Kind,
    lm: TransformersLM,
    chats: Sequence[Messages] = (),
    *,
    action_size: int = 16,
    prefix_tokens: int = 2,
    position: Position = "end",
    settings: FitSettings | None = None,
    attributes: Attributes | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Fitted:
    """Fit a prefix map to ``lm``.

    Args:
        kind: ``pca`` (needs no chats), ``clone`` (needs prompts; learns from what the model itself says to them) or
            ``steer`` (learns from what the chats say, and tunes a copy of the model with the map).
        lm: The model; it is not changed.
        chats: Every assistant message is a reply, what is before it its prompt. For ``clone`` a chat without one is
            a prompt.
        action_size: Numbers in an action.
        prefix_tokens: Embeddings in a prefix.
        position: Where the prefix goes.
        settings: How the map is trained.
        attributes: Describes replies to the encoder.
        seed: All randomness.
        progress: Whether to show a bar.

    Raises:
        ValueError: The kind is unknown, or the chats hold nothing to learn from.
    """
    shape = (action_size, prefix_tokens, position)
    if kind == "pca":
        return Fitted(PcaMap.of(lm.embedding_matrix, *shape).bind(lm), lm)
    if kind not in ("clone", "steer"):
        raise ValueError(f"unknown kind of prefix map {kind!r}: expected pca, clone or steer")
    settings = settings or FitSettings()
    if kind == "clone":
        examples = own_replies(lm, chats, settings, seed)
        states = torch.from_numpy(np.stack([example.state for example in examples]))
        reach = 2.0 if settings.informed else 1.0
        made: CloneMap | SteerMap = CloneMap.new(lm.embedding_matrix, states, *shape, reach=reach, seed=seed)
    else:
        examples = said_replies(lm, chats, settings)
        lm = TransformersLM(copy.deepcopy(lm.model), lm.tokenizer, f"{lm.name} (steerable)")
        made = SteerMap.new(lm.embedding_matrix, *shape, seed=seed)
    made.to(lm.device)
    return _Trainer(lm, made, examples, settings, attributes, seed).run(progress)


def said_replies(lm: TransformersLM, chats: Sequence[Messages], settings: FitSettings) -> list[Example]:
    """Return every assistant message of ``chats`` as an example, with its end-of-turn token."""
    pairs = [(chat[:i], m["content"]) for chat in chats for i, m in enumerate(chat) if m["role"] == "assistant"]
    replies = [[*lm.chat.encode_reply(text, prompt), *lm.chat.end_of_turn] for prompt, text in pairs]
    return _examples(lm, [prompt for prompt, _ in pairs], replies, [text for _, text in pairs], settings)


def own_replies(lm: TransformersLM, chats: Sequence[Messages], settings: FitSettings, seed: int) -> list[Example]:
    """Return what ``lm`` itself says, at temperature 1, in place of every assistant message of ``chats``."""
    prompts: list[Messages] = []
    for chat in chats:
        places = [i for i, message in enumerate(chat) if message["role"] == "assistant"] or [len(chat)]
        prompts += [chat[:i] for i in places]
    prompts = [prompt for prompt in prompts for _ in range(settings.samples)]
    sampling = Sampling(settings.max_tokens, temperature=1.0)
    seeds = [Draws(seed, "clone", i).bits() for i in range(len(prompts))]
    said = [
        reply
        for i in range(0, len(prompts), 64)
        for reply in lm.generate(prompts[i : i + 64], sampling, seeds=seeds[i : i + 64])
    ]
    return _examples(lm, prompts, [list(r.tokens) for r in said], [r.text for r in said], settings)


def _examples(
    lm: TransformersLM,
    prompts: Sequence[Messages],
    replies: Sequence[list[int]],
    texts: Sequence[str],
    settings: FitSettings,
) -> list[Example]:
    ids = lm.encode(prompts) if prompts else []
    states = [state for i in range(0, len(prompts), 64) for state in lm.embed(prompts[i : i + 64])]
    kept = [
        Example(prompt, reply[: settings.max_tokens], text, state)
        for prompt, reply, text, state in zip(ids, replies, texts, states, strict=True)
        if reply
    ]
    if not kept:
        raise ValueError(f"nothing to learn from: {len(prompts)} prompts and no reply of at least one token")
    return kept


def teacher_batch(lm: TransformersLM, examples: Sequence[Example], prefix: Tensor, position: Position) -> Batch:
    """Put ``prefix`` (n, P, embedding size; P may be 0) into the prompts of ``examples``, and replies behind them.

    Prompts are padded on the left and replies on the right, so that all replies begin in one column.
    """
    count = prefix.shape[1]
    at = [
        len(example.prompt) if position == "end" else int(example.prompt[0] == lm.tokenizer.bos_token_id)
        for example in examples
    ]
    width = max(len(example.prompt) for example in examples) + count
    longest = max(len(example.reply) for example in examples)
    ids = torch.zeros((len(examples), width + longest), dtype=torch.long)
    seen = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, ((prompt, reply, *_), i) in enumerate(zip(examples, at, strict=True)):
        first, last = width - count - len(prompt), width + len(reply)
        ids[row, first:last] = torch.tensor([*prompt[:i], *[0] * count, *prompt[i:], *reply])
        seen[row, first:last] = 1
        labels[row, width:last] = torch.tensor(reply)
    starts = torch.tensor([width - count - len(e.prompt) + i for e, i in zip(examples, at, strict=True)])
    columns = (starts[:, None] + torch.arange(count)).to(lm.device)
    embedded: Tensor = lm.model.get_input_embeddings()(ids.to(lm.device))
    rows = torch.arange(len(examples), device=lm.device)[:, None]
    inputs = embedded.index_put((rows, columns), prefix.to(embedded.dtype))
    return Batch(inputs, seen.to(lm.device), labels.to(lm.device), longest)


def reply_loss(lm: TransformersLM, batch: Batch, weights: Tensor | None = None) -> Tensor:
    """Return the mean (weighted) cross-entropy per reply token of each row, (n,)."""
    positions = (batch.seen.cumsum(1) - 1).clamp(min=0)
    network = cast(Any, lm.model)
    logits: Tensor = network(
        inputs_embeds=batch.inputs,
        attention_mask=batch.seen,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=batch.longest + 1,
    ).logits
    labels = batch.labels[:, -batch.longest :]
    losses = nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels, weights, ignore_index=-100, reduction="none"
    )
    return losses.sum(1) / (labels != -100).sum(1)


class _Trainer:
    """One fit of a ``clone`` or ``steer`` map."""

    def __init__(
        self,
        lm: TransformersLM,
        prefix_map: CloneMap | SteerMap,
        examples: list[Example],
        settings: FitSettings,
        attributes: Attributes | None,
        seed: int,
    ) -> None:
        self.lm, self.map, self.examples, self.settings, self.attributes = (
            lm, prefix_map, examples, settings, attributes,
        )  # fmt: skip
        self.generator = torch.Generator().manual_seed(Draws(seed, "fit").bits() >> 1)
        self.numbers = _numbers(attributes, [example.text for example in examples]).to(lm.device)
        self.tunes = isinstance(prefix_map, SteerMap)
        self.encoder: ReplyEncoder | None = None
        if self.tunes or settings.informed:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(Draws(seed, "encoder").bits() >> 1)
                encoder = ReplyEncoder(lm.embedding_size, self.numbers.shape[1], prefix_map.action_size)
            self.encoder = encoder.to(lm.device)
        weights = settings.token_weights
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=lm.device)

    def run(self, progress: bool) -> Fitted:
        """Train, bind and return the map."""
        unsteered = self._unsteered()
        parts: list[nn.Module | None] = [self.encoder, self.map, self.lm.model if self.tunes else None]
        learning = [(part, rate) for part, rate in zip(parts, self.settings.rates, strict=True) if part is not None]
        self.lm.model.requires_grad_(self.tunes)
        parameters = [parameter for part, _ in learning for parameter in part.parameters()]
        optimiser = torch.optim.AdamW(
            [{"params": list(part.parameters()), "lr": rate} for part, rate in learning], weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [rate for _, rate in learning], total_steps=self.settings.steps + 1, pct_start=0.05
        )
        losses = []
        for step in track(range(self.settings.steps), f"Fit {self.map.kind} prefix", disable=not progress):
            loss, nll = self._loss(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(nll)
        self.lm.model.requires_grad_(False)
        return Fitted(self.map.bind(self.lm), self.lm, unsteered, losses, self.encoder, self.attributes)

    def _loss(self, step: int) -> tuple[Tensor, float]:
        chosen = torch.randint(len(self.examples), (self.settings.batch,), generator=self.generator)
        examples = [self.examples[i] for i in chosen.tolist()]
        z, divergence = self._code(examples, self.numbers[chosen.to(self.lm.device)])
        if isinstance(self.map, CloneMap):
            states = torch.from_numpy(np.stack([example.state for example in examples])).to(self.lm.device)
            prefix = self.map.embeddings(z, states)
        else:
            prefix = self.map.embeddings(z)
        losses = reply_loss(self.lm, teacher_batch(self.lm, examples, prefix, self.map.position), self.weights)
        if self.tunes and self.settings.told < 1.0:
            losses = self._mixed(examples, losses)
        beta = self.settings.beta * min(1.0, step / max(1, self.settings.ramp))
        return losses.mean() + beta * divergence.mean(), float(losses.mean().detach())

    def _code(self, examples: Sequence[Example], numbers: Tensor) -> tuple[Tensor, Tensor]:
        if self.encoder is None:
            nothing = torch.zeros((len(examples), self.map.action_size), device=self.lm.device)
            return nothing, torch.zeros(len(examples), device=self.lm.device)
        mean, log_variance = self.encoder(_bags(self.lm, [example.reply for example in examples]), numbers)
        noise = torch.randn(mean.shape, generator=self.generator).to(mean.device)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)
        return mean + (0.5 * log_variance).exp() * noise, divergence

    def _mixed(self, examples: Sequence[Example], told: Tensor) -> Tensor:
        """Return losses, those of some rows without a prefix."""
        without = torch.rand(len(examples), generator=self.generator) >= self.settings.told
        if not bool(without.any()):
            return told
        untold = [example for example, is_untold in zip(examples, without.tolist(), strict=True) if is_untold]
        batch = teacher_batch(self.lm, untold, self._nothing(len(untold)), self.map.position)
        return torch.cat([told[~without.to(told.device)], reply_loss(self.lm, batch, self.weights)])

    def _nothing(self, rows: int) -> Tensor:
        return torch.zeros((rows, 0, self.lm.embedding_size), device=self.lm.device)

    @torch.no_grad()
    def _unsteered(self) -> float:
        examples = self.examples[:128]
        batch = teacher_batch(self.lm, examples, self._nothing(len(examples)), self.map.position)
        return float(reply_loss(self.lm, batch, self.weights).mean())


def _bags(lm: TransformersLM, replies: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean input embedding of each reply, (n, embedding size)."""
    rows = [lm.embedding_matrix[torch.tensor(list(ids), dtype=torch.long)] for ids in replies]
    return torch.stack([row.mean(0) if len(row) else row.new_zeros(lm.embedding_size) for row in rows]).float()


def _numbers(attributes: Attributes | None, texts: Sequence[str]) -> Tensor:
    if attributes is None:
        return torch.zeros((len(texts), 0))
    numbers = torch.from_numpy(np.asarray(attributes(texts), np.float32))
    if numbers.ndim != 2 or len(numbers) != len(texts):
        raise ValueError(f"attributes must return ({len(texts)}, k) numbers, got {tuple(numbers.shape)}")
    return numbers.nan_to_num()
