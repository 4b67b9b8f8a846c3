"""Sticks, bundles, the signed rules."""

from __future__ import annotations

from fieldops.cli.documents import Document, Part
from fieldops.wire import ErrorDoc


class Bundle(Part, frozen=True, kw_only=True):
    """reason: empty when usable, else why it is refused (a trust reason)."""

    ref: str
    channel: str
    counter: int
    size_bytes: int
    source: str
    reason: str
    message: str


class Bundles(Document, frozen=True, kw_only=True, tag="fieldops.bundles/v1"):
    """sources: the media looked at."""

    sources: list[str]
    bundles: list[Bundle]
    refused: list[ErrorDoc]


class StickVerified(Document, frozen=True, kw_only=True, tag="fieldops.stick-verified/v1"):
    """Every byte of each bundle was read and checked. ok: none was refused."""

    source: str
    ok: bool
    bundles: list[Bundle]


class StickRenewed(Document, frozen=True, kw_only=True, tag="fieldops.stick-renewed/v1"):
    """expires: Unix seconds up to which the metadata is valid now. sticks: written; refused: those that could not be."""

    timestamp_version: int
    expires: float | None
    sticks: list[str]
    refused: list[ErrorDoc]


class TrustState(Document, frozen=True, kw_only=True, tag="fieldops.policy/v1"):
    """expires: Unix seconds of the earliest of all signed metadata. role: of the person at this laptop; null: none."""

    root_version: int
    root_sha256: str
    timestamp_version: int
    expires: float | None
    clock_floor: float
    clock_behind: bool
    actor: str
    role: str | None
    roles: dict[str, list[str]]
    people: list[str]
    runbooks: list[str]


class PolicyCheck(Document, frozen=True, kw_only=True, tag="fieldops.policy-check/v1"):
    ok: bool
    problems: list[str]


class Pinned(Document, frozen=True, kw_only=True, tag="fieldops.pinned/v1"):
    root_sha256: str
