"""What `fieldops demo` prints for scripts: docs/schemas/ is generated from these types."""

from __future__ import annotations

from msgspec import Struct


class DemoDevice(Struct, frozen=True, kw_only=True, rename={"device_class": "class"}):
    """id: "" for a device that is off. pid: of its agent; None without one."""

    name: str
    id: str
    device_class: str
    condition: str
    ssh: str | None
    lan: str | None
    pid: int | None


class DemoDocument(Struct, frozen=True, kw_only=True, tag_field="schema", tag="fieldops.demo/v1"):
    """The one line of `--serve`. control: where `store up` may be said (see demo/control.py)."""

    home: str
    stick: str
    store: str
    control: str | None
    devices: list[DemoDevice]


class StepResult(Struct, frozen=True, kw_only=True):
    """One step of the tour; detail: what was seen, or what does not hold."""

    id: str
    ok: bool
    seconds: float
    detail: str


class TourDocument(Struct, frozen=True, kw_only=True, tag_field="schema", tag="fieldops.tour/v1"):
    """`--tour --json`."""

    ok: bool
    steps: list[StepResult]
