"""The site server of config.toml: what it has that is newer counts in every verb that judges sticks, and its absence costs nothing."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.journal import SqliteJournal
from fieldops.edges.site_server import answering
from fieldops.edges.tuf_client import TrustStore
from fieldops.edges.tuf_signer import ReleaseRepo
from fieldops.edges.usb import FolderSource
from fieldops.errors import DeadlinePassed, TrustRefused, Unreachable
from fieldops.policy import PolicyDocument, encode_policy

# tests are no package: conftest's names come through fixtures and these annotations
AddVersion = Callable[..., Any]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    open_now: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        open_now.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in open_now:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections and says nothing, as a broken proxy does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Office:
    """By today's clock, for whole processes to judge. stick: 1.0.0 and 1.1.0; newer: 1.1.0 is withdrawn."""

    def __init__(self, folder: Path, add_version: AddVersion) -> None:
        clock = SystemClock()
        self.repo = ReleaseRepo.init(folder / "repo", folder / "keys", clock)
        self.repo.add_policy_target("policy/rules/current/policy.json", encode_policy(PolicyDocument(v=1, roles={}, people={})))
        self.repo.sign("policy")
        for counter, version in enumerate(("1.0.0", "1.1.0"), 1):
            add_version(self.repo, folder / "src" / version, version, counter)
        self.repo.publish()
        self.stick = self.repo.export_stick(folder / "stick")
        self.repo.withdraw("digits@1.1.0", "stable")
        self.repo.sign("stable")
        self.repo.publish()
        self.newer = self.repo.export_stick(folder / "server")
        self.home = folder / "home"
        self.trust = TrustStore(self.home / "trust", self.home / "cache", clock)
        self.trust.pin(self.repo.root(1), None)

    def configure(self, site: str) -> None:
        (self.home / "config.toml").write_text(f'[sticks]\nfolders = ["{self.stick.parent}"]\nsite = "{site}"\n', "utf-8")

    def run(self, *words: str) -> tuple[int, Any, str]:
        """(exit code, the document, what was said)."""
        done = subprocess.run(
            [sys.executable, "-m", "fieldops", "--home", str(self.home), *words, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "NO_PROXY": "*"},
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr

    def verified(self) -> dict[str, str]:
        """Reason by bundle, of `stick verify`."""
        _, found, _ = self.run("stick", "verify", str(self.stick))
        return {each["ref"]: each["reason"] for each in found["bundles"]}

    def notes(self) -> list[tuple[str, str, str]]:
        journal = SqliteJournal.open(self.home / "audit.db", lambda: pytest.fail("reading needs no key"), SystemClock())
        try:
            return [(entry.act, entry.result.status, entry.result.reason) for entry, _ in journal.read() if entry.result]
        finally:
            journal.close()


@pytest.fixture
def office(tmp_path: Path, add_version: AddVersion) -> Office:
    return Office(tmp_path, add_version)


def edit(change: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """Of the one file whose name ends so."""

    def made(stick: Path) -> None:
        (path,) = [path for path in stick.rglob(f"*{name}") if "/1.0.0/" not in path.as_posix()]
        change(path)

    return made


@pytest.mark.parametrize(
    ("harm", "reasons", "bundles"),
    [
        (edit(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "core.onnx"), {"hash_mismatch"}, 2),
        (edit(Path.unlink, "large.onnx"), {"missing"}, 2),
        (edit(lambda path: path.write_bytes(b"[" * 400_000), "timestamp.json"), {"oversized"}, 0),
        (edit(lambda path: path.write_bytes(b"{}"), "stable.json"), {"hash_mismatch"}, 0),
    ],
    ids=["flipped", "missing", "nonsense for a timestamp", "nonsense for a channel"],
)
def test_a_bad_stick_at_the_terminal(harm: Callable[[Path], object], reasons: set[str], bundles: int, office: Office) -> None:
    """Exit 3, the closed reason in the document and in the log, no trace of Python."""
    (office.home / "config.toml").write_text("", "utf-8")
    harm(office.stick)
    code, found, _ = office.run("stick", "verify", str(office.stick))
    assert code == 3
    if bundles:
        assert {each["reason"] for each in found["bundles"]} == {"", *reasons}
        assert len(found["bundles"]) == bundles
    else:
        assert {found["reason"]} == reasons
        assert found["next"]
    assert {("stick.verify", "refused", reason) for reason in reasons} <= set(office.notes())
    assert not list((office.home / "cache").glob("**/*.part"))


def test_what_the_site_server_withdraws_is_refused_on_the_stick(office: Office, serve: Callable[[Path], str]) -> None:
    office.configure(serve(office.newer))
    assert office.verified() == {"digits@1.0.0": "", "digits@1.1.0": "withdrawn"}
    # sideload asks it too, whatever it is about to do with the version
    fleet = f'[[device]]\nname = "press"\nclass = "gateway"\nssh = "pi@192.0.2.7"\nid = "{"a" * 52}"\n'
    (office.home / "fleet.toml").write_text(fleet, "utf-8")
    words = ("sideload", "press", "--bundle", "digits@1.1.0", "--statement", str(office.home / "s.json"))
    code, refused, _ = office.run(*words)
    assert (code, refused["reason"]) == (3, "withdrawn")
    # It was taken for good: without the server it is so all the same.
    office.configure("http://127.0.0.1:9")
    assert office.verified() == {"digits@1.0.0": "", "digits@1.1.0": "withdrawn"}


def test_a_server_that_is_away_or_silent_hinders_nothing_and_is_said(office: Office, silent: str) -> None:
    for site in ("http://127.0.0.1:9", silent):
        office.configure(site)
        began = time.monotonic()
        code, found, said = office.run("stick", "list", str(office.stick))
        assert code == 0
        assert {each["ref"]: each["reason"] for each in found["bundles"]} == {"digits@1.0.0": "", "digits@1.1.0": ""}
        assert f"going on without the site server: the site server {site}" in said
        assert time.monotonic() - began < 30  # three seconds of it, on any machine that starts a process in time
    assert office.notes() == []


def test_forged_metadata_on_the_server_is_refused_noted_and_hinders_nothing(
    office: Office, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    stranger = ReleaseRepo.init(tmp_path / "r", tmp_path / "k", SystemClock())
    stranger.add_policy_target("policy/rules/current/policy.json", encode_policy(PolicyDocument(v=1, roles={}, people={})))
    stranger.sign("policy")
    stranger.publish()
    office.configure(serve(stranger.export_stick(tmp_path / "forged")))
    assert office.verified() == {"digits@1.0.0": "", "digits@1.1.0": ""}
    assert ("site.refresh", "refused", "unsigned") in office.notes()


def test_without_a_stick_the_server_itself_offers_what_it_holds(office: Office, serve: Callable[[Path], str]) -> None:
    site = serve(office.newer)
    (office.home / "config.toml").write_text(f'[sticks]\nsite = "{site}"\n', "utf-8")
    code, found, _ = office.run("stick", "list")
    assert (code, site in found["sources"]) == (0, True)
    from_site = {each["ref"]: each["reason"] for each in found["bundles"] if each["source"] == site}
    assert from_site == {"digits@1.0.0": "", "digits@1.1.0": "withdrawn"}


def test_an_older_server_takes_nothing_back(office: Office, serve: Callable[[Path], str]) -> None:
    office.trust.refresh(FolderSource(office.newer), Deadline.after(60, time.monotonic))
    office.configure(serve(office.stick))
    assert office.verified() == {"digits@1.0.0": "", "digits@1.1.0": "withdrawn"}


def test_the_question_ends_at_its_deadline_whatever_hangs(silent: str) -> None:
    importlib.import_module("httpx")  # takes its time at first
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no answer"):
        answering(silent, Deadline.after(1, time.monotonic))
    assert time.monotonic() - began < 8  # the socket's own limit is ten seconds
    with pytest.raises(DeadlinePassed):
        answering(silent, Deadline.after(-1, time.monotonic))


def test_a_server_that_grows_endless_is_a_refusal(office: Office, serve: Callable[[Path], str]) -> None:
    (office.newer / "metadata/timestamp.json").write_bytes(b"[" * 400_000)
    source = answering(serve(office.newer), Deadline.after(30, time.monotonic))
    with pytest.raises(TrustRefused) as caught:
        office.trust.refresh(source, Deadline.after(60, time.monotonic))
    assert caught.value.reason == "oversized"
