"""A language model behind an OpenAI-compatible server, steered by prefixes where the server is vLLM's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from dialog_gym.lm.answers import AnswerFile, key_of
from dialog_gym.lm.api_answers import prompt_logprobs, reply, token_ids, tokens_used
from dialog_gym.lm.api_calls import ApiCalls, Ask
from dialog_gym.lm.base import (
    Counts,
    Embeddings,
    Generation,
    Messages,
    Position,
    Sampling,
    Schema,
    require,
)
from dialog_gym.lm.chat_session import ChatSession

if TYPE_CHECKING:
    import torch

    from dialog_gym.lm.prompt_embeds import PromptEmbedder

Body = dict[str, Any]
_MILLION = 1e6
_SEEDS = 2**31  # what every server takes


class OpenAILM:
    """A ``LanguageModel`` that asks a server, many prompts at a time.

    Without ``prefix``, chats go to ``/chat/completions`` and the server writes them as the model wants. With it they
    are written here, as ``TransformersLM`` writes them, and go to ``/completions`` of a vLLM server as token ids or,
    steered, as input embeddings; so the same model, greedy, replies the same on both backends.

    A request that fails is sent again (``dialog_gym.lm.api_calls``); if it fails for good, an error says so, and no
    reply is made up. What is drawn at a temperature above 0 depends on the seed as far as the server obeys it.

    Attributes:
        name: ``openai:MODEL@URL``.
        hidden_size: 0: servers give no state.
        supports: ``json``; with ``server="vllm"`` also ``logprobs``; with ``prefix`` also ``prefix``.
        counts: Requests, retries, tokens (the server's count), replies from the cache, and their price.
        embedder: Writes chats as tokens and embeddings; None without ``prefix``.
    """

    hidden_size = 0

    def __init__(
        self,
        model: str,
        url: str,
        *,
        concurrency: int = 64,
        timeout: float = 120.0,
        attempts: int = 6,
        backoff: float = 0.5,
        key_env: str = "OPENAI_API_KEY",
        server: str = "",
        prefix: str = "",
        dtype: str = "auto",
        logprobs: bool | None = None,
        json: bool = True,
        cache: str = "",
        price_in: float = 0.0,
        price_out: float = 0.0,
    ) -> None:
        """Prepare to ask; no request is sent yet.

        Args:
            model: What the server calls the model.
            url: Base of all paths, with ``/v1``.
            concurrency: The most requests under way at once.
            timeout: Seconds one request may take.
            attempts: How often a request is sent at most.
            backoff: Seconds before the second try, doubled for each further one.
            key_env: Environment variable with the key; the default one may be missing where a server needs none.
            server: ``"vllm"`` for what only vLLM's server can do, ``""`` for any.
            prefix: Folder or hub name of the same model: makes prefixes possible; the server must be vLLM's and
                run with ``--enable-prompt-embeds``.
            dtype: Of prompts sent as embeddings: that of the server, or ``"auto"`` for that of the weights.
            logprobs: Ask for the log-probabilities of replies; None: of a vLLM server, and of no other. They cost a
                server time.
            json: Whether the server takes JSON schemas.
            cache: File that keeps replies at temperature 0 or with a seed, so that none is paid for twice.
            price_in: Of a million prompt tokens.
            price_out: Of a million tokens of replies.

        Raises:
            ValueError: An option is out of range, or there is no key.
        """
        self.name = f"openai:{model}@{url}"
        self.model, self.url = model, url
        self.counts = Counts()
        self.embedder = _embedder(prefix, dtype, server)
        if server not in ("", "vllm"):
            raise ValueError(f"server must be 'vllm' or '' (any other), got {server!r}")
        if not (price_in >= 0 and price_out >= 0):
            raise ValueError(f"prices must be at least 0, got {price_in} and {price_out}")
        self._prices = (price_in / _MILLION, price_out / _MILLION)
        self._vllm = server == "vllm" or self.embedder is not None
        self._tells_logprobs = self._vllm if logprobs is None else logprobs
        able = {"json": json, "logprobs": self._vllm, "prefix": self.embedder is not None}
        self.supports = frozenset(name for name, is_able in able.items() if is_able)
        host = urlsplit(url).hostname or ""
        self._longest = "max_completion_tokens" if host.endswith("openai.com") else "max_tokens"
        key = _key(key_env, needed=key_env != "OPENAI_API_KEY" or host.endswith("openai.com"))
        limits: dict[str, Any] = {"concurrency": concurrency, "timeout": timeout, "attempts": attempts}
        self._calls: ApiCalls[Any] = ApiCalls(self.name, url, key, self.counts, backoff=backoff, **limits)
        self._answers = AnswerFile(cache) if cache else None

    def __repr__(self) -> str:
        return f"OpenAILM({self.model!r}, {self.url!r})"

    @property
    def embedding_matrix(self) -> torch.Tensor:
        """The input embeddings, (vocabulary, embedding size)."""
        return self._steerable.embedding_matrix

    @property
    def embedding_size(self) -> int:
        """Length of one prefix embedding."""
        return self._steerable.embedding_size

    @property
    def folder(self) -> Path | None:
        """Where the input embeddings were read from, None if not from a folder."""
        return self._steerable.folder

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, None if it is not known here."""
        return None if self.embedder is None else self.embedder.tokenizer

    def fingerprint(self) -> dict[str, int | str]:
        """Return what tells this model's input embeddings from another's; as ``TransformersLM.fingerprint``."""
        return self._steerable.fingerprint()

    def session(self, rows: int, *, mean: bool = False) -> ChatSession:
        """Return a memory for ``rows`` chats; it keeps the prompts alone (servers remember by themselves)."""
        return ChatSession(self, rows)

    def generate(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
        schema: Schema | None = None,
    ) -> list[Generation]:
        """Return one reply to each prompt.

        The same request twice in one call is sent once, if its answer is determined. With a cache, a reply is
        written down as soon as it arrives, so that it is not lost if another prompt fails.

        Raises:
            LanguageModelError: A prompt was not answered, or with nothing; it says which and why.
            UnsupportedError: The server cannot do what is asked.
        """
        needed = ({"prefix"} if prefixes is not None else set()) | ({"json"} if schema is not None else set())
        require(self, needed, "such a reply")
        if seeds is not None and len(seeds) != len(prompts):
            raise ValueError(f"expected one seed per prompt, got {len(seeds)} seeds for {len(prompts)} prompts")
        if sampling.temperature > 0 and seeds is None:
            raise ValueError(f"sampling at temperature {sampling.temperature} needs seeds, one integer per prompt")
        bodies = self._bodies(prompts, sampling, prefixes, position, schema)
        if sampling.temperature > 0 and seeds is not None:
            for seed, body in zip(seeds, bodies, strict=True):
                body["seed"] = int(seed) % _SEEDS
        return self._answered(bodies)

    def retract(self, prompts: Sequence[Messages], sampling: Sampling, *, schema: Schema | None = None) -> None:
        """Drop the greedy replies to ``prompts`` from the cache: they were of no use, and are asked for anew."""
        if self._answers is not None:
            self._answers.drop(self._key(body) for body in self._bodies(prompts, sampling, None, "end", schema))

    def embed(self, prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Refuse: servers give no state.

        Raises:
            UnsupportedError: Always.
        """
        require(self, {"state"}, "the state of a prompt")
        raise AssertionError("no server gives states")

    def logprobs(
        self, prompts: Sequence[Messages], continuations: Sequence[str | Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Return the log-probability of each token of each continuation; one request each, to a vLLM server.

        Raises:
            LanguageModelError: A request failed for good.
            UnsupportedError: The server is not vLLM's.
        """
        require(self, {"logprobs"}, "scoring a given text")
        if len(prompts) != len(continuations):
            raise ValueError(f"expected one continuation per prompt, got {len(continuations)} for {len(prompts)}")
        before, after = self._token_ids(prompts, continuations)
        asks = [
            _ask({**self._completion(ids + said, Sampling(max_tokens=1)), "prompt_logprobs": 0})
            for ids, said in zip(before, after, strict=True)
        ]

        def read(i: int, answer: Any) -> NDArray[np.float32]:
            told = prompt_logprobs(self._counted(answer))[len(before[i]) :]
            return np.array([told[k][str(token)]["logprob"] for k, token in enumerate(after[i])], np.float32)

        return self._calls.run(asks, read)

    # --- what is asked ---------------------------------------------------------------------------

    @property
    def _steerable(self) -> PromptEmbedder:
        if self.embedder is None:
            raise AttributeError(
                f"the input embeddings of {self.name!r} are not known: add ?prefix=FOLDER_OR_HUB_NAME of the same "
                "model to its spec"
            )
        return self.embedder

    def _bodies(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        prefixes: Embeddings | None,
        position: Position,
        schema: Schema | None,
    ) -> list[Body]:
        """Return what is asked for each prompt, but for seeds."""
        bodies = self._unbound(prompts, sampling, prefixes, position)
        if schema is not None:
            about = {"name": "answer", "strict": True, "schema": dict(schema)}
            for body in bodies:  # also of vLLM's /completions
                body["response_format"] = {"type": "json_schema", "json_schema": about}
        return bodies

    def _unbound(
        self, prompts: Sequence[Messages], sampling: Sampling, prefixes: Embeddings | None, position: Position
    ) -> list[Body]:
        """Return what is asked for each prompt, but for seeds and schema."""
        if self.embedder is None:
            return [self._chat(prompt, sampling) for prompt in prompts]
        if prefixes is None:
            return [self._completion(ids, sampling) for ids in self.embedder.encode(prompts)]
        from dialog_gym.lm.prompt_embeds import as_base64

        bodies = []
        for embedded in self.embedder.embed(prompts, prefixes, position):
            body = self._completion(None, sampling)
            body["prompt_embeds"] = as_base64(embedded)
            bodies.append(body)
        return bodies

    def _chat(self, prompt: Messages, sampling: Sampling) -> Body:
        body = self._sampled(sampling)
        body["messages"] = [dict(message) for message in prompt]
        if self._tells_logprobs:
            body["logprobs"] = True
        return body

    def _completion(self, prompt: list[int] | None, sampling: Sampling) -> Body:
        body = self._sampled(sampling)
        body["prompt"] = prompt
        if self._tells_logprobs:
            body["logprobs"] = 0
        if self.embedder is not None:
            body["stop_token_ids"] = sorted(self.embedder.chat.stop_ids)
        return body

    def _sampled(self, sampling: Sampling) -> Body:
        body: Body = {"model": self.model, self._longest: sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.temperature > 0 and sampling.top_p < 1.0:
            body["top_p"] = sampling.top_p
        if self._vllm:
            body["return_token_ids"] = True
        return body

    def _token_ids(
        self, prompts: Sequence[Messages], continuations: Sequence[str | Sequence[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Return prompts and continuations as token ids, by the tokenizer here or by the server's."""
        if self.embedder is not None:
            chat = self.embedder.chat
            before = chat.encode(prompts)
            after = [
                chat.encode_reply(said, prompt) if isinstance(said, str) else [int(token) for token in said]
                for said, prompt in zip(continuations, prompts, strict=True)
            ]
            return before, after
        chats = [[dict(message) for message in prompt] for prompt in prompts]
        texts = {i: said for i, said in enumerate(continuations) if isinstance(said, str)}
        before = self._tokenize(chats)
        spoken = [[*chats[i], {"role": "assistant", "content": text}] for i, text in texts.items()]
        whole = dict(zip(texts, self._tokenize(spoken, goes_on=True), strict=True))
        after = [
            _rest(whole[i], before[i]) if i in whole else [int(token) for token in said]
            for i, said in enumerate(continuations)
        ]
        return before, after

    def _tokenize(self, chats: list[list[dict[str, str]]], *, goes_on: bool = False) -> list[list[int]]:
        """Return the token ids of chats, as a vLLM server tells them.

        They end with a generation prompt; or, if the last message ``goes_on``, with its text.
        """
        address = f"{self.url.removesuffix('/v1')}/tokenize"
        ends = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on}
        asks = [Ask(address, {"model": self.model, "messages": chat, **ends}) for chat in chats]
        return self._calls.run(asks, lambda i, answer: token_ids(answer))

    def _key(self, body: Body) -> str:
        return key_of([self.url, body])

    # --- what is answered ------------------------------------------------------------------------

    def _answered(self, bodies: list[Body]) -> list[Generation]:
        """Return the answers to ``bodies``, from the file, or from the server, each asked once."""
        keys = [self._key(body) for body in bodies]
        found = {} if self._answers is None else self._answers.find(keys)
        self.counts.hits += sum(key in found for key in keys)
        new = list(dict.fromkeys(key for key in keys if key not in found))
        asked = dict(zip(keys, bodies, strict=True))

        def keep(i: int, answer: Generation) -> None:
            if self._answers is not None:
                self._answers.keep(new[i], answer)

        prompts = [keys.index(key) for key in new]
        asks = [_ask(asked[key]) for key in new]
        said = self._calls.run(asks, lambda i, answer: self._read(answer), keep, prompts)
        found.update(zip(new, said, strict=True))
        return [found[key] for key in keys]

    def _read(self, answer: Any) -> Generation:
        """Return the reply in ``answer``.

        Raises:
            BadAnswerError: There is none.
        """
        return reply(self._counted(answer), None if self.embedder is None else self.embedder.chat)

    def _counted(self, answer: Any) -> Any:
        """Return ``answer``; its tokens are paid for, whatever it holds."""
        prompt, completion = tokens_used(answer)
        self.counts.prefilled += prompt
        self.counts.generated += completion
        self.counts.cost += prompt * self._prices[0] + completion * self._prices[1]
        return answer


def _ask(body: Body) -> Ask:
    return Ask("/chat/completions" if "messages" in body else "/completions", body)


def _rest(ids: list[int], start: list[int]) -> list[int]:
    """Return what follows ``start`` in ``ids``."""
    if ids[: len(start)] != start:
        raise ValueError(
            "a text changes the tokens of the prompt before it, so that it cannot be scored on its own: give token "
            "ids, or add ?prefix=FOLDER_OR_HUB_NAME to the spec"
        )
    return ids[len(start) :]


def _embedder(prefix: str, dtype: str, server: str) -> PromptEmbedder | None:
    if not prefix:
        return None
    try:
        from dialog_gym.lm.prompt_embeds import PromptEmbedder
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"option 'prefix' needs {error.name}: pip install 'dialog-gym[torch]'", name=error.name
        ) from error
    return PromptEmbedder.from_pretrained(prefix, dtype)


def _key(variable: str, *, needed: bool) -> str:
    """Return the key in the environment variable ``variable``, ``""`` if there need not be one."""
    key = os.environ.get(variable, "").strip()
    if needed and not key:
        raise ValueError(f"the environment variable {variable} holds no key: export {variable}=...")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"the environment variable {variable} holds no key: it has characters that no key has")
    return key
