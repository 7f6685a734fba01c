"""A real HTTP server on loopback that speaks the OpenAI protocol, answers from a real model, and can misbehave.

It serves tests and benchmarks: ``with ApiServer(lm="tiny") as server: client(server.url)``. Beside the chat
completions of the protocol it has what a vLLM server adds (``/tokenize``, ``prompt_embeds``, ``prompt_logprobs``,
``return_token_ids``), computed by the same model through transformers' own ``generate``.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from dialog_gym.dialogue import Draws
from dialog_gym.lm import load
from dialog_gym.lm.base import Generation, LanguageModel, Sampling

FAULTS = ("429", "500", "cut", "timeout", "malformed", "nonsense", "empty", "filter", "refused", "moved")
"""What can go wrong with a request.

``429`` and ``500`` are answered at once; ``cut`` closes the connection in the middle of an answer; ``timeout`` answers
nothing; ``malformed`` answers 200 with a body that is no JSON; ``nonsense`` is a proper answer whose content is no
JSON (what a judge may say); ``empty`` has no content; ``filter`` stopped by a content filter; ``refused`` is a 400;
``moved`` is a redirection to the address in ``message``.
"""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: One of ``FAULTS``.
        retry_after: Seconds in the header of a 429, None for no header.
        message: Text of an error answer.
    """

    kind: str
    retry_after: float | None = None
    message: str = "it is the server's fault"


@dataclass(frozen=True)
class Request:
    """What the server was asked.

    Attributes:
        index: How many came before, of any kind.
        attempt: How many times the very same body came before.
        path: For instance ``/v1/chat/completions``.
        body: The JSON it held.
        headers: By lower-case name.
    """

    index: int
    attempt: int
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def draws(self, seed: int) -> Draws:
        """Return random numbers that depend on what is asked and how often it was, not on who asks at the time."""
        digest = blake2b(json.dumps(self.body, sort_keys=True).encode(), digest_size=8).digest()
        return Draws(seed, int.from_bytes(digest, "little"), self.attempt)


Answer = Callable[[Mapping[str, Any]], str]
Faults = Callable[[Request], Fault | str | None] | Mapping[str, float]


