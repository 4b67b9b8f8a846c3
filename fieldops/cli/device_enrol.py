"""`fieldops device enrol`: with or without bringing the agent along, to undo it, or to give the agent a newer version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.asked import Asked
from fieldops.cli.call import Call, Outcome, only_failure
from fieldops.cli.diagnostics import agreed, need_person, tell
from fieldops.cli.options import AllDevices, DryRun, Json, Reason, SomeDevicesArg, Ticket, Timeout, Yes
from fieldops.cli.output import document, line
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.fleet import NAME_PATTERN, SHOWN_OF_ID, Address, parse_address

if TYPE_CHECKING:
    from fieldops.fleet import DeviceEntry
    from fieldops.ports import Progress

INSTALL_S = 900.0  # a kit over a slow link, onto a slow card


def enrol(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    everyone: AllDevices = False,
    label: Annotated[str, typer.Option("--label", help="How this laptop is called on the device.")] = "",
    kit: Annotated[Path | None, typer.Option("--kit", metavar="DIR", help="Install the agent from this kit first.")] = None,
    lan: Annotated[
        str, typer.Option("--lan", metavar="HOST:PORT", help="With --kit: where the agent listens on the plant network.")
    ] = "",
    foreign: Annotated[
        str, typer.Option("--foreign", metavar="MODEL=PATH", help="With --kit: the ONNX file the device runs today.")
    ] = "",
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
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 120.0,
) -> int:
    """Make devices and this laptop know each other, over SSH. --kit brings the agent along to a device without one."""
    from fieldops.cli.documents.devices import Enrolled, EnrolledDevice

    need_person(yes=yes, dry_run=dry_run)
    wanted = _Wanted.of(label, kit, lan, foreign, adopt=adopt, expect=expect, remove=remove, words=(reason, ticket))
    call = Call.of(context, json=json, timeout=max(timeout, INSTALL_S) if kit or upgrade else timeout)
    entries = call.entries(devices, everyone=everyone)
    if upgrade or source:
        from fieldops.cli.upgrade import upgrade as upgraded

        wanted.check_upgrade(upgrade=upgrade)
        return upgraded(Asked(call, yes, dry_run, reason, ticket), entries, source or [])
    if expect is not None and len(entries) > 1:
        raise UsageFault(
            "a fingerprint is one device's", reason="usage", next_step="give --expect-fingerprint with one device at a time"
        )
    steps = wanted.steps(call)
    if dry_run:
        outcomes: list[Outcome[_Done]] = [Outcome(entry) for entry in entries]
    else:
        if not yes:
            tell("\n".join(f"  {number}. {text}" for number, text in enumerate(steps, 1)))
            agreed(f"{'remove from' if remove else 'enrol'} {', '.join(entry.name for entry in entries)}?")
        outcomes = call.for_each(entries, lambda entry: wanted.do(call, entry))
        only_failure(outcomes)
    unproved = [each.entry.name for each in outcomes if each.value is not None and each.value.unproved]
    if json:
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
            line(f"{each.entry.name} {each.value.text}")
        elif dry_run:
            line(f"{each.entry.name}: would {'; '.join(steps)}")
    return call.finish(outcomes, [DeviceCannot.exit_code] if unproved else [])


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of one device. unproved: why nobody may put anything on trial there."""

    id: str
    text: str
    proof: str = ""
    unproved: str = ""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options of `device enrol`, which belong together or not."""

    label: str
    kit: Path | None
    lan: str
    foreign: tuple[str, str] | None
    adopt: bool
    expected: str
    remove: bool
    words: tuple[str, str]

    @classmethod
    def of(
        cls,
        label: str,
        kit: Path | None,
        lan: str,
        foreign: str,
        *,
        adopt: bool,
        expect: str | None,
        remove: bool,
        words: tuple[str, str],
    ) -> _Wanted:
        """Raises UsageFault."""
        from fieldops.operations.hostkeys import expected_in

        faults = [f"--{name} needs --kit" for name, value in (("lan", lan), ("foreign", foreign)) if value and kit is None]
        if remove and (kit is not None or adopt or expect is not None):
            faults.append("--remove goes alone")
        model, equals, path = foreign.partition("=")
        if foreign and not (equals and NAME_PATTERN.fullmatch(model) and path.startswith("/")):
            faults.append(f"--foreign {foreign!r} is not MODEL=/path/on/the/device")
        if lan:
            address_of(lan)
        if faults:
            raise UsageFault("; ".join(faults), reason="usage", next_step="see `fieldops device enrol --help`")
        expected = expected_in(expect) if expect is not None else ""
        return cls(label, kit, lan, (model, path) if foreign else None, adopt, expected, remove, words)

    def check_upgrade(self, *, upgrade: bool) -> None:
        """Raises UsageFault: --from without --upgrade, or --upgrade with what only an enrolment takes."""
        alone = not (self.label or self.kit or self.lan or self.foreign or self.adopt or self.expected or self.remove)
        if not (upgrade and alone):
            raise UsageFault(
                "--upgrade goes alone, with --from at most" if upgrade else "--from needs --upgrade",
                reason="usage",
                next_step="see `fieldops device enrol --help`",
            )

    def steps(self, call: Call) -> list[str]:
        """What is going to happen, in words. Raises UsageFault for a kit or a root that is not there."""
        from fieldops.operations import enrol as operation
        from fieldops.steps import Unenrol, describe

        laptop = call.laptop
        if self.remove:
            return [describe(Unenrol(laptop=laptop.signer.laptop)), "stop the agent, take away its software, keys and models"]
        made = laptop.office.read_kit(self.kit.absolute()).kit if self.kit is not None else None
        push = (
            [f"push and install the kit for {made.platform}, Python {made.python} ({made.size_bytes / 1e6:.0f} MB)"]
            if made
            else []
        )
        prove = ["prove that the agent answers after logout and after a restart"] if made else []
        steps = [describe(step) for step in operation.plan(laptop.gate(), laptop.trust, laptop.certificate, label=self.label)]
        adopt = ["adopt the model that runs there as version 0.0.0 and last-good, and measure it"] if self.adopt else []
        trust = [f"trust the host key {self.expected}, if that is what it shows"] if self.expected else []
        return [*trust, *push, *steps[:1], *prove, *steps[1:], *adopt]

    def do(self, call: Call, entry: DeviceEntry) -> _Done:
        from fieldops.operations.gate import Words

        laptop, deadline, words = call.laptop, call.deadline(), Words(*self.words)
        progress = _Steps(entry.name)
        if self.expected:
            laptop.links.trust_expected(entry, self.expected, deadline, words)
        if self.remove:
            record = laptop.enrolment.remove_agent(entry, deadline, words, progress=progress)
            return _Done(laptop.inventory().find(entry.name).id or "", f"is bare again: {record.message}")
        if self.kit is None:
            hello = laptop.enrolment.enrol(entry, deadline, words, label=self.label, adopt=self.adopt, progress=progress)
            return _Done(hello.device, f"is enrolled: {hello.device[:SHOWN_OF_ID]}")
        made = laptop.enrolment.install(
            entry,
            self.kit.absolute(),
            deadline,
            words,
            label=self.label,
            lan=self.lan,
            foreign=self.foreign,
            adopt=self.adopt,
            progress=progress,
        )
        text = (
            f"is enrolled: {made.hello.device[:SHOWN_OF_ID]}; {made.proof or f'NOT PROVED, so no trials there: {made.unproved}'}"
        )
        return _Done(made.hello.device, text, made.proof, made.unproved)


class _Steps:
    """Progress as lines on stderr: each phase once, and each tenth of it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.last = ("", -1)

    def __call__(self, progress: Progress) -> None:
        tenth = progress.done * 10 // progress.total if progress.total else 0
        if (progress.phase, tenth) != self.last:
            self.last = (progress.phase, tenth)
            tell(f"{self.device}: {progress.phase}{f' {tenth * 10} %' if progress.total else ''}")


def address_of(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise UsageFault(f"{text!r} is not {error}", reason="usage", next_step="write an address as 192.0.2.7:8443") from error
