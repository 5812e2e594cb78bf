"""The exercises of chapter 02, one a file; `EXERCISES` has them in the notebook's order."""

from minidiff.course.exercise import Experiment

from . import ddim_step, heun_step, train, velocity_loss, x0_and_eps

EXERCISES = tuple(module.EXERCISE for module in (velocity_loss, train, x0_and_eps, ddim_step, heun_step))
EXPERIMENTS = (
    Experiment(
        id="02-which-clock", title="Which times teach quickest?", points=4, difficulty=4, importance=3, minutes=45
    ),
)
