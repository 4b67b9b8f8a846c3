"""All phases in order: from an entry of the inventory to a link, through jump hosts where the SSH configuration says so."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldops.deadline import Deadline
from fieldops.edges.known_hosts import KnownHosts
from fieldops.edges.ssh import handshake
from fieldops.edges.ssh.hostkeys import Names, Vouching, judge, types_on_file
from fieldops.edges.ssh.link import SshLink
from fieldops.edges.ssh.login import Keys, log_in
from fieldops.edges.ssh.sockets import Heard
from fieldops.edges.ssh_config import NO_CONFIG, Hop, SshConfig
from fieldops.errors import FieldopsError, LinkFault, Unreachable
from fieldops.fleet import DeviceEntry, SshAddress

_JUMPS = 8  # more hops than anybody has; a configuration that jumps in a circle ends here
_WARM_S = 5.0


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a host is spoken to. passwords: the signed policy lets passwords be typed for hosts that are proved."""

    config: SshConfig = NO_CONFIG
    vouching: Vouching = field(default_factory=Vouching)
    keys: Keys = field(default_factory=Keys)
    passwords: bool = False


def connect(
    entry: DeviceEntry, *, known_hosts: KnownHosts, identities: Sequence[Path], deadline: Deadline, terms: Terms | None = None
) -> SshLink:
    """A link whose login was accepted. identities are tried first, then the configuration's, then ssh-agent's keys.

    Raises Unreachable (phase dns, tcp, banner, kex, auth, open), HostKeyUnknown, HostKeyChanged, NotAuthorised
    (login_refused), LinkFault (host_key_revoked, no_common_algorithm), UsageFault (of the SSH configuration), Cancelled.
    """
    return _Way(entry.name, known_hosts, identities, terms or Terms()).to(entry, deadline)


def host_key(
    entry: DeviceEntry,
    deadline: Deadline,
    *,
    known_hosts: KnownHosts | None = None,
    identities: Sequence[Path] = (),
    terms: Terms | None = None,
) -> tuple[str, bytes]:
    """The key a host proves to hold, as (type, blob), without trusting it and without logging in. For `device trust`.

    known_hosts and identities: for the jump hosts before it.
    """
    return _Way(entry.name, known_hosts or KnownHosts(), identities, terms or Terms()).key_of(entry, deadline)


def names_of(entry: DeviceEntry, config: SshConfig) -> Names:
    """What known_hosts may call the host: as ssh would, and as the inventory writes it."""
    address = _address(entry)
    return _names(address, config.resolve(address.host, user=address.user, port=_given_port(address)))


def _names(address: SshAddress, hop: Hop) -> Names:
    return tuple(dict.fromkeys([(hop.known_as, hop.known_port), (address.host, address.port)]))


def _given_port(address: SshAddress) -> int | None:
    """The inventory does not tell port 22 from no port, so the configuration may set it."""
    return address.port if address.port != 22 else None


def _address(entry: DeviceEntry) -> SshAddress:
    if entry.ssh is None:
        raise Unreachable(
            f"{entry.name} has no SSH address",
            phase="dns",
            next_step=f'write `ssh = "user@host"` for {entry.name} in fleet.toml',
            device=entry.name,
        )
    return entry.ssh


