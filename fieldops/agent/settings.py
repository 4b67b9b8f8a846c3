"""Local settings over a signed version, as the registry keeps them: when its large model may run, temperatures fitted here.

They are given to every worker that starts, and never touch a signed file: taking them back is enough to have what was signed.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from fieldops.decoding import decoder
from fieldops.edges.registry import Change, Registry
from fieldops.tiers import AS_SIGNED, TierSettings


class Tuning(Struct, frozen=True, kw_only=True):
    """temperatures: by tier, over the graph's own. former: what it replaced, one step back; None: as signed."""

    temperatures: dict[str, float] = {}
    labels: int = 0
    former: Tuning | None = None


NO_TUNING = Tuning()


def settings_of(registry: Registry, model: str) -> TierSettings:
    text = registry.fact(f"tiers:{model}")
    return decoder(TierSettings).decode(text.encode("utf-8")) if text else AS_SIGNED


def tuning_of(registry: Registry, model: str, version: str) -> Tuning:
    text = registry.fact(f"tuning:{model}:{version}")
    return decoder(Tuning).decode(text.encode("utf-8")) if text else NO_TUNING


def keep(change: Change, name: str, value: Struct) -> None:
    change.fact(name, msgspec.json.encode(value).decode("utf-8"))
