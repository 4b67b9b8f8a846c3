"""The opset an ONNX file asks for, read from its outermost protobuf fields alone. Pure; nothing is loaded or run.

ModelProto.opset_import is field 8, each an OperatorSetIdProto with domain (1, a string) and version (2, a varint);
the empty domain and `ai.onnx` are the standard operators.
"""

from __future__ import annotations

from collections.abc import Iterator

from fieldops.errors import UsageFault

_OPSET_IMPORT, _DOMAIN, _VERSION = 8, 1, 2


def opset_of(model: bytes, what: str) -> int:
    """0: the file names none. Raises UsageFault (bad_model) for what is no protobuf."""
    try:
        found = 0
        for number, value in _fields(model):
            if number == _OPSET_IMPORT and isinstance(value, bytes):
                fields = dict(_fields(value))
                version = fields.get(_VERSION, 0)
                if fields.get(_DOMAIN, b"") in (b"", b"ai.onnx") and isinstance(version, int):
                    found = max(found, version)
    except (IndexError, ValueError) as error:
        raise UsageFault(f"{what} is no ONNX model", reason="bad_model", next_step="export the model again") from error
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(data, at)
                if at + length > len(data):
                    raise ValueError("cut off")
                yield tag >> 3, data[at : at + length]
                at += length
            case 1 | 5 as width:
                at += 8 if width == 1 else 4
            case _:
                raise ValueError("no protobuf")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("no varint")
