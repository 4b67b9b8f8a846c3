"""One entry of a laptop's log. What is hashed is the exact JSON text that was stored; nothing is canonicalised later.

Phases: an *intent* stands on disk before anything changes; its *outcome* names it by `of`; a *note* records what changed
nothing (a refusal, a dry run, evidence copied from a device).
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from fieldops.decoding import decoder
from fieldops.errors import StorageFault

ENTRY_LIMIT = 64 << 10  # bytes; the store takes no longer ones

Phase = Literal["intent", "outcome", "note"]
Status = Literal["done", "refused", "failed", "reverted", "unknown", "needs_human", "dry_run"]


class Subject(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """What the act was about. from_/to: versions; digest: SHA-256 hex of the thing brought."""

    kind: str
    name: str = ""
    from_: str = ""
    to: str = ""
    digest: str = ""


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: Status
    code: int = 0  # exit code
    reason: str = ""
    detail: str = ""


class Draft(Struct, frozen=True, kw_only=True):
    """What the caller knows of an entry; the journal adds log, seq, time, mono, boot and session."""

    actor: str  # person:SHA256:..., local:<user> or device:<id>
    phase: Phase
    act: str  # a step's kind, or stick.verify, sync.push, drift.read, ...
    of: int | None = None  # seq of the intent this is the outcome of
    device: str = ""  # device id; "" when no device is concerned
    subject: Subject | None = None
    reason: str = ""  # the person's words
    ticket: str = ""
    decision: str = ""  # the policy rule that allowed or refused
    result: Result | None = None
    statement_sig: str = ""
    attachments: list[str] = []  # SHA-256 hex


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    v: int
    log: str
    seq: int  # from 1
    time: float  # Unix seconds, as the laptop's clock claimed
    mono: float
    boot: str
    session: str  # <pid>.<start time> of the process that wrote it
    actor: str
    phase: Phase
    act: str
    of: int | None = None
    device: str = ""
    subject: Subject | None = None
    reason: str = ""
    ticket: str = ""
    decision: str = ""
    result: Result | None = None
    statement_sig: str = ""
    attachments: list[str] = []


def encode_entry(entry: Entry) -> bytes:
    """The bytes that are stored and hashed. Raises StorageFault when they pass ENTRY_LIMIT."""
    data = msgspec.json.encode(entry)
    if len(data) > ENTRY_LIMIT:
        raise StorageFault(
            f"an audit entry of {len(data)} bytes; the limit is {ENTRY_LIMIT}",
            reason="entry_too_large",
            next_step="shorten the reason text; attach long evidence by digest",
        )
    return data


def decode_entry(data: bytes) -> Entry:
    """Raises msgspec.DecodeError. Unknown fields of later versions are ignored."""
    return decoder(Entry).decode(data)
