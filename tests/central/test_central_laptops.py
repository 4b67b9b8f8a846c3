"""Who may bring anything to a store: let in by a one-time code, shown out by the owner, and known again after an upgrade."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldops.central import schema
from fieldops.central.store import LogStore
from fieldops.deadline import Deadline
from fieldops.edges.store_api import HttpStore
from fieldops.errors import StoreFault, UsageFault
from fieldops.operations import sync


def test_a_code_lets_one_laptop_in_once(store: LogStore, laptop: Any, new_laptop: Callable[[Path], Any], tmp_path: Path) -> None:
    made = store.laptops.invite(60.0, "the cart of line 3")
    first = laptop.let_in(store, made.code)
    assert (first.store, first.laptop) == (store.id, laptop.signer.laptop)
    laptop.clock.at += 10
    assert laptop.let_in(store, made.code) == first  # its answer was lost
    with pytest.raises(StoreFault) as used:
        new_laptop(tmp_path / "other.db").let_in(store, made.code)
    assert used.value.reason == "used_code"
    [line] = store.laptops.all()
    assert (line.id, line.label, line.revoked) == (laptop.signer.laptop, "the cart of line 3", None)


def test_a_code_is_kept_as_a_hash_alone(store: LogStore, tmp_path: Path) -> None:
    secret = store.laptops.invite(60.0).code.partition("-")[2]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "store").glob("store.db*"))
    assert secret.encode() not in everything


@pytest.mark.parametrize(("wait", "reason"), [(59.0, ""), (60.0, "expired_code")])
def test_a_code_holds_until_it_expires(store: LogStore, laptop: Any, clock: Any, wait: float, reason: str) -> None:
    made = store.laptops.invite(60.0)
    clock.at += wait
    if not reason:
        assert laptop.let_in(store, made.code).laptop == laptop.signer.laptop
        return
    with pytest.raises(StoreFault) as refused:
        laptop.let_in(store, made.code)
    assert refused.value.reason == reason
    assert store.laptops.all() == []


def test_what_is_no_code_lets_nobody_in(store: LogStore, laptop: Any) -> None:
    with pytest.raises(StoreFault) as refused:
        laptop.let_in(store, f"{store.id[:12]}-aaaaaaaaaaaaaaaaaaaaaaaa")
    assert refused.value.reason == "unknown_code"


def test_what_a_revoked_laptop_recorded_is_taken_and_marked(store: LogStore, laptop: Any) -> None:
    laptop.let_in(store)
    laptop.write("a")
    log = laptop.journal.log
    store.push(log, 1, laptop.bodies(), laptop.journal.checkpoint())
    line = store.laptops.revoke(laptop.signer.laptop[:8], "stolen from the van")
    assert line.revoked is not None
    laptop.write("b")
    assert store.push(log, 2, laptop.bodies(1), laptop.journal.checkpoint()).accepted == 1
    [incident] = store.incidents()
    assert (incident.kind, incident.seq) == ("after_revocation", 2)
    assert "stolen from the van" in incident.detail
    assert [line.revoked for line in store.logs()] == [True]
    with pytest.raises(StoreFault) as refused:
        laptop.let_in(store)
    assert refused.value.reason == "revoked"


@pytest.mark.parametrize("which", ["", "abcdefgh", "a"])
def test_revoking_nobody_is_told(store: LogStore, laptop: Any, which: str) -> None:
    laptop.let_in(store)
    with pytest.raises(UsageFault) as refused:
        store.laptops.revoke(which, "")
    assert refused.value.reason == "unknown_laptop"


def test_laptops_of_a_store_of_version_1_stay_known(tmp_path: Path, laptop: Any, clock: Any) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    with sqlite3.connect(folder / "store.db") as old:
        before = schema.SCHEMA[: schema.SCHEMA.index(schema.UPGRADES[1][0])]
        for statement in (*before, "CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT"):
            old.execute(statement)
        old.execute("INSERT INTO schema_version VALUES (1)")
        old.execute("INSERT INTO laptop VALUES (?, ?, 5.0)", (laptop.signer.laptop, laptop.signer.public_key))
    old.close()
    for _ in range(2):
        store = LogStore.open(folder, clock)
        [line] = store.laptops.all()
        assert (line.id, line.label, line.enrolled) == (laptop.signer.laptop, "known before codes", 5.0)
        store.close()


def test_a_laptop_says_a_code_only_to_the_store_that_made_it(
    program: Any, laptop: Any, clock: Any, deadline: Deadline, tmp_path: Path
) -> None:
    other = LogStore.open(tmp_path / "other", clock)
    strange = other.laptops.invite(60.0).code
    other.close()
    url = program.start()
    store = HttpStore(url, laptop.signer)
    for code, kind, reason in ((strange, StoreFault, "other_store"), ("nonsense", UsageFault, "bad_code")):
        with pytest.raises(kind) as refused:
            store.enrol(code, "", deadline)
        assert refused.value.reason == reason
    laptop.write("a")
    with pytest.raises(StoreFault) as stranger:
        sync.push(laptop.journal, store, clock, deadline)
    assert stranger.value.reason == "not_enrolled"
    assert "fieldops central enrol" in (stranger.value.next_step or "")
    code = program.invite()
    assert store.enrol(code, "", deadline).laptop == laptop.signer.laptop
    assert sync.push(laptop.journal, store, clock, deadline).pushed == 1
    with pytest.raises(StoreFault) as elsewhere:
        HttpStore(url, laptop.signer, expected="x" * 52).identity(deadline)
    assert elsewhere.value.reason == "other_store"


def test_the_owners_verbs_speak_json(program: Any, laptop: Any, clock: Any) -> None:
    program.start()
    program.let_in(laptop, clock)

    def owner(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fieldops.central", words[0], "--data", str(program.data), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    [line] = json.loads(owner("laptops").stdout)["laptops"]
    assert (line["id"], line["revoked"]) == (laptop.signer.laptop, None)
    revoked = json.loads(owner("revoke", laptop.signer.laptop, "--reason", "lost").stdout)
    assert (revoked["reason"], revoked["revoked"] > 0) == ("lost", True)
    assert owner("revoke", "zzzzzz").returncode == 2
    assert owner("invite", "--hours", "0").returncode == 2
