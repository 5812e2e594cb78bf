"""Single submissions through the real sandbox: right answers of every kind pass, wrong ones are told why."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, nn

from minidiff.course.exercise import Exercise, Mistake, load_chapter, load_experiments
from minidiff.course.grading import notebooks
from minidiff.course.grading.collect import Submission
from minidiff.course.grading.mark import Marker, Rules, result_key
from minidiff.course.grading.notebooks import Cell, Master
from minidiff.course.grading.results import State, Student
from minidiff.course.grading.sandbox import Limits

ROOT = Path(__file__).resolve().parents[3]
CHAPTERS = notebooks.assignments(ROOT)
ANN = Student("ann", "Ann")
RULES = Rules(secret=b"0123456789abcdef")

pytestmark = pytest.mark.slow


def read(folder, chapter):
    return json.loads((ROOT / folder / f"{chapter}.ipynb").read_text(encoding="utf-8"))


def handed_in(chapter="01_bayes_rule", answers=None, extra=()):
    """The solved notebook with some answers replaced ({id: source}) and cells added after the first."""
    document = read("solutions", chapter)
    for cell in document["cells"]:
        if cell["id"] in (answers or {}):
            cell["source"] = answers[cell["id"]]
    plain = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    document["cells"][1:1] = [{**plain, "id": f"extra{i}", "source": source} for i, source in enumerate(extra)]
    return Submission(ANN, "ann.ipynb", json.dumps(document).encode())


def mark(submission, chapter="01_bayes_rule", rules=RULES):
    return Marker(notebooks.load_master(ROOT, chapter), rules).mark(submission)


def item(answer, exercise_id="01-posterior-score", rules=RULES, extra=()):
    """One answer, marked; the others are not there, so that they cost no time."""
    document = json.loads(handed_in(answers={exercise_id: answer}, extra=extra).data)
    others = {e.id for e in load_chapter("01_bayes_rule")} - {exercise_id}
    document["cells"] = [cell for cell in document["cells"] if cell["id"] not in others]
    result = mark(Submission(ANN, "ann.ipynb", json.dumps(document).encode()), rules=rules)
    (found,) = [i for i in result.items if i.id == exercise_id]
    assert {i.state for i in result.items if i.id in others} == {State.MISSING}
    return found


def by_machine(result):
    """The items that no person marks."""
    ids = {e.id for e in load_chapter(result.assignment)}
    assert all(i.points is None or i.state is State.MISSING for i in result.items if i.id not in ids)
    return [i for i in result.items if i.id in ids]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_shipped_solutions_get_full_marks_and_the_untouched_exercises_none(chapter):
    result = mark(handed_in(chapter), chapter)
    assert [(i.state, i.notes) for i in by_machine(result)] == [(State.PASS, ())] * len(load_chapter(chapter))
    assert result.score == sum(e.points for e in load_chapter(chapter))
    assert result.max_score == result.score + sum(e.points for e in load_experiments(chapter))
    assert result.pending == len(load_experiments(chapter))
    untouched = mark(Submission(ANN, "a", (ROOT / "exercises" / f"{chapter}.ipynb").read_bytes()), chapter)
    assert {i.state for i in untouched.items} == {State.MISSING}
    assert untouched.score == 0
    assert all(i.message.startswith("Not written yet") for i in by_machine(untouched))


HEAD = "def posterior_score(prior_score, likelihood_score, w):\n"
NOISY = """import logging, sys, warnings
from tqdm.auto import tqdm
%matplotlib inline
warnings.warn("at import")
print("hello", file=sys.stderr)

def posterior_score(prior_score, likelihood_score, w):
    warnings.warn("in the call")
    logging.getLogger().warning("logged")
    print("to stdout"); print("to stderr", file=sys.stderr)
    for _ in tqdm(range(3)):
        pass
    return prior_score + w * likelihood_score

