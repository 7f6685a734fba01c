"""From chats to token ids, with the chat template of any tokenizer, or without one."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from dialog_gym.lm.base import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
_KNOWN = 1 << 22  # characters of text whose tokens are remembered
_MARK = "dialogue"  # a word that a template shows if it shows the message
_HELLO: Messages = [{"role": "user", "content": "hello"}]


class ChatFormat:
    """How a tokenizer writes a chat: as prompt text, as token ids, and back.

    - With a chat template: the template, with its generation prompt. A template that refuses or drops the
      system role gets the system text at the head of the first user message. A template that insists on
      alternating roles gets neighbours of one role joined, and a user message first.
    - Without: a line ``role: content`` per message, then ``assistant:``. A reply then ends with its line.

    A special token that somebody *says* is broken up by a space, so that no utterance forges a turn.

    Attributes:
        end_of_turn: Tokens that follow a reply in a chat: the template's, or the end of the line, or the end of
            sequence if the template has none.
        stop_ids: Tokens that end a reply.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_ids: Iterable[int] = ()) -> None:
        """Inspect ``tokenizer``; ``eos_ids`` are further tokens that end a reply (of a generation config)."""
        self.tokenizer = tokenizer
        self.has_template = bool(tokenizer.chat_template)
        special = sorted(map(str, tokenizer.all_special_tokens), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        self._known: dict[str, list[int]] = {}  # token ids of what lies between special tokens
        self._known_characters = 0
        self._splits = self._special is not None and self._is_piecewise()
        self._takes_system = self.has_template and self._shows_system()
        self._lead = self._between_prompt_and_reply()
        eos = tokenizer.eos_token_id
        ends = [] if eos is None else [int(eos)]
        self.end_of_turn: list[int] = self._end_of_turn() or ends
        lines = frozenset() if self.has_template else self._line_ends()
        self.stop_ids = frozenset(eos_ids) | lines | frozenset(ends) | frozenset(self.end_of_turn[:1])

    def encode(self, prompts: Sequence[Messages], limit: int | None = None) -> list[list[int]]:
        """Return the token ids of each prompt with its generation prompt; never two BOS tokens.

        A prompt of more than ``limit`` tokens loses its oldest turns: whole messages, never a system message, and
        never the newest. Where the history allows it, they are dropped by fours, so that the prompts of several
        turns begin alike. What cannot be shortened enough is returned too long.
        """
        tokens = self._prompt_ids([self.render(prompt) for prompt in prompts])
        if limit is None:
            return tokens
        return [
            self._without_oldest(prompt, limit) if len(ids) > limit else ids
            for prompt, ids in zip(prompts, tokens, strict=True)
        ]

    def encode_reply(self, text: str, prompt: Messages = _HELLO) -> list[int]:
        """Return the token ids of ``text`` as it follows ``prompt``, without an end of turn."""
        start, said = self.render(prompt), self._lead + self._spoken(text)
        before, whole = self._prompt_ids([start, start + said])
        if whole[: len(before)] == before:
            return whole[len(before) :]
        return self._ids([said], add_special_tokens=False)[0]

    def render(self, prompt: Messages) -> str:
        """Return the text that the model reads for ``prompt``.

        Raises:
            ValueError: A message is malformed, or the template refuses the chat.
        """
        chat = [self._message(message) for message in prompt]
        if not self.has_template:
            return "".join(f"{m['role']}: {m['content']}\n" for m in chat) + "assistant:"
        if not self._takes_system:
            chat = _system_to_user(chat)
        try:
            return self._apply(chat)
        except TemplateError:
            try:
                return self._apply(_alternating(_system_to_user(chat)))
            except TemplateError as error:
                raise ValueError(
                    f"the chat template of this tokenizer refuses a chat with the roles "
                    f"{[m['role'] for m in chat]}: {error}; give another template in tokenizer.chat_template"
                ) from error

    def decode(self, replies: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of replies, without special tokens and outer white space."""
        texts = self.tokenizer.batch_decode(
            [list(reply) for reply in replies], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        if not self.has_template:
            texts = [text.lstrip().split("\n", 1)[0] for text in texts]
        return [text.strip() for text in texts]

    def _without_oldest(self, prompt: Messages, limit: int) -> list[int]:
        turns = [i for i, message in enumerate(prompt) if message["role"] != "system"]

        def after(dropped: int) -> list[int]:
            gone = set(turns[:dropped])
            return self._prompt_ids([self.render([m for i, m in enumerate(prompt) if i not in gone])])[0]

        by_fours = range(4, len(turns), 4)
        fit = bisect_left(by_fours, True, key=lambda dropped: len(after(dropped)) <= limit)
        if fit < len(by_fours):
            return after(by_fours[fit])
        rest = range(1 + 4 * len(by_fours), len(turns))
        fit = bisect_left(rest, True, key=lambda dropped: len(after(dropped)) <= limit)
        return after(rest[fit] if fit < len(rest) else max(len(turns) - 1, 0))

    def _prompt_ids(self, texts: list[str]) -> list[list[int]]:
        if self._splits and self.has_template:
            return self._ids_by_piece(texts)
        return self._ids(texts, add_special_tokens=not self.has_template)

    def _ids(self, texts: list[str], *, add_special_tokens: bool) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=add_special_tokens, return_attention_mask=False, return_token_type_ids=False
        )["input_ids"]
        return ids

    def _ids_by_piece(self, texts: list[str]) -> list[list[int]]:
        """Return what ``_ids`` does; what lies between two special tokens is tokenized once, not at every turn."""
        assert self._special is not None
        split = [[piece for piece in re.split(f"({self._special.pattern})", text) if piece] for text in texts]
        if new := list({piece for pieces in split for piece in pieces} - self._known.keys()):
            if self._known and self._known_characters > _KNOWN:
                self._known.clear()
                self._known_characters = 0
                return self._ids_by_piece(texts)
            self._known_characters += sum(map(len, new))
            self._known.update(zip(new, self._ids(new, add_special_tokens=False), strict=True))
        return [[token for piece in pieces for token in self._known[piece]] for pieces in split]

    def _is_piecewise(self) -> bool:
        """Say whether a text is tokenized independently on both sides of a special token."""
        added = self.tokenizer.added_tokens_decoder.values()
        if any(token.lstrip or token.rstrip or token.single_word for token in added):
            return False
        said = ["deal, 5 dollars", " deal ", "\n\nDeal\n", "système <p>", ""]
        texts = [f"{token}{words}{token}{words}" for token in self.tokenizer.all_special_tokens for words in said]
        return self._ids_by_piece(texts) == self._ids(texts, add_special_tokens=False)

    def _apply(self, chat: Chat) -> str:
        return str(self.tokenizer.apply_chat_template([chat], tokenize=False, add_generation_prompt=True)[0])

    def _message(self, message: Mapping[str, str]) -> dict[str, str]:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise ValueError(
                f"a message needs a role out of {ROLES} and a text as content, got {str(dict(message))!r:.120}"
            )
        return {"role": role, "content": self._spoken(content)}

    def _spoken(self, text: str) -> str:
        while self._special is not None and self._special.search(text):
            text = self._special.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text)
        return text

    def _shows_system(self) -> bool:
        try:
            return _MARK in self._apply([{"role": "system", "content": _MARK}, {"role": "user", "content": "hello"}])
        except TemplateError:
            return False

    def _example(self) -> str:
        """Return a chat that ends with an assistant's word, or nothing if the template refuses one."""
        chat = [*map(dict, _HELLO), {"role": "assistant", "content": _MARK}]
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False))
        except TemplateError:
            return ""

    def _between_prompt_and_reply(self) -> str:
        """Return what stands between a generation prompt and the reply, mostly nothing or a space."""
        if not self.has_template:
            return " "
        example = self._example()
        start = self.render(_HELLO) if example else ""
        return example[len(start) :].partition(_MARK)[0] if start and example.startswith(start) else ""

    def _end_of_turn(self) -> list[int]:
        """Return the special token that the template puts behind what the assistant says, if it does."""
        if not self.has_template:
            return self._ids(["\n"], add_special_tokens=False)[0]
        text = self._example()
        after = self._ids([text.rpartition(_MARK)[2].strip()], add_special_tokens=False)[0][:1]
        return [token for token in after if token in self.tokenizer.all_special_ids]

    def _line_ends(self) -> frozenset[int]:
        every = range(len(self.tokenizer))
        texts = self.tokenizer.batch_decode([[token] for token in every], clean_up_tokenization_spaces=False)
        return frozenset(token for token, text in zip(every, texts, strict=True) if "\n" in text)


def _system_to_user(chat: Chat) -> Chat:
    said = "\n\n".join(m["content"] for m in chat if m["role"] == "system")
    rest = [dict(m) for m in chat if m["role"] != "system"]
    if not said:
        return rest
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": said}, *rest]
    return [{"role": "user", "content": f"{said}\n\n{rest[0]['content']}"}, *rest[1:]]


def _alternating(chat: Chat) -> Chat:
    joined: Chat = [] if chat and chat[0]["role"] == "user" else [{"role": "user", "content": ""}]
    for message in chat:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {"role": message["role"], "content": f"{joined[-1]['content']}\n{message['content']}"}
        else:
            joined.append(message)
    return joined


def eos_ids(*configs: Any) -> frozenset[int]:
    """Return the end-of-sequence ids that ``configs`` (generation or model configs, or None) name."""
    found: set[int] = set()
    for config in configs:
        ids = getattr(config, "eos_token_id", None)
        found.update([] if ids is None else [ids] if isinstance(ids, int) else map(int, ids))
    return frozenset(found)
