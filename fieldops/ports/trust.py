"""Sticks and servers with signed metadata, and what this laptop makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # ports are shapes: who implements or calls them brings the values
    from fieldops.bundles.approvals import Matter
    from fieldops.bundles.manifest import Manifest
    from fieldops.deadline import Deadline
    from fieldops.policy import PolicyDocument
    from fieldops.ports.calls import OnProgress
    from fieldops.ports.device import Payload
    from fieldops.steps import Approval


class Source(Protocol):
    """Where signed metadata and payloads come from: a stick, a folder, a site server. Never trusted."""

    @property
    def name(self) -> str:
        """For people: a path or an address."""

    def read(self, path: str, limit: int) -> bytes:
        """`metadata/timestamp.json` or `targets/stable/...`. Raises TrustRefused (missing, too_long, not_regular_file, io_error)."""

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        """The rest of a file from offset on, in pieces of at most 1 MiB. Raises TrustRefused likewise."""


class Media(Protocol):
    def find(self) -> list[Source]:
        """Removable media that hold a fieldops repository, in the order found."""

    def at(self, path: str) -> Source:
        """A folder (or its FIELDOPS folder) or an http(s) address. Raises UsageFault when there is none."""

    def site(self, deadline: Deadline) -> Source | None:
        """The site server of this laptop. None: none is configured. Raises LinkFault where it does not answer by then."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One bundle a source offers. reason "" means usable; else one of errors.TRUST_REASONS."""

    channel: str
    model: str
    version: str
    counter: int
    size_bytes: int
    source: str
    reason: str = ""
    message: str = ""

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """What is brought so that expired metadata may be used. policy None: the one held by whoever judges.

    devices: ids of those it is for; each approval must name them all. asker: the person who asks.
    """

    approvals: tuple[Approval, ...]
    devices: tuple[str, ...]
    asker: str = ""
    policy: PolicyDocument | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """Expired metadata was used. since: Unix seconds of the last valid instant. people: fingerprints that approved."""

    since: float
    age_s: float
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustedBundle:
    """A bundle of which every byte was verified and copied to the cache. Only Trust.fetch makes one."""

    channel: str
    manifest: Manifest
    manifest_sha256: str
    payload: Payload
    folder: Path  # verified copies under their target's base names
    broken: Broken | None = None


@dataclass(frozen=True, slots=True)
class TrustedAgent:
    """An agent's kit that was verified and copied to the cache as one file. Only Trust.fetch_agent makes one."""

    channel: str
    agent: str  # its signed name
    version: str
    kit_sha256: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class TrustFacts:
    """What this laptop trusts now. expires: Unix seconds of the earliest of all metadata; None before the first root."""

    root_version: int
    root_sha256: str
    timestamp_version: int
    expires: float | None
    clock_floor: float
    clock_behind: bool  # the laptop's clock is below the floor; the floor is used


class Trust(Protocol):
    """The laptop's own root and state. Raises TrustRefused."""

    def facts(self) -> TrustFacts: ...

    def root_text(self) -> str:
        """The newest root.json, exact text; what Enrol carries."""

    def pin(self, root: bytes, expect_fingerprint: str | None) -> str:
        """The first root of this laptop. Returns its SHA-256. Raises TrustRefused, or UsageFault when one is pinned."""

    def refresh(self, source: Source, deadline: Deadline) -> TrustFacts: ...

    def candidates(self, source: Source, deadline: Deadline) -> list[Candidate]: ...

    def fetch(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
        glass: BreakGlass | None = None,
    ) -> TrustedBundle:
        """Verify and copy one bundle in one read of the source; resumes a copy cut off before. ref: MODEL@VERSION.

        What is here already is not read again, unless reread says that the source itself is to be judged.
        glass: metadata that is only too old may be used; the result says so.
        """

    def fetch_agent(
        self,
        source: Source,
        ref: str,
        deadline: Deadline,
        *,
        channel: str | None = None,
        progress: OnProgress | None = None,
        reread: bool = False,
    ) -> TrustedAgent:
        """As fetch, for an agent's software. Expired metadata installs none, whoever approves."""

    def expired_matter(self, source: Source, ref: str, deadline: Deadline, *, channel: str | None = None) -> Matter:
        """What people would have to sign to use a bundle although its metadata has expired."""

    def policy(self) -> PolicyDocument:
        """NO_POLICY before the first refresh that brought one."""

    def policy_payload(self) -> tuple[int, str, Payload]:
        """(timestamp version, sha256 of policy.json or "", payload): what RotateTrust carries."""

    def policy_target(self, name: str) -> bytes:
        """A verified target of the policy role, such as `policy/runbooks/<id>/runbook.yaml`. Raises TrustRefused."""

    def policy_targets(self) -> Sequence[str]: ...
