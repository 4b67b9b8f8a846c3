"""The tour's end: what devices know comes along, the record reaches the centre, and anybody can check it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from fieldops.deadline import Deadline
from fieldops.demo import children
from fieldops.demo.control import ask
from fieldops.demo.release import SAMPLES_KEY
from fieldops.demo.scene import NotSo, Scene, check
from fieldops.errors import StoreFault
from fieldops.operations import sync as operation
from fieldops.operations import trail, visit
from fieldops.wire import DeviceTelemetries, decode
from fieldops.wiring import Laptop


def visit_close(scene: Scene) -> str:
    """Telemetry, the devices' own acts and sealed inputs come along; only the release team's key opens the inputs."""
    laptop, gate, deadline = scene.laptop, scene.laptop.gate(), scene.deadline()
    folder = laptop.visit_folder()
    lefts = []
    for camera in scene.fleet.cameras:
        if camera.has_agent:
            with scene.at(scene.entry(camera.name), deadline) as device:
                lefts.append(visit.leave(gate, device, laptop.telemetry, folder, laptop.clock, deadline))
    check(bool(lefts) and not any(left.error for left in lefts), f"not every device could be asked: {lefts}")
    report = visit.close(gate, lefts, laptop.telemetry, folder, laptop.clock)
    records = sum(left.records for left in lefts)
    check(records > 0 and all(left.lost == 0 for left in lefts), f"{records} records of telemetry, or a gap")
    check(report.telemetry_queued == records, f"{report.telemetry_queued} of {records} records are kept here")
    exported = [each for left in lefts for each in left.samples if each.samples]
    check(bool(exported), "no device kept an unusual input")
    sealed, key = Path(exported[0].file), scene.fleet.folder / "release" / "keys" / SAMPLES_KEY
    opened, unreadable = laptop.office.open_samples(sealed, key, folder.path / "opened.jsonl")
    check((opened, unreadable) == (exported[0].samples, 0), f"{opened} of {exported[0].samples} inputs could be opened")
    check(b"pixels" not in sealed.read_bytes(), "an exported input is readable without the key")
    acts = [entry.act for entry, _ in laptop.journal.read(0, 100_000) if entry.actor.startswith("device:")]
    check("device.revert" in acts, f"no revert of a device's own stands in the log: {acts}")
    inputs = sum(each.samples for each in exported)
    return (
        f"{len(lefts)} devices: {records} records of telemetry without a gap, {len(acts)} acts of their own in the log, "
        f"{inputs} sealed inputs that only the release team's key opens"
    )


def sync(scene: Scene) -> str:
    """Away: everything stays queued. Up: each entry arrives once, and a second push brings nothing."""
    laptop, journal, deadline = scene.laptop, scene.laptop.journal, scene.deadline()
    before = operation.status(journal)
    queued = before.queued
    check(queued > 0 and queued + before.acked == journal.size(), f"{queued} of {journal.size()} entries are queued")
    try:
        operation.push(journal, laptop.store(), laptop.clock, scene.deadline(5))
    except StoreFault:
        check(operation.status(journal).queued == queued, "entries are no longer queued, though the store was away")
    else:
        raise NotSo("a push went through while the store was away")
    assert scene.fleet.control is not None  # stands with the fleet
    answer = ask(scene.fleet.control.address, "store up", deadline.check("the store"))
    check(answer.startswith("ok "), f"the store did not come up: {answer}")
    check(laptop.pins.store() is not None, "the store came up without letting the laptop in")
    queued = operation.status(journal).queued  # that it was let in is an entry too
    with laptop.exclusive("sync"):
        first = operation.push(journal, laptop.store(), laptop.clock, deadline, shelf=laptop.telemetry)
        again = operation.push(journal, laptop.store(), laptop.clock, deadline, shelf=laptop.telemetry)
    check(first.pushed == queued and first.duplicate == 0, f"{first.pushed} of {queued} pushed, {first.duplicate} twice")
    check((again.pushed, again.telemetry) == (0, 0), f"a second push brought {again.pushed} entries, {again.telemetry} records")
    _same_telemetry(scene, first.telemetry, deadline)
    head = laptop.store().head(journal.log, deadline)
    check((head.size, head.root) == (journal.size(), journal.root().hex()), f"the store holds {head.size} entries, or others")
    status = operation.status(journal)
    check(status.queued == 0, f"{status.queued} entries are still queued")
    verified = _central_verify(scene)
    check(verified == {"ok": True, "logs": 1, "problems": []}, f"the store's own check says {verified}")
    return (
        f"{first.pushed} entries and {first.telemetry} records of telemetry pushed, each once; "
        "the store's head is the laptop's; its own check holds"
    )


def _same_telemetry(scene: Scene, brought: int, deadline: Deadline) -> None:
    with urllib.request.urlopen(f"{scene.fleet.centre.url}/v1/devices", timeout=deadline.check("the store")) as answer:  # noqa: S310 - http, as started here
        held = decode(answer.read(), DeviceTelemetries, sender="the store").devices
    check(
        sum(each.records for each in held) == brought,
        f"the store holds {sum(each.records for each in held)} of {brought} records",
    )
    check(not any(each.missing for each in held), "the store misses telemetry that was brought")


def _central_verify(scene: Scene) -> dict[str, Any]:
    """`fieldops central verify` over the store's bytes."""
    command = children.python("fieldops.central", "verify", "--data", str(scene.fleet.folder / "store"))
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=scene.deadline().check("the store's check"),
        env=children.environment(),
        check=False,
    )
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        raise NotSo(f"the store's check ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')[-200:]}") from error
    return {name: said.get(name) for name in ("ok", "logs", "problems")}


