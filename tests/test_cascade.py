"""The parts of a cascade: smaller pictures, noise on them, stages in a row."""

import pytest
import torch

from minidiff.cascade import lowered, noised, staged
from minidiff.conditioning import LowResolution, Together, Words
from minidiff.randomness import initialised, randn, seeded
from minidiff.schedules import Linear


def test_lowered_is_the_mean_over_squares() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert lowered(x, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert torch.equal(lowered(x, 1), x)
    x = randn((2, 3, 16, 8), seeded(0))
    assert torch.allclose(lowered(lowered(x, 2), 2), lowered(x, 4), atol=1e-6)


@pytest.mark.parametrize(("x", "factor"), [(torch.zeros(1, 3, 6, 6), 4), (torch.zeros(3, 6, 6), 2), ("x", 2)])
def test_what_cannot_be_lowered_is_named(x: object, factor: int) -> None:
    with pytest.raises(ValueError, match="x: got"):
        lowered(x, factor)  # type: ignore[arg-type]


def test_noised_is_the_linear_schedule_at_the_level() -> None:
    low, eps = randn((3, 3, 4, 4), seeded(0)), randn((3, 3, 4, 4), seeded(1))
    level = torch.tensor([0.0, 0.25, 1.0])  # as many as channels: a level on the wrong axis would show
    found = noised(low, level, seeded(1))
    assert (found - Linear().add_noise(low, eps, level)).abs().max() <= 1e-6
    assert torch.equal(found[0], low[0])
    assert torch.equal(found[2], eps[2])
    assert torch.equal(noised(low, 0.25, seeded(1))[1], found[1])


def test_noise_belongs_to_a_picture() -> None:
    low = randn((3, 3, 4, 4), seeded(0))
    assert torch.equal(noised(low, 0.5, seeded([5, 6, 7]))[1:], noised(low[1:], 0.5, seeded([6, 7])))
    assert not torch.equal(noised(low, 0.5, seeded([5, 6, 7])), noised(low, 0.5, seeded([5, 6, 8])))


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan"), torch.zeros(2), torch.tensor([0.0, 2.0, 0.0])])
def test_a_level_outside_is_named(level: object) -> None:
    with pytest.raises(ValueError, match="level"):
        noised(torch.zeros(3, 1, 2, 2), level)  # type: ignore[arg-type]


def test_each_stage_enlarges_what_the_one_before_drew() -> None:
    asked = []

    def twice(low, texts, w, seeds):
        asked.append((tuple(low.shape), list(texts), w, list(seeds)))
        return low.repeat_interleave(2, 2).repeat_interleave(2, 3) + 1

    small = torch.zeros(2, 3, 4, 4)
    pictures = staged(small, [twice, twice], ["a", "b"], 1.5, [3, 4])
    assert [tuple(x.shape[2:]) for x in pictures] == [(4, 4), (8, 8), (16, 16)]
    assert [float(x.mean()) for x in pictures] == [0.0, 1.0, 2.0]
    assert asked == [((2, 3, 4, 4), ["a", "b"], 1.5, [3, 4]), ((2, 3, 8, 8), ["a", "b"], 1.5, [3, 4])]
    assert staged(small, [], ["a", "b"], 0.0, [0, 1]) == [small]


def test_the_low_picture_and_its_level_stand_beside_the_network() -> None:
    beside = initialised(lambda: LowResolution(8, dim=16), 0)
    low = randn((2, 3, 4, 4), seeded(0))
    given = beside(2, low=low, level=torch.tensor([0.0, 0.3]))
    assert given["concat"].shape == (2, 3, 8, 8)
    assert torch.allclose(lowered(given["concat"], 2).mean((2, 3)), low.mean((2, 3)), atol=1e-6)
    assert given["vector"].shape == (2, 16)
    assert (given["vector"][0] - given["vector"][1]).abs().max() > 1e-3  # the level is told
    again = beside(2, low=low, level=torch.tensor(0.3))
    assert torch.allclose(again["vector"], given["vector"][1].expand(2, -1))
    flat = beside(2, low=0 * low + 0.5, level=torch.tensor(0.0))["concat"]
    assert torch.allclose(flat, torch.full_like(flat, 0.5))


def test_words_and_a_low_picture_stand_together() -> None:
    both = Together(Words(9, 5, 16), LowResolution(8, 16))
    given = both(2, tokens=torch.ones(2, 5, dtype=torch.int64), low=torch.zeros(2, 3, 4, 4), level=torch.zeros(2))
    assert sorted(given) == ["concat", "context", "vector"]


@pytest.mark.parametrize(
    ("name", "cond"),
    [
        ("low", {"low": torch.zeros(3, 3, 4, 4), "level": torch.zeros(2)}),
        ("low", {"low": torch.zeros(2, 12), "level": torch.zeros(2)}),
        ("level", {"low": torch.zeros(2, 3, 4, 4), "level": torch.zeros(3)}),
        ("level", {"low": torch.zeros(2, 3, 4, 4), "level": torch.zeros(2, dtype=torch.int64)}),
        ("level", {"low": torch.zeros(2, 3, 4, 4), "level": 0.1}),
    ],
)
def test_bad_conditions_are_named(name: str, cond: dict) -> None:
    with pytest.raises(ValueError, match=name):
        LowResolution(8, 16)(2, **cond)
