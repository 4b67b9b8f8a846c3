"""What the roles list: bundles in channels, files of the policy. Payloads are stored before their names are listed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from tuf.api.metadata import TargetFile, Targets

from fieldops.bundles.completeness import check_measured
from fieldops.bundles.kit import AGENT_PREFIX, KIT_TARGET, Kit, agent_version, is_agent
from fieldops.bundles.manifest import MANIFEST_FILE, FileEntry, Manifest
from fieldops.bundles.trust import POLICY_CHANNEL, BundleRef, Custom, bundle_ref, refuse, target_name
from fieldops.edges.disk import storage_faults, write_whole
from fieldops.edges.kit import pack
from fieldops.edges.tuf_folder import RepositoryFolder
from fieldops.edges.tuf_payloads import copy_exactly
from fieldops.edges.tuf_roles import CHANNELS
from fieldops.errors import UsageFault


def add_bundle(folder: RepositoryFolder, channel: str, source: Path, manifest: Manifest, made: Mapping[str, bytes]) -> Manifest:
    """List a version in the channel's pending metadata; the manifest as it will be signed. The folder is held.

    Whatever else lies in source stays there. made: files of the bundle that are not taken from there.
    """
    _check_channel(channel)
    if is_agent(manifest.model):
        raise UsageFault(
            f"no model may be called {manifest.model}: {AGENT_PREFIX}* are agents", reason="bad_manifest", next_step="rename it"
        )
    check_measured(manifest)
    base = f"{channel}/{manifest.model}/{manifest.version}"
    entries = [_entry(source / name, made.get(name)) for name in payload_names(manifest)]
    if manifest.files and _facts(manifest.files) != _facts(entries):
        raise UsageFault(
            f"the manifest of {manifest.model}@{manifest.version} lists other files than {source} holds",
            reason="bad_manifest",
            next_step="leave `files` empty to have it filled",
        )
    manifest = msgspec.structs.replace(manifest, files=entries)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    target_name(f"{base}/{MANIFEST_FILE}")
    _check_new(folder, channel, manifest, hashlib.sha256(text).hexdigest())
    with folder.edit(channel) as signed:
        for name in [name for name in signed.targets if name.startswith(f"{base}/")]:
            del signed.targets[name]  # drafted before, never published
        for entry in entries:
            name = f"{base}/{entry.name}"
            data = made.get(entry.name)
            signed.targets[name] = (
                store_bytes(folder, name, data) if data is not None else _store_file(folder, name, source / entry.name, entry)
            )
        custom = Custom(counter=manifest.counter, device_classes=manifest.needs.device_classes, machines=manifest.needs.machines)
        signed.targets[f"{base}/{MANIFEST_FILE}"] = store_bytes(folder, f"{base}/{MANIFEST_FILE}", text, custom)
    return manifest


def add_agent(folder: RepositoryFolder, channel: str, source: Path, kit: Kit) -> str:
    """List an agent's kit in the channel's pending metadata, as one archive; its target name. The folder is held."""
    _check_channel(channel)
    agent_version(kit.version)
    name = str(target_name(f"{channel}/{kit.agent}/{kit.version}/{KIT_TARGET}"))
    with TemporaryDirectory(prefix="kit-", dir=folder.repo) as place:
        archive = Path(place) / KIT_TARGET
        pack(source, kit, archive)
        entry = _entry(archive, None)
        _check_new_agent(folder, channel, kit, entry.sha256)
        target = _store_file(folder, name, archive, entry)
    with folder.edit(channel) as signed:
        signed.targets[name] = target
        custom = Custom(machines=[kit.machine])
        signed.targets[name].unrecognized_fields["custom"] = msgspec.to_builtins(custom)
    return name


def _check_new_agent(folder: RepositoryFolder, channel: str, kit: Kit, sha256: str) -> None:
    """A version is one and the same kit in every channel, also before it is published. Raises UsageFault (exists)."""
    for each in CHANNELS:
        name = f"{each}/{kit.agent}/{kit.version}/{KIT_TARGET}"
        pending = folder.current(each).signed.targets.get(name) if each != channel else None
        if {_listed_as(folder, each, name), pending and pending.hashes["sha256"]} - {None, sha256}:
            raise UsageFault(
                f"agent {kit.version} for {kit.platform}, Python {kit.python} is in {each} as another kit",
                reason="exists",
                next_step="a version never changes: raise the version, or take that one over with `fieldops release add`",
            )


def _head_file(model: str) -> str:
    return KIT_TARGET if is_agent(model) else MANIFEST_FILE


def _check_new(folder: RepositoryFolder, channel: str, manifest: Manifest, sha256: str) -> None:
    """Raises UsageFault (exists, counter): a published version never changes, and counters only grow."""
    name = f"{channel}/{manifest.model}/{manifest.version}/{MANIFEST_FILE}"
    if _listed_as(folder, channel, name) not in {None, sha256}:
        raise UsageFault(
            f"{name.rpartition('/')[0]} was released before with other contents",
            reason="exists",
            next_step="a version never changes: raise the version and the counter",
        )
    for each in CHANNELS:
        for other, info in folder.current(each).signed.targets.items():
            parts = target_name(other)
            if parts.file != MANIFEST_FILE or parts.model != manifest.model:
                continue
            if parts.version == manifest.version:
                if each != channel and info.hashes["sha256"] != sha256:
                    raise UsageFault(
                        f"{manifest.model}@{manifest.version} is in {each} with another manifest",
                        reason="exists",
                        next_step=f"take that one over: `fieldops release add {parts.model}@{parts.version} --channel {channel}`",
                    )
            elif info.unrecognized_fields.get("custom", {}).get("counter") == manifest.counter:
                raise UsageFault(
                    f"counter {manifest.counter} is {parts.model}@{parts.version}'s",
                    reason="counter",
                    next_step="raise `counter`: devices tell older from newer by it",
                )


def promote(folder: RepositoryFolder, ref: str, channel: str) -> str:
    """List a version exactly as another channel has it; that channel. The folder is held."""
    _check_channel(channel)
    wanted = bundle_ref(ref)
    for other in (each for each in CHANNELS if each != channel):
        base, head = f"{other}/{wanted.model}/{wanted.version}/", _head_file(wanted.model)
        listed = {name: info for name, info in folder.current(other).signed.targets.items() if name.startswith(base)}
        manifest = listed.get(f"{base}{head}")
        if manifest is None or manifest.unrecognized_fields.get("custom", {}).get("withdrawn"):
            continue
        new = {name: f"{channel}/{name.partition('/')[2]}" for name in listed}
        if _listed_as(folder, channel, new[f"{base}{head}"]) not in {None, manifest.hashes["sha256"]}:
            raise UsageFault(f"{ref} was released before with other contents", reason="exists", next_step="raise the version")
        for name, info in listed.items():
            sha256 = info.hashes["sha256"]
            source = folder.repo / target_name(name).stored_as(sha256)
            _store_file(folder, new[name], source, FileEntry(name=source.name, sha256=sha256, size=info.length))
        with folder.edit(channel) as signed:
            for name, info in listed.items():
                signed.targets[new[name]] = TargetFile(info.length, info.hashes, new[name], info.unrecognized_fields)
        return other
    raise UsageFault(
        f"no other channel has {ref} to take over", reason="unknown_target", next_step="add it from its folder instead"
    )


def _listed_as(folder: RepositoryFolder, channel: str, name: str) -> str | None:
    """The digest under which a name is published; None: it is not."""
    if not folder.newest(channel):
        return None
    info = folder.published_signed(channel, Targets).targets.get(name)
    return info.hashes["sha256"] if info is not None else None


def add_policy_target(folder: RepositoryFolder, name: str, data: bytes) -> None:
    """name: `policy/rules/current/policy.json` and the like; an older file of that name is replaced. The folder is held."""
    if target_name(name).channel != POLICY_CHANNEL:
        raise refuse("bad_name", f"{name} is not below policy/")
    with folder.edit(POLICY_CHANNEL) as signed:
        signed.targets[name] = store_bytes(folder, name, data)


def policy_target(folder: RepositoryFolder, name: str) -> bytes:
    """As pending or else as published. Raises UsageFault when there is none."""
    info = folder.current(POLICY_CHANNEL).signed.targets.get(name)
    if info is None:
        raise UsageFault(f"the policy has no {name}", reason="unknown_target", next_step="add it to the policy first")
    path = folder.repo / target_name(name).stored_as(info.hashes["sha256"])
    with storage_faults(path):
        return path.read_bytes()


def withdraw(folder: RepositoryFolder, ref: str, channel: str) -> None:
    """Keep the version listed and say that nobody may take it: a device then knows why. The folder is held."""
    _check_channel(channel)
    wanted: BundleRef = bundle_ref(ref)
    name = f"{channel}/{wanted.model}/{wanted.version}/{_head_file(wanted.model)}"
    if name not in folder.current(channel).signed.targets:
        raise UsageFault(f"{ref} is not in {channel}", reason="unknown_target", next_step="list the repository's bundles")
    with folder.edit(channel) as signed:
        fields = signed.targets[name].unrecognized_fields
        fields["custom"] = {**fields.get("custom", {}), "withdrawn": True}


def payload_names(manifest: Manifest) -> list[str]:
    """The files a bundle consists of, beside its manifest; each once, sorted."""
    more = (manifest.replay, manifest.sketch, manifest.card)
    return sorted({tier.file for tier in manifest.tiers} | {name for name in more if name} | {e.name for e in manifest.files})


def _check_channel(channel: str) -> None:
    if channel not in CHANNELS:
        raise UsageFault(f"there is no channel {channel!r}", reason="unknown_role", next_step=f"one of: {', '.join(CHANNELS)}")


def _facts(entries: list[FileEntry]) -> set[tuple[str, str, int]]:
    return {(entry.name, entry.sha256, entry.size) for entry in entries}


def _entry(path: Path, data: bytes | None) -> FileEntry:
    if data is not None:
        return FileEntry(name=path.name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileEntry(name=path.name, sha256=digest, size=os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise UsageFault(
            f"{path}: {error.strerror}", reason="no_file", next_step="put every file the manifest names into the folder"
        ) from error


# --- payloads in the repository ----------------------------------------------------------------------------------------


def store_bytes(folder: RepositoryFolder, name: str, data: bytes, custom: Custom | None = None) -> TargetFile:
    parts = target_name(name)
    info = TargetFile.from_data(name, data, ["sha256"])
    if custom is not None:
        info.unrecognized_fields["custom"] = msgspec.to_builtins(custom)
    path = folder.repo / parts.stored_as(info.hashes["sha256"])
    if not path.exists():
        write_whole(path, data, 0o644)
    return info


def _store_file(folder: RepositoryFolder, name: str, source: Path, entry: FileEntry) -> TargetFile:
    path = folder.repo / target_name(name).stored_as(entry.sha256)
    copy_exactly(source, path, entry.sha256, next_step="run it again when the file is at rest")
    return TargetFile(entry.size, {"sha256": entry.sha256}, name)
