"""Asking the short-lived child that verifies: `python -m fieldops.agent verify`, one JSON job in, one result out.

tuf and numpy stay out of the long-lived process this way, and a parser that is attacked dies alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from fieldops.decoding import decoder
from fieldops.errors import TRUST_REASONS, DeviceCannot, FieldopsError, TrustRefused

JUDGE_S = 120.0


class SignedTarget(Struct, frozen=True, kw_only=True):
    name: str
    sha256: str
    size: int

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]


class Judgement(Struct, frozen=True, kw_only=True):
    ok: bool
    reason: str = ""
    message: str = ""
    next: str = ""
    root_version: int = 0
    timestamp_version: int = 0
    clock_floor: float = 0.0
    targets: list[SignedTarget] = []
    manifest: str = ""
    policy_sha256: str = ""
    expired_s: float | None = None  # how long ago the metadata expired that approvals let in; None: it is valid
    approved_by: list[str] = []
    below_floor: bool = False
    kit: str = ""  # id of an agent's software


Judge = Callable[[dict[str, Any]], Judgement]


def judge(job: dict[str, Any]) -> Judgement:
    """Raises TrustRefused or DeviceCannot with the child's words."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fieldops.agent", "verify"],
            input=msgspec.json.encode(job),
            stdout=subprocess.PIPE,
            timeout=JUDGE_S,
            check=False,
        )
        found = decoder(Judgement).decode(done.stdout)
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        raise DeviceCannot(
            f"the device could not verify: {error}",
            reason="verifier_failed",
            next_step="look at `fieldops logs`; nothing was changed",
        ) from error
    if not found.ok:
        raise _refusal(found)
    return found


def _refusal(found: Judgement) -> FieldopsError:
    if found.reason in TRUST_REASONS:
        return TrustRefused(found.message, reason=found.reason, next_step=found.next)
    reason = found.reason.removeprefix("device_cannot:")
    return DeviceCannot(found.message, reason=reason, next_step=found.next)
