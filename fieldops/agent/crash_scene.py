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
from collections.abc import Iterator, Sequence
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
from fieldops.agent.shelf import Shelf
from fieldops.agent.transaction import WAITING, Transaction
from fieldops.agent.validation import Verdict
from fieldops.agent.workers import Worker
from fieldops.bundles.manifest import MANIFEST_FILE, FileEntry, Manifest, Objectives, Rule, Tier
from fieldops.edges.disk import Written, make_folder, write_whole
from fieldops.edges.registry import HeldStep, Installed, Registry
from fieldops.edges.sensors import Sensors
from fieldops.errors import DeviceCannot, FieldopsError
from fieldops.fleet import Hardware
from fieldops.slots import Slot, advance
from fieldops.steps import Activate, Commit, Revert, Stage, Step, kind_of
from fieldops.wire import Check, StepRecord

MODEL: Final = "selftest"
OLD: Final = "1.0.0"
NEW: Final = "1.1.0"
BOOT: Final = "this-boot"
NEXT_BOOT: Final = "next-boot"
STUB: Final = "a stub of a few kilobytes; loading it means checking its digests"
_PAYLOAD_BYTES = 6000
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
INSTALL: Final[tuple[Step, ...]] = (
    LATER.step,
    Activate(model=MODEL, version=NEW, trial_s=300, attempts=3),
    Commit(model=MODEL, version=NEW),
)
REVERT: Final[tuple[Step, ...]] = (Revert(model=MODEL),)


