"""A device gets a newer agent from a release: real kits, Debian's sshd, and the old agent that always comes back."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from fieldops import __version__
from fieldops.audit.entry import Entry
from fieldops.edges.kit import KitFolder
from fieldops.edges.usb import FolderSource
from fieldops.errors import DeviceCannot, LinkFault, TrustRefused
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.operations import upgrade
from fieldops.operations.evidence import collect
from fieldops.ports import Payload
from tests.cli.conftest import command, environment
from tests.links.conftest import Cable, soon
from tests.links.kits.conftest import HANGS, SLOW_S, Site, Team, bare_site, give_software, needs_sshd, next_version

pytestmark = [*needs_sshd, pytest.mark.timeout(SLOW_S)]
LONG_S = 300.0


@dataclass(frozen=True)
class Releases:
    """Sticks, each with one version of the agent."""

    good: Path
    hangs: Path
    old: Path
    kit_bytes: int


@pytest.fixture(scope="module")
def releases(kit: KitFolder, team: Team, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    base = tmp_path_factory.mktemp("agents")
    good = next_version(kit, base / "kit-good", "0.9.0")
    return Releases(
        good=team.release(good, base / "good"),
        hangs=team.release(next_version(kit, base / "kit-hangs", "0.9.1", HANGS), base / "hangs"),
        old=team.release(next_version(kit, base / "kit-old", "0.0.9"), base / "old"),
        kit_bytes=good.kit.size_bytes,
    )


@pytest.fixture(scope="module")
def enrolled(
    short_folder: Path, tmp_path_factory: pytest.TempPathFactory, identity: Path, team: Team, kit: KitFolder, software: Path
) -> Iterator[Site]:
    """Each test leaves it with the agent that it found, except the last one."""
    with bare_site(short_folder, tmp_path_factory.mktemp("enrolled"), identity, team) as site:
        give_software(software, site.agent_home)
        site.install(kit)
        yield site


def answering(site: Site) -> str:
    with site.laptop.links.anew(site.entry, soon()) as device:
        return device.hello(soon()).agent


def acts(site: Site, act: str) -> list[Entry]:
    return [entry for entry, _ in site.laptop.journal.read() if entry.act == act]


def upgraded(site: Site, stick: Path, *, answer_s: int = 90, entry: DeviceEntry | None = None) -> None:
    laptop, at = site.laptop, entry or site.entry
    gate = laptop.gate()
    with laptop.links.anew(at, soon()) as device:
        planned = upgrade.plan(gate, laptop.trust, device, [FolderSource(stick)], soon(LONG_S), answer_s=answer_s)
    upgrade.run(gate, laptop.links.anew, at, planned, soon(LONG_S))


def test_an_agent_that_starts_and_never_answers_gives_way_to_the_old_one(enrolled: Site, releases: Releases) -> None:
    with pytest.raises(DeviceCannot, match=f"0.9.1: not within 5 s; {__version__} answers again") as failed:
        upgraded(enrolled, releases.hangs, answer_s=5)
    assert (failed.value.exit_code, failed.value.reason) == (6, "no_answer")
    assert answering(enrolled) == __version__
    outcome = acts(enrolled, "Upgrade")[-1]
    assert outcome.result is not None
    assert (outcome.phase, outcome.result.status, outcome.result.code, outcome.result.reason) == (
        "outcome",
        "reverted",
        6,
        "no_answer",
    )
    assert not (enrolled.agent_home / "upgrade.json").exists()
    assert not (enrolled.agent_home / "upgrade.over").exists()


def test_a_kit_with_one_flipped_byte_is_refused_on_the_laptop(enrolled: Site, kit: KitFolder, team: Team, tmp_path: Path) -> None:
    stick = team.release(next_version(kit, tmp_path / "kit", "0.9.2"), tmp_path / "stick")
    (file,) = stick.rglob("*.kit.zip")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    words = ("device", "enrol", "one", "--upgrade", "--from", str(stick), "--yes", "--json")
    done = subprocess.run(command(*words), env=environment(enrolled.laptop.home), capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (3, "hash_mismatch"), done.stderr
    noted = acts(enrolled, "stick.verify")[-1]
    assert noted.result is not None
    assert (noted.result.status, noted.result.reason) == ("refused", "hash_mismatch")
    assert answering(enrolled) == __version__


@dataclass(frozen=True)
class Lying:
    """A laptop's payload in which every large file has one byte flipped."""

    true: Payload

    def metadata(self) -> dict[str, bytes]:
        return self.true.metadata()

    def open(self, sha256: str) -> BinaryIO:
        with self.true.open(sha256) as reader:
            data = bytearray(reader.read())
        data[len(data) // 2] ^= 1
        return BytesIO(data)


def test_a_laptop_that_lies_installs_nothing(enrolled: Site, releases: Releases) -> None:
    laptop = enrolled.laptop
    with laptop.links.anew(enrolled.entry, soon()) as device:
        planned = upgrade.plan(laptop.gate(), laptop.trust, device, [FolderSource(releases.good)], soon(60))
        *_, step, _ = planned.steps
        assert step.payload is not None
        before = sorted((enrolled.agent_home / "software").iterdir())
        with pytest.raises(TrustRefused) as refused:
            laptop.gate().perform(device, step.step, soon(60), payload=Lying(step.payload))
    assert refused.value.reason == "hash_mismatch"
    assert answering(enrolled) == __version__
    assert sorted((enrolled.agent_home / "software").iterdir()) == before
    assert not (enrolled.agent_home / "kit").exists()


def test_an_older_agent_is_refused_on_laptop_and_device(enrolled: Site, releases: Releases) -> None:
    with pytest.raises(TrustRefused) as refused:
        upgraded(enrolled, releases.old)
    assert refused.value.reason == "below_floor"
    laptop = enrolled.laptop
    agent = upgrade.fetch(laptop.gate(), laptop.trust, FolderSource(releases.old), _only(enrolled, releases.old), soon(60))
    step = upgrade.step_of(agent, 60)
    with laptop.links.anew(enrolled.entry, soon()) as device, pytest.raises(TrustRefused) as refused:
        laptop.gate().perform(device, step, soon(60), payload=agent.payload)
    assert refused.value.reason == "below_floor"


def _only(site: Site, stick: Path) -> str:
    (candidate,) = site.laptop.trust.candidates(FolderSource(stick), soon())
    return candidate.ref


def test_the_old_agent_comes_back_when_the_laptop_is_gone_and_the_new_one_stays_when_it_is_kept(
    enrolled: Site, releases: Releases
) -> None:
    """In this order on one device, since the second install finds the software of the first."""
    laptop = enrolled.laptop
    with laptop.links.anew(enrolled.entry, soon()) as device:
        planned = upgrade.plan(laptop.gate(), laptop.trust, device, [FolderSource(releases.good)], soon(60), trial_s=5)
        *before, _ = planned.steps
        for each in before:
            record = laptop.gate().perform(device, each.step, soon(LONG_S), payload=each.payload)
    assert "also after a restart" in record.message
    # nobody keeps it
    until = soon(120)
    while _agent_or_none(enrolled) != __version__:
        until.check("the old agent")
    with laptop.links.anew(enrolled.entry, soon()) as device:
        collect(laptop.journal, device, "test", soon())
    (back,) = [entry for entry in acts(enrolled, "device.agent_back") if entry.reason == "not_kept"]
    assert back.result is not None
    assert "0.9.0" not in answering(enrolled)

    cable = Cable(enrolled.server.entry.ssh.port if enrolled.server.entry.ssh else 0)
    try:
        enrolled.know(cable.port)
        at = replace(enrolled.entry, ssh=SshAddress(None, "127.0.0.1", cable.port))
        with pulled_once(cable, after=releases.kit_bytes // 3):
            upgraded(enrolled, releases.good, entry=at)
        assert cable.pulled == 1
        assert cable.carried_out < 1.3 * releases.kit_bytes
    finally:
        cable.close()
    assert answering(enrolled) == "0.9.0"
    assert [entry.result.status for entry in acts(enrolled, "KeepAgent") if entry.result] == ["done"]

    restart(enrolled)
    assert answering(enrolled) == "0.9.0"
    assert not (enrolled.agent_home / "upgrade.json").exists()
    with laptop.links.anew(enrolled.entry, soon()) as device:
        again = upgrade.plan(laptop.gate(), laptop.trust, device, [FolderSource(releases.good)], soon(60))
    assert again.steps == ()


def _agent_or_none(site: Site) -> str | None:
    with contextlib.suppress(LinkFault):
        return answering(site) or None  # "": no agent answers
    return None


@contextlib.contextmanager
def pulled_once(cable: Cable, *, after: int) -> Iterator[None]:
    """The cable is pulled as soon as so many bytes went out."""
    over = threading.Event()

    def watch() -> None:
        while cable.carried_out < after and not over.wait(0.01):
            pass
        if not over.is_set():
            cable.pull()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def restart(site: Site) -> None:
    """The supervisor starts another process of what is kept."""
    before = (site.agent_home / "agent.pid").read_text()
    subprocess.run(["kill", before.strip()], check=True)
    until = soon(60)
    while (site.agent_home / "agent.pid").read_text() == before or _agent_or_none(site) is None:
        until.check("the restarted agent")
