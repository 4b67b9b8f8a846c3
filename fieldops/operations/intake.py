"""What a person may ask for when a device is taken on: whether it fits together, and what it comes to, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldops.bundles.kit import Kit
from fieldops.errors import UsageFault
from fieldops.fleet import NAME_PATTERN, parse_address
from fieldops.operations.hostkeys import expected_in
from fieldops.steps import Step, describe


@dataclass(frozen=True, slots=True)
class Intake:
    """kit None: an agent runs there already. foreign: (model, file on the device) of what it runs today; needs a kit.

    sudo: a service of the system, for a login that is not root; needs a kit. expected: the fingerprint of its SSH host key, had by another way; "": what is known so far counts.
    """

    label: str = ""
    kit: Path | None = None
    lan: str = ""
    foreign: tuple[str, str] | None = None
    sudo: bool = False
    adopt: bool = False
    expected: str = ""


@dataclass(frozen=True, slots=True)
class TakenOn:
    """proof: how an agent from a kit was seen to come back by itself; unproved: why it was not. Both "": nothing to prove."""

    id: str
    proof: str = ""
    unproved: str = ""


def intake(
    *,
    label: str = "",
    kit: Path | None = None,
    lan: str = "",
    foreign: str = "",
    sudo: bool = False,
    adopt: bool = False,
    expect: str | None = None,
) -> Intake:
    """From what was typed. Raises UsageFault with all that does not fit together."""
    faults = [
        f"--{name} needs --kit" for name, value in (("lan", lan), ("foreign", foreign), ("sudo", sudo)) if value and kit is None
    ]
    model, equals, path = foreign.partition("=")
    if foreign and not (equals and NAME_PATTERN.fullmatch(model) and path.startswith("/")):
        faults.append(f"--foreign {foreign!r} is not MODEL=/path/on/the/device")
    if lan:
        try:
            parse_address(lan)
        except ValueError as error:
            faults.append(f"--lan {lan!r} is not {error}")
    if faults:
        raise UsageFault("; ".join(faults), reason="usage", next_step="see `fieldops device enrol --help`")
    expected = expected_in(expect) if expect is not None else ""
    return Intake(label, kit, lan, (model, path) if foreign else None, sudo, adopt, expected)


def in_words(wanted: Intake, kit: Kit | None, steps: Sequence[Step]) -> list[str]:
    """In the order in which it happens. steps: of enrol.plan."""
    told = [describe(step) for step in steps]
    trust = [f"trust the host key {wanted.expected}, if that is what it shows"] if wanted.expected else []
    adopt = ["adopt the model that runs there as version 0.0.0 and last-good, and measure it"] if wanted.adopt else []
    if kit is None:
        return [*trust, *told, *adopt]
    service = ", as a service of the system, made by sudo" if wanted.sudo else ""
    push = f"push and install the kit for {kit.platform}, Python {kit.python} ({kit.size_bytes / 1e6:.0f} MB){service}"
    prove = "prove that the agent answers after logout and after a restart"
    return [*trust, push, *told[:1], prove, *told[1:], *adopt]
