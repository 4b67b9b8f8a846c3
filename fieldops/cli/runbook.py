"""`fieldops runbook ...`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.asked import Asked, changes
from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import agreed, tell
from fieldops.cli.documents.runbooks import RunbookCheck, RunbookItem, RunbookLine, RunbookPlan, RunbookRun, RunbookRuns, Runbooks
from fieldops.cli.options import Json
from fieldops.cli.output import document, line, table
from fieldops.deadline import Deadline
from fieldops.errors import Cancelled, FieldopsError, UsageFault

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fieldops.fleet import DeviceEntry
    from fieldops.operations.gate import Words
    from fieldops.operations.runbook import RunReport
    from fieldops.ports import Device
    from fieldops.runbooks.engine import Action, Fact
    from fieldops.runbooks.format import Param, Runbook

app = group()

RunbookArg = Annotated[str, typer.Argument(metavar="RUNBOOK", help="Id of a signed runbook; see `fieldops runbook list`.")]
ParamsArg = Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="Its parameters, such as device=press-03.")]


@app.command("list")
def list_runbooks(context: typer.Context, json: Json = False) -> None:
    """The signed runbooks this laptop holds. They come with the policy, from a stick."""
    from fieldops.operations import runbook as operation

    call = Call.of(context, json=json)
    trust = call.laptop.trust
    found = [operation.load(trust, each)[0] for each in operation.available(trust)]
    if json:
        document(
            Runbooks(
                runbooks=[
                    RunbookItem(id=each.id, title=each.title, params=[param.name for param in each.params], sha256=each.sha256)
                    for each in found
                ]
            )
        )
        return
    table(
        ("RUNBOOK", "TITLE", "PARAMETERS"),
        [(each.id, each.title, " ".join(_parameter(param) for param in each.params)) for each in found],
        empty="no signed runbooks: they come with the policy (`fieldops stick list` brings it)",
    )


def _parameter(param: Param) -> str:
    return f"{param.name}=" if param.required else f"[{param.name}=]"


@app.command()
def check(
    context: typer.Context,
    runbook: Annotated[str, typer.Argument(metavar="RUNBOOK", help="Id of a signed one, or the path of a draft (.yaml).")],
    json: Json = False,
) -> int:
    """Every fault of a runbook at once, each with its line; for a sound one, what it needs and does."""
    from fieldops.operations import runbook as operation
    from fieldops.runbooks.format import parse

    call = Call.of(context, json=json)
    try:
        if runbook.endswith((".yaml", ".yml")):
            book = parse(_draft(Path(runbook)), runbook)
        else:
            book, _ = operation.load(call.laptop.trust, runbook)
    except UsageFault as error:
        if not json or not error.faults:
            raise
        document(RunbookCheck(runbook=runbook, ok=False, faults=[str(fault) for fault in error.faults]))
        return error.exit_code
    if json:
        document(RunbookCheck(runbook=runbook, ok=True, faults=[]))
        return 0
    line(f"{book.id}: {book.title}")
    for param in book.params:
        choice = f", one of {', '.join(param.values)}" if param.values else ""
        default = f", default {param.default}" if param.default is not None else ""
        line(f"  parameter {param.name}: {param.type}{choice}{default}{', needed' if param.required else ''}")
    for text in (*requires_of(book, {}), *steps_of(book, {})):
        line(f"  {text}")
    return 0


def _draft(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}", reason="bad_file", next_step="name a file that can be read") from error


def requires_of(book: Runbook, params: dict[str, str]) -> list[str]:
    return [f"requires {each.check}{_arguments(each.arguments, params)}" for each in book.requires]


def steps_of(book: Runbook, params: dict[str, str]) -> list[str]:
    lines = []
    for number, step in enumerate(book.steps, 1):
        undo = f"; undone by {step.undo.do}{_arguments(step.undo.arguments, params)}" if step.undo is not None else ""
        lines.append(f"{number}. {step.id}: {step.do}{_arguments(step.arguments, params)} (effect {step.effect}{undo})")
    return lines


def _arguments(arguments: tuple[tuple[str, str], ...], params: dict[str, str]) -> str:
    """With the parameters filled in; what a step will save stays as it is written."""
    shown = []
    for name, value in arguments:
        for key, given in params.items():
            value = value.replace(f"${{{key}}}", given)
        shown.append(f"{name}={value}")
    return f" {' '.join(shown)}" if shown else ""


@app.command()
def plan(context: typer.Context, runbook: RunbookArg, params: ParamsArg = None, json: Json = False) -> None:
    """What a run would require and do, with your parameters. Nothing is sent."""
    from fieldops.operations import runbook as operation
    from fieldops.runbooks.engine import resolve

    call = Call.of(context, json=json)
    book, _ = operation.load(call.laptop.trust, runbook)
    given = resolve(book, _given(params))
    requires, steps = requires_of(book, given), steps_of(book, given)
    if json:
        document(RunbookPlan(runbook=book.id, params=given, requires=requires, steps=steps))
        return
    line(f"{book.id}: {book.title}")
    for text in (*requires, *steps):
        line(f"  {text}")
    line(f"  when a step fails: {book.on_fail.replace('_', ' ')}")


def _given(words: list[str] | None) -> dict[str, str]:
    given = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageFault(f"{word!r} is no NAME=VALUE", reason="usage", next_step="write a parameter as device=press-03")
        given[name] = value
    return given


@app.command()
@changes(3600.0, previews=False)
def run(
    asked: Asked,
    runbook: RunbookArg,
    params: ParamsArg = None,
) -> int:
    """Run a signed runbook. Each step is on disk before it begins; what is cut off goes on with `runbook resume`."""
    from fieldops.operations import runbook as operation
    from fieldops.runbooks.engine import resolve

    asked.need_person()
    call = asked.call
    book, data = operation.load(call.laptop.trust, runbook)
    given = resolve(book, _given(params))
    _target(call, given)
    if not asked.yes:
        for text in (*requires_of(book, given), *steps_of(book, given)):
            tell(f"  {text}")
        agreed(f"run {book.id}?")
    record = call.laptop.runs.create()
    operation.begin(call.laptop.gate(), book, data, given, record, words=asked.words)
    return _go_on(call, record.id, given, words=asked.words)


@app.command()
@changes(3600.0, previews=False)
def resume(
    asked: Asked,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run; see `fieldops runbook status`.")],
) -> int:
    """Go on with a run that was cut off, from the facts on disk. A run that is over is only shown."""
    from fieldops.operations import runbook as operation

    asked.need_person()
    call = asked.call
    report = operation.status(call.laptop.runs.open(run))
    if report.outcome is None and not asked.yes:
        _print(report)
        agreed(f"go on with {run}?")
    return _go_on(call, run, report.params, words=asked.words)


def _go_on(call: Call, run: str, params: dict[str, str], *, words: Words) -> int:
    from fieldops.operations import runbook as operation

    entry = _target(call, params)
    gate = call.laptop.gate()

    def connect(deadline: Deadline) -> AbstractContextManager[Device]:
        return call.laptop.connect(entry, deadline)

    def said(action: Action, fact: Fact | None) -> None:
        if fact is None:
            what = "" if action.what == action.id else f": {action.what}"
            tell(f"{action.kind} {action.id}{what}{f' ({action.explain})' if action.explain else ''}")
        elif not fact.ok:
            tell(f"  failed: {fact.message or fact.reason}")

    tell(f"run {run}")
    report = call.run(
        lambda: operation.run(gate, call.laptop.runs.open(run), connect, call.deadline(), words=words, on_action=said)
    )
    if call.json:
        document(_document(report))
    else:
        _print(report)
    return report.exit_code if report.outcome is not None else Cancelled.exit_code


def _target(call: Call, params: dict[str, str]) -> DeviceEntry:
    """The device a run is about: its parameter `device`."""
    name = params.get("device")
    if name is None:
        raise UsageFault(
            "the runbook has no parameter `device`", reason="bad_parameters", next_step="use one that names a device"
        )
    return call.laptop.inventory().find(name)


@app.command()
def status(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Without one: all runs, newest first.")] = None,
    json: Json = False,
) -> None:
    """What a run did so far, and how it ended."""
    from fieldops.operations import runbook as operation

    call = Call.of(context, json=json)
    runs = call.laptop.runs
    if run is not None:
        report = operation.status(runs.open(run))
        if json:
            document(_document(report))
        else:
            _print(report)
        return
    if json:
        document(RunbookRuns(runs=runs.ids()))
        return
    rows = []
    for each in runs.ids():
        try:
            report = operation.status(runs.open(each))
        except FieldopsError as error:
            rows.append((each, "", error.reason, "", ""))
            continue
        rows.append((each, report.runbook, report.outcome or "not over", report.params.get("device", ""), report.at))
    table(("RUN", "RUNBOOK", "OUTCOME", "DEVICE", "ENDED AT"), rows, empty="no runs yet")


def _document(report: RunReport) -> RunbookRun:
    failed = report.failed
    return RunbookRun(
        run=report.run,
        runbook=report.runbook,
        params=report.params,
        outcome=report.outcome,
        steps=[RunbookLine(id=id_, what=what, ok=ok) for id_, what, ok in report.steps],
        at=report.at,
        reason=failed.reason if failed else "",
        message=failed.message if failed else "",
    )


def _print(report: RunReport) -> None:
    line(f"{report.run}: {report.runbook} {' '.join(f'{name}={value}' for name, value in report.params.items())}")
    table(
        ("  STEP", "DOES", "RESULT"),
        [
            (f"  {id_}", what, "ok" if ok else "begun, outcome unknown" if ok is None else "FAILED")
            for id_, what, ok in report.steps
        ],
    )
    if report.failed is not None:
        line(f"  why: {report.failed.message or report.failed.reason}")
    line(f"outcome: {report.outcome or f'not over; go on with `fieldops runbook resume {report.run}`'}")
