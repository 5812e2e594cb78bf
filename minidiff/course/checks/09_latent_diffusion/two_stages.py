"""Exercise 09-two-stages: latent diffusion as a whole, from pictures and captions to a function that draws."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import torch
from torch import Generator, Tensor, nn

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.samplers import ddim, sample
from minidiff.schedules import Linear as StraightPath
from minidiff.training import drop_condition, fit
from minidiff.validate import require
from minidiff.values import describe_value

from .._common import normal
from ._tiny import WORDS, Linear, Weights

Draw = Callable[[Tensor, Sequence[int], int], Tensor]


def _draw_runs(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        n: int, shape: tuple[int, ...], steps: tuple[int, int], batch: int, p: float, length: int = 2, least: int = 1,
    ) -> Inputs:  # fmt: skip
        """Pictures far from the mean 0; captions of the words least … 4, 0 being padding."""
        tiny = Linear(shape)
        pictures = 1 + 2 * normal((n, *shape), g, torch.float32)
        tokens = torch.randint(least, WORDS, (n, length), generator=g)
        # Far from the seeds that tests and notebooks give to PyTorch's own generator.
        own = Generator().manual_seed((7_000_003 * (seed + 1) + 10 * n + batch) % 2**32)
        models = tiny.encode, tiny.decode, tiny.denoise, *tiny.first_weights(g)
        return *models, pictures, tokens, steps, batch, 0.05, p, own

    return [
        case(6, (5,), (3, 4), batch=4, p=0.4),
        case(5, (3, 2, 4), (2, 5), batch=1, p=0.5),  # one picture at a time
        case(4, (3, 4, 4), (3, 3), batch=3, p=0.0, length=3, least=0),  # no caption is dropped
        case(7, (4,), (4, 2), batch=2, p=1.0, length=1),  # every one is
    ]


class _Stage(nn.Module):
    """Weights of its own and a loss (weights, rows, **batch) → (B,) of them."""

    def __init__(self, weights: Weights, losses: Callable[..., Tensor]):
        super().__init__()
        self.losses = lambda *given: losses(*given)  # a copy of this module, as `fit` makes one, shares it
        self.weights = nn.ParameterList(nn.Parameter(w.detach().clone()) for w in weights)

    def loss(self, **batch: Tensor) -> Tensor:
        return self.losses(list(self.weights), *batch.values()).square().flatten(1).mean(1)


def _fitted(weights: Weights, losses: Callable[..., Tensor], draw: Callable, steps: int, lr: float) -> Weights:
    stage, constant = _Stage(weights, losses), lambda step, steps, peak: peak
    for _ in fit(stage, draw, steps, lr=lr, optimizer=torch.optim.Adam, lr_at=constant, clip=inf, bar=False):
        pass
    return [w.detach().clone() for w in stage.weights]


def two_stages(
    encode: Callable, decode: Callable, denoise: Callable, codec: Weights, prior: Weights, pictures: Tensor,
    tokens: Tensor, steps: tuple[int, int], batch: int, lr: float, p: float, generator: Generator,
) -> Draw:  # fmt: skip
    """`fit` twice, without average, limit or course of the learning rate; then DDIM on the straight path."""
    rows = lambda: torch.randint(len(pictures), (batch,), generator=generator)
    rebuilt = lambda now, x: decode(now, encode(now, x)) - x
    codec = _fitted(codec, rebuilt, lambda _: {"x": pictures[rows()]}, steps[0], lr)
    with torch.no_grad():
        z = encode(codec, pictures)
    axes = (0, *range(2, z.ndim))
    shift, scale = z.mean(axes, keepdim=True), z.std(axes, correction=0, keepdim=True)
    z = (z - shift) / scale

    def noisy(_) -> dict[str, Tensor]:
        i = rows()
        z0, told = z[i], {"tokens": tokens[i]}
        t = torch.rand(batch, generator=generator)
        z_t = StraightPath().add_noise(z0, torch.randn(z0.shape, generator=generator), t)
        told = drop_condition(told, {"tokens": torch.zeros_like(tokens[0])}, p, generator)
        return {"z_t": z_t, "t": t, **told, "z0": z0}

    guessed = lambda now, z_t, t, told, z0: denoise(now, z_t, t, told) - z0
    prior = _fitted(prior, guessed, noisy, steps[1], lr)

    def draw(tokens: Tensor, seeds: Sequence[int], steps: int) -> Tensor:
        noise = torch.stack([torch.randn(z.shape[1:], generator=Generator().manual_seed(s)) for s in seeds])
        guess = lambda x, t: denoise(prior, x, t.to(x).expand(len(x)), tokens)
        *_, x = sample(guess, noise, torch.linspace(1, 0, steps + 1), ddim(StraightPath()))
        return decode(codec, x * scale + shift)

    return draw


def _by_hand(flaw: str = "") -> Callable[..., Draw]:
    """Written out, with one thing wrong: which one, `flaw` says; "" is right."""

    def two_stages(
        encode: Callable, decode: Callable, denoise: Callable, codec: Weights, prior: Weights, pictures: Tensor,
        tokens: Tensor, steps: tuple[int, int], batch: int, lr: float, p: float, generator: Generator,
    ) -> Draw:  # fmt: skip
        first, second = ([w.clone().requires_grad_() for w in weights] for weights in (codec, prior))
        optimizer = torch.optim.Adam(first, lr=lr)
        for _ in range(steps[0]):
            x = pictures[torch.randint(len(pictures), (batch,), generator=generator)]
            optimizer.zero_grad()
            (decode(first, encode(first, x)) - x).pow(2).mean().backward()
            optimizer.step()
        raw = encode(codec if flaw == "first" else first, pictures).detach()
        spread = raw.transpose(0, 1).flatten(1)  # (C, every number of the channel)
        like = (1, len(spread), *[1] * (raw.ndim - 2))
        shift, scale = spread.mean(1).reshape(like), spread.var(1, correction=0).sqrt().reshape(like)
        if flaw == "raw":
            shift, scale = torch.zeros_like(shift), torch.ones_like(scale)
        optimizer = torch.optim.Adam([*first, *second] if flaw == "thawed" else second, lr=lr)
        for _ in range(steps[1]):
            rows = torch.randint(len(pictures), (batch,), generator=generator)
            z0 = ((encode(first, pictures[rows]) if flaw == "thawed" else raw[rows]) - shift) / scale
            t, eps = torch.rand(batch, generator=generator), torch.randn(z0.shape, generator=generator)
            kept = torch.rand(batch, generator=generator) >= p
            told = tokens[rows] if flaw == "told" else tokens[rows] * kept[:, None]
            guess = denoise(second, z0 + t.reshape(-1, *[1] * (z0.ndim - 1)) * (eps - z0), t, told)
            optimizer.zero_grad()
            (guess - z0).pow(2).mean().backward()
            optimizer.step()

        @torch.no_grad()
        def draw(tokens: Tensor, seeds: Sequence[int], steps: int) -> Tensor:
            one = Generator().manual_seed(seeds[0])
            sources = [one if flaw == "one" else Generator().manual_seed(seed) for seed in seeds]
            x = torch.stack([torch.randn(raw.shape[1:], generator=source) for source in sources])
            for t, s in pairwise(torch.linspace(1, 0, steps + 1)):
                x = torch.lerp(denoise(second, x, t.repeat(len(x)), tokens), x, s / t)
            return decode(first, x if flaw == "scaled" else x * scale + shift)

        return draw

    return two_stages


def _drawn(draw: Draw, *inputs: Any) -> tuple[Tensor, ...]:
    """Pictures of captions; again, of one alone; of the empty caption, in one step."""
    require(callable(draw), "what your function returns", describe_value(draw), "a function draw(tokens, seeds, steps)")
    told, seeds = inputs[6][:3], [3, 8, 3]
    found = draw(told, seeds, 4)
    return found, draw(told, seeds, 4), draw(told[2:], [3], 4), draw(torch.zeros_like(told), [1, 2, 2**40], 1)


EXERCISE = Exercise(
    id="09-two-stages",
    title="Build it: latent diffusion in two stages",
    points=6,
    difficulty=5,
    importance=5,
    minutes=45,
    draw=_draw_runs,
    reference=two_stages,
    probe=_drawn,
    rtol=1e-3,
    atol=1e-4,
    mistakes=(
        Mistake("stage-1-trained-on", _by_hand("thawed"), "Your second stage trains the autoencoder, too. Latents that "
            "are easy to guess are then rewarded, and the decoder learns nothing of it. Freeze it: encode without "
            "gradients, and give the optimizer the denoiser's weights alone."),
        Mistake("not-standardised", _by_hand("raw"), "You diffuse the latents as they come. The noise has variance 1 "
            "and they have not: what t = 0.5 means is left to chance. Subtract each channel's mean, divide by its "
            "deviation."),
        Mistake("decoded-as-they-are", _by_hand("scaled"), "You decode standardised latents. The decoder has never "
            "seen such: multiply by the scale and add the shift first."),
        Mistake("captions-never-dropped", _by_hand("told"), "You never drop a caption, so that the empty one is a row "
            "of words nobody trained. Where the coin falls below p, the whole row of tokens becomes 0."),
        Mistake("untrained-encoder", _by_hand("first"), "You encode with the *first* weights, `codec` as it was given. "
            "Your decoder has learnt to read the trained encoder."),
        Mistake("one-seed", _by_hand("one"), "You draw all noise from the first seed. Picture i belongs to seed i: "
            "then it is the same whatever stands beside it."),
    ),
    alternatives=(_by_hand(),),
    shortcuts=("minidiff.training.diffuse", "minidiff.codecs.vae.VAE", "minidiff.systems.latent.pictures_of"),
    hints=(
        "Four parts: a loop for the autoencoder; latents of all pictures, once, with shift and scale; a loop for the "
        "denoiser; a function that finds all this by itself. Both loops are one, with another loss.",
        "No gradient may be left on the latents: encode under `torch.no_grad()`, or detach. Captions: "
        "`torch.where(coin[:, None], 0, tokens[rows])`. For the network t is (B,), for the path (B, 1, …).",
        "A step from t to s on the straight path: `x = s / t * x + (1 - s / t) * guess`. At the end, under "
        "`torch.no_grad()`, `decode(codec, x * scale + shift)`.",
    ),
    expected="of 96 pictures 0.65 ± 0.04 show the caption's kind and colour, 0.00 those of the next one, and 0.00 are "
    "among the pictures that were kept back: this small network has learnt 81 pictures by heart (5 seeds).",
    trap="each of these draws pictures. An autoencoder that is trained on even lowers the loss of stage 2, as nothing "
    "is easier to guess than a latent that says nothing.",
)  # fmt: skip
