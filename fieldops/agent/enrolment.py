"""Enrol: pin a laptop; the first one brings the root of trust, which is checked before it is kept."""

from __future__ import annotations

import binascii
import hashlib
import ssl

from fieldops.agent.device import Device
from fieldops.agent.judged import judge
from fieldops.agent.records import done
from fieldops.edges.registry import Change, Laptop
from fieldops.errors import UsageFault
from fieldops.steps import Enrol, Unenrol
from fieldops.wire import StepRecord, unb64


def enrol(device: Device, record: StepRecord, step: Enrol, laptop: str, actor: str) -> None:
    """Raises UsageFault, TrustRefused. Durable in this order: root, then laptop; a cut between the two is enrolled again."""
    certificate = step.laptop_certificate
    fingerprint = _fingerprint(certificate)
    root_version = int(device.registry.fact("root_version", "0"))
    if root_version == 0 or not any((device.home.trust / "metadata").glob("*.root.json")):
        root_version = judge(
            {"op": "pin", "trust": str(device.home.trust), "now": int(device.now()), "root": step.root}
        ).root_version
    pinned = Laptop(
        id=laptop,
        public_key=unb64(step.laptop_key),
        certificate=certificate,
        fingerprint=fingerprint,
        label=step.label,
        enrolled=device.now(),
    )

    def keep(change: Change) -> None:
        change.laptop(pinned)
        change.fact("root_version", str(root_version))

    note = device.entry(actor, "enrol", "", "", "pinned", f"{laptop} {step.label}".strip())
    device.save(record=done(record, device.now(), message="enrolled"), note=note, also=[keep])
    device.trust_certificate(certificate)


def unenrol(device: Device, record: StepRecord, step: Unenrol, actor: str) -> None:
    """Forget a laptop: its certificate finishes no request from now on. What it did stays in the journal."""
    note = device.entry(actor, "unenrol", "", "", "asked", f"{step.laptop} {step.label}".strip())
    record = done(record, device.now(), message="forgotten")
    device.save(record=record, note=note, also=[lambda change: change.drop_laptop(step.laptop)])


def _fingerprint(certificate: str) -> str:
    """sha256 hex of the certificate's DER; "" for a laptop that will not use the LAN. Raises UsageFault."""
    if not certificate:
        return ""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    except (ValueError, binascii.Error) as error:
        raise UsageFault(
            f"the laptop's certificate is no PEM: {error}", reason="bad_certificate", next_step="enrol again"
        ) from error
