"""Build the tiny language models that ship with the package, from self-play of the embedded worlds.

``python -m dialog_gym.lm.build_tiny --out FOLDER --worlds bargain`` plays dialogues, learns a tokenizer,
trains a small Llama from nothing (``tiny``), then tunes a copy of it together with a prefix map as a
conditional variational autoencoder (``tiny-steerable``): an encoder sees the reply that was said and its
parsed attributes, its code z becomes a prefix right before the reply, and the model must say the reply.
Afterwards the model is frozen, and a planner chooses z. All from one seed, in minutes, on one CPU thread.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import track
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import load_task
from dialog_gym.lm.prefix import SteerMap
from dialog_gym.task import Task

WORLDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "bargain": [
        ("dialog_gym.envs.bargain:Bargain", {"side": "buyer"}),
        ("dialog_gym.envs.bargain:Bargain", {"side": "seller"}),
    ],
}
"""The tasks of each world. Each has ``self_play(draws)`` and ``attributes(dialogue, role, text)``."""

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Args:
    """What to build and for how long."""

    out: Path
    """Folder for ``tiny`` and ``tiny-steerable``."""
    worlds: tuple[str, ...] = ("bargain",)
    """Embedded worlds to play."""
    dialogues: int = 24_000
    """Self-played dialogues, over all worlds; each is read from both sides."""
    seed: int = 0
    """Seed of everything."""
    vocabulary: int = 1400
    """Tokens, those of the worlds included."""
    width: int = 96
    """Hidden size."""
    layers: int = 3
    """Transformer layers."""
    epochs: float = 1.0
    """Passes over the dialogues."""
    batch: int = 32
    """Dialogues a step."""
    learning_rate: float = 5e-3
    """Peak learning rate of the language model (cosine)."""
    steer_steps: int = 900
    """Steps of joint tuning."""
    steer_batch: int = 48
    """Replies a step of joint tuning."""
    action_size: int = 16
    """Coordinates of an action."""
    prefix_tokens: int = 2
    """Tokens of a prefix."""
    beta: float = 1e-3
    """Weight of the KL term, in nats."""
    beta_ramp: int = 200
    """Steps until the KL term has its full weight."""
    prefix_share: float = 0.8
    """Share of replies that are told by a prefix; the rest keep the unsteered model alive."""
    token_weight: float = 3.0
    """Weight of a world's own tokens (prices) in the loss of joint tuning."""
    stages: tuple[str, ...] = ("plain", "steer")
    """What to build; "steer" alone starts from the ``tiny`` already in ``out``."""


@dataclass(frozen=True)
class Reply:
    """One utterance to learn to say: the tokens before it, its own, and its parsed attributes."""

    context: list[int]
    tokens: list[int]
    attributes: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """Played dialogues as token ids."""

    chats: list[list[int]]  # one per dialogue and role
    replies: list[Reply]  # one per agent turn


def self_play(tasks: Sequence[Task], count: int, seed: int) -> list[tuple[Task, Dialogue]]:
    """Play ``count`` dialogues, the tasks in turn."""
    return [
        (task, task.self_play(Draws(seed, "self-play", k)))  # type: ignore[attr-defined]
        for k, task in ((k, tasks[k % len(tasks)]) for k in track(range(count), "play", transient=True))
    ]


def chat_text(messages: Sequence[dict[str, str]]) -> str:
    """Return a whole chat in the notation of ``TEMPLATE``."""
    end = {"assistant": END}
    return "".join(f"<|{m['role']}|> {m['content']}{end.get(m['role'], '')}" for m in messages)


