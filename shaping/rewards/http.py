"""http: the score of an external scorer, asked over HTTP for whole batches.

Protocol: POST `url` with {"items": [{"prompt_id", "messages": [{"role", "content"}], "response", "reference"}]},
answered with 200 and {"results": [{"score": number, "correct": bool?, "error": str?}]}, one for each item, in order.
Formula: the value is `score`. A response is correct when its result says so, or, where that says nothing, when score >=
`threshold`; read only with `decides`.
Statuses: TIMED_OUT where no answer came in `request_seconds`, or in `total_seconds` with all tries; CRASHED where one
came that cannot be used (another length, no JSON, no finite score, an HTTP error), for all its batch, and for the item
alone that has an "error".
Tries again, with exponential back-off and jitter or after Retry-After, only where the connection failed, on 429 and on
5xx. Batches are under way side by side, `max_concurrent` at once.
The scorer reads responses and decides on rewards: it has to be trusted. Redirects are not followed, and proxies of the
environment are not used. Its token, and what `${env:NAME}` and `${file:PATH}` in the URL stand for, are looked up when
they are used and stand in no recipe and no message.
"""

import asyncio
import json
import logging
import math
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from shaping.groups import Verdict, VerdictStatus
from shaping.rewards.base import RewardRequest, RewardResult
from shaping.secret_references import references_in, resolve_references, secret_of, spellings_of
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()

_MAX_ANSWER_BYTES = 16 * 1024**2
_MAX_SCORE = 1e9
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    url: of the scorer, http or https; may refer to secrets: https://scorer/score?key=${env:SCORER_KEY}.
    batch_size: most responses in one request.
    max_concurrent: requests under way at once.
    request_seconds: longest wall time of one request.
    total_seconds: longest wall time of all tries for a group.
    max_retries: further tries of one batch.
    backoff_seconds: pause before the second try; it doubles from then on, each time cut by up to a half at random.
    token_env: variable of the environment that holds a bearer token; "" for none.
    threshold: least score of a correct response where the scorer does not say.
    decides: whether this reward decides which rollouts are correct.
    """

    url: str
    batch_size: int = 32
    max_concurrent: int = 4
    request_seconds: float = 30.0
    total_seconds: float = 120.0
    max_retries: int = 3
    backoff_seconds: float = 0.5
    token_env: str = ""
    threshold: float = 0.5
    decides: bool = False

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"url must be a URL, got {self.url!r}: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"url must be http://... or https://..., got {self.url!r}")
        if url.userinfo:
            raise ValueError("url must hold no password: name a variable of the environment in token_env")
        for name, least in (("batch_size", 1), ("max_concurrent", 1), ("max_retries", 0), ("backoff_seconds", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        for name in ("request_seconds", "total_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {getattr(self, name)}")


class _Unusable(Exception):
    """An answer that gives no verdict."""


class _TryAgain(_Unusable):
    """A failure that may pass.

    Args:
        seconds: as the scorer wishes, or None.
    """

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Http:
    config: Config

    @property
    def decides_correctness(self) -> bool:
        return self.config.decides

    def score_batch(self, requests: Sequence[RewardRequest]) -> list[RewardResult]:
        # Read here and not when it is built: a plan is made where nobody needs the token.
        name = self.config.token_env
        token = os.environ.get(name, "") if name else ""
        if name and not token:
            detail = f"token_env must name a variable that holds a token, {name} is not set where shaping runs"
            return [_no_verdict(VerdictStatus.CRASHED, detail)] * len(requests)
        try:
            url = resolve_references(self.config.url, "url")
        except ValueError as error:
            return [_no_verdict(VerdictStatus.CRASHED, str(error))] * len(requests)
        # In a thread of its own: the caller may be a coroutine, and only an event loop can bound a whole request.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="http-reward") as thread:
            results = thread.submit(asyncio.run, self._score_all(requests, url, token)).result()
        secrets = [secret_of(each, os.environ) for each in references_in(self.config.url)] + ([token] if token else [])
        return [_masked(result, secrets) for result in results] if secrets else results

    async def _score_all(self, requests: Sequence[RewardRequest], url: str, token: str) -> list[RewardResult]:
        size = self.config.batch_size
        batches = [requests[start : start + size] for start in range(0, len(requests), size)]
        free = asyncio.Semaphore(self.config.max_concurrent)
        deadline = asyncio.get_running_loop().time() + self.config.total_seconds
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=None) as client:
            scored = await asyncio.gather(*(self._score_some(client, url, batch, free, deadline) for batch in batches))
        return [result for results in scored for result in results]

    async def _score_some(
        self,
        client: httpx.AsyncClient,
        url: str,
        batch: Sequence[RewardRequest],
        free: asyncio.Semaphore,
        deadline: float,
    ) -> list[RewardResult]:
        try:
            async with asyncio.timeout_at(deadline), free:
                return await self._ask_repeatedly(client, url, batch, deadline)
        except TimeoutError as error:
            told = str(error) or f"no answer within total_seconds {self.config.total_seconds:g}"
            return [_no_verdict(VerdictStatus.TIMED_OUT, told)] * len(batch)
        except _Unusable as error:
            return [_no_verdict(VerdictStatus.CRASHED, str(error))] * len(batch)

    async def _ask_repeatedly(
        self, client: httpx.AsyncClient, url: str, batch: Sequence[RewardRequest], deadline: float
    ) -> list[RewardResult]:
        body = json.dumps({"items": [_item(request) for request in batch]}).encode()
        pause = self.config.backoff_seconds
        for tries_left in reversed(range(self.config.max_retries + 1)):
            try:
                return self._read(await self._ask(client, url, body), len(batch))
            except _TryAgain as failure:
                # Jitter, so that workers which failed together do not come back together.
                seconds = pause * random.uniform(0.5, 1.0) if failure.seconds is None else failure.seconds
                if not tries_left or asyncio.get_running_loop().time() + seconds >= deadline:
                    raise
                await asyncio.sleep(seconds)
                pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _ask(self, client: httpx.AsyncClient, url: str, body: bytes) -> bytes:
        seconds = self.config.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await _post(client, url, body)
        except TimeoutError as error:
            raise TimeoutError(f"no answer within request_seconds {seconds:g}") from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error
        except httpx.HTTPError as error:
            raise _Unusable(f"{type(error).__name__}: {error}") from error

    def _read(self, answer: bytes, num_items: int) -> list[RewardResult]:
        try:
            told = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise _Unusable(f"the answer must be JSON, got {answer[:60]!r}") from error
        results = told.get("results") if isinstance(told, dict) else None
        if not isinstance(results, list) or len(results) != num_items:
            found = len(results) if isinstance(results, list) else "none"
            raise _Unusable(f"the answer must hold {num_items} results, found {found}")
        return [self._result(result, index) for index, result in enumerate(results)]

    def _result(self, result: object, index: int) -> RewardResult:
        if not isinstance(result, dict):
            raise _Unusable(f"a result must be an object, got {str(result)[:60]!r} (results[{index}])")
        if result.get("error"):
            return _no_verdict(VerdictStatus.CRASHED, f"the scorer says {str(result['error'])[:150]!r}")
        score, correct = result.get("score"), result.get("correct")
        if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= _MAX_SCORE:
            raise _Unusable(f"score must be a number within {_MAX_SCORE:g}, got {str(score)[:60]!r} (results[{index}])")
        if not isinstance(correct, bool | None):
            raise _Unusable(f"correct must be true or false, got {str(correct)[:60]!r} (results[{index}])")
        right = score >= self.config.threshold if correct is None else correct
        status = VerdictStatus.CORRECT if right else VerdictStatus.WRONG
        return RewardResult(value=float(score), verdict=Verdict(status=status))


async def _post(client: httpx.AsyncClient, url: str, body: bytes) -> bytes:
    headers = {"Content-Type": "application/json"}
    async with client.stream("POST", url, content=body, headers=headers) as response:
        answer = bytearray()
        async for chunk in response.aiter_bytes():
            answer += chunk
            if len(answer) > _MAX_ANSWER_BYTES:
                raise _Unusable(f"the answer has more than {_MAX_ANSWER_BYTES} bytes")
    if response.status_code == 200:
        return bytes(answer)
    reason = f"HTTP {response.status_code}: {answer[:_SHOWN_CHARACTERS].decode(errors='replace')!r}"
    if response.status_code == 429 or response.status_code >= 500:
        raise _TryAgain(reason, _retry_after(response.headers.get("Retry-After", "")))
    raise _Unusable(reason)


def _retry_after(value: str) -> float | None:
    """Seconds until the time that a Retry-After header names, as a number or a date; None where it names none."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    with suppress(ValueError):
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return None


def _item(request: RewardRequest) -> dict[str, object]:
    return {
        "prompt_id": request.prompt_id,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "response": request.response_text,
        "reference": request.reference_answer,
    }


def _masked(result: RewardResult, secrets: Sequence[str]) -> RewardResult:
    """A scorer may say what it was sent."""
    detail = result.verdict.detail
    # The longest first: a shorter one may be a part of it.
    for spelling in sorted({each for secret in secrets for each in spellings_of(secret)}, key=len, reverse=True):
        detail = detail.replace(spelling, "[token]")
    return replace(result, verdict=replace(result.verdict, detail=detail))


def _no_verdict(status: VerdictStatus, detail: str) -> RewardResult:
    return RewardResult(value=0.0, verdict=Verdict(status=status, detail=detail))


def build(config: Config) -> Http:
    # It logs every request that it makes, a line each.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return Http(config)
