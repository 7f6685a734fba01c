"""CraigslistBargain (He et al. 2018, arXiv:1808.09637): people haggle about things that were really for sale.

JSON ``[{"uuid", "scenario": {"category", "kbs": [{"personal": {"Role", "Target"}, "item": {"Title", "Price",
"Description"}}, ...]}, "outcome": {"reward", "offer"}, "events": [{"agent", "action", "data"}]}]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import Source, key_of
from dialog_gym.data.episodes import Recorded

SIDES = ("buyer", "seller")
_STOPS = {"accept": "agreed", "reject": "no deal", "quit": "quit"}


def read(source: Source, side: str = "buyer") -> Iterator[Recorded]:
    """Yield the negotiations that have a turn; acts are turns in brackets: ``[offer $240]``, ``[accept]``.

    ``score`` and the reward of the agent's last turn: the corpus' own, 1 for a deal. ``stop_reason``: ``"agreed"``,
    ``"no deal"``, ``"quit"`` or ``"end"``. ``scenario.private``: each side's target. ``scenario.hidden``: ``id``,
    ``category``, ``list_price``, ``targets`` by side, ``price`` of the deal or None. ``state["turns"]``: the
    ``action`` of each turn and the ``price`` of an offer.

    Args:
        source: The files.
        side: Who is the agent: ``"buyer"`` or ``"seller"``.
    """
    if side not in SIDES:
        raise ValueError(f"side must be 'buyer' or 'seller', got {side!r}")
    roles = (side, SIDES[side == "buyer"])
    for number, data in source.json_array("*train*.json", "*dev*.json", "*test*.json"):
        with source.record(number, key_of(data, "uuid")):
            if data["events"]:
                yield _negotiation(data, roles, number)


def _negotiation(data: Mapping[str, Any], roles: tuple[str, str], number: int) -> Recorded:
    kbs, outcome, events = data["scenario"]["kbs"], data["outcome"], data["events"]
    item = kbs[0]["item"]
    sides = [kb["personal"]["Role"] for kb in kbs]
    targets = {side: kb["personal"]["Target"] for side, kb in zip(sides, kbs, strict=True)}
    turns = [(sides[event["agent"]], _told(event)) for event in events]
    deal = float(outcome["reward"])
    own = sum(role == roles[0] for role, _ in turns)
    return recorded(
        roles,
        turns,
        number,
        public=f"For sale: {item['Title']} at ${item['Price']}. {' '.join(item['Description'])}".strip(),
        private={side: f"You are the {side}. Your target is ${target}." for side, target in targets.items()},
        hidden={
            "id": data["uuid"],
            "category": data["scenario"]["category"],
            "list_price": item["Price"],
            "targets": targets,
            "price": (outcome["offer"] or {}).get("price") if deal else None,
        },
        state={"turns": [{"action": event["action"], "price": _price(event)} for event in events]},
        stop_reason="agreed" if deal else _STOPS.get(events[-1]["action"], "end"),
        success=bool(deal),
        rewards=[0.0] * (own - 1) + [deal] if own else [],
        score=deal,
    )


def _told(event: Mapping[str, Any]) -> str:
    action = event["action"]
    if action == "message":
        text: str = event["data"]
        return text
    if action == "offer":
        price = _price(event)
        return "[offer]" if price is None else f"[offer ${price:g}]"
    if action in _STOPS:
        return f"[{action}]"
    raise ValueError(f"action must be message, offer, accept, reject or quit, got {action!r:.40}")


def _price(event: Mapping[str, Any]) -> float | None:
    """Return what an offer names; a few name nothing."""
    price = event["data"]["price"] if event["action"] == "offer" else None
    return None if price is None else float(price)
