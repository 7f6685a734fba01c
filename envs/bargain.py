"""Bargain-v0: agree on a price with a partner who must be read from its wording.

One buys, one sells; the agent may play either (``side``). Prices are percent of the list price, even
numbers from 10 to 130 (``bargain_language`` tells how money is written and understood).

Observation: the transcript; the item, its list price and the agent's own limit are known, and a
seller's listing has a note in its own words.
Action: an utterance. Three things in it count: a price or plain agreement to the partner's standing
price, a style (polite, neutral, firm), and at most one reason (condition, market, budget, pickup, age).
An empty utterance is a turn that names no price.
Reward: utility * 0.95 ** (turns - 1) at the deal, else 0, so in [0, 1], where utility is
(agent's limit - price) / (agent's limit - partner's limit), clipped to [0, 1].
Terminates: ``"deal"`` (the one agrees to the other's price) or ``"left"`` (the partner ran out of
patience or met its hidden deadline of 4 to 8 turns, or the agent said goodbye). Truncates after
``max_turns``. Success: a deal better than the agent's limit.

The partner: its hidden type decides what moves it. *warm*: politeness; *tough*: firmness; *analyst*: a
reason it has not heard yet, plainly said. The rest is mixed or wrong, and wrong moves it back and
costs patience. The type shows in its phrases alone, of which a fifth (in the note: a twentieth) belong
to another type; between two turns it changes with probability 0.03, unannounced. The partner has a
*willingness*, the best price for the agent that it would agree to now, at first the agent's limit. A
right turn moves it about 0.6 of the way (to a point beyond its own limit, where it stops), if the
turn names a price that is new, not absurd and no harder than the price before. A turn that names no
price or the same again moves it a quarter of that, and costs patience. The price it asks trails its
willingness, so an offer earns more than agreement.
Optimum: ``oracle`` earns .88 (it sees the hidden state, but not the chance to come); who infers
the type and sees nothing hidden .84; the best constant style with new reasons .46.
``python -m dialog_gym.envs.bargain`` prints the table of scripted policies.

Scenarios: generated, or ``scenarios=FILE`` in CraigslistBargain's JSON (He et al. 2018,
arXiv:1808.09637), one scenario per listing. Limits, types and deadlines are drawn by seed; where the
agent buys, the listing's buyer target is the partner's limit, as far as the ranges below allow.
``partner=SPEC`` lets a language model be the partner: the same words close a deal or end the talk, and
nothing else of the rules above holds but the reward.
``split``: ``"train"`` and ``"heldout"`` are 70 and 30 percent of the listings (or of the generated
items), by a hash of the listing.

History: v0, the first version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.envs import bargain_language as language
from dialog_gym.envs.bargain_language import REASONS, STEP, STYLES, Act, agrees_at, render_price, understand
from dialog_gym.envs.bargain_listings import Listing, generated, in_split, listing_title, read_listings
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Reply
from dialog_gym.world import World

TYPES = ("warm", "tough", "analyst")
RIGHT_STYLE = {"warm": "polite", "tough": "firm", "analyst": "neutral"}
DISCOUNT = 0.95  # per turn after the first
WRONG_CUE = 0.2  # share of the partner's phrases that belong to another type
WRONG_NOTE = 0.05  # the same for the note in the listing, which was written at leisure
SWITCH = 0.03  # probability that the type changes between two turns
GAIN = 0.6  # share of the way to REACH * zone that one right turn moves the partner
REACH = 1.3  # in zones; beyond 1 so that the limit is reached in finite time
SHRINK = 0.15  # zones that a wholly wrong turn moves the partner back
ABSURD = 1.4  # zones; who asks for more (plus one step) insults
IDLE = 0.25  # weight of a turn that names no price, or the same price again
REVERSED = 0.8  # weight of a turn that asks for more than the turn before
FAR = 0.35  # zones between offer and willingness from which the partner says "far"

# QUALITY[type][style][reason]: how well a turn is said, 1 right, negative wrong.
# Styles: polite, neutral, firm. Reasons: none, new, heard before.
QUALITY: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "warm": {"polite": (1.0, 0.5, 0.35), "neutral": (0.25, 0.15, 0.1), "firm": (-0.5, -0.4, -0.5)},
    "tough": {"polite": (-0.5, -0.4, -0.5), "neutral": (0.25, 0.15, 0.1), "firm": (1.0, 0.5, 0.35)},
    "analyst": {"polite": (-0.3, 0.5, 0.0), "neutral": (0.0, 1.0, 0.1), "firm": (-0.3, 0.5, 0.0)},
}

ATTRIBUTES = (
    *(f"style:{style}" for style in STYLES),
    *(f"reason:{reason}" for reason in ("none", *REASONS)),
    "accept",
    "has_price",
    "price",
    "price_range:below_50",
    "price_range:50_to_64",
    "price_range:66_to_80",
    "price_range:above_80",
)
FACTS = (
    *(f"believed_{kind}" for kind in TYPES),
    "limit",
    "asked",
    "offered",
    "has_offered",
    "turn",
    *(f"gave_{reason}" for reason in REASONS),
)


class Pressure(NamedTuple):
    """What a price (or none) does beside the wording.

    Attributes:
        reaction: Which phrases the partner answers with.
        weight: Factor on what the wording gains; 0 for none.
        patience: What it costs, beside the 1 of every turn.
    """

    reaction: str
    weight: float
    patience: int


class DealValue(Reward):
    """The agent's discounted utility at the turn of the deal, else 0."""

    name = "deal"
    low = 0.0
    high = 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> npt.NDArray[np.float32]:
        """Return utility * 0.95 ** (turns - 1) of each dialogue that is a deal."""
        values = [utility(d) * DISCOUNT ** (d.turn - 1) if d.stop_reason == "deal" else 0.0 for d in dialogues]
        return np.array(values, dtype=np.float32)


