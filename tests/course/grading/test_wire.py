"""The frames between grader and sandbox: values come through exactly, and no bytes do more harm than `WireError`."""

import contextlib
import io
import json
import math
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from minidiff.course.inside import wire
from minidiff.course.inside.wire import HEADER, MAGIC, Closed, WireError, pack, read_frame, unpack, write_frame

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused(value):
    raise WireError(f"foreign: {type(value).__name__}")


def frame(value, foreign=refused):
    stream, tensors = io.BytesIO(), {}
    packed = pack(value, tensors, foreign)
    write_frame(stream, {"value": packed}, tensors)
    return stream.getvalue()


def opened(data, foreign=refused):
    message, tensors, size = read_frame(io.BytesIO(data))
    assert size == len(data)
    return unpack(message.get("value"), tensors, foreign)


def there_and_back(value):
    return opened(frame(value))


def bits(value: Tensor) -> bytes:
    plain = value.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def exactly(got, want) -> bool:
    """Same types all the way down, same bits; Python's NaNs count as one."""
    if type(got) is not type(want):
        return False
    if isinstance(want, Tensor):
        alike = (got.dtype, got.shape, got.requires_grad) == (want.dtype, want.shape, want.requires_grad)
        return alike and bits(got) == bits(want)
    if isinstance(want, float):
        return (math.isnan(got) and math.isnan(want)) or struct.pack("d", got) == struct.pack("d", want)
    if isinstance(want, dict):
        return len(got) == len(want) and all(map(exactly, got.items(), want.items()))
    if isinstance(want, (tuple, list)):
        return len(got) == len(want) and all(map(exactly, got, want))
    return got == want


def test_exactly_sees_what_it_should():
    assert not any(
        exactly(a, b)
        for a, b in [(1, 1.0), (1, True), (0.0, -0.0), ((1,), [1]), ({"a": 1}, {"a": True}), ({1: 2}, {True: 2})]
    )
    one = torch.ones(2)
    assert not any(exactly(one, other) for other in (one.double(), one[:1], one.clone().requires_grad_(), 2 * one, 1.0))
    assert not exactly(torch.tensor(0.0), torch.tensor(-0.0))


# --- round trips ------------------------------------------------------------------------------------------------------

NUMBERS = [
    *(-(2**63), 2**63 - 1, -1, 0, 1, 2**53 + 1, True, False, None),
    *(0.0, -0.0, 1.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2),
    *(float("inf"), -float("inf"), float("nan")),
]
TEXTS = ["", "a", "\0", "\n\r\u2028", "ε∇²", "😀", "\ud800", "\udfff x", "\ud83d", "\x7f\x80\xff", "𝒩" * 100]
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
PLAIN = st.sampled_from(NUMBERS) | st.floats() | st.integers(-(2**63), 2**63 - 1) | ANY_TEXT
VALUES = st.recursive(
    PLAIN | st.sampled_from(list(wire.DTYPES.values())),
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(PLAIN, inner, max_size=4)
    ),
    max_leaves=25,
)


@pytest.mark.parametrize("value", NUMBERS + TEXTS, ids=repr)
def test_every_plain_value_comes_back_as_it_was(value):
    assert exactly(there_and_back(value), value)
    assert exactly(there_and_back({"k": (value, [value])}), {"k": (value, [value])})


@MANY
@given(VALUES)
@example({1.0: (True, 1, [1.0, (), [], {}])})
@example({None: 0, True: 1, 2: 2, 3.5: 3, "None": 4})
def test_nested_values_keep_their_types(value):
    assert exactly(there_and_back(value), value)


def test_subclasses_of_numbers_become_plain_ones():
    class Money(float):
        pass

    class Count(int):
        pass

    assert exactly(there_and_back((Money(0.1), Count(3), torch.ones(2, 3).shape)), (0.1, 3, (2, 3)))


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30, 1j, b"x", {1}, range(3), object], ids=repr)
def test_what_is_not_plain_is_left_to_foreign(value):
    seen = []
    assert pack([value], {}, lambda other: seen.append(other) or {"mine": 1}) == {"list": [{"mine": 1}]}
    assert seen == [value]
    assert unpack({"list": [{"mine": 1}]}, {}, lambda node: (value, node)) == [(value, {"mine": 1})]


