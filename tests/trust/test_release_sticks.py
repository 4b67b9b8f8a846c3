"""What leaves the office: sticks with what was chosen, valid as long as asked, and renewals that revive last month's stick."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from fieldops.edges.journal import SqliteJournal
from fieldops.edges.keys import Ed25519Signer, PersonFile
from fieldops.edges.renewal import RenewalFile, StickFolder
from fieldops.edges.tuf_signer import PLAN
from fieldops.edges.usb import FolderSource
from fieldops.errors import FieldopsError, TrustRefused, UsageFault
from fieldops.operations.gate import Gate
from fieldops.operations.renew import Renewed, renew

World = Any
AddVersion = Callable[..., Any]
DAY = 86_400.0


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(FieldopsError) as caught:
        call()
    assert caught.value.next_step
    return caught.value.reason


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(world: World, add_version: AddVersion) -> World:
    """The world, with digits@1.2.0 in canary and meters@1.0.0 in stable."""
    add_version(world.release, world.folder / "src/1.2.0", "1.2.0", 3, "canary")
    add_version(world.release, world.folder / "src/meters", "1.0.0", 1, model="meters")
    world.release.publish()
    return world


CHOICES = [
    ({}, {"digits@1.0.0", "digits@1.1.0", "digits@1.2.0", "meters@1.0.0"}),
    ({"channels": ["canary"]}, {"digits@1.2.0"}),
    ({"channels": ["stable"]}, {"digits@1.0.0", "digits@1.1.0", "meters@1.0.0"}),
    ({"models": ["meters"]}, {"meters@1.0.0"}),
    ({"models": ["digits"], "channels": ["stable"]}, {"digits@1.0.0", "digits@1.1.0"}),
    ({"bundles": ["digits@1.1.0"]}, {"digits@1.1.0"}),
]


@pytest.mark.parametrize(("choice", "wanted"), CHOICES)
def test_only_what_is_chosen_goes_along_and_the_rest_is_not_offered(
    three: World, choice: dict[str, Any], wanted: set[str]
) -> None:
    made = three.release.export(three.folder / "chosen", 30, **choice)
    assert set(made.bundles) == wanted
    laptop = three.laptop()
    offered = laptop.store.candidates(FolderSource(made.place), laptop.deadline)
    assert {each.ref for each in offered if not each.reason} == wanted
    assert laptop.store.policy().roles == {"technician": ["*"]}


def test_what_the_release_does_not_have_is_said(three: World) -> None:
    for choice in ({"channels": ["beta"]}, {"models": ["faces"]}, {"bundles": ["digits@9.9.9"]}):
        assert reason_of(lambda choice=choice: three.release.export(three.folder / "none", 30, **choice)) == "unknown_target"  # type: ignore[misc]
    assert not (three.folder / "none").exists()


def test_a_stick_that_would_not_last_is_refused_and_says_what_ends_first(world: World) -> None:
    def until(days: float, asked: float) -> str:
        with pytest.raises(UsageFault) as caught:
            world.release.export(world.folder / "short", asked, until=world.clock.at + days * DAY)
        assert caught.value.reason == "too_short"
        return caught.value.message

    assert "--expires-in-days is 30" in until(31, 30)
    world.clock.at += 60 * DAY
    assert "snapshot ends then" in until(70, 90)
    assert not (world.folder / "short").exists()
    world.release.publish()
    made = world.release.export(world.folder / "long", 90, until=world.clock.at + 90 * DAY)
    assert made.expires == world.clock.at + 90 * DAY


def test_a_lapsed_channel_does_not_shorten_a_stick_without_it(world: World) -> None:
    world.clock.at += (PLAN["canary"].days - 10) * DAY
    for role in ("stable", "policy"):
        world.release.sign(role)
    world.release.publish()
    assert world.release.export(world.folder / "both", 60).expires == world.clock.at + 10 * DAY
    assert world.release.export(world.folder / "stable", 60, channels=["stable"]).expires == world.clock.at + 60 * DAY
    world.clock.at += 11 * DAY
    assert reason_of(lambda: world.release.export(world.folder / "late", 30)) == "expired"


def test_a_payload_that_rotted_in_the_office_never_reaches_a_stick(world: World) -> None:
    payload = next((world.release.repo / "targets/stable/digits/1.1.0").glob("*.core.onnx"))
    payload.write_bytes(payload.read_bytes()[:-1] + b"x")
    assert reason_of(lambda: world.export("rotten")) == "corrupt"
    assert not list((world.folder / "rotten").rglob("*core.onnx*.part"))


# --- renewal ----------------------------------------------------------------------------------------------------------


@dataclass
class Office:
    """A laptop whose stick is from two months ago, and a renewal made today."""

    world: World
    laptop: Any
    file: Path

    def gate(self) -> Gate:
        home = self.laptop.home
        signer = Ed25519Signer.load_or_create(home / "laptop.key")
        person = PersonFile(None, signer.laptop, home / "session.json")
        journal = SqliteJournal.open(home / "audit.db", lambda: signer, self.world.clock)
        return Gate(journal, signer, person, self.laptop.store.policy(), self.world.clock)

    def notes(self) -> list[tuple[str, str, str]]:
        """(act, status, reason) of every entry in the laptop's log."""
        entries = self.gate().journal.read()
        return [(entry.act, entry.result.status, entry.result.reason) for entry, _ in entries if entry.result]

    def renew(self, file: Path | None = None, *sticks: StickFolder) -> Renewed:
        payloads = [FolderSource(stick.root) for stick in sticks]
        return renew(
            self.gate(),
            self.laptop.store,
            RenewalFile.read_from(file or self.file),
            sticks,
            self.laptop.deadline,
            payloads=payloads,
        )


