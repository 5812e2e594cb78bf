"""What runs before an answer: the names that code binds and needs, and from the master exactly what an answer names."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.course.exercise import load_chapter
from minidiff.course.grading import context, notebooks
from minidiff.course.grading.context import Part, answer_parts, bound_by, cells_for, elsewhere, master_parts, names_in
from minidiff.course.grading.mark import Marker, Rules
from minidiff.course.grading.notebooks import Cell, Master

ROOT = Path(__file__).resolve().parents[3]
MASTERS = {name: notebooks.load_master(ROOT, name) for name in notebooks.assignments(ROOT)}
FIRST = MASTERS["01_bayes_rule"]


# --- names ------------------------------------------------------------------------------------------------------------

# source → (names it may look up, names its top level binds)
SOURCES = {
    "(n := 3) + m": ("m", "n"),
    "def f(*args, **kw): return args, kw, z": ("z", "f"),
    "def f(a, /, b=c, *, d=e) -> g: return a + b + d": ("c e g", "f"),
    "f = lambda a, b=d: a + e": ("d e", "f"),
    "with open(p) as fh: d = 1": ("p", "fh d"),
    "import a.b, c.d as e": ("", "a e"),
    "from a import b, c as d": ("", "b d"),
    "from __future__ import annotations": ("", "annotations"),
    "x: int = 3": ("", "x"),
    "x: Foo = y": ("Foo y", "x"),
    "a, (b, *c) = d": ("d", "a b c"),
    "a[b].c = d": ("a b d", ""),
    "def f():\n    def g(): return u + v\n    v = 1\n    return g": ("u", "f"),
    "def f():\n    import numpy as np\n    return np.pi": ("", "f"),
    "def f():\n    global q\n    q = r": ("r", "f"),
    "def f(x):\n    try: return g(x)\n    except E as e: raise F from e": ("E F g", "f"),
    "class A(B, metaclass=M):\n    b = c\n    def m(self): return b, helper(self)": ("B M b c helper", "A"),
    "@dec(arg)\ndef f(): pass": ("arg dec", "f"),
    "async def f(): await g()": ("g", "f"),
    "lambda: (yield a)": ("a", ""),
    "f'{a + b!r:>{w}}'": ("a b w", ""),
    "print(len(sorted(v)), True, None)": ("v", ""),
    "def f(x): return [x for y in z for x in y if x > t]": ("t z", "f"),
    "def f(x): return {k: w for k, v in kv if (w := k)}, (k for k in ks)": ("ks kv", "f"),
    "'''only a text with words'''  # and a comment": ("", ""),
    "": ("", ""),
}


@pytest.mark.parametrize(("source", "names"), SOURCES.items(), ids=SOURCES.keys())
def test_names_that_code_needs_and_binds(source, names):
    needs, binds = (frozenset(text.split()) for text in names)
    assert (names_in(source), bound_by(source)) == (needs, binds)


def test_a_function_that_calls_itself_needs_itself():
    assert (names_in("def f(n): return f(n - 1)"), bound_by("def f(n): return f(n - 1)")) == ({"f"}, {"f"})


NESTED = {
    "try:\n    import numpy as np\nexcept ImportError:\n    from q import h": {"np", "h"},
    "if a:\n    def g(): pass\n    class A: pass": {"g", "A"},
    "for i in r:\n    def k(): pass": {"i", "k"},
    "x = [i for i in y]": {"x"},
    "f = {k: v for k, v in kv}": {"f"},
    "match v:\n    case {'a': b, **rest}: pass\n    case [c, *d]: pass": {"b", "c", "d", "rest"},
}


@pytest.mark.parametrize(("source", "binds"), NESTED.items(), ids=NESTED.keys())
def test_names_bound_inside_other_statements(source, binds):
    assert bound_by(source) == binds


MAGICS = {
    "%matplotlib inline\ndef f(x): return torch.exp(x)  # the difference between pictures": ({"torch"}, {"f"}),
    "%%time\ndef f(x):\n    # exact\n    return g(x)": ({"g"}, {"f"}),
    "!pip install einops\nfrom einops import rearrange\nf = rearrange": ({"rearrange"}, {"rearrange", "f"}),
    "if a:\n    %time y = f(x)\nb = c": ({"a", "c", "f", "x"}, {"b", "y"}),
    "%timeit -n 3 f(x)": ({"f", "x"}, set()),
}


@pytest.mark.parametrize(("source", "names"), MAGICS.items(), ids=MAGICS.keys())
def test_magics_do_not_make_every_word_a_name(source, names):
    # Words of comments would take statements of the master with them that compute for minutes.
    assert (names_in(source), bound_by(source)) == names


def test_what_is_no_python_needs_every_word_in_it():
    assert names_in("def f(:\n    return helper(x)") == {"def", "f", "return", "helper", "x"}
    assert bound_by("def f(:\n    return helper(x)") == frozenset()


N = 10**5
DEEP = {
    "minus": "-" * N + "x",
    "parentheses": "(" * N + "x" + ")" * N,
    "brackets": "[" * N + "]" * N,
    "attributes": "a" + ".b" * N,
    "sums": "a" + "+b" * N,
    "calls": "f(" * N + ")" * N,
    "not": "not " * N + "x",
    "lambdas": "lambda: " * N + "x",
    "choices": "a if b else " * N + "c",
    "comparisons": "a" + "<b" * 1000,
    "elif": "if a: b\n" + "elif a: b\n" * N,
    "blocks": "\n".join(" " * i + "if x:" for i in range(2000)),
    "functions": "\n".join(" " * i + "def f():" for i in range(300)),
    "f-strings": "f'{" * 500 + "}'" * 500,
    "NUL": "a = b\0",
    "a lone surrogate": "a = '\ud800'",
    "digits": "a = " + "9" * 10**5,
}


@pytest.mark.parametrize("source", DEEP.values(), ids=DEEP.keys())
def test_nothing_is_too_deep(source):
    start = time.process_time()
    assert names_in(source) <= {*"abcfxu", "not", "lambda", "if", "else", "elif", "def", "d800", "ud800"}
    assert bound_by(source) <= {"a", "f"}
    assert elsewhere("a", [Cell("code", source, "", {})], {}) in (True, False)
    assert time.process_time() - start < 10


SCRAPS = [*"ab=:.,()[]{}\n\t %!?@*'\"#\\λ0", "def ", "lambda ", "import ", "for ", " in ", "class "]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SCRAPS)).map("".join))
def test_any_text_has_names(source):
    assert all(name.isidentifier() for name in names_in(source) | bound_by(source) - {"*"})


# --- the parts of a master --------------------------------------------------------------------------------------------


def code(source, id="", **graded):
    return Cell("code", source, id, {"grade_id": id, **graded} if id else {})


def made(*cells):
    return Master("99_made", (), cells, cells, "1")


SMALL = made(
    code("import torch\nfrom math import pi, tau\nsize = 3\nprint(size)"),
    code("def twice(x):\n    return scale * x\n\nscale = torch.tensor(2.0)\nassert twice(1) == 2"),
    code("ANSWER 1", "one", solution=True),
    code("result = check('one', f)\nchecked_f = result.use\nresult", "one-check", grade=True, locked=True),
    Cell("markdown", "import nothing", "", {}),
    code("for i in range(3):\n    total = i\nsize += 1\nsize = 5\nlater = twice(size)\nif pi: half = pi / 2"),
    code("ANSWER 2", "two", solution=True),
    code("size = 7\nafter = 1"),
)


def test_statements_that_an_answer_may_lean_on_are_found():
    assert [(part.position, part.source) for part in master_parts(SMALL)] == [
        ((0, 1), "import torch"),
        ((0, 2), "from math import pi, tau"),
        ((0, 3), "size = 3"),
        ((1, 1), "def twice(x):\n    return scale * x"),
        ((1, 4), "scale = torch.tensor(2.0)"),
        ((5, 4), "size = 5"),
        ((5, 5), "later = twice(size)"),
        ((7, 1), "size = 7"),
        ((7, 2), "after = 1"),
    ]


CELLS = {  # (which answer, its source) → what runs
    "nothing": ("one", "def f(x): return x", []),
    "an import": ("one", "def f(x): return torch.exp(x)", ["import torch"]),
    "one of two names": ("one", "def f(x): return tau * x", ["from math import pi, tau"]),
    "a helper and what it needs": (
        "one",
        "def f(x): return twice(x)",
        ["import torch", "def twice(x):\n    return scale * x", "scale = torch.tensor(2.0)"],
    ),
    "its own import instead": ("one", "import torch\ndef f(x): return torch.exp(x)", []),
    "a name that the answer binds itself": ("one", "def twice(x): return 2 * x\nf = twice", []),
    "only what stands above": ("one", "def f(x): return size * x", ["size = 3"]),
    "every binding above, in order": ("two", "def f(x): return size * x", ["size = 3", "size = 5"]),
    "nothing from below": ("two", "def f(x): return after * x", []),
    "no loops, no ifs": ("two", "def f(x): return total * half * x", []),
    "a chain of four": (
        "two",
        "f = lambda x: later",
        [
            "import torch",
            "size = 3",
            "def twice(x):\n    return scale * x",
            "scale = torch.tensor(2.0)",
            "size = 5",
            "later = twice(size)",
        ],
    ),
    "an unknown name": ("two", "def f(x): return unheard_of(x)", []),
}


@pytest.mark.parametrize(("id", "source", "before"), CELLS.values(), ids=CELLS.keys())
def test_exactly_what_an_answer_names_runs_before_it(id, source, before):
    own = answer_parts(SMALL, {id: source})[id]
    assert cells_for(own, [*master_parts(SMALL), own]) == [*before, source]


def test_helpers_in_other_answers_are_found_wherever_these_stand():
    sources = {"one": "def f(x): return g(x) + h(x)", "two": "def g(x): return torch.exp(x)\nh = twice"}
    parts = answer_parts(SMALL, sources)
    both = [*master_parts(SMALL), *parts.values()]
    needed = ["import torch", "def twice(x):\n    return scale * x", "scale = torch.tensor(2.0)"]
    assert cells_for(parts["one"], both) == [*needed, sources["two"], sources["one"]]
    assert cells_for(parts["two"], both) == [*needed, sources["two"]], "which needs nothing of the first"


def test_answers_that_need_each_other_run_once_each():
    sources = {"one": "def f(x): return g(x)", "two": "def g(x): return f(x)"}
    parts = answer_parts(SMALL, sources)
    assert cells_for(parts["one"], [*parts.values()]) == [sources["two"], sources["one"]]
    assert cells_for(parts["two"], [*parts.values()]) == [sources["one"], sources["two"]]


def test_the_masters_own_name_counts_before_another_answers():
    sources = {"one": "def f(x): return size", "two": "size = 99"}
    parts = answer_parts(SMALL, sources)
    assert cells_for(parts["one"], [*master_parts(SMALL), *parts.values()]) == ["size = 3", sources["one"]]


def test_answers_to_unknown_exercises_are_left_out():
    assert list(answer_parts(SMALL, {"one": "a", "three": "b"})) == ["one"]
    assert answer_parts(SMALL, {"two": "def f(a): return b"})["two"] == Part((6, 0), "def f(a): return b", {"f"}, {"b"})


# --- the real masters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASTERS)
def test_the_parts_of_the_real_masters(name):
    parts = master_parts(MASTERS[name])
    graded = {i for i, cell in enumerate(MASTERS[name].solved) if cell.graded}
    sources = [part.source for part in parts]
    assert "import torch" in sources
    assert any(source.startswith("from torch import") and "Tensor" in source for source in sources)
    assert not graded & {part.position[0] for part in parts}
    assert [part.position for part in parts] == sorted(part.position for part in parts)
    assert not any(source.startswith(("print", "assert", "plt.", "for ", "check(")) for source in sources)


def test_an_answer_of_chapter_01_takes_what_it_names():
    source = "def langevin(score, x, step, noise):\n    return x + level(step) * w1(step, x)"
    own = answer_parts(FIRST, {"01-langevin": source})["01-langevin"]
    assert cells_for(own, [*master_parts(FIRST), own]) == [
        "import torch",
        "from torch import Tensor",
        "from minidiff.judges.wasserstein import w1",
        "from minidiff.schedules import Linear",
        "float64, schedule = (torch.float64, Linear())",
        "def level(t: float) -> Tensor:\n    return torch.tensor(t, dtype=float64)",
        source,
    ]


@pytest.mark.parametrize("name", MASTERS)
def test_the_solutions_need_imports_and_nothing_that_computes(name):
    master = MASTERS[name]
    sources = {e.id: next(c.source for c in master.solved if c.grade_id == e.id) for e in master.exercises}
    answers = answer_parts(master, sources)
    for own in answers.values():
        *before, last = cells_for(own, [*master_parts(master), *answers.values()])
        assert last == own.source
        assert [line for line in before if not line.startswith(("import ", "from "))] == []


def test_an_answer_that_imports_a_common_name_is_no_part_of_the_others():
    sources = {"01-posterior-score": "import torch\nboom()", "01-langevin": "def langevin(): return torch.ones(2)"}
    answers = answer_parts(FIRST, sources)
    cells = cells_for(answers["01-langevin"], [*master_parts(FIRST), *answers.values()])
    assert cells == ["import torch", sources["01-langevin"]]


@pytest.mark.parametrize("name", MASTERS)
def test_checked_names_give_every_other_exercise_and_never_its_own(name):
    master, exercises = MASTERS[name], load_chapter(name)
    names = context.checked_names(master)
    assert names == {f"checked_{exercise.reference.__name__}": exercise.id for exercise in exercises}
    everything = f"def f(): return {', '.join(names)}"
    for exercise in exercises:
        own = answer_parts(master, {exercise.id: everything})[exercise.id]
        given = context.given_functions(own, master, exercise.id)
        assert given == {f"checked_{e.reference.__name__}": e.reference for e in exercises if e is not exercise}
        assert exercise.reference not in given.values()
        nothing = answer_parts(master, {exercise.id: "def f(x): return x"})[exercise.id]
        assert context.given_functions(nothing, master, exercise.id) == {}


def test_a_forged_check_cell_of_the_master_could_not_give_an_exercise_of_another_chapter():
    other = load_chapter("02_conditional_training")[0].id
    forged = replace(FIRST, solved=(code(f'checked_it = check("{other}", f).use', "x-check", grade=True),))
    own = Part((5, 0), "checked_it", frozenset(), frozenset({"checked_it"}))
    assert context.checked_names(forged) == {"checked_it": other}
    assert context.given_functions(own, forged, "01-langevin") == {}


def task(answers, id):
    return Marker(FIRST, Rules(secret=b"0123456789abcdef"))._task(
        next(e for e in FIRST.exercises if e.id == id), answers, 0
    )


def test_checked_names_in_another_answers_helper_are_given_too():
    answers = {
        "01-posterior-score": "posterior_score = lambda p, q, w: p + w * q\nadd = lambda *a: checked_langevin(*a)",
        "01-noisy-classifier": "def noisy_classifier(*a): return add(*a)",
    }
    found = task(answers, "01-noisy-classifier")
    assert found.cells == (answers["01-posterior-score"], answers["01-noisy-classifier"])
    assert [*found.given] == ["checked_langevin"]
    own = task({**answers, "01-langevin": "langevin = lambda *a: add(*a)"}, "01-langevin")
    assert own.cells == (answers["01-posterior-score"], "langevin = lambda *a: add(*a)")
    assert own.given == {}, "the own one, by a detour"


def test_checked_names_in_the_masters_statements_are_given_too():
    found = task({"01-bayes-gap": "def bayes_gap(*a): return from_data"}, "01-bayes-gap")
    assert found.cells[-2].startswith("from_data = checked_noisy_classifier(")
    assert [*found.given] == ["checked_noisy_classifier"]


# --- elsewhere --------------------------------------------------------------------------------------------------------


def test_names_in_cells_that_are_not_graded_are_noticed():
    helper = code("import numpy as np\ndef helper(x): return x")
    answers = {"one": "def f(x): return helper(x)"}
    own = code(answers["one"], "one")
    cells = [own, helper]
    assert elsewhere("helper", cells, answers)
    assert elsewhere("np", cells, answers)
    assert not elsewhere("x", cells, answers), "only the top level"
    assert not elsewhere("f", cells, answers), "in the answer itself"
    assert not elsewhere("helper", [own, Cell("markdown", helper.source, "", {})], answers)
    assert not elsewhere("helper", [own, code("def helper(:")], answers)
    assert elsewhere("helper", [own, code("%matplotlib inline\ndef helper(x): return x")], answers)
    long = code("def helper(x): return x\n" + "#" * notebooks.MAX_SOURCE)
    assert not elsewhere("helper", [own, long], answers), "nobody reads that far"
