"""Two peers in one process, joined by pipes: whatever crosses the wire behaves as it would without one."""

import contextlib
import functools
import io
import math
import os
import sys
import threading
import time
import types
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test modules without their folder on the path

from test_wire import exactly

from minidiff.course.grading import session
from minidiff.course.grading.results import State
from minidiff.course.grading.session import Grader, SessionEnded
from minidiff.course.inside import peer, wire, worker
from minidiff.course.inside.peer import Borrowed, BorrowedFunction, BorrowedIterator
from minidiff.course.inside.worker import Worker
from minidiff.data.mixtures import ring
from minidiff.schedules import DDPM, Cosine, Karras, Linear, Schedule
from minidiff.values import Failure, RemoteFailure, describe_value

float64 = torch.float64


def _leave(status):
    raise wire.Closed  # in place of os._exit, as the thread is not the whole process


class Loopback:
    """Both ends of a wire: `grader` for the caller, `worker` served in a thread until the block is left."""

    def __enter__(self):
        self._patch = mock.patch.object(worker, "os", types.SimpleNamespace(_exit=_leave))
        self._patch.start()
        (worker_in, grader_out), (grader_in, worker_out) = os.pipe(), os.pipe()
        self.grader = Grader(
            os.fdopen(grader_in, "rb"), os.fdopen(grader_out, "wb"), self._closed, time.monotonic() + 600
        )
        self.worker = Worker(os.fdopen(worker_in, "rb"), os.fdopen(worker_out, "wb"))
        self.error = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.grader.writer.close()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        self.grader.reader.close()
        self._patch.stop()

    def _serve(self):
        try:
            while True:
                self.worker.serve(*self.worker.receive())
        except wire.Closed:
            pass
        except BaseException as error:
            self.error = error
        self.worker.writer.close()

    def _closed(self):
        return SessionEnded(State.CRASH, f"the worker has gone: {self.error!r}")

    def borrow(self, value):
        """What the grader gets to see of something that lives with the worker."""
        tensors = {}
        return self.grader.unpack(self.worker.pack(value, tensors), tensors)


@pytest.fixture
def link():
    with Loopback() as found:
        yield found


def near(got, want, atol=1e-12):
    """The same structure, dtypes and shapes, and numbers that agree to `atol`."""
    if isinstance(want, Tensor):
        assert isinstance(got, Tensor)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        torch.testing.assert_close(got.detach(), want.detach(), rtol=0, atol=atol, equal_nan=True)
    elif isinstance(want, (tuple, list)):
        assert type(got) is type(want)
        assert len(got) == len(want)
        for one, other in zip(got, want):
            near(one, other, atol)
    else:
        assert type(got) is type(want)
        assert got == want


def x_of(*shape, seed=0, dtype=float64):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


# --- calls ------------------------------------------------------------------------------------------------------------

ECHOED = {
    "none": None,
    "numbers": (1, 1.0, True, -(2**63), math.inf, -0.0),
    "text": "ε\ud800\n",
    "nested": [1, (2.0, {"a": [torch.float16, None]}), {3: ()}],
    "tensors": (torch.arange(3), torch.ones(2, 0), torch.ones(2, dtype=torch.complex64), torch.tensor(True)),
    "floats of all sizes": [torch.ones(2, dtype=d) for d in (torch.float16, torch.bfloat16, torch.float32, float64)],
    "a dict of tensors": {"x": torch.ones(2), "y": torch.arange(2)},
}


@pytest.mark.parametrize("value", ECHOED.values(), ids=ECHOED.keys())
def test_values_go_there_and_back(link, value):
    assert exactly(link.borrow(lambda v: v)(value), value)
    assert exactly(link.borrow(lambda *, key: [key, key])(key=value), [value, value])
    assert exactly(link.borrow(lambda f, v: f(v))(lambda v: v, value), value), "and through a callback"


def test_arguments_arrive_where_they_belong(link):
    def seen(a, b=2, *rest, c, d=4.0, **others):
        return a, b, rest, c, d, others

    assert link.borrow(seen)(1, c=3) == (1, 2, (), 3, 4.0, {})
    assert link.borrow(seen)(1, 5, 6, 7, c=None, d=False, e="e") == (1, 5, (6, 7), None, False, {"e": "e"})
    kinds = link.borrow(lambda *args: [type(arg).__name__ for arg in args])
    assert kinds(1, 1.0, True, None, "a", (1,), [1], {1: 1}, torch.ones(1), torch.float16, len) == [
        *("int", "float", "bool", "NoneType", "str", "tuple", "list", "dict", "Tensor", "dtype", "BorrowedFunction")
    ]


def test_functions_keep_their_state_and_their_defaults(link):
    counts = []

    def count(x, times=[]):  # noqa: B006
        counts.append(float(x))
        times.append(1)
        return len(times)

    borrowed = link.borrow(count)
    assert [borrowed(torch.tensor(float(i))) for i in range(3)] == [1, 2, 3]
    assert counts == [0.0, 1.0, 2.0]


def test_functions_that_return_functions(link):
    guided = link.borrow(lambda denoise, w: lambda x: (1 + w) * denoise(x) - w * x)
    answer = guided(torch.sin, 2.5)
    x = x_of(5, 2)
    assert isinstance(answer, BorrowedFunction)
    assert (answer.text, repr(answer)) == ("a function", "<a function beyond the sandbox>")
    near(answer(x), 3.5 * torch.sin(x) - 2.5 * x)
    near(answer(2 * x), 3.5 * torch.sin(2 * x) - 5 * x)


def test_generators_are_iterated_one_by_one(link):
    asked = []

    def walk(score, x, n):
        for i in range(n):
            x = x + score(x, i)
            yield x, i

    def score(x, i):
        asked.append(i)
        return x / (i + 1)

    steps, x = link.borrow(walk)(score, x_of(3), 4), x_of(3)
    assert isinstance(steps, BorrowedIterator)
    near(next(steps), (2 * x, 0))
    assert asked == [0], "lazily"
    near(list(steps), list(walk(lambda x, i: x / (i + 1), x, 4))[1:])
    assert list(steps) == []
    with pytest.raises(StopIteration):
        next(steps)
    assert list(link.borrow(lambda: map(abs, [-1, 2.0]))()) == [1, 2.0]


