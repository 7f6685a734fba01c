"""What ``DealOrNoDeal-v0`` and ``CaSiNo-v0`` share: scenarios, rewards, the scripted partner's talk, the notation.

A subclass says which items there are, how a talk is closed, and what its scenarios are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws, Json, Scenario
from dialog_gym.envs import division_language as language
from dialog_gym.envs import division_partner as partner
from dialog_gym.envs import division_speech as speech
from dialog_gym.envs.division import Pot, Result, Share, rest, result
from dialog_gym.envs.division_language import Act, Reader
from dialog_gym.envs.division_partner import Mind, mind_of, written
from dialog_gym.rewards.base import Reward, Scored
from dialog_gym.splits import part
from dialog_gym.task import Reply
from dialog_gym.world import World

Floats = npt.NDArray[np.float32]

ROLES = ("first", "second")
TERMS = ("points", "partner_points", "joint", "agreed", "pareto")
OBJECTIVES = ("points", "joint")
NOTATIONS = ("corpus", "plain")
CHOICES = ("said", "tracked")
ACTS = ("none", "propose", "accept", "reject", "question", "select")
WRONG_CUE = 0.2  # share of the partner's cues that belong to the other kind
HINT = 0.6  # probability that a counter-offer has a cue, or a warning when patience is short


class Outcome(Reward):
    """What both sides have at the end, 0 before it; the terms are ``TERMS``.

    Attributes:
        objective: What is earned: ``"points"`` of the agent or the ``"joint"`` points of both.
        fallback: Points of each side without a deal.
    """

    low = 0.0

    def __init__(self, objective: str, fallback: int, most: int) -> None:
        """Reward ``objective``; ``most`` is the most that one side can have."""
        self.objective = self.name = objective
        self.fallback = fallback
        self.high = float(most if objective == "points" else 2 * most)

    @property
    def terms(self) -> tuple[str, ...]:
        """Points of both sides and their sum, whether there is a deal, and whether it is Pareto-optimal."""
        return TERMS

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return what is earned."""
        return self.scored(dialogues).scores

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return what is earned, with all terms."""
        numbers = np.zeros((len(TERMS), len(dialogues)), np.float32)
        for column, dialogue in enumerate(dialogues):
            if dialogue.stop_reason:
                end = outcome(dialogue, self.fallback)
                numbers[:, column] = end.agent, end.partner, end.joint, end.agreed, end.pareto
        terms = dict(zip(TERMS, numbers, strict=True))
        return Scored(terms[self.objective], terms)


def pot_of(dialogue: Dialogue) -> Pot:
    """Return what is divided in ``dialogue``, as its agent and partner value it."""
    hidden = dialogue.scenario.hidden
    agent, other = dialogue.roles
    return Pot(tuple(hidden["counts"]), tuple(hidden["values"][agent]), tuple(hidden["values"][other]))


def speaker_of(dialogue: Dialogue) -> str:
    """Return who speaks next: not who spoke last; the agent where nobody did."""
    agent, other = dialogue.roles
    return other if dialogue.turns and dialogue.turns[-1].role == agent else agent


def outcome(dialogue: Dialogue, fallback: int) -> Result:
    """Return how ``dialogue``, played or read from a corpus, ended, by the selections in its state."""
    chosen = dialogue.state.get("selections") or {}
    agent, other = (chosen.get(role) or None for role in dialogue.roles)
    return result(pot_of(dialogue), agent, other, fallback)


class Division(World):
    """Two sides divide items in free talk and choose a deal at the end; see the subclasses for the rules.

    Attributes:
        pool: The scenarios that are drawn from.
        reader: What understands utterances.
        fallback: Points of each side without a deal.
        most: The most points that one side can have.
        temper: What its scripted partners may be like.
        notation: What language models read: that of the corpus, or the words that people read.
        choices: What a language model chooses: what it says, or what was agreed, as ``floor`` tracks it.
    """

    tag: ClassVar[str]
    reader: ClassVar[Reader]
    fallback: ClassVar[int]
    most: ClassVar[int]
    temper: ClassVar[partner.Temper]
    max_chars = 1000

    def __init__(self, side: str, objective: str, max_turns: int, notation: str, choices: str) -> None:
        """Check the settings that all divisions have."""
        settings = (
            ("side", side, ROLES),
            ("objective", objective, OBJECTIVES),
            ("notation", notation, NOTATIONS),
            ("choices", choices, CHOICES),
        )
        for name, value, known in settings:
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if max_turns < 2:
            raise ValueError(f"max_turns must be at least 2 (a word and a selection), got {max_turns}")
        self.roles = ("first", "second") if side == "first" else ("second", "first")
        self.max_turns, self.notation, self.choices = max_turns, notation, choices
        self.reward = Outcome(objective, self.fallback, self.most)
        self.pool: tuple[Scenario, ...] = ()

    def _in_split(self, pool: Sequence[Scenario], split: str) -> tuple[Scenario, ...]:
        return part(pool, split, lambda one: str(one.hidden["key"]), "scenarios")

    def scenario(self, draws: Draws) -> Scenario:
        """Draw a scenario and the partner's hidden kind, floor, first demand and patience."""
        drawn = draws.choice(self.pool)
        return Scenario(drawn.public, drawn.private, {**drawn.hidden, **partner.drawn(self.temper, draws)})

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Set the partner's first mind; a partner who is the first makes an offer."""
        state = self._first_state(dialogue)
        opened = Dialogue(dialogue.scenario, self.roles, dialogue.seed, (), state)
        if self.roles[0] == "first":
            return opened
        draws, mind = dialogue.draws("opening"), mind_of(state)
        offer = partner.counter(mind, pot_of(dialogue), draws)
        text = speech.greeting(draws) + speech.proposal(self.items(dialogue), *self._sides(dialogue, offer), draws)
        after = Dialogue(dialogue.scenario, self.roles, dialogue.seed, (), {**state, "offer": list(offer)})
        return after.said("first", text)

    def _first_state(self, dialogue: Dialogue) -> dict[str, Json]:
        hidden = dialogue.scenario.hidden
        if "kind" not in hidden:  # a scenario from elsewhere
            drawn = partner.drawn(self.temper, dialogue.draws("partner's kind"))
            hidden = {**drawn, **hidden}
        mind = written(partner.first_mind(hidden))
        return {**mind, "selections": dict.fromkeys(ROLES), "closing": ""}

    def items(self, dialogue: Dialogue) -> tuple[str, ...]:
        """Return the names of the items."""
        return self.reader.lexicon.items

    def _sides(self, dialogue: Dialogue, agent: Share) -> tuple[Share, Share, Share]:
        """Return the counts, the partner's share and the agent's share of a deal."""
        counts = tuple(dialogue.scenario.hidden["counts"])
        return counts, rest(counts, agent), agent

    # --- what is understood --------------------------------------------------------------------

    def act(self, dialogue: Dialogue, text: str) -> Act:
        """Return what is understood of ``text``, in either notation."""
        return self.reader.understand(text, tuple(dialogue.scenario.hidden["counts"]))

    def understood(self, dialogue: Dialogue) -> bool:
        """Return whether anything is understood of the newest agent turn."""
        said = dialogue.texts(dialogue.roles[0])
        return bool(said) and self.act(dialogue, said[-1]).understood

    def contradicts(self, dialogue: Dialogue) -> bool:
        """Return whether the partner's newest turn takes back what was agreed: another deal, chosen at the end."""
        other = dialogue.roles[1]
        chosen = (dialogue.state.get("selections") or {}).get(other)
        if not dialogue.turns or chosen is None or self.act(dialogue, dialogue.turns[-1].text).move:
            return False
        floor = self.floor(dialogue)
        counts = tuple(dialogue.scenario.hidden["counts"])
        return floor.agreed and floor.offer is not None and tuple(chosen) != rest(counts, floor.offer)

    def floor(self, dialogue: Dialogue) -> language.Floor:
        """Return what stands on the table, as both sides can hear it, in shares of the agent."""
        agent, counts = dialogue.roles[0], tuple(dialogue.scenario.hidden["counts"])
        floor = language.Floor()
        for role, text in dialogue.turns:
            act = self.act(dialogue, text)
            if act.select is None and not act.move:
                floor = language.followed(floor, act, role == agent, counts)
        return floor

    def final_words(self, dialogue: Dialogue, draws: Draws) -> str:
        """Return how a scripted agent chooses what was agreed, ``""`` while nothing is."""
        floor = self.floor(dialogue)
        if (dialogue.turns and dialogue.turns[-1].text.strip() == "<selection>") or floor.agreed:
            return speech.selection(self.items(dialogue), floor.offer)
        return ""

    # --- the partner ---------------------------------------------------------------------------

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest agent turn of each dialogue."""
        return [self._reply(dialogue) for dialogue in dialogues]

    @abstractmethod
    def _reply(self, dialogue: Dialogue) -> Reply:
        """Answer one dialogue."""

    @abstractmethod
    def _close(self, dialogue: Dialogue, mind: Mind) -> Reply:
        """End the talk about a deal that both agreed on."""

    def _talk(self, dialogue: Dialogue, act: Act) -> Reply:
        """Answer what is no selection."""
        mind, pot, draws = mind_of(dialogue.state), pot_of(dialogue), dialogue.draws("partner")
        share = self._proposed(mind, act)
        if share is None and act.accept and (deal := mind.agreed or mind.offer) is not None:
            return self._close(dialogue, mind._replace(agreed=deal))
        after = partner.hear(mind, pot, share, draws.uniform())
        state = {**dialogue.state, **written(after)}
        if after.agreed is not None:
            held = mind.agreed == after.agreed
            if held and share is None and not act.reject:
                return self._close(dialogue, after)
            text = speech.held(draws) if held and share != after.agreed else speech.accepting(draws)
            return Reply(text, state)
        if after.patience <= 0:
            return Reply(self._parting(draws), state, "no deal")
        offer = partner.counter(after, pot, draws)
        text = self._counter_words(dialogue, act, mind, after, share, offer, draws)
        return Reply(text, {**state, "offer": list(offer)})

    def _proposed(self, mind: Mind, act: Act) -> Share | None:
        """Return the share that the agent proposes for itself; the standing offer where it agrees to a part of it."""
        if act.share is None:
            return None
        standing = mind.offer if mind.offer is not None else mind.last
        if act.accept and mind.offer is not None and language.agrees(act.said, mind.offer):
            return mind.offer
        return language.completed(act.share, standing)

    def _parting(self, draws: Draws) -> str:
        return speech.parting(draws)

    def _counter_words(
        self, dialogue: Dialogue, act: Act, mind: Mind, after: Mind, share: Share | None, offer: Share, draws: Draws
    ) -> str:
        pot = pot_of(dialogue)
        worth = 1.0 if share is None else partner.table(pot).worth[share]
        better = share is not None and worth > mind.best + 1e-9
        parts = [""]
        if act.question:
            most = max(range(len(pot.counts)), key=lambda i: (pot.partner[i] * pot.counts[i], pot.partner[i]))
            parts = [speech.answer(self.items(dialogue)[most], pot.counts[most], draws)]
        elif share is not None or not act.understood or act.reject:
            kind = "insult" if worth < partner.INSULT else "better" if better else "refuse" if share else "lost"
            parts = [speech.reaction(kind, draws)]
        if after.patience <= 2 and draws.uniform() < HINT:
            parts.append(speech.last_chance(draws))
        elif draws.uniform() < HINT:
            wrong = draws.uniform() < WRONG_CUE
            parts.append(speech.cue(partner.KINDS[(partner.KINDS.index(after.kind) + wrong) % 2], draws))
        parts.append(speech.proposal(self.items(dialogue), *self._sides(dialogue, offer), draws))
        return ". ".join(part_ for part_ in parts if part_)

    def _settled(
        self, dialogue: Dialogue, agent: Share | None, other: Share | None, text: str = "", state: Any = None
    ) -> Reply:
        """End with the shares that both sides chose for themselves, ``()`` or None for no deal."""
        end = result(pot_of(dialogue), agent or None, other or None, self.fallback)
        stop = "agreed" if end.agreed else "disagreed" if agent and other else "no deal"
        chosen = {
            role: None if share is None else list(share)
            for role, share in zip(dialogue.roles, (agent, other), strict=True)
        }
        base = dialogue.state if state is None else state
        return Reply(text, {**base, "selections": {role: chosen[role] for role in ROLES}}, stop, end.agreed)

    # --- notation ------------------------------------------------------------------------------

    @abstractmethod
    def system_line(self, dialogue: Dialogue, role: str) -> str:
        """Return what ``role`` knows before the first word, as a model reads it."""

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat for a language model: lower case, marks apart, the private values in the first line.

        In the notation "plain" the first line is what ``role`` knows in full sentences, with the rules, and the turns
        are as they were said. What an old turn becomes depends on that turn alone.
        """
        system = self.system_line(dialogue, role)
        if self.notation == "plain":
            system = (
                f"{dialogue.brief(role)}\nSay only your next words, in one or two sentences, or your choice alone."
            )
        chat = [{"role": "system", "content": system}]
        for speaker, text in dialogue.turns:
            own = speaker == role
            chat.append(
                {"role": "assistant" if own else "user", "content": self._written(dialogue, speaker, text, own)}
            )
        return chat

    def _written(self, dialogue: Dialogue, speaker: str, text: str, own: bool) -> str:
        """Return a turn as a model reads it."""
        return self._talked(self._canonical(dialogue, text))

    def _talked(self, text: str) -> str:
        """Return what was said, in the notation."""
        return text if self.notation == "plain" else language.to_tokens(text)

    def _canonical(self, dialogue: Dialogue, text: str) -> str:
        """Return a selection in its one form, and any other text as it is."""
        chosen = self.act(dialogue, text).select
        return text if chosen is None else speech.selection(self.items(dialogue), chosen)

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what a language model wrote, in either role, as people read it.

        With ``choices="tracked"`` its choice is what was agreed, whatever it wrote of it.
        """
        said = text.strip() if self.notation == "plain" else language.from_tokens(text)
        return said if self.choices == "said" else self._tracked(dialogue, said)

    @abstractmethod
    def _tracked(self, dialogue: Dialogue, said: str) -> str:
        """Return what is said by who speaks next, a choice being replaced by what was agreed."""

    def _standing(self, dialogue: Dialogue, ender: str) -> Share | None:
        """Return what who speaks next takes if ``ender`` ends the talk: its share of what stands, None if nothing."""
        agent = dialogue.roles[0]
        deal = self.floor(dialogue).settled(ender == agent)
        if deal is None or speaker_of(dialogue) == agent:
            return deal
        return rest(tuple(dialogue.scenario.hidden["counts"]), deal)

    # --- what a world tells --------------------------------------------------------------------

    def attributes(self, dialogue: Dialogue, role: str, text: str) -> Floats:
        """Return what kind of act ``text`` is and which share of each item its speaker would get."""
        act = self.act(dialogue, text)
        counts = dialogue.scenario.hidden["counts"]
        kind = "select" if act.select is not None else "propose" if act.share is not None else "none"
        if kind == "none":
            kind = "accept" if act.accept else "reject" if act.reject else "question" if act.question else "none"
        numbers = np.zeros(len(self.attribute_names), np.float32)
        numbers[ACTS.index(kind)] = 1
        shares: Sequence[int | None] = act.select or act.share or ()
        for i, (number, count) in enumerate(zip(shares, counts, strict=False)):
            if number is not None and count:
                numbers[len(ACTS) + i] = number / count
        return numbers

    def facts(self, dialogue: Dialogue) -> Floats:
        """Return what an attentive agent knows before it speaks; nothing hidden is among them."""
        from dialog_gym.envs.division_policies import facts

        return facts(self, dialogue)

    def oracle(self, dialogue: Dialogue) -> str:
        """Say what earns most in expectation against this partner, whose mind is seen; its luck is not."""
        from dialog_gym.envs.division_policies import oracle

        return oracle(self, dialogue)

    def value(self, dialogue: Dialogue) -> float:
        """Return the expected reward still to come while the oracle speaks, for the objective "points"."""
        from dialog_gym.envs.division_policies import value

        return value(self, dialogue)

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        """Return the scripted policies by name."""
        from dialog_gym.envs.division_policies import by_name

        return by_name(self)

    def self_play(self, draws: Draws) -> Dialogue:
        """Return a finished dialogue of an agent of mixed quality, to train language models on."""
        from dialog_gym.envs.division_policies import self_play

        return self_play(self, draws)
