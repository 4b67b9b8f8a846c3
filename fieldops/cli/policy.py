"""`fieldops policy ...`"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from fieldops.audit.entry import Result, Subject
from fieldops.bundles.approvals import NEEDED, may_approve
from fieldops.cli.call import Call, group
from fieldops.cli.diagnostics import agreed, at_terminal, tell
from fieldops.cli.documents.trust import Pinned, PolicyCheck, TrustState
from fieldops.cli.options import Json
from fieldops.cli.output import document, instant, line, pairs, table
from fieldops.errors import CheckFailed, UsageFault
from fieldops.policy import PolicyDocument, decode_draft, role_of

app = group()

SOON_S = 7 * 86_400


@app.command()
def pin(
    context: typer.Context,
    root: Annotated[Path, typer.Argument(metavar="ROOT.json", help="From the release team.")],
    expect: Annotated[
        str | None, typer.Option("--expect-fingerprint", metavar="HEX", help="SHA-256, had by another way than the file.")
    ] = None,
    json: Json = False,
) -> None:
    """Make this the first root of trust of this laptop. Everything later must descend from it."""
    call = Call.of(context, json=json)
    try:
        data = root.read_bytes()
    except OSError as error:
        raise UsageFault(f"{root}: {error.strerror}", reason="bad_file", next_step="name the root.json you were given") from error
    if expect is None:
        _confirm(data)
    fingerprint = call.laptop.trust.pin(data, expect)
    call.laptop.gate().note("policy.pin", subject=Subject(kind="trust", digest=fingerprint), result=Result(status="done"))
    if json:
        document(Pinned(root_sha256=fingerprint))
        return
    line(f"pinned {fingerprint}")


def _confirm(root: bytes) -> None:
    """The first root is the one thing nothing vouches for but a person."""
    if not at_terminal():
        raise UsageFault(
            "nobody is at a terminal to confirm the fingerprint",
            reason="needs_fingerprint",
            next_step="give --expect-fingerprint HEX, had by another way than the file",
        )
    tell(f"this root's fingerprint is {hashlib.sha256(root).hexdigest()}")
    agreed("is it the one that the release team gave you by another way than this file?")


@app.command()
def show(context: typer.Context, json: Json = False) -> None:
    """What this laptop trusts, and who may do what."""
    call = Call.of(context, json=json)
    facts, policy = call.laptop.trust.facts(), call.laptop.trust.policy()
    actor = call.laptop.technician.actor()
    role = role_of(policy, actor, call.laptop.clock.now())
    if json:
        from fieldops.operations.runbook import available

        document(
            TrustState(
                root_version=facts.root_version,
                root_sha256=facts.root_sha256,
                timestamp_version=facts.timestamp_version,
                expires=facts.expires,
                clock_floor=facts.clock_floor,
                clock_behind=facts.clock_behind,
                actor=str(actor),
                role=role,
                roles=policy.roles,
                people=list(policy.people),
                runbooks=available(call.laptop.trust),
            )
        )
        return
    pairs(
        [
            ("root", f"version {facts.root_version}, {facts.root_sha256}" if facts.root_version else "none pinned"),
            ("metadata", f"version {facts.timestamp_version}" if facts.timestamp_version else "none yet"),
            ("expires", instant(facts.expires)),
            ("clock", "BEHIND what is signed; the signed time is used" if facts.clock_behind else "plausible"),
            ("you are", f"{actor}: {role or 'no role; you may read, and roll back to last-good'}"),
            ("break-glass", _break_glass(policy, call.laptop.clock.now())),
        ]
    )
    if policy.roles:
        line()
        table(("ROLE", "MAY"), [(name, ", ".join(kinds)) for name, kinds in policy.roles.items()])
        line()
        table(
            ("PERSON", "ROLE", "KEY", "UNTIL"),
            [(each.label, each.role, key, instant(each.until)) for key, each in policy.people.items()],
            empty="nobody is listed",
        )


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[POLICY.json]", help="A draft to check instead.")] = None,
    json: Json = False,
) -> int:
    """Whether trust is in order for the next visit: root, expiry, clock, your role. Exit 7 when not."""
    call = Call.of(context, json=json)
    if file is not None:
        try:
            decode_draft(file.read_bytes())
        except OSError as error:
            raise UsageFault(f"{file}: {error.strerror}", reason="bad_file", next_step="name a file that can be read") from error
        problems = []
    else:
        problems = _problems(call)
    if json:
        document(PolicyCheck(ok=not problems, problems=problems))
    else:
        for problem in problems:
            line(problem)
        if not problems:
            line(f"{file or 'trust and policy'} in order")
    return CheckFailed.exit_code if problems else 0


def _break_glass(policy: PolicyDocument, now: float) -> str:
    """Whether expired metadata may ever be used, and who could approve it."""
    if not policy.max_stale_days:
        return "never: expired metadata is refused"
    able = sum(may_approve(policy, person, now) for person in policy.people)
    return f"up to {policy.max_stale_days} days, with {NEEDED['accept_expired']} approvals; {able} people may approve"


def _problems(call: Call) -> list[str]:
    from fieldops.operations.readiness import of_trust

    laptop, now = call.laptop, call.laptop.clock.now()
    found = of_trust(laptop.trust.facts(), laptop.trust.policy(), laptop.technician.actor(), now, now + SOON_S)
    return [f"{each.detail}: {each.next}" for each in found if not each.ok]
