"""Payload as it comes: appended at its offset, only for digests that a running step wants, whole only when the hash is right."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fieldops.agent.admission import Admission
from fieldops.agent.device import Device
from fieldops.agent.replies import reply
from fieldops.agent.shelf import Shelf
from fieldops.agent.transaction import Transaction
from fieldops.edges.disk import Written, storage_fault
from fieldops.errors import DeviceCannot, TrustRefused, UsageFault
from fieldops.wire import WantedBlob, error_doc

SIGN_EVERY_BYTES = 4 << 20
SILENT_S = 10.0  # a laptop gives a link up before that; one that was cut off without a word is never heard of again


@dataclass(slots=True)
class _Writer:
    """Who brings a blob now. heard: when something last came of it."""

    heard: float
    work: asyncio.Task[int] | None = None


class Uploads:
    """One writer a blob; a second one is told to wait by 409, or takes over from one that has gone silent."""

    def __init__(self, device: Device, admission: Admission, transaction: Transaction) -> None:
        self._device = device
        self._admission = admission
        self._transaction = transaction
        self._shelf = Shelf(device.home)
        self._writing: dict[str, _Writer] = {}

    def offset(self, sha256: str) -> Response:
        return Response(headers={"Upload-Offset": str(self._shelf.have(sha256))})

    def _wanted(self, sha256: str) -> tuple[str, WantedBlob]:
        for record in self._device.registry.running():
            for blob in record.wanted:
                if blob.sha256 == sha256:
                    return record.step_id, blob
        raise UsageFault(
            f"no running step wants {sha256[:12]}",
            reason="not_found",
            next_step="read the step's record: it names what is wanted",
        )

    async def put(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        have = self._shelf.have(sha256)
        if self._shelf.whole(sha256):
            return self._at(have, 200)
        step_id, blob = self._wanted(sha256)
        if not await self._free(sha256):
            return self._conflict(self._shelf.have(sha256), "another upload of this blob is under way")
        have = self._shelf.have(sha256)
        if request.headers.get("Upload-Offset") != str(have):
            return self._conflict(have, f"the device holds {have} bytes of it")
        writer = self._writing[sha256] = _Writer(self._device.monotonic())
        try:
            brought = await self._bring(request, step_id, blob, have, writer)
            if brought is None:
                return self._conflict(self._shelf.have(sha256), "it was silent for too long, and another upload took over")
            if brought < blob.size:
                return self._at(brought, 202)
            await asyncio.to_thread(self._shelf.finish, sha256)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it; what came stays
        except OSError as error:
            raise storage_fault(self._shelf.part(sha256), error) from error
        except TrustRefused as error:
            self._transaction.give_up(step_id, error)
            raise
        finally:
            if self._writing.get(sha256) is writer:
                del self._writing[sha256]
        await asyncio.wrap_future(self._transaction.blob_came(step_id))
        return self._at(brought, 201)

    async def _bring(self, request: Request, step_id: str, blob: WantedBlob, have: int, writer: _Writer) -> int | None:
        """Bytes there afterwards; None: it was ended from outside. A task of its own, so that it alone can be."""
        work = writer.work = asyncio.create_task(self._append(request, step_id, blob, have, writer))  # noqa: TID251 - awaited
        try:
            await asyncio.wait([work])
            return None if work.cancelled() else work.result()
        finally:
            work.cancel()

    async def _free(self, sha256: str) -> bool:
        """Whether nobody writes it, or whoever did has been silent and was let go, its file closed."""
        writer = self._writing.get(sha256)
        if writer is None:
            return True
        if writer.work is None or writer.work.done() or self._device.monotonic() - writer.heard < SILENT_S:
            return False
        writer.work.cancel()
        await asyncio.wait([writer.work])
        if self._writing.get(sha256) is writer:
            del self._writing[sha256]
        return sha256 not in self._writing

    async def _append(self, request: Request, step_id: str, blob: WantedBlob, have: int, writer: _Writer) -> int:
        """Bytes there afterwards; a cut connection leaves what came, synced when the blob is finished or goes on."""
        unsigned = SIGN_EVERY_BYTES
        with Written.append(self._shelf.part(blob.sha256)) as file:
            async for chunk in request.stream():
                if have + len(chunk) > blob.size:
                    raise UsageFault(
                        f"more than the {blob.size} bytes of {blob.target}", reason="too_long", next_step="send the signed file"
                    )
                file.write(chunk)
                have += len(chunk)
                writer.heard = self._device.monotonic()
                unsigned += len(chunk)
                if unsigned >= SIGN_EVERY_BYTES:
                    unsigned = 0
                    self._admission.sign_of_life(step_id)
            await asyncio.to_thread(file.sync)
        return have

    def _at(self, have: int, status: int) -> Response:
        return Response(status_code=status, headers={"Upload-Offset": str(have)})

    def _conflict(self, have: int, message: str) -> Response:
        error = DeviceCannot(message, reason="offset", next_step="go on at Upload-Offset")
        response = reply(error_doc(error), 409)
        response.headers["Upload-Offset"] = str(have)
        return response
