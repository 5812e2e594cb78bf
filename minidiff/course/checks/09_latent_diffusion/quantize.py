"""Exercise 09-quantize: the nearest codes, and a gradient that goes straight through."""

from math import log2

import torch
from torch import Generator, Tensor

from minidiff.codecs.vqvae import Quantizer
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.randomness import initialised
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal

Quantized = tuple[Tensor, Tensor, float]


def _draw_vectors(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, int, int, int], size: int, dtype: torch.dtype = torch.float64) -> Inputs:
        """Codes of very different lengths."""
        codebook = normal((size, shape[1]), g) * (0.2 + 2 * torch.rand(size, 1, generator=g, dtype=torch.float64))
        return normal(shape, g, dtype).requires_grad_(), codebook.to(dtype)

    halves = lambda shape: torch.randint(-2, 3, shape, generator=g).double()
    twins = halves((3, 2)).repeat(2, 1)  # every code twice: the first of them is taken
    between = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    ties = torch.tensor([0.0, 2.0, -1.0, 2.0], dtype=torch.float64).reshape(1, 1, 2, 2)  # half-way between codes
    return [
        case((3, 2, 2, 4), 5),
        case((4, 4, 4, 4), 8),  # as many pictures as channels, rows and columns
        case((1, 3, 1, 2), 4),  # one picture
        case((2, 3, 2, 2), 6, torch.float32),
        case((2, 2, 3, 1), 1),  # one code: a perplexity of 1
        ((halves((2, 2, 2, 2)) / 2).requires_grad_(), twins),
        (torch.cat([ties, torch.zeros_like(ties)], 1).requires_grad_(), between),
    ]


def quantize(z: Tensor, codebook: Tensor) -> Quantized:
    """(nearest codes' vectors with the gradient of z, their numbers, the perplexity)."""
    quantizer = initialised(lambda: Quantizer(*codebook.shape), 0).to(codebook.dtype).eval()
    quantizer.codebook.copy_(codebook)  # type: ignore[operator]
    vectors, _, codes = quantizer(z)
    return vectors, codes, float(quantizer.perplexity(codes))


def _distances(z: Tensor, codebook: Tensor) -> Tensor:
    """(B, h, w, K), squared."""
    return (z.detach().movedim(1, -1)[..., None, :] - codebook).square().sum(-1)


def _straight(z: Tensor, codebook: Tensor, codes: Tensor) -> Tensor:
    return z + (codebook[codes].movedim(-1, 1) - z).detach()


def _entropy(codes: Tensor) -> float:
    """In bits."""
    shares = codes.flatten().bincount().double() / codes.numel()
    return float(-(shares[shares > 0] * shares[shares > 0].log2()).sum())


def _no_gradient(z: Tensor, codebook: Tensor) -> Quantized:
    codes = _distances(z, codebook).argmin(-1)
    return codebook[codes].movedim(-1, 1), codes, 2 ** _entropy(codes)


def _inner_products(z: Tensor, codebook: Tensor) -> Quantized:
    codes = (z.detach().movedim(1, -1) @ codebook.T).argmax(-1)
    return _straight(z, codebook, codes), codes, 2 ** _entropy(codes)


def _rows_mixed(z: Tensor, codebook: Tensor) -> Quantized:
    rows = z.detach().reshape(-1, z.shape[1])
    codes = (rows[:, None] - codebook).square().sum(-1).argmin(-1)
    vectors = z + (codebook[codes].reshape(z.shape) - z).detach()
    codes = codes.reshape(len(z), *z.shape[2:])
    return vectors, codes, 2 ** _entropy(codes)


def _wrong_base(z: Tensor, codebook: Tensor) -> Quantized:
    codes = _distances(z, codebook).argmin(-1)
    return _straight(z, codebook, codes), codes, 2 ** (_entropy(codes) / log2(torch.e))


def _how_many(z: Tensor, codebook: Tensor) -> Quantized:
    codes = _distances(z, codebook).argmin(-1)
    return _straight(z, codebook, codes), codes, float(len(codes.unique()))


def _only_entropy(z: Tensor, codebook: Tensor) -> Quantized:
    codes = _distances(z, codebook).argmin(-1)
    return _straight(z, codebook, codes), codes, _entropy(codes)


