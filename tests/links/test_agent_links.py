"""The real agent over every link: enrolled through SSH, read and changed over SSH (socket or bridge) and over LAN."""

# ruff: noqa: F811 - fixtures are imported by name
from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from fieldops.deadline import Deadline
from fieldops.edges import keys, ssh
from fieldops.edges.agent_api import AgentDevice
from fieldops.errors import FieldopsError, LinkFault, NotAuthorised, Unreachable, UsageFault
from fieldops.fleet import Address, DeviceEntry, DeviceId, SshAddress
from fieldops.operations.enrol import enrol
from fieldops.ports import Device, Grant, Progress, TrustedBundle
from fieldops.steps import Revert, Stage, Step
from fieldops.wire import Challenge, JournalPage, StepRecord
from fieldops.wiring import Laptop
from tests.links.bench import Bench, bench, enrolled, near, over_ssh  # noqa: F401 - fixtures
from tests.links.conftest import HAS_SSHD, Cable, SshServer, asyncssh_server, openssh_server, soon

pytestmark = pytest.mark.usefixtures("no_thread_left")

# --- before ----------------------------------------------------------------------------------------------------------------


def test_a_laptop_that_is_not_enrolled_may_look_over_ssh_and_is_refused_on_lan(bench: Bench, near: SshServer) -> None:
    device = over_ssh(near)
    try:
        hello = device.hello(soon())
        assert (hello.device, hello.enrolled, hello.device_class) == (bench.device, False, "test-board")
        assert device.entry.id == bench.device
    finally:
        device.close()
    stranger = keys.Ed25519Signer.generate()
    with pytest.raises(NotAuthorised) as caught:
        bench.over_lan(bench.entry(near), signer=stranger, pin=hello.lan_certificate)
    assert caught.value.reason == "not_enrolled"
    assert "enrol" in caught.value.next_step


def test_a_change_before_enrolment_is_refused_and_nothing_is_written_there(bench: Bench, near: SshServer) -> None:
    device = over_ssh(near)
    try:
        with pytest.raises(FieldopsError) as caught:
            bench.laptop.gate().perform(device, Revert(model="digits"), soon())
        assert caught.value.reason == "not_enrolled"
        assert device.models(soon()).slots == []
    finally:
        device.close()


# --- enrolment -------------------------------------------------------------------------------------------------------------


def test_enrolment_leaves_pin_id_policy_and_a_record(enrolled: Bench, near: SshServer) -> None:
    laptop = enrolled.laptop
    assert laptop.inventory().find("one").id == enrolled.device
    assert (laptop.home / "fleet.toml").read_text().startswith("# mine\n")
    pinned = enrolled.pins[enrolled.device]
    assert keys.certificate_key(pinned) != laptop.signer.public_key
    acts = [(entry.act, entry.phase) for entry, _ in laptop.journal.read()]
    assert [act for act in acts if act[0] in ("Enrol", "RotateTrust", "SetDeviceId")] == [
        ("Enrol", "intent"),
        ("Enrol", "outcome"),
        ("RotateTrust", "intent"),
        ("RotateTrust", "outcome"),
        ("SetDeviceId", "intent"),
        ("SetDeviceId", "outcome"),
    ]
    device = over_ssh(near)
    try:
        trust = device.trust(soon())
        assert trust.laptops == [laptop.signer.laptop]
        assert trust.timestamp_version == laptop.trust.facts().timestamp_version
        assert trust.policy_sha256 == laptop.trust.policy_payload()[1]
    finally:
        device.close()


def test_enrolling_again_does_no_harm(enrolled: Bench, near: SshServer) -> None:
    laptop = enrolled.laptop
    device = over_ssh(near)
    try:
        again = enrol(
            laptop.gate(), device, laptop.inventory_file, laptop.trust, laptop.certificate, enrolled.pins.__setitem__, soon(60)
        )
        assert again.enrolled
    finally:
        device.close()
    assert len(laptop.inventory().devices) == 1


