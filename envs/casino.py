"""CaSiNo-v0: two campers divide food, water and firewood, three packages each (Chawla et al. 2021, arXiv:2103.15721).

Observation: the transcript; before it the agent's own priorities and why it has them. The partner's are hidden.
Action: an utterance: free talk; a deal that is submitted, ``<select> food=2 water=1 firewood=0`` (what the speaker
takes itself; "i choose 2 food and 1 water" does as well); or an answer to the partner's: ``<accept>``, ``<reject>``,
``<walk>``, plain agreement being ``<accept>``. ``<walk>`` or ``<select> none`` ends the talk at any time.
The end: a submitted deal is accepted ("agreed"), or a side walks away ("no deal"). Truncates after ``max_turns``.
Reward: the agent's points at the end, else 0. A package of the highest priority is worth 5, of the next 4, of the
lowest 3, so all are worth 36; without a deal, however that came, both sides have 5, as in the corpus.
``objective="joint"``: the points of both, 0 to 72. Terms: points, partner_points, joint, agreed, pareto. Success: a
deal. No cost.
A second score, ``satisfaction=FILE``: ``info["signals"]["satisfaction"]`` is what a participant with these points
would say at the end, 1 (extremely dissatisfied) to 5, by a linear model of the points of both sides that is fitted to
the published dialogues of FILE when the environment is made (``casino_satisfaction`` tells how little it explains).

The scripted partner is that of ``division_partner``; see ``DealOrNoDeal-v0``. It accepts a submitted deal that is
worth its demand and rejects any other; once both agree in talk, who agreed last lets the other submit.
``partner=SPEC`` lets a language model be the partner (``notation="plain"``: a large chat model). With
``choices="tracked"`` a deal that a language model submits becomes what our parser found agreed in the talk, or the
other's last offer, if there is any (see ``DealOrNoDeal-v0``); of the people's own submissions it foretells 60%.
``python -m dialog_gym.envs.casino`` prints the table of scripted policies. Points of the agent on 512
held-out episodes (seeds from 1,000,000; 95% intervals of .3 to .6): ``oracle``, which sees the partner's values and
mind but not its luck, 22.3; giving way step by step, whether or not by what the partner wants, 18.9; the best constant
demand 12.5; random 10.1. People have 19.0 where they agree, and 18.6 in all.

Scenarios: embedded, the 36 pairs of priorities in four variants of reasons; ``scenarios=FILE`` plays the published
pairs of participants, the agent being who spoke first or second (``side``). ``split``: "train" and "heldout" are 70
and 30 percent of the scenarios by a hash.

History: v0, the first version.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.corpora.casino import COUNTS, ITEMS, WALK_AWAY_POINTS, WORTH, scenario
from dialog_gym.dialogue import Dialogue, Draws, Json, Scenario
from dialog_gym.envs import division_speech as speech
from dialog_gym.envs.casino_satisfaction import Satisfaction
from dialog_gym.envs.division import Share, rest
from dialog_gym.envs.division_language import Act, Lexicon, Reader, to_tokens
from dialog_gym.envs.division_partner import Mind, Temper, hear, mind_of, written
from dialog_gym.envs.division_phrases import CAMP_REASONS
from dialog_gym.envs.division_task import ACTS, ROLES, Division, pot_of, speaker_of
from dialog_gym.task import Reply

REASON_WORDS = 16  # of a reason that a language model reads
VARIANTS = 4  # of the reasons for one pair of priorities

_NAMES = ("food foods meals meal", "water waters", "firewood firewoods wood woods logs")
LEXICON = Lexicon(ITEMS, {word: (i, True) for i, words in enumerate(_NAMES) for word in words.split()}, mass=True)


class CaSiNo(Division):
    """Packages of food, water and firewood; see the module for the rules.

    Args:
        side: The agent's role, ``"first"`` or ``"second"``. The first speaks first.
        scenarios: A published file, or None for the embedded scenarios.
        split: ``"all"``, ``"train"`` or ``"heldout"``.
        objective: What is rewarded: the agent's ``"points"`` or the ``"joint"`` points of both.
        max_turns: Agent turns, submissions and answers included, after which the dialogue is truncated.
        notation: What language models read: ``"corpus"``, short and in lower case as models read it that were trained
            on the corpus, or ``"plain"``, the rules and the talk as people read them (for large chat models).
        satisfaction: A published file to fit the satisfaction of participants to, for the signal of that name.
        choices: What a language model chooses when it speaks for a side: ``"said"``, what it says, or ``"tracked"``,
            what was agreed; see the module.
    """

    world = "camp"
    tag = "camp"
    reader = Reader(LEXICON)
    fallback = WALK_AWAY_POINTS
    most = sum(WORTH.values()) * COUNTS[0]
    temper = Temper(starts=(0.65, 0.7, 0.75), floors=(0.35, 0.4, 0.45, 0.5))
    render_hint = "end by '<select> food=2 water=1 firewood=0', what you take; answer '<accept>', '<reject>', '<walk>'"
    attribute_names = (*(f"act:{act}" for act in ACTS), *(f"share_{item}" for item in ITEMS))
    fact_names = (
        *(f"value_{item}" for item in ITEMS),
        *(f"wanted_{item}" for item in ITEMS),
        "offered",
        "asked",
        "agreed",
        "mirrors",
        "turn",
    )

    def __init__(
        self,
        side: str = "first",
        scenarios: str | Path | None = None,
        split: str = "all",
        objective: str = "points",
        max_turns: int = 12,
        notation: str = "corpus",
        satisfaction: str | Path | None = None,
        choices: str = "said",
    ) -> None:
        """Read the scenarios and fit the satisfaction, if files are given; see the class for the arguments."""
        super().__init__(side, objective, max_turns, notation, choices)
        self.pool = self._in_split(generated() if scenarios is None else read_scenarios(scenarios), split)
        if satisfaction is not None:
            self.signals = {"satisfaction": Satisfaction.fit(satisfaction).reward(self.fallback)}

    def system_line(self, dialogue: Dialogue, role: str) -> str:
        """Return own values, and why: ``camp : food value 5 , water value 3 , firewood value 4 . food : we ...``."""
        hidden = dialogue.scenario.hidden
        told = " , ".join(f"{item} value {v}" for item, v in zip(ITEMS, hidden["values"][role], strict=True))
        reasons = hidden.get("reasons", {}).get(role, {})
        short = {
            item: " ".join(to_tokens(reason).split()[:REASON_WORDS]) for item, reason in reasons.items() if reason
        }
        why = [f"{item} : {short[item]}" for item in ITEMS if item in short]
        return f"{self.tag} : {' . '.join([told, *why])} ."

    def facts(self, dialogue: Dialogue) -> np.ndarray:
        """Return what an attentive agent knows before it speaks; the counts, always three, are left out."""
        return super().facts(dialogue)[len(ITEMS) :]

    def final_words(self, dialogue: Dialogue, draws: Draws) -> str:
        """Return how a scripted agent ends it: it accepts what its partner submits, and submits what was agreed."""
        if dialogue.turns and dialogue.turns[-1].role == dialogue.roles[1]:
            submitted = self.act(dialogue, dialogue.turns[-1].text).select
            if submitted:
                return "<accept>"
        floor = self.floor(dialogue)
        return speech.selection(ITEMS, floor.offer) if floor.agreed else ""

    def _tracked(self, dialogue: Dialogue, said: str) -> str:
        """Return what is said; a deal that is submitted is what was agreed, if anything was."""
        deal = self._standing(dialogue, speaker_of(dialogue)) if self.act(dialogue, said).select else None
        return said if deal is None else speech.selection(ITEMS, deal)

    # --- the partner ---------------------------------------------------------------------------

    def _first_state(self, dialogue: Dialogue) -> dict[str, Json]:
        return {**super()._first_state(dialogue), "submitted": None}

    def _reply(self, dialogue: Dialogue) -> Reply:
        ended = self._ended_by(dialogue, act := self.act(dialogue, dialogue.turns[-1].text))
        if ended is not None:
            return ended
        going = self._withdrawn(dialogue)
        return self._answer(going, act.select) if act.select is not None else self._talk(going, act)

    def _ended_by(self, dialogue: Dialogue, act: Act) -> Reply | None:
        """Return how the agent's turn ends it: by walking away, or by accepting what its partner submitted."""
        if act.move == "walk" or act.select == ():
            return self._settled(dialogue, None, None)
        submitted = dialogue.state["submitted"]
        if submitted is None:
            return None
        own = rest(COUNTS, submitted)
        if act.select == own or (act.accept and act.share is None):
            return self._settled(dialogue, own, tuple(submitted))
        return None

    def _withdrawn(self, dialogue: Dialogue) -> Dialogue:
        """Return the dialogue in which what the partner submitted is off the table."""
        if dialogue.state["submitted"] is None:
            return dialogue
        state = {**dialogue.state, "submitted": None, "agreed": None, "closing": ""}
        return Dialogue(
            dialogue.scenario, dialogue.roles, dialogue.seed, dialogue.turns, state, "", False, dialogue.turn
        )

    def _answer(self, dialogue: Dialogue, share: Share) -> Reply:
        """Accept or reject a deal that the agent submitted."""
        before = mind_of(dialogue.state)
        after = hear(before, pot_of(dialogue), share, dialogue.draws("partner").uniform())
        if after.agreed == share:
            state = {**dialogue.state, **written(after)}
            return self._settled(dialogue, share, rest(COUNTS, share), "<accept>", state)
        after = after._replace(patience=after.patience - (before.agreed is not None))
        state = {**dialogue.state, **written(after)}
        return Reply("<walk>", state, "no deal") if after.patience <= 0 else Reply("<reject>", state)

    def _close(self, dialogue: Dialogue, mind: Mind) -> Reply:
        share = rest(COUNTS, mind.agreed or ())
        state = {**dialogue.state, **written(mind), "submitted": list(share), "closing": dialogue.roles[1]}
        return Reply(speech.selection(ITEMS, share), state)

    def _parting(self, draws: Draws) -> str:
        return "<walk>"

    # --- a language model as the partner -------------------------------------------------------

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """End it where the agent walks away or accepts what was submitted; otherwise the partner has a word."""
        return self._ended_by(dialogue, self.act(dialogue, dialogue.turns[-1].text))

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """End it where the partner walks away or accepts the deal that the agent has just submitted."""
        mine, act = self.act(dialogue, dialogue.turns[-1].text).select, self.act(dialogue, text)
        if act.move == "walk" or act.select == ():
            return self._settled(dialogue, None, None, text)
        if mine and (act.select == rest(COUNTS, mine) or (act.accept and act.share is None)):
            return self._settled(dialogue, mine, rest(COUNTS, mine), text)
        submitted = None if act.select is None else list(act.select)
        closing = "" if submitted is None else dialogue.roles[1]
        return Reply(text, {**dialogue.state, "submitted": submitted, "closing": closing})


