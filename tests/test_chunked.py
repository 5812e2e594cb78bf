"""Draws of many batches at a time: still a function of (seed, step), in any order and after any interruption."""

import pytest
import torch

from minidiff.backbones.mlp import MLP
from minidiff.conditioning import Conditioned, Labels
from minidiff.data.mixtures import ring
from minidiff.denoiser import Denoiser
from minidiff.predictions import VELOCITY
from minidiff.randomness import initialised
from minidiff.schedules import Linear
from minidiff.training import chunked, diffuse, draw_rows, fit, step_generator


def counting(calls):
    data = draw_rows({"x0": torch.arange(1000.0)}, 12)

    def counted(generator):
        calls.append(generator.step)
        return data(generator)

    return lambda n: counted


def test_every_batch_is_its_part_of_the_chunk():
    calls = []
    draw = chunked(counting(calls), 4, chunk=3)
    batches = [draw(step_generator(7, step))["x0"] for step in range(6)]
    assert calls == [-1, -2]  # two big draws for six batches
    for chunk in range(2):
        whole = draw_rows({"x0": torch.arange(1000.0)}, 12)(step_generator(7, -1 - chunk))["x0"]
        assert torch.equal(torch.cat(batches[3 * chunk :][:3]), whole)


def test_a_batch_is_a_function_of_seed_and_step_in_any_order():
    one, two = (chunked(counting([]), 4, chunk=3) for _ in range(2))
    at = lambda draw, seed, step: draw(step_generator(seed, step))["x0"]
    wanted = {(seed, step): at(one, seed, step) for seed in (0, 1) for step in range(9)}
    for seed, step in [(1, 8), (0, 1), (1, 4), (0, 7), (1, 0)]:
        assert torch.equal(at(two, seed, step), wanted[seed, step])
    assert not torch.equal(wanted[0, 4], wanted[1, 4])


def test_its_numbers_are_not_those_of_a_step():
    """The first step's own generator draws times and noise: the rows must not be made of the same numbers."""
    rows = chunked(lambda n: lambda g: {"x0": torch.randn(n, generator=g)}, 4, chunk=3)(step_generator(0, 0))
    assert not torch.equal(rows["x0"], torch.randn(12, generator=step_generator(0, 0))[:4])


@pytest.mark.parametrize("at", [1, 4, 5, 7])
def test_a_run_that_stops_in_the_middle_of_a_chunk_ends_bit_for_bit_the_same(tmp_path, at):
    def run(model, **options):
        return fit(model, diffuse(chunked(ring().draw, 16, chunk=4)), 10, lr=1e-2, every=3, bar=False, **options)

    net = lambda: Conditioned(Labels(2, 16), MLP(2, width=16, depth=1))
    build = lambda: initialised(lambda: Denoiser(net(), Linear(), VELOCITY), seed=1)
    whole, parts = build(), build()
    losses = [p.loss for p in run(whole)]
    stopped = run(build(), path=tmp_path)
    before = [next(stopped).loss for _ in range(at)]
    stopped.close()
    assert before + [p.loss for p in run(parts, path=tmp_path)] == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    assert len(set(losses)) == 10
