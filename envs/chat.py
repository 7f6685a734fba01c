"""Chat-v0: listen to a partner whose mood is hidden; only a final survey is scored.

The partner tells what is on its mind. Each turn of the agent moves its mood, which nobody sees; at the end it fills in
a survey. So the reward is one number per conversation, while the true value of every utterance is known to the world
(``true_moves``): a test bed for reward decomposition, with the partner's visible affect as a local signal that is
informative, noisy and misleading in a known measure.

Observation: the transcript; the partner speaks first.
Action: an utterance. Three things in it count: a move (question, empathy, share - telling of oneself -, advice, joke,
ack - a small acknowledgement), at most one topic (work, family, music, sport, food, travel) and an energy (calm,
plain, lively); ``chat_reading`` tells how they are read. Of two moves the later counts, of three none.
Reward: 0 until the end, then the survey in [0, 1]:
clip(.3 + .7 * (sum of moves + noise) / max_turns), noise normal with standard deviation ``survey_noise`` * .55, the
standard deviation of a move in ``self_play``.
Signal, ``info["signals"]["affect"]``: move / .55 + ``affect_bias`` * shown + ``affect_noise`` * normal, within 9.
*shown* is what a face does whether the mood rises or not: 1.5 for jokes, .7 for a share, .2 for acks, 0 for questions,
-.8 for advice, -1.6 for empathy (mean 0, variance 1 over the moves). Affect shows in the partner's words too
("that helps" above 1, "you do not get it" below -.5).
Terminates: ``"survey"`` (after ``max_turns`` turns), ``"left"`` (the agent took leave, or the mood fell below -1.9;
turns that were missed count -.6 each in the survey). Never truncates. Success: a survey of .6 at least.

The partner has a *need*: to tell (ack; second best a question), comfort (empathy; a share), advice (advice; a
question) or cheer (a joke; a share). Other moves do little or harm: ``chat_rules.EFFECT``. What helps counts fully
only on the right topic (its *matter*; in cheer one of the three it likes, neither its matter nor a topic of the last
two turns; no topic counts .6, a wrong one turns help into harm), in the right energy (its own pace, but calm in
comfort; plain .75, opposite .4), and if the turn before made another move (else .4). Chance adds up to .2 either way.
A need that was met changes with probability .45, else .12; who tells anew has another matter. The words show need,
matter, pace and likes; 8% of the needs and 15% of the paces are shown wrongly. Of the mood .7 stays from turn to turn.

Optimum (512 held-out episodes of 8 turns, 95% within .013): ``oracle`` earns .90 (it sees the hidden state, but no
chance to come), who infers the state from the transcript .74, the best constant behaviour (questions and shares in
turn, on the partner's topic) .40, a random one .14. ``python -m dialog_gym.envs.chat`` prints the table of scripted
policies, ``--signals`` how affect and survey go with the truth.

Scenarios: generated news, or ``scenarios=FILE`` (``chat_scenarios``; EmpatheticDialogues is read), whose situation the
partner opens with. ``partner=SPEC`` lets a language model be the partner, its persona made of the situation. Nobody
knows its mood: the affect of its words (``affect``) is the signal, and the survey is .5 + .5 * mean affect, unless
``judge=SPEC`` scores the conversation. ``split``: ``"train"`` and ``"heldout"`` are 70 and 30 percent of the
situations, by a hash of their words.

History: v0, the first version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.envs import chat_language as language
from dialog_gym.envs import chat_rules as rules
from dialog_gym.envs.chat_phrases import MOVE_NAMES, NEED_NAMES, TOPICS
from dialog_gym.envs.chat_reading import ENERGIES, Act, understand
from dialog_gym.envs.chat_scenarios import Situation, generated, in_split, read_situations
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Reply
from dialog_gym.world import World

Floats = npt.NDArray[np.float32]

LONGEST = 64  # turns
WRONG_NEED = 0.08  # share of the words about the need that show another one
SHOWS_PACE = 0.6  # probability of an opener in the partner's pace
WRONG_PACE = 0.15  # share of the openers that belong to the other pace
NAMES_TOPIC = 0.85  # probability that words about a need name its matter
NAMES_LIKED = 0.75  # probability that who wants cheer names a topic: four times in five one it likes
TASTE = 0.7  # probability that a topic in cheer is commented on
ANNOUNCES = 0.5  # probability that a new matter begins with news
FIRST_NEED = {  # tell, comfort, advise, cheer
    "bad": (0.4, 0.35, 0.25, 0.0),
    "good": (0.5, 0.0, 0.1, 0.4),
    "": (0.25, 0.25, 0.25, 0.25),
}
PACES = ("calm", "lively")
SHOWS_GOOD, SHOWS_BAD = 1.0, -0.5  # affect above, below which the words show it
MOST_AFFECT = 9.0

ATTRIBUTES = (
    *(f"topic:{topic or 'none'}" for topic in ("", *TOPICS)),
    *(f"move:{move or 'none'}" for move in ("", *MOVE_NAMES)),
    *(f"energy:{energy}" for energy in ENERGIES),
)
FACTS = (
    *(f"need:{need}" for need in NEED_NAMES),
    *(f"topic_worth:{topic}" for topic in TOPICS),
    "lively",
    "turn",
    "first_choice_used",
    "mood",
)
_TOPIC_PLACE = {topic: place for place, topic in enumerate(("", *TOPICS))}
_MOVE_PLACE = {move: 7 + place for place, move in enumerate(("", *MOVE_NAMES))}
_ENERGY_PLACE = {energy: 14 + place for place, energy in enumerate(ENERGIES)}
_MOVE_INDEX = {**{move: i for i, move in enumerate(MOVE_NAMES)}, "": rules.MOVE_COUNT}
_NEED_INDEX = {need: i for i, need in enumerate(NEED_NAMES)}
_TASTE_OF = {"right": "liked", "neutral": "neutral", "wrong": "disliked", "stale": "stale"}


class Survey(Reward):
    """The survey at the end of a conversation, 0 before."""

    name = "survey"
    low = 0.0
    high = 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the survey of each dialogue that has ended, 0 for the others."""
        return np.array([d.state["survey"] if d.stop_reason else 0.0 for d in dialogues], dtype=np.float32)


