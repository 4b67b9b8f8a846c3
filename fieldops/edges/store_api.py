"""The central store over HTTP. Every failure is a StoreFault (entries stay queued), or a CheckFailed for a fork or a gap.

Nothing the store says is believed without proof: its id is the hash of its key, and a receipt must be that key's over
exactly what was sent.
"""

from __future__ import annotations

import gzip
import weakref
from collections.abc import Callable, Iterable
from typing import TypeVar

import httpx

from fieldops.audit import note
from fieldops.deadline import Deadline
from fieldops.edges.keys import verify
from fieldops.errors import CheckFailed, DeadlinePassed, FieldopsError, MalformedReply, StoreFault, UsageFault
from fieldops.fleet import key_id
from fieldops.ports import Head, Receipt, Signer, StoreIdentity
from fieldops.wire import (
    CHECKPOINT_HEADER,
    ENROL_PAYLOAD_TYPE,
    LAPTOP_HEADER,
    MESSAGE_LIMIT,
    STORE_LETTERS,
    SUPPORTED,
    TELEMETRY_PAYLOAD_TYPE,
    VERSION,
    ErrorDoc,
    PushReply,
    StoreEnrol,
    StoreEnrolled,
    StoreHead,
    StoreInfo,
    TelemetryPart,
    TelemetryPush,
    TelemetryReply,
    b64,
    decode,
    encode,
    enveloped,
    unb64,
)

T = TypeVar("T")

_PACK_ABOVE = 1024
PACKING = 3  # level 6 takes twice as long and more, for a fifth less
_QUEUED = "entries stay queued; run `fieldops audit sync` again when the store answers"


