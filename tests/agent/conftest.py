"""Real agents as processes, a real stick with the sample models, and laptops with real keys and logs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import numpy as np
import pytest

from fieldops.audit.entry import Draft
from fieldops.bundles.manifest import Manifest, Needs
from fieldops.deadline import Deadline
from fieldops.edges.agent_api import AgentDevice
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile, self_signed_certificate, ssh_keygen
from fieldops.edges.operation import FAULTS
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.fleet import DeviceEntry
from fieldops.operations.gate import Gate, step_id
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.ports import Payload, TrustedBundle
from fieldops.steps import Activate, Commit, Enrol, Revert, RotateTrust, Stage, Step
from fieldops.wire import (
    STEP_PAYLOAD_TYPE,
    Challenge,
    ChallengeRequest,
    DsseSignature,
    Envelope,
    ModelsReport,
    SlotStatus,
    StepRecord,
    StepRequest,
    b64,
    encode,
    pre_authentication_encoding,
)

DIGITS = Path(__file__).parents[2] / "sample_fleet" / "digits"
CLOCK = SystemClock()
PATIENCE_S = 60.0
DEMANDING = (
    ("1.3.0", 5, Needs(battery_pct=40.0), 5.0),
    ("1.4.0", 6, Needs(opset=9999, isa=["warp9"], providers=["WarpExecutionProvider"]), None),
)


def within(seconds: float = PATIENCE_S) -> Deadline:
    return Deadline.after(seconds, CLOCK.monotonic)


def spec(version: str) -> Manifest:
    return msgspec.json.decode((DIGITS / version / "spec.json").read_bytes(), type=Manifest)


# --- release -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Release:
    """stick: its FIELDOPS folder. person: the private key file of a technician who may do everything; reader: nobody's."""

    stick: Path
    root: bytes
    person: Path
    reader: Path


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    base = tmp_path_factory.mktemp("release")
    fingerprint = ssh_keygen(base / "person")
    ssh_keygen(base / "reader")
    repo = ReleaseRepo.init(base / "repo", base / "keys", CLOCK)
    policy = PolicyDocument(v=1, roles={"technician": ["*"]}, people={fingerprint: Person(role="technician")}, keep_samples=100)
    repo.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    repo.add_policy_target("policy/golden/digits/set.npz", (DIGITS / "golden.npz").read_bytes())
    repo.sign("policy")
    for version in ("1.0.0", "1.1.0", "1.2.0", "2.0.0-bad"):
        manifest = spec(version)
        # The ceiling belongs to the demo's machines; here only what the golden set says may decide.
        objectives = msgspec.structs.replace(manifest.objectives, p95_ms=5000.0)
        # `release add` measures each variant on the release machine; this stands for it.
        tiers = [msgspec.structs.replace(tier, accuracy=tier.accuracy or 0.9, p50_ms=1.0) for tier in manifest.tiers]
        repo.add_bundle("stable", DIGITS / version, msgspec.structs.replace(manifest, objectives=objectives, tiers=tiers))
        if version == "1.2.0":  # the same files, for devices that offer more
            for name, counter, needs, margin in DEMANDING:
                more = msgspec.structs.replace(objectives, thermal_margin_c=margin)
                asking = msgspec.structs.replace(
                    manifest, version=name, counter=counter, needs=needs, objectives=more, tiers=tiers
                )
                repo.add_bundle("stable", DIGITS / version, asking)
    repo.sign("stable")
    repo.publish()
    stick = repo.export_stick(base / "stick")
    return Release(stick, repo.root(), base / "person", base / "reader")


