"""Many heads trained at once, each as if it were alone: for comparisons over seeds and settings.

The weights of M networks are stacked, so that one matrix product serves them all. Nothing is shared: every one has its
own conversations, scores, signals, draws and best weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from dialog_gym.rewards.decomposition.learner import Learner, Link, Method, objective
from dialog_gym.rewards.decomposition.losses import draw_turns
from dialog_gym.rewards.decomposition.model import HeadSpec


@dataclass(frozen=True)
class Recipe:
    """How all of them are trained.

    Attributes:
        method: How the score is decomposed.
        weight: GELI's lambda.
        link: How the signal follows from rewards.
        k: Turns drawn of a conversation, 0 for all.
        steps: Updates.
        batch: Conversations per update.
        learning_rate: Of AdamW, falling linearly to 0.
        weight_decay: Of AdamW.
        eval_every: Updates between looks at the held-out conversations.
        hidden: Width of the head, 0 for its default.
        per_turn: Divide GELI's global part by T.
    """

    method: Method
    weight: float = 0.5
    link: Link = "same"
    k: int = 0
    steps: int = 400
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    eval_every: int = 40
    hidden: int = 0
    per_turn: bool = True


@dataclass(frozen=True)
class Pool:
    """Conversations that models choose from.

    Attributes:
        encodings: Of turns, padded by zeros, shape ``(N, T, size)``.
        turns: T of each, shape ``(N,)``.
    """

    encodings: Tensor
    turns: Tensor


@dataclass(frozen=True)
class Lessons:
    """What each of M models learns from.

    Attributes:
        train: Numbers of its conversations in the pool, shape ``(M, n)``.
        held: Numbers of those by which its best weights are chosen, shape ``(M, h)``.
        scores: Of all conversations of the pool, in standard units, shape ``(M, N)``.
        local: Signals of all turns of the pool in standard units, shape ``(M, N, T)``.
    """

    train: Tensor
    held: Tensor
    scores: Tensor
    local: Tensor


def fit_stacked(recipe: Recipe, pool: Pool, lessons: Lessons, seed: int) -> dict[str, Tensor]:
    """Return the best weights of every model, stacked along the first axis.

    The weights follow from ``seed`` and the place in the stack.
    """
    generator = torch.Generator().manual_seed(seed)
    base, weights = _fresh(recipe, pool.encodings.shape[-1], len(lessons.train), seed)
    optimizer = torch.optim.AdamW(list(weights.values()), recipe.learning_rate, weight_decay=recipe.weight_decay)
    best = {name: tensor.detach().clone() for name, tensor in weights.items()}
    lowest = torch.full((len(lessons.train),), float("inf"))
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 - step / recipe.steps)
        picks = torch.randint(lessons.train.shape[1], (len(lessons.train), recipe.batch), generator=generator)
        loss = _losses(recipe, base, weights, pool, lessons, lessons.train.gather(1, picks), recipe.k, generator)
        optimizer.zero_grad()
        loss.mean(1).sum().backward()
        optimizer.step()
        if (step + 1) % recipe.eval_every == 0 or step + 1 == recipe.steps:
            with torch.no_grad():
                found = _losses(recipe, base, weights, pool, lessons, lessons.held, 0, generator).mean(1)
            better = found < lowest
            lowest = torch.where(better, found, lowest)
            for name, tensor in weights.items():
                best[name][better] = tensor.detach()[better]
    return best


@torch.no_grad()
def predict_stacked(recipe: Recipe, weights: dict[str, Tensor], pool: Pool) -> Tensor:
    """Return the rewards that every model gives to every turn of ``pool``, in standard units, shape ``(M, N, T)``."""
    base, _ = _fresh(recipe, pool.encodings.shape[-1], 1, 0)
    run = vmap(lambda some: functional_call(base, some, (pool.encodings,))[0])
    rewards: Tensor = run(weights)
    return rewards


def _fresh(recipe: Recipe, size: int, count: int, seed: int) -> tuple[Learner, dict[str, Tensor]]:
    """Return a network without weights of its own, and the first weights of ``count`` of them."""
    spec = HeadSpec("lstm" if recipe.method == "rudder" else "mlp", recipe.hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learners = [Learner(spec.make(size), recipe.link) for _ in range(count)]
    stacked, _ = stack_module_state(learners)
    return learners[0], {name: tensor.detach().requires_grad_(True) for name, tensor in stacked.items()}


def _losses(
    recipe: Recipe,
    base: Learner,
    weights: dict[str, Tensor],
    pool: Pool,
    lessons: Lessons,
    picked: Tensor,
    k: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of each conversation ``picked``, shape ``(M, B)``."""
    models, count = picked.shape
    turns = pool.turns[picked]
    places, mask = draw_turns(turns.flatten(), k, False, generator)
    places, mask = places.view(models, count, -1), mask.view(models, count, -1)
    encodings = pool.encodings[picked.unsqueeze(-1), places]
    model = torch.arange(models).view(-1, 1)
    local = lessons.local[model.unsqueeze(-1), picked.unsqueeze(-1), places]
    predicted: Any = vmap(lambda some, read: functional_call(base, some, (read,)))(weights, encodings)
    return objective(
        recipe.method,
        predicted,
        mask,
        turns,
        lessons.scores[model, picked],
        local,
        weight=recipe.weight,
        per_turn=recipe.per_turn,
    )
