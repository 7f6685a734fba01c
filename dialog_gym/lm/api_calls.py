"""Many requests to one server at a time: a limit, time-outs, waiting and trying again, and a clear end.

Requests run on an event loop in a thread of its own, so that callers need no ``async`` and Ctrl-C stops them at
once. What is tried again: 408, 409, 429, 5xx, lost connections, time-outs, answers that are no answers. The rest of
4xx fails at once, since it would fail again.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NotYetError
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.base import Counts

T = TypeVar("T")

LONGEST_WAIT = 60.0  # seconds before a request is sent again; a server that asks for more is not waited for
SHOWN = 500  # characters of what a server says
_PASSING = (408, 409, 429)  # client errors that pass


class Ask(NamedTuple):
    """One request.

    Attributes:
        path: Behind the URL of the server, for instance ``/chat/completions``; or a whole URL.
        body: JSON.
    """

    path: str
    body: Mapping[str, Any]


class BadAnswerError(Exception):
    """An answer came that is none.

    Attributes:
        kind: For the counts, ``"malformed"`` or ``"empty"``; else what the error says.
        again: Whether another try may do better.
    """

    def __init__(self, kind: str, message: str, *, again: bool) -> None:
        """Say what is wrong with the answer."""
        super().__init__(message)
        self.kind, self.again = kind, again


class Failure(NamedTuple):
    """One try that failed.

    Attributes:
        kind: ``"429"`` and other statuses, ``"connection"``, ``"timeout"``, ``"malformed"``, ``"empty"``, ...
        message: What happened.
        again: Whether another try may do better.
        wait: Seconds the server asked to wait, None if it did not.
    """

    kind: str
    message: str
    again: bool
    wait: float | None = None


class ApiCalls(Generic[T]):
    """Sends requests to one server.

    Attributes:
        name: Of the model, for errors.
        counts: Where requests and retries are counted.
    """

    def __init__(
        self,
        name: str,
        url: str,
        key: str,
        counts: Counts,
        *,
        concurrency: int,
        timeout: float,
        attempts: int,
        backoff: float,
    ) -> None:
        """Prepare to ask the server at ``url``.

        Args:
            name: Of the model, for errors.
            url: Base of all paths, with ``/v1``.
            key: What the server is shown, ``""`` for none. It appears in no error, whoever repeats it.
            counts: Where requests and retries are counted.
            concurrency: The most requests under way at once.
            timeout: Seconds that one request may take.
            attempts: How often a request is sent at most.
            backoff: Seconds before the second try; doubled for each further one, up to a minute, with jitter.

        Raises:
            ValueError: A number is out of range.
        """
        for what, number, least in (("concurrency", concurrency, 1), ("attempts", attempts, 1)):
            if number < least:
                raise ValueError(f"{what} must be at least {least}, got {number}")
        for what, seconds in (("timeout", timeout), ("backoff", backoff)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{what} must be a positive number of seconds, got {seconds}")
        self.name, self.counts = name, counts
        self._url, self._key = url, _Secret(key)
        self._concurrency, self._timeout = concurrency, timeout
        self._attempts, self._backoff = attempts, backoff
        self._jitter = random.Random()
        self._opened: tuple[int, aiohttp.ClientSession, asyncio.Semaphore] | None = None

    def run(
        self,
        asks: Sequence[Ask],
        read: Callable[[int, Any], T],
        arrived: Callable[[int, T], None] | None = None,
        prompts: Sequence[int] | None = None,
    ) -> list[T]:
        """Send all requests and return what ``read`` makes of their answers.

        After a request has failed for good no further one is begun; those under way may end.

        Args:
            asks: The requests.
            read: From number and JSON of an answer to the result; raises ``BadAnswerError`` if there is none. What it
                stumbles over (a missing key, a wrong type) is a malformed answer too.
            arrived: Called with number and result of each request as soon as it is there, even if others fail.
            prompts: What an error calls each request: the number of its prompt, by default the same.

        Raises:
            LanguageModelError: Some request failed for good. It names the first one.
        """
        loop = _background_loop()
        batch = _Batch(asks, read, arrived)
        outcome = asyncio.run_coroutine_threadsafe(self._all(batch), loop)
        try:
            outcome.result()
        except ExceptionGroup as group:  # not of the server's making: a full disk, say
            raise group.exceptions[0] from None
        except BaseException:  # Ctrl-C, for instance: hang up
            outcome.cancel()
            raise
        if batch.failures:
            first = min(batch.failures)
            raise self._error(first if prompts is None else prompts[first], *batch.failures[first])
        return [batch.results[i] for i in range(len(asks))]

    async def _all(self, batch: _Batch[T]) -> None:
        batch.session, batch.limit = self._connections()
        async with asyncio.TaskGroup() as tasks:
            for i in range(len(batch.asks)):
                tasks.create_task(self._one(i, batch))

    async def _one(self, i: int, batch: _Batch[T]) -> None:
        async with batch.limit:
            for attempt in range(self._attempts):
                if batch.failures:
                    return
                failure = await self._try(i, batch)
                if failure is None:
                    return
                wait = self._wait(attempt, failure)
                if wait is None:
                    batch.failures[i] = (failure, attempt + 1)
                    return
                self.counts.retries[failure.kind] += 1
                await asyncio.sleep(wait)

    async def _try(self, i: int, batch: _Batch[T]) -> Failure | None:
        """Send a request once; note what came, or return what went wrong."""
        self.counts.requests += 1
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._post(batch.session, batch.asks[i])
            if isinstance(answer, Failure):
                return answer
        except TimeoutError:
            return Failure("timeout", f"no answer within {self._timeout:g} s", True)
        except (aiohttp.ClientError, OSError) as error:
            return Failure("connection", f"{type(error).__name__} {error}", True)
        except ValueError as error:
            return Failure("malformed", f"the answer is no JSON: {error}", True)
        try:
            result = batch.read(i, answer)
        except BadAnswerError as error:
            return Failure(error.kind, str(error), error.again)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            told = f"{type(error).__name__} {error} in {json.dumps(answer)}"
            return Failure("malformed", f"the answer cannot be read: {told}", True)
        batch.results[i] = result
        if batch.arrived is not None:
            batch.arrived(i, result)
        return None

    async def _post(self, session: aiohttp.ClientSession, ask: Ask) -> Any:
        """Return the JSON of an answer, or what went wrong."""
        url = ask.path if ask.path.startswith("http") else self._url + ask.path
        headers = {"Content-Type": "application/json"}
        if self._key.text:
            headers["Authorization"] = f"Bearer {self._key.text}"
        # A redirection is no answer: keys and dialogues go to the server that was named, and no other.
        body = json.dumps(ask.body).encode()
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            content = await response.read()
            if response.status == 200:
                return json.loads(content)
            return _refusal(response.status, content, response.headers)

    def _wait(self, attempt: int, failure: Failure) -> float | None:
        """Return the seconds until the next try, None if there is none."""
        if not failure.again or attempt + 1 >= self._attempts or (failure.wait or 0.0) > LONGEST_WAIT:
            return None
        backoff = min(self._backoff * 2.0**attempt, LONGEST_WAIT) * self._jitter.uniform(0.5, 1.0)
        return backoff if failure.wait is None else failure.wait + 0.1 * backoff

    def _error(self, prompt: int, failure: Failure, attempts: int) -> LanguageModelError:
        said = failure.message if not self._key.text else failure.message.replace(self._key.text, "***")
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        asked = f"; the server asks to wait {failure.wait:.0f} s" if (failure.wait or 0.0) > LONGEST_WAIT else ""
        kind = f"HTTP {failure.kind}" if failure.kind.isdigit() else failure.kind
        return LanguageModelError(
            f"language model {self.name!r} gave no answer to prompt {prompt} of the batch: {kind} after {tries}: "
            f"{said[:SHOWN]}{asked}",
            prompt,
        )

    def _connections(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore]:
        """Return the connections of this process, opened at the first request; a forked process gets its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the semaphore limits
                timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout limits
                proxy=_proxy(self._url),
            )
            self._opened = (os.getpid(), session, asyncio.Semaphore(self._concurrency))
            weakref.finalize(self, _close, os.getpid(), session, asyncio.get_running_loop())
        return self._opened[1:]


