"""What a device without an agent tells: one POSIX sh script in one command, `key=value` lines, `end=1` last.

Runs under busybox sh, dash, bash and mksh, writes nothing, needs nothing but what every Linux has, and starts almost no
process (a value is read by the shell itself). Values are the device's words: control characters are stripped here, before
anything reaches a screen. FIELDOPS_PROBE_ROOT on the device prefixes /proc and /sys, so that a tree can stand for a board.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from fieldops.bundles.support import Support, support_of
from fieldops.deadline import Deadline
from fieldops.edges.agent_api import AgentDevice, Pipe
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.ssh import SshLink, Terms, connect
from fieldops.errors import DeviceCannot, MalformedReply, NotAuthorised, Unreachable
from fieldops.fleet import DeviceEntry, DeviceId, Resources, key_id
from fieldops.ports import UNVERIFIED, Grant, OnProgress, Payload
from fieldops.steps import Step
from fieldops.wire import DriftReports, Hello, JournalPage, ModelsReport, StepRecord, TrustStatus, b64

SCRIPT = r"""LC_ALL=C; export LC_ALL
R=${FIELDOPS_PROBE_ROOT:-}
NL='
'
say() { k=$1; set -f; IFS=$NL; set -- $2; IFS=' '; printf '%s=%s\n' "$k" "$*"; set +f; IFS=" 	$NL"; }
get() { x=; [ -r "$1" ] || return 1; IFS= read -r x 2>/dev/null <"$1" || [ -n "$x" ]; }
tell() { get "$2" && say "$1" "$x"; }
say v 1
say host "$(uname -n)"
say kernel "$(uname -sr)"
say machine "$(uname -m)"
say time "$(date +%s)"
tell boot_id "$R/proc/sys/kernel/random/boot_id"
tell uptime "$R/proc/uptime"
tell load "$R/proc/loadavg"
tell stat "$R/proc/stat"
if [ -r "$R/proc/stat" ]; then n=0; while read -r k _; do case $k in cpu[0-9]*) n=$((n+1));; esac; done <"$R/proc/stat"; say cpus "$n"; fi
if [ -r "$R/proc/meminfo" ]; then while read -r k v _; do case $k in MemTotal:) say mem_total "$v";; MemAvailable:) say mem_available "$v";; esac; done <"$R/proc/meminfo"; fi
for z in "$R"/sys/class/thermal/thermal_zone*/temp "$R"/sys/class/hwmon/hwmon*/temp*_input; do tell temp "$z"; done
for z in "$R"/sys/class/thermal/thermal_zone*/trip_point_*_type; do
 get "$z" && case $x in passive|hot|critical) tell limit "${z%_type}_temp";; esac; done
for z in "$R"/sys/class/thermal/cooling_device*/type; do
 get "$z" && case $x in *rocessor*|*cpufreq*|cpu*) tell cooling "${z%type}cur_state";; esac; done
for z in "$R"/sys/devices/platform/soc*/*firmware*/get_throttled; do tell pi_throttled "$z"; done
for z in "$R"/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count; do tell counted "$z"; done
tell khz "$R/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
tell khz_max "$R/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
D=/var/lib/fieldops-agent; [ -d "$D" ] || D=/
df -Pk "$D" 2>/dev/null | { read -r _; read -r _ t _ a _ && say disk "$t $a"; }
H=${FIELDOPS_AGENT_HOME:-${XDG_DATA_HOME:-${HOME:-/nonexistent}/.local/share}/fieldops-agent}
for d in "${FIELDOPS_AGENT_RUNTIME:-}" "$H/run" /run/fieldops-agent "${XDG_RUNTIME_DIR:-}/fieldops-agent" "/run/user/$(id -u)/fieldops-agent"; do
 [ -S "$d/agent.sock" ] && { say socket "$d/agent.sock"; if [ -w "$d/agent.sock" ]; then say may 1; else say may 0; fi; break; }; done
