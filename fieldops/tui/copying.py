"""Taking a text along: for a ticket, a mail, a colleague."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldops.tui.jobs import Job

if TYPE_CHECKING:
    from fieldops.tui.front import Front


def copy(front: Front, text: str) -> None:
    """To the terminal's clipboard, which not every terminal has, so a file holds it as well. Only what is known is claimed."""
    if not text:
        front.tell("nothing here to copy", "warning")
        return
    front.copy_to_clipboard(text)
    site, lines = front.site, len(text.splitlines())
    front.jobs.start(
        Job(""),
        lambda _job: site.keep_text(text),
        lambda place: front.tell(f"{lines} line{'s' * (lines != 1)} offered to the clipboard, and in {place}"),
        front.tell_error,
    )
