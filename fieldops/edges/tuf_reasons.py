"""Which of the closed reasons an exception of python-tuf stands for."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization import DeserializationError

from fieldops.bundles.trust import refuse
from fieldops.errors import TrustRefused

_SIGNED_BY = re.compile(r"signed by (\d+)/(\d+) keys")


def refusal(error: Exception, path: str, data: bytes, source: str) -> TrustRefused:
    """The one trust reason an exception of tuf stands for. path, data: the file tuf looked at last; source: its name."""
    file = unquote(path.rpartition("/")[2]) or "metadata"
    where = f"{file} of {source}"
    match error:
        case DownloadHTTPError():
            return refuse("missing", f"{where} is missing")
        case DownloadLengthMismatchError():
            # Only these two have no signed length, so the bound they passed is ours.
            ours = file == "timestamp.json" or file.endswith(".root.json")
            return refuse("oversized" if ours else "too_long", f"{where} is longer than it may be")
        case ExpiredMetadataError():
            return refuse("expired", f"{source}: {expired(error, file, data)}")
        case UnsignedMetadataError():
            return _unsigned(error, where)
        case BadVersionNumberError():
            return refuse("rollback", f"{where}: {error}")
        case LengthOrHashMismatchError():
            return _mismatch(where, file, data)
        case DeserializationError():
            return _malformed(error, where)
        case DownloadError():
            return refuse("io_error", f"{where}: {error}")
        case _:
            return _inconsistent(error, where)


def _inconsistent(error: Exception, where: str) -> TrustRefused:
    text = str(error)
    if "not part of snapshot" in text or "does not contain information" in text:
        return refuse("mix_and_match", f"{where}: {text}")
    if "missing info for" in text:
        return refuse("rollback", f"{where}: {text}")
    return refuse("malformed", f"{where}: {text}")


def expired(error: Exception, path: str, data: bytes) -> str:
    """`timestamp is expired since 2026-11-20`; the day only when the file at hand is the one tuf means."""
    match = re.search(r"(\w+)(?:\.json)? is expired", str(error))
    role = match[1] if match else "metadata"
    if not path.endswith(f"{role}.json"):
        return f"{role} is expired"
    return f"{role} is expired since {Metadata[Any].from_bytes(data).signed.expires:%Y-%m-%d}"


def _unsigned(error: Exception, where: str) -> TrustRefused:
    counted = _SIGNED_BY.search(str(error))
    signed, needed = (int(counted[1]), int(counted[2])) if counted else (0, 1)
    if signed:
        return refuse("threshold", f"{where} is signed by {signed} of {needed} needed keys")
    return refuse("unsigned", f"{where} carries no signature of a trusted key")


def _mismatch(where: str, file: str, data: bytes) -> TrustRefused:
    """Another version under this name is a mixture of releases; anything else is damage or tampering."""
    number = file.partition(".")[0]
    try:
        version = Metadata[Targets].from_bytes(data).signed.version
    except RepositoryError:
        version = None
    if version is not None and number.isdigit() and version != int(number):
        return refuse("mix_and_match", f"{where} holds version {version}: files of different releases")
    return refuse("hash_mismatch", f"{where} is not the file that was signed")


def _malformed(error: Exception, where: str) -> TrustRefused:
    if "Multiple signatures found" in str(error.__cause__):
        return refuse("threshold", f"{where} carries the same key's signature twice, which counts for nothing")
    return refuse("malformed", f"{where} is not understood")
