"""Inside the six designs of `ways_in`: what text and picture read of each other, and what becomes of the text (chapter
13). Maps and states come back on the CPU."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff import times
from minidiff.backbones.single_stream import SingleStream
from minidiff.conditioning import Conditioned, Given
from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, place
from minidiff.data.scenes import assemble, empty, render
from minidiff.denoiser import Denoiser
from minidiff.encoders.tokenizer import PAD, split
from minidiff.guidance import bind
from minidiff.nn.block import Attend, attention_maps
from minidiff.randomness import randn, randn_like, seeded
from minidiff.retrieval import auc
from minidiff.samplers import ddpm, sample
from minidiff.schedules import Linear
from minidiff.systems import llm
from minidiff.systems.readers import read_chat
from minidiff.validate import require

SQUARES = 16
"""Tokens of a picture."""


class Reads(NamedTuple):
    """One attention: what the picture's tokens read of the words, and the words of the picture's tokens.

    of_words (B, heads, N, M) and of_picture (B, heads, M, N), or None where words read nothing. Rows of a softmax over
    both: what is missing to 1 they read of their own kind.
    """

    name: str
    of_words: Tensor
    of_picture: Tensor | None


class States(NamedTuple):
    """What enters one block: text (B, M, dim), picture (B, N, dim)."""

    name: str
    text: Tensor
    picture: Tensor


def told(model: Denoiser, texts: Sequence[str]) -> Given:
    """What the backbone is given for these texts."""
    network = model.net
    assert isinstance(network, Conditioned)
    return network.conditioning(len(texts), **read_chat(texts))


def words(text: str) -> list[str]:
    """The tokens that the backbone sees of one text: its words, then what the chat's template puts behind them."""
    return [*split(f"{text} {llm.AFTER}"), "END"]


def device_of(model: Denoiser) -> torch.device:
    return next(model.parameters()).device


def backbone_of(model: Denoiser) -> nn.Module:
    assert isinstance(model.net, Conditioned)
    return model.net.backbone


def shared_rows(backbone: nn.Module) -> dict[str, Attend]:
    """The attentions in which text and picture stand in one sequence, by name."""
    kinds = ("double_blocks", "single_blocks", "joint_blocks")
    named = ((name.removesuffix(".attend"), m) for name, m in backbone.named_modules() if isinstance(m, Attend))
    return {name: module for name, module in named if name.startswith(kinds)}


def apart(picture_first: bool, length: int) -> tuple[slice, slice]:
    """Where text and picture stand in a sequence of both."""
    if picture_first:
        return slice(SQUARES, length), slice(0, SQUARES)
    return slice(0, length - SQUARES), slice(length - SQUARES, length)


# ---------------------------------------------------------------- looking


@torch.no_grad()
def reads(model: Denoiser, x_t: Tensor, t: float, texts: Sequence[str]) -> list[Reads]:
    """Of every block in turn, its attention between words and picture, at x_t (B, 3, 16, 16) told B texts."""
    backbone, found = backbone_of(model), []
    with attention_maps(backbone) as maps:
        device = device_of(model)
        backbone(x_t.to(device), torch.full((len(x_t),), t, device=device), **told(model, texts))
    both = shared_rows(backbone)
    for name, table in ((name, found.cpu()) for name, (found,) in maps.items()):
        if name in both:
            text, picture = apart(isinstance(backbone, SingleStream), table.shape[-1])
            found.append(Reads(name, table[..., picture, text], table[..., text, picture]))
        elif name.endswith(".cross"):
            found.append(Reads(name, table, None))
    return found


@torch.no_grad()
def states(model: Denoiser, x_t: Tensor, t: float, texts: Sequence[str]) -> list[States]:
    """What enters each block. With cross-attention the text is the same before every one."""
    backbone, given, device = backbone_of(model), told(model, texts), device_of(model)
    entered: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs: entered.update({name: inputs[0].cpu()})

    norms = [(name, m) for name, m in backbone.named_modules() if name.split(".")[-1] in ("norm", "norm1", "before1")]
    handles = [m.register_forward_pre_hook(keep(name)) for name, m in norms]
    try:
        backbone(x_t.to(device), torch.full((len(x_t),), t, device=device), **given)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for name, x in entered.items():
        kind, block = name.split(".")[0], name.rsplit(".", 1)[0]
        if kind == "blocks":
            found.append(States(block, given["context"].cpu(), x))
        elif kind in ("single_blocks", "joint_blocks"):
            text, picture = apart(isinstance(backbone, SingleStream), x.shape[1])
            found.append(States(block, x[:, text], x[:, picture]))
        elif block.endswith(".text"):
            picture = block.removesuffix("text") + "picture"
            found.append(States(block.removesuffix(".text"), x, entered[f"{picture}.norm1"]))
    return found


