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

SESSION_S = 8 * 3600  # a working day; the 4 h below the limit of 12 are room for a device whose clock is behind


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "unknown"


@dataclass(frozen=True, slots=True)
class PersonFile:
    """Implements ports.Technician: a person by an SSH key file, or a local name nobody vouches for.

    key: private key file (its public half may stand alone when ssh-agent holds the rest); None: no person.
    cache: where the proof of this session is kept (0600). passphrase: asked once per proof; None where nobody can be asked.
    """

    key: Path | None
    laptop: LaptopId
    cache: Path
    passphrase: Callable[[], bytes] | None = None

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
        passphrase = self.passphrase() if self.passphrase is not None else None
        signature = sshsig_sign(self.key, SESSION_NAMESPACE, text, passphrase)
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
