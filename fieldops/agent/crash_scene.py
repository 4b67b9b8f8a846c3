"""The transaction that the crash test plays: the agent's own code from the step's record to the last commit, on a home of its own.

Two things stand for what a device may not have at hand. The payload is a stub of a few kilobytes, and *loading* it is the
check of every digest against the registry's record; what the verifying child says is taken from the bundle itself. All
else is the agent's: registry, shelf, staging, slots, activation, commit, revert, recovery.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from fieldops.agent.answering import Answering
from fieldops.agent.config import AgentConfig
from fieldops.agent.current import show
from fieldops.agent.device import Bell, Device
from fieldops.agent.home import AgentHome
from fieldops.agent.identity import Identity
from fieldops.agent.judged import Judge, Judgement, SignedTarget
from fieldops.agent.models import Models
from fieldops.agent.reserve import open_registry
from fieldops.agent.shelf import Shelf
from fieldops.agent.transaction import Transaction
from fieldops.agent.validation import Verdict
from fieldops.agent.workers import Worker
from fieldops.bundles.manifest import MANIFEST_FILE, FileEntry, Manifest, Objectives, Rule, Tier
from fieldops.edges.disk import Written, make_folder, write_whole
from fieldops.edges.registry import HeldStep, Installed, Registry
from fieldops.edges.sensors import Sensors
from fieldops.errors import DeviceCannot
from fieldops.fleet import Hardware
from fieldops.slots import Slot, advance
from fieldops.steps import Activate, Commit, Revert, Stage, Step, kind_of
from fieldops.wire import Check, StepRecord

MODEL: Final = "selftest"
OLD: Final = "1.0.0"
NEW: Final = "1.1.0"
OTHER: Final = "1.2.0"
BOOT: Final = "this-boot"
NEXT_BOOT: Final = "next-boot"
STUB: Final = "a stub of a few kilobytes; loading it means checking its digests"
_PAYLOAD_BYTES = 6000
_LOOK_S = 0.02
_UPLOAD_BYTES = 4096  # so that a blob comes in two pieces


# --- the bundle ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bundle:
    """text: the manifest's exact bytes. payload: base name -> bytes, without the manifest."""

    version: str
    manifest: Manifest
    text: bytes
    payload: dict[str, bytes]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @property
    def files(self) -> dict[str, bytes]:
        return {MANIFEST_FILE: self.text, **self.payload}

    @property
    def by_digest(self) -> dict[str, bytes]:
        return {hashlib.sha256(data).hexdigest(): data for data in self.files.values()}

    @property
    def step(self) -> Stage:
        return Stage(channel="stable", model=MODEL, version=self.version, manifest_sha256=self.digest)

    def installed(self) -> Installed:
        size = sum(len(data) for data in self.files.values())
        return Installed(
            model=MODEL,
            version=self.version,
            counter=self.manifest.counter,
            manifest_sha256=self.digest,
            size_bytes=size,
            channel="stable",
            manifest=self.manifest,
            staged=0.0,
        )