def noised(prompts: Sequence[Prompt], t: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scenes of prompts, clean and at time t of the designs' schedule: (B, 3, 16, 16) each."""
    x0 = render(place(list(prompts), seed))
    return x0, Linear().add_noise(x0, randn_like(x0, seeded(seed)), torch.tensor(t))


def moved(model: Denoiser, x_t: Tensor, t: float, texts: Sequence[str]) -> dict[str, float]:
    """By block: how far words have come from what entered the first, ‖u − u₀‖/‖u₀‖, the mean over words and texts."""
    found = states(model, x_t, t, texts)
    said = spoken(texts, found[0].text.shape[1])
    far = lambda text: (text - found[0].text).norm(dim=-1) / found[0].text.norm(dim=-1)
    return {name: float(far(text)[said].mean()) for name, text, _ in found}


def of_the_picture(model: Denoiser, prompt: Prompt, t: float, n: int = 64) -> dict[str, float]:
    """Of the variance of each block's text states, the share that comes from the picture: n pictures, one text.

    Total variance over pictures, words and channels; within: over pictures alone, at the same word and channel. Where
    the text never sees the picture the share is 0, up to rounding.
    """
    x_t = noised([prompt] * n, t)[1]
    shares = {}
    for name, text, _ in states(model, x_t, t, captions([prompt] * n)):
        within = text.var(0, correction=0).mean()
        mean = text.mean(0)
        between = (mean - mean.mean(0)).square().mean()
        shares[name] = float(within / (within + between))
    return shares


def masses(model: Denoiser, x_t: Tensor, t: float, texts: Sequence[str]) -> dict[str, tuple[float, float | None]]:
    """By block: of what a picture's token reads, the share that is words; of what a word reads, the share of picture.

    Means over heads, tokens and rows; None where words read nothing. Padding is no word, and reads nothing that counts.
    """
    found = {}
    for name, of_words, of_picture in reads(model, x_t, t, texts):
        said = spoken(texts, of_words.shape[-1])
        share = float((of_words * said[:, None, None]).sum(-1).mean())
        each = None if of_picture is None else of_picture.sum(-1).mean(1)[said]  # of every word that is spoken
        found[name] = share, None if each is None else float(each.mean())
    return found


def spoken(texts: Sequence[str], length: int | None = None) -> Tensor:
    """(B, M) bool: which tokens of the context are no padding; M = length where the backbone fills them up."""
    said = read_chat(texts)["tokens"][:, llm.CUT :] != PAD
    return said if length is None else F.pad(said, (0, length - said.shape[1]))


def squares_of(prompts: Sequence[Prompt], which: int, seed: int = 0) -> Tensor:
    """(B, 16) bool: the squares of 4×4 pixels that the first (0) or second (1) object covers by three tenths."""
    scenes = place(list(prompts), seed)
    looks = [prompt.groups[which].look for prompt in prompts]
    alone = assemble([[o for o in scenes.objects(i) if o[:2] == look][:1] for i, look in enumerate(looks)])
    painted = (render(alone) - render(empty(len(prompts)))).abs().amax(1, keepdim=True) > 0.2
    return F.avg_pool2d(painted.double(), 4).flatten(1) > 0.3


def pointing(model: Denoiser, prompts: Sequence[Prompt], t: float) -> dict[str, dict[str, float]]:
    """By block, how well a word points to its object in scenes of two objects at time t: AUC over the 16 squares.

    "of words": the column of the colour's or kind's word in the picture's rows, for "colour" and "kind"; "of picture":
    the word's own row over the picture. ", other": the same map against the *other* object's squares, the control. The
    best head of each block, chosen on the first half of the prompts and measured on the second.
    """
    texts = captions(prompts)
    require(all(len(p.groups) == 2 for p in prompts), "prompts", "other numbers of objects", "two objects each")
    at = {"colour": [text.split().index(p.groups[0].colour) for p, text in zip(prompts, texts)]}  # type: ignore
    at["kind"] = [text.split().index(p.groups[0].kind) for p, text in zip(prompts, texts)]
    own, other, half = squares_of(prompts, 0), squares_of(prompts, 1), len(prompts) // 2
    found: dict[str, dict[str, float]] = {}
    for name, of_words, of_picture in reads(model, noised(prompts, t)[1], t, texts):
        found[name] = {}
        for word, places in at.items():
            ways = {"of words": of_words.transpose(2, 3)} | ({} if of_picture is None else {"of picture": of_picture})
            for way, table in ways.items():
                its = table[torch.arange(len(places)), :, torch.tensor(places)]  # (B, heads, N)
                head = max(range(its.shape[1]), key=lambda h, its=its: _auc(its[:half, h], own[:half]))
                found[name][f"{word}, {way}"] = _auc(its[half:, head], own[half:])
                found[name][f"{word}, {way}, other"] = _auc(its[half:, head], other[half:])
    return found


def _auc(maps: Tensor, where: Tensor) -> float:
    """The mean over rows of the AUC of maps (B, N) as detectors of where (B, N) bool."""
    rows = [auc(m.double(), w) for m, w in zip(maps, where) if w.any() and not w.all()]
    return sum(rows) / len(rows)


# ---------------------------------------------------------------- on the way


@torch.no_grad()
def on_the_way(model: Denoiser, text: str, t: float, seed: int, steps: int = 20) -> tuple[Tensor, Tensor]:
    """Where a walk from noise to a picture of the text is at time t, and what the model guesses there: (1, 3, 16, 16).

    Without guidance, in ancestral steps; at the grid's last time that is not below t.
    """
    denoise, generators = bind(model, **read_chat([text])), seeded([seed])
    grid = times.linear(steps)
    walk, x_t = grid[grid >= t], randn((1, 3, 16, 16), generators, device=device_of(model))
    if len(walk) > 1:
        *_, x_t = sample(denoise, x_t, walk, ddpm(model.schedule), generators)
    return x_t, denoise(x_t, walk[-1].float())
