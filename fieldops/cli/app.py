"""The `fieldops` command: which verbs there are. Each verb's file is imported when that verb runs, and `--help` imports none.

Help is plain text: rich costs more start-up than all else together, and pipes and screen readers want none of its boxes.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

os.environ["TYPER_USE_RICH"] = "0"  # read once, when typer is imported

import typer
from typer import Abort
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from fieldops.cli.diagnostics import ended

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter
    from typer._click.shell_completion import CompletionItem
    from typer.models import CommandInfo

HELP = {"help_option_names": ["-h", "--help"]}

# verb -> what its help line says; the file has the verb's name. In the order of a visit.
VERBS: dict[str, str] = {
    "device": "The inventory: list, add, remove, discover, trust, enrol, show.",
    "kit": "What a device without internet installs its agent from: build, check.",
    "resources": "CPU, memory, disk, temperature and answers of devices.",
    "models": "Which model versions devices run, hold, and could go back to; prune, tiers, recalibrate, disarm, tune.",
    "drift": "Whether the data or the hardware changed, with the evidence.",
    "samples": "Unusual inputs that devices kept: pull, label; keygen and open, for who retrains.",
    "logs": "What the agent logged, or did by itself.",
    "bench": "Measure a model on a device or a file here: run, list, compare, baseline.",
    "stick": "USB sticks: list, verify, renew; export, for the release team.",
    "sideload": "Put a signed model version onto devices.",
    "rollback": "Go back to the last-good version, or to a listed one.",
    "visit": "Before and after: prepare, close (take along what devices know, and a report).",
    "approve": "Sign a statement that lets somebody do what the rules refuse.",
    "runbook": "Signed procedures: list, check, plan, run, resume, status.",
    "audit": "The record of every change: list, verify, sync.",
    "policy": "The root of trust and the signed rules: pin, show, check.",
    "config": "This laptop's settings: path, show, check.",
    "release": "For the release team: make and sign what goes onto sticks.",
    "central": "The central store: serve, invite, laptops, revoke, verify; enrol, for a laptop.",
    "demo": "A sample fleet of real agents on this machine, and a tour.",
}


class Group(TyperGroup):
    """The verbs of one file. Only the one that is asked for is built: reading its parameters takes longer than its work."""

    def __init__(self, name: str, app: typer.Typer, text: str) -> None:
        super().__init__(name=name, help=text, no_args_is_help=True, rich_markup_mode=None, context_settings=HELP)
        self.verbs = {verb.name or getattr(verb.callback, "__name__", ""): verb for verb in app.registered_commands}
        self.groups = {
            str(inner.name): Group(str(inner.name), inner.typer_instance, str(inner.help))
            for inner in app.registered_groups
            if inner.typer_instance is not None
        }

    @property
    def _itself(self) -> str | None:
        """A group with a verb of its own name, such as `models`, is that verb where none of the others is named."""
        return self.name if self.name in self.verbs else None

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if self._itself and args and args[0] not in {*self.verbs, *self.groups, *HELP["help_option_names"]}:
            args = [self._itself, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        own = self.get_command(ctx, self._itself) if self._itself else None
        for param in own.params[:1] if own else []:
            found += param.shell_complete(ctx, incomplete)
        return found

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002
        return [*self.verbs, *self.groups]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        if cmd_name in self.groups:
            return self.groups[cmd_name]
        if cmd_name not in self.verbs:
            return None
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.registered_commands.append(self.verbs[cmd_name])
        command = get_command(alone)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            inner = [(name, group.help or "") for name, group in self.groups.items()]
            formatter.write_dl([*((name, _first_line(verb)) for name, verb in self.verbs.items()), *inner])


def _first_line(verb: CommandInfo) -> str:
    text = (verb.callback.__doc__ or "").strip() if verb.callback is not None else ""
    return text.split("\n", 1)[0]


class Verbs(TyperGroup):
    """Knows the verbs by name; imports the one that is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002
        return [*VERBS, "agent"]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        app: typer.Typer = importlib.import_module(f"fieldops.cli.{cmd_name}").app
        if len(app.registered_commands) > 1:
            return Group(cmd_name, app, VERBS[cmd_name])
        command = get_command(app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl([*VERBS.items(), ("agent", "The device's own program (`fieldops-agent`).")])


app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings=HELP,
)

Home = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="DIR", help="Where this laptop's files are. Default: $FIELDOPS_HOME, else the user's data folder."
    ),
]


@app.callback(epilog="Without a verb: the console. Every verb has --help. More: docs/cli.md.")
def fieldops(
    context: typer.Context,
    home: Home = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Console: draw with plain characters only.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Console: no colours, as with NO_COLOR=1.")] = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
) -> int:
    """See, benchmark, sideload and roll back models on devices in the field, and prove what was done. Works offline."""
    if version:
        from fieldops import __version__
        from fieldops.cli.output import line

        line(f"fieldops {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return 0
    from fieldops.tui.start import run as console

    return console(home, ascii_only=ascii_only, no_color=no_color)


def run() -> None:
    """Run the command line of this process, and end it with the exit code of what happened."""
    sys.exit(main(sys.argv[1:]))


def main(words: list[str]) -> int:
    """The exit code. Never raises."""
    before_dashes = words[: words.index("--")] if "--" in words else words
    return ended(
        lambda: get_command(app).main(home_first(words), prog_name="fieldops", standalone_mode=False),
        as_json="--json" in before_dashes,
        usage=TyperException,
        abort=Abort,
    )


def home_first(words: list[str]) -> list[str]:
    """`--home DIR` may stand anywhere before `--`; typer wants it before the verb."""
    moved: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            rest += words[at:]
            break
        if word == "--home" and at + 1 < len(words):
            moved += [word, words[at + 1]]
            at += 1
        elif word.startswith("--home="):
            moved.append(word)
        else:
            rest.append(word)
        at += 1
    return [*moved, *rest]
