"""A small client of cima: the calls and the socket a mobile app needs, and nothing more."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

DEADLINE_S = 5.0
"""How long anything may take unless a step says otherwise."""

MAX_FIXES_PER_FRAME = 200

Frame = dict[str, Any]
Fix = dict[str, Any]


class Unexpected(AssertionError):
    """The server did not do what the contract says."""


# --- HTTP ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came back, to the byte."""

    status: int
    body: bytes
    content_type: str

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Api:
    """The REST half, with or without a token."""

    _opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __init__(self, url: str, token: str | None = None):
        self.url = url.rstrip("/")
        self.token = token

    def as_bearer(self, token: str) -> Api:
        return Api(self.url, token)

    async def send(self, method: str, path: str, body: Any = None, idempotency_key: str | None = None) -> Answer:
        """One request; any status is an answer."""
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        return await asyncio.to_thread(self._exchange, request)

    async def call(
        self, method: str, path: str, body: Any = None, *, status: int | None = None, idempotency_key: str | None = None
    ) -> Any:
        """One request that must succeed (with `status`, if given); returns its JSON."""
        answer = await self.send(method, path, body, idempotency_key)
        if answer.status != status if status else not 200 <= answer.status < 300:
            raise Unexpected(
                f"{method} {path}: {answer.status} instead of {status or '2xx'}: {answer.body[:600].decode()}"
            )
        return answer.json()

    async def pages(self, path: str) -> list[Any]:
        """All items of a paged list."""
        items: list[Any] = []
        after = None
        while True:
            more = f"{'&' if '?' in path else '?'}after={after}" if after is not None else ""
            page = await self.call("GET", path + more, status=200)
            items += page["items"]
            after = page["next"]
            if after is None:
                return items

    def _exchange(self, request: urllib.request.Request) -> Answer:
        try:
            with self._opener.open(request, timeout=DEADLINE_S) as response:
                return Answer(response.status, response.read(), response.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, refusal.read(), refusal.headers.get("Content-Type", ""))


# --- the socket ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """A moment on a socket: how many frames had come, and when it was."""

    frames: int
    at: float


