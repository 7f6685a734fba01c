"""Who speaks in a society: agents, peers and observers, each scripted or a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dialog_gym.dialogue import Draws
from dialog_gym.envs import society_members as members
from dialog_gym.envs.society_language import from_notation, to_notation
from dialog_gym.envs.society_members import Noise
from dialog_gym.envs.society_minds import AXES, Rated, Speaker, observer_prompt, peer_prompt
from dialog_gym.envs.society_norms import Question
from dialog_gym.envs.society_round import DRAFT, REVISION, Call, Heard, Member, Turn, seed_of
from dialog_gym.envs.society_settings import SCRIPTED, Settings
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Messages, Sampling

_NOTATION = {"role": "system", "content": "<society> you answer , mixed peers ."}


class Roles:
    """Agents, peers and observers of one society.

    Attributes:
        calls: How often each role was asked, scripted or not.
        speakers: The language models, by role.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the language models; roles of the same model and sampling share it, and its batches.

        Raises:
            ValueError: A spec names no model.
        """
        self.settings, self.calls = settings, Counter[str]()
        self.noise = Noise(settings.peer_noise, settings.observer_noise)
        shared: dict[tuple[str, float], Speaker] = {}
        self.speakers: dict[str, Speaker] = {}
        for role in ("agent", "peer", "observer"):
            spec, temperature = getattr(settings, role), 0.0 if role == "observer" else settings.temperature
            if spec != SCRIPTED:
                if (spec, temperature) not in shared:
                    shared[spec, temperature] = Speaker(spec, Sampling(settings.max_tokens, temperature))
                self.speakers[role] = shared[spec, temperature]
        self._notation = "agent" in self.speakers and _reads_notation(self.speakers["agent"])

    def models(self) -> dict[str, str]:
        """Return who plays each role, for the record."""
        told = self.settings.to_json()
        return {role: told[role] for role in ("agent", "peer", "observer")}

    def draft(self, turn: Turn, draws: Draws) -> list[Call]:
        """Let an agent draft; return what a language model is still to be asked."""
        self.calls["agent"] += 1
        if "agent" not in self.speakers:
            text = members.draft(_truth(turn), turn.member.good, turn.remembered, draws)
            turn.answered(DRAFT, text)
            return []
        return [self._answer(turn, DRAFT, self._question(turn), draws)]

    def revise(self, turn: Turn, draws: Draws) -> list[Call]:
        """Let an agent revise its draft by what it heard."""
        self.calls["agent"] += 1
        told = [rated for _, rated in turn.heard()]
        if "agent" not in self.speakers:
            text = members.revise(_truth(turn), turn.member.good, turn.draft or "", told, draws)
            turn.answered(REVISION, text)
            return []
        draft = {"role": "assistant", "content": turn.draft or ""}
        chat = [*self._question(turn), draft, {"role": "user", "content": feedback(told, not self._notation)}]
        return [self._answer(turn, REVISION, chat, draws)]

    def judge(self, turn: Turn, peer: Member, draws: Draws) -> list[Call]:
        """Let a peer rate a draft."""
        self.calls["peer"] += 1
        reason, draft = not self.settings.score_only, turn.draft or ""
        if "peer" not in self.speakers:
            turn.rated(peer.number, members.judge(_truth(turn), draft, peer.good, self.noise, reason, draws))
            return []
        found = peer.memory.nearest(turn.asked.text, self.settings.threshold)
        remembered = None if found is None else found[:2]
        prompt = peer_prompt(
            turn.asked.text, draft, identity=identity(peer.number), remembered=remembered, reason=reason
        )

        def heard(answer: str | LanguageModelError) -> None:
            turn.rated(peer.number, answer)

        return [Call(self.speakers["peer"], prompt, seed_of(draws), heard)]

    def observe(self, turn: Turn, kind: str, draws: Draws) -> list[Call]:
        """Let observers rate a draft or a revision on each axis."""
        answer = turn.draft if kind == DRAFT else turn.revision
        if answer is None:
            return []
        self.calls["observer"] += len(AXES)
        calls = []
        for axis in AXES:
            if "observer" not in self.speakers:
                turn.seen(kind, axis, members.observe(_truth(turn), answer, axis, self.noise, draws))
                continue
            prompt = observer_prompt(turn.asked.text, answer, axis)
            calls.append(Call(self.speakers["observer"], prompt, seed_of(draws), _seen(turn, kind, axis)))
        return calls

    def _answer(self, turn: Turn, kind: str, chat: Sequence[dict[str, str]], draws: Draws) -> Call:
        def heard(answer: str | LanguageModelError) -> None:
            turn.answered(kind, from_notation(answer) if self._notation and isinstance(answer, str) else answer)

        prompt: Messages = chat
        if self._notation:
            prompt = [_NOTATION, *({**one, "content": to_notation(one["content"])} for one in chat[1:])]
        return Call(self.speakers["agent"], prompt, seed_of(draws), heard)

    def _question(self, turn: Turn) -> list[dict[str, str]]:
        chat = [{"role": "system", "content": f"{identity(turn.member.number)} You answer what you are asked."}]
        if turn.remembered is not None:
            chat.append({"role": "user", "content": turn.remembered.question})
            chat.append({"role": "assistant", "content": turn.remembered.answer})
        return [*chat, {"role": "user", "content": turn.asked.text}]


def identity(number: int) -> str:
    """Return who a language model is told that it is."""
    return f"You are member {number} of a society."


def feedback(heard: Sequence[Rated], plain: bool = True) -> str:
    """Return what an agent hears of its draft: the mean rating and all reasons, in their order.

    Args:
        heard: The ratings that could be read, the highest first: what is worst said stands nearest to the answer.
        plain: In plain words; else as in ``Society-v0``.
    """
    ratings = [one.rating for one in heard if one.rating is not None]
    said = " ".join(f"Rating {one.rating:g}: {one.text}".rstrip(" :") for one in heard)
    if not plain:
        return said
    mean = sum(ratings) / len(ratings)
    return f"Your peers rate your answer {mean:.1f} of 7 on average. {said} Revise your answer."


def _seen(turn: Turn, kind: str, axis: str) -> Heard:
    def heard(answer: str | LanguageModelError) -> None:
        turn.seen(kind, axis, answer)

    return heard


def _truth(turn: Turn) -> Question:
    assert turn.asked.truth is not None, "scripted members speak of generated questions alone"
    return turn.asked.truth


def _reads_notation(speaker: Speaker) -> bool:
    from dialog_gym.envs.society import Society
    from dialog_gym.lm.wording import Wording

    return not Wording(Society(), speaker.lm).plain
