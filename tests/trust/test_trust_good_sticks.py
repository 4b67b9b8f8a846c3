"""What honest sticks look like in the field: renewed, cut off, overtaken, shared with other files. All of them work."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fieldops.bundles.trust import refuse
from fieldops.deadline import CancelToken, Deadline
from fieldops.errors import Cancelled, TrustRefused, UsageFault
from fieldops.ports import Progress, Source

# tests are no package: conftest's names come through fixtures and these annotations
World = Any
Stick = Any
DAY = 86_400.0


@dataclass
class CountedSource:
    """Counts what is read of each file; may break off. Implements ports.Source."""

    inner: Source
    breaks_after: int | None = None  # bytes of payload
    read_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.inner.name

    def read(self, path: str, limit: int) -> bytes:
        return self.inner.read(path, limit)

    def chunks(self, path: str, offset: int) -> Iterator[bytes]:
        for chunk in self.inner.chunks(path, offset):
            for at in range(0, len(chunk), 4096):
                piece = chunk[at : at + 4096]
                self.read_bytes[path] = self.read_bytes.get(path, 0) + len(piece)
                if self.breaks_after is not None and path.endswith(".onnx") and self.read_bytes[path] > self.breaks_after:
                    raise refuse("io_error", f"{path}: pulled out")
                yield piece


def junk(stick: Stick) -> None:
    """What laptops of other makes leave behind, and a stranger's photos."""
    for name in ("._timestamp.json", ".DS_Store", "Thumbs.db", "timestamp.json.bak"):
        (stick.metadata / name).write_bytes(b"junk")
    (stick.payload("core.onnx").parent / f"._{stick.payload('core.onnx').name}").write_bytes(b"junk")
    (stick.root.parent / "holiday").mkdir()
    (stick.root.parent / "System Volume Information").write_bytes(b"junk")


