"""`fieldops bench ...`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldops.bench import Comparison, compare
from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import agreed, need_person, progress_of, tell
from fieldops.cli.documents.benches import BenchComparison, BenchList, BenchRecord, BenchRun, ComparedRow
from fieldops.cli.options import DeviceArg, Json, Reason, Ticket, Timeout, Yes, device_names
from fieldops.cli.output import document, instant, line, number, pairs, table, yes
from fieldops.errors import CheckFailed, DeviceCannot, UsageFault
from fieldops.wire import BenchResult

app = group()

Samples = Annotated[int, typer.Option("--samples", min=64, max=100_000, help="p90 needs 64, p99 needs 662.")]


@app.command("run")
def run_bench(
    context: typer.Context,
    device: Annotated[str | None, typer.Argument(metavar="[DEVICE MODEL]", autocompletion=device_names)] = None,
    model: Annotated[str | None, typer.Argument(hidden=True)] = None,
    local: Annotated[
        Path | None, typer.Option("--local", metavar="FILE.onnx", help="Measure a file on this laptop instead.")
    ] = None,
    samples: Samples = 256,
    gate: Annotated[bool, typer.Option("--gate", help="Exit 7 when it is slower than the device's own baseline.")] = False,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 300.0,
) -> int:
    """Measure one request after another: cold start, p50, p90, p99, with a calibration kernel beside it."""
    if local is not None:
        if device is not None:
            raise UsageFault("both a device and --local", reason="usage", next_step="give one of the two")
        return _local(context, local, samples=samples, json=json, timeout=timeout)
    if device is None or model is None:
        raise UsageFault(
            "a device and a model, or --local FILE.onnx, are needed",
            reason="usage",
            next_step="`fieldops bench run DEVICE MODEL`; see `fieldops models DEVICE` for its models",
        )
    need_person(yes=yes, dry_run=False)
    call = Call.of(context, json=json, timeout=timeout)
    name, result = _on_device(call, device, model, samples=samples, save=False, yes=yes, reason=reason, ticket=ticket)
    return _show(call, name, result, gate=gate)


@app.command()
def baseline(
    context: typer.Context,
    device: DeviceArg,
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    samples: Samples = 256,
    yes: Yes = False,
    reason: Reason = "",
    ticket: Ticket = "",
    json: Json = False,
    timeout: Timeout = 300.0,
) -> int:
    """Measure, and let the device keep the result: what it and you compare with from then on."""
    need_person(yes=yes, dry_run=False)
    call = Call.of(context, json=json, timeout=timeout)
    name, result = _on_device(call, device, model, samples=samples, save=True, yes=yes, reason=reason, ticket=ticket)
    code = _show(call, name, result, gate=False)
    if not json:
        tell(f"{name} keeps this as the baseline of {result.model} {result.version}")
        if result.throttled:
            tell(
                f"it was throttled meanwhile, so later runs will be `not comparable`: cool it, then `fieldops bench baseline {name}"
                f" {result.model}` again"
            )
    return code


def _on_device(
    call: Call, device: str, model: str, *, samples: int, save: bool, yes: bool, reason: str, ticket: str
) -> tuple[str, BenchResult]:
    from fieldops.operations import benchmark
    from fieldops.operations.gate import Words

    entry = call.laptop.inventory().find(device)
    if not yes:
        agreed(f"benchmark {model} on {entry.name}, {samples} samples? It loads the device while it answers.")
    gate = call.laptop.gate()
    (outcome,) = call.on_each(
        [entry],
        lambda connected, deadline: benchmark.on_device(
            gate,
            connected,
            model,
            deadline,
            samples=samples,
            save_baseline=save,
            words=Words(reason, ticket),
            progress=progress_of(entry.name),
        ),
    )
    if outcome.error is not None:
        raise outcome.error
    assert outcome.value is not None
    return entry.name, outcome.value


def _local(context: typer.Context, file: Path, *, samples: int, json: bool, timeout: float) -> int:
    from fieldops.operations import benchmark

    call = Call.of(context, json=json, timeout=timeout)
    try:
        result = call.run(lambda: benchmark.local(call.laptop.runner, file, samples, call.deadline()))
    except DeviceCannot as error:
        if error.reason != "model_unloadable":
            raise
        raise UsageFault(
            f"{error.message}",
            reason="bad_model",
            next_step="give an ONNX model that this laptop's ONNX Runtime can load",
        ) from error
    return _show(call, "local", result, gate=False)


def _show(call: Call, device: str, result: BenchResult, *, gate: bool) -> int:
    kept = call.laptop.benchmarks.keep(device, result)
    compared = compare(result, result.baseline) if result.baseline is not None else None
    own = result.baseline is not None and not result.baseline.device_class
    slower = gate and (compared is None or not own or compared.verdict == "slower")
    if call.json:
        document(
            BenchRun(
                run=BenchRecord(id=kept.id, time=kept.time, device=device, result=result),
                verdict=compared.verdict if compared else None,
                reason=compared.reason if compared else "",
            )
        )
        return CheckFailed.exit_code if slower else 0
    _figures(device, result)
    if compared is not None:
        line()
        _compared(compared)
    tell(f"kept as {kept.id}; compare with `fieldops bench compare {kept.id} OTHER`")
    if slower:
        tell("--gate: " + ("slower than the baseline" if own else "the device has no baseline: `fieldops bench baseline`"))
    return CheckFailed.exit_code if slower else 0


def _figures(device: str, result: BenchResult) -> None:
    pairs(
        [
            ("device", device if device != "local" else "this laptop"),
            ("model", f"{result.model} {result.version}".strip()),
            ("samples", result.samples),
            ("cold start", number(result.cold_ms, 2, " ms")),
            ("p50", number(result.p50_ms, 3, " ms")),
            ("p90", number(result.p90_ms, 3, " ms")),
            ("p99", number(result.p99_ms, 3, " ms") if result.p99_ms is not None else "- (needs 662 samples)"),
            ("rate", number(result.rate_per_s, 1, " /s")),
            ("kernel", number(result.kernel_ms, 3, " ms")),
            ("throttled", yes(result.throttled)),
            ("temperature", _heat(result)),
            ("energy", number(result.energy_j, 4, " J a request")),
            ("accuracy", number(result.accuracy, 4)),
            ("runtime", result.runtime),
        ]
    )


def _heat(result: BenchResult) -> str | None:
    if result.temp_before_c is None and result.temp_after_c is None:
        return None
    return f"{number(result.temp_before_c, 0)} -> {number(result.temp_after_c, 0, ' C')}"


def _compared(compared: Comparison) -> None:
    table(
        ("FIGURE", "BEFORE MS", "NOW MS", "RATIO"),
        [(row.name, number(row.before_ms, 3), number(row.now_ms, 3), number(row.ratio, 2)) for row in compared.rows],
    )
    line(f"{compared.verdict}{': ' if compared.reason else ''}{compared.reason}")
    if compared.kernel_ratio is not None and compared.comparable:
        line(f"the machine itself ran at {compared.kernel_ratio:.2f}x its earlier time; the ratios allow for it")


@app.command("list")
def list_runs(
    context: typer.Context,
    device: Annotated[str | None, typer.Option("--device", help="Only of this one.", autocompletion=device_names)] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    json: Json = False,
) -> None:
    """The runs this laptop took, newest first."""
    call = Call.of(context, json=json)
    kept = [each for each in call.laptop.benchmarks.newest_first() if device is None or each.device == device][:limit]
    if json:
        document(
            BenchList(runs=[BenchRecord(id=each.id, time=each.time, device=each.device, result=each.result) for each in kept])
        )
        return
    table(
        ("ID", "TIME", "DEVICE", "MODEL", "VERSION", "SAMPLES", "P50 MS", "P90 MS", "P99 MS", "THROTTLED"),
        [
            (
                each.id,
                instant(each.time),
                each.device,
                each.result.model,
                each.result.version,
                each.result.samples,
                number(each.result.p50_ms, 3),
                number(each.result.p90_ms, 3),
                number(each.result.p99_ms, 3),
                yes(each.result.throttled),
            )
            for each in kept
        ],
        empty="no runs yet: `fieldops bench run DEVICE MODEL`",
    )


@app.command("compare")
def compare_runs(
    context: typer.Context,
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Id of a run, or DEVICE:MODEL for its newest.")],
    now: Annotated[str, typer.Argument(metavar="NOW", help="Likewise.")],
    gate: Annotated[bool, typer.Option("--gate", help="Exit 7 when NOW is slower or cannot be compared.")] = False,
    json: Json = False,
) -> int:
    """Two runs side by side, corrected by the kernel timed beside each."""
    call = Call.of(context, json=json)
    first, second = call.laptop.benchmarks.read(before), call.laptop.benchmarks.read(now)
    compared = compare(second.result, first.result)
    failed = gate and compared.verdict in {"slower", "not comparable"}
    if json:
        document(
            BenchComparison(
                before=first.id,
                now=second.id,
                comparable=compared.comparable,
                verdict=compared.verdict,
                reason=compared.reason,
                kernel_ratio=compared.kernel_ratio,
                rows=[
                    ComparedRow(name=row.name, before_ms=row.before_ms, now_ms=row.now_ms, ratio=row.ratio)
                    for row in compared.rows
                ],
            )
        )
    else:
        for word, kept in (("before", first), ("now", second)):
            line(f"{word:<6}  {kept.id}  {kept.device}  {kept.result.model} {kept.result.version}")
        _compared(compared)
    return CheckFailed.exit_code if failed else 0
