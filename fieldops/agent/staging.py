"""Stage and RotateTrust: metadata first, judged by the device itself; then exactly the blobs that metadata names.

Between the two the device waits for the laptop; what has come stays, so both go on after a lost link or a restart.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import msgspec
from msgspec.structs import replace

from fieldops.agent import upgrading
from fieldops.agent.belowfloor import approved_fact
from fieldops.agent.device import Device
from fieldops.agent.judged import Judge, Judgement, SignedTarget
from fieldops.agent.newcomer import own_name
from fieldops.agent.records import done
from fieldops.agent.shelf import Shelf
from fieldops.agent.standing import aged_fact, job_of
from fieldops.agent.suitability import check_plan
from fieldops.bundles.manifest import MANIFEST_FILE, Manifest
from fieldops.bundles.prechecks import Room
from fieldops.bundles.trust import POLICY_CHANNEL
from fieldops.decoding import decoder
from fieldops.edges.disk import remove_tree, sync_folder, unlink, write_whole
from fieldops.edges.registry import Change, Installed
from fieldops.errors import DeviceCannot, TrustRefused
from fieldops.slots import Slot, advance
from fieldops.steps import RotateTrust, Stage, Upgrade
from fieldops.wire import StepRecord, WantedBlob

Incoming = Stage | RotateTrust | Upgrade


class Staging:
    """Runs on the transaction's thread. Raises FieldopsError; the caller ends the record then and calls `give_up`."""

    def __init__(self, device: Device, judge: Judge) -> None:
        self._device = device
        self._judge = judge
        self._shelf = Shelf(device.home)

    def begin(self, record: StepRecord, step: Incoming, actor: str) -> None:
        device = self._device
        if isinstance(step, Upgrade):
            upgrading.check(device, step)
        if isinstance(step, RotateTrust | Upgrade):
            device.save(record=replace(record, phase="metadata"))
            return
        reason = device.registry.quarantined().get(step.manifest_sha256)
        if reason is not None:
            raise DeviceCannot(
                f"{step.model} {step.version} failed here before ({reason}) and is kept out",
                reason="quarantined",
                next_step="stage another version",
            )
        slot = device.registry.slot(step.model) or Slot(model=step.model, task="", since=device.now())
        if slot.state == "staging":  # what another step left behind
            slot = advance(slot, "discard", now=device.now(), reason="superseded")
        there = device.registry.version(step.model, step.version)
        if there is not None and there.manifest_sha256 != step.manifest_sha256:
            raise TrustRefused(
                f"{step.model} {step.version} is here already, with another manifest",
                reason="hash_mismatch",
                next_step="ask the release team which of the two is right",
            )
        if slot.active == step.version:
            device.save(record=done(record, device.now(), message=f"{step.version} is active already", version=slot.active))
            return
        slot = advance(slot, "stage", now=device.now(), reason="stage", version=step.version)
        note = device.entry(actor, "stage", step.model, step.version, "begun")
        device.save(slot=slot, record=replace(record, phase="metadata", previous=slot.active), note=note)

    def metadata(self, record: StepRecord, step: Incoming, files: dict[str, bytes]) -> None:
        """The metadata came: judge it, and say which blobs are wanted."""
        device = self._device
        folder = device.home.incoming(record.step_id)
        text = files.pop(MANIFEST_FILE, None)
        for name, data in files.items():
            write_whole(folder / "metadata" / name, data)
        device.save(record=replace(record, phase="verifying"))
        asked = job_of(device, "metadata") | self._approvals(record.step_id, step)
        found = self._judge(asked | {"incoming": str(folder), "want": self._want(step)})
        policy = isinstance(step, RotateTrust)
        targets = [t for t in found.targets if t.name.startswith(f"{POLICY_CHANNEL}/") is policy]
        if isinstance(step, Stage):
            self._check_room(step, targets)
            if text is not None:
                self._check_manifest(step, text, targets)
        if isinstance(step, Upgrade):
            upgrading.check_room(device, *self._sizes(targets))
        write_whole(folder / "plan.json", msgspec.json.encode(targets))

        def facts(change: Change) -> None:
            change.fact("root_version", str(found.root_version))
            change.fact("timestamp_version", str(found.timestamp_version))
            # The child has weighed the floor that we told it; only a root that took keys away brings back a lower one.
            change.fact("clock_floor", str(found.clock_floor))

        total = sum({target.sha256: target.size for target in targets}.values())
        device.save(record=replace(record, phase="payload", total_bytes=total, **self._progress(targets)), also=[facts])

    def payload(self, record: StepRecord, step: Incoming, actor: str) -> None:
        """A blob came, or none is wanted: go on when all are there."""
        device = self._device
        targets = self._plan(record.step_id)
        progress = self._progress(targets)
        if progress["wanted"]:
            device.save(record=replace(record, **progress))
            return
        device.save(record=replace(record, phase="verifying", **progress))
        if isinstance(step, RotateTrust):
            self._rotate(record, step, actor)
        elif isinstance(step, Upgrade):
            self._upgrade(record, step, actor)
        else:
            self._stage(record, step, targets, actor)
        self._sweep(record.step_id)

    def _rotate(self, record: StepRecord, step: RotateTrust, actor: str) -> None:
        device = self._device
        found = self._judge(job_of(device, "policy"))
        for target in found.targets:  # they stand under trust/targets now; the quota is for models
            unlink(self._shelf.path(target.sha256))
        note = device.entry(actor, "rotate_trust", "", str(step.timestamp_version), "verified", found.policy_sha256)
        device.save(
            record=done(record, device.now(), message="metadata and policy verified"),
            note=note,
            also=[lambda change: change.fact("policy_sha256", found.policy_sha256)],
        )

    def _upgrade(self, record: StepRecord, step: Upgrade, actor: str) -> None:
        def verified(into: Path) -> Judgement:
            return self._judge(
                job_of(self._device, "agent")
                | self._approvals(record.step_id, step)
                | {"want": self._want(step), "into": str(into)}
            )

        upgrading.upgrade(self._device, record, step, verified, actor)

    def _stage(self, record: StepRecord, step: Stage, targets: list[SignedTarget], actor: str) -> None:
        device = self._device
        found = self._judge(job_of(device, "bundle") | self._approvals(record.step_id, step) | {"want": self._want(step)})
        manifest = decoder(Manifest).decode(found.manifest)
        check_plan(device, manifest, device.registry.slot(step.model))  # an older laptop sends the manifest with the payload
        self._shelf.gather(step.manifest_sha256, [(t.base, t.sha256) for t in targets])
        slot = device.registry.slot(step.model)
        if slot is None or slot.state != "staging":
            raise DeviceCannot("staging was given up meanwhile", reason="superseded", next_step="run the same command again")
        installed = Installed(
            model=step.model,
            version=step.version,
            counter=manifest.counter,
            manifest_sha256=step.manifest_sha256,
            size_bytes=sum(target.size for target in targets),
            channel=step.channel,
            manifest=manifest,
            staged=device.now(),
        )
        slot = advance(replace(slot, task=manifest.task), "staged", now=device.now(), reason="verified")
        device.save(
            slot=slot,
            record=done(record, device.now(), message="staged", version=step.version),
            note=device.entry(actor, "stage", step.model, step.version, "verified"),
            also=[lambda change: change.version(installed), lambda change: self._note_approvals(change, found, step, actor)],
        )

    def _note_approvals(self, change: Change, found: Judgement, step: Stage, actor: str) -> None:
        """Loudly, with the names: what the rules refuse was let in."""
        if not found.approved_by:
            return
        reason = "below_floor" if found.expired_s is None else "expired"
        ago = "" if found.expired_s is None else f"expired {found.expired_s / 86400:.1f} days ago; "
        detail = f"{ago}approved by {', '.join(found.approved_by)}"
        change.note(self._device.entry(actor, "break_glass", step.model, step.version, reason, detail))
        # What Activate asks for: it judges both again.
        if found.below_floor:
            change.fact(approved_fact(step.manifest_sha256), actor)
        if found.expired_s is not None:
            change.fact(aged_fact(step.manifest_sha256), actor)

    def give_up(self, step: Incoming, step_id: str, reason: str) -> Slot | None:
        """The slot after a Stage that ended badly; parts stay for the next try."""
        self._sweep(step_id)
        if isinstance(step, Upgrade):
            upgrading.forget(self._device.home)
        if not isinstance(step, Stage):
            return None
        slot = self._device.registry.slot(step.model)
        if slot is None or slot.state != "staging" or slot.candidate != step.version:
            return None
        return advance(slot, "discard", now=self._device.now(), reason=reason)

    def _sweep(self, step_id: str) -> None:
        folder = self._device.home.incoming(step_id)
        with contextlib.suppress(OSError):  # the next start tries again
            remove_tree(folder)
            sync_folder(folder.parent)

    def sweep(self) -> None:
        """At the start: what came for steps that are over."""
        running = {record.step_id for record in self._device.registry.running()}
        for folder in self._device.home.incoming("").iterdir():
            if folder.name not in running:
                self._sweep(folder.name)

    def _plan(self, step_id: str) -> list[SignedTarget]:
        return decoder(list[SignedTarget]).decode((self._device.home.incoming(step_id) / "plan.json").read_bytes())

    def _here(self, target: SignedTarget) -> bool:
        """As a blob, or in place already as a target of the policy."""
        if self._shelf.whole(target.sha256):
            return True
        path = self._device.home.targets / target.name
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == target.sha256

    def _progress(self, targets: list[SignedTarget]) -> dict[str, object]:
        distinct = {t.sha256: t for t in targets}
        missing = [t for t in distinct.values() if not self._here(t)]
        wanted = [WantedBlob(sha256=t.sha256, size=t.size, have=self._shelf.have(t.sha256), target=t.name) for t in missing]
        whole = sum(t.size for t in distinct.values()) - sum(t.size for t in missing)
        return {"wanted": wanted, "done_bytes": whole + sum(blob.have for blob in wanted)}

    def _sizes(self, targets: list[SignedTarget]) -> tuple[int, int]:
        """(all bytes, those that are here)."""
        return sum(t.size for t in targets), sum(self._shelf.have(t.sha256) for t in targets)

    def _want(self, step: Incoming) -> dict[str, str] | None:
        match step:
            case RotateTrust():
                return None
            case Upgrade():
                name, sha256 = step.agent, step.kit_sha256
            case Stage():
                name, sha256 = step.model, step.manifest_sha256
        return {"channel": step.channel, "model": name, "version": step.version, "manifest_sha256": sha256}

    def _approvals(self, step_id: str, step: Incoming) -> dict[str, object]:
        held = self._device.registry.held(step_id)
        asker = held.actor.removeprefix("person:") if held else ""
        about: dict[str, object] = {"device": self._device.identity.id, "asker": asker}
        if isinstance(step, Upgrade):
            return about | {"agent": own_name(), "agent_floor": upgrading.floor(self._device)}
        if isinstance(step, RotateTrust):
            return about
        return about | {"accept_expired": step.accept_expired, "approvals": step.approvals}

    # --- room --------------------------------------------------------------------------------------------------------

    def _check_room(self, step: Stage, targets: list[SignedTarget]) -> None:
        """Before the first byte of payload. Raises DeviceCannot (disk_full) naming what would free the most."""
        if self._room(targets).lacking:
            self._collect(step.manifest_sha256)
        lacking = self._room(targets).lacking
        if not lacking:
            return
        largest = max(self._removable(step.manifest_sha256), key=lambda found: found.size_bytes, default=None)
        freed = (
            f"`fieldops models prune` removes {largest.version} ({largest.size_bytes} bytes)" if largest else "raise its quota"
        )
        raise DeviceCannot(
            f"{step.model} {step.version} {lacking}",
            reason="disk_full",
            next_step=f"free space on the device: {freed}, or use a smaller version",
        )

    def _room(self, targets: list[SignedTarget]) -> Room:
        device, distinct = self._device, {t.sha256: t for t in targets}.values()
        quota = device.config.quota_bytes
        return Room(
            download=sum(t.size - self._shelf.have(t.sha256) for t in distinct),
            files=len(targets),
            free=device.sensors.free_bytes(),
            quota_left=None if quota is None else quota - self._shelf.used_bytes(),
        )

    def _check_manifest(self, step: Stage, text: bytes, targets: list[SignedTarget]) -> None:
        """The manifest came with the metadata: whether the device can run the version is known before its first byte."""
        signed = next((target for target in targets if target.base == MANIFEST_FILE), None)
        if signed is None or hashlib.sha256(text).hexdigest() != signed.sha256:
            raise TrustRefused(
                "the manifest that came is not the signed one", reason="hash_mismatch", next_step="verify the stick again"
            )
        slot = self._device.registry.slot(step.model)
        check_plan(self._device, decoder(Manifest).decode(text), slot)
        write_whole(self._shelf.path(signed.sha256), text)

    def _removable(self, wanted: str) -> list[Installed]:
        registry = self._device.registry
        return [
            version
            for slot in registry.slots()
            for version in registry.versions(slot.model)
            if version.version not in slot.kept and version.manifest_sha256 != wanted and version.channel
        ]

    def _collect(self, wanted: str) -> None:
        """Remove versions that failed here: nobody will ask for them again. Last-good and active are never among them."""
        device = self._device
        bad = device.registry.quarantined()
        for gone in self._removable(wanted):
            if gone.manifest_sha256 in bad:
                with device.registry.change() as change:  # forgotten first: files without a row are only waste
                    change.drop_version(gone.model, gone.version)
                    change.note(device.entry(device.actor, "prune", gone.model, gone.version, "quarantined"))
                others = [v for slot in device.registry.slots() for v in device.registry.versions(slot.model)]
                self._shelf.drop(gone, others)
