"""The tour's second part: everything that changes a device, each change through the gate."""

from __future__ import annotations

import hashlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldops.bench import compare
from fieldops.demo import children
from fieldops.demo.release import DEGRADED, FIRST, MODEL, NEXT, RUNBOOK
from fieldops.demo.scene import NotSo, Scene, check
from fieldops.errors import DeviceCannot, FieldopsError, StoreFault, TrustRefused
from fieldops.fleet import DeviceEntry
from fieldops.operations import benchmark as benchmark_operation
from fieldops.operations import runbook as runbook_operation
from fieldops.operations import sideload as operation
from fieldops.operations.gate import Words
from fieldops.ports import TrustedBundle
from fieldops.wire import JournalEntry, SlotStatus

WORDS = Words(reason="tour of the sample fleet", ticket="TOUR")
CANARY = "1.2.0"  # not brought yet, so nothing of it can come from the laptop's cache
SAMPLES = 128
TRIAL_S = 6  # a device takes 5 at least; one more, so that a busy machine can kill the laptop in it


def benchmark(scene: Scene) -> str:
    """Measured on the device while it serves; no p99 from so few samples; a throttled run compares with nothing."""
    healthy, hot = scene.device_of("healthy"), scene.device_of("throttled")
    deadline = scene.deadline()
    with scene.at(healthy, deadline) as device:
        first = benchmark_operation.on_device(
            scene.laptop.gate(), device, MODEL, deadline, samples=SAMPLES, save_baseline=True, words=WORDS
        )
    check(first.samples == SAMPLES and first.p50_ms > 0, f"{first.samples} samples, p50 {first.p50_ms} ms")
    check(first.p90_ms is not None and first.p90_ms >= first.p50_ms, f"p90 is {first.p90_ms}")
    check(first.p99_ms is None, f"a p99 from {SAMPLES} samples")
    with scene.at(hot, deadline) as device:
        throttled = benchmark_operation.on_device(scene.laptop.gate(), device, MODEL, deadline, samples=SAMPLES, words=WORDS)
    check(throttled.throttled is True, f"{hot.name} does not say that it was throttled")
    verdict = compare(throttled, first)
    check(not verdict.comparable, "a throttled run was compared")
    return (
        f"{healthy.name} {MODEL} {first.version}: p50 {first.p50_ms:.2f} ms, p90 {first.p90_ms:.2f} ms, no p99 from {SAMPLES} "
        f"samples; {hot.name}: {verdict.verdict}, throttled"
    )


def stick_verify(scene: Scene) -> str:
    """Signatures, digests and expiry on the laptop; what lies in its cache is byte for byte what was signed."""
    deadline = scene.deadline()
    source = scene.laptop.media.at(str(scene.fleet.stick))
    offered = {each.version: each for each in operation.candidates(scene.laptop.trust, [source], deadline)}
    unusable = [each.ref for each in offered.values() if each.reason]
    check({FIRST, NEXT, DEGRADED} <= offered.keys() and not unusable, f"offered {sorted(offered)}, unusable {unusable}")
    bundle = operation.fetch(scene.laptop.gate(), scene.laptop.trust, source, f"{MODEL}@{NEXT}", deadline, words=WORDS)
    for file in bundle.manifest.files:
        data = (bundle.folder / file.name).read_bytes()
        check(hashlib.sha256(data).hexdigest() == file.sha256, f"{file.name} in the cache is not what was signed")
    scene.bundle = bundle
    return f"{len(offered)} bundles offered; {MODEL}@{NEXT} verified, {len(bundle.manifest.files)} files from {bundle.channel}"


def stick_tampered(scene: Scene) -> str:
    """A flipped bit in a payload, and one in a signature: both refused, recorded, and nothing of it kept."""
    refused = []
    with tempfile.TemporaryDirectory(prefix="fieldops-tour-") as room:
        for number, (what, wanted) in enumerate((("targets", {"hash_mismatch"}), ("metadata", {"unsigned", "threshold"}))):
            stick = Path(room) / f"{number}"
            shutil.copytree(scene.fleet.stick, stick)
            _tamper(stick, what)
            before = scene.laptop.journal.size()
            error = _refused(scene, stick)
            check(error.reason in wanted, f"a tampered {what} file gave {error.reason}: {error}")
            notes = [entry for entry, _ in scene.laptop.journal.read(before) if entry.act == "stick.verify"]
            check(bool(notes) and notes[-1].result is not None, "the refusal is not in the log")
            refused.append(error.reason)
    return f"payload: {refused[0]}; metadata: {refused[1]}; both in the log"


def _tamper(stick: Path, what: str) -> None:
    """Flip one bit: of a payload of the canary version, or of the timestamp's signature."""
    if what == "targets":
        file = max(
            (stick / "FIELDOPS" / "targets" / "canary" / MODEL / CANARY).glob("*.onnx"), key=lambda path: path.stat().st_size
        )
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        return
    file = stick / "FIELDOPS" / "metadata" / "timestamp.json"
    text = file.read_text("ascii")
    at = text.index('"sig"') + 12
    file.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :], "ascii")