def utility(dialogue: Dialogue) -> float:
    """Return the share of the bargaining zone that the agreed price leaves the agent, 0 without a deal."""
    price = dialogue.state.get("price")
    if price is None:
        return 0.0
    hidden = dialogue.scenario.hidden
    limit = hidden["agent_limit"]
    share: float = (limit - price) / (limit - hidden["partner_limit"])
    return min(max(share, 0.0), 1.0)


class Bargain(World):
    """Bargaining over one item; see the module for the rules.

    Args:
        side: The agent's role, ``"buyer"`` or ``"seller"``. The buyer speaks first.
        scenarios: A file of listings (``.json`` or ``.json.gz``), or None for generated items.
        split: ``"all"``, ``"train"`` or ``"heldout"``.
        max_turns: Agent turns after which the dialogue is truncated.
    """

    reward = DealValue()
    world = "bargain"
    render_hint = "prices count in steps of 2% of the list price"
    attribute_names = ATTRIBUTES
    fact_names = FACTS
    model_tokens = tuple(f"<p{price}>" for price in range(language.LOWEST, language.HIGHEST + 1, STEP))

    def __init__(
        self, side: str = "buyer", scenarios: str | Path | None = None, split: str = "all", max_turns: int = 8
    ) -> None:
        """Read the listings, if a file is given; see the class for the arguments."""
        if side not in ("buyer", "seller"):
            raise ValueError(f"side must be 'buyer' or 'seller', got {side!r}")
        if max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {max_turns}")
        self.roles = ("buyer", "seller") if side == "buyer" else ("seller", "buyer")
        self.max_turns = max_turns
        listings = generated() if scenarios is None else read_listings(scenarios)
        self.listings: tuple[Listing, ...] = in_split(listings, split)
        self._sign = 1 if side == "buyer" else -1  # utility rises as sign * price falls

    def scenario(self, draws: Draws) -> Scenario:
        """Draw an item, both limits, the partner's type, its deadline and its patience."""
        listing = draws.choice(self.listings)
        bits = draws.bits()
        list_price = listing.list_price(bits & 0xFFFF)
        agent_limit, partner_limit, ask = self._limits(listing.target, bits >> 16)
        hidden: dict[str, Any] = {
            "title": listing.title,
            "category": listing.category,
            "list_price": list_price,
            "agent_limit": agent_limit,
            "partner_limit": partner_limit,
            "ask": ask,
            "type": TYPES[(bits >> 40 & 0xFF) % 3],
            "deadline": 4 + (bits >> 48 & 0xFF) % 5,
            "patience": 6 + (bits >> 56) % 3,
        }
        agent, partner = self.roles
        public = f"Item: {listing.title} ({listing.category}), listed at {render_price(100, list_price)}."
        if partner == "seller":
            hidden["note"] = language.cue(_cue(hidden["type"], draws.bits(), WRONG_NOTE), bits >> 24)
            public = f'{public} The seller adds: "{hidden["note"]}".'
        private = {
            agent: _goal(agent, agent_limit, list_price),
            partner: _goal(partner, partner_limit, list_price),
        }
        return Scenario(public, private, hidden)

    def _limits(self, target: int | None, bits: int) -> tuple[int, int, int]:
        """Return the agent's limit, the partner's, and the price that stands at first.

        The buyer agent's limit lies in 86 .. 94, the seller agent's in 54 .. 62, and the zone between
        the limits in 24 .. 36.
        """
        zone = 24 + STEP * ((bits & 0xFF) % 7)
        if self._sign > 0:
            limit = 86 + STEP * ((bits >> 8 & 0xFF) % 5)
            if target is not None:
                zone = min(max(limit - target, 24), 36)
            return limit, limit - zone, 100
        limit = 54 + STEP * ((bits >> 8 & 0xFF) % 5)
        return limit, limit + zone, limit - STEP * (1 + (bits >> 16 & 0xFF) % 7)

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Set the partner's first state; a partner who buys speaks first."""
        hidden = dialogue.scenario.hidden
        state = {
            "type": hidden["type"],
            "ask": hidden["ask"],
            "patience": hidden["patience"],
            "willing": 0.0,
            "offer": None,
            "heard": [],
            "price": None,
        }
        partner = self.roles[1]
        opened = Dialogue(dialogue.scenario, self.roles, dialogue.seed, (), state)
        if partner == "seller":
            return opened
        bits = dialogue.draws("opening").bits()
        cue = _cue(hidden["type"], bits)
        price = render_price(hidden["ask"], hidden["list_price"])
        return opened.said(partner, language.greet(partner, cue, price, bits >> 10))

    # --- a language model as the partner -------------------------------------------------------

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Close the deal if the agent agrees to the partner's price or names one as good; let it leave."""
        hidden, state = dialogue.scenario.hidden, dialogue.state
        act = understand(dialogue.turns[-1].text, hidden["list_price"])
        price = state["ask"] if act.accept else act.price
        if price is not None and self.gain(hidden, price) <= self.gain(hidden, state["ask"]):
            return self._closed(dialogue, price)
        return Reply("", None, "left") if act.quit else None

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Close the deal if the partner agrees to the agent's latest price; let it leave.

        A price it names becomes the standing one. Its hidden type, patience and deadline say nothing of a model.
        """
        hidden = dialogue.scenario.hidden
        act = understand(text, hidden["list_price"])
        offers = [said.price for said in self.parsed(dialogue) if said.price is not None]
        if offers and (act.accept or agrees_at(text, offers[-1], hidden["list_price"])):
            return self._closed(dialogue, offers[-1], text)
        if act.quit:
            return Reply(text, None, "left")
        ask = dialogue.state["ask"] if act.price is None else act.price
        offer = self.gain(hidden, offers[-1]) if offers else None
        return Reply(text, {**dialogue.state, "ask": ask, "offer": offer})

    def _closed(self, dialogue: Dialogue, price: int, text: str = "") -> Reply:
        gain = self.gain(dialogue.scenario.hidden, price)
        return Reply(text, {**dialogue.state, "price": price}, "deal", gain > 0)

    # --- the partner ---------------------------------------------------------------------------

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer the newest agent turn of each dialogue."""
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Reply:
        hidden, state = dialogue.scenario.hidden, dialogue.state
        act = understand(dialogue.turns[-1].text, hidden["list_price"])
        draws = dialogue.draws("partner")
        chance, words = draws.bits(), draws.bits()
        if act.accept:
            return self._deal(dialogue, state["ask"], words)
        after = dict(state)
        reaction = self._hear(hidden, after, act, 0.7 + 0.6 * (chance & 0xFFFF) / 0x10000)
        if act.price is not None and self.gain(hidden, act.price) <= after["willing"]:
            return self._deal(dialogue, act.price, words)
        partner = self.roles[1]
        if act.quit or after["patience"] <= 0 or dialogue.turn >= hidden["deadline"]:
            return Reply(language.part(partner, words), after, "left")
        self._counter(hidden, after, after["willing"] > state["willing"], chance >> 16)
        price = render_price(after["ask"], hidden["list_price"])
        cue = _cue(after["type"], chance >> 44)
        return Reply(language.answer(partner, reaction, cue, price, words), after)

    def _deal(self, dialogue: Dialogue, price: int, words: int) -> Reply:
        money = render_price(price, dialogue.scenario.hidden["list_price"])
        return self._closed(dialogue, price, language.close(money, words))

    def gain(self, hidden: Mapping[str, Any], price: int) -> int:
        """Return what ``price`` leaves the agent, in percent of the list price."""
        gain: int = self._sign * (hidden["agent_limit"] - price)
        return gain

    def _hear(self, hidden: Mapping[str, Any], state: dict[str, Any], act: Act, luck: float) -> str:
        """Update willingness, patience, offer and reasons in ``state``; return the kind of reaction."""
        zone = abs(hidden["agent_limit"] - hidden["partner_limit"])
        demand = None if act.price is None else self.gain(hidden, act.price)
        willing: float = state["willing"]
        reaction, weight, patience = pressure(demand, state["offer"], willing, zone)
        heard: list[str] = state["heard"]
        reason = 0 if not act.reason else 2 if act.reason in heard else 1
        quality = QUALITY[state["type"]][act.style][reason]
        if quality > 0:
            willing += weight * quality * GAIN * luck * (REACH * zone - willing)
        else:
            willing += quality * SHRINK * zone
            patience += quality < -0.25
        state["willing"] = round(min(max(willing, 0.0), zone), 3)
        state["patience"] -= 1 + patience
        if reason == 1:
            state["heard"] = [*heard, act.reason]
        if demand is not None:
            state["offer"] = demand
        return reaction

    def _counter(self, hidden: Mapping[str, Any], state: dict[str, Any], moved: bool, chance: int) -> None:
        """Let the price asked trail the willingness if that ``moved``, and perhaps the type change."""
        zone = abs(hidden["agent_limit"] - hidden["partner_limit"])
        gap = zone * (0.15 + 0.2 * (chance & 0xFF) / 0x100)
        asked = self.gain(hidden, state["ask"])
        better = int((state["willing"] - gap) // STEP) * STEP
        if moved and better > asked:
            state["ask"] = hidden["agent_limit"] - self._sign * better
        if (chance >> 8 & 0xFFFF) < SWITCH * 0x10000:
            state["type"] = _other(state["type"], chance >> 24)

    # --- notation ------------------------------------------------------------------------------

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat for a language model: lower case, every amount one token ``<pNN>``.

        NN is percent of the list price on the grid of 2, from 10 to 130. What an old turn becomes
        depends on that turn alone.
        """
        hidden = dialogue.scenario.hidden
        list_price = hidden["list_price"]
        limit = hidden["agent_limit" if role == dialogue.roles[0] else "partner_limit"]
        title = listing_title(hidden["title"])
        brief = f"you are the {role} . item : {title} . list <p100> . limit <p{limit}> ."
        if "note" in hidden:
            brief = f"{brief} note : {hidden['note']} ."
        chat = [{"role": "system", "content": brief}]
        for speaker, text in dialogue.turns:
            who = "assistant" if speaker == role else "user"
            chat.append({"role": who, "content": language.to_tokens(text, list_price)})
        return chat

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what a language model wrote with every token ``<pNN>`` as money."""
        return language.from_tokens(text, dialogue.scenario.hidden["list_price"])

    def attributes(self, dialogue: Dialogue, role: str, text: str) -> npt.NDArray[np.float32]:
        """Return what ``text`` (of ``role``, in either notation) says as the numbers ``ATTRIBUTES`` names."""
        list_price = dialogue.scenario.hidden["list_price"]
        act = understand(language.from_tokens(text, list_price), list_price)
        numbers = np.zeros(len(ATTRIBUTES), dtype=np.float32)
        numbers[STYLES.index(act.style)] = 1
        numbers[3 + (REASONS.index(act.reason) + 1 if act.reason else 0)] = 1
        numbers[9] = act.accept
        if act.price is not None:
            numbers[10] = 1
            numbers[11] = act.price / 100
            numbers[12 + (act.price >= 50) + (act.price >= 66) + (act.price > 80)] = 1
        return numbers

    def facts(self, dialogue: Dialogue) -> npt.NDArray[np.float32]:
        """Return what an attentive agent knows before it speaks, as numbers; nothing hidden is among them."""
        from dialog_gym.envs.bargain_policies import facts

        return facts(self, dialogue)

    def parsed(self, dialogue: Dialogue) -> list[Act]:
        """Return what was understood of each agent turn; ``Act.understood`` tells whether anything was."""
        list_price = dialogue.scenario.hidden["list_price"]
        return [understand(text, list_price) for text in dialogue.texts(dialogue.roles[0])]

    def understood(self, dialogue: Dialogue) -> bool:
        """Return whether the newest agent turn has a price, an agreement, a style or a reason."""
        acts = self.parsed(dialogue)
        return bool(acts) and acts[-1].understood

    def contradicts(self, dialogue: Dialogue) -> bool:
        """Return whether the partner's newest turn breaks its limit, or takes back the best price it has asked."""
        hidden, partner = dialogue.scenario.hidden, dialogue.roles[1]
        if not dialogue.turns or dialogue.turns[-1].role != partner:
            return False
        gains = [self.gain(hidden, hidden["ask"])]
        for text in dialogue.texts(partner):
            price = understand(text, hidden["list_price"]).price
            gains += [] if price is None else [self.gain(hidden, price)]
        if dialogue.stop_reason == "deal":  # then it repeats the agent's price, which may well be worse than its own
            return self.gain(hidden, dialogue.state["price"]) > self.gain(hidden, hidden["partner_limit"])
        return gains[-1] > self.gain(hidden, hidden["partner_limit"]) or gains[-1] < max(gains)

    # --- policies ------------------------------------------------------------------------------

    def oracle(self, dialogue: Dialogue) -> str:
        """Say the right thing in the right style at the best price; sees the hidden state."""
        from dialog_gym.envs.bargain_policies import oracle

        return oracle(self, dialogue)

    def value(self, dialogue: Dialogue) -> float:
        """Return the expected reward still to come while the oracle speaks."""
        from dialog_gym.envs.bargain_oracle import value

        return value(self, dialogue)

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        """Return the scripted policies of the table that ``python -m dialog_gym.envs.bargain`` prints, by name."""
        from dialog_gym.envs.bargain_policies import by_name

        return by_name(self)

    def self_play(self, draws: Draws) -> Dialogue:
        """Return a finished dialogue of an agent of mixed quality, to train language models on."""
        from dialog_gym.envs.bargain_policies import self_play

        return self_play(self, draws)


def pressure(demand: int | None, last: int | None, willing: float, zone: int) -> Pressure:
    """Return what asking for ``demand`` (None: no price named) does to a partner who was asked for ``last`` before."""
    if demand is None:
        return Pressure("stall", IDLE, 1)
    if demand > ABSURD * zone + STEP:
        return Pressure("insult", 0.0, 1)
    if last is not None and demand > last:
        return Pressure("backwards", REVERSED, 1)
    if demand == last:
        return Pressure("repeat", IDLE, 1)
    return Pressure("far" if demand - willing > FAR * zone else "close", 1.0, 0)


def _cue(kind: str, bits: int, wrong: float = WRONG_CUE) -> str:
    """Return the type a phrase is taken from: ``kind``, or another one with probability ``wrong``."""
    return _other(kind, bits >> 8) if (bits & 0xFF) < wrong * 0x100 else kind


def _other(kind: str, bits: int) -> str:
    return TYPES[(TYPES.index(kind) + 1 + (bits & 1)) % 3]


def _goal(role: str, limit: int, list_price: float) -> str:
    money = render_price(limit, list_price)
    if role == "buyer":
        return f"You are the buyer. Pay as little as you can, never more than {money}."
    return f"You are the seller. Get as much as you can, never less than {money}."


if __name__ == "__main__":
    from dialog_gym.envs.bargain_policies import main

    main()
