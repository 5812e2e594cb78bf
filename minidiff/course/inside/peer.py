"""Two processes that call each other's functions and keep each other's objects by handle.

The grader calls the student's function; the function calls back the denoiser or the log-probability it was given, which
stays in the grader; and it may differentiate through it, any number of times. Both ends are the same class: each
*lends* objects that are no plain values, and meets the other's as a `RemoteObject`.

A question carries a fresh nonce and is answered by the reply with that nonce, and nothing else: while waiting, an end
serves the other's questions, so that calls nest as they would in one process.
"""

import builtins
import importlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import torch
from torch import Generator, Tensor

from minidiff import values
from minidiff.values import Failure, RemoteFailure, describe_value, failure_of

from . import wire
from .wire import Tensors, WireError, is_plain_tensor

_LONGEST = 200  # characters of a description
_MOST_PRINTED = 1000  # characters of what a call printed


@dataclass(frozen=True)
class Slot:
    """The place of tensor number `index` among arguments or results."""

    index: int


def lift(value: Any, found: list[Tensor]) -> Any:
    """`value` with each tensor moved to `found`, a Slot in its place. The inverse of `fill`."""
    if is_plain_tensor(value):
        found.append(value)
        return Slot(len(found) - 1)
    if isinstance(value, (tuple, list)):
        parts = [lift(part, found) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, dict):
        return {key: lift(part, found) for key, part in value.items()}
    return value


def fill(value: Any, tensors: Sequence[Tensor]) -> Any:
    """`value` with every Slot replaced by its tensor. `WireError` for a slot without one."""
    if isinstance(value, Slot):
        if not 0 <= value.index < len(tensors):
            raise WireError("a slot without a tensor")
        return tensors[value.index]
    if isinstance(value, (tuple, list)):
        parts = [fill(part, tensors) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, dict):
        return {key: fill(part, tensors) for key, part in value.items()}
    return value


class Borrowed(values.RemoteObject):
    """An object that lives on the other side. Attributes that the other side lets go are read there."""

    def __init__(self, peer: "Peer", ref: int, text: str):
        self._peer, self._ref, self.text = peer, ref, text

    def __repr__(self) -> str:
        return f"<{self.text} beyond the sandbox>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python asks for these by itself: not worth a question, and not the other's business
            raise AttributeError(name)
        return self._peer.ask({"op": "attribute", "ref": self._ref, "name": name})


