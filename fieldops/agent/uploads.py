"""Payload as it comes: appended at its offset, only for digests that a running step wants, whole only when the hash is right."""

from __future__ import annotations

import asyncio

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


class Uploads:
    """One writer a blob; a second one is told to wait by 409."""

    def __init__(self, device: Device, admission: Admission, transaction: Transaction) -> None:
        self._device = device
        self._admission = admission
        self._transaction = transaction
        self._shelf = Shelf(device.home)
        self._writing: set[str] = set()

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
        if sha256 in self._writing:
            return self._conflict(have, "another upload of this blob is under way")
        if request.headers.get("Upload-Offset") != str(have):
            return self._conflict(have, f"the device holds {have} bytes of it")
        self._writing.add(sha256)
        try:
            have = await self._append(request, step_id, blob, have)
            if have < blob.size:
                return self._at(have, 202)
            await asyncio.to_thread(self._shelf.finish, sha256)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it; what came stays
        except OSError as error:
            raise storage_fault(self._shelf.part(sha256), error) from error
        except TrustRefused as error:
            self._transaction.give_up(step_id, error)
            raise
        finally:
            self._writing.discard(sha256)
        await asyncio.wrap_future(self._transaction.blob_came(step_id))
        return self._at(have, 201)

    async def _append(self, request: Request, step_id: str, blob: WantedBlob, have: int) -> int:
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
