"""The part of LaptopSite for signed runbooks and their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fieldops.deadline import Deadline
from fieldops.errors import FieldopsError, UsageFault
from fieldops.tui.laptop_base import Base

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fieldops.fleet import DeviceEntry
    from fieldops.operations.gate import Words
    from fieldops.operations.runbook import RunReport
    from fieldops.ports import Device
    from fieldops.runbooks.engine import Action, Fact
    from fieldops.runbooks.format import Runbook


class Runbooks(Base):
    """Implements site.Running."""

    def runbooks(self) -> list[Runbook]:
        from fieldops.operations import runbook as operation

        trust = self._laptop.trust
        return [operation.load(trust, each)[0] for each in operation.available(trust)]

    def runs(self) -> list[RunReport]:
        from fieldops.operations import runbook as operation

        found = []
        for each in self._laptop.runs.ids():
            try:
                found.append(operation.status(self._laptop.runs.open(each)))
            except FieldopsError:  # a broken record hides no other
                continue
        return found

    def resolve_run(self, runbook: str, typed: str) -> dict[str, str]:
        from fieldops.operations import runbook as operation
        from fieldops.runbooks.engine import resolve

        book, _ = operation.load(self._laptop.trust, runbook)
        given = {}
        for word in typed.split():
            name, equals, value = word.partition("=")
            if not equals:
                raise UsageFault(f"{word!r} is no NAME=VALUE", reason="usage", next_step="write a parameter as device=press-03")
            given[name] = value
        return resolve(book, given)

    def begin_run(self, runbook: str, params: Mapping[str, str], words: Words) -> str:
        from fieldops.operations import runbook as operation

        laptop = self._laptop
        book, data = operation.load(laptop.trust, runbook)
        self._target(params)
        record = laptop.runs.create()
        operation.begin(laptop.gate(), book, data, dict(params), record, words=words)
        return record.id

    def go_on_run(
        self, run: str, params: Mapping[str, str], deadline: Deadline, on_action: Callable[[Action, Fact | None], None]
    ) -> RunReport:
        from fieldops.operations import runbook as operation

        laptop, entry = self._laptop, self._target(params)

        def connect(until: Deadline) -> AbstractContextManager[Device]:
            return self._connect(entry, until)

        with self._standing_by(entry, deadline):
            return operation.run(laptop.gate(), laptop.runs.open(run), connect, deadline, on_action=on_action)

    def _target(self, params: Mapping[str, str]) -> DeviceEntry:
        """The device a run is about: its parameter `device`."""
        name = params.get("device")
        if name is None:
            raise UsageFault(
                "the runbook has no parameter `device`", reason="bad_parameters", next_step="use one that names a device"
            )
        return self._laptop.inventory().find(name)