def test_a_good_stick_gives_the_bundle_it_holds(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    bundle = laptop.fetch(world.stick.source)
    assert (bundle.channel, bundle.manifest.model, bundle.manifest.version, bundle.manifest.counter) == (
        "stable",
        "digits",
        "1.1.0",
        2,
    )
    assert {path.name for path in bundle.folder.iterdir()} == {"core.onnx", "large.onnx", "manifest.json"}
    for file in ("core.onnx", "large.onnx", "manifest.json"):
        assert (bundle.folder / file).read_bytes() == world.stick.payload(file).read_bytes()
    for entry in bundle.manifest.files:
        with bundle.payload.open(entry.sha256) as copy:
            assert copy.read() == world.stick.payload(entry.name).read_bytes()
    with pytest.raises(KeyError):
        bundle.payload.open("0" * 64)
    with pytest.raises(KeyError):
        bundle.payload.open("../../trust/state.json")


def test_the_payload_is_ordinary_metadata_that_another_computer_can_verify(world: World, tmp_path: Path) -> None:
    courier = world.laptop("courier").fetch(world.stick.source)
    carried = tmp_path / "carried"
    (carried / "metadata").mkdir(parents=True)
    for name, data in courier.payload.metadata().items():
        (carried / "metadata" / name).write_bytes(data)
    shutil.copytree(world.stick.root / "targets", carried / "targets")
    other = world.laptop("other", knows_first=False)
    assert other.fetch(type(world.stick)(carried, world.stick.keys).source).manifest_sha256 == courier.manifest_sha256


def test_other_files_on_the_stick_do_not_matter(world: World) -> None:
    junk(world.stick)
    laptop = world.laptop()
    assert [(found.ref, found.reason) for found in laptop.store.candidates(world.stick.source, laptop.deadline)] == [
        ("digits@1.0.0", ""),
        ("digits@1.1.0", ""),
    ]
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


def test_the_stick_is_read_once(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    laptop.store.refresh(world.stick.source, laptop.deadline)
    source = CountedSource(world.stick.source)
    seen: list[Progress] = []
    bundle = laptop.fetch(source, progress=seen.append)
    sizes = {entry.name: entry.size for entry in bundle.manifest.files}
    read = {path.rpartition(".onnx")[0][-4:]: count for path, count in source.read_bytes.items() if path.endswith(".onnx")}
    assert read == {"core": sizes["core.onnx"], "arge": sizes["large.onnx"]}
    assert (seen[-1].done, seen[-1].total) == (
        seen[-1].total,
        sum(sizes.values()) + len((bundle.folder / "manifest.json").read_bytes()),
    )
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    again = CountedSource(world.stick.source)
    assert laptop.fetch(again).manifest_sha256 == bundle.manifest_sha256
    assert not [path for path in again.read_bytes if path.startswith("targets/")]


def test_a_copy_cut_off_goes_on_where_it_stopped(world: World) -> None:
    laptop = world.laptop()
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(CountedSource(world.stick.source, breaks_after=50_000))
    assert caught.value.reason == "io_error"
    (part,) = (laptop.home / "cache/sha256").glob("*.part")
    have = part.stat().st_size
    assert have > 0
    rest = CountedSource(world.stick.source)
    bundle = laptop.fetch(rest)
    core = next(entry for entry in bundle.manifest.files if entry.name == "core.onnx")
    (path,) = (path for path in rest.read_bytes if path.endswith(".core.onnx"))
    assert rest.read_bytes[path] == core.size - have
    assert not list((laptop.home / "cache/sha256").glob("*.part"))


def test_the_older_half_of_a_copy_may_be_bad_and_this_stick_gets_its_own_chance(world: World) -> None:
    laptop = world.laptop()
    with pytest.raises(TrustRefused):
        laptop.fetch(CountedSource(world.stick.source, breaks_after=50_000))
    (part,) = (laptop.home / "cache/sha256").glob("*.part")
    part.write_bytes(b"?" + part.read_bytes()[1:])
    bundle = laptop.fetch(world.stick.source)
    assert (bundle.folder / "core.onnx").read_bytes() == world.stick.payload("core.onnx").read_bytes()


def test_another_stick_with_the_same_bundle_goes_on_where_the_first_was_pulled_out(world: World) -> None:
    laptop, other = world.laptop(), world.export("other")
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(CountedSource(world.stick.source, breaks_after=50_000))
    assert (caught.value.reason, caught.value.exit_code) == ("io_error", 3)
    (part,) = (laptop.home / "cache/sha256").glob("*.part")
    have = part.stat().st_size
    rest = CountedSource(other.source)
    bundle = laptop.fetch(rest)
    assert (bundle.folder / "core.onnx").read_bytes() == world.stick.payload("core.onnx").read_bytes()
    (read,) = (count for path, count in rest.read_bytes.items() if path.endswith(".core.onnx"))
    assert read == (bundle.folder / "core.onnx").stat().st_size - have


def test_a_part_longer_than_the_file_is_begun_anew(world: World) -> None:
    laptop = world.laptop()
    with pytest.raises(TrustRefused):
        laptop.fetch(CountedSource(world.stick.source, breaks_after=50_000))
    (part,) = (laptop.home / "cache/sha256").glob("*.part")
    part.write_bytes(b"?" * 1_000_000)
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


def test_a_damaged_copy_in_the_cache_is_brought_again(world: World) -> None:
    laptop = world.laptop()
    bundle = laptop.fetch(world.stick.source)
    blob = laptop.home / "cache/sha256" / bundle.manifest.files[0].sha256
    blob.write_bytes(b"rot" + blob.read_bytes()[3:])
    again = laptop.fetch(world.stick.source)
    assert (again.folder / bundle.manifest.files[0].name).read_bytes() == world.stick.payload(
        bundle.manifest.files[0].name
    ).read_bytes()


def test_cancelling_leaves_a_copy_that_goes_on(world: World) -> None:
    laptop = world.laptop()
    cancel = CancelToken()

    def stop(step: Progress) -> None:
        if step.done > 10_000:
            cancel.cancel()

    deadline = Deadline.after(60, laptop.clock.monotonic, cancel)
    with pytest.raises(Cancelled):
        laptop.store.fetch(CountedSource(world.stick.source), "digits@1.1.0", deadline, progress=stop)
    assert list((laptop.home / "cache/sha256").glob("*.part"))
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"


def test_a_stick_is_judged_by_its_own_bytes_when_that_is_asked(world: World) -> None:
    """Verifying a stick must not be answered from the copies of a better one."""
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    source = CountedSource(world.stick.source)
    bundle = laptop.fetch(source, reread=True)
    assert sum(size for path, size in source.read_bytes.items() if path.endswith(".onnx")) == sum(
        e.size for e in bundle.manifest.files
    )
    kept = laptop.files()
    for harm, reason in HARMS:
        stick = world.export(f"harmed-{reason}")
        harm(stick)
        with pytest.raises(TrustRefused) as caught:
            laptop.fetch(stick.source, reread=True)
        assert caught.value.reason == reason
        assert laptop.fetch(stick.source).manifest_sha256 == bundle.manifest_sha256
        assert {name: data for name, data in laptop.files().items() if name.startswith("cache/")} == {
            name: data for name, data in kept.items() if name.startswith("cache/")
        }


def flip_policy(stick: Stick) -> None:
    (path,) = (stick.root / "targets/policy/runbooks/greet").iterdir()
    path.write_bytes(b"id: evil!\n"[: path.stat().st_size])


HARMS: list[tuple[Callable[[Stick], object], str]] = [
    (lambda stick: stick.payload("core.onnx").write_bytes(b"short"), "hash_mismatch"),
    (lambda stick: stick.payload("large.onnx").write_bytes(b"l" * 400_000), "too_long"),
    (lambda stick: stick.payload("manifest.json").unlink(), "missing"),
]


def test_a_policy_file_is_judged_too_when_a_stick_is_verified(world: World) -> None:
    laptop = world.laptop()
    laptop.fetch(world.stick.source)
    flip_policy(world.stick)
    assert laptop.fetch(world.stick.source).manifest.version == "1.1.0"
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(world.stick.source, reread=True)
    assert caught.value.reason == "hash_mismatch"


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "policy", "stable", "canary"])
def test_what_this_laptop_knows_already_does_not_hide_what_a_stick_lacks(role: str, world: World) -> None:
    """The next laptop, or a device, does not know it."""
    laptop = world.laptop()
    laptop.fetch(world.stick.source, reread=True)
    world.stick.role(role).unlink()
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(world.stick.source, reread=True)
    assert caught.value.reason == "missing"