def test_depth_and_size_have_limits_on_which_both_sides_agree():
    deep = 1.0
    for _ in range(wire.MAX_DEPTH):
        deep = [deep]
    assert exactly(there_and_back(deep), deep)
    with pytest.raises(WireError, match="foreign: list"):
        there_and_back([deep])
    many = [0.5] * (wire.MAX_NODES - 1)
    assert exactly(there_and_back(many), many)
    with pytest.raises(WireError):
        there_and_back([*many, 0.5])
    endless: list = []
    endless.append(endless)
    with pytest.raises(WireError, match="foreign: list"):
        frame(endless)


SHAPES = [(), (1,), (3,), (0, 5), (5, 0), (2, 3), (2, 1, 4)]
LAYOUTS = {
    "as it is": lambda x: x,
    "transposed": lambda x: x.mT if x.ndim > 1 else x,
    "every second": lambda x: x[::2] if x.ndim else x,
    "expanded": lambda x: x.expand(3, *x.shape),
    "reversed axes": lambda x: x.permute(tuple(reversed(range(x.ndim)))),
    "an offset": lambda x: torch.stack([x, x])[1],
    "conjugated": lambda x: x.conj(),
    "negated lazily": lambda x: torch._neg_view(x) if x.dtype != torch.bool else x,
    "a real part": lambda x: x.real if x.is_complex() else x,
    "an imaginary part of a conjugate": lambda x: x.conj().imag if x.is_complex() else x,
}


def random_tensor(dtype, shape, seed=0):
    """Random bits: NaNs with a payload, subnormals and infinities among them."""
    n = math.prod(shape)
    g = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(2, shape, generator=g).bool()
    raw = torch.randint(256, (n * torch.empty((), dtype=dtype).element_size(),), generator=g, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=wire.DTYPES.keys())
def test_tensors_of_every_kind_come_back_bit_by_bit(dtype, layout):
    tensors = [layout(random_tensor(dtype, shape, seed)) for seed, shape in enumerate(SHAPES)]
    got = there_and_back({"all": tensors, "again": tuple(tensors)})
    assert exactly(got, {"all": tensors, "again": tuple(tensors)})
    assert all(t.is_contiguous() for t in got["all"])
    for t in got["all"]:
        if t.numel():
            t.view(-1)[0] = 1  # memory of its own, and writable


def test_the_layouts_are_what_they_say():
    z = random_tensor(torch.complex64, (2, 3))
    assert LAYOUTS["conjugated"](z).is_conj()
    assert LAYOUTS["negated lazily"](z).is_neg()
    assert LAYOUTS["an imaginary part of a conjugate"](z).is_neg()
    assert not LAYOUTS["transposed"](z).is_contiguous()
    assert wire.DTYPES["bfloat16"] is torch.bfloat16
    assert len(wire.DTYPES) == 12


def test_one_tensor_twice_and_tensors_in_one_storage_become_separate():
    x = torch.arange(6.0)
    a, b, c = there_and_back((x, x, x[2:4]))
    a += 10
    c += 100
    assert (a.tolist(), b.tolist(), c.tolist()) == ([10, 11, 12, 13, 14, 15], [0, 1, 2, 3, 4, 5], [102, 103])
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_leaves_stay_leaves_and_inner_nodes_of_a_graph_are_cut_off():
    leaf = torch.ones(2, dtype=torch.float64, requires_grad=True)
    got = there_and_back([leaf, leaf * 2, leaf.detach(), torch.nn.Parameter(torch.ones(1))])
    assert [t.requires_grad for t in got] == [True, False, False, True]
    assert all(t.is_leaf for t in got)
    assert got[1].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    "value",
    [
        torch.eye(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.ones(2, dtype=torch.uint16),
        torch.ones(2, dtype=torch.float8_e4m3fn),
    ],
    ids=["sparse", "meta", "uint16", "float8"],
)
def test_unusual_tensors_are_foreign(value):
    assert pack(value, {}, lambda other: "foreign") == "foreign"


def test_frames_follow_each_other_and_may_come_in_crumbs():
    class Crumbs(io.BytesIO):
        def read(self, n=-1):
            return super().read(min(n, 3))

    data = frame([1, torch.arange(4)]) + frame("second") + frame(None)
    stream = Crumbs(data)
    got = [unpack(m["value"], t, refused) for m, t, _ in (read_frame(stream) for _ in range(3))]
    assert exactly(got, [[1, torch.arange(4)], "second", None])
    with pytest.raises(Closed):
        read_frame(stream)


