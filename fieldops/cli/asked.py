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

Verb = Callable[..., int | None]


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


def changes(
    seconds: float | None = None, *, asks: bool = True, previews: bool = True
) -> Callable[[Verb], Callable[..., int | None]]:
    """seconds: how long the verb waits for a device, unless --timeout says otherwise; None: it waits for none.

    asks: it asks before it does something, so there is a --yes. previews: there is a --dry-run.
    """

    def decorate(verb: Verb) -> Callable[..., int | None]:
        own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
        shared = inspect.signature(_options, eval_str=True).parameters
        left_out = {"timeout", *(() if asks else ("yes",)), *(() if previews else ("dry_run",))}
        parameters = [
            inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
            *own,
            *(each for name, each in shared.items() if name not in left_out),
            *([shared["timeout"].replace(default=seconds)] if seconds is not None else ()),
        ]

        def command(
            context: typer.Context,
            *,
            reason: str,
            ticket: str,
            json: bool,
            dry_run: bool = False,
            yes: bool = False,
            timeout: float = 30.0,
            **given: Any,
        ) -> int | None:
            call = Call.of(context, json=json, timeout=timeout)
            return verb(Asked(call, yes, dry_run, reason, ticket), **given)

        command.__name__, command.__doc__ = verb.__name__, verb.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate
