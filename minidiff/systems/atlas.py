"""Where real models sit in the design space (`design`), and what their cell does not tell (chapter 15).

A cell holds five choices. Models that share all five can still differ in much: Flux 2, Z-Image and Qwen-Image share a
cell and have three architectures (chapter 13). So each model says here what sets it apart. What the axes leave out:
how an autoencoder was trained and how many channels it has (chapter 09), cascades and refiners, sizes, data, and
whatever comes after training. Models whose makers disclose nothing are marked as a guess.

`nearest` answers what a reader asks of five choices: which real model is that, or what would it have to change?
"""

from collections.abc import Sequence
from dataclasses import dataclass

from minidiff.systems.design import Design, differing
from minidiff.validate import require


@dataclass(frozen=True)
class Real:
    """A model that exists. source: an arXiv id, or the public code that was read. apart: what its cell does not tell.

    guess: True where nothing is disclosed, and all five choices are someone's reading of hints.
    """

    name: str
    design: Design
    source: str
    apart: str
    guess: bool = False

    def __str__(self) -> str:
        return f"{self.name} (guess)" if self.guess else self.name


_PIXELS = Design("DDPM", "pixels", "U-Net", "language model", "cross-attention")
_FIRST = Design("DDPM", "latents", "U-Net", "CLIP", "cross-attention")
_LOOKING = Design("DDPM", "latents", "transformer", "language model", "cross-attention")
_JOINED = Design("flow matching", "latents", "transformer", "CLIP + language model", "joint attention")
_CHAT = Design("flow matching", "latents", "transformer", "language model", "joint attention")
_ONE = Design("flow matching", "latents", "transformer", "language model", "one sequence")
_NOISED = Design("DDPM", "latents", "transformer", "language model", "one sequence")

MODELS: tuple[Real, ...] = (
    Real(
        "DALL-E 2", Design("DDPM", "pixels", "U-Net", "CLIP", "cross-attention"), "2204.06125",
        "the sentence becomes a CLIP embedding of a picture first (the prior); the decoder looks at four tokens made "
        "of it; two more networks enlarge (chapter 08)",
    ),
    Real(
        "Imagen", _PIXELS, "2205.11487",
        "a cascade from 64 to 256 to 1024 pixels; T5-XXL, an encoder that has read texts only (chapter 07)",
    ),
    Real(
        "eDiff-I", Design("DDPM", "pixels", "U-Net", "CLIP + language model", "cross-attention"), "2211.01324",
        "several networks, each an expert for some noise levels; EDM's preconditioning in place of ε",
    ),
    Real("Stable Diffusion 1", _FIRST, "2112.10752", "CLIP's last layer; ε (chapter 09)"),
    Real("Stable Diffusion 2", _FIRST, "2112.10752", "OpenCLIP's layer before the last; v in place of ε (chapter 09)"),
    Real(
        "SDXL", _FIRST, "2307.01952",
        "two CLIPs side by side in channels; sizes and crops are told; a refiner for the last steps (chapter 10)",
    ),
    Real("PixArt-α", _LOOKING, "2310.00426", "one modulation for all blocks; begun from a DiT of ImageNet's classes"),
    Real(
        "Hunyuan-DiT", Design("DDPM", "latents", "transformer", "CLIP + language model", "cross-attention"),
        "2405.08748", "v in place of ε; a CLIP and an mT5 of two languages; skips from early to late blocks",
    ),
    Real(
        "SANA", Design("flow matching", "latents", "transformer", "language model", "cross-attention"), "2410.10629",
        "linear attention; latents 32 times smaller a side; Gemma 2 reads",
    ),
    Real(
        "Stable Diffusion 3", _JOINED, "2403.03206",
        "double blocks alone: text and picture never share weights; two CLIPs and T5 (chapters 12, 13)",
    ),
    Real(
        "Flux 1", _JOINED, "diffusers FluxTransformer2DModel",
        "19 double, then 38 blocks for both; CLIP says one vector only, T5 the tokens (chapter 13)",
    ),
    Real(
        "Flux 2", _CHAT, "diffusers Flux2Transformer2DModel",
        "8 double, then 48 blocks for both, attention beside the MLP, one modulation for all; three layers of Mistral "
        "3 (chapter 13)",
    ),
    Real(
        "Z-Image", _CHAT, "2511.22699",
        "blocks for both from the start, each side refined alone before; Qwen3's layer before the last (chapter 13)",
    ),
    Real(
        "Qwen-Image", _CHAT, "2508.02324",
        "60 double blocks; Qwen2.5-VL reads, and sees pictures that are to be changed (chapters 12, 13)",
    ),
    Real(
        "Qwen-Image 2.1", _CHAT, "diffusers QwenImage21Transformer2DModel",
        "32 blocks for both with one modulation and a block-causal mask: a picture looks at what came before and at "
        "itself, and what is given has time 0; Qwen3-VL reads",
    ),
    Real(
        "FLUX.3", _CHAT, "diffusers Flux3Transformer2DModel",
        "merges late: five blocks for each mode by itself, then 28 for all; what is given has time 0; layers of "
        "Qwen3-VL side by side",
    ),
    Real(
        "GLM-Image", _CHAT, "diffusers GlmImageTransformer2DModel",
        "two models in a row: a vision-language model writes codes of the picture, one after another, which are added "
        "to the noisy tokens of a diffusion transformer; what it looks at besides are letters that are to be drawn",
    ),
    Real(
        "Transfusion", _NOISED, "2408.11039",
        "no encoder: the words' vectors are learned; it also says what a picture shows (chapter 14)",
    ),
    Real(
        "HunyuanImage 3.0", _ONE, "2509.23951",
        "the transformer was a chat model before; a mixture of experts; the picture's shape is a token (chapter 14)",
    ),
    Real(
        "GPT-4o's pictures", _ONE, "a photographed whiteboard: tokens → transformer → diffusion → pixels",
        "nothing else is disclosed. Read literally the whiteboard has two models in a row, as GLM-Image (chapter 14)",
        guess=True,
    ),
)  # fmt: skip

