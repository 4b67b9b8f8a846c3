"""What can go wrong, split by who can mend it. Every class has its exit code; every instance says what to do next.

    FieldopsError
    ├── UsageFault      2   the person who typed: arguments, input files (all faults of a file at once)
    ├── TrustRefused    3   the release team: a signature, a digest, an expiry; on laptop and device alike
    ├── PolicyRefused   4   whoever wrote the policy: this person may not do this
    ├── LinkFault       5   cable, network, host key, enrolment
    ├── DeviceCannot    6   the device: disk, RAM, busy, or the change was reverted
    ├── CheckFailed     7   nobody: a check the caller asked for says no
    ├── StorageFault    8   the laptop: disk full, file unreadable or corrupt, used by another instance
    ├── StoreFault      9   the central store: away or refusing; entries stay queued
    ├── NeedsPerson    10   a person at the device: revert or undo failed
    └── Cancelled     130   the person who pressed Esc or Ctrl+C

The code follows the reason, not the place: a trust refusal by the device is a TrustRefused here as well. An exception
outside this tree that reaches the top is a bug (exit 1). Foreign errors become one of these once, in the edge that met
them, `from` the original. Nothing here imports anything of fieldops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

# With several devices the gravest outcome is the exit code (DESIGN §10).
GRAVEST_FIRST: tuple[int, ...] = (10, 3, 4, 6, 5, 8, 9, 7)


class FieldopsError(Exception):
    """A fault with a reason a script can match, a message for a person, and the next step.

    reason: a lower_case word, stable across versions. device: the label of the device concerned; None when none is.
    next_step: one sentence in the imperative; empty only where nothing can be done.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, reason: str, next_step: str, device: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.next_step = next_step
        self.device = device

    def __str__(self) -> str:
        who = f"{self.device}: " if self.device else ""
        return f"{who}{self.message}"

    def about(self, device: str) -> FieldopsError:
        """The same error, naming its device when it names none yet."""
        if self.device is None:
            self.device = device
        return self


def next_step_of(error: FieldopsError) -> str:
    """With the device's name where a device, which does not know how it is called here, wrote DEVICE."""
    return error.next_step.replace("DEVICE", error.device) if error.device else error.next_step


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a file that people write. line counts from 1; None where the format has no lines."""

    file: str
    line: int | None
    found: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{where}: {self.found}; expected {self.expected}"


class UsageFault(FieldopsError):
    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        next_step: str,
        reason: str = "usage",
        device: str | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        super().__init__(message, reason=reason, next_step=next_step, device=device)
        self.faults = tuple(faults)

    @classmethod
    def in_file(cls, file: str, faults: Iterable[Fault]) -> UsageFault:
        found = tuple(faults)
        lines = "\n".join(f"  {fault}" for fault in found)
        noun = "fault" if len(found) == 1 else "faults"
        return cls(
            f"{file}: {len(found)} {noun}\n{lines}",
            reason="bad_file",
            next_step=f"mend the lines named above in {file}, then run the same command again",
            faults=found,
        )


# The closed list of DESIGN §7. A refusal carries exactly one.
TRUST_REASONS = frozenset(
    {
        "hash_mismatch",
        "too_long",
        "missing",
        "expired",
        "rollback",
        "mix_and_match",
        "unsigned",
        "threshold",
        "unknown_target",
        "bad_name",
        "not_regular_file",
        "malformed",
        "oversized",
        "wrong_device",
        "withdrawn",
        "below_floor",
        "io_error",
    }
)


class TrustRefused(FieldopsError):
    exit_code = 3

    def __init__(self, message: str, *, reason: str, next_step: str, device: str | None = None) -> None:
        if reason not in TRUST_REASONS:
            raise ValueError(f"{reason!r} is no trust reason")
        super().__init__(message, reason=reason, next_step=next_step, device=device)


class PolicyRefused(FieldopsError):
    exit_code = 4


class LinkFault(FieldopsError):
    exit_code = 5


class Unreachable(LinkFault):
    """No connection could be made. phase: dns, tcp, banner, kex, auth, open, tls or http."""

    def __init__(self, message: str, *, phase: str, next_step: str, device: str | None = None) -> None:
        super().__init__(message, reason="unreachable", next_step=next_step, device=device)
        self.phase = phase


class LinkLost(LinkFault):
    """A connection that stood is gone; what the device did meanwhile is unknown until it is read."""

    def __init__(self, message: str, *, next_step: str, device: str | None = None) -> None:
        super().__init__(message, reason="link_lost", next_step=next_step, device=device)


class DeadlinePassed(LinkFault):
    """The caller's deadline passed while waiting. phase names what was waited for."""

    def __init__(self, message: str, *, phase: str, next_step: str, device: str | None = None) -> None:
        super().__init__(message, reason="deadline", next_step=next_step, device=device)
        self.phase = phase


