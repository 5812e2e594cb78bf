"""Flags: answers that lean on the library's own function are noticed by any road, honest ones are left alone."""

import ast
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.course import checks
from minidiff.course.exercise import chapters, find, load_chapter
from minidiff.course.grading import context, notebooks
from minidiff.course.grading.shortcuts import flags, library_names

ROOT = Path(__file__).resolve().parents[3]
EXERCISES = [exercise for name in chapters() for exercise in load_chapter(name)]


@cache
def surroundings(chapter):
    """(the shipped solutions by id, the imports above) of the chapter that begins with these two digits."""
    master = notebooks.load_master(ROOT, next(name for name in chapters() if name[:2] == chapter))
    parts = [part.source for part in context.master_parts(master)]
    solved = {cell.grade_id: cell.source for cell in master.solved if cell.grade_id}
    return solved, "\n".join(source for source in parts if source.startswith(("import ", "from ")))


def surroundings_of(id):
    solved, above = surroundings(id[:2])
    return solved[id], above


def flagged(source, id="05-combine-branches"):
    return flags(find(id), source, *surroundings_of(id))


# --- what answers an exercise -----------------------------------------------------------------------------------------

ANSWERING = {
    "01-posterior-score": set(),
    "01-noisy-classifier": {"minidiff.data.mixtures.isotropic"},
    "01-langevin": set(),
    "02-ddim-step": {"minidiff.samplers.ddim"},
    "03-dps": {"minidiff.guidance.dps", "minidiff.samplers.ddpm", "minidiff.samplers.sample"},
    "05-combine-branches": {"minidiff.guidance.extrapolate"},
    "05-drop-labels": {"minidiff.training.drop_condition"},
    "06-mismatch-auc": {"minidiff.retrieval.auc"},
    "07-dynamic-threshold": {"minidiff.thresholding.dynamic"},
    "07-noise-augment": {"minidiff.cascade.noised"},
    "07-frontier": set(),
    "08-gumbel-softmax": set(),
    "08-two-losses": set(),
    "08-next-code": {"minidiff.backbones.autoregressive.choose"},
    "08-write-codes": {
        "minidiff.backbones.autoregressive.Reader",
        "minidiff.backbones.autoregressive.TextToCodes",
        "minidiff.randomness.initialised",
    },
    "08-text-diff": {"minidiff.systems.unclip_pictures.slerp"},
    "09-kl-bits": {"minidiff.codecs.vae.Posterior"},
    "09-standardise": set(),
    "09-two-stages": {
        "minidiff.training.fit",
        "minidiff.training.drop_condition",
        "minidiff.samplers.ddim",
        "minidiff.samplers.sample",
    },
    "09-quantize": {"minidiff.codecs.vqvae.Quantizer", "minidiff.randomness.initialised"},
    "09-v-and-eps": set(),
    "10-explained": {"minidiff.judges.framing.explained"},
    "10-two-readers": {"minidiff.conditioning.Channels"},
    "10-branches": {"minidiff.guidance.mix_conditions"},
    "10-micro-conditioning": {
        "minidiff.conditioning.Sized",
        "minidiff.data.photos.crop",
        "minidiff.randomness.initialised",
    },
    "10-experts": {"minidiff.systems.sdxl.experts"},
    "11-in-context": set(),
    "11-gflops": set(),
    "11-places": {"minidiff.nn.embeddings.waves"},
    "11-network": {"minidiff.backbones.dit.DiT"},
    "11-excess": set(),
    "12-winoground": {"minidiff.judges.ranking.winoground"},
    "12-hard-negatives": {"minidiff.training.fit"},
    "12-join": {"minidiff.encoders.joined.join"},
    "12-states": set(),
    "12-registers": {"minidiff.encoders.language.Registers"},
    "13-placed": {"minidiff.nn.rope.at_origin", "minidiff.nn.rope.centred"},
    "13-joint": set(),
    "13-parallel": {"minidiff.nn.parallel.Parallel", "minidiff.randomness.initialised"},
    "13-counted": set(),
    "13-both-ways": set(),
    "14-seen": {"minidiff.nn.masks.blocks"},
    "14-stands": {"minidiff.nn.rope.interleaved"},
    "14-follows": set(),
    "14-losses": {"minidiff.nn.masks.blocks"},
    "14-pulls": set(),
    "15-renamed": set(),
    "15-weights": set(),
    "15-cells": {"minidiff.systems.design.Design"},
    "15-wilson": {"minidiff.judges.scorecard.Score"},
    "15-cell": {
        "minidiff.denoiser.Denoiser",
        "minidiff.training.fit",
        "minidiff.thresholding.static",
        "minidiff.samplers.ddim",
        "minidiff.samplers.sample",
    },
}


