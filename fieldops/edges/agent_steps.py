"""A change told to an agent: the requests it takes, and the conversation that survives its link.

Each turn looks at the device's own record and does the next thing it waits for, so a turn that failed in the middle is simply
looked at again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

from fieldops.bundles.manifest import MANIFEST_FILE, MANIFEST_LIMIT_BYTES
from fieldops.deadline import Deadline
from fieldops.edges.agent_requests import QUIET_S, Requests
from fieldops.errors import DeviceCannot
from fieldops.fleet import DeviceId
from fieldops.ports import Grant, OnProgress, Payload, Progress
from fieldops.steps import Stage, Step
from fieldops.wire import (
    ENVELOPE_LIMIT,
    METADATA_LIMIT,
    Challenge,
    ChallengeRequest,
    MetadataUpload,
    StepRecord,
    WantedBlob,
    b64,
    encode,
)

HASHING_S = 60.0  # the device checks and fsyncs a whole payload before it answers its last byte
WAIT_S = 2.0  # one turn of waiting for a record; also how soon a cancel is noticed
RETRY_S = 0.5
PIECE = 128 << 10


class StepRequests(Requests):
    """What is asked and sent for one change."""

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        return self._record(step_id, deadline, wait_s=0)

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


class Conversation:
    """What is still to be said about one step. Holds no state the device does not know better."""

    def __init__(self, device: StepRequests, grant: Grant, step: Step, payload: Payload | None, progress: OnProgress) -> None:
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


def silent(_: Progress) -> None:
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
