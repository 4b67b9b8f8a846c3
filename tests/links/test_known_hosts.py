"""Our reading of known_hosts beside ssh's own: the same file, the same verdict."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from fieldops.edges import keys, ssh
from fieldops.edges.known_hosts import KnownHosts
from fieldops.errors import StorageFault
from tests.links.conftest import HAS_SSHD, SshServer, soon

NEEDS_SSH = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client: apt-get install openssh-client")


def _key(folder: Path, name: str) -> tuple[str, bytes]:
    """(`type base64`, blob) of a new key."""
    keys.ssh_keygen(folder / name)
    line = (folder / f"{name}.pub").read_text().strip()
    return line, keys.ssh_public_blob(folder / name)


@pytest.fixture
def two(tmp_path: Path) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return _key(tmp_path, "one"), _key(tmp_path, "two")


@pytest.mark.parametrize(
    ("lines", "host", "port", "verdict"),
    [
        ("", "edge", 22, "unknown"),
        ("edge {one}", "edge", 22, "ok"),
        ("EDGE {one}", "Edge", 22, "ok"),
        ("edge {two}", "edge", 22, "changed"),
        ("edge {two}\nedge {one}", "edge", 22, "ok"),
        ("edge {one}", "edge2", 22, "unknown"),
        ("other,edge,10.0.0.1 {one} a comment here", "10.0.0.1", 22, "ok"),
        ("edge {one}", "edge", 2222, "ok"),  # as ssh: a line without port may vouch for another port
        ("edge {two}", "edge", 2222, "unknown"),  # but never accuses it
        ("[edge]:2222 {one}", "edge", 2222, "ok"),
        ("[edge]:2222 {one}", "edge", 22, "unknown"),
        ("[edge]:2222 {two}\nedge {one}", "edge", 2222, "changed"),
        ("[10.0.0.*]:2222 {one}", "10.0.0.7", 2222, "ok"),
        ("[10.0.0.*]:2222 {one}", "10.0.1.7", 2222, "unknown"),
        ("*.plant,!bad.plant {one}", "good.plant", 22, "ok"),
        ("*.plant,!bad.plant {one}", "bad.plant", 22, "unknown"),
        ("edge? {one}", "edge1", 22, "ok"),
        ("edge? {one}", "edge12", 22, "unknown"),
        ("[fe80::1%eth0]:2222 {one}", "fe80::1%eth0", 2222, "ok"),
        ("edge {one}\n@revoked * {one}", "edge", 22, "revoked"),
        ("edge {one}\n@revoked * {two}", "edge", 22, "ok"),
        ("edge {one}\n@revoked elsewhere {one}", "edge", 22, "ok"),
        ("@cert-authority * {two}", "edge", 22, "unknown"),
        ("@cert-authority * {two}\nedge {one}", "edge", 22, "ok"),
        ("garbage\n# edge {two}\n@later edge {two}\nedge ssh-ed25519 !!!!\nedge {one}", "edge", 22, "ok"),
        ("edge ssh-rsa {two_blob}\nedge {one}", "edge", 22, "ok"),  # a line whose blob is of another type is no key
    ],
)
def test_verdicts(lines: str, host: str, port: int, verdict: str, two: tuple[tuple[str, bytes], tuple[str, bytes]]) -> None:
    (one, blob), (other, other_blob) = two
    text = lines.format(one=one, two=other, two_blob=base64.b64encode(other_blob).decode())
    assert KnownHosts.parse(text).verify(host, port, blob).kind == verdict


def test_a_host_vouched_for_by_an_authority_only_is_unknown_and_it_says_why(
    two: tuple[tuple[str, bytes], tuple[str, bytes]],
) -> None:
    (one, blob), _ = two
    verdict = KnownHosts.parse(f"@cert-authority *.plant {one}").verify("edge.plant", 22, blob)
    assert (verdict.kind, verdict.by_authority) == ("unknown", True)


def test_what_cannot_be_read_is_counted(two: tuple[tuple[str, bytes], tuple[str, bytes]]) -> None:
    assert KnownHosts.parse(f"# fine\n\nedge {two[0][0]}\nrubbish\n@new x y z\n").unread == 2


def test_several_files_are_read_as_one_and_a_missing_one_is_empty(
    tmp_path: Path, two: tuple[tuple[str, bytes], tuple[str, bytes]]
) -> None:
    (one, blob), (other, other_blob) = two
    (tmp_path / "own").write_text(f"edge {one}\n")
    (tmp_path / "persons").write_text(f"edge2 {other}")
    known = KnownHosts.load([tmp_path / "own", tmp_path / "none", tmp_path / "persons"])
    assert known.verify("edge", 22, blob).kind == known.verify("edge2", 22, other_blob).kind == "ok"
    with pytest.raises(StorageFault):
        KnownHosts.load([tmp_path])


@NEEDS_SSH
@pytest.mark.parametrize(("host", "port"), [("edge.plant", 22), ("10.1.2.3", 2200)])
def test_hashed_names(host: str, port: int, tmp_path: Path, two: tuple[tuple[str, bytes], tuple[str, bytes]]) -> None:
    (one, blob), _ = two
    file = tmp_path / "known_hosts"
    file.write_text(f"{host if port == 22 else f'[{host}]:{port}'} {one}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert host not in file.read_text()
    known = KnownHosts.load([file])
    assert known.verify(host, port, blob).kind == "ok"
    assert known.verify(host, port + 1, blob).kind == ("ok" if port == 22 else "unknown")
    assert known.verify("elsewhere", port, blob).kind == "unknown"


@pytest.mark.needs_sshd
@pytest.mark.skipif(not HAS_SSHD, reason="needs OpenSSH's server: apt-get install openssh-server")
@NEEDS_SSH
@pytest.mark.parametrize("server", ["sshd"], indirect=True)
def test_ssh_itself_says_the_same(server: SshServer, tmp_path: Path) -> None:
    """Each file is given to the real client; it goes on to log in exactly when we say ok."""
    assert server.entry.ssh is not None
    port = server.entry.ssh.port
    blob = ssh.host_key(server.entry, soon())[1]
    ours = " ".join((server.folder / "host_key.pub").read_text().split()[:2])
    other, _ = _key(tmp_path, "other")
    at = f"[127.0.0.1]:{port}"
    hashed = tmp_path / "hashed"
    hashed.write_text(f"{at} {ours}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hashed], check=True, capture_output=True)
    cases = {
        "known": f"{at} {ours}",
        "by address only": f"127.0.0.1 {ours}",
        "wildcard": f"[127.0.0.*]:{port} {ours}",
        "negated": f"[127.0.0.*]:{port},!{at} {ours}",
        "other": f"{at} {other}",
        "both": f"{at} {other}\n{at} {ours}",
        "revoked": f"{at} {ours}\n@revoked * {ours}",
        "revoked elsewhere": f"{at} {ours}\n@revoked 10.* {ours}",
        "hashed": hashed.read_text(),
        "garbage before": f"??\n@what {at} {ours}\n{at} {ours}",
        "authority beside": f"@cert-authority * {other}\n{at} {ours}",
        "nothing": "",
    }
    said: dict[str, tuple[bool, bool]] = {}
    file = tmp_path / "known_hosts"
    for name, text in cases.items():
        file.write_text(text + "\n")
        options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={file}", "GlobalKnownHostsFile=none", "BatchMode=yes"]
        done = subprocess.run(
            ["ssh", "-F", "none", "-i", server.identity, "-p", str(port), *(f"-o{o}" for o in options), "127.0.0.1", ":"],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said[name] = (done.returncode == 0, KnownHosts.load([file]).verify("127.0.0.1", port, blob).kind == "ok")
    assert {name: pair for name, pair in said.items() if pair[0] != pair[1]} == {}
    assert said["known"][0]
    assert not said["other"][0]
