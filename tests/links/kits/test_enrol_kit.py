"""A device without internet and without an agent: a real kit, Debian's sshd, an empty home."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fieldops import __version__
from fieldops.bundles.kit import parse_lock
from fieldops.deadline import Deadline
from fieldops.edges import keys
from fieldops.edges.kit import LOCK, KitFolder, build, read
from fieldops.errors import DeviceCannot, LinkFault, UsageFault
from fieldops.operations.gate import Words
from fieldops.operations.trail import verify
from fieldops.steps import Upgrade
from tests.cli.conftest import command, environment
from tests.links.conftest import soon
from tests.links.kits.conftest import DIGITS, PLATFORM, PYTHON, SLOW_S, Site, needs_sshd, next_version

pytestmark = pytest.mark.timeout(SLOW_S)


class TestOnSshd:
    pytestmark = needs_sshd

    def test_an_agent_from_a_kit_comes_back_after_logout_and_restart_and_goes_without_a_trace(
        self, site: Site, kit: KitFolder
    ) -> None:
        (site.home / "app").mkdir()
        shutil.copy(DIGITS / "1.0.0" / "core.onnx", site.home / "app" / "digits.onnx")
        made = site.install(kit, foreign=("digits", str(site.home / "app" / "digits.onnx")), adopt=True)
        assert "supervised" in (site.agent_home / "proof").read_text()
        assert made.proof.startswith("it answers after logout and after a restart of a supervisor")
        assert site.entry.id == made.hello.device
        with site.laptop.connect(site.entry, soon()) as device:
            assert device.link == "ssh"
            (slot,) = device.models(soon()).slots
            assert (slot.active, slot.last_good) == ("0.0.0", "0.0.0")

        before = json.loads((site.agent_home / "proof").read_text())["processes"]
        assert len(set(before)) == 2
        (site.agent_home / "agent").unlink()  # what a technician may find: broken by hand
        site.install(kit)
        with site.laptop.connect(site.entry, soon()) as device:
            assert device.hello(soon()).device == made.hello.device

        acts = [(entry.act, entry.phase) for entry, _ in site.laptop.journal.read()]
        assert acts[:2] == [("Enrol", "intent"), ("Enrol", "outcome")]
        assert ("Adopt", "outcome") in acts

        site.remove()
        report = verify(site.laptop.journal)
        assert (report.ok, report.problems) == (True, ())
        assert report.unchecked == 0
        assert [path.name for path in site.home.iterdir()] == ["app"]
        assert site.running() == []
        assert (site.entry.id, site.entry.formerly) == (keys_id(site), made.hello.device)

    def test_software_that_cannot_run_there_never_takes_the_place_of_what_does(
        self, site: Site, kit: KitFolder, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(kit.folder, other)
        entries = [entry for entry in kit.kit.files if not entry.name.startswith("tuf-")]
        (other / "kit.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(kit.kit, files=entries)))
        with pytest.raises(DeviceCannot) as refused:
            site.install(read(other))
        assert refused.value.reason == "install_failed"
        assert site.running() == []
        outcome = site.laptop.journal.read()[-1][0].result
        assert outcome is not None
        assert (outcome.status, outcome.reason) == ("failed", "install_failed")

    def test_an_agent_that_does_not_come_back_is_enrolled_and_puts_nothing_on_trial(
        self, site: Site, kit: KitFolder, tmp_path: Path
    ) -> None:
        """As a person sees it: exit code 6, why, and what the device then refuses."""
        once = next_version(kit, tmp_path / "kit", __version__, STARTS_ONCE)
        words = ("device", "enrol", "one", "--kit", str(once.folder), "--yes", "--json")
        done = subprocess.run(command(*words), env=environment(site.laptop.home), capture_output=True, check=False)
        assert done.returncode == 6, done.stderr
        said = json.loads(done.stdout)
        assert said["reason"] == "not_proved"
        assert "NOT PROVED that its agent comes back: it did not answer after a restart of a supervisor" in said["message"]
        assert "puts nothing on trial" in said["next"]
        outcome = next(entry for entry, _ in site.laptop.journal.read() if (entry.act, entry.phase) == ("Enrol", "outcome"))
        assert outcome.result is not None
        assert "NOT PROVED that it comes back: it did not answer after a restart" in outcome.result.detail

        (site.agent_home / "started").unlink()  # somebody mends it, and nobody has proved it
        until = soon(60)
        while not _enrolled_again(site, until):
            until.check("the agent")
        # as Activate of a model is: tests/agent/test_agent_adopt.py
        newer = Upgrade(channel="stable", agent=kit.kit.agent, version="9.0.0", kit_sha256="0" * 64)
        with site.laptop.links.anew(site.entry, until) as at, pytest.raises(DeviceCannot) as refused:
            site.laptop.gate().perform(at, newer, until)
        assert (refused.value.reason, refused.value.exit_code) == ("not_proved", 6)
        assert "device enrol" in refused.value.next_step

    def test_a_kit_for_another_machine_is_refused_before_a_byte_is_pushed(
        self, site: Site, kit: KitFolder, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(kit.folder, other)
        document = json.loads((other / "kit.json").read_bytes())
        (other / "kit.json").write_text(json.dumps(document | {"platform": "linux-riscv64"}))
        with pytest.raises(DeviceCannot) as refused:
            site.install(read(other))
        assert refused.value.reason == "wrong_kit"
        assert list(site.home.iterdir()) == []


# An agent that starts a single time, as one does that loses something of its own at the first start.
STARTS_ONCE = """
import sys
from pathlib import Path


