"""Decoders of typed messages, each made once and by one thread at a time.

msgspec 0.22 works a Struct's fields out at its first use, and two threads that do so at once crash the process (seen with
16 devices read in parallel). A decoder made under the lock has its types whole; using it is safe from any thread.
"""

from __future__ import annotations

import threading
from types import UnionType
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")

_making = threading.Lock()
_made: dict[Any, msgspec.json.Decoder[Any]] = {}


@overload
def decoder(kind: type[T]) -> msgspec.json.Decoder[T]: ...
@overload
def decoder(kind: UnionType) -> msgspec.json.Decoder[Any]: ...
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """kind: a Struct, a list of them, or a tagged union."""
    found = _made.get(kind)
    if found is None:
        with _making:
            found = _made.setdefault(kind, msgspec.json.Decoder(kind))
    return found
