"""The store's one page: incidents, logs, laptops, devices, newest entries. Plain HTML without scripts; every word from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from fieldops.central.laptops import LaptopLine
from fieldops.central.store import EntryLine, Incident, LogLine, LogStore
from fieldops.wire import DeviceTelemetry, StoreInfo

# nothing is loaded and nothing runs, whatever an entry holds
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td:nth-child(-n+2) { white-space: nowrap; }
p code { overflow-wrap: anywhere; }
.alarm { color: #b3261e; font-weight: 600; }
@media (prefers-color-scheme: dark) { .alarm { color: #ff8a80; } }
"""


def of(store: LogStore) -> str:
    """As it is now."""
    return render(
        store.info(), store.logs(), store.newest(100), store.incidents(100), store.telemetry.devices(), store.laptops.all()
    )


def render(
    info: StoreInfo,
    logs: Sequence[LogLine],
    entries: Sequence[EntryLine],
    incidents: Sequence[Incident],
    devices: Sequence[DeviceTelemetry],
    laptops: Sequence[LaptopLine],
) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>fieldops store</title>
<style>{_STYLE}</style></head><body>
<h1>fieldops store</h1>
<p>Store <code>{escape(info.store)}</code>, {instant(info.time)}. {_count(len(logs), "log")}, {_count(len(incidents), "incident")}.</p>
<h2>Incidents</h2>
{_table(("Opened", "What", "Log", "Entry", "Detail"), (_incident(found) for found in incidents), "None.")}
<h2>Logs</h2>
{_table(("Laptop", "Epoch", "Entries", "Last heard", "Root", "State"), (_log(log) for log in logs), "No laptop has synced yet.")}
<h2>Laptops</h2>
{_table(("Laptop", "Label", "Enrolled", "State"), (_enrolled(line) for line in laptops), "None was let in yet.")}
<h2>Devices</h2>
{_table(_DEVICE_HEADS, (_device(line) for line in devices), "No telemetry was brought yet.")}
<h2>Newest entries</h2>
{_table(("Received", "Claimed", "Laptop", "Entry", "Who", "What", "Device", "Outcome"), (_entry(line) for line in entries), "None yet.")}
</body></html>
"""


def instant(seconds: float | None) -> str:
    """UTC to the second; a claimed time may be any number."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "no time"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return f"<p>{empty}</p>"
    head = "".join(f'<th scope="col">{word}</th>' for word in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _incident(found: Incident) -> tuple[str, ...]:
    word = f'<span class="alarm">{escape(found.kind)}</span>'
    return instant(found.opened), word, escape(_laptop(found.log)), str(found.seq or "-"), escape(found.detail)


def _log(log: LogLine) -> tuple[str, ...]:
    alarms = [word for word, so in (("forked", log.forked), ("laptop revoked", log.revoked)) if so]
    state = f'<span class="alarm">{", ".join(alarms)}</span>' if alarms else "whole"
    _, _, epoch = log.name.rpartition("/")
    root = f"<code>{escape(log.root[:16])}</code>"
    return escape(_laptop(log.name)), escape(epoch), str(log.size), instant(log.last_received), root, state


_DEVICE_HEADS = (
    *("Device", "Until", "Model", "State", "Requests", "Failed", "p50 / p95 ms", "Routes", "Strays", "SoC", "Records", "Missing"),
)


def _device(line: DeviceTelemetry) -> tuple[str, ...]:
    """Sums are over its newest records."""
    share = f"{100 * line.failed / line.requests:.1f} %" if line.requests else "-"
    missing = f'<span class="alarm">{line.missing}</span>, {line.lost} for good' if line.missing else "none"
    if line.set_aside:
        missing += f"; {line.set_aside} files damaged"
    return (
        f"<code>{escape(line.device[:8])}</code>",
        instant(line.last),
        escape(f"{line.model} {line.version}"),
        escape(line.state),
        str(line.requests),
        share,
        f"{_figure(line.p50_ms)} / {_figure(line.p95_ms)}",
        escape(_counts(line.routes)),
        escape(_counts({name: count for name, count in line.drift.items() if count})) or "none",
        f"{line.soc_temp_c:.0f} °C" if line.soc_temp_c is not None else "unknown",
        f"{line.records} (to {line.newest})",
        missing,
    )


def _figure(value: float | None) -> str:
    return f"{value:.2g}" if value is not None else "-"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _enrolled(line: LaptopLine) -> tuple[str, ...]:
    state = f'<span class="alarm">revoked {instant(line.revoked)}</span> {escape(line.reason)}' if line.revoked else "enrolled"
    return f"<code>{escape(line.id[:8])}</code>", escape(line.label or "-"), instant(line.enrolled), state


def _entry(line: EntryLine) -> tuple[str, ...]:
    what = " ".join(word for word in (line.act, line.phase) if word) or "(not readable by this version)"
    return (
        instant(line.received),
        instant(line.time),
        escape(_laptop(line.log)),
        str(line.seq),
        escape(line.actor or "-"),
        escape(what),
        escape((line.device or "-")[:8]),
        escape(line.status or "-"),
    )


def _laptop(log: str) -> str:
    return log.split("/")[1][:8] if log.count("/") == 2 else log[:40]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
