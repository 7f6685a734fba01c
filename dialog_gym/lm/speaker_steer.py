"""A copy of a speaker that is tuned together with a prefix map, so that an action says what a reply says.

The tuning is that of the tiny models (``tiny_steer``): an encoder sees what the task understands of a reply of the
corpus (``World.attributes``), its code becomes a prefix, and the model must say the reply; beside it the state must
tell the facts known before the reply (``World.facts``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.progress import track
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dialog_gym import checkpoint
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.build_tiny import known, save_model, transplant
from dialog_gym.lm.pretrained import no_bar
from dialog_gym.lm.speaker_build import REPORT, Options, same_settings, task_of
from dialog_gym.lm.speaker_corpus import chats_of, lessons_of, read_parts
from dialog_gym.lm.speaker_training import likelihood
from dialog_gym.lm.state_map import StateMap
from dialog_gym.lm.tiny_corpus import Chat, Layout, encode_chat
from dialog_gym.lm.tiny_steer import train_steer
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.world import World

FACTS_DIALOGUES = 2000  # on which the state map is fitted


@dataclass(frozen=True)
class Tuning:
    """How a speaker is tuned together with its map; see ``tiny_steer.Settings``."""

    seed: int = 0
    action_size: int = 16
    prefix_tokens: int = 2
    map_hidden: int = 128
    steer_epochs: float = 1.0
    steer_batch: int = 16
    beta: float = 2e-3
    beta_ramp: int = 200
    plain_weight: float = 0.5
    token_weight: float = 1.0
    facts_weight: float = 1.0


def steered_folder(folder: Path) -> Path:
    """Return where the steerable copy of the speaker in ``folder`` lies."""
    return folder.with_name(f"{folder.name}-steer")


def world_of(options: Options) -> World:
    """Return the task of ``options``.

    Raises:
        ValueError: It does not describe replies.
    """
    task = task_of(options)
    if not isinstance(task, World):
        raise ValueError(
            f"tuning with a map (--steer) needs an environment that tells what a reply says (World.attributes), got "
            f"{options.env or 'none'}; `dialog-gym fit prefix --kind steer --chats FILE` needs none"
        )
    return task


def build(options: Options, tuning: Tuning | None = None) -> dict[str, Any]:
    """Tune a copy of the speaker that ``options`` built; return what its ``report.json`` holds.

    What is there is not built again. A tuning that is stopped begins anew.

    Raises:
        ValueError: The task does not describe replies, a chat is longer than the model reads, or the folder holds a
            copy that was tuned with other settings.
    """
    tuning = tuning or Tuning(options.seed)
    task, folder = world_of(options), steered_folder(options.out)
    done = folder / REPORT
    if done.exists():
        report: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        same_settings(vars(tuning), report["settings"]["tuning"], folder)
        return report
    parts = read_parts(options.source)
    base = TransformersLM.from_pretrained(options.out)
    tokenizer, model = cast(PreTrainedTokenizerFast, base.tokenizer), cast(LlamaForCausalLM, base.model)
    model.requires_grad_(True)
    layout = Layout.of([task])
    chats = told(task, parts.train, tokenizer, layout, options)
    own = cast(list[int], tokenizer.convert_tokens_to_ids([f" {token}" for token in sorted(task.model_tokens)]))
    began = time.process_time()
    # No cache: it would keep the first step's copies of the weights, for all steps are in one block.
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16, cache_enabled=False):
        steer, encoder = train_steer(tuning, model, chats, layout, own)
    seconds = time.process_time() - began
    with no_bar():
        save_model(model, tokenizer, folder)
    lm = TransformersLM.from_pretrained(str(folder))
    steer.bind(lm).save(folder / "steer")
    played = [(task, dialogue) for dialogue in parts.heldout]
    some = [(task, dialogue) for dialogue in parts.train[:FACTS_DIALOGUES]]
    state_map, names = varied_facts(lm, some)
    state_map.save(folder / f"facts-{task.world}")
    other = list(chats_of(parts.heldout, task))
    found = likelihood(lm.model, tokenizer, lessons_of(other, tokenizer, options.context))
    report = {
        "settings": {**options.told(), "tuning": vars(tuning)},
        "steps": int(np.ceil(tuning.steer_epochs * np.ceil(len(chats) / tuning.steer_batch))),
        "parameters": model.num_parameters(),
        "cpu_seconds": seconds,
        "heldout": {"chats": len(other), "perplexity": found.per_token, "word_perplexity": found.per_word},
        "control": transplant(lm, steer, encoder, layout, played),
        "facts": explained(lm, state_map, names, played[:FACTS_DIALOGUES]),
    }
    checkpoint.write_json(done, report)
    return report


def varied_facts(lm: TransformersLM, played: Sequence[tuple[World, Dialogue]]) -> tuple[StateMap, list[str]]:
    """Return the map that tells the facts of dialogues of one world from the state of ``lm``, and their names.

    What is always the same in them is left out: people give no cues of a scripted partner.
    """
    states, facts = known(lm, played)
    varied = np.flatnonzero(facts.std(0))
    names = [played[0][0].fact_names[i] for i in varied]
    return StateMap.fit(states, facts[:, varied], lm.fingerprint()), names


def explained(
    lm: TransformersLM, state_map: StateMap, names: Sequence[str], played: Sequence[tuple[World, Dialogue]]
) -> dict[str, float]:
    """Return the share of the variance of each fact that ``state_map`` tells in other dialogues, where it varies."""
    states, facts = known(lm, played)
    columns = [played[0][0].fact_names.index(name) for name in names]
    with np.errstate(divide="ignore", invalid="ignore"):  # always the same
        shares = state_map.explained(states, facts[:, columns])
    return {name: float(share) for name, share in zip(names, shares, strict=True) if np.isfinite(share)}


def told(
    task: World, dialogues: list[Dialogue], tokenizer: PreTrainedTokenizerFast, layout: Layout, options: Options
) -> list[Chat]:
    """Return the dialogues as the agent tells them, with what each reply says; those that are too long are left out.

    Raises:
        ValueError: All are.
    """
    chats = [
        encode_chat(task, dialogue, dialogue.roles[0], tokenizer, layout)
        for dialogue in track(dialogues, "Encode", transient=True, disable=not options.progress)
    ]
    kept = [chat for chat in chats if chat.replies and len(chat.ids) <= options.context]
    if not kept:
        raise ValueError(f"expected chats of at most {options.context} tokens, got none; give a larger --context")
    return kept