def test_an_iterator_that_fails_says_so(link):
    def broken():
        yield 1
        raise ValueError("no second")

    steps = link.borrow(broken)()
    assert next(steps) == 1
    with pytest.raises(RemoteFailure, match=r"^ValueError: no second$"):
        next(steps)


class Gate(nn.Module):
    def __init__(self, width, bias=False):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0, 1, width, dtype=float64))
        self.register_buffer("shift", torch.full((width,), float(bias), dtype=float64))
        self.calls = 0

    def forward(self, x, *, twice=False):
        self.calls += 1
        return (1 + twice) * x * torch.sigmoid(self.scale * x) + self.shift


def test_modules_are_called_read_and_loaded(link):
    own, x = Gate(3), x_of(2, 3)
    lent = Gate(3)
    gate = link.borrow(lent)
    near(gate(x), own(x))
    near(gate(x, twice=True), own(x, twice=True))
    assert (gate.calls, gate.training) == (2, True)
    near(gate.scale, own.scale)
    assert gate.scale.requires_grad
    assert exactly(gate.state_dict(), dict(own.state_dict()))
    assert [tuple(p.shape) for p in gate.parameters()] == [(3,)]
    gate.load_state_dict({"scale": torch.full((3,), 2.0, dtype=float64), "shift": torch.ones(3, dtype=float64)})
    near(gate(x), x * torch.sigmoid(2 * x) + 1)
    assert lent.scale.tolist() == [2.0] * 3
    assert isinstance(gate.eval(), BorrowedFunction)
    assert gate.training is lent.training is False
    gate.scale.data.zero_()
    assert lent.scale.tolist() == [2.0] * 3, "what is read is a copy"


def test_classes_are_called_and_their_objects_have_methods(link):
    class Counter:
        start = 3

        def __init__(self, step):
            self.at, self.step = self.start, step

        def up(self, times=1):
            self.at += times * self.step
            return self

    counter = link.borrow(Counter)(2)
    assert type(counter) is Borrowed
    assert (counter.at, counter.step) == (3, 2)
    assert counter.up().up(times=5).at == 15
    assert link.borrow(Gate)(4)(torch.ones(1, 4, dtype=float64)).shape == (1, 4)
    assert link.borrow(Counter).start == 3
    with pytest.raises(RemoteFailure, match="AttributeError: 'Counter' object has no attribute 'down'"):
        counter.down()
    with pytest.raises(AttributeError, match="_secret"):
        counter._secret  # noqa: B018


def test_an_object_given_back_is_the_very_same(link):
    made = Gate(2)
    give, same = link.borrow(lambda: made), link.borrow(lambda other: other is made)
    assert same(give()) is True
    assert same(Gate(2)) is False
    mine = object()
    assert link.borrow(lambda o: o)(mine) is mine
    assert link.borrow(lambda o: [o, {"k": (o,)}])(len) == [len, {"k": (len,)}]


ODD = {
    "bytes": (b"x", "a bytes b'x'"),
    "a set": ({1}, "a set {1}"),
    "complex": (1j, "a complex 1j"),
    "2**63": (2**63, "an int 9223372036854775808"),
    "range": (range(3), "a range range(0, 3)"),
    "a class": (int, "a function"),
    "sparse": (torch.eye(2).to_sparse(), "a tensor of layout sparse_coo"),
    "uint16": (torch.ones(2, dtype=torch.uint16), "a uint16 tensor of shape (2,)"),
    "exception": (ValueError("x"), "a ValueError ValueError('x')"),
}


@pytest.mark.parametrize(("value", "text"), ODD.values(), ids=ODD.keys())
def test_odd_values_are_described_as_in_one_process(link, value, text):
    assert describe_value(link.borrow(lambda: value)()) == describe_value(value) == text


def test_descriptions_are_short_whatever_an_object_says_of_itself(link):
    class Long:
        def __repr__(self):
            return "x" * 10**6

    class Broken:
        def __repr__(self):
            raise ValueError

    assert link.borrow(Long()).text == "a Long"
    assert link.borrow(Broken()).text == "an object"
    node = {"mine": 0, "kind": "object", "text": "y" * 10**6}
    assert link.grader.unpack(node, {}).text == "y" * 200, "also where the other side does not cut"


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_callbacks_of_the_grader(link):
    seen = []

    def denoise(x, t, *, y=None):
        seen.append((x.shape, float(t), y))
        return x * (1 - t)

    x, t = x_of(4, 2), torch.tensor(0.25, dtype=float64)
    answer = link.borrow(lambda f, x, t: f(x, t, y=[3]) + f(2 * x, t))
    near(answer(denoise, x, t), 2.25 * x)
    assert seen == [((4, 2), 0.25, [3]), ((4, 2), 0.25, None)]
    assert link.grader.questions == 2


def test_callbacks_within_callbacks(link):
    def integrate(f, x):  # the grader's
        return f(x) + f(2 * x)

    def answer(integrate, x):  # the student's
        inner = lambda z: integrate(lambda u: u * u, z) + z
        return integrate(inner, x)

    x = x_of(3)
    near(link.borrow(answer)(integrate, x), answer(integrate, x))
    near(link.borrow(answer)(integrate, x), 25 * x**2 + 3 * x)


def test_functools_work_on_borrowed_functions(link):
    def wrapped(f, x):
        @functools.wraps(f)
        def twice(x):
            return f(f(x))

        return functools.partial(twice, x)(), functools.reduce(lambda a, g: g(a), [f, f], x), [*map(f, [x, x])]

    x = x_of(2)
    near(link.borrow(wrapped)(lambda x: 3 * x, x), (9 * x, 9 * x, [3 * x, 3 * x]))


@pytest.mark.parametrize("name", ["eval", "training", "parameters"])
def test_asking_whether_a_function_has_an_attribute(link, name):
    def careful(f):
        return hasattr(f, name), getattr(f, name, "none")

    assert link.borrow(careful)(len) == (False, "none")


