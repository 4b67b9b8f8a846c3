"""`python -m fieldops.agent verify`: one trust question in a process of its own, so that the agent never loads tuf.

One JSON job on stdin, one JSON result on stdout; exit status 0 whether it is trusted or refused. The device decides here by
its own root, state and clock floor, and again over every byte that was uploaded; what the laptop verified counts for nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from fieldops.bundles.approvals import Matter, judge
from fieldops.bundles.compatibility import DeviceFacts, misfit
from fieldops.bundles.trust import (
    POLICY_DOCUMENT,
    Asker,
    BundleRef,
    SignedBundle,
    Target,
    check_digest,
    check_manifest,
    check_sizes,
    check_usable,
    policy_targets_in,
    refuse,
)
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.edges.disk import remove_tree, storage_faults, unlink, write_whole
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.usb import FolderSource, LooseMetadata
from fieldops.errors import FieldopsError, TrustRefused, UsageFault
from fieldops.policy import NO_POLICY, PolicyDocument, decode_policy
from fieldops.ports import BreakGlass, Broken, Source
from fieldops.steps import Approval

if TYPE_CHECKING:
    from fieldops.edges.tuf_refresh import Verified

JOB_LIMIT_BYTES = 1 << 20
LONGEST_S = 600.0  # the agent ends this process much earlier; a lost one must not stay for ever


class Want(Struct, frozen=True, kw_only=True):
    """manifest_sha256: or that of an agent's kit."""

    channel: str
    model: str
    version: str
    manifest_sha256: str


class _Job(Struct, frozen=True, kw_only=True, tag_field="op"):
    """clock_floor, floor_root: the signed time that the registry remembers, and the version of the newest root when it did."""

    trust: str
    now: float = 0.0
    clock_floor: float = 0.0
    floor_root: int = 0


class _OfDevice(_Job, frozen=True, kw_only=True):
    """accept_expired, approvals: as the step carries them. device: this one's id. asker: whose proof came with the step."""

    device_class: str = ""
    machine: str = ""
    floors: dict[str, int] = {}
    agent: str = ""
    agent_floor: str = ""
    accept_expired: bool = False
    approvals: list[Approval] = []
    device: str = ""
    asker: str = ""


class PinJob(_Job, frozen=True, kw_only=True, tag="pin"):
    """The first root, as Enrol carries it."""

    root: str


class MetadataJob(_OfDevice, frozen=True, kw_only=True, tag="metadata"):
    """incoming: a folder with the uploaded files by their names on a stick. Kept in trust/ only when all of it verifies."""

    incoming: str
    want: Want | None = None


class BundleJob(_OfDevice, frozen=True, kw_only=True, tag="bundle"):
    """blobs: `models/sha256`. Every byte is hashed again."""

    blobs: str
    want: Want


class StandingJob(_OfDevice, frozen=True, kw_only=True, tag="standing"):
    """May a version that came some time ago still go into service, by the metadata of today. whatever_age: see agent/standing.py."""

    want: Want
    whatever_age: bool = False


class AgentJob(_OfDevice, frozen=True, kw_only=True, tag="agent"):
    """An agent's kit, hashed again, and unpacked into a folder that is there and empty."""

    blobs: str
    want: Want
    into: str


class PolicyJob(_Job, frozen=True, kw_only=True, tag="policy"):
    """Put the policy's verified targets under trust/targets/, and remove there what is signed no more."""

    blobs: str


Job = PinJob | MetadataJob | BundleJob | StandingJob | AgentJob | PolicyJob
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _JobClock:
    """The agent's idea of now; implements ports.Clock."""

    at: float

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


