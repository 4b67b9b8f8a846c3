"""Reading SSH configuration for one host: Include, Host, Match, and which lines hold.

The first value given for a keyword holds; IdentityFile and the like add up. What would run a program (`Match exec`,
ProxyCommand) is refused where it would take effect, and said; keywords that do not matter to a link are skipped.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
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


@dataclass(frozen=True, slots=True)
class Line:
    file: str
    number: int
    keyword: str
    words: tuple[str, ...]


@dataclass(slots=True)
class Said:
    """What was found for one host so far."""

    original: str
    user: str | None
    values: dict[str, tuple[tuple[str, ...], Line]] = field(default_factory=dict)
    many: dict[str, list[str]] = field(default_factory=dict)

    def take(self, line: Line) -> None:
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
        return tokens_in(name, {"h": self.original}) if name else self.original


@dataclass(frozen=True, slots=True)
class Person:
    """home: for `~` and %d. local_user: for %u and Match localuser."""

    home: Path
    local_user: str

    def path(self, text: str) -> Path:
        """`~` and ${VARIABLES} put in; relative names as they stand."""
        text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), text)
        return self.home / text[2:] if text.startswith("~/") else Path(text)


class Reading:
    """One pass over files for one host."""

    def __init__(self, person: Person, said: Said, *, final: bool = False) -> None:
        self._person = person
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

    def _include(self, line: Line, path: Path, depth: int, *, active: bool) -> None:
        if depth >= _DEPTH:
            raise bad(line, "files include each other too deep", f"at most {_DEPTH} levels")
        base = Path("/etc/ssh") if path.is_relative_to("/etc/ssh") else self._person.home / ".ssh"
        for word in line.words:
            for found in sorted(glob.glob(str(base / self._person.path(word)))):  # noqa: PTH207 - patterns may be absolute
                if not Path(found).is_dir():
                    self.file(Path(found), depth + 1, active=active)

    def _host(self, line: Line) -> bool:
        return _listed(self._said.original, line.words)

    def _match(self, line: Line) -> bool:
        words = list(line.words)
        if not words:
            raise bad(line, "Match says nothing", "criteria such as `host PATTERN`")
        while words:
            word = words.pop(0)
            negated, kind = word.startswith("!"), word.lstrip("!").lower()
            kind, equals, inline = kind.partition("=")
            if kind not in _MATCHES:
                raise unsupported(line, f"Match {kind}", "host, originalhost, user, localuser, all or final")
            argument = ""
            if kind not in {"all", "final", "canonical"}:
                argument = inline if equals else (words.pop(0) if words else "")
                if not argument:
                    raise bad(line, f"Match {kind} without a pattern", f"`{kind} PATTERN`")
            if self._meets(line, kind, argument) is negated:
                return False
        return True

    def _meets(self, line: Line, kind: str, argument: str) -> bool:
        said = self._said
        if kind == "exec":
            raise unsupported(line, "Match exec runs a program", "host or user instead")
        if kind == "final":
            self._wants_final = True
        if kind in {"all", "final", "canonical"}:
            return kind == "all" or self._final
        of = {
            "host": said.host,
            "originalhost": said.original,
            "user": said.user or said.text("user") or self._person.local_user,
            "localuser": self._person.local_user,
            "tagged": "",
        }
        if kind in {"host", "originalhost"}:  # without regard to case, unlike Host
            return _listed(of[kind].lower(), argument.lower().split(","))
        return _listed(of[kind], argument.split(","))


def _lines(text: str, file: str) -> Iterator[Line]:
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
        yield Line(file, number, keyword, words)


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


def tokens_in(text: str, values: dict[str, str]) -> str:
    return re.sub(r"%(.)", lambda match: "%" if match[1] == "%" else values.get(match[1], match[0]), text)


def bad(line: Line, found: str, expected: str) -> UsageFault:
    return UsageFault.in_file(line.file, [Fault(line.file, line.number, found, expected)])


def unsupported(line: Line, what: str, instead: str) -> UsageFault:
    return UsageFault(
        f"{line.file}:{line.number}: {what}, which fieldops does not do",
        reason="unsupported_ssh_config",
        next_step=f'use {instead} for this host, or name another file under [ssh] config in config.toml ("none": no file)',
    )
