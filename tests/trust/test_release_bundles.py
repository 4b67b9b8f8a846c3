"""What gets listed: versions that never change, counters that only grow, a trial's very bytes in stable, the team's own rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fieldops.bundles.completeness import check_complete
from fieldops.bundles.golden import ANY_ISA, Golden, encode_golden
from fieldops.bundles.manifest import Baseline, Manifest, Needs, Objectives, Tensor, Tier
from fieldops.edges.keys import ssh_keygen
from fieldops.errors import UsageFault
from fieldops.operations.release_policy import PEOPLE, check_file, with_person, without
from fieldops.policy import Person, decode_policy

World = Any
AddVersion = Callable[..., Manifest]


def refused(call: Callable[[], object]) -> UsageFault:
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.next_step
    return caught.value


# --- channels ---------------------------------------------------------------------------------------------------------


def test_a_trial_goes_to_stable_with_the_very_same_bytes(world: World, add_version: AddVersion) -> None:
    release = world.release
    add_version(release, world.folder / "src/1.2.0", "1.2.0", 3, "canary")
    assert refused(lambda: add_version(release, world.folder / "again", "1.2.0", 3, owner="another")).reason == "exists"
    assert release.promote("digits@1.2.0", "stable") == "canary"
    release.sign("stable")
    release.publish()
    laptop = world.laptop()
    source = world.export("both").source
    one, two = (laptop.fetch(source, "digits@1.2.0", channel=channel) for channel in ("canary", "stable"))
    assert one.manifest_sha256 == two.manifest_sha256
    assert refused(lambda: release.promote("digits@1.3.0", "stable")).reason == "unknown_target"
    release.withdraw("digits@1.2.0", "canary")
    assert refused(lambda: release.promote("digits@1.2.0", "stable")).reason == "unknown_target"


def test_a_counter_names_one_version(world: World, add_version: AddVersion) -> None:
    assert refused(lambda: add_version(world.release, world.folder / "src/1.2.0", "1.2.0", 2)).reason == "counter"


def test_what_was_only_drafted_may_be_added_again(world: World, add_version: AddVersion) -> None:
    add_version(world.release, world.folder / "src/1.2.0", "1.2.0", 3)
    add_version(world.release, world.folder / "src/1.2.0", "1.2.0", 3, owner="another")
    world.release.publish()
    bundle = world.laptop().fetch(world.export("new").source, "digits@1.2.0")
    assert bundle.manifest.owner == "another"


def test_a_quantized_or_pruned_variant_shows_what_it_costs(world: World, add_version: AddVersion) -> None:
    for variant in ("int8", "fp16", "pruned-50"):
        bare = [Tier(name="core", file="core.onnx", variant=variant)]
        with pytest.raises(UsageFault) as caught:
            add_version(world.release, world.folder / "q", "1.2.0", 3, tiers=bare)
        assert caught.value.reason == "unmeasured"
    shown = [Tier(name="core", file="core.onnx", variant="int8", accuracy=0.97, p50_ms=1.2)]
    assert add_version(world.release, world.folder / "q", "1.2.0", 3, tiers=shown).tiers == shown


# --- a manifest that says enough --------------------------------------------------------------------------------------


def whole(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "v": 1, "model": "digits", "task": "digits", "version": "1.0.0", "counter": 1, "owner": "vision",
        "tiers": [Tier(name="core", file="core.onnx", variant="fp32")],
        "inputs": [Tensor(name="x", dtype="float32", shape=[-1, 4])], "outputs": [Tensor(name="y", dtype="float32", shape=[-1, 2])],
        "objectives": Objectives(p95_ms=10, memory_bytes=1 << 20, power_w=4.5, thermal_margin_c=10),
        "fallback": {"label": 0, "text": "shown as 0"}, "files": [], "needs": Needs(opset=17, providers=["CPUExecutionProvider"]),
        "baseline": {"camera": Baseline(p50_ms=2, p95_ms=5, memory_bytes=1 << 19)}, "licence": "MIT", "card": "card.md",
    }  # fmt: skip
    return msgspec.convert(msgspec.to_builtins(values | changes), Manifest)


INCOMPLETE = [
    ({"owner": " "}, "owner"),
    ({"licence": ""}, "licence"),
    ({"card": None}, "model card"),
    ({"counter": 0}, "counter"),
    ({"inputs": []}, "inputs"),
    ({"tiers": []}, "tiers"),
    ({"fallback": {"label": 0, "text": ""}}, "fallback"),
    ({"needs": Needs(providers=["CPUExecutionProvider"])}, "opset"),
    ({"needs": Needs(opset=17)}, "execution provider"),
    ({"objectives": Objectives(p95_ms=0, memory_bytes=1)}, "p95_ms"),
    ({"objectives": Objectives(p95_ms=1, memory_bytes=0)}, "memory_bytes"),
    ({"objectives": Objectives(p95_ms=10, memory_bytes=1, error_rate=1.0)}, "error_rate"),
    ({"objectives": Objectives(p95_ms=10, memory_bytes=1, power_w=0)}, "power_w"),
    ({"objectives": Objectives(p95_ms=10, memory_bytes=1, thermal_margin_c=-1)}, "thermal_margin_c"),
    ({"baseline": {"camera": Baseline(p50_ms=2, p95_ms=50, memory_bytes=1)}}, "above the objective"),
    ({"baseline": {"camera": Baseline(p50_ms=0, p95_ms=5, memory_bytes=1)}}, "no measurement"),
    ({"needs": Needs(opset=17, providers=["x"], device_classes=["meter"])}, "leaves out"),
    ({"tiers": [Tier(name="core", file="a", variant="fp32"), Tier(name="large", file="b", variant="fp32")]}, "threshold"),
    ({"tiers": [Tier(name="core", file="a", variant="fp32", threshold=0.9)]}, "is the last"),
]


@pytest.mark.parametrize(("change", "word"), INCOMPLETE)
def test_a_manifest_that_says_too_little_is_named_as_such(change: dict[str, Any], word: str) -> None:
    check_complete(whole())
    error = refused(lambda: check_complete(whole(**change)))
    assert error.reason == "incomplete"
    assert word in error.message


def test_all_that_is_missing_is_named_at_once() -> None:
    message = refused(lambda: check_complete(whole(owner="", licence="", card=None, counter=0))).message
    assert all(word in message for word in ("owner", "licence", "card", "counter"))


# --- the policy -------------------------------------------------------------------------------------------------------


def test_a_person_comes_and_goes_in_rules_and_keys(tmp_path: Path) -> None:
    fingerprints = [ssh_keygen(tmp_path / name, "x@y") for name in ("one", "two")]
    lines = [(tmp_path / f"{name}.pub").read_text() for name in ("one", "two")]
    files: dict[str, bytes] = {}
    for line, fingerprint, role in zip(lines, fingerprints, ("technician", "lead"), strict=True):
        said, made = with_person(files, line, Person(role=role, label="Plant North"))
        assert said == fingerprint
        files |= made
    policy = decode_policy(files["policy/rules/current/policy.json"])
    assert {key: person.role for key, person in policy.people.items()} == dict(
        zip(fingerprints, ("technician", "lead"), strict=True)
    )
    assert check_file(PEOPLE, files[PEOPLE], None) == ["2 keys"]
    again = files | with_person(files, lines[0], Person(role="lead"))[1]
    assert check_file(PEOPLE, again[PEOPLE], None) == ["2 keys"]
    files |= without(files, fingerprints[0])
    assert list(decode_policy(files["policy/rules/current/policy.json"]).people) == [fingerprints[1]]
    assert files[PEOPLE].decode().split()[-1] == lines[1].split()[1]
    laptop = "a" * 52
    files |= without(files, laptop)
    assert decode_policy(files["policy/rules/current/policy.json"]).laptops_revoked == [laptop]
    assert without(files, laptop) == {}
    assert refused(lambda: without(files, fingerprints[0])).reason == "unknown_person"
    assert refused(lambda: with_person(files, "no key", Person(role="lead"))).reason == "bad_key"
    assert refused(lambda: with_person(files, lines[0], Person(role="king"))).reason == "unknown_role"


def test_files_nobody_could_use_are_not_drafted() -> None:
    for name, data in (
        ("policy/rules/current/policy.json", b"{}"),
        ("policy/runbooks/greet/runbook.yaml", b"id: ["),
        (PEOPLE, b"technician ssh-ed25519\n"),
        ("policy/golden/digits/set.npz", b"no npz"),
    ):
        with pytest.raises(UsageFault):
            check_file(name, data, None)


def _golden(floor: float, task: str = "digits") -> bytes:
    inputs = np.arange(40, dtype=np.float32).reshape(40, 1)
    return encode_golden(Golden(task, {"x": inputs}, np.arange(40) % 2, floor, {ANY_ISA: 1e-4}))


def test_a_lowered_bar_is_said_aloud() -> None:
    name = "policy/golden/digits/set.npz"
    assert len(check_file(name, _golden(0.9), _golden(0.9))) == 1
    assert "LOWER" in check_file(name, _golden(0.8), _golden(0.9))[1]
    assert refused(lambda: check_file(name, _golden(0.9, "faces"), None)).reason == "bad_golden"