@pytest.mark.parametrize(("id", "names"), ANSWERING.items(), ids=ANSWERING.keys())
def test_what_answers_an_exercise_is_read_off_its_reference(id, names):
    assert library_names(find(id).reference) == names


def test_helpers_of_the_references_own_module_are_followed():
    from minidiff.guidance import extrapolate

    scope = {"__name__": "made", "extrapolate": extrapolate}
    exec("def inner(): return [lambda: extrapolate()]\ndef outer(): return inner(), outer()\ndef bare(): pass", scope)
    assert library_names(scope["outer"]) == {"minidiff.guidance.extrapolate"}
    assert library_names(scope["bare"]) == set()
    assert library_names(len) == set()


def test_a_helper_in_another_file_of_the_checks_is_followed():
    from minidiff.guidance import extrapolate

    helper = {"__name__": f"{checks.__name__}.05_sample._common", "extrapolate": extrapolate}
    exec("def shared(): return extrapolate()", helper)
    scope = {"__name__": f"{checks.__name__}.05_sample.one", "shared": helper["shared"]}
    exec("def reference(): return shared()", scope)
    assert library_names(scope["reference"]) == {"minidiff.guidance.extrapolate"}
    helper["shared"].__module__ = "somewhere.else"
    assert library_names(scope["reference"]) == set(), "control: only the checks are read"


# --- honest answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_the_shipped_solutions_get_no_flag(exercise):
    assert flagged(surroundings(exercise.chapter)[0][exercise.id], exercise.id) == []


def written(exercise, function) -> str:
    """The source of an alternative or a mistake, alone, as a student could have written it."""
    module, code = sys.modules[function.__module__], function.__code__
    arguments = list(code.co_varnames[: code.co_argcount])
    nodes = [
        node
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        if isinstance(node, (ast.Lambda, ast.FunctionDef)) and node.lineno == code.co_firstlineno
        if [a.arg for a in node.args.args] == arguments
    ]
    text = ast.unparse(nodes[0])
    return text if isinstance(nodes[0], ast.FunctionDef) else f"{exercise.reference.__name__} = {text}"


# One mistake of each of these calls, in a wrong way, what called rightly would be a shortcut.
MISUSED = {
    "02-x0-and-eps": "minidiff.predictions.VELOCITY",
    "05-neighbour-recall": "minidiff.judges.coverage.precision",
}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_right_and_wrong_code_without_imports_gets_no_flag(exercise):
    functions = [*exercise.alternatives, *(mistake.function for mistake in exercise.mistakes)]
    sources = [written(exercise, function) for function in functions if hasattr(function, "__code__")]
    assert len(sources) >= 3
    misused = MISUSED.get(exercise.id)
    expected = [[f"uses {misused}, which answers this exercise"]] if misused else []
    assert [found for source in sources if (found := flagged(source, exercise.id))] == expected


HONEST = {
    "tools": "import math, numpy as np, functools, itertools, typing, dataclasses, warnings, logging, os, sys, time\n"
    "from torch import nn\nfrom scipy import stats\nfrom tqdm.auto import tqdm\nimport torch.nn.functional as F",
    "methods with dangerous names": "model.eval()\nf = torch.compile(f)\nre.compile('x')\nself.open()\nx.exec()",
    "left-overs of the notebook": "from minidiff.course import check, hint\n"
    "check('05-combine-branches', combine)\nhint('05-combine-branches')",
    "checked names": "def combine(*a): return checked_drop_labels(*a)",
    "schedules": "from minidiff.schedules import Cosine, Linear, Schedule",
    "shapes": "from minidiff.shapes import expand_like\nfrom minidiff.randomness import randn",
    "other parts of the library": "from minidiff import show, times\nshow.density\ntimes.linear(5)",
    "texts": "'''I used minidiff's formula, see minidiff.guidance.'''\nx = 'proc /pro c/'",
    "its own extrapolate": "def extrapolate(a, b, w): return a + w * (a - b)\ncombine = extrapolate",
    "magics": "%matplotlib inline\n%timeit f(x)\nimport torch",
    "a module's parts": "for part in net.modules():\n    nn.init.zeros_(part.weight)",
    "no Python": "def combine(:",
    "nothing": "",
}


