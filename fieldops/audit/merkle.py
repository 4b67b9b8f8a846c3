"""The Merkle tree over a log, exactly as RFC 6962 section 2.1 has it: roots, proofs, and what checks them.

Sizes count leaves; a leaf is `leaf_hash(bytes of the entry)`. Verifiers answer False for anything that does not fit and
never raise on what came from outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from msgspec import Struct

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier(Struct, frozen=True):
    """All that is needed to go on: the roots of the complete subtrees, largest first, one for each 1 bit of `size`.

    Appending costs one hash on average; the whole state stays below 64 hashes whatever the size.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.nodes) != self.size.bit_count() or any(len(node) != HASH_BYTES for node in self.nodes):
            raise ValueError(f"no frontier of size {self.size}")

    def append(self, leaf: bytes) -> Frontier:
        """leaf: 32 bytes of leaf_hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        nodes, size = list(self.nodes), self.size
        for leaf in leaves:
            nodes.append(leaf)
            pairs = size
            while pairs & 1:  # two subtrees of equal size become one
                right = nodes.pop()
                nodes[-1] = node_hash(nodes[-1], right)
                pairs >>= 1
            size += 1
        return Frontier(size, tuple(nodes))

    def root(self) -> bytes:
        if not self.nodes:
            return EMPTY_ROOT
        result = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            result = node_hash(node, result)
        return result

    def encode(self) -> bytes:
        """The nodes one after another; the size is kept beside them."""
        return b"".join(self.nodes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> Frontier:
        """Raises ValueError when the bytes are no frontier of that size."""
        if len(data) % HASH_BYTES:
            raise ValueError("a frontier is made of whole hashes")
        return cls(size, tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    return Frontier().extend(leaves).root()


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The proof that leaf `index` (from 0) is in the tree over `leaves`. RFC 6962 2.1.1. Raises ValueError."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"no leaf {index} in a tree of {len(leaves)}")
    proof: list[bytes] = []
    start, stop = 0, len(leaves)
    while stop - start > 1:
        split = start + _split(stop - start)
        if index < split:
            proof.append(root_of(leaves[split:stop]))
            stop = split
        else:
            proof.append(root_of(leaves[start:split]))
            start = split
    proof.reverse()
    return proof


def consistency(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the first `old_size` leaves are a tree that grew into this one. RFC 6962 2.1.2.

    Empty when old_size is 0 or the whole. Raises ValueError when old_size is larger than the tree.
    """
    if not 0 <= old_size <= len(leaves):
        raise ValueError(f"a tree of {len(leaves)} did not grow out of one of {old_size}")
    if old_size in {0, len(leaves)}:
        return []
    proof: list[bytes] = []
    start, stop, whole = 0, len(leaves), True  # whole: the old tree is this very subtree, whose root the verifier has
    old = old_size
    while old != stop - start:
        split = _split(stop - start)
        if old <= split:
            proof.append(root_of(leaves[start + split : stop]))
            stop = start + split
        else:
            proof.append(root_of(leaves[start : start + split]))
            start, old, whole = start + split, old - split, False
    if not whole:
        proof.append(root_of(leaves[start:stop]))
    proof.reverse()
    return proof


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 2.1.3.2."""
    if not 0 <= index < size or not _hashes(leaf, root, *proof):
        return False
    at, last, result = index, size - 1, leaf
    for node in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            result = node_hash(node, result)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            result = node_hash(result, node)
        at, last = at >> 1, last >> 1
    return last == 0 and result == root


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 2.1.4.2. From size 0 everything grows, with an empty proof and the empty root."""
    if not 0 <= old_size <= new_size or not _hashes(old_root, new_root, *proof):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    return _grown(old_size, new_size, old_root, new_root, proof)


def _grown(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    path = list(proof)
    if old_size.bit_count() == 1:  # a complete subtree: the proof starts from the old root itself
        path.insert(0, old_root)
    if not path:
        return False
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _split(size: int) -> int:
    """The largest power of two below `size` (> 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