def run(words):
    mark = Path(words[words.index("--home") + 1]) / "started"
    if mark.exists():
        sys.exit(3)
    mark.touch()
    from fieldops.agent.serving_agent import run

    return run(words)
"""


def _enrolled_again(site: Site, until: Deadline) -> bool:
    """Without a kit, so that the device gets the policy, and no proof."""
    with contextlib.suppress(DeviceCannot, LinkFault):
        site.laptop.enrolment.enrol(site.entry, until, Words())
        return True
    return False


def keys_id(site: Site) -> str:
    from fieldops.fleet import key_id

    return key_id(keys.ssh_public_blob(site.server.folder / "host_key"))


def test_a_kit_that_changed_is_no_kit(kit: KitFolder, tmp_path: Path) -> None:
    other = tmp_path / "kit"
    shutil.copytree(kit.folder, other)
    wheel = other / "wheels" / kit.kit.files[0].name
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(UsageFault, match=r"not as it was built: anyio"):
        read(other)


def test_a_kit_is_refused_at_the_office_where_no_wheel_exists(kit: KitFolder, tmp_path: Path) -> None:
    """Of two packages only, since each is asked for over the network: one is for every machine, one for some."""
    assert kit.kit.platform == PLATFORM
    pins = {pin.name: pin for pin in parse_lock(LOCK.read_text(), str(LOCK))}
    short = tmp_path / "agent.lock"
    short.write_text(pins["idna"].line + pins["onnxruntime"].line)
    with pytest.raises(DeviceCannot, match=r"linux-riscv64.*onnxruntime") as refused:
        build("linux-riscv64", PYTHON, tmp_path / "none", soon(100), lambda _: None, lock=short)
    assert refused.value.reason == "no_wheel"
    assert "idna" not in refused.value.message
    assert list(tmp_path.iterdir()) == [short]


def test_what_a_kit_holds_runs_without_anything_else(kit: KitFolder, tmp_path: Path) -> None:
    """No console, no SSH, and every library that the agent and its children import."""
    names = {entry.name.partition("-")[0] for entry in kit.kit.files}
    assert not names & {"textual", "paramiko", "typer", "httpx", "rich"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    python = tmp_path / "v" / "bin" / "python"
    pip = next((kit.folder / "wheels").glob("pip-*.whl")) / "pip"
    words = ["--no-index", "--require-hashes", "--no-deps", "--no-compile", "--find-links", str(kit.folder / "wheels")]
    subprocess.run([python, pip, "-q", "install", *words, "-r", kit.folder / "requirements.txt"], check=True)
    done = subprocess.run(
        [python, "-m", "fieldops.agent", "selftest", "--home", tmp_path / "home"], capture_output=True, check=False
    )
    assert json.loads(done.stdout)["faults"] == [], done.stderr