# --- device ------------------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """One agent process over its life, restarts included."""

    home: Path
    runtime: Path
    process: subprocess.Popen[bytes] | None = None
    faults: str = ""  # see fieldops/edges/faults.py
    within: tuple[str, ...] = ()  # words before its own, such as a shell that puts it into a control group
    ready: dict[str, Any] = field(default_factory=dict)

    def start(self) -> Agent:
        self.process = subprocess.Popen(
            [*self.within, sys.executable, "-m", "fieldops.agent", "serve", "--home", str(self.home), "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "FIELDOPS_AGENT_RUNTIME": str(self.runtime), **({FAULTS: self.faults} if self.faults else {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the agent ended before it was ready"
        self.ready = json.loads(line)
        return self

    def stop(self) -> int:
        """End of input; the exit status."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def kill(self) -> None:
        """As a power cut would: nothing gets to say goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process = None

    def client(self, socket: str = "agent.sock") -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.runtime / socket))
        return httpx.Client(transport=transport, base_url="http://device", timeout=30.0)

    def get(self, path: str) -> Any:
        with self.client() as client:
            return client.get(path).raise_for_status().json()

    def slot(self, model: str = "digits") -> SlotStatus:
        with self.client() as client:
            report = msgspec.json.decode(client.get("/v1/models").content, type=ModelsReport)
        return next(slot for slot in report.slots if slot.model == model)

    def until(self, holds: Callable[[SlotStatus], bool]) -> SlotStatus:
        """The slot as soon as it is so."""
        deadline = within()
        while not holds(slot := self.slot()):
            deadline.check("the slot")
            deadline.cancel.wait(0.05)
        return slot


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fo-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_agent(short_folder: Path) -> Iterator[Callable[..., Agent]]:
    """make_agent(toml="", name="a"): an agent that is not started yet."""
    made: list[Agent] = []

    def make(toml: str = "", name: str = "a") -> Agent:
        agent = Agent(short_folder / name, short_folder / f"{name}r")
        agent.home.mkdir()
        (agent.home / "agent.toml").write_text('class = "bench"\n' + toml, "utf-8")
        made.append(agent)
        return agent

    yield make
    for agent in made:
        if agent.process is not None:
            agent.kill()


@pytest.fixture(scope="session")
def flashed(release: Release) -> Iterator[Path]:
    """The home of a device as it leaves the factory: digits 1.0.0, the policy, and a key of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fo-"))
    (folder / "root.json").write_bytes(release.root)
    words = ["--home", str(folder / "home"), "--stick", str(release.stick), "--ref", "digits@1.0.0"]
    words += ["--root", str(folder / "root.json")]
    subprocess.run([sys.executable, "-m", "fieldops.agent", "provision", *words], check=True, stdout=subprocess.DEVNULL)
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_device(make_agent: Callable[..., Agent], flashed: Path) -> Callable[..., Agent]:
    """Like make_agent, with what the factory put there."""

    def make(toml: str = "", name: str = "a") -> Agent:
        agent = make_agent(toml, name)
        shutil.copytree(flashed, agent.home, dirs_exist_ok=True)
        return agent

    return make


@pytest.fixture
def device(make_device: Callable[..., Agent]) -> Agent:
    return make_device().start()


@pytest.fixture
def laptop(make_laptop: Callable[..., Laptop], device: Agent) -> Laptop:
    """Enrolled on `device`; its person may do everything there."""
    made = make_laptop()
    made.enrol(device)
    return made


# --- laptop ------------------------------------------------------------------------------------------------------------


def seal(signer: Ed25519Signer, request: StepRequest) -> bytes:
    """The DSSE envelope over a request."""
    payload = encode(request)
    signature = DsseSignature(keyid=signer.id, sig=b64(signer.sign(pre_authentication_encoding(STEP_PAYLOAD_TYPE, payload))))
    return encode(Envelope(payloadType=STEP_PAYLOAD_TYPE, payload=b64(payload), signatures=[signature]))


@dataclass
class Laptop:
    """Everything that a laptop holds, under one folder."""

    folder: Path
    signer: Ed25519Signer
    journal: SqliteJournal
    trust: TrustStore
    technician: PersonFile
    source: FolderSource

    @property
    def gate(self) -> Gate:
        # The device's policy decides in these tests, so the laptop's own lets everything through to it.
        everything = PolicyDocument(v=1, roles={"all": ["*"]}, people={self.technician.actor().name: Person(role="all")})
        return Gate(self.journal, self.signer, self.technician, everything, CLOCK)

    @contextlib.contextmanager
    def device(self, agent: Agent) -> Iterator[AgentDevice]:
        entry = DeviceEntry(name="dev")
        with agent.client() as client:
            device = AgentDevice(entry, "local", client, client.close)
            device.hello(within())
            yield device

    def do(self, agent: Agent, step: Step, payload: Payload | None = None) -> StepRecord:
        with self.device(agent) as device:
            return self.gate.perform(device, step, within(), payload=payload)

    def signed(self, agent: Agent, step: Step, *, session: bool = True) -> tuple[str, bytes]:
        """(step id, envelope) of a step whose intent is in the log, for tests that speak HTTP themselves."""
        intent = self.journal.append(Draft(actor=str(self.technician.actor()), phase="intent", act="test"))
        proof = self.technician.proof(self.journal, CLOCK.now()) if session else None
        with agent.client() as client:
            asked = client.post("/v1/challenge", content=encode(ChallengeRequest(log=self.journal.log)))
            challenge = msgspec.json.decode(asked.content, type=Challenge)
        request = StepRequest(
            v=1,
            step_id=step_id(self.journal.log, intent.seq),
            device=agent.ready["device"],
            nonce=challenge.nonce,
            checkpoint=self.journal.checkpoint(),
            consistency=[b64(node) for node in self.journal.consistency(challenge.known_size)],
            session=proof,
            step=step,
        )
        return request.step_id, seal(self.signer, request)

    def bundle(self, ref: str) -> TrustedBundle:
        return self.trust.fetch(self.source, ref, within())

    def stage(self, agent: Agent, ref: str) -> StepRecord:
        bundle = self.bundle(ref)
        step = Stage(
            channel=bundle.channel,
            model=bundle.manifest.model,
            version=bundle.manifest.version,
            manifest_sha256=bundle.manifest_sha256,
        )
        return self.do(agent, step, bundle.payload)

    @property
    def enrol_step(self) -> Enrol:
        certificate = self_signed_certificate(self.signer, "laptop")
        return Enrol(
            laptop_key=b64(self.signer.public_key), laptop_certificate=certificate, root=self.trust.root_text(), label="cart"
        )

    def rotate(self, agent: Agent) -> StepRecord:
        version, _, payload = self.trust.policy_payload()
        return self.do(agent, RotateTrust(timestamp_version=version), payload)

    def enrol(self, agent: Agent) -> None:
        self.do(agent, self.enrol_step)
        self.rotate(agent)

    def activate(self, agent: Agent, version: str, trial_s: int = 300, attempts: int = 3) -> StepRecord:
        return self.do(agent, Activate(model="digits", version=version, trial_s=trial_s, attempts=attempts))

    def commit(self, agent: Agent, version: str) -> StepRecord:
        return self.do(agent, Commit(model="digits", version=version))

    def revert(self, agent: Agent, to: str | None = None) -> StepRecord:
        return self.do(agent, Revert(model="digits", to=to))

    def install(self, agent: Agent, version: str) -> None:
        self.stage(agent, f"digits@{version}")
        self.activate(agent, version)
        self.commit(agent, version)


@pytest.fixture
def make_laptop(short_folder: Path, release: Release) -> Iterator[Callable[..., Laptop]]:
    """make_laptop(person=key file, name=): with the release's root pinned and its stick in hand."""
    made: list[Laptop] = []

    def make(person: Path | None = None, name: str = "laptop") -> Laptop:
        folder = short_folder / name
        signer = Ed25519Signer.load_or_create(folder / "keys" / "laptop.key")
        journal = SqliteJournal.open(folder / "audit.db", lambda: signer, CLOCK)
        trust = TrustStore(folder / "trust", folder / "cache", CLOCK)
        trust.pin(release.root, None)
        source = FolderSource(release.stick)
        trust.refresh(source, within())
        technician = PersonFile(person or release.person, signer.laptop, folder / "session")
        made.append(Laptop(folder, signer, journal, trust, technician, source))
        return made[-1]

    yield make
    for laptop in made:
        laptop.journal.close()