def _refused(scene: Scene, stick: Path) -> TrustRefused:
    source = scene.laptop.media.at(str(stick))
    try:
        operation.fetch(scene.laptop.gate(), scene.laptop.trust, source, f"{MODEL}@{CANARY}", scene.deadline(), words=WORDS)
    except TrustRefused as error:
        return error
    raise NotSo("a tampered stick was accepted")


def sideload(scene: Scene) -> str:
    """Stage, validate, trial, commit; with the store away and no connection to anything but this machine."""
    entry, deadline = scene.device_of("healthy"), scene.deadline()
    _store_is_away(scene)
    bundle = _bundle(scene, NEXT)
    scene.laptop.hang_up()  # a link kept from before would show no connection at all
    with watched_network() as elsewhere:
        with scene.answering(entry.name, {FIRST, NEXT}), scene.at(entry, deadline) as device:
            planned = operation.plan(scene.laptop.trust, device, bundle, deadline)
            records = operation.run(scene.laptop.gate(), device, planned, deadline, words=WORDS)
            slot = scene.slot(device, deadline)
        _check_slot(slot, active=NEXT, last_good=FIRST)
        full = _full_device(scene, bundle)
    away = elsewhere - LOOPBACK
    check(bool(elsewhere) and not away, f"connections were made to {', '.join(sorted(away)) or 'nothing at all'}")
    scene.until(
        lambda: True if scene.count(entry.name).versions.get(NEXT) else None,
        scene.deadline(15),
        f"{entry.name} to answer with {NEXT}",
    )
    checks = ", ".join(f"{each.name} {each.measured}" for record in records for each in record.checks)
    return f"{entry.name} {FIRST} -> {NEXT} committed ({checks}), 0 failed requests, no network; {full}"


def _full_device(scene: Scene, bundle: TrustedBundle) -> str:
    """The device whose quota is used up says so before a byte is sent, and goes on answering."""
    entry, deadline = scene.device_of("quota-full"), scene.deadline()
    with scene.answering(entry.name, {FIRST}), scene.at(entry, deadline) as device:
        planned = operation.plan(scene.laptop.trust, device, bundle, deadline)
        try:
            operation.run(scene.laptop.gate(), device, planned, deadline, words=WORDS)
        except DeviceCannot as error:
            check(error.reason == "disk_full", f"{entry.name} refused as {error.reason}: {error}")
            return f"{entry.name} refused: {error.reason}"
    raise NotSo(f"{entry.name} took a bundle beyond its quota")


def degraded(scene: Scene) -> str:
    """Every signature vouches for it, the device's own golden set does not; the old model never stops answering."""
    entry, deadline = _second_healthy(scene), scene.deadline()
    bundle = _bundle(scene, DEGRADED)
    with scene.answering(entry.name, {FIRST}), scene.at(entry, deadline) as device:
        planned = operation.plan(scene.laptop.trust, device, bundle, deadline)
        before = device.journal(0, deadline).newest
        try:
            operation.run(scene.laptop.gate(), device, planned, deadline, words=WORDS)
        except DeviceCannot as error:
            refusal: FieldopsError = error
        else:
            raise NotSo(f"{entry.name} committed {DEGRADED}")
        slot = scene.slot(device, deadline)
        told = [each for each in device.journal(before, deadline).entries if each.actor.startswith("device:")]
    _check_slot(slot, active=FIRST, last_good=None)
    if refusal.reason == "quarantined":  # a tour before this one, on the same folder
        return f"{entry.name} keeps {DEGRADED} out: {refusal.message}; {FIRST} answered on, 0 failed requests"
    golden = next((each for each in slot.checks if each.name == "golden"), None)
    check(golden is not None and not golden.ok, f"refused, but not by the golden set: {refusal}")
    assert golden is not None  # checked above
    check(any(each.version == DEGRADED for each in told), f"{entry.name}'s own journal says nothing of it")
    return f"{entry.name} refused {DEGRADED}: golden {golden.measured} (limit {golden.limit}); {FIRST} answered on, 0 failed requests"


