"""The record of every change."""

from __future__ import annotations

from fieldops.audit.entry import Entry
from fieldops.cli.documents import Document


class AuditEntries(Document, frozen=True, kw_only=True, tag="fieldops.audit/v1"):
    log: str
    size: int
    entries: list[Entry]


class AuditVerified(Document, frozen=True, kw_only=True, tag="fieldops.audit-verified/v1"):
    """root: hex, computed from the bytes. witnesses: who cosigned this history, and up to which entry.

    unchecked: cosignatures whose key this laptop does not know.
    """

    ok: bool
    size: int
    root: str
    problems: list[str]
    witnesses: list[str]
    unchecked: int


class AuditSynced(Document, frozen=True, kw_only=True, tag="fieldops.audit-synced/v1"):
    pushed: int
    duplicate: int
    size: int
    root: str
    telemetry: int = 0  # records that were new to the store


class AuditStatus(Document, frozen=True, kw_only=True, tag="fieldops.audit-status/v1"):
    """acked: entries the store confirmed. oldest: Unix seconds of the oldest queued entry; null: nothing is queued."""

    size: int
    acked: int
    queued: int
    oldest: float | None
    telemetry: int = 0  # records that the store has not confirmed
