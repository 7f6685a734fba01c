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
from typing import Any, cast

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
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.prefix import SteerMap
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.task import Task

WORLDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "bargain": [
        ("dialog_gym.envs.bargain:Bargain", {"side": "buyer"}),
        ("dialog_gym.envs.bargain:Bargain", {"side": "seller"}),
    ],
}
"""The tasks of each world. Each has ``self_play``, ``attributes``, ``attribute_names`` and ``parsed``, see Bargain."""

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
    dialogues: int = 16_000
    """Self-played dialogues, over all worlds; each is read from both sides."""
    seed: int = 0
    """Seed of everything."""
    vocabulary: int = 1000
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
    steer_epochs: float = 1.6
    """Passes over the agents' dialogues in joint tuning."""
    steer_batch: int = 32
    """Dialogues a step of joint tuning."""
    action_size: int = 16
    """Coordinates of an action."""
    prefix_tokens: int = 2
    """Tokens of a prefix."""
    beta: float = 1.2e-2
    """Weight of the KL term, in nats."""
    beta_ramp: int = 200
    """Steps until the KL term has its full weight."""
    plain_weight: float = 0.5
    """Weight of the chats told plainly in joint tuning; they keep the unsteered model alive."""
    token_weight: float = 3.0
    """Weight of a world's own tokens (prices) in the loss of joint tuning."""
    stages: tuple[str, ...] = ("plain", "steer")
    """What to build; "steer" alone starts from the ``tiny`` already in ``out``."""


@dataclass(frozen=True)
class Chat:
    """A dialogue as one role tells it: token ids, and where the agent's replies stand.

    Attributes:
        ids: Tokens, system message first.
        replies: First token and the token after the last (the end of turn included) of each reply to steer;
            none where the partner tells.
        attributes: What each reply says, (replies, attributes).
    """

    ids: list[int]
    replies: list[tuple[int, int]]
    attributes: np.ndarray


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


def encode(played: Sequence[tuple[Task, Dialogue]], tokenizer: PreTrainedTokenizerFast) -> list[Chat]:
    """Return the dialogues as token ids, read from both sides."""
    return [
        _chat(task, dialogue, role, tokenizer)
        for task, dialogue in track(played, "encode", transient=True)
        for role in dialogue.roles
    ]


def _chat(task: Task, dialogue: Dialogue, role: str, tokenizer: PreTrainedTokenizerFast) -> Chat:
    ids = tokenizer(chat_text(task.messages(dialogue, role)), add_special_tokens=False)["input_ids"]
    if role != dialogue.roles[0]:
        return Chat(ids, [], np.zeros((0, 0), np.float32))
    opens, ends = (tokenizer.convert_tokens_to_ids(token) for token in (ASSISTANT, END))
    starts = [place + 1 for place, token in enumerate(ids) if token == opens]
    stops = [place + 1 for place, token in enumerate(ids) if token == ends]
    told = [task.attributes(dialogue, role, text) for text in dialogue.texts(role)]  # type: ignore[attr-defined]
    return Chat(ids, list(zip(starts, stops, strict=True)), np.asarray(told, np.float32))


