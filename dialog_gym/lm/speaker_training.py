"""Teaching a causal language model the replies of chats, by next-token cross-entropy.

A ``Lesson`` is a row of tokens with the places that are learned. ``Trainer`` makes a fixed number of steps over
lessons. What a step does follows from the settings and the number of the step, so a training that was stopped goes on
from its last checkpoint as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from dialog_gym import checkpoint
from dialog_gym.lm.tiny_training import batches, share

KIND = "speaker training"
_WIDTHS, _LEARNED = 16, 256  # columns of a batch and learned tokens come in multiples of these


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Attributes:
        steps: Updates.
        batch: Chats an update.
        learning_rate: At its peak; it rises over a fiftieth of the steps and falls as a cosine.
        weight_decay: AdamW's.
        bfloat16: Whether the network computes in half precision; weights and updates stay whole.
        seed: Order of the batches.
    """

    steps: int
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"steps and batch must be at least 1, got {self.steps} and {self.batch}")


class Lesson(NamedTuple):
    """A chat as one role tells it.

    Attributes:
        ids: Tokens.
        replies: What is learned of them: first token, and the one after the last, of each reply.
    """

    ids: list[int]
    replies: list[tuple[int, int]]


def foretold(lessons: Sequence[Lesson], width: int) -> Tensor:
    """Return the places in front of learned tokens, where these are foretold, in rows of ``width`` laid end to end."""
    return torch.tensor(
        [
            row * width + place - 1
            for row, lesson in enumerate(lessons)
            for start, stop in lesson.replies
            for place in range(start, stop)
        ]
    )


def reply_nats(model: PreTrainedModel, lessons: Sequence[Lesson]) -> Tensor:
    """Return the negative log-likelihood of each learned token, nats, (tokens,), row by row."""
    # Every new shape costs a processor's kernels memory that it does not give back, so there are few shapes.
    width = -(-max(len(lesson.ids) for lesson in lessons) // _WIDTHS) * _WIDTHS
    ids = torch.tensor([lesson.ids + [0] * (width - len(lesson.ids)) for lesson in lessons], device=model.device)
    places = foretold(lessons, width).to(model.device)
    # Padding is on the right, where causal attention does not see it.
    hidden = cast(Any, model.base_model)(input_ids=ids).last_hidden_state.flatten(0, 1)
    filled = F.pad(places, (0, -len(places) % _LEARNED))
    logits = cast(Any, model.get_output_embeddings())(hidden[filled])[: len(places)]
    return F.cross_entropy(logits.float(), ids.flatten()[places + 1], reduction="none")


class Trainer:
    """A training of ``model`` on ``lessons`` that can stop at any step and go on.

    Attributes:
        step: How many steps were made.
        losses: Mean nats per learned token of each of them.
        seconds: CPU time they took.
    """

    def __init__(self, model: PreTrainedModel, lessons: Sequence[Lesson], settings: Settings) -> None:
        """Begin before the first step.

        Raises:
            ValueError: There are no lessons.
        """
        if not lessons:
            raise ValueError("expected at least one chat to learn from, got none")
        self.model, self.lessons, self.settings = model, lessons, settings
        self.optimiser = torch.optim.AdamW(
            model.parameters(), settings.learning_rate, (0.9, 0.95), weight_decay=settings.weight_decay
        )
        epochs = settings.steps / math.ceil(len(lessons) / settings.batch)
        rng = np.random.default_rng([settings.seed, 1])
        lengths = [len(lesson.ids) for lesson in lessons]
        self._plan = list(batches(lengths, settings.batch, math.ceil(epochs), rng))[: settings.steps]
        self.step, self.losses, self.seconds = 0, list[float](), 0.0

    def run(self, *, save: Callable[[], None] | None = None, every: int = 200, progress: bool = True) -> None:
        """Make the steps that are left.

        Args:
            save: Called every ``every`` steps, to write a checkpoint.
            every: See ``save``.
            progress: Whether to show a bar.
        """
        self.model.train()
        left = range(self.step, self.settings.steps)
        bar = track(left, "Train", total=self.settings.steps, completed=self.step, disable=not progress)
        for i in bar:
            self.update([self.lessons[row] for row in self._plan[i]])
            if save is not None and self.step % every == 0:
                save()
        self.model.eval()

    def update(self, lessons: Sequence[Lesson]) -> None:
        """Make one step on ``lessons``."""
        began = time.process_time()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * share(self.step, self.settings.steps)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            loss = reply_nats(self.model, lessons).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.losses.append(loss.item())
        self.seconds += time.process_time() - began

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Write a checkpoint; ``about`` (JSON) tells what it belongs to."""
        arrays = {f"model.{name}": value.detach().cpu().numpy() for name, value in self._named()}
        for name, parameter in self._named():
            for part, value in self.optimiser.state.get(parameter, {}).items():
                arrays[f"{part}.{name}"] = value.cpu().numpy()
        done = {"step": self.step, "losses": self.losses, "seconds": self.seconds}
        data = {**done, "settings": asdict(self.settings), "about": about}
        checkpoint.write(folder, KIND, arrays, data)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint that ``save`` wrote.

        Raises:
            CheckpointError: It is damaged, or none.
        """
        arrays, data = checkpoint.read(folder, KIND)
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(torch.from_numpy(arrays[f"model.{name}"]))
                for part in ("step", "exp_avg", "exp_avg_sq"):
                    if (found := arrays.get(f"{part}.{name}")) is not None:
                        value = torch.from_numpy(found)
                        self.optimiser.state[parameter][part] = value if part == "step" else value.to(parameter.device)
        self.step, self.losses, self.seconds = int(data["step"]), list(data["losses"]), float(data["seconds"])

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        return list(self.model.named_parameters())


class Likelihood(NamedTuple):
    """How probable a model finds replies.

    Attributes:
        nats: Sum of the negative log-likelihoods.
        tokens: Learned tokens, ends of turn included.
        words: What stands between spaces in them, and one for each end of turn.
    """

    nats: float
    tokens: int
    words: int

    @property
    def per_token(self) -> float:
        """Perplexity per token."""
        return math.exp(self.nats / self.tokens)

    @property
    def per_word(self) -> float:
        """Perplexity per word: it does not depend on how the tokenizer cuts words."""
        return math.exp(self.nats / self.words)


@torch.no_grad()
def likelihood(model: PreTrainedModel, tokenizer: Any, lessons: Sequence[Lesson]) -> Likelihood:
    """Return how probable ``model`` finds the replies of ``lessons``.

    Raises:
        ValueError: There is no reply.
    """
    nats, tokens = 0.0, 0
    order = sorted(range(len(lessons)), key=lambda row: len(lessons[row].ids))
    for start in range(0, len(order), 64):
        found = reply_nats(model, [lessons[row] for row in order[start : start + 64]])
        nats, tokens = nats + found.sum().item(), tokens + len(found)
    if not tokens:
        raise ValueError("expected at least one reply to measure, got none")
    said = [lesson.ids[first : stop - 1] for lesson in lessons for first, stop in lesson.replies]
    words = sum(len(text.split()) + 1 for text in tokenizer.batch_decode(said))
    return Likelihood(nats, tokens, words)