@dataclass(frozen=True, slots=True)
class _Who:
    """By what else than its address a host may be vouched for. See hostkeys.judge."""

    labels: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Way:
    """device: its name, for messages."""

    device: str
    known_hosts: KnownHosts
    identities: Sequence[Path]
    terms: Terms

    def to(self, entry: DeviceEntry, deadline: Deadline) -> SshLink:
        address, hop = self._hop(entry)
        who = _Who(
            labels=tuple(label for label in (entry.id, entry.name) if label),
            ids=tuple(one for one in (entry.id, entry.formerly) if one),
        )
        return self._linked(hop, _names(address, hop), who, deadline, self.terms.vouching, self._under(hop, deadline))

    def key_of(self, entry: DeviceEntry, deadline: Deadline) -> tuple[str, bytes]:
        _, hop = self._hop(entry)
        with contextlib.ExitStack() as stack:
            under = self._under(hop, deadline)
            if under is not None:
                stack.callback(under.close)
            limited = _limited(hop, deadline)
            sock = self._sock(hop, under, limited)
            stack.callback(sock.close)
            transport = handshake.shaken(sock, _where(hop), (), limited, self.device)
            stack.callback(transport.close)
            key = transport.get_remote_server_key()
            return key.get_name(), key.asbytes()

    def _hop(self, entry: DeviceEntry) -> tuple[SshAddress, Hop]:
        address = _address(entry)
        return address, self.terms.config.resolve(address.host, user=address.user, port=_given_port(address))

    def _under(self, hop: Hop, deadline: Deadline, depth: int = 0) -> SshLink | None:
        """The link to the last host to jump over; it has those before it under itself."""
        under: SshLink | None = None
        if depth > _JUMPS:
            raise LinkFault(
                f"the way to {self.device} jumps over more than {_JUMPS} hosts",
                reason="too_many_jumps",
                next_step="look for a circle of ProxyJump in the SSH configuration",
                device=self.device,
            )
        # a jump host sees only ciphertext, but it is logged in to: nothing unknown may stand there
        strict = Vouching(fingerprints=self.terms.vouching.fingerprints)
        for name in hop.jumps:
            jump = self.terms.config.resolve(name.host, user=name.user, port=name.port)
            if under is None:  # the first of a list may have jumps of its own; the others are reached through it
                under = self._under(jump, deadline, depth + 1)
            try:
                under = self._linked(jump, ((jump.known_as, jump.known_port),), _Who(), deadline, strict, under)
            except FieldopsError as error:
                error.message = f"jump host {_where(jump)}: {error.message}"
                raise
            with contextlib.suppress(LinkFault):  # so that sshd sets TCP_NODELAY; a host for jumps only may refuse commands
                under.run(["true"], deadline.within(_WARM_S))
        return under

    def _linked(
        self, hop: Hop, names: Names, who: _Who, deadline: Deadline, vouching: Vouching, under: SshLink | None
    ) -> SshLink:
        """Closes what it was given and what it made when it fails."""
        with contextlib.ExitStack() as stack:
            if under is not None:
                stack.callback(under.close)
            known = self.known_hosts.plus(hop.known_hosts_files)
            # as ssh counts it: for each host by itself, from the dial to the agreed keys
            limited = _limited(hop, deadline)
            sock = self._sock(hop, under, limited)
            stack.callback(sock.close)
            transport = handshake.shaken(sock, _where(hop), types_on_file(known, names), limited, self.device)
            stack.callback(transport.close)
            shown = transport.get_remote_server_key()
            key = (shown.get_name(), shown.asbytes())
            judged = judge(*key, names, known, vouching, labels=who.labels, ids=who.ids, device=self.device)
            log_in(
                transport,
                hop.user,
                _where(hop),
                tuple(dict.fromkeys([*self.identities, *hop.identity_files])),
                self.terms.keys,
                deadline,
                self.device,
                passwords=self.terms.passwords and judged.unknown is None,
                agent=not hop.identities_only,
            )
            link = SshLink(
                transport,
                sock,
                key,
                self.device,
                deadline.monotonic,
                unverified=judged.unknown,
                first_use=judged.by == "first_use",
                under=under,
            )
            stack.pop_all()
            return link

    def _sock(self, hop: Hop, under: SshLink | None, deadline: Deadline) -> Heard:
        if under is None:
            return handshake.dialled(hop.host, hop.port, deadline, self.device)
        channel = under.open("direct-tcpip", (hop.host, hop.port, "127.0.0.1", 0), deadline)
        return handshake.through(channel, deadline)


def _limited(hop: Hop, deadline: Deadline) -> Deadline:
    return deadline.within(hop.connect_timeout) if hop.connect_timeout else deadline


def _where(hop: Hop) -> str:
    return f"{hop.host}:{hop.port}"
