"""This laptop: its desk, its links, what it takes on, its office, and the way to the centre."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fieldops.errors import StoreFault
from fieldops.wiring.desk import Desk
from fieldops.wiring.folders import home_folder
from fieldops.wiring.once import once

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.fleet import DeviceEntry
    from fieldops.ports import Device, Store
    from fieldops.wire import StoreEnrolled
    from fieldops.wiring.enrolment import Enrolment
    from fieldops.wiring.links import Links
    from fieldops.wiring.office import Office


class Laptop(Desk):
    """Safe to share between threads; close it at the end."""

    @classmethod
    def open(cls, home: Path | None = None) -> Self:
        """Creates nothing on disk."""
        return cls(home_folder(home))

    def close(self) -> None:
        self.hang_up()
        journal = Desk.journal.forget(self)
        if journal is not None:
            journal.close()
        telemetry = Desk.telemetry.forget(self)
        if telemetry is not None:
            telemetry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @once
    def links(self) -> Links:
        from fieldops.wiring.links import Links

        return Links(self)

    def connect(self, entry: DeviceEntry, deadline: Deadline) -> AbstractContextManager[Device]:
        """See Links.connect."""
        return self.links.connect(entry, deadline)

    def hang_up(self) -> None:
        """See Links.hang_up."""
        with self.lock:
            links: Links | None = self.__dict__.get("links")
        if links is not None:
            links.hang_up()

    @once
    def enrolment(self) -> Enrolment:
        from fieldops.wiring.enrolment import Enrolment

        return Enrolment(self.links)

    @once
    def office(self) -> Office:
        from fieldops.wiring.office import Office

        return Office(self.clock)

    def store(self) -> Store:
        """The centre. Raises StoreFault when none is configured."""
        from fieldops.edges.store_api import HttpStore

        if self.config.store_url is None:
            raise StoreFault(
                "no central store is configured",
                reason="no_store",
                next_step=f"set `url` under [store] in {self.home / 'config.toml'}; entries stay queued until then",
            )
        # What the store signed proves that it is at least this late, whatever this laptop's clock says.
        return HttpStore(self.config.store_url, self.signer, expected=self.pins.store(), attested=self.trust_store.raise_floor)

    def enrol_at_store(self, url: str, code: str, label: str, deadline: Deadline) -> StoreEnrolled:
        """Say a one-time code to a store, and remember which store that is. Raises UsageFault, StoreFault.

        Power gone in the middle: the same code says the same again.
        """
        from fieldops.audit.entry import Result, Subject
        from fieldops.edges.store_api import HttpStore

        enrolled = HttpStore(url, self.signer).enrol(code, label, deadline)
        self.pins.save_store(enrolled.store)
        self.gate().note("store.enrol", subject=Subject(kind="store", name=enrolled.store), result=Result(status="done"))
        return enrolled