def run(_: list[str]) -> int:
    """Answers one job. Whatever a library prints goes to stderr, so that stdout holds one document."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with out:
        out.write(msgspec.json.encode(answer(sys.stdin.buffer.read(JOB_LIMIT_BYTES + 1))) + b"\n")
    return 0


def answer(text: bytes) -> Result:
    """The result document of one job, `ok` or refused."""
    try:
        return {"ok": True, **_do(_decode(text))}
    except TrustRefused as error:
        return _failed(error.reason, error)
    except FieldopsError as error:
        return _failed(f"device_cannot:{error.reason}", error)


def _failed(reason: str, error: FieldopsError) -> Result:
    return {"ok": False, "reason": reason, "message": error.message, "next": error.next_step}


def _decode(text: bytes) -> Job:
    if len(text) > JOB_LIMIT_BYTES:
        raise UsageFault(f"a job of more than {JOB_LIMIT_BYTES} bytes", reason="bad_job", next_step="report this")
    try:
        return decoder(Job).decode(text)  # type: ignore[no-any-return]  # msgspec types unions as Any
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageFault(f"no job: {error}", reason="bad_job", next_step="report this") from error


def _do(job: Job) -> Result:
    clock = _JobClock(job.now or time.time())
    deadline = Deadline.after(LONGEST_S, clock.monotonic)
    match job:
        case PinJob():
            return _pin(_store(job, clock), job)
        case MetadataJob():
            return _metadata(_store(job, clock), job, deadline)
        case BundleJob():
            return _bundle(_store(job, clock, job.blobs), job, deadline)
        case StandingJob():
            return _standing(_store(job, clock), job, deadline)
        case AgentJob():
            return _agent(_store(job, clock, job.blobs), job, deadline)
        case PolicyJob():
            return _policy(_store(job, clock, job.blobs), job, deadline)


def _store(job: Job, clock: _JobClock, blobs: str | None = None) -> TrustStore:
    folder = Path(job.trust)
    cache = Path(blobs).parent if blobs else folder / "cache"
    store = TrustStore(folder, cache, clock, floor=(job.clock_floor, job.floor_root))
    first = folder / "root.json"  # where enrolment puts the root; it is checked before it is believed
    if not store.facts().root_version and first.is_file():
        with storage_faults(first):
            store.pin(first.read_bytes(), None)
    return store


def _pin(store: TrustStore, job: PinJob) -> Result:
    sha256 = store.pin(job.root.encode("utf-8"), None)
    return {"root_version": store.facts().root_version, "root_sha256": sha256}


def _metadata(store: TrustStore, job: MetadataJob, deadline: Deadline) -> Result:
    incoming = Path(job.incoming)
    source: Source = FolderSource(incoming) if (incoming / "metadata").is_dir() else LooseMetadata(incoming)
    verified, outdated, broken = _advance(store, source, job, deadline)
    targets = policy_targets_in(verified.targets)
    check_sizes(targets)
    if job.want is not None:
        bundle = store.signed_bundle(verified, _ref(job.want), job.want.channel, source, outdated=outdated)
        _judge(bundle, job.want, job)
        check_sizes(bundle.files)
        targets += bundle.files
    facts = store.facts()
    return {
        "root_version": facts.root_version,
        "timestamp_version": facts.timestamp_version,
        "clock_floor": facts.clock_floor,
        "targets": _listed(targets),
    } | _told(broken, ())


def _advance(
    store: TrustStore, source: Source | None, job: MetadataJob | BundleJob, deadline: Deadline
) -> tuple[Verified, bool, Broken | None]:
    if not job.accept_expired or job.want is None:
        return *store.advance(source, deadline), None
    glass = BreakGlass(tuple(job.approvals), (job.device,), job.asker, _own_policy(job))
    return store.advance_stale(source, _ref(job.want), job.want.channel, glass, deadline)


def _told(broken: Broken | None, below_floor: tuple[str, ...]) -> Result:
    """Who let this device do what its rules refuse; empty when nobody had to."""
    people = dict.fromkeys([*(broken.people if broken else ()), *below_floor])
    return {"expired_s": broken.age_s if broken else None, "approved_by": list(people)}


def _own_policy(job: _Job) -> PolicyDocument:
    """The one that this device goes by, whatever newer one the metadata at hand may name."""
    path = Path(job.trust) / "targets" / POLICY_DOCUMENT
    with storage_faults(path):
        return decode_policy(path.read_bytes()) if path.is_file() else NO_POLICY


def _bundle(store: TrustStore, job: BundleJob, deadline: Deadline) -> Result:
    verified, _, broken = _advance(store, None, job, deadline)
    bundle = store.signed_bundle(verified, _ref(job.want), job.want.channel, None)
    people = _judge(bundle, job.want, job)
    text = store.blobs.read(bundle.manifest)
    manifest = check_manifest(text, bundle)
    for target in bundle.files:
        if not store.blobs.holds(target):
            raise refuse("hash_mismatch", f"{target.name} on this device is not the file that was signed, or is not there")
    error = misfit(manifest, _facts(job, bundle.size_bytes))
    if error is not None:
        raise error
    return {"manifest": text.decode("utf-8"), "targets": _listed(bundle.files), "below_floor": bool(people)} | _told(
        broken, people
    )


def _standing(store: TrustStore, job: StandingJob, deadline: Deadline) -> Result:
    """Its bytes are not read: the worker that loads them checks every digest."""
    bundle = store.standing(_ref(job.want), job.want.channel, deadline, whatever_age=job.whatever_age)
    if bundle.manifest.sha256 != job.want.manifest_sha256:
        raise refuse("mix_and_match", f"{job.want.model}@{job.want.version} is signed with another manifest today")
    # The floor is the agent's to judge: it knows last-good, and who signed for what is below.
    check_usable(bundle, Asker(job.device_class, job.machine, {}))
    return {"targets": _listed(bundle.files)}


def _agent(store: TrustStore, job: AgentJob, deadline: Deadline) -> Result:
    from fieldops.edges.kit import unpack

    verified, _ = store.advance(None, deadline)
    bundle = store.signed_bundle(verified, _ref(job.want), job.want.channel, None)
    _judge(bundle, job.want, job)
    if not store.blobs.holds(bundle.head):
        raise refuse("hash_mismatch", f"{bundle.head.name} on this device is not the file that was signed, or is not there")
    kit = unpack(store.blobs.path(bundle.head.sha256), Path(job.into))
    if (kit.agent, kit.version) != (bundle.model, bundle.version):
        raise refuse("mix_and_match", f"the kit of {bundle.model}@{bundle.version} says {kit.agent}@{kit.version}")
    return {"kit": kit.id}


def _policy(store: TrustStore, job: PolicyJob, deadline: Deadline) -> Result:
    verified, _ = store.advance(None, deadline)
    folder = Path(job.trust) / "targets"
    targets = policy_targets_in(verified.targets)
    # All of them before the first is written, and one at a time in memory: golden sets are large for a small device.
    for target in targets:
        data = _policy_bytes(store, target, folder)
        if target.name == POLICY_DOCUMENT:
            _check_policy(data)
    # The rules last: they name people and golden sets, which are there by then.
    for target in sorted(targets, key=lambda target: (target.name == POLICY_DOCUMENT, target.name)):
        data = _policy_bytes(store, target, folder)
        path = folder / target.name
        if not path.is_file() or path.read_bytes() != data:
            write_whole(path, data)
    _forget(folder, [target.name for target in targets])
    sha256 = next((target.sha256 for target in targets if target.name == POLICY_DOCUMENT), "")
    return {"policy_sha256": sha256, "targets": _listed(targets)}


def _check_policy(data: bytes) -> None:
    try:
        decode_policy(data)
    except UsageFault as error:
        raise refuse("malformed", f"the signed policy: {error.message}") from error


def _policy_bytes(store: TrustStore, target: Target, folder: Path) -> bytes:
    """From the uploaded copy; what stands under trust/targets already and is still signed need not be uploaded again."""
    try:
        return store.blobs.read(target)
    except TrustRefused:
        path = folder / target.name
        if not path.is_file():
            raise
        data = path.read_bytes()
        check_digest(data, target)
        return data


def _forget(folder: Path, keep: Iterable[str]) -> None:
    kept = {folder / name for name in keep}
    with storage_faults(folder):
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    remove_tree(path)
            elif path not in kept:
                unlink(path)


def _judge(bundle: SignedBundle, want: Want, job: MetadataJob | BundleJob | AgentJob) -> tuple[str, ...]:
    """The people whose signed statement lets it be below the floor; none where it is not. Raises TrustRefused."""
    from fieldops.edges.keys import sshsig_verify

    if bundle.head.sha256 != want.manifest_sha256:
        raise refuse("mix_and_match", f"{want.model}@{want.version} is another one here than the laptop verified")
    try:
        check_usable(bundle, Asker(job.device_class, job.machine, job.floors, job.agent, job.agent_floor))
    except TrustRefused as error:
        if error.reason != "below_floor" or not job.approvals:
            raise
        matter = Matter("below_floor", want.model, want.version, want.manifest_sha256, (job.device,), job.asker)
        return judge(job.approvals, matter, _own_policy(job), max(job.now, job.clock_floor), sshsig_verify)
    return ()


def _ref(want: Want) -> BundleRef:
    return BundleRef(want.model, want.version)


def _facts(job: BundleJob, already_here: int) -> DeviceFacts:
    """What a short-lived child can know; the runtime's own limits show when the worker loads the model."""
    ram = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        ram = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with storage_faults(Path(job.blobs)):
        free = shutil.disk_usage(job.blobs).free + already_here
    return DeviceFacts(device_class=job.device_class, machine=job.machine, ram_bytes=ram, disk_free_bytes=free)


def _listed(targets: Iterable[Target]) -> list[dict[str, object]]:
    return [{"name": target.name, "sha256": target.sha256, "size": target.size} for target in targets]
