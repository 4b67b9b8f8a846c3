"""What stands above the field of a passphrase, a password, or a device's own question."""

from __future__ import annotations

from textual.content import Content

from fieldops.ports import Question
from fieldops.tui import figures
from fieldops.tui.panels.ink import Tone, line, page, wrapped

WIDTH = 72
SOON_S = 10.0
_TITLES = {"passphrase": "PASSPHRASE", "password": "PASSWORD", "answer": "QUESTION OF THE DEVICE"}


def title(question: Question) -> str:
    about = f" for {figures.clean(question.device)}" if question.device else ""
    return line(_TITLES[question.kind] + about).markup


def text(question: Question, width: int) -> Content:
    """A device's own words stand under `asks`: they are not the console's."""
    lines = wrapped("asks", [figures.clean(question.text)], width, 10, "strong")
    if question.host:
        lines += wrapped("goes to", [figures.clean(question.host)], width, 10)
    if question.host_key:
        lines += wrapped("host key", [f"{question.host_key}, as trusted before"], width, 10)
    if question.kind == "passphrase":
        lines += wrapped("goes to", ["nobody: it opens the key on this laptop, for this session"], width, 10)
    else:
        lines += wrapped("kept", ["nowhere"], width, 10)
    shown = "it is shown as you type" if question.echo else "it is not shown as you type"
    return page([*lines, Content(""), line((shown, "muted"))])


def left(seconds: float) -> Content:
    tone: Tone = "warn" if seconds < SOON_S else "muted"
    return line((f"{seconds:.0f} s left; then what waits for it goes on without", tone))
