"""The person's SSH configuration, as `ssh -G` resolves it: Include, Host, Match, and what a link needs of the rest.

The first value given for a keyword holds; IdentityFile and the like add up. What would run a program (`Match exec`,
ProxyCommand) is refused where it would take effect, and said; keywords that do not matter to a link are skipped.
"""

from __future__ import annotations

import fnmatch
import getpass
import glob
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldops.errors import Fault, UsageFault

_DEPTH = 16  # of Include, as in OpenSSH
_ADDS_UP = frozenset({"identityfile"})
_KEYWORDS = frozenset(
    {
        "hostname",
        "port",
        "user",
        "identityfile",
        "identitiesonly",
        "hostkeyalias",
        "connecttimeout",
        "proxyjump",
        "proxycommand",
        "userknownhostsfile",
    }
)
_MATCHES = frozenset({"all", "final", "canonical", "host", "originalhost", "user", "localuser", "exec", "tagged"})
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
class _Line:
    file: str
    number: int
    keyword: str
    words: tuple[str, ...]


@dataclass(slots=True)
class _Said:
    """What was found for one host so far."""

    original: str
    user: str | None
    values: dict[str, tuple[tuple[str, ...], _Line]] = field(default_factory=dict)
    many: dict[str, list[str]] = field(default_factory=dict)

    def take(self, line: _Line) -> None:
        if line.keyword in _ADDS_UP:
            found = self.many.setdefault(line.keyword, [])
            found.extend(word for word in line.words if word not in found)
        elif line.keyword == "proxycommand" and "proxyjump" in self.values:
            pass  # of the two the first holds
        elif line.keyword == "proxyjump" and "proxycommand" in self.values:
            pass
        else:
            self.values.setdefault(line.keyword, (line.words, line))

    def text(self, keyword: str) -> str | None:
        found = self.values.get(keyword)
        return found[0][0] if found else None

    @property
    def host(self) -> str:
        """HostName with its tokens, as Match host sees it."""
        name = self.text("hostname")
        return _tokens(name, {"h": self.original}) if name else self.original


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
        said = _Said(host, user)
        final = False
        for file in self.files:
            final |= _Reading(self, said).file(file, 0)
        if final:  # `Match final` asks for a second look at everything, with what is known by now
            for file in self.files:
                _Reading(self, said, final=True).file(file, 0)
        return self._hop(said, user, port)

    def _hop(self, said: _Said, user: str | None, port: int | None) -> Hop:
        if "proxycommand" in said.values and said.text("proxycommand") != "none":
            raise _unsupported(said.values["proxycommand"][1], "ProxyCommand runs a program", "ProxyJump")
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
            identity_files=tuple(self.path(_tokens(word, tokens)) for word in files),
            identities_only=(said.text("identitiesonly") or "no").lower() in {"yes", "true"},
            connect_timeout=_seconds(said),
            jumps=_jumps(said),
            known_hosts_files=tuple(self.path(_tokens(word, tokens)) for word in known if word.lower() != "none"),
        )

    def path(self, text: str) -> Path:
        """`~` and ${VARIABLES} put in; relative names as they stand."""
        text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), text)
        return self.home / text[2:] if text.startswith("~/") else Path(text)


