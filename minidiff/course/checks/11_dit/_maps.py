"""The maps that a network of exercise 11-network is made of, in its check: known by name, made once."""

from collections.abc import Callable
from zlib import crc32

import torch
from torch import Generator, Tensor

from minidiff.validate import describe, require

Map = Callable[[Tensor], Tensor]


class Maps:
    """`linear(name, fan_in, fan_out, zero=False)`: weights that depend on the seed, the name, and on `zero`.

    Where a new network has zeros, this one has numbers, as after training, so that what they do is seen. Every name is
    asked for once, with its widths; none once `closed`.
    """

    def __init__(self, seed: int, channels: int, patch: int, dim: int, depth: int, dtype: torch.dtype):
        self.seed, self.dtype, self.closed, self.made = seed, dtype, False, set()
        inside = patch**2 * channels
        block = dict.fromkeys(("q", "k", "v", "out"), (dim, dim)) | {"modulation": (dim, 6 * dim)}
        block |= {"up": (dim, 4 * dim), "down": (4 * dim, dim)}
        self.widths = {f"blocks.{i}.{name}": width for i in range(depth) for name, width in block.items()}
        self.widths |= {"stem": (inside, dim), "last": (dim, 2 * dim), "head": (dim, inside)}

    def __call__(self, name: str, fan_in: int, fan_out: int, zero: bool = False) -> Map:
        require(not self.closed, "linear", f"a call for {name!r} while the network runs", "all maps made before")
        require(name in self.widths, "linear", f"the name {name!r}", f"one of {list(self.widths)}")
        require(name not in self.made, "linear", f"{name!r} twice", "every name once")
        fits = (fan_in, fan_out) == self.widths[name]
        require(fits, "linear", f"{name!r} from {fan_in} to {fan_out} numbers", "{} to {}".format(*self.widths[name]))
        self.made.add(name)
        g = Generator().manual_seed((crc32(f"{name} {bool(zero)}".encode()) + 7919 * self.seed) % 2**63)
        weight, bias = (torch.randn(n, fan_out, generator=g, dtype=torch.float64) for n in (fan_in, 1))
        weight, bias = (weight / fan_in**0.5).to(self.dtype), (0.3 * bias[0]).to(self.dtype)

        def mapped(x: Tensor) -> Tensor:
            fits = isinstance(x, Tensor) and x.ndim >= 1 and x.shape[-1] == fan_in and x.dtype == self.dtype
            require(fits, f"what is given to {name!r}", describe(x), f"{self.dtype} of shape (…, {fan_in})")
            return x @ weight + bias

        return mapped


def read(made: Map, fan_in: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weight and bias of a map, as nn.Linear has them, with their gradients."""
    bias = made(torch.zeros(fan_in, dtype=dtype))
    return {"weight": (made(torch.eye(fan_in, dtype=dtype)) - bias).mT, "bias": bias}
