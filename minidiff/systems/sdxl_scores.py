"""What is measured of SDXL (`sdxl`): does it show its sentence, framed and sharp as told, and what a refiner adds.

`draws(refiner, sizes=…, score=…, switch=…)` stands for `sdxl.pictures_of` with its networks filled in. All pictures
are of held-out sentences. "Another caption" and "another corner" are the controls: what is scored without listening.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from minidiff.codecs.vae import VAE
from minidiff.data.captions import captions
from minidiff.data.photos import MARGIN, SIDE, detail, fine, sheet, stored
from minidiff.data.prompts import Prompt, place
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.judges.framing import corner, cut_off, explained, flaws
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import Generate, matches, shares
from minidiff.systems.imagen import WORLD

Draws = Callable[..., Generate]

PLAIN = replace(WORLD, families=("one", "relation", "pair", "riding"))
"""Those on plain ground, where an object at the border can be told from the ground."""
SNOW = replace(WORLD, families=("snow",))
SWITCHES = (0.1, 0.2, 0.35, 0.6)
"""Where the refiner takes over; it has not learnt the times from 0.35 to 0.6."""


def asked(world, n: int, seed: int = 3) -> tuple[list[Prompt], list[str]]:
    prompts = world.prompts(n, seed, "test")
    return prompts, captions(prompts)


def families(generate: Generate, n: int = 50) -> dict[str, float]:
    """Shares of n pictures a family that show their sentence wholly, and that show another's."""
    found = {}
    for w in (0.0, 1.0):
        for family, (right, other) in shares(generate, WORLD, w, n).items():
            found[f"{family}, w={w:g}"] = round(right.share, 4)
            found[f"{family}, w={w:g}, another caption"] = round(other.share, 4)
    return found


