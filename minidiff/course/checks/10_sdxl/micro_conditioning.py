"""Exercise 10-micro-conditioning: from the loader's record of its crops to what a network is told."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from minidiff.conditioning import Sized
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.photos import crop
from minidiff.randomness import initialised
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal

Given = dict[str, Tensor]
Read = Callable[[Tensor], Given]
Three = tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Given]]
WORDS, DIM = 5, 3
PARTS: tuple[str, ...] = ("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias")


def _reader(width: int, g: Generator) -> Read:
    """Made-up encoders: a pooled vector, a vector a token, and which tokens are heard."""
    table, mix = normal((WORDS, DIM), g, torch.float32), normal((DIM, width), g, torch.float32)

    def read(tokens: Tensor) -> Given:
        fits = isinstance(tokens, Tensor) and tokens.dtype == torch.int64 and tokens.ndim == 2
        require(fits, "the tokens given to `read`", describe(tokens), "int64 of shape (B, L)")
        return {"vector": table[tokens].mean(1) @ mix, "context": table[tokens], "context_mask": tokens > 0}

    return read


def _draw_photographs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shapes: Sequence[tuple[int, int]], side: int, features: int, width: int, out: int) -> Inputs:
        joined, draw = width + 6 * features, lambda *shape: normal(shape, g, torch.float32)
        weights = [draw(joined, out) / joined**0.5, draw(out), draw(out, out) / out**0.5, draw(out)]
        pictures, read = [draw(3, *shape) for shape in shapes], _reader(width, g)
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        own = Generator().manual_seed((7_000_003 * (seed + 1) + 10 * side + features) % 2**32)
        return pictures, side, own, read, weights, features

    return [
        case([(5, 9), (9, 5), (7, 7), (8, 30)], 8, 8, width=4, out=5),  # wide, upright, square; one needs no enlarging
        case([(20, 12), (10, 31)], 6, 4, width=3, out=3),  # too large
        case([(6, 40)], 6, 2, width=2, out=4),  # one picture
        case([(4, 4), (9, 5), (3, 20), (20, 3), (2, 11), (11, 2)], 4, 6, width=6, out=6),
    ]


def micro_conditioning(
    pictures: list[Tensor], side: int, generator: Generator, read: Read, weights: list[Tensor], features: int
) -> Three:
    """`F.interpolate` and `photos.crop` with a record; `conditioning.Sized` with these weights."""
    found, kept = [], []
    for picture in pictures:
        whole, (h, w) = picture[None], picture.shape[1:]
        size = [round(n * side / min(h, w)) for n in (h, w)]
        whole = F.interpolate(whole, size=size, mode="bilinear", align_corners=False)
        top, left = (torch.randint(n - side + 1, (1,), generator=generator) for n in size)
        found.append(crop(whole, top, left, side))
        kept.append([h, w, int(top), int(left), side, side])

    class Inner(nn.Module):
        def forward(self, batch: int, *, tokens: Tensor) -> Given:
            return read(tokens)

    width, out = len(weights[0]) - 6 * features, len(weights[1])
    told = initialised(lambda: Sized(Inner(), width, 6, out, features), 0)
    named: Given = dict(zip(PARTS, (w.mT if w.ndim == 2 else w for w in weights)))

    def tell(tokens: Tensor, sizes: Tensor) -> Given:
        return functional_call(told, named, (len(tokens),), {"tokens": tokens, "sizes": sizes})

    return torch.cat(found), torch.tensor(kept, dtype=torch.float32), tell


def _by_hand(flaw: str = "") -> Callable[..., Three]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def micro_conditioning(
        pictures: list[Tensor], side: int, generator: Generator, read: Read, weights: list[Tensor], features: int
    ) -> Three:
        x0, sizes = torch.zeros(len(pictures), 3, side, side), torch.zeros(len(pictures), 6)
        for i, picture in enumerate(pictures):
            h, w = picture.shape[-2:]
            scale = side / min(h, w)
            tall, wide = round(scale * h), round(scale * w)
            large = F.interpolate(picture[None], (tall, wide), mode="bilinear")[0]
            top = int(torch.randint(tall - side + 1, (1,), generator=generator))
            left = int(torch.randint(wide - side + 1, (1,), generator=generator))
            x0[i] = large.narrow(1, top, side).narrow(2, left, side)
            record: list[float] = [h, w, top, left, side, side]
            if flaw == "wide":
                record[:4] = [w, h, left, top]
            if flaw == "late":
                record[:2] = [tall, wide]
            if flaw == "file":
                record[2:4] = [top / scale, left / scale]
            sizes[i] = torch.tensor(record)

        def tell(tokens: Tensor, sizes: Tensor) -> Given:
            given = read(tokens)
            pace = 10_000 ** (-torch.arange(features // 2) / (features // 2))
            angles = sizes[:, :, None] * pace  # (B, 6, features/2)
            both = [angles.sin(), angles.cos()] if flaw == "sines" else [angles.cos(), angles.sin()]
            told = torch.cat([part.flatten(1) for part in both] if flaw == "mixed" else both, -1).reshape(
                len(sizes), -1
            )
            hidden = F.silu(torch.hstack([given["vector"], told]) @ weights[0] + weights[1])
            given["vector"] = hidden @ weights[2] + weights[3]
            return {"vector": given["vector"]} if flaw == "vector" else given

        return x0, sizes, tell

    return micro_conditioning


def _told(answer: Three, pictures: list[Tensor], side: int, g: Generator, read: Read, *_: object):
    """The batch; what is told of it, and of sizes that are commanded."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 3 and callable(answer[2])
    require(fits, "what your function returns", describe_value(answer), "x0, sizes and a function tell(tokens, sizes)")
    x0, sizes, tell = answer
    for name, value in (("x0", x0), ("sizes", sizes)):
        require(isinstance(value, Tensor), f"your {name}", describe_value(value), "a tensor")
    wanted = torch.tensor([[64, 96, 0, 17, 64, 64], [24, 16, 32, 0, 64, 64], [64, 64, 0, 0, 64, 64]]).float()
    found = []
    for rows in (sizes.detach().float(), wanted):
        tokens = torch.arange(2 * len(rows)).reshape(-1, 2) * 2 % WORDS
        given = tell(tokens, rows)
        parts = sorted(given) if isinstance(given, dict) else given
        names = sorted(read(tokens))
        require(parts == names, "what your `tell` returns", parts, f"a dict with {', '.join(names)}")
        found += [given[name] for name in names]
    return x0, sizes, *found


