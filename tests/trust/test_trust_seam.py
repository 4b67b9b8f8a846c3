"""The bare TUF client for outside test suites, asked as they ask: by words, over HTTP, and judged by exit status, files and requests."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from fieldops.edges.tuf_seam import main

LATER = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)


@dataclass
class Office:
    """A plain TUF repository in memory, with names and roles that ours would not sign. served: path -> bytes."""

    signer: CryptoSigner = field(default_factory=lambda: CryptoSigner(Ed25519PrivateKey.generate()))
    served: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    roles: dict[str, Any] = field(default_factory=dict)
    consistent: bool = True

    def __post_init__(self) -> None:
        root = Root(expires=LATER, consistent_snapshot=self.consistent)
        for role in ("root", "timestamp", "snapshot", "targets"):
            root.add_key(self.signer.public_key, role)
        self.roles = {
            "root": root,
            "targets": Targets(expires=LATER),
            "snapshot": Snapshot(expires=LATER),
            "timestamp": Timestamp(expires=LATER),
        }
        self.publish()

    @property
    def signed_root(self) -> bytes:
        return self.served["metadata/1.root.json"]

    def _put(self, role: str, *signers: CryptoSigner) -> None:
        metadata = Metadata(self.roles[role])
        for signer in signers or (self.signer,):
            metadata.sign(signer, append=True)
        version = "" if role == "timestamp" or not (self.consistent or role == "root") else f"{self.roles[role].version}."
        self.served[f"metadata/{version}{role}.json"] = metadata.to_bytes()

    def publish(self, *delegated: str) -> None:
        """A new version of all but the root."""
        names = ("targets", *delegated)
        self._put("root")
        for role in names:
            self._put(role)
        snapshot = self.roles["snapshot"]
        for role in names:
            snapshot.meta[f"{role}.json"] = MetaFile(self.roles[role].version)
        self._put("snapshot")
        self.roles["timestamp"].snapshot_meta = MetaFile(snapshot.version)
        self._put("timestamp")

    def bump(self, *roles: str) -> None:
        for role in roles:
            self.roles[role].version += 1

    def add(self, name: str, data: bytes, role: str = "targets") -> None:
        info = TargetFile.from_data(name, data, ["sha256"])
        self.roles[role].targets[name] = info
        folder, slash, file = name.rpartition("/")
        self.served[f"targets/{folder}{slash}{info.hashes['sha256']}.{file}" if self.consistent else f"targets/{name}"] = data


@dataclass
class Client:
    office: Office
    folder: Path
    url: str

    def __post_init__(self) -> None:
        self.metadata, self.targets = self.folder / "metadata", self.folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()

    def init(self) -> int:
        given = self.folder / "initial_root.json"
        given.write_bytes(self.office.signed_root)
        return main(["--metadata-dir", str(self.metadata), "init", str(given)])

    def refresh(self) -> int:
        return main(["--metadata-url", f"{self.url}/metadata", "--metadata-dir", str(self.metadata), "refresh"])

    def download(self, *names: str) -> int:
        words = ["--metadata-url", f"{self.url}/metadata", "--metadata-dir", str(self.metadata)]
        words += [word for name in names for word in ("--target-name", name)]
        return main([*words, "--target-dir", str(self.targets), "--target-base-url", f"{self.url}/targets", "download"])

    def trusted(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.metadata.glob("*.json")}

    def downloaded(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.targets.rglob("*") if path.is_file())


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[Any]:
    servers: list[ThreadingHTTPServer] = []

    def make(office: Office) -> Client:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                pass

            def do_GET(self) -> None:
                path = unquote(self.path.lstrip("/"))
                office.requests.append(path)
                data = office.served.get(path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return Client(office, tmp_path, f"http://127.0.0.1:{server.server_address[1]}")

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(make_client: Any) -> Client:
    made: Client = make_client(Office())
    assert made.init() == 0
    return made


def test_metadata_is_kept_unversioned_and_byte_for_byte(client: Client) -> None:
    assert client.refresh() == 0
    served = client.office.served
    assert client.trusted() == {
        "root.json": served["metadata/1.root.json"],
        "timestamp.json": served["metadata/timestamp.json"],
        "snapshot.json": served["metadata/1.snapshot.json"],
        "targets.json": served["metadata/1.targets.json"],
    }


def test_the_order_of_requests_is_that_of_the_specification(client: Client) -> None:
    assert client.refresh() == 0
    assert client.office.requests == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
    ]
    client.office.requests.clear()
    assert client.refresh() == 0
    assert client.office.requests == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_a_target_is_downloaded_once_under_a_stable_name(client: Client) -> None:
    office = client.office
    for name, data in (("target_file.txt", b"one"), ("path/to/a/file b%2F.txt", b"two")):
        office.add(name, data)
    office.bump("targets", "snapshot", "timestamp")
    office.publish()
    assert client.download("target_file.txt", "path/to/a/file b%2F.txt") == 0
    assert client.downloaded() == [b"one", b"two"]
    names = sorted(path.name for path in client.targets.iterdir())
    office.requests.clear()
    assert client.download("target_file.txt") == 0
    assert not [path for path in office.requests if path.startswith("targets/")]
    assert sorted(path.name for path in client.targets.iterdir()) == names


def test_the_first_target_that_fails_ends_it(client: Client) -> None:
    client.office.add("good", b"good")
    client.office.bump("targets", "snapshot", "timestamp")
    client.office.publish()
    assert client.download("good", "unknown", "good") == 1
    assert client.downloaded() == [b"good"]
    assert client.download("unknown") == 1


def test_a_substituted_target_is_refused_and_leaves_nothing(client: Client) -> None:
    office = client.office
    office.add("first", b"legitimate")
    office.add("second", b"legitimate too")
    office.bump("targets", "snapshot", "timestamp")
    office.publish()
    assert client.download("first") == 0
    for path in [path for path in office.served if path.startswith("targets/")]:
        office.served[path] = b"malicious data"
    assert client.download("second") == 1
    client.download("first")
    assert client.downloaded() == [b"legitimate"]


def test_a_target_that_changed_takes_the_place_of_the_old_one(client: Client) -> None:
    for content in (b"one", b"another"):
        client.office.add("file", content)
        client.office.bump("targets", "snapshot", "timestamp")
        client.office.publish()
        assert client.download("file") == 0
        assert client.downloaded() == [content]


def test_without_consistent_snapshots_names_have_no_prefix(make_client: Any) -> None:
    client = make_client(Office(consistent=False))
    assert client.init() == 0
    client.office.add("a/b/c", b"plain")
    client.office.bump("targets", "snapshot", "timestamp")
    client.office.publish()
    assert client.download("a/b/c") == 0
    assert client.downloaded() == [b"plain"]
    assert "metadata/snapshot.json" in client.office.requests


def test_a_delegated_role_is_found_by_its_pattern(client: Client) -> None:
    office = client.office
    key = office.signer.public_key
    role = DelegatedRole("röle", [key.keyid], 1, terminating=True, paths=["dele/*"])
    office.roles["targets"].delegations = Delegations({key.keyid: key}, {"röle": role})
    office.roles["röle"] = Targets(expires=LATER)
    office.add("dele/x", b"delegated", "röle")
    office.bump("targets", "snapshot", "timestamp")
    office.publish("röle")
    assert client.download("dele/x") == 0
    assert client.downloaded() == [b"delegated"]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_what_has_expired_is_refused(role: str, client: Client) -> None:
    client.office.roles[role].expires = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
    client.office.publish()
    assert client.refresh() == 1
    assert f"{role}.json" not in client.trusted()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_an_older_version_than_the_trusted_one_is_refused(role: str, client: Client) -> None:
    office = client.office
    office.bump("targets", "snapshot", "timestamp")
    office.publish()
    assert client.refresh() == 0
    before = client.trusted()
    office.roles[role].version -= 1
    for above in {"targets": ("snapshot", "timestamp"), "snapshot": ("timestamp",), "timestamp": ()}[role]:
        office.bump(above)
    office.publish()
    assert client.refresh() == 1
    assert client.trusted()[f"{role}.json"] == before[f"{role}.json"]


def test_another_signers_metadata_is_refused(client: Client) -> None:
    assert client.refresh() == 0
    before = client.trusted()
    client.office.signer = CryptoSigner(Ed25519PrivateKey.generate())
    client.office.bump("targets", "snapshot", "timestamp")
    client.office.publish()
    assert client.refresh() == 1
    assert client.trusted() == before


def test_a_root_is_rotated_to_a_new_key(client: Client) -> None:
    office, old = client.office, client.office.signer
    office.signer = CryptoSigner(Ed25519PrivateKey.generate())
    root = office.roles["root"]
    for role in ("root", "timestamp", "snapshot", "targets"):
        root.revoke_key(old.public_key.keyid, role)
        root.add_key(office.signer.public_key, role)
    office.bump("root", "targets", "snapshot", "timestamp")
    office.publish()
    office._put("root", old, office.signer)
    assert client.refresh() == 0
    assert client.trusted()["root.json"] == office.served["metadata/2.root.json"]


def test_a_server_that_is_away_is_told_by_the_exit_status(client: Client) -> None:
    assert main(["--metadata-url", "http://127.0.0.1:9", "--metadata-dir", str(client.metadata), "refresh"]) == 1
    assert main(["--metadata-dir", str(client.metadata), "init", str(client.folder / "none.json")]) == 1


def test_it_is_a_program_that_loads_nothing_heavy(client: Client) -> None:
    """Such a suite starts it hundreds of times."""
    words = ["--metadata-url", f"{client.url}/metadata", "--metadata-dir", str(client.metadata), "refresh"]
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['seam', *{words!r}]\n"
        "try: runpy.run_module('fieldops.edges.tuf_seam', run_name='__main__')\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'textual', 'typer', 'onnxruntime', 'numpy', 'paramiko', 'starlette', 'zeroconf', 'fieldops.wiring'}\n"
        "print(status, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", probe],
        capture_output=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == b"0 []\n"
    assert client.trusted().keys() == {"root.json", "timestamp.json", "snapshot.json", "targets.json"}