@pytest.fixture
def office(world: World) -> Office:
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    world.clock.at += 60 * DAY
    world.release.publish()
    file = world.folder / "renewal.zip"
    world.release.renewal(file, 30)
    return Office(world, laptop, file)


def test_a_renewal_of_a_few_kilobytes_revives_last_months_stick(office: Office) -> None:
    stick = office.world.stick
    fresh = office.world.laptop("fresh", knows_first=False)
    assert reason_of(lambda: fresh.fetch(stick.source)) == "expired"
    assert office.file.stat().st_size < 8 << 10
    before = stick.payload("core.onnx").read_bytes()
    done = office.renew(None, StickFolder(stick.root))
    assert done.sticks == (str(stick.root),)
    assert done.facts.expires == office.world.clock.at + 30 * DAY
    assert fresh.fetch(stick.source).manifest.version == "1.1.0"  # the stick itself, for a laptop that saw nothing
    assert stick.payload("core.onnx").read_bytes() == before
    assert office.notes() == [("stick.renew", "done", "")]


def test_the_laptop_alone_renewed_takes_the_old_sticks_payloads(office: Office) -> None:
    assert office.renew().sticks == ()
    assert office.laptop.fetch(office.world.stick.source, "digits@1.0.0").manifest.version == "1.0.0"


def test_a_renewal_brings_withdrawals_and_new_rules(office: Office) -> None:
    world = office.world
    world.release.withdraw("digits@1.1.0", "stable")
    world.release.add_policy_target("policy/runbooks/greet/runbook.yaml", b"id: greet again\n")
    for role in ("stable", "policy"):
        world.release.sign(role)
    world.release.publish()
    world.release.renewal(office.file, 30)
    office.renew(None, StickFolder(world.stick.root))
    assert reason_of(lambda: office.laptop.fetch(world.stick.source)) == "withdrawn"
    assert office.laptop.store.policy_target("policy/runbooks/greet/runbook.yaml") == b"id: greet again\n"
    fresh = world.laptop("fresh", knows_first=False)
    assert fresh.fetch(world.stick.source, "digits@1.0.0").manifest.version == "1.0.0"


def test_an_older_renewal_changes_nothing_that_is_newer(office: Office) -> None:
    office.renew()
    old = office.file.read_bytes()
    office.world.clock.at += DAY
    office.world.release.renewal(office.file, 30)
    newest = office.renew().facts
    office.file.write_bytes(old)
    assert office.renew(None, StickFolder(office.world.stick.root)).facts == newest
    written = Metadata[Any].from_file(str(office.world.stick.role("timestamp"))).signed.version
    assert written == newest.timestamp_version


