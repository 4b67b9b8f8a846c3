"""DSSE envelopes: what is signed, so that a payload can never be read as one of another type."""

from __future__ import annotations

from collections.abc import Callable

from fieldops.wire.changing import DsseSignature, Envelope
from fieldops.wire.codec import b64, encode


def enveloped(payload_type: str, payload: bytes, keyid: str, sign: Callable[[bytes], bytes]) -> bytes:
    """A DSSE envelope with one signature."""
    signature = DsseSignature(keyid=keyid, sig=b64(sign(pre_authentication_encoding(payload_type, payload))))
    return encode(Envelope(payloadType=payload_type, payload=b64(payload), signatures=[signature]))


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1: what is signed, so that a payload can never be read as one of another type."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
