from __future__ import annotations

from pathlib import Path

from fieldops.demo import home
from fieldops.demo.release import allowed_signers, policy_of
from fieldops.edges.samples import new_key
from fieldops.fleet import Address, DeviceEntry, SshAddress, parse_inventory
from fieldops.policy import Actor, may
from fieldops.steps import Bench, Enrol
from fieldops.wiring import read_config


def entry(name: str, ssh: int, lan: int | None = None) -> DeviceEntry:
    return DeviceEntry(name=name, ssh=SshAddress("technician", "127.0.0.1", ssh), lan=Address("127.0.0.1", lan) if lan else None)


def test_an_address_that_moved_is_changed_where_it_stood_and_nothing_else_is(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    home.write_inventory(tmp_path, [entry("meter-01", 2001), entry("meter-02", 2002, 3002)])
    mine = file.read_text().replace('name = "meter-01"', '# behind the boiler\nname = "meter-01"\nowner = "north shift"')
    file.write_text(mine)
    home.write_inventory(tmp_path, [entry("meter-01", 2001), entry("meter-02", 2002, 3009), entry("meter-03", 2003)])
    text = file.read_text()
    assert "# behind the boiler" in text
    devices = {each.name: each for each in parse_inventory(text, "fleet.toml").devices}
    assert devices["meter-01"].owner == "north shift"
    assert devices["meter-01"].ssh == SshAddress("technician", "127.0.0.1", 2001)
    assert devices["meter-02"].lan == Address("127.0.0.1", 3009)
    assert list(devices) == ["meter-01", "meter-02", "meter-03"]


def test_a_host_key_is_replaced_by_its_port_and_lines_of_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("depot ssh-ed25519 AAAAdepot\n")
    home.write_known_hosts(tmp_path, {2001: "ssh-ed25519 AAAAone comment"})
    home.write_known_hosts(tmp_path, {2001: "ssh-ed25519 AAAAother"})
    assert file.read_text().splitlines() == ["depot ssh-ed25519 AAAAdepot", "[127.0.0.1]:2001 ssh-ed25519 AAAAother"]


def test_the_config_names_person_stick_and_store_and_follows_the_store(tmp_path: Path) -> None:
    home.write_config(tmp_path, tmp_path / "stick", "http://127.0.0.1:7001")
    (tmp_path / "config.toml").write_text('theme = "sunlight"\n' + (tmp_path / "config.toml").read_text())
    home.write_config(tmp_path, tmp_path / "stick", "http://127.0.0.1:7002")
    config = read_config(tmp_path)
    assert config.theme == "sunlight"
    assert config.store_url == "http://127.0.0.1:7002"
    assert config.person_key == tmp_path / "keys" / "technician"
    assert config.stick_folders == (tmp_path / "stick",)


def test_keys_are_made_once_and_are_for_their_owner_only(tmp_path: Path) -> None:
    first = home.staff_of(tmp_path)
    assert home.staff_of(tmp_path) == first
    for key in (tmp_path / "keys" / "technician", home.login_key(tmp_path)):
        assert key.stat().st_mode & 0o077 == 0


def test_the_policy_knows_both_people_and_no_stranger(tmp_path: Path) -> None:
    staff = home.staff_of(tmp_path)
    policy = policy_of(staff, new_key(tmp_path / "samples.key"))
    step = Bench(model="digits")
    assert {each.role for each in staff} == {"technician", "lead"}
    for each in staff:
        assert may(policy, Actor("person", each.fingerprint), step, 0.0).allowed
        assert each.public_line in allowed_signers(staff)
    assert not may(policy, Actor("local", "root"), step, 0.0).allowed
    stranger = Enrol(laptop_key="", laptop_certificate="", root="")
    assert not may(policy, Actor("person", "SHA256:nobody"), stranger, 0.0).allowed
