"""`fieldops drift DEVICE [MODEL]`"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fieldops.cli.call import Call, Outcome, only_failure, single
from fieldops.cli.diagnostics import tell
from fieldops.cli.documents.readings import DeviceDrift, DriftReport, ModelDrift, Shift
from fieldops.cli.options import AllDevices, Json, SomeDevicesArg, Timeout
from fieldops.cli.output import document, line, number, table
from fieldops.errors import CheckFailed, UsageFault

if TYPE_CHECKING:
    from fieldops.drift.cause import Diagnosis, FeatureShift

app = single()


class FailOn(StrEnum):
    """any: every verdict but ok and unknown."""

    any = "any"
    data = "data"
    hardware = "hardware"
    unknown = "unknown"


@app.command()
def drift(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model (may also be the last word).")] = None,
    everyone: AllDevices = False,
    fail_on: Annotated[FailOn | None, typer.Option("--fail-on", help="Exit 7 when a verdict is this.", show_choices=True)] = None,
    json: Json = False,
    timeout: Timeout = 20.0,
) -> int:
    """Whether the data or the hardware changed, with the evidence. `fieldops drift DEVICE MODEL` asks for one model."""
    from fieldops.operations import observe

    call = Call.of(context, json=json, timeout=timeout)
    wanted, model = _last_word(call, devices or [], model)
    entries = call.entries(wanted, everyone=everyone)
    outcomes = call.on_each(entries, lambda device, deadline: observe.drift(device, deadline, model))
    only_failure(outcomes)
    if json:
        document(DriftReport(devices=[_item(outcome) for outcome in outcomes]))
    else:
        _print(outcomes)
    bad = [each for outcome in outcomes for each in outcome.value or [] if fail_on is not None and _matches(each, fail_on)]
    if bad and not json:
        tell(f"--fail-on {fail_on.value if fail_on else ''}: {', '.join(f'{each.model} ({each.verdict})' for each in bad)}")
    return call.finish(outcomes, [CheckFailed.exit_code] if bad else [])


def _last_word(call: Call, words: list[str], model: str | None) -> tuple[list[str], str | None]:
    """The last of several words is the model when it names no device."""
    if model is not None or len(words) < 2:
        return words, model
    try:
        call.entries(words[-1:])
    except UsageFault as error:
        if error.reason != "unknown_device":
            raise
        return words[:-1], words[-1]
    return words, None


def _matches(diagnosis: Diagnosis, fail_on: FailOn) -> bool:
    if fail_on is FailOn.any:
        return diagnosis.verdict not in {"ok", "unknown"}
    return diagnosis.verdict == fail_on.value or (diagnosis.verdict == "both" and fail_on is not FailOn.unknown)


def _item(outcome: Outcome[list[Diagnosis]]) -> DeviceDrift:
    models = None
    if outcome.value is not None:
        models = [
            ModelDrift(
                model=each.model,
                version=each.version,
                verdict=each.verdict,
                labels=sorted(each.labels),
                evidence=list(each.evidence),
                features=[
                    Shift(
                        name=feature.name,
                        statistic=_finite(feature.statistic),
                        threshold=_finite(feature.threshold),
                        shifted=feature.shifted,
                        history=[_finite(value) for value in feature.history],
                    )
                    for feature in each.features
                ],
                n=each.n,
            )
            for each in outcome.value
        ]
    return DeviceDrift(device=outcome.entry.name, models=models, error=outcome.error_doc)


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def _shifted(feature: FeatureShift) -> str:
    """Above the threshold once is no shift yet: two of three windows decide."""
    return "yes" if feature.shifted else "once" if feature.newest.fires else "no"


def _print(outcomes: list[Outcome[list[Diagnosis]]]) -> None:
    read = [(outcome.entry.name, each) for outcome in outcomes for each in outcome.value or []]
    table(
        ("DEVICE", "MODEL", "VERSION", "CAUSE", "WHAT", "REQUESTS"),
        [
            (name, each.model, each.version, each.verdict, ", ".join(sorted(each.labels)).replace("_", " "), each.n)
            for name, each in read
        ],
        empty="no models with anything to compare",
    )
    for name, each in read:
        if not each.evidence and not (each.features and len(outcomes) == 1):
            continue
        line()
        line(f"{name} {each.model} {each.version}: {each.verdict}")
        for evidence in each.evidence:
            line(f"  {evidence}")
        if len(outcomes) == 1 and each.features:
            table(
                ("  QUANTITY", "SHIFT", "THRESHOLD", "OUT OF RANGE", "SHIFTED"),
                [
                    (
                        f"  {feature.name}",
                        number(feature.statistic, 4),
                        number(_finite(feature.threshold), 4),
                        f"{feature.newest.strays:.0%}",
                        _shifted(feature),
                    )
                    for feature in each.features
                ],
            )