def test_without_a_root_there_is_nothing_to_enrol_with(bench: Bench, near: SshServer, tmp_path: Path) -> None:
    with Laptop.open(tmp_path / "empty") as empty:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "fleet.toml").write_text((bench.laptop.home / "fleet.toml").read_text())
        device = over_ssh(near)
        try:
            with pytest.raises(UsageFault) as caught:
                enrol(
                    empty.gate(),
                    device,
                    empty.inventory_file,
                    empty.trust,
                    empty.certificate,
                    dict[str, str]().__setitem__,
                    soon(),
                )
            assert caught.value.reason == "no_root"
        finally:
            device.close()


# --- reading, the same over every link ---------------------------------------------------------------------------------------


def _reads_all(device: AgentDevice, bench: Bench) -> None:
    assert device.hello(soon()).device == bench.device
    now = device.resources(soon())
    assert now.cpu_count >= 1
    assert now.mem_total_bytes
    assert isinstance(device.models(soon()).slots, list)
    assert isinstance(device.drift(soon()).models, list)
    assert device.journal(0, soon()).newest >= 1
    assert device.trust(soon()).root_version == 1
    assert isinstance(device.logs(5, soon()), list)
    assert device.record(f"{bench.laptop.signer.laptop}.1.9999", soon()) is None


def test_on_the_device_itself(enrolled: Bench) -> None:
    transport = httpx.HTTPTransport(uds=str(enrolled.runtime / "agent.sock"))
    client = httpx.Client(transport=transport, base_url="http://agent")
    with closing(AgentDevice(DeviceEntry(name="one"), "local", client, client.close)) as device:
        _reads_all(device, enrolled)


def test_over_lan(enrolled: Bench, near: SshServer) -> None:
    device = enrolled.over_lan(enrolled.entry(near))
    try:
        assert device.link == "lan"
        _reads_all(device, enrolled)
    finally:
        device.close()


