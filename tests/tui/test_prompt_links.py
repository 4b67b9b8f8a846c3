"""The prompts over real logins: a locked key at OpenSSH's sshd through the whole console, passwords at an embedded server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from fieldops.deadline import CancelToken, Deadline
from fieldops.edges import keys, ssh
from fieldops.errors import Cancelled, NotAuthorised
from fieldops.tui.app import Console
from fieldops.tui.glyphs import BLOCKS
from fieldops.tui.laptop_site import LaptopSite
from fieldops.tui.prompts import Asked, Asker
from fieldops.tui.screens.fleet import FleetScreen
from fieldops.tui.screens.prompt import PromptScreen
from fieldops.wiring import Laptop
from tests.links.conftest import HAS_SSHD, SshServer, openssh_server
from tests.links.test_ssh_logins import Person, door
from tests.tui.seeing import Until, on, text_of


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("person") / "id"
    keys.ssh_keygen(path)
    return path


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[SshServer]:
    with openssh_server(tmp_path_factory.mktemp("sshd"), key, {}) as server:
        yield server


@pytest.fixture
def console(sshd: SshServer, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """A home whose only key is locked, and one device: the server."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = tmp_path / "locked"
    locked.write_bytes(key.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "word", "-f", locked], check=True, capture_output=True, timeout=20)
    address = sshd.entry.ssh
    assert address is not None
    host = (sshd.folder / "host_key.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{address.port} {host}")
    (tmp_path / "fleet.toml").write_text(f'[[device]]\nname = "one"\nssh = "127.0.0.1:{address.port}"\n')
    (tmp_path / "config.toml").write_text('[ssh]\nidentities = ["locked"]\nconfig = "none"\n')
    asker = Asker(time.monotonic)
    with Laptop.open(tmp_path) as laptop:
        laptop.ask = asker.ask
        yield Console(LaptopSite(laptop, asker), glyphs=BLOCKS, asker=asker)
        asker.stop()


@pytest.mark.anyio
@pytest.mark.needs_sshd
@pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server")
async def test_a_locked_key_is_asked_for_once_can_be_declined_and_logging_in_asks_again(console: Console, until: Until) -> None:
    async with console.run_test(size=(80, 24)) as pilot:
        await until(pilot, on(console, PromptScreen))
        await until(pilot, lambda: "PASSPHRASE" in text_of(console) and "it opens the key on this laptop" in text_of(console))
        await until(pilot, lambda: console.screen.query_one("#secret").has_focus)
        await pilot.press("escape")
        await until(pilot, on(console, FleetScreen))
        await until(pilot, lambda: "1 FAIL" in text_of(console))
        await pilot.press("L")
        await until(pilot, on(console, PromptScreen))
        await until(pilot, lambda: console.screen.query_one("#secret").has_focus)
        console.screen.query_one("#secret", Input).value = "word"
        await pilot.press("enter")
        await until(pilot, lambda: any("logged in to one" in text for _, _, text in console.history))
        await until(pilot, lambda: "1 BARE" in text_of(console))
        assert "word" not in repr(console.history)


def answering(*answers: str | None) -> Callable[[Asked], None]:
    left = list(answers)
    return lambda asked: asked.answer(left.pop(0))


@pytest.mark.parametrize("ways", ["password", "keyboard-interactive"])
@pytest.mark.parametrize("said", ["open sesame", None])
def test_a_password_goes_to_the_device_that_is_waited_for_and_cancelling_ends_the_login(
    ways: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    asker = Asker(time.monotonic)
    asker.show_with(answering(said))
    deadline = Deadline.after(20, time.monotonic, CancelToken())
    terms = ssh.Terms(keys=ssh.Keys(asker.ask), passwords=True)
    person = Person(ways)
    with door(person, tmp_path) as (entry, known):
        with pytest.raises(NotAuthorised), asker.by_itself():
            ssh.connect(entry, known_hosts=known, identities=[], deadline=deadline, terms=terms)
        assert person.said == []
        with asker.waiting_for(entry.name, deadline):
            if said is None:
                with pytest.raises((Cancelled, NotAuthorised)):
                    ssh.connect(entry, known_hosts=known, identities=[], deadline=deadline, terms=terms)
                assert deadline.cancel.cancelled
            else:
                ssh.connect(entry, known_hosts=known, identities=[], deadline=deadline, terms=terms).close()
    assert person.said == ([said] if said else [])
