"""What signed metadata says, judged: names, bundles, manifests. Facts come in, a value or one trust reason goes out.

A name is checked here before it is used for anything. python-tuf accepts `../../x` as a target's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from fieldops.bundles.kit import KIT_TARGET, MOST_KIT_BYTES, agent_version, is_agent
from fieldops.bundles.manifest import MANIFEST_FILE, MANIFEST_LIMIT_BYTES, VERSION_PATTERN, Manifest
from fieldops.decoding import decoder
from fieldops.errors import TrustRefused, UsageFault
from fieldops.wire import refuse_duplicate_keys

TARGET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63}){3}")
PART_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# FAT and exFAT drop a dot at the end, and Windows opens a device for these names, whatever follows the first dot.
_UNSAFE_PART = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?|.*\.")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
POLICY_CHANNEL = "policy"
POLICY_DOCUMENT = "policy/rules/current/policy.json"
POLICY_TARGET_LIMIT_BYTES = 64 << 20  # the largest are golden sets
# The order in which a reference without a channel is looked up.
PREFERRED_CHANNEL = "stable"

_NEXT: dict[str, str] = {
    "hash_mismatch": "copy the stick again from the release folder, or use another stick",
    "too_long": "copy the stick again from the release folder, or use another stick",
    "missing": "ask the release team for a complete stick",
    "expired": "renew the stick (`fieldops stick renew`), or ask the release team for a new one",
    "rollback": "use the newer stick; this one was overtaken",
    "mix_and_match": "copy the whole stick again: its files are of different releases",
    "unsigned": "do not use this stick; ask the release team who made it",
    "threshold": "ask a further release signer to sign, then make the stick again",
    "unknown_target": "list what there is with `fieldops stick list`",
    "bad_name": "do not use this stick; tell the release team which name it carries",
    "not_regular_file": "do not use this stick; ask for a new one",
    "malformed": "copy the stick again from the release folder, or use another stick",
    "oversized": "do not use this stick; ask the release team for a new one",
    "wrong_device": "choose a bundle made for this class of device",
    "withdrawn": "choose another version: the release team took this one back",
    "below_floor": "choose a newer version, or ask for a signed rollback statement",
    "io_error": "clean the contacts or use another port or stick, then try again",
}


def refuse(reason: str, message: str, *, next_step: str | None = None) -> TrustRefused:
    """The refusal with its usual next step."""
    return TrustRefused(message, reason=reason, next_step=next_step or _NEXT[reason])


# --- names -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TargetName:
    """`<channel>/<model>/<version>/<file>`; the policy's targets have four parts as well."""

    channel: str
    model: str
    version: str
    file: str

    def __str__(self) -> str:
        return f"{self.channel}/{self.model}/{self.version}/{self.file}"

    def stored_as(self, sha256: str) -> str:
        """Path in a repository with consistent snapshots, below its root."""
        return f"targets/{self.channel}/{self.model}/{self.version}/{sha256}.{self.file}"


def target_name(text: str) -> TargetName:
    """Raises TrustRefused (bad_name) for anything but four plain lower-case parts."""
    if not TARGET_NAME.fullmatch(text) or any(_UNSAFE_PART.fullmatch(part) for part in text.split("/")):
        raise refuse("bad_name", f"a signed target has the name {ascii(text)[:120]}, which is not allowed")
    channel, model, version, file = text.split("/")
    return TargetName(channel, model, version, file)


@dataclass(frozen=True, slots=True)
class BundleRef:
    """`MODEL@VERSION` as people type it."""

    model: str
    version: str


def bundle_ref(text: str) -> BundleRef:
    model, at, version = text.partition("@")
    if not at or not PART_NAME.fullmatch(model) or not VERSION_PATTERN.fullmatch(version):
        raise UsageFault(
            f"{text!r} names no bundle",
            reason="bad_reference",
            next_step="write MODEL@VERSION, such as digits@1.2.0 (`fieldops stick list` shows them)",
        )
    return BundleRef(model, version)


# --- signed facts ------------------------------------------------------------------------------------------------------


class Custom(Struct, frozen=True, kw_only=True):
    """What is signed beside a manifest's digest, so that a device can refuse before anything is uploaded.

    Empty lists: any. Unknown fields of later versions are ignored.
    """

    counter: int = 0
    withdrawn: bool = False
    device_classes: list[str] = []
    machines: list[str] = []


# Worked out here, under the import's lock: msgspec does so at first use, where two threads at once crash the process.
NOTHING_SIGNED = msgspec.convert({}, Custom)


class Target(Struct, frozen=True, kw_only=True):
    """One signed target whose name has passed the rule. role: the delegated role that signed it."""

    name: str
    sha256: str
    size: int
    role: str
    custom: Custom = NOTHING_SIGNED

    @property
    def parts(self) -> TargetName:
        return target_name(self.name)

    @property
    def path(self) -> str:
        """Below a repository's root."""
        return self.parts.stored_as(self.sha256)


def signed_target(name: str, *, sha256: str | None, size: int, role: str, custom: object) -> Target:
    """A target as metadata lists it. Raises TrustRefused: bad_name, malformed."""
    target_name(name)
    if sha256 is None or not SHA256_HEX.fullmatch(sha256) or size < 0:
        raise refuse("malformed", f"{name} is signed without a usable SHA-256 and size")
    try:
        known = NOTHING_SIGNED if custom is None else msgspec.convert(custom, Custom)
    except msgspec.ValidationError as error:
        raise refuse("malformed", f"{name}: its signed facts are not understood: {error}") from error
    return Target(name=name, sha256=sha256, size=size, role=role, custom=known)


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """All targets of one version of one model in one channel."""

    channel: str
    model: str
    version: str
    files: tuple[Target, ...]

    @property
    def manifest(self) -> Target:
        """Raises TrustRefused (missing) when the release team signed none."""
        for target in self.files:
            if target.parts.file == MANIFEST_FILE:
                return target
        raise refuse("missing", f"{self.channel}/{self.model}/{self.version} has no signed manifest")

    @property
    def is_agent(self) -> bool:
        """No model, but the software of an agent."""
        return is_agent(self.model)

    @property
    def head(self) -> Target:
        """The target that stands for the whole: the manifest, or an agent's kit, which is alone. Raises TrustRefused (missing, malformed)."""
        if not self.is_agent:
            return self.manifest
        (first, *more) = self.files
        if more or first.parts.file != KIT_TARGET:
            raise refuse(
                "malformed", f"{self.channel}/{self.model}/{self.version} is signed with other files than one {KIT_TARGET}"
            )
        return first

    @property
    def size_bytes(self) -> int:
        return sum(target.size for target in self.files)

    @property
    def counter(self) -> int:
        return max((target.custom.counter for target in self.files), default=0)

    @property
    def withdrawn(self) -> bool:
        return any(target.custom.withdrawn for target in self.files)


def bundles_in(targets: Iterable[Target]) -> list[SignedBundle]:
    """Every bundle of every channel, in a stable order; the policy's targets are none."""
    groups: dict[tuple[str, str, str], list[Target]] = {}
    for target in targets:
        name = target.parts
        if name.channel != POLICY_CHANNEL:
            groups.setdefault((name.channel, name.model, name.version), []).append(target)
    return [
        SignedBundle(channel, model, version, tuple(sorted(files, key=lambda target: target.name)))
        for (channel, model, version), files in sorted(groups.items())
    ]


def policy_targets_in(targets: Iterable[Target]) -> list[Target]:
    return [target for target in targets if target.parts.channel == POLICY_CHANNEL]


def check_sizes(targets: Iterable[Target]) -> None:
    """What is read into memory has a bound, whoever signed it. Raises TrustRefused (oversized)."""
    for target in targets:
        name = target.parts
        limit = POLICY_TARGET_LIMIT_BYTES if name.channel == POLICY_CHANNEL else MANIFEST_LIMIT_BYTES
        if is_agent(name.model):
            limit = MOST_KIT_BYTES
        if target.size > limit and (name.channel == POLICY_CHANNEL or name.file in {MANIFEST_FILE, KIT_TARGET}):
            raise refuse("oversized", f"{target.name} is signed with {target.size} bytes; the limit is {limit}")


def find_bundle(targets: Iterable[Target], ref: BundleRef, channel: str | None) -> SignedBundle | None:
    """Without a channel: stable first, then the others by name."""
    found = [
        bundle
        for bundle in bundles_in(targets)
        if bundle.model == ref.model and bundle.version == ref.version and channel in {None, bundle.channel}
    ]
    return min(found, key=lambda bundle: (bundle.channel != PREFERRED_CHANNEL, bundle.channel), default=None)


# --- judgement ---------------------------------------------------------------------------------------------------------


def check_digest(data: bytes, target: Target) -> None:
    """Raises TrustRefused (too_long, hash_mismatch)."""
    if len(data) > target.size:
        raise refuse("too_long", f"{target.name} is longer than the {target.size} bytes that were signed")
    if len(data) < target.size or hashlib.sha256(data).hexdigest() != target.sha256:
        raise refuse("hash_mismatch", f"{target.name} is not the file that was signed")


def check_manifest(data: bytes, bundle: SignedBundle) -> Manifest:
    """The manifest, when it is the signed one and agrees with every other signed target of its version.

    Raises TrustRefused: hash_mismatch, too_long, oversized, malformed, mix_and_match.
    """
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise refuse("oversized", f"a manifest of {len(data)} bytes; the limit is {MANIFEST_LIMIT_BYTES}")
    check_digest(data, bundle.manifest)
    manifest = _decode_manifest(data)
    said = (manifest.model, manifest.version)
    if said != (bundle.model, bundle.version):
        raise refuse("mix_and_match", f"the manifest of {bundle.model}@{bundle.version} says {manifest.model}@{manifest.version}")
    if manifest.counter != bundle.counter:
        raise refuse("mix_and_match", f"the manifest's counter is {manifest.counter}, the signed one {bundle.counter}")
    signed = {(target.parts.file, target.sha256, target.size) for target in bundle.files if target.parts.file != MANIFEST_FILE}
    listed = {(entry.name, entry.sha256, entry.size) for entry in manifest.files}
    if signed != listed:
        names = ", ".join(sorted({name for name, _, _ in signed ^ listed})[:4])
        raise refuse("mix_and_match", f"manifest and signed targets of {bundle.model}@{bundle.version} differ in: {names}")
    wanted = {tier.file for tier in manifest.tiers} | {name for name in (manifest.replay, manifest.sketch, manifest.card) if name}
    if lost := wanted - {entry.name for entry in manifest.files}:
        raise refuse("malformed", f"the manifest of {bundle.model}@{bundle.version} names files it does not list: {sorted(lost)}")
    return manifest


def _decode_manifest(data: bytes) -> Manifest:
    try:
        json.loads(data, object_pairs_hook=refuse_duplicate_keys)
        return decoder(Manifest).decode(data)
    except (ValueError, RecursionError) as error:
        raise refuse("malformed", f"the signed manifest is not understood: {error}") from error


@dataclass(frozen=True, slots=True)
class Asker:
    """The device that wants a bundle. floors: model -> lowest counter it may stage.

    agent: the name under which software for it is signed; agent_floor: the highest version that it ever kept.
    """

    device_class: str
    machine: str
    floors: dict[str, int]
    agent: str = ""
    agent_floor: str = ""


def check_usable(bundle: SignedBundle, asker: Asker | None = None) -> None:
    """Raises TrustRefused: withdrawn, wrong_device, below_floor. asker None: a laptop, which only carries."""
    if bundle.withdrawn:
        raise refuse("withdrawn", f"{bundle.model}@{bundle.version} was withdrawn by the release team")
    if asker is None:
        return
    if bundle.is_agent:
        _check_agent(bundle, asker)
        return
    custom = bundle.manifest.custom
    if custom.device_classes and asker.device_class not in custom.device_classes:
        raise refuse(
            "wrong_device",
            f"{bundle.model}@{bundle.version} is for {_either(custom.device_classes)}; this device is {asker.device_class!r}",
        )
    if custom.machines and asker.machine not in custom.machines:
        raise refuse(
            "wrong_device",
            f"{bundle.model}@{bundle.version} is for {_either(custom.machines)}; this device is {asker.machine!r}",
        )
    floor = asker.floors.get(bundle.model, 0)
    if bundle.counter < floor:
        raise refuse("below_floor", f"{bundle.model}@{bundle.version} has counter {bundle.counter}; the floor here is {floor}")


def _check_agent(bundle: SignedBundle, asker: Asker) -> None:
    if bundle.model != asker.agent:
        raise refuse("wrong_device", f"{bundle.model} is not for this device, which is {asker.agent or 'of an unknown kind'}")
    try:
        version, floor = agent_version(bundle.version), agent_version(asker.agent_floor)
    except UsageFault as error:
        raise refuse("malformed", error.message) from error
    if version <= floor:
        raise refuse(
            "below_floor",
            f"agent {bundle.version} is not newer than {asker.agent_floor}, which this device has kept",
            next_step="choose a newer agent; an older one comes only by `device enrol --remove`, then `--kit`",
        )


def _either(words: Sequence[str]) -> str:
    return " or ".join(repr(word) for word in words)
