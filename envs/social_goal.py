"""SocialGoal-v0: two characters with private goals, scored in seven dimensions (Sotopia).

Two people of a scenario talk; either may be the agent (``side``). The first speaks first, so an agent that is the
second answers an opening, and each acts on its own turns.

Observation: the transcript, before it the situation, the agent's own character, goal and secret, and what it knows of
the other by their relationship: 0 strangers: nothing; 1 by name: the name; 2 acquaintances: what is public;
3 friends, 4 a couple, 5 family: all but the secret. The other's goal is never shown.
Action: an utterance. What counts in it: the act (ask for what one wants, offer something small or big in return, give
a reason, question the other, compliment it, apologise, accept half, reveal the own secret, leave), its manner (warm,
plain, rude) and, of a reason, question or compliment, its topic (work, family, health). One utterance is one act.
Reward: 0 before the end, then ``objective``: ``"overall"``, the mean of the seven dimensions, in [-30/7, 40/7], or one
of them. believability, knowledge, goal: 0 to 10; relationship, financial_and_material_benefits: -5 to 5; secret,
social_rules: -10 to 0. All of them are reward terms.
Terminates: ``"agreed"`` (the other agrees to all or, accepted, to half of what was asked) or ``"left"`` (a stage
direction or a farewell as the last clause; that a word of parting occurs is not enough). Truncates after ``max_turns``
agent turns; both roles together speak at most twice as often. Success: all that was asked is agreed to.

The partner has a hidden type that tells what moves it: *warm*: compliments, warmly said; *reasons*: reasons, plainly;
*trade*: offers, plainly; *slow*: questions about itself, warmly. The right act in the right manner moves it one step
(a big offer two) with probability .9; in the other civil manner .36; other acts seldom or never, and some
are held against the speaker. The type is told to those who know the partner well; a rumour (right in 7 of 10) to
acquaintances; to all others it shows in the partner's phrases, of which a fifth belong to another type, and in
what moves it. It agrees when asked after 3 or 4 steps (the first is given among friends), one step earlier it proposes
half, and before it takes a request amiss. It tells more of itself the further it has been moved. Patience: 6 to 8
turns, of which a repetition, a premature request, a needless or an unwelcome act cost two; then it leaves (so do
four in ten of the partners of a mixed agent).

The judge is a rule. believability: 3 at first, +2 for a new act that moves, -1 for an unwelcome one, -2 for what
was said before or cannot be understood. relationship: steps less offences. knowledge: 2, 6,
10 for one, two, three things learned. secret: -10 if the own one is said. social_rules: -4 a rude turn. benefits: what
the scenario's wish is worth, less 1 or 3 for a small or big offer, once agreed. goal: 10 for all, 5 for half.
Optimum: ``oracle`` earns 4.11 (it sees the partner's mind, but not its luck); who infers the type and sees nothing
hidden 3.66; the best plan that does not look at the partner 1.55; random acts -1.01 (512 held-out episodes each,
seeds from 1,000,000; 95% intervals of .06 to .15). ``python -m dialog_gym.envs.social_goal`` prints the table.

``scenarios=FOLDER`` plays Sotopia's ``envs.json``, ``agents.json`` and ``env_agent_combos.json`` (Zhou et al. 2023,
arXiv:2310.11667): 450 combinations. There ``partner=SPEC`` and ``judge=SPEC, rubric="sotopia"`` make the environment
of the paper. Without a model the scripted partner above plays with a type drawn by seed; it takes any request for the
goal, and the rule judges by it. ``social_goal_sotopia.read_episodes`` reads published episodes with their scores.
``split``: ``"train"`` and ``"heldout"`` are 70 and 30 percent of the pairs of wish and character (of Sotopia's
scenarios), by a hash.

History: v0, the first version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dialog_gym.data.corpora.sotopia import DIMENSIONS, RANGES
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.envs import social_goal_language as language
from dialog_gym.envs import social_goal_phrases as phrases
from dialog_gym.envs import social_goal_rules as rules
from dialog_gym.envs.social_goal_language import Names, understand
from dialog_gym.envs.social_goal_people import (
    CHARACTERS,
    SITUATIONS,
    Character,
    Situation,
    names_of,
    own_brief,
    partner_goal,
    taste,
    view_of,
)
from dialog_gym.envs.social_goal_rules import ACTS, KINDS, MANNERS, TOPICS, Act, Heard, Mind
from dialog_gym.envs.social_goal_sotopia import RELATIONSHIPS, Combination, read_combinations
from dialog_gym.rewards.base import Reward, Scored
from dialog_gym.splits import in_split
from dialog_gym.task import Reply
from dialog_gym.world import World

ROLES = ("first", "second")
OBJECTIVES = ("overall", *DIMENSIONS)
RELATIONSHIP_DRAWS = (0, 0, 0, 1, 2, 2, 3, 3, 4, 5)  # of generated scenarios, all equally likely
WRONG_CUE = 0.2  # share of the partner's cues that belong to another type
WRONG_RUMOUR = 0.3  # the same for what acquaintances have heard
HINT = 0.75  # probability that a partner that is ready, or in a hurry, says so instead of giving a cue
HURRIED = 2  # patience from which on it is in a hurry


class SocialScores(Reward):
    """The seven scores of a dialogue that is over, and their mean; 0 before the end.

    Attributes:
        objective: What is earned: ``"overall"`` or one of the dimensions. The terms are all of them.
    """

    def __init__(self, objective: str = "overall") -> None:
        """Reward ``objective``."""
        self.objective = objective
        self.name = objective
        low, high = (sum(ends) / 7 for ends in zip(*RANGES.values(), strict=True))
        if objective != "overall":
            low, high = RANGES[objective]
        self.low, self.high = min(low, 0.0), max(high, 0.0)

    @property
    def terms(self) -> tuple[str, ...]:
        """The mean and the seven dimensions."""
        return OBJECTIVES

    def __call__(self, dialogues: Sequence[Dialogue]) -> npt.NDArray[np.float32]:
        """Return what is earned."""
        return self.scored(dialogues).scores

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return what is earned, with all dimensions."""
        table = np.zeros((len(OBJECTIVES), len(dialogues)), np.float32)
        for column, dialogue in enumerate(dialogues):
            if dialogue.stop_reason:
                scores = rules.scores(mind_of(dialogue))
                table[:, column] = (sum(scores) / 7, *scores)
        terms = dict(zip(OBJECTIVES, table, strict=True))
        return Scored(terms[self.objective], terms)


