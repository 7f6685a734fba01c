"""Language models as peers and observer of ``Society-v0``: all dialogues of a batch in one call for each role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.envs.society_language import Act, missing, understand
from dialog_gym.envs.society_minds import AXES, Rated, Speaker, observer_prompt, peer_prompt, read_rating
from dialog_gym.envs.society_norms import (
    PEER_NOISE,
    Question,
    alignment,
    engagement,
    peer_comment,
    peer_rating,
    rating,
    share,
)
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.task import Reply

if TYPE_CHECKING:
    from dialog_gym.envs.society import Society


class Raters:
    """Peers and observer, each a language model or scripted.

    Attributes:
        peer: The model of the peers, None if they are scripted.
        observer: The model of the observer, likewise.
    """

    def __init__(
        self, peer: LanguageModel | str | None, observer: LanguageModel | str | None, max_tokens: int = 128
    ) -> None:
        """Load the models; peers speak at temperature 1, the observer greedily."""
        self.peer = None if peer is None else Speaker(peer, Sampling(max_tokens, 1.0))
        self.observer = None if observer is None else Speaker(observer, Sampling(max_tokens))

    def reply(self, task: Society, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Return what the society answers to the newest answers.

        Raises:
            LanguageModelError: An observer gave no rating, or none of the peers of a dialogue did.
        """
        rated = self._observed(task, dialogues)
        states = [
            task.after(d, aligned, engaged, share(aligned))
            for d, (aligned, engaged) in zip(dialogues, rated, strict=True)
        ]
        open_ = [i for i, (_, stop, _) in enumerate(states) if not stop]
        said = dict(zip(open_, self._feedback(task, [dialogues[i] for i in open_]), strict=True))
        return [
            Reply(said.get(i, _last(state)), state, stop, success) for i, (state, stop, success) in enumerate(states)
        ]

    def _observed(self, task: Society, dialogues: Sequence[Dialogue]) -> list[tuple[float, float]]:
        if self.observer is None:
            return [_scripted(task, dialogue) for dialogue in dialogues]
        prompts = [observer_prompt(asked(d), d.turns[-1].text, axis) for d in dialogues for axis in AXES]
        seeds = [d.draws("observer", axis).bits() >> 1 for d in dialogues for axis in AXES]
        ratings = []
        for number, answer in enumerate(self.observer(prompts, seeds)):
            found = _read(answer)
            if found.rating is None:
                dialogue = dialogues[number // len(AXES)]
                raise LanguageModelError(
                    f"the observer ({self.observer.lm.name}) gave no rating at turn {len(dialogue.turns)} of the "
                    f"dialogue with seed {dialogue.seed}: expected 'Rating: 1 to 7', got {str(answer)!r:.120}"
                )
            ratings.append(found.rating)
        return list(zip(ratings[::2], ratings[1::2], strict=True))

    def _feedback(self, task: Society, dialogues: Sequence[Dialogue]) -> list[str]:
        count = task.peers
        if self.peer is None:
            given = [_scripted_peers(task, dialogue) for dialogue in dialogues]
        else:
            prompts = [peer_prompt(asked(d), d.turns[-1].text) for d in dialogues for _ in range(count)]
            seeds = [d.draws("peer", peer).bits() >> 1 for d in dialogues for peer in range(count)]
            read = [_read(answer) for answer in self.peer(prompts, seeds)]
            given = [read[start : start + count] for start in range(0, len(read), count)]
        return [feedback(dialogue, rated) for dialogue, rated in zip(dialogues, given, strict=True)]


def feedback(dialogue: Dialogue, rated: Sequence[Rated]) -> str:
    """Return what the agent hears: the ratings that there are, the highest first.

    Raises:
        LanguageModelError: There is none.
    """
    kept = sorted(((one.rating, one.text) for one in rated if one.rating is not None), key=lambda one: -one[0])
    if not kept:
        raise LanguageModelError(
            f"none of {len(rated)} peers gave a rating at turn {len(dialogue.turns)} of the dialogue with seed "
            f"{dialogue.seed}: expected 'Rating: 1 to 7 ### Reason: ...'"
        )
    return " ".join(f"Rating {number:g}: {text}".rstrip(" :") for number, text in kept)


def asked(dialogue: Dialogue) -> str:
    """Return the question of a dialogue: what was said before the agent's first own answer."""
    turns = dialogue.scenario.hidden["turns"]
    return turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {text}" for role, text in turns)


def _read(answer: str | LanguageModelError) -> Rated:
    return Rated(None) if isinstance(answer, LanguageModelError) else read_rating(answer)


def _scripted(task: Society, dialogue: Dialogue) -> tuple[float, float]:
    draws, act = dialogue.draws("observer"), understand(dialogue.turns[-1].text)
    score = alignment(task.question(dialogue), act)
    return rating(score, task.noise, draws), rating(engagement(act), task.noise, draws)


def _scripted_peers(task: Society, dialogue: Dialogue) -> list[Rated]:
    question, act, draws = task.question(dialogue), understand(dialogue.turns[-1].text), dialogue.draws("society")
    return [_peer(question, act, good, draws) for good in dialogue.scenario.hidden["qualities"]]


def _peer(question: Question, act: Act, good: float, draws: Draws) -> Rated:
    rated = peer_rating(question, act, good, PEER_NOISE, draws)
    return Rated(rated, missing(peer_comment(question, act, good, draws), draws) + ".")


def _last(state: dict[str, float]) -> str:
    return f"Rating {state['alignment']:g}."
