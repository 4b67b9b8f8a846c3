"""fleet.toml and known_hosts after each change: what was asked for is there, and nothing a person wrote is lost."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

import pytest

from fieldops.edges.inventory import FleetFile
from fieldops.edges.known_hosts import KnownHosts
from fieldops.errors import StorageFault, UsageFault
from fieldops.fleet import DeviceEntry, DeviceId, parse_ssh_address, toml_table
from fieldops.steps import AddDevice, Change, RemoveDevice, SetDeviceId, TrustHostKey
from fieldops.wire import Challenge

FLEET = """\
# the plant in the north
# keep in the order of the walk

[[device]]
name = "press-01"   # by the door
ssh = "tech@10.0.0.1:22"

# this one is hot
[[device]]
name = "oven-02"
ssh = "tech@10.0.0.2:22"
tags = [
  "hot",  # careful
  "line-2",
]
id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"  # old

# the last
[[device]]
name = "gate-03"
lan = "10.0.0.3:7443\""""


@dataclass(frozen=True)
class Granted:
    """Implements ports.Grant; the inventory only wants to be given one."""

    step_id: str = "x.1.1"

    def envelope(self, device: DeviceId, step: object, challenge: Challenge) -> bytes:
        return b""


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFile:
    (tmp_path / "fleet.toml").write_text(FLEET)
    return FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts")


def apply(fleet: FleetFile, change: Change) -> None:
    fleet.apply(Granted(), change)


def names(fleet: FleetFile) -> list[str]:
    return [entry.name for entry in fleet.read().devices]


def test_no_file_is_an_empty_inventory(tmp_path: Path) -> None:
    assert FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts").read().devices == ()
    assert list(tmp_path.iterdir()) == []


def test_an_added_device_stands_below_what_was_there(fleet: FleetFile, tmp_path: Path) -> None:
    entry = DeviceEntry(name="new-04", site='a "quoted" site', ssh=parse_ssh_address("kim@10.0.0.4:2222"), tags=("x",))
    apply(fleet, AddDevice(name="new-04", table=toml_table(entry)))
    assert fleet.read().devices[-1] == entry
    assert (tmp_path / "fleet.toml").read_text().startswith(FLEET)


def test_the_first_device_makes_the_file(tmp_path: Path) -> None:
    fleet = FleetFile(tmp_path / "home" / "fleet.toml", tmp_path / "home" / "known_hosts")
    apply(fleet, AddDevice(name="a", table='[[device]]\nname = "a"\nssh = "h"\n'))
    assert names(fleet) == ["a"]


def test_a_name_that_is_taken_is_refused_and_nothing_written(fleet: FleetFile, tmp_path: Path) -> None:
    with pytest.raises(UsageFault) as refused:
        apply(fleet, AddDevice(name="oven-02", table='[[device]]\nname = "oven-02"\nssh = "h"\n'))
    assert refused.value.reason == "name_taken"
    assert (tmp_path / "fleet.toml").read_text() == FLEET


@pytest.mark.parametrize(
    "table",
    ["", "x = 1\n", '[[device]]\nname = "b"\nssh = "h"\n', '[[device]]\nname = "a"\n', '[[device]]\nname = "a"\nssh = "h"\n' * 2],
)
def test_a_table_that_is_not_the_named_device_is_refused(fleet: FleetFile, tmp_path: Path, table: str) -> None:
    with pytest.raises(UsageFault):
        apply(fleet, AddDevice(name="a", table=table))
    assert (tmp_path / "fleet.toml").read_text() == FLEET


@pytest.mark.parametrize(
    ("name", "left", "gone"),
    [
        ("press-01", ["oven-02", "gate-03"], "by the door"),
        ("oven-02", ["press-01", "gate-03"], "line-2"),
        ("gate-03", ["press-01", "oven-02"], "7443"),
    ],
)
def test_a_removed_device_takes_only_its_own_lines(
    fleet: FleetFile, tmp_path: Path, name: str, left: list[str], gone: str
) -> None:
    apply(fleet, RemoveDevice(name=name))
    text = (tmp_path / "fleet.toml").read_text()
    assert names(fleet) == left
    assert gone not in text
    for comment in ("# the plant in the north", "# this one is hot", "# the last"):
        assert comment in text
    assert "\n\n\n" not in text


