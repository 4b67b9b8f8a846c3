"""Who may change a device, tried from outside: strangers, replays, forged logs, people without a role, a second laptop."""

from __future__ import annotations

import contextlib
import sqlite3
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from fieldops.audit.entry import Draft
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile, self_signed_certificate
from fieldops.errors import DeviceCannot, PolicyRefused, TrustRefused
from fieldops.fleet import tls_name
from fieldops.steps import Activate, Bench, Revert, RotateTrust, Stage
from fieldops.wire import STEP_PAYLOAD_TYPE, DsseSignature, Envelope, StepRequest, b64, pre_authentication_encoding, unb64
from tests.agent.conftest import Agent, Laptop, Release, seal, within

BENCH = Bench(model="digits", samples=64)


def _post(agent: Agent, envelope: bytes) -> tuple[int, str]:
    with agent.client() as client:
        reply = client.post("/v1/steps", content=envelope)
        return reply.status_code, reply.json().get("reason", "")


def _request(envelope: bytes) -> StepRequest:
    payload = unb64(msgspec.json.decode(envelope, type=Envelope).payload)
    return msgspec.json.decode(payload, type=StepRequest)


def test_a_device_that_was_never_enrolled_takes_nothing_but_enrol(device: Agent, make_laptop: Callable[..., Laptop]) -> None:
    laptop = make_laptop()
    assert _post(device, laptop.signed(device, BENCH)[1]) == (401, "not_enrolled")
    assert _post(device, laptop.signed(device, Revert(model="digits"))[1]) == (401, "not_enrolled")
    assert _post(device, laptop.signed(device, laptop.enrol_step)[1])[0] == 202


@pytest.mark.parametrize("spoil", ["signature", "payload", "type", "none", "garbage"])
def test_a_change_whose_signature_does_not_hold_is_turned_away(device: Agent, laptop: Laptop, spoil: str) -> None:
    envelope = msgspec.json.decode(laptop.signed(device, BENCH)[1], type=Envelope)
    signature = envelope.signatures[0]
    spoilt: Any = {
        "signature": msgspec.structs.replace(envelope, signatures=[msgspec.structs.replace(signature, sig=b64(bytes(64)))]),
        "payload": msgspec.structs.replace(envelope, payload=b64(unb64(envelope.payload).replace(b"64", b"65"))),
        "type": msgspec.structs.replace(envelope, payloadType="text/plain"),
        "none": msgspec.structs.replace(envelope, signatures=[]),
        "garbage": {"hello": "world"},
    }[spoil]
    status, _ = _post(device, msgspec.json.encode(spoilt))
    assert status in {400, 401}
    assert device.get("/v1/resources")["serving"][0]["baseline_p50_ms"] is None
    assert "bench" not in {entry["action"] for entry in device.get("/v1/journal")["entries"]}


def test_a_strangers_own_signature_opens_nothing(device: Agent, laptop: Laptop) -> None:
    request = _request(laptop.signed(device, BENCH)[1])
    stranger = Ed25519Signer.generate()
    assert _post(device, seal(stranger, request)) == (401, "not_enrolled")


def test_a_nonce_works_once(device: Agent, laptop: Laptop) -> None:
    step_id, envelope = laptop.signed(device, BENCH)
    assert _post(device, envelope)[0] == 202
    while device.get(f"/v1/steps/{step_id}?wait=5")["state"] == "running":
        within(1).check("the bench")
    request = _request(envelope)
    laptop_id, epoch, seq = request.step_id.split(".")
    again = msgspec.structs.replace(request, step_id=f"{laptop_id}.{epoch}.{int(seq) - 1}")
    assert _post(device, seal(laptop.signer, again)) == (401, "stale_challenge")


def test_a_step_for_another_device_is_refused(device: Agent, laptop: Laptop) -> None:
    request = _request(laptop.signed(device, BENCH)[1])
    other = msgspec.structs.replace(request, device="a" * 52)
    assert _post(device, seal(laptop.signer, other)) == (400, "other_device")


def test_a_laptop_restored_from_a_copy_that_went_another_way_is_a_fork(device: Agent, make_laptop: Callable[..., Laptop]) -> None:
    laptop, twin = make_laptop(), make_laptop(name="twin")
    laptop.journal.append(Draft(actor="local:x", phase="note", act="before"))
    with (
        contextlib.closing(sqlite3.connect(laptop.folder / "audit.db")) as now,
        contextlib.closing(sqlite3.connect(twin.folder / "copy.db")) as copy,
    ):
        now.backup(copy)
    laptop.enrol(device)
    twin.signer = laptop.signer
    twin.journal.close()
    twin.journal = SqliteJournal.open(twin.folder / "copy.db", lambda: laptop.signer, SystemClock())
    twin.technician = PersonFile(twin.technician.key, laptop.signer.laptop, twin.folder / "session-2")
    for number in range(20):
        twin.journal.append(Draft(actor="local:x", phase="note", act=f"other.{number}"))
    assert _post(device, twin.signed(device, BENCH)[1]) == (409, "fork")
    assert _post(device, laptop.signed(device, BENCH)[1])[0] == 202


