"""The trust code as a bare TUF client, for test suites from outside: `python -m fieldops.edges.tuf_seam`.

    --metadata-dir D init ROOT
    --metadata-dir D --metadata-url U refresh
    --metadata-dir D --metadata-url U --target-dir O --target-base-url B --target-name T [--target-name T2] download

Exit status 0 or 1. Metadata stands in D under its plain names (`root.json`, `timestamp.json`), byte for byte as it was served;
downloads stand in O under their percent-encoded names. What it shares with the laptop and the device: the sources, the
fetcher with its limits, the reasons and the one-pass copy. What it leaves out: the rules for names, bundles and policy,
which such a suite's repositories do not follow.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import Updater

from fieldops.bundles.trust import refuse
from fieldops.deadline import Deadline
from fieldops.edges.blobs import bring
from fieldops.edges.disk import write_whole
from fieldops.edges.tuf_reasons import refusal
from fieldops.edges.tuf_refresh import LIMITS, SourceFetcher
from fieldops.edges.usb import HttpSource
from fieldops.errors import FieldopsError

LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    path: str
    sha256: str
    size: int


def main(words: list[str]) -> int:
    arguments = _parser().parse_args(words)
    deadline = Deadline.after(LONGEST_S, time.monotonic)
    try:
        if arguments.verb == "init":
            write_whole(arguments.metadata_dir / "root.json", arguments.root.read_bytes())
            return 0
        with httpx.Client(timeout=15.0) as client:
            fetcher = SourceFetcher(HttpSource(arguments.metadata_url, client), deadline)
            updater = _refresh(arguments.metadata_dir, fetcher)
            if arguments.verb == "download":
                _download(arguments, updater, fetcher, HttpSource(arguments.target_base_url, client), deadline)
    except (FieldopsError, OSError) as error:
        print(f"tuf_seam: {getattr(error, 'reason', 'io_error')}: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 1
    return 0


def _refresh(folder: Path, fetcher: SourceFetcher) -> Updater:
    try:
        updater = Updater(str(folder), "", fetcher=fetcher, config=LIMITS, bootstrap=None)
        updater.refresh()
    except (RepositoryError, DownloadError) as error:
        raise refusal(error, fetcher.last, bytes(fetcher.data), fetcher.source.name) from error
    return updater


def _download(
    arguments: argparse.Namespace, updater: Updater, fetcher: SourceFetcher, source: HttpSource, deadline: Deadline
) -> None:
    consistent = bool(Metadata[Root].from_file(str(arguments.metadata_dir / "root.json")).signed.consistent_snapshot)
    for name in arguments.target_name:
        try:
            info = updater.get_targetinfo(name)
        except (RepositoryError, DownloadError) as error:
            raise refusal(error, fetcher.last, bytes(fetcher.data), fetcher.source.name) from error
        if info is None:
            raise refuse("unknown_target", f"no signed {name!a}")
        bring(arguments.target_dir / quote(name, ""), source, _wanted(name, info, consistent=consistent), deadline)


def _wanted(name: str, info: TargetFile, *, consistent: bool) -> _Wanted:
    sha256 = info.hashes.get("sha256")
    if sha256 is None:
        raise refuse("malformed", f"{name!a} is signed without a SHA-256")
    folder, slash, file = name.rpartition("/")
    return _Wanted(name, quote(f"{folder}{slash}{sha256}.{file}" if consistent else name), sha256, info.length)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fieldops.edges.tuf_seam")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path, default=Path())
    parser.add_argument("--target-base-url", default="")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("root", type=Path)
    verbs.add_parser("refresh")
    verbs.add_parser("download")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