class _Reading:
    """One pass over files for one host."""

    def __init__(self, config: SshConfig, said: _Said, *, final: bool = False) -> None:
        self._config = config
        self._said = said
        self._final = final
        self._wants_final = False

    def file(self, path: Path, depth: int, *, active: bool = True) -> bool:
        """True when `Match final` stands there. A file that is not there is empty, as for ssh."""
        try:
            text = path.read_text("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return self._wants_final
        except OSError as error:
            raise UsageFault(
                f"{path}: {error.strerror}",
                reason="bad_file",
                next_step="mend who may read it, or name another under [ssh] config",
            ) from error
        within = active
        for line in _lines(text, str(path)):
            if line.keyword in {"host", "match"}:
                within = active and (self._host(line) if line.keyword == "host" else self._match(line))
            elif line.keyword == "include":
                self._include(line, path, depth, active=within)
            elif within and line.keyword in _KEYWORDS:
                self._said.take(line)
        return self._wants_final

    def _include(self, line: _Line, path: Path, depth: int, *, active: bool) -> None:
        if depth >= _DEPTH:
            raise _bad(line, "files include each other too deep", f"at most {_DEPTH} levels")
        base = Path("/etc/ssh") if path.is_relative_to("/etc/ssh") else self._config.home / ".ssh"
        for word in line.words:
            for found in sorted(glob.glob(str(base / self._config.path(word)))):  # noqa: PTH207 - patterns may be absolute
                if not Path(found).is_dir():
                    self.file(Path(found), depth + 1, active=active)

    def _host(self, line: _Line) -> bool:
        return _listed(self._said.original, line.words)

    def _match(self, line: _Line) -> bool:
        words = list(line.words)
        if not words:
            raise _bad(line, "Match says nothing", "criteria such as `host PATTERN`")
        while words:
            word = words.pop(0)
            negated, kind = word.startswith("!"), word.lstrip("!").lower()
            kind, equals, inline = kind.partition("=")
            if kind not in _MATCHES:
                raise _unsupported(line, f"Match {kind}", "host, originalhost, user, localuser, all or final")
            argument = ""
            if kind not in {"all", "final", "canonical"}:
                argument = inline if equals else (words.pop(0) if words else "")
                if not argument:
                    raise _bad(line, f"Match {kind} without a pattern", f"`{kind} PATTERN`")
            if self._meets(line, kind, argument) is negated:
                return False
        return True

    def _meets(self, line: _Line, kind: str, argument: str) -> bool:
        said = self._said
        if kind == "exec":
            raise _unsupported(line, "Match exec runs a program", "host or user instead")
        if kind == "final":
            self._wants_final = True
        if kind in {"all", "final", "canonical"}:
            return kind == "all" or self._final
        of = {
            "host": said.host,
            "originalhost": said.original,
            "user": said.user or said.text("user") or self._config.local_user,
            "localuser": self._config.local_user,
            "tagged": "",
        }
        if kind in {"host", "originalhost"}:  # without regard to case, unlike Host
            return _listed(of[kind].lower(), argument.lower().split(","))
        return _listed(of[kind], argument.split(","))


def _lines(text: str, file: str) -> Iterator[_Line]:
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = re.match(r'"?([A-Za-z0-9]+)"?(\s*=\s*|\s+)(.*)', stripped)
        if not match:
            raise UsageFault.in_file(file, [Fault(file, number, stripped[:60], "a keyword and its value")])
        keyword = match[1].lower()
        words = tuple(_words(match[3], whole=keyword == "proxycommand"))
        if not words:
            raise UsageFault.in_file(file, [Fault(file, number, f"{match[1]} without a value", "a keyword and its value")])
        yield _Line(file, number, keyword, words)


def _words(text: str, *, whole: bool) -> Iterator[str]:
    """As OpenSSH splits: quotes keep blanks together, `#` at the start of a word ends the line."""
    if whole:
        yield text
        return
    for match in re.finditer(r'"((?:\\.|[^"\\])*)"|\'([^\']*)\'|(\S+)', text):
        if match[3] is not None and match[3].startswith("#"):
            return
        yield match[3] if match[3] is not None else (match[1] if match[1] is not None else match[2])


def _listed(name: str, patterns: Sequence[str]) -> bool:
    """One pattern must match, and none that is negated."""
    met = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        wanted = pattern.lstrip("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name, wanted):
            if negated:
                return False
            met = True
    return met


def _tokens(text: str, values: dict[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: "%" if match[1] == "%" else values.get(match[1], match[0]), text)


def _number(said: _Said, keyword: str, default: int) -> int:
    text = said.text(keyword)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise _bad(said.values[keyword][1], f"{keyword} {text}", "a number from 1 to 65535")
    return int(text)


def _seconds(said: _Said) -> float:
    text = (said.text("connecttimeout") or "none").lower()
    if text == "none":
        return 0.0
    parts = re.findall(r"(\d+)([smhdw]?)", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise _bad(said.values["connecttimeout"][1], f"ConnectTimeout {text}", "seconds")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


def _jumps(said: _Said) -> tuple[JumpName, ...]:
    text = said.text("proxyjump")
    if text is None or text.lower() == "none":
        return ()
    found: list[JumpName] = []
    for word in text.split(","):
        match = re.fullmatch(r"(?:ssh://)?(?:([^@\s]+)@)?(?:\[([^\]\s]+)\]|([^:\s]+))(?::(\d{1,5}))?/?", word)
        if not match:
            raise _bad(said.values["proxyjump"][1], f"ProxyJump {word}", "[user@]host[:port], separated by commas")
        found.append(JumpName(match[1], match[2] or match[3], int(match[4]) if match[4] else None))
    return tuple(found)


def _bad(line: _Line, found: str, expected: str) -> UsageFault:
    return UsageFault.in_file(line.file, [Fault(line.file, line.number, found, expected)])


def _unsupported(line: _Line, what: str, instead: str) -> UsageFault:
    return UsageFault(
        f"{line.file}:{line.number}: {what}, which fieldops does not do",
        reason="unsupported_ssh_config",
        next_step=f'use {instead} for this host, or name another file under [ssh] config in config.toml ("none": no file)',
    )


NO_CONFIG = SshConfig()
