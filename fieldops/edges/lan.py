"""The agent's LAN port: TLS 1.3, both certificates pinned at enrolment, the name `dev-<id>` expected at whatever address.

A refused client certificate shows under TLS 1.3 only after the handshake, as a connection that just ends. So a first
request that breaks is asked once more without a certificate: a 401 then means "not enrolled".
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpcore
import httpx

from fieldops.deadline import Deadline
from fieldops.edges import dial
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.agent_requests import QUIET_S
from fieldops.edges.keys import certificate_key
from fieldops.edges.pipe import FixedBackend, client_over
from fieldops.errors import LinkFault, LinkLost, NotAuthorised, StorageFault, Unreachable
from fieldops.fleet import Address, DeviceEntry, key_id, tls_name

_CONNECT_S = 10.0
_OUT_OF_TIME = (9, 10)  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, ..._HAS_EXPIRED


class _LanBackend(FixedBackend):
    def __init__(self, address: Address, monotonic: Callable[[], float]) -> None:
        self._address, self._monotonic = address, monotonic
        self.reached = False  # something there took a connection

    def open(self, timeout: float | None) -> httpcore.NetworkStream:
        # the client outlives the call that made it, and so its deadline and cancel token
        limit = Deadline.after(timeout or _CONNECT_S, self._monotonic)
        try:
            found = dial.resolve(self._address.host, self._address.port, limit)
        except Unreachable as error:
            raise httpcore.ConnectError(str(error)) from error
        failed: Exception = httpcore.ConnectError("no address")
        for _, host, port in found:
            try:
                return self._open_one(host, port, limit.left())
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    def _open_one(self, host: str, port: int, timeout: float) -> httpcore.NetworkStream:
        stream = httpcore.SyncBackend().connect_tcp(host, port, timeout)
        dial.tune(stream.get_extra_info("socket"))
        self.reached = True
        return stream


def lan_client(
    entry: DeviceEntry, pinned_certificate_pem: str, client_certificate: str, client_key: Path, deadline: Deadline
) -> httpx.Client:
    """A client whose other side proved to be the entry's device, and which takes this laptop.

    client_certificate: PEM; client_key: the file of its key. Raises Unreachable (phase tcp, tls), NotAuthorised (not_enrolled), LinkFault (wrong_device), LinkLost.
    """
    if entry.lan is None:
        raise Unreachable(
            f"{entry.name} has no LAN address",
            phase="dns",
            next_step='write `lan = "host:port"` in fleet.toml',
            device=entry.name,
        )
    pinned = key_id(certificate_key(pinned_certificate_pem))
    if entry.id is not None and pinned != entry.id:
        raise LinkFault(
            f"the certificate pinned for {entry.name} is {pinned[:8]}'s, not {entry.id[:8]}'s",
            reason="wrong_device",
            next_step=f"enrol it again over SSH: fieldops device enrol {entry.name}",
            device=entry.name,
        )
    base = f"https://{tls_name(pinned)}"
    backend = _LanBackend(entry.lan, deadline.monotonic)
    client = client_over(backend, base, _context(pinned_certificate_pem, client_certificate, client_key))
    try:
        _prove(client, entry, pinned_certificate_pem, backend, deadline)
    except BaseException:
        client.close()
        raise
    return client


def lan_device(
    entry: DeviceEntry, pinned_certificate_pem: str, client_certificate: str, client_key: Path, deadline: Deadline
) -> AgentDevice:
    """The device behind lan_client. After a lost link its client connects again by itself."""
    client = lan_client(entry, pinned_certificate_pem, client_certificate, client_key, deadline)
    return AgentDevice(entry, "lan", client, client.close)


def _context(pinned: str, certificate: str | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the pin itself is the anchor
    context.load_verify_locations(cadata=pinned)
    if certificate is not None:
        with tempfile.TemporaryDirectory(prefix="fieldops-") as folder:  # ssl takes a certificate from files only
            file = Path(folder) / "laptop.pem"
            file.write_text(certificate, encoding="ascii")
            try:
                context.load_cert_chain(file, key)
            except (OSError, ssl.SSLError) as error:
                raise StorageFault(
                    f"{key}: {error}", reason="io_error", next_step="check who may read the laptop's keys folder"
                ) from error
    return context


def _prove(client: httpx.Client, entry: DeviceEntry, pinned: str, backend: _LanBackend, deadline: Deadline) -> None:
    limit = httpx.Timeout(min(QUIET_S, deadline.check("tls", entry.name)))
    try:
        response = client.get("/v1/hello", timeout=limit)
    except (httpx.RemoteProtocolError, httpx.ReadError) as broken:
        raise _why_broken(entry, pinned, backend, deadline) from broken
    except httpx.RequestError as error:
        raise _connecting_fault(error, entry, backend) from error
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise _not_enrolled(entry)


def _why_broken(entry: DeviceEntry, pinned: str, backend: _LanBackend, deadline: Deadline) -> LinkFault:
    """Ask once without a certificate: a device that then says 401 knows us not."""
    with client_over(backend, f"https://{tls_name(key_id(certificate_key(pinned)))}", _context(pinned, None, None)) as stranger:
        try:
            response = stranger.get("/v1/hello", timeout=httpx.Timeout(min(QUIET_S, deadline.check("tls", entry.name))))
        except httpx.RequestError as error:
            return _connecting_fault(error, entry, backend)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return _not_enrolled(entry)
    return LinkLost(
        "the connection ended during the first request", next_step="try again; then look at the agent's log", device=entry.name
    )


def _not_enrolled(entry: DeviceEntry) -> NotAuthorised:
    return NotAuthorised(
        "this laptop is not enrolled on it, or was revoked",
        reason="not_enrolled",
        next_step=f"enrol over SSH: fieldops device enrol {entry.name}",
        device=entry.name,
    )


def _connecting_fault(error: httpx.RequestError, entry: DeviceEntry, backend: _LanBackend) -> LinkFault:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _OUT_OF_TIME:
            return LinkFault(
                f"the certificate of {entry.name} does not hold at this laptop's time: {cause.verify_message}",
                reason="certificate_time",
                next_step="check this laptop's clock; then enrol the device again over SSH, which pins a certificate without end",
                device=entry.name,
            )
        return LinkFault(
            f"another device than {entry.name} answers at {entry.lan}: {cause.verify_message}",
            reason="wrong_device",
            next_step="check the address; if the device was replaced or re-keyed, enrol it again over SSH",
            device=entry.name,
        )
    if cause is None and not backend.reached:
        said, phase = str(error) or type(error).__name__, "tcp"
    else:
        said, phase = str(error) or "it took the connection and then said nothing", "tls"
    return Unreachable(
        f"{entry.lan}: {said}",
        phase=phase,
        next_step="check the cable, the address and that the agent's LAN listener is on",
        device=entry.name,
    )
