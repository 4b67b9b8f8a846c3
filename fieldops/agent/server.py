"""/v1 over HTTP: reading is free to whoever reached the socket; changing goes through admission, payload by digest only."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fieldops.agent.access import not_enrolled
from fieldops.agent.admission import Admission
from fieldops.agent.device import Device
from fieldops.agent.keeping import Keeper
from fieldops.agent.recording import Recorder
from fieldops.agent.replies import body_within, error_reply, number, reply
from fieldops.agent.report import Report
from fieldops.agent.transaction import WAITING, Transaction
from fieldops.agent.uploads import Uploads
from fieldops.errors import DeviceCannot, FieldopsError, UsageFault
from fieldops.wire import (
    ENVELOPE_LIMIT,
    MESSAGE_LIMIT,
    METADATA_LIMIT,
    ChallengeRequest,
    JournalPage,
    MetadataUpload,
    StepRecord,
    decode,
    unb64,
)

MOST_WAIT_S = 60.0
PAGE = 500
_METADATA_NAME = re.compile(r"(\d{1,12}\.)?[a-z0-9][a-z0-9_-]{0,63}\.json")


@dataclass(frozen=True, slots=True)
class Api:
    """near: this is agent.sock; else the LAN."""

    device: Device
    report: Report
    admission: Admission
    transaction: Transaction
    uploads: Uploads
    near: bool
    recorder: Recorder
    keeper: Keeper

    def app(self) -> ASGIApp:
        routes = [
            Route("/v1/hello", self.hello),
            Route("/v1/resources", self.resources),
            Route("/v1/models", self.models),
            Route("/v1/drift", self.drift),
            Route("/v1/journal", self.journal),
            Route("/v1/telemetry", self.telemetry),
            Route("/v1/samples", self.samples),
            Route("/v1/trust", self.trust),
            Route("/v1/logs", self.logs),
            Route("/v1/challenge", self.challenge, methods=["POST"]),
            Route("/v1/steps", self.post_step, methods=["POST"]),
            Route("/v1/steps/{id}", self.step),
            Route("/v1/steps/{id}/metadata", self.put_metadata, methods=["PUT"]),
            Route("/v1/blobs/{sha256}", self.head_blob, methods=["HEAD"]),
            Route("/v1/blobs/{sha256}", self.put_blob, methods=["PUT"]),
        ]
        app = Starlette(routes=routes, exception_handlers={FieldopsError: error_reply})
        return app if self.near else Enrolled(app, self.device)

    async def hello(self, _: Request) -> Response:
        return reply(self.report.hello())

    async def resources(self, _: Request) -> Response:
        return reply(await asyncio.to_thread(self.report.resources))

    async def models(self, _: Request) -> Response:
        return reply(self.report.models())

    async def drift(self, request: Request) -> Response:
        reports = await self.report.drift(request.query_params.get("model"))
        if request.query_params.get("packed") == "1":
            reports = replace(reports, models=[each.for_a_slow_line() for each in reports.models])
        return reply(reports)

    async def journal(self, request: Request) -> Response:
        after = int(number(request, "after", 0))
        entries, newest = await asyncio.to_thread(self.device.registry.journal, after, PAGE)
        if entries:
            with contextlib.suppress(DeviceCannot):  # a full disk must not stop anybody from reading
                await asyncio.to_thread(self.device.registry.handed_out, after, entries[-1].seq)
        return reply(JournalPage(entries=entries, newest=newest))

    async def telemetry(self, request: Request) -> Response:
        after, ring = int(number(request, "after", 0)), request.query_params.get("ring")
        return reply(await asyncio.to_thread(self.recorder.page, after, ring))

    async def samples(self, request: Request) -> Response:
        model, after = request.query_params.get("model", ""), int(number(request, "after", 0))
        if request.query_params.get("sealed") == "1":
            return reply(await asyncio.to_thread(self.keeper.sealed, model, after))
        return reply(await self.keeper.page(model, after))

    async def trust(self, _: Request) -> Response:
        return reply(self.report.trust())

    async def logs(self, request: Request) -> Response:
        wanted = int(number(request, "lines", 100))
        return reply(list(self.device.recent.lines)[-wanted:] if wanted else [])

    async def challenge(self, request: Request) -> Response:
        asked = decode(await body_within(request, MESSAGE_LIMIT, "challenge"), ChallengeRequest, sender="the laptop")
        return reply(self.admission.access.challenge(asked.log))

    async def post_step(self, request: Request) -> Response:
        data = await body_within(request, ENVELOPE_LIMIT, "envelope")
        record = await asyncio.to_thread(self.admission.take, data, near=self.near)
        return reply(record, 200 if record.ended else 202)

    def _record(self, request: Request) -> StepRecord:
        record = self.device.registry.record(request.path_params["id"])
        if record is None:
            raise UsageFault("this device never heard of that step", reason="unknown_step", next_step="send the step again")
        return record

    async def step(self, request: Request) -> Response:
        """With ?wait= seconds: as soon as the record changes, has ended, or waits for the laptop itself."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(number(request, "wait", 0), MOST_WAIT_S)
        first = record = self._record(request)
        self.admission.sign_of_life(record.step_id)
        while record == first and not record.ended and record.phase not in WAITING and (left := until - loop.time()) > 0:
            await self.device.bell.heard(left)
            record = self._record(request)
        return reply(self.admission.shown(record))

    async def put_metadata(self, request: Request) -> Response:
        body = await body_within(request, METADATA_LIMIT, "metadata")
        upload = decode(body, MetadataUpload, sender="the laptop", limit=METADATA_LIMIT)
        record = self._record(request)
        files: dict[str, bytes] = {}
        for name, text in upload.files.items():
            if not _METADATA_NAME.fullmatch(name):
                raise UsageFault(f"metadata file {ascii(name)[:80]}", reason="bad_name", next_step="send names as on the stick")
            try:
                files[name] = unb64(text)
            except ValueError as error:
                raise UsageFault(f"{name} is no base64", reason="malformed", next_step="send it again") from error
        self.admission.sign_of_life(record.step_id)
        # Answered when judged: a record read after this says what the device wants next.
        await asyncio.wrap_future(self.transaction.metadata_came(record.step_id, files))
        return Response(status_code=202)

    async def head_blob(self, request: Request) -> Response:
        return self.uploads.offset(request.path_params["sha256"])

    async def put_blob(self, request: Request) -> Response:
        return await self.uploads.put(request)


class Enrolled:
    """The LAN's door: a certificate that is pinned and not revoked, asked at every request; all else is 401."""

    def __init__(self, app: ASGIApp, device: Device) -> None:
        self._app = app
        self._device = device

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._known(scope.get("state", {}).get("peer")):
            await (await error_reply(Request(scope), not_enrolled()))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, peer: str | None) -> bool:
        if not peer:
            return False
        revoked = self._device.policy().laptops_revoked
        return any(laptop.fingerprint == peer and laptop.id not in revoked for laptop in self._device.registry.laptops())
