"""What an OpenAI-compatible server answers: the reply in it, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dialog_gym.lm.api_calls import BadAnswerError
from dialog_gym.lm.base import Generation
from dialog_gym.lm.chat import ChatFormat


def reply(answer: Any, chat: ChatFormat | None = None) -> Generation:
    """Return the reply in an answer of ``/chat/completions`` or ``/completions``.

    A reply without text is one only if the server tells that the model ended its turn at once (``token_ids``).

    Args:
        answer: JSON.
        chat: Reads the token ids, if the server tells them; None takes the server's text.

    Raises:
        BadAnswerError: There is no reply in it.
    """
    choice = _choice(answer)
    message = choice.get("message")
    said = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    text, finish = said.get("content"), choice.get("finish_reason")
    ids = tuple(int(token) for token in choice.get("token_ids") or ())
    if finish == "content_filter":
        raise BadAnswerError("content_filter", "the server's filter stopped the reply", again=False)
    if said.get("refusal"):
        raise BadAnswerError("refusal", f"the model refuses: {said['refusal']}", again=False)
    if chat is not None and ids:
        text = chat.decode([ids])[0]
    if not isinstance(text, str) or not (text.strip() or ids):
        hint = ": max_tokens is too small" if finish == "length" else ""
        raise BadAnswerError("empty", f"the answer has no text{hint}", again=finish != "length")
    return Generation(text.strip(), ids, _scores(choice.get("logprobs")), "length" if finish == "length" else "end")


def prompt_logprobs(answer: Any) -> list[Mapping[str, Any]]:
    """Return what a vLLM server tells of each token of a prompt: by token id, its log-probability.

    Raises:
        BadAnswerError: It tells nothing.
    """
    table = _choice(answer).get("prompt_logprobs")
    if not isinstance(table, list):
        raise BadAnswerError(
            "no prompt_logprobs", "the server tells no log-probabilities of prompts: is it vLLM's?", again=False
        )
    return table


def token_ids(answer: Any) -> list[int]:
    """Return the tokens in an answer of ``/tokenize``.

    Raises:
        BadAnswerError: There are none.
    """
    tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
    if not isinstance(tokens, list):
        raise BadAnswerError("no tokens", f"the server does not tokenize: {answer!r}", again=False)
    return [int(token) for token in tokens]


def tokens_used(answer: Any) -> tuple[int, int]:
    """Return how many tokens of prompt and of reply the server counts; 0 where it does not."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(usage, Mapping):
        return 0, 0
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def _choice(answer: Any) -> Mapping[str, Any]:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise BadAnswerError("malformed", f"the answer has no choices: {answer!r}", again=True)
    return choices[0]


def _scores(logprobs: Any) -> tuple[float, ...]:
    """Return the log-probabilities of the tokens of a reply, in either form that servers have."""
    if not isinstance(logprobs, Mapping):
        return ()
    if isinstance(content := logprobs.get("content"), list):
        return tuple(float(token["logprob"]) for token in content)
    return tuple(float(score) for score in logprobs.get("token_logprobs") or ())
