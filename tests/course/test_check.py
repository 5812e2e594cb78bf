"""`check` and `hint` on small exercises made here: each kind of wrong answer gets the sentence it needs."""

import sys
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

import minidiff.course.feedback as feedback
from minidiff.course import diagnosis
from minidiff.course.audit import audit
from minidiff.course.diagnosis import Verdict, judge, try_out
from minidiff.course.exercise import Exercise, Mistake, chapters, find, load_chapter
from minidiff.course.feedback import LibraryAnswer, check, hint
from minidiff.schedules import Cosine, Linear


def draw_line(seed):
    g = Generator().manual_seed(seed)
    a, b = (torch.randn(4, 2, generator=g, dtype=torch.float64) for _ in range(2))
    return [(a, b, 2.0), (a.float(), b.float(), 0.0)]


def line(a: Tensor, b: Tensor, w: float) -> Tensor:
    return a + w * b


def shifted(a, b, w):
    return a + w * b + w


LINE = Exercise(
    id="99-line",
    title="A straight line",
    points=3,
    difficulty=2,
    importance=4,
    minutes=5,
    draw=draw_line,
    reference=line,
    mistakes=(
        Mistake("swapped", lambda a, b, w: b + w * a, "You exchanged the two arguments: w belongs to b."),
        Mistake("shifted", shifted, "You added w itself as well."),
        Mistake("transposed", lambda a, b, w: (a + w * b).T, "You transposed the result; keep the order of the axes."),
        Mistake("keyword", lambda a, b, w: line(a, b, v=w), "You called it with v; the argument is named w."),
    ),
    alternatives=(lambda a, b, w: torch.add(a, b, alpha=w),),
    hints=("first", "second", "third"),
    expected="0.5 ± 0.1",
    trap="w = 0 hides everything.",
)


def draw_pair(seed):
    x = torch.randn(3, generator=Generator().manual_seed(seed))
    return [(x,)]


def pair(x):
    return x + 1, x.sum().item()


PAIR = replace(LINE, id="99-pair", draw=draw_pair, reference=pair, mistakes=LINE.mistakes[:3])


def draw_guided(seed):
    x = torch.randn(3, 2, generator=Generator().manual_seed(seed))
    return [(lambda x_t: 2 * x_t, w, x) for w in (0.0, 1.5)]


def guided(denoise, w, x):
    return lambda x_t: (1 + w) * denoise(x_t)


GUIDED = replace(
    LINE,
    id="99-guided",
    draw=draw_guided,
    reference=guided,
    probe=lambda answer, denoise, w, x: answer(x),
    mistakes=(
        Mistake("w", lambda denoise, w, x: lambda x_t: w * denoise(x_t), "You used w in place of 1 + w."),
        *LINE.mistakes[1:3],
    ),
)


@pytest.fixture(autouse=True)
def exercises(monkeypatch):
    made = {e.id: e for e in (LINE, PAIR, GUIDED)}
    monkeypatch.setattr(feedback, "find", lambda i: made.get(i) or find(i))
    monkeypatch.setattr(feedback, "_hints_shown", {})


def add_in_place(a, b, w):
    a += w * b
    return a


def grow_in_place(a, b, w):
    a.unsqueeze_(0)
    return a[0] + w * b


def wrong_name(a, b, w):
    b = w * b
    return a + scald  # noqa: F821