def upright(top: float, side: int = SIDE) -> list[float]:
    """Sizes of an upright photograph, whose file's shorter side had `side` pixels, cut `top` pixels from its top."""
    return [side * (SIDE + MARGIN) // SIDE, side, top, 0, SIDE, SIDE]


def wide(left: float, side: int = SIDE) -> list[float]:
    height, width, top, left_, *target = upright(left, side)
    return [width, height, left_, top, *target]


def corners(draws: Draws, every: int = 2) -> dict[str, float]:
    """R² of the corners that are read in pictures of snowy scenes, of those that were told, without a fitted line."""
    at = list(range(0, MARGIN + 1, every))
    sizes = torch.tensor([upright(top) for top in at] + [wide(left) for left in at])
    told = torch.tensor([(top, 0) for top in at] + [(0, left) for left in at])
    texts = asked(SNOW, len(told))[1]
    read, found = corner(draws(sizes=sizes)(texts, 1.0, range(len(told)))), {}
    untold = corner(draws()(texts, 1.0, range(len(told))))
    for name, rows, axis in (("top", slice(0, len(at)), 0), ("left", slice(len(at), None), 1)):
        wanted = told[rows, axis]
        found[f"{name} of the crop, R²"] = round(explained(wanted, read[rows, axis]), 4)
        found[f"{name} of the crop, R², another corner"] = round(explained(wanted.flip(0), read[rows, axis]), 4)
        found[f"{name} of the crop, R², not told"] = round(explained(wanted, untold[rows, axis]), 4)
    return found


def cuts(generate: Generate, n: int = 100) -> float:
    """The share of pictures in which an object is cut off."""
    return round(float(cut_off(generate(asked(PLAIN, n)[1], 1.0, range(n))).float().mean()), 4)


def sharpness(draws: Draws, autoencoder: VAE, n: int = 30) -> dict[str, float]:
    """The detail of square pictures said to have been stored with so many pixels a side, and of real ones.

    The real ones go through the autoencoder, too, whose decoder sharpens.
    """
    prompts, texts = asked(WORLD, n)
    whole, found = sheet(place(prompts, 3))[..., :SIDE, :SIDE], {}
    for side in (16, 24, 32, 48, SIDE):
        x = draws(sizes=(side, side, 0, 0, SIDE, SIDE))(texts, 1.0, range(n))
        real = stored(whole, torch.full((n,), side))
        found[f"detail at {side} px"] = round(float(detail(x).mean()), 4)
        found[f"detail at {side} px, real"] = round(float(detail(_through(autoencoder, real)).mean()), 4)
    return found


@torch.no_grad()
def _through(autoencoder: VAE, x: Tensor) -> Tensor:
    return autoencoder.decode(autoencoder.latents(x), clamp=True)


def base(draws: Draws, autoencoder: VAE, n: int = 50) -> dict[str, float]:
    """All of the above, of n pictures a family and 2n for what is cut off."""
    found = families(draws(), n) | corners(draws) | sharpness(draws, autoencoder, n)
    found["an object is cut off, corner (0, 0)"] = cuts(draws(), 2 * n)
    for at in (8, 16, 24):
        found[f"an object is cut off, corner ({at}, 0)"] = cuts(draws(sizes=upright(at)), 2 * n)
    return found


def unsized(generate: Generate, n: int = 50) -> dict[str, float]:
    return families(generate, n) | {"an object is cut off": cuts(generate, 2 * n)}


def refiner(
    draws: Draws, models: dict[str, Denoiser], again: Callable[..., Tensor], autoencoder: VAE, n: int = 100
) -> dict[str, float]:
    """Flaws of the finest detail, and shares of right pictures, of the base alone and with a refiner from each switch.

    Flaws are compared on pictures that are right in both. models: the "base" and the "refiner". again(model, pictures,
    texts, w, seeds, t0=…): the form of img2img, `sdxl.refined`.
    """
    prompts, texts = asked(WORLD, n)
    alone, model = draws()(texts, 1.0, range(n)), models["refiner"]
    refine = {f"from {s:g}": draws(model, switch=s)(texts, 1.0, range(n)) for s in SWITCHES}
    refine |= {"as img2img": again(model, alone, texts, 1.0, range(n))}
    before, right = flaws(alone), matches(prompts, alone)
    found = {"base alone, right": round(float(right.float().mean()), 4)}
    for name, x in refine.items():
        read = parse(x)
        after, still = flaws(x, read), matches(prompts, read)
        found[f"{name}, right"] = round(float(still.float().mean()), 4)
        found[f"{name}, flaws"] = round(float(after[right & still].mean()), 5)
        found[f"{name}, flaws of the base"] = round(float(before[right & still].mean()), 5)
    for score in (2, 6, 10):
        x = draws(model, score=score)(texts[: n // 3], 1.0, range(n // 3))
        found[f"score {score}, detail"] = round(float(detail(x).mean()), 4)
    return found | redrawn(models, again, autoencoder, n)


def redrawn(
    models: dict[str, Denoiser], again: Callable[..., Tensor], autoencoder: VAE, n: int = 100
) -> dict[str, float]:
    """What the last steps do by themselves: n real pictures, noised to each switch and drawn from there by each model.

    Of each the error of the finest detail, from what the autoencoder makes of the picture, and how many are right.
    """
    prompts, texts = asked(WORLD, n)
    real = render(place(prompts, 3), SIDE)
    kept = _through(autoencoder, real)
    found = {"real, right": float(matches(prompts, kept).float().mean()), "real, flaws": float(flaws(kept).nanmean())}
    for switch in SWITCHES[:3]:
        for name, model in models.items():
            x = again(model, real, texts, 1.0, range(n), t0=switch)
            key = f"real, from {switch:g} by the {name}"
            found[f"{key}, right"] = float(matches(prompts, x).float().mean())
            found[f"{key}, error"] = float(fine(x - kept).square().mean().sqrt())
    return {name: round(value, 5) for name, value in found.items()}
