"""Build the tiny language models that ship with the package, from self-play of the embedded worlds.

``python -m dialog_gym.lm.build_tiny --out FOLDER`` plays dialogues of every world, learns a tokenizer,
trains a small Llama from nothing (``tiny``), and then a smaller one for each world (``tiny-bargain``, ...), which is
tuned together with a prefix map (``dialog_gym.lm.tiny_steer``): an action becomes a prefix that says what to say.
Afterwards the models are frozen, and a planner chooses the actions. All from one seed, on one CPU thread, in 5 to 15
minutes a model.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import tyro
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dialog_gym.chance import global_random_state_kept
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.prefix import SteerMap
from dialog_gym.lm.state_map import StateMap
from dialog_gym.lm.tiny_corpus import (
    CORPORA,
    Chat,
    Layout,
    Played,
    befores,
    chat_text,
    encode,
    load_worlds,
    padded,
    self_play,
    train_tokenizer,
)
from dialog_gym.lm.tiny_steer import ReplyEncoder, train_steer
from dialog_gym.lm.tiny_training import batches, cosine, new_llama, step
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.world import World


@dataclass(frozen=True)
class Args:
    """What to build and for how long."""

    out: Path
    """Folder of the models."""
    worlds: tuple[str, ...] = tuple(CORPORA)
    """Embedded worlds to play."""
    dialogues: int = 0
    """Self-played dialogues of each world, each read from both sides; 0: as many as ``CORPORA`` says."""
    seed: int = 0
    """Seed of everything."""
    vocabulary: int = 1200
    """Most tokens of a world's model, those of the world included; ``tiny`` has a third more."""
    width: int = 96
    """Hidden size of a world's model; ``tiny`` has a third more."""
    layers: int = 3
    """Transformer layers."""
    heads: int = 3
    """Attention heads; serving libraries often want them to be 32 wide at least. ``tiny`` has a third more."""
    epochs: float = 1.0
    """Passes over the dialogues."""
    batch: int = 32
    """Dialogues a step."""
    learning_rate: float = 5e-3
    """Peak learning rate of the language model (cosine)."""
    steer_epochs: float = 0.0
    """Passes over the agents' dialogues in joint tuning; 0: as many as ``CORPORA`` says."""
    steer_batch: int = 32
    """Dialogues a step of joint tuning."""
    action_size: int = 16
    """Coordinates of an action."""
    prefix_tokens: int = 2
    """Tokens of a prefix."""
    beta: float = 2e-3
    """Weight of the KL term, in nats."""
    beta_ramp: int = 200
    """Steps until the KL term has its full weight."""
    plain_weight: float = 0.5
    """Weight of the chats told plainly in joint tuning; they keep the unsteered model alive."""
    token_weight: float = 3.0
    """Weight of a world's own tokens (prices) in the loss of joint tuning."""
    facts_weight: float = 1.0
    """Weight of telling the facts from the state, in joint tuning."""
    facts_dialogues: int = 2_500
    """Further dialogues of each world, on which its state map is fitted."""
    map_hidden: int = 128
    """Hidden units of the prefix map, 0 for a linear one."""
    stages: tuple[str, ...] = ("plain", "steer")
    """What to build: "plain" is ``tiny``, "steer" the models of the worlds."""


def train_plain(args: Args, model: LlamaForCausalLM, chats: Sequence[Chat]) -> None:
    """Teach ``model`` the chats, both sides' words, by next-token cross-entropy."""
    rng = np.random.default_rng([args.seed, 1])
    plan = list(batches([len(chat.ids) for chat in chats], args.batch, args.epochs, rng))
    optimiser = torch.optim.AdamW(model.parameters(), args.learning_rate, (0.9, 0.95), weight_decay=0.01)
    schedule = cosine(optimiser, len(plan))
    model.train()
    for rows in track(plan, "train tiny"):
        ids = padded([chats[row].ids for row in rows], -100)
        hidden = model.model(input_ids=ids.clamp_min(0)[:, :-1]).last_hidden_state
        real = ids[:, 1:] >= 0
        loss = F.cross_entropy(model.lm_head(hidden[real]), ids[:, 1:][real])
        step(loss, model.parameters(), optimiser, schedule)
    model.eval()


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
    with global_random_state_kept():  # what is drawn is overwritten
        half = LlamaForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config.pad_token_id = model.config.pad_token_id
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def cut(played: Played) -> Iterator[tuple[World, Dialogue, str]]:
    """Yield each agent turn: task, the dialogue before it, and what was said."""
    for task, whole in played:
        for before, text in zip(befores(whole), whole.texts(whole.roles[0]), strict=True):
            yield task, before, text


