"""Inputs pulled from a device, labelled on the laptop, and what becomes of them as a step."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fieldops.cli.samples import picture
from fieldops.deadline import Deadline
from fieldops.edges.clock import SystemClock
from fieldops.edges.samples import SampleFolder, read_labels
from fieldops.errors import DeviceCannot, UsageFault
from fieldops.operations import samples
from fieldops.wire import Sample, SamplePage, b64, encode
from tests.operations.conftest import DEVICE_ID, ENTRY, NearDevice


def sample(number: int) -> Sample:
    request = encode({"inputs": [{"name": "pixels", "shape": [1, 4], "datatype": "FP32", "data": [0, 16, 16, 0]}]})
    return Sample(
        id=number, model="digits", version="1.0.0", time=1.0, reason="ordinary", label=3, confidence=0.5, request=b64(request)
    )


class Keeping(NearDevice):
    """Two a page, of five; the third is sealed under a lost key."""

    def samples(self, model: str, after: int, deadline: Deadline) -> SamplePage:
        numbers = [number for number in range(1, 6) if number > after][:2]
        found = [sample(number) for number in numbers if number != 3]
        return SamplePage(samples=found, newest=max(numbers, default=after), unreadable=numbers.count(3))


@pytest.fixture
def folder(tmp_path: Path) -> SampleFolder:
    return SampleFolder(tmp_path / "samples")


def within() -> Deadline:
    return Deadline.after(10, SystemClock().monotonic)


def test_a_pull_takes_every_page_once_and_counts_what_could_not_be_opened(folder: SampleFolder) -> None:
    assert samples.pull(Keeping(), folder, "digits", within()) == (4, 1)
    assert [each.id for each in folder.samples(DEVICE_ID, "digits")] == [1, 2, 4, 5]
    assert samples.pull(Keeping(), folder, "digits", within()) == (0, 0)
    (file,) = (folder.folder / DEVICE_ID).iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_line_hides_no_other(folder: SampleFolder) -> None:
    samples.pull(Keeping(), folder, "digits", within())
    (file,) = (folder.folder / DEVICE_ID).iterdir()
    file.write_bytes(file.read_bytes().replace(b'{"id":2', b"\xff\x00"))
    assert [each.id for each in folder.samples(DEVICE_ID, "digits")] == [1, 4, 5]


def test_a_device_without_an_agent_has_none(folder: SampleFolder) -> None:
    with pytest.raises(DeviceCannot):
        samples.pull(NearDevice(), folder, "digits", within())


def test_labels_are_kept_beside_them_and_the_later_one_counts(folder: SampleFolder) -> None:
    samples.pull(Keeping(), folder, "digits", within())
    assert samples.label(folder, ENTRY, "digits", {1: 7, 2: 8})[0] == 2
    there, path = samples.label(folder, ENTRY, "digits", {2: 9})
    assert (there, path.read_text()) == (2, "id,label\n1,7\n2,9\n")
    assert [each.id for each in samples.unlabelled(folder, ENTRY, "digits")] == [4, 5]
    assert samples.labels_for(folder, ENTRY, "digits") == {"1": 7, "2": 9}
    with pytest.raises(UsageFault) as strange:
        samples.label(folder, ENTRY, "digits", {3: 1})
    assert strange.value.reason == "unknown_sample"
    with pytest.raises(UsageFault) as none:
        samples.labels_for(folder, ENTRY, "meters")
    assert none.value.reason == "no_labels"
    with pytest.raises(UsageFault):
        folder.labels(DEVICE_ID, "../digits")


def test_a_csv_of_labels_names_every_fault_with_its_line() -> None:
    assert read_labels("id,label\n 1 , 2\n\n3,4\n", "l.csv") == {1: 2, 3: 4}
    with pytest.raises(UsageFault) as wrong:
        read_labels("1,2\n1,3\nx,1\n4\n-1,2\n", "l.csv")
    assert [fault.line for fault in wrong.value.faults] == [2, 3, 4, 5]


def test_a_square_input_is_shown_as_shades_and_anything_else_not_at_all() -> None:
    assert picture(sample(1)) == ["  @@", "@@  "]
    for request in (b"no json", encode({"inputs": [{"data": [1, 2, 3]}]}), encode({"inputs": [{"data": "many"}]})):
        assert (
            picture(Sample(**{name: getattr(sample(1), name) for name in Sample.__struct_fields__} | {"request": b64(request)}))
            == []
        )