def test_a_person_without_a_role_may_go_back_to_last_good_and_nothing_else(
    device: Agent, laptop: Laptop, release: Release
) -> None:
    laptop.install(device, "1.1.0")
    laptop.technician = PersonFile(release.reader, laptop.signer.laptop, laptop.folder / "guest-session")
    with pytest.raises(PolicyRefused) as refused:
        laptop.do(device, BENCH)
    assert refused.value.exit_code == 4
    with pytest.raises(PolicyRefused):
        laptop.revert(device, to="1.0.0")
    assert laptop.revert(device).version == "1.0.0"
    assert "refused" in {entry["action"] for entry in device.get("/v1/journal")["entries"]}


def test_without_a_persons_proof_only_the_way_back_is_open(device: Agent, laptop: Laptop) -> None:
    laptop.install(device, "1.1.0")
    assert _post(device, laptop.signed(device, BENCH, session=False)[1]) == (403, "policy")
    assert _post(device, laptop.signed(device, Revert(model="digits"), session=False)[1])[0] == 202


def test_a_further_laptop_needs_a_person_whom_the_signed_policy_knows(
    device: Agent, laptop: Laptop, make_laptop: Callable[..., Laptop], release: Release
) -> None:
    guest = make_laptop(person=release.reader, name="guest")
    with pytest.raises(PolicyRefused):
        guest.do(device, guest.enrol_step)
    colleague = make_laptop(name="colleague")
    colleague.do(device, colleague.enrol_step)
    assert sorted(device.get("/v1/trust")["laptops"]) == sorted([laptop.signer.laptop, colleague.signer.laptop])


def test_one_laptop_at_a_time_changes_a_device_but_the_way_back_waits_for_nobody(
    device: Agent, laptop: Laptop, make_laptop: Callable[..., Laptop]
) -> None:
    colleague = make_laptop(name="colleague")
    assert device.get("/v1/models")["lease_holder"] is None
    colleague.do(device, colleague.enrol_step)
    laptop.install(device, "1.1.0")
    laptop.stage(device, "digits@1.2.0")
    assert device.get("/v1/models")["lease_holder"] == laptop.signer.laptop
    with pytest.raises(DeviceCannot, match=laptop.signer.laptop[:8]) as busy:
        colleague.activate(device, "1.2.0")
    assert (busy.value.reason, busy.value.exit_code) == ("busy", 6)
    assert colleague.revert(device).version == "1.0.0"


def test_a_step_this_agent_does_not_know_is_named_so(device: Agent, laptop: Laptop) -> None:
    request = msgspec.to_builtins(_request(laptop.signed(device, BENCH)[1]))
    request["step"] = {"kind": "Levitate", "model": "digits"}
    payload = msgspec.json.encode(request)
    signed = laptop.signer.sign(pre_authentication_encoding(STEP_PAYLOAD_TYPE, payload))
    signature = DsseSignature(keyid=laptop.signer.laptop, sig=b64(signed))
    envelope = Envelope(payloadType=STEP_PAYLOAD_TYPE, payload=b64(payload), signatures=[signature])
    assert _post(device, msgspec.json.encode(envelope)) == (409, "unsupported_step")


def test_what_the_laptop_claims_of_a_bundle_counts_for_nothing(device: Agent, laptop: Laptop) -> None:
    bundle = laptop.bundle("digits@1.1.0")
    step = Stage(channel="stable", model="digits", version="1.1.0", manifest_sha256="0" * 64)
    with pytest.raises(TrustRefused, match="another one here"):
        laptop.do(device, step, bundle.payload)
    assert device.slot().state == "settled"
    with pytest.raises(DeviceCannot):
        laptop.do(device, Activate(model="digits", version="1.1.0"))


def _lan(agent: Agent, laptop: Laptop | None) -> httpx.Client:
    pinned = agent.get("/v1/hello")["lan_certificate"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=pinned)
    if laptop is not None:
        certificate = laptop.folder / "laptop.crt"
        certificate.write_text(self_signed_certificate(laptop.signer, "laptop"), "ascii")
        context.load_cert_chain(certificate, laptop.folder / "keys" / "laptop.key")
    return httpx.Client(base_url=f"https://127.0.0.1:{agent.ready['lan_port']}", verify=context, timeout=10.0)


def test_the_lan_knows_enrolled_laptops_and_tells_all_others_so(
    make_device: Callable[..., Agent], make_laptop: Callable[..., Laptop]
) -> None:
    device = make_device('[lan]\nlisten = "127.0.0.1:0"\n').start()
    laptop, stranger = make_laptop(), make_laptop(name="stranger")
    named = {"sni_hostname": tls_name(device.ready["device"])}
    with _lan(device, None) as client:
        reply = client.get("/v1/hello", extensions=named)
        assert (reply.status_code, reply.json()["reason"]) == (401, "not_enrolled")
        # Enrolling is for agent.sock: over LAN a stranger has shown nothing.
        assert client.post("/v1/steps", content=laptop.signed(device, laptop.enrol_step)[1], extensions=named).status_code == 401
    laptop.enrol(device)
    with _lan(device, laptop) as client:
        assert client.get("/v1/hello", extensions=named).json()["enrolled"] is True
    with _lan(device, stranger) as client, pytest.raises(httpx.TransportError):
        client.get("/v1/hello", extensions=named)


def test_anyone_enrolled_may_bring_newer_signed_metadata(device: Agent, laptop: Laptop) -> None:
    version, _, payload = laptop.trust.policy_payload()
    assert laptop.do(device, RotateTrust(timestamp_version=version), payload).state == "done"