def said(lm: TransformersLM, contexts: Played, prefixes: Tensor | None = None) -> list[tuple[np.ndarray, bool]]:
    """Return what ``lm`` says greedily: its attributes, and whether a partner understands any of it."""
    prompts = [task.messages(before, before.roles[0]) for task, before in contexts]
    replies = lm.generate(prompts, Sampling(), prefixes=prefixes)
    found = []
    for (task, before), reply in zip(contexts, replies, strict=True):
        role, text = before.roles[0], task.utterance(before, reply.text)
        found.append((task.attributes(before, role, text), task.understood(before.said(role, text))))
    return found


def fit_facts(lm: TransformersLM, played: Played) -> StateMap:
    """Return the map that tells the facts of a dialogue from the state of ``lm``."""
    return StateMap.fit(*known(lm, played), lm.fingerprint())


def known(lm: TransformersLM, played: Played) -> tuple[np.ndarray, np.ndarray]:
    """Return the states (last and mean) before each agent turn, and the facts."""
    turns = list(cut(played))
    states = []
    for start in range(0, len(turns), 64):
        some = turns[start : start + 64]
        session = lm.session(len(some), mean=True)
        states.append(session.read(range(len(some)), [task.messages(d, d.roles[0]) for task, d, _ in some]))
    return np.concatenate(states), np.stack([task.facts(d) for task, d, _ in turns])


def transplant(
    lm: TransformersLM, steer: SteerMap, encoder: ReplyEncoder, layout: Layout, played: Played
) -> dict[str, float]:
    """Encode held-out replies of one world, let the frozen model say their codes in other contexts, and compare."""
    turns = list(cut(played))
    pairs = [(a, b) for a, b in zip(turns, turns[101:] + turns[:101], strict=True) if a[0] is b[0]][:400]
    wanted = np.stack([task.attributes(before, before.roles[0], text) for (task, before, text), _ in pairs])
    task = pairs[0][0][0]
    block = layout.attributes[task.world]
    wide = torch.zeros(len(pairs), len(encoder.mean))
    wide[:, block] = torch.from_numpy(wanted)
    own = torch.zeros(wide.shape, dtype=torch.bool)
    own[:, block] = True
    with torch.no_grad():
        mean, _ = encoder(wide, own)
        prefixes = steer((mean / 2).clamp(-1, 1), torch.zeros(len(mean), 1))
    got = np.stack([told for told, _ in said(lm, [(task, before) for _, (task, before, _) in pairs], prefixes)])
    return agreement(task.attribute_names, got, wanted)