# --- scenarios ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def generated() -> tuple[Scenario, ...]:
    """Return every pair of priorities, in ``VARIANTS`` of reasons, in a fixed order."""
    orders = list(itertools.permutations(WORTH.values()))
    return tuple(
        _scenario(first, second, {"first": _reasons(variant), "second": _reasons(variant + 1)}, str(variant))
        for first in orders
        for second in orders
        for variant in range(VARIANTS)
    )


def _reasons(variant: int) -> dict[str, str]:
    return {item: CAMP_REASONS[item][variant % len(CAMP_REASONS[item])] for item in ITEMS}


def _scenario(
    first: Sequence[int], second: Sequence[int], reasons: Mapping[str, Mapping[str, str]], name: str
) -> Scenario:
    values = {"first": first, "second": second}
    sides = sorted("".join(map(str, own)) for own in values.values())  # both orders are in one split
    return scenario(values, reasons, key=" ".join([*sides, name]))


def read_scenarios(path: str | Path) -> tuple[Scenario, ...]:
    """Return the scenarios of a published file, one per dialogue.

    Raises:
        FileNotFoundError: There is no such file.
        CorpusError: It is damaged or of another format.
    """
    found = []
    for episode in read_corpus("casino", path):
        hidden = episode.dialogue.scenario.hidden
        first, second = (hidden["values"][role] for role in ROLES)
        found.append(_scenario(first, second, hidden["reasons"], str(hidden["id"])))
    return tuple(found)


if __name__ == "__main__":
    from dialog_gym.envs.division_policies import main

    main(CaSiNo)
