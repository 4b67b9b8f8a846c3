"""What `--json` prints: one frozen type a document, tagged by its schema. docs/schemas/ is generated from these.

A document may gain fields; it never loses or renames one within a version. null means unknown, never 0. Each verb imports
only its own.
"""

from __future__ import annotations

from msgspec import Struct


class Document(Struct, frozen=True, kw_only=True, tag_field="schema"):
    """Common shape: the schema's name comes first."""


class Part(Struct, frozen=True, kw_only=True):
    """What stands inside of one."""
