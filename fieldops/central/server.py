"""The store over HTTP. One worker thread owns the database; this loop reads bodies within their limits and answers.

Heads may be read by anyone; entries and telemetry are shown only to whoever sits at the store's own machine (the page at `/`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from fieldops.central import page
from fieldops.central.store import LogStore
from fieldops.errors import CheckFailed, FieldopsError, StorageFault, StoreFault
from fieldops.wire import (
    BATCH_LIMIT,
    CHECKPOINT_HEADER,
    LAPTOP_HEADER,
    DeviceTelemetries,
    ErrorDoc,
    StoredTelemetry,
    encode,
    error_doc,
)

BODY_S = 60.0  # how long a laptop on a bad line may take to bring one batch
STOP_S = 2
MOST_DEVICES = 2000

T = TypeVar("T")

_STATUS = {
    "too_large": 413,
    "entry_too_large": 413,
    "not_enrolled": 403,
    "revoked": 403,
    "unknown_code": 403,
    "used_code": 403,
    "expired_code": 403,
    "slow": 408,
    "disk_full": 507,
}


class _Endpoints:
    def __init__(self, store: LogStore, worker: ThreadPoolExecutor) -> None:
        self._store = store
        self._worker = worker

    async def _run(self, work: Callable[[LogStore], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, self._store)

    async def info(self, _: Request) -> Response:
        return _json(await self._run(lambda store: store.info()))

    async def head(self, request: Request) -> Response:
        log = _log(request)
        return _json(await self._run(lambda store: store.head(log)))

    async def push(self, request: Request) -> Response:
        log = _log(request)
        signed = _header(request, CHECKPOINT_HEADER).decode("utf-8", "replace")
        first = _number(request.query_params.get("from", ""))
        body = await _body(request)
        bodies = body.removesuffix(b"\n").split(b"\n")
        return _json(await self._run(lambda store: store.push(log, first, bodies, signed)))

    async def enrol(self, request: Request) -> Response:
        body = await _body(request)
        return _json(await self._run(lambda store: store.laptops.enrol(body)))

    async def take_telemetry(self, request: Request) -> Response:
        laptop = request.headers.get(LAPTOP_HEADER, "")
        body = await _body(request)
        return _json(await self._run(lambda store: store.take_telemetry(laptop, body)))

    async def page(self, request: Request) -> Response:
        if not _is_near(request):
            return _far()
        html = await self._run(page.of)
        return HTMLResponse(html, headers=page.SECURITY_HEADERS)

    async def devices(self, request: Request) -> Response:
        if not _is_near(request):
            return _far()
        limit = min(MOST_DEVICES, _number(request.query_params.get("limit", "100")))
        return _json(DeviceTelemetries(devices=await self._run(lambda store: store.telemetry.devices(limit))))

    async def telemetry(self, request: Request) -> Response:
        if not _is_near(request):
            return _far()
        device, ring = request.path_params["device"], request.query_params.get("ring", "")
        after = _number(request.query_params.get("after", "0"))
        bodies, gaps = await self._run(lambda store: store.telemetry.records(device, ring, after))
        return _json(StoredTelemetry(device=device, ring=ring, records=[msgspec.Raw(body) for body in bodies], gaps=gaps))

    async def health(self, _: Request) -> Response:
        await self._run(lambda store: store.incidents(1))
        return PlainTextResponse("ok\n")


def application(store: LogStore, worker: ThreadPoolExecutor) -> Starlette:
    """worker: one thread, the only one that touches `store` from now on."""
    ends = _Endpoints(store, worker)
    return Starlette(
        routes=[
            Route("/v1/store", ends.info, methods=["GET"]),
            Route("/v1/enrol", ends.enrol, methods=["POST"]),
            Route("/v1/logs/{laptop}/{epoch}/head", ends.head, methods=["GET"]),
            Route("/v1/logs/{laptop}/{epoch}/entries", ends.push, methods=["POST"]),
            Route("/v1/telemetry", ends.take_telemetry, methods=["POST"]),
            Route("/v1/devices", ends.devices, methods=["GET"]),
            Route("/v1/devices/{device}/telemetry", ends.telemetry, methods=["GET"]),
            Route("/healthz", ends.health, methods=["GET"]),
            Route("/", ends.page, methods=["GET"]),
        ],
        exception_handlers={FieldopsError: _on_fault, HTTPException: _on_http, ClientDisconnect: _on_gone},
    )


def _on_fault(_: Request, error: Exception) -> Response:
    assert isinstance(error, FieldopsError)
    if isinstance(error, CheckFailed):
        return _json(error_doc(error), 409)
    status = _STATUS.get(error.reason, 503 if isinstance(error, StorageFault) else 422)
    doc = error_doc(error)
    if isinstance(error, StorageFault):  # the laptop's own storage is fine: to it the store is what refuses
        doc = msgspec.structs.replace(doc, exit=StoreFault.exit_code, next="tell the store's owner; entries stay queued")
    return _json(doc, status, {"Retry-After": "60"} if status in {503, 507} else None)


def _on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    doc = ErrorDoc(exit=StoreFault.exit_code, reason="not_found", message=error.detail, next="check the store's address")
    return _json(doc, error.status_code)


def _on_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers, "application/json")


def _log(request: Request) -> str:
    return f"fieldops/{request.path_params['laptop']}/{request.path_params['epoch']}"


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _malformed("?from= is no number")
    return int(text)


def _header(request: Request, name: str) -> bytes:
    try:
        return base64.b64decode(request.headers.get(name, ""), validate=True)
    except ValueError:
        raise _malformed(f"{name} is no base64") from None


async def _body(request: Request) -> bytes:
    """The whole body, unpacked, never more than the limit in memory."""
    packed = request.headers.get("content-encoding", "identity")
    if packed not in {"identity", "gzip"}:
        raise _malformed(f"content encoding {packed[:20]!r}")
    unpack = zlib.decompressobj(31) if packed == "gzip" else None
    whole = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                whole += unpack.decompress(chunk, BATCH_LIMIT + 1 - len(whole)) if unpack else chunk
                if len(whole) > BATCH_LIMIT or (unpack and unpack.unconsumed_tail):
                    raise _too_large()
    except TimeoutError:
        raise StoreFault("the batch did not arrive in time", reason="slow", next_step="try again on a better line") from None
    except zlib.error:
        raise _malformed("the body is no gzip") from None
    if unpack and (not unpack.eof or unpack.unused_data):
        raise _malformed("the gzip body ends early or late")
    return bytes(whole)


def _far() -> Response:
    return PlainTextResponse("This is shown on the store's own machine only.\n", 403)


def _is_near(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _malformed(what: str) -> StoreFault:
    return StoreFault(what, reason="malformed", next_step="update fieldops on the laptop, then sync again")


def _too_large() -> StoreFault:
    return StoreFault(f"a batch above {BATCH_LIMIT} bytes", reason="too_large", next_step="send smaller batches")


class StoreServer(uvicorn.Server):
    """uvicorn without its own signals; `ready` is called once connections are taken."""

    def __init__(self, app: Starlette, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=STOP_S)
        )
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