def test_the_format_is_what_the_module_says():
    tensors = {}
    packed = pack(
        (1, 2.0, ["a", {3: torch.tensor([4], dtype=torch.int8)}], torch.float16, None, True), tensors, refused
    )
    assert packed == {
        "tuple": [1, 2.0, {"list": ["a", {"dict": [[3, {"tensor": "0"}]]}]}, {"dtype": "float16"}, None, True]
    }
    assert list(tensors) == ["0"]
    assert frame(None) == b"mdg1" + struct.pack("<II", 15, 0) + b'{"value": null}'
    complex_leaf = pack(torch.ones(1, dtype=torch.complex64), tensors, refused)
    assert complex_leaf == {"tensor": "1", "complex": True}
    assert tensors["1"].tolist() == [[1.0, 0.0]]


def test_messages_that_are_too_large_are_not_sent():
    for value in ["x" * wire.MAX_TEXT, torch.zeros(wire.MAX_BLOB, dtype=torch.uint8)]:
        stream, tensors = io.BytesIO(), {}
        with pytest.raises(WireError, match=r"^a message of \d+ bytes is too large to send$"):
            write_frame(stream, {"value": pack(value, tensors, refused)}, tensors)
        assert stream.getvalue() == b""
    largest = torch.zeros(wire.MAX_BLOB - 100, dtype=torch.uint8)
    assert there_and_back(largest).shape == largest.shape, "control: just below the limit"


