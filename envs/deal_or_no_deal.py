"""DealOrNoDeal-v0: divide books, hats and balls with somebody who values them differently (Lewis et al. 2017).

Observation: the transcript; before it the items and what one of each is worth to the agent. The partner's values are
hidden.
Action: an utterance, free talk or a selection. Understood is who would get what ("you can have 2 hats if i get the
rest"), agreement, refusal and the question what the other wants; see ``division_language``. A selection is
``<select> book=1 hat=0 ball=2`` (what the speaker takes; "i choose 1 book and 2 balls" does as well) or ``<select>
none``.
The end: one side ends the talk by its selection, then the other selects, neither seeing the other's choice. Where the
partner ends the talk it says ``<selection>``, and the agent's next turn is its selection (anything else is none). If
the selections fit, both get what they chose ("agreed"); if not ("disagreed"), or if a side chose none or left ("no
deal"), nobody gets anything. Truncates after ``max_turns``, and nobody gets anything.
Reward: the agent's points at the end, 0 to 10, else 0; ``objective="joint"``: those of both, 0 to 20. Terms: points,
partner_points, joint, agreed, pareto (whether the deal is Pareto-optimal). Success: a deal. No cost.

The scripted partner (``division_partner``): it demands a share of what everything is worth to it, .85 to .95 at first,
and never less than a hidden floor of .35 to .65. Its demand falls in six steps by chance: that of a *steady* partner
with every proposal, that of a *mirror* with proposals that are better for it than all before. It accepts what is worth
its demand, else offers the deal that leaves it its demand and fits best what the agent asked for; the kind shows in
phrases, of which a fifth are wrong. It answers what it wants when it is asked. Its patience is 5 to 8 turns, of which
one that leaves it less than a fifth takes two; then it leaves. It selects what was agreed, else its own last offer.

``partner=SPEC`` lets a language model be the partner, asked for its selection in its turn; the agent's is not shown
(``notation="plain"`` gives a large chat model the rules in full sentences).
``python -m dialog_gym.envs.deal_or_no_deal`` prints the table of scripted policies. Points of the
agent on 512 held-out episodes (seeds from 1,000,000; 95% intervals of .2 to .3): ``oracle``, which sees the partner's
values and mind but not its luck, 6.99; who infers them and sees nothing hidden 5.88; the best constant demand 4.16;
random 2.68. People have 7.5 where they agree, and 5.8 in all.

``choices="tracked"`` is for language models that talk better than they choose: whatever such a model writes to end the
talk, or after the other ended it, is replaced by its part of the deal that our parser found in the talk: what was
agreed, or the other's offer on which the talk was ended, unless it was refused; else ``<select> none``. (Lewis et al.
also choose by a separate classifier, but a trained one.) People and scripted policies are taken at their word. Where
people agreed, that is their deal in 88% of the talks of the corpus (train and validation alike); where they chose no
deal, it says so in 80% (train; 87% in validation).

Scenarios: embedded, by the published rules: 1 to 4 of each item, 5 to 7 items, everything worth 10 to either side,
every item worth something to somebody and some item worth something to both (5,295 scenarios; the published ones are
among them). ``scenarios=FILE`` plays published ones: the corpus (``train.txt``, ``.gz``) or the list for self-play
(``selfplay.txt``: counts and values of one side a line, both sides in turn), each scenario once.
``split``: "train" and "heldout" are 70 and 30 percent of the scenarios by a hash; who speaks first does not matter.

History: v0, the first version.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from dialog_gym.data.corpora.deal_or_no_deal import ITEMS, SELECTION, paired, scenario
from dialog_gym.data.corpora.files import Source
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.envs import division_speech as speech
from dialog_gym.envs.division import Share
from dialog_gym.envs.division_language import Act, Lexicon, Reader
from dialog_gym.envs.division_partner import Mind, Temper, mind_of, written
from dialog_gym.envs.division_task import ACTS, Division, speaker_of
from dialog_gym.task import Reply

TOTAL = 10  # what everything is worth to either side
MOST_OF_ONE = 4
LEAST, MOST = 5, 7  # items in all
Deal = tuple[Share, Share, Share]
"""Counts, and the values of the first and the second side."""

LEXICON = Lexicon(
    ITEMS,
    {
        **{
            word: (i, False)
            for i, words in enumerate(("book", "hat", "ball basketball bball"))
            for word in words.split()
        },
        **{
            word: (i, True) for i, words in enumerate(("books", "hats", "balls basketballs")) for word in words.split()
        },
    },
)


class DealOrNoDeal(Division):
    """Books, hats and balls; see the module for the rules.

    Args:
        side: The agent's role, ``"first"`` or ``"second"``. The first speaks first.
        scenarios: A published file, or None for the embedded scenarios.
        split: ``"all"``, ``"train"`` or ``"heldout"``.
        objective: What is rewarded: the agent's ``"points"`` or the ``"joint"`` points of both.
        max_turns: Agent turns, its selection included, after which the dialogue is truncated.
        notation: What language models read: ``"corpus"``, short and in lower case as models read it that were trained
            on the corpus, or ``"plain"``, the rules and the talk as people read them (for large chat models).
        choices: What a language model chooses when it speaks for a side: ``"said"``, what it says, or ``"tracked"``,
            what was agreed; see the module.
    """

    world = "divide"
    tag = "divide"
    reader = Reader(LEXICON)
    fallback = 0
    most = TOTAL
    temper = Temper(starts=(0.85, 0.9, 0.95), floors=(0.35, 0.45, 0.55, 0.65))
    render_hint = "end by '<select> book=1 hat=0 ball=2', what you take, or '<select> none'"
    attribute_names = (*(f"act:{act}" for act in ACTS), *(f"share_{item}" for item in ITEMS))
    fact_names = (
        *(f"count_{item}" for item in ITEMS),
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
        max_turns: int = 10,
        notation: str = "corpus",
        choices: str = "said",
    ) -> None:
        """Read the scenarios, if a file is given; see the class for the arguments."""
        super().__init__(side, objective, max_turns, notation, choices)
        self.pool = self._in_split(generated() if scenarios is None else read_scenarios(scenarios), split)

    def system_line(self, dialogue: Dialogue, role: str) -> str:
        """Return counts and own values: ``divide : book 1 value 4 , hat 4 value 1 , ball 1 value 2 .``"""  # noqa: D415
        hidden = dialogue.scenario.hidden
        told = zip(ITEMS, hidden["counts"], hidden["values"][role], strict=True)
        return f"{self.tag} : {' , '.join(f'{item} {count} value {value}' for item, count, value in told)} ."

    def _written(self, dialogue: Dialogue, speaker: str, text: str, own: bool) -> str:
        """Return a turn as a model reads it; a selection of the other is ``<selection>``, the own one is seen."""
        ended = text.strip() == SELECTION
        if not ended and self.act(dialogue, text).select is None:
            return self._talked(text)
        if not own:
            return SELECTION
        if ended:  # the partner's own: the agent's is never unseen
            chosen = (dialogue.state.get("selections") or {}).get(speaker) if speaker == dialogue.roles[1] else None
            return SELECTION if chosen is None else speech.selection(ITEMS, chosen)
        return self._canonical(dialogue, text)

    def _tracked(self, dialogue: Dialogue, said: str) -> str:
        """Return what is said; once the talk is over, by this or by the other's choice, what was agreed."""
        ended = bool(dialogue.turns) and self._ends(dialogue, dialogue.turns[-1].text)
        if not ended and not self._ends(dialogue, said):
            return said
        ender = dialogue.turns[-1].role if ended else speaker_of(dialogue)
        return speech.selection(ITEMS, self._standing(dialogue, ender))

    def _ends(self, dialogue: Dialogue, text: str) -> bool:
        return text.strip() == SELECTION or self.act(dialogue, text).select is not None

    # --- the partner ---------------------------------------------------------------------------

    def _reply(self, dialogue: Dialogue) -> Reply:
        act, mind = self.act(dialogue, dialogue.turns[-1].text), mind_of(dialogue.state)
        if dialogue.state["closing"]:
            return self._revealed(dialogue, act)
        if act.select is None:
            return self._talk(dialogue, act)
        choice = self._choice(dialogue, mind)
        return self._settled(dialogue, act.select, choice, speech.selection(ITEMS, choice))

    def _choice(self, dialogue: Dialogue, mind: Mind) -> Share:
        """Return what the scripted partner takes: its part of what was agreed, else of its last offer, else none."""
        deal = mind.agreed or mind.offer
        return () if deal is None else self._sides(dialogue, deal)[1]

    def _close(self, dialogue: Dialogue, mind: Mind) -> Reply:
        choice = self._choice(dialogue, mind)
        return self._sealed(dialogue, choice, {**dialogue.state, **written(mind)})

    def _sealed(self, dialogue: Dialogue, choice: Share, state: dict[str, object]) -> Reply:
        """End the talk by a choice that the agent does not see."""
        other = dialogue.roles[1]
        return Reply(
            SELECTION, {**state, "closing": other, "selections": {**dialogue.state["selections"], other: list(choice)}}
        )

    def _revealed(self, dialogue: Dialogue, act: Act) -> Reply:
        """Settle it by the agent's selection, which answers that of its partner."""
        return self._settled(dialogue, act.select, tuple(dialogue.state["selections"][dialogue.roles[1]]))

    # --- a language model as the partner -------------------------------------------------------

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Settle it if the partner has ended the talk; otherwise the partner has a word, or selects as well."""
        if dialogue.state["closing"]:
            return self._revealed(dialogue, self.act(dialogue, dialogue.turns[-1].text))
        return None

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Settle it by the partner's selection if the agent has selected; seal the partner's if it is the first.

        A partner that is asked for its selection and says something else has chosen none.
        """
        mine, theirs = (self.act(dialogue, said).select for said in (dialogue.turns[-1].text, text))
        if mine is not None:
            return self._settled(dialogue, mine, theirs, text)
        return Reply(text) if theirs is None else self._sealed(dialogue, theirs, dict(dialogue.state))