class _Batch(Generic[T]):
    """What is asked in one call of ``ApiCalls.run``, and what came of it."""

    session: aiohttp.ClientSession
    limit: asyncio.Semaphore

    def __init__(
        self, asks: Sequence[Ask], read: Callable[[int, Any], T], arrived: Callable[[int, T], None] | None
    ) -> None:
        self.asks, self.read, self.arrived = asks, read, arrived
        self.results: dict[int, T] = {}
        self.failures: dict[int, tuple[Failure, int]] = {}  # by number of the request; with the attempts made


class _Secret:
    """A key that does not show itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "***"


def _refusal(status: int, content: bytes, headers: Mapping[str, str]) -> Failure:
    """Return what an answer other than 200 means."""
    said = content.decode(errors="replace").strip()
    code = None
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        error = json.loads(said)["error"]
        code = error.get("code")
        said = str(error["message"])
    again = status in _PASSING or status >= 500
    if code == "insufficient_quota" or headers.get("x-should-retry") == "false":
        again = False
    return Failure(str(status), said or "no reason given", again, _asked_to_wait(headers))


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for ``url`` (HTTPS_PROXY, NO_PROXY, ...), None for none."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait, None if it does not."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = unit * float(headers[name])
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None


_THREAD = "dialog_gym requests"
_LOCK = threading.Lock()
_LOOP: tuple[int, asyncio.AbstractEventLoop] | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs all requests of this process."""
    global _LOOP
    with _LOCK:
        if _LOOP is None or _LOOP[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name=_THREAD, daemon=True).start()
            _LOOP = (os.getpid(), loop)
        return _LOOP[1]


def _close(pid: int, session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    """Close connections that nobody uses any more; those of a parent process are its own."""
    if pid == os.getpid() and loop.is_running():
        closed = asyncio.run_coroutine_threadsafe(session.close(), loop)
        if threading.current_thread().name != _THREAD:
            with suppress(NotYetError):
                closed.result(timeout=1.0)
