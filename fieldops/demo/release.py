"""The release team of the sample fleet: a TUF repository with four versions of `digits`, the policy, and a stick.

The degraded version is signed below the checks of `release add`, so that a device has something to refuse that every
signature vouches for.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fieldops.bundles.manifest import Manifest
from fieldops.deadline import Deadline
from fieldops.decoding import decoder
from fieldops.edges.appraisal import OnnxAppraiser
from fieldops.edges.samples import new_key
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.operations import release as operation
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.ports import Clock
from fieldops.steps import STEP_KINDS
from fieldops.wire import SESSION_NAMESPACE

MODEL = "digits"
FIRST = "1.0.0"
NEXT = "1.1.0"
DEGRADED = "2.0.0-bad"
CHANNEL_OF = {"1.2.0": "canary"}
RUNBOOK = "rollback-model"
STICK_DAYS = 30.0
SAMPLES_KEY = "samples.key"  # of the release team's keys: opens what visits bring along


@dataclass(frozen=True, slots=True)
class Staff:
    """One person of the demo's plant: role, fingerprint and public line of the SSH key made at first run."""

    role: str
    fingerprint: str
    public_line: str


def policy_of(staff: tuple[Staff, ...], recipient: str) -> PolicyDocument:
    """Two roles: a technician takes every step that exists today; a lead also those that later versions bring.

    recipient: the public key of whoever retrains.
    """
    return PolicyDocument(
        v=1,
        roles={"technician": sorted(kind.__name__ for kind in STEP_KINDS), "lead": ["*"]},
        people={each.fingerprint: Person(role=each.role, label=f"the demo's {each.role}") for each in staff},
        keep_samples=100,
        sample_recipients=[recipient],
    )


def allowed_signers(staff: tuple[Staff, ...]) -> str:
    """In the format of ssh-keygen(1), so that its -Y verify reads the same file."""
    return "".join(f'{each.role} namespaces="{SESSION_NAMESPACE}" {each.public_line}\n' for each in staff)


def make(folder: Path, sample: Path, staff: tuple[Staff, ...], clock: Clock, deadline: Deadline) -> ReleaseRepo:
    """The repository in folder/{repo,keys}; one that was begun and broke off is made anew."""
    repo_folder, keys = folder / "repo", folder / "keys"
    done = folder / "complete"
    if done.exists():
        return ReleaseRepo(repo_folder, keys, clock)
    for begun in (repo_folder, keys):
        if begun.exists():
            shutil.rmtree(begun)
    repo = ReleaseRepo.init(repo_folder, keys, clock)
    digits = sample / "digits"
    repo.add_policy_target("policy/golden/digits/set.npz", (digits / "golden.npz").read_bytes())
    repo.add_policy_target("policy/people/current/allowed_signers", allowed_signers(staff).encode())
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy_of(staff, new_key(keys / SAMPLES_KEY))))
    for book in sorted((sample / "runbooks").glob("*/runbook.yaml")):
        repo.add_policy_target(f"policy/runbooks/{book.parent.name}/runbook.yaml", book.read_bytes())
    for spec in sorted(digits.glob("*/spec.json")):
        _add(repo, spec, deadline)
    for role in ("policy", "stable", "canary"):
        repo.sign(role)
    repo.publish()
    done.touch()
    return repo


def _add(repo: ReleaseRepo, spec: Path, deadline: Deadline) -> None:
    manifest = decoder(Manifest).decode(spec.read_bytes())
    channel = CHANNEL_OF.get(manifest.version, "stable")
    if manifest.version == DEGRADED:
        repo.add_bundle(channel, spec.parent, manifest)
    else:
        operation.add(repo, OnnxAppraiser(), spec.parent, manifest, deadline, channel=channel)


def make_stick(repo: ReleaseRepo, stick: Path) -> Path:
    """Sign again what expired since the last time, then write the stick; its folder as a technician names it."""
    repo.resign_expired()
    repo.export_stick(stick, STICK_DAYS)
    return stick
