"""One request to an agent: its whole reply as a value, or one of our errors, within the caller's deadline; and who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import httpx
import msgspec

from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.errors import DeadlinePassed, DeviceCannot, FieldopsError, LinkFault, LinkLost, MalformedReply, Unreachable
from fieldops.fleet import DeviceEntry, DeviceId, key_id
from fieldops.wire import SUPPORTED, ErrorDoc, Hello, decode, error_of, unb64

QUIET_S = 9.0  # how long one answer may take before the link counts as lost
REPLY_LIMIT = 4 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pipe:
    """A client and what ends it."""

    client: httpx.Client
    close: Callable[[], None]
    alive: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Reply:
    asked: str
    status: int
    body: bytes
    upload_offset: str | None

    @property
    def offset(self) -> int:
        """0 where none was said."""
        text = self.upload_offset or ""
        return int(text) if text.isascii() and text.isdigit() else 0


class Requests:
    """also: ids that the link itself proved (a host key's), accepted beside the entry's own.

    reconnect: makes a new pipe after a lost one; None where the client reconnects by itself (LAN).
    """

    def __init__(
        self, entry: DeviceEntry, pipe: Pipe, also: frozenset[str], reconnect: Callable[[Deadline], Pipe] | None
    ) -> None:
        self._entry = entry
        self._pipe = pipe
        self._also = also
        self._reconnect = reconnect
        self._doubted = False  # a request failed over this pipe

    @property
    def entry(self) -> DeviceEntry:
        """With the id the device proved, once hello was asked."""
        return self._entry

    @property
    def alive(self) -> bool:
        """Whether it may be kept for the next who wants it: the link stands, and no request failed over it."""
        return not self._doubted and self._pipe.alive()

    def close(self) -> None:
        self._pipe.close()

    def hello(self, deadline: Deadline) -> Hello:
        """Raises LinkFault (wrong_device) when another device than the entry's answers, MalformedReply, ..."""
        hello = self._get("/v1/hello", Hello, deadline)
        self._check_identity(hello)
        self._entry = replace(self._entry, id=DeviceId(hello.device))
        return hello

    def _check_identity(self, hello: Hello) -> None:
        try:
            proved = key_id(unb64(hello.public_key))
        except ValueError:
            proved = ""
        if proved != hello.device:
            raise MalformedReply(
                f"{self._entry.name} names an id that is not its key's", next_step="update its agent", device=self._entry.name
            )
        expected = self._entry.id
        if expected and hello.device != expected and expected not in self._also:
            raise LinkFault(
                f"{self._entry.name} should be {expected[:8]}, but {hello.device[:8]} answers there",
                reason="wrong_device",
                next_step="check the address: the device was swapped, or its address went to another",
                device=self._entry.name,
            )
        if hello.versions[0] > SUPPORTED[1] or hello.versions[1] < SUPPORTED[0]:
            raise DeviceCannot(
                f"its agent {hello.agent} speaks versions {hello.versions[0]} to {hello.versions[1]} of the API,"
                f" this laptop {SUPPORTED[0]} to {SUPPORTED[1]}",
                reason="api_version",
                next_step="update the older of the two",
                device=self._entry.name,
            )

    def _get(self, path: str, kind: type[T], deadline: Deadline, *, query: dict[str, str] | None = None) -> T:
        return self._decoded(self._request("GET", path, deadline, query=query), kind)

    def _send(self, method: str, path: str, kind: type[T], deadline: Deadline, *, body: bytes) -> T:
        return self._decoded(self._request(method, path, deadline, body=body), kind)

    def _decoded(self, reply: Reply, kind: type[T]) -> T:
        self._succeeded(reply)
        try:
            return decode(reply.body, kind, sender=self._entry.name, limit=REPLY_LIMIT)
        except MalformedReply as error:
            raise error.about(self._entry.name) from error.__cause__

    def _succeeded(self, reply: Reply) -> None:
        if reply.status < 300:
            return
        try:
            document = decoder(ErrorDoc).decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if reply.status in (404, 405) and not reply.asked.endswith("/v1/hello"):
                raise DeviceCannot(
                    f"its agent does not know {reply.asked}",
                    reason="api_version",
                    next_step="update the device's agent",
                    device=self._entry.name,
                ) from error
            raise MalformedReply(
                f"HTTP {reply.status} without a fieldops error",
                next_step="check that a fieldops agent listens there, and its version",
                device=self._entry.name,
            ) from error
        raise error_of(document).about(self._entry.name)

    def _request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        query: dict[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        quiet_s: float = QUIET_S,
    ) -> Reply:
        """One request, its whole reply read. The deadline holds for all of it, quiet_s for each silence in it."""
        left = deadline.check(f"{method} {path}", self._entry.name)
        limit = httpx.Timeout(min(left, QUIET_S), read=min(left, quiet_s))
        given = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers
        try:
            with self._pipe.client.stream(method, path, params=query, content=body, headers=given, timeout=limit) as response:
                parts: list[bytes] = []
                size = 0
                for part in response.iter_raw():
                    deadline.check(f"{method} {path}", self._entry.name)
                    size += len(part)
                    if size > REPLY_LIMIT:
                        raise self._too_long(method, path)
                    parts.append(part)
                return Reply(f"{method} {path}", response.status_code, b"".join(parts), response.headers.get("Upload-Offset"))
        except httpx.HTTPError as error:
            raise self._fault(error, deadline, f"{method} {path}") from error
        except FieldopsError as error:
            raise error.about(self._entry.name) from error.__cause__

    def _too_long(self, method: str, path: str) -> MalformedReply:
        return MalformedReply(
            f"{method} {path}: more than {REPLY_LIMIT} bytes", next_step="check the agent's version", device=self._entry.name
        )

    def _fault(self, error: httpx.HTTPError, deadline: Deadline, what: str) -> FieldopsError:
        name = self._entry.name
        self._doubted = True
        if deadline.passed:
            return DeadlinePassed(
                f"no answer in time to {what}", phase="http", next_step="allow more time with --timeout", device=name
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and self._reconnect is None:
            return Unreachable(
                f"cannot connect: {error or type(error).__name__}",
                phase="tcp",
                next_step="check the cable, the address and that the agent runs",
                device=name,
            )
        if isinstance(error, httpx.RequestError):
            return LinkLost(
                f"the link was lost during {what}: {error or type(error).__name__}",
                next_step="check the cable and the device's power; what it did meanwhile is read at the next try",
                device=name,
            )
        return MalformedReply(f"{what}: {error}", next_step="check the agent's version", device=name)
