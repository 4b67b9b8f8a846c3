"""The laptop side: the only place where an edge meets a port, and where the clock is read.

Every edge is imported when it is first asked for, so that a light verb pays for nothing else. Opening a laptop creates
nothing on disk; what writes (keys, log, cache) creates its own folder when it first writes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, TypeVar, cast, overload

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges.clock import SystemClock
from fieldops.errors import Cancelled, LinkFault, StorageFault, StoreFault, TrustRefused, UsageFault

if TYPE_CHECKING:  # types only: at run time each is imported by the property that makes one
    from fieldops.bundles.support import Support
    from fieldops.config import Config
    from fieldops.edges.agent_api import AgentDevice
    from fieldops.edges.bench_records import BenchRecords
    from fieldops.edges.installing import InstallingDevice, Wishes
    from fieldops.edges.keys import Ed25519Signer
    from fieldops.edges.kit import KitFolder
    from fieldops.edges.known_hosts import KnownHosts
    from fieldops.edges.pool import Pool
    from fieldops.edges.probe import BareDevice
    from fieldops.edges.samples import SampleFolder
    from fieldops.edges.ssh import Keys, SshLink, Terms
    from fieldops.edges.ssh_config import SshConfig
    from fieldops.edges.tuf_client import TrustStore
    from fieldops.edges.tuf_keys import KeyFolder
    from fieldops.edges.tuf_signer import ReleaseRepo
    from fieldops.fleet import DeviceEntry, DeviceId, Hint, Inventory
    from fieldops.operations.discover import Found
    from fieldops.operations.gate import Gate, Words
    from fieldops.operations.hostkeys import OfferedKey
    from fieldops.operations.kit import MadeKit
    from fieldops.operations.release import Appraiser
    from fieldops.operations.renew import Renewable
    from fieldops.policy import Actor
    from fieldops.ports import (
        Ask,
        Device,
        InventoryFile,
        Journal,
        Media,
        OnProgress,
        Runner,
        Runs,
        Source,
        Store,
        Technician,
        Trail,
        Trust,
    )
    from fieldops.steps import Approval
    from fieldops.wire import Hello, Session, StepRecord

    # for the front ends, which know no edge
    Release: TypeAlias = ReleaseRepo
    ReleaseKeys: TypeAlias = KeyFolder

T = TypeVar("T")

CACHE_LIMIT_BYTES = 8 << 30  # verified copies of bundles; beyond it the ones unused for longest go
LAN_TRY_S = 5.0  # a cut plant network must not eat the time that SSH needs


@dataclass(frozen=True, slots=True)
class Installed:
    """A device after its agent came from a kit. proof "": it was not seen to come back by itself, and unproved says why."""

    hello: Hello
    proof: str
    unproved: str


class once(Generic[T]):  # noqa: N801 - used like property
    """A value made at first use, by one thread only (functools.cached_property lost its lock in Python 3.12)."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, laptop: None, owner: type) -> Self: ...
    @overload
    def __get__(self, laptop: object, owner: type) -> T: ...
    def __get__(self, laptop: object | None, owner: type) -> Self | T:
        if laptop is None:
            return self
        with laptop._lock:  # type: ignore[attr-defined]  # noqa: SLF001 - Laptop's own
            values = laptop.__dict__
            if self._name not in values:
                values[self._name] = self._make(laptop)
            return cast("T", values[self._name])


def home_folder(home: Path | None = None) -> Path:
    """`--home`, else FIELDOPS_HOME, else where this system keeps a program's data."""
    if home is not None:
        return home.expanduser().absolute()
    if os.environ.get("FIELDOPS_HOME"):
        return Path(os.environ["FIELDOPS_HOME"]).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("fieldops", appauthor=False)


def data_dir(name: str, override: Path | None = None) -> Path:
    """`themes` or `sample_fleet`: inside the installed wheel, else beside the package in a checkout. Raises StorageFault."""
    package = Path(__file__).resolve().parent
    places = [*([override / name] if override else []), package / "_data" / name, package.parent / name]
    for place in places:
        if place.is_dir():
            return place
    raise StorageFault(
        f"no folder {name} at {', '.join(str(place) for place in places)}",
        reason="missing_data",
        next_step="install fieldops again, or set `data` in config.toml",
    )


