"""The person's SSH configuration, as `ssh -G` resolves it: what a link needs of it for one host."""

from __future__ import annotations

import getpass
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from fieldops.edges.ssh_config_reading import Person, Reading, Said, bad, tokens_in, unsupported

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class JumpName:
    """One host of ProxyJump, as written. None: as the configuration says for that host."""

    user: str | None
    host: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Hop:
    """What the configuration says of one host. user None: the local name. jumps: in the order they are passed.

    known_as, known_port: what known_hosts calls it; with HostKeyAlias the alias alone. connect_timeout: seconds, 0 none.
    """

    host: str
    port: int
    user: str | None
    known_as: str
    known_port: int
    identity_files: tuple[Path, ...] = ()
    identities_only: bool = False
    connect_timeout: float = 0.0
    jumps: tuple[JumpName, ...] = ()
    known_hosts_files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class SshConfig:
    """Files in the order they are asked. home: of the person, for `~` and %d; local_user for %u and Match localuser."""

    files: tuple[Path, ...] = ()
    home: Path = field(default_factory=Path)
    local_user: str = ""

    @classmethod
    def of_person(cls, file: Path | None = None, home: Path | None = None) -> SshConfig:
        """file: instead of ~/.ssh/config and the system's."""
        home = home or Path.home()
        files = (file,) if file is not None else (home / ".ssh" / "config", Path("/etc/ssh/ssh_config"))
        return cls(files, home, getpass.getuser())

    def resolve(self, host: str, *, user: str | None = None, port: int | None = None) -> Hop:
        """user, port: as given outside the configuration, which then has no say in them.

        Raises UsageFault (bad_file, unsupported_ssh_config).
        """
        said, person = Said(host, user), Person(self.home, self.local_user)
        final = False
        for file in self.files:
            final |= Reading(person, said).file(file, 0)
        if final:  # `Match final` asks for a second look at everything, with what is known by now
            for file in self.files:
                Reading(person, said, final=True).file(file, 0)
        return self._hop(said, person, user, port)

    def _hop(self, said: Said, person: Person, user: str | None, port: int | None) -> Hop:
        if "proxycommand" in said.values and said.text("proxycommand") != "none":
            raise unsupported(said.values["proxycommand"][1], "ProxyCommand runs a program", "ProxyJump")
        name = said.host.lower()
        number = port or _number(said, "port", 22)
        user = user or said.text("user")
        tokens = {
            "h": name,
            "n": said.original,
            "p": str(number),
            "r": user or self.local_user,
            "u": self.local_user,
            "d": str(self.home),
            "L": socket.gethostname().partition(".")[0],
            "l": socket.gethostname(),
        }
        alias = said.text("hostkeyalias")
        files = [word for word in said.many.get("identityfile", []) if word.lower() != "none"]
        known = said.values.get("userknownhostsfile", ((), None))[0]
        return Hop(
            host=name,
            port=number,
            user=user,
            known_as=(alias or name).lower(),
            known_port=22 if alias else number,
            identity_files=tuple(person.path(tokens_in(word, tokens)) for word in files),
            identities_only=(said.text("identitiesonly") or "no").lower() in {"yes", "true"},
            connect_timeout=_seconds(said),
            jumps=_jumps(said),
            known_hosts_files=tuple(person.path(tokens_in(word, tokens)) for word in known if word.lower() != "none"),
        )


def _number(said: Said, keyword: str, default: int) -> int:
    text = said.text(keyword)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise bad(said.values[keyword][1], f"{keyword} {text}", "a number from 1 to 65535")
    return int(text)


def _seconds(said: Said) -> float:
    text = (said.text("connecttimeout") or "none").lower()
    if text == "none":
        return 0.0
    parts = re.findall(r"(\d+)([smhdw]?)", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise bad(said.values["connecttimeout"][1], f"ConnectTimeout {text}", "seconds")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


def _jumps(said: Said) -> tuple[JumpName, ...]:
    text = said.text("proxyjump")
    if text is None or text.lower() == "none":
        return ()
    found: list[JumpName] = []
    for word in text.split(","):
        match = re.fullmatch(r"(?:ssh://)?(?:([^@\s]+)@)?(?:\[([^\]\s]+)\]|([^:\s]+))(?::(\d{1,5}))?/?", word)
        if not match:
            raise bad(said.values["proxyjump"][1], f"ProxyJump {word}", "[user@]host[:port], separated by commas")
        found.append(JumpName(match[1], match[2] or match[3], int(match[4]) if match[4] else None))
    return tuple(found)


NO_CONFIG = SshConfig()