@pytest.mark.parametrize("source", HONEST.values(), ids=HONEST.keys())
def test_honest_code_gets_no_flag(source):
    assert flagged(source) == []


def test_what_the_solution_uses_is_allowed():
    assert flagged("def velocity_loss(x, y): return expand_like(x, y)", "02-velocity-loss") == []
    assert "minidiff.shapes.expand_like" in library_names(find("02-velocity-loss").reference), "control"


# --- shortcuts --------------------------------------------------------------------------------------------------------

ANSWERS = "uses minidiff.guidance.extrapolate, which answers this exercise"
COURSE = "uses the course's own checks (minidiff.course)"
SHORT = {
    "from": ("from minidiff.guidance import extrapolate", [ANSWERS]),
    "from as": ("from minidiff.guidance import extrapolate as e\ncombine = e", [ANSWERS]),
    "from in brackets, with others": ("from minidiff.guidance import (bind,\n    extrapolate as e,\n)", [ANSWERS]),
    "import as": ("import minidiff.guidance as g\ndef combine(*a): return g.extrapolate(*a)", [ANSWERS]),
    "import": ("import minidiff.guidance\ncombine = minidiff.guidance.extrapolate", [ANSWERS]),
    "import of another module": ("import minidiff.schedules\nminidiff.guidance.extrapolate", [ANSWERS]),
    "import of the package": ("import minidiff as m\nm.guidance.extrapolate", [ANSWERS]),
    "from the package": ("from minidiff import guidance\nf = [guidance.extrapolate]", [ANSWERS]),
    "from the package as": ("from minidiff import guidance as g\nlambda: g.extrapolate", [ANSWERS]),
    "star": ("from minidiff.guidance import *\ndef combine(*a): return extrapolate(*a)", [ANSWERS]),
    "another name for the module": ("import minidiff.guidance as g\nh = g\nh.extrapolate", [ANSWERS]),
    "inside the function": (
        "def f():\n    from minidiff.guidance import extrapolate\n    return extrapolate",
        [ANSWERS],
    ),
    "inside try": ("try:\n    from minidiff.guidance import extrapolate\nexcept ImportError: pass", [ANSWERS]),
    "inside a class": ("class A:\n    from minidiff.guidance import extrapolate", [ANSWERS]),
    "under a magic": ("%matplotlib inline\nfrom minidiff.guidance import extrapolate", [ANSWERS]),
    "find": ("from minidiff.course.exercise import find\nfind('x').reference", [COURSE]),
    "load_chapter": ("from minidiff.course.exercise import load_chapter as l\nl('x')", [COURSE]),
    "the package of the checks": ("from minidiff.course import exercise, check\nexercise.find('x')", [COURSE]),
    "the checks by attribute": ("import minidiff.course.exercise\nminidiff.course.exercise.find('x')", [COURSE]),
    "a chapter's checks": ("import minidiff.course.checks as c", [COURSE]),
    "the grader": ("from minidiff.course.grading.mark import Rules", [COURSE]),
    "its verdict": ("from minidiff.course.diagnosis import judge", [COURSE]),
    "a module by text": (
        "import importlib\nimportlib.import_module('minidiff.guidance')",
        ["names a module of the library in a text"],
    ),
    "frames": ("import sys\nsys._getframe(1).f_locals", ["looks at the frames of its callers (_getframe)"]),
    "inspect": ("import inspect\ninspect.stack()", ["looks at running code (inspect)"]),
    "gc": ("import gc\ngc.get_objects()", ["looks at the interpreter's objects (gc)"]),
    "closures": ("f.__closure__[0].cell_contents", ["looks into other functions (__closure__)"]),
    "modules": ("import sys\nsys.modules['x']", ["looks at the loaded modules (modules)"]),
    "modules by name": ("from sys import modules as m\nm['x']", ["looks at the loaded modules (modules)"]),
    "environment by name": ("from os import environ", ["looks at the environment (environ)"]),
    "environment": ("import os\nos.environ['X']", ["looks at the environment (environ)"]),
    "exit": ("import os\nos._exit(0)", ["ends its process (_exit)"]),
    "subprocess": ("from subprocess import run", ["starts other programs (subprocess)"]),
    "eval": ("eval('1')", ["calls eval"]),
    "exec and open": ("exec(open('x').read())", ["calls exec", "calls open"]),
    "/proc": ("x = '/proc/self/maps'", ["mentions /proc"]),
    "several": (
        "import ctypes, pickle\nfrom minidiff.guidance import extrapolate",
        [ANSWERS, "goes around Python (ctypes)", "builds pickles (pickle)"],
    ),
}


