"""What the laptop makes of what an agent answers: every reply is a value or one of our errors, in the caller's time."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import httpx
import pytest

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges import keys
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.agent_requests import Pipe
from fieldops.errors import (
    Cancelled,
    DeadlinePassed,
    DeviceCannot,
    FieldopsError,
    LinkFault,
    LinkLost,
    MalformedReply,
    PolicyRefused,
    TrustRefused,
    Unreachable,
)
from fieldops.fleet import Address, DeviceEntry, DeviceId
from fieldops.steps import Commit, Stage, Step
from fieldops.wire import Challenge, ErrorDoc, Hello, StepRecord, WantedBlob, b64, encode
from tests.links.conftest import soon

KEY = keys.Ed25519Signer.generate()
STEP_ID = f"{KEY.id}.1.7"
Answer = Callable[[httpx.Request], httpx.Response]


def _pipe(answer: Answer) -> httpx.Client:
    """A client whose replies arrive as they do from a socket: unread."""

    def unread(request: httpx.Request) -> httpx.Response:
        made = answer(request)
        if not made.is_stream_consumed:
            return made
        return httpx.Response(made.status_code, headers=made.headers, stream=httpx.ByteStream(made.content))

    return httpx.Client(transport=httpx.MockTransport(unread), base_url="http://agent")


def _device(answer: Answer, *, reconnect: Callable[[Deadline], Pipe] | None = None) -> AgentDevice:
    client = _pipe(answer)
    entry = DeviceEntry(name="edge", id=DeviceId(KEY.id), lan=Address("10.0.0.1", 1))
    return AgentDevice(entry, "lan", client, client.close, reconnect=reconnect)


def _hello(**changes: object) -> bytes:
    values: dict[str, object] = {
        "device": KEY.id,
        "public_key": b64(KEY.public_key),
        "versions": (1, 1),
        "agent": "1",
        "enrolled": True,
        "boot_id": "b",
        "time": 1.0,
        **changes,
    }
    return encode(Hello(**values))  # type: ignore[arg-type]


# --- one reply -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"", MalformedReply),
        (200, b"<html>", MalformedReply),
        (200, b'{"device": 5}', MalformedReply),
        (200, b"\xff\xfe", MalformedReply),
        (200, b"[" * 400_000, MalformedReply),
        (200, b'"' + b"x" * (5 << 20) + b'"', MalformedReply),
        (302, b"", MalformedReply),
        (500, b"Internal Server Error", MalformedReply),
        (403, encode(ErrorDoc(exit=4, reason="policy", message="no", next="ask")), PolicyRefused),
        (409, encode(ErrorDoc(exit=3, reason="rollback", message="old", next="newer")), TrustRefused),
        (409, encode(ErrorDoc(exit=3, reason="no_such_reason", message="?", next="?")), MalformedReply),
        (507, encode(ErrorDoc(exit=6, reason="disk_full", message="full", next="prune")), DeviceCannot),
        (401, encode(ErrorDoc(exit=5, reason="not_enrolled", message="who?", next="enrol")), LinkFault),
        (200, _hello(device="a" * 52), MalformedReply),
        (200, _hello(public_key="???"), MalformedReply),
        (200, _hello(versions=(2, 3)), DeviceCannot),
    ],
)
def test_every_reply_is_a_value_or_one_of_our_errors(status: int, body: bytes, error: type[FieldopsError]) -> None:
    device = _device(lambda _: httpx.Response(status, content=body))
    with pytest.raises(error) as caught:
        device.hello(soon())
    assert caught.value.device == "edge"
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("met", "error"),
    [
        (httpx.ConnectError("refused"), Unreachable),
        (httpx.ConnectTimeout("slow"), Unreachable),
        (httpx.ReadTimeout("slow"), LinkLost),
        (httpx.WriteError("reset"), LinkLost),
        (httpx.RemoteProtocolError("gone"), LinkLost),
    ],
)
def test_what_the_link_does_is_one_of_our_errors(met: httpx.RequestError, error: type[FieldopsError]) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise met

    with pytest.raises(error) as caught:
        _device(fail).resources(soon())
    assert caught.value.__cause__ is met


def test_a_reply_that_dribbles_ends_with_the_deadline() -> None:
    at = [0.0]

    def drops() -> Iterator[bytes]:
        for _ in range(400):
            at[0] += 0.01
            yield b" "

    with pytest.raises(DeadlinePassed):
        _device(lambda _: httpx.Response(200, content=drops())).hello(Deadline.after(0.2, lambda: at[0]))
    assert at[0] < 0.5  # it did not wait for the last of them


# --- a conversation ----------------------------------------------------------------------------------------------------------


@dataclass
class TheGrant:
    """Implements ports.Grant; counts what it signs."""

    step_id: str = STEP_ID
    signed: list[str] = field(default_factory=list)

    def envelope(self, device: DeviceId, step: Step, challenge: Challenge) -> bytes:
        self.signed.append(challenge.nonce)
        return json.dumps({"device": device, "nonce": challenge.nonce}).encode()


@dataclass
class Means:
    """Implements ports.Payload."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def metadata(self) -> dict[str, bytes]:
        return {"timestamp.json": b"{}"}

    def open(self, sha256: str) -> BinaryIO:
        return io.BytesIO(self.blobs[sha256])


