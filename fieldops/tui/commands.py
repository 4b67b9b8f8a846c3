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
    changes: it leads to a change of a device, always through a dialog. while_job: only while work runs.
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
    while_job: bool = False


def _on(*screens: str) -> frozenset[str]:
    return frozenset(screens)


_ALL = _on(EVERYWHERE)

# In the order of the key bar and the help.
COMMANDS: tuple[Command, ...] = (
    Command("fleet.open", "Open the selected device", "open", _on("fleet"), "enter", label="open"),
    Command("audit.open", "Show the selected entry in full", "open", _on("audit"), "enter", label="entry"),
    Command("sideload.pick", "Verify the selected bundle", "pick", _on("sideload"), "enter", label="next"),
    Command("runbooks.open", "Begin it, go on with it, or read it", "open", _on("runbooks"), "enter", ("run",), label="run", changes=True),
    Command("discover.open", "Open the device, or add a new one", "open", _on("discover"), "enter", label="open"),
    Command("jobs.open", "How it goes, or how it ended", "open", _on("jobs"), "enter", label="read"),
    Command("device.tab.1", "Resources", "tab_resources", _on("device"), "1", ("resources",), label="tab", key_shown="1-6"),
    Command("device.tab.2", "Drift and its cause", "tab_drift", _on("device"), "2", ("drift",)),
    Command("device.tab.3", "Models and versions", "tab_models", _on("device"), "3", ("models",)),
    Command("device.tab.4", "The agent's log", "tab_log", _on("device"), "4", ("log", "logs")),
    Command("device.tab.5", "What the device did and decided", "tab_acts", _on("device"), "5", ("acts", "journal")),
    Command("device.tab.6", "Benchmarks against its baseline", "tab_bench", _on("device"), "6", ("benchmarks",)),
    Command("device.row", "Show the selected line in full", "row", _on("device"), "enter", label="line"),
    Command("device.next_tab", "Next tab", "next_tab", _on("device"), "right,l"),
    Command("device.previous_tab", "Previous tab", "previous_tab", _on("device"), "left,h"),
    Command(
        "device.sideload", "Sideload a signed bundle", "sideload", _on("fleet", "device"), "S", ("sideload",),
        label="sideload", changes=True,
    ),
    Command(
        "device.rollback", "Roll back a model", "rollback", _on("fleet", "device", "sideload"), "B", ("rollback", "rb"),
        "MODEL", "roll back", changes=True,
    ),
    Command(
        "device.commit", "Commit the model on trial", "commit", _on("device", "sideload"), "C", ("commit",),
        label="commit", changes=True,
    ),
    Command("device.disarm", "Take an armed version back", "disarm", _on("device"), "D", ("disarm",), label="disarm", changes=True),
    Command("device.bench", "Benchmark a model", "bench", _on("device"), "b", ("bench",), "MODEL", "bench", changes=True),
    Command("device.baseline", "Measure a new baseline", "baseline", _on("device"), "N", ("baseline",), "MODEL", changes=True),
    Command(
        "sideload.arm", "Arm it: the device tries it alone in a window", "arm", _on("sideload"), "A", ("arm",), "WINDOW",
        "arm", changes=True,
    ),
    Command(
        "sideload.break_glass", "Break glass: use expired metadata, with two approvals", "break_glass", _on("sideload"), "X",
        ("accept-expired",), label="break glass", changes=True,
    ),
    Command(
        "fleet.filter", "Filter rows (site:north !st:ok)", "filter", _on("fleet", "audit"), "slash", ("filter",), "TERMS", "filter",
    ),
    Command("device.filter", "Filter the lines of a list", "filter", _on("device"), "slash", ("filter",), "WORDS", "filter"),
    Command("fleet.faults", "Show faults only", "faults", _on("fleet"), "f", ("faults",), label="faults"),
    Command("fleet.sort", "Sort by the next column", "sort", _on("fleet"), "s", ("sort",), "COLUMN"),
    Command("fleet.reverse", "Turn the order round", "reverse", _on("fleet"), "o", ("reverse",)),
    Command("audit.sync", "Send queued entries to the central store", "sync", _on("audit"), "u", ("sync",), label="sync"),
    Command("fleet.sync", "Send queued entries to the central store", "sync", _on("fleet", "device"), "u", ("sync",)),
    Command("audit.verify", "Verify the whole log", "verify", _on("audit"), "v", ("verify",), label="verify"),
    Command("sideload.rescan", "Look at the media again", "rescan", _on("sideload"), "r", label="rescan"),
    Command("view.refresh", "Ask again now", "refresh", _on("fleet", "device", "audit", "runbooks", "discover"), "r", ("refresh",)),
    Command("view.pause", "Pause or resume live values", "pause", _on("fleet", "device"), "p", ("pause",)),
    Command("go.audit", "Audit log; from a device, its own part", "audit", _on("fleet", "device"), "a", ("audit",), label="audit"),
    Command("go.discover", "Look for devices on the network and the cable", "discover", _on("fleet"), "d", ("discover",)),
    Command(
        "setup.trust_host", "Compare and trust a host key", "trust_host", _on("fleet", "device", "discover"), "K", ("trust",),
        "FINGERPRINT", changes=True,
    ),
    Command("setup.enrol", "Enrol a device", "enrol", _on("fleet", "device", "discover"), "E", ("enrol",), "KIT", changes=True),
    Command("setup.log_in", "Log in: asks for passphrase or password", "log_in", _on("fleet", "device", "discover"), "L", ("login",)),
    Command("visit.close", "Close the visit to the devices shown", "close_visit", _on("fleet"), "V", ("visit-close", "close"), changes=True),
    Command("job.stop", "Stop the work that runs", "stop", _ALL, "x", ("stop",), while_job=True),
    Command("go.jobs", "All work: what runs, and how the rest ended", "jobs", _ALL, "J", ("jobs",)),
    Command("app.copy", "Copy what is selected", "copy", _ALL, "y", ("copy",)),
    Command("app.line", "Command line", "line", _ALL, "colon", label="cmd"),
    Command("go.runbooks", "Runbooks and their runs", "runbooks", _on("fleet", "device"), "R", ("runbooks",), label="runbooks"),
    Command("setup.add", "Add a device to the list", "add", _on("fleet", "discover"), "plus", ("add",), label="add"),
    Command("app.palette", "Command palette", "palette", _ALL, "ctrl+p"),
    Command("app.help", "Keys and commands", "help", _ALL, "question_mark", ("help", "h"), label="help"),
    Command("app.back", "Back", "back", _ALL, "escape,q", ("back",), label="back"),
    Command("go.fleet", "Fleet list", "fleet", _ALL, words=("fleet",)),
    Command("go.device", "Open a device by name", "device", _ALL, words=("device", "dev"), argument="DEVICE"),
    Command("app.messages", "Messages so far", "messages", _ALL, "m", ("messages",)),
    Command("app.theme", "Next theme, or one by name", "theme", _ALL, "T", ("theme",), "THEME"),
    Command("app.store_up", "Bring up the central store (demo)", "store_up", _ALL, words=("store-up",), demo_only=True),
    Command("app.quit", "Quit", "quit", _ALL, "ctrl+q", ("quit", "q")),
)  # fmt: skip
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