def _by_products(z: Tensor, codebook: Tensor) -> Quantized:
    rows = z.movedim(1, -1).flatten(0, 2)
    codes = (codebook.square().sum(1) - 2 * rows @ codebook.T).argmin(1)  # |z|² is the same for all codes
    vectors = codebook[codes].reshape(len(z), *z.shape[2:], -1).movedim(-1, 1)
    shares = codes.bincount(minlength=len(codebook)) / len(codes)
    return vectors + z - z.detach(), codes.reshape(len(z), *z.shape[2:]), float(torch.special.entr(shares).sum().exp())


def _written_out(z: Tensor, codebook: Tensor) -> Quantized:
    codes = _distances(z, codebook).argmin(-1)
    return _straight(z, codebook, codes), codes, 2 ** _entropy(codes)


def _seen(answer: Quantized, z: Tensor, codebook: Tensor) -> tuple[Tensor | float, ...]:
    """The three things, and the gradient that reaches z."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 3
    require(fits, "what your function returns", describe_value(answer), "three things: vectors, codes, perplexity")
    vectors, codes, perplexity = answer
    fits = isinstance(vectors, Tensor) and vectors.shape == z.shape
    require(fits, "your vectors", describe(vectors), f"the shape of z, {tuple(z.shape)}")
    pull = torch.arange(z.numel(), dtype=z.dtype).reshape(z.shape) + 1
    if not vectors.requires_grad:
        return vectors, codes, perplexity, torch.zeros_like(z)
    (gradient,) = torch.autograd.grad((vectors * pull).sum(), [z], materialize_grads=True)
    return vectors, codes, perplexity, gradient


EXERCISE = Exercise(
    id="09-quantize",
    title="The nearest code, with a gradient",
    points=3,
    difficulty=3,
    importance=4,
    minutes=15,
    draw=_draw_vectors,
    reference=quantize,
    probe=_seen,
    mistakes=(
        Mistake("no-gradient", _no_gradient, "No gradient reaches z: a choice has none, and in `z + (vectors - z)` the "
            "two z cancel. Detach the difference: `z + (vectors - z).detach()` has the value of the code and the "
            "gradient of z."),
        Mistake("inner-products", _inner_products, "You chose the largest inner product, so that a long code wins "
            "everywhere. |z − e|² = |z|² − 2·z·e + |e|²: the first is the same for all codes, the last is not."),
        Mistake("rows-mixed", _rows_mixed, "You reshaped (B, D, h, w) to rows of D in one go. That fits and puts "
            "numbers of neighbouring places into one vector. Bring the channels to the end first: `movedim(1, -1)`."),
        Mistake("wrong-base", _wrong_base, "You mixed two bases: an entropy in nats as a power of 2. From nats the "
            "perplexity is e to the entropy, from bits 2 to it."),
        Mistake("how-many-are-used", _how_many, "You counted the codes that occur. One that occurs once then counts as "
            "much as one that is everywhere. Perplexity is the exponential of the entropy of their shares."),
        Mistake("only-the-entropy", _only_entropy, "Your third value is the entropy itself. Perplexity is 2 to the "
            "entropy in bits: how many codes would do, were all used equally often."),
    ),
    alternatives=(_by_products, _written_out),
    shortcuts=("minidiff.codecs.vqvae.VQVAE",),
    hints=(
        "Rows of D numbers, distances to all codes, the least of them. Then back to (B, D, h, w).",
        "`rows = z.movedim(1, -1).flatten(0, 2)`, `torch.cdist(rows, codebook).argmin(1)`; shares by "
        "`torch.bincount(codes, minlength=len(codebook)) / len(codes)`.",
        "`z + (vectors - z).detach()`; and `torch.special.entr(shares).sum().exp()`.",
    ),
    expected="a perplexity of 3.2 ± 0.5 without restarts, 22 ± 1 with, of 64; 26.3 ± 0.6 dB against 28.7 ± 0.2 dB "
    "(5 seeds).",
    trap="without the straight-through step everything runs, the decoder learns, the encoder stays as it began; and "
    "on codes of equal length the largest inner product is the nearest code.",
    rtol=1e-4,
    atol=1e-5,
)  # fmt: skip
