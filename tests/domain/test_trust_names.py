"""The name rule, references, and what signed facts say of a bundle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldops.bundles.trust import (
    Asker,
    BundleRef,
    Custom,
    SignedBundle,
    Target,
    bundle_ref,
    bundles_in,
    check_digest,
    check_usable,
    find_bundle,
    policy_targets_in,
    refuse,
    signed_target,
    target_name,
)
from fieldops.errors import TRUST_REASONS, TrustRefused, UsageFault

SHA = "ab" * 32


@pytest.mark.parametrize(
    "name",
    [
        "stable/digits/1.0.0/core.onnx",
        "policy/people/current/allowed_signers",
        "policy/golden/digits/set.npz",
        "a/b/c/d",
        "stable/digits/1.0.0-rc1/delta-1.3.0.bin",
        "stable/" + "m" * 64 + "/1.0.0/x",
    ],
)
def test_plain_names_of_four_parts_are_names(name: str) -> None:
    assert str(target_name(name)) == name
    parts = name.split("/")
    assert target_name(name).stored_as(SHA) == f"targets/{'/'.join(parts[:3])}/{SHA}.{parts[3]}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "core.onnx",
        "stable/digits/1.0.0",
        "stable/digits/1.0.0/a/b",
        "stable/digits/1.0.0/",
        "/stable/digits/1.0.0/x",
        "stable//1.0.0/x",
        "stable/../1.0.0/x",
        "stable/./1.0.0/x",
        "../../../x",
        "stable/digits/1.0.0/..",
        "stable/digits/1.0.0/.x",
        "stable/digits/1.0.0/-x",
        "stable/digits/1.0.0/X",
        "Stable/digits/1.0.0/x",
        "stable/digits/1.0.0/x y",
        "stable/digits/1.0.0/x:y",
        "stable/digits/1.0.0/x\\y",
        "stable\\digits\\1.0.0\\x",
        "stable/digits/1.0.0/x\n",
        "stable/digits/1.0.0/x\x00",
        "stable/digits/1.0.0/\u202ex",
        "stable/digits/1.0.0/e\u0301",
        "stable/digits/1.0.0/\u00e9",
        "stable/digits/1.0.0/\uff41",
        "stable/digits/1.0.0/%2e%2e",
        "stable/digits/1.0.0/" + "x" * 65,
        "~/digits/1.0.0/x",
    ],
)
def test_every_other_name_is_refused(name: str) -> None:
    with pytest.raises(TrustRefused) as caught:
        target_name(name)
    assert caught.value.reason == "bad_name"
    assert caught.value.message.isascii()


@given(st.text(max_size=80))
def test_a_name_that_passes_stays_inside_its_folder(name: str) -> None:
    try:
        parsed = target_name(name)
    except TrustRefused:
        return
    for part in (parsed.channel, parsed.model, parsed.version, parsed.file):
        assert part.isascii()
        assert part not in {".", ".."}
        assert not set(part) & set('/\\:*?"<>| \0')


@given(st.from_regex(r"x[a-z0-9._-]{0,10}[a-z0-9](/x[a-z0-9._-]{0,10}[a-z0-9]){3}", fullmatch=True))
def test_names_come_back_as_they_were(name: str) -> None:
    assert str(target_name(name)) == name


def test_a_reference_is_a_model_and_a_version() -> None:
    assert bundle_ref("digits@1.2.0") == BundleRef("digits", "1.2.0")
    assert bundle_ref("digits@2.0.0-bad") == BundleRef("digits", "2.0.0-bad")
    for text in ("digits", "digits@", "@1.2.0", "digits@1.2", "a/b@1.2.0", "digits@1.2.0\n", "digits@1.2.0@1"):
        with pytest.raises(UsageFault):
            bundle_ref(text)


def test_every_reason_has_a_next_step() -> None:
    for reason in TRUST_REASONS:
        assert refuse(reason, "x").next_step


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"sha256": None}, "malformed"),
        ({"sha256": "AB" * 32}, "malformed"),
        ({"sha256": "../../x"}, "malformed"),
        ({"size": -1}, "malformed"),
        ({"custom": {"counter": "many"}}, "malformed"),
        ({"custom": ["x"]}, "malformed"),
        ({"name": "x"}, "bad_name"),
    ],
)
def test_signed_facts_that_make_no_sense_are_refused(more: dict[str, object], reason: str) -> None:
    facts: dict[str, object] = {"name": "stable/digits/1.0.0/x", "sha256": SHA, "size": 1, "custom": None}
    facts |= more
    with pytest.raises(TrustRefused) as caught:
        signed_target(str(facts["name"]), sha256=facts["sha256"], size=facts["size"], role="stable", custom=facts["custom"])  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_facts_of_a_later_version_are_ignored() -> None:
    target = signed_target("stable/digits/1.0.0/x", sha256=SHA, size=1, role="stable", custom={"counter": 3, "new": True})
    assert target.custom == Custom(counter=3)


def made(name: str, **custom: object) -> Target:
    return signed_target(name, sha256=SHA, size=10, role=name.partition("/")[0], custom=custom)


def test_targets_are_grouped_by_channel_model_and_version() -> None:
    targets = [
        made("stable/digits/1.0.0/manifest.json", counter=4),
        made("policy/rules/current/policy.json"),
        made("canary/digits/1.0.0/manifest.json", counter=4),
        made("stable/digits/1.0.0/core.onnx"),
        made("stable/sound/1.0.0/core.onnx"),
    ]
    found = [(b.channel, b.model, b.version, len(b.files), b.size_bytes, b.counter) for b in bundles_in(targets)]
    assert found == [
        ("canary", "digits", "1.0.0", 1, 10, 4),
        ("stable", "digits", "1.0.0", 2, 20, 4),
        ("stable", "sound", "1.0.0", 1, 10, 0),
    ]
    assert [target.name for target in policy_targets_in(targets)] == ["policy/rules/current/policy.json"]
    ref = BundleRef("digits", "1.0.0")
    chosen = find_bundle(targets, ref, None)
    assert chosen is not None
    assert chosen.channel == "stable"
    other = find_bundle(targets, ref, "canary")
    assert other is not None
    assert other.channel == "canary"
    assert find_bundle(targets, ref, "beta") is None
    (sound,) = (bundle for bundle in bundles_in(targets) if bundle.model == "sound")
    with pytest.raises(TrustRefused) as caught:
        _ = sound.manifest
    assert caught.value.reason == "missing"


ASKER = Asker(device_class="gateway", machine="x86_64", floors={"digits": 5})


@pytest.mark.parametrize(
    ("custom", "asker", "reason"),
    [
        ({"counter": 5}, ASKER, None),
        ({"counter": 5, "device_classes": ["camera", "gateway"], "machines": ["x86_64"]}, ASKER, None),
        ({"counter": 4}, ASKER, "below_floor"),
        ({"counter": 9, "device_classes": ["camera"]}, ASKER, "wrong_device"),
        ({"counter": 9, "machines": ["aarch64"]}, ASKER, "wrong_device"),
        ({"counter": 9, "withdrawn": True}, ASKER, "withdrawn"),
        ({"counter": 1, "device_classes": ["camera"]}, None, None),
        ({"counter": 1, "withdrawn": True}, None, "withdrawn"),
    ],
)
def test_who_may_take_a_bundle(custom: dict[str, object], asker: Asker | None, reason: str | None) -> None:
    bundle = SignedBundle("stable", "digits", "1.0.0", (made("stable/digits/1.0.0/manifest.json", **custom),))
    if reason is None:
        check_usable(bundle, asker)
        return
    with pytest.raises(TrustRefused) as caught:
        check_usable(bundle, asker)
    assert caught.value.reason == reason


@given(st.binary(max_size=64), st.integers(0, 63), st.integers(0, 7))
def test_one_bit_is_always_found(data: bytes, at: int, bit: int) -> None:
    import hashlib

    target = Target(name="a/b/c/d", sha256=hashlib.sha256(data).hexdigest(), size=len(data), role="a")
    check_digest(data, target)
    for changed, reason in ((data + b"x", "too_long"), (data[:-1], "hash_mismatch")):
        if changed != data:
            with pytest.raises(TrustRefused) as caught:
                check_digest(changed, target)
            assert caught.value.reason == reason
    if data:
        flipped = bytearray(data)
        flipped[at % len(data)] ^= 1 << bit
        with pytest.raises(TrustRefused):
            check_digest(bytes(flipped), target)