class BorrowedFunction(Borrowed):
    """A function, class or module of the other side. Calling it is differentiable in every floating-point tensor."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tensors: list[Tensor] = []
        shape = lift([list(args), kwargs], tensors)
        call = Call(self._peer, self._ref, shape, [t.requires_grad for t in tensors], torch.is_grad_enabled())
        call.originals = list(args)
        outputs = _Remote.apply(call, *tensors)
        return fill(call.result, outputs)


class BorrowedIterator(Borrowed, Iterator[Any]):
    """An iterator of the other side."""

    def __next__(self) -> Any:
        found = self._peer.ask({"op": "next", "ref": self._ref})
        if found is _STOP:
            raise StopIteration
        return found


_STOP = object()


@dataclass
class Call:
    """One call of a borrowed function, or the pullback of one: everything but the tensors.

    shape    [arguments, keyword arguments] with Slots;  grads: which of the tensors required gradients
    inputs   for the k-th pullback of a call: how many tensors went in at each level before, so `[]` is the call itself
    result   after the call: what came back, with Slots
    """

    peer: "Peer"
    ref: int
    shape: Any
    grads: list[bool]
    grad_mode: bool
    inputs: tuple[int, ...] = ()
    originals: list[Any] | None = None
    result: Any = None

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        message = {
            "op": "call",
            "ref": self.ref,
            "grads": self.grads,
            "grad_mode": self.grad_mode,
            "inputs": list(self.inputs),
        }
        value = self.peer.ask(message, {"shape": self.shape, "tensors": list(tensors)}, self.originals)
        found: list[Tensor] = []
        self.result = lift(value, found)
        return tuple(found)

    def pullback(self, n: int) -> "Call":
        """The call (tensors, gradients of the results) → gradients of the n tensors."""
        return replace(self, inputs=(*self.inputs, n), grads=[], grad_mode=True, originals=None, result=None)


class _Remote(torch.autograd.Function):
    """A remote call as a node of autograd; its backward is a remote call too, so derivatives of any order work."""

    generate_vmap_rule = False

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return call(tensors) or (torch.zeros(()),)  # autograd wants at least one tensor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.call, *tensors = inputs
        ctx.like = [(out.shape, out.dtype) for out in output]
        ctx.mark_non_differentiable(*[out for out in output if not _has_gradients(out)])
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        tensors = ctx.saved_tensors
        given = [torch.zeros(like[0], dtype=like[1]) if g is None else g for g, like in zip(gradients, ctx.like)]
        found = _Remote.apply(ctx.call.pullback(len(tensors)), *tensors, *given)[: len(tensors)]
        return None, *(g if _has_gradients(t) else None for t, g in zip(tensors, found))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Forward mode: the pullback is linear in the gradients it pulls back, and *its* pullback pushes forward."""
        tensors, n = ctx.saved_tensors, len(ctx.saved_tensors)
        zeros = [torch.zeros(shape, dtype=dtype) for shape, dtype in ctx.like]
        given = [torch.zeros_like(t) if v is None else v for t, v in zip(tensors, tangents)]
        twice = ctx.call.pullback(n).pullback(n + len(zeros))
        pushed = _Remote.apply(twice, *tensors, *zeros, *given)[n : n + len(zeros)]
        return tuple(v if _has_gradients(like) else None for v, like in zip(pushed, zeros))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Call, *tensors: Tensor) -> tuple[Any, Any]:
        rows = []
        for i in range(info.batch_size):
            row = [t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims[1:])]
            rows.append(_Remote.apply(call, *row))
        return tuple(torch.stack(column) for column in zip(*rows)), (0,) * len(rows[0])


