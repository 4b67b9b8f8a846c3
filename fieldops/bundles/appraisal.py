"""What a version is worth, as measured at release: figures of each tier, of the whole cascade, and what was recorded."""

from __future__ import annotations

from msgspec import Struct


class TierFigures(Struct, frozen=True, kw_only=True):
    """accuracy: of this tier alone on the golden set. memory_bytes: peak above the process without it; None: not known here."""

    name: str
    accuracy: float
    p50_ms: float
    memory_bytes: int | None
    opset: int


class Appraisal(Struct, frozen=True, kw_only=True):
    """accuracy: of the cascade on the golden set. answers: distinct labels it gave there.

    replay: the recorded outputs (npz), bit-equal under replay_key. sketch: reference sketch (json), where calibration data
    was given. worst_difference: from the replay file that came with the bundle; None: none came, or none that compares.
    """

    tiers: list[TierFigures]
    accuracy: float
    floor: float
    n: int
    answers: int
    finite: bool
    p50_ms: float
    replay: bytes
    replay_key: str
    sketch: bytes | None = None
    worst_difference: float | None = None
    within_tolerance: bool = True

    @property
    def opset(self) -> int:
        return max(tier.opset for tier in self.tiers)
