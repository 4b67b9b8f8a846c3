"""OpenSSH's known_hosts, read by ourselves: hashed names, wildcards, `!negation`, ports, @revoked, @cert-authority.

The verdict agrees with `ssh`, but for hosts vouched for by an authority only: those are unknown here, and it says so.
A line that cannot be read says nothing about any host and is left alone (`unread` counts them).
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fieldops.errors import StorageFault

_SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Verdict:
    """known: the keys that file holds for the host, as (type, blob). by_authority: only an authority vouches for it."""

    kind: Literal["ok", "unknown", "changed", "revoked"]
    known: tuple[tuple[str, bytes], ...] = ()
    by_authority: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    marker: str
    patterns: str
    key_type: str
    key: bytes


@dataclass(frozen=True, slots=True)
class KnownHosts:
    lines: tuple[_Line, ...] = ()
    unread: int = 0

    @classmethod
    def parse(cls, text: str) -> KnownHosts:
        lines: list[_Line] = []
        unread = 0
        for raw in text.splitlines():
            stripped = raw.strip()
            if not stripped or stripped.startswith("#"):
                continue
            line = _line(stripped)
            if line is None:
                unread += 1
            else:
                lines.append(line)
        return cls(tuple(lines), unread)

    @classmethod
    def load(cls, paths: Iterable[Path]) -> KnownHosts:
        """All files as one; a file that is not there is empty. Raises StorageFault for one that cannot be read."""
        text: list[str] = []
        for path in paths:
            try:
                text.append(path.read_text("utf-8", "replace"))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageFault(
                    f"{path}: {error.strerror}", reason="io_error", next_step="check who may read the file"
                ) from error
        return cls.parse("\n".join(text))

    def plus(self, paths: Iterable[Path]) -> KnownHosts:
        """Together with further files."""
        more = KnownHosts.load(paths)
        return KnownHosts(self.lines + more.lines, self.unread + more.unread)

    def verify(self, host: str, port: int, key: bytes) -> Verdict:
        """key: the blob the host proved to hold."""
        verdict = self._verify(written(host, port), key)
        if verdict.kind == "unknown" and port != _SSH_PORT:
            without = self._verify(host.lower(), key)  # as ssh does: a line without port may vouch, never accuse
            if without.kind in ("ok", "revoked"):
                return without
        return verdict

    def key_types(self, host: str, port: int) -> tuple[str, ...]:
        """Types of the keys known for a host: asked for first, so that a host with several keys shows a known one."""
        names = {written(host, port), host.lower()}
        found = [line.key_type for line in self.lines if not line.marker and any(_matches(line.patterns, n) for n in names)]
        return tuple(dict.fromkeys(found))

    def _verify(self, name: str, key: bytes) -> Verdict:
        about = [line for line in self.lines if _matches(line.patterns, name)]
        if any(line.marker == "@revoked" and line.key == key for line in about):
            return Verdict("revoked")
        known = tuple((line.key_type, line.key) for line in about if not line.marker)
        if any(blob == key for _, blob in known):
            return Verdict("ok", known)
        if known:
            return Verdict("changed", known)
        return Verdict("unknown", by_authority=any(line.marker == "@cert-authority" for line in about))


def _line(text: str) -> _Line | None:
    words = text.split()
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", "@revoked", "@cert-authority") or len(words) < 3:
        return None
    try:
        key = base64.b64decode(words[2], validate=True)
    except binascii.Error:
        return None
    named = len(words[1]).to_bytes(4, "big") + words[1].encode("utf-8", "replace")
    if not key.startswith(named):  # the blob says its own type; a line that disagrees is no key
        return None
    return _Line(marker, words[0], words[1], key)


def written(host: str, port: int) -> str:
    """As known_hosts names a host on a port."""
    return host.lower() if port == _SSH_PORT else f"[{host.lower()}]:{port}"


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _hashed(patterns, name)
    matched = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        if re.fullmatch(_glob(pattern[1:] if negated else pattern), name):
            if negated:
                return False
            matched = True
    return matched


def _glob(pattern: str) -> str:
    """Only `*` and `?` are special; `[` stands in every entry with a port."""
    return fnmatch.translate(pattern.replace("[", "[[]"))


def _hashed(entry: str, name: str) -> bool:
    parts = entry.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except binascii.Error:
        return False
    # HMAC-SHA1 is the file's format; it hides names and decides no trust
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
