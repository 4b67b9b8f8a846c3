"""`fieldops device enrol`: with or without bringing the agent along, to undo it, or to give the agent a newer version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.asked import Asked, changes
from fieldops.cli.call import Outcome, only_failure
from fieldops.cli.diagnostics import agreed, tell
from fieldops.cli.options import AllDevices, SomeDevicesArg
from fieldops.cli.output import document, line
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import SHOWN_OF_ID, DeviceEntry

if TYPE_CHECKING:
    from fieldops.operations.intake import TakenOn
    from fieldops.ports import Progress

INSTALL_S = 900.0  # a kit over a slow link, onto a slow card
REMOVAL = ("the device forgets this laptop", "stop the agent, take away its software, keys and models")


@changes(120.0)
def enrol(
    asked: Asked,
    devices: SomeDevicesArg = None,
    everyone: AllDevices = False,
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="How this laptop is called on the device.")] = "",
    kit: Annotated[Path | None, typer.Option("--kit", metavar="DIR", help="Install the agent from this kit first.")] = None,
    lan: Annotated[
        str, typer.Option("--lan", metavar="HOST:PORT", help="With --kit: where the agent listens on the plant network.")
    ] = "",
    foreign: Annotated[
        str, typer.Option("--foreign", metavar="MODEL=PATH", help="With --kit: the ONNX file the device runs today.")
    ] = "",
    sudo: Annotated[
        bool, typer.Option("--sudo", help="With --kit: a service of the system that runs as the login, made by sudo.")
    ] = False,
    adopt: Annotated[bool, typer.Option("--adopt", help="Take the model that runs there as version 0 and last-good.")] = False,
    expect: Annotated[
        str | None,
        typer.Option("--expect-fingerprint", metavar="SHA256:...", help="Of its SSH host key, typed or scanned from its label."),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Give the agent there the newest signed version that a stick holds for it.")
    ] = False,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="PATH", help="With --upgrade: stick, folder or address. Default: removable media."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Undo it: forget this laptop, take the agent away.")] = False,
) -> int:
    """Make devices and this laptop know each other, over SSH. --kit brings the agent along to a device without one."""
    from fieldops.operations.intake import Intake, TakenOn, intake

    asked.need_person()
    wanted = intake(label=label, kit=kit, lan=lan, foreign=foreign, sudo=sudo, adopt=adopt, expect=expect)
    if source and not upgrade:
        raise UsageFault("--from needs --upgrade", reason="usage", next_step="see `fieldops device enrol --help`")
    if upgrade + remove + (wanted != Intake()) > 1:
        what = "--upgrade goes alone, with --from at most" if upgrade else "--remove goes alone"
        raise UsageFault(what, reason="usage", next_step="see `fieldops device enrol --help`")
    call, enrolment = asked.call, asked.call.laptop.enrolment
    entries = call.entries(devices, everyone=everyone)
    if expect is not None and len(entries) > 1:
        raise UsageFault(
            "a fingerprint is one device's", reason="usage", next_step="give --expect-fingerprint with one device at a time"
        )
    if upgrade:
        from fieldops.cli.upgrade import upgrade as upgraded

        return upgraded(asked, entries, source or [], max(call.timeout, INSTALL_S))
    steps = list(REMOVAL) if remove else enrolment.steps(wanted)
    if asked.dry_run:
        return _show(asked, [Outcome(entry) for entry in entries], steps, removed=remove)
    if not asked.yes:
        tell("\n".join(f"  {number}. {text}" for number, text in enumerate(steps, 1)))
        agreed(f"{'remove from' if remove else 'enrol'} {', '.join(entry.name for entry in entries)}?")
    seconds = max(call.timeout, INSTALL_S) if kit is not None else call.timeout

    def do(entry: DeviceEntry) -> TakenOn:
        deadline, progress = call.deadline(seconds), _Steps(entry.name)
        if remove:
            enrolment.remove_agent(entry, deadline, asked.words, progress=progress)
            return TakenOn(call.laptop.inventory().find(entry.name).id or "")
        return enrolment.take_on(entry, wanted, deadline, asked.words, progress=progress)

    outcomes = call.for_each(entries, do)
    only_failure(outcomes)
    return _show(asked, outcomes, steps, removed=remove)


def _show(asked: Asked, outcomes: list[Outcome[TakenOn]], steps: list[str], *, removed: bool) -> int:
    call = asked.call
    unproved = any(each.value is not None and each.value.unproved for each in outcomes)
    if call.json:
        from fieldops.cli.documents.devices import Enrolled, EnrolledDevice

        document(
            Enrolled(
                devices=[
                    EnrolledDevice(
                        device=each.entry.name,
                        id=each.value.id if each.value else each.entry.id,
                        steps=steps,
                        done=each.value is not None,
                        error=each.error_doc,
                        proof=(each.value.proof or None) if each.value else None,
                        unproved=(each.value.unproved or None) if each.value else None,
                    )
                    for each in outcomes
                ]
            )
        )
        return call.finish(outcomes, [DeviceCannot.exit_code] if unproved else [])
    for each in outcomes:
        if each.value is not None:
            line(
                f"{each.entry.name} {'is bare again: it has no agent, and forgot this laptop' if removed else _text(each.value)}"
            )
        elif asked.dry_run:
            line(f"{each.entry.name}: would {'; '.join(steps)}")
    return call.finish(outcomes, [DeviceCannot.exit_code] if unproved else [])


def _text(made: TakenOn) -> str:
    proof = made.proof or (f"NOT PROVED, so no trials there: {made.unproved}" if made.unproved else "")
    return f"is enrolled: {made.id[:SHOWN_OF_ID]}{f'; {proof}' if proof else ''}"


STATES = frozenset({"running", "done"})  # of a step as a whole: what is done stands in the plan and in the result


class _Steps:
    """Progress as lines on stderr: each phase once, and each tenth of it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.last = ("", -1)

    def __call__(self, progress: Progress) -> None:
        if progress.phase in STATES:
            return
        tenth = progress.done * 10 // progress.total if progress.total else 0
        if (progress.phase, tenth) != self.last:
            self.last = (progress.phase, tenth)
            tell(f"{self.device}: {progress.phase}{f' {tenth * 10} %' if progress.total else ''}")
