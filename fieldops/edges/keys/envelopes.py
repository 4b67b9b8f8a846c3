"""DSSE envelopes: what a laptop signed, checked before anybody reads it."""

from __future__ import annotations

from fieldops.edges.keys.ed25519 import verify
from fieldops.errors import NotAuthorised, UsageFault
from fieldops.wire import ENVELOPE_LIMIT, STEP_PAYLOAD_TYPE, Envelope, decode_signed, pre_authentication_encoding, unb64


def open_envelope(data: bytes, public_key: bytes, kind: str = STEP_PAYLOAD_TYPE) -> bytes:
    """The payload of a DSSE envelope of that type, once its one signature by this raw Ed25519 key is checked.

    Raises UsageFault (malformed, oversized) or NotAuthorised (reason bad_signature).
    """
    envelope = decode_signed(data, Envelope, what="envelope", limit=ENVELOPE_LIMIT)
    if envelope.payloadType != kind or len(envelope.signatures) != 1:
        raise UsageFault(
            f"no {kind} envelope: {len(envelope.signatures)} signatures over {envelope.payloadType!r}",
            reason="malformed",
            next_step="use a version of fieldops that the receiver understands",
        )
    try:
        payload, signature = unb64(envelope.payload), unb64(envelope.signatures[0].sig)
    except ValueError as error:
        raise UsageFault("envelope: no base64", reason="malformed", next_step="send it again") from error
    if not verify(public_key, signature, pre_authentication_encoding(envelope.payloadType, payload)):
        raise NotAuthorised(
            "the envelope is not signed by that laptop's key", reason="bad_signature", next_step="enrol this laptop again"
        )
    return payload
