"""Inform and success of what people said in MultiWOZ, and of what is worse on purpose.

Three tables, all of the validation split of MultiWOZ 2.1 with the states, bookings and goals of the corpus:

* *gold*: the clerks' own responses, by each protocol and each way of reading (``dialog_gym.rewards.multiwoz``), in all
  and by domain. Nekvinda and Dusek (2021) publish 93.7 and 90.9 for the test split of MultiWOZ 2.2, read by its spans.
* *why*: what kept the others from success under the published protocol.
* *floors*: the same responses made worse; a metric that does not fall cannot be trusted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.data.corpora import read_corpus
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.rewards.multiwoz import (
    Answer,
    Protocol,
    Rates,
    Reading,
    Verdict,
    Wish,
    answers_of,
    judge,
    load_venues,
    rates,
    read_goal,
)
from dialog_gym.rewards.multiwoz_db import Venues, is_any, key
from dialog_gym.rewards.multiwoz_text import SLOTS, Finder, Mention, annotated

PUBLISHED = (93.7, 90.9)  # of the test split of 2.2, Nekvinda and Dusek (2021), table of results, row "Corpus"
EVERYTHING = "[name] [trainid] [phone] [address] [postcode] [reference]"

Responses = list[list[str]]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        data: Folder with ``multiwoz/2.1``, ``multiwoz/db`` and ``camrest``.
        seed: Of what is made worse at random.
        json: Print JSON.
    """

    data: Path = Path("../shared/data")
    seed: int = 0
    json: bool = False


def measure(settings: Settings) -> dict[str, Any]:
    """Return the three tables, with the time of reading and judging."""
    start = time.perf_counter()
    folder = settings.data / "multiwoz"
    dialogues = [row.dialogue for row in read_corpus("multiwoz21", folder / "2.1", split="validation")]
    venues = load_venues(folder / "db")
    read = time.perf_counter() - start
    bench = Bench(dialogues, venues, settings.seed)
    gold = bench.gold()
    single = [r.dialogue for r in read_corpus("multiwoz21", folder / "2.1/restaurants_single_domain.json.gz")]
    gold["442 single-domain restaurants, published, spans"] = Bench(single, venues, 0).rated("published", _spans)
    camrest = [r.dialogue for r in read_corpus("camrest", settings.data / "camrest/data.zip")]
    table = load_venues(settings.data / "camrest/CamRestDB.json")
    for protocol in ("published", "grounded"):
        own = Bench(camrest, table, settings.seed)
        gold[f"CamRest676, {protocol}, text"] = own.rated(protocol, own.text)
    return {
        "gold": {name: asdict(rate) for name, rate in gold.items()},
        "why": bench.why(),
        "floors": {name: [asdict(rate) for rate in pair] for name, pair in bench.floors().items()},
        "dialogues": len(dialogues),
        "turns": sum(dialogue.turn for dialogue in dialogues),
        "seconds": {"reading": read, "in all": time.perf_counter() - start},
    }