class VisibleAffect(Reward):
    """What the partner's face showed at the newest agent turn, in standard deviations of a move."""

    name = "affect"
    low = -MOST_AFFECT
    high = MOST_AFFECT

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the affect of each dialogue."""
        return np.array([d.state["affect"] for d in dialogues], dtype=np.float32)


class Chat(World):
    """A conversation whose quality only a final survey tells; see the module for the rules.

    Args:
        scenarios: A file of situations, or None for generated news.
        split: ``"all"``, ``"train"`` or ``"heldout"``.
        max_turns: Agent turns after which the survey is filled in, 1 to 64.
        affect_bias: How much the face shows beside the mood, in standard deviations of a move.
        affect_noise: Standard deviation of what it shows by chance, in the same unit.
        survey_noise: Standard deviation of the noise of the sum of moves, in the same unit.
        affect: Measures the signal in the partner's words: a ``Reward`` (see ``dialog_gym.rewards.affect``), or
            ``"vader"``. None: the scripted partner has a face of its own, a language model is measured by VADER.
    """

    world: ClassVar[str] = "chat"
    attribute_names: ClassVar[tuple[str, ...]] = ATTRIBUTES
    fact_names: ClassVar[tuple[str, ...]] = FACTS
    model_tokens: ClassVar[tuple[str, ...]] = ("<chat>",)
    render_hint: ClassVar[str] = "only the survey at the end is scored"
    reward = Survey()

    def __init__(
        self,
        scenarios: str | Path | None = None,
        split: str = "all",
        max_turns: int = 8,
        affect_bias: float = 0.5,
        affect_noise: float = 1.0,
        survey_noise: float = 2.0,
        affect: Reward | str | None = None,
    ) -> None:
        """Read the situations, if a file is given; see the class for the arguments."""
        if not 1 <= max_turns <= LONGEST:
            raise ValueError(f"max_turns must be in 1 .. {LONGEST}, got {max_turns}")
        noises = {"affect_bias": affect_bias, "affect_noise": affect_noise, "survey_noise": survey_noise}
        for name, size in noises.items():
            if not 0 <= size < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {size}")
        if affect is not None and affect != "vader" and not isinstance(affect, Reward):
            raise ValueError(f"affect must be a Reward, 'vader' or None, got {affect!r:.80}")
        self.roles = ("listener", "speaker")
        self.max_turns = max_turns
        self.affect_bias, self.affect_noise, self.survey_noise = affect_bias, affect_noise, survey_noise
        self._affect_of_words = affect if isinstance(affect, Reward) else None
        self.signals = {"affect": VisibleAffect() if affect is None else self.affect_of_words}
        situations = generated() if scenarios is None else read_situations(scenarios)
        self.situations: tuple[Situation, ...] = in_split(situations, split)

    def scenario(self, draws: Draws) -> Scenario:
        """Draw the partner's situation, what it likes, its pace and its first need."""
        situation = draws.choice(self.situations)
        order = list(TOPICS)
        for place in range(len(order) - 1, 0, -1):
            other = draws.integer(0, place + 1)
            order[place], order[other] = order[other], order[place]
        valence = situation.valence
        hidden = {
            "situation": situation.text,
            "real": situation.real,
            "topic": situation.topic or draws.choice(TOPICS),
            "order": order,  # three topics it likes, one it does not mind, two it dislikes
            "pace": draws.choice(PACES),
            "need": NEED_NAMES[_drawn(FIRST_NEED[valence], draws.uniform())],
        }
        public = "Two people talk. The speaker tells what is on their mind; the listener answers."
        private = {
            "listener": "You are the listener. In the end the speaker says in a survey how good the talk was.",
            "speaker": _persona(situation, order),
        }
        return Scenario(public, private, hidden)

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Let the partner begin with its situation; generated ones show the need as well."""
        hidden = dialogue.scenario.hidden
        state = {
            "need": hidden["need"],
            "matter": hidden["topic"],
            "last": "",
            "recent": ["", ""],
            "mood": 0.0,
            "affect": 0.0,
            "moves": [],
            "survey": None,
        }
        opened = Dialogue(dialogue.scenario, self.roles, dialogue.seed, (), state)
        text = hidden["situation"]
        if not hidden["real"]:
            draws = dialogue.draws("opening")
            pace = self._pace_word(hidden["pace"], draws.bits())
            need = _cue(_NEED_INDEX[state["need"]], draws.bits())
            told = language.tell(need, "", draws.bits())  # the news name the matter
            text = language.answer(pace, language.to_tokens(text), told)
        return opened.said(self.roles[1], text)

    # --- the partner ---------------------------------------------------------------------------

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest agent turn of each dialogue."""
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Reply:
        hidden, state = dialogue.scenario.hidden, dialogue.state
        act = understand(dialogue.turns[-1].text)
        draws = dialogue.draws("partner")
        if act.bye:
            return self._ended(dialogue, {**state, "affect": 0.0, "moves": [*state["moves"], rules.MISSED]}, draws)
        kind = self._kind(dialogue, act.topic)
        chance = draws.bits()
        move = self._worth(dialogue, act, kind) + rules.LUCK * (2 * (chance & 0xFFFF) / 0xFFFF - 1)
        after = {
            **state,
            "last": act.move,
            "recent": [act.topic, state["recent"][0]],
            "mood": round(rules.MEMORY * state["mood"] + move, 4),
            "affect": round(self._affect(move, act, draws), 4),
            "moves": [*state["moves"], round(move, 4)],
        }
        if after["mood"] < rules.LEAVES:
            return self._ended(dialogue, after, draws)
        if dialogue.turn >= self.max_turns:
            return self._ended(dialogue, after, draws, "survey")
        news = self._change(after, act, chance >> 16, draws)
        words = draws.bits()
        comments = state["need"] == "cheer" and act.topic != "" and (chance >> 48) < TASTE * 0x10000
        reaction = language.react(_TASTE_OF[kind] if comments else _shown(after["affect"]), act.topic, words)
        pace = self._pace_word(hidden["pace"], words >> 16)
        told = language.tell_news(after["matter"], words >> 40) if news else self._told(hidden, after, draws)
        return Reply(language.answer(pace, reaction, told), after)

    def _kind(self, dialogue: Dialogue, topic: str) -> str:
        order, state = dialogue.scenario.hidden["order"], dialogue.state
        number = [rules.NONE if not name else order.index(name) for name in (topic, state["matter"], *state["recent"])]
        return rules.topic_kind(state["need"], number[0], number[1], number[2:])

    def _worth(self, dialogue: Dialogue, act: Act, kind: str) -> float:
        state = dialogue.state
        right = rules.right_energy(state["need"], dialogue.scenario.hidden["pace"])
        match = rules.energy_match(act.energy, right)
        return rules.worth(state["need"], _MOVE_INDEX[act.move], kind, match, act.move == state["last"])

    def _affect(self, move: float, act: Act, draws: Draws) -> float:
        shown = rules.SHOWN[_MOVE_INDEX[act.move]]
        affect = move / rules.MOVE_SD + self.affect_bias * shown + self.affect_noise * draws.normal()
        return min(max(affect, -MOST_AFFECT), MOST_AFFECT)

    def _survey(self, dialogue: Dialogue, moves: Sequence[float]) -> float:
        total = sum(moves) + rules.MISSED * (self.max_turns - len(moves))
        total += self.survey_noise * rules.MOVE_SD * dialogue.draws("survey").normal()
        return min(max(rules.BASE + rules.GAIN * total / self.max_turns, 0.0), 1.0)

    def _ended(self, dialogue: Dialogue, after: dict[str, Any], draws: Draws, reason: str = "left") -> Reply:
        survey = self._survey(dialogue, after["moves"])
        words = language.end(reason == "left", draws.bits())
        return Reply(words, {**after, "survey": survey}, reason, survey >= rules.SATISFIED)

    def _change(self, state: dict[str, Any], act: Act, chance: int, draws: Draws) -> bool:
        """Let the need in ``state`` change by chance; return whether a new matter is announced."""
        met = rules.EFFECT[state["need"]][_MOVE_INDEX[act.move]] >= rules.MEETING
        if (chance & 0xFFFF) >= 0x10000 * (rules.CHANGE_MET if met else rules.CHANGE):
            return False
        state["need"] = NEED_NAMES[_drawn(rules.NEXT[state["need"]], (chance >> 16 & 0xFFFF) / 0x10000)]
        if state["need"] != "tell":
            return False
        bits = draws.bits()
        state["matter"] = [topic for topic in TOPICS if topic != state["matter"]][bits % 5]
        return (bits >> 32 & 0xFFFF) < ANNOUNCES * 0x10000

    def _told(self, hidden: Mapping[str, Any], state: Mapping[str, Any], draws: Draws) -> str:
        """Return words about the need, a share of them about another one."""
        bits = draws.bits()
        need = _cue(_NEED_INDEX[state["need"]], bits)
        named = (bits >> 24 & 0xFFFF) / 0x10000
        if need != "cheer":
            topic = state["matter"] if named < NAMES_TOPIC else ""
        else:
            liked = hidden["order"][: rules.LIKED] if (bits >> 40 & 0xFF) % 5 else TOPICS
            topic = liked[(bits >> 48 & 0xFF) % len(liked)] if named < NAMES_LIKED else ""
        return language.tell(need, topic, draws.bits())

    def _pace_word(self, pace: str, bits: int) -> str:
        if (bits & 0xFF) >= SHOWS_PACE * 0x100:
            return ""
        wrong = (bits >> 8 & 0xFF) < WRONG_PACE * 0x100
        return language.pace_word(PACES[(pace == "lively") != wrong], bits >> 16)

    # --- a language model as the partner -------------------------------------------------------

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Let the agent take leave."""
        if not understand(dialogue.turns[-1].text).bye:
            return None
        felt = dialogue.state.get("felt", [])
        return Reply("", {**dialogue.state, "affect": 0.0, "felt": felt, "survey": self._felt_survey(felt)}, "left")

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Measure the affect of the partner's ``text``; the talk ends if it takes leave or time is up."""
        affect = self._measured(dialogue.said(self.roles[1], text))
        felt = [*dialogue.state.get("felt", []), affect]
        state = {**dialogue.state, "affect": affect, "felt": felt}
        left = understand(text).bye
        if not left and dialogue.turn < self.max_turns:
            return Reply(text, state)
        survey = self._felt_survey(felt)
        return Reply(text, {**state, "survey": survey}, "left" if left else "survey", survey >= rules.SATISFIED)

    @property
    def affect_of_words(self) -> Reward:
        """What measures the affect of the partner's words; VADER is loaded when it is first needed."""
        if self._affect_of_words is None:
            from dialog_gym.rewards.affect import Affect

            self._affect_of_words = Affect(role="partner")
        return self._affect_of_words

    def _measured(self, dialogue: Dialogue) -> float:
        """Return the affect of the newest words, on the scale -1 .. 1."""
        measure = self.affect_of_words
        score = float(measure([dialogue])[0])
        return round(2 * (score - measure.low) / (measure.high - measure.low) - 1, 4)

    def _felt_survey(self, felt: Sequence[float]) -> float:
        """Return .5 + .5 * mean affect, where turns that were missed count ``MISSED``."""
        total = sum(felt) + rules.MISSED * (self.max_turns - len(felt))
        return 0.5 + 0.5 * total / self.max_turns

    # --- notation ------------------------------------------------------------------------------

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat for a language model: lower case, every mark a word; the speaker is told what it likes."""
        brief = f"<chat> you are the {role} ."
        if role == self.roles[1]:
            order = dialogue.scenario.hidden["order"]
            brief = f"{brief} you like {' , '.join(order[:3])} . not {' , '.join(order[4:])} ."
        chat = [{"role": "system", "content": brief}]
        for speaker, text in dialogue.turns:
            who = "assistant" if speaker == role else "user"
            chat.append({"role": who, "content": language.to_tokens(text)})
        return chat

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what a language model wrote as people write it."""
        return language.from_tokens(text)

    def attributes(self, dialogue: Dialogue, role: str, text: str) -> Floats:
        """Return what ``text`` says, in either notation, as the numbers ``ATTRIBUTES`` names."""
        act = understand(text)
        numbers = np.zeros(len(ATTRIBUTES), dtype=np.float32)
        numbers[_TOPIC_PLACE[act.topic]] = 1
        numbers[_MOVE_PLACE[act.move]] = 1
        numbers[_ENERGY_PLACE[act.energy]] = 1
        return numbers

    def facts(self, dialogue: Dialogue) -> Floats:
        """Return what the transcript tells, as the numbers ``FACTS`` names; nothing hidden is among them.

        How probable each need is; the weight of each topic to be expected now (1 right, -.3 wrong); how probable a
        lively pace is; the share of turns used; whether the best move for the likeliest need was just made; how the
        partner's reactions were on the whole, in [-1, 1].
        """
        from dialog_gym.envs.chat_policies import facts

        return facts(self, dialogue)

    def understood(self, dialogue: Dialogue) -> bool:
        """Return whether the partner finds any meaning in the newest agent turn."""
        return understand(dialogue.texts(self.roles[0])[-1]).understood

    def parsed(self, dialogue: Dialogue) -> list[Act]:
        """Return what was understood of each agent turn."""
        return [understand(text) for text in dialogue.texts(self.roles[0])]

    # --- the truth, and policies ---------------------------------------------------------------

    def true_moves(self, dialogue: Dialogue) -> list[float]:
        """Return by how much each agent turn moved the mood, the true local reward; -1.2 to 1.2, -.6 for taking leave.

        The sum, with -.6 for each turn that was missed, is what the survey measures with noise.

        Raises:
            ValueError: The partner was a language model, whose mood nobody knows.
        """
        if "felt" in dialogue.state:
            raise ValueError("the true moves are known of the scripted partner alone, not of a language model")
        return list(dialogue.state["moves"])

    def value(self, dialogue: Dialogue) -> float:
        """Return the survey to be expected if the oracle speaks from here on, 0 when it is over.

        Exact but for two things: the sum of the moves is taken as normal, and nobody leaves an oracle.
        """
        if dialogue.stop_reason:
            return 0.0
        solved, place = self.plan(dialogue)
        left = self.max_turns - dialogue.turn
        total = sum(dialogue.state["moves"]) + solved.mean[left][place]
        variance = solved.variance[left][place] + (self.survey_noise * rules.MOVE_SD) ** 2
        return rules.expected_survey(total, variance, self.max_turns)

    def plan(self, dialogue: Dialogue) -> tuple[rules.Plan, int]:
        """Return the oracle's plan, and the place of the dialogue's state in it."""
        order, state = dialogue.scenario.hidden["order"], dialogue.state
        recent = [order.index(topic) if topic else rules.NONE for topic in state["recent"]]
        place = rules.state_index(
            _NEED_INDEX[state["need"]], _MOVE_INDEX[state["last"]], order.index(state["matter"]), recent
        )
        return rules.plan(self.max_turns), place

    def oracle(self, dialogue: Dialogue) -> str:
        """Say the best move on the best topic in the right energy, seeing the hidden state but no chance to come."""
        return self.policies()["oracle"](dialogue)

    def self_play(self, draws: Draws) -> Dialogue:
        """Return a finished dialogue of an agent of mixed quality, to train language models on."""
        from dialog_gym.envs.chat_policies import self_play

        return self_play(self, draws)

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        """Return scripted policies, by name: what the agent says."""
        from dialog_gym.envs.chat_policies import spoken

        return spoken(self)


def _drawn(chances: Sequence[float], uniform: float) -> int:
    """Return an index with probability ``chances``, which sum to 1."""
    for index, chance in enumerate(chances):
        uniform -= chance
        if uniform < 0:
            return index
    return max(range(len(chances)), key=chances.__getitem__)


def _cue(need: int, bits: int) -> str:
    """Return the need that words show: the true one, or another with probability ``WRONG_NEED``."""
    wrong = (bits & 0xFFFF) < WRONG_NEED * 0x10000
    return NEED_NAMES[(need + 1 + (bits >> 16 & 0xFF) % 3) % 4 if wrong else need]


def _shown(affect: float) -> str:
    return "good" if affect > SHOWS_GOOD else "bad" if affect < SHOWS_BAD else "flat"


def _persona(situation: Situation, order: Sequence[str]) -> str:
    felt = f" You feel {situation.emotion}." if situation.emotion else ""
    tastes = f"You like {order[0]}, {order[1]} and {order[2]}; {order[4]} and {order[5]} bore you."
    return (
        f"You are the speaker. This happened to you: {situation.text}{felt} {tastes} Answer as this person would: "
        "show when a reply helps you and when it does not."
    )


if __name__ == "__main__":
    from dialog_gym.envs.chat_policies import main

    main()
