"""Signers on different machines, rotation of every key, withdrawal, and what the doctor finds early."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root, Timestamp

from fieldops.edges.locks import exclusive
from fieldops.edges.tuf_keys import KeyFolder
from fieldops.edges.tuf_signer import PLAN, ReleaseRepo
from fieldops.errors import UsageFault

World = Any
AddVersion = Callable[..., Any]
DAY = 86_400.0


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.next_step
    return caught.value.reason


# --- a ceremony, and signatures that travel ---------------------------------------------------------------------------


@pytest.fixture
def ceremony(tmp_path: Path) -> Path:
    """Each role's keys are made on machines of their own; the office gets public keys, and the online ones."""
    office = tmp_path / "office"
    office.mkdir()
    for role, plan in PLAN.items():
        for number in range(1, plan.keys + 1):
            name = f"{role}-{number}"
            machine = office if role in {"snapshot", "timestamp"} else tmp_path / f"machine-{number}"
            keys = KeyFolder(machine)
            keys.make(name)
            shutil.copy2(keys.public_file(name), office / f"{name}.pub") if machine != office else None
    return office


def test_a_repository_grows_from_public_keys_and_carried_signatures(world: World, ceremony: Path, tmp_path: Path) -> None:
    release = ReleaseRepo.init(tmp_path / "repo", ceremony, world.clock)
    assert not release.published
    assert release.pending_roles() == ["root", "targets", "policy", "stable", "canary"]
    assert refused(release.publish) == "threshold"
    for role in release.pending_roles():
        carried = tmp_path / f"{role}.json"
        shutil.copy2(release.pending_file(role), carried)
        for number in range(1, PLAN[role].threshold + 1):
            assert ReleaseRepo.sign_carried(tmp_path / f"machine-{number}", role, [f"{role}-{number}"], carried)
        assert release.join(role, carried) == PLAN[role].threshold
    assert release.publish() == int(world.clock.at)
    assert release.pending_roles() == []
    assert not list(ceremony.glob("stable*.pem"))
    root = Metadata[Root].from_bytes(release.root()).signed
    assert [len(root.roles[role].keyids) for role in ("root", "targets", "snapshot", "timestamp")] == [3, 1, 1, 1]


def test_a_carried_file_counts_only_as_what_is_pending(world: World, tmp_path: Path) -> None:
    release: ReleaseRepo = world.release
    assert refused(lambda: release.join("stable", world.stick.role("stable"))) == "not_pending"
    release.withdraw("digits@1.1.0", "stable")
    carried = tmp_path / "stable.json"
    shutil.copy2(release.pending_file("stable"), carried)
    assert refused(lambda: release.join("stable", carried)) == "no_signature"
    stranger = KeyFolder(tmp_path / "stranger")
    stranger.make("stable-2")
    ReleaseRepo.sign_carried(stranger, "stable", ["stable-2"], carried)
    assert refused(lambda: release.join("stable", carried)) == "no_signature"
    document = json.loads(carried.read_bytes())
    keyid = release.keys.public("stable-1").keyid
    document["signatures"] = [{"keyid": keyid, "sig": "00" * 64}]
    carried.write_text(json.dumps(document))
    assert refused(lambda: release.join("stable", carried)) == "no_signature"
    ReleaseRepo.sign_carried(world.folder / "keys", "stable", ["stable-1"], carried)
    assert release.join("stable", carried) == 1
    release.withdraw("digits@1.0.0", "stable")  # changed since: the old signature is of something else
    assert refused(lambda: release.join("stable", carried)) == "other_contents"


def test_copies_signed_at_the_same_time_are_joined(world: World, tmp_path: Path) -> None:
    release: ReleaseRepo = world.release
    release.withdraw("digits@1.1.0", "stable")
    for number in (1, 2):
        shutil.copy2(release.pending_file("stable"), tmp_path / f"copy-{number}.json")
    for number in (2, 1):
        ReleaseRepo.sign_carried(world.folder / "keys", "stable", [f"stable-{number}"], tmp_path / f"copy-{number}.json")
    assert [release.join("stable", tmp_path / f"copy-{number}.json") for number in (1, 2)] == [1, 2]
    assert release.publish()


