"""Every change that can be made to a device. The union is closed and holds only kinds that are implemented.

A step says *what*, never how: uploads are the means of Stage and RotateTrust, not steps of their own.
"""

from __future__ import annotations

from msgspec import Struct

from fieldops.tiers import AS_SIGNED, TierSettings, tiers_in_words


class _Step(Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """Common shape: JSON objects tagged by `kind`; an unknown field or kind is refused."""


class Enrol(_Step, frozen=True, kw_only=True, tag="Enrol"):
    """Pin a laptop on a device, and on the first one the root of trust."""

    laptop_key: str  # base64 of the laptop's raw 32-byte Ed25519 public key
    laptop_certificate: str  # PEM; what the laptop shows on the LAN port
    root: str  # the exact text of the first trusted root.json; ignored by a device that has one
    label: str = ""


class RotateTrust(_Step, frozen=True, kw_only=True, tag="RotateTrust"):
    """Bring newer signed metadata, and the policy's targets (people, rules, golden sets). TUF decides, not the sender."""

    timestamp_version: int  # of the metadata offered


class Approval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's SSH signature over a statement (bundles/approvals.py). statement: the exact text that was signed."""

    statement: str
    signature: str  # armoured SSHSIG, namespace fieldops-approval@v1


# Fields that are not used are left out, so that an older agent, which does not know them, still takes the step.
class Stage(_Step, frozen=True, kw_only=True, tag="Stage", omit_defaults=True):
    """Put a signed version onto the device, beside the active one.

    accept_expired: its metadata may be too old. With it, and below the floor, the device asks for approvals.
    """

    channel: str
    model: str
    version: str
    manifest_sha256: str  # hex; what the laptop verified. The device refuses when its own verification differs.
    accept_expired: bool = False
    approvals: list[Approval] = []


class Activate(_Step, frozen=True, kw_only=True, tag="Activate", omit_defaults=True):
    """Validate a staged version, then let it answer on trial until committed or the deadline.

    Between the two it may stand in the shadow of the version in service for a while, and see a copy of what that is asked.
    """

    model: str
    version: str
    trial_s: int = 300  # 5..86400; the device reverts by itself when this passes without Commit
    attempts: int = 3  # starts the device may make with it before it reverts
    shadow_s: int = 0  # 1..3600; 0: no shadow


class Commit(_Step, frozen=True, kw_only=True, tag="Commit"):
    """End the trial: the candidate becomes active, the former one last-good."""

    model: str
    version: str


class Revert(_Step, frozen=True, kw_only=True, tag="Revert", omit_defaults=True):
    """Back to last-good (to None; always allowed), or to a listed version, which is validated like a new one.

    approvals: for a listed version below the device's floor.
    """

    model: str
    to: str | None = None
    approvals: list[Approval] = []


class Prune(_Step, frozen=True, kw_only=True, tag="Prune"):
    """Remove versions from the device's disk. Never what answers, nor what it would go back to."""

    model: str
    versions: list[str] = []  # none named: every one that is stored or quarantined


class SetTiers(_Step, frozen=True, kw_only=True, tag="SetTiers", omit_defaults=True):
    """When the large model of a cascade may run on this device. Without settings: as signed."""

    model: str
    settings: TierSettings = AS_SIGNED


class Recalibrate(_Step, frozen=True, kw_only=True, tag="Recalibrate", omit_defaults=True):
    """Fit the temperature of each tier to labels of inputs that the device kept. Kept only where it improves on unseen labels."""

    model: str
    labels: dict[str, int] = {}  # sample id -> what it was
    undo: bool = False  # instead: back to the temperatures before the last fit


class Arm(_Step, frozen=True, kw_only=True, tag="Arm", omit_defaults=True):
    """Let the device activate a staged version by itself inside a window, and commit or revert it, with nobody there.

    start, end: Unix seconds, by the device's clock. Outside of the limits it waits; None: no limit.
    """

    model: str
    version: str
    start: float
    end: float
    trial_s: int = 300  # half of it is watched before the device commits
    load: float | None = None  # highest load average a core
    hottest_c: float | None = None
    battery_pct: float | None = None  # lowest charge, while nothing charges it


class Disarm(_Step, frozen=True, kw_only=True, tag="Disarm"):
    """Take an Arm back. The version stays staged."""

    model: str


class Bench(_Step, frozen=True, kw_only=True, tag="Bench", omit_defaults=True):
    """Measure a version on the device. Loads it, so policy may forbid it while serving."""

    model: str
    samples: int = 256  # 64..100000; p99 needs 662
    warmup: int = 50
    save_baseline: bool = False
    tune: bool = False  # first find the number of threads that is fastest here; kept with the baseline


class Adopt(_Step, frozen=True, kw_only=True, tag="Adopt"):
    """Take a model that was put there by hand as version 0.0.0 and last-good, kept and measured as the baseline."""

    model: str
    samples: int = 256  # of the benchmark; as Bench


class Unenrol(_Step, frozen=True, kw_only=True, tag="Unenrol"):
    """Forget this laptop on the device. With the agent's software taken away afterwards it undoes Enrol."""

    laptop: str  # the laptop's id; a laptop forgets only itself
    label: str = ""


class Upgrade(_Step, frozen=True, kw_only=True, tag="Upgrade"):
    """Install a signed agent beside the one that runs, and let it answer on trial. Without KeepAgent the old one comes back."""

    channel: str
    agent: str  # the signed name: fieldops-agent-<platform>-py<X.Y>
    version: str
    kit_sha256: str  # hex; what the laptop verified. The device refuses when its own verification differs.
    trial_s: int = 300  # 5..86400, from its second answer on; the device goes back by itself when this passes without KeepAgent
    answer_s: int = 90  # 5..600; how long each of its starts may take to answer


class KeepAgent(_Step, frozen=True, kw_only=True, tag="KeepAgent"):
    """End the trial of a new agent, which takes this step itself: it is started from now on, and no older one is taken."""

    version: str


Agent = Enrol | Unenrol | Upgrade | KeepAgent  # of the agent itself, and whom it knows
Care = Prune | SetTiers | Recalibrate | Arm | Disarm | Bench  # beside the transaction: they change no version that answers
Step = (
    Enrol
    | RotateTrust
    | Stage
    | Activate
    | Commit
    | Revert
    | Prune
    | SetTiers
    | Recalibrate
    | Arm
    | Disarm
    | Bench
    | Adopt
    | Unenrol
    | Upgrade
    | KeepAgent
)
STEP_KINDS: tuple[type[Step], ...] = (
    Enrol,
    RotateTrust,
    Stage,
    Activate,
    Commit,
    Revert,
    Prune,
    SetTiers,
    Recalibrate,
    Arm,
    Disarm,
    Bench,
    Adopt,
    Unenrol,
    Upgrade,
    KeepAgent,
)


def kind_of(step: Step) -> str:
    """The tag, as in policy documents and the audit log."""
    return type(step).__name__


def subject_of(step: Step) -> tuple[str, str]:
    """(kind, name) of what the step changes: ("model", "digits"), ("laptop", label), ("agent", its signed name) or ("trust", "")."""
    match step:
        case Enrol() | Unenrol():
            return "laptop", step.label
        case RotateTrust():
            return "trust", ""
        case Upgrade():
            return "agent", step.agent
        case KeepAgent():
            return "agent", ""
        case (
            Stage()
            | Activate()
            | Commit()
            | Revert()
            | Prune()
            | SetTiers()
            | Recalibrate()
            | Arm()
            | Disarm()
            | Bench()
            | Adopt()
        ):
            return "model", step.model


def describe(step: Step) -> str:
    """One line for a person: the dry run, the confirm dialog and the audit list print this."""
    match step:
        case Enrol() | Unenrol() | Upgrade() | KeepAgent():
            return _describe_agent(step)
        case RotateTrust():
            return f"bring signed metadata {step.timestamp_version} and the policy"
        case Stage():
            return f"stage {step.model} {step.version} from {step.channel}{' THOUGH ITS METADATA EXPIRED' * step.accept_expired}"
        case Activate():
            shadow = f"let it see copies of live requests for {step.shadow_s} s, " * bool(step.shadow_s)
            return f"validate {step.model} {step.version}, {shadow}then trial for {step.trial_s} s"
        case Commit():
            return f"commit {step.model} {step.version}"
        case Revert():
            return f"revert {step.model} to {step.to or 'last-good'}"
        case Prune() | SetTiers() | Recalibrate() | Arm() | Disarm() | Bench():
            return _describe_care(step)
        case Adopt():
            return f"adopt the running {step.model} as version 0.0.0 and last-good, and measure it"


def _describe_agent(step: Agent) -> str:
    match step:
        case Enrol():
            return f"enrol this laptop{f' as {step.label}' if step.label else ''}"
        case Unenrol():
            return f"forget this laptop{f' ({step.label})' if step.label else ''}"
        case Upgrade():
            return f"install agent {step.version} from {step.channel} beside the one that runs, on trial for {step.trial_s} s"
        case KeepAgent():
            return f"keep agent {step.version}"


def _fit_in_words(step: Recalibrate) -> str:
    return f"recalibrate {step.model} from {len(step.labels)} labelled inputs, if that improves on unseen ones"


def _describe_care(step: Care) -> str:
    match step:
        case Prune():
            return f"remove {step.model} {', '.join(step.versions) or 'versions that are neither active nor last-good'}"
        case SetTiers():
            return f"tiers of {step.model}: {tiers_in_words(step.settings)}"
        case Recalibrate():
            return f"bring back the former calibration of {step.model}" if step.undo else _fit_in_words(step)
        case Arm():
            return f"arm {step.model} {step.version}: tried by the device itself within {(step.end - step.start) / 3600:.1f} h"
        case Disarm():
            return f"disarm {step.model}"
        case Bench():
            return f"benchmark {step.model}, {step.samples} samples{', and find its number of threads' * step.tune}"


def undo_of(step: Step, *, previous: str | None) -> str:
    """How this is undone, in words for the confirm dialog. previous: the version active before; None when unknown."""
    match step:
        case Enrol() | Unenrol() | Upgrade() | KeepAgent():
            return _undo_of_agent(step)
        case RotateTrust():
            return "nothing to undo: trust only moves forward"
        case Stage():
            return "prune the staged version"
        case Activate():
            return f"the device reverts to {previous or 'last-good'} by itself unless committed"
        case Commit():
            return f"roll back to {previous or 'last-good'}, which is kept"
        case Revert():
            return f"activate {previous or 'the version before'} again"
        case Prune() | SetTiers() | Recalibrate() | Arm() | Disarm() | Bench():
            return _undo_of_care(step)
        case Adopt():
            return "nothing to undo: the model goes on answering as before"


def _undo_of_agent(step: Agent) -> str:
    match step:
        case Enrol():
            return "remove the laptop from the signed policy"
        case Unenrol():
            return "enrol this laptop again"
        case Upgrade():
            return "the device goes back to the agent of before by itself unless the new one is kept"
        case KeepAgent():
            return "nothing to undo: agents only move forward"


def _undo_of_care(step: Care) -> str:
    match step:
        case Prune():
            return "stage the version again"
        case SetTiers():
            return f"set them again as they were; `fieldops models tiers DEVICE {step.model}` alone brings back what was signed"
        case Recalibrate():
            return "recalibrate again" if step.undo else f"`fieldops models recalibrate DEVICE {step.model} --undo`"
        case Arm():
            return f"`fieldops models disarm DEVICE {step.model}`"
        case Disarm():
            return "arm it again"
        case Bench():
            return "nothing to undo"


# --- changes of the laptop itself ---------------------------------------------------------------------------------------


class AddDevice(_Step, frozen=True, kw_only=True, tag="AddDevice"):
    table: str  # the `[[device]]` table that is appended to fleet.toml
    name: str


class RemoveDevice(_Step, frozen=True, kw_only=True, tag="RemoveDevice"):
    name: str


class SetDeviceId(_Step, frozen=True, kw_only=True, tag="SetDeviceId"):
    """Bind an inventory entry to the identity that a verified link proved."""

    name: str
    id: str
    formerly: str = ""


class TrustHostKey(_Step, frozen=True, kw_only=True, tag="TrustHostKey"):
    """Accept an SSH host key, new or in place of another."""

    host: str
    port: int
    key_type: str
    key: str  # base64 of the key blob
    replaces: str = ""  # fingerprint of the key it replaces


Change = AddDevice | RemoveDevice | SetDeviceId | TrustHostKey


def describe_change(change: Change) -> str:
    match change:
        case AddDevice():
            return f"add {change.name} to the inventory"
        case RemoveDevice():
            return f"remove {change.name} from the inventory"
        case SetDeviceId():
            return f"{change.name} is {change.id[:8]}"
        case TrustHostKey():
            return f"trust the host key of {change.host}:{change.port}" + (" in place of another" if change.replaces else "")
