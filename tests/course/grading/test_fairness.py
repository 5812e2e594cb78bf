"""The verdict on an answer is the same through the wire as in the notebook, and secret inputs are as good as public."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test modules without their folder on the path

from test_peer import Loopback

from minidiff.course.diagnosis import Verdict, judge, try_out
from minidiff.course.exercise import chapters, find, load_chapter
from minidiff.course.grading.mark import Rules
from minidiff.values import RemoteFailure

pytestmark = pytest.mark.slow

EXERCISES = [exercise for name in chapters() for exercise in load_chapter(name)]
RULES = Rules(secret=b"0123456789abcdef", rounds=2)


def named(value):
    return getattr(value, "id", None)


def through_the_wire(exercise, function, seeds) -> Verdict:
    with Loopback() as link:
        return judge(exercise, try_out(exercise, link.borrow(function), seeds))


def secret_seeds(exercise_id, n):
    """48-bit numbers, as `Rules.seeds` gives."""
    drawn = random.Random(exercise_id)
    return [drawn.getrandbits(48) for _ in range(n)]


@pytest.mark.parametrize(("public", "secret"), [(0, 1), pytest.param(2, 2, marks=pytest.mark.stress)])
@pytest.mark.parametrize("exercise", EXERCISES, ids=named)
def test_every_verdict_is_the_same_through_the_wire(exercise, public, secret):
    """On so many public and secret seeds."""
    seeds = (*exercise.seeds[:public], *RULES.seeds(exercise.id, "ann")[:secret])
    functions = {"the reference": exercise.reference}
    functions |= {f"alternative {i}": function for i, function in enumerate(exercise.alternatives)}
    functions |= {mistake.name: mistake.function for mistake in exercise.mistakes}
    here = {name: judge(exercise, try_out(exercise, function, seeds)) for name, function in functions.items()}
    with Loopback() as link:
        borrowed = {name: link.borrow(function) for name, function in functions.items()}
        there = {name: judge(exercise, try_out(exercise, function, seeds)) for name, function in borrowed.items()}
    assert there == here
    diagnoses = {mistake.name: Verdict("mistake", mistake.diagnosis, mistake.name) for mistake in exercise.mistakes}
    assert here == {name: diagnoses.get(name, Verdict("passed", "")) for name in functions}


@pytest.mark.parametrize("n", [3, pytest.param(40, marks=pytest.mark.stress)])
@pytest.mark.parametrize("exercise", EXERCISES, ids=named)
def test_secret_seeds_are_fair(exercise, n):
    seeds = secret_seeds(exercise.id, n)
    rejected = [
        (number, seed)
        for number, function in enumerate((exercise.reference, *exercise.alternatives))
        for seed in seeds
        if judge(exercise, try_out(exercise, function, [seed])).kind != "passed"
    ]
    assert rejected == [], "(0 the reference, 1, 2, … the alternatives; the seed)"
    rounds = [seeds[:3], seeds[3:6]][: n // 3]
    taken = [
        (mistake.name, seeds, verdict.kind, verdict.mistake)
        for mistake in exercise.mistakes
        for seeds in rounds
        if (verdict := judge(exercise, try_out(exercise, mistake.function, seeds))).mistake != mistake.name
    ]
    assert taken == []


def _keep_below(null, p):
    return lambda y, generator: torch.where(torch.rand(len(y), generator=generator) < 1 - p, y, null)


def _in_float64(null, p):
    return lambda y, generator: torch.where(torch.rand(len(y), generator=generator, dtype=torch.float64) < p, null, y)


def _by_choice(null, p):
    def drop(y, generator):
        chosen = torch.multinomial(torch.tensor([1 - p, p]), len(y), replacement=True, generator=generator)
        return torch.where(chosen.bool(), null, y)

    return drop


@pytest.mark.parametrize("n", [10, pytest.param(60, marks=pytest.mark.stress)])
@pytest.mark.parametrize("answer", [_keep_below, _in_float64, _by_choice])
def test_right_answers_with_other_random_numbers_than_the_references(answer, n):
    exercise = find("05-drop-labels")
    seeds = secret_seeds(exercise.id, n)
    rejected = [seed for seed in seeds if judge(exercise, try_out(exercise, answer, [seed])).kind != "passed"]
    assert rejected == []


# --- what honest people write ----------------------------------------------------------------------------------------

SCORE = find("01-posterior-score")
VARIANCE = find("05-cfg-variance")
WALK = find("01-langevin")
DROP = find("05-drop-labels")


def noisy(prior_score, likelihood_score, w):
    import logging
    import warnings

    from tqdm.auto import tqdm

    warnings.warn("careful", stacklevel=1)
    warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    logging.getLogger("answer").warning("logged")
    print("to stdout")
    print("to stderr", file=sys.stderr)
    for _ in tqdm(range(3), desc="steps"):
        pass
    return prior_score + w * likelihood_score


def as_warnings_are_errors(prior_score, likelihood_score, w):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return prior_score + w * likelihood_score


def in_numpy(prior_score, likelihood_score, w):
    return torch.from_numpy(prior_score.numpy() + w * likelihood_score.numpy())


def with_a_graph(prior_score, likelihood_score, w):
    return prior_score.requires_grad_() + w * likelihood_score


def written_elsewhere(prior_score, likelihood_score, w):
    out = torch.empty_like(prior_score)
    torch.add(prior_score, likelihood_score, alpha=w, out=out)
    return out.mT.contiguous().mT


class Called:
    def __call__(self, prior_score, likelihood_score, w):
        return [prior_score + w * likelihood_score]


def variances(c, d, w):
    return c ** (1 + w) / d**w, 1 / ((1 + w) / c - w / d)


def numpy_numbers(c, d, w):
    import numpy as np

    one, two = variances(c, d, w)
    return np.float64(one), np.float64(two)


def number_tensors(c, d, w):
    return [torch.tensor(v, dtype=torch.float64) for v in variances(c, d, w)]


def fractions_of_numbers(c, d, w):
    class Number(float):
        pass

    return tuple(Number(v) for v in variances(c, d, w))


def as_generator(score, x, step, noise):
    from tqdm import trange

    for i in trange(len(noise)):
        x = x + step * score(x) + (2 * step) ** 0.5 * noise[i]
    return x


def dropping_module(null, p):
    class Dropper(torch.nn.Module):
        def forward(self, y, generator):
            return torch.where(torch.rand(len(y), generator=generator) < p, null, y)

    return Dropper().eval()


PASSING = {
    "noise on every stream": (SCORE, noisy),
    "warnings as errors": (SCORE, as_warnings_are_errors),
    "numpy inside": (SCORE, in_numpy),
    "a result with a graph": (SCORE, with_a_graph),
    "memory in another order": (SCORE, written_elsewhere),
    "an object that is called, a list of one": (SCORE, Called()),
    "np.float64 for numbers": (VARIANCE, numpy_numbers),
    "tensors for numbers": (VARIANCE, number_tensors),
    "a subclass of float for numbers": (VARIANCE, fractions_of_numbers),
    "a progress bar around callbacks": (WALK, as_generator),
    "a module for a function": (DROP, dropping_module),
}


@pytest.mark.parametrize(("exercise", "answer"), PASSING.values(), ids=PASSING.keys())
def test_right_answers_pass_however_they_are_written(exercise, answer):
    assert judge(exercise, try_out(exercise, answer)) == Verdict("passed", "")
    assert through_the_wire(exercise, answer, exercise.seeds) == Verdict("passed", "")


def test_noise_does_not_reach_the_graders_screen(capfd):
    through_the_wire(SCORE, noisy, [0])
    assert capfd.readouterr() == ("", "")


def test_what_was_printed_is_kept_with_the_trial():
    with Loopback() as link:
        (first, *_) = try_out(SCORE, link.borrow(noisy), [0])
    assert first.got.printed == "to stdout\n"


def answered(line):
    """An answer to 01-posterior-score whose last lines are `line`."""
    scope: dict = {"torch": torch}
    exec(f"import numpy as np\ndef posterior_score(prior_score, likelihood_score, w):\n    {line}\n", scope)
    return scope["posterior_score"]


WRONG = {
    "NaN": (
        "return (prior_score + w * likelihood_score) * float('nan')",
        Verdict("nan", "Your result is NaN in 10 of 10 places (inputs: {inputs})."),
    ),
    "dtype": (
        "return (prior_score + w * likelihood_score).half()",
        Verdict("dtype", "Your result is float16, expected float64: keep the type of the inputs (inputs: {inputs})."),
    ),
    "shape": (
        "return (prior_score + w * likelihood_score).sum(1)",
        Verdict("shape", "Your result has shape (5,), expected (5, 2) (inputs: {inputs})."),
    ),
    "mutation": (
        "prior_score += w * likelihood_score; return prior_score",
        Verdict(
            "mutation",
            "Your function writes into its argument `prior_score`. Whoever calls it may still need the old values: "
            "make a new tensor (`a = a + b` rather than `a += b`, no methods that end in `_`)."
            " On 3 of the 24 sets of inputs it is right: those where `w` is 0, and nowhere else.",
        ),
    ),
    "mutation of both": (
        "prior_score.mul_(2); likelihood_score.t_() if w == 1 else likelihood_score.zero_(); return prior_score * 0",
        None,
    ),
    "none": ("pass", Verdict("type", "Your function returned None. Did you forget `return`?")),
    "text": (
        "return 'done'",
        Verdict("type", "Your function returned a str 'done'; expected a float64 tensor of shape (5, 2)."),
    ),
    "numpy array": (
        "return (prior_score + w * likelihood_score).numpy()",
        Verdict("type", "Your function returned an ndarray; expected a float64 tensor of shape (5, 2)."),
    ),
    "number": (
        "return 3.0",
        Verdict("shape", "Your result has shape (), expected (5, 2) (inputs: {inputs})."),
    ),
    "np.float32": (
        "return np.float32(3)",
        Verdict("type", "Your function returned a float32 np.float32(3.0); expected a float64 tensor of shape (5, 2)."),
    ),
    "a function": (
        "return lambda: prior_score",
        Verdict("type", "Your function returned a function; expected a float64 tensor of shape (5, 2)."),
    ),
    "a set": (
        "return {1, 2}",
        Verdict("type", "Your function returned a set {{1, 2}}; expected a float64 tensor of shape (5, 2)."),
    ),
    "a dict": (
        "return {'score': 1}",
        Verdict("type", "Your function returned a dict {{'score': 1}}; expected a float64 tensor of shape (5, 2)."),
    ),
    "a dict with pairs for keys": (
        "return {(0, 1): 1}",
        Verdict("type", "Your function returned a dict {{(0, 1): 1}}; expected a float64 tensor of shape (5, 2)."),
    ),
    "a dict with tensors for keys": (
        "return {w * torch.ones(5, 5): 1}",
        Verdict("type", "Your function returned a dict; expected a float64 tensor of shape (5, 2)."),
    ),
    "a list of 20,000 numbers": (
        "return [0.5] * 20_000",
        Verdict("count", "Your function returned 20000 values; expected 1: a float64 tensor of shape (5, 2)."),
    ),
    "a list of lists": (
        "return (prior_score + w * likelihood_score).tolist()",
        None,
    ),
    "an endless list": (
        "a = []; a.append(a); return a",
        None,
    ),
    "a schedule": (
        "from minidiff.schedules import Linear; return Linear()",
        Verdict("type", "Your function returned a function; expected a float64 tensor of shape (5, 2)."),
    ),
    "a generator": (
        "return torch.Generator()",
        None,
    ),
    "a sparse tensor": (
        "return (prior_score + 2 * w * likelihood_score).flatten(1).to_sparse()",
        None,
    ),
    "an iterator": (
        "return iter([prior_score, likelihood_score])",
        Verdict("count", "Your function returned 2 values; expected 1: a float64 tensor of shape (5, 2)."),
    ),
    "a generator of nothing": (
        "return (i for i in ())",
        Verdict("type", "Your function returned an empty sequence; expected a float64 tensor of shape (5, 2)."),
    ),
    "an exception": (
        "return prior_score + undefined",
        Verdict(
            "error",
            "Your function stopped at line 3 with NameError: name 'undefined' is not defined (inputs: {inputs}).",
        ),
    ),
    "an exception without text": (
        "raise ValueError",
        Verdict("error", "Your function stopped at line 3 with ValueError (inputs: {inputs})."),
    ),
    "a missing key": (
        "return {}['score']",
        Verdict("error", "Your function stopped at line 3 with KeyError: score (inputs: {inputs})."),
    ),
    "exit": (
        "exit(3)",
        None,
    ),
    "not written": (
        "raise NotImplementedError()",
        Verdict("untouched", "Not written yet: replace `raise NotImplementedError()` by your lines."),
    ),
    "sign": (
        "return -(prior_score + w * likelihood_score)",
        Verdict("pattern", "Your result has the wrong sign: it is −1 × the expected one."),
    ),
}
INPUTS = "prior_score: float64 (5, 2), likelihood_score: float64 (5, 2), w = 1"


@pytest.mark.parametrize(("line", "expected"), WRONG.values(), ids=WRONG.keys())
def test_wrong_answers_are_told_the_same_through_the_wire(line, expected):
    answer = answered(line)
    here = judge(SCORE, try_out(SCORE, answer))
    if expected is not None:
        assert here == replace(expected, message=expected.message.format(inputs=INPUTS))
    assert here.kind not in ("passed", "mistake")
    assert through_the_wire(SCORE, answer, SCORE.seeds) == here


def test_a_function_with_the_wrong_arguments_is_told_how_it_is_called():
    verdict = through_the_wire(SCORE, lambda prior_score: prior_score, [0])
    assert verdict.kind == "error"
    assert "when it was called as `posterior_score(prior_score, likelihood_score, w)`, with TypeError" in (
        verdict.message
    )


def test_a_value_where_a_function_was_asked_for():
    verdict = through_the_wire(DROP, lambda null, p: torch.ones(2), DROP.seeds)
    assert verdict == Verdict("type", "Your function returned a float32 tensor of shape (2,); expected a function.")
    assert verdict == judge(DROP, try_out(DROP, lambda *_: torch.ones(2)))


def test_labels_that_come_back_as_a_list_are_no_tensor():
    answer = lambda null, p: (
        lambda y, generator: [null if float(torch.rand((), generator=generator)) < p else 0] * len(y)
    )
    here = judge(DROP, try_out(DROP, answer))
    assert here.kind == "type"
    assert "returned a list; expected" in here.message
    assert through_the_wire(DROP, answer, DROP.seeds) == here


def test_a_result_too_large_for_the_wire_is_an_error_with_its_size():
    verdict = through_the_wire(SCORE, lambda a, b, w: torch.zeros(2**24), [0])
    assert verdict.kind == "error"
    assert "with ValueError: a message of 67109" in verdict.message


def test_the_students_exception_inside_a_callback_is_the_students(capfd):
    def answer(score, x, step, noise):
        return score("a text")

    here, there = judge(WALK, try_out(WALK, answer)), through_the_wire(WALK, answer, WALK.seeds)
    assert here.kind == there.kind == "error"
    assert there == here


def test_the_loopback_sees_differences():
    """Control: a borrowed function that is another one gives another verdict."""
    assert through_the_wire(SCORE, SCORE.mistakes[0].function, [0]).mistake == SCORE.mistakes[0].name
    with Loopback() as link, pytest.raises(RemoteFailure, match="NotImplementedError"):
        link.borrow(answered("raise NotImplementedError"))(Tensor(), Tensor(), 1.0)