def laptop_dies(scene: Scene) -> str:
    """A second laptop process begins a trial and is killed; the device goes back by its own deadline and writes down why."""
    entry = _second_healthy(scene)
    with scene.at(entry, scene.deadline()) as device:
        newest = device.journal(0, scene.deadline()).newest
    with scene.answering(entry.name, {FIRST, NEXT}):
        died = _begin_trial_and_die(scene, entry)
        deadline = scene.deadline(TRIAL_S + 20.0)
        slot = scene.until(lambda: _gone_back(scene, entry), deadline, f"{entry.name} to revert by itself")
        with scene.at(entry, deadline) as device:
            told = device.journal(newest, deadline).entries
    check(slot.active == FIRST, f"{entry.name} answers with {slot.active}")
    check(any(each.action == "trial" and each.version == NEXT for each in told), f"{entry.name} never had {NEXT} on trial")
    why = next((each for each in told if _own_revert(each)), None)
    check(why is not None, f"{entry.name}'s journal does not say why it went back")
    assert why is not None  # checked above
    check(why.time > died, f"{entry.name} went back before the laptop died")
    scene.laptop.gate().settle_open()
    return f"laptop killed in a trial of {TRIAL_S} s; {entry.name} went back to {FIRST} alone ({why.reason}), 0 failed requests"


def _begin_trial_and_die(scene: Scene, entry: DeviceEntry) -> float:
    """When the laptop died, in Unix seconds (the sample fleet's devices read the same clock)."""
    words = [str(scene.fleet.home), entry.name, f"{MODEL}@{NEXT}", str(scene.fleet.stick), str(TRIAL_S)]
    log = scene.fleet.folder / "logs" / "abandon.log"
    child = children.start("second laptop", children.python("fieldops.demo.abandon", *words), log, children.environment())
    try:
        child.wait_ready(scene.deadline())
    finally:
        child.process.kill()
        status = child.stop()
    check(status == -signal.SIGKILL, f"the second laptop ended with {status}")
    return scene.laptop.clock.now()


def _gone_back(scene: Scene, entry: DeviceEntry) -> SlotStatus | None:
    deadline = scene.deadline(10)
    with scene.at(entry, deadline) as device:
        slot = scene.slot(device, deadline)
    check(slot.state != "needs_human", f"{entry.name} needs a person: {slot.reason}")
    return None if slot.state in {"trial", "reverting"} else slot


def _own_revert(each: JournalEntry) -> bool:
    return each.actor.startswith("device:") and "revert" in each.action and "deadline" in each.reason


def runbook_rollback(scene: Scene) -> str:
    """The signed rollback runbook, run by the engine, back to the version before the sideload."""
    entry, deadline, laptop = scene.device_of("healthy"), scene.deadline(), scene.laptop
    book, data = runbook_operation.load(laptop.trust, RUNBOOK)
    record = laptop.runs.create()
    gate = laptop.gate()
    with scene.answering(entry.name, {FIRST, NEXT}):
        given = {"device": entry.name, "model": MODEL, "reason": "other"}
        runbook_operation.begin(gate, book, data, given, record, words=WORDS)
        report = runbook_operation.run(gate, record, lambda until: laptop.connect(entry, until), deadline, words=WORDS)
        check(report.outcome == "committed", f"the run ended {report.outcome} at {report.at}: {report.failed}")
        with scene.at(entry, deadline) as device:
            slot = scene.slot(device, deadline)
    check(slot.active == FIRST, f"{entry.name} answers with {slot.active}")
    return f"{RUNBOOK} on {entry.name}: {report.outcome}, {len(report.steps)} actions, {NEXT} -> {FIRST}, 0 failed requests"


def _second_healthy(scene: Scene) -> DeviceEntry:
    names = [camera.name for camera in scene.fleet.cameras if camera.condition == "healthy"]
    return scene.entry(names[1])


def _bundle(scene: Scene, version: str) -> TrustedBundle:
    if scene.bundle is not None and scene.bundle.manifest.version == version:
        return scene.bundle
    source = scene.laptop.media.at(str(scene.fleet.stick))
    return operation.fetch(scene.laptop.gate(), scene.laptop.trust, source, f"{MODEL}@{version}", scene.deadline(), words=WORDS)


def _check_slot(slot: SlotStatus, *, active: str, last_good: str | None) -> None:
    check(slot.active == active, f"{slot.active} is active, not {active}")
    check(slot.state in {"committed", "settled", "reverted", "idle"}, f"{slot.model} is {slot.state}: {slot.reason}")
    if last_good is not None:
        check(slot.last_good == last_good, f"last-good is {slot.last_good}, not {last_good}")


def _store_is_away(scene: Scene) -> None:
    try:
        scene.laptop.store().identity(scene.deadline(5))
    except StoreFault:
        return
    raise NotSo("the store answers, though it should be away")


LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_watching: list[set[str]] = []
_hooked: list[bool] = []


def _asked(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: which hosts this process connects to or looks up. An address is a tuple for IP, text for a unix socket."""
    if not _watching:
        return
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        _watching[-1].add(str(arguments[1][0]))
    elif event == "socket.getaddrinfo" and arguments[0] is not None:
        _watching[-1].add(str(arguments[0]))


@contextmanager
def watched_network() -> Iterator[set[str]]:
    """Every host that this process connects to or looks up meanwhile, whichever library does it."""
    if not _hooked:
        sys.addaudithook(_asked)  # a hook can never be taken away again
        _hooked.append(True)
    found: set[str] = set()
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)