def train_tokenizer(texts: Iterator[str], world_tokens: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE; each world token (with its leading space) is one token from the start."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r" ?[\p{L}']+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    own = [AddedToken(f" {token}", normalized=False) for token in world_tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(own),
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(own)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    fast.chat_template = TEMPLATE
    return fast


def encode(played: Sequence[tuple[Task, Dialogue]], tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """Return the dialogues as token ids, read from both sides."""
    chats, replies = [], []
    for task, dialogue in track(played, "encode", transient=True):
        agent, partner = dialogue.roles
        for role in (agent, partner):
            messages = task.messages(dialogue, role)
            chats.append(tokenizer(chat_text(messages), add_special_tokens=False)["input_ids"])
        replies += list(_replies(task, dialogue, agent, chats[-2], tokenizer))
    return Corpus(chats, replies)


def _replies(
    task: Task, dialogue: Dialogue, agent: str, ids: list[int], tokenizer: PreTrainedTokenizerFast
) -> Iterator[Reply]:
    """Cut one chat into its agent turns, at the tokens that open and end them."""
    opens, ends = (tokenizer.convert_tokens_to_ids(token) for token in (ASSISTANT, END))
    texts = iter(dialogue.texts(agent))
    start = 0
    for place, token in enumerate(ids):
        if token == opens:
            start = place + 1
        elif token == ends:
            attributes = task.attributes(dialogue, agent, next(texts))  # type: ignore[attr-defined]
            yield Reply(ids[:start], ids[start : place + 1], np.asarray(attributes, np.float32))


def new_model(args: Args, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained Llama."""
    end, pad = (tokenizer.convert_tokens_to_ids(token) for token in (END, PAD))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.width,
        intermediate_size=8 * args.width // 3,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    torch.manual_seed(args.seed)
    return LlamaForCausalLM(config)


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return the rows as one matrix, filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def train_plain(args: Args, model: LlamaForCausalLM, chats: Sequence[list[int]]) -> None:
    """Teach ``model`` the chats, both sides' words, by next-token cross-entropy."""
    rng = np.random.default_rng([args.seed, 1])
    batches = list(_batches(chats, args.batch, args.epochs, rng))
    optimiser = torch.optim.AdamW(model.parameters(), args.learning_rate, (0.9, 0.95), weight_decay=0.01)
    schedule = _cosine(optimiser, len(batches))
    model.train()
    for rows in track(batches, "train tiny"):
        ids = padded([chats[row] for row in rows], -100)
        hidden = model.model(input_ids=ids.clamp_min(0)[:, :-1]).last_hidden_state
        real = ids[:, 1:] >= 0
        loss = F.cross_entropy(model.lm_head(hidden[real]), ids[:, 1:][real])
        _step(loss, model.parameters(), optimiser, schedule)
    model.eval()


def _batches(chats: Sequence[list[int]], size: int, epochs: float, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield batches of like length in random order, so that little is padding."""
    for epoch in range(math.ceil(epochs)):
        noisy = np.array([len(chat) for chat in chats]) + rng.uniform(0, 12, len(chats))
        order = np.argsort(noisy)
        groups = [order[i : i + size].tolist() for i in range(0, len(order), size)]
        share = min(1.0, epochs - epoch)
        for i in rng.permutation(len(groups))[: round(share * len(groups))]:
            yield groups[i]


def _cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    warm = max(1, steps // 50)
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, i / steps))))
    )


def _step(loss: Tensor, parameters: Any, optimiser: torch.optim.Optimizer, schedule: Any) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    schedule.step()


class ReplyEncoder(nn.Module):
    """Bag of the reply's embeddings and its attributes to a Gaussian over z; used in training only."""

    def __init__(self, width: int, attributes: int, size: int, hidden: int = 192) -> None:
        """Build two hidden layers."""
        super().__init__()
        self.size = size
        self.net = nn.Sequential(
            nn.Linear(width + attributes, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * size),
        )  # fmt: skip

    def forward(self, bag: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z, each (B, size)."""
        mean, log_variance = self.net(torch.cat([bag, attributes], -1)).chunk(2, -1)
        return mean, log_variance.clamp(-8.0, 4.0)


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) per row, nats, shape (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def train_steer(
    args: Args, model: LlamaForCausalLM, replies: Sequence[Reply], world_tokens: Sequence[int]
) -> tuple[SteerMap, ReplyEncoder]:
    """Tune ``model`` together with a prefix map, so that z says what the reply says."""
    generator = torch.Generator().manual_seed(args.seed + 2)
    rng = np.random.default_rng([args.seed, 2])
    steer = SteerMap.new(model.get_input_embeddings().weight, args.action_size, args.prefix_tokens, seed=args.seed)
    torch.manual_seed(args.seed + 3)
    encoder = ReplyEncoder(args.width, len(replies[0].attributes), args.action_size)
    groups = [(encoder, 2e-3), (steer, 5e-3), (model, 1e-3)]
    optimiser = torch.optim.AdamW([{"params": m.parameters(), "lr": lr} for m, lr in groups], weight_decay=0.0)
    schedule = _cosine(optimiser, args.steer_steps)
    parameters = [p for m, _ in groups for p in m.parameters()]
    heavy = torch.ones(model.config.vocab_size)
    heavy[list(world_tokens)] = args.token_weight
    model.train()
    for i in track(range(args.steer_steps), "tune steerable"):
        batch = [replies[k] for k in rng.integers(len(replies), size=args.steer_batch)]
        told = torch.rand(len(batch), 1, 1, generator=generator) < args.prefix_share
        mean, log_variance = _encode(model, encoder, batch)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        nll = reply_nll(model, batch, steer.embeddings(z), told, heavy)
        beta = args.beta * min(1.0, i / args.beta_ramp)
        loss = nll + beta * (kl_to_prior(mean, log_variance) * told.view(-1)).mean()
        _step(loss, parameters, optimiser, schedule)
    model.eval()
    return steer.eval(), encoder.eval()


def _encode(model: LlamaForCausalLM, encoder: ReplyEncoder, batch: Sequence[Reply]) -> tuple[Tensor, Tensor]:
    ids = padded([reply.tokens for reply in batch], -1)
    real = (ids >= 0).unsqueeze(-1)
    bag = (model.get_input_embeddings()(ids.clamp_min(0)) * real).sum(1) / real.sum(1)
    return encoder(bag, torch.from_numpy(np.stack([reply.attributes for reply in batch])))


def reply_nll(model: LlamaForCausalLM, batch: Sequence[Reply], prefixes: Tensor, told: Tensor, weight: Tensor) -> Tensor:
    """Return the mean weighted cross-entropy of the replies, with the prefix right before them where ``told``.

    Rows are aligned at the reply: context on the left (padded left), then prefix, then reply. A prefix that
    is not told is masked out, so its row sees the context alone.
    """
    width = max(len(reply.context) for reply in batch)
    tokens = prefixes.shape[1]
    context = torch.tensor([[0] * (width - len(r.context)) + r.context for r in batch])
    reply = padded([r.tokens for r in batch], -100)
    embed = model.get_input_embeddings()
    inputs = torch.cat([embed(context), prefixes, embed(reply.clamp_min(0)[:, :-1])], 1)
    seen = torch.ones(inputs.shape[:2], dtype=torch.long)
    for row, one in enumerate(batch):
        seen[row, : width - len(one.context)] = 0
    seen[:, width : width + tokens] = told.view(-1, 1).long()
    places = (seen.cumsum(1) - 1).clamp_min(0)
    hidden = model.model(inputs_embeds=inputs, attention_mask=seen, position_ids=places).last_hidden_state
    # The first word follows the prefix, or the context where there is none.
    first = torch.where(told[:, 0], hidden[:, width + tokens - 1], hidden[:, width - 1]).unsqueeze(1)
    logits = model.lm_head(torch.cat([first, hidden[:, width + tokens :]], 1))
    loss = F.cross_entropy(logits.flatten(0, 1), reply.flatten(), weight, ignore_index=-100, reduction="sum")
    return loss / (reply >= 0).sum()


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, chats: Sequence[list[int]]) -> float:
    """Return exp(mean negative log-likelihood per token), the system message not counted."""
    total, count = 0.0, 0
    for start in range(0, len(chats), 64):
        ids = padded(chats[start : start + 64], -100)
        logits = model(input_ids=ids.clamp_min(0)[:, :-1]).logits
        total += F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-100, reduction="sum").item()
        count += int((ids[:, 1:] >= 0).sum())
    return math.exp(total / count)


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that ``AutoModelForCausalLM.from_pretrained`` loads; weights in half precision."""
    half = LlamaForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config.pad_token_id = model.config.pad_token_id
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build(args: Args) -> dict[str, Any]:
    """Build what ``args.stages`` names; return the figures of the model card."""
    torch.set_num_threads(1)
    began = time.process_time()
    tasks = [load_task(task, settings) for world in args.worlds for task, settings in WORLDS[world]]
    played = self_play(tasks, args.dialogues, args.seed)
    held_out = self_play(tasks, 400, args.seed + 1_000_000)
    world_tokens = sorted({token for task in tasks for token in task.model_tokens})
    plain, steered = args.out / "tiny", args.out / "tiny-steerable"
    figures: dict[str, Any] = {"args": json.loads(json.dumps(asdict(args), default=str))}
    if "plain" in args.stages:
        texts = (chat_text(task.messages(d, role)) for task, d in played for role in d.roles)
        tokenizer = train_tokenizer(texts, world_tokens, args.vocabulary)
        corpus, test = encode(played, tokenizer), encode(held_out, tokenizer)
        model = new_model(args, tokenizer)
        train_plain(args, model, corpus.chats)
        figures["tiny"] = {"perplexity": perplexity(model, test.chats)}
        save_model(model, tokenizer, plain)
    if "steer" in args.stages:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(plain)
        model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.float32)
        corpus, test = encode(played, tokenizer), encode(held_out, tokenizer)
        heavy = tokenizer.convert_tokens_to_ids([f" {token}" for token in world_tokens])
        steer, encoder = train_steer(args, model, corpus.replies, heavy)
        figures["tiny-steerable"] = {"perplexity": perplexity(model, test.chats)}
        save_model(model, tokenizer, steered)
        steer.save(steered / "steer")
    figures["parameters"] = model.num_parameters()
    figures["cpu_seconds"] = time.process_time() - began
    return figures


if __name__ == "__main__":
    print(json.dumps(build(tyro.cli(Args)), indent=1))  # noqa: T201