a=${FIELDOPS_AGENT_PROGRAM:-}; [ -n "$a" ] || a=$(command -v fieldops-agent 2>/dev/null) || a=
for d in "$H" /var/lib/fieldops-agent; do [ -n "$a" ] || { [ -x "$d/current/bin/fieldops-agent" ] && a=$d/current/bin/fieldops-agent; }; done
p=; for i in 3.13 3.12 3.11; do command -v "python$i" >/dev/null 2>&1 && "python$i" -c 'import venv' 2>/dev/null && { p=$i; break; }; done
if [ -z "$p" ] && command -v python3 >/dev/null 2>&1; then p=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); fi
say python "$p"
l=; for i in /lib/ld-musl-*; do [ -e "$i" ] && l=musl; done
[ -n "$l" ] || { l=$(getconf GNU_LIBC_VERSION 2>/dev/null) || l=; }
say libc "$l"; say bits "$(getconf LONG_BIT 2>/dev/null)"
say program "$a"
say end 1
"""

_VALUE_LIMIT = 512
_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


@dataclass(frozen=True, slots=True)
class AgentPlace:
    """socket: path of agent.sock on the device. program: command of the agent there, "" when not found."""

    socket: str
    program: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Values by key; a key that repeats keeps all, in order."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def text(self, key: str) -> str:
        found = self.values.get(key)
        return found[0] if found else ""

    def number(self, key: str, place: int = 0) -> float | None:
        """The place-th word of a value as a number; None when absent or no number."""
        words = self.text(key).split()
        return _number(words[place]) if place < len(words) else None

    def numbers(self, key: str) -> list[float]:
        return [number for text in self.values.get(key, []) if (number := _number(text)) is not None]


def _number(text: str) -> float | None:
    """Plain decimals only: float() also takes `nan`, `inf` and underscores."""
    return float(text) if re.fullmatch(r"-?\d{1,18}(\.\d{1,9})?", text) else None


def parse(output: bytes, device: str) -> Facts:
    """Raises MalformedReply when the script did not reach its end."""
    values: dict[str, list[str]] = {}
    for line in output.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[a-z_]{1,16}", key):
            clean = "".join(char for char in value if char.isprintable())[:_VALUE_LIMIT].strip()
            values.setdefault(key, []).append(clean)
    if values.get("v") != ["1"] or values.get("end") != ["1"]:
        raise MalformedReply(
            "the facts are not complete", next_step="check that the login's shell is a POSIX shell", device=device
        )
    return Facts(values)


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


# --- over a link ---------------------------------------------------------------------------------------------------------


def read_facts(link: SshLink, deadline: Deadline) -> Facts:
    return parse(link.run(SCRIPT, deadline).out, link.device)


def find_agent(link: SshLink, deadline: Deadline) -> AgentPlace | None:
    """Where the agent listens; None when there is none. Raises NotAuthorised when this login may not use its socket."""
    facts = read_facts(link, deadline)
    socket = facts.text("socket")
    if not socket:
        return None
    if facts.text("may") == "0":
        raise NotAuthorised(
            f"an agent runs there, but this login may not use {socket}",
            reason="login_refused",
            next_step="add the login to the group of the agent's socket, then log in again",
            device=link.device,
        )
    return AgentPlace(socket, facts.text("program"))


def ssh_device(
    entry: DeviceEntry,
    *,
    known_hosts: KnownHosts,
    identities: Sequence[Path],
    deadline: Deadline,
    terms: Terms | None = None,
    met: Callable[[SshLink], None] | None = None,
) -> AgentDevice | BareDevice:
    """The device over SSH: its agent where one runs, else bare. A lost link is made anew while a change is under way.

    met: called with each link before anything is read over it.
    """

    def open_pipe(until: Deadline) -> tuple[SshLink, Pipe | None]:
        link = connect(entry, known_hosts=known_hosts, identities=identities, deadline=until, terms=terms)
        try:
            if met is not None:
                met(link)
            place = find_agent(link, until)
        except BaseException:
            link.close()
            raise
        return link, Pipe(link.http(place.socket, program=place.program), link.close, link.is_alive) if place else None

    def reconnect(until: Deadline) -> Pipe:
        link, pipe = open_pipe(until)
        if pipe is None:
            link.close()
            raise Unreachable(  # it may be starting again: asked until the deadline
                "its agent is not running any more",
                phase="open",
                next_step="look at the device: fieldops-agent status",
                device=entry.name,
            )
        return pipe

    link, pipe = open_pipe(deadline)
    if pipe is None:
        return BareDevice(entry, link)
    return AgentDevice(
        entry,
        "ssh",
        pipe.client,
        pipe.close,
        also=frozenset({key_id(link.host_key[1])}),
        reconnect=reconnect,
        unverified=link.unverified,
        alive=link.is_alive,
    )


class BareDevice:
    """Implements ports.Device for a device without an agent: it can be looked at, not changed."""

    def __init__(self, entry: DeviceEntry, link: SshLink) -> None:
        self._entry = entry if entry.id else replace(entry, id=DeviceId(key_id(link.host_key[1])))
        self._ssh = link
        self._last: Facts | None = None

    @property
    def entry(self) -> DeviceEntry:
        return self._entry

    @property
    def link(self) -> str:
        return "bare" if self._ssh.unverified is None else f"bare {UNVERIFIED}"

    @property
    def alive(self) -> bool:
        """Whether it may be kept: the link stands, and no agent came since it was called bare."""
        return self._ssh.alive and not (self._last is not None and self._last.text("socket"))

    def close(self) -> None:
        self._ssh.close()

    def hello(self, deadline: Deadline) -> Hello:
        """Its id is its host key's; versions (0, 0) say that no agent answered."""
        facts = read_facts(self._ssh, deadline)
        blob = self._ssh.host_key[1]
        return Hello(
            device=key_id(blob),
            public_key=b64(blob),
            versions=(0, 0),
            agent="",
            enrolled=False,
            boot_id=facts.text("boot_id"),
            time=facts.number("time") or 0.0,
            device_class=self._entry.device_class,
            label=facts.text("host"),
        )

    def support(self, deadline: Deadline) -> Support:
        """What could be installed here, and why not more."""
        return support_of_facts(read_facts(self._ssh, deadline))

    def resources(self, deadline: Deadline) -> Resources:
        facts = read_facts(self._ssh, deadline)
        before, self._last = self._last, facts
        return resources_of(facts, before)

    def models(self, deadline: Deadline) -> ModelsReport:  # noqa: ARG002 - the port's signature, as all below
        self._no_agent("models")

    def drift(self, deadline: Deadline, model: str | None = None) -> DriftReports:  # noqa: ARG002
        self._no_agent("drift")

    def journal(self, after: int, deadline: Deadline) -> JournalPage:  # noqa: ARG002
        self._no_agent("a journal")

    def trust(self, deadline: Deadline) -> TrustStatus:  # noqa: ARG002
        self._no_agent("a trust state")

    def logs(self, lines: int, deadline: Deadline) -> list[str]:  # noqa: ARG002
        self._no_agent("an agent's log")

    def record(self, step_id: str, deadline: Deadline) -> StepRecord | None:  # noqa: ARG002
        self._no_agent("records of changes")

    def apply(
        self,
        grant: Grant,  # noqa: ARG002
        step: Step,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
        *,
        payload: Payload | None = None,  # noqa: ARG002
        progress: OnProgress | None = None,  # noqa: ARG002
    ) -> StepRecord:
        if self._ssh.unverified is not None:
            raise self._ssh.unverified
        self._no_agent("a way to change it")

    def _no_agent(self, what: str) -> NoReturn:
        raise DeviceCannot(
            f"no agent runs there, and without one it cannot give {what}",
            reason="no_agent",
            next_step=f"install and enrol the agent: fieldops device enrol {self._entry.name}",
            device=self._entry.name,
        )
