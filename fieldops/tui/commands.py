"""One registry of everything the console can do: keys, footer, palette, `:` line and help are all read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.binding import Binding

EVERYWHERE = "everywhere"


@dataclass(frozen=True, slots=True)
class Command:
    """id: what `[keys]` in config.toml names. where: screens it belongs to. do: method `do_<do>` of the screen, else the app.

    words: what may be typed after `:`. argument: what may follow it. label: in the key bar; "" keeps it out of there.
    key_shown: what the bar shows for the key; "" is the key itself.
    changes: it leads to a change of a device, always through a dialog.
    """

    id: str
    title: str
    do: str
    where: frozenset[str]
    keys: str = ""
    words: tuple[str, ...] = ()
    argument: str = ""
    label: str = ""
    key_shown: str = ""
    changes: bool = False
    demo_only: bool = False


def _on(*screens: str) -> frozenset[str]:
    return frozenset(screens)


_ALL = _on(EVERYWHERE)

# In the order of the key bar and the help.
COMMANDS: tuple[Command, ...] = (
    Command("fleet.open", "Open the selected device", "open", _on("fleet"), "enter", label="open"),
    Command("audit.open", "Show the selected entry in full", "open", _on("audit"), "enter", label="entry"),
    Command("sideload.pick", "Verify the selected bundle", "pick", _on("sideload"), "enter", label="next"),
    Command("device.tab.1", "Resources", "tab_resources", _on("device"), "1", ("resources",), label="tab", key_shown="1-3"),
    Command("device.tab.2", "Drift and its cause", "tab_drift", _on("device"), "2", ("drift",)),
    Command("device.tab.3", "Models and versions", "tab_models", _on("device"), "3", ("models",)),
    Command("device.next_tab", "Next tab", "next_tab", _on("device"), "right,l", label=""),
    Command("device.previous_tab", "Previous tab", "previous_tab", _on("device"), "left,h"),
    Command(
        "device.sideload",
        "Sideload a signed bundle",
        "sideload",
        _on("fleet", "device"),
        "S",
        ("sideload",),
        label="sideload",
        changes=True,
    ),
    Command(
        "device.rollback",
        "Roll back a model",
        "rollback",
        _on("fleet", "device", "sideload"),
        "B",
        ("rollback", "rb"),
        "MODEL",
        "roll back",
        changes=True,
    ),
    Command(
        "device.commit",
        "Commit the model on trial",
        "commit",
        _on("device", "sideload"),
        "C",
        ("commit",),
        label="commit",
        changes=True,
    ),
    Command(
        "fleet.filter",
        "Filter rows (site:north !st:ok)",
        "filter",
        _on("fleet", "audit"),
        "slash",
        ("filter",),
        "TERMS",
        "filter",
    ),
    Command("fleet.faults", "Show faults only", "faults", _on("fleet"), "f", ("faults",), label="faults"),
    Command("fleet.sort", "Sort by the next column", "sort", _on("fleet"), "s", ("sort",)),
    Command("audit.sync", "Send queued entries to the central store", "sync", _on("audit"), "u", ("sync",), label="sync"),
    Command("fleet.sync", "Send queued entries to the central store", "sync", _on("fleet", "device"), "u", ("sync",)),
    Command("audit.verify", "Verify the whole log", "verify", _on("audit"), "v", ("verify",), label="verify"),
    Command("sideload.rescan", "Look at the media again", "rescan", _on("sideload"), "r", label="rescan"),
    Command("view.refresh", "Ask again now", "refresh", _on("fleet", "device", "audit"), "r", ("refresh",)),
    Command("view.pause", "Pause or resume live values", "pause", _on("fleet", "device"), "p", ("pause",)),
    Command("go.audit", "Audit log", "audit", _on("fleet", "device"), "a", ("audit",), label="audit"),
    Command("app.line", "Command line", "line", _ALL, "colon", label="cmd"),
    Command("app.palette", "Command palette", "palette", _ALL, "ctrl+p"),
    Command("app.help", "Keys and commands", "help", _ALL, "question_mark", ("help", "h"), label="help"),
    Command("app.back", "Back", "back", _ALL, "escape,q", ("back",), label="back"),
    Command("go.fleet", "Fleet list", "fleet", _ALL, words=("fleet",)),
    Command("go.device", "Open a device by name", "device", _ALL, words=("device", "dev"), argument="DEVICE"),
    Command("app.messages", "Messages so far", "messages", _ALL, "m", ("messages",)),
    Command("app.theme", "Next theme, or one by name", "theme", _ALL, "T", ("theme",), "THEME"),
    Command("app.store_up", "Bring up the central store (demo)", "store_up", _ALL, words=("store-up",), demo_only=True),
    Command("app.quit", "Quit", "quit", _ALL, "ctrl+q", ("quit", "q")),
)
BY_ID = {command.id: command for command in COMMANDS}


def by_word(word: str) -> list[Command]:
    """All that answer to the word; each belongs to other screens."""
    return [command for command in COMMANDS if word in command.words]


def bindings(scope: str) -> list[Binding]:
    """The bindings of one screen, or of the app (EVERYWHERE)."""
    from textual.binding import Binding

    return [
        Binding(
            command.keys,
            f"app.command('{command.id}')",
            command.title,
            id=command.id,
            show=bool(command.label),
            priority=command.id == "app.quit",
        )
        for command in COMMANDS
        if scope in command.where and command.keys
    ]