# --- local programs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def images() -> tuple[Any, Any]:
    with np.load(DIGITS / "data.npz") as archive:
        return archive["images"].astype(np.float32).reshape(len(archive["images"]), -1), archive["labels"].astype(int)


def request_of(row: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}]}


@dataclass
class Load:
    """Programs that never stop asking. answers: version -> how often; failures: what went wrong."""

    agent: Agent
    rows: Any
    answers: dict[str, int] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _ask(self, first: int) -> None:
        with self.agent.client("infer.sock") as client:
            at = first
            while not self._stop.is_set():
                at = (at + 7) % len(self.rows)
                try:
                    reply = client.post("/v2/models/digits/infer", json=request_of(self.rows[at]))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                with self._lock:
                    if reply.status_code != 200:
                        self.failures.append(reply.text)
                        continue
                    said = reply.json()["parameters"]
                    self.answers[said["version"]] = self.answers.get(said["version"], 0) + 1
                    self.routes[said["route"]] = self.routes.get(said["route"], 0) + 1

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._ask, args=(n * 31,)) for n in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def until(self, version: str, more: int = 20) -> None:
        """Wait until this version gave `more` further answers."""
        target = self.answers.get(version, 0) + more
        end = time.monotonic() + PATIENCE_S
        while self.answers.get(version, 0) < target and time.monotonic() < end and not self.failures:
            self._stop.wait(0.01)