def test_an_older_stick_is_judged_by_its_payloads_alone(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    laptop.store.refresh(world.stick.source, laptop.deadline)
    world.clock.at += 20 * DAY
    renewed = world.export("renewed")
    laptop.store.refresh(renewed.source, laptop.deadline)
    world.clock.at += 15 * DAY  # the older one is over
    assert laptop.fetch(world.stick.source, reread=True).manifest.version == "1.1.0"


def test_an_overtaken_stick_still_carries_what_is_still_signed(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    facts = laptop.store.refresh(world.stick.source, laptop.deadline)
    bundle = laptop.fetch(world.first.source, "digits@1.0.0")
    assert bundle.manifest.version == "1.0.0"
    assert laptop.store.facts() == facts


def test_an_overtaken_and_expired_stick_still_carries_what_is_still_signed(world: World) -> None:
    short = world.export("short", days=1)
    world.clock.at += 2 * DAY
    renewed = world.export("renewed", days=30)
    laptop = world.laptop(knows_first=False)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(short.source)
    assert caught.value.reason == "expired"
    laptop.store.refresh(renewed.source, laptop.deadline)
    assert laptop.fetch(short.source).manifest.version == "1.1.0"


def test_what_newer_metadata_dropped_is_a_rollback(world: World) -> None:
    def drop(signed: Any) -> None:
        signed.targets = {name: info for name, info in signed.targets.items() if "/1.0.0/" not in name}

    world.stick.rewrite("stable", drop, world.stick.signers("stable-1", "stable-2"))
    laptop = world.laptop()
    laptop.store.refresh(world.stick.source, laptop.deadline)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(world.first.source, "digits@1.0.0")
    assert caught.value.reason == "rollback"
    (late,) = laptop.store.candidates(world.first.source, laptop.deadline)
    assert (late.ref, late.reason) == ("digits@1.0.0", "rollback")


def test_two_sticks_made_in_the_same_second_accept_each_other(world: World) -> None:
    one, two = world.export("one"), world.export("two")
    for order in ((one, two), (two, one)):
        laptop = world.laptop(f"laptop-{order[0].root.parent.name}", knows_first=False)
        for stick in order:
            assert laptop.fetch(stick.source).manifest.version == "1.1.0"


def test_a_renewed_stick_is_good_again(world: World) -> None:
    stick = world.export("again", days=1)
    world.clock.at += 3 * DAY
    laptop = world.laptop(knows_first=False)
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source)
    assert caught.value.reason == "expired"
    renewed = world.export("again", days=1)
    assert laptop.fetch(renewed.source).manifest.version == "1.1.0"


def test_several_channels_and_versions_are_told_apart(world: World, add_version: Callable[..., Any], tmp_path: Path) -> None:
    add_version(world.release, tmp_path / "canary", "1.1.0", 2, channel="canary")
    add_version(world.release, tmp_path / "next", "1.2.0", 3, channel="canary")
    world.release.publish()
    stick = world.export("both")
    laptop = world.laptop()
    found = [(one.channel, one.ref, one.counter, one.reason) for one in laptop.store.candidates(stick.source, laptop.deadline)]
    assert found == [
        ("canary", "digits@1.1.0", 2, ""),
        ("canary", "digits@1.2.0", 3, ""),
        ("stable", "digits@1.0.0", 1, ""),
        ("stable", "digits@1.1.0", 2, ""),
    ]
    assert laptop.fetch(stick.source).channel == "stable"
    assert laptop.fetch(stick.source, channel="canary").channel == "canary"
    assert laptop.fetch(stick.source, "digits@1.2.0").channel == "canary"
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, "digits@1.2.0", channel="stable")
    assert caught.value.reason == "unknown_target"