CASES = {
    "none": (lambda a, b, w: None, "type", "Did you forget `return`?"),
    "numpy": (lambda a, b, w: line(a, b, w).numpy(), "type", "returned an ndarray; expected a float64 tensor"),
    "empty": (lambda a, b, w: [], "type", "returned an empty sequence"),
    "number": (lambda a, b, w: 3.0, "shape", "has shape (), expected (4, 2)"),
    "two values": (lambda a, b, w: (a, b), "count", "returned 2 values; expected 1"),
    "shape": (lambda a, b, w: line(a, b, w)[0], "shape", "has shape (2,), expected (4, 2)"),
    "dtype": (lambda a, b, w: line(a, b, w).half(), "dtype", "is float16, expected float64"),
    "nan": (lambda a, b, w: line(a, b, w) * float("nan"), "nan", "is NaN in 8 of 8 places"),
    "infinite": (lambda a, b, w: line(a, b, w) / 0, "nan", "is infinite in 8 of 8 places"),
    "in place": (add_in_place, "mutation", "writes into its argument `a`"),
    "in place, shape": (grow_in_place, "mutation", "writes into its argument `a`"),
    "sign": (lambda a, b, w: -line(a, b, w), "pattern", "wrong sign"),
    "factor": (lambda a, b, w: 2 * line(a, b, w), "pattern", "Your result is 2 × the expected one"),
    "offset": (lambda a, b, w: line(a, b, w) + 0.25, "pattern", "the expected one +0.25"),
    "zero": (lambda a, b, w: 0 * a, "pattern", "Your result is zero"),
    "largest": (
        lambda a, b, w: line(a, b, w) + a.cos(),
        "value",
        "is off in 8 of 8 places, by up to 0.957. First at [0, 0]: ",
    ),
    "sometimes": (
        lambda a, b, w: a,
        "value",
        "On 3 of the 6 sets of inputs it is right: those where `w` is 0, and nowhere else.",
    ),
    "too few arguments": (lambda a: a, "error", "called as `line(a, b, w)`, with TypeError"),
    "silent exception": (lambda a, b, w: [][0] if w else int(" "), "error", "IndexError: list index out of range"),
    "exit": (lambda a, b, w: sys.exit(), "error", "SystemExit"),
}


@pytest.mark.parametrize(("function", "kind", "text"), CASES.values(), ids=CASES.keys())
def test_what_is_off_is_named(function, kind, text):
    result = check("99-line", function)
    assert (result.kind, result.score, result.passed) == (kind, 0.0, False), result.message
    assert text in result.message
    assert isinstance(result.use, LibraryAnswer)


COUNTED = torch.arange(6.0).reshape(3, 2)


def draw_kinds(seed):
    return [(COUNTED, 2.0, Linear()), (COUNTED.double(), 0.0, Cosine()), (COUNTED[:1], -1.0, Linear())]


def add(x, w, schedule):
    return x + w


KINDS = replace(LINE, draw=draw_kinds, reference=add, mistakes=LINE.mistakes[:3], rtol=1e-9, atol=1e-9)
FALLBACKS = {
    "the first inputs and place": (
        lambda x, w, schedule: x + w + 0.5 * (x == 3) + (x == 4),
        "Your result is off in 2 of 6 places, by up to 1. First at [1, 1]: 5.5 instead of 5, for the inputs "
        "x: float32 (3, 2), w = 2. On 3 of the 9 sets of inputs it is right: those where `w` is negative, "
        "and nowhere else.",
    ),
    "a small difference on one schedule": (
        lambda x, w, schedule: x + w + 1e-7 * (x == 5) * isinstance(schedule, Cosine),
        "Your result is off in 1 of 6 places, by up to 1e-07. First at [2, 1]: 5.0000001 instead of 5, for the inputs "
        "x: float64 (3, 2), w = 0. On 6 of the 9 sets of inputs it is right: it is wrong wherever `w` is 0 and "
        "`schedule` is Cosine, and nowhere else.",
    ),
    "on a batch of one": (
        lambda x, w, schedule: x + w if len(x) > 1 else x**3 + x,
        "Your result is off in 2 of 2 places, by up to 2. First at [0, 0]: 0 instead of -1, for the inputs "
        "x: float32 (1, 2), w = -1. On 6 of the 9 sets of inputs it is right: it is wrong wherever `w` is negative, "
        "and nowhere else.",
    ),
    "everywhere": (
        lambda x, w, schedule: (x + w).square() + x,
        "Your result is off in 6 of 6 places, by up to 47. First at [0, 0]: 4 instead of 2, for the inputs "
        "x: float32 (3, 2), w = 2.",
    ),
}


@pytest.mark.parametrize(("function", "message"), FALLBACKS.values(), ids=FALLBACKS.keys())
def test_where_answers_part_is_said_when_nothing_is_recognised(function, message):
    assert judge(KINDS, try_out(KINDS, function)) == Verdict("value", message)


def test_an_answer_without_axes_has_no_place():
    total = replace(KINDS, reference=lambda x, w, schedule: x.sum() + w)
    verdict = judge(total, try_out(total, lambda x, w, schedule: (x.sum() + w) ** 2))
    assert verdict.message.startswith("Your result is 289 instead of 17, for the inputs x: float32 (3, 2), w = 2.")


