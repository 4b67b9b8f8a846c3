"""A host key is accepted only after a comparison, and a changed one only where somebody says that it may have changed."""

from __future__ import annotations

import pytest

from fieldops.errors import HostKeyChanged, HostKeyUnknown, LinkFault
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.operations.hostkeys import OfferedKey, judge

ENTRY = DeviceEntry(name="press-01", ssh=SshAddress("me", "host", 22))
NEW = OfferedKey("ssh-ed25519", b"key", "SHA256:new", "unknown")
CHANGED = OfferedKey("ssh-ed25519", b"key", "SHA256:new", "changed", ("SHA256:old",))


def test_a_revoked_key_is_never_accepted() -> None:
    revoked = OfferedKey("ssh-ed25519", b"key", "SHA256:new", "revoked")
    with pytest.raises(LinkFault, match="revoked"):
        judge(ENTRY, revoked, expected="SHA256:new", replace=True)


@pytest.mark.parametrize("offered", [NEW, CHANGED])
def test_another_key_than_the_expected_one_is_refused(offered: OfferedKey) -> None:
    with pytest.raises(HostKeyUnknown, match="SHA256:label"):
        judge(ENTRY, offered, expected="SHA256:label", replace=True)


def test_a_changed_key_needs_to_be_said_even_when_it_is_the_expected_one() -> None:
    with pytest.raises(HostKeyChanged, match="SHA256:old"):
        judge(ENTRY, CHANGED, expected="SHA256:new", replace=False)
    judge(ENTRY, CHANGED, expected="SHA256:new", replace=True)


def test_the_expected_key_of_a_new_device_is_accepted() -> None:
    judge(ENTRY, NEW, expected="SHA256:new", replace=False)