@dataclass
class Agent:
    """A scripted device: what it still needs decides its phase. lose: (method, path end) whose answer gets lost, once."""

    blobs: dict[str, bytes]
    lose: tuple[str, str] = ("", "")
    have: dict[str, bytes] = field(default_factory=dict)
    metadata: bool = False
    posted: int = 0
    heard: list[str] = field(default_factory=list)
    deaf: bool = False
    forgetful: bool = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(f"{request.method} {request.url.path.rsplit('/', 1)[-1][:10]}")
        if self.deaf:
            raise httpx.ReadError("silence")
        response = self._answer(request)
        method, end = self.lose
        if request.method == method and request.url.path.endswith(end) and method:
            self.lose = ("", "")
            raise httpx.ReadError("the cable was pulled")
        return response

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/challenge":
            return self._said(Challenge(nonce=f"n{len(self.heard)}", known_size=0))
        if path == "/v1/steps":
            self.posted += 1
            return self._said(self._record(), 202)
        if path.endswith("/metadata"):
            self.metadata = True
            return httpx.Response(202)
        if path.startswith("/v1/blobs/"):
            return self._blob(request, path.rsplit("/", 1)[-1])
        if not self.posted or (self.forgetful and self.metadata):
            return self._said(ErrorDoc(exit=2, reason="unknown_step", message="never heard", next="again"), 404)
        return self._said(self._record())

    def _said(self, value: object, status: int = 200) -> httpx.Response:
        return httpx.Response(status, content=encode(value))

    def _blob(self, request: httpx.Request, sha: str) -> httpx.Response:
        have = self.have.get(sha, b"")
        if request.method == "PUT":
            if request.headers["Upload-Offset"] != str(len(have)):
                return httpx.Response(409, headers={"Upload-Offset": str(len(have))}, content=b"{}")
            have = self.have[sha] = have + request.read()
        return httpx.Response(200, headers={"Upload-Offset": str(len(have))})

    def _record(self) -> StepRecord:
        missing = [sha for sha, data in self.blobs.items() if self.have.get(sha) != data]
        if self.metadata and not missing:
            return StepRecord(step_id=STEP_ID, kind="Stage", state="done", version="2")
        wanted = [
            WantedBlob(sha256=sha, size=len(data), have=len(self.have.get(sha, b"")), target=f"t/{sha}")
            for sha, data in self.blobs.items()
        ]
        phase = "payload" if self.metadata else "metadata"
        return StepRecord(
            step_id=STEP_ID,
            kind="Stage",
            state="running",
            phase=phase,
            wanted=wanted if self.metadata else [],
            total_bytes=sum(map(len, self.blobs.values())),
            done_bytes=sum(map(len, self.have.values())),
        )


STAGE = Stage(channel="stable", model="digits", version="2", manifest_sha256="0" * 64)
BLOBS = {"a" * 64: b"abcdef" * 50_000, "b" * 64: b"", "c" * 64: b"c"}


