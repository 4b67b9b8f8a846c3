"""Expired metadata, and versions below the floor: only with signed statements, and laptop and device each judge them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fieldops.agent.verify import answer
from fieldops.bundles.approvals import APPROVAL_NAMESPACE, Matter, Statement, decode_statement, encode_statement, statement_of
from fieldops.edges.keys import ssh_keygen, sshsig_sign
from fieldops.errors import TrustRefused, UsageFault
from fieldops.policy import Person, PolicyDocument, encode_policy
from fieldops.ports import BreakGlass
from fieldops.steps import Approval

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
DAY = 86_400.0
DEVICE, OTHER = "d" * 52, "e" * 52
MOST_STALE_DAYS = 10


@dataclass
class People:
    """Key files by name, and the policy that knows some of them."""

    folder: Path
    fingerprints: dict[str, str]
    policy: PolicyDocument

    def sign(self, name: str, statement: str, namespace: str = APPROVAL_NAMESPACE) -> Approval:
        return Approval(statement=statement, signature=sshsig_sign(self.folder / name, namespace, statement.encode()))


@pytest.fixture
def people(tmp_path: Path) -> People:
    names = ("anna", "ben", "cleo", "late", "stranger")
    prints = {name: ssh_keygen(tmp_path / name) for name in names}
    policy = PolicyDocument(
        v=1,
        roles={"technician": ["Stage", "Activate"], "lead": ["Approve"], "owner": ["*"]},
        people={
            prints["anna"]: Person(role="lead"),
            prints["ben"]: Person(role="owner"),
            prints["cleo"]: Person(role="technician"),
            prints["late"]: Person(role="lead", until=1.0),
        },
        max_stale_days=MOST_STALE_DAYS,
    )
    return People(tmp_path, prints, policy)


@pytest.fixture
def stick(world: World, people: People) -> Any:
    """Good for two days, with a policy that lets people approve."""
    world.release.add_policy_target("policy/rules/current/policy.json", encode_policy(people.policy))
    world.release.sign("policy")
    world.release.publish()
    return world.export("short", days=2)


@pytest.fixture
def laptop(world: World, stick: Any) -> Any:
    """It knows the policy; then the stick expires."""
    laptop = world.laptop()
    laptop.store.refresh(stick.source, laptop.deadline)
    world.clock.at += 5 * DAY
    return laptop


def statement(laptop: Any, stick: Any, *devices: str, **changes: Any) -> str:
    matter = laptop.store.expired_matter(stick.source, "digits@1.1.0", laptop.deadline)
    asked = statement_of(matter, laptop.clock.at + DAY, "the press stands still")
    return encode_statement(msgspec.structs.replace(asked, devices=list(devices or (DEVICE,)), **changes))


def glass(*approvals: Approval, devices: tuple[str, ...] = (DEVICE,)) -> BreakGlass:
    return BreakGlass(approvals, devices)


def test_two_people_may_let_expired_metadata_in(laptop: Any, stick: Any, people: People) -> None:
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source)
    assert caught.value.reason == "expired"
    text = statement(laptop, stick)
    bundle = laptop.fetch(stick.source, glass=glass(people.sign("anna", text), people.sign("ben", text)))
    assert bundle.manifest.version == "1.1.0"
    assert bundle.broken.people == (people.fingerprints["anna"], people.fingerprints["ben"])
    assert bundle.broken.age_s == pytest.approx(3 * DAY, abs=120)
    # it opened nothing for anybody else
    with pytest.raises(TrustRefused) as again:
        laptop.fetch(stick.source)
    assert again.value.reason == "expired"


def test_what_has_not_expired_needs_no_approval_and_none_is_asked(world: World, stick: Any) -> None:
    laptop = world.laptop()
    bundle = laptop.fetch(stick.source, glass=glass())
    assert (bundle.manifest.version, bundle.broken) == ("1.1.0", None)
    with pytest.raises(UsageFault) as caught:
        laptop.store.expired_matter(stick.source, "digits@1.1.0", laptop.deadline)
    assert caught.value.reason == "not_expired"


def many(*names: str) -> Callable[[People, str], list[Approval]]:
    return lambda people, text: [people.sign(name, text) for name in names]


def changed(**changes: Any) -> Callable[[People, str], list[Approval]]:
    def make(people: People, text: str) -> list[Approval]:
        other = encode_statement(msgspec.structs.replace(decode_statement(text), **changes))
        return [people.sign("anna", other), people.sign("ben", other)]

    return make


def edited(people: People, text: str) -> list[Approval]:
    """Signed for another device, then written over."""
    other = text.replace(DEVICE, OTHER)
    return [msgspec.structs.replace(people.sign(name, other), statement=text) for name in ("anna", "ben")]


NOT_ENOUGH: list[tuple[str, Callable[[People, str], list[Approval]]]] = [
    ("none", many()),
    ("one", many("anna")),
    ("one person twice", many("anna", "anna")),
    ("a role that may not", many("anna", "cleo")),
    ("a person whose time is over", many("anna", "late")),
    ("a stranger", many("anna", "stranger")),
    ("another version", changed(version="1.0.0")),
    ("another manifest", changed(manifest_sha256="0" * 64)),
    ("another matter", changed(allow="below_floor")),
    ("other devices", changed(devices=[OTHER])),
    ("over already", changed(until=1_800_000_000.0)),
    ("too long", changed(until=1_800_000_000.0 + 60 * DAY)),
    ("edited afterwards", edited),
    ("another namespace", lambda people, text: [people.sign(name, text, "fieldops-session@v1") for name in ("anna", "ben")]),
    ("no statement", lambda people, _: [people.sign(name, "yes") for name in ("anna", "ben")]),
    ("no signature", lambda _, text: [Approval(statement=text, signature="-")] * 2),
    ("a thousand bad ones before two good ones", lambda people, text: [Approval(statement=text, signature="-")] * 1000),
]


@pytest.mark.parametrize(("name", "make"), NOT_ENOUGH, ids=[name for name, _ in NOT_ENOUGH])
def test_less_than_two_right_approvals_open_nothing(
    name: str, make: Callable[[People, str], list[Approval]], laptop: Any, stick: Any, people: People
) -> None:
    text = statement(laptop, stick)
    before = laptop.files()
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, glass=glass(*make(people, text)))
    assert (caught.value.reason, caught.value.exit_code) == ("expired", 3)
    assert "of 2 approvals" in caught.value.message
    assert laptop.files() == before


def test_each_device_it_is_for_must_be_named(laptop: Any, stick: Any, people: People) -> None:
    text = statement(laptop, stick, DEVICE)
    both = glass(people.sign("anna", text), people.sign("ben", text), devices=(DEVICE, OTHER))
    with pytest.raises(TrustRefused):
        laptop.fetch(stick.source, glass=both)
    wide = statement(laptop, stick, DEVICE, OTHER)
    both = glass(people.sign("anna", wide), people.sign("ben", wide), devices=(DEVICE, OTHER))
    assert laptop.fetch(stick.source, glass=both).broken is not None


def test_the_signed_policy_bounds_the_age(laptop: Any, stick: Any, people: People) -> None:
    text = statement(laptop, stick, until=laptop.clock.at + 20 * DAY)
    laptop.clock.at += (MOST_STALE_DAYS - 3) * DAY + 120  # it expired three days ago
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, glass=glass(people.sign("anna", text), people.sign("ben", text)))
    assert caught.value.reason == "expired"
    assert f"allows {MOST_STALE_DAYS} days" in caught.value.message


def test_without_a_limit_in_the_policy_it_is_never_allowed(world: World) -> None:
    stick = world.export("short", days=2)
    laptop = world.laptop()
    world.clock.at += 3 * DAY
    with pytest.raises(TrustRefused) as caught:
        laptop.store.expired_matter(stick.source, "digits@1.1.0", laptop.deadline)
    assert "never allows it" in caught.value.message


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda stick: stick.rewrite("stable", lambda _: None, stick.signers("stable-1")), "threshold"),
        (lambda stick: stick.payload("core.onnx").write_bytes(b"x" * 131072), "hash_mismatch"),
        (lambda stick: stick.role("timestamp").unlink(), "missing"),
    ],
    ids=["threshold", "payload", "no timestamp"],
)
def test_everything_but_the_age_is_judged_as_ever(
    harm: Callable[[Any], object], reason: str, laptop: Any, stick: Any, people: People
) -> None:
    text = statement(laptop, stick)
    harm(stick)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, glass=glass(people.sign("anna", text), people.sign("ben", text)))
    assert caught.value.reason == reason


def test_an_older_release_is_no_way_around_the_newer_one(laptop: Any, stick: Any, world: World, people: People) -> None:
    """Expired and older at once: what newer metadata says stands, here that the version was withdrawn."""
    text = statement(laptop, stick)
    world.release.withdraw("digits@1.1.0", "stable")
    world.release.sign("stable")
    world.release.publish()
    laptop.store.refresh(world.export("newer").source, laptop.deadline)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, glass=glass(people.sign("anna", text), people.sign("ben", text)))
    assert caught.value.reason == "withdrawn"


# --- the device --------------------------------------------------------------------------------------------------------


class Device:
    def __init__(self, home: Path, world: World, policy: PolicyDocument) -> None:
        self.home, self.world = home, world
        place = home / "trust/targets/policy/rules/current"
        place.mkdir(parents=True)
        (place / "policy.json").write_bytes(encode_policy(policy))
        assert self.ask("pin", root=world.release.root(1).decode())["ok"]

    def ask(self, op: str, **job: Any) -> dict[str, Any]:
        standing = {
            "op": op,
            "trust": str(self.home / "trust"),
            "blobs": str(self.home / "models/sha256"),
            "now": int(self.world.clock.at),
            "device": DEVICE,
        }
        return answer(msgspec.json.encode(standing | job))

    def stage(self, bundle: Any, **job: Any) -> dict[str, Any]:
        """Metadata, then payload, as the agent asks."""
        incoming = self.home / "incoming/metadata"
        incoming.mkdir(parents=True, exist_ok=True)
        for name, data in bundle.payload.metadata().items():
            (incoming / name).write_bytes(data)
        job["want"] = {
            "channel": bundle.channel,
            "model": bundle.manifest.model,
            "version": bundle.manifest.version,
            "manifest_sha256": bundle.manifest_sha256,
        }
        found = self.ask("metadata", incoming=str(incoming.parent), **job)
        if not found["ok"]:
            return found
        blobs = self.home / "models/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for target in found["targets"]:
            with bundle.payload.open(target["sha256"]) as copy:
                (blobs / target["sha256"]).write_bytes(copy.read())
        return self.ask("bundle", **job)


@pytest.fixture
def device(world: World, tmp_path: Path, people: People) -> Device:
    return Device(tmp_path / "agent", world, people.policy)


def test_the_device_decides_again_over_expired_metadata(device: Device, laptop: Any, stick: Any, people: People) -> None:
    text = statement(laptop, stick)
    approvals = [people.sign("anna", text), people.sign("ben", text)]
    bundle = laptop.fetch(stick.source, glass=glass(*approvals))
    asked = {"accept_expired": True, "approvals": approvals}
    assert device.stage(bundle)["reason"] == "expired"
    assert device.stage(bundle, approvals=approvals)["reason"] == "expired"
    assert device.stage(bundle, accept_expired=True)["reason"] == "expired"
    assert device.stage(bundle, accept_expired=True, approvals=approvals[:1])["reason"] == "expired"
    assert device.stage(bundle, **asked, device=OTHER)["reason"] == "expired"
    found = device.stage(bundle, **asked)
    assert found["ok"], found
    assert found["approved_by"] == [people.fingerprints["anna"], people.fingerprints["ben"]]
    assert found["expired_s"] == pytest.approx(3 * DAY, abs=120)


def test_the_device_goes_by_the_policy_it_has(world: World, laptop: Any, stick: Any, people: People, tmp_path: Path) -> None:
    """The expired metadata may name any policy; what counts is whom this device knew before."""
    text = statement(laptop, stick)
    approvals = [people.sign("anna", text), people.sign("ben", text)]
    bundle = laptop.fetch(stick.source, glass=glass(*approvals))
    strict = Device(tmp_path / "strict", world, msgspec.structs.replace(people.policy, max_stale_days=1))
    found = strict.stage(bundle, accept_expired=True, approvals=approvals)
    assert (found["ok"], found["reason"]) == (False, "expired")
    knows_nobody = Device(tmp_path / "nobody", world, PolicyDocument(v=1, roles={}, people={}, max_stale_days=100))
    assert knows_nobody.stage(bundle, accept_expired=True, approvals=approvals)["reason"] == "expired"


def below_floor(bundle: Any, world: World, **changes: Any) -> str:
    matter = Matter("below_floor", "digits", bundle.manifest.version, bundle.manifest_sha256, (DEVICE,))
    return encode_statement(msgspec.structs.replace(statement_of(matter, world.clock.at + DAY, ""), **changes))


def test_below_the_floor_one_other_person_must_sign(device: Device, world: World, stick: Any, people: People) -> None:
    bundle = world.laptop().fetch(stick.source, "digits@1.0.0")
    floors = {"digits": 2}
    asker = people.fingerprints["ben"]
    assert device.stage(bundle, floors=floors)["reason"] == "below_floor"
    text = below_floor(bundle, world)
    for approvals in (
        [people.sign("ben", text)],  # whoever asks
        [people.sign("cleo", text)],
        [people.sign("anna", below_floor(bundle, world, devices=[OTHER]))],
        [people.sign("anna", below_floor(bundle, world, until=world.clock.at - 1))],
        [people.sign("anna", below_floor(bundle, world, allow="accept_expired"))],
    ):
        found = device.stage(bundle, floors=floors, approvals=approvals, asker=asker)
        assert (found["ok"], found["reason"]) == (False, "below_floor")
    found = device.stage(bundle, floors=floors, approvals=[people.sign("anna", text)], asker=asker)
    assert found["ok"], found
    assert (found["below_floor"], found["approved_by"]) == (True, [people.fingerprints["anna"]])


def test_at_the_floor_nobody_is_asked(device: Device, world: World, stick: Any) -> None:
    bundle = world.laptop().fetch(stick.source)
    found = device.stage(bundle, floors={"digits": 2})
    assert (found["ok"], found["approved_by"], found["below_floor"]) == (True, [], False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"schema":"fieldops.statement/v1"}',
        json.dumps({"schema": "other", "allow": "below_floor"}),
        "x" * 100_000,
    ],
)
def test_what_is_no_statement_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UsageFault):
        decode_statement(text)


def test_a_statement_reads_back_as_it_was_written() -> None:
    made = Statement(
        allow="below_floor", model="m", version="1.0.0", manifest_sha256="0" * 64, devices=[DEVICE], until=1.5, reason="r"
    )
    assert decode_statement(encode_statement(made)) == made
