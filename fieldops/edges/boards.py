"""What a device's facts (probe) say about its resources, and about what could be installed on it. Nothing said is None, never 0."""

from __future__ import annotations

import re

from fieldops.bundles.support import Support, support_of
from fieldops.edges.probe import Facts
from fieldops.fleet import Resources

_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


def resources_of(facts: Facts, before: Facts | None = None) -> Resources:
    """before: an earlier reading; without one the processor's load in percent is not known."""
    temps = [value / 1000 for value in facts.numbers("temp") if -40_000 <= value <= 200_000]
    limits = [value / 1000 for value in facts.numbers("limit") if value > 0]
    throttled, reason = _throttled(facts, before)
    return Resources(
        read_at=facts.number("time") or 0.0,
        boot_id=facts.text("boot_id"),
        uptime_s=facts.number("uptime") or 0.0,
        cpu_count=int(facts.number("cpus") or 1),
        cpu_pct=_busy(before, facts) if before is not None else None,
        load_1m=facts.number("load"),
        mem_total_bytes=_kib(facts.number("mem_total")),
        mem_available_bytes=_kib(facts.number("mem_available")),
        disk_total_bytes=_kib(facts.number("disk")),
        disk_free_bytes=_kib(facts.number("disk", 1)),
        soc_temp_c=max(temps, default=None),
        temp_limit_c=min(limits, default=None),
        throttled=throttled,
        throttle_reason=reason,
        clock_mhz=_scaled(facts.number("khz"), 1000),
        clock_max_mhz=_scaled(facts.number("khz_max"), 1000),
    )


def support_of_facts(facts: Facts) -> Support:
    now = resources_of(facts)
    return support_of(
        machine=facts.text("machine"),
        bits=facts.text("bits"),
        libc=facts.text("libc"),
        python=facts.text("python"),
        memory_bytes=now.mem_total_bytes,
        disk_free_bytes=now.disk_free_bytes,
    )


def _kib(value: float | None) -> int | None:
    return None if value is None else int(value) * 1024


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _throttled(facts: Facts, before: Facts | None) -> tuple[bool | None, str]:
    """None: the board does not say. Intel counts events for ever, so only a rise between two readings means now."""
    bits = facts.text("pi_throttled").removeprefix("throttled=")
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", bits):
        said = [word for bit, word in _PI_BITS.items() if int(bits, 16) >> bit & 1]
        return bool(said), ", ".join(said)
    counted = facts.numbers("counted")
    if counted and before is not None and before.text("boot_id") == facts.text("boot_id"):
        if sum(counted) > sum(before.numbers("counted")):
            return True, "thermal throttle events"
        if not facts.numbers("cooling"):
            return False, ""
    coolers = facts.numbers("cooling")
    if not coolers:
        return None, ""
    return any(coolers), "cooling by lower frequency" if any(coolers) else ""


def _busy(before: Facts, after: Facts) -> float | None:
    """Percent of all cores between two readings of /proc/stat (user nice system idle iowait irq softirq steal)."""
    pairs = [(before.number("stat", place), after.number("stat", place)) for place in range(1, 9)]
    spent = [late - early for early, late in pairs if early is not None and late is not None]
    if len(spent) < 4 or sum(spent) <= 0 or before.text("boot_id") != after.text("boot_id"):
        return None
    idle = spent[3] + (spent[4] if len(spent) > 4 else 0)
    return min(100.0, max(0.0, 100.0 * (1 - idle / sum(spent))))
