"""The person at this laptop, by an SSH key file, and the proof of a session that they signed."""

from __future__ import annotations

import binascii
import getpass
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fieldops.decoding import decoder
from fieldops.edges.disk import write_whole
from fieldops.edges.keys.ssh import ssh_fingerprint, ssh_public_blob
from fieldops.edges.keys.sshsig import sshsig_sign, sshsig_verify
from fieldops.errors import UsageFault
from fieldops.fleet import LaptopId
from fieldops.policy import Actor
from fieldops.ports import Journal
from fieldops.wire import SESSION_NAMESPACE, Session, SessionBody, encode

Passphrase = Callable[[], "bytes | None"]  # None: nobody says it
TRIES = 3  # of a passphrase
SESSION_S = 8 * 3600  # a working day; the 4 h below the limit of 12 are room for a device whose clock is behind


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "unknown"


def sign_as(key: Path, namespace: str, message: bytes, passphrase: Passphrase | None = None) -> str:
    """sshsig_sign, with the person asked when the key turns out to be locked. Raises UsageFault (no_key, bad_key, key_locked)."""
    try:
        return sshsig_sign(key, namespace, message)
    except UsageFault as error:
        if error.reason != "key_locked" or passphrase is None:
            raise
        locked = error
    for _ in range(TRIES):
        said = passphrase()
        if said is None:
            break
        try:
            return sshsig_sign(key, namespace, message, said)
        except UsageFault as error:
            locked = error
    raise locked


@dataclass(frozen=True, slots=True)
class PersonFile:
    """Implements ports.Technician: a person by an SSH key file, or a local name nobody vouches for.

    key: private key file (its public half may stand alone when ssh-agent holds the rest); None: no person.
    cache: where the proof of this session is kept (0600). passphrase: asked for a locked key that ssh-agent does not hold;
    None where nobody can be asked.
    """

    key: Path | None
    laptop: LaptopId
    cache: Path
    passphrase: Passphrase | None = None

    def actor(self) -> Actor:
        if self.key is None:
            return Actor("local", _user())
        return Actor("person", ssh_fingerprint(ssh_public_blob(self.key)))

    def proof(self, journal: Journal, now: float) -> Session | None:
        if self.key is None:
            return None
        person = self.actor().name
        kept = self._kept(journal, now, person)
        if kept is not None:
            return kept
        body = SessionBody(
            laptop=self.laptop, log=journal.log, size=journal.size(), root=journal.root().hex(), until=now + SESSION_S
        )
        text = encode(body)
        signature = sign_as(self.key, SESSION_NAMESPACE, text, self.passphrase)
        session = Session(body=text.decode(), signature=signature)
        write_whole(self.cache, encode(session), 0o600)
        return session

    def _kept(self, journal: Journal, now: float, person: str) -> Session | None:
        """The session on disk while it is this person's, this log's, and good for a minute more; a torn file is none."""
        try:
            session = decoder(Session).decode(self.cache.read_bytes())
            body = decoder(SessionBody).decode(session.body)
            signer = sshsig_verify(session.signature, SESSION_NAMESPACE, session.body.encode())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, UsageFault, binascii.Error):
            return None
        ours = signer == person and body.laptop == self.laptop and body.log == journal.log
        in_time = now + 60 < body.until <= now + SESSION_S + 60
        return session if ours and in_time and body.size <= journal.size() else None