def test_a_stick_with_some_bundles_offers_only_those(world: World) -> None:
    laptop = world.laptop(knows_first=False)
    stick = world.export("some", refs=["digits@1.1.0"])
    assert [found.ref for found in laptop.store.candidates(stick.source, laptop.deadline)] == ["digits@1.1.0"]
    assert laptop.fetch(stick.source).manifest.version == "1.1.0"


def test_one_expired_channel_does_not_block_the_others(world: World, add_version: Callable[..., Any], tmp_path: Path) -> None:
    add_version(world.release, tmp_path / "canary", "1.2.0", 3, channel="canary")
    world.release.publish()
    stick = world.export("mixed")

    def expire(signed: Any) -> None:
        signed.expires = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

    stick.rewrite("canary", expire, stick.signers("canary-1"))
    laptop = world.laptop()
    assert laptop.fetch(stick.source).manifest.version == "1.1.0"
    with pytest.raises(TrustRefused) as caught:
        laptop.fetch(stick.source, "digits@1.2.0")
    assert caught.value.reason == "expired"
    reasons = {found.ref: found.reason for found in laptop.store.candidates(stick.source, laptop.deadline)}
    assert reasons == {"digits@1.0.0": "", "digits@1.1.0": "", "digits@1.2.0": "expired"}
    # and from own state alone, another time
    assert laptop.store.advance(None, laptop.deadline)[0].lapsed.keys() == {"canary"}


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda stick: stick.payload("core.onnx").unlink(), "missing"),
        (lambda stick: stick.payload("core.onnx").write_bytes(b"short"), "hash_mismatch"),
        (lambda stick: stick.payload("core.onnx").write_bytes(b"l" * 400_000), "too_long"),
        (lambda stick: stick.payload("manifest.json").write_bytes(b"m" * 10), "hash_mismatch"),
    ],
)
def test_the_list_says_which_bundle_is_incomplete(harm: Callable[[Stick], object], reason: str, world: World) -> None:
    harm(world.stick)
    laptop = world.laptop()
    reasons = {found.ref: found.reason for found in laptop.store.candidates(world.stick.source, laptop.deadline)}
    assert reasons == {"digits@1.0.0": "", "digits@1.1.0": reason}


