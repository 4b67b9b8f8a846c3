"""Settings, kits, the release team's work."""

from __future__ import annotations

from fieldops.cli.documents import Document


class ConfigState(Document, frozen=True, kw_only=True, tag="fieldops.config/v1"):
    home: str
    file: str
    theme: str | None
    data: str | None
    person_key: str | None
    store_url: str | None
    ssh_identities: list[str]
    stick_folders: list[str]
    site: str | None = None
    keys: dict[str, str]


class ConfigCheck(Document, frozen=True, kw_only=True, tag="fieldops.config-check/v1"):
    ok: bool
    faults: list[str]


class BuiltKit(Document, frozen=True, kw_only=True, tag="fieldops.built-kit/v1"):
    """An installation kit on this laptop's disk."""

    folder: str
    version: str
    platform: str
    python: str
    files: int
    size_bytes: int


class ReleaseHealth(Document, frozen=True, kw_only=True, tag="fieldops.release-health/v1"):
    """What `release doctor` found, one line each. ok: nothing."""

    ok: bool
    problems: list[str]


class Released(Document, frozen=True, kw_only=True, tag="fieldops.released/v1"):
    """What a release verb did, one line each."""

    verb: str
    done: list[str]