@pytest.mark.parametrize(
    "lose",
    [
        ("", ""),
        ("POST", "/steps"),
        ("PUT", "/metadata"),
        ("GET", STEP_ID),
        ("HEAD", "a" * 64),
        ("PUT", "a" * 64),
        ("PUT", "c" * 64),
    ],
    ids=["nothing", "post", "metadata", "record", "head", "blob", "last"],
)
def test_a_lost_answer_at_any_place_changes_nothing_in_the_end(lose: tuple[str, str]) -> None:
    agent, grant = Agent(BLOBS, lose=lose), TheGrant()
    agent.have["a" * 64] = BLOBS["a" * 64][:100_000]  # what an earlier try left
    seen: list[tuple[str, int, int | None]] = []
    record = _device(agent).apply(
        grant, STAGE, soon(), payload=Means(BLOBS), progress=lambda at: seen.append((at.phase, at.done, at.total))
    )
    assert record.state == "done"
    assert agent.have == BLOBS
    assert agent.posted == 1
    assert len(grant.signed) == 1
    assert seen[0][0] == "metadata"
    assert ("payload", 300_001, 300_001) in seen
    assert all(done <= 300_001 for _, done, _ in seen)


def test_a_lost_link_is_made_anew_where_it_can_be() -> None:
    agent = Agent(BLOBS, lose=("PUT", "/metadata"))
    made: list[Pipe] = []
    closed: list[str] = []

    def reconnect(_: Deadline) -> Pipe:
        made.append(Pipe(_pipe(agent), lambda: closed.append("new")))
        return made[-1]

    device = _device(agent, reconnect=reconnect)
    assert device.apply(TheGrant(), STAGE, soon(), payload=Means(BLOBS)).state == "done"
    assert len(made) == 1
    device.close()
    assert closed == ["new"]


def test_a_device_that_is_not_heard_again_is_link_lost_at_the_deadline() -> None:
    agent = Agent(BLOBS)

    def deaf_after_post(request: httpx.Request) -> httpx.Response:
        response = agent(request)
        agent.deaf = agent.posted > 0
        return response

    with pytest.raises(LinkLost) as caught:
        _device(deaf_after_post).apply(TheGrant(), STAGE, soon(1.0), payload=Means(BLOBS))
    assert "unknown" in caught.value.message


def test_a_device_that_never_answered_is_not_asked_for_ever() -> None:
    agent = Agent(BLOBS, deaf=True)
    with pytest.raises(LinkLost):
        _device(agent).apply(TheGrant(), STAGE, soon(60), payload=Means(BLOBS))
    assert agent.heard == ["POST challenge"]


def test_a_cancel_ends_the_conversation() -> None:
    token = CancelToken()
    agent = Agent(BLOBS)

    def cancel_at_upload(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            token.cancel()
        return agent(request)

    with pytest.raises(Cancelled):
        _device(cancel_at_upload).apply(TheGrant(), STAGE, Deadline.after(60, time.monotonic, token), payload=Means(BLOBS))
    assert agent.have.get("a" * 64, b"") == b""


@pytest.mark.parametrize(
    ("agent", "payload", "reason"),
    [
        (Agent(BLOBS), None, "no_payload"),
        (Agent(BLOBS), Means({}), "unknown_blob"),
        (Agent(BLOBS), Means({**BLOBS, "a" * 64: b"short"}), "short_copy"),
        (Agent(BLOBS, forgetful=True), Means(BLOBS), "step_forgotten"),
    ],
)
def test_what_stops_a_conversation_is_said(agent: Agent, payload: Means | None, reason: str) -> None:
    with pytest.raises(DeviceCannot) as caught:
        _device(agent).apply(TheGrant(), STAGE, soon(), payload=payload)
    assert caught.value.reason == reason


def test_a_refusal_of_the_step_is_raised_as_it_was_said() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/challenge":
            return httpx.Response(200, content=encode(Challenge(nonce="n", known_size=0)))
        return httpx.Response(403, content=encode(ErrorDoc(exit=4, reason="policy", message="role x may not", next="ask")))

    with pytest.raises(PolicyRefused) as caught:
        _device(refuse).apply(TheGrant(), Commit(model="digits", version="2"), soon())
    assert (caught.value.reason, caught.value.device) == ("policy", "edge")