class HttpStore:
    """Implements ports.Store. url: https://host[:port][/prefix] (http is fine on this machine or inside a tunnel).

    expected: the id that enrolling pinned; None: not enrolled by a code. attested: told the time (Unix seconds) that the
    store signed in each of its receipts. Its connection stays open for this object's life, which is one sync.
    """

    def __init__(
        self, url: str, signer: Signer, *, expected: str | None = None, attested: Callable[[float], None] = lambda _: None
    ) -> None:
        self._attested = attested
        self._url = url.rstrip("/")
        self._signer = signer
        self._expected = expected
        self._identity: StoreIdentity | None = None
        self._kept: httpx.Client | None = None

    def _client(self) -> httpx.Client:
        if self._kept is None:
            # reading the system's authorities takes longer than a push, and plain http asks none
            self._kept = httpx.Client(follow_redirects=False, verify=not self._url.startswith("http://"))
            weakref.finalize(self, self._kept.close)
        return self._kept

    def _hang_up(self) -> None:
        """After any fault: nothing is known of the connection then."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def identity(self, deadline: Deadline) -> StoreIdentity:
        if self._identity is not None:
            return self._identity
        info = self._ask("GET", "/v1/store", StoreInfo, deadline)
        public_key = self._checked(lambda: unb64(info.public_key))
        if key_id(public_key) != info.store:
            raise self._malformed("its id is not the hash of its key")
        if not info.versions[0] <= SUPPORTED[1] or not SUPPORTED[0] <= info.versions[1]:
            raise StoreFault(
                f"{self._url} speaks versions {info.versions[0]} to {info.versions[1]}, this laptop {SUPPORTED[0]} to {SUPPORTED[1]}",
                reason="version",
                next_step="update the older of the two; entries stay queued",
            )
        if self._expected is not None and info.store != self._expected:
            raise StoreFault(
                f"{self._url} is store {info.store[:8]}; this laptop was let in at {self._expected[:8]}",
                reason="other_store",
                next_step="check `url` under [store] in config.toml; at a new store enrol again: `fieldops central enrol URL CODE`",
            )
        self._identity = StoreIdentity(info.store, public_key)
        return self._identity

    def enrol(self, code: str, label: str, deadline: Deadline) -> StoreEnrolled:
        """Say the code, once the store showed that it is the one that made it. Raises UsageFault (bad_code), StoreFault."""
        begins, dash, secret = code.strip().lower().partition("-")
        if not dash or len(begins) != STORE_LETTERS or not secret:
            raise UsageFault(
                "that is no enrolment code", reason="bad_code", next_step="give it as `fieldops central invite` printed it"
            )
        identity = self.identity(deadline)
        if not identity.id.startswith(begins):
            raise StoreFault(
                f"the code was made by store {begins[:8]}, but {self._url} is {identity.id[:8]}; it was not said there",
                reason="other_store",
                next_step="check the address with the store's owner",
            )
        request = StoreEnrol(
            v=VERSION, store=identity.id, code=f"{begins}-{secret}", public_key=b64(self._signer.public_key), label=label
        )
        data = enveloped(ENROL_PAYLOAD_TYPE, encode(request), self._signer.laptop, self._signer.sign)
        reply = self._ask("POST", "/v1/enrol", StoreEnrolled, deadline, data=data)
        if (reply.store, reply.laptop) != (identity.id, self._signer.laptop):
            raise self._malformed("it enrolled somebody else")
        return reply

    def bring(self, parts: list[TelemetryPart], deadline: Deadline) -> TelemetryReply:
        """Telemetry, signed by this laptop for this store; the same again changes nothing."""
        push = TelemetryPush(v=VERSION, store=self.identity(deadline).id, parts=parts)
        data = enveloped(TELEMETRY_PAYLOAD_TYPE, encode(push), self._signer.laptop, self._signer.sign)
        headers = {LAPTOP_HEADER: self._signer.laptop, "Content-Encoding": "gzip"}
        reply = self._ask(
            "POST", "/v1/telemetry", TelemetryReply, deadline, data=gzip.compress(data, PACKING, mtime=0), headers=headers
        )
        if (reply.accepted, reply.duplicate) < (0, 0) or reply.accepted + reply.duplicate != sum(len(p.records) for p in parts):
            raise self._malformed("its counts do not fit what was sent")
        return reply

    def head(self, log: str, deadline: Deadline) -> Head:
        found = self._ask("GET", f"{_path(log)}/head", StoreHead, deadline)
        if found.log != log or found.size < 0 or len(self._checked(lambda: bytes.fromhex(found.root))) != 32:
            raise self._malformed("the head is of no such log")
        return Head(found.size, found.root)

    def push(self, log: str, first: int, entries: Iterable[bytes], checkpoint: str, deadline: Deadline) -> Receipt:
        bodies = list(entries)
        data = b"\n".join(bodies) + b"\n"
        headers = {
            CHECKPOINT_HEADER: b64(checkpoint.encode("utf-8")),
            "Content-Type": "application/x-ndjson",
        }
        if len(data) > _PACK_ABOVE:
            data = gzip.compress(data, PACKING, mtime=0)
            headers["Content-Encoding"] = "gzip"
        identity = self.identity(deadline)
        reply = self._ask("POST", f"{_path(log)}/entries?from={first}", PushReply, deadline, data=data, headers=headers)
        point = note.parse_checkpoint(checkpoint)
        name = note.witness_name(f"store:{identity.id}")
        try:
            signed_at = note.verify_cosignature(point, reply.receipt, name, identity.public_key, verify)
        except UsageFault as error:
            raise StoreFault(
                f"{self._url} gave a receipt that is not its own over what was sent",
                reason="bad_receipt",
                next_step="check the store's address; " + _QUEUED,
            ) from error
        if (
            reply.size < point.size
            or (reply.accepted, reply.duplicate) < (0, 0)
            or reply.accepted + reply.duplicate != len(bodies)
        ):
            raise self._malformed("its counts do not fit what was sent")
        self._attested(float(signed_at))
        return Receipt(point.size, point.root.hex(), reply.receipt, reply.accepted, reply.duplicate)

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        deadline: Deadline,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> T:
        try:
            return self._asked(method, path, kind, deadline, data, headers)
        except FieldopsError:
            self._hang_up()
            raise

    def _asked(
        self, method: str, path: str, kind: type[T], deadline: Deadline, data: bytes | None, headers: dict[str, str] | None
    ) -> T:
        try:
            left = deadline.check("the central store")
            with self._client().stream(method, self._url + path, content=data, headers=headers, timeout=left) as response:
                body = self._body(response, deadline)
        except DeadlinePassed as error:
            raise self._away("no answer in time", "timeout") from error
        except httpx.TimeoutException as error:
            raise self._away("no answer in time", "timeout") from error
        except httpx.TransportError as error:
            raise self._away(str(error) or type(error).__name__, "unreachable") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise StoreFault(
                f"{self._url}: {error}", reason="bad_url", next_step="mend `url` under [store] in config.toml"
            ) from error
        if response.status_code != 200:
            raise self._refusal(response.status_code, body)
        try:
            return decode(body, kind, sender=self._url)
        except MalformedReply as error:
            raise self._malformed(error.message) from error

    def _body(self, response: httpx.Response, deadline: Deadline) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            deadline.check("the central store")
            if len(body) > MESSAGE_LIMIT:
                raise self._malformed(f"more than {MESSAGE_LIMIT} bytes")
        return bytes(body)

    def _refusal(self, status: int, body: bytes) -> StoreFault | CheckFailed:
        try:
            doc = decode(body, ErrorDoc, sender=self._url)
        except MalformedReply:
            return StoreFault(
                f"{self._url} answered {status} and nothing a store says",
                reason="malformed_reply",
                next_step="check `url` under [store] in config.toml; " + _QUEUED,
            )
        if status == 409 and doc.exit == CheckFailed.exit_code and doc.reason in {"fork", "gap"}:
            return CheckFailed(doc.message, reason=doc.reason, next_step=doc.next)
        return StoreFault(f"{self._url} refused: {doc.message}", reason=doc.reason, next_step=doc.next or _QUEUED)

    def _away(self, what: str, reason: str) -> StoreFault:
        said = what.rpartition("] ")[2]  # without "[Errno 111] "
        return StoreFault(f"the central store at {self._url} does not answer: {said}", reason=reason, next_step=_QUEUED)

    def _malformed(self, what: str) -> StoreFault:
        return StoreFault(
            f"{self._url}: no answer of a store: {what}",
            reason="malformed_reply",
            next_step="check `url` under [store] in config.toml, and that both sides run compatible versions; " + _QUEUED,
        )

    def _checked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except ValueError as error:
            raise self._malformed(str(error)) from error


def _path(log: str) -> str:
    laptop, epoch = note.parse_origin(log)
    return f"/v1/logs/{laptop}/{epoch}"
