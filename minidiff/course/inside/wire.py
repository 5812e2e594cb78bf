"""Frames between the grader and the sandbox: JSON for structure, safetensors for tensors, never pickle.

A frame is a magic word, two lengths, a JSON object and a safetensors blob; both lengths are checked before any of the
body is read. Values keep their exact type: a float is no int, a tuple no list, float32 no float64.

    None, bool, str, float, int    themselves (an int must fit in 64 bits)
    {"tensor": "0"}                tensor number 0 of the blob; "complex" and "grad" say what safetensors does not
    {"tuple": […]}  {"list": […]}  {"dict": [[key, value], …]}  {"dtype": "float32"}
    anything else                  what the caller's `foreign` makes of it
"""

import json
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

MAGIC = b"mdg1"
HEADER = struct.Struct("<4sII")
MAX_TEXT = 4 * 2**20  # bytes of JSON
MAX_BLOB = 64 * 2**20  # bytes of tensors
MAX_DEPTH, MAX_NODES = 16, 100_000
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    )
}

Tensors = dict[str, Tensor]
Foreign = Callable[[Any], Any]


class WireError(Exception):
    """What came is no frame of this protocol, or too large."""


class Closed(Exception):
    """The other side has gone."""


def write_frame(stream: BinaryIO, message: dict[str, Any], tensors: Tensors) -> None:
    """One frame onto `stream`. `WireError` if it is larger than the other side would read, `Closed` if it has gone."""
    text = json.dumps(message).encode()
    blob = save(tensors) if tensors else b""
    if len(text) > MAX_TEXT or len(blob) > MAX_BLOB:
        raise WireError(f"a message of {len(text) + len(blob)} bytes is too large to send")
    try:
        stream.write(HEADER.pack(MAGIC, len(text), len(blob)) + text + blob)
        stream.flush()
    except (BrokenPipeError, OSError, ValueError) as error:  # ValueError: the stream is closed on this side
        raise Closed from error


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], Tensors, int]:
    """The next frame and its size in bytes. `Closed` at the end of the stream, `WireError` for anything malformed."""
    magic, text_size, blob_size = HEADER.unpack(_exactly(stream, HEADER.size))
    if magic != MAGIC:
        raise WireError("these bytes are no message of the protocol")
    if text_size > MAX_TEXT or blob_size > MAX_BLOB:
        raise WireError(f"a message of {text_size + blob_size} bytes, more than {MAX_TEXT + MAX_BLOB}")
    text, blob = _exactly(stream, text_size), _exactly(stream, blob_size)
    try:
        message = json.loads(text)
        tensors = load(blob) if blob else {}
    except (ValueError, RecursionError, SafetensorError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise WireError(f"a message that cannot be read ({type(error).__name__})") from error
    if not isinstance(message, dict):
        raise WireError("a message that is no JSON object")
    return message, tensors, HEADER.size + text_size + blob_size


def _exactly(stream: BinaryIO, n: int) -> bytes:
    parts = []
    while n:
        try:
            part = stream.read(min(n, 2**20))
        except (OSError, ValueError) as error:
            raise Closed from error
        if not part:
            raise Closed
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def is_plain_tensor(value: Any) -> TypeGuard[Tensor]:
    """A tensor whose numbers alone say what it is: dense, on a device, of a usual type."""
    if not isinstance(value, Tensor):
        return False
    return value.layout is torch.strided and value.device.type != "meta" and value.dtype in DTYPES.values()


def pack(value: Any, tensors: Tensors, foreign: Foreign, depth: int = 0) -> Any:
    """`value` as JSON; its tensors go into `tensors`. Whatever is not plain is left to `foreign`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if is_plain_tensor(value):
        return _pack_tensor(value, tensors)
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (tuple, list, dict)) and (depth or _fits(value, [MAX_NODES])):
        if isinstance(value, dict):
            pairs = [[pack(part, tensors, foreign, depth + 1) for part in pair] for pair in value.items()]
            return {"dict": pairs}
        name = "tuple" if isinstance(value, tuple) else "list"
        return {name: [pack(part, tensors, foreign, depth + 1) for part in value]}
    return foreign(value)


def _fits(value: Any, room: list[int], depth: int = 0) -> bool:
    """Can `unpack` read a container: not too deep, not too many parts (`room` counts down), no odd keys?"""
    room[0] -= 1
    if depth > MAX_DEPTH or room[0] < 0:
        return False
    if isinstance(value, dict):
        plain_keys = all(key is None or isinstance(key, (bool, int, float, str)) for key in value)
        return plain_keys and all(_fits(part, room, depth + 1) for part in (*value, *value.values()))
    return not isinstance(value, (tuple, list)) or all(_fits(part, room, depth + 1) for part in value)


def _pack_tensor(value: Tensor, tensors: Tensors) -> dict[str, Any]:
    note: dict[str, Any] = {"tensor": str(len(tensors))}
    if value.requires_grad and value.is_leaf:
        note["grad"] = True
    plain = value.detach().resolve_conj().resolve_neg().cpu()
    if plain.is_complex():
        note["complex"] = True
        plain = torch.view_as_real(plain)
    # safetensors wants every tensor in memory of its own, in order
    tensors[note["tensor"]] = plain.clone(memory_format=torch.contiguous_format)
    return note


def unpack(node: Any, tensors: Tensors, foreign: Foreign) -> Any:
    """The inverse of `pack`. `WireError` for anything that `pack` does not write."""
    return _Unpacking(tensors, foreign).value(node, 0)


class _Unpacking:
    def __init__(self, tensors: Tensors, foreign: Foreign):
        self.tensors, self.foreign, self.nodes = dict(tensors), foreign, 0

    def value(self, node: Any, depth: int) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH + 1 or self.nodes > MAX_NODES:
            raise WireError("a value nested too deep, or with too many parts")
        if node is None or isinstance(node, (bool, float, str)):
            return node
        if isinstance(node, int):
            if not -(2**63) <= node < 2**63:
                raise WireError("an integer of more than 64 bits")
            return node
        if not isinstance(node, dict):
            raise WireError("a value of an unknown form")
        return self._compound(node, depth)

    def _compound(self, node: dict[str, Any], depth: int) -> Any:
        if "tensor" in node:
            return self._tensor(node)
        if isinstance(node.get("dtype"), str) and node["dtype"] in DTYPES:
            return DTYPES[node["dtype"]]
        if isinstance(node.get("tuple"), list):
            return tuple(self.value(part, depth + 1) for part in node["tuple"])
        if isinstance(node.get("list"), list):
            return [self.value(part, depth + 1) for part in node["list"]]
        if isinstance(node.get("dict"), list):
            return self._dict(node["dict"], depth)
        return self.foreign(node)

    def _dict(self, pairs: list[Any], depth: int) -> dict[Any, Any]:
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise WireError("a dict whose entries are no pairs")
        keys = [self.value(key, depth + 1) for key, _ in pairs]
        if not all(key is None or isinstance(key, (bool, int, float, str)) for key in keys):
            raise WireError("a dict with keys that are neither numbers nor texts")
        return {key: self.value(value, depth + 1) for key, (_, value) in zip(keys, pairs)}

    def _tensor(self, node: dict[str, Any]) -> Tensor:
        name = node["tensor"]
        # Each once: a small tensor that is named a thousand times would become a thousand copies.
        value = self.tensors.pop(name, None) if isinstance(name, str) else None
        if value is None or value.dtype not in DTYPES.values():
            raise WireError("a tensor that is not there, or of an unusual type")
        if node.get("complex") is True:
            if value.ndim == 0 or value.shape[-1] != 2 or value.dtype not in (torch.float32, torch.float64):
                raise WireError("a tensor that is called complex and is not")
            value = torch.view_as_complex(value.contiguous())
        value = value.clone()  # memory of its own: what safetensors gives may not be written to
        return value.requires_grad_() if node.get("grad") is True and value.is_floating_point() else value