def new_model(args: Args, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained Llama."""
    end, pad = (cast(int, tokenizer.convert_tokens_to_ids(token)) for token in (END, PAD))
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


def train_plain(args: Args, model: LlamaForCausalLM, chats: Sequence[Chat]) -> None:
    """Teach ``model`` the chats, both sides' words, by next-token cross-entropy."""
    rng = np.random.default_rng([args.seed, 1])
    batches = list(_batches([len(chat.ids) for chat in chats], args.batch, args.epochs, rng))
    optimiser = torch.optim.AdamW(model.parameters(), args.learning_rate, (0.9, 0.95), weight_decay=0.01)
    schedule = _cosine(optimiser, len(batches))
    model.train()
    for rows in track(batches, "train tiny"):
        ids = padded([chats[row].ids for row in rows], -100)
        hidden = model.model(input_ids=ids.clamp_min(0)[:, :-1]).last_hidden_state
        real = ids[:, 1:] >= 0
        loss = F.cross_entropy(model.lm_head(hidden[real]), ids[:, 1:][real])
        _step(loss, model.parameters(), optimiser, schedule)
    model.eval()


def _batches(lengths: Sequence[int], size: int, epochs: float, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield batches of like length in random order, so that little is padding."""
    for epoch in range(math.ceil(epochs)):
        order = np.argsort(np.array(lengths) + rng.uniform(0, 12, len(lengths)))
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
    """What a reply says, to a Gaussian over z; used in training only.

    It sees the mean embedding of the reply, that of the world's own tokens in it (prices), and the attributes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, attributes: Tensor, size: int, hidden: int = 192) -> None:
        """Build two hidden layers; ``attributes`` (all replies, attributes) tell how to standardise them."""
        super().__init__()
        self.register_buffer("mean", attributes.mean(0))
        self.register_buffer("scale", attributes.std(0).clamp_min(1e-3))
        seen = 2 * width + attributes.shape[1]
        self.net = nn.Sequential(
            nn.Linear(seen, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * size)
        )
        self.skip = nn.Linear(seen, size, bias=False)
        with torch.no_grad():  # codes begin nearly free of noise, or nobody learns to listen
            cast(nn.Linear, self.net[-1]).bias[size:] = -4.0

    def forward(self, bags: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z, each (B, size)."""
        known = torch.cat([bags, (attributes - self.mean) / self.scale], -1)
        mean, log_variance = self.net(known).chunk(2, -1)
        return mean + self.skip(known), log_variance.clamp(-8.0, 4.0)


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) per row, nats, shape (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def train_steer(
    args: Args, model: LlamaForCausalLM, chats: Sequence[Chat], world_tokens: Sequence[int]
) -> tuple[SteerMap, ReplyEncoder]:
    """Tune ``model`` together with a prefix map, so that z says what the reply says."""
    generator = torch.Generator().manual_seed(args.seed + 2)
    rng = np.random.default_rng([args.seed, 2])
    table = cast(nn.Embedding, model.get_input_embeddings()).weight
    steer = SteerMap.new(table, args.action_size, args.prefix_tokens, seed=args.seed)
    torch.manual_seed(args.seed + 3)
    told = [chat for chat in chats if chat.replies]
    attributes = torch.from_numpy(np.concatenate([chat.attributes for chat in told]))
    encoder = ReplyEncoder(args.width, attributes, args.action_size)
    groups = [(encoder, 3e-3), (steer, 2e-2), (model, 2e-3)]
    optimiser = torch.optim.AdamW([{"params": m.parameters(), "lr": lr} for m, lr in groups], weight_decay=0.0)
    batches = list(_batches([len(chat.ids) for chat in told], args.steer_batch, args.steer_epochs, rng))
    schedule = _cosine(optimiser, len(batches))
    parameters = [p for m, _ in groups for p in m.parameters()]
    weight = torch.ones(model.config.vocab_size)
    weight[list(world_tokens)] = args.token_weight
    model.train()
    for i, rows in enumerate(track(batches, "tune tiny-steerable")):
        batch = Branches([told[row] for row in rows], args.prefix_tokens)
        mean, log_variance = encoder(batch.bags(model.get_input_embeddings(), weight > 1), batch.attributes)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        plain, steered = batch.losses(model, steer.embeddings(z), weight)
        beta = args.beta * min(1.0, i / args.beta_ramp)
        loss = steered + args.plain_weight * plain + beta * kl_to_prior(mean, log_variance).mean()
        _step(loss, parameters, optimiser, schedule)
    model.eval()
    return steer.eval(), encoder.eval()


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
        self.attributes = torch.from_numpy(np.concatenate([chat.attributes for chat in chats]))
        self.replies = [torch.tensor(chat.ids[start:stop]) for chat in chats for start, stop in chat.replies]
        owner = [row for row, chat in enumerate(chats) for _ in chat.replies]
        leave = [start for chat in chats for start, _ in chat.replies]
        columns, width = self._columns(owner)
        self._lay_out(owner, leave, columns, width)
        self.owner = torch.tensor(owner)
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

    def bags(self, embed: nn.Module, own: Tensor) -> Tensor:
        """Return the mean embedding of each reply, and of its tokens that are ``own``, (replies, 2 width)."""
        ids = nn.utils.rnn.pad_sequence(self.replies, batch_first=True, padding_value=-1)
        words = embed(ids.clamp_min(0))
        kinds = [(ids >= 0), (ids >= 0) & own[ids.clamp_min(0)]]
        sums = [((words * kind.unsqueeze(-1)).sum(1), kind.sum(1, keepdim=True).clamp_min(1)) for kind in kinds]
        return torch.cat([F.layer_norm(total / count, total.shape[1:]) for total, count in sums], -1)

    def losses(self, model: LlamaForCausalLM, prefixes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy per token of the chats, and, weighted by token, of the branches."""
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
        return plain, steered


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, chats: Sequence[Chat]) -> float:
    """Return exp(mean negative log-likelihood per token), both sides' words and the system message counted."""
    total, count = 0.0, 0
    for start in range(0, len(chats), 64):
        ids = padded([chat.ids for chat in chats[start : start + 64]], -100)
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


def cut(played: Sequence[tuple[Task, Dialogue]]) -> Iterator[tuple[Task, Dialogue, Dialogue, int]]:
    """Yield each agent turn: task, the dialogue before it, the whole dialogue, and the turn's number."""
    for task, whole in played:
        number = 0
        for place, turn in enumerate(whole.turns):
            if turn.role == whole.roles[0]:
                before = Dialogue(whole.scenario, whole.roles, whole.seed, whole.turns[:place], whole.state)
                yield task, before, whole, number
                number += 1


def said(
    lm: TransformersLM, contexts: Sequence[tuple[Task, Dialogue]], prefixes: Tensor | None = None
) -> list[tuple[np.ndarray, bool]]:
    """Return what ``lm`` says greedily: its attributes, and whether a partner understands any of it."""
    prompts = [task.messages(before, before.roles[0]) for task, before in contexts]
    replies = lm.generate(prompts, Sampling(), prefixes=prefixes)
    found = []
    for (task, before), reply in zip(contexts, replies, strict=True):
        role, text = before.roles[0], task.utterance(before, reply.text)
        attributes = task.attributes(before, role, text)  # type: ignore[attr-defined]
        understood = task.parsed(before.said(role, text))[-1].understood  # type: ignore[attr-defined]
        found.append((attributes, understood))
    return found


def transplant(
    lm: TransformersLM, steer: SteerMap, encoder: ReplyEncoder, played: Sequence[tuple[Task, Dialogue]], own: Tensor
) -> dict[str, float]:
    """Encode held-out replies, let the frozen model say their codes in other contexts, and compare."""
    turns = list(cut(played))
    pairs = [(a, b) for a, b in zip(turns, turns[101:] + turns[:101], strict=True) if a[0] is b[0]][:400]
    chats = [_chat(task, whole, whole.roles[0], cast(Any, lm.tokenizer)) for (task, _, whole, _), _ in pairs]
    numbers = [source[3] for source, _ in pairs]
    one = [
        Chat(chat.ids, [chat.replies[k]], chat.attributes[k : k + 1]) for chat, k in zip(chats, numbers, strict=True)
    ]
    batch = Branches(one, steer.prefix_tokens)
    with torch.no_grad():
        mean, _ = encoder(batch.bags(lm.model.get_input_embeddings(), own), batch.attributes)
        prefixes = steer((mean / 2).clamp(-1, 1), torch.zeros(len(mean), 1))
    got = np.stack([told for told, _ in said(lm, [(b[0], b[1]) for _, b in pairs], prefixes)])
    names = pairs[0][0][0].attribute_names  # type: ignore[attr-defined]
    return agreement(names, got, batch.attributes.numpy())


def agreement(names: Sequence[str], got: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return the correlation of prices where both name one, and the share of equal styles and of equal reasons."""
    both = (got[:, names.index("has_price")] > 0) & (wanted[:, names.index("has_price")] > 0)
    price = names.index("price")
    figures = {"price_correlation": float(np.corrcoef(got[both, price], wanted[both, price])[0, 1])}
    for group in ("style", "reason"):
        columns = [i for i, name in enumerate(names) if name.startswith(f"{group}_")]
        same = got[:, columns].argmax(1) == wanted[:, columns].argmax(1)
        figures[f"same_{group}"] = float(same.mean())
    return figures


def write_card(folder: Path, title: str, figures: dict[str, Any], args: Args) -> None:
    """Write the model card."""
    lines = [f"- {name.replace('_', ' ')}: {value:.3f}" for name, value in figures.items()]
    settings = json.dumps({name: value for name, value in asdict(args).items() if name != "out"})
    (folder / "README.md").write_text(
        f"# {title}\n\nA small Llama trained from nothing on {args.dialogues} self-played dialogues of the embedded "
        f"worlds {', '.join(args.worlds)} (seed {args.seed}); no other data. It speaks both roles, in lower case, "
        "with prices as one token each (percent of the list price). For tests, demonstrations and research on "
        "steering; it knows nothing else.\n\nOn 400 held-out dialogues:\n\n" + "\n".join(lines) + "\n\n"
        "Perplexity is per token, over the system message and both sides' words. Understood: share of greedy "
        "replies in which the partner finds a price, an agreement, a style or a reason. Price correlation, same "
        "style and same reason: an encoded reply is said again in another context (transplant).\n\n"
        f"Built by `python -m dialog_gym.lm.build_tiny` with `{settings}`. Licence: Apache-2.0.\n"
    )
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def build(args: Args) -> dict[str, Any]:
    """Build what ``args.stages`` names; return the figures of the model cards."""
    torch.set_num_threads(1)
    began = time.process_time()
    tasks = [load_task(task, settings) for world in args.worlds for task, settings in WORLDS[world]]
    played = self_play(tasks, args.dialogues, args.seed)
    held_out = self_play(tasks, 400, args.seed + 1_000_000)
    contexts = [(task, before) for task, before, _, _ in cut(held_out)][:400]
    world_tokens = sorted({token for task in tasks for token in task.model_tokens})
    plain, steered = args.out / "tiny", args.out / "tiny-steerable"
    figures: dict[str, Any] = {}
    if "plain" in args.stages:
        texts = (chat_text(task.messages(d, role)) for task, d in played for role in d.roles)
        tokenizer = train_tokenizer(texts, world_tokens, args.vocabulary)
        model = new_model(args, tokenizer)
        train_plain(args, model, encode(played, tokenizer))
        save_model(model, tokenizer, plain)
        figures["tiny"] = _figures(model, plain, encode(held_out, tokenizer), contexts)
        write_card(plain, "tiny", figures["tiny"], args)
    if "steer" in args.stages:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(plain)
        model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.float32)
        heavy = tokenizer.convert_tokens_to_ids([f" {token}" for token in world_tokens])
        steer, encoder = train_steer(args, model, encode(played, tokenizer), heavy)
        save_model(model, tokenizer, steered)
        lm = TransformersLM.from_pretrained(str(steered))
        steer.bind(lm).save(steered / "steer")
        own = torch.zeros(model.config.vocab_size, dtype=torch.bool)
        own[heavy] = True
        figures["tiny-steerable"] = {
            **_figures(model, steered, encode(held_out, tokenizer), contexts),
            **transplant(lm, steer, encoder, held_out, own),
        }
        write_card(steered, "tiny-steerable", figures["tiny-steerable"], args)
    return {**figures, "cpu_seconds": time.process_time() - began}


def _figures(
    model: LlamaForCausalLM, folder: Path, test: Sequence[Chat], contexts: Sequence[tuple[Task, Dialogue]]
) -> dict[str, float]:
    understood = [known for _, known in said(TransformersLM.from_pretrained(str(folder)), contexts)]
    return {
        "perplexity": perplexity(model, test),
        "understood": float(np.mean(understood)),
        "parameters": float(model.num_parameters()),
    }


if __name__ == "__main__":
    print(json.dumps(build(tyro.cli(Args)), indent=1))  # noqa: T201