def test_a_refused_stick_still_lists_what_it_claims(world: World) -> None:
    stick = world.export("late", days=1)
    world.clock.at += 2 * DAY
    laptop = world.laptop(knows_first=False)
    found = laptop.store.candidates(stick.source, laptop.deadline)
    assert {(one.ref, one.reason) for one in found} == {("digits@1.0.0", "expired"), ("digits@1.1.0", "expired")}


@pytest.mark.parametrize("ref", ["digits", "digits@", "@1.0.0", "digits@latest", "../x@1.0.0", "Digits@1.0.0", "digits@1.0"])
def test_a_reference_that_names_no_bundle_is_the_typists_fault(ref: str, world: World) -> None:
    with pytest.raises(UsageFault):
        world.laptop(knows_first=False).fetch(world.stick.source, ref)


def test_a_version_nobody_signed_is_unknown(world: World) -> None:
    with pytest.raises(TrustRefused) as caught:
        world.laptop().fetch(world.stick.source, "digits@9.9.9")
    assert caught.value.reason == "unknown_target"


def upper(stick: Stick) -> None:
    for path in sorted(stick.root.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.upper()))


def read_only(stick: Stick) -> None:
    for path in [*stick.root.rglob("*"), stick.root]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def renewed(stick: Stick) -> None:
    """Only the timestamp is newer."""
    stick.seal()


def without_old_roots_and_metadata(stick: Stick) -> None:
    newest = {stick.role(role).name for role in ("timestamp", "snapshot", "targets", "policy", "stable", "canary", "root")}
    for path in stick.metadata.iterdir():
        if path.name not in newest:
            path.unlink()


def without_other_versions(stick: Stick) -> None:
    shutil.rmtree(stick.root / "targets/stable/digits/1.0.0")


def moved_up(stick: Stick) -> None:
    """Without the FIELDOPS folder, as somebody who copied its inside made it."""
    for path in list(stick.root.iterdir()):
        path.rename(stick.root.parent / path.name)
    stick.root.rmdir()
    stick.root = stick.root.parent


def everything(stick: Stick) -> None:
    for make in (junk, upper, read_only):
        make(stick)


GOOD: list[tuple[str, Callable[[Stick], object]]] = [
    ("as it was made", lambda _: None),
    ("with junk", junk),
    ("in capitals", upper),
    ("read-only", read_only),
    ("renewed", renewed),
    ("without older metadata", without_old_roots_and_metadata),
    ("without other versions", without_other_versions),
    ("without its FIELDOPS folder", moved_up),
    ("junk in capitals, read-only", everything),
]


@pytest.mark.parametrize("knows_first", [False, True], ids=["new laptop", "laptop that knows an older one"])
@pytest.mark.parametrize(("name", "make"), GOOD, ids=[name for name, _ in GOOD])
def test_every_good_stick_is_accepted(name: str, make: Callable[[Stick], object], knows_first: bool, world: World) -> None:
    wanted = {file: world.stick.payload(file).read_bytes() for file in ("core.onnx", "large.onnx", "manifest.json")}
    laptop = world.laptop(knows_first=knows_first)
    make(world.stick)
    try:
        offered = {each.ref: each.reason for each in laptop.store.candidates(world.stick.source, laptop.deadline)}
        assert offered["digits@1.1.0"] == ""
        bundle = laptop.fetch(world.stick.source)
    finally:
        for path in [world.stick.root, *world.stick.root.rglob("*")]:
            path.chmod(0o755)
    assert {path.name: path.read_bytes() for path in bundle.folder.iterdir()} == wanted
