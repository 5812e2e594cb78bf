"""Noise that belongs to a picture, not to its batch.

Every random draw in the library takes a `generator`. It may be one `torch.Generator` for the whole batch, or a list
with one generator per picture; then picture i gets the same noise whatever stands beside it. Noise is drawn on the
generator's own device and moved, so the same seed gives the same picture on a CPU and on a GPU.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from minidiff.validate import integer, require

M = TypeVar("M", bound=nn.Module)
Randomness = Generator | Sequence[Generator] | None


def seeded(seeds: int | Iterable[int]) -> Generator | list[Generator]:
    """One CPU generator for an integer, a list of them (one per picture) for several integers.

    The integers, of Python, NumPy or in a tensor, lie in [−2⁶³, 2⁶⁴), the range of PyTorch's seeds.
    """
    several = isinstance(seeds, Iterable) and getattr(seeds, "ndim", 1) > 0
    return [_seeded(seed) for seed in seeds] if several else _seeded(seeds)  # type: ignore[union-attr]


def _seeded(seed: object) -> Generator:
    seed = integer("seeds", seed, least=None)
    require(-(2**63) <= seed < 2**64, "seeds", seed, "an integer in [−2⁶³, 2⁶⁴)")
    return Generator().manual_seed(seed)


def python_random(generator: Generator | int) -> Random:
    """Python's random numbers, seeded by an integer or by one draw from a torch generator: for choices and samples."""
    if isinstance(generator, Generator):
        return Random(int(torch.randint(2**62, (1,), generator=generator)))
    return Random(integer("generator", generator, None))


def randn(
    shape: Sequence[int], generator: Randomness, dtype: torch.dtype = torch.float32, device: object = "cpu"
) -> Tensor:
    """Standard normal noise of `shape` = (B, …), drawn from `generator`.

    With a list, picture i is drawn from `generator[i]` alone; `ValueError` if the list does not have B entries.
    None means PyTorch's own default generator (not reproducible across batches).
    bf16 and fp16 noise is drawn in fp32 and rounded, so that a seed means the same picture in every dtype below fp64.
    """
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    return _drawn(torch.randn, shape, generator, drawn, device).to(dtype)


def rand(shape: Sequence[int], generator: Randomness, device: object = "cpu") -> Tensor:
    """Uniform numbers in [0, 1) of `shape` = (B, …), float32; generators as in `randn`."""
    return _drawn(torch.rand, shape, generator, torch.float32, device)


def gumbel(shape: Sequence[int], generator: Randomness, device: object = "cpu") -> Tensor:
    """Standard Gumbel noise −ln(−ln u), u uniform, of `shape` = (B, …), float32; generators as in `randn`.

    argmax (logits + noise) is a draw from softmax(logits): the Gumbel-max trick (arXiv 1611.01144, eq. 1).
    """
    u = rand(shape, generator, device)  # in [0, 1), and 0 comes once in 2²⁴ times
    return -torch.log(-torch.log(u.clamp(min=2**-25)))


def orders(n: int, times: int, generator: Generator) -> Tensor:
    """0 … n − 1 in a random order, `times` times over, each time in another: (times·n,) int64.

    So that rows that are dear to draw serve several batches, each time among others.
    """
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(times)])


def _drawn(
    draw: Callable[..., Tensor], shape: Sequence[int], generator: Randomness, dtype: torch.dtype, device: object
) -> Tensor:
    if generator is None or isinstance(generator, Generator):
        source = generator.device if generator is not None else device
        numbers = draw(*shape, generator=generator, dtype=dtype, device=source)
    else:
        fits = len(generator) == shape[0]
        require(fits, "generator", f"{len(generator)} generators", f"one per picture ({shape[0]})")
        numbers = torch.stack([draw(*shape[1:], generator=g, dtype=dtype, device=g.device) for g in generator])
    return numbers.to(device=device)  # type: ignore[arg-type]


def randn_like(x: Tensor, generator: Randomness) -> Tensor:
    """`randn` with the shape, dtype and device of `x`."""
    return randn(x.shape, generator, x.dtype, x.device)


def initialised(build: Callable[[], M], seed: int) -> M:
    """`build()` with its initial weights drawn from `seed`, leaving PyTorch's global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(integer("seed", seed, least=None))
        return build()


@contextlib.contextmanager
def seeded_layers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what layers such as dropout draw from, PyTorch's own generators of the CPU and of `device`, for this block.

    They take no `generator`. After the block those generators are as they were before.
    """
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)  # 30 times quicker than torch.manual_seed, which asks every backend
        if cuda:
            torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
