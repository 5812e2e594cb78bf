"""The exercises of chapter 09, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import kl_bits, quantize, standardise, two_stages, v_and_eps

EXERCISES = tuple(module.EXERCISE for module in (kl_bits, standardise, two_stages, quantize, v_and_eps))
EXPERIMENTS = (
    Experiment(
        id="09-what-stays",
        title="What stays when one object is exchanged?",
        points=4,
        difficulty=4,
        importance=4,
        minutes=35,
    ),
)