def test_a_signer_sees_what_is_signed_and_is_told_of_another_role(world: World, tmp_path: Path) -> None:
    release: ReleaseRepo = world.release
    release.withdraw("digits@1.1.0", "stable")
    assert release.changes("stable")[1:] == ["! digits@1.1.0 is withdrawn"]
    carried = tmp_path / "stable.json"
    shutil.copy2(release.pending_file("stable"), carried)
    keys = world.folder / "keys"
    for role in ("root", "targets", "canary", "policy"):
        with pytest.raises(UsageFault) as caught:
            ReleaseRepo.sign_carried(keys, role, [f"{role}-1"], carried)
        assert caught.value.reason == "wrong_role"
    assert "+ digits@1.0.0" in ReleaseRepo.sign_carried(keys, "stable", ["stable-1"], carried)
    assert refused(lambda: release.sign("stable", ["canary-1"])) == "not_a_signer"


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_root_keys_change_by_a_root_that_old_and_new_keys_sign(world: World) -> None:
    release: ReleaseRepo = world.release
    old = world.laptop()
    assert release.rotate("root", out="root-1") == ["root"]
    assert (world.folder / "keys/root-4.pem").exists()
    release.sign("root", ["root-4", "root-2"])  # two of the new three, but one of the old
    assert refused(release.publish) == "threshold"
    release.sign("root", ["root-1"])  # a key that goes still vouches for what comes
    release.publish()
    new = Metadata[Root].from_bytes(release.root()).signed
    assert new.version == 2
    assert release.keys.public("root-1").keyid not in new.roles["root"].keyids
    stick = world.export("rotated")
    assert old.fetch(stick.source).manifest.version == "1.1.0"
    assert old.store.facts().root_version == 2
    assert refused(lambda: release.sign("root", ["root-1"])) == "not_a_signer"


@pytest.mark.parametrize("role", [role for role in PLAN if role != "root"])
def test_every_other_key_changes_and_laptops_follow(world: World, role: str) -> None:
    release: ReleaseRepo = world.release
    old = world.laptop()
    for name in release.rotate(role, out=f"{role}-1"):
        release.sign(name)
    release.publish()  # the old online key signs once more, for readers that have not seen the new root yet
    assert old.fetch(world.export("rotated").source).manifest.version == "1.1.0"
    release.publish()
    stick = world.export("rotated")
    assert old.fetch(stick.source).manifest.version == "1.1.0"
    gone, came = release.keys.public(f"{role}-1").keyid, release.keys.public(f"{role}-{PLAN[role].keys + 1}").keyid
    signatures = Metadata[Any].from_file(str(stick.role(role))).signatures
    assert came in signatures
    assert (gone in signatures) == (role == "targets")  # signed once, for readers of both roots


def test_after_a_rotation_what_the_old_key_alone_signed_is_not_published(world: World) -> None:
    release: ReleaseRepo = world.release
    assert release.rotate("canary", out="canary-1") == ["targets", "canary"]
    release.sign("targets")
    assert refused(release.publish) == "threshold"
    assert refused(lambda: release.sign("canary", ["canary-1"])) == "not_a_signer"
    release.sign("canary")
    release.publish()


def test_thresholds_need_their_keys(world: World) -> None:
    release: ReleaseRepo = world.release
    assert refused(lambda: release.rotate("stable", threshold=3)) == "not_enough_keys"
    assert refused(lambda: release.rotate("stable", out="stable-2", threshold=2)) == "not_enough_keys"
    assert refused(lambda: release.rotate("stable")) == "ambiguous"
    assert refused(lambda: release.rotate("stable", out="stable-7")) == "unknown_key"
    assert refused(lambda: release.rotate("nobody")) == "unknown_role"
    assert release.pending_roles() == []
    assert release.rotate("stable", out="stable-2", threshold=1) == ["targets"]
    release.sign("targets")
    release.publish()
    assert release.sign("stable", ["stable-1"]) == 1
    assert release.publish()


def test_a_timestamp_from_the_future_is_found_and_cured(world: World) -> None:
    release: ReleaseRepo = world.release
    laptop = world.laptop()
    world.clock.at += 400 * DAY  # the office's clock is wrong for one publication
    release.resign_expired()
    world.clock.at -= 400 * DAY
    assert any("400 days in the future" in line for line in release.doctor())
    for name in release.rotate("timestamp"):
        release.sign(name)
    assert release.publish() == int(world.clock.at)
    assert not any("future" in line for line in release.doctor())
    cured = world.export("cured")
    assert Metadata[Timestamp].from_file(str(cured.role("timestamp"))).signed.version < world.clock.at + DAY
    fresh = world.laptop("fresh", knows_first=False)
    assert fresh.fetch(cured.source).manifest.version == "1.1.0"
    assert laptop.fetch(cured.source).manifest.version == "1.1.0"


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_the_doctor_warns_of_what_ends_within_ninety_days(world: World) -> None:
    def ending() -> set[str]:
        return {line.partition(":")[0] for line in world.release.doctor() if "expire" in line}

    assert ending() == set()
    world.clock.at += 6 * DAY
    assert ending() == {"timestamp"}
    world.clock.at += 25 * DAY
    assert ending() == {"timestamp", "snapshot"}
    world.clock.at += 60 * DAY
    assert ending() == {"timestamp", "snapshot", "stable", "canary", "policy"}
    world.clock.at += 300 * DAY
    assert ending() == set(PLAN)


