"""A version below the device's floor answers only when somebody signed for it; last-good needs nobody."""

from __future__ import annotations

from collections.abc import Sequence

from fieldops.agent.device import Device
from fieldops.bundles.approvals import Matter, judge
from fieldops.bundles.trust import refuse
from fieldops.edges.registry import Installed
from fieldops.slots import Slot
from fieldops.steps import Approval


def approved_fact(manifest_sha256: str) -> str:
    """Name of the fact that a Stage below the floor was approved. It outlives the statement: the version was let in."""
    return f"below_floor.{manifest_sha256}"


def check_floor(device: Device, slot: Slot, wanted: Installed, actor: str, approvals: Sequence[Approval] = ()) -> str:
    """Who signed for it, in words for the journal; "" when nobody had to. Raises TrustRefused (below_floor)."""
    if wanted.counter >= slot.floor or wanted.version in {slot.active, slot.last_good}:
        return ""
    if not wanted.channel:  # a foreign model has no counter; it was last-good, or it was never here
        return ""
    staged_by = device.registry.fact(approved_fact(wanted.manifest_sha256))
    if staged_by:
        return f"approved when {staged_by} staged it"
    if not approvals:
        raise refuse(
            "below_floor",
            f"{wanted.model} {wanted.version} has counter {wanted.counter}; the floor here is {slot.floor}",
            next_step="choose a newer version, or bring a signed statement: `fieldops rollback ... --to VERSION --statement FILE`",
        )
    from fieldops.edges.keys import sshsig_verify

    asker = actor.removeprefix("person:")
    matter = Matter("below_floor", wanted.model, wanted.version, wanted.manifest_sha256, (device.identity.id,), asker)
    people = judge(approvals, matter, device.policy(), device.trusted_now(), sshsig_verify)
    return f"approved by {', '.join(people)}"