class HostKeyUnknown(LinkFault):
    def __init__(self, message: str, *, next_step: str, fingerprint: str, device: str | None = None) -> None:
        super().__init__(message, reason="host_key_unknown", next_step=next_step, device=device)
        self.fingerprint = fingerprint


class HostKeyChanged(LinkFault):
    def __init__(self, message: str, *, next_step: str, known: str, got: str, device: str | None = None) -> None:
        super().__init__(message, reason="host_key_changed", next_step=next_step, device=device)
        self.known = known
        self.got = got


class NotAuthorised(LinkFault):
    """The other side knows the connection but not this laptop or login: reason not_enrolled or login_refused."""


class MalformedReply(LinkFault):
    """The other side answered with something that is no fieldops message."""

    def __init__(self, message: str, *, next_step: str, device: str | None = None) -> None:
        super().__init__(message, reason="malformed_reply", next_step=next_step, device=device)


class DeviceCannot(FieldopsError):
    exit_code = 6


class CheckFailed(FieldopsError):
    exit_code = 7


class StorageFault(FieldopsError):
    exit_code = 8


class StoreFault(FieldopsError):
    exit_code = 9


class NeedsPerson(FieldopsError):
    exit_code = 10


class Cancelled(FieldopsError):
    exit_code = 130

    """message: what was cancelled, and what state is left."""

    def __init__(
        self,
        message: str = "cancelled; no change was under way",
        *,
        next_step: str = "run the same command again to go on",
        device: str | None = None,
    ) -> None:
        super().__init__(message, reason="cancelled", next_step=next_step, device=device)


_BY_EXIT: dict[int, type[FieldopsError]] = {
    4: PolicyRefused,
    5: LinkFault,
    6: DeviceCannot,
    7: CheckFailed,
    8: StorageFault,
    9: StoreFault,
    10: NeedsPerson,
}


def from_parts(*, exit_code: int, reason: str, message: str, next_step: str, device: str | None) -> FieldopsError:
    """The error that another fieldops process reported (`fieldops.error/v1`), as if it had been met here.

    An exit code or trust reason this version does not know becomes a MalformedReply, never a guess.
    """
    if exit_code == Cancelled.exit_code:
        return Cancelled(message, next_step=next_step, device=device)
    if exit_code == UsageFault.exit_code:
        return UsageFault(message, reason=reason, next_step=next_step, device=device)
    if exit_code == TrustRefused.exit_code and reason in TRUST_REASONS:
        return TrustRefused(message, reason=reason, next_step=next_step, device=device)
    if exit_code in _BY_EXIT:
        return _BY_EXIT[exit_code](message, reason=reason, next_step=next_step, device=device)
    return MalformedReply(
        f"an error of an unknown kind: exit {exit_code}, reason {reason!r}: {message}",
        next_step="update fieldops on this laptop, or report this",
        device=device,
    )


def gravest(codes: Iterable[int]) -> int:
    """The exit code for several outcomes: 0 when all are 0; 1 (a bug) and 130 before all else."""
    seen = {code for code in codes if code != 0}
    if not seen:
        return 0
    for code in (1, 130, 2, *GRAVEST_FIRST):
        if code in seen:
            return code
    return max(seen)
