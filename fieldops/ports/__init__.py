"""What the operations need of the world, and nothing else. Edges implement these; only `wiring` brings the two together."""

from __future__ import annotations

from fieldops.ports.calls import Ask, Clock, OnProgress, Progress, Question
from fieldops.ports.centre import Cursor, Head, Queue, Receipt, Store, StoreIdentity
from fieldops.ports.device import UNVERIFIED, Device, Grant, Payload
from fieldops.ports.laptop import InventoryFile, Journal, Runner, RunRecord, Runs, Signer, Technician, Trail, Witnessed
from fieldops.ports.trust import BreakGlass, Broken, Candidate, Media, Source, Trust, TrustedAgent, TrustedBundle, TrustFacts

__all__ = [
    "UNVERIFIED",
    "Ask",
    "BreakGlass",
    "Broken",
    "Candidate",
    "Clock",
    "Cursor",
    "Device",
    "Grant",
    "Head",
    "InventoryFile",
    "Journal",
    "Media",
    "OnProgress",
    "Payload",
    "Progress",
    "Question",
    "Queue",
    "Receipt",
    "RunRecord",
    "Runner",
    "Runs",
    "Signer",
    "Source",
    "Store",
    "StoreIdentity",
    "Technician",
    "Trail",
    "Trust",
    "TrustFacts",
    "TrustedAgent",
    "TrustedBundle",
    "Witnessed",
]
