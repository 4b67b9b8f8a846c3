"""The release side: a TUF repository in a folder, its keys, and sticks made from it.

    repo/metadata/   published, as on a stick        repo/targets/   payloads under `<sha256>.<file>`
    repo/drafts/     roles being changed and signed  keys/<role>-<n>.pem   PKCS#8, 0600, no key serves two roles

A role is edited as a draft, signed by its signers (together or one after the other), and published when every threshold is
met; snapshot and timestamp follow. The timestamp is written last, so a reader finds the old release or the new one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError, StorageError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from fieldops.bundles.manifest import MANIFEST_FILE, FileEntry, Manifest
from fieldops.bundles.trust import POLICY_CHANNEL, BundleRef, Custom, bundle_ref, refuse, target_name
from fieldops.decoding import decoder
from fieldops.edges.disk import storage_faults, sync_folder, write_whole
from fieldops.edges.usb import REPOSITORY_FOLDER
from fieldops.errors import StorageFault, UsageFault
from fieldops.ports import Clock

S = TypeVar("S", bound=Signed)

DAY_S = 86_400
LONGEST_STICK_DAYS = 90
CHANNELS = ("stable", "canary")


@dataclass(frozen=True, slots=True)
class RolePlan:
    """keys: how many are made at init; threshold of them must sign; days: how long a signing is valid."""

    keys: int
    threshold: int
    days: int


PLAN: Mapping[str, RolePlan] = {
    "root": RolePlan(3, 2, 365),
    "targets": RolePlan(1, 1, 365),
    "stable": RolePlan(2, 2, 180),  # the model's owner and a release engineer
    "canary": RolePlan(1, 1, 180),
    POLICY_CHANNEL: RolePlan(2, 2, 180),
    "snapshot": RolePlan(1, 1, 120),  # longer than any stick, which it would cut short
    "timestamp": RolePlan(1, 1, 7),
}
_ONLINE = ("snapshot", "timestamp")


class ReleaseRepo:
    """A repository that exists; `init` makes one. Only one person at a time works in a repository folder."""

    def __init__(self, repo: Path, keys: Path, clock: Clock) -> None:
        self.repo = repo
        self.keys = keys
        self._clock = clock
        if not (repo / "metadata").is_dir():
            raise UsageFault(
                f"{repo} is no release repository",
                reason="no_repository",
                next_step="make one with `fieldops release init --repo DIR --keys DIR`",
            )

    @classmethod
    def init(cls, repo: Path, keys: Path, clock: Clock, *, days: Mapping[str, int] | None = None) -> ReleaseRepo:
        """New keys and an empty, published repository. days: role -> validity, where another than PLAN's is wanted."""
        if (repo / "metadata").is_dir() and any((repo / "metadata").iterdir()):
            raise UsageFault(f"{repo} is a repository already", reason="exists", next_step="use it, or name an empty folder")
        made = {
            role: [_make_key(keys / f"{role}-{number + 1}.pem") for number in range(plan.keys)] for role, plan in PLAN.items()
        }
        with storage_faults(repo):
            for folder in (repo / "metadata", repo / "targets", repo / "drafts"):
                folder.mkdir(parents=True, exist_ok=True)
        release = cls(repo, keys, clock)
        validity = {role: (days or {}).get(role, plan.days) for role, plan in PLAN.items()}
        write_whole(repo / "validity.json", msgspec.json.encode(validity), 0o644)
        root = Root(version=1, consistent_snapshot=True, expires=release._until("root"))
        for role in ("root", "targets", "snapshot", "timestamp"):
            for signer in made[role]:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = PLAN[role].threshold
        delegations = Delegations(keys={}, roles={})
        top = Targets(version=1, expires=release._until("targets"), delegations=delegations)
        for role in (POLICY_CHANNEL, *CHANNELS):
            plan = PLAN[role]
            assert delegations.roles is not None
            delegations.roles[role] = DelegatedRole(role, [], plan.threshold, terminating=True, paths=[f"{role}/*/*/*"])
            for signer in made[role]:
                top.add_key(signer.public_key, role)
            release._draft(role, Metadata(Targets(version=1, expires=release._until(role))))
        release._draft("root", Metadata(root))
        release._draft("targets", Metadata(top))
        for role in ("root", "targets", POLICY_CHANNEL, *CHANNELS):
            release.sign(role)
        release.publish()
        return release

    # --- changing -------------------------------------------------------------------------------------------------

    def add_bundle(self, channel: str, folder: Path, manifest: Manifest) -> Manifest:
        """Copy the files a manifest names and list them in the channel's draft. Returns the manifest as it will be signed.

        Whatever else lies in the folder stays there. The manifest's `files` are filled when empty, else they must agree.
        """
        entries = [_entry(folder / name) for name in payload_names(manifest)]
        if manifest.files and {(e.name, e.sha256, e.size) for e in manifest.files} != {
            (e.name, e.sha256, e.size) for e in entries
        }:
            raise UsageFault(
                f"the manifest of {manifest.model}@{manifest.version} lists other files than {folder} holds",
                reason="bad_manifest",
                next_step="leave `files` empty to have it filled",
            )
        manifest = msgspec.structs.replace(manifest, files=entries)
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        base = f"{channel}/{manifest.model}/{manifest.version}"
        with self._edit(channel) as signed:
            listed = signed.targets.get(f"{base}/{MANIFEST_FILE}")
            if listed is not None and listed.hashes["sha256"] != hashlib.sha256(text).hexdigest():
                raise UsageFault(
                    f"{base} was released before with other contents",
                    reason="exists",
                    next_step="a version never changes: raise the version and the counter",
                )
            for entry in entries:
                signed.targets[f"{base}/{entry.name}"] = self._store(f"{base}/{entry.name}", (folder / entry.name).read_bytes())
            custom = Custom(
                counter=manifest.counter, device_classes=manifest.needs.device_classes, machines=manifest.needs.machines
            )
            signed.targets[f"{base}/{MANIFEST_FILE}"] = self._store(f"{base}/{MANIFEST_FILE}", text, custom)
        return manifest

    def add_policy_target(self, name: str, data: bytes) -> None:
        """name: `policy/rules/current/policy.json` and the like. An older file of that name is replaced."""
        if target_name(name).channel != POLICY_CHANNEL:
            raise refuse("bad_name", f"{name} is not below policy/")
        with self._edit(POLICY_CHANNEL) as signed:
            signed.targets[name] = self._store(name, data)

    def policy_target(self, name: str) -> bytes:
        """A target of the policy, as drafted or else as published. Raises UsageFault when there is none."""
        path = self.repo / "drafts" / f"{POLICY_CHANNEL}.json"
        signed = (_load(path) if path.exists() else self._latest(POLICY_CHANNEL)).signed
        info = signed.targets.get(name)
        if info is None:
            raise UsageFault(f"the policy has no {name}", reason="unknown_target", next_step="add it to the policy first")
        with storage_faults(self.repo):
            return (self.repo / target_name(name).stored_as(info.hashes["sha256"])).read_bytes()

    def withdraw(self, ref: str, channel: str) -> None:
        """Keep the version listed and say that nobody may take it: a device then knows why."""
        wanted: BundleRef = bundle_ref(ref)
        name = f"{channel}/{wanted.model}/{wanted.version}/{MANIFEST_FILE}"
        with self._edit(channel) as signed:
            if name not in signed.targets:
                raise UsageFault(f"{ref} is not in {channel}", reason="unknown_target", next_step="list the repository's bundles")
            fields = signed.targets[name].unrecognized_fields
            fields["custom"] = {**fields.get("custom", {}), "withdrawn": True}

    def sign(self, role: str, signers: Sequence[str] | None = None) -> int:
        """Add signatures to the role's draft; without one, a new version of what is published. Returns the signatures there.

        signers: key names such as `stable-2`; None: every key of the role that is at hand.
        """
        if role in _ONLINE:
            raise UsageFault(f"{role} is signed by publishing", next_step="run `fieldops release publish`")
        path = self.repo / "drafts" / f"{role}.json"
        if not path.exists():
            with self._edit(role):
                pass
        metadata = _load(path)
        for signer in self._signers(role, signers):
            metadata.sign(signer, append=True)
        self._draft(role, metadata)
        return len(metadata.signatures)

    def publish(self) -> int:
        """Everything signed since the last time becomes the release; returns the timestamp's version.

        Raises UsageFault (reason threshold) when a draft lacks signatures; nothing is published then.
        """
        drafts = {path.stem: _load(path) for path in sorted((self.repo / "drafts").glob("*.json"))}
        self._check_thresholds(drafts)
        for role, metadata in drafts.items():
            write_whole(self._metadata / f"{metadata.signed.version}.{role}.json", metadata.to_bytes(), 0o644)
        version = self._publish_online()
        for role in drafts:
            (self.repo / "drafts" / f"{role}.json").unlink()
        sync_folder(self.repo / "drafts")
        return version

    def resign_expired(self, now: float | None = None) -> list[str]:
        """Sign again what has expired, with every key at hand, and publish. Returns the roles; empty: nothing to do."""
        at = self._at(now)
        lapsed = [role for role in PLAN if self._latest(role).signed.is_expired(at)]
        for role in lapsed:
            if role not in _ONLINE:
                self.sign(role)
        if lapsed:
            self.publish()
        return lapsed

    # --- handing out ----------------------------------------------------------------------------------------------

    def root(self, version: int | None = None) -> bytes:
        """The exact bytes of a root; None: the newest."""
        number = version if version is not None else self._newest("root")
        with storage_faults(self._metadata):
            return (self._metadata / f"{number}.root.json").read_bytes()

    def export_stick(
        self, dest: Path, expires_in_days: float = 30, *, refs: Sequence[str] | None = None, now: float | None = None
    ) -> Path:
        """`dest/FIELDOPS` with all metadata, the policy's files and the bundles in refs (None: all). Returns that folder.

        The timestamp is signed again to last as long as said, capped by the other roles. now: the moment to sign at, where
        it is not this one.
        """
        if not 0 < expires_in_days <= LONGEST_STICK_DAYS:
            raise UsageFault(f"{expires_in_days} days; a stick lasts at most {LONGEST_STICK_DAYS}", next_step="choose fewer days")
        stick = dest / REPOSITORY_FOLDER
        wanted = {bundle_ref(ref) for ref in refs} if refs is not None else None
        names: list[str] = []
        for role in (POLICY_CHANNEL, *CHANNELS):
            targets = self._signed(role, Targets).targets
            for name, info in targets.items():
                parts = target_name(name)
                if role == POLICY_CHANNEL or wanted is None or BundleRef(parts.model, parts.version) in wanted:
                    names.append(parts.stored_as(info.hashes["sha256"]))
        for name in names:
            source = self.repo / name
            if not (stick / name).is_file() or _entry(stick / name).sha256 != _entry(source).sha256:
                write_whole(stick / name, source.read_bytes(), 0o644)
        current = self._current_files()
        for name, data in current.items():
            write_whole(stick / "metadata" / name, data, 0o644)
        timestamp = self._stick_timestamp(expires_in_days, self._at(now))
        write_whole(stick / "metadata" / "timestamp.json", timestamp, 0o644)
        with storage_faults(stick):
            for path in (stick / "metadata").iterdir():
                if path.is_file() and path.name not in current and path.name != "timestamp.json":
                    path.unlink()
        return stick

    def _stick_timestamp(self, days: float, at: dt.datetime) -> bytes:
        timestamp = self._latest("timestamp")
        signed = timestamp.signed
        others = min(self._latest(role).signed.expires for role in PLAN if role != "timestamp")
        signed.expires = min(at + dt.timedelta(days=days), others).replace(microsecond=0)
        signed.version = self._next_timestamp(at)
        timestamp.signatures.clear()
        for signer in self._signers("timestamp", None):
            timestamp.sign(signer, append=True)
        return timestamp.to_bytes()

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _metadata(self) -> Path:
        return self.repo / "metadata"

    def _edit(self, role: str) -> _Edit:
        return _Edit(self, role)

    def _draft(self, role: str, metadata: Metadata[Any]) -> None:
        write_whole(self.repo / "drafts" / f"{role}.json", metadata.to_bytes(), 0o644)

    def _newest(self, role: str) -> int:
        found = (re.fullmatch(rf"(\d+)\.{role}\.json", path.name) for path in self._metadata.iterdir())
        versions = [int(match[1]) for match in found if match]
        if not versions:
            raise UsageFault(
                f"the repository has no role {role!r}", reason="unknown_role", next_step=f"one of: {', '.join(PLAN)}"
            )
        return max(versions)

    def _latest(self, role: str) -> Metadata[Any]:
        name = "timestamp.json" if role == "timestamp" else f"{self._newest(role)}.{role}.json"
        return _load(self._metadata / name)

    def _signed(self, role: str, kind: type[S]) -> S:
        signed = self._latest(role).signed
        assert isinstance(signed, kind)
        return signed

    def _at(self, now: float | None = None) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.now() if now is None else now, tz=dt.UTC).replace(microsecond=0)

    def _until(self, role: str) -> dt.datetime:
        path = self.repo / "validity.json"
        days = decoder(dict[str, int]).decode(path.read_bytes()) if path.exists() else {}
        return self._at() + dt.timedelta(days=days.get(role, PLAN[role].days))

    def _signers(self, role: str, names: Sequence[str] | None) -> list[CryptoSigner]:
        paths = sorted(self.keys.glob(f"{role}-*.pem")) if names is None else [self.keys / f"{name}.pem" for name in names]
        if not paths:
            raise UsageFault(
                f"no key of {role} in {self.keys}", reason="no_key", next_step="give the folder with your release key"
            )
        return [_load_key(path) for path in paths]

    def _store(self, name: str, data: bytes, custom: Custom | None = None) -> TargetFile:
        parts = target_name(name)
        info = TargetFile.from_data(name, data, ["sha256"])
        if custom is not None:
            info.unrecognized_fields["custom"] = msgspec.to_builtins(custom)
        path = self.repo / parts.stored_as(info.hashes["sha256"])
        if not path.exists():
            write_whole(path, data, 0o644)
        return info

    def _check_thresholds(self, drafts: Mapping[str, Metadata[Any]]) -> None:
        root = (drafts.get("root") or self._latest("root")).signed
        top = (drafts.get("targets") or self._latest("targets")).signed
        assert isinstance(root, Root)
        assert isinstance(top, Targets)
        for role, metadata in drafts.items():
            delegators: list[Root | Targets] = [root if role in {"root", "targets"} else top]
            if role == "root" and metadata.signed.version > 1:  # the former root vouches for the new one
                delegators.append(self._signed("root", Root))
            for delegator in delegators:
                try:
                    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
                except RepositoryError as error:
                    raise UsageFault(
                        f"{role} is not ready: {error}",
                        reason="threshold",
                        next_step=f"let a further signer run `fieldops release sign {role}`",
                    ) from error

    def _publish_online(self) -> int:
        meta: dict[str, MetaFile] = {}
        for role in ("targets", POLICY_CHANNEL, *CHANNELS):
            number = self._newest(role)
            meta[f"{role}.json"] = MetaFile.from_data(number, (self._metadata / f"{number}.{role}.json").read_bytes(), ["sha256"])
        try:
            number = self._newest("snapshot") + 1
        except UsageFault:
            number = 1
        snapshot = self._online("snapshot", Snapshot(version=number, expires=self._until("snapshot"), meta=meta))
        write_whole(self._metadata / f"{number}.snapshot.json", snapshot, 0o644)
        timestamp = Timestamp(
            version=self._next_timestamp(self._at()),
            expires=self._until("timestamp"),
            snapshot_meta=MetaFile.from_data(number, snapshot, ["sha256"]),
        )
        write_whole(self._metadata / "timestamp.json", self._online("timestamp", timestamp), 0o644)
        return timestamp.version

    def _online(self, role: str, signed: Signed) -> bytes:
        metadata = Metadata[Any](signed)
        for signer in self._signers(role, None):
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _next_timestamp(self, at: dt.datetime) -> int:
        """Higher than any signed before, on sticks too, and at least the UTC seconds: FORMATS §6."""
        path = self.repo / "timestamp.last"
        last = int(path.read_text("ascii")) if path.exists() else 0
        version = max(last + 1, int(at.timestamp()))
        write_whole(path, str(version).encode("ascii"), 0o644)
        return version

    def _current_files(self) -> dict[str, bytes]:
        """Every root, and the newest of the others, by their names on a stick; without the timestamp."""
        names = [f"{version}.root.json" for version in range(1, self._newest("root") + 1)]
        names += [f"{self._newest(role)}.{role}.json" for role in ("snapshot", "targets", POLICY_CHANNEL, *CHANNELS)]
        return {name: (self._metadata / name).read_bytes() for name in names if (self._metadata / name).exists()}