EXERCISE = Exercise(
    id="10-micro-conditioning",
    title="Build it: micro-conditioning",
    points=6,
    difficulty=5,
    importance=5,
    minutes=40,
    draw=_draw_photographs,
    reference=micro_conditioning,
    probe=_told,
    rtol=1e-4,
    atol=1e-4,
    mistakes=(
        Mistake("width-before-height", _by_hand("wide"), "Your record has the width before the height, and left before "
            "top. Pictures are (3, h, w): h, w, top, left is the order. All shapes fit, and a command for a wide "
            "picture draws an upright one."),
        Mistake("recorded-too-late", _by_hand("late"), "You recorded height and width *after* enlarging. Then every "
            "picture claims to be large, blurred ones too, which is what this was to prevent. Record the file's."),
        Mistake("corner-of-the-file", _by_hand("file"), "You recorded the corner in pixels of the file. It is counted "
            "in those of the enlarged picture, as the crop is: one number, one shift, however small the file was."),
        Mistake("sines-first", _by_hand("sines"), "Your sines stand before the cosines. A network that you train "
            "yourself would not mind; this one's weights have learnt the other order."),
        Mistake("wave-by-wave", _by_hand("mixed"), "Your joined vector has all cosines first, of all six numbers, then "
            "all sines. Each number's waves stand together, cosines and sines: cat on the last axis of (B, 6, …), then "
            "flatten."),
        Mistake("the-vector-alone", _by_hand("vector"), "Your `tell` returns the vector alone. The backbone needs all "
            "else that `read` gives: without the context it draws something, of no sentence."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.data.photos.photographs", "minidiff.nn.embeddings.waves"),
    hints=(
        "Two parts. A loop over pictures: note h and w, enlarge, draw a corner, cut, write down six numbers. And a "
        "function inside yours: read, six numbers → waves → one row, join, two layers, put back into the dict.",
        "`size = [round(n * side / min(h, w)) for n in (h, w)]`; a corner is one of n − side + 1. Waves: "
        "`sizes[..., None] * 10_000 ** (-torch.arange(K) / K)` is (B, 6, K), with K = features // 2.",
        "`told = torch.cat([angles.cos(), angles.sin()], -1).flatten(1)`; `both = torch.cat([given['vector'], told], "
        "1)`; `given | {'vector': F.silu(both @ W1 + b1) @ W2 + b2}`.",
    ),
    expected="R² of told and read 0.988 ± 0.004 from the top and 0.957 ± 0.015 from the left, −2.2 with another's "
    "corner; 0.93 ± 0.04 of the corners are read as multiples of 4, the width of a latent's place (5 seeds).",
    trap="each of these trains, and each draws good pictures. Only a command shows it, and only a judge of corners who "
    "has never seen the record.",
)  # fmt: skip
