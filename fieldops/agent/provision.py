"""Factory flashing: the root of trust, the signed policy and a first model onto a device that no laptop has seen.

Verified exactly as a laptop's stick is; the agent must not be running. A run cut off may be repeated.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import msgspec

from fieldops.agent.config import read
from fieldops.agent.home import AgentHome
from fieldops.agent.identity import Identity
from fieldops.agent.judged import judge
from fieldops.agent.shelf import Shelf
from fieldops.bundles.manifest import MANIFEST_FILE
from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.disk import link, remove_tree, sync_folder, unlink
from fieldops.edges.locks import exclusive
from fieldops.edges.registry import Change, Installed, Registry
from fieldops.edges.sensors import boot_id
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.usb import StickMedia
from fieldops.errors import UsageFault
from fieldops.ports import TrustedBundle
from fieldops.slots import Slot, advance
from fieldops.wire import JournalEntry

LONGEST_S = 600.0


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="fieldops-agent provision")
    parser.add_argument("--home", type=Path, default=None, help="the agent's folder")
    parser.add_argument("--stick", required=True, help="a stick, its FIELDOPS folder, or an address")
    parser.add_argument("--ref", required=True, help="MODEL@VERSION")
    parser.add_argument("--root", type=Path, required=True, help="the release team's root.json")
    parser.add_argument("--channel", default=None)
    given = parser.parse_args(words)
    home = AgentHome((given.home or AgentHome.default()).resolve())
    home.make()
    try:
        root = given.root.read_bytes()
    except OSError as error:
        raise UsageFault(f"{given.root}: {error.strerror}", next_step="name the release team's root.json") from error
    with exclusive(home.lock, "the agent"):
        installed = _install(home, root, given.stick, given.ref, given.channel)
    line = {
        "schema": "fieldops.provision/v1",
        "device": Identity.load_or_create(home.key).id,
        "model": installed.model,
        "version": installed.version,
        "channel": installed.channel,
    }
    sys.stdout.write(msgspec.json.encode(line).decode("utf-8") + "\n")
    return 0


def _install(home: AgentHome, root: bytes, stick: str, ref: str, channel: str | None) -> Installed:
    clock = SystemClock()
    # Not into models/ itself: a cache makes room by dropping old copies, and there lies last-good.
    cache = home.incoming("factory")
    store = TrustStore(home.trust, cache, clock)
    store.pin(root, None)
    source = StickMedia().at(stick)
    bundle = store.fetch(source, ref, Deadline.after(LONGEST_S, clock.monotonic), channel=channel)
    facts = store.facts()
    _shelve(home, cache, bundle)
    config = read(home.config)
    job = {
        "trust": str(home.trust),
        "blobs": str(home.blobs),
        "now": clock.now(),
        "clock_floor": facts.clock_floor,
        "device_class": config.device_class,
        "machine": platform.machine(),
    }
    want = {
        "channel": bundle.channel,
        "model": bundle.manifest.model,
        "version": bundle.manifest.version,
        "manifest_sha256": bundle.manifest_sha256,
    }
    judge(job | {"op": "bundle", "want": want})
    policy = judge(job | {"op": "policy"})
    for target in policy.targets:  # they stand under trust/targets now; the quota is for models
        unlink(home.blobs / target.sha256)
    registry = Registry.open(home.registry)
    try:
        installed = _keep(registry, bundle, clock.now())
        with registry.change() as change:
            change.fact("root_version", str(facts.root_version))
            change.fact("timestamp_version", str(facts.timestamp_version))
            change.fact("clock_floor", str(facts.clock_floor))
            change.fact("policy_sha256", policy.policy_sha256)
    finally:
        registry.close()
    remove_tree(cache)
    return installed


def _shelve(home: AgentHome, cache: Path, bundle: TrustedBundle) -> None:
    """Verified copies into their places; whole under their names whenever the power goes."""
    for blob in (cache / "sha256").iterdir():
        place = home.blobs / blob.name
        if not blob.suffix and not place.exists():
            link(blob, place)
    sync_folder(home.blobs)
    files = [(file.name, file.sha256) for file in bundle.manifest.files]
    Shelf(home).gather(bundle.manifest_sha256, [(MANIFEST_FILE, bundle.manifest_sha256), *files])


def _keep(registry: Registry, bundle: TrustedBundle, now: float) -> Installed:
    manifest = bundle.manifest
    installed = Installed(
        model=manifest.model,
        version=manifest.version,
        counter=manifest.counter,
        manifest_sha256=bundle.manifest_sha256,
        size_bytes=sum(file.size for file in manifest.files),
        channel=bundle.channel,
        manifest=manifest,
        staged=now,
    )
    slot = registry.slot(manifest.model) or Slot(model=manifest.model, task=manifest.task)
    with registry.change() as change:
        change.version(installed)
        if slot.active != manifest.version:
            slot = advance(slot, "install", now=now, reason="provisioned", version=manifest.version)
            change.slot(msgspec.structs.replace(slot, task=manifest.task))
            _note(change, installed, now)
    return installed


def _note(change: Change, installed: Installed, now: float) -> None:
    change.note(
        JournalEntry(
            seq=0,
            time=now,
            boot_id=boot_id(),
            actor="local:factory",
            action="provision",
            model=installed.model,
            version=installed.version,
            reason="verified",
            detail=installed.manifest_sha256,
        )
    )