@dataclass(slots=True)
class _Edit:
    """The role's draft while it is changed: one version above what is published, its signatures dropped."""

    release: ReleaseRepo
    role: str
    _open: Metadata[Any] | None = None

    def __enter__(self) -> Any:
        """The signed part: Targets, or Root when a root is signed again."""
        path = self.release.repo / "drafts" / f"{self.role}.json"
        metadata = _load(path) if path.exists() else self.release._latest(self.role)  # noqa: SLF001
        if not path.exists():
            metadata.signed.version += 1
        metadata.signed.expires = self.release._until(self.role)  # noqa: SLF001
        metadata.signatures.clear()
        self._open = metadata
        return metadata.signed

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._open is not None:
            self.release._draft(self.role, self._open)  # noqa: SLF001


def _load(path: Path) -> Metadata[Any]:
    try:
        return Metadata[Any].from_file(str(path))
    except (RepositoryError, StorageError) as error:
        raise StorageFault(f"{path}: {error}", reason="corrupt", next_step="restore it from the repository's backup") from error


def _make_key(path: Path) -> CryptoSigner:
    with storage_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    return CryptoSigner(private)


def _load_key(path: Path) -> CryptoSigner:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise UsageFault(f"there is no key {path}", reason="no_key", next_step="give the folder with your release key") from error
    except (ValueError, TypeError) as error:
        raise UsageFault(
            f"{path} is no unencrypted PKCS#8 key: {error}", reason="bad_key", next_step="give another key"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageFault(f"{path} is no Ed25519 key", reason="bad_key", next_step="make one with `fieldops release keygen`")
    return CryptoSigner(private)


def payload_names(manifest: Manifest) -> list[str]:
    """The files a bundle consists of, beside its manifest; each once, sorted."""
    more = (manifest.replay, manifest.sketch, manifest.card)
    return sorted({tier.file for tier in manifest.tiers} | {name for name in more if name} | {e.name for e in manifest.files})


def _entry(path: Path) -> FileEntry:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UsageFault(
            f"{path}: {error.strerror or error}", reason="no_file", next_step="put the file there, or correct its name"
        ) from error
    return FileEntry(name=path.name, sha256=digest, size=size)
