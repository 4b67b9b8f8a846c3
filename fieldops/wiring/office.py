"""What is prepared away from any device: the release team's repository and keys, installation kits, sticks to renew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fieldops.edges.clock import SystemClock

if TYPE_CHECKING:
    from fieldops.deadline import Deadline
    from fieldops.edges.tuf_keys import KeyFolder
    from fieldops.edges.tuf_signer import ReleaseRepo
    from fieldops.operations.kit import MadeKit
    from fieldops.operations.release import Appraiser
    from fieldops.operations.renew import Renewable
    from fieldops.ports import OnProgress, Source

    # for the front ends, which know no edge
    Release: TypeAlias = ReleaseRepo
    ReleaseKeys: TypeAlias = KeyFolder


class Office:
    def __init__(self, clock: SystemClock) -> None:
        self.clock = clock

    def release(self, repo: Path, keys: KeyFolder) -> ReleaseRepo:
        """Raises UsageFault when there is no repository."""
        from fieldops.edges.tuf_signer import ReleaseRepo

        return ReleaseRepo(repo, keys, self.clock)

    def new_release(self, repo: Path, keys: KeyFolder, thresholds: Mapping[str, int]) -> ReleaseRepo:
        """With new keys, or those that lie in the folder. Raises UsageFault when there is a repository already."""
        from fieldops.edges.tuf_signer import ReleaseRepo

        return ReleaseRepo.init(repo, keys, self.clock, thresholds=thresholds)

    def sign_carried(self, keys: KeyFolder, role: str, names: Sequence[str], file: Path) -> list[str]:
        """Sign a pending role that was carried here. What it says, a line each."""
        from fieldops.edges.tuf_signer import ReleaseRepo

        return ReleaseRepo.sign_carried(keys, role, names, file)

    def release_keys(self, keys: Path, ask: Callable[[str], bytes] | None, passphrase_file: Path | None) -> KeyFolder:
        """ask: for a key's passphrase, by its name; None: nobody can be asked."""
        from fieldops.edges.tuf_keys import KeyFolder, passphrase_in

        return KeyFolder(keys, passphrase_in(passphrase_file) if passphrase_file is not None else ask)

    @property
    def appraiser(self) -> Appraiser:
        from fieldops.edges.appraisal import OnnxAppraiser

        return OnnxAppraiser()

    def build_kit(self, platform: str, python: str, dest: Path, deadline: Deadline, progress: OnProgress) -> MadeKit:
        """While online. Raises DeviceCannot (no_wheel), LinkFault (no_index)."""
        from fieldops.edges.kit import build as maker
        from fieldops.operations.kit import build

        return build(maker, platform, python, dest, deadline, progress)

    def read_kit(self, folder: Path) -> MadeKit:
        """Raises UsageFault when it is not as it was built."""
        from fieldops.edges.kit import read

        return read(folder)

    def renewal(self, file: Path) -> Source:
        """A renewal file as a source of metadata. Raises TrustRefused (malformed, oversized), UsageFault."""
        from fieldops.edges.renewal import RenewalFile

        return RenewalFile.read_from(file)

    def stick_at(self, path: str) -> Renewable:
        """A stick that can be written to. Raises UsageFault when there is none."""
        from fieldops.edges.renewal import StickFolder

        return StickFolder.at(path)

    # --- kept inputs, for who retrains -----------------------------------------------------------------------------------------

    def new_sample_key(self, file: Path) -> str:
        """Its public key. Raises UsageFault where a file is already."""
        from fieldops.edges.samples import new_key

        return new_key(file)

    def open_samples(self, export: Path, key_file: Path, to: Path) -> tuple[int, int]:
        """(inputs opened, inputs that are for other keys). Raises UsageFault, StorageFault."""
        from fieldops.edges.samples import open_export

        return open_export(export, key_file, to)
