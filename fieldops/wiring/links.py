"""How this laptop reaches a device: LAN with pins both ways, SSH as the person's configuration says, and what is on the wire."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fieldops.errors import Cancelled, LinkFault, TrustRefused
from fieldops.wiring.desk import Desk
from fieldops.wiring.once import once

if TYPE_CHECKING:
    from fieldops.bundles.support import Support
    from fieldops.deadline import Deadline
    from fieldops.edges.agent_api import AgentDevice
    from fieldops.edges.known_hosts import KnownHosts
    from fieldops.edges.over_ssh import BareDevice
    from fieldops.edges.pool import Pool
    from fieldops.edges.ssh import Keys, SshLink, Terms
    from fieldops.edges.ssh_config import SshConfig
    from fieldops.fleet import DeviceEntry, Hint
    from fieldops.operations.discover import Found, Survey
    from fieldops.operations.gate import Words
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.ports import Device
    from fieldops.wire import Hello

LAN_TRY_S = 5.0  # a cut plant network must not eat the time that SSH needs


class Links:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.lock = threading.RLock()

    @contextmanager
    def connect(self, entry: DeviceEntry, deadline: Deadline) -> Iterator[Device]:
        """LAN first where the device is pinned, then SSH to its agent, else SSH alone. Raises LinkFault of the last tried.

        A link stays open for the next who wants it, and is shared by those who want it at once.
        """
        with self._kept.borrow(entry, self._ground(entry), lambda: self._dial(entry, deadline), deadline) as device:
            yield device

    @contextmanager
    def anew(self, entry: DeviceEntry, deadline: Deadline) -> Iterator[Device]:
        """A link of its own, made now and shared with nobody: what somebody who comes tomorrow would meet."""
        device = self._dial(entry, deadline)
        try:
            yield device
        finally:
            device.close()

    def hang_up(self) -> None:
        """End the links that are kept open; those in use end with their use. The next use connects anew."""
        kept = Links._kept.forget(self)
        if kept is not None:
            kept.close()

    @once
    def _kept(self) -> Pool[AgentDevice | BareDevice]:
        from fieldops.edges.pool import Pool

        return Pool(self.desk.clock.monotonic)

    def _ground(self, entry: DeviceEntry) -> tuple[object, ...]:
        """What a link stands on: whose keys are trusted, how hosts are reached, what the policy says. Changed, it is made anew."""
        files = (
            *self._known_hosts_files(),
            self.desk.config.ssh_config or Path.home() / ".ssh" / "config",
            self.desk.home / "trust" / "metadata" / "timestamp.json",
        )
        return (self.desk.pins.of(entry.id), *(_stamp(file) for file in files))

    def _dial(self, entry: DeviceEntry, deadline: Deadline) -> AgentDevice | BareDevice:
        pin = self.desk.pins.of(entry.id)
        if entry.lan is not None and pin is not None:
            try:
                return self._over_lan(entry, pin, deadline.within(LAN_TRY_S) if entry.ssh else deadline)
            except Cancelled:
                raise
            except LinkFault:
                if entry.ssh is None or deadline.passed:
                    raise
        if entry.ssh is None:
            raise LinkFault(
                "only a LAN address is known, and this laptop holds no pin for it",
                reason="not_enrolled",
                next_step=f"enrol once over SSH: add `ssh =` in fleet.toml, then `fieldops device enrol {entry.name}`",
                device=entry.name,
            )
        return self.over_ssh(entry, deadline, look=True)

    def _over_lan(self, entry: DeviceEntry, pin: str, deadline: Deadline) -> AgentDevice:
        from fieldops.edges.lan import lan_device

        return lan_device(entry, pin, self.desk.certificate, self.desk.home / "keys" / "laptop.key", deadline)

    # --- SSH -------------------------------------------------------------------------------------------------------------------

    def over_ssh(
        self, entry: DeviceEntry, deadline: Deadline, *, look: bool = False, meet: bool = True
    ) -> AgentDevice | BareDevice:
        """A link of its own. look: see `_terms`; meet: a key that the policy trusts at first use is written down."""
        from fieldops.edges.over_ssh import ssh_device

        return ssh_device(
            entry,
            known_hosts=self._known_hosts(),
            identities=self._identities(),
            deadline=deadline,
            terms=self._terms(look=look),
            met=(lambda link: self._met(entry, link)) if meet else None,
        )

    def login(self, entry: DeviceEntry, deadline: Deadline) -> SshLink:
        """A bare SSH link, for what no agent does."""
        from fieldops.edges.ssh import connect

        return connect(
            entry, known_hosts=self._known_hosts(), identities=self._identities(), deadline=deadline, terms=self._terms()
        )

    def host_key(self, entry: DeviceEntry, deadline: Deadline) -> OfferedKey:
        """What the host shows now, without logging in, and what is known of it. Raises LinkFault."""
        from fieldops.edges.keys import ssh_fingerprint
        from fieldops.edges.ssh import host_key, names_of, verdict_on
        from fieldops.operations.hostkeys import OfferedKey

        known_hosts, terms = self._known_hosts(), self._terms()
        key_type, blob = host_key(entry, deadline, known_hosts=known_hosts, identities=self._identities(), terms=terms)
        verdict = verdict_on(known_hosts, names_of(entry, terms.config), blob)
        known = tuple(ssh_fingerprint(key) for _, key in verdict.known)
        return OfferedKey(key_type, blob, ssh_fingerprint(blob), verdict.kind, known)

    def trust_expected(self, entry: DeviceEntry, expected: str, deadline: Deadline, words: Words) -> None:
        """A host that shows the key whose fingerprint was typed or scanned is trusted from now on; any other is refused."""
        from fieldops.operations import hostkeys

        offered = self.host_key(entry, deadline)
        hostkeys.judge(entry, offered, expected=expected, replace=False)
        if offered.verdict != "ok":
            hostkeys.accept(self.desk.gate(), self.desk.inventory_file, entry, offered, words=words)

    def _known_hosts(self) -> KnownHosts:
        """As the files are now."""
        from fieldops.edges.known_hosts import KnownHosts

        return KnownHosts.load(self._known_hosts_files())

    def _known_hosts_files(self) -> list[Path]:
        """This laptop's own, the person's and the system's."""
        others = [] if self.desk.config.ssh_alone else [Path.home() / ".ssh" / "known_hosts", Path("/etc/ssh/ssh_known_hosts")]
        return [self.desk.home / "known_hosts", *others]

    def _identities(self) -> tuple[Path, ...]:
        """SSH keys offered to devices: as configured, else the person's, else the usual ones."""
        config = self.desk.config
        if config.ssh_identities:
            return config.ssh_identities
        if config.person_key is not None:
            return (config.person_key,)
        usual = (Path.home() / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
        return tuple(path for path in usual if path.is_file())

    def _terms(self, *, look: bool = False) -> Terms:
        """look: a host that nothing vouches for may be looked at. What else is allowed stands in the signed policy."""
        from fieldops.edges.ssh import Terms, Vouching

        try:
            policy = self.desk.trust.policy()
        except TrustRefused:  # a policy that is not to be trusted allows nothing more, and looking needs none
            from fieldops.policy import NO_POLICY

            policy = NO_POLICY
        self._keys.ask = self.desk.ask
        vouching = Vouching(policy.host_keys, first_use=policy.trust_on_first_use, look=look)
        return Terms(self._config(), vouching, self._keys, policy.ssh_passwords)

    def sudo_password(self, entry: DeviceEntry) -> Callable[[SshLink], str | None]:
        """Asks for the login's password as a login itself would: where somebody can be asked and the signed policy allows it."""

        def password(link: SshLink) -> str | None:
            from fieldops.edges.keys import ssh_fingerprint
            from fieldops.ports import Question

            ask = self.desk.ask
            if ask is None or not self.desk.trust.policy().ssh_passwords:
                return None
            host, proved = str(entry.ssh), ssh_fingerprint(link.host_key[1])
            return ask(Question("password", f"Password for sudo on {host}", device=entry.name, host=host, host_key=proved))

        return password

    def _config(self) -> SshConfig:
        """The person's, as the files are now, or the one that config.toml names."""
        from fieldops.edges.ssh_config import SshConfig

        return SshConfig.of_person(self.desk.config.ssh_config)

    @once
    def _keys(self) -> Keys:
        """Opened once in this process; a passphrase is asked for once."""
        from fieldops.edges.ssh import Keys

        return Keys()

    def ask_again(self) -> None:
        """For passphrases of keys that nobody gave when they were asked for."""
        self._keys.ask_again()

    def _met(self, entry: DeviceEntry, link: SshLink) -> None:
        """A host met for the first time, where the policy trusts that: its key is written down, so the next time is not."""
        if not link.first_use:
            return
        from fieldops.edges.keys import ssh_fingerprint
        from fieldops.operations import hostkeys
        from fieldops.operations.gate import Words

        key_type, blob = link.host_key
        offered = hostkeys.OfferedKey(key_type, blob, ssh_fingerprint(blob), "unknown")
        words = Words(reason="first use, which the policy trusts")
        hostkeys.accept(self.desk.gate(), self.desk.inventory_file, entry, offered, words=words)

    # --- who is out there ------------------------------------------------------------------------------------------------------

    def discover(self, hints: Iterable[Hint], deadline: Deadline) -> tuple[Found, ...]:
        """Ask every device of the inventory, and every hint, for its hello."""
        from fieldops.operations.discover import discover

        def hello(entry: DeviceEntry, until: Deadline) -> Hello:
            with self.connect(entry, until) as device:
                return device.hello(until)

        return discover(self.desk.inventory().devices, hints, hello, deadline)

    def survey(self, hints: Iterable[Hint], deadline: Deadline, *, multicast: bool = True, cable: bool = True) -> Survey:
        """`discover`, with what announces itself and who is at the other end of a cable. A laptop without any network has its list."""
        from concurrent.futures import ThreadPoolExecutor

        from fieldops.operations.discover import LISTEN_S, Survey

        known = list(hints)
        deaf: LinkFault | None = None
        with ThreadPoolExecutor(2, thread_name_prefix="fieldops-survey") as pool:
            heard = pool.submit(self.heard, deadline.within(LISTEN_S)) if multicast else None
            neighbours = pool.submit(self.neighbours, deadline.within(LISTEN_S)) if cable else None
        try:
            known += heard.result() if heard is not None else ()
        except LinkFault as error:
            deadline.check("discovery")
            deaf = error
        known += neighbours.result() if neighbours is not None else ()
        return Survey(self.discover(known, deadline), deaf)

    def heard(self, deadline: Deadline) -> list[Hint]:
        """What announces itself on the plant network (DNS-SD) until the deadline. Raises LinkFault without multicast."""
        from fieldops.edges.discovery import browse

        return browse(deadline)

    def neighbours(self, deadline: Deadline) -> list[Hint]:
        """Who is at the other end of a direct cable (IPv6 link-local); often nobody."""
        from fieldops.edges.neighbours import neighbours

        return neighbours(deadline)

    def support(self, entry: DeviceEntry, deadline: Deadline) -> Support | None:
        """What a device without an agent could support; None for one that has its agent. Raises LinkFault."""
        from fieldops.edges.over_ssh import BareDevice

        with self.connect(entry, deadline) as device:
            return device.support(deadline) if isinstance(device, BareDevice) else None


def _stamp(file: Path) -> tuple[int, int] | None:
    """Another stamp, another content; None: no such file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
