"""One device, over whatever link it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:  # ports are shapes: who implements or calls them brings the values
    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry, DeviceId, Resources
    from fieldops.ports.calls import OnProgress
    from fieldops.steps import Step
    from fieldops.wire import Challenge, DriftReports, Hello, JournalPage, ModelsReport, StepRecord, TrustStatus


UNVERIFIED = "UNVERIFIED"
"""Stands last in the link's name where nothing vouches for the host: it may be looked at, never changed."""


class Grant(Protocol):
    """Leave for exactly one change, whose intent is on disk. Only operations/gate.py makes one."""

    @property
    def step_id(self) -> str: ...

    def envelope(self, device: DeviceId, step: Step, challenge: Challenge) -> bytes:
        """The signed DSSE envelope for POST /v1/steps."""


class Payload(Protocol):
    """The means of Stage and RotateTrust: verified metadata and blobs, from the laptop's own cache."""

    def metadata(self) -> dict[str, bytes]:
        """Names as on the stick -> bytes."""

    def open(self, sha256: str) -> BinaryIO:
        """A seekable reader of a verified copy. Raises KeyError when the cache has none."""


class Device(Protocol):
    """One device over whatever link it has. All but `apply` only read. Every call raises LinkFault, DeviceCannot, ..."""

    @property
    def entry(self) -> DeviceEntry: ...

    @property
    def link(self) -> str:
        """ssh, lan, local or bare; followed by UNVERIFIED where nothing vouches for the host."""

    def hello(self, deadline: Deadline) -> Hello: ...

    def resources(self, deadline: Deadline) -> Resources: ...

    def models(self, deadline: Deadline) -> ModelsReport: ...

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports: ...

    def journal(self, after: int, deadline: Deadline) -> JournalPage: ...

    def trust(self, deadline: Deadline) -> TrustStatus: ...

    def logs(self, lines: int, deadline: Deadline) -> list[str]: ...

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:
        """None: the device never heard of that step."""

    def apply(
        self,
        grant: Grant,
        step: Step,
        deadline: Deadline,
        *,
        payload: Payload | None = None,
        progress: OnProgress | None = None,
    ) -> StepRecord:
        """The only call that changes the device. Returns the ended record, whatever its outcome.

        After a lost link it reads the record first and goes on from there; LinkLost rises only when the deadline passes
        without the device being heard again.
        """

    def close(self) -> None: ...
