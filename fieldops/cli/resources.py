"""`fieldops resources DEVICE...`"""

from __future__ import annotations

import typer

from fieldops.cli.call import Call, Outcome, only_failure, single
from fieldops.cli.documents.readings import DeviceResources, ResourcesReport
from fieldops.cli.options import AllDevices, Json, SomeDevicesArg, Timeout
from fieldops.cli.output import document, line, number, pairs, size, span, table
from fieldops.fleet import Resources

app = single()

Reading = tuple[str, Resources]


@app.command()
def resources(
    context: typer.Context,
    devices: SomeDevicesArg = None,
    everyone: AllDevices = False,
    json: Json = False,
    timeout: Timeout = 20.0,
) -> int:
    """CPU, memory, disk, temperature and answers of devices. `-` means: not measurable there."""
    from fieldops.operations import observe

    call = Call.of(context, json=json, timeout=timeout)
    entries = call.entries(devices, everyone=everyone)
    outcomes = call.on_each(entries, lambda device, deadline: (device.link, observe.resources(device, deadline)))
    only_failure(outcomes)
    if json:
        document(ResourcesReport(devices=[_item(outcome) for outcome in outcomes]))
    elif len(outcomes) == 1:
        for outcome in outcomes:
            _one(outcome)
    else:
        _many(outcomes)
    return call.finish(outcomes)


def _item(outcome: Outcome[Reading]) -> DeviceResources:
    link, reading = outcome.value or (None, None)
    return DeviceResources(device=outcome.entry.name, link=link, resources=reading, error=outcome.error_doc)


def _many(outcomes: list[Outcome[Reading]]) -> None:
    rows = []
    for outcome in outcomes:
        if outcome.value is None:
            continue
        link, now = outcome.value
        rate = sum(each.rate_per_s for each in now.serving) if now.serving else None
        rows.append(
            (
                outcome.entry.name,
                link,
                number(now.cpu_pct, 0, " %"),
                size(now.mem_available_bytes),
                size(now.disk_free_bytes),
                number(now.soc_temp_c, 0, " C"),
                "yes" if now.throttled else "no" if now.throttled is not None else None,
                number(rate, 1, "/s"),
                span(now.uptime_s),
            )
        )
    table(("DEVICE", "LINK", "CPU", "MEM FREE", "DISK FREE", "TEMP", "THROTTLED", "ANSWERS", "UP"), rows)


def _one(outcome: Outcome[Reading]) -> None:
    assert outcome.value is not None
    link, now = outcome.value
    why = f" ({now.throttle_reason})" if now.throttle_reason not in {"", "throttled"} else ""
    throttled = None if now.throttled is None else f"yes{why}" if now.throttled else "no"
    pairs(
        [
            ("device", f"{outcome.entry.name} (over {link})"),
            ("up", span(now.uptime_s)),
            ("cpu", f"{number(now.cpu_pct, 0, ' %')} of {now.cpu_count} cores, load {number(now.load_1m, 2)}"),
            ("clock", _of(number(now.clock_mhz, 0), number(now.clock_max_mhz, 0, " MHz"))),
            ("memory free", _of(size(now.mem_available_bytes), size(now.mem_total_bytes))),
            ("disk free", _of(size(now.disk_free_bytes), size(now.disk_total_bytes))),
            ("model storage", _of(size(now.quota_used_bytes), size(now.quota_bytes), "used of")),
            ("temperature", _of(number(now.soc_temp_c, 0), number(now.temp_limit_c, 0, " C"), "of at most")),
            ("throttled", throttled),
            ("power", number(now.power_w, 1, " W")),
            ("agent memory", size(now.agent_rss_bytes)),
        ]
    )
    if now.serving:
        line()
        table(
            ("MODEL", "VERSION", "ANSWERS", "FAILED", "RATE", "P50 MS", "P95 MS", "BASELINE P50", "ROUTES"),
            [
                (
                    each.model,
                    each.version,
                    each.requests,
                    each.failed,
                    number(each.rate_per_s, 1, "/s"),
                    number(each.p50_ms, 2),
                    number(each.p95_ms, 2),
                    number(each.baseline_p50_ms, 2),
                    ", ".join(f"{route} {count}" for route, count in sorted(each.routes.items())),
                )
                for each in now.serving
            ],
        )


def _of(part: str, whole: str, between: str = "of") -> str | None:
    return None if part == whole == "-" else part if whole == "-" else f"{part} {between} {whole}"