class Peer:
    """One end of the wire. `trusts`: may the other side have objects of the library rebuilt here?"""

    def __init__(self, reader: BinaryIO, writer: BinaryIO, trusts: bool):
        self.reader, self.writer, self.trusts = reader, writer, trusts
        self.lent: dict[int, Any] = {}
        self._rebuilt: dict[int, tuple[int, Any]] = {}  # id → (the lender's ref, the object, kept alive)

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, message: dict[str, Any], body: Any = None, arguments: list[Any] | None = None) -> Any:
        """Send a question, serve the other side's while waiting, return the answer. `RemoteFailure` if it raised."""
        nonce = secrets.token_hex(8)
        self.send({**message, "nonce": nonce}, body)
        while True:
            reply, tensors = self.receive()
            if "op" in reply:
                self.serve(reply, tensors)
                continue
            if reply.get("reply") != nonce:
                raise WireError("an answer to a question that was not asked")
            return self._answer(reply, tensors, arguments)

    def _answer(self, reply: dict[str, Any], tensors: Tensors, arguments: list[Any] | None) -> Any:
        if isinstance(reply.get("printed"), str) and reply["printed"]:
            print(reply["printed"][:_MOST_PRINTED], end="")
        changed = reply.get("changed", [])
        for pair in changed if isinstance(changed, list) else []:
            self._write_back(pair, tensors, arguments or [])
        if reply.get("stop") is True:
            return _STOP
        if "failure" in reply:
            raise self.raised(_failure(reply["failure"]))
        return self.unpack(reply.get("value"), tensors)

    def _write_back(self, pair: Any, tensors: Tensors, arguments: list[Any]) -> None:
        """An argument that the other side wrote into is written into here as well, as it would be in one process."""
        if not (isinstance(pair, list) and len(pair) == 2 and pair[0] in range(len(arguments))):
            raise WireError("a changed argument that does not exist")
        _overwrite(arguments[pair[0]], self.unpack(pair[1], tensors))

    def raised(self, failure: Failure) -> Exception:
        """The exception to raise here for one that was raised there."""
        return RemoteFailure(failure)

    # --- answering ----------------------------------------------------------------------------------------------------

    def serve(self, message: dict[str, Any], tensors: Tensors) -> None:
        """Answer one question of the other side. Exceptions of what was called are an answer too."""
        nonce = message.get("nonce")
        try:
            reply, value = self.perform(message, self.unpack(message.get("body"), tensors, slots=True))
        except (WireError, wire.Closed):
            raise
        except Exception as error:
            reply, value = {"failure": vars(failure_of(error))}, None
        self.send({**reply, "reply": nonce}, value, key="value")

    def perform(self, message: dict[str, Any], body: Any) -> tuple[dict[str, Any], Any]:
        """Do what a question asks; returns what to add to the reply, and the value."""
        target = self._lent(message.get("ref"))
        if message["op"] == "call":
            return {}, self.call(target, message, body)
        raise AttributeError("a function of the grader can be called, and nothing else")

    def call(self, target: Any, message: dict[str, Any], body: Any) -> Any:
        """A call of `target`, or (see `Call.inputs`) the pullback of one."""
        try:
            shape, given = body["shape"], body["tensors"]
            counts = [int(n) for n in message["inputs"]]
            grads = [bool(flag) for flag in message["grads"]]
        except (TypeError, KeyError, ValueError) as error:
            raise WireError("a call without its arguments") from error
        if not all(isinstance(tensor, Tensor) for tensor in given) or len(counts) > 8:
            raise WireError("a call with arguments that are no tensors")
        tensors = [t.requires_grad_(g and _has_gradients(t)) for t, g in zip(given, grads)] if grads else list(given)
        with torch.set_grad_enabled(bool(message.get("grad_mode")) or bool(counts)):
            if not counts:
                args, kwargs = fill(shape, tensors)
                return self.invoke(target, args, kwargs)
            return tuple(g.detach() for g in _pulled_back(target, shape, tensors, counts))

    def invoke(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return target(*args, **kwargs)

    # --- values -------------------------------------------------------------------------------------------------------

    def pack(self, value: Any, tensors: Tensors) -> Any:
        return wire.pack(value, tensors, lambda other: self._pack_other(other, tensors))

    def unpack(self, node: Any, tensors: Tensors, slots: bool = False) -> Any:
        """`slots`: may there be any? Only in a question, which brings their tensors."""

        def foreign(other: dict[str, Any]) -> Any:
            if "slot" in other and not slots:
                raise WireError("a value of an unknown form")
            return self._unpack_other(other, tensors)

        return wire.unpack(node, tensors, foreign)

    def _pack_other(self, value: Any, tensors: Tensors) -> dict[str, Any]:
        if isinstance(value, Slot):
            return {"slot": value.index}
        if isinstance(value, Borrowed) and value._peer is self:
            return {"yours": value._ref}
        if id(value) in self._rebuilt:
            return {"yours": self._rebuilt[id(value)][0]}
        if isinstance(value, Generator) and not self.trusts:  # who trusts is not trusted, and keeps such things
            return {"generator": wire.pack(value.get_state(), tensors, self.lend)}
        if _is_library_value(value) and not self.trusts:
            state = self.pack(dict(vars(value)), tensors)
            return {"object": [type(value).__module__, type(value).__name__], "state": state, "ref": self.lend(value)}
        kind = "function" if callable(value) else "iterator" if values.is_iterator(value) else "object"
        return {"mine": self.lend(value), "kind": kind, "text": _text(value)}

    def lend(self, value: Any) -> int:
        """A handle for `value`, which stays here."""
        self.lent[len(self.lent)] = value
        return len(self.lent) - 1

    def _lent(self, ref: Any) -> Any:
        if not isinstance(ref, int) or ref not in self.lent:
            raise WireError("a handle that was never given")
        return self.lent[ref]

    def _unpack_other(self, node: dict[str, Any], tensors: Tensors) -> Any:
        if "slot" in node and isinstance(node["slot"], int):
            return Slot(node["slot"])
        if "yours" in node:
            return self._lent(node["yours"])
        if isinstance(node.get("mine"), int):
            kinds = {"function": BorrowedFunction, "iterator": BorrowedIterator}
            return kinds.get(str(node.get("kind")), Borrowed)(self, node["mine"], str(node.get("text"))[:_LONGEST])
        if self.trusts and "generator" in node:
            generator = Generator()
            generator.set_state(self.unpack(node["generator"], tensors))
            return generator
        if self.trusts and "object" in node:
            return self._rebuild(node, tensors)
        raise WireError("a value of an unknown form")

    def _rebuild(self, node: dict[str, Any], tensors: Tensors) -> Any:
        """An object of the library, made anew here, so that `isinstance` and the library's functions know it."""
        module, name = node["object"]
        kind = getattr(importlib.import_module(module), name)
        value = kind.__new__(kind)
        value.__dict__.update(self.unpack(node["state"], tensors))
        self._rebuilt[id(value)] = (node["ref"], value)
        return value

    # --- frames -------------------------------------------------------------------------------------------------------

    def send(self, message: dict[str, Any], body: Any = None, key: str = "body") -> None:
        tensors: Tensors = {}
        packed = self.pack(body, tensors)
        changed = [[i, self.pack(value, tensors)] for i, value in message.pop("changed", [])]
        wire.write_frame(self.writer, {**message, key: packed, **({"changed": changed} if changed else {})}, tensors)

    def receive(self) -> tuple[dict[str, Any], Tensors]:
        message, tensors, _ = wire.read_frame(self.reader)
        return message, tensors


def _pulled_back(target: Any, shape: Any, tensors: Sequence[Tensor], counts: list[int]) -> list[Tensor]:
    """The gradients of a call's floating-point results, pulled back to its tensors; recursively for higher orders."""
    if not counts:
        args, kwargs = fill(shape, tensors)
        outputs: list[Tensor] = []
        lift(target(*args, **kwargs), outputs)
        return outputs
    *below, n = counts
    inputs = [t if t.requires_grad or not _has_gradients(t) else t.detach().requires_grad_() for t in tensors[:n]]
    outputs = _pulled_back(target, shape, inputs, below)
    pairs = [(out, g) for out, g in zip(outputs, tensors[n:]) if out.requires_grad]
    found = {i: torch.zeros_like(t) for i, t in enumerate(inputs)}
    leaves = [i for i, t in enumerate(inputs) if t.requires_grad]
    if pairs and leaves:
        outs, given = zip(*pairs)
        gradients = torch.autograd.grad(outs, [inputs[i] for i in leaves], given, allow_unused=True, create_graph=True)
        found |= {i: g for i, g in zip(leaves, gradients) if g is not None}
    return list(found.values())


def _has_gradients(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _overwrite(old: Any, new: Any) -> None:
    """Write `new` into `old`, as far as both are of the same kind."""
    if isinstance(old, Tensor) and isinstance(new, Tensor) and old.dtype == new.dtype:
        with torch.no_grad():
            if old.shape == new.shape and 0 not in old.stride():
                old.copy_(new)  # in place, so that a view changes what it looks at
            else:
                old.data = new
    elif isinstance(old, list) and isinstance(new, list):
        old[:] = new
    elif isinstance(old, dict) and isinstance(new, dict):
        old.clear()
        old.update(new)
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for before, now in zip(old, new):
            _overwrite(before, now)


def _is_library_value(value: Any) -> bool:
    """An object that is its fields and a class of the library's public part: a schedule, a mixture."""
    module = type(value).__module__
    return module.startswith("minidiff.") and not module.startswith("minidiff.course") and hasattr(value, "__dict__")


def _text(value: Any) -> str:
    try:
        return describe_value(value)[:_LONGEST]
    except BaseException:  # a student's object may fail even at its repr, with SystemExit too
        return "an object"


def _failure(node: Any) -> Failure:
    if not isinstance(node, dict):
        raise WireError("a failure of an unknown form")
    name, message, where = (str(node.get(key, ""))[:limit] for key, limit in zip(("name", "message", "where"), _LIMITS))
    return Failure(name, message, where)


_LIMITS = (80, 2000, 300)


def builtin_exception(failure: Failure) -> Exception:
    """The built-in exception of that name, so that a student's `except ValueError` works; else a RuntimeError."""
    kind = getattr(builtins, failure.name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (UnicodeError, StopIteration)):
        try:
            return kind(failure.message)
        except TypeError:  # some want more than a text
            pass
    return RuntimeError(f"{failure.name}: {failure.message}")
