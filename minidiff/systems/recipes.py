"""How every shipped file of weights is made: `minidiff train NAME` runs the recipe of that name."""

from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor, nn

from minidiff import times
from minidiff.data.captions import captions
from minidiff.data.prompts import place
from minidiff.data.real import fashion_mnist
from minidiff.data.scenes import render
from minidiff.denoiser import Denoiser
from minidiff.encoders.captioner import Captioner
from minidiff.encoders.classifier import NoisyClassifier
from minidiff.guidance import bind, cfg
from minidiff.judges.cnn import JudgeCNN
from minidiff.judges.scenes import parse
from minidiff.judges.scorecard import matches
from minidiff.randomness import randn, seeded
from minidiff.samplers import ddpm, dpmpp_2m, sample
from minidiff.systems import clip_recipes, scenes
from minidiff.systems.fashion import N_CLASSES, NULL, build_classifier, build_denoiser, build_judge, judge, pictures
from minidiff.systems.train import Recipe
from minidiff.training import Batch, Draw, diffuse, draw_rows


def _clean_clock(batch: int, generator: Generator | None = None) -> Tensor:
    return torch.zeros(batch)


def _augmented(draw: Draw) -> Draw:
    """Shift the batch by up to 1 pixel and grey out one 6×6 square in a quarter of it, for the judge."""

    def changed(generator: Generator) -> Batch:
        batch = draw(generator)
        dx, dy = torch.randint(-1, 2, (2,), generator=generator).tolist()
        x0 = torch.roll(batch["x0"], (dy, dx), dims=(2, 3))
        row, column = torch.randint(0, 22, (2,), generator=generator).tolist()
        x0[: len(x0) // 4, :, row : row + 6, column : column + 6] = 0.0
        return {"x0": x0, "y": batch["y"]}

    return changed


@torch.no_grad()
def judge_accuracy(model: JudgeCNN) -> float:
    """Share of the real 10,000 test pictures that the judge names right."""
    test = fashion_mnist(train=False)
    return float((model.predict(test["x0"]) == test["y"]).float().mean())


@torch.no_grad()
def classifier_accuracy(model: NoisyClassifier, t: float) -> float:
    """Share of the first 2,000 test pictures that a classifier names right at noise level t."""
    test = {k: v[:2000] for k, v in fashion_mnist(train=False).items()}
    at = torch.tensor(t)
    noisy = model.schedule.add_noise(test["x0"], randn(test["x0"].shape, seeded(0)), at)
    return float((model(noisy, at).argmax(1) == test["y"]).float().mean())


def _denoiser_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, Denoiser)
    labels = torch.arange(N_CLASSES).repeat_interleave(20)
    samples = {w: pictures(range(N_CLASSES), w, per_class=20, model=model) for w in (0.0, 1.0, 3.0)}
    agree = {w: (judge().predict(x) == labels).float().mean() for w, x in samples.items()}
    return {f"judge accuracy at w={w}": round(float(share), 4) for w, share in agree.items()}


def _classifier_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, NoisyClassifier)
    return {f"test accuracy at t={t}": round(classifier_accuracy(model, t), 4) for t in (0.0, 0.3, 0.5, 0.7, 0.9)}


def _judge_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, JudgeCNN)
    return {"test accuracy": round(judge_accuracy(model), 4)}


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def scene_samples(
    model: Denoiser, n: int, cond: dict[str, Tensor] | None = None, w: float = 0.0, ancestral: bool = False
) -> Tensor:
    """(n, 3, 16, 16): picture i from the noise of seed i; 25 steps of DPM-Solver++ (2M), or 50 ancestral ones."""
    generators = seeded(range(n))
    noise = randn((n, 3, 16, 16), generators, device=_device(model))
    denoise = cfg(model, cond, scenes.null_tokens(), w) if cond else bind(model)
    step, steps = (ddpm(model.schedule), 50) if ancestral else (dpmpp_2m(model.schedule), 25)
    *_, x = sample(denoise, noise, times.linear(steps), step, generators)
    return x