class SocialGoal(World):
    """A social encounter; see the module for the rules.

    Args:
        side: The agent's role, ``"first"`` or ``"second"``. The first speaks first.
        scenarios: A folder with Sotopia's three files, or None for the embedded characters and situations.
        objective: What is rewarded at the end: ``"overall"`` or one dimension.
        split: ``"all"``, ``"train"`` or ``"heldout"``.
        max_turns: Agent turns after which the dialogue is truncated; 10 are Sotopia's 20 turns of both.

    Attributes:
        combinations: Of Sotopia's scenarios and characters, those that are played; empty in the embedded world.
    """

    world = "social"
    attribute_names = (
        *(f"act:{act}" for act in ACTS),
        *(f"manner:{manner}" for manner in MANNERS),
        *(f"topic:{topic}" for topic in ("none", *TOPICS)),
        *(f"size:{size}" for size in ("none", "small", "big")),
    )
    fact_names = (
        *(f"chance_{kind}" for kind in KINDS),
        "moved",
        "chance_ready",
        "chance_nearly",
        "patience",
        "told",
        "compliments",
        "reasons",
        "questions",
        "offer",
        "half",
    )
    model_tokens = language.TOKENS

    def __init__(
        self,
        side: str = "first",
        scenarios: str | Path | None = None,
        objective: str = "overall",
        split: str = "all",
        max_turns: int = 10,
    ) -> None:
        """Read the scenarios, if a folder is given; see the class for the arguments."""
        for name, value, known in (("side", side, ROLES), ("objective", objective, OBJECTIVES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {max_turns}")
        self.roles = ("first", "second") if side == "first" else ("second", "first")
        self.max_turns = max_turns
        self.reward = SocialScores(objective)
        self.combinations: tuple[Combination, ...] = ()
        self._pool: tuple[tuple[Situation, Character], ...] = ()
        if scenarios is None:
            pairs = ((s, c) for s in SITUATIONS for c in CHARACTERS)
            self._pool = tuple(pair for pair in pairs if in_split(f"{pair[0].key}/{side}/{pair[1].name}", split))
        else:
            found = read_combinations(scenarios)
            self.combinations = tuple(one for one in found if in_split(one.environment, split))
            if not self.combinations:
                raise ValueError(f"{scenarios}: expected scenarios in split {split!r}, got none; use split 'all'")

    # --- scenarios -----------------------------------------------------------------------------

    def scenario(self, draws: Draws) -> Scenario:
        """Draw a situation, two characters, their relationship and the partner's type; or one of the combinations."""
        if self.combinations:
            return self.scenario_of(draws.choice(self.combinations), draws)
        situation, agent = draws.choice(self._pool)
        partner = draws.choice(CHARACTERS)
        while partner == agent:
            partner = draws.choice(CHARACTERS)
        relationship = draws.choice(RELATIONSHIP_DRAWS)
        hidden = _drawn(draws, relationship)
        wish, other = (situation.wishes[ROLES.index(role)] for role in self.roles)
        hidden |= {"names": list(names_of(wish, agent.secret)), "gain": wish.gain, "shown": ""}
        kind = hidden["kind"]
        if relationship == 2 and draws.uniform() < WRONG_RUMOUR:
            kind = draws.choice([other_kind for other_kind in KINDS if other_kind != kind])
        if relationship >= 2:
            hidden["shown"] = kind
        goal = f"Your goal: get the other to {wish.want} (you mean yourself by 'me' and 'my')."
        private = {
            self.roles[0]: " ".join([own_brief(agent), goal, view_of(partner, relationship, kind)]),
            self.roles[1]: " ".join([own_brief(partner), partner_goal(hidden["kind"], other.want)]),
        }
        public = f"{situation.public} They are {RELATIONSHIPS[relationship]}."
        return Scenario(public, private, {"key": f"{situation.key}/{agent.name}", **hidden})

    def scenario_of(self, combination: Combination, draws: Draws) -> Scenario:
        """Return the scenario of one of Sotopia's combinations; ``draws`` settle the scripted partner."""
        hidden = _drawn(draws, combination.relationship)
        secret = language.plain(combination.secrets[ROLES.index(self.roles[0])])
        names = Names("do this for me", "help you in return", "pay you for it", secret, language.ANYTHING)
        hidden |= {"names": list(names), "gain": 0, "shown": "", "real": True}
        private = dict(zip(ROLES, combination.private, strict=True))
        return Scenario(combination.public, private, {"key": combination.key, **hidden})

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Set the partner's first mind; a partner who is the first speaks first."""
        hidden = dialogue.scenario.hidden
        mind = Mind(hidden["kind"], hidden["need"], hidden["gain"], hidden["will"], hidden["patience"])
        opened = Dialogue(dialogue.scenario, self.roles, dialogue.seed, (), mind._asdict())
        if self.roles[0] == "first":
            return opened
        draws = dialogue.draws("opening")
        return opened.said("first", language.greet(_hint(mind, draws), draws.bits()))

    # --- the partner ---------------------------------------------------------------------------

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest agent turn of each dialogue."""
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Reply:
        act = self.newest(dialogue)
        draws = dialogue.draws("partner")
        (*others, heard), chance = rules.hear(mind_of(dialogue), act), draws.uniform()
        for other in others:
            if chance < other.chance:
                heard = other
                break
            chance -= other.chance
        state = heard.mind._asdict()
        if not heard.stop and self._silent(dialogue):
            return Reply("", state, "max_turns")
        return Reply(_words(heard, act, draws), state, heard.stop, heard.mind.agreed == 2)

    def _silent(self, dialogue: Dialogue) -> bool:
        """Return whether the partner, having opened, has spoken as often as the agent may."""
        return self.roles[0] == "second" and dialogue.turn >= self.max_turns

    # --- a language model as the partner -------------------------------------------------------

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Let the agent leave, or close the talk where it accepts half or has had its last turn."""
        mind, act = self._conduct(dialogue)
        if act.kind == "leave" or mind.agreed:
            return Reply("", mind._asdict(), "left" if act.kind == "leave" else "agreed")
        return Reply("", mind._asdict(), "max_turns") if self._silent(dialogue) else None

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Close the talk if the partner agrees to a request or leaves; note what it tells of itself.

        The agent's conduct is judged by the rules; what moves a model, nobody knows, so its will and patience rest.
        """
        mind, act = self._conduct(dialogue)
        stop = "left" if language.leaves(text) else ""
        if act.kind == "ask" and (answer := language.consent(text)):
            mind = mind._replace(half=True) if answer == "half" else mind._replace(agreed=2)
            stop = "agreed" if mind.agreed else stop
        elif act.kind == "question" and act.topic and language.tells(text, act.topic):
            mind = rules.told(mind, act.topic)
        return Reply(text, mind._asdict(), stop, mind.agreed == 2)

    def _conduct(self, dialogue: Dialogue) -> tuple[Mind, Act]:
        """Return the mind after the agent's newest turn as far as its conduct alone decides it, and the act."""
        mind, act = mind_of(dialogue), self.newest(dialogue)
        after = rules.hear(mind, act)[-1].mind  # the last outcome is the one without luck
        return after._replace(
            will=mind.will,
            patience=mind.patience,
            refused=-1,
            half=mind.half,
            told=mind.told,
            told_topics=mind.told_topics,
            agreed=after.agreed if act.kind == "accept" else 0,
        ), act

    # --- notation ------------------------------------------------------------------------------

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat for a language model: plain text for Sotopia's scenarios, else lower case with tokens.

        ``<want>``, ``<small>``, ``<big>`` and ``<secret>`` stand for the scenario's phrases, whatever they are.
        """
        hidden = dialogue.scenario.hidden
        if "real" in hidden:
            return dialogue.messages(role)
        names = Names.of(hidden)
        brief = f"social {_RELATION_WORDS[hidden['relationship']]}."
        if role != dialogue.roles[0]:
            brief = f"{brief} you decide. you like {taste(hidden['kind'])}."
        elif hidden["shown"]:
            brief = f"{brief} the other {phrases.TRAITS[hidden['shown']]}."
        chat = [{"role": "system", "content": brief}]
        for speaker, text in dialogue.turns:
            who = "assistant" if speaker == role else "user"
            chat.append({"role": who, "content": language.to_tokens(text, names)})
        return chat

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what a language model wrote with the scenario's phrases in place of the tokens."""
        return language.from_tokens(text, Names.of(dialogue.scenario.hidden))

    def attributes(self, dialogue: Dialogue, role: str, text: str) -> npt.NDArray[np.float32]:
        """Return what ``text`` (in either notation) says as the numbers ``attribute_names`` names."""
        names = Names.of(dialogue.scenario.hidden)
        act = understand(language.from_tokens(text, names), names)
        numbers = np.zeros(len(self.attribute_names), np.float32)
        topic = TOPICS.index(act.topic) + 1 if act.topic else 0
        numbers[[ACTS.index(act.kind), 10 + MANNERS.index(act.manner), 13 + topic, 17 + act.size]] = 1
        return numbers

    def facts(self, dialogue: Dialogue) -> npt.NDArray[np.float32]:
        """Return what an attentive agent knows before it speaks, as numbers; nothing hidden is among them."""
        from dialog_gym.envs.social_goal_policies import facts

        return facts(dialogue)

    def newest(self, dialogue: Dialogue) -> Act:
        """Return what is understood of the newest turn."""
        return understand(dialogue.turns[-1].text, Names.of(dialogue.scenario.hidden))

    def understood(self, dialogue: Dialogue) -> bool:
        """Return whether the newest agent turn does anything that the partner understands."""
        texts = dialogue.texts(dialogue.roles[0])
        return bool(texts) and understand(texts[-1], Names.of(dialogue.scenario.hidden)).kind != "none"

    # --- policies ------------------------------------------------------------------------------

    def oracle(self, dialogue: Dialogue) -> str:
        """Say the best thing in the best manner; sees the hidden state."""
        from dialog_gym.envs.social_goal_policies import oracle

        return oracle(self, dialogue)

    def value(self, dialogue: Dialogue) -> float:
        """Return the expected reward to come under the oracle, by dynamic programming; 0 when it is over."""
        from dialog_gym.envs.social_goal_policies import value

        return value(self, dialogue)

    def self_play(self, draws: Draws) -> Dialogue:
        """Return a finished dialogue of an agent of mixed quality, to train language models on."""
        from dialog_gym.envs.social_goal_policies import self_play

        return self_play(self, draws)

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        """Return scripted policies to compare with, by name."""
        from dialog_gym.envs.social_goal_policies import policies

        return policies(self)


def mind_of(dialogue: Dialogue) -> Mind:
    """Return the partner's mind.

    Raises:
        ValueError: The dialogue is not one of this environment.
    """
    try:
        return Mind(**dialogue.state)
    except TypeError:
        raise ValueError(
            f"expected a dialogue of SocialGoal, whose state is the partner's mind, got {dict(dialogue.state)!r:.80}; "
            "episodes read from Sotopia's files come with their scores, and the rules cannot score them"
        ) from None


def cue_chances(mind: Mind) -> dict[str, float]:
    """Return the probability of every hint the partner may add to an answer: a type's cue, "ready" or "hurry"."""
    chances = dict.fromkeys(KINDS, WRONG_CUE / 3)
    chances[mind.kind] = 1 - WRONG_CUE
    news = "ready" if mind.will >= mind.need else "hurry" if mind.patience <= HURRIED else ""
    if news:
        chances = {kind: (1 - HINT) * chance for kind, chance in chances.items()} | {news: HINT}
    return chances


def _hint(mind: Mind, draws: Draws) -> phrases.Phrases:
    """Draw the phrases of which the partner adds one, with the probabilities of ``cue_chances``."""
    if (mind.will >= mind.need or mind.patience <= HURRIED) and draws.uniform() < HINT:
        return phrases.READY if mind.will >= mind.need else phrases.HURRY
    kind, chance = mind.kind, draws.uniform()
    if chance < WRONG_CUE:
        kind = KINDS[(KINDS.index(kind) + 1 + int(chance / WRONG_CUE * 3)) % 4]
    return phrases.CUES[kind]


def _words(heard: Heard, act: Act, draws: Draws) -> str:
    """Put the partner's answer into words."""
    if heard.stop == "left" and heard.reaction != "left":
        return language.answer("parting", "", (), draws.bits())
    hint = () if heard.stop else _hint(heard.mind, draws)
    return language.answer(heard.reaction, act.topic, hint, draws.bits())


def _drawn(draws: Draws, relationship: int) -> dict[str, Any]:
    """Draw what the scripted partner is like."""
    return {
        "relationship": relationship,
        "kind": draws.choice(KINDS),
        "need": draws.integer(3, 5),
        "will": int(relationship >= 3),
        "patience": draws.integer(6, 9),
    }


_RELATION_WORDS = ("strangers", "by name", "acquaintances", "friends", "couple", "family")


if __name__ == "__main__":
    from dialog_gym.envs.social_goal_policies import main

    main()
