"""local.sock (0600): what whoever owns the agent may do at the device itself, unsigned and journaled as `local:<user>`."""

from __future__ import annotations

import asyncio
import getpass
import itertools
from dataclasses import dataclass, field

from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fieldops.agent.admission import Admission
from fieldops.agent.device import Device
from fieldops.agent.replies import body_within, error_reply, reply
from fieldops.agent.report import Report
from fieldops.errors import FieldopsError
from fieldops.fleet import Resources
from fieldops.steps import Revert
from fieldops.wire import MESSAGE_LIMIT, Hello, ModelsReport, decode

REVERT_S = 300.0


class AgentStatus(Struct, frozen=True, kw_only=True):
    """`fieldops-agent status --json`."""

    schema: str = "fieldops.agent_status/v1"
    hello: Hello
    resources: Resources
    models: ModelsReport
    telemetry_set_aside: int = 0  # files found damaged; what they held is gone


class LocalRevert(Struct, frozen=True, kw_only=True):
    model: str
    to: str | None = None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


@dataclass(frozen=True, slots=True)
class Local:
    device: Device
    report: Report
    admission: Admission
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def app(self) -> Starlette:
        routes = [Route("/status", self.status), Route("/revert", self.revert, methods=["POST"])]
        return Starlette(routes=routes, exception_handlers={FieldopsError: error_reply})

    async def status(self, _: Request) -> Response:
        resources = await asyncio.to_thread(self.report.resources)
        return reply(
            AgentStatus(
                hello=self.report.hello(),
                resources=resources,
                models=self.report.models(),
                telemetry_set_aside=self.report.set_aside,
            )
        )

    async def revert(self, request: Request) -> Response:
        """Answers with the ended record."""
        body = await body_within(request, MESSAGE_LIMIT, "revert")
        asked = decode(body, LocalRevert, sender="the verb")
        step_id = f"local.{self.device.boot_id[:8]}.{self.device.monotonic():.6f}.{next(self._count)}"
        step = Revert(model=asked.model, to=asked.to)
        record = await asyncio.to_thread(self.admission.take_local, step, _user(), step_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + REVERT_S
        while not record.ended and (left := until - loop.time()) > 0:
            await self.device.bell.heard(min(left, 1.0))
            record = self.device.registry.record(step_id) or record
        return reply(record)
