"""What is bounded, whatever a source sends: bytes read, signatures, delegations, names; and what is made of it by chance."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile

from fieldops.bundles.manifest import MANIFEST_LIMIT_BYTES
from fieldops.bundles.trust import SignedBundle, Target, check_manifest, target_name
from fieldops.edges.tuf_refresh import ROOT_LIMIT_BYTES
from fieldops.errors import TRUST_REASONS, TrustRefused
from fieldops.ports import Source

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
Stick = Any
CHUNK = 1 << 20
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class Counted:
    """Counts bytes given. replace: path -> what comes instead, endlessly if it says so. Implements ports.Source."""

    inner: Source
    replace: dict[str, Callable[[], Iterator[bytes]]] = field(default_factory=dict)
    read_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def total(self) -> int:
        return sum(self.read_bytes.values())

    def read(self, path: str, limit: int) -> bytes:
        data = bytearray()
        for chunk in self.chunks(path, 0):
            data += chunk
            if len(data) > limit:
                raise TrustRefused("too long", reason="too_long", next_step="-")
        return bytes(data)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        made = self.replace.get(path)
        for chunk in made() if made else self.inner.chunks(path, offset):
            self.read_bytes[path] = self.read_bytes.get(path, 0) + len(chunk)
            yield chunk


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """(value, "") or (None, reason); anything but a TrustRefused rises and fails the test."""
    try:
        return call(), ""
    except TrustRefused as error:
        return None, error.reason


def endless() -> Iterator[bytes]:
    while True:
        yield b"[" * CHUNK


def million_signatures() -> Iterator[bytes]:
    """150 MB of them, made while they are read."""
    yield b'{"signed": {}, "signatures": ['
    for number in range(1_000_000):
        yield b'{"keyid": "%064x", "sig": "%0128x"},' % (number, number)


ENDLESS = [
    ("metadata/timestamp.json", 16 << 10, "oversized"),
    ("metadata/2.root.json", ROOT_LIMIT_BYTES, "oversized"),
    ("snapshot", 0, "too_long"),
    ("stable", 0, "too_long"),
    ("policy", 0, "too_long"),
    ("core.onnx", 0, "too_long"),
    ("manifest.json", 0, "too_long"),
]


def path_of(stick: Stick, what: str) -> str:
    if what.startswith("metadata/"):
        return what
    file = stick.payload(what) if "." in what else stick.role(what)
    return str(file.relative_to(stick.root).as_posix())


@pytest.mark.parametrize("made", [endless, million_signatures], ids=["endless", "a million signatures"])
@pytest.mark.parametrize(("what", "limit", "reason"), ENDLESS, ids=[row[0] for row in ENDLESS])
def test_no_more_is_read_than_was_signed_or_may_be(
    what: str, limit: int, reason: str, made: Callable[[], Iterator[bytes]], world: World
) -> None:
    path = path_of(world.stick, what)
    signed = limit or (world.stick.root / path).stat().st_size
    source = Counted(world.stick.source, {path: made})
    with pytest.raises(TrustRefused) as caught:
        world.laptop(knows_first=False).fetch(source)
    assert caught.value.reason == reason
    assert source.read_bytes[path] <= signed + CHUNK


def signatures(count: int) -> Callable[[Stick], None]:
    """The right signature among so many that belong to nobody."""

    def attack(stick: Stick) -> None:
        stick.rewrite("stable", lambda _: None, stick.signers("stable-1", "stable-2"))
        path = stick.role("stable")
        document = msgspec.json.decode(path.read_bytes())
        document["signatures"] += [{"keyid": f"{number:064x}", "sig": f"{number:0128x}"} for number in range(count)]
        path.write_bytes(msgspec.json.encode(document))
        stick.seal()

    return attack


def test_ten_thousand_useless_signatures_change_nothing(world: World) -> None:
    """They fit into what may be signed, so the right two decide; nobody verifies a signature of an unknown key."""
    signatures(8_000)(world.stick)
    assert world.laptop().fetch(world.stick.source).manifest.version == "1.1.0"


def test_more_than_may_be_read_is_oversized_even_when_it_is_signed(world: World) -> None:
    signatures(12_000)(world.stick)
    assert world.stick.role("stable").stat().st_size > 2 << 20
    with pytest.raises(TrustRefused) as caught:
        world.laptop().fetch(world.stick.source)
    assert caught.value.reason == "oversized"


# --- delegations -------------------------------------------------------------------------------------------------------


def delegate(stick: Stick, role: str, *to: str, paths: tuple[str, ...] = ("*/*/*/*",)) -> Delegations:
    top = stick.targets("targets").delegations
    assert top is not None
    keys = {keyid: key for keyid, key in top.keys.items() if keyid in {k for name in to for k in top.roles[name].keyids}}
    roles = {name: DelegatedRole(name, top.roles[name].keyids, 1, False, paths=list(paths)) for name in to}
    return Delegations(keys, roles)


def cycle(stick: Stick) -> None:
    """stable -> canary -> policy -> stable, and each to itself, over all paths."""
    ring = {"stable": ("stable", "canary"), "canary": ("canary", "policy"), "policy": ("policy", "stable")}
    signers = {"stable": ("stable-1", "stable-2"), "canary": ("canary-1",), "policy": ("policy-1", "policy-2")}
    for role, to in ring.items():
        made = delegate(stick, role, *to)
        stick.rewrite(role, lambda signed, made=made: setattr(signed, "delegations", made), stick.signers(*signers[role]))


def test_delegations_in_a_circle_end_and_open_nothing(world: World) -> None:
    cycle(world.stick)
    source = Counted(world.stick.source)
    bundle = world.laptop(knows_first=False).fetch(source)
    assert bundle.manifest.version == "1.1.0"
    whole = sum(path.stat().st_size for path in world.stick.root.rglob("*") if path.is_file())
    assert source.total < 4 * whole


def test_a_role_below_a_channel_brings_no_bundle_of_its_own(world: World) -> None:
    """Only what the top delegates is listed: a channel cannot hand its name on to others."""
    stick = world.stick
    made = delegate(stick, "stable", "canary", paths=("stable/*/*/*",))
    stick.rewrite("stable", lambda signed: setattr(signed, "delegations", made), stick.signers("stable-1", "stable-2"))
    name = "stable/digits/9.0.0/manifest.json"
    info = TargetFile.from_data(name, b"{}", ["sha256"])
    stick.rewrite("canary", lambda signed: signed.targets.update({name: info}), stick.signers("canary-1"))
    with pytest.raises(TrustRefused) as caught:
        world.laptop().fetch(stick.source, "digits@9.0.0")
    assert caught.value.reason == "unknown_target"


def test_more_delegated_roles_than_are_looked_at_are_refused_in_bounded_time(world: World) -> None:
    """A thousand roles at the top, all signed by those who may: the stick lacks their files."""
    stick = world.stick
    top = Metadata[Any].from_file(str(stick.role("targets")))
    keyids = next(iter(top.signed.delegations.roles.values())).keyids

    def change(signed: Any) -> None:
        for number in range(1000):
            name = f"r{number:04}"
            signed.delegations.roles[name] = DelegatedRole(name, keyids, 1, True, paths=[f"{name}/*/*/*"])

    stick.rewrite("targets", change, [signer for name in target_keys(stick) for signer in stick.signers(name)])
    source = Counted(stick.source)
    with pytest.raises(TrustRefused) as caught:
        world.laptop().fetch(source)
    assert caught.value.reason == "oversized"
    assert source.total < 4 << 20


def target_keys(stick: Stick) -> list[str]:
    return sorted(path.stem for path in stick.keys.glob("targets-*.pem"))


def sign_name(name: str) -> Callable[[Stick], None]:
    def attack(stick: Stick) -> None:
        def change(signed: Any) -> None:
            signed.targets[name] = TargetFile.from_data(name, b"x", ["sha256"])

        stick.rewrite("stable", change, stick.signers("stable-1", "stable-2"))

    return attack


BAD_NAMES = [
    ("300 characters", "stable/digits/1.1.0/" + "x" * 300),
    ("300 parts", "stable/" + "a/" * 300 + "x"),
    ("a control character", "stable/digits/1.1.0/a\x07b"),
    ("a line end", "stable/digits/1.1.0/core.onnx\n"),
    ("an escape sequence", "stable/digits/1.1.0/\x1b[2Jx"),
    ("a null", "stable/digits/1.1.0/core.onnx\0.txt"),
    ("right-to-left override", "stable/digits/1.1.0/\u202egpj.onnx"),
    ("another script's letter", "stable/digits/1.1.0/c\u043ere.onnx"),
    ("full-width dots", "stable/digits/\uff0e\uff0e/x"),
    ("a drive", "stable/digits/1.1.0/c:x"),
    ("a stream", "stable/digits/1.1.0/core.onnx::$data"),
    ("a Windows device", "stable/digits/1.1.0/nul.onnx"),
    ("a dot at the end", "stable/digits/1.1.0/core.onnx."),
    ("percent-encoded dots", "stable/digits/1.1.0/%2e%2e"),
    ("empty", ""),
]


@pytest.mark.parametrize(("what", "name"), BAD_NAMES, ids=[row[0] for row in BAD_NAMES])
def test_a_signed_name_that_is_not_plain_is_refused_and_shown_harmlessly(what: str, name: str, world: World) -> None:
    laptop = world.laptop()
    before = laptop.files()
    sign_name(name)(world.stick)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(world.stick.source)
    assert caught.value.reason == "bad_name"
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400
    assert laptop.files() == before


# --- what is no file ---------------------------------------------------------------------------------------------------


def device_file(path: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        pytest.skip("making a device file needs rights")


def socket_file(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # their names are limited to 107 bytes
        try:
            listener.bind("s")
            Path("s").rename(path.name)
        finally:
            os.chdir(here)


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither")
@pytest.mark.parametrize("make", [device_file, socket_file])
@pytest.mark.parametrize("what", ["metadata/timestamp.json", "stable", "core.onnx", "manifest.json"])
def test_a_device_or_a_socket_in_place_of_a_file(what: str, make: Callable[[Path], None], world: World) -> None:
    laptop = world.laptop()
    path = world.stick.root / path_of(world.stick, what)
    make(path)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(world.stick.source)
    assert caught.value.reason == "not_regular_file"


# --- a stick that is not what it was a moment ago ------------------------------------------------------------------------


def test_a_stick_that_answers_the_second_read_differently_gains_nothing(world: World) -> None:
    """Only the verified copy goes further, so what a second read would say is never asked for."""
    stick, turn = world.stick, {"n": 0}
    path = path_of(stick, "core.onnx")
    right = (stick.root / path).read_bytes()

    def changing() -> Iterator[bytes]:
        turn["n"] += 1
        yield right if turn["n"] == 1 else b"evil" * (len(right) // 4)

    laptop = world.laptop()
    bundle = laptop.fetch(Counted(stick.source, {path: changing}))
    assert turn["n"] == 1
    assert (bundle.folder / "core.onnx").read_bytes() == right
    for entry in bundle.manifest.files:
        if entry.name == "core.onnx":
            with bundle.payload.open(entry.sha256) as copy:
                assert copy.read() == right


def test_metadata_that_changes_between_two_reads_is_judged_as_it_was_read(world: World) -> None:
    stick, turns = world.stick, {"n": 0}
    path = path_of(stick, "timestamp")
    newer, older = (stick.root / path).read_bytes(), (world.first.root / path).read_bytes()

    def changing() -> Iterator[bytes]:
        turns["n"] += 1
        yield newer if turns["n"] % 2 else older

    laptop = world.laptop()
    assert laptop.fetch(Counted(stick.source, {path: changing})).manifest.version == "1.1.0"
    assert laptop.store.facts().timestamp_version == msgspec.json.decode(newer)["signed"]["version"]


# --- by chance ---------------------------------------------------------------------------------------------------------


def regions(stick: Stick) -> list[tuple[str, int]]:
    """Eight places in each file of a stick."""
    found = []
    for path in sorted(stick.root.rglob("*")):
        if path.is_file() and "/1.0.0/" not in path.as_posix():
            size = path.stat().st_size
            found += [(path.relative_to(stick.root).as_posix(), size * step // 8) for step in range(8)]
    return found


def test_whatever_place_of_a_stick_is_changed_the_answer_is_one_of_the_closed_reasons(world: World) -> None:
    stick = world.stick
    laptop = world.laptop(knows_first=False)
    good = laptop.fetch(stick.source)
    wanted = {entry.name: (good.folder / entry.name).read_bytes() for entry in good.manifest.files}
    accepted: set[str] = set()
    for number, (file, at) in enumerate(regions(stick)):
        path = stick.root / file
        before = path.read_bytes()
        path.write_bytes(before[:at] + bytes([before[at] ^ (1 << (number % 8))]) + before[at + 1 :])
        fresh = world.laptop(f"fresh-{number}", knows_first=False)
        bundle, reason = outcome(partial(fresh.fetch, stick.source))
        if bundle is None:
            assert reason in TRUST_REASONS
            assert not list((fresh.home / "cache").glob("bundles/*"))
        else:
            accepted.add(file)
            assert {entry.name: (bundle.folder / entry.name).read_bytes() for entry in bundle.manifest.files} == wanted
        path.write_bytes(before)
        shutil.rmtree(fresh.home)
    # A root of before ours is not asked for at all; everything that counts was refused.
    assert all(".root.json" in file or file.startswith("targets/canary") for file in accepted), accepted


@quick
@given(name=st.text(max_size=400))
def test_any_text_is_a_plain_name_or_bad(name: str) -> None:
    parts, reason = outcome(lambda: target_name(name))
    if parts is None:
        assert reason == "bad_name"
    else:
        assert name.isascii()
        assert str(parts) == name
        assert ".." not in name.split("/")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


def signed_manifest(text: bytes) -> SignedBundle:
    import hashlib

    target = Target(
        name="stable/digits/1.1.0/manifest.json", sha256=hashlib.sha256(text).hexdigest(), size=len(text), role="stable"
    )
    return SignedBundle("stable", "digits", "1.1.0", (target,))


@quick
@given(text=st.binary(max_size=2000) | JSON.map(msgspec.json.encode) | st.just(b"[" * MANIFEST_LIMIT_BYTES))
def test_any_signed_bytes_are_a_manifest_or_one_of_the_closed_reasons(text: bytes) -> None:
    with pytest.raises(TrustRefused) as caught:
        check_manifest(text, signed_manifest(text))
    assert caught.value.reason in TRUST_REASONS


@quick
@given(data=st.data())
def test_a_manifest_changed_anywhere_is_refused_or_says_the_same_of_its_files(data: st.DataObject, built: World) -> None:
    path = built.stick.payload("manifest.json")
    document = msgspec.json.decode(path.read_bytes())
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = data.draw(JSON)
    text = msgspec.json.encode(document)
    signed = signed_manifest(text)
    files = tuple(
        Target(name=f"stable/digits/1.1.0/{each['name']}", sha256=each["sha256"], size=each["size"], role="stable")
        for each in msgspec.json.decode(path.read_bytes())["files"]
    )
    bundle = SignedBundle("stable", "digits", "1.1.0", signed.files + files)
    manifest, reason = outcome(lambda: check_manifest(text, bundle))
    if manifest is None:
        assert reason in TRUST_REASONS
    else:
        assert {entry.sha256 for entry in manifest.files} == {target.sha256 for target in files}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_metadata_changed_anywhere_and_signed_again_is_judged(data: st.DataObject, built: World, tmp_path: Path) -> None:
    """The worst case: who holds the channel's keys signs nonsense. One reason comes out, and the state stays."""
    import uuid

    folder = tmp_path / uuid.uuid4().hex
    shutil.copytree(built.stick.root, folder / "FIELDOPS")
    stick = type(built.stick)(folder / "FIELDOPS", built.stick.keys)
    document = msgspec.json.decode(stick.role("stable").read_bytes())
    signed = document["signed"]
    key = data.draw(st.sampled_from(sorted(signed)))
    signed[key] = data.draw(JSON)
    text = msgspec.json.encode(document)
    stick.role("stable").write_bytes(text)
    try:
        metadata = Metadata[Any].from_bytes(text)
        metadata.signatures.clear()
        signers: list[CryptoSigner] = stick.signers("stable-1", "stable-2")
        for signer in signers:
            metadata.sign(signer, append=True)
        metadata.to_file(str(stick.role("stable")))
    except Exception:  # noqa: BLE001 - what tuf itself cannot read or sign stays as it was drawn
        stick.role("stable").write_bytes(text)
    stick.seal()
    laptop = type(built.laptop("kept"))(folder / "laptop", built.clock)
    laptop.store.pin(built.release.root(1), None)
    _, reason = outcome(lambda: laptop.fetch(stick.source))
    assert reason in TRUST_REASONS | {""}
