"""The agent's API as ports.Device, the same over every link. What is under the client does not matter here.

Reading is one request. `apply` is a conversation that survives its link: each turn looks at the device's own record and
does the next thing it waits for, so a turn that failed in the middle is simply looked at again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar

import httpx
import msgspec

from fieldops.bundles.manifest import MANIFEST_FILE, MANIFEST_LIMIT_BYTES
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.errors import (
    DeadlinePassed,
    DeviceCannot,
    FieldopsError,
    HostKeyUnknown,
    LinkFault,
    LinkLost,
    MalformedReply,
    Unreachable,
)
from fieldops.fleet import DeviceEntry, DeviceId, Resources, key_id
from fieldops.ports import UNVERIFIED, Grant, OnProgress, Payload, Progress
from fieldops.steps import Stage, Step
from fieldops.wire import (
    ENVELOPE_LIMIT,
    METADATA_LIMIT,
    SUPPORTED,
    Challenge,
    ChallengeRequest,
    DriftReports,
    ErrorDoc,
    Hello,
    JournalPage,
    MetadataUpload,
    ModelsReport,
    SamplePage,
    StepRecord,
    TelemetryPage,
    TrustStatus,
    WantedBlob,
    b64,
    decode,
    encode,
    error_of,
    unb64,
)

QUIET_S = 9.0  # how long one answer may take before the link counts as lost
HASHING_S = 60.0  # the device checks and fsyncs a whole payload before it answers its last byte
WAIT_S = 2.0  # one turn of waiting for a record; also how soon a cancel is noticed
RETRY_S = 0.5
PIECE = 128 << 10
REPLY_LIMIT = 4 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pipe:
    """A client and what ends it."""

    client: httpx.Client
    close: Callable[[], None]
    alive: Callable[[], bool] = lambda: True


class AgentDevice:
    """Implements ports.Device.

    also: ids that the link itself proved (a host key's), accepted beside the entry's own. reconnect: makes a new pipe after
    a lost one; None where the client reconnects by itself (LAN).
    """

    def __init__(
        self,
        entry: DeviceEntry,
        link_name: str,
        client: httpx.Client,
        on_close: Callable[[], None],
        *,
        also: frozenset[str] = frozenset(),
        reconnect: Callable[[Deadline], Pipe] | None = None,
        unverified: HostKeyUnknown | None = None,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self._entry = entry
        self._link = link_name
        self._pipe = Pipe(client, on_close, alive)
        self._unverified = unverified
        self._doubted = False
        self._also = also
        self._reconnect = reconnect

    @property
    def entry(self) -> DeviceEntry:
        """With the id the device proved, once hello was asked."""
        return self._entry

    @property
    def link(self) -> str:
        return self._link if self._unverified is None else f"{self._link} {UNVERIFIED}"

    @property
    def alive(self) -> bool:
        """Whether it may be kept for the next who wants it: the link stands, and no request failed over it."""
        return not self._doubted and self._pipe.alive()

    def close(self) -> None:
        self._pipe.close()

    # --- reading

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

    def resources(self, deadline: Deadline) -> Resources:
        return self._get("/v1/resources", Resources, deadline)

    def models(self, deadline: Deadline) -> ModelsReport:
        return self._get("/v1/models", ModelsReport, deadline)

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        return self._get("/v1/drift", DriftReports, deadline, query={"model": model} if model else None)

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        return self._get("/v1/journal", JournalPage, deadline, query={"after": str(after)})

    def telemetry(self, after: int, deadline: Deadline) -> TelemetryPage:
        return self._get("/v1/telemetry", TelemetryPage, deadline, query={"after": str(after)})

    def samples(self, model: str, after: int, deadline: Deadline) -> SamplePage:
        return self._get("/v1/samples", SamplePage, deadline, query={"model": model, "after": str(after)})

    def trust(self, deadline: Deadline) -> TrustStatus:
        return self._get("/v1/trust", TrustStatus, deadline)

    def logs(self, lines: int, deadline: Deadline) -> list[str]:
        return self._get("/v1/logs", list[str], deadline, query={"lines": str(lines)})

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        return self._record(step_id, deadline, wait_s=0)

    # --- changing

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        if self._unverified is not None:
            raise self._unverified
        talk = _Conversation(self, grant, step, payload, progress or _silent)
        lost: LinkLost | Unreachable | None = None
        while True:
            try:
                if lost is not None:
                    self._again(deadline)
                record = talk.turn(deadline)
            except (LinkLost, Unreachable) as error:
                if not talk.sent:
                    raise  # nothing was asked of the device yet, so there is nothing to find out
                lost = error
            except DeadlinePassed as error:
                if lost is None:
                    raise
                raise LinkLost(
                    f"{lost.message}; not heard again in time, so what the device did is unknown",
                    next_step=f"connect again and look: fieldops models {self._entry.name}",
                    device=self._entry.name,
                ) from error
            else:
                if record.ended:
                    return record
                lost = None

    def _again(self, deadline: Deadline) -> None:
        """After a lost link: a moment's pause, then a new pipe where this end must make one."""
        deadline.cancel.wait(min(RETRY_S, deadline.left()))
        deadline.check("the device", self._entry.name)
        if self._reconnect is not None:
            new = self._reconnect(deadline)
            old, self._pipe = self._pipe, new
            self._doubted = False
            old.close()

    def sign_step(self, grant: Grant, step: Step, deadline: Deadline) -> bytes:
        """The envelope to post. The grant signs anew for each challenge; the step's id stays the same."""
        challenge = self._send(
            "POST", "/v1/challenge", Challenge, deadline, body=encode(ChallengeRequest(log=_log_of(grant.step_id)))
        )
        device = self._entry.id if not self._also else None
        envelope = grant.envelope(device or DeviceId(self.hello(deadline).device), step, challenge)
        if len(envelope) > ENVELOPE_LIMIT:
            raise DeviceCannot(
                f"the signed step is {len(envelope)} bytes; a device takes {ENVELOPE_LIMIT}",
                reason="too_large",
                next_step="sync the audit log first, which shortens its proof",
                device=self._entry.name,
            )
        return envelope

    def post_step(self, envelope: bytes, deadline: Deadline) -> StepRecord:
        return self._send("POST", "/v1/steps", StepRecord, deadline, body=envelope)

    def wait_record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        return self._record(step_id, deadline, wait_s=WAIT_S)

    def _record(self, step_id: str, deadline: Deadline, *, wait_s: float) -> StepRecord | None:
        query = {"wait": f"{min(wait_s, deadline.left()):g}"} if wait_s else None
        reply = self._request("GET", f"/v1/steps/{step_id}", deadline, query=query, quiet_s=QUIET_S + wait_s)
        if reply.status == 404:
            return None
        return self._decoded(reply, StepRecord)

    def put_metadata(self, step_id: str, files: dict[str, bytes], deadline: Deadline) -> None:
        body = encode(MetadataUpload(files={name: b64(data) for name, data in files.items()}))
        if len(body) > METADATA_LIMIT:
            raise DeviceCannot(
                f"the metadata is {len(body)} bytes; a device takes {METADATA_LIMIT}",
                reason="too_large",
                next_step="ask the release team for a stick with fewer old versions",
                device=self._entry.name,
            )
        self._succeeded(self._request("PUT", f"/v1/steps/{step_id}/metadata", deadline, body=body, quiet_s=HASHING_S))

    def put_blob(self, blob: WantedBlob, reader: BinaryIO, deadline: Deadline, sent: Callable[[int], None]) -> None:
        """Upload the rest of one blob from where the device has it. sent: called with the bytes that are there so far.

        A blob that is all there is still put once, with no bytes: the device checks its hash at that.
        """
        path = f"/v1/blobs/{blob.sha256}"
        while True:
            head = self._request("HEAD", path, deadline)
            offset = min(head.offset, blob.size) if head.status < 300 else 0
            body = _pieces(reader, offset, blob.size, deadline, sent)
            headers = {"Upload-Offset": str(offset), "Content-Length": str(blob.size - offset)}
            reply = self._request("PUT", path, deadline, body=body, headers=headers, quiet_s=HASHING_S)
            if reply.status != 409:
                self._succeeded(reply)
                return
            # another upload, mostly our own of before a lost link: the device will notice its end
            deadline.cancel.wait(min(RETRY_S, deadline.left()))

    # --- one request

    def _get(self, path: str, kind: type[T], deadline: Deadline, *, query: dict[str, str] | None = None) -> T:
        return self._decoded(self._request("GET", path, deadline, query=query), kind)

    def _send(self, method: str, path: str, kind: type[T], deadline: Deadline, *, body: bytes) -> T:
        return self._decoded(self._request(method, path, deadline, body=body), kind)

    def _decoded(self, reply: _Reply, kind: type[T]) -> T:
        self._succeeded(reply)
        try:
            return decode(reply.body, kind, sender=self._entry.name, limit=REPLY_LIMIT)
        except MalformedReply as error:
            raise error.about(self._entry.name) from error.__cause__

    def _succeeded(self, reply: _Reply) -> None:
        if reply.status < 300:
            return
        try:
            document = decoder(ErrorDoc).decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    ) -> _Reply:
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
                return _Reply(response.status_code, b"".join(parts), response.headers.get("Upload-Offset"))
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


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    upload_offset: str | None

    @property
    def offset(self) -> int:
        """0 where none was said."""
        text = self.upload_offset or ""
        return int(text) if text.isascii() and text.isdigit() else 0