def audit_verify(scene: Scene) -> str:
    """The log proves itself from its bytes; every change has intent and outcome; one changed byte is found."""
    journal = scene.laptop.journal
    report = trail.verify(journal)
    check(report.ok, f"the log does not verify: {'; '.join(report.problems)}")
    entries = [entry for entry, _ in journal.read(0, 100_000)]
    intents = {entry.seq for entry in entries if entry.phase == "intent"}
    settled = {entry.of for entry in entries if entry.phase == "outcome"}
    check(intents <= settled, f"intents without outcome: {sorted(intents - settled)}")
    acts = {entry.act for entry in entries}
    wanted = {"Enrol", "RotateTrust", "Stage", "Activate", "Commit", "Revert", "Bench", "stick.verify"}
    check(wanted <= acts, f"the log knows nothing of {', '.join(sorted(wanted - acts))}")
    problems = _of_a_changed_copy(scene)
    check(bool(problems), "a changed byte was not found")
    devices = sum(each.startswith("device:") for each in report.witnesses)
    check(devices < len(report.witnesses), "the store's cosignature is not kept")
    return (
        f"{report.size} entries, {len(intents)} changes each with its outcome, cosigned by {devices} devices and the store; "
        f"a changed byte is found: {problems[0]}"
    )


def _of_a_changed_copy(scene: Scene) -> tuple[str, ...]:
    """What verification says of a copy of the log in which one letter of one entry is another."""
    with tempfile.TemporaryDirectory(prefix="fieldops-tour-") as room:
        copy = Path(room) / "audit.db"
        with sqlite3.connect(scene.fleet.home / "audit.db") as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        shutil.copytree(scene.fleet.home / "keys", Path(room) / "keys")
        _change_one_letter(copy)
        with Laptop.open(Path(room)) as laptop:
            return trail.verify(laptop.journal).problems


def _change_one_letter(database: Path) -> None:
    with sqlite3.connect(database) as link:
        row = link.execute("SELECT rowid, body FROM entry ORDER BY rowid LIMIT 1 OFFSET 2").fetchone()
        body = bytes(row[1] if isinstance(row[1], bytes) else row[1].encode())
        changed = body.replace(b"person:", b"persom:", 1)
        check(changed != body, "the entry names no person")
        link.execute("DROP TRIGGER entry_is_never_changed")  # whoever can write the file can do that as well
        link.execute("UPDATE entry SET body = ? WHERE rowid = ?", (changed, row[0]))
    link.close()
