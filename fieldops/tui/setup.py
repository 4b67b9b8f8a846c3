"""Getting to know devices: log in, compare and trust a host key, add one to the list, enrol it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fieldops.fleet import DeviceId
from fieldops.operations.gate import Words
from fieldops.tui.jobs import Job
from fieldops.tui.panels import setup as panel

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.tui.front import Front
    from fieldops.tui.panels.asking import Answer
    from fieldops.tui.site import Enrolment

LOG_IN_S = 180.0  # with the time that a person needs to find the password
HOST_KEY_S = 15.0
PLAN_S = 15.0
ENROL_S = 120.0
INSTALL_S = 900.0  # a kit over a slow link, onto a slow card


class Setup:
    """Commands `do_log_in`, `do_trust_host`, `do_enrol` and `do_add`."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def _entry(self) -> DeviceEntry | None:
        sight = self._front.sight
        return sight.entry if sight is not None else None

    # --- log in ----------------------------------------------------------------------------------------------------------

    def do_log_in(self, _argument: str = "") -> None:
        """Passphrases and passwords are asked for while this runs; the link is then kept for all that follows."""
        front, entry = self._front, self._entry()
        if entry is None:
            return
        site = front.site

        def in_(_none: None) -> None:
            front.tell(f"logged in to {entry.name}")
            front.poller.ask_now()  # one passphrase may open the way to many

        def work(job: Job[None]) -> None:
            site.log_in(entry, site.deadline(LOG_IN_S, job.cancel))

        front.jobs.start(Job(f"Logging in to {entry.name}"), work, in_, lambda error: self._failed(entry, error))

    def _failed(self, entry: DeviceEntry, error: FieldopsError) -> None:
        self._front.poller.ask_now()
        self._front.tell_error(error.about(entry.name))

    # --- host key ----------------------------------------------------------------------------------------------------------

    def do_trust_host(self, argument: str = "") -> None:
        """argument: the fingerprint on the device's label; without it the person compares what is shown."""
        front, entry = self._front, self._entry()
        if entry is None:
            return
        site, expected = front.site, argument or None

        def offered(key: OfferedKey) -> None:
            if key.verdict == "ok":
                front.tell(f"{entry.name}: its host key is known already: {key.fingerprint}")
                return
            front.ask(panel.host_key_question(entry, key), lambda answer: self._trust(entry, key, answer))

        def work(job: Job[OfferedKey]) -> OfferedKey:
            return site.host_key(entry, expected, site.deadline(HOST_KEY_S, job.cancel))

        front.jobs.start(Job(f"asking {entry.name} for its host key"), work, offered, front.tell_error)

    def _trust(self, entry: DeviceEntry, key: OfferedKey, answer: Answer | None) -> None:
        front = self._front
        if answer is None:
            front.tell(f"the host key of {entry.name} is not trusted; nothing was changed")
            return
        words = Words(reason=answer.reason)

        def trusted(_none: None) -> None:
            front.tell(f"{entry.name}: its host key {key.fingerprint[:18]}... is trusted from now on")
            front.after_change(entry)

        front.jobs.start(Job(""), lambda _job: front.site.trust_host_key(entry, key, words), trusted, front.tell_error)

    # --- the list of devices -------------------------------------------------------------------------------------------------

    def do_add(self, _argument: str = "") -> None:
        """Of the stranger under the cursor, where devices are discovered; else of one that is typed."""
        screen = self._front.view
        self._front.ask(panel.add_question(screen.stranger if screen is not None else None), self._add)

    def _add(self, answer: Answer | None) -> None:
        front = self._front
        if answer is None:
            return
        site, typed, words = front.site, dict(answer.fields), Words(reason=answer.reason)

        def added(entry: DeviceEntry) -> None:
            front.tell(f"{entry.name} is in the list; K compares its host key, E enrols it")
            front.read_inventory()

        front.jobs.start(Job(""), lambda _job: site.add_device(typed, words), added, front.tell_error)

    # --- enrol -----------------------------------------------------------------------------------------------------------------

    def do_enrol(self, argument: str = "") -> None:
        """argument: the folder of an installation kit, for a device without an agent."""
        front, entry = self._front, self._entry()
        if entry is None:
            return
        site = front.site

        def planned(steps: list[str]) -> None:
            front.ask(panel.enrol_question(entry, steps, argument), lambda answer: self._enrol(entry, answer))

        front.jobs.start(Job(""), lambda job: site.enrol_steps(site.deadline(PLAN_S, job.cancel)), planned, front.tell_error)

    def _enrol(self, entry: DeviceEntry, answer: Answer | None) -> None:
        front = self._front
        if answer is None:
            return
        site, typed, words = front.site, answer.fields, Words(reason=answer.reason)
        kit, adopt, title = typed["kit"], typed["adopt"].lower() in {"y", "yes"}, f"Enrolling {entry.name}"

        def work(job: Job[Enrolment]) -> Enrolment:
            deadline = site.deadline(INSTALL_S if kit else ENROL_S, job.cancel)
            return site.enrol(entry, typed["label"], kit, words, deadline, job.report, adopt=adopt)

        def enrolled(done: Enrolment) -> None:
            front.read_inventory()
            front.after_change(replace(entry, id=DeviceId(done.id)))
            front.history.append((site.now(), "information", f"{title}: done"))
            front.read_text(title, lambda width: panel.enrolled(entry.name, done, width))

        def failed(error: FieldopsError) -> None:
            front.remember(error)
            front.read_text(title, lambda width: panel.failed(error, width))

        front.jobs.start(Job(title, changes=True), work, enrolled, failed)