check("01-posterior-score", posterior_score).use
hint("01-posterior-score")
"""
RIGHT = {
    "noise on every stream costs nothing": NOISY,
    "in numpy": "import numpy as np\n"
    + HEAD
    + "    s = prior_score.numpy() + w * likelihood_score.numpy()\n    return torch.from_numpy(s)",
    "by einsum": HEAD
    + "    both = torch.stack([prior_score, likelihood_score])\n"
    + "    return torch.einsum('i,i...->...', torch.tensor([1.0, w], dtype=prior_score.dtype), both)",
    "an object that can be called": "class Bayes:\n    def __call__(self, p, q, w):\n"
    + "        return torch.add(p, q, alpha=w)\n\nposterior_score = Bayes()",
    "with a result that still has its graph": HEAD
    + "    p = prior_score.clone().requires_grad_()\n    return p + w * likelihood_score",
    "transposed in memory": HEAD + "    return (prior_score.T + w * likelihood_score.T).T",
    "a local copy written into": HEAD
    + "    total = prior_score.clone()\n    total += w * likelihood_score\n    return total",
    "with an async cell": "import asyncio\nawait asyncio.sleep(0)\n"
    + HEAD
    + "    return prior_score + w * likelihood_score",
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT.keys())
def test_right_answers_by_any_method_pass(answer):
    found = item(answer)
    assert (found.state, found.points, found.notes) == (State.PASS, 2.0, ()), found.message


WRONG = {
    "w forgotten": ("return prior_score + likelihood_score", State.FAIL, "You left out w"),
    "nan": ("return (prior_score + w * likelihood_score) * float('nan')", State.FAIL, "is NaN in 10 of 10 places"),
    "dtype": ("return (prior_score + w * likelihood_score).double()", State.PARTIAL, "is float64, expected float32"),
    "shape": ("return (prior_score + w * likelihood_score)[None]", State.FAIL, "has shape (1, 5, 2), expected (5, 2)"),
    "mutation": (
        "prior_score += w * likelihood_score\n    return prior_score",
        State.PARTIAL,
        "writes into its argument `prior_score`",
    ),
    "none": ("prior_score + w * likelihood_score", State.FAIL, "returned None. Did you forget `return`?"),
    "text": ("return 'all right'", State.FAIL, "returned a str 'all right'"),
    "error": ("return prior_score + weight", State.ERROR, "at line 2, `return prior_score + weight`, with NameError"),
    "library error": ("return prior_score @ torch.ones(7)", State.ERROR, "at line 2, `return prior_score @ torch."),
    "sign": ("return -(prior_score + w * likelihood_score)", State.FAIL, "it is −1 × the expected one"),
}


@pytest.mark.parametrize(("line", "state", "text"), WRONG.values(), ids=WRONG.keys())
def test_wrong_answers_are_told_why(line, state, text):
    found = item(f"{HEAD}    {line}\n")
    assert (found.state, found.points) == (state, 0.0)
    assert text in found.message


def test_partial_credit_is_the_share_of_inputs_that_came_out_right():
    answer = f"{HEAD}    return (prior_score + w * likelihood_score).double()\n"  # wrong for float32, 1 of 8 inputs
    assert item(answer, rules=replace(RULES, partial=True)).points == 1.75
    forgotten = item(f"{HEAD}    return prior_score + likelihood_score\n", rules=replace(RULES, partial=True))
    assert (forgotten.state, forgotten.points) == (State.FAIL, 0.0), (
        "a named mistake earns nothing, right at w = 1 or not"
    )


def test_a_cell_that_does_not_run():
    assert item("def posterior_score(:\n    pass").message.startswith("Your cell stopped with SyntaxError")
    assert "there is no `posterior_score`" in item("x = 1").message
    stopped = item(f"1 / 0\n{HEAD}    return prior_score")
    assert (stopped.state, stopped.kind) == (State.ERROR, "error")
    assert stopped.message == "Your cell stopped at line 1, `1 / 0`, with ZeroDivisionError: division by zero."


def test_what_stands_in_another_cell_is_missing_and_the_student_is_told_where_to_put_it():
    answer = f"{HEAD}    return scaled(prior_score, likelihood_score, w)\n"
    found = item(answer, extra=["def scaled(a, b, w):\n    return a + w * b"])
    assert found.state is State.ERROR
    assert "`scaled` is defined in another cell of your notebook, but only the answer cells are graded" in found.message
    assert "another cell" not in item(answer).message, "control: defined nowhere"


def test_helpers_in_other_answer_cells_and_checked_names_are_there():
    answers = {
        "01-posterior-score": "def add(a, b, w):\n    return a + w * b\n\nposterior_score = add",
        "01-langevin": "def langevin(score, x, step, noise):\n    for z in noise:\n"
        "        x = add(x, score(x), step) + (2 * step) ** 0.5 * z\n    return x",
        "01-noisy-classifier": "def noisy_classifier(x_t, x0, labels, alpha, sigma):\n"
        "    away = checked_posterior_score(x_t[:, None], x0, -alpha)\n"
        "    share = (-away.square().sum(-1) / (2 * sigma**2)).softmax(1)\n"
        "    return share @ torch.nn.functional.one_hot(labels).to(share)",
    }
    result = mark(handed_in(answers=answers))
    assert [(i.id, i.state, i.message) for i in by_machine(result) if i.state is not State.PASS] == []


def test_a_name_checked_for_the_same_exercise_is_not_given():
    found = item(f"{HEAD}    return checked_posterior_score(prior_score, likelihood_score, w)\n")
    assert (found.state, found.points) == (State.ERROR, 0.0)
    assert "name 'checked_posterior_score' is not defined" in found.message


def test_the_librarys_own_answer_is_flagged_and_keeps_its_marks_until_a_person_has_looked():
    answer = (
        "from minidiff.data.mixtures import isotropic as pile\n"
        "def noisy_classifier(x_t, x0, labels, alpha, sigma):\n"
        "    level = lambda t: (torch.full_like(t, alpha), torch.full_like(t, sigma))\n"
        "    return pile(x0, 0.0, labels).posterior_label(x_t, torch.zeros((), dtype=x_t.dtype), level)"
    )
    found = item(answer, "01-noisy-classifier")
    assert (found.state, found.points) == (State.FLAGGED, 3.0)
    assert found.notes == ("uses minidiff.data.mixtures.isotropic, which answers this exercise",)


COMPUTING = """
def read_at_end(features, tokens, end):
    x = torch.randn(10**7, 1)
    return checked_duplicate_groups(x / x.norm(dim=1, keepdim=True), 0.5)
