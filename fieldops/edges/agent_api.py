"""The agent's API as ports.Device, the same over every link. What is under the client does not matter here."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec

from fieldops.deadline import Deadline
from fieldops.edges.agent_requests import Pipe
from fieldops.edges.agent_steps import RETRY_S, Conversation, StepRequests, silent
from fieldops.errors import (
    DeadlinePassed,
    HostKeyUnknown,
    LinkLost,
    MalformedReply,
    Unreachable,
)
from fieldops.fleet import DeviceEntry, Resources
from fieldops.ports import UNVERIFIED, Grant, OnProgress, Payload
from fieldops.steps import Step
from fieldops.wire import (
    DriftReports,
    JournalPage,
    ModelsReport,
    SamplePage,
    SealedPage,
    StepRecord,
    TelemetryPage,
    TrustStatus,
)


class AgentDevice(StepRequests):
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
        super().__init__(entry, Pipe(client, on_close, alive), also, reconnect)
        self._link = link_name
        self._unverified = unverified

    @property
    def link(self) -> str:
        return self._link if self._unverified is None else f"{self._link} {UNVERIFIED}"

    def resources(self, deadline: Deadline) -> Resources:
        return self._get("/v1/resources", Resources, deadline)

    def models(self, deadline: Deadline) -> ModelsReport:
        return self._get("/v1/models", ModelsReport, deadline)

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:
        query = {"packed": "1"} | ({"model": model} if model else {})  # older agents give plain windows whatever is asked
        reports = self._get("/v1/drift", DriftReports, deadline, query=query)
        try:
            return msgspec.structs.replace(reports, models=[each.plain() for each in reports.models])
        except ValueError as error:
            raise MalformedReply(
                f"drift counts: {error}", next_step="check the agent's version", device=self._entry.name
            ) from error

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        return self._get("/v1/journal", JournalPage, deadline, query={"after": str(after)})

    def telemetry(self, after: int, deadline: Deadline, ring: str = "") -> TelemetryPage:
        query = {"after": str(after)} | ({"ring": ring} if ring else {})
        return self._get("/v1/telemetry", TelemetryPage, deadline, query=query)

    def sealed_samples(self, model: str, after: int, deadline: Deadline) -> SealedPage:
        return self._get("/v1/samples", SealedPage, deadline, query={"model": model, "after": str(after), "sealed": "1"})

    def samples(self, model: str, after: int, deadline: Deadline) -> SamplePage:
        return self._get("/v1/samples", SamplePage, deadline, query={"model": model, "after": str(after)})

    def trust(self, deadline: Deadline) -> TrustStatus:
        return self._get("/v1/trust", TrustStatus, deadline)

    def logs(self, lines: int, deadline: Deadline) -> list[str]:
        return self._get("/v1/logs", list[str], deadline, query={"lines": str(lines)})

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
        talk = Conversation(self, grant, step, payload, progress or silent)
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
