"""Exercise 08-text-diff: a picture's embedding, turned by the difference of two sentences."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.systems.unclip_pictures import slerp

from .._common import normal


def _draw_embeddings(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, d: int, fraction: float, dtype: torch.dtype = torch.float64) -> Inputs:
        z, z_from, z_to = (F.normalize(normal(shape, g), dim=-1) for shape in ((b, d), (d,), (d,)))
        return z.to(dtype), z_from.to(dtype), z_to.to(dtype), fraction

    # Exactly along an axis: the first picture is there already, the second at a right angle to it.
    axes, height = torch.eye(4, dtype=torch.float64), torch.rand(2, generator=g, dtype=torch.float64)
    a, b = 0.1 + 0.5 * height
    low, high = (torch.stack([sign * a, b, (1 - a**2 - b**2).sqrt(), 0 * a]) for sign in (-1, 1))
    return [
        case(3, 6, 0.3),
        case(5, 5, 0.5),  # as many pictures as numbers
        case(1, 8, 0.85),  # one picture
        case(2, 16, 0.4, torch.float32),
        case(4, 7, 0.0),  # not turned at all
        case(4, 7, 1.0),  # all the way: every picture arrives at the same place
        (axes[:2], low, high, 0.25),
        (axes[:1].repeat(2, 1), low, high, 0.6),
    ]


def text_diff(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    """Each row of z, turned towards the direction of z_to − z_from by a fraction of the angle between them."""
    way = F.normalize(z_to - z_from, dim=0)
    return torch.cat([slerp(row, way, [fraction]) for row in z])


def _turned(z: Tensor, way: Tensor, fraction: float) -> Tensor:
    """z (B, d), way (d,) or (B, d). Where both are the same, it stays."""
    angle = torch.acos((z * way).sum(-1, keepdim=True).clamp(-1, 1))
    tiny = angle < 1e-6
    sine = torch.where(tiny, 1.0, angle.sin())
    there = (((1 - fraction) * angle).sin() * z + (fraction * angle).sin() * way) / sine
    return torch.where(tiny, z, there)


def _straight(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    way = F.normalize(z_to - z_from, dim=0)
    return F.normalize((1 - fraction) * z + fraction * way, dim=-1)


def _inside(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    return (1 - fraction) * z + fraction * F.normalize(z_to - z_from, dim=0)


def _added(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    return F.normalize(z + fraction * F.normalize(z_to - z_from, dim=0), dim=-1)


def _one_angle(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    way = F.normalize(z_to - z_from, dim=0)
    angle = torch.acos((z @ way).mean().clamp(-1, 1))
    there = ((1 - fraction) * angle).sin() * z + (fraction * angle).sin() * way
    return there / angle.sin() if float(angle.sin()) > 1e-6 else z


def _by_the_plane(z: Tensor, z_from: Tensor, z_to: Tensor, fraction: float) -> Tensor:
    """Turned in the plane that each row spans with the direction: cos·row + sin·(what stands upright on it)."""
    way = (z_to - z_from) / (z_to - z_from).square().sum().sqrt()
    along = z @ way
    upright = way - along[:, None] * z
    length = upright.norm(dim=1)
    angle = fraction * torch.atan2(length, along)
    return angle.cos()[:, None] * z + (angle.sin() / length.clamp(min=1e-12))[:, None] * upright


EXERCISE = Exercise(
    id="08-text-diff",
    title="Move a picture by a difference of words",
    points=3,
    difficulty=4,
    importance=3,
    minutes=15,
    draw=_draw_embeddings,
    reference=text_diff,
    mistakes=(
        Mistake("straight-line", _straight, "You went along the straight line and stretched the result to length 1. "
            "That is on the same arc but not a fraction of the angle: slow at both ends, fast in the middle. Take "
            "sin((1 − f)θ) and sin(fθ), divided by sin θ."),
        Mistake("inside-the-sphere", _inside, "Your results are shorter than 1: the straight line runs inside the "
            "sphere. Embeddings that shorter nobody has trained on; go along the arc."),
        Mistake("towards-the-sentence", lambda z, z_from, z_to, fraction: _turned(z, z_to, fraction),
            "You turned towards the second sentence itself. Then all that the picture shows besides is lost on the "
            "way. The direction is what the sentences differ by, z_to − z_from, made a unit vector."),
        Mistake("difference-too-short", lambda z, z_from, z_to, fraction: _turned(z, z_to - z_from, fraction),
            "You did not bring the difference to length 1: the formula holds for unit vectors alone. At f = 1 your "
            "result is as long as the difference."),
        Mistake("only-added", _added, "You added a part of the direction and kept the whole picture: at f = 1 both are "
            "still equally strong. Both shares must change: sin((1 − f)θ) and sin(fθ)."),
        Mistake("one-angle-for-all", _one_angle, "You have one angle for the whole batch. Every picture stands at an "
            "angle of its own to the direction: shape (B, 1)."),
    ),
    alternatives=(
        _by_the_plane,
        lambda z, z_from, z_to, fraction: _turned(z, F.normalize(z_to - z_from, dim=0), fraction),
    ),
    shortcuts=("minidiff.systems.unclip_pictures.UnCLIP",),
    hints=(
        "First the direction, a unit vector. Then each picture's angle to it. Then the two shares.",
        "`angle = torch.acos((z @ way).clamp(-1, 1))[:, None]`. What if a picture is there already, so that the angle "
        "is 0?",
        "`((1 - f) * angle).sin() * z + (f * angle).sin() * way`, divided by `angle.sin()`; where that is 0, z.",
    ),
    expected="the new kind is nearest in 0.06 ± 0.05 at f = 0.2, 0.95 ± 0.02 at 0.3, and the other object is as it was "
    "in 0.96 ± 0.03; at f = 1 in 0.03 ± 0.00, as all pictures have arrived at one place (5 sets of 32).",
    trap="for small fractions the straight line, stretched, is nearly the arc, and a difference that happens to have "
    "length 1 needs no stretching. A picture that is there already is rare, and gives NaN.",
)  # fmt: skip