def stub_judge(job: dict[str, Any]) -> Judgement:
    """As the verifying child answers, for this bundle; a blob that is not what it should be is refused as there."""
    files = LATER.files
    targets = [
        SignedTarget(name=f"stable/{MODEL}/{NEW}/{name}", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in files.items()
    ]
    if job["op"] == "bundle":
        for target in targets:
            if hashlib.sha256((Path(job["blobs"]) / target.sha256).read_bytes()).hexdigest() != target.sha256:
                raise DeviceCannot(f"{target.name} is damaged", reason="hash_mismatch", next_step="send it again")
    return Judgement(ok=True, root_version=1, timestamp_version=1, targets=targets, manifest=LATER.text.decode("utf-8"))


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
    """Where a model is loaded, its digests are checked; `serving` is the version whose check passed, None: the rule."""

    serving: str | None = None

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
        del way_back, idle_w
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

    def play(self, steps: Sequence[Step], payload: dict[str, bytes] | None = None) -> StepRecord | None:
        """As a laptop would, until one does not end well: its record; None when all did. Raises what the disk says."""
        for record in self.device.registry.running():
            gone = DeviceCannot("given up for a newer step", reason="superseded", next_step="run the command again")
            self.transaction.give_up(record.step_id, gone).result()
        for step in steps:
            record = self._step(step, payload if payload is not None else LATER.by_digest)
            if record.state != "done":
                return record
        return None

    def _step(self, step: Step, payload: dict[str, bytes]) -> StepRecord:
        step_id = f"selftest.0.{os.urandom(4).hex()}"
        held = HeldStep(step=step, laptop="selftest", actor="local:selftest", envelope=b"")
        record = StepRecord(step_id=step_id, kind=kind_of(step), state="running", started=self.device.now())
        self.device.save(also=[lambda change: change.step(record, held)])
        self.transaction.begin(step_id, step)
        self.transaction.keep_house().result()
        if isinstance(step, Stage):
            if self._now(step_id).phase == "metadata":
                self.transaction.metadata_came(step_id, self.metadata()).result()
            for blob in self._now(step_id).wanted:
                self._upload(blob.sha256, payload[blob.sha256])
                self.transaction.blob_came(step_id).result()
        return self._now(step_id)

    def look(self) -> None:
        """As the agent does of itself, several times a second."""
        self.transaction.keep_house().result()
        for model, what in self.transaction.overdue():
            if what == "reverting":
                self.transaction.trial_over(model, "trial_deadline").result()

    def answers(self) -> list[str]:
        """What is wrong with the version that answers, while the agent runs."""
        slot = self.slot()
        right = {slot.answering, slot.target} if slot.state == "reverting" else {slot.answering}
        return [] if self.answering.serving in right else [f"{self.answering.serving} answers while the slot is {slot.state}"]

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
    registry = Registry.open(home.registry)
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


def flash(root: Path) -> None:
    """The home of a device on which OLD has settled."""
    home = AgentHome(root)
    home.make()
    Identity.load_or_create(home.key)
    make_folder(home.golden(MODEL).parent)
    write_whole(home.golden(MODEL), b"the task's golden set")
    shelf = Shelf(home)
    for sha256, data in FORMER.by_digest.items():
        write_whole(shelf.path(sha256), data)
    shelf.gather(FORMER.digest, [(name, hashlib.sha256(data).hexdigest()) for name, data in FORMER.files.items()])
    registry = Registry.open(home.registry)
    try:
        with registry.change() as change:
            change.version(FORMER.installed())
            slot = advance(Slot(model=MODEL, task=MODEL), "install", now=time.time(), reason="provisioned", version=OLD)
            change.slot(slot)
        show(home, registry, [slot])
    finally:
        registry.close()


# --- the invariant ---------------------------------------------------------------------------------------------------------


def faults(running: Running, *, entries: int, boot_id: str) -> list[str]:
    """What is wrong with this device after its start; nothing when it is old-active or new-committed and can prove it.

    entries: of the journal, that were on disk for certain.
    """
    found = [*_state_faults(running, boot_id), *_journal_faults(running.device.registry, entries), *running.bugs]
    found += _link_faults(running.device.home, running.slot().active)
    found += [damage(running.device.home, version) for version in running.device.registry.versions(MODEL)]
    for record in running.device.registry.running():
        if record.phase not in WAITING:
            found.append(f"{record.kind} runs for ever ({record.phase})")
    return [fault for fault in found if fault]


def _state_faults(running: Running, boot_id: str) -> list[str]:
    slot, found = running.slot(), list[str]()
    if slot.active not in {OLD, NEW}:
        found.append(f"active is {slot.active}")
    if running.answering.serving is None or running.answering.serving != slot.answering:
        found.append(f"{running.answering.serving} answers, {slot.answering} should")
    resting = {OLD: {"settled", "staging", "staged", "reverted"}, NEW: {"committed", "settled", "staging", "staged"}}
    allowed = resting.get(slot.active or "", set())
    if boot_id == BOOT:  # the trial goes on with one start less
        allowed |= {"trial"}
    if slot.state not in allowed:
        found.append(f"{slot.state} with {slot.active} active is neither old nor new")
    return found


def _link_faults(home: AgentHome, *allowed: str | None) -> list[str]:
    """What a foreign runtime would find under `current/`: one of these versions, whole."""
    place = home.current / MODEL
    for version in (FORMER, LATER):
        if place.is_symlink() and place.readlink().name == version.digest:
            wrong = "" if version.version in allowed else f"current/ is at {version.version}"
            return [fault for fault in (wrong, damage(home, version.installed())) if fault]
    return [f"current/ is at {place.readlink() if place.is_symlink() else 'nothing'}"]


def _journal_faults(registry: Registry, entries: int) -> list[str]:
    """Every page reads, no entry is missing between two others, and none that was on disk is gone."""
    there, newest = registry.journal(0, 1 << 30)
    if [entry.seq for entry in there] != list(range(1, newest + 1)):
        return ["the journal has gaps"]
    if len(there) < entries:
        return [f"the journal lost {entries - len(there)} entries"]
    return registry.broken()


def survey(root: Path, *, entries: int, boot_id: str, then: Sequence[Step], judge: Judge = stub_judge) -> tuple[str, list[str]]:
    """Start on what a crash left: (old, new or trial; faults). then: what the laptop tries again, to its end."""
    before = _link_faults(AgentHome(root), OLD, NEW)  # a foreign runtime may start before the agent does
    try:
        with started(root, boot_id, judge) as running:
            found = before + faults(running, entries=entries, boot_id=boot_id)
            slot = running.slot()
            side = slot.state if slot.state == "trial" else "new" if slot.active == NEW else "old"
            if then and not found:
                found = _again(running, then)
            return side, found
    except FieldopsError as error:
        return "none", [f"it does not start: {error.message}"]


def _again(running: Running, then: Sequence[Step]) -> list[str]:
    before = running.slot()
    if isinstance(then[-1], Revert):
        if before.active == OLD:  # it is back already
            return []
    elif before.active == NEW:
        return []
    elif before.state == "trial":
        then = then[-1:]
    ended = running.play(then)
    if ended is not None:
        return [f"the same again: {ended.kind} ended {ended.state}: {ended.message}"]
    wanted = OLD if isinstance(then[-1], Revert) else NEW
    after = running.slot()
    if after.active != wanted or running.answering.serving != wanted:
        return [f"the same again left {after.active}"]
    return [*_link_faults(running.device.home, wanted), *running.bugs]