class Bench:
    """A set of dialogues of people, to be judged as they are or with other responses."""

    def __init__(self, dialogues: Sequence[Dialogue], venues: Venues, seed: int) -> None:
        """Take the dialogues and what they talk about."""
        self.dialogues, self.venues, self.finder, self.seed = dialogues, venues, Finder(venues), seed
        self.goals = [read_goal(dialogue.scenario.hidden["goal"]) for dialogue in dialogues]
        self.said = [dialogue.texts(dialogue.roles[0]) for dialogue in dialogues]

    def text(self, text: str, _: Mapping[str, Any]) -> Sequence[Mention]:
        """Read a response by its text alone."""
        return self.finder.read(text)

    def judged(self, protocol: Protocol, read: Reading, responses: Responses | None = None) -> list[Verdict]:
        """Return the verdict on each dialogue, with these responses instead of its own."""
        rows = zip(self.goals, self.dialogues, responses or self.said, strict=True)
        return [judge(goal, answers_of(one, read, said), self.venues, protocol) for goal, one, said in rows]

    def rated(self, protocol: Protocol, read: Reading, responses: Responses | None = None) -> Rates:
        """Return inform and success of all."""
        return rates(self.judged(protocol, read, responses))

    def gold(self) -> dict[str, Rates]:
        """Return inform and success of what people said, by protocol and way of reading."""
        ways: dict[str, Reading] = {"spans": _spans, "text": self.text}
        return {
            f"{protocol}, {way}": self.rated(protocol, read)
            for protocol in get_args(Protocol)
            for way, read in ways.items()
        }

    # --- why -----------------------------------------------------------------------------------

    def why(self) -> dict[str, int]:
        """Return how many domains of how many dialogues fail for what reason, under the published protocol."""
        counts: Counter[str] = Counter()
        for goal, dialogue, verdict in zip(self.goals, self.dialogues, self.judged("published", _spans), strict=True):
            answers = answers_of(dialogue, _spans)
            texts = answers_of(dialogue, self.text)
            for domain, wish in goal.items():
                if not verdict.inform[domain]:
                    counts["inform: " + self._not_informed(domain, wish, answers)] += 1
                elif verdict.informs:
                    counts.update(
                        "request: " + _not_given(slot, domain, answers, texts) for slot in verdict.missing[domain]
                    )
        return dict(counts.most_common())

    def _not_informed(self, domain: str, wish: Wish, answers: Sequence[Answer]) -> str:
        what = "trainid" if domain == "train" else "name"
        offers = [
            answer for answer in answers if answer.domain == domain and any(m.slot == what for m in answer.mentions)
        ]
        if not offers:
            marked = any(m.slot == what and m.domain == domain for answer in answers for m in answer.mentions)
            return (
                "a name is marked, but the state is about another domain" if marked else "no name or train is marked"
            )
        state = {key(slot): value for slot, value in offers[-1].state.get(domain, {}).items() if not is_any(value)}
        if not self.venues.query(domain, state):
            return "the database has nothing that fits the state"
        wanted = {key(slot): value for slot, value in wish.info.items()}
        if any(slot not in state for slot in wanted):
            return "the state lacks a constraint of the goal"
        return "the state contradicts the goal"

    # --- floors --------------------------------------------------------------------------------

    def floors(self) -> dict[str, tuple[Rates, Rates]]:
        """Return inform and success of worse responses, under the published and the grounded protocol."""
        worse = {
            "gold": self.said,
            "each thing given left out with probability .5": self._changed(self._dropped(0.5)),
            "names and trains left out": self._changed(self._dropped(1.0, "name", "trainid")),
            "requests left out": self._changed(self._dropped(1.0, "phone", "address", "postcode", "reference")),
            "other venues named (with their numbers)": self._changed(self._other),
            "responses shuffled over all dialogues": self._shuffled(),
            "always the same, naming one venue of each domain": [
                [self._one_of_each()] * len(said) for said in self.said
            ],
            f"always '{EVERYTHING}'": [[EVERYTHING] * len(said) for said in self.said],
            "silence": [[""] * len(said) for said in self.said],
        }
        return {
            name: (self.rated("published", self.text, said), self.rated("grounded", self.text, said))
            for name, said in worse.items()
        }

    def _changed(self, change: Callable[[Mention, Draws], str]) -> Responses:
        """Replace each thing that is given in a response."""
        changed = []
        for number, said in enumerate(self.said):
            draws = Draws(self.seed, "worse", number)
            changed.append([_replaced(text, self.finder(text), change, draws) for text in said])
        return changed

    def _dropped(self, chance: float, *slots: str) -> Callable[[Mention, Draws], str]:
        return lambda one, draws: "" if (not slots or one.slot in slots) and draws.uniform() < chance else one.value

    def _other(self, mention: Mention, draws: Draws) -> str:
        """Return what another venue of the same domain is called, or its number."""
        own = self.venues.owners(mention.domain, mention.slot, mention.value)
        rows = [
            row for row in self.venues.tables.get(mention.domain, ()) if row["id"] not in own and mention.slot in row
        ]
        return draws.choice(rows)[mention.slot] if rows and mention.slot != "reference" else mention.value

    def _shuffled(self) -> Responses:
        pool = [text for said in self.said for text in said]
        draws = Draws(self.seed, "shuffle")
        for place in range(len(pool) - 1, 0, -1):  # Fisher and Yates
            other = draws.integer(0, place + 1)
            pool[place], pool[other] = pool[other], pool[place]
        rest = iter(pool)
        return [[next(rest) for _ in said] for said in self.said]

    def _one_of_each(self) -> str:
        parts = []
        for rows in self.venues.tables.values():
            parts += [row[slot] for row in rows[:1] for slot in SLOTS if slot in row]
        return " , ".join([*parts, "reference AB12CD34"])


def _spans(text: str, note: Mapping[str, Any]) -> Sequence[Mention]:
    return annotated(note["spans"])


def _replaced(text: str, mentions: Sequence[Mention], word: Callable[[Mention, Draws], str], draws: Draws) -> str:
    parts, done = [], 0
    for mention in mentions:
        if mention.start >= done:
            parts += [text[done : mention.start], word(mention, draws)]
            done = mention.end
    return "".join([*parts, text[done:]])


def _not_given(slot: str, domain: str, answers: Sequence[Answer], texts: Sequence[Answer]) -> str:
    """Return why a request counts as not met."""
    own, other = ([a for a in answers if (a.domain == domain) == same and _gives(a, slot)] for same in (True, False))
    if slot == "reference" and not any(domain in answer.booked for answer in answers):
        return "nothing was booked"
    if own:
        return "a reference is given before the corpus has one"
    if any(_gives(answer, slot) and answer.domain == domain for answer in texts):
        return "it is in the text and not marked"
    return "it is given while the state is about another domain" if other else "it is not given"


def _gives(answer: Answer, slot: str) -> bool:
    return any(mention.slot == slot for mention in answer.mentions)


def show(report: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    console.print(f"{report['dialogues']} dialogues, {report['turns']} responses; seconds: {report['seconds']}")
    table = Table("gold", "dialogues", "inform", "success", "by domain: number, inform, success", box=box.SIMPLE)
    for name, rate in report["gold"].items():
        domains = "; ".join(f"{d} {n} {i:.1f} {s:.1f}" for d, (n, i, s) in rate["domains"].items())
        table.add_row(name, str(rate["dialogues"]), _interval(rate["inform"]), _interval(rate["success"]), domains)
    table.add_row("published, of the test split of 2.2", "1000", *map(str, PUBLISHED), "")
    console.print(table)
    table = Table("why not (domains of dialogues, requests)", "count", box=box.SIMPLE)
    for name, count in report["why"].items():
        table.add_row(name, str(count))
    console.print(table)
    table = Table("floors", "published: inform", "success", "grounded: inform", "success", box=box.SIMPLE)
    for name, pair in report["floors"].items():
        table.add_row(escape(name), *(_interval(rate[which]) for rate in pair for which in ("inform", "success")))
    console.print(table)


def _interval(rate: Sequence[float]) -> str:
    share, low, high = rate
    return f"{share:.1f} [{low:.1f}, {high:.1f}]"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    command.run("multiwoz", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
