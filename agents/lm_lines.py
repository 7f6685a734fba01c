"""The training strings of the code behind Sodhi et al. 2023, arXiv:2307.12425, byte for byte.

Our own training does not need them: a dialogue is put to a model by its chat template and the task's notation, and
the tokens to be learned are known by place, not by a search for special words. The strings matter where data or models
are exchanged with that code: a model that was trained on them expects them, and its tokenizer has ``SPECIAL``.

::

    base     <_soc_><_cus_start_>hi<_cus_end_><_rep_start_>hello!<_rep_end_>
    tf_top   the same, up to and with one response
    dt       a reward token before every <_rep_start_>: "one" before those of the past, which people said
    ilql     <|endoftext|> between <_rep_start_> and the response, with the reward beside it

There is no separator between the pieces, and one conversation is one line; an utterance with a newline would break
that, so it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from dialog_gym.dialogue import Turn

START = "<_soc_>"
CUSTOMER, CUSTOMER_END = "<_cus_start_>", "<_cus_end_>"
REPLY, REPLY_END = "<_rep_start_>", "<_rep_end_>"
ZERO, ONE = "<_reward_zero_>", "<_reward_one_>"
SPLIT = "<|endoftext|>"
SPECIAL = (
    "<_sos_>", "<_eos_>", "<_unk_>", "<_pad_>", START, "<_eoc_>", CUSTOMER, CUSTOMER_END, REPLY, REPLY_END,
    "<_rep_action_start_>", "<_rep_action_end_>", ONE, ZERO, "<_response_placeholder_>",
)  # fmt: skip


def base_line(turns: Sequence[Turn], agent: str) -> str:
    """Return a conversation, or a context, as a line of the base model's data.

    >>> base_line([Turn("you", "hi"), Turn("me", "hello!")], "me")
    '<_soc_><_cus_start_>hi<_cus_end_><_rep_start_>hello!<_rep_end_>'

    Raises:
        ValueError: An utterance has a newline.
    """
    return START + "".join(_piece(turn, agent) for turn in turns)


def tf_line(context: str, response: str) -> str:
    """Return the line of ``tf_top``, ``tf_all`` and ``tf`` for one response; ``context`` is a ``base_line``."""
    return f"{context}{REPLY}{_one_line(response)}{REPLY_END}"


def dt_line(context: str, response: str, reward: float) -> str:
    """Return the line of ``dt``: the response is marked by its reward (at least 1 is "one"), earlier ones by "one".

    >>> dt_line("<_soc_><_rep_start_>hi<_rep_end_>", "bye", 0.5).partition("hi")[2]
    '<_rep_end_><_reward_zero_><_rep_start_>bye<_rep_end_>'
    """
    past = context.replace(REPLY, ONE + REPLY)
    return f"{past}{ONE if reward >= 1 else ZERO}{REPLY}{_one_line(response)}{REPLY_END}"


def ilql_line(context: str, response: str) -> str:
    """Return the sample of ``ilql`` for one response; its reward stands beside it."""
    return f"{context}{REPLY}{SPLIT}{_one_line(response)}{REPLY_END}"


def prompt(context: str, *, wanted: bool = False) -> str:
    """Return what that code generates from, without spaces at special tokens; ``wanted`` asks ``dt`` for "one"."""
    line = (context.replace(REPLY, ONE + REPLY) + ONE if wanted else context) + REPLY
    return line.replace("> ", ">").replace(" <", "<")


def _piece(turn: Turn, agent: str) -> str:
    text = _one_line(turn.text)
    return f"{REPLY}{text}{REPLY_END}" if turn.role == agent else f"{CUSTOMER}{text}{CUSTOMER_END}"


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError(f"an utterance must be one line in this format, got {text!r:.80}; join its lines first")
    return text
