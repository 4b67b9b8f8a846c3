"""The tree against the RFC's recursive definition, and its proofs against everything that is not one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldops.audit import merkle

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(70)]
SIZES = st.integers(1, len(LEAVES))


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return merkle.node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


# transparency-dev/merkle's own inputs and roots for sizes 1..8
KNOWN_INPUTS = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_are_those_of_the_published_vectors() -> None:
    leaves = [merkle.leaf_hash(data) for data in KNOWN_INPUTS]
    assert [merkle.root_of(leaves[:size]).hex() for size in range(1, 9)] == KNOWN_ROOTS
    assert merkle.root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(len(LEAVES)))
def test_the_frontier_has_the_root_of_the_definition(size: int) -> None:
    frontier = merkle.Frontier().extend(LEAVES[:size])
    assert frontier.root() == by_definition(LEAVES[:size])
    assert merkle.Frontier.decode(size, frontier.encode()) == frontier


def test_every_leaf_of_every_size_is_proved_included() -> None:
    for size in range(1, 34):
        root = merkle.root_of(LEAVES[:size])
        for index in range(size):
            proof = merkle.inclusion(LEAVES[:size], index)
            assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root)


def test_every_growth_is_proved_consistent() -> None:
    for new in range(34):
        for old in range(new + 1):
            proof = merkle.consistency(LEAVES[:new], old)
            roots = merkle.root_of(LEAVES[:old]), merkle.root_of(LEAVES[:new])
            assert merkle.verify_consistency(old, new, *roots, proof)


@given(size=SIZES, data=st.data())
@settings(max_examples=150, deadline=None)
def test_an_inclusion_proof_holds_for_nothing_else(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion(LEAVES[:size], index)
    root = merkle.root_of(LEAVES[:size])
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index)) if size > 1 else None
    if other is not None:
        assert not merkle.verify_inclusion(LEAVES[other], index, size, proof, root)
        assert not merkle.verify_inclusion(LEAVES[index], other, size, proof, root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, [*proof, root], root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, proof, LEAVES[0][::-1])
    if proof:
        assert not merkle.verify_inclusion(LEAVES[index], index, size, proof[:-1], root)


@given(size=SIZES, data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_rewritten_history_has_no_consistency_proof(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*LEAVES[:size]]
    rewritten[changed] = merkle.leaf_hash(b"another")
    proof = merkle.consistency(rewritten, old)
    seen, claimed = merkle.root_of(LEAVES[:old]), merkle.root_of(rewritten)
    assert not merkle.verify_consistency(old, size, seen, claimed, proof)


@given(old=st.integers(-2, 80), new=st.integers(-2, 80), proof=st.lists(st.binary(max_size=40), max_size=8))
@settings(max_examples=200, deadline=None)
def test_invented_proofs_are_answered_with_no(old: int, new: int, proof: list[bytes]) -> None:
    if old != 0 or new < 0 or proof:
        assert not merkle.verify_consistency(old, new, LEAVES[0], LEAVES[1], proof)
    assert not merkle.verify_inclusion(LEAVES[2], old, new, proof, LEAVES[3])


@pytest.mark.parametrize(("size", "data"), [(1, b""), (0, b"x" * 32), (3, b"x" * 32), (2, b"x" * 31), (-1, b"")])
def test_bytes_that_are_no_frontier_are_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError):
        merkle.Frontier.decode(size, data)


@pytest.mark.parametrize(("leaves", "old"), [(3, 4), (3, -1)])
def test_a_tree_cannot_have_grown_out_of_a_larger_one(leaves: int, old: int) -> None:
    with pytest.raises(ValueError):
        merkle.consistency(LEAVES[:leaves], old)
    with pytest.raises(ValueError):
        merkle.inclusion(LEAVES[:leaves], 3 if old > 0 else -1)
