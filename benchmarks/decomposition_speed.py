"""Encoder passes per conversation and time per epoch: encodings kept, against a loop that encodes at every use.

The loop does what stage 2 of GELI's published code does: in each of 4 epochs it draws 160 of a conversation's agent
turns with replacement, pads each to the model's longest input, encodes them and trains the head; and it has every
conversation twice, since its "flipped" copy has the same text. Here both copies would be read from the same encodings.
The model is the same in both, one that ships with the package; the decoder that the published loop runs for nothing
is not charged to it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.rewards.decomposition.cache import EncodingCache
from dialog_gym.rewards.decomposition.encoders import ModelEncoder, load_encoder
from dialog_gym.rewards.decomposition.losses import draw_turns, rrd_loss
from dialog_gym.rewards.decomposition.model import GeliHead
from dialog_gym.rewards.decomposition.turns import beginnings

TURNS = 159  # utterances of a conversation, as in CANDOR
DRAWN, EPOCHS, COPIES = 160, 4, 2  # of the published loop
_WORDS = 9  # of an utterance
_VOCABULARY = ("nice", "day", "work", "friend", "then", "good", "long", "what", "did", "they", "say", "i", "you", "we")


def conversation(seed: int) -> Dialogue:
    """Return a conversation of two strangers who say random words."""
    draws = Draws(seed, "speed")
    talk = Dialogue(Scenario("Two strangers meet for a talk."), ("agent", "listener"))
    for number in range(TURNS):
        text = " ".join(draws.choice(_VOCABULARY) for _ in range(_WORDS))
        talk = talk.said(talk.roles[number % 2 == 0], text)
    return talk


def measure(folder: Path, *, conversations: int = 4, looped: int = 1, encoder: str = "tiny-chat") -> dict[str, Any]:
    """Return passes per conversation and CPU and wall seconds per epoch and conversation, of both.

    Args:
        folder: Where encodings may be kept; they are removed.
        conversations: For the library, all 4 epochs.
        looped: For the loop, one epoch of one copy; its cost is the same for each.
        encoder: A language model that runs here.
    """
    model = load_encoder(encoder)
    assert isinstance(model, ModelEncoder)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        kept = _timed(lambda: _with_cache(Path(place), model, conversations), model)
    loop = _timed(lambda: _loop(model, looped), model)
    epochs = {"library": conversations * EPOCHS * COPIES, "loop": looped}
    passes = {"library": kept["passes"] / conversations, "loop": loop["passes"] / looped * EPOCHS * COPIES}
    return {
        "encoder": encoder,
        "longest_input": model.max_tokens,
        "agent_turns": TURNS // 2,
        "passes_per_conversation": passes,
        "times_fewer_passes": passes["loop"] / passes["library"],
        "cpu_seconds_per_epoch": {n: t["cpu"] / epochs[n] for n, t in (("library", kept), ("loop", loop))},
        "wall_seconds_per_epoch": {n: t["wall"] / epochs[n] for n, t in (("library", kept), ("loop", loop))},
    }


def _timed(work: Callable[[], None], model: ModelEncoder) -> dict[str, float]:
    passes, cpu, wall = model.passes, time.process_time(), time.perf_counter()
    work()
    return {
        "passes": float(model.passes - passes),
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }


def _with_cache(folder: Path, model: ModelEncoder, conversations: int) -> None:
    """Encode every distinct turn, and train both copies of all conversations for all epochs."""
    cache = EncodingCache(folder, model)
    rows = [
        cache.rows([model.words(one) for one in beginnings(conversation(number))]) for number in range(conversations)
    ]
    vectors, head, step = cache.vectors, *_head(model.size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS * COPIES):
        for some in rows:
            places, _ = draw_turns(torch.tensor([len(some)]), DRAWN, True, generator)
            step(head(torch.from_numpy(vectors[some[places[0].numpy()]])), len(some))


def _loop(model: ModelEncoder, conversations: int) -> None:
    """Do one epoch of one copy as published."""
    head, step = _head(model.size)
    generator = torch.Generator().manual_seed(0)
    for number in range(conversations):
        tokens = model.tokens([model.words(one) for one in beginnings(conversation(number))])
        places, _ = draw_turns(torch.tensor([len(tokens)]), DRAWN, True, generator)
        states = []
        for chunk in places[0].split(DRAWN // 16):  # as published: 16 parts
            padded = [tokens[place] for place in chunk.tolist()]
            with torch.no_grad():
                states.append(_padded_states(model, padded))
        step(head(torch.cat(states)), len(tokens))


def _padded_states(model: ModelEncoder, tokens: list[list[int]]) -> torch.Tensor:
    """Return the states of inputs that are all padded to the model's longest, as published."""
    ids = torch.zeros(len(tokens), model.max_tokens, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, some in enumerate(tokens):
        ids[row, : len(some)] = torch.tensor(some)
        mask[row, : len(some)] = 1
    model.passes += len(tokens)
    hidden: torch.Tensor = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden[torch.arange(len(tokens)), mask.sum(1) - 1].float()


def _head(size: int) -> tuple[GeliHead, Callable[[torch.Tensor, int], None]]:
    head = GeliHead(size)
    optimizer = torch.optim.AdamW(head.parameters(), 5e-3)

    def step(rewards: torch.Tensor, turns: int) -> None:
        mask = torch.ones_like(rewards, dtype=torch.bool)
        loss = rrd_loss(rewards, mask, torch.tensor(turns), torch.tensor(1.0), replacement=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return head, step
