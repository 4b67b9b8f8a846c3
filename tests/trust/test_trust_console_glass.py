"""Breaking glass as the console does it: the same operations as the CLI, on a stick that has expired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fieldops.bundles.approvals import APPROVAL_NAMESPACE, ApprovalFile, decode_statement
from fieldops.deadline import CancelToken
from fieldops.edges.keys import ssh_keygen, sshsig_sign
from fieldops.errors import TrustRefused
from fieldops.fleet import DeviceEntry, DeviceId
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.tui.laptop_site import LaptopSite
from fieldops.tui.site import Glass
from fieldops.wiring import Laptop

World = Any
DAY = 86_400.0
PRESS = DeviceEntry(name="press", id=DeviceId("d" * 52))


@pytest.fixture
def people(tmp_path: Path) -> dict[str, str]:
    return {name: ssh_keygen(tmp_path / name) for name in ("anna", "ben")}


@pytest.fixture
def site(world: World, people: dict[str, str], tmp_path: Path) -> Any:
    """A laptop that knew the stick's policy while it was good; then the stick expired."""
    policy = PolicyDocument(
        v=1, roles={"lead": ["Approve"]}, people={each: Person(role="lead") for each in people.values()}, max_stale_days=10
    )
    world.release.add_policy_target("policy/rules/current/policy.json", encode_policy(policy))
    world.release.sign("policy")
    world.release.publish()
    stick = world.export("short", days=2)
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(f'[sticks]\nfolders = ["{Path(stick.source.name).as_posix()}"]\n', "utf-8")
    with Laptop.open(home) as laptop:
        laptop.clock = world.clock
        laptop.trust.pin(world.release.root(1), None)
        laptop.trust.refresh(stick.source, laptop.deadline(20))
        world.clock.at += 5 * DAY
        yield LaptopSite(laptop)


def approved(folder: Path, statement: Path, person: str, by: str) -> str:
    text = statement.read_text("utf-8")
    signature = sshsig_sign(folder / person, APPROVAL_NAMESPACE, text.encode())
    file = folder / f"{person}.approval"
    file.write_bytes(msgspec.json.encode(ApprovalFile(statement=text, signature=signature, by=by)))
    return str(file)


def test_expired_metadata_is_used_with_two_approvals_of_what_the_console_wrote_and_stands_in_the_log(
    site: LaptopSite, people: dict[str, str], tmp_path: Path
) -> None:
    deadline = site.deadline(60, CancelToken())
    candidate = next(each for each in site.candidates(deadline) if each.ref == "digits@1.1.0")
    assert candidate.reason == "expired"
    with pytest.raises(TrustRefused, match="expired"):
        site.fetch(candidate, PRESS, deadline, lambda _: None)
    written = Path(site.write_statement(candidate, PRESS, str(tmp_path / "s.json"), "the line is down", deadline))
    assert decode_statement(written.read_text("utf-8")).devices == [PRESS.id]
    one = approved(tmp_path, written, "anna", people["anna"])
    with pytest.raises(TrustRefused, match="1 of 2 approvals"):
        site.fetch(candidate, PRESS, deadline, lambda _: None, Glass((one,)))
    two = approved(tmp_path, written, "ben", people["ben"])
    other = DeviceEntry(name="other", id=DeviceId("e" * 52))
    with pytest.raises(TrustRefused, match="other devices"):
        site.fetch(candidate, other, deadline, lambda _: None, Glass((one, two)))
    bundle = site.fetch(candidate, PRESS, deadline, lambda _: None, Glass((one, two)))
    assert bundle.broken is not None
    assert set(bundle.broken.people) == set(people.values())
    assert [approval.signature for approval in site.approvals((one, two))] == [
        msgspec.json.decode(Path(file).read_bytes())["signature"] for file in (one, two)
    ]
    newest = site.trail(1)[0]
    assert newest.act == "BREAK-GLASS"
    assert newest.result is not None
    assert all(person in newest.result.detail for person in people.values())