# --- scenarios ---------------------------------------------------------------------------------


def allowed(counts: Share, first: Share, second: Share) -> bool:
    """Return whether a scenario keeps the published rules."""
    worth = [sum(c * v for c, v in zip(counts, values, strict=True)) for values in (first, second)]
    pairs = list(zip(first, second, strict=True))
    return (
        LEAST <= sum(counts) <= MOST
        and worth == [TOTAL, TOTAL]
        and all(a or b for a, b in pairs)
        and any(a and b for a, b in pairs)
    )


@lru_cache(maxsize=1)
def generated() -> tuple[Scenario, ...]:
    """Return every scenario that keeps the published rules, in a fixed order."""
    return tuple(_scenario(*deal) for deal in _by_the_rules())


def _by_the_rules() -> Iterator[Deal]:
    for counts in itertools.product(range(1, MOST_OF_ONE + 1), repeat=len(ITEMS)):
        if LEAST <= sum(counts) <= MOST:
            valued = [
                v for v in itertools.product(*(range(TOTAL // c + 1) for c in counts)) if _worth(counts, v) == TOTAL
            ]
            yield from ((counts, a, b) for a in valued for b in valued if allowed(counts, a, b))


def _worth(counts: Share, values: Share) -> int:
    return sum(c * v for c, v in zip(counts, values, strict=True))


def _scenario(counts: Share, first: Share, second: Share) -> Scenario:
    sides = sorted((first, second))  # the key is that of both orders, so that they are in one split
    key = " ".join("".join(map(str, numbers)) for numbers in (counts, *sides))
    return scenario(counts, {"first": first, "second": second}, key=key)


def read_scenarios(path: str | Path) -> tuple[Scenario, ...]:
    """Return the scenarios of a published file, each once.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another format; the message names file, line and what was expected.
    """
    source = Source(path, expected="Deal or No Deal's corpus, or lines 'count value count value count value' in pairs")
    first = next((text for _, text in source.lines("*.txt", "*")), "")
    source = Source(path, expected=source.expected)
    found = _corpus_deals(source) if first.startswith("<input>") else _listed_deals(source)
    deals = dict.fromkeys(found)
    if not deals:
        raise ValueError(f"{path}: expected {source.expected}, got no scenario")
    return tuple(_scenario(*deal) for deal in deals)


def _corpus_deals(source: Source) -> Iterable[Deal]:
    for _, line, _ in paired(source):
        begins = line if line.turns[0][0] else line.mirrored
        yield begins.counts, begins.own, begins.other


def _listed_deals(source: Source) -> Iterator[Deal]:
    waiting: tuple[Share, Share] | None = None
    for number, text in source.lines("*.txt", "*"):
        with source.record(number):
            numbers = tuple(int(word) for word in text.split())
            counts, values = numbers[::2], numbers[1::2]
            if len(numbers) != 2 * len(ITEMS) or (waiting is not None and counts != waiting[0]):
                raise ValueError(f"got {text!r:.60} after {waiting}")
            if waiting is None:
                waiting = counts, values
            else:
                yield counts, waiting[1], values
                waiting = None


if __name__ == "__main__":
    from dialog_gym.envs.division_policies import main

    main(DealOrNoDeal)
