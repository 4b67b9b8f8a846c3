"""Who may change this device. It decides by its own pins and its own signed policy; the laptop's word counts for nothing.

In order: an enrolled laptop's signature over the whole request, addressed to this device; a nonce of ours, once; a log that
grew out of what we saw of it; a person's proof; the policy; and that nobody else is at it. Then it is journaled.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import msgspec

from fieldops.agent.device import Device
from fieldops.agent.lease import Lease
from fieldops.audit.merkle import EMPTY_ROOT, verify_consistency
from fieldops.audit.note import Checkpoint, cosign, open_checkpoint, origin, parse_origin, witness_name
from fieldops.decoding import decoder
from fieldops.errors import CheckFailed, DeviceCannot, NotAuthorised, PolicyRefused, UsageFault
from fieldops.fleet import key_id
from fieldops.policy import Actor, Decision, may
from fieldops.steps import STEP_KINDS, Enrol, Revert, RotateTrust, Unenrol, describe
from fieldops.wire import (
    ENVELOPE_LIMIT,
    SESSION_NAMESPACE,
    VERSION,
    Challenge,
    Envelope,
    Session,
    SessionBody,
    StepRequest,
    decode_signed,
    unb64,
)

NONCE_S = 300.0
MOST_NONCES = 1000
SESSION_S = 12 * 3600
CLOCK_SLACK_S = 300.0  # the two clocks may differ; what ends rights early is the policy


@dataclass(frozen=True, slots=True)
class _Nonce:
    log: str
    size: int
    root: bytes
    given: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that passed. cosignature: this device's, over the checkpoint it was shown."""

    request: StepRequest
    laptop: str
    actor: Actor
    decision: Decision
    checkpoint: Checkpoint
    cosignature: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose signature and address are right; nothing else of it is believed yet."""

    request: StepRequest
    laptop: str
    public_key: bytes
    enrolled: bool
    envelope: bytes


def _denied(message: str, reason: str, next_step: str) -> NotAuthorised:
    return NotAuthorised(message, reason=reason, next_step=next_step)


def not_enrolled() -> NotAuthorised:
    return _denied("this laptop is not enrolled on this device", "not_enrolled", "enrol it: `fieldops device enrol DEVICE`")


class Access:
    """`challenge` and `open` may be called from any thread; `decide` under the caller's lock, so that one of two wins."""

    def __init__(self, device: Device, lease: Lease) -> None:
        self._device = device
        self._lease = lease
        self._nonces: dict[str, _Nonce] = {}

    def challenge(self, log: str) -> Challenge:
        """Raises UsageFault for what is no log."""
        parse_origin(log)
        now = self._device.monotonic()
        for old in [nonce for nonce, kept in list(self._nonces.items()) if now - kept.given > NONCE_S]:
            self._nonces.pop(old, None)
        if len(self._nonces) >= MOST_NONCES:
            raise DeviceCannot("too many open challenges", reason="busy", next_step="try again in five minutes")
        size, root = self._device.registry.log(log) or (0, EMPTY_ROOT)
        nonce = secrets.token_urlsafe(24)
        self._nonces[nonce] = _Nonce(log, size, root, now)
        return Challenge(nonce=nonce, known_size=size)

    def open(self, data: bytes, *, near: bool) -> Opened:
        """near: it came by agent.sock. Raises NotAuthorised, UsageFault, DeviceCannot (unsupported_step)."""
        from fieldops.edges.keys import open_envelope

        envelope = decode_signed(data, Envelope, what="envelope", limit=ENVELOPE_LIMIT)
        if len(envelope.signatures) != 1:
            raise _denied("the request carries no signature", "not_signed", "use a fieldops laptop")
        laptop = envelope.signatures[0].keyid
        known = self._device.registry.laptop(laptop)
        public_key = known.public_key if known else self._carried(envelope, laptop, near=near)
        request = _request(open_envelope(data, public_key))
        if request.v != VERSION or request.device != self._device.identity.id:
            raise UsageFault(
                f"the step is meant for device {request.device[:8]}, version {request.v}",
                reason="other_device",
                next_step="bind the inventory entry to this device's id: `fieldops device enrol`",
            )
        if not request.step_id.startswith(f"{laptop}."):
            raise UsageFault(f"{request.step_id[:80]!r} is no step of that laptop", reason="bad_step_id", next_step="report this")
        return Opened(request, laptop, public_key, known is not None, data)

    def _carried(self, envelope: Envelope, laptop: str, *, near: bool) -> bytes:
        """The key an Enrol brings along; only the id it hashes to is claimed by it. Raises NotAuthorised."""
        try:
            step = _request(unb64(envelope.payload)).step
            key = unb64(step.laptop_key) if isinstance(step, Enrol) else b""
        except (UsageFault, DeviceCannot, ValueError):
            key = b""
        # Never over LAN: there a stranger has shown nothing, on agent.sock at least a login on this device.
        if not key or key_id(key) != laptop or not near:
            raise not_enrolled()
        return key

    def decide(self, opened: Opened) -> Accepted:
        """Raises NotAuthorised, CheckFailed (fork), PolicyRefused, DeviceCannot (busy)."""
        request, step = opened.request, opened.request.step
        nonce = self._nonces.pop(request.nonce, None)
        if nonce is None or self._device.monotonic() - nonce.given > NONCE_S:
            raise _denied("the challenge is unknown, used or older than 5 minutes", "stale_challenge", "run the command again")
        checkpoint = self._grown(opened, nonce)
        actor = self._actor(opened)
        decision = self._may(opened, actor)
        if not decision.allowed:
            raise PolicyRefused(
                f"{describe(step)}: {decision.text} (rule {decision.rule})",
                reason="policy",
                next_step="ask somebody whose role allows it, or sign in with your SSH key",
            )
        always = isinstance(step, Revert) and step.to is None
        if not always:
            self._lease.check(opened.laptop)
        identity, witness = self._device.identity, witness_name(self._device.actor)
        line = cosign(checkpoint, witness, identity.public_key, self._device.trusted_now(), identity.sign)
        return Accepted(request, opened.laptop, actor, decision, checkpoint, line, opened.envelope)

    def _grown(self, opened: Opened, nonce: _Nonce) -> Checkpoint:
        """The checkpoint: signed by that laptop, over the log it asked about, and grown out of what this device saw."""
        from fieldops.edges.keys import verify

        request = opened.request
        checkpoint = open_checkpoint(request.checkpoint, opened.public_key, verify)
        _, epoch, seq = request.step_id.split(".") if request.step_id.count(".") == 2 else ("", "", "")
        if not (epoch.isdecimal() and seq.isdecimal()) or checkpoint.origin != origin(opened.laptop, int(epoch)):
            raise UsageFault("the checkpoint is of another log", reason="bad_checkpoint", next_step="report this")
        if nonce.log != checkpoint.origin or not 0 < int(seq) <= checkpoint.size:
            raise UsageFault("the checkpoint does not cover the step's intent", reason="bad_checkpoint", next_step="report this")
        try:
            proof = [unb64(node) for node in request.consistency]
        except ValueError as error:
            raise UsageFault("the proof is no base64", reason="bad_checkpoint", next_step="report this") from error
        if not verify_consistency(nonce.size, checkpoint.size, nonce.root, checkpoint.root, proof):
            raise CheckFailed(
                f"the laptop's log at size {checkpoint.size} did not grow out of what this device saw at {nonce.size}",
                reason="fork",
                next_step="keep both as evidence: run `fieldops audit verify` and tell whoever keeps the centre",
            )
        return checkpoint

    def _actor(self, opened: Opened) -> Actor:
        """The person whose key made the session's proof; without one a local name that has no role."""
        from fieldops.edges.keys import sshsig_verify

        session: Session | None = opened.request.session
        if session is None:
            return Actor("local", f"laptop-{opened.laptop[:8]}")
        text = session.body.encode("utf-8")
        body = decode_signed(text, SessionBody, what="session", limit=ENVELOPE_LIMIT)
        person = sshsig_verify(session.signature, SESSION_NAMESPACE, text)
        now, longest = self._device.trusted_now(), min(SESSION_S, self._device.policy().session_max_s)
        if body.laptop != opened.laptop or body.log != parse_log(opened.request.step_id):
            raise _denied("the session's proof is of another laptop or log", "bad_session", "sign in again")
        if not now - CLOCK_SLACK_S < body.until <= now + longest + CLOCK_SLACK_S:
            step = opened.request.step
            if isinstance(step, RotateTrust) or (isinstance(step, Revert) and step.to is None):
                # They need nobody: the way back never waits, and where a wrong clock raised our floor, metadata is the cure.
                return Actor("local", f"laptop-{opened.laptop[:8]}")
            raise _denied("the session is over, or too long", "session_over", "sign in again, and compare the clocks")
        return Actor("person", person)

    def _may(self, opened: Opened, actor: Actor) -> Decision:
        device, step = self._device, opened.request.step
        first = not device.registry.laptops()
        if isinstance(step, Enrol) and key_id(unb64(step.laptop_key)) != opened.laptop:
            return Decision(False, "enrol.own_key", "a laptop enrols itself, with the key that signs")
        if isinstance(step, Unenrol) and step.laptop != opened.laptop:
            return Decision(False, "unenrol.own_key", "a laptop forgets itself; another one is revoked by the signed policy")
        if first:
            if isinstance(step, Enrol):
                return Decision(True, "first.enrol", "the first laptop brings the root")
            return Decision(False, "first.enrol", "this device takes nothing but Enrol yet")
        served = device.models.get(getattr(step, "model", ""))
        decision = may(
            device.policy(), actor, step, device.trusted_now(), laptop=opened.laptop, serving=bool(served and served.ready)
        )
        if isinstance(step, Enrol) and decision.rule == "first.enrol" and not opened.enrolled:
            return Decision(False, "first.enrol", "a laptop is enrolled here; a further one needs the signed policy and a person")
        return decision


def parse_log(step_id: str) -> str:
    laptop, epoch, _ = step_id.split(".")
    return origin(laptop, int(epoch))


def _request(payload: bytes) -> StepRequest:
    """Raises DeviceCannot (unsupported_step), UsageFault."""
    kind = _kind(payload)
    if kind is not None and kind not in {step.__name__ for step in STEP_KINDS}:
        raise DeviceCannot(f"this agent knows no step {kind!r}", reason="unsupported_step", next_step="update the device's agent")
    try:
        return decode_signed(payload, StepRequest, what="step", limit=ENVELOPE_LIMIT)
    except UsageFault as error:
        if "unknown field" not in error.message:
            raise
        # of a newer laptop: what it asks for by that field may not be passed over
        raise DeviceCannot(
            f"this agent does not know all of that {kind}: {error.message}",
            reason="unsupported_step",
            next_step="update the device's agent",
        ) from error


class _Kind(msgspec.Struct):
    kind: str


class _Outline(msgspec.Struct):
    step: _Kind


def _kind(payload: bytes) -> str | None:
    try:
        return decoder(_Outline).decode(payload).step.kind
    except (msgspec.DecodeError, RecursionError):
        return None