class ApiServer:
    """Answers on ``url`` from the moment ``with`` begins until it ends.

    Attributes:
        url: What a client is given, ``http://127.0.0.1:PORT/v1``.
        counts: Requests by outcome: ``requests``, ``ok``, and each kind of fault.
        requests: All that was asked, oldest first.
        most_at_once: The most requests that were in work at the same time.
    """

    def __init__(
        self,
        lm: LanguageModel | str | Answer = "tiny",
        latency: float = 0.0,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        """Serve ``lm``.

        Args:
            lm: A transformers model or its spec; or a function from the body of a request to the content of the
                answer. A model's answer to a request with a JSON schema is drawn from the schema instead.
            latency: Seconds every answer takes at least; requests wait beside each other.
            faults: What goes wrong: a function of the request, or the share of requests by kind of fault.
            seed: Of the faults that are given as shares; which requests fail does not depend on their order.
        """
        self.lm: Any = load(lm) if isinstance(lm, str) else lm
        self.latency = latency
        self.faults = faults
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._now = 0
        self._bodies: Counter[str] = Counter()
        self._lock, self._model_lock = threading.Lock(), threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop; requests that hang are let go."""
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def received(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
        """Note a request that begins."""
        with self._lock:
            key = path + json.dumps(body, sort_keys=True)
            request = Request(len(self.requests), self._bodies[key], path, body, headers)
            self._bodies[key] += 1
            self.requests.append(request)
            self.counts["requests"] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            return request

    def done(self, outcome: str) -> None:
        """Note a request that ends."""
        with self._lock:
            self.counts[outcome] += 1
            self._now -= 1

    def fault(self, request: Request) -> Fault | None:
        """Return what goes wrong with ``request``."""
        if self.faults is None:
            return None
        if callable(self.faults):
            found = self.faults(request)
            return Fault(found) if isinstance(found, str) else found
        drawn = request.draws(self.seed).uniform()
        for kind, share in self.faults.items():
            drawn -= share
            if drawn < 0:
                return Fault(kind)
        return None

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the server."""
        self._stopping.wait(seconds)

    def answer(self, request: Request) -> dict[str, Any]:
        """Return the JSON of a proper answer."""
        with self._model_lock:
            if request.path == "/tokenize":
                return _tokenize(self.lm, request.body)
            if request.path == "/v1/completions":
                return _completion(self.lm, request.body)
            return self._chat(request)

    def _chat(self, request: Request) -> dict[str, Any]:
        body = request.body
        if not isinstance(self.lm, LanguageModel):
            return _chat_json(body, Generation(self.lm(body), (), (), "end"))
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema is not None:
            said = json.dumps(from_schema(schema, request.draws(self.seed)))
            return _chat_json(body, Generation(said, (), (), "end"))
        sampling, seeds = _sampling(body)
        (said_by_model,) = self.lm.generate([body["messages"]], sampling, seeds=seeds)
        return _chat_json(body, said_by_model, self.lm)


def from_schema(schema: Mapping[str, Any], draws: Draws) -> Any:
    """Return a random value that obeys ``schema`` (objects, arrays, enums, numbers, strings, booleans)."""
    if "enum" in schema:
        return draws.choice(schema["enum"])
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: from_schema(part, draws) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [from_schema(schema["items"], draws) for _ in range(schema.get("minItems", 1))]
    if kind == "integer":
        return draws.integer(int(schema.get("minimum", 0)), int(schema.get("maximum", 10)) + 1)
    if kind == "number":
        return round(draws.uniform(schema.get("minimum", 0.0), schema.get("maximum", 1.0)), 3)
    return bool(draws.bits() & 1) if kind == "boolean" else f"because of reason {draws.integer(0, 100)}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and would wait for each other
    api: ApiServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "served", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = self.api.received(self.path, body, {name.lower(): value for name, value in self.headers.items()})
        fault = self.api.fault(request)
        outcome = "gone"  # unless an answer is sent: the client has hung up
        try:
            self.api.wait(self.api.latency)
            if fault is not None and fault.kind not in ("nonsense", "empty", "filter"):
                self._misbehave(fault)
            else:
                self._send(200, _spoiled(self.api.answer(request), fault))
            outcome = "ok" if fault is None else fault.kind
        except (ValueError, KeyError) as error:
            outcome = "refused"
            self._send(400, {"error": {"message": f"{type(error).__name__} {error}", "code": 400}})
        finally:
            self.api.done(outcome)

    def _misbehave(self, fault: Fault) -> None:
        if fault.kind in ("429", "500", "refused"):
            status = 400 if fault.kind == "refused" else int(fault.kind)
            headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return self._send(status, {"error": {"message": fault.message, "code": status}}, headers)
        if fault.kind == "moved":
            return self._send(307, {}, {"Location": fault.message})
        if fault.kind == "malformed":
            return self._send_bytes(200, b'{"choices": [{"mess', {})
        if fault.kind == "timeout":
            self.api.wait(600.0)
        elif fault.kind == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
        else:
            raise RuntimeError(f"unknown fault {fault.kind!r}: expected one of {FAULTS}")
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return None

    def _send(self, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(content).encode(), headers or {})

    def _send_bytes(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _spoiled(answer: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    """Return ``answer`` with the fault that concerns its content."""
    for choice in answer.get("choices", ()) if fault is not None else ():
        assert fault is not None
        if fault.kind == "filter":
            choice["finish_reason"] = "content_filter"
        content = "I would rather not say: {score: very good" if fault.kind == "nonsense" else None
        if "message" in choice:
            choice["message"]["content"] = content
        else:
            choice["text"] = content or ""
    return answer


def _sampling(body: Mapping[str, Any]) -> tuple[Sampling, list[int]]:
    longest = body.get("max_completion_tokens") or body.get("max_tokens") or 16
    return Sampling(longest, body.get("temperature", 1.0), body.get("top_p", 1.0)), [body.get("seed") or 0]


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chat_json(body: Mapping[str, Any], said: Generation, lm: Any = None) -> dict[str, Any]:
    finish = "stop" if said.stop == "end" else "length"
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": said.text},
        "finish_reason": finish,
    }
    prompt = sum(len(message["content"].split()) for message in body["messages"])
    if lm is not None:
        prompt = len(lm.chat.encode([body["messages"]])[0])
        if body.get("logprobs"):
            tokens = lm.tokenizer.convert_ids_to_tokens(list(said.tokens))
            content = [
                {"token": token, "logprob": score, "bytes": None, "top_logprobs": []}
                for token, score in zip(tokens, said.logprobs, strict=True)
            ]
            choice["logprobs"] = {"content": content, "refusal": None}
        if body.get("return_token_ids"):
            choice["token_ids"] = list(said.tokens)
    completion = len(said.tokens) or len(said.text.split())
    return {
        "id": "chat",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
        "usage": _usage(prompt, completion),
    }


def _tokenize(lm: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    chat = body["messages"]
    if body.get("continue_final_message"):
        ids = lm.chat.encode([chat[:-1]])[0] + lm.chat.encode_reply(chat[-1]["content"], chat[:-1])
    else:
        ids = lm.chat.encode([chat])[0]
    return {"tokens": ids, "count": len(ids), "max_model_len": lm.max_positions}


def _completion(lm: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return one completion of token ids or of prompt embeddings, as a vLLM server writes it."""
    import torch

    if (encoded := body.get("prompt_embeds")) is not None:
        embeddings = torch.load(io.BytesIO(base64.b64decode(encoded)), weights_only=True)
        inputs, length = {"inputs_embeds": embeddings[None].to(lm.dtype)}, len(embeddings)
    else:
        ids: Sequence[int] = body["prompt"]
        inputs, length = {"input_ids": torch.tensor([list(ids)])}, len(ids)
    mask = torch.ones(1, length, dtype=torch.long)
    sampled = body.get("temperature", 1.0) > 0
    torch.manual_seed(body.get("seed") or 0)
    made = lm.model.generate(
        **inputs,
        attention_mask=mask,
        max_new_tokens=body.get("max_tokens", 16),
        do_sample=sampled,
        eos_token_id=sorted(lm.chat.stop_ids),
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        **({"temperature": body["temperature"], "top_p": body.get("top_p", 1.0), "top_k": 0} if sampled else {}),
    )
    new = made.sequences[0, 0 if "inputs_embeds" in inputs else length :].tolist()
    scores = [
        torch.log_softmax(step[0].float(), -1)[token].item() for step, token in zip(made.logits, new, strict=True)
    ]
    choice: dict[str, Any] = {
        "index": 0,
        "text": lm.tokenizer.decode(new, skip_special_tokens=True),
        "finish_reason": "stop" if new[-1] in lm.chat.stop_ids else "length",
    }
    if body.get("logprobs") is not None:
        names = lm.tokenizer.convert_ids_to_tokens(new)
        choice["logprobs"] = {"tokens": names, "token_logprobs": scores, "top_logprobs": None, "text_offset": []}
    if body.get("return_token_ids"):
        choice["token_ids"] = new
    if body.get("prompt_logprobs") is not None:
        with torch.inference_mode():
            table = torch.log_softmax(lm.model(inputs["input_ids"]).logits[0].float(), -1)
        choice["prompt_logprobs"] = [None] + [
            {str(token): {"logprob": table[i, token].item(), "rank": 1, "decoded_token": ""}}
            for i, token in enumerate(body["prompt"][1:])
        ]
    return {
        "id": "cmpl",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
        "usage": _usage(length, len(new)),
    }