def bundle(version: str, counter: int) -> Bundle:
    """The same bytes each time it is asked for."""
    seed = hashlib.sha256(version.encode()).digest()
    payload = {"core.bin": (seed * (_PAYLOAD_BYTES // len(seed) + 1))[:_PAYLOAD_BYTES], "card.md": b"# " + version.encode()}
    manifest = Manifest(
        v=1,
        model=MODEL,
        task=MODEL,
        version=version,
        counter=counter,
        owner="",
        tiers=[Tier(name="core", file="core.bin", variant="fp32")],
        inputs=[],
        outputs=[],
        objectives=Objectives(p95_ms=1e9, memory_bytes=0),
        fallback=Rule(label=-1, text="no model answers"),
        files=[FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size=len(d)) for n, d in payload.items()],
    )
    return Bundle(version, manifest, msgspec.json.encode(manifest), payload)


FORMER: Final = bundle(OLD, 1)
LATER: Final = bundle(NEW, 2)
FURTHER: Final = bundle(OTHER, 3)
BUNDLES: Final = {each.version: each for each in (FORMER, LATER, FURTHER)}
INSTALL: Final[tuple[Step, ...]] = (
    LATER.step,
    Activate(model=MODEL, version=NEW, trial_s=300, attempts=3),
    Commit(model=MODEL, version=NEW),
)
REVERT: Final[tuple[Step, ...]] = (Revert(model=MODEL),)


def stub_judge(job: dict[str, Any]) -> Judgement:
    """As the verifying child answers, for this bundle; a blob that is not what it should be is refused as there."""
    made = BUNDLES[job["want"]["version"]]
    targets = [
        SignedTarget(name=f"stable/{MODEL}/{made.version}/{name}", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in made.files.items()
    ]
    if job["op"] == "bundle":
        for target in targets:
            if hashlib.sha256((Path(job["blobs"]) / target.sha256).read_bytes()).hexdigest() != target.sha256:
                raise DeviceCannot(f"{target.name} is damaged", reason="hash_mismatch", next_step="send it again")
    return Judgement(ok=True, root_version=1, timestamp_version=1, targets=targets, manifest=made.text.decode("utf-8"))


def damage(home: AgentHome, installed: Installed) -> str:
    """Why this version could not be loaded as its record says; "" when it can."""
    folder = home.bundles / installed.manifest_sha256
    files = installed.manifest.files if installed.manifest else []
    for name, wanted in [(MANIFEST_FILE, installed.manifest_sha256), *((file.name, file.sha256) for file in files)]:
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            return f"{installed.version}: {name}: {error.strerror}"
        if found != wanted:
            return f"{installed.version}: {name} is not what the record says"
    return ""


class DigestAnswering(Answering):
    """Where a model is loaded, its digests are checked; `serving` is the version whose check passed, None: the rule.

    waits: for a revert to come in the middle of a validation.
    """

    serving: str | None = None
    waits = False

    def answer(self, slot: Slot) -> bool:
        installed = self._device.registry.version(slot.model, slot.answering) if slot.answering else None
        self.serving = installed.version if installed and not damage(self._device.home, installed) else None
        return self.serving is not None

    def put_in_service(self, installed: Installed, worker: Worker | None) -> None:
        del worker
        self.serving = installed.version

    def faults(self, slot: Slot) -> list[str]:
        return [] if self.serving == slot.candidate else ["it is not what answers"]

    def validate(self, installed: Installed, *, way_back: bool = False, idle_w: float | None = None) -> Verdict:
        del idle_w
        while self.waits and not way_back:
            if not self._hurry.wait(_LOOK_S):
                continue
            raise DeviceCannot("given up for a revert", reason="superseded", next_step="look, then decide")
        fault = damage(self._device.home, installed)
        check = Check(name="digest", ok=not fault, measured=fault or "as signed", limit="SHA-256 of the manifest")
        return Verdict(None, [check], None)


# --- a device --------------------------------------------------------------------------------------------------------------


class _Bugs(logging.Handler):
    """Traces that the agent would have written to its log: each is a fault of the test."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage().strip().rpartition("\n")[2])


@dataclass(slots=True)
class Running:
    """A device whose recovery is over."""

    device: Device
    transaction: Transaction
    answering: DigestAnswering
    bugs: list[str] = field(default_factory=list)

    def slot(self) -> Slot:
        found = self.device.registry.slot(MODEL)
        assert found is not None
        return found

    def play(self, acts: Sequence[Act]) -> StepRecord | None:
        """As a laptop would, until one does not end well: its record; None when all did. Raises what the disk says."""
        for act in acts:
            record = act(self) if callable(act) else self.step(act)
            if record is not None and record.state != "done":
                return record
        return None

    def give_up(self) -> None:
        """As for a laptop that begins anew."""
        for record in self.device.registry.running():
            gone = DeviceCannot("given up for a newer step", reason="superseded", next_step="run the command again")
            self.transaction.give_up(record.step_id, gone).result()

    def step(self, step: Step) -> StepRecord:
        step_id = self.begin(step)
        self.transaction.keep_house().result()
        if isinstance(step, Stage):
            payload = BUNDLES[step.version].by_digest
            if self._now(step_id).phase == "metadata":
                self.transaction.metadata_came(step_id, self.metadata()).result()
            for blob in self._now(step_id).wanted:
                self._upload(blob.sha256, payload[blob.sha256])
                self.transaction.blob_came(step_id).result()
        return self._now(step_id)

    def begin(self, step: Step) -> str:
        """Its id; nobody waits for its end."""
        step_id = f"selftest.0.{os.urandom(4).hex()}"
        held = HeldStep(step=step, laptop="selftest", actor="local:selftest", envelope=b"")
        record = StepRecord(step_id=step_id, kind=kind_of(step), state="running", started=self.device.now())
        self.device.save(also=[lambda change: change.step(record, held)])
        self.transaction.begin(step_id, step)
        return step_id

    def look(self) -> None:
        """As the agent does of itself, several times a second."""
        self.transaction.keep_house().result()
        for model, what in self.transaction.overdue():
            alone = (
                self.transaction.settle(model) if what == "probation" else self.transaction.trial_over(model, "trial_deadline")
            )
            alone.result()

    def metadata(self) -> dict[str, bytes]:
        return {"timestamp.json": b"{}", "1.snapshot.json": b"{}"}

    def _now(self, step_id: str) -> StepRecord:
        found = self.device.registry.record(step_id)
        assert found is not None
        return found

    def _upload(self, sha256: str, data: bytes) -> None:
        shelf = Shelf(self.device.home)
        with Written.append(shelf.part(sha256)) as file:
            for at in range(shelf.have(sha256), len(data), _UPLOAD_BYTES):
                file.write(data[at : at + _UPLOAD_BYTES])
            file.sync()
        shelf.finish(sha256)


@contextmanager
def started(root: Path, boot_id: str, judge: Judge = stub_judge) -> Iterator[Running]:
    """The agent's start on this home. Raises FieldopsError when it could not even start."""
    home = AgentHome(root)
    home.make()
    registry = open_registry(home)
    loop = asyncio.new_event_loop()  # never run: nothing here is asynchronous
    log, bugs = logging.getLogger("fieldops.agent"), _Bugs()
    before = log.handlers[:], log.propagate
    log.handlers, log.propagate = [bugs], False
    made: list[DigestAnswering] = []

    def answering(device: Device, hurry: threading.Event) -> Answering:
        made.append(DigestAnswering(device, hurry))
        return made[0]

    try:
        device = Device(
            home=home,
            config=AgentConfig(),
            identity=Identity.load_or_create(home.key),
            registry=registry,
            models=Models(home, registry, asyncio.TaskGroup(), lambda _model, _version: None),
            sensors=Sensors(root / "no-sensors", home.models, None),
            boot_id=boot_id,
            loop=loop,
            bell=Bell(loop),
            hardware=Hardware(machine="", cores=1, isa=[], runtime="", providers=[], opset=None),
        )
        transaction = Transaction(device, answering=answering, judge=judge)
        try:
            transaction.recover().result()
            yield Running(device, transaction, made[0], bugs.told)
            transaction.keep_house().result()
        finally:
            transaction.close()
    finally:
        registry.close()
        loop.close()
        log.handlers, log.propagate = before


def flash(root: Path, made: Bundle = FORMER, *, install: bool = True) -> None:
    """Put a version on a device whose agent is not running, as the factory does; where not installed, it only lies there."""
    home = AgentHome(root)
    home.make()
    Identity.load_or_create(home.key)
    make_folder(home.golden(MODEL).parent)
    write_whole(home.golden(MODEL), b"the task's golden set")
    shelf = Shelf(home)
    for sha256, data in made.by_digest.items():
        if not shelf.whole(sha256):
            write_whole(shelf.path(sha256), data)
    shelf.gather(made.digest, [(name, hashlib.sha256(data).hexdigest()) for name, data in made.files.items()])
    registry = Registry.open(home.registry)
    try:
        with registry.change() as change:
            change.version(made.installed())
            slot = registry.slot(MODEL) or Slot(model=MODEL, task=MODEL)
            if install:
                slot = advance(slot, "install", now=time.time(), reason="provisioned", version=made.version)
            change.slot(slot)
        show(home, registry, [slot])
    finally:
        registry.close()


Act = Step | Callable[[Running], StepRecord | None]  # what somebody does to a running device; None: nothing was asked of it
