"""A host key is accepted only after a comparison, and a changed one only where somebody says that it may have changed."""

from __future__ import annotations

import base64
import hashlib

import pytest

from fieldops.errors import HostKeyChanged, HostKeyUnknown, LinkFault, UsageFault
from fieldops.fleet import DeviceEntry, SshAddress
from fieldops.operations.hostkeys import OfferedKey, expected_in, judge

ENTRY = DeviceEntry(name="press-01", ssh=SshAddress("me", "host", 22))
BLOB = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00 " + bytes(range(32))
SHOWN = "SHA256:" + base64.b64encode(hashlib.sha256(BLOB).digest()).decode().rstrip("=")
LABEL = "SHA256:" + "l" * 43
NEW = OfferedKey("ssh-ed25519", BLOB, SHOWN, "unknown")
CHANGED = OfferedKey("ssh-ed25519", BLOB, SHOWN, "changed", ("SHA256:old",))


def test_a_revoked_key_is_never_accepted() -> None:
    revoked = OfferedKey("ssh-ed25519", BLOB, SHOWN, "revoked")
    with pytest.raises(LinkFault, match="revoked"):
        judge(ENTRY, revoked, expected=SHOWN, replace=True)


@pytest.mark.parametrize("offered", [NEW, CHANGED])
def test_another_key_than_the_expected_one_is_refused(offered: OfferedKey) -> None:
    with pytest.raises(HostKeyUnknown, match=LABEL):
        judge(ENTRY, offered, expected=LABEL, replace=True)


def test_a_changed_key_needs_to_be_said_even_when_it_is_the_expected_one() -> None:
    with pytest.raises(HostKeyChanged, match="SHA256:old"):
        judge(ENTRY, CHANGED, expected=SHOWN, replace=False)
    judge(ENTRY, CHANGED, expected=SHOWN, replace=True)


def test_the_expected_key_of_a_new_device_is_accepted() -> None:
    judge(ENTRY, NEW, expected=SHOWN, replace=False)


@pytest.mark.parametrize(
    "text",
    [
        SHOWN,
        f"  {SHOWN}=\r\n",
        SHOWN.removeprefix("SHA256:"),
        f"sha256:{SHOWN.removeprefix('SHA256:')}",
        f"256 {SHOWN} root@press-01 (ED25519)",
        f"press-01\n256 {SHOWN} no comment (ED25519)\n",
        hashlib.sha256(BLOB).hexdigest(),
        "SHA256 " + hashlib.sha256(BLOB).digest().hex(":").upper(),
        f"ssh-ed25519 {base64.b64encode(BLOB).decode()} root@press-01",
        f"press-01 ssh-ed25519 {base64.b64encode(BLOB).decode()}",
    ],
)
def test_a_fingerprint_is_found_in_what_was_typed_or_scanned(text: str) -> None:
    assert expected_in(text) == SHOWN
    judge(ENTRY, NEW, expected=text, replace=False)


@pytest.mark.parametrize(
    "text",
    ["", "SHA256:", SHOWN[:-1], SHOWN + "x", "MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "press-01", "ssh-rsa AAAA*"],
)
def test_what_holds_no_whole_fingerprint_is_a_slip_and_no_alarm(text: str) -> None:
    with pytest.raises(UsageFault) as caught:
        judge(ENTRY, NEW, expected=text, replace=True)
    assert caught.value.reason == "bad_fingerprint"