@pytest.mark.parametrize(("source", "found"), SHORT.values(), ids=SHORT.keys())
def test_shortcuts_are_named(source, found):
    assert flagged(source) == found


RE_EXPORTED = [
    ("02-ddim-step", "from minidiff.samplers import ddim", "minidiff.samplers.ddim"),
    ("03-dps", "from minidiff.guidance import dps as guide", "minidiff.guidance.dps"),
    ("03-log-likelihood", "import minidiff.operators as o\no.log_likelihood", "minidiff.operators.log_likelihood"),
    ("03-sdedit-gaussian", "from minidiff import editing\nediting.gaussian_sdedit", None),
    ("04-algorithm-2", "from minidiff.samplers import ddim", "minidiff.samplers.ddim"),
    ("05-drop-labels", "from minidiff.training import drop_condition", "minidiff.training.drop_condition"),
    ("05-neighbour-recall", "from minidiff.judges.coverage import recall", "minidiff.judges.coverage.recall"),
    ("06-train-clip", "from minidiff.training import fit", None),
    ("06-duplicate-groups", "from minidiff.retrieval import near_duplicates", "minidiff.retrieval.near_duplicates"),
    ("07-dynamic-threshold", "from minidiff import thresholding as t\nt.dynamic", "minidiff.thresholding.dynamic"),
    ("07-word-map", "from minidiff.nn.block import attention_maps", "minidiff.nn.block.attention_maps"),
    ("08-next-code", "from minidiff.backbones import autoregressive as a\na.choose", None),
    ("08-text-diff", "from minidiff.systems.unclip import slerp", "minidiff.systems.unclip_pictures.slerp"),
    ("09-kl-bits", "from minidiff.codecs import vae\nvae.Posterior", "minidiff.codecs.vae.Posterior"),
    ("09-quantize", "from minidiff.codecs.vqvae import Quantizer as Q", "minidiff.codecs.vqvae.Quantizer"),
    ("09-two-stages", "from minidiff.training import fit", "minidiff.training.fit"),
    ("13-placed", "from minidiff.nn import rope\nrope.centred", "minidiff.nn.rope.centred"),
    ("13-parallel", "from minidiff.nn.parallel import Parallel as P", "minidiff.nn.parallel.Parallel"),
    ("14-seen", "from minidiff.nn import masks as m\nm.blocks", "minidiff.nn.masks.blocks"),
    ("14-stands", "from minidiff.nn.rope import interleaved as f", "minidiff.nn.rope.interleaved"),
]