class Stream:
    """One socket. Frames are kept in the order they came; waiting never sleeps, it ends with a frame or a deadline."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self._came: list[tuple[float, Frame]] = []
        self._news = asyncio.Condition()
        self.cursor = 0
        """The newest place of the inbox this socket has told of."""
        self._closed = False
        self._reader = asyncio.create_task(self._read())
        self.opened = Mark(0, _clock())

    @classmethod
    async def open(cls, url: str, token: str) -> Stream:
        """Opens `/v1/stream` with the token in the `Authorization` header."""
        address = "ws" + url.rstrip("/").removeprefix("http") + "/v1/stream"
        headers = {"Authorization": f"Bearer {token}"}
        return cls(
            await connect(
                address, additional_headers=headers, compression=None, proxy=None, open_timeout=DEADLINE_S
            )
        )

    @staticmethod
    async def refused_with(url: str, token: str) -> int:
        """The HTTP status with which the upgrade is refused."""
        try:
            stream = await Stream.open(url, token)
        except InvalidStatus as refusal:
            return refusal.response.status_code
        await stream.close()
        raise Unexpected("the socket opened with a token that must be refused")

    async def send(self, frame: Frame) -> None:
        await self.send_text(json.dumps(frame))

    async def send_text(self, text: str) -> None:
        """Sends anything; that the socket is closed is for the next `expect` or `closed` to tell."""
        with suppress(ConnectionClosed):
            await self._socket.send(text)

    def now(self) -> Mark:
        """The present moment; what a later `expect` looks for came after it."""
        return Mark(len(self._came), _clock())

    async def expect(
        self, kind: str, where: Callable[[Frame], bool] = lambda _: True, *, after: Mark, within: float = DEADLINE_S
    ) -> Frame:
        """The first frame of this kind that came after a mark, no later than `within` seconds after it."""
        looked_at = after.frames
        try:
            async with asyncio.timeout_at(after.at + within), self._news:
                while True:
                    for at, frame in self._came[looked_at:]:
                        if frame.get("type") == kind and at <= after.at + within and where(frame):
                            return frame
                    looked_at = len(self._came)
                    if self._closed:
                        raise Unexpected(
                            f"no `{kind}`: the socket closed with {self._socket.close_code}; "
                            f"{self._last_frames(after.frames)}"
                        )
                    await self._news.wait()
        except TimeoutError:
            raise Unexpected(f"no such `{kind}` within {within} s; {self._last_frames(after.frames)}") from None

    def refuse(self, kind: str, *, after: Frame, before: Mark | None = None) -> None:
        """Fails if a frame of this kind came after the given frame (and before the mark)."""
        first = next(n for n, (_, frame) in enumerate(self._came) if frame is after) + 1
        for _, frame in self._came[first : before.frames if before else None]:
            if frame.get("type") == kind:
                raise Unexpected(f"`{kind}` came after `{after['type']}`: {_short(frame)}")

    async def resume(self, cursor: int) -> tuple[list[Frame], Frame]:
        """Replays the inbox after `cursor`: the alerts with their cursors, and the closing `resumed`."""
        asked = self.now()
        await self.send({"type": "resume", "cursor": cursor})
        resumed = await self.expect("resumed", after=asked)
        frames = [frame for _, frame in self._came[asked.frames :]]
        replayed = frames[: next(n for n, frame in enumerate(frames) if frame is resumed)]
        return [frame for frame in replayed if frame.get("cursor") is not None], resumed

    async def settle(self) -> None:
        """Waits until the server has read what was sent so far: it answers a `resume` from the newest alert."""
        _, resumed = await self.resume(self.cursor)
        if not resumed["complete"]:
            raise Unexpected(f"a resume from the newest cursor is not complete: {resumed}")

    async def closed(self, *, after: Mark, within: float) -> int | None:
        """The code with which the server closes this socket, no later than `within` seconds after a mark."""
        try:
            async with asyncio.timeout_at(after.at + within):
                await asyncio.shield(self._reader)
        except TimeoutError:
            raise Unexpected(f"the socket is still open after {within} s; {self._last_frames(after.frames)}") from None
        return self._socket.close_code

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                frame = json.loads(text)
                if frame.get("type") in ("welcome", "alert"):
                    self.cursor = max(self.cursor, frame.get("cursor") or 0)
                async with self._news:
                    self._came.append((_clock(), frame))
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        finally:
            self._closed = True
            async with self._news:
                self._news.notify_all()

    def _last_frames(self, since: int) -> str:
        came = [_short(frame) for _, frame in self._came[since:]][-8:]
        return "came instead: " + (" | ".join(came) if came else "nothing")


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _short(frame: Frame) -> str:
    text = json.dumps(frame)
    return text if len(text) <= 400 else text[:400] + "..."


# --- the phone -----------------------------------------------------------------------------------------------------


class Phone:
    """The sending half of a device: numbers its fixes and keeps within the window the server gave it."""

    def __init__(self, stream: Stream, welcome: Frame):
        self.stream = stream
        self.seq: int = welcome["last_seq"] or 0
        self.window: int = welcome["window"]

    def fix(self, lat: float, lon: float, fixed_at: datetime | None = None) -> Fix:
        """The next fix of this device."""
        self.seq += 1
        at = (fixed_at or datetime.now(UTC)).isoformat(timespec="milliseconds")
        return {"seq": self.seq, "lat": lat, "lon": lon, "fixed_at": at, "accuracy_m": 5.0, "battery": 0.8}

    async def send(self, fixes: Iterable[Fix]) -> int:
        """Sends fixes, never more unacknowledged than the window allows; returns the `seq` that was acked last."""
        waiting, unacked, acked = deque(fixes), deque[int](), 0
        began = self.stream.now()
        while waiting or unacked:
            while room := min(self.window - len(unacked), MAX_FIXES_PER_FRAME, len(waiting)):
                batch = [waiting.popleft() for _ in range(room)]
                unacked.extend(fix["seq"] for fix in batch)
                await self.stream.send({"type": "fixes", "fixes": batch})
            oldest = unacked[0]
            since = Mark(began.frames, self.stream.now().at)
            frame = await self.stream.expect("acked", lambda f: f["seq"] >= oldest, after=since)
            acked = frame["seq"]
            while unacked and unacked[0] <= acked:
                unacked.popleft()
        return acked
