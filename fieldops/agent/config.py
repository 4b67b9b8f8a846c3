"""agent.toml as a value. All faults of the file at once, each with its line."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldops.errors import Fault, UsageFault

_KEYS: dict[str, dict[str, type]] = {
    "": {"class": str, "label": str},
    "lan": {"listen": str},
    "infer": {"port": int},
    "storage": {"quota_bytes": int},
    "sensors": {"root": str, "boot_id": str},
    "runtime": {"folder": str, "unload_first": bool, "together": int},
    "validation": {"latency_samples": int, "probation_s": int, "self_check_s": int},
    "telemetry": {"every_s": int},
    "foreign": {"model": str, "file": str},
    "service": {"kind": str},
}
_WORDS = {bool: "true or false", str: "a text in quotes", int: "a whole number >= 0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """lan: (host, port) to listen on, port 0 for any; None: no LAN listener. foreign: (model, file) of a running model
    that was never enrolled. probation_s: how long after a commit bad health still reverts. service: what starts the agent
    again (system, user, supervised), as enrolment from a kit set it up; "": somebody else saw to it.
    """

    device_class: str = ""
    label: str = ""
    lan: tuple[str, int] | None = None
    infer_port: int | None = None  # of loopback HTTP for local programs; 0: any; None: the socket alone
    quota_bytes: int | None = None
    sensors_root: Path = Path("/sys")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")  # the file that tells one start of the machine from another
    runtime: Path | None = None
    unload_first: bool = False  # always make way for a candidate; where memory is short it is done anyway
    together: int = 32  # requests of several programs that may be run as one batch; 1: each alone
    latency_samples: int = 64
    probation_s: int = 4 * 3600
    self_check_s: int = 600
    telemetry_s: int = 300
    foreign: tuple[str, str] | None = None
    service: str = ""


def _line(lines: list[str], table: str, key: str) -> int:
    inside = ""
    for number, line in enumerate(lines, 1):
        if match := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            inside = match[1]
            if inside == key and table == "":
                return number
        elif inside == table and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
            return number
    return 1


def _faults(document: dict[str, Any], lines: list[str], file: str) -> list[Fault]:
    found: list[Fault] = []
    tables = {"": {key: value for key, value in document.items() if key not in _KEYS or not key}}
    for name in _KEYS.keys() - {""}:
        value = document.get(name, {})
        if isinstance(value, dict):
            tables[name] = value
        else:
            found.append(Fault(file, _line(lines, "", name), f"{name} = {value!r}", f"a table [{name}]"))
    for table, pairs in tables.items():
        for key, value in pairs.items():
            kind = _KEYS[table].get(key)
            line = _line(lines, table, key)
            if kind is None:
                expected = ", ".join(sorted(_KEYS[table])) + (" or a known table" if not table else "")
                found.append(Fault(file, line, f"unknown key {key!r}", f"one of {expected}"))
            elif (
                not isinstance(value, kind)
                or (isinstance(value, bool) and kind is not bool)
                or (isinstance(value, int) and value < 0)
            ):
                found.append(Fault(file, line, f"{key} = {value!r}", _WORDS[kind]))
    return found


def parse(text: str, file: str) -> AgentConfig:
    """Raises UsageFault with every fault of the file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"line (\d+)", str(error))
        raise UsageFault.in_file(file, [Fault(file, int(match[1]) if match else None, str(error), "valid TOML")]) from None
    lines = text.splitlines()
    faults = _faults(document, lines, file)
    listen = document.get("lan", {}).get("listen") if not faults else None
    lan = None
    if listen is not None:
        host, colon, port = listen.rpartition(":")
        if colon and port.isdecimal() and int(port) < 65536:
            lan = (host.strip("[]"), int(port))
        else:
            faults.append(Fault(file, _line(lines, "lan", "listen"), f"listen = {listen!r}", '"address:port"'))
    foreign = document.get("foreign")
    if not faults and foreign is not None and foreign.keys() != {"model", "file"}:
        faults.append(Fault(file, _line(lines, "", "foreign"), "[foreign] is not whole", "model and file"))
    if faults:
        raise UsageFault.in_file(file, sorted(faults, key=lambda fault: fault.line or 0))
    validation, runtime = document.get("validation", {}), document.get("runtime", {}).get("folder")
    return AgentConfig(
        device_class=document.get("class", ""),
        label=document.get("label", ""),
        lan=lan,
        infer_port=document.get("infer", {}).get("port"),
        quota_bytes=document.get("storage", {}).get("quota_bytes"),
        sensors_root=Path(document.get("sensors", {}).get("root", "/sys")),
        boot_id=Path(document.get("sensors", {}).get("boot_id", "/proc/sys/kernel/random/boot_id")),
        runtime=Path(runtime) if runtime else None,
        unload_first=document.get("runtime", {}).get("unload_first", False),
        together=max(1, document.get("runtime", {}).get("together", 32)),
        latency_samples=max(64, validation.get("latency_samples", 64)),
        probation_s=validation.get("probation_s", 4 * 3600),
        self_check_s=validation.get("self_check_s", 600),
        telemetry_s=max(1, document.get("telemetry", {}).get("every_s", 300)),
        foreign=(foreign["model"], foreign["file"]) if foreign else None,
        service=document.get("service", {}).get("kind", ""),
    )


def read(path: Path) -> AgentConfig:
    """Defaults when there is no file. Raises UsageFault."""
    try:
        return parse(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return AgentConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"{path}: {error}", reason="bad_file", next_step=f"make {path} readable UTF-8 text") from error