# What the reference does not call and the exercise names.
NAMED = {
    "velocity": (
        "02-x0-and-eps",
        "from minidiff.predictions import VELOCITY\nx0 = VELOCITY.to_x0",
        "predictions.VELOCITY",
    ),
    "heun": ("02-heun-step", "from minidiff import samplers\nsamplers.heun(schedule)", "samplers.heun"),
    "precision": (
        "05-neighbour-recall",
        "f = lambda real, fake, k: precision(fake, real, k)",
        "judges.coverage.precision",
    ),
    "loss": (
        "06-train-clip",
        "from minidiff.encoders.clip import contrastive_loss as f",
        "encoders.clip.contrastive_loss",
    ),
    "attention": ("07-cross-attention", "from minidiff.nn.block import Attention", "nn.block.Attention"),
    "noise": ("08-gumbel-softmax", "from minidiff.randomness import gumbel as g", "randomness.gumbel"),
    "soft codes": ("08-gumbel-softmax", "from minidiff.codecs.dvae import DVAE", "codecs.dvae.DVAE"),
    "block": ("08-write-codes", "from minidiff.nn.block import Block", "nn.block.Block"),
    "v": ("09-v-and-eps", "from minidiff.predictions import V\nx0 = V.to_x0", "predictions.V"),
    "two streams": ("13-joint", "from minidiff.nn.block import joint as both", "nn.block.joint"),
    "spans": ("14-seen", "from minidiff.nn.masks import spans", "nn.masks.spans"),
    "codes": ("09-quantize", "from minidiff.codecs.vqvae import VQVAE as q", "codecs.vqvae.VQVAE"),
    "noisy latents": ("09-two-stages", "from minidiff.training import diffuse", "training.diffuse"),
    "covered": ("05-neighbour-recall", "from minidiff.judges.coverage import covered as c", "judges.coverage.covered"),
}


@pytest.mark.parametrize(("id", "source", "name"), NAMED.values(), ids=NAMED.keys())
def test_shortcuts_that_an_exercise_names(id, source, name):
    assert flagged(source, id) == [f"uses minidiff.{name}, which answers this exercise"]
    assert flags(replace(find(id), shortcuts=()), source, *surroundings_of(id)) == [], "control"


@pytest.mark.parametrize(("id", "source", "name"), RE_EXPORTED, ids=lambda v: str(v)[:24])
def test_every_chapter_knows_its_librarys_answer(id, source, name):
    (found,) = flagged(source, id)
    (only,) = (library_names(find(id).reference) & {name}) if name else library_names(find(id).reference)
    assert found == f"uses {only}, which answers this exercise"


def test_a_name_by_another_path_is_the_same_function(monkeypatch):
    import minidiff.show as elsewhere
    from minidiff.guidance import extrapolate

    assert flagged("from minidiff.show import borrowed") == []
    monkeypatch.setattr(elsewhere, "borrowed", extrapolate, raising=False)
    assert flagged("from minidiff.show import borrowed") == [ANSWERS]
    assert flagged("from minidiff import show\nshow.borrowed") == [ANSWERS]


def test_imports_above_the_answer_count_as_its_own():
    exercise, solution = find("05-combine-branches"), "def combine(a, b, w): return a"
    above = "from minidiff.guidance import extrapolate as tool"
    assert flags(exercise, "combine = tool", solution, above) == [ANSWERS]
    assert flags(exercise, "combine = tool", solution, "") == []
    assert flags(exercise, "combine = tool", "combine = tool", above) == [], "as the solution may"
    assert flags(exercise, "def combine(a, b, w): return a", solution, above) == [], "unused"


# --- any text ---------------------------------------------------------------------------------------------------------

N = 10**5
DEEP = {
    "minus": "-" * N + "x",
    "brackets": "[" * N + "]" * N,
    "attributes": "import minidiff\nminidiff" + ".b" * N,
    "many attributes": "import minidiff\nif 0:\n" + ("    minidiff" + ".a" * 150 + "\n") * 40,
    "sums": "a" + "+b" * N,
    "lambdas": "lambda: " * N + "x",
    "elif": "if a: b\n" + "elif a: b\n" * N,
    "NUL": "import ctypes\0",
    "a lone surrogate": "import ctypes # \ud800",
}


@pytest.mark.parametrize("source", DEEP.values(), ids=DEEP.keys())
def test_nothing_is_too_deep_to_be_flagged(source):
    start = time.process_time()
    assert flagged(source) in ([], ["is nested so deep that it cannot be read"])
    assert time.process_time() - start < 20


WORDS = [
    "import ",
    "from ",
    "minidiff",
    "minidiff.guidance",
    ".",
    "extrapolate",
    " as ",
    "x",
    "\n",
    "(",
    ")",
    "=",
    "*",
    "%",
]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=100) | st.lists(st.sampled_from(WORDS), max_size=20).map("".join))
def test_any_text_can_be_flagged(source):
    found = flagged(source)
    assert all(isinstance(sentence, str) and sentence for sentence in found)
    assert flags(find("01-langevin"), "", source, source) == [], "odd solutions and imports do no harm either"
