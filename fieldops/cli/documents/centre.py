"""The laptop at the central store."""

from __future__ import annotations

from fieldops.cli.documents import Document


class StoreEnrolment(Document, frozen=True, kw_only=True, tag="fieldops.store-enrolled/v1"):
    """enrolled: Unix seconds by the store's clock. configured: config.toml names this store's address already."""

    store: str
    laptop: str
    enrolled: float
    configured: bool