def test_the_doctor_names_who_has_to_sign_and_what_is_damaged(world: World) -> None:
    release: ReleaseRepo = world.release
    release.withdraw("digits@1.1.0", "stable")
    release.sign("stable", ["stable-1"])
    assert any("stable: 1 of 2 signatures; to sign: 1 of stable-2" in line for line in release.doctor())
    release.sign("stable", ["stable-2"])
    assert any(line.startswith("pending stable: signed, not published") for line in release.doctor())
    payload = next((release.repo / "targets/stable/digits/1.1.0").glob("*.core.onnx"))
    payload.write_bytes(b"rot")
    assert any("stable/digits/1.1.0/core.onnx: its payload is damaged" in line for line in release.doctor())
    payload.unlink()
    assert any("cannot be read" in line for line in release.doctor())


def test_the_doctor_finds_a_threshold_that_nobody_can_meet(world: World) -> None:
    path = world.release.repo / "metadata/1.root.json"
    document = json.loads(path.read_bytes())
    document["signed"]["roles"]["snapshot"]["threshold"] = 2
    path.write_text(json.dumps(document))
    assert any(line.startswith("snapshot: 2 signatures needed, 1 keys there") for line in world.release.doctor())
    path.write_bytes(b"rot")
    assert any(line.startswith("damaged: ") for line in world.release.doctor())


# --- one writer, and power cuts ---------------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_holds_the_repository(world: World, built: World) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom fieldops.edges.tuf_signer import ReleaseRepo\n"
        "from fieldops.edges import tuf_folder\ntuf_folder.WAIT_S = 0.1\n"
        "from fieldops.edges.clock import SystemClock\nfrom fieldops.errors import StorageFault\n"
        "try:\n    ReleaseRepo(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock()).withdraw('digits@1.0.0', 'stable')\n"
        "except StorageFault as error:\n    print(error.reason)\n"
    )
    with exclusive(world.release.repo / ".lock", "the release repository"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(world.release.repo), str(world.folder / "keys")],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout.split() == ["in_use"]
    assert world.release.pending_roles() == []


CUT = """
import os, signal, sys, time
from pathlib import Path
from fieldops.edges.tuf_signer import ReleaseRepo

class At:
    def now(self): return 1_800_000_100.0
    def monotonic(self): return time.monotonic()

repo, keys, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def hook(event, arguments):
    global left
    if event in {"os.rename", "os.remove", "shutil.rmtree", "os.rmdir"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

release = ReleaseRepo(repo, keys, At())
sys.addaudithook(hook)
release.publish()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ends a process by SIGKILL")
def test_a_cut_anywhere_in_a_publication_leaves_the_old_or_the_new_one(world: World) -> None:
    """With the hardest change: all keys of the root's roles go, and a version is withdrawn."""
    release: ReleaseRepo = world.release
    for role in ("root", "targets", "snapshot", "timestamp"):
        release.rotate(role, out=f"{role}-1")
    release.withdraw("digits@1.0.0", "stable")
    release.sign("root", ["root-1", "root-2", "root-3", "root-4"])
    release.sign("targets")
    release.sign("stable")
    codes: list[int] = []
    for cut in range(1, 60):
        repo = world.folder / f"cut-{cut}"
        shutil.copytree(release.repo, repo)
        done = subprocess.run(
            [sys.executable, "-c", CUT, str(repo), str(world.folder / "keys"), str(cut)],
            timeout=60,
            check=False,
            capture_output=True,
        )
        codes.append(done.returncode)
        # Read as it lies there, by a laptop of the former root: nothing was finished yet.
        seen = _offered(world, repo, f"direct-{cut}")
        after = ReleaseRepo(repo, world.folder / "keys", world.clock)
        stick = after.export_stick(world.folder / f"stick-{cut}")  # finishes what was decided, and nothing else
        withdrawn = not after.pending_roles()
        assert _offered(world, stick, f"laptop-{cut}") == withdrawn
        assert withdrawn or not seen
        if not withdrawn:
            after.publish()
            assert _offered(world, after.export_stick(world.folder / f"stick-{cut}"), f"again-{cut}")
        assert not (repo / "committed").exists()
        if done.returncode == 0:
            break
    assert codes[-1] == 0, done.stderr.decode()
    assert set(codes[:-1]) == {-9}
    assert len(codes) > 10


def _offered(world: World, stick: Path, name: str) -> bool:
    """Whether a laptop that knew the former release learns from this stick that 1.0.0 is withdrawn; it must accept the stick."""
    laptop = world.laptop(name)
    source = type(world.stick)(stick, world.folder / "keys").source
    assert laptop.fetch(source).manifest.version == "1.1.0"
    (found,) = [each for each in laptop.store.candidates(source, laptop.deadline) if each.version == "1.0.0"]
    assert found.reason in {"", "withdrawn"}
    return bool(found.reason)