def test_a_side_that_has_gone_is_closed():
    reader, writer = (os.fdopen(fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb")))
    reader.close()
    with pytest.raises(Closed):
        write_frame(writer, {"value": 1}, {})
    with pytest.raises(Closed):
        read_frame(reader)
    with contextlib.suppress(BrokenPipeError):
        writer.close()
    with pytest.raises(Closed):
        write_frame(writer, {"value": 1}, {})


# --- malformed bytes --------------------------------------------------------------------------------------------------


def harmless(data: bytes) -> str:
    """Read a frame and its value: "fine", "closed" or "refused"; anything else raises here."""
    try:
        message, tensors, _ = read_frame(io.BytesIO(data))
        unpack(message.get("value"), tensors, refused)
    except WireError:
        return "refused"
    except Closed:
        return "closed"
    return "fine"


SAMPLE = frame(
    {
        "numbers": (1, 2.5, -(2**63), float("nan"), True, None, "text\ud800"),
        "tensors": [torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.complex128), torch.zeros(0, 5)],
        3: torch.bfloat16,
    }
)


def sealed(text: bytes, blob: bytes = b"") -> bytes:
    return HEADER.pack(MAGIC, len(text), len(blob)) + text + blob


def test_a_frame_cut_short_anywhere_is_closed():
    assert harmless(SAMPLE) == "fine"
    assert [n for n in range(len(SAMPLE)) if harmless(SAMPLE[:n]) != "closed"] == []


@MANY
@given(st.binary(max_size=200))
def test_random_bytes(data):
    assert harmless(data) == ("closed" if len(data) < HEADER.size or data[:4] == MAGIC else "refused")


@MANY
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_random_bodies(text, blob):
    assert harmless(sealed(text, blob)) in ("refused", "fine")
    assert harmless(sealed(b"{}", blob)) == ("refused" if blob else "fine")


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 8 * len(SAMPLE) - 1), st.integers(0, 8 * len(SAMPLE) - 1))
def test_two_flipped_bits(one, other):
    data = bytearray(SAMPLE)
    for bit in {one, other}:
        data[bit // 8] ^= 1 << bit % 8
    assert harmless(bytes(data)) in ("refused", "closed", "fine")


def test_every_single_flipped_bit():
    found = []
    for bit in range(8 * len(SAMPLE)):
        data = bytearray(SAMPLE)
        data[bit // 8] ^= 1 << bit % 8
        found.append(harmless(bytes(data)))
    assert set(found[: 8 * len(MAGIC)]) == {"refused"}
    assert set(found) == {"refused", "closed", "fine"}


class Recorder(io.BytesIO):
    """A stream that notes what is asked of it, and gives zeros without end after its own bytes."""

    def __init__(self, data):
        super().__init__(data)
        self.asked = []

    def read(self, n=-1):
        self.asked.append(n)
        return super().read(n) or bytes(n)


@pytest.mark.parametrize(
    ("text", "blob"),
    [(2**31, 0), (0, 2**31), (2**32 - 1, 2**32 - 1), (wire.MAX_TEXT + 1, 0), (2, wire.MAX_BLOB + 1)],
)
def test_lengths_are_checked_before_anything_of_the_body_is_read(text, blob):
    stream = Recorder(HEADER.pack(MAGIC, text, blob))
    most = wire.MAX_TEXT + wire.MAX_BLOB
    with pytest.raises(WireError, match=f"^a message of {text + blob} bytes, more than {most}$"):
        read_frame(stream)
    assert stream.asked == [HEADER.size]


def test_a_body_is_read_in_pieces_however_long_it_is_said_to_be():
    stream = Recorder(HEADER.pack(MAGIC, wire.MAX_TEXT, 0))
    with pytest.raises(WireError, match="cannot be read"):
        read_frame(stream)
    assert max(stream.asked) <= 2**20
    assert sum(stream.asked) == HEADER.size + wire.MAX_TEXT


BAD_TEXTS = {
    "empty": b"",
    "no object": b"[1]",
    "a number": b"1",
    "null": b"null",
    "nested 100000 deep": b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects 100000 deep": b'{"value": ' * 100_000 + b"1" + b"}" * 100_000,
    "an integer of a million digits": b'{"value": ' + b"9" * 10**6 + b"}",
    "2**63": b'{"value": 9223372036854775808}',
    "-2**63 - 1": b'{"value": -9223372036854775809}',
    "UTF-16": '{"value": 1'.encode("utf-16"),
    "UTF-32 without its end": '{"value": 1}'.encode("utf-32")[:-2],
    "no UTF-8": b'{"value": "\xff"}',
    "two objects": b"{}{}",
    "a bare list": b'{"value": [1, 2]}',
    "an unknown form": b'{"value": {"thing": 1}}',
    "an empty form": b'{"value": {}}',
    "a tensor that is not there": b'{"value": {"tensor": "0"}}',
    "a tensor by number": b'{"value": {"tensor": 0}}',
    "a tensor by list": b'{"value": {"tensor": ["0"]}}',
    "a tuple that is none": b'{"value": {"tuple": "abc"}}',
    "a list that is none": b'{"value": {"list": {"0": 1}}}',
    "a dict that is none": b'{"value": {"dict": {"a": 1}}}',
    "a dict without pairs": b'{"value": {"dict": [["a"]]}}',
    "a dict of triples": b'{"value": {"dict": [["a", 1, 2]]}}',
    "a dict with a list for a key": b'{"value": {"dict": [[{"list": [1]}, 2]]}}',
    "a dict with a dict for a key": b'{"value": {"dict": [[{"dict": []}, 2]]}}',
    "a dict with a tuple for a key": b'{"value": {"dict": [[{"tuple": [1]}, 2]]}}',
    "a dtype that is none": b'{"value": {"dtype": "float8_e4m3fn"}}',
    "a dtype of another kind": b'{"value": {"dtype": ["float32"]}}',
    "a dtype by attribute": b'{"value": {"dtype": "load"}}',
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_bad_structure_is_refused(text):
    assert harmless(sealed(text)) == "refused"


def test_a_dict_with_one_key_twice_is_no_more_than_a_dict():
    value = opened(sealed(b'{"value": {"dict": [["a", 1], ["a", 2], [1, 3], [true, 4], [1.0, 5]]}}'))
    assert value in ({"a": 2, 1: 5}, {"a": 1, 1: 3})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["0", "float32", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tensor", "complex", "grad", "tuple", "list", "dict", "dtype", "slot"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)
SOME_TENSORS = {"0": torch.ones(2, 2), "x": torch.ones(3, dtype=torch.int32), "float32": torch.tensor(1.0)}


@settings(max_examples=400, deadline=None)
@given(JSON)
def test_any_json_is_a_value_or_refused(node):
    with contextlib.suppress(WireError):
        unpack(node, SOME_TENSORS, refused)
    assert harmless(sealed(json.dumps({"value": node}).encode(), save(SOME_TENSORS))) in ("fine", "refused")


@pytest.mark.parametrize("name", ["0", "x", "float32"])
def test_a_tensor_called_complex_that_is_not(name):
    if name == "0":
        value = unpack({"tensor": "0", "complex": True}, SOME_TENSORS, refused)
        assert exactly(value, torch.full((2,), 1 + 1j, dtype=torch.complex64)), "control"
        return
    with pytest.raises(WireError, match="called complex and is not"):
        unpack({"tensor": name, "complex": True}, SOME_TENSORS, refused)


def test_gradients_cannot_be_asked_of_integers():
    assert exactly(unpack({"tensor": "x", "grad": True}, SOME_TENSORS, refused), torch.ones(3, dtype=torch.int32))
    assert unpack({"tensor": "0", "grad": 1}, SOME_TENSORS, refused).requires_grad is False, "only true says so"


# --- malformed safetensors --------------------------------------------------------------------------------------------


def blob(header, body=b"", size=None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"0": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


BLOBS = {
    "one byte": b"x",
    "a header of 2**63 bytes": blob(entry(), bytes(4), size=2**63),
    "a header longer than the blob": blob(entry(), bytes(4), size=1000),
    "a header that is no JSON": blob(b"{" * 50, bytes(4)),
    "a header nested deep": blob(b'{"__metadata__":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "a list for a header": blob([1, 2]),
    "metadata that is a number": blob({"__metadata__": 5}),
    "more than there is": blob(entry(offsets=(0, 400), shape=(100,)), bytes(4)),
    "less than there is": blob(entry(), bytes(8)),
    "2**62 elements": blob(entry(shape=(2**62,), offsets=(0, 4)), bytes(4)),
    "2**64 elements": blob(entry(shape=(2**32, 2**32), offsets=(0, 0))),
    "a size of 2**64": blob(b'{"0":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}', bytes(4)),
    "a negative size": blob(entry(shape=(-1,)), bytes(4)),
    "offsets turned round": blob(entry(offsets=(4, 0)), bytes(4)),
    "negative offsets": blob(entry(offsets=(-4, 0)), bytes(4)),
    "offsets of 2**63": blob(entry(offsets=(2**63, 2**63 + 4)), bytes(4)),
    "an unknown type": blob(entry(dtype="X99"), bytes(4)),
    "a type that is a number": blob({"0": {"dtype": 3, "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "two on one place": blob({**entry(), "1": entry()["0"]}, bytes(4)),
    "a hole between two": blob({**entry(), "1": entry(offsets=(8, 12))["0"]}, bytes(12)),
    "no shape": blob({"0": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "half-byte numbers": blob(entry(dtype="F4", shape=(8,)), bytes(4)),
    "nothing, 2**63 wide": blob(entry(shape=(0, 2**63), offsets=(0, 0))),
    "nothing, 2**40 wide, 2**40 deep": blob(entry(shape=(0, 2**40, 2**40), offsets=(0, 0))),
}


@pytest.mark.parametrize("data", BLOBS.values(), ids=BLOBS.keys())
def test_safetensors_that_lie(data):
    assert harmless(sealed(b'{"value": {"tensor": "0"}}', data)) == "refused"


def test_shapes_may_be_odd():
    value = opened(sealed(b'{"value": {"tensor": "0"}}', blob(entry(shape=(1,) * 100), bytes(4))))
    assert exactly(value, torch.zeros((1,) * 100))


def test_safetensors_of_unusual_types_may_be_sent_but_are_no_values():
    assert harmless(sealed(b'{"value": {"tensor": "0"}}', blob(entry(), bytes(4)))) == "fine", "control"
    for dtype, size in [("F8_E4M3", 1), ("F8_E5M2", 1), ("U16", 2), ("U32", 4), ("U64", 8)]:
        data = blob(entry(dtype=dtype, offsets=(0, size)), bytes(size))
        assert harmless(sealed(b'{"value": {"tensor": "0"}}', data)) == "refused", dtype


SIZES = st.integers(-2, 5) | st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64])
TYPES = st.sampled_from(["F32", "F64", "I64", "BOOL", "BF16", "F8_E4M3", "C64", "F4", "E8M0", "f32", "", 3, None])
HEADERS = st.dictionaries(
    st.sampled_from(["0", "1", "__metadata__", ""]),
    st.fixed_dictionaries(
        {
            "dtype": TYPES,
            "shape": st.lists(SIZES, max_size=3),
            "data_offsets": st.lists(SIZES, min_size=1, max_size=3),
        }
    )
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    max_size=3,
)


@settings(max_examples=400, deadline=None)
@given(HEADERS, st.integers(0, 40))
def test_any_safetensors_header(header, size):
    assert harmless(sealed(b'{"value": {"tensor": "0"}}', blob(header, bytes(size)))) in ("refused", "fine")
