"""What a device without an agent tells: one POSIX sh script in one command, `key=value` lines, `end=1` last.

Runs under busybox sh, dash, bash and mksh, writes nothing, needs nothing but what every Linux has, and starts almost no
process (a value is read by the shell itself). Values are the device's words: control characters are stripped here, before
anything reaches a screen. FIELDOPS_PROBE_ROOT on the device prefixes /proc and /sys, so that a tree can stand for a board.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fieldops.deadline import Deadline
from fieldops.edges.ssh import SshLink
from fieldops.errors import MalformedReply, NotAuthorised

_FACTS = r"""LC_ALL=C; export LC_ALL
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
for d in "$H" /var/lib/fieldops-agent; do [ -n "$a" ] || { [ -x "$d/agent/bin/fieldops-agent" ] && a=$d/agent/bin/fieldops-agent; }; done
say program "$a"
"""
_SUPPORT = r"""p=; for i in 3.13 3.12 3.11; do command -v "python$i" >/dev/null 2>&1 && "python$i" -c 'import venv' 2>/dev/null && { p=$i; break; }; done
if [ -z "$p" ] && command -v python3 >/dev/null 2>&1; then p=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); fi
say python "$p"
l=; for i in /lib/ld-musl-*; do [ -e "$i" ] && l=musl; done
[ -n "$l" ] || { l=$(getconf GNU_LIBC_VERSION 2>/dev/null) || l=; }
say libc "$l"; say bits "$(getconf LONG_BIT 2>/dev/null)"
"""
_END = "say end 1\n"
SCRIPT = _FACTS + _END
SUPPORT_SCRIPT = _FACTS + _SUPPORT + _END
"""Also what could be installed here. It starts Python, which takes a small board longer than all the rest."""

_VALUE_LIMIT = 512


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


def read_facts(link: SshLink, deadline: Deadline, *, support: bool = False) -> Facts:
    """support: with what could be installed there."""
    return parse(link.run(SUPPORT_SCRIPT if support else SCRIPT, deadline).out, link.device)


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