CORNERS: dict[str, Design] = {
    "Stable Diffusion 1 and 2": _FIRST,
    "Stable Diffusion 3, Flux 1": _JOINED,
    "Flux 2, Z-Image, Qwen-Image": _CHAT,
    "Transfusion": _NOISED,
    "HunyuanImage 3.0, and the guess": _ONE,
}
"""The lecture's corners. Its fourth is two cells: Transfusion is trained as DDPM, HunyuanImage 3.0 by flow matching."""


def model(name: str) -> Real:
    """By name. `ValueError` if it is none of `MODELS`."""
    known = {real.name: real for real in MODELS}
    require(name in known, "name", repr(name), f"one of {list(known)}")
    return known[name]


def models_of(design: Design) -> list[Real]:
    """The real models in a cell."""
    return [real for real in MODELS if real.design == design]


def nearest(design: Design) -> list[tuple[Real, list[str]]]:
    """The real models that differ from `design` on the fewest axes, each with these axes; with none if they are it."""
    apart = [(real, differing(design, real.design)) for real in MODELS]
    least = min(len(axes) for _, axes in apart)
    return [(real, axes) for real, axes in apart if len(axes) == least]


def told(design: Design) -> str:
    """What there is to say of five choices: why they cannot be, which real models they are, or which are near."""
    lines = [] if design.reason is None else [f"Cannot be built: {design.reason}"]
    here = models_of(design)
    if here:
        lines += [f"{real}: {real.apart}." for real in here]
    else:
        lines += [f"{real} differs in {_changes(real, axes)}." for real, axes in nearest(design)]
        if design.reason is None:
            lines.insert(0, "No model here is known to sit in this cell.")
    return "\n".join(lines)


def _changes(real: Real, axes: Sequence[str]) -> str:
    return " and ".join(f"{axis} ({getattr(real.design, axis)})" for axis in axes)