@torch.no_grad()
def _unconditional_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, Denoiser)
    read = parse(scene_samples(model, 1000))
    objects = (read.scenes.kind >= 0).sum(1)
    allowed = read.readable & (objects >= 1) & (objects <= 2)
    return {
        "readable": round(float(read.readable.float().mean()), 4),
        "a scene of the world": round(float(allowed.float().mean()), 4),
    }


def text_scores(model: nn.Module, n: int = 300, split: str = "test") -> dict[str, float]:
    """Share of pictures that show their caption, by family and w; "shuffled" asks for the caption of another.

    Ancestral steps: the fresh noise of each lets the network repair what it drew wrongly before.
    """
    assert isinstance(model, Denoiser)
    scores = {}
    for family in scenes.SMALL.families:
        prompts = replace(scenes.SMALL, families=(family,)).prompts(n, 0, split)
        cond = {"tokens": scenes.tokens(captions(prompts)).to(_device(model))}
        for w in (0.0, 1.0):
            read = parse(scene_samples(model, n, cond, w, ancestral=True))
            scores[f"{family}, w={w:g}"] = round(float(matches(prompts, read).float().mean()), 4)
        scores[f"{family}, w=1, shuffled"] = round(float(matches(prompts[1:] + prompts[:1], read).float().mean()), 4)
    return scores


@torch.no_grad()
def _captioner_scores(model: nn.Module) -> dict[str, float]:
    assert isinstance(model, Captioner)
    prompts = scenes.WORLD.prompts(1000, 0, "test")
    x0, wanted = render(place(prompts, 1)).to(_device(model)), captions(prompts)
    turned = captions([p if p.relation is None else p.turned() for p in prompts])  # the same, said the other way round
    scores = {}
    for t in (0.05, 0.3, 0.5, 0.7):
        at = torch.tensor(t, device=x0.device)
        x_t = model.schedule.add_noise(x0, randn(x0.shape, seeded(0), device=x0.device), at)
        written = scenes.tokenizer().decode(model.write(x_t, at).cpu())
        scores[f"caption right at t={t}"] = round(
            sum(a in b for a, b in zip(written, zip(wanted, turned))) / len(wanted), 4
        )
    return scores


RECIPES = (
    Recipe(
        "fashion-judge", build_judge, lambda: _augmented(draw_rows(fashion_mnist(), 64)), 6000, _judge_scores,
        seed=2024,
    ),
    Recipe(
        "fashion-noisy-classifier", build_classifier, lambda: diffuse(draw_rows(fashion_mnist(), 64)), 6000,
        _classifier_scores, seed=1,
    ),
    Recipe(
        "fashion-clean-classifier", build_classifier, lambda: diffuse(draw_rows(fashion_mnist(), 64), _clean_clock),
        2000, _classifier_scores, seed=1,
    ),
    Recipe(
        "fashion-denoiser", build_denoiser,
        lambda: diffuse(draw_rows(fashion_mnist(), 32), times.logit_normal(0.0, 1.0), drop=0.15, null=NULL),
        12000, _denoiser_scores, {"lr": 1e-3, "ema_decay": 0.9985},
    ),
    Recipe(
        "scenes-unconditional", scenes.build_unconditional,
        lambda: diffuse(scenes.draw_scenes(32, text=False), times.logit_normal(0.3, 1.0)),
        16000, _unconditional_scores, {"lr": 1.5e-3, "ema_decay": 0.9995},
    ),
    Recipe(
        "scenes-text", scenes.build_text,
        lambda: diffuse(
            scenes.draw_scenes(16, scenes.SMALL), times.logit_normal(0.3, 1.0), drop=0.1, null=scenes.null_tokens()
        ),
        8400, text_scores,
        {"lr": 1.2e-3, "ema_decay": 0.999, "optimizer": partial(torch.optim.AdamW, betas=(0.9, 0.98))},
    ),
    Recipe(
        "scenes-captioner", scenes.build_captioner, lambda: diffuse(scenes.draw_scenes(32)), 12000, _captioner_scores,
        {"lr": 1e-3, "ema_decay": 0.999},
    ),
    *clip_recipes.RECIPES,
)  # fmt: skip