"""


def test_an_answer_that_makes_the_grader_compute_for_minutes_runs_out_of_time():
    document = json.loads(handed_in("06_clip_retrieval", {"06-read-at-end": COMPUTING}).data)
    document["cells"] = [c for c in document["cells"] if c["id"] in ("06-read-at-end", "06-zero-shot")]
    rules = replace(RULES, limits=Limits(seconds=8))
    items = mark(Submission(ANN, "ann.ipynb", json.dumps(document).encode()), "06_clip_retrieval", rules).items
    found = {i.id: i for i in items}
    assert (found["06-read-at-end"].state, found["06-zero-shot"].state) == (State.TIMEOUT, State.PASS)
    assert "made the grader compute" in found["06-read-at-end"].message


def test_inputs_follow_from_secret_exercise_and_student():
    seeds = RULES.seeds("01-langevin", "ann")
    assert seeds == RULES.seeds("01-langevin", "ann")
    assert len({*seeds}) == 3
    assert all(0 <= seed < 2**48 for seed in seeds)
    others = [RULES.seeds("01-langevin", "bob"), RULES.seeds("01-posterior-score", "ann")]
    others.append(replace(RULES, secret=b"another secret !").seeds("01-langevin", "ann"))
    assert not any({*seeds} & {*other} for other in others)


def test_the_key_of_a_result_changes_with_everything_it_depends_on():
    master = notebooks.load_master(ROOT, "01_bayes_rule")
    submission = Submission(ANN, "a.ipynb", b"{}")
    key = result_key(submission, master, RULES, "code")
    assert key == result_key(submission, master, RULES, "code")
    changed = [
        result_key(replace(submission, data=b"{ }"), master, RULES, "code"),
        result_key(replace(submission, student=Student("bob", "Bob")), master, RULES, "code"),
        result_key(submission, replace(master, version="x"), RULES, "code"),
        result_key(submission, master, replace(RULES, secret=b"x" * 16), "code"),
        result_key(submission, master, replace(RULES, level="none"), "code"),
        result_key(submission, master, replace(RULES, limits=replace(RULES.limits, seconds=5)), "code"),
        result_key(submission, master, RULES, "other code"),
    ]
    assert len({key, *changed}) == 8


# An exercise whose answer is a class: the grader makes an object of it and asks it questions, by handle.
def _draw_layers(seed):
    g = Generator().manual_seed(seed)
    return [(3, torch.randn(2, 3, generator=g)), (5, torch.randn(4, 5, generator=g))]


class Gate(nn.Module):
    """x·sigmoid(scale·x) with one learnable scale per channel, all 1 at first."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.sigmoid(self.scale * x)


def gate(width, x):
    return Gate(width)


def _probe_gate(layer, width, x):
    state = {name: torch.linspace(0, 2, width) for name in layer.state_dict()}
    before = layer(x)
    layer.load_state_dict(state)
    return before, layer(x), layer.scale.detach(), float(sum(p.numel() for p in layer.parameters()))


GATE = Exercise(
    id="99-gate",
    title="A gate",
    points=4,
    difficulty=2,
    importance=2,
    minutes=5,
    draw=_draw_layers,
    reference=gate,
    probe=_probe_gate,
    mistakes=tuple(Mistake(f"m{i}", lambda width, x: nn.Identity(), "No gate.") for i in range(3)),
    alternatives=(gate,),
    hints=("a", "b", "c"),
    expected="1",
    trap="None.",
)
LAYER = """import torch
from torch import nn

class MyGate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return {}

def gate(width, x):
    return MyGate(width)
"""


@pytest.mark.parametrize(("body", "state"), [("x * (self.scale * x).sigmoid()", "pass"), ("x * x.sigmoid()", "fail")])
def test_modules_are_marked_by_handle(body, state):
    meta = {"grade_id": "99-gate", "solution": True, "grade": False}
    stub = Cell("code", "def gate(width, x):\n    raise NotImplementedError()", "99-gate", meta)
    master = Master("99_sample", (GATE,), (replace(stub, source=LAYER),), (stub,), "1")
    cell = {"cell_type": "code", "source": LAYER.format(body), "metadata": {"nbgrader": meta}}
    result = Marker(master, RULES).mark(Submission(ANN, "a", json.dumps({"cells": [cell]}).encode()))
    assert result.items[0].state == state, result.items[0].message
