"""Joint tuning of a tiny language model and its prefix map, so that a code says what a reply says.

A conditional variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114; Sohn et al. 2015): an encoder
sees what a partner would understand of a reply (where one bargains: style, reason, price), its code z becomes a
prefix right before the reply, and the model must say the reply. The words are left to the model, so that all of the
code is meaning. Beside it, a linear reading of the state before the reply must tell the facts known by then (the
limit, the prices named, how probable each type of partner is), so that a planner finds them there. Every world has
codes of its own kind; the context tells the model which is meant.
For ``dialog_gym.lm.build_tiny`` and ``speaker_build``; the encoder and the reading are used in training only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from dialog_gym.chance import global_random_state_kept
from dialog_gym.lm.prefix import SteerMap
from dialog_gym.lm.tiny_corpus import Chat, Layout, padded
from dialog_gym.lm.tiny_training import batches, cosine, step


class Settings(Protocol):
    """How a model is tuned together with its map: the part of ``build_tiny.Args`` that says so."""

    @property
    def seed(self) -> int:
        """All randomness."""

    @property
    def action_size(self) -> int:
        """Coordinates of an action."""

    @property
    def prefix_tokens(self) -> int:
        """Tokens of a prefix."""

    @property
    def map_hidden(self) -> int:
        """Hidden units of the map, 0 for a linear one."""

    @property
    def steer_epochs(self) -> float:
        """Passes over the chats."""

    @property
    def steer_batch(self) -> int:
        """Chats an update."""

    @property
    def beta(self) -> float:
        """Weight of the divergence from the prior of codes, in nats."""

    @property
    def beta_ramp(self) -> int:
        """Steps until it has its full weight."""

    @property
    def plain_weight(self) -> float:
        """Weight of the chats told plainly."""

    @property
    def token_weight(self) -> float:
        """Weight of a world's own tokens."""

    @property
    def facts_weight(self) -> float:
        """Weight of telling the facts from the state."""