def agreement(names: Sequence[str], got: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return how well ``got`` says again what was ``wanted``, by the names of ``World.attribute_names``.

    ``same_<group>``: share of rows with the same member of a group (absent in both counts), or the same yes or no
    where a number is only ever 0 or 1. ``<name>_correlation``: of any other number, over the rows where both have one;
    0 where there is nothing to correlate (fewer than two such rows, or always the same number).

    Args:
        names: Attributes; ``group:value`` is a member of a group, any other is a number.
        got: Attributes of what was said, (rows, names).
        wanted: Attributes of what should have been said, (rows, names).
    """
    columns: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        columns.setdefault(name.partition(":")[0], []).append(i)
    figures = {}
    for group, places in columns.items():
        said, asked = got[:, places], wanted[:, places]
        if np.isin(asked, (0, 1)).all() and np.isin(said, (0, 1)).all():
            figures[f"same_{group}"] = float((said == asked).all(axis=1).mean())
        else:
            both = ((said != 0) & (asked != 0))[:, 0]
            pair = said[both, 0], asked[both, 0]
            varied = both.sum() > 1 and all(np.ptp(numbers) > 0 for numbers in pair)
            figures[f"{group}_correlation"] = float(np.corrcoef(*pair)[0, 1]) if varied else 0.0
    return figures


def write_card(folder: Path, figures: Mapping[str, Any], args: Args) -> None:
    """Write the model card."""
    settings = json.dumps({name: value for name, value in asdict(args).items() if name != "out"})
    parts = []
    for world, told in figures["worlds"].items():
        lines = "\n".join(f"- {name.replace('_', ' ')}: {value:.3f}" for name, value in told.items())
        parts.append(f"## {world}\n\n{lines}\n")
    (folder / "README.md").write_text(
        f"# {folder.name}\n\nA small Llama ({figures['parameters']:,} parameters) trained from nothing on "
        f"{figures['dialogues']:,} self-played dialogues of {', '.join(figures['worlds'])} (seed {args.seed}); no "
        "other data. It speaks both roles, in lower case, where one bargains with prices as one token each (percent "
        "of the list price). For tests, demonstrations and research on steering; it knows nothing else.\n\nOn "
        "held-out dialogues:\n\n"
        + "\n".join(parts)
        + "\nPerplexity is per token, over the system message and both sides' "
        "words. Understood: share of greedy replies in which the partner finds a meaning. An encoded reply is said "
        "again in another context (transplant). Same: share of equal values, correlation: of numbers, there. "
        "Facts explained: mean share of variance that the state map tells of them.\n\n"
        f"Built by `python -m dialog_gym.lm.build_tiny` with `{settings}`. Licence: Apache-2.0.\n"
    )
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def build(args: Args) -> dict[str, Any]:
    """Build what ``args.stages`` names; return the figures of the model cards, by model."""
    torch.set_num_threads(1)
    began = time.process_time()
    figures: dict[str, Any] = {}
    if "plain" in args.stages:
        figures["tiny"] = build_plain(args)
    if "steer" in args.stages:
        for world in args.worlds:
            figures[f"tiny-{world}"] = build_steerable(args, world)
    return {**figures, "cpu_seconds": time.process_time() - began}


def build_plain(args: Args) -> dict[str, Any]:
    """Build ``tiny``, which speaks in every world; return its figures."""
    larger = {name: getattr(args, name) * 4 // 3 for name in ("vocabulary", "width", "heads")}
    args = replace(args, **larger)
    tasks = {world: load_worlds([world]) for world in args.worlds}
    played = [
        pair
        for world, some in tasks.items()
        for pair in self_play(some, args.dialogues or CORPORA[world].shared, args.seed)
    ]
    model, tokenizer = plain_model(args, played)
    folder = args.out / "tiny"
    save_model(model, tokenizer, folder)
    told = {world: _figures(model, tokenizer, folder, held_out(args, some)) for world, some in tasks.items()}
    figures = {"parameters": model.num_parameters(), "dialogues": len(played), "worlds": told}
    write_card(folder, figures, args)
    return figures


def build_steerable(args: Args, world: str) -> dict[str, Any]:
    """Build the model of ``world`` with its prefix map and its state map; return its figures."""
    tasks = load_worlds([world])
    layout = Layout.of(tasks)
    args = replace(args, steer_epochs=args.steer_epochs or CORPORA[world].passes)
    played = self_play(tasks, args.dialogues or CORPORA[world].own, args.seed)
    model, tokenizer = plain_model(args, played)
    with torch.no_grad():  # tuning begins from what a saved model would be
        for weight in model.parameters():
            weight.copy_(weight.half())
    heavy = cast(list[int], tokenizer.convert_tokens_to_ids([f" {token}" for token in world_tokens(tasks)]))
    steer, encoder = train_steer(args, model, encode(played, tokenizer, layout), layout, heavy)
    folder = args.out / f"tiny-{world}"
    save_model(model, tokenizer, folder)
    lm = TransformersLM.from_pretrained(str(folder))
    steer.bind(lm).save(folder / "steer")
    facts = fit_facts(lm, self_play(tasks, args.facts_dialogues, args.seed + 2_000_000))
    facts.save(folder / f"facts-{world}")
    test = held_out(args, tasks)
    told = {
        **_figures(model, tokenizer, folder, test),
        **transplant(lm, steer, encoder, layout, test),
        "facts_explained": float(facts.explained(*known(lm, test)).mean()),
    }
    figures = {"parameters": model.num_parameters(), "dialogues": len(played), "worlds": {world: told}}
    write_card(folder, figures, args)
    return figures


def plain_model(args: Args, played: Played) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a model that speaks as both sides of ``played`` do, and its tokenizer."""
    tasks = list({id(task): task for task, _ in played}.values())
    texts = (chat_text(task.messages(d, role)) for task, d in played for role in d.roles)
    tokenizer = train_tokenizer(texts, world_tokens(tasks), args.vocabulary)
    model = new_llama(tokenizer, args.width, args.layers, args.heads, seed=args.seed)
    train_plain(args, model, encode(played, tokenizer, Layout.of(tasks)))
    return model, tokenizer


def world_tokens(tasks: Sequence[World]) -> list[str]:
    """Return the tokens that belong to ``tasks`` alone."""
    return sorted({token for task in tasks for token in task.model_tokens})


def held_out(args: Args, tasks: Sequence[World]) -> Played:
    """Return dialogues that no model has learned from."""
    return self_play(tasks, min(400, args.dialogues or 400), args.seed + 1_000_000)


def _figures(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, test: Played
) -> dict[str, float]:
    layout = Layout.of([test[0][0]])
    contexts = [(task, before) for task, before, _ in cut(test)][:400]
    understood = [known for _, known in said(TransformersLM.from_pretrained(str(folder)), contexts)]
    return {
        "perplexity": perplexity(model, encode(test, tokenizer, layout)),
        "understood": float(np.mean(understood)),
    }


if __name__ == "__main__":
    print(json.dumps(build(tyro.cli(Args)), indent=1))  # noqa: T201