def read_config(home: Path) -> Config:
    """Defaults when there is no file. Raises UsageFault with every fault, StorageFault when it cannot be read."""
    from fieldops.config import Config, parse_config

    file = home / "config.toml"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except UnicodeDecodeError as error:
        raise UsageFault(f"{file}: not UTF-8 text", reason="bad_file", next_step="save it as UTF-8") from error
    except OSError as error:
        raise StorageFault(f"{file}: {error.strerror}", reason="unreadable", next_step="mend the file's permissions") from error
    return parse_config(text, str(file), base=home, user_home=Path.home())


class Laptop:
    """This laptop: its home folder and everything that lives in it. Safe to share between threads; close it at the end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = SystemClock()
        self._lock = threading.RLock()
        self._settled = False
        self.ask: Ask | None = None  # set by a front end where somebody is there to be asked

    @classmethod
    def open(cls, home: Path | None = None) -> Self:
        """Creates nothing on disk."""
        return cls(home_folder(home))

    def hang_up(self) -> None:
        """End the links that are kept open; those in use end with their use. The next use connects anew."""
        with self._lock:
            links = self.__dict__.pop("_links", None)
        if links is not None:
            links.close()

    def close(self) -> None:
        self.hang_up()
        with self._lock:
            journal = self.__dict__.pop("journal", None)
        if journal is not None:
            journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def deadline(self, seconds: float, cancel: CancelToken | None = None) -> Deadline:
        return Deadline.after(seconds, self.clock.monotonic, cancel)

    def data_dir(self, name: str) -> Path:
        return data_dir(name, self.config.data)

    @once
    def config(self) -> Config:
        return read_config(self.home)

    # --- the inventory ---------------------------------------------------------------------------------------------------

    @once
    def inventory_file(self) -> InventoryFile:
        from fieldops.edges.inventory import FleetFile

        return FleetFile(self.home / "fleet.toml", self.home / "known_hosts")

    def inventory(self) -> Inventory:
        """As the file is now; empty when there is none."""
        return self.inventory_file.read()

    # --- who is here, and what they did ------------------------------------------------------------------------------------

    @once
    def signer(self) -> Ed25519Signer:
        """This laptop's key; the first use makes it."""
        from fieldops.edges.keys import Ed25519Signer

        return Ed25519Signer.load_or_create(self.home / "keys" / "laptop.key")

    @once
    def technician(self) -> Technician:
        from fieldops.edges.keys import PersonFile

        return _OneAtATime(PersonFile(self.config.person_key, self.signer.laptop, self.home / "cache" / "session.json"))

    def approve(self, statement: str) -> Approval:
        """This person's SSH signature on a statement. Raises UsageFault (no_key) where config.toml names no key."""
        from fieldops.bundles.approvals import APPROVAL_NAMESPACE
        from fieldops.edges.keys import sshsig_sign
        from fieldops.steps import Approval

        if self.config.person_key is None:
            raise UsageFault(
                "nobody is signed in here", reason="no_key", next_step="name your SSH key under [person] in config.toml"
            )
        signature = sshsig_sign(self.config.person_key, APPROVAL_NAMESPACE, statement.encode("utf-8"))
        return Approval(statement=statement, signature=signature)

    @once
    def journal(self) -> Trail:
        """Reading loads no cryptography: the key is asked for at the first append."""
        from fieldops.edges.journal import SqliteJournal

        return SqliteJournal.open(self.home / "audit.db", lambda: self.signer, self.clock, self._witness_key)

    def _witness_key(self, witness: str) -> bytes | None:
        """The raw key of `device:<id>` where enrolment pinned its certificate."""
        from fieldops.edges.keys import certificate_key

        kind, _, device = witness.partition(":")
        pin = self.pin_of(device) if kind == "device" else None
        return certificate_key(pin) if pin is not None else None

    def gate(self) -> Gate:
        """With the policy as this laptop trusts it now. What a process that is gone left open in the log is settled first."""
        from fieldops.operations.gate import Gate

        gate = Gate(self.journal, self.signer, self.technician, self.trust.policy(), self.clock)
        with self._lock:
            if not self._settled:
                self._settled = True
                gate.settle_open()
        return gate

    def exclusive(self, what: str) -> AbstractContextManager[object]:
        """what: `console` or `sync`. Raises StorageFault (in_use) when another process of this home has it."""
        from fieldops.edges.locks import exclusive

        return exclusive(self.home / f"{what}.lock", what)

    # --- trust, media, models ----------------------------------------------------------------------------------------------

    @property
    def trust(self) -> Trust:
        return self._trust_store

    @once
    def _trust_store(self) -> TrustStore:
        from fieldops.edges.tuf_client import TrustStore

        return TrustStore(self.home / "trust", self.home / "cache", self.clock, cache_limit=CACHE_LIMIT_BYTES)

    @once
    def media(self) -> Media:
        from fieldops.edges.usb import StickMedia

        return StickMedia(also=self.config.stick_folders)

    @once
    def runs(self) -> Runs:
        """Runbook runs of this laptop."""
        from fieldops.edges.runs import RunFolder

        return RunFolder(self.home / "runs", self.clock)

    @once
    def samples(self) -> SampleFolder:
        """Inputs that devices kept, and their labels."""
        from fieldops.edges.samples import SampleFolder

        return SampleFolder(self.home / "samples")

    @once
    def benchmarks(self) -> BenchRecords:
        """The runs `fieldops bench` took here."""
        from fieldops.edges.bench_records import BenchRecords

        return BenchRecords(self.home / "runs" / "bench", self.clock)

    @once
    def runner(self) -> Runner:
        from fieldops.edges.onnx import OnnxRunner

        return OnnxRunner()

    # --- the centre ----------------------------------------------------------------------------------------------------------

    def store(self) -> Store:
        """Raises StoreFault when none is configured."""
        from fieldops.edges.store_api import HttpStore

        if self.config.store_url is None:
            raise StoreFault(
                "no central store is configured",
                reason="no_store",
                next_step=f"set `url` under [store] in {self.home / 'config.toml'}; entries stay queued until then",
            )
        # What the store signed proves that it is at least this late, whatever this laptop's clock says.
        return HttpStore(self.config.store_url, self.signer.public_key, attested=self._trust_store.raise_floor)

    # --- links -----------------------------------------------------------------------------------------------------------------

    @contextmanager
    def connect(self, entry: DeviceEntry, deadline: Deadline) -> Iterator[Device]:
        """LAN first where the device is pinned, then SSH to its agent, else SSH alone. Raises LinkFault of the last tried.

        A link stays open for the next who wants it, and is shared by those who want it at once.
        """
        with self._links.borrow(entry, self._ground(entry), lambda: self._dial(entry, deadline), deadline) as device:
            yield device

    @once
    def _links(self) -> Pool[AgentDevice | BareDevice]:
        from fieldops.edges.pool import Pool

        return Pool(self.clock.monotonic)

    def _ground(self, entry: DeviceEntry) -> tuple[object, ...]:
        """What a link stands on: whose keys are trusted, how hosts are reached, what the policy says. Changed, it is made anew."""
        person = Path.home() / ".ssh"
        files = (
            self.home / "known_hosts",
            person / "known_hosts",
            self.config.ssh_config or person / "config",
            self.home / "trust" / "metadata" / "timestamp.json",
        )
        return (self.pin_of(entry.id), *(_stamp(file) for file in files))

    def _dial(self, entry: DeviceEntry, deadline: Deadline) -> AgentDevice | BareDevice:
        pin = self.pin_of(entry.id)
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
        return self._over_ssh(entry, deadline, look=True)

    def pin_of(self, device: str | None) -> str | None:
        """The certificate (PEM) that enrolment pinned for this device id; None when it never was."""
        if device is None:
            return None
        try:
            return (self.home / "trust" / "devices" / f"{device}.pem").read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFault(
                f"{error.filename}: {error.strerror}", reason="unreadable", next_step="mend the file's permissions"
            ) from error

    @once
    def certificate(self) -> str:
        """What this laptop shows on a device's LAN port (PEM, self-signed by its key)."""
        from fieldops.edges.keys import self_signed_certificate

        return self_signed_certificate(self.signer, f"laptop-{self.signer.laptop}.fieldops.internal")

    def known_hosts(self) -> KnownHosts:
        """This laptop's own and the person's, as the files are now."""
        from fieldops.edges.known_hosts import KnownHosts

        return KnownHosts.load([self.home / "known_hosts", Path.home() / ".ssh" / "known_hosts"])

    def identities(self) -> tuple[Path, ...]:
        """SSH keys offered to devices: as configured, else the person's, else the usual ones."""
        if self.config.ssh_identities:
            return self.config.ssh_identities
        if self.config.person_key is not None:
            return (self.config.person_key,)
        usual = (Path.home() / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
        return tuple(path for path in usual if path.is_file())

    def _over_lan(self, entry: DeviceEntry, pin: str, deadline: Deadline) -> AgentDevice:
        from fieldops.edges.lan import lan_device

        return lan_device(entry, pin, self.certificate, self.home / "keys" / "laptop.key", deadline)

    def _over_ssh(self, entry: DeviceEntry, deadline: Deadline, *, look: bool = False) -> AgentDevice | BareDevice:
        from fieldops.edges.probe import ssh_device

        return ssh_device(
            entry,
            known_hosts=self.known_hosts(),
            identities=self.identities(),
            deadline=deadline,
            terms=self.ssh_terms(look=look),
            met=lambda link: self._met(entry, link),
        )

    def ssh_terms(self, *, look: bool = False) -> Terms:
        """look: a host that nothing vouches for may be looked at. What else is allowed stands in the signed policy."""
        from fieldops.edges.ssh import Terms, Vouching

        try:
            policy = self.trust.policy()
        except TrustRefused:  # a policy that is not to be trusted allows nothing more, and looking needs none
            from fieldops.policy import NO_POLICY

            policy = NO_POLICY
        self._ssh_keys.ask = self.ask
        vouching = Vouching(policy.host_keys, first_use=policy.trust_on_first_use, look=look)
        return Terms(self.ssh_config(), vouching, self._ssh_keys, policy.ssh_passwords)

    def ssh_config(self) -> SshConfig:
        """The person's, as the files are now, or the one that config.toml names."""
        from fieldops.edges.ssh_config import SshConfig

        return SshConfig.of_person(self.config.ssh_config)

    @once
    def _ssh_keys(self) -> Keys:
        """Opened once in this process; a passphrase is asked for once."""
        from fieldops.edges.ssh import Keys

        return Keys()

    def _met(self, entry: DeviceEntry, link: SshLink) -> None:
        """A host met for the first time, where the policy trusts that: its key is written down, so the next time is not."""
        if not link.first_use:
            return
        from fieldops.edges.keys import ssh_fingerprint
        from fieldops.operations import hostkeys
        from fieldops.operations.gate import Words

        key_type, blob = link.host_key
        offered = hostkeys.OfferedKey(key_type, blob, ssh_fingerprint(blob), "unknown")
        hostkeys.accept(
            self.gate(), self.inventory_file, entry, offered, words=Words(reason="first use, which the policy trusts")
        )

    def host_key(self, entry: DeviceEntry, deadline: Deadline) -> OfferedKey:
        """What the host shows now, without logging in, and what is known of it. Raises LinkFault."""
        from fieldops.edges.keys import ssh_fingerprint
        from fieldops.edges.ssh import host_key, names_of, verdict_on
        from fieldops.operations.hostkeys import OfferedKey

        known_hosts, terms = self.known_hosts(), self.ssh_terms()
        key_type, blob = host_key(entry, deadline, known_hosts=known_hosts, identities=self.identities(), terms=terms)
        verdict = verdict_on(known_hosts, names_of(entry, terms.config), blob)
        known = tuple(ssh_fingerprint(key) for _, key in verdict.known)
        return OfferedKey(key_type, blob, ssh_fingerprint(blob), verdict.kind, known)

    def enrol(
        self,
        entry: DeviceEntry,
        deadline: Deadline,
        words: Words,
        *,
        label: str = "",
        adopt: bool = False,
        progress: OnProgress | None = None,
    ) -> Hello:
        """Over SSH only: a LAN pin is what this makes. Returns the device's hello after it."""
        device = self._over_ssh(entry, deadline)
        try:
            self._know_witness(device.hello(deadline))
            return self._enrolled(device, deadline, words, label=label, adopt=adopt, progress=progress)
        finally:
            device.close()

    def _enrolled(
        self,
        device: Device,
        deadline: Deadline,
        words: Words,
        *,
        label: str,
        adopt: bool,
        progress: OnProgress | None,
        installs: bool = False,
    ) -> Hello:
        from fieldops.operations import enrol as operation

        gate = self.gate()
        hello = operation.enrol(
            gate,
            device,
            self.inventory_file,
            self.trust,
            self.certificate,
            self._save_pin,
            deadline,
            words,
            label=label,
            installs=installs,
            progress=progress,
        )
        if adopt:
            operation.adopt(gate, device, deadline, words, progress=progress)
        return hello

    def install(
        self,
        entry: DeviceEntry,
        kit: Path,
        deadline: Deadline,
        words: Words,
        *,
        label: str = "",
        lan: str = "",
        foreign: tuple[str, str] | None = None,
        adopt: bool = False,
        progress: OnProgress | None = None,
    ) -> Installed:
        """Push the kit, install, enrol, prove. Raises UsageFault for a kit that is not as it was built."""
        from fieldops.edges.installing import Wishes
        from fieldops.edges.kit import read

        wishes = Wishes(device_class=entry.device_class, label=entry.site, lan=lan, foreign=foreign)
        device = self._installing(entry, read(kit), wishes)
        try:
            self._know_witness(device.hello(deadline))
            hello = self._enrolled(device, deadline, words, label=label, adopt=adopt, progress=progress, installs=True)
            return Installed(hello, device.proof, device.unproved)
        finally:
            device.close()

    def remove_agent(
        self, entry: DeviceEntry, deadline: Deadline, words: Words, *, progress: OnProgress | None = None
    ) -> StepRecord:
        """Unenrol, then take the agent's software and folder away."""
        from fieldops.edges.installing import Wishes
        from fieldops.operations.enrol import unenrol

        device = self._installing(entry, None, Wishes())
        try:
            return unenrol(self.gate(), device, self.inventory_file, self._drop_pin, deadline, words, progress=progress)
        finally:
            device.close()

    def _installing(self, entry: DeviceEntry, kit: KitFolder | None, wishes: Wishes) -> InstallingDevice:
        from fieldops.edges.installing import InstallingDevice
        from fieldops.edges.probe import ssh_device
        from fieldops.edges.ssh import connect

        def dial(deadline: Deadline) -> SshLink:
            return connect(
                entry, known_hosts=self.known_hosts(), identities=self.identities(), deadline=deadline, terms=self.ssh_terms()
            )

        def agent(deadline: Deadline) -> AgentDevice | BareDevice:
            return ssh_device(
                entry, known_hosts=self.known_hosts(), identities=self.identities(), deadline=deadline, terms=self.ssh_terms()
            )

        return InstallingDevice(entry, dial, agent, self._know_witness, kit, wishes)

    def _drop_pin(self, device: DeviceId) -> None:
        from fieldops.edges.disk import storage_faults

        pin = self.home / "trust" / "devices" / f"{device}.pem"
        with storage_faults(pin):
            pin.unlink(missing_ok=True)

    def _know_witness(self, hello: Hello) -> None:
        """Before the device first cosigns the log: without its key nobody could tell later what it has seen."""
        from fieldops.wire import unb64

        if hello.versions != (0, 0):  # a bare device signs nothing
            self.journal.know_witness(f"device:{hello.device}", unb64(hello.public_key))

    def _save_pin(self, device: DeviceId, certificate: str) -> None:
        from fieldops.edges.disk import write_whole

        write_whole(self.home / "trust" / "devices" / f"{device}.pem", certificate.encode("ascii"), 0o644)

    def discover(self, hints: Iterable[Hint], deadline: Deadline) -> tuple[Found, ...]:
        """Ask every device of the inventory, and every hint, for its hello."""
        from fieldops.operations.discover import discover

        def hello(entry: DeviceEntry, until: Deadline) -> Hello:
            with self.connect(entry, until) as device:
                return device.hello(until)

        return discover(self.inventory().devices, hints, hello, deadline)

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
        from fieldops.edges.probe import BareDevice

        with self.connect(entry, deadline) as device:
            return device.support(deadline) if isinstance(device, BareDevice) else None

    # --- installation kits -------------------------------------------------------------------------------------------------------

    def build_kit(self, platform: str, python: str, dest: Path, deadline: Deadline, progress: OnProgress) -> MadeKit:
        """While online. Raises DeviceCannot (no_wheel), LinkFault (no_index)."""
        from fieldops.edges.kit import build as maker
        from fieldops.operations.kit import build

        return build(maker, platform, python, dest, deadline, progress)

    def read_kit(self, folder: Path) -> MadeKit:
        """Raises UsageFault when it is not as it was built."""
        from fieldops.edges.kit import read

        return read(folder)

    # --- the release team's side -------------------------------------------------------------------------------------------------

    def release(self, repo: Path, keys: KeyFolder) -> ReleaseRepo:
        """Raises UsageFault when there is no repository."""
        from fieldops.edges.tuf_signer import ReleaseRepo

        return ReleaseRepo(repo, keys, self.clock)

    def new_release(self, repo: Path, keys: KeyFolder, thresholds: Mapping[str, int]) -> ReleaseRepo:
        """With new keys, or those that lie in the folder. Raises UsageFault when there is a repository already."""
        from fieldops.edges.tuf_signer import ReleaseRepo

        return ReleaseRepo.init(repo, keys, self.clock, thresholds=thresholds)

    def sign_carried(self, keys: KeyFolder, role: str, names: Sequence[str], file: Path) -> list[str]:
        """Sign a pending role that was carried here. What it says, a line each."""
        from fieldops.edges.tuf_signer import ReleaseRepo

        return ReleaseRepo.sign_carried(keys, role, names, file)

    def release_keys(self, keys: Path, ask: Callable[[str], bytes] | None, passphrase_file: Path | None) -> KeyFolder:
        """ask: for a key's passphrase, by its name; None: nobody can be asked."""
        from fieldops.edges.tuf_keys import KeyFolder, passphrase_in

        return KeyFolder(keys, passphrase_in(passphrase_file) if passphrase_file is not None else ask)

    @property
    def appraiser(self) -> Appraiser:
        from fieldops.edges.appraisal import OnnxAppraiser

        return OnnxAppraiser()

    def renewal(self, file: Path) -> Source:
        """A renewal file as a source of metadata. Raises TrustRefused (malformed, oversized), UsageFault."""
        from fieldops.edges.renewal import RenewalFile

        return RenewalFile.read_from(file)

    def stick_at(self, path: str) -> Renewable:
        """A stick that can be written to. Raises UsageFault when there is none."""
        from fieldops.edges.renewal import StickFolder

        return StickFolder.at(path)


def _stamp(file: Path) -> tuple[int, int] | None:
    """Another stamp, another content; None: no such file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class _OneAtATime:
    """A technician asked by many threads: one proof is made, the others find it. A hardware key is touched once."""

    def __init__(self, person: Technician) -> None:
        self.person = person
        self.asking = threading.Lock()

    def actor(self) -> Actor:
        return self.person.actor()

    def proof(self, journal: Journal, now: float) -> Session | None:
        with self.asking:
            return self.person.proof(journal, now)


def main_of_store(arguments: list[str]) -> int:
    """`fieldops central serve ...` is the store's own program; it shares this process but nothing of the laptop."""
    from fieldops.central.__main__ import main

    sys.argv = ["fieldops central", *arguments]
    return main()
