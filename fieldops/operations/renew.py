"""Last month's stick is good again: newer metadata for this laptop, and for the sticks that are at hand. No payload is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fieldops.audit.entry import Result, Subject
from fieldops.bundles.trust import target_name
from fieldops.deadline import Deadline
from fieldops.errors import TrustRefused
from fieldops.operations.gate import Gate
from fieldops.ports import Source, Trust, TrustFacts

SMALL_POLICY_FILE = 16 << 10  # golden sets stay: they change with new payloads only


class Renewable(Protocol):
    """A stick that may be written to."""

    @property
    def name(self) -> str: ...

    def renew(self, metadata: Mapping[str, bytes], policy: Mapping[str, bytes]) -> None:
        """metadata: by name; policy: by path on the stick. Raises TrustRefused (io_error)."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """sticks: written; refused: stick -> why not."""

    facts: TrustFacts
    sticks: tuple[str, ...]
    refused: tuple[tuple[str, TrustRefused], ...] = ()


@dataclass(frozen=True, slots=True)
class _Layered:
    """Metadata of the renewal alone; a policy file that it leaves out (a golden set) from a stick. Implements ports.Source."""

    renewal: Source
    sticks: Sequence[Source]

    @property
    def name(self) -> str:
        return self.renewal.name

    def read(self, path: str, limit: int) -> bytes:
        return self._holder(path).read(path, limit)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        return self._holder(path).chunks(path, offset)

    def _holder(self, path: str) -> Source:
        if path.startswith("targets/"):
            for source in (self.renewal, *self.sticks):
                try:
                    next(source.chunks(path, 0), b"")
                except TrustRefused:
                    continue
                return source
        return self.renewal


def renew(
    gate: Gate,
    trust: Trust,
    renewal: Source,
    sticks: Sequence[Renewable],
    deadline: Deadline,
    *,
    payloads: Sequence[Source] = (),
) -> Renewed:
    """Verify the renewal as a stick would be, keep it, and write what is now trusted onto the sticks.

    payloads: sticks at hand, for the policy's large files where this laptop never saw them.

    Raises TrustRefused, with a note of it in the audit log; nothing is written then. One stick that cannot be written hides
    no other.
    """
    try:
        facts = trust.refresh(_Layered(renewal, payloads), deadline)
    except TrustRefused as error:
        gate.note(
            "stick.renew", subject=Subject(kind="stick", name=renewal.name), result=Result(status="refused", reason=error.reason)
        )
        raise
    _, _, payload = trust.policy_payload()
    metadata = payload.metadata()
    policy = _policy(trust)
    written: list[str] = []
    refused: list[tuple[str, TrustRefused]] = []
    for stick in sticks:
        try:
            stick.renew(metadata, policy)
            written.append(stick.name)
        except TrustRefused as error:
            refused.append((stick.name, error))
    gate.note(
        "stick.renew",
        subject=Subject(kind="stick", name=renewal.name, to=str(facts.timestamp_version)),
        result=Result(status="done"),
    )
    return Renewed(facts, tuple(written), tuple(refused))


def _policy(trust: Trust) -> dict[str, bytes]:
    """The small files of the policy that is trusted now, by their paths on a stick."""
    found: dict[str, bytes] = {}
    for name in trust.policy_targets():
        data = trust.policy_target(name)
        if len(data) <= SMALL_POLICY_FILE and not name.startswith("policy/golden/"):
            found[target_name(name).stored_as(hashlib.sha256(data).hexdigest())] = data
    return found
