"""What every verb that changes something is given beside its own arguments: --dry-run, --yes, --reason, --ticket, --json, --timeout.

A verb declares its own parameters after an `Asked`; `changes` adds the rest to what the command line shows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from fieldops.cli.call import Call
from fieldops.cli.diagnostics import need_person
from fieldops.cli.options import DryRun, Json, Reason, Ticket, Timeout, Yes

if TYPE_CHECKING:
    from fieldops.operations.gate import Words

Verb = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Asked:
    """dry_run: show the steps, change nothing. yes: do not ask."""

    call: Call
    yes: bool
    dry_run: bool
    reason: str
    ticket: str

    @property
    def words(self) -> Words:
        from fieldops.operations.gate import Words

        return Words(self.reason, self.ticket)

    def need_person(self, *, writes_only: bool = False) -> None:
        """writes_only: nothing is changed but a file here. Raises UsageFault (needs_yes) where nobody can be asked."""
        need_person(yes=self.yes, dry_run=self.dry_run or writes_only)


def _options(
    dry_run: DryRun = False, yes: Yes = False, reason: Reason = "", ticket: Ticket = "", json: Json = False, timeout: Timeout = 0
) -> None:
    """Only its signature is used."""


def changes(seconds: float) -> Callable[[Verb], Verb]:
    """seconds: how long the verb waits for a device, unless --timeout says otherwise."""

    def decorate(verb: Verb) -> Verb:
        own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
        shared = [
            each.replace(default=seconds) if each.name == "timeout" else each
            for each in inspect.signature(_options, eval_str=True).parameters.values()
        ]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

        def command(
            context: typer.Context,
            dry_run: bool,
            yes: bool,
            reason: str,
            ticket: str,
            json: bool,
            timeout: float,
            **own: Any,
        ) -> int:
            call = Call.of(context, json=json, timeout=timeout)
            return verb(Asked(call, yes, dry_run, reason, ticket), **own)

        parameters = [context, *own, *shared]
        command.__name__, command.__doc__ = verb.__name__, verb.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate
