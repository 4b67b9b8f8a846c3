"""What a source offers, each version with the reason why it is not usable: for a person to choose from, before any copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldops.bundles.trust import SignedBundle, Target, bundles_in, check_manifest, check_sizes, check_usable, refuse
from fieldops.errors import TrustRefused
from fieldops.ports import Candidate, Source

_PRESENCE = {
    "missing": "it is not there",
    "hash_mismatch": "it is cut off",
    "too_long": "it is longer than what was signed",
    "not_regular_file": "it is no regular file",
}


def offers(targets: Sequence[Target], lapsed: Mapping[str, str], source: Source, *, outdated: bool) -> list[Candidate]:
    """targets, lapsed: of verified metadata. outdated: the source's own is older."""
    signed = bundles_in(targets)
    # A stick need not hold everything that is signed.
    carried = [bundle for bundle in signed if any(_presence(source, target) != "missing" for target in bundle.files)]
    found = [_candidate(bundle, source, _obstacle(bundle, lapsed, source)) for bundle in carried]
    if outdated:
        listed = {(bundle.channel, bundle.model, bundle.version) for bundle in signed}
        late = refuse("rollback", "newer signed metadata than this stick's no longer lists this version")
        found += [
            _candidate(bundle, source, late)
            for bundle in bundles_in(claimed(source))
            if (bundle.channel, bundle.model, bundle.version) not in listed
        ]
    return found


def refused_offers(source: Source, error: TrustRefused) -> list[Candidate]:
    """What a refused source claims to hold, each with that refusal."""
    return [_candidate(bundle, source, error) for bundle in bundles_in(claimed(source))]


def claimed(source: Source) -> list[Target]:
    """Not verified: nothing of it may be used."""
    from fieldops.edges.tuf_refresh import describe_unverified

    return describe_unverified(source)


def _obstacle(bundle: SignedBundle, lapsed: Mapping[str, str], source: Source) -> TrustRefused | None:
    role = bundle.files[0].role
    if role in lapsed:
        return refuse("expired", lapsed[role])
    try:
        check_usable(bundle)
        check_sizes(bundle.files)
        for target in bundle.files:
            reason = _presence(source, target)
            if reason:
                return refuse(reason, f"{target.name} on {source.name}: {_PRESENCE.get(reason, 'it cannot be read')}")
        if not bundle.is_agent:
            data = source.read(bundle.manifest.path, bundle.manifest.size)
            check_manifest(data, bundle)
        else:
            _ = bundle.head
    except TrustRefused as error:
        return error
    return None


def _presence(source: Source, target: Target) -> str:
    """The reason a file cannot be what was signed, by its length alone; "" when it may be. Reads at most one piece."""
    at = max(target.size - 1, 0)
    try:
        rest = len(next(source.chunks(target.path, at), b""))
    except TrustRefused as error:
        return error.reason
    expected = target.size - at
    if rest == expected:
        return ""
    return "too_long" if rest > expected else "hash_mismatch"


def _candidate(bundle: SignedBundle, source: Source, error: TrustRefused | None) -> Candidate:
    return Candidate(
        channel=bundle.channel,
        model=bundle.model,
        version=bundle.version,
        counter=bundle.counter,
        size_bytes=bundle.size_bytes,
        source=source.name,
        reason=error.reason if error else "",
        message=error.message if error else "",
    )