class ReplyEncoder(nn.Module):
    """The attributes of a reply to a normal distribution of codes."""

    mean: Tensor
    scale: Tensor

    def __init__(self, attributes: Tensor, own: Tensor, size: int, hidden: int = 192) -> None:
        """Build two hidden layers.

        Args:
            attributes: Of all replies, (replies, attributes): they tell how to standardise.
            own: Which columns are those of the reply's world, the same shape, bool.
            size: Length of a code.
            hidden: Units of a hidden layer.
        """
        super().__init__()
        mean, scale = standard(attributes, own)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        seen = attributes.shape[1]
        self.net = nn.Sequential(
            nn.Linear(seen, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * size)
        )
        self.skip = nn.Linear(seen, size, bias=False)
        with torch.no_grad():  # codes begin nearly free of noise, or nobody learns to listen
            cast(nn.Linear, self.net[-1]).bias[size:] = -4.0

    def forward(self, attributes: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z, each (B, size)."""
        known = (attributes - self.mean) / self.scale * own
        mean, log_variance = self.net(known).chunk(2, -1)
        return mean + self.skip(known), log_variance.clamp(-8.0, 4.0)


def standard(numbers: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (at least 1e-3) of each column over the rows whose ``own`` it is."""
    count = own.sum(0).clamp_min(1)
    mean = (numbers * own).sum(0) / count
    spread = (((numbers - mean) * own).square().sum(0) / count).sqrt()
    return mean, spread.clamp_min(1e-3)


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) per row, nats, shape (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


@global_random_state_kept()
def train_steer(
    args: Settings, model: LlamaForCausalLM, chats: Sequence[Chat], layout: Layout, world_tokens: Sequence[int]
) -> tuple[SteerMap, ReplyEncoder]:
    """Tune ``model`` together with a prefix map, so that z says what the reply says."""
    generator = torch.Generator().manual_seed(args.seed + 2)
    rng = np.random.default_rng([args.seed, 2])
    table = cast(nn.Embedding, model.get_input_embeddings()).weight
    torch.manual_seed(args.seed + 3)
    steer = SteerMap.new(table, args.action_size, args.prefix_tokens, hidden=args.map_hidden, seed=args.seed)
    told = [chat for chat in chats if chat.replies]
    whole = Replies(told, layout)
    encoder = ReplyEncoder(whole.attributes, whole.own_attributes, args.action_size)
    tell = nn.Linear(2 * model.config.hidden_size, whole.facts.shape[1])
    centre, spread = standard(whole.facts, whole.own_facts)
    groups = [(encoder, 3e-3), (steer, 3e-3), (model, 2e-3), (tell, 3e-3)]
    optimiser = torch.optim.AdamW([{"params": m.parameters(), "lr": lr} for m, lr in groups], weight_decay=0.0)
    plan = list(batches([len(chat.ids) for chat in told], args.steer_batch, args.steer_epochs, rng))
    schedule = cosine(optimiser, len(plan))
    parameters = [p for m, _ in groups for p in m.parameters()]
    weight = torch.ones(model.config.vocab_size)
    weight[list(world_tokens)] = args.token_weight
    model.train()
    for i, rows in enumerate(track(plan, "tune together")):
        some = [told[row] for row in rows]
        batch, about = Branches(some, args.prefix_tokens), Replies(some, layout)
        mean, log_variance = encoder(about.attributes, about.own_attributes)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        reading = batch.read(model, steer.embeddings(z), weight)
        missed = (tell(reading.states) - (about.facts - centre) / spread) * about.own_facts
        unknown = missed.square().sum() / about.own_facts.sum()
        beta = args.beta * min(1.0, i / args.beta_ramp)
        loss = (
            reading.steered
            + args.plain_weight * reading.plain
            + args.facts_weight * unknown
            + beta * kl_to_prior(mean, log_variance).mean()
        )
        step(loss, parameters, optimiser, schedule)
    model.eval()
    return steer.eval(), encoder.eval()


class Replies:
    """What the replies of some chats say and what was known before them, and which numbers are their world's own.

    Attributes:
        attributes: (replies, attributes of all worlds).
        facts: (replies, facts of all worlds).
        own_attributes: Bool, the shape of ``attributes``.
        own_facts: Bool, the shape of ``facts``.
    """

    def __init__(self, chats: Sequence[Chat], layout: Layout) -> None:
        """Put the replies of ``chats`` (each with at least one) one below the other."""
        self.attributes = torch.from_numpy(np.concatenate([chat.attributes for chat in chats]))
        self.facts = torch.from_numpy(np.concatenate([chat.facts for chat in chats]))
        self.own_attributes = torch.zeros(self.attributes.shape, dtype=torch.bool)
        self.own_facts = torch.zeros(self.facts.shape, dtype=torch.bool)
        row = 0
        for chat in chats:
            rows = slice(row, row := row + len(chat.replies))
            self.own_attributes[rows, layout.attributes[chat.world]] = True
            self.own_facts[rows, layout.facts[chat.world]] = True


class Reading(NamedTuple):
    """One pass over ``Branches``.

    Attributes:
        plain: Mean cross-entropy per token of the chats.
        steered: The same of the branches, weighted by token.
        states: State before each reply, and the mean over the tokens up to it, (replies, 2 * width).
    """

    plain: Tensor
    steered: Tensor
    states: Tensor


class Branches:
    """Chats with every reply said twice: plainly, as part of the chat, and steered, on a branch of its own.

    A row holds the chat, then for each reply a branch of prefix and reply. A branch sees the chat up to the
    token that opens the reply, and itself; nothing sees a branch. Positions go on from where the branch
    leaves the chat. So one pass shows every steered reply exactly the context that it has in use, where the
    earlier replies are told without their prefixes.
    """

    def __init__(self, chats: Sequence[Chat], prefix_tokens: int) -> None:
        """Lay out the rows."""
        self.prefix_tokens = prefix_tokens
        self.ids = padded([chat.ids for chat in chats], -100)  # (B, T)
        self.replies = [torch.tensor(chat.ids[start:stop]) for chat in chats for start, stop in chat.replies]
        owner = [row for row, chat in enumerate(chats) for _ in chat.replies]
        leave = [start for chat in chats for start, _ in chat.replies]
        columns, width = self._columns(owner)
        self._lay_out(owner, leave, columns, width)
        self.owner = torch.tensor(owner)
        self.leave = torch.tensor(leave)
        self.row = torch.cat([torch.full_like(reply, row) for row, reply in zip(owner, self.replies, strict=True)])
        self.start = torch.tensor(columns)
        # Column in front of each reply token: there it is foretold.
        self.column = torch.cat(
            [
                column + prefix_tokens - 1 + torch.arange(len(reply))
                for column, reply in zip(columns, self.replies, strict=True)
            ]
        )

    def _columns(self, owner: Sequence[int]) -> tuple[list[int], int]:
        """Return where each branch begins in its row, and how wide the rows are."""
        used = [self.ids.shape[1]] * len(self.ids)
        columns = []
        for row, reply in zip(owner, self.replies, strict=True):
            columns.append(used[row])
            used[row] += self.prefix_tokens + len(reply)
        return columns, max(used)

    def _lay_out(self, owner: Sequence[int], leave: Sequence[int], columns: Sequence[int], width: int) -> None:
        """Settle who sees whom, (B, W, W), and the positions, (B, W)."""
        rows, length = self.ids.shape
        self.mask = torch.eye(width, dtype=torch.bool).repeat(rows, 1, 1)  # padding sees itself: no empty softmax
        self.mask[:, :length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
        self.places = torch.zeros(rows, width, dtype=torch.long)
        self.places[:, :length] = torch.arange(length)
        for row, start, column, reply in zip(owner, leave, columns, self.replies, strict=True):
            size = self.prefix_tokens + len(reply)
            own = slice(column, column + size)
            self.mask[row, own, :start] = True
            self.mask[row, own, own] = torch.ones(size, size, dtype=torch.bool).tril()
            self.places[row, own] = torch.arange(start, start + size)

    def read(self, model: LlamaForCausalLM, prefixes: Tensor, weight: Tensor) -> Reading:
        """Return what ``model`` makes of the rows in one pass, the branches behind ``prefixes``."""
        embed = model.get_input_embeddings()
        length = self.ids.shape[1]
        said = torch.cat(self.replies)
        inputs = embed(torch.zeros(self.places.shape, dtype=torch.long)) * 0
        inputs[:, :length] = embed(self.ids.clamp_min(0))
        places = self.start[:, None] + torch.arange(self.prefix_tokens)
        inputs[self.owner[:, None], places] = prefixes
        inputs[self.row, self.column + 1] = embed(said)
        hidden = model.model(
            inputs_embeds=inputs, attention_mask=self.mask.unsqueeze(1), position_ids=self.places
        ).last_hidden_state
        real = self.ids[:, 1:] >= 0
        plain = F.cross_entropy(model.lm_head(hidden[:, : length - 1][real]), self.ids[:, 1:][real])
        logits = model.lm_head(hidden[self.row, self.column])
        steered = F.cross_entropy(logits, said, weight, reduction="sum") / len(said)
        before = hidden[self.owner, self.leave - 1]
        mean = hidden[:, :length].cumsum(1)[self.owner, self.leave - 1] / self.leave[:, None]
        return Reading(plain, steered, torch.cat([before, mean], -1))