def test_removing_a_device_that_is_not_there_names_those_that_are(fleet: FleetFile) -> None:
    with pytest.raises(UsageFault, match="no device 'x'") as refused:
        apply(fleet, RemoveDevice(name="x"))
    assert "press-01, oven-02, gate-03" in refused.value.next_step


@pytest.mark.parametrize("name", ["press-01", "oven-02", "gate-03"])
def test_an_identity_is_bound_in_place(fleet: FleetFile, tmp_path: Path, name: str) -> None:
    before = fleet.read()
    apply(fleet, SetDeviceId(name=name, id="b" * 52, formerly="c" * 52))
    bound = fleet.read().find(name)
    assert (bound.id, bound.formerly) == ("b" * 52, "c" * 52)
    assert [e for e in fleet.read().devices if e.name != name] == [e for e in before.devices if e.name != name]
    text = (tmp_path / "fleet.toml").read_text()
    assert all(comment in text for comment in ("# by the door", "# careful", "# old", "# the last"))
    apply(fleet, SetDeviceId(name=name, id="d" * 52))
    assert (fleet.read().find(name).id, fleet.read().find(name).formerly) == ("d" * 52, "c" * 52)


def test_a_file_written_in_another_style_is_left_to_its_author(tmp_path: Path) -> None:
    text = 'device = [{name = "a", ssh = "h"}, {name = "b", ssh = "h"}]\n'
    (tmp_path / "fleet.toml").write_text(text)
    fleet = FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts")
    for change in (
        RemoveDevice(name="a"),
        SetDeviceId(name="a", id="b" * 52),
        AddDevice(name="c", table='[[device]]\nname = "c"\nssh = "h"\n'),
    ):
        with pytest.raises(UsageFault) as refused:
            apply(fleet, change)
        assert refused.value.reason == "edit_by_hand"
    assert (tmp_path / "fleet.toml").read_text() == text


def test_a_file_with_faults_is_not_touched(tmp_path: Path) -> None:
    text = FLEET + '\n[[device]]\nname = "Bad Name"\n'
    (tmp_path / "fleet.toml").write_text(text)
    fleet = FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts")
    with pytest.raises(UsageFault) as refused:
        apply(fleet, RemoveDevice(name="press-01"))
    assert refused.value.reason == "bad_file"
    assert (tmp_path / "fleet.toml").read_text() == text


def test_each_fault_says_what_stands_there_in_the_words_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('[[device]]\nssh = "x@y"\n[[device]]\nname = 3\nlan = "q"\n[[device]]\nname = "ok"\n')
    with pytest.raises(UsageFault) as refused:
        FleetFile(file, tmp_path / "known_hosts").read()
    text = str(refused.value)
    assert [wanted for wanted in ("no name", "name = 3", "lan = 'q'", "ok without an address") if wanted not in text] == []
    assert "None" not in text
    assert text.count("name = 3") == 1


