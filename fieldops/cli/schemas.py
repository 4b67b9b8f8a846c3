"""JSON Schemas of every `--json` document, from the types that are printed: `python -m fieldops.cli.schemas docs/schemas`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import msgspec

from fieldops.bundles.approvals import ApprovalFile
from fieldops.cli import documents
from fieldops.demo.documents import DemoDocument, TourDocument
from fieldops.operations.visit import VisitReport
from fieldops.wire import DeviceTelemetries, ErrorDoc, StoredTelemetry

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def types() -> dict[str, type[msgspec.Struct]]:
    """Schema name (`fieldops.devices/v1`) -> type, in order of the name."""
    for part in pkgutil.iter_modules(documents.__path__):  # a document is known once its module is imported
        importlib.import_module(f"{documents.__name__}.{part.name}")
    found: dict[str, type[msgspec.Struct]] = {
        str(kind.__struct_config__.tag): kind for kind in documents.Document.__subclasses__()
    }
    others: dict[str, type[msgspec.Struct]] = {
        "fieldops.approval/v1": ApprovalFile,
        "fieldops.central-devices/v1": DeviceTelemetries,
        "fieldops.central-telemetry/v1": StoredTelemetry,
        "fieldops.error/v1": ErrorDoc,
        "fieldops.demo/v1": DemoDocument,
        "fieldops.tour/v1": TourDocument,
        "fieldops.visit/v1": VisitReport,
    }
    return dict(sorted((found | others).items()))


def texts() -> dict[str, str]:
    """File name -> text, as it stands in docs/schemas."""
    written = {}
    for name, kind in types().items():
        schema = {"$schema": DIALECT, "title": name, **msgspec.json.schema(kind)}
        written[f"{name.replace('/', '-')}.json"] = msgspec.json.format(msgspec.json.encode(schema), indent=1).decode() + "\n"
    return written


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