@pytest.mark.parametrize(
    "kind",
    [
        "socket",
        "bridge",
        pytest.param("sshd", marks=[pytest.mark.needs_sshd, pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server")]),
        pytest.param(
            "sshd-bridge", marks=[pytest.mark.needs_sshd, pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server")]
        ),
    ],
)
def test_overover_ssh(kind: str, enrolled: Bench, tmp_path: Path, identity: Path) -> None:
    program = tmp_path / "fieldops-agent"
    program.write_text(f'#!/bin/sh\nexec {" ".join(enrolled.agent_program)} "$@"\n')
    program.chmod(0o755)
    environment = {"FIELDOPS_AGENT_RUNTIME": str(enrolled.runtime), "FIELDOPS_AGENT_PROGRAM": str(program)}
    with ExitStack() as stack:
        if kind.startswith("sshd"):
            more = ["AllowStreamLocalForwarding no"] if kind == "sshd-bridge" else []
            server = stack.enter_context(openssh_server(tmp_path, identity, environment, *more))
        else:
            server = stack.enter_context(asyncssh_server(tmp_path, identity, str(enrolled.runtime / "agent.sock"), environment))
        device = over_ssh(server)
        try:
            assert device.link == "ssh"
            _reads_all(device, enrolled)
        finally:
            device.close()


def test_a_bridge_to_an_agent_that_does_not_run_says_so(enrolled: Bench, near: SshServer, tmp_path: Path) -> None:
    link = ssh.connect(near.entry, known_hosts=near.known_hosts, identities=[near.identity], deadline=soon())
    try:
        program = " ".join(enrolled.agent_program)
        client = link.http(str(tmp_path / "agent.sock"), program=program, deadline=soon())
        with pytest.raises(Unreachable) as caught:
            client.get("/v1/hello", timeout=10)
        assert "No such file" in caught.value.message
    finally:
        link.close()


# --- who it is -----------------------------------------------------------------------------------------------------------


def test_another_device_behind_the_right_address(enrolled: Bench, near: SshServer) -> None:
    other = keys.Ed25519Signer.generate()
    pin = keys.self_signed_certificate(other, f"dev-{other.id}.fieldops.internal")
    with pytest.raises(LinkFault) as caught:
        enrolled.over_lan(enrolled.entry(near), pin=pin)
    assert caught.value.reason == "wrong_device"
    with pytest.raises(LinkFault) as caught:  # the pin is the right one, the entry another device's
        enrolled.over_lan(replace(enrolled.entry(near), id=DeviceId(other.id)))
    assert caught.value.reason == "wrong_device"
    device = over_ssh(near, replace(near.entry, id=DeviceId(other.id)))
    try:
        with pytest.raises(LinkFault) as caught:
            device.hello(soon())
        assert caught.value.reason == "wrong_device"
    finally:
        device.close()


def test_nothing_on_the_lan_port(enrolled: Bench, near: SshServer) -> None:
    with pytest.raises(LinkFault) as caught:
        enrolled.over_lan(replace(near.entry, lan=Address("127.0.0.1", 1)))
    assert caught.value.reason == "unreachable"


# --- changing --------------------------------------------------------------------------------------------------------------


def _stage(bundle: TrustedBundle) -> Stage:
    manifest = bundle.manifest
    return Stage(channel=bundle.channel, model=manifest.model, version=manifest.version, manifest_sha256=bundle.manifest_sha256)


@pytest.mark.parametrize(("link", "version"), [("lan", "1.0.0"), ("ssh", "1.1.0")])
def test_a_change_survives_a_cable_that_is_pulled_at_every_phase(
    link: str, version: str, enrolled: Bench, near: SshServer
) -> None:
    """Once while the step's answer is on its way, once at each phase the device then reports."""
    assert near.entry.ssh is not None
    cable = Cable(enrolled.lan_port if link == "lan" else near.entry.ssh.port)
    known = replace(
        near,
        entry=replace(near.entry, ssh=SshAddress("technician", "127.0.0.1", cable.port), id=enrolled.device),
        known_hosts=replace(
            near.known_hosts, lines=tuple(replace(line, patterns=f"[127.0.0.1]:{cable.port}") for line in near.known_hosts.lines)
        ),
    )
    device = enrolled.over_lan(enrolled.entry(known, lan_port=cable.port)) if link == "lan" else over_ssh(known)
    seen: list[str] = []

    def progress(what: Progress) -> None:
        if what.phase not in seen:
            seen.append(what.phase)
            cable.pull()

    try:
        device.hello(soon())
        bundle = enrolled.bundle(version)
        laptop = enrolled.laptop
        record = laptop.gate().perform(
            cast("Device", _Pulled(device, cable)), _stage(bundle), soon(60), payload=bundle.payload, progress=progress
        )
    finally:
        device.close()
        cable.close()
    assert (record.state, record.kind) == ("done", "Stage")
    assert "payload" in seen
    assert cable.pulled > len(seen)
    last = [(entry.act, entry.phase) for entry, _ in laptop.journal.read()][-2:]
    assert last == [("Stage", "intent"), ("Stage", "outcome")]  # one step for the log, however often the link was lost
    direct = over_ssh(near)
    try:
        slots = {slot.model: slot for slot in direct.models(soon()).slots}
        assert version in [info.version for info in slots["digits"].versions]
    finally:
        direct.close()


@dataclass(frozen=True)
class _Pulled:
    """As much of ports.Device as the gate asks for a change: the cable is pulled when the envelope has gone out."""

    device: AgentDevice
    cable: Cable

    @property
    def entry(self) -> DeviceEntry:
        return self.device.entry

    @property
    def link(self) -> str:
        return self.device.link

    def journal(self, after: int, deadline: Deadline) -> JournalPage:
        return self.device.journal(after, deadline)

    def apply(self, grant: Grant, step: Step, deadline: Deadline, **means: Any) -> StepRecord:
        return self.device.apply(_PullingGrant(grant, self.cable), step, deadline, **means)


@dataclass
class _PullingGrant:
    """Implements ports.Grant."""

    grant: Grant
    cable: Cable

    @property
    def step_id(self) -> str:
        return self.grant.step_id

    def envelope(self, device: DeviceId, step: Step, challenge: Challenge) -> bytes:
        data = self.grant.envelope(device, step, challenge)
        self.cable.pull_at_next_answer()
        return data
