"""What is shown while a device is made known: its host key beside what is known, what to type for the list, how enrolling ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from fieldops.fleet import SHOWN_OF_ID
from fieldops.tui import figures
from fieldops.tui.panels.asking import Field, Question
from fieldops.tui.panels.change import refusal
from fieldops.tui.panels.columns import Cell, Column
from fieldops.tui.panels.ink import line, page, wrapped

if TYPE_CHECKING:
    from fieldops.errors import FieldopsError
    from fieldops.fleet import DeviceEntry
    from fieldops.operations.discover import Found
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.tui.site import Enrolment


def in_groups(fingerprint: str) -> str:
    """`SHA256:` and the rest four by four, as a person compares it with a label."""
    kind, colon, rest = fingerprint.partition(":")
    return f"{kind}{colon} " + " ".join(rest[at : at + 4] for at in range(0, len(rest), 4))


def host_key_question(entry: DeviceEntry, offered: OfferedKey) -> Question:
    """Typing the end of the fingerprint is what shows that somebody looked."""
    changed = offered.verdict == "changed"
    rows = [
        ("host", f"{entry.ssh}"),
        ("shows", f"{offered.key_type}\n{in_groups(offered.fingerprint)}"),
        *(("known" if not n else "", in_groups(each)) for n, each in enumerate(offered.known)),
        ("compare", "with the device's label, or with `ssh-keygen -lf` on the device; never over this network"),
    ]
    if changed:
        rows.append(("CHANGED", "it is not the key known so far. Set up again? Else STOP: another machine may answer"))
    return Question(
        title=f"{'REPLACE' if changed else 'TRUST'} THE HOST KEY of {entry.name}",
        verb="Replace" if changed else "Trust",
        rows=tuple(rows),
        unlock=offered.fingerprint[-4:],
        unlock_note="type the last four characters of the fingerprint",
        loud=changed,
    )


def add_question(known: DeviceEntry | None) -> Question:
    return Question(
        title="ADD A DEVICE to the list",
        verb="Add",
        rows=(("does", "writes it into fleet.toml; nothing is sent to the device"),),
        fields=(
            Field("name", "lower-case letters, digits, . _ -", known.name if known else ""),
            Field("ssh", "USER@HOST or USER@HOST:PORT", str(known.ssh or "") if known else ""),
            Field("lan", "HOST:PORT of its agent; may stay empty", str(known.lan or "") if known else ""),
            Field("site", "where it stands; may stay empty", known.site if known else ""),
            Field("class", "hardware, as bundles name it; may stay empty", known.device_class if known else ""),
        ),
    )


def enrol_question(entry: DeviceEntry, steps: Sequence[str], kit: str) -> Question:
    return Question(
        title=f"ENROL {entry.name}",
        verb="Enrol",
        unlock=entry.name,
        rows=(
            *(("does" if not n else "", f"{n + 1}. {text}") for n, text in enumerate(steps)),
            ("impact", "device and laptop know each other from then on; what answers goes on"),
            ("undo", f"fieldops device enrol {entry.name} --remove"),
        ),
        fields=(
            Field("label", "how this laptop is called there; may stay empty"),
            Field("kit", "a kit's folder, for a device without an agent", kit),
            Field("adopt", "y: keep the model that runs there as version 0"),
        ),
    )


def enrolled(name: str, done: Enrolment, width: int) -> Content:
    lines = [
        line(("DONE  ", "ok"), (figures.clean(name), "strong"), f" is enrolled: {done.id[:SHOWN_OF_ID]}"),
    ]
    if done.proof:
        lines += wrapped("proof", [figures.clean(done.proof)], width, 7)
    if done.unproved:
        lines += wrapped("NOT PROVED", [f"so no trials there: {figures.clean(done.unproved)}"], width, 12, "warn")
    return page(lines)


def failed(error: FieldopsError, width: int) -> Content:
    return page(refusal(error, width))


# --- discovery ---------------------------------------------------------------------------------------------------------------

FOUND_COLUMNS = (
    Column("DEVICE", 14, grows=1),
    Column("IN LIST", 7),
    Column("ANSWERS", 7),
    Column("ADDRESS", 20, grows=2),
    Column("CLASS", 12, goes=1),
    Column("ID, OR WHY NOT", 14, grows=4),
)


def found_cells(found: Found) -> tuple[Cell, ...]:
    hello, error = found.hello, found.error
    why = f"{error.reason.replace('_', ' ')}: {error.message}" if error is not None else ""
    return (
        Cell(figures.clean(found.entry.name), "strong"),
        Cell("yes", "plain") if found.known else Cell("NEW", "accent"),
        Cell("yes", "ok") if hello is not None else Cell("NO", "off"),
        Cell(str(found.entry.lan or found.entry.ssh or figures.UNKNOWN)),
        Cell(figures.clean(hello.device_class if hello else found.entry.device_class) or figures.UNKNOWN),
        Cell(hello.device[:SHOWN_OF_ID] if hello else figures.clean(why), "muted" if hello else "plain"),
    )