def test_a_stick_that_cannot_be_written_hides_no_other_and_the_laptop_is_renewed(office: Office) -> None:
    broken = office.world.folder / "broken"
    (broken / "metadata/timestamp.json").mkdir(parents=True)
    done = office.renew(None, StickFolder(broken), StickFolder(office.world.stick.root))
    assert [(name, error.reason) for name, error in done.refused] == [(str(broken), "io_error")]
    assert done.sticks == (str(office.world.stick.root),)
    assert office.laptop.fetch(office.world.stick.source).manifest.version == "1.1.0"


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


BAD = {
    "no zip": (b"renewal", "malformed"),
    "empty": (b"", "malformed"),
    "no timestamp": (_zip({"metadata/1.root.json": b"{}"}), "missing"),
    "only names that lead out": (_zip({"../metadata/timestamp.json": b"{}", "/etc/passwd": b"x"}), "missing"),
    "a bomb": (_zip({"metadata/timestamp.json": b"{}", "metadata/2.snapshot.json": b"0" * (5 << 20)}), "oversized"),
    "too many members": (_zip({f"metadata/{n}.root.json": b"" for n in range(1, 600)}), "oversized"),
    "brackets": (_zip({"metadata/timestamp.json": b"[" * 10_000}), "malformed"),
    "not ours": (_zip({"metadata/timestamp.json": b"{}"}), "malformed"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_renewal_is_refused_and_nothing_changes(office: Office, what: str) -> None:
    data, reason = BAD[what]
    bad = office.world.folder / "bad.zip"
    bad.write_bytes(data)
    trusted = office.laptop.store.facts()
    stick = {path: path.read_bytes() for path in office.world.stick.metadata.iterdir()}
    assert reason_of(lambda: office.renew(bad, StickFolder(office.world.stick.root))) == reason
    assert office.laptop.store.facts() == trusted
    assert {path: path.read_bytes() for path in office.world.stick.metadata.iterdir()} == stick


def test_a_tampered_renewal_is_refused_with_a_note(office: Office) -> None:
    with zipfile.ZipFile(office.file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    timestamp = members["metadata/timestamp.json"]
    members["metadata/timestamp.json"] = timestamp.replace(b'"expires":"20', b'"expires":"21')
    office.file.write_bytes(_zip(members))
    with pytest.raises(TrustRefused) as caught:
        office.renew()
    assert caught.value.reason == "unsigned"
    assert office.notes() == [("stick.renew", "refused", "unsigned")]


CUT = """
import os, signal, sys, time
from pathlib import Path
from fieldops.edges.tuf_signer import ReleaseRepo

class At:
    def now(self): return 1_800_000_100.0
    def monotonic(self): return time.monotonic()

repo, keys, stick, left = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

def hook(event, arguments):
    global left
    if event in {"os.rename", "os.remove"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

release = ReleaseRepo(repo, keys, At())
sys.addaudithook(hook)
release.export(stick, 30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ends a process by SIGKILL")
def test_a_stick_pulled_out_while_it_is_written_is_the_old_one_or_the_new_one(three: World) -> None:
    codes: list[int] = []
    for cut in range(1, 40):
        folder = three.folder / f"pulled-{cut}"
        shutil.copytree(three.stick.root, folder / "FIELDOPS")
        done = subprocess.run(
            [sys.executable, "-c", CUT, str(three.release.repo), str(three.folder / "keys"), str(folder), str(cut)],
            timeout=60,
            check=False,
            capture_output=True,
        )
        codes.append(done.returncode)
        laptop = three.laptop(f"laptop-{cut}")
        source = FolderSource(folder / "FIELDOPS")
        assert laptop.fetch(source).manifest.version == "1.1.0"
        offered = {each.ref for each in laptop.store.candidates(source, laptop.deadline) if not each.reason}
        assert offered in ({"digits@1.0.0", "digits@1.1.0"}, {"digits@1.0.0", "digits@1.1.0", "digits@1.2.0", "meters@1.0.0"})
        if done.returncode == 0:
            break
    assert codes[-1] == 0, done.stderr.decode()
    assert set(codes[:-1]) == {-9}
    assert len(codes) > 8
    assert len(offered) == 4