def test_permissions_and_a_link_stay_as_the_person_made_them(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text(FLEET)
    real.chmod(0o640)
    (tmp_path / "fleet.toml").symlink_to(real)
    apply(FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts"), RemoveDevice(name="gate-03"))
    assert "gate-03" not in real.read_text()
    assert (tmp_path / "fleet.toml").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_folder_in_place_of_the_file_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").mkdir()
    with pytest.raises(StorageFault):
        FleetFile(tmp_path / "fleet.toml", tmp_path / "known_hosts").read()


# --- known_hosts --------------------------------------------------------------------------------------------------------


def blob(key_type: str, seed: int) -> bytes:
    return len(key_type).to_bytes(4, "big") + key_type.encode() + bytes([0, 0, 0, 32]) + bytes([seed]) * 32


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


OLD, NEW, RSA = blob("ssh-ed25519", 1), blob("ssh-ed25519", 2), blob("ssh-rsa", 3)


def trust(host: str, port: int, key: bytes, replaces: str = "") -> TrustHostKey:
    return TrustHostKey(host=host, port=port, key_type="ssh-ed25519", key=text_of(key), replaces=replaces)


@pytest.mark.parametrize(("host", "port"), [("Edge-1.local", 22), ("10.0.0.1", 2222), ("fe80::1%eth0", 22), ("fe80::1", 2222)])
def test_a_trusted_key_is_known_and_another_is_a_change(fleet: FleetFile, tmp_path: Path, host: str, port: int) -> None:
    apply(fleet, trust(host, port, OLD))
    known = KnownHosts.load([tmp_path / "known_hosts"])
    assert known.verify(host, port, OLD).kind == "ok"
    assert known.verify(host, port, NEW).kind == "changed"


def test_trusting_twice_leaves_one_line(fleet: FleetFile, tmp_path: Path) -> None:
    for _ in range(2):
        apply(fleet, trust("h", 22, OLD))
    assert (tmp_path / "known_hosts").read_text() == f"h ssh-ed25519 {text_of(OLD)}\n"


def test_a_replaced_key_is_gone_for_its_host_and_stays_for_all_others(fleet: FleetFile, tmp_path: Path) -> None:
    salt = b"12345678901234567890"
    digest = hmac.new(salt, b"h", hashlib.sha1).digest()
    (tmp_path / "known_hosts").write_text(
        f"# mine\nh,other ssh-ed25519 {text_of(OLD)} a comment\nh ssh-rsa {text_of(RSA)}\n"
        f"|1|{text_of(salt)}|{text_of(digest)} ssh-ed25519 {text_of(OLD)}\n"
        f"@revoked h ssh-ed25519 {text_of(blob('ssh-ed25519', 9))}\n@cert-authority *.plant ssh-rsa {text_of(RSA)}\n"
        f"[h]:2222 ssh-ed25519 {text_of(OLD)}\nunreadable line here\n"
    )
    apply(fleet, trust("h", 22, NEW, replaces="SHA256:x"))
    text = (tmp_path / "known_hosts").read_text()
    known = KnownHosts.load([tmp_path / "known_hosts"])
    assert known.verify("h", 22, NEW).kind == "ok"
    assert known.verify("h", 22, OLD).kind == "changed"
    assert known.verify("h", 22, RSA).kind == "changed"
    assert known.verify("other", 22, OLD).kind == "ok"
    assert known.verify("h", 2222, OLD).kind == "ok"
    assert known.verify("h", 22, blob("ssh-ed25519", 9)).kind == "revoked"
    assert "# mine" in text
    assert "unreadable line here" in text
    assert "a comment" in text


def test_a_further_key_type_leaves_the_other_types_alone(fleet: FleetFile, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"h ssh-rsa {text_of(RSA)}\n")
    apply(fleet, trust("h", 22, NEW))
    assert KnownHosts.load([tmp_path / "known_hosts"]).verify("h", 22, RSA).kind == "ok"


@pytest.mark.parametrize(
    "change",
    [
        trust("two words", 22, OLD),
        trust("a,b", 22, OLD),
        trust("h\nevil ssh-rsa AAAA", 22, OLD),
        trust("h", 22, RSA),
        TrustHostKey(host="h", port=22, key_type="ssh-ed25519", key="not base64\n"),
    ],
)
def test_what_would_write_another_line_than_meant_is_refused(fleet: FleetFile, tmp_path: Path, change: TrustHostKey) -> None:
    with pytest.raises(UsageFault):
        apply(fleet, change)
    assert not (tmp_path / "known_hosts").exists()
