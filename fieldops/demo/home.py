"""The laptop of the sample fleet: its config.toml, its people's keys, known_hosts and fleet.toml.

All is made at first run and kept afterwards; an address that changed is written into the line where it stood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fieldops.demo.release import Staff
from fieldops.edges.disk import write_whole
from fieldops.edges.keys import ssh_fingerprint, ssh_keygen
from fieldops.fleet import Address, DeviceEntry, SshAddress, parse_inventory, toml_table

USER = "technician"  # the login on every device, and the role of the person at this laptop
ROLES = ("technician", "lead")

_HEAD = """\
# The sample fleet of `fieldops demo`. Ids are what devices are; names and addresses are labels and may be edited.

"""


def staff_of(home: Path) -> tuple[Staff, ...]:
    """A key a role, made at first run."""
    found = []
    for role in ROLES:
        key = home / "keys" / role
        if not key.is_file():
            ssh_keygen(key, f"{role}@fieldops-demo")
        line = key.with_name(f"{role}.pub").read_text("ascii").strip()
        found.append(Staff(role, ssh_fingerprint(line), line))
    return tuple(found)


def login_key(home: Path) -> Path:
    """What devices let in over SSH."""
    key = home / "keys" / "ssh"
    if not key.is_file():
        ssh_keygen(key, "fieldops-demo")
    return key


def write_config(home: Path, stick: Path, store_url: str) -> None:
    """Only when there is none, or the store moved: what a person changed in it stays."""
    file = home / "config.toml"
    if not file.exists():
        text = (
            f'[person]\nkey = "keys/{USER}"\n\n[ssh]\nidentities = ["keys/ssh"]\nconfig = "none"\n\n'
            f"[sticks]\nfolders = [{_quoted(str(stick))}]\n\n[store]\nurl = {_quoted(store_url)}\n"
        )
        write_whole(file, text.encode(), 0o644)
        return
    before = file.read_text("utf-8")
    after = re.sub(r'(?m)^(\s*url\s*=\s*)"http://127\.0\.0\.1:\d+"', lambda match: match[1] + _quoted(store_url), before)
    if after != before:
        write_whole(file, after.encode())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_known_hosts(home: Path, host_keys: dict[int, str]) -> None:
    """From port to public key line, as a plant's own list would give them. Lines for other ports stay."""
    file = home / "known_hosts"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    ours = {f"[127.0.0.1]:{port}": f"[127.0.0.1]:{port} {' '.join(line.split()[:2])}" for port, line in host_keys.items()}
    kept = [line for line in lines if line.split(" ", 1)[0] not in ours]
    text = "".join(f"{line}\n" for line in (*kept, *ours.values()))
    if not file.exists() or text != file.read_text("utf-8"):
        write_whole(file, text.encode(), 0o644)


def write_inventory(home: Path, entries: Iterable[DeviceEntry]) -> None:
    """Add devices that are not there; give the others their present address. Everything else of the file stays."""
    file = home / "fleet.toml"
    text = file.read_text("utf-8") if file.exists() else _HEAD
    known = {entry.name: entry for entry in parse_inventory(text, str(file)).devices}
    for entry in entries:
        before = known.get(entry.name)
        if before is None:
            text += f"{toml_table(entry)}\n"
        else:
            text = _readdressed(text, entry.name, before.ssh, entry.ssh, "ssh")
            text = _readdressed(text, entry.name, before.lan, entry.lan, "lan")
    parse_inventory(text, str(file))
    if not file.exists() or text != file.read_text("utf-8"):
        write_whole(file, text.encode(), 0o644)


def _readdressed(text: str, name: str, before: SshAddress | Address | None, now: SshAddress | Address | None, key: str) -> str:
    """The text with another address in the line of that device's table; the table's other lines stay."""
    if before is None or now is None or before.port == now.port:
        return text
    moved = str(replace(before, port=now.port))
    tables = re.split(r"(?m)(?=^\s*\[\[)", text)
    named = re.compile(rf'(?m)^\s*name\s*=\s*"{re.escape(name)}"')
    return "".join(
        re.sub(rf'(?m)^(\s*{key}\s*=\s*)"[^"]*"', lambda match: f'{match[1]}"{moved}"', table, count=1)
        if named.search(table)
        else table
        for table in tables
    )