def test_right_and_wrong_inputs_of_the_same_kind_are_set_apart_by_nothing():
    same_kind = replace(KINDS, draw=lambda seed: [(COUNTED + k, 2.0, Linear()) for k in (0, 3)])
    verdict = judge(same_kind, try_out(same_kind, lambda x, w, schedule: x + w + (x == 0) * x.cos()))
    assert verdict.message.endswith("w = 2. On 3 of the 6 sets of inputs it is right.")


def test_an_exception_is_one_sentence_with_the_students_own_line():
    result = check("99-line", wrong_name)
    number = wrong_name.__code__.co_firstlineno + 2
    assert f"stopped at line {number}, `return a + scald" in result.message
    assert "NameError: name 'scald' is not defined" in result.message
    assert "Traceback" not in result.message


def test_an_exception_inside_pytorch_points_at_the_students_line():
    result = check("99-line", lambda a, b, w: torch.cat([a, torch.ones(3, 3, 3)]))
    assert "torch.cat" in result.verdict.message
    assert "RuntimeError" in result.verdict.message


@pytest.mark.parametrize("mistake", LINE.mistakes, ids=lambda m: m.name)
def test_named_mistakes_come_first_also_wrong_shapes_and_exceptions(mistake):
    result = check("99-line", mistake.function)
    assert result.mistake == mistake.name
    assert mistake.diagnosis in result.message


def test_a_mistake_must_agree_on_every_input():
    # `shifted` on the first inputs, something else on the others: no diagnosis may claim it was `shifted`.
    result = check("99-line", lambda a, b, w: shifted(a, b, w) if w else a.sin())
    assert (result.kind, result.mistake) == ("value", "")


def test_tuples_and_numbers():
    assert check("99-pair", pair).passed
    assert check("99-pair", lambda x: [x + 1, x.sum()]).passed, "a list, and a tensor for a number, are fine"
    assert "returned 1 values; expected 2" in check("99-pair", lambda x: x + 1).message
    assert "Value 1 of your result has shape (1,), expected (3,)" in check("99-pair", lambda x: (x[:1], 0.0)).message


def test_swapped_values():
    def ends(a, b, w):
        return a + w, b - w

    both = replace(LINE, reference=ends)
    assert judge(both, try_out(both, ends)).kind == "passed"
    assert "in the wrong order" in judge(both, try_out(both, lambda a, b, w: ends(a, b, w)[::-1])).message


def test_answers_that_are_functions():
    assert check("99-guided", guided).passed
    assert check("99-guided", lambda denoise, w, x: lambda x_t: w * denoise(x_t)).mistake == "w"
    assert (
        "returned a float32 tensor of shape (3, 2); expected a function"
        in check("99-guided", lambda denoise, w, x: (1 + w) * denoise(x)).message
    )
    assert "forget `return`" in check("99-guided", lambda denoise, w, x: None).message
    inner = check("99-guided", lambda denoise, w, x: lambda x_t: None)
    assert inner.kind == "type"


def test_a_right_answer(capfd):
    result = check("99-line", LINE.alternatives[0])
    assert (result.passed, result.score, result.kind) == (True, 3.0, "passed")
    assert result.use is LINE.alternatives[0]
    for text in ("Right: A straight line (3/3 points)", LINE.trap, LINE.expected, "goes on with your `line`"):
        assert text in result.message
    assert capfd.readouterr() == ("", "")


def test_a_wrong_answer_goes_on_with_the_library():
    result = check("99-line", lambda a, b, w: a)
    assert LINE.expected not in result.message, "what to expect is told after a pass: it answers the prediction"
    a, b, w = draw_line(0)[0]
    assert torch.equal(result.use(a, b, w), line(a, b, w))
    assert "goes on with the library's `line`" in result.message
    assert result.use.__name__ == "line"
    again = check("99-line", result.use)
    assert (again.kind, again.score) == ("library", 0.0), "the library's own answer earns no marks"


def test_parentheses_by_accident():
    result = check("99-line", torch.ones(2))  # type: ignore[arg-type]
    assert 'check("99-line", line)' in result.message
    assert "got a float32 tensor of shape (2,)" in result.message


