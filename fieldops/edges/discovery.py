"""DNS-SD on the plant network: who says to be a fieldops device, and where. Hints, never proof.

Anybody on the network can say anything here. A hint gives an address to ask; who answers there is proved by the link.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import zeroconf

from fieldops.deadline import Deadline
from fieldops.errors import LinkFault
from fieldops.fleet import ID_PATTERN, Address, DeviceId, Hint, SshAddress

SERVICE = "_fieldops._tcp.local."
MOST = 1000  # hints taken from one browse: a hostile neighbour may announce without end
_STEP_S = 0.1
_ASK_MS = 1500


@dataclass(frozen=True, slots=True)
class Announcement:
    """addresses: where it listens, and the interfaces told; empty: all."""

    device: str
    port: int
    ssh_port: int = 22
    addresses: tuple[str, ...] = ()


def _zeroconf(addresses: Sequence[str]) -> zeroconf.Zeroconf:
    return zeroconf.Zeroconf(interfaces=list(addresses) or zeroconf.InterfaceChoice.Default)


@contextmanager
def announce(what: Announcement) -> Iterator[None]:
    """Answers questions for as long as the block runs. Raises OSError where no interface can multicast."""
    info = zeroconf.ServiceInfo(
        SERVICE,
        f"{what.device}.{SERVICE}",
        port=what.port,
        addresses=[ipaddress.ip_address(address).packed for address in what.addresses or _own_addresses()],
        properties={"v": "1", "id": what.device, "ssh": str(what.ssh_port)},
        server=f"dev-{what.device[:8]}.local.",
    )
    speaker = _zeroconf(what.addresses)
    try:
        with contextlib.suppress(zeroconf.NonUniqueNameException):  # our own answer from before a restart
            speaker.register_service(info, allow_name_change=False)
        yield
    finally:
        speaker.close()


def _own_addresses() -> list[str]:
    """The address this host would use towards the outside; loopback when it has none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return [str(probe.getsockname()[0])]
        except OSError:
            return ["127.0.0.1"]


@dataclass(slots=True)
class _Ears(zeroconf.ServiceListener):
    """Names heard so far. zeroconf calls from its own thread; asking for details is left to ours."""

    names: dict[str, None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:  # noqa: ARG002 - zeroconf's signature
        with self.lock:
            if len(self.names) < MOST:
                self.names[name] = None

    def update_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Details are asked for once."""

    def remove_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """A device that says goodbye may still answer; asking it costs little."""

    def heard(self) -> list[str]:
        with self.lock:
            return list(self.names)


def browse(deadline: Deadline, *, interfaces: Sequence[str] = (), enough: int | None = None) -> list[Hint]:
    """Listens until the deadline (or until `enough` were heard); its end is no error here. Raises Cancelled, LinkFault.

    interfaces: own addresses to listen on; empty: all.
    """
    try:
        listening = _zeroconf(interfaces)
    except OSError as error:
        raise LinkFault(
            f"cannot listen for DNS-SD: {error.strerror or error}",
            reason="no_multicast",
            next_step="add devices by their address: fieldops device add NAME --ssh user@host",
        ) from error
    try:
        ears = _Ears()
        browser = zeroconf.ServiceBrowser(listening, SERVICE, listener=ears)
        hints: dict[str, Hint] = {}
        asked: set[str] = set()
        while not deadline.passed and (enough is None or len(hints) < enough):
            new = [name for name in ears.heard() if name not in asked]
            if not new:
                deadline.cancel.wait(min(_STEP_S, deadline.left()))
            for name in new:
                asked.add(name)
                hints |= _details(listening, name, deadline)
            if deadline.cancel.cancelled:
                deadline.check("discovery")
        browser.cancel()
        return list(hints.values())
    finally:
        listening.close()


def _details(listening: zeroconf.Zeroconf, name: str, deadline: Deadline) -> dict[str, Hint]:
    """Empty when it does not answer, or with nonsense."""
    try:
        info = listening.get_service_info(SERVICE, name, timeout=min(_ASK_MS, max(50, int(deadline.left() * 1000))))
    except (zeroconf.Error, ValueError):
        return {}
    if info is None or not info.port:
        return {}
    addresses = info.parsed_scoped_addresses()
    if not addresses:
        return {}
    hint = hint_of(name, addresses[0], info.port, {key: value or b"" for key, value in info.properties.items()})
    return {name: hint}


def hint_of(name: str, host: str, port: int, text: dict[bytes, bytes]) -> Hint:
    """A record as a hint: what is no id or port is left out, what cannot be shown is stripped."""
    label = name.removesuffix(f".{SERVICE}").removesuffix(SERVICE)
    claimed = text.get(b"id", b"").decode("ascii", "replace")
    ssh_port = text.get(b"ssh", b"").decode("ascii", "replace")
    has_ssh = re.fullmatch(r"\d{1,5}", ssh_port) is not None and 0 < int(ssh_port) < 65536
    return Hint(
        name=shown(label)[:63],
        lan=Address(host, port),
        ssh=SshAddress(None, host, int(ssh_port)) if has_ssh else None,
        id=DeviceId(claimed) if ID_PATTERN.fullmatch(claimed) else None,
    )


def shown(text: str) -> str:
    """Without control characters, and without the brackets that a console reads as markup."""
    return "".join(char for char in text if char.isprintable() and char not in "[]")
