"""The release verbs as people and scripts meet them: nothing is asked without a terminal, nothing secret is shown, errors say what next."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from fieldops.cli.documents.office import Released, ReleaseHealth
from fieldops.cli.documents.trust import Pinned, StickRenewed
from fieldops.wire import ErrorDoc
from tests.cli.conftest import AtTerminal, Run

SECRET = "correct horse battery"


@pytest.fixture
def office(run: Run, tmp_path: Path) -> Path:
    """A folder with repo/ and keys/, all keys locked by the passphrase in pass."""
    (tmp_path / "pass").write_text(f"{SECRET}\n")
    (tmp_path / "pass").chmod(0o600)
    assert run("release", "init", *at(tmp_path), "--passphrase-file", str(tmp_path / "pass")).code == 0
    return tmp_path


def at(office: Path) -> tuple[str, ...]:
    return ("--repo", str(office / "repo"), "--keys", str(office / "keys"))


def open_with(office: Path) -> tuple[str, ...]:
    return (*at(office), "--passphrase-file", str(office / "pass"))


def refused(run: Run, *words: str) -> str:
    done = run(*words, "--json")
    document = done.document()
    assert isinstance(document, ErrorDoc), done.out
    assert document.exit == done.code
    assert document.next
    return document.reason


def test_keys_are_locked_and_no_passphrase_is_ever_shown(run: Run, office: Path) -> None:
    keys = sorted((office / "keys").glob("*.pem"))
    assert len(keys) == 11
    assert all(b"ENCRYPTED PRIVATE KEY" in path.read_bytes() for path in keys)
    assert refused(run, "release", "publish", *at(office)) == "key_locked"
    (office / "wrong").write_text("wrong\n")
    (office / "wrong").chmod(0o600)
    assert refused(run, "release", "publish", *at(office), "--passphrase-file", str(office / "wrong")) == "key_locked"
    done = run("release", "publish", *open_with(office))
    assert done.code == 0
    assert SECRET not in done.out + done.err


def test_nobody_is_asked_without_a_terminal(run: Run, tmp_path: Path) -> None:
    assert refused(run, "release", "keygen", "stable-1", "--keys", str(tmp_path / "keys")) == "needs_passphrase"
    assert refused(run, "release", "init", *at(tmp_path)) == "needs_passphrase"
    assert not (tmp_path / "keys").exists()
    assert not (tmp_path / "repo").exists()
    done = run("release", "keygen", "stable-1", "--keys", str(tmp_path / "keys"), "--unencrypted", "--json")
    assert isinstance(done.document(), Released)
    assert b"BEGIN PUBLIC KEY" in (tmp_path / "keys/stable-1.pub").read_bytes()


def test_a_key_made_and_used_at_a_terminal_asks_for_its_passphrase(at_terminal: AtTerminal, run: Run, office: Path) -> None:
    terminal = at_terminal("release", "keygen", "canary-2", "--keys", str(office / "keys"))
    terminal.until("new passphrase for canary-2")
    terminal.type("short and sweet")
    terminal.until("again, for canary-2")
    terminal.type("short and sweet")
    assert terminal.ended() == 0
    assert "short and sweet" not in terminal.seen
    rotated = ("release", "rotate", "canary", *open_with(office), "--out", "canary-1", "--in", str(office / "keys/canary-2.pub"))
    assert run(*rotated).code == 0
    shown = run("release", "sign", "canary", "--pending", str(office / "repo/pending/canary.json")).out
    assert "not signed" in shown
    terminal = at_terminal("release", "sign", "canary", *at(office), "--key", "canary-2")
    terminal.until("sign this?")
    assert shown.splitlines()[0] in terminal.seen
    terminal.type("yes")
    terminal.until("passphrase of canary-2")
    terminal.type("short and sweet")
    assert terminal.ended() == 0
    assert "canary: 1 of 1 signatures" in terminal.seen


def test_keys_made_together_at_a_terminal_get_one_passphrase(at_terminal: AtTerminal, run: Run, tmp_path: Path) -> None:
    terminal = at_terminal("release", "init", *at(tmp_path))
    terminal.until("new passphrase for all keys")
    terminal.type(SECRET)
    terminal.until("again, for all keys")
    terminal.type(SECRET)
    assert terminal.ended() == 0
    assert "root fingerprint" in terminal.seen
    (tmp_path / "pass").write_text(SECRET)
    (tmp_path / "pass").chmod(0o600)
    assert run("release", "publish", *open_with(tmp_path)).code == 0


def test_a_first_root_is_confirmed_by_a_person_or_by_its_fingerprint(at_terminal: AtTerminal, run: Run, office: Path) -> None:
    root = str(office / "repo/metadata/1.root.json")
    assert refused(run, "policy", "pin", root) == "needs_fingerprint"
    terminal = at_terminal("policy", "pin", root)
    terminal.until("another way")
    terminal.type("no")
    assert terminal.ended() == 130
    assert "none pinned" in run("policy", "show").out
    terminal = at_terminal("policy", "pin", root)
    terminal.until("another way")
    terminal.type("yes")
    assert terminal.ended() == 0
    done = run("policy", "pin", root, "--expect-fingerprint", fingerprint(Path(root)), "--json")
    assert isinstance(done.document(), Pinned)


def fingerprint(root: Path) -> str:
    return hashlib.sha256(root.read_bytes()).hexdigest()


def test_pinning_an_old_root_again_never_goes_back_behind_a_newer_one(run: Run, office: Path) -> None:
    first = office / "repo/metadata/1.root.json"
    assert run("policy", "pin", str(first), "--expect-fingerprint", fingerprint(first)).code == 0
    assert run("release", "rotate", "root", *open_with(office), "--out", "root-1").code == 0
    assert run("release", "sign", "root", *open_with(office)).code == 0
    assert run("release", "publish", *open_with(office)).code == 0
    assert run("stick", "export", str(office / "stick"), *open_with(office)).code == 0
    assert run("stick", "list", str(office / "stick")).code == 0
    assert "version 2" in run("policy", "show").out
    assert run("policy", "pin", str(first), "--expect-fingerprint", fingerprint(first)).code == 0
    assert "version 2" in run("policy", "show").out


def test_moving_the_trust_folder_away_does_not_go_back_behind_a_newer_root(run: Run, home: Path, office: Path) -> None:
    first, second = (office / f"repo/metadata/{version}.root.json" for version in (1, 2))
    assert run("policy", "pin", str(first), "--expect-fingerprint", fingerprint(first)).code == 0
    assert run("release", "rotate", "root", *open_with(office), "--out", "root-1").code == 0
    assert run("release", "sign", "root", *open_with(office)).code == 0
    assert run("release", "publish", *open_with(office)).code == 0
    assert run("stick", "export", str(office / "stick"), *open_with(office)).code == 0
    assert run("stick", "list", str(office / "stick")).code == 0
    (home / "trust").rename(office / "away")
    assert "none pinned" in run("policy", "show").out
    done = run("policy", "pin", str(first), "--expect-fingerprint", fingerprint(first), "--json")
    refusal = done.document()
    assert isinstance(refusal, ErrorDoc)
    assert (done.code, refusal.reason) == (3, "rollback")
    assert "root 2" in refusal.next
    assert run("policy", "pin", str(second), "--expect-fingerprint", fingerprint(second)).code == 0
    assert "version 2" in run("policy", "show").out


def test_the_doctor_ends_with_7_and_names_what_is_to_do(run: Run, office: Path) -> None:
    done = run("release", "doctor", *at(office), "--json")
    health = done.document()
    assert isinstance(health, ReleaseHealth)
    assert done.code == 7
    assert health.problems == ["policy: there are no rules, so nobody may change anything; `fieldops release policy add-person`"]


def test_a_renewal_goes_from_the_office_to_the_laptop_and_its_stick(run: Run, office: Path) -> None:
    root = office / "repo/metadata/1.root.json"
    assert run("policy", "pin", str(root), "--expect-fingerprint", fingerprint(root)).code == 0
    assert run("stick", "export", str(office / "stick"), *open_with(office), "--expires-in-days", "1").code == 0
    before = json.loads((office / "stick/FIELDOPS/metadata/timestamp.json").read_bytes())["signed"]["version"]
    assert (
        run("release", "publish", *open_with(office), "--renewal", str(office / "renewal"), "--expires-in-days", "60").code == 0
    )
    renewed = run("stick", "renew", str(office / "renewal"), "--stick", str(office / "stick"), "--json").document()
    assert isinstance(renewed, StickRenewed)
    assert renewed.sticks == [str(office / "stick/FIELDOPS")]
    assert json.loads((office / "stick/FIELDOPS/metadata/timestamp.json").read_bytes())["signed"]["version"] > before
    listed = json.loads(run("audit", "list", "--json").out)
    assert "stick.renew" in json.dumps(listed)


REFUSALS = [
    ("usage", ("release", "sign", "stable")),
    ("usage", ("release", "keygen", "stable-9", "--signer", "x")),
    ("usage", ("stick", "export", "STICK", "REPO", "--until", "soon")),
    ("usage", ("stick", "export", "STICK", "REPO", "--expires-in-days", "91")),
    ("too_short", ("stick", "export", "STICK", "REPO", "--until", "2199-01-01")),
    ("unknown_role", ("release", "sign", "beta", "REPO")),
    ("unknown_role", ("release", "withdraw", "digits@1.0.0", "--channel", "beta", "REPO")),
    ("unknown_target", ("release", "add", "digits@1.0.0", "--channel", "stable", "REPO")),
    ("not_enough_keys", ("release", "rotate", "stable", "--threshold", "5", "REPO")),
    ("bad_file", ("release", "policy", "set", "policy/rules/current/policy.json", "nowhere", "REPO")),
    ("unknown_person", ("release", "policy", "revoke", "SHA256:x", "REPO")),
    ("bad_file", ("stick", "renew", "nowhere")),
    ("no_repository", ("release", "doctor", "--repo", "nowhere")),
]


@pytest.mark.parametrize(("reason", "words"), REFUSALS)
def test_what_cannot_be_done_says_why_and_what_next(
    run: Run, built: Path, tmp_path: Path, reason: str, words: tuple[str, ...]
) -> None:
    office = Path(shutil.copytree(built, tmp_path / "office"))
    filled: list[str] = []
    for word in words:
        filled += {"REPO": ["--repo", str(office / "repo")], "STICK": [str(office / "stick")]}.get(word, [word])
    if words[1] in {"rotate", "export", "sign"} and "REPO" in words:
        filled += ["--keys", str(office / "keys")]
    assert refused(run, *filled) == reason
    assert not (office / "stick").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fieldops.edges.clock import SystemClock
    from fieldops.edges.tuf_signer import ReleaseRepo

    folder = tmp_path_factory.mktemp("office") / "made"
    ReleaseRepo.init(folder / "repo", folder / "keys", SystemClock())
    return folder
