"""/v2: the Open Inference Protocol for programs on this device, as KServe and Triton speak it; JSON and binary tensors."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fieldops.agent.device import Device
from fieldops.agent.replies import body_within, reply, status_of
from fieldops.agent.serving import Served
from fieldops.agent.workers import WorkerGone, WorkerSaid
from fieldops.errors import FieldopsError, UsageFault

REQUEST_LIMIT = 16 << 20
LENGTH_HEADER = "Inference-Header-Content-Length"
DEADLINE_S = 10.0  # when the caller names none
MOST_DEADLINE_S = 120.0


async def _error(_: Request, error: Exception) -> Response:
    """The protocol's own shape."""
    assert isinstance(error, FieldopsError)
    return reply({"error": error.message}, status_of(error))


@dataclass(frozen=True, slots=True)
class Inference:
    device: Device

    def app(self) -> Starlette:
        routes = [
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
        ]
        for named in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                Route(named, self.metadata),
                Route(f"{named}/ready", self.model_ready),
                Route(f"{named}/infer", self.infer, methods=["POST"]),
            ]
        return Starlette(routes=routes, exception_handlers={FieldopsError: _error})

    def _served(self, request: Request) -> Served:
        model = request.path_params["model"]
        found = self.device.models.get(model)
        if found is None:
            raise UsageFault(f"no model {model!r} on this device", reason="unknown_model", next_step="see GET /v1/models")
        self._as_asked(request, found.version)
        return found

    @staticmethod
    def _as_asked(request: Request, version: str) -> None:
        """Who names a version must not get another's answer. Raises UsageFault (not_found)."""
        wanted = request.path_params.get("version", version)
        if wanted != version:
            model = request.path_params["model"]
            message = f"{model} {wanted} does not answer here; {version} does"
            raise UsageFault(message, reason="not_found", next_step="ask without a version")

    async def server(self, _: Request) -> Response:
        return reply({"name": "fieldops-agent", "version": "1", "extensions": ["binary_tensor_data"]})

    async def live(self, _: Request) -> Response:
        return reply({"live": True})

    async def ready(self, _: Request) -> Response:
        models = self.device.models.all()
        ok = bool(models) and all(served.ready for served in models)
        return reply({"ready": ok}, 200 if ok else 503)

    async def model_ready(self, request: Request) -> Response:
        served = self._served(request)
        return reply({"name": served.model, "ready": served.ready}, 200 if served.ready else 503)

    async def metadata(self, request: Request) -> Response:
        served = self._served(request)
        if served.worker is None:
            return reply({"error": f"{served.model} is answered by its rule"}, 503)
        try:
            _, text = await served.worker.call({"op": "metadata"}, within_s=DEADLINE_S)
        except (WorkerGone, WorkerSaid, TimeoutError) as error:
            return reply({"error": str(error)}, 503)
        return Response(text, media_type="application/json")

    async def infer(self, request: Request) -> Response:
        """Header Fieldops-Deadline-Ms: how long the caller waits; past it the best answer so far, or the rule's."""
        served = self._served(request)
        body = await body_within(request, REQUEST_LIMIT, "inference request")
        try:
            answered = await served.infer(body, _deadline(request), _json_bytes(request))
        except WorkerSaid as error:
            return reply({"error": error.message}, 400 if error.kind == "bad_request" else 500)
        except WorkerGone as error:
            return reply({"error": str(error)}, 503)
        self._as_asked(request, answered.version)  # another may have been put in service meanwhile
        if answered.json_bytes is None:
            return Response(answered.body, media_type="application/json")
        size = {LENGTH_HEADER: str(answered.json_bytes)}
        return Response(answered.body, media_type="application/octet-stream", headers=size)


def _json_bytes(request: Request) -> int | None:
    """Of the protocol's binary extension: so much of the body is JSON, the rest are tensors."""
    text = request.headers.get(LENGTH_HEADER)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise UsageFault(f"{LENGTH_HEADER} {text[:20]!r}", reason="bad_query", next_step="give the bytes of the JSON")
    return int(text)


def _deadline(request: Request) -> float:
    text = request.headers.get("Fieldops-Deadline-Ms")
    if text is None:
        return DEADLINE_S
    if not text.isdecimal() or not 0 < int(text) <= MOST_DEADLINE_S * 1000:
        raise UsageFault(f"Fieldops-Deadline-Ms {text[:20]!r}", reason="bad_query", next_step="give 1 to 120000")
    return int(text) / 1000
