"""Rows for tests, and what hypothesis makes of them."""

import numpy as np
from hypothesis import strategies as st

from dialog_gym.data import Ranking, Recorded
from dialog_gym.dialogue import Dialogue, Scenario

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FINITE | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=3)


@st.composite
def dialogues(draw):
    """Return any dialogue: empty turns, strange letters, line breaks, hidden state."""
    dialogue = Dialogue(Scenario(draw(TEXTS), {"you": draw(TEXTS)}, draw(OBJECTS)), ("you", "me"), draw(SEEDS))
    for text, answer in draw(st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3)):
        dialogue = dialogue.said("you", text)
        if answer is not None:
            dialogue = dialogue.said("me", answer)
    return Dialogue(
        dialogue.scenario,
        dialogue.roles,
        dialogue.seed,
        dialogue.turns,
        draw(OBJECTS),
        draw(TEXTS),
        draw(st.booleans()),
    )


SEEDS = st.integers(0, 2**53)


@st.composite
def episodes(draw):
    """Return any episode, some with vectors."""
    dialogue = draw(dialogues())
    turns = dialogue.turn
    numbers = st.lists(FINITE, min_size=turns, max_size=turns).map(tuple)
    named = st.dictionaries(TEXTS, numbers, max_size=2)
    seed, size = draw(SEEDS), draw(st.integers(0, 3)) if turns else 0
    rng = np.random.default_rng(seed)
    return Recorded(
        seed,
        dialogue,
        draw(numbers),
        draw(numbers),
        draw(named),
        draw(named),
        draw(named),
        actions=rng.normal(size=(turns, size)).astype(np.float32) if size else None,
        states=rng.normal(size=(turns + 1, 2 * size)).astype(np.float32) if size else None,
        env=draw(TEXTS),
        env_kwargs=draw(OBJECTS),
        policy=draw(TEXTS),
        score=draw(st.none() | FINITE),
    )


@st.composite
def rankings(draw):
    """Return any ranking, some without a dialogue."""
    candidates = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    numbers = st.lists(FINITE, min_size=len(candidates), max_size=len(candidates)).map(tuple)
    dialogue = draw(st.none() | dialogues())
    chat = [{"role": "user", "content": draw(TEXTS)}] if dialogue is None else dialogue.messages("you")
    named = draw(st.dictionaries(TEXTS, numbers, max_size=2))
    return Ranking(tuple(chat), tuple(candidates), draw(numbers), named, dialogue, draw(OBJECTS))


def same(one, other) -> bool:
    """Return whether two episodes are equal, vectors included."""
    vectors = ((getattr(one, name), getattr(other, name)) for name in ("actions", "states"))
    return bool(one == other) and all(
        (a is None) == (b is None) and (a is None or np.array_equal(a, b)) for a, b in vectors
    )


def row(number: int, turns: int = 2) -> Recorded:
    """Return a plain episode that its number tells from others."""
    dialogue = Dialogue(Scenario(f"Talk {number}.", {"you": "Be kind."}), ("you", "me"), number)
    for turn in range(turns):
        dialogue = dialogue.said("you", f"Grüß dich {turn}, 你好\n{number}").said("me", "🙂" * turn)
    numbers = tuple(float(number + turn) for turn in range(turns))
    return Recorded(number, dialogue, numbers, (0.0,) * turns, {"kind": numbers}, env="Talk-v0", policy="kind")