def test_nothing_reaches_stderr_and_prints_are_kept(capfd):
    def chatty(a, b, w):
        print("shape", tuple(a.shape))
        warnings.warn("careful", stacklevel=2)
        print("oops", file=sys.stderr)
        return a

    result = check("99-line", chatty)
    assert capfd.readouterr() == ("", "")
    assert "Your function printed: shape (4, 2)\noops" in result.message
    assert result.message.count("shape (4, 2)") == 1


def test_gradients_work_even_where_the_notebook_switched_them_off():
    def by_gradient(a, b, w):
        a = a.clone().requires_grad_()
        return torch.autograd.grad((a * a / 2 + w * b * a).sum(), a)[0]

    with torch.no_grad():
        assert check("99-line", by_gradient).passed


def test_the_plain_text_in_a_notebook_is_the_score_and_the_box_is_friendly(monkeypatch):
    def plain(result):
        written = []
        result._repr_pretty_(type("Printer", (), {"text": staticmethod(written.append)}), False)
        return written[0]

    right, wrong = check("99-line", line), check("99-line", lambda a, b, w: a < b)
    assert plain(wrong) == repr(wrong) == wrong.message
    monkeypatch.setattr(feedback, "_in_notebook", lambda: True)
    assert (float(plain(right)), float(plain(wrong))) == (3.0, 0.0)
    box = check("99-line", lambda a, b, w: {}["<b>"])._repr_html_()
    assert "&lt;b&gt;" in box
    assert "<b>" not in box
    assert "<code>hint(&quot;" not in box
    assert '<code>hint("99-line")</code>' in box


def test_hints_grow_and_stay_at_the_last():
    assert [hint("99-line").text for _ in range(4)] == [
        "Hint 1 of 3. first",
        "Hint 2 of 3. second",
        "Hint 3 of 3. third",
        "Hint 3 of 3. third",
    ]
    assert hint("99-line", 1).text == "Hint 1 of 3. first"
    with pytest.raises(ValueError, match="number: got 4, expected 1, 2 or 3"):
        hint("99-line", 4)


@pytest.mark.parametrize("call", [hint, lambda i: check(i, line)])
def test_an_unknown_id_lists_near_matches(call):
    real = load_chapter(chapters()[0])[0].id
    typo = real[:-2] + real[-1] + real[-2]
    with pytest.raises(ValueError, match=f"got '{typo}'.*did you mean.*{real}"):
        call(typo)
    with pytest.raises(ValueError, match="did you mean"):
        call("nothing like it")


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]
NUMBERS = [0.0, 1.0, -1.0, 1e30, float("inf"), float("nan")]
ODD_ANSWERS = st.recursive(
    st.builds(
        lambda shape, dtype, number: torch.full(shape, number, dtype=torch.float64).to(dtype),
        st.sampled_from([(), (1,), (4, 2), (2, 4), (0,), (4, 2, 1)]),
        st.sampled_from(DTYPES),
        st.sampled_from(NUMBERS),
    )
    | st.sampled_from([None, True, 3, 2.5, 1j, "text", b"", object, Exception("x"), range(3), {"x": 1}, set()]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.just("x"), inner),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ODD_ANSWERS)
def test_whatever_comes_back_check_answers_in_words(answer):
    for exercise in (LINE, PAIR, GUIDED, replace(LINE, compare=lambda got, want: torch.equal(got[0], want[0]))):
        verdict = judge(exercise, try_out(exercise, lambda *inputs: answer))
        assert verdict.kind not in ("passed", "untouched")
        assert verdict.message.strip()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DTYPES), st.integers(0, 3), st.sampled_from(NUMBERS))
def test_inputs_of_any_type_are_watched(dtype, size, number):
    def draw(seed):
        return [(torch.full((size, 2), number, dtype=torch.float64).to(dtype), {"y": torch.arange(size)}, "text")]

    def copies(x, cond, name):
        return x.clone()

    def fills(x, cond, name):
        cond["y"] += 1
        return x.clone()

    watched = replace(LINE, draw=draw, reference=copies)
    assert judge(watched, try_out(watched, copies)).kind == "passed"
    assert judge(watched, try_out(watched, fills)).kind == ("mutation" if size else "passed")