class _Conversation:
    """What is still to be said about one step. Holds no state the device does not know better."""

    def __init__(self, device: AgentDevice, grant: Grant, step: Step, payload: Payload | None, progress: OnProgress) -> None:
        self._device = device
        self._grant = grant
        self._step = step
        self._payload = payload
        self._progress = progress
        self._begun = False
        self._metadata_sent = False
        self._waiting = False  # the last turn left nothing to bring; after a lost link there may be something
        self.sent = False  # a post was sent; without its answer nobody here knows whether it came

    def turn(self, deadline: Deadline) -> StepRecord:
        """One exchange. Raises LinkLost or Unreachable: the next turn finds out what became of this one."""
        record = self._look(deadline, wait=self._waiting)
        self._waiting = False
        if record is None:
            envelope = self._device.sign_step(self._grant, self._step, deadline)
            self.sent = True
            record = self._device.post_step(envelope, deadline)
        self._begun = True
        self._progress(Progress(record.phase or record.state, record.done_bytes, record.total_bytes or None))
        if not record.ended:
            self._bring(record, deadline)
        self._waiting = True
        return record

    def _look(self, deadline: Deadline, *, wait: bool) -> StepRecord | None:
        if self._begun:
            ask = self._device.wait_record if wait else self._device.record
            found = ask(self._grant.step_id, deadline)
            if found is None:
                raise DeviceCannot(
                    "the device no longer knows the step it began",
                    reason="step_forgotten",
                    next_step="look at its state with `fieldops models`, then begin again",
                    device=self._device.entry.name,
                )
            return found
        return self._device.record(self._grant.step_id, deadline) if self.sent else None

    def _bring(self, record: StepRecord, deadline: Deadline) -> None:
        if record.phase == "metadata" and not self._metadata_sent:
            self._device.put_metadata(record.step_id, self._metadata(), deadline)
            self._metadata_sent = True
        elif record.phase == "payload" and record.wanted:
            done = record.done_bytes
            for blob in record.wanted:
                self._upload(record, blob, done - blob.have, deadline)
                done += blob.size - blob.have

    def _upload(self, record: StepRecord, blob: WantedBlob, before: int, deadline: Deadline) -> None:
        try:
            reader = self._means().open(blob.sha256)
        except KeyError as error:
            raise DeviceCannot(
                f"the device asks for {blob.target}, which this laptop did not verify",
                reason="unknown_blob",
                next_step="verify the stick again on this laptop, then repeat",
                device=self._device.entry.name,
            ) from error
        total = record.total_bytes or None
        with reader:
            self._device.put_blob(
                blob, reader, deadline, lambda there: self._progress(Progress("payload", max(0, before + there), total))
            )

    def _metadata(self) -> dict[str, bytes]:
        """With the manifest of what is to be staged, so that the device can refuse before the first byte of payload."""
        files = self._means().metadata()
        if isinstance(self._step, Stage):
            with suppress(KeyError), self._means().open(self._step.manifest_sha256) as reader:
                files[MANIFEST_FILE] = reader.read(MANIFEST_LIMIT_BYTES)
        return files

    def _means(self) -> Payload:
        if self._payload is None:
            raise DeviceCannot(
                f"{type(self._step).__name__} needs signed metadata, and none was given",
                reason="no_payload",
                next_step="refresh trust from a stick first: fieldops stick verify",
                device=self._device.entry.name,
            )
        return self._payload


def _silent(_: Progress) -> None:
    return


def _pieces(reader: BinaryIO, offset: int, size: int, deadline: Deadline, sent: Callable[[int], None]) -> Iterator[bytes]:
    reader.seek(offset, os.SEEK_SET)
    while offset < size:
        deadline.check("the upload")
        data = reader.read(min(PIECE, size - offset))
        if not data:
            raise DeviceCannot(
                "the laptop's copy is shorter than what was signed",
                reason="short_copy",
                next_step="verify the stick again on this laptop, then repeat",
            )
        yield data
        offset += len(data)
        sent(offset)


def _log_of(step_id: str) -> str:
    laptop, epoch, _ = step_id.split(".")
    return f"fieldops/{laptop}/{epoch}"