SCHEDULES = [Linear(), Cosine(), DDPM(), Karras()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_schedules_are_real_on_the_other_side_and_themselves_when_they_come_back(link, schedule):
    t = torch.linspace(0, 1, 5, dtype=float64)

    def seen(s, t):
        return isinstance(s, Schedule), type(s).__name__, s(t), s.rates(t)

    near(link.borrow(seen)(schedule, t), (True, type(schedule).__name__, schedule(t), schedule.rates(t)))
    assert link.borrow(lambda s: s)(schedule) is schedule
    assert link.borrow(lambda f, s: f(s))(lambda s: s is schedule, schedule) is True
    assert link.borrow(lambda s, o: [o, s])(schedule, {"s": schedule}) == [{"s": schedule}, schedule]
    assert link.grader.questions == 1, "a schedule is computed where it is asked"


def test_mixtures_are_real_too(link):
    world, x = ring(dtype=float64), x_of(6, 2)
    t = torch.zeros((), dtype=float64)
    seen = link.borrow(lambda m, x, t, s: (type(m).__name__, m.score(x, t, s), m.log_prob(x, t, s)))
    near(seen(world, x, t, Linear()), ("Mixture", world.score(x, t, Linear()), world.log_prob(x, t, Linear())))


def test_generators_cross_with_their_state(link):
    def draws(g):
        return torch.randn(3, generator=g, dtype=float64), torch.rand(2, generator=g), torch.randperm(5, generator=g)

    def begun():
        generator = Generator().manual_seed(2**48 - 3)
        torch.randn(3, generator=generator)  # an odd number, so that a half-used pair is part of the state
        torch.rand(1, generator=generator)
        return generator

    near(link.borrow(draws)(begun()), draws(begun()), atol=0)
    mine = begun()
    link.borrow(draws)(mine)
    near(draws(mine), draws(begun()), atol=0)


def test_a_schedule_that_the_student_made_can_be_given_to_the_graders_function(link):
    def answer(noised, x):
        return noised(Cosine(), x)

    def noised(schedule, x):
        alpha, sigma = schedule(torch.tensor(0.25, dtype=float64))
        return alpha * x + sigma

    x = x_of(3)
    near(link.borrow(answer)(noised, x), answer(noised, x))


def test_an_object_of_the_library_that_the_student_made_can_be_returned(link):
    schedule = link.borrow(Linear)()
    assert describe_value(schedule) == describe_value(Linear()) == "a function"
    near(schedule(torch.tensor(0.25)), (torch.tensor(0.75), torch.tensor(0.25)))
    assert isinstance(link.borrow(lambda: Generator().manual_seed(0))(), Borrowed)


# --- gradients --------------------------------------------------------------------------------------------------------


def quartic(x):
    return (x**4).sum()


def vector(x):
    return torch.sin(x) * x.sum() + x.flip(0) ** 3


def pair(a, b):
    return a * torch.tanh(b) + b**2


def by_grad(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def into_a_leaf(f, x):
    x = x.clone().requires_grad_()
    f(x).sum().backward()
    (2 * f(x).sum()).backward()  # adds up
    return x.grad


def through_own_code(f, x):
    x = x.clone().requires_grad_()
    y = f(torch.exp(x) * 2)
    return torch.autograd.grad((y * x).sum(), x)[0]


def twice_through_one_graph(f, x):
    x = x.clone().requires_grad_()
    y = f(x)
    return torch.autograd.grad(y[0], x, retain_graph=True)[0], torch.autograd.grad(y[1], x)[0]


def hessian_vector(f, x):
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    return torch.autograd.grad((g * torch.arange(3, dtype=x.dtype)).sum(), x)[0]


def third(f, x):
    x = x.clone().requires_grad_()
    y = f(x).sum()
    found = []
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y)
    return found


def a_loss_trained(f, x):
    theta = torch.ones(3, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (f(theta * x) ** 2).sum().backward()
        optimizer.step()
    return theta.detach()


def with_checkpoint(f, x):
    from torch.utils.checkpoint import checkpoint

    x = x.clone().requires_grad_()
    checkpoint(f, x, use_reentrant=False).sum().backward()
    return x.grad


def a_loop_of_calls(f, x):
    x = y = x.clone().requires_grad_()
    for _ in range(4):
        y = y + 0.1 * f(y)
    return torch.autograd.grad(y.sum(), x)[0]


F, functional = torch.func, torch.autograd.functional
rows = lambda x: torch.stack([x, 2 * x, -x])
DIFFERENTIATED = {
    "autograd.grad": by_grad,
    "backward into a leaf": into_a_leaf,
    "own code around it": through_own_code,
    "one graph twice": twice_through_one_graph,
    "Hessian-vector product": hessian_vector,
    "third derivative": third,
    "a training loop": a_loss_trained,
    "checkpoint": with_checkpoint,
    "a chain of calls": a_loop_of_calls,
    "func.grad": lambda f, x: F.grad(lambda z: f(z).sum())(x),
    "func.grad twice": lambda f, x: F.grad(lambda z: F.grad(lambda u: f(u).sum())(z).sum())(x),
    "func.grad_and_value": lambda f, x: F.grad_and_value(lambda z: f(z).sum())(x),
    "func.vjp": lambda f, x: F.vjp(f, x)[1](torch.ones_like(x))[0],
    "func.jacrev": lambda f, x: F.jacrev(f)(x),
    "func.jacrev twice": lambda f, x: F.jacrev(F.jacrev(f))(x),
    "func.jacfwd": lambda f, x: F.jacfwd(f)(x),
    "func.jvp": lambda f, x: F.jvp(f, (x,), (torch.ones_like(x),)),
    "func.hessian": lambda f, x: F.hessian(f)(x),
    "vmap": lambda f, x: torch.vmap(f)(rows(x)),
    "vmap along another axis": lambda f, x: torch.vmap(f, in_dims=1, out_dims=1)(rows(x)),
    "vmap of a gradient": lambda f, x: torch.vmap(F.grad(lambda z: f(z).sum()))(rows(x)),
    "vmap of a Jacobian": lambda f, x: torch.vmap(F.jacrev(f))(rows(x)),
    "vmap in vmap": lambda f, x: torch.vmap(torch.vmap(f))(torch.stack([rows(x), rows(x) + 1])),
    "gradient of a vmap": lambda f, x: by_grad(torch.vmap(f), rows(x)),
    "functional.jacobian": lambda f, x: functional.jacobian(f, x),
    "functional.hessian": lambda f, x: functional.hessian(lambda z: f(z).sum(), x),
    "functional.hvp": lambda f, x: functional.hvp(lambda z: f(z).sum(), x, x),
    "functional.jvp": lambda f, x: functional.jvp(f, x, x),
    "in float32": lambda f, x: by_grad(f, x.float()),
}


@pytest.mark.parametrize("way", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
def test_the_student_differentiates_the_graders_function(link, way):
    x = x_of(3)
    near(link.borrow(way)(vector, x), way(vector, x))


SCALAR = [name for name in DIFFERENTIATED if name not in ("one graph twice", "func.vjp")]


@pytest.mark.parametrize("name", SCALAR)
def test_log_probabilities_are_differentiated_too(link, name):
    way = DIFFERENTIATED[name]
    if name == "vmap along another axis":
        way = lambda f, x: torch.vmap(f, in_dims=1)(rows(x))  # a number has no axis of its own
    f, x = lambda z: torch.logsumexp(z, -1) - z[..., 0] ** 2, x_of(3)
    near(link.borrow(way)(f, x), way(f, x))


@pytest.mark.parametrize("way", DIFFERENTIATED.values(), ids=DIFFERENTIATED.keys())
def test_the_grader_differentiates_the_students_function(link, way):
    x = x_of(3)
    near(way(link.borrow(vector), x), way(vector, x))


@pytest.mark.xfail(strict=True, reason="PyTorch's old vmap shows functions of autograd tensors nobody can unpack")
@pytest.mark.parametrize("f", [vector])
def test_jacobians_by_the_old_vmap(link, f):
    x = x_of(3)
    near(link.borrow(lambda f, x: functional.jacobian(f, x, vectorize=True))(f, x), functional.jacobian(f, x))


@pytest.mark.xfail(strict=True, reason="linearize traces the function, and a call to another process leaves no trace")
def test_linearize(link):
    x = x_of(3)
    along = torch.ones_like(x)
    near(link.borrow(lambda f, x: F.linearize(f, x)[1](along))(vector, x), F.jvp(vector, (x,), (along,))[1])


def test_known_derivatives(link):
    x = torch.tensor([1.0, 2.0, -3.0], dtype=float64)
    near(link.borrow(by_grad)(quartic, x), 4 * x**3)
    near(link.borrow(hessian_vector)(quartic, x), 12 * x**2 * torch.arange(3))
    near(link.borrow(third)(quartic, x), [4 * x**3, 12 * x**2, 24 * x])
    near(link.borrow(lambda f, x: F.jacrev(F.jacrev(f))(x))(quartic, x), torch.diag(12 * x**2))


@pytest.mark.parametrize("needs", [(True, False), (False, True), (True, True), (False, False)])
def test_which_of_two_inputs_needs_gradients(link, needs):
    def answer(f, a, b, needs):
        a, b = a.clone().requires_grad_(needs[0]), b.clone().requires_grad_(needs[1])
        y = f(a, b=b)
        if any(needs):
            y.sum().backward()
        return y.detach(), y.requires_grad, a.grad, b.grad

    seen = []

    def f(a, b):
        seen.append((a.requires_grad, b.requires_grad))
        return pair(a, b)

    a, b = x_of(3), x_of(3, seed=1)
    near(link.borrow(answer)(f, a, b, needs), answer(f, a, b, needs))
    assert seen[0] == needs


def test_tensors_in_containers_are_differentiated_as_well(link):
    def answer(f, x):
        x = x.clone().requires_grad_()
        out = f([x, {"k": (x * 2, 3)}], other={"z": x**2})
        return torch.autograd.grad(out["a"][0].sum() + out["b"], x)[0]

    def f(parts, other):
        x, (y, n) = parts[0], parts[1]["k"]
        return {"a": (x * y * n, "text"), "b": (other["z"] ** 2).sum()}

    x = x_of(4)
    near(link.borrow(answer)(f, x), 12 * x + 4 * x**3)


def test_results_of_which_only_some_are_used(link):
    def several(x):
        return x.sin(), [x.sum(), (x > 0).long()], 3, x.detach() * 2, x.prod()

    def answer(f, x):
        x = x.clone().requires_grad_()
        first, (total, mask), n, constant, product = f(x)
        found = torch.autograd.grad(total * n, x, retain_graph=True)[0], torch.autograd.grad(first[0] + product, x)[0]
        return *found, mask, constant

    x = x_of(3)
    near(link.borrow(answer)(several, x), answer(several, x))


def test_what_does_not_depend_on_an_input_has_no_slope(link):
    def answer(f, x, y):
        x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
        return torch.autograd.grad(f(x, y).sum(), (x, y))

    x, y = x_of(3), x_of(3, seed=1)
    near(link.borrow(answer)(lambda x, y: x**2, x, y), (2 * x, torch.zeros(3, dtype=float64)))
    near(link.borrow(answer)(lambda x, y: torch.ones(3, dtype=float64), x, y), (0 * x, 0 * y))
    near(link.borrow(by_grad)(lambda x: x.round(), x), 0 * x)


def test_labels_and_other_integers_pass_through(link):
    table = x_of(5, 3)

    def model(x, t, *, y):
        assert (x.dtype, y.dtype) == (float64, torch.int64)
        return x * t + table[y]

    def answer(model, x, y):
        x = x.clone().requires_grad_()
        z = model(x, torch.tensor(0.5, dtype=x.dtype), y=y)
        return z.detach(), torch.autograd.grad(z.sum(), x)[0], model(x, 2, y=y + 1).detach()

    x, y = x_of(4, 3), torch.tensor([0, 1, 3, 3])
    near(link.borrow(answer)(model, x, y), (x / 2 + table[y], torch.full_like(x, 0.5), 2 * x + table[y + 1]))


def test_vmap_over_labels_as_well(link):
    table = x_of(5, 3)

    def answer(model, x, y):
        one = torch.vmap(lambda x, y: model(x, y=y))(x, y)
        gradients = torch.vmap(F.grad(lambda x, y: model(x, y=y).sum()))(x, y)
        return one, gradients, F.hessian(lambda z: model(z, y=y).sum())(x)

    model = lambda x, y: (x * table[y]) ** 2
    x, y = x_of(4, 3), torch.tensor([0, 1, 3, 3])
    row = table[y]  # the same by hand: PyTorch's vmap has no rule for a table indexed by batched labels
    hessian = F.hessian(lambda z: model(z, y=y).sum())(x)
    near(link.borrow(answer)(model, x, y), ((x * row) ** 2, 2 * x * row**2, hessian))


def test_float32_stays_float32_and_agrees_to_its_last_digits(link):
    x = x_of(3, dtype=torch.float32)
    got = link.borrow(lambda f, x: (f(x), by_grad(f, x)))(vector, x)
    assert [t.dtype for t in got] == [torch.float32] * 2
    near(got, (vector(x), by_grad(vector, x)), atol=0)


def test_gradients_are_on_or_off_as_where_the_call_was_made(link):
    def modes(f, x):
        x = x.clone().requires_grad_()
        found = []
        for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            with mode():
                y, on, needs = f(x)
                found += [y.detach().clone(), on, needs, y.requires_grad]
        return found

    def f(x):
        return x * 2, torch.is_grad_enabled(), x.requires_grad

    x = x_of(3)
    near(link.borrow(modes)(f, x), modes(f, x))
    on = link.borrow(torch.is_grad_enabled)
    assert on() is True
    with torch.no_grad():
        assert on() is False
    assert on() is True


def test_a_gradient_inside_the_callback_works_under_no_grad(link):
    def energy_model(x):
        with torch.enable_grad():
            return by_grad(vector, x)

    def answer(f, x):
        with torch.no_grad():
            return f(x)

    x = x_of(3)
    near(link.borrow(answer)(energy_model, x), energy_model(x))


def test_derivatives_through_both_sides_at_once(link):
    def answer(f, x):  # the student hands out a function that leans on the grader's
        return lambda z: f(z) * x

    x = x_of(3)
    here = answer(vector, x)
    there = link.borrow(answer)(vector, x)
    near(by_grad(there, x), by_grad(here, x))
    near(third(there, x), third(here, x))
    near(F.jacrev(there)(x), F.jacrev(here)(x))


def test_a_callback_that_writes_while_the_grader_differentiates(link):
    # The writing belongs to the inner call; the pullback around it has no arguments that could have changed.
    def answer(f, x):
        return f(x, lambda z: z.mul_(2))

    def f(x, double):
        scratch = torch.ones(3, dtype=float64)
        double(scratch)
        return x**2 * scratch

    x = x_of(3)
    borrowed = link.borrow(answer)
    near(by_grad(lambda z: borrowed(f, z), x), 4 * x)


# --- written into -----------------------------------------------------------------------------------------------------


def add_one(x):
    x += 1


WRITERS = {
    "a tensor": (add_one, lambda: x_of(3)),
    "an integer tensor": (add_one, lambda: torch.arange(3)),
    "a transposed tensor": (add_one, lambda: x_of(2, 3).T),
    "one number of many": (lambda x: x[1].fill_(7), lambda: x_of(3)),
    "a shape": (lambda x: x.unsqueeze_(0), lambda: x_of(3)),
    "a size": (lambda x: x.resize_(2), lambda: x_of(3)),
    "a longer list": (lambda x: x.append(1.0), lambda: [0.5]),
    "a shorter list": (lambda x: x.clear(), lambda: [0.5, 1]),
    "a sorted list": (lambda x: x.sort(), lambda: [3, 1, 2]),
    "a dict": (lambda x: x.update(b=2), lambda: {"a": 1}),
    "a dict without a key": (lambda x: x.pop("a"), lambda: {"a": 1, "c": 2}),
    "a tensor in a list": (lambda x: add_one(x[1]), lambda: [1, x_of(2)]),
    "a tensor in a dict": (lambda x: add_one(x["k"]), lambda: {"k": x_of(2)}),
    "a tensor in a tuple": (lambda x: add_one(x[0]), lambda: (x_of(2), 3)),
    "a list in a tuple": (lambda x: x[1].append(4), lambda: (1, [])),
}


@pytest.mark.parametrize(("write", "make"), WRITERS.values(), ids=WRITERS.keys())
def test_what_is_written_into_an_argument_is_seen_by_the_caller(link, write, make):
    here, there = make(), make()
    write(here)
    before = make()
    assert not exactly(here, before), "control: it does write"
    link.borrow(lambda a, x, b: write(x))(0, there, torch.ones(1))
    assert exactly(there, here)


def test_what_is_written_into_a_part_of_a_tensor_is_seen_in_the_whole(link):
    x = torch.zeros(4)
    link.borrow(add_one)(x[1:3])
    assert x.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_writing_into_a_tensor_of_which_many_entries_are_one(link):
    # In one process PyTorch would refuse; either way it is no fault of the conversation.
    x = torch.ones(1, 2).expand(3, 2)
    with contextlib.suppress(RemoteFailure):
        link.borrow(add_one)(x)
    assert link.borrow(lambda: 1)() == 1


UNTOUCHED = {
    "numbers": lambda: (1, 2.5, "a", None, [1], {"a": 2}),
    "tensors": lambda: (x_of(3), torch.arange(3), torch.tensor(True)),
    "NaN and infinity": lambda: (torch.tensor([math.nan, math.inf, -math.inf]), {"x": torch.tensor([math.nan])}),
    "NaN among numbers": lambda: (math.nan, [math.nan, 1.0]),
    "complex NaN": lambda: (torch.full((2,), complex(math.nan, 1)), torch.ones(0, 3)),
    "nested": lambda: ([(x_of(2), {"a": [x_of(1)]})], {"b": (x_of(3),)}),
}


@pytest.mark.parametrize("make", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_what_is_only_read_is_not_reported(link, make):
    args = make()
    places = [a.data_ptr() for a in args if isinstance(a, Tensor)]
    link.borrow(lambda *args: [a + 1 if isinstance(a, Tensor) else a for a in args])(*args)
    assert link.worker.changed == []
    assert [a.data_ptr() for a in args if isinstance(a, Tensor)] == places
    assert exactly(args, make())


# --- printing ---------------------------------------------------------------------------------------------------------


def printed(call) -> str:
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.suppress(RemoteFailure):
        call()
    return screen.getvalue()


def test_prints_come_along_in_order(link):
    def chatty(f):
        print("before", end=" ")
        f()
        print("after")
        print("not shown", file=sys.stderr)

    assert printed(lambda: link.borrow(chatty)(lambda: None)) == "before after\n"

    def failing():
        print("so far")
        raise ValueError

    assert printed(lambda: link.borrow(failing)()) == "so far\n"
    assert printed(lambda: next(link.borrow(lambda: (print(i) for i in range(3)))())) == "0\n"


def test_a_flood_of_prints_is_cut(link):
    def flood():
        for _ in range(1000):
            print("x" * 100)

    text = printed(lambda: link.borrow(flood)())
    assert (text[:101], len(text)) == ("x" * 100 + "\n", 401)


# --- exceptions -------------------------------------------------------------------------------------------------------


def raising(error):
    def function(*_):
        raise error

    return function


def test_the_students_exception_is_named_with_the_students_line(link):
    def answer(x):
        y = x + 1
        return torch.cat([y, torch.ones(2, 2)])

    number = answer.__code__.co_firstlineno + 2
    with pytest.raises(RemoteFailure) as caught:
        link.borrow(answer)(torch.ones(3))
    failure = caught.value.failure
    assert failure.name == "RuntimeError"
    assert "Tensors must have same number of dimensions" in failure.message
    assert failure.where == f" at line {number}, `return torch.cat([y, torch.ones(2, 2)])`,"


ERRORS = {
    "ValueError": (ValueError("no luck"), "no luck"),
    "without a text": (ZeroDivisionError(), ""),
    "KeyError": (KeyError("a"), "a"),
    "NotImplementedError": (NotImplementedError(), ""),
    "AssertionError": (AssertionError("x\ny"), "x\ny"),
    "StopIteration": (StopIteration(3), "3"),
    "SystemExit": (SystemExit("bye"), "bye"),
    "KeyboardInterrupt": (KeyboardInterrupt(), ""),
    "RecursionError": (RecursionError("deep"), "deep"),
    "UnicodeDecodeError": (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        "'utf-8' codec can't decode byte 0xff in position 0: bad",
    ),
    "ExceptionGroup": (ExceptionGroup("all", [ValueError()]), "all (1 sub-exception)"),
    "OutOfMemoryError": (torch.OutOfMemoryError("full"), "full"),
    "very long": (ValueError("x" * 10_000), "x" * 2000),
    "lone surrogates": (ValueError("\ud800"), "\ud800"),
}


@pytest.mark.parametrize(("error", "text"), ERRORS.values(), ids=ERRORS.keys())
def test_every_exception_of_the_student_arrives(link, error, text):
    with pytest.raises(RemoteFailure) as caught:
        link.borrow(raising(error))()
    assert (caught.value.failure.name, caught.value.failure.message) == (type(error).__name__, text)
    assert link.borrow(lambda: 1)() == 1, "and the conversation goes on"


def test_exceptions_that_cannot_be_printed(link):
    class Rude(Exception):
        def __str__(self):
            raise SystemError("ha")

    class Ruder(Exception):
        def __str__(self):
            return 3  # type: ignore[return-value]

    for kind in (Rude, Ruder):
        with pytest.raises(RemoteFailure) as caught:
            link.borrow(raising(kind()))()
        assert (caught.value.failure.name, caught.value.failure.message) == (kind.__name__, "")


CAUGHT = [ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError, AssertionError]


@pytest.mark.parametrize("kind", [*CAUGHT, OSError, FloatingPointError, StopAsyncIteration], ids=lambda k: k.__name__)
def test_the_student_catches_the_graders_exceptions_by_type(link, kind):
    def answer(f):
        try:
            f()
        except kind as error:
            return type(error).__name__, str(error)

    error = kind("message")
    assert link.borrow(answer)(raising(error)) == (kind.__name__, str(error))


def test_other_exceptions_of_the_grader_are_runtime_errors(link):
    class Special(Exception):
        pass

    def answer(f):
        try:
            f()
        except RuntimeError as error:
            return str(error)

    assert link.borrow(answer)(raising(Special("own"))) == "Special: own"
    assert link.borrow(answer)(raising(StopIteration(3))) == "StopIteration: 3"
    assert link.borrow(answer)(raising(UnicodeDecodeError("utf-8", b"", 0, 1, "x"))).startswith("UnicodeDecodeError: ")
    group = ExceptionGroup("all", [ValueError()])
    assert link.borrow(answer)(raising(group)) == "ExceptionGroup: all (1 sub-exception)"


def test_an_exception_that_crosses_several_times_keeps_its_name_and_place(link):
    def innermost(x):
        raise KeyError("lost")

    def answer(apply, x):
        return apply(innermost, x)

    def apply(f, x):  # the grader's
        return f(x)

    with pytest.raises(RemoteFailure) as caught:
        link.borrow(answer)(apply, torch.ones(1))
    number = answer.__code__.co_firstlineno + 1
    assert caught.value.failure == Failure("KeyError", "lost", f" at line {number}, `return apply(innermost, x)`,")


def test_the_grader_catches_the_students_exception_inside_its_own_function(link):
    def patient(f):
        try:
            return f()
        except RemoteFailure as error:
            return f"caught {error}"

    assert link.borrow(lambda p: p(raising(ValueError("x"))))(patient) == "caught ValueError: x"


def test_a_result_too_large_for_the_wire_is_the_students_error(link):
    with pytest.raises(RemoteFailure, match=r"^ValueError: a message of \d+ bytes is too large to send$"):
        link.borrow(lambda: torch.zeros(wire.MAX_BLOB // 4))()
    with pytest.raises(RemoteFailure, match="too large to send"):
        link.borrow(lambda: "x" * wire.MAX_TEXT)()
    assert link.borrow(lambda: 1)() == 1


# --- limits -----------------------------------------------------------------------------------------------------------


def ended(call) -> SessionEnded:
    with pytest.raises(SessionEnded) as caught:
        call()
    return caught.value


def test_the_number_of_questions_is_limited(link, monkeypatch):
    monkeypatch.setattr(session, "MAX_QUESTIONS", 5)
    ask = link.borrow(lambda f, n: sum(f(i) for i in range(n)))
    assert ask(abs, 5) == 10
    end = ended(lambda: ask(abs, 1))
    assert end.state is State.TAMPERED
    assert end.message == "The grader was sent more than 5 calls back, or more than 32 within each other."


def test_how_deep_calls_nest_is_limited(link):
    def down(call, n):  # the student's
        return n if n == 0 else call(lambda m: down(call, m), n - 1)

    assert link.borrow(down)(lambda f, n: f(n), session.MAX_NESTED) == 0
    assert link.grader.nested == 0
    end = ended(lambda: link.borrow(down)(lambda f, n: f(n), session.MAX_NESTED + 1))
    assert (end.state, "within each other" in end.message) == (State.TAMPERED, True)


def test_the_number_of_bytes_is_limited(link, monkeypatch):
    monkeypatch.setattr(session, "MAX_BYTES", 100_000)
    assert len(link.borrow(lambda: torch.zeros(10_000))()) == 10_000
    assert 40_000 < link.grader.bytes < 41_000
    assert len(link.borrow(lambda: torch.zeros(10_000))()) == 10_000
    end = ended(lambda: link.borrow(lambda: torch.zeros(10_000))())
    assert end.state is State.TAMPERED
    assert end.message == "The grader was sent more than 9.31323e-05 GiB of messages."


def test_a_failure_in_nested_calls_does_not_count_against_later_ones(link):
    fails = link.borrow(lambda f: f())
    for _ in range(2 * session.MAX_NESTED):
        with pytest.raises(RemoteFailure):
            fails(raising(ValueError()))
    assert link.grader.nested == 0


def test_a_worker_that_is_gone_ends_the_conversation(link):
    def leave():
        raise wire.Closed

    end = ended(lambda: link.borrow(leave)())
    assert (end.state, end.message) == (State.CRASH, "the worker has gone: None")


# --- lies: a worker that says what it likes ---------------------------------------------------------------------------

NONCE = "the nonce"


class Liar:
    """A grader whose other side has said its part already: `frames`, in that order."""

    def __init__(self, *frames, tensors=None):
        stream = io.BytesIO()
        for message in frames:
            wire.write_frame(stream, message, tensors or {})
        self.sent = io.BytesIO()
        gone, never = SessionEnded(State.CRASH, "gone"), time.monotonic() + 600
        self.grader = Grader(io.BytesIO(stream.getvalue()), self.sent, lambda: gone, never)

    def ask(self, *args, **kwargs):
        return BorrowedFunction(self.grader, 0, "a function")(*args, **kwargs)

    def answers(self):
        """What the grader sent, without its first question."""
        self.sent.seek(0)
        found = []
        with contextlib.suppress(wire.Closed):
            while True:
                found.append(wire.read_frame(self.sent)[0])
        return found[1:]


@pytest.fixture(autouse=True)
def known_nonce(request, monkeypatch):
    if "lie" in request.node.name:
        monkeypatch.setattr(peer.secrets, "token_hex", lambda n: NONCE)


def reply(**parts):
    return {"reply": NONCE, **parts}


def test_lies_need_the_nonce():
    assert Liar(reply(value=7)).ask() == 7, "control"
    end = ended(Liar({"reply": "another", "value": 7}).ask)
    assert end.state is State.TAMPERED
    assert end.message == "The grader was sent an answer to a question that was not asked."
    assert ended(Liar({"value": 7}).ask).message == end.message


def test_nonces_are_fresh(monkeypatch):
    seen = set()
    for _ in range(50):
        liar = Liar(reply(value=1))
        ended(liar.ask)
        liar.sent.seek(0)
        seen.add(wire.read_frame(liar.sent)[0]["nonce"])
    assert len(seen) == 50
    assert all(len(nonce) == 16 for nonce in seen)


@pytest.mark.parametrize("op", ["attribute", "next", "start", "end", "", None, ["call"], "__class__"])
def test_lies_may_ask_the_grader_for_calls_and_nothing_else(op):
    question = {"op": op, "ref": 0, "name": "__globals__", "nonce": "theirs"}
    liar = Liar(question, reply(value=1))
    assert liar.ask(iter([1, 2])) == 1
    (answer,) = liar.answers()
    assert (answer["reply"], answer["value"]) == ("theirs", None)
    assert answer["failure"]["name"] in ("PermissionError", "AttributeError")


def test_lies_control_the_worker_lets_attributes_and_iterators_be_asked(link):
    class Open:
        here = 5

    assert link.borrow(Open()).here == 5
    assert next(link.borrow(iter([6]))) == 6


def test_lies_may_call_what_was_lent():
    call = {"op": "call", "ref": 0, "grads": [], "grad_mode": False, "inputs": [], "nonce": "theirs"}
    call["body"] = {"dict": [["shape", {"list": [{"list": [4]}, {"dict": []}]}], ["tensors", {"list": []}]]}
    liar = Liar(call, reply(value=1))
    assert liar.ask(lambda n: n**2) == 1
    assert liar.answers() == [{"reply": "theirs", "value": 16}]


@pytest.mark.parametrize("ref", [1, -1, 10**6, 0.0, "0", None, [0], {}])
def test_lies_about_handles(ref):
    message = ended(lambda: Liar({"op": "call", "ref": ref}, reply(value=1)).ask(abs)).message
    assert message == "The grader was sent a handle that was never given."
    message = ended(lambda: Liar(reply(value={"yours": ref})).ask(abs)).message
    assert message == "The grader was sent a handle that was never given."


FOREIGN = {
    "object": {"object": ["minidiff.schedules", "Linear"], "state": {"dict": []}, "ref": 0},
    "any class": {"object": ["os", "_Environ"], "state": {"dict": []}, "ref": 0},
    "generator": {"generator": {"tensor": "0"}},
    "a handle that is no number": {"mine": "0", "kind": "function", "text": ""},
    "a slot that is no number": {"slot": "0"},
}


@pytest.mark.parametrize("node", FOREIGN.values(), ids=FOREIGN.keys())
def test_lies_rebuild_nothing_in_the_grader(node):
    tensors = {"0": Generator().get_state()}
    with mock.patch.object(peer.importlib, "import_module") as imported:
        end = ended(Liar(reply(value=node), tensors=tensors).ask)
    assert end.state is State.TAMPERED
    assert end.message == "The grader was sent a value of an unknown form."
    assert not imported.called


def test_lies_control_the_worker_rebuilds(link):
    state = Generator().manual_seed(3).get_state()
    rebuilt = link.worker.unpack(FOREIGN["object"], {})
    assert type(rebuilt) is Linear
    assert torch.equal(link.worker.unpack(FOREIGN["generator"], {"0": state}).get_state(), state)


BAD_CALLS = {
    "no body": {},
    "a list": {"body": {"list": []}},
    "no tensors": {"body": {"dict": [["shape", {"list": []}]]}},
    "tensors that are none": {"body": {"dict": [["shape", {"list": []}], ["tensors", {"list": [1]}]]}},
    "tensors that are a number": {"body": {"dict": [["shape", {"list": []}], ["tensors", 1]]}},
    "a slot without a tensor": {
        "body": {"dict": [["shape", {"list": [{"list": [{"slot": 0}]}, {"dict": []}]}], ["tensors", {"list": []}]]}
    },
    "a negative slot": {
        "body": {"dict": [["shape", {"list": [{"list": [{"slot": -1}]}, {"dict": []}]}], ["tensors", {"list": []}]]}
    },
    "no shape": {"body": {"dict": [["shape", 3], ["tensors", {"list": []}]]}},
    "keywords that are no texts": {
        "body": {"dict": [["shape", {"list": [{"list": []}, {"dict": [[1, 2]]}]}], ["tensors", {"list": []}]]}
    },
    "infinite inputs": {"inputs": [math.inf], "body": {"dict": [["shape", 1], ["tensors", {"list": []}]]}},
    "too many orders": {"inputs": [1] * 9, "body": {"dict": [["shape", 1], ["tensors", {"list": []}]]}},
    "inputs that are texts": {"inputs": "abc", "body": {"dict": [["shape", 1], ["tensors", {"list": []}]]}},
}


@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_lies_about_calls_never_run_the_function(call):
    ran = []
    liar = Liar({"op": "call", "ref": 0, "grads": [], "inputs": [], **call}, reply(value=1))
    with contextlib.suppress(SessionEnded):
        assert liar.ask(lambda *args, **kwargs: ran.append(1)) == 1
        assert "failure" in liar.answers()[0]
    assert ran == []


@pytest.mark.parametrize(
    "changed",
    [[[1, 2]], [[-1, 2]], [[0]], [["0", 2]], [[None, 2]], [[[0], 2]], [3], [[0, {"yours": 5}]], [[0, {"tensor": "7"}]]],
    ids=str,
)
def test_lies_about_changed_arguments(changed):
    end = ended(lambda: Liar(reply(value=1, changed=changed)).ask(torch.ones(2)))
    assert end.state is State.TAMPERED


@pytest.mark.parametrize("new", [1, "x", None, {"list": []}, {"dict": []}, {"mine": 1, "kind": "function"}], ids=str)
def test_lies_cannot_turn_an_argument_into_something_else(new):
    tensor, items, pairs = torch.ones(2), (1, 2), 5
    changed = [[0, new], [1, new], [2, new]]
    assert Liar(reply(value=1, changed=changed)).ask(tensor, items, pairs) == 1
    assert (tensor.tolist(), items, pairs) == ([1.0, 1.0], (1, 2), 5)


def test_lies_about_what_was_printed_are_cut():
    assert len(printed(lambda: Liar(reply(value=1, printed="x" * 10**6)).ask())) <= 1000
    for odd in (5, ["x"], {"a": 1}, None):
        assert printed(Liar(reply(value=1, printed=odd)).ask) == ""


@pytest.mark.parametrize("failure", [5, None, "text", [], [{"name": "x"}]], ids=str)
def test_lies_about_failures(failure):
    assert ended(Liar(reply(failure=failure)).ask).message == "The grader was sent a failure of an unknown form."


def test_lies_in_failures_are_cut_to_size():
    with pytest.raises(RemoteFailure) as caught:
        Liar(reply(failure={"name": "n" * 999, "message": "m" * 9999, "where": "w" * 999})).ask()
    assert caught.value.failure == Failure("n" * 80, "m" * 2000, "w" * 300)
    with pytest.raises(RemoteFailure) as caught:
        Liar(reply(failure={"name": ["x"], "message": 5})).ask()
    assert caught.value.failure == Failure("['x']", "5", "")


SCRAPS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(NONCE),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["mine", "yours", "kind", "slot", "object", "generator", "tensor", "list", "dict"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=6,
)
MESSAGES = st.dictionaries(
    st.sampled_from(
        ["op", "ref", "nonce", "body", "inputs", "grads", "value", "changed", "printed", "failure", "stop", "name"]
    ),
    SCRAPS,
    max_size=5,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, min_size=1, max_size=3), st.booleans())
@example([{"value": {"slot": 5}}], True)
@example([{"value": {"list": [{"slot": 0}]}, "changed": [[0, {"slot": 0}]]}], True)
def test_lies_of_any_kind_end_a_conversation_and_nothing_else(messages, with_nonce):
    frames = [{"reply": NONCE, **m} if with_nonce else m for m in messages]
    with contextlib.suppress(SessionEnded, RemoteFailure), contextlib.redirect_stdout(io.StringIO()):
        Liar(*frames).ask(torch.ones(2), [1], {"a": 1}, abs)