def test_a_custom_comparison():
    loose = replace(LINE, compare=lambda got, want: bool((got[0] - want[0]).abs().max() < 0.5))
    near, far = (lambda a, b, w: line(a, b, w) + 0.3), (lambda a, b, w: line(a, b, w) + 0.7)
    assert judge(loose, try_out(loose, near)).kind == "passed"
    assert judge(loose, try_out(loose, far)).kind != "passed"
    assert judge(loose, try_out(loose, lambda a, b, w: (a, b))).kind == "count", "compare may fail on odd shapes"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": "line"}, "id: got 'line'"),
        ({"id": "01.1-line"}, 'the form "01-posterior-score"'),
        ({"difficulty": 6}, "difficulty: got 6, expected 1 to 5"),
        ({"points": 0}, "points: got 0"),
        ({"mistakes": LINE.mistakes[:2]}, "2 mistakes, expected 3 to 6"),
        ({"mistakes": LINE.mistakes[:1] * 3}, "names that differ"),
        ({"alternatives": ()}, "alternatives: got none"),
        ({"hints": ("one", "two")}, "2 hints, expected three"),
        ({"expected": " "}, "expected: got an empty text"),
    ],
)
def test_a_definition_out_of_range_is_refused(changes, text):
    with pytest.raises(ValueError) as caught:
        replace(LINE, **changes)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"draw": lambda seed: draw_line(seed)[1:]}, 'mistake "shifted" is accepted as right'),
        ({"alternatives": (lambda a, b, w: a,)}, "alternative 1 is rejected"),
        ({"draw": lambda seed: [(torch.rand(2), torch.rand(2), 1.5)]}, "draw gives other inputs"),
        (
            {
                "draw": lambda seed: [(torch.ones(2), (lambda b: lambda: b)(torch.rand(2)), 1.5)],
                "reference": lambda a, b, w: a + w * b(),
            },
            "draw gives other inputs",
        ),
        ({"draw": lambda seed: []}, "draw gives no inputs"),
        ({"reference": wrong_name}, "the reference of 99-line fails on seed 0"),
        ({"reference": add_in_place}, "the reference of 99-line fails on seed 0"),
        ({"shortcuts": ("minidiff.samplers.hein",)}, "the library has no minidiff.samplers.hein"),
        ({"shortcuts": ("minidiff.sampler.heun",)}, "the library has no minidiff.sampler.heun"),
        ({"shortcuts": ("heun",)}, "the library has no heun"),
        (
            {"mistakes": (*LINE.mistakes[:2], Mistake("twin", shifted, "The same as the second, said otherwise."))},
            'mistake "twin" is taken for shifted',
        ),
    ],
)
def test_the_audit_finds_planted_faults(changes, text):
    assert audit(LINE) == audit(replace(LINE, shortcuts=("minidiff.samplers.heun",))) == []
    assert any(text in problem for problem in audit(replace(LINE, **changes)))


def test_a_reference_that_fails_is_an_error_of_the_course():
    broken = replace(LINE, reference=wrong_name)
    with pytest.raises(RuntimeError, match="the reference of 99-line fails on seed 0"):
        try_out(broken, line)


def test_the_reference_and_the_mistakes_are_computed_once_per_seed_and_kept_apart():
    calls = []

    def counted(a, b, w):
        calls.append("reference")
        return a + w * b

    def turned(a, b, w):
        calls.append("mistake")
        return b + w * a

    swapped = Mistake("swapped", turned, LINE.mistakes[0].diagnosis)
    exercise = replace(LINE, reference=counted, mistakes=(swapped, *LINE.mistakes[1:]))
    for answer in (line, shifted, LINE.mistakes[0].function, shifted):
        judge(exercise, try_out(exercise, answer, [5]))
    assert calls.count("reference") == 2  # two sets of inputs
    assert calls.count("mistake") <= 2
    assert judge(exercise, try_out(exercise, LINE.mistakes[0].function, [5])).mistake == "swapped"
    judge(exercise, try_out(exercise, line, [6]))
    assert calls.count("reference") == 4  # another seed
    # An exercise that differs in nothing but its reference is not given the outcomes of this one.
    other = replace(exercise, reference=lambda a, b, w: b + w * a)
    assert judge(other, try_out(other, line, [5])).kind != "passed"
    assert judge(exercise, try_out(exercise, line, [5])).kind == "passed"


def test_not_more_outcomes_are_kept_than_it_says():
    for seed in range(130):
        try_out(LINE, line, [seed])
    assert len(diagnosis._kept) <= diagnosis._KEPT == 100
