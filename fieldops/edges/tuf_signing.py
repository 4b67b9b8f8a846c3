"""Signatures on what is pending, made here or brought from other machines.

What travels is the pending role's own file, ordinary TUF metadata with the signatures it has so far. A signer needs that
file and a key, nothing else; what comes back counts only over exactly the bytes that are pending in the repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets

from fieldops.bundles.manifest import MANIFEST_FILE
from fieldops.bundles.trust import target_name
from fieldops.edges.disk import write_whole
from fieldops.edges.tuf_folder import RepositoryFolder, load
from fieldops.edges.tuf_keys import KeyFolder, name_of
from fieldops.edges.tuf_publish import allowed, signers_at_hand
from fieldops.edges.tuf_roles import DELEGATED, ONLINE, keys_of
from fieldops.errors import FieldopsError, UsageFault


def sign(folder: RepositoryFolder, keys: KeyFolder, role: str, names: Sequence[str] | None) -> Metadata[Any]:
    """Sign what is pending; a new version of what is published when nothing is. The folder is held.

    names: keys here, or paths; None: every key of the role at hand.
    """
    if role in ONLINE:
        raise UsageFault(f"{role} is signed by publishing", next_step="run `fieldops release publish`")
    if folder.pending(role) is None:
        with folder.edit(role):
            pass
    metadata = folder.current(role)
    counting = allowed(folder, role)
    signers = [keys.signer(name) for name in names] if names is not None else signers_at_hand(keys, role, set(counting))
    if not signers:
        raise UsageFault(f"no key of {role} in {keys.folder}", reason="no_key", next_step="give the folder with your release key")
    for signer in signers:
        _check_counts(role, signer.public_key, counting)
        _add(metadata, signer)
    folder.put_pending(role, metadata)
    return metadata


def sign_file(keys: KeyFolder, role: str, names: Sequence[str], file: Path) -> Metadata[Any]:
    """Add signatures to a pending role that was carried here. Without the repository only its form is checked.

    No names: it is only looked at.
    """
    metadata = load(file)
    _check_is(metadata, role, file)
    for name in names:
        _add(metadata, keys.signer(name))
    if not names:
        return metadata
    write_whole(file, metadata.to_bytes(), 0o644)
    return metadata


def join(folder: RepositoryFolder, role: str, file: Path) -> Metadata[Any]:
    """Take over the signatures of a carried file. The folder is held. Raises UsageFault (other_contents, no_signature)."""
    pending = folder.pending(role)
    if pending is None:
        raise UsageFault(f"nothing of {role} is pending", reason="not_pending", next_step="it may be published already")
    carried = load(file)
    if carried.signed_bytes != pending.signed_bytes:
        raise UsageFault(
            f"{file} is not what is pending for {role} (version {carried.signed.version}, here {pending.signed.version})",
            reason="other_contents",
            next_step=f"it was changed meanwhile: carry {folder.pending_path(role)} to the signers again",
        )
    counting = allowed(folder, role)
    good = [keyid for keyid, key in counting.items() if _signed_by(carried, keyid, key)]
    if not good:
        raise UsageFault(
            f"{file} carries no signature of a key of {role}", reason="no_signature", next_step="let a signer sign it"
        )
    for keyid in good:
        pending.signatures[keyid] = carried.signatures[keyid]
    folder.put_pending(role, pending)
    return pending


def _signed_by(metadata: Metadata[Any], keyid: str, key: Key) -> bool:
    from securesystemslib.exceptions import UnverifiedSignatureError

    if keyid not in metadata.signatures:
        return False
    try:
        key.verify_signature(metadata.signatures[keyid], metadata.signed_bytes)
    except UnverifiedSignatureError:
        return False
    return True


def _add(metadata: Metadata[Any], signer: Any) -> None:
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        if isinstance(error.__cause__, FieldopsError):  # tuf wraps whatever a signer raises
            raise error.__cause__ from error
        raise UsageFault(f"{error}", reason="signer_failed", next_step="check the key") from error


def _check_counts(role: str, key: Key, counting: dict[str, Key]) -> None:
    if key.keyid not in counting:
        names = ", ".join(sorted(name_of(each) for each in counting.values()))
        raise UsageFault(
            f"{name_of(key)} is no key of {role}",
            reason="not_a_signer",
            next_step=f"{role} is signed by: {names or 'nobody yet'}",
        )


def _check_is(metadata: Metadata[Any], role: str, file: Path) -> None:
    signed = metadata.signed
    wanted = "root" if role == "root" else "targets"
    fits = signed.type == wanted
    if fits and isinstance(signed, Targets):
        fits = (signed.delegations is not None) == (role == "targets")
        fits = fits and (role not in DELEGATED or all(name.startswith(f"{role}/") for name in signed.targets))
    if not fits:
        raise UsageFault(
            f"{file} is no {role} metadata",
            reason="wrong_role",
            next_step="check the file and the role that you were asked to sign",
        )


# --- what a signer is asked to sign, in words --------------------------------------------------------------------------


def changes(metadata: Metadata[Any], former: Metadata[Any] | None) -> list[str]:
    """A line for each thing that the new version does; former None: nothing to compare with, so all that it holds."""
    signed = metadata.signed
    found = [f"version {signed.version}, valid until {signed.expires:%Y-%m-%d}"]
    old = former.signed if former is not None else None
    if isinstance(signed, Root):
        found += _key_changes(signed, old if isinstance(old, Root) else None, list(signed.roles))
    if isinstance(signed, Targets):
        if signed.delegations is not None and signed.delegations.roles:
            found += _key_changes(signed, old if isinstance(old, Targets) else None, list(signed.delegations.roles))
        found += _target_changes(signed, old if isinstance(old, Targets) else None)
    return found


def _key_changes(signed: Root | Targets, old: Root | Targets | None, roles: list[str]) -> list[str]:
    found = []
    for role in roles:
        new, before = {k.keyid: k for k in keys_of(signed, role)}, {k.keyid: k for k in keys_of(old, role)} if old else {}
        found += [f"{role}: + key {name_of(new[keyid])} ({keyid[:12]})" for keyid in new if keyid not in before]
        found += [f"{role}: - key {name_of(before[keyid])} ({keyid[:12]})" for keyid in before if keyid not in new]
        threshold = signed.get_delegated_role(role).threshold
        if old is None or old.get_delegated_role(role).threshold != threshold:
            found.append(f"{role}: {threshold} must sign")
    return found


def _target_changes(signed: Targets, old: Targets | None) -> list[str]:
    before = old.targets if old is not None else {}
    found = []
    for name, info in sorted(signed.targets.items()):
        parts = target_name(name)
        is_bundle = parts.file == MANIFEST_FILE
        if not is_bundle and parts.channel != "policy":
            continue  # the manifest stands for its bundle
        what = f"{parts.model}@{parts.version}" if is_bundle else name
        if name not in before:
            found.append(f"+ {what}")
        elif before[name].hashes != info.hashes:
            found.append(f"~ {what} changed")
        if info.unrecognized_fields.get("custom", {}).get("withdrawn") and not (
            name in before and before[name].unrecognized_fields.get("custom", {}).get("withdrawn")
        ):
            found.append(f"! {what} is withdrawn")
    found += [f"- {name}" for name in sorted(before) if name not in signed.targets]
    return found
