"""The shape that all messages have, and the limits in bytes that a receiver enforces before it decodes."""

from __future__ import annotations

from msgspec import Struct

VERSION = 1
SUPPORTED = (1, 1)  # lowest and highest version of the API this package speaks

MESSAGE_LIMIT = 1 << 20
ENVELOPE_LIMIT = 256 << 10
METADATA_LIMIT = 4 << 20
BATCH_LIMIT = 8 << 20

STEP_PAYLOAD_TYPE = "application/vnd.fieldops.step.v1+json"
ENROL_PAYLOAD_TYPE = "application/vnd.fieldops.enrol.v1+json"
TELEMETRY_PAYLOAD_TYPE = "application/vnd.fieldops.telemetry.v1+json"
SESSION_NAMESPACE = "fieldops-session@v1"


class Message(Struct, frozen=True, kw_only=True):
    """May gain fields, which older readers leave out."""
