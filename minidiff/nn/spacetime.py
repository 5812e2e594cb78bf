"""What makes a network of pictures one of clips: layers that mix along time, put between layers that do not.

Pictures' layers, θ, see every frame by itself. Between them stand temporal layers, φ, that begin as the identity, so
that a clip is at first what the pictures' network makes of its frames. Clips are (B, C, T, H, W); as tokens
(B, T, N, dim), N to a frame. Nothing here is a new attention: "along time" is `Block` on another axis, and frames that
look at other frames (arXiv 2212.11565) are a mask, `masks.sparse_causal`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import masks, rope
from minidiff.nn.block import Block, Rotate, unturned
from minidiff.nn.init import groups, zeroed
from minidiff.validate import describe, integer, number, positive, require


def frames_of(clips: Tensor) -> Tensor:
    """(B, C, T, H, W) → (B·T, C, H, W): the frames of the first clip, then those of the second, …"""
    require(clips.ndim == 5, "clips", describe(clips), "shape (B, C, T, H, W)")
    return clips.transpose(1, 2).flatten(0, 1)


def clips_of(frames: Tensor, batch: int) -> Tensor:
    """The inverse of `frames_of`: (B·T, C, H, W) → (B, C, T, H, W)."""
    fits = frames.ndim == 4 and len(frames) % integer("batch", batch) == 0
    require(fits, "frames", describe(frames), f"shape ({batch}·T, C, H, W)")
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def resting(block: Block) -> Block:
    """The block with what it adds set to 0: the maps back of its attention and of its MLP, weights and biases.

    An identity that learns, for blocks with learned norms. One that is modulated by adaLN-Zero is an identity already,
    by its gates, and with both at zero no gradient would reach either: `ValueError`.
    """
    require(block.norm1.modulation is None and not block.shared, "block", "a modulated block", "one with learned norms")
    zeroed(block.attention.out)
    zeroed(block.down)
    return block


class Blend(nn.Module):
    """α·z + (1 − α)·z′: what the pictures' layer gave, z, and what the temporal layer made of it, z′.

    α in [0, 1] is learned, one number per layer (Align your Latents, arXiv 2304.08818, section 3.1), as the sigmoid of
    a logit (so does the code of Stable Video Diffusion). Written as z + (1 − α)·(z′ − z), which is z to the bit where
    α = 1, and where the temporal layer is still the identity.

    pictures: (B,) bool, True for rows that are no clips: their α is 1.
    """

    def __init__(self, alpha: float = 0.5):
        super().__init__()
        alpha = number("alpha", alpha, "a number in (0, 1), or 1 for pictures alone", lambda v: 0 < v <= 1)
        self.logit = nn.Parameter(torch.tensor(math.inf if alpha == 1 else math.log(alpha / (1 - alpha))))

    @property
    def alpha(self) -> Tensor:
        return self.logit.sigmoid()

    def forward(self, z: Tensor, mixed: Tensor, pictures: Tensor | None = None) -> Tensor:
        share = 1 - self.alpha
        if pictures is not None:
            fits = pictures.dtype == torch.bool and pictures.shape == z.shape[:1]
            require(fits, "pictures", describe(pictures), f"bool, shape ({len(z)},)")
            share = torch.where(pictures, 0.0, share).reshape(-1, *[1] * (z.ndim - 1))
        return z + share.to(z) * (mixed - z)


class AlongTime(nn.Module):
    """(B, T, N, dim) → the same: `block` on the tokens at one place in all frames, each place by itself.

    cond: what modulates the block's norms, (B, d), or (B, T, 1 or N, d) where frames have their own. alpha: of a
    `Blend` of what came and what the block makes of it, None for none. rotary: frames are told apart by RoPE, any
    number of them; without it, the order of the frames is not seen. theta: of RoPE (`rope.Rotary`), less than a text's
    10,000, as clips are short. mask: (T, T), `masks.causal` for instance.
    """

    def __init__(self, block: Block, alpha: float | None = None, rotary: bool = True, theta: float = 100.0):
        super().__init__()
        self.theta = positive("theta", theta)
        self.block, self.blend, self.rotary = block, None if alpha is None else Blend(alpha), rotary
        self.width = block.norm1.normalized_shape[0] // block.attention.count
        require(not rotary or self.width % 2 == 0, "block", f"heads of width {self.width}", "an even width for RoPE")

    def forward(
        self, x: Tensor, cond: Tensor | None = None, pictures: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        require(x.ndim == 4, "x", describe(x), "tokens (B, T, N, dim)")
        n = x.shape[2]
        if cond is not None and cond.ndim == 2:
            cond = cond.repeat_interleave(n, 0)  # (B·N, d)
        elif cond is not None:
            cond = cond.expand(-1, -1, n, -1).transpose(1, 2).flatten(0, 1)  # (B·N, T, d)
        tracks = x.transpose(1, 2).flatten(0, 1)  # (B·N, T, dim)
        mixed = self.block(tracks, cond, mask=mask, rotate=self._rotation(x.shape[1], x.device))
        mixed = mixed.unflatten(0, (len(x), n)).transpose(1, 2)
        require(self.blend is not None or pictures is None, "pictures", describe(pictures), "nothing without a blend")
        return mixed if self.blend is None else self.blend(x, mixed, pictures)

    def _rotation(self, frames: int, device: torch.device) -> Rotate:
        return rope.Rotary(rope.grid(frames).to(device), (self.width,), self.theta) if self.rotary else unturned


def separable(
    space: Block, time: AlongTime, x: Tensor, cond: Tensor | None = None, context: Tensor | None = None,
    context_mask: Tensor | None = None, rotate: Rotate = unturned, *, time_cond: Tensor | None = None,
    temporal: bool = True, sparse: bool = False, pictures: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Attention in space, frame by frame, then in time, place by place: x (B, T, N, dim) → the same.

    In place of one softmax over T·N tokens: T·N·(N + T) products in place of (T·N)² (Imagen Video, arXiv 2210.02303;
    Latte, 2401.03048, variant 1). cond: (B, d), or (B, T, 1 or N, d) where frames have their own; time_cond: another
    one for the time half. context (B, M, context_dim), the clip's text, is what every frame looks at, without what
    context_mask (B, M) leaves out. rotate: turns the N tokens of a frame. pictures: as in `Blend`.

    temporal: False leaves the time half out, and no frame depends on another one.
    sparse: tokens of frame i look at those of frames 1 and i − 1, and no longer at their own (Tune-A-Video, arXiv
    2212.11565; frame 1 looks at itself); this, too, only where temporal.
    """
    require(x.ndim == 4, "x", describe(x), "tokens (B, T, N, dim)")
    b, t, n, _ = x.shape
    seen = None if context_mask is None else masks.keys(context_mask)
    if sparse and temporal:
        each = cond if cond is None or cond.ndim == 2 else cond.expand(-1, -1, n, -1).flatten(1, 2)  # (B, T·N, d)
        looks = masks.sparse_causal(t, n, x.device)
        x = space(x.flatten(1, 2), each, context, looks, seen, _in_a_row(rotate, t)).unflatten(1, (t, n))
    else:
        every = lambda v: None if v is None else v.repeat_interleave(t, 0)
        each = every(cond) if cond is None or cond.ndim == 2 else cond.flatten(0, 1)  # (B·T, d) or (B·T, 1 or N, d)
        x = space(x.flatten(0, 1), each, every(context), None, every(seen), rotate).unflatten(0, (b, t))
    return time(x, cond if time_cond is None else time_cond, pictures) if temporal else x


def _in_a_row(rotate: Rotate, frames: int) -> Rotate:
    """The rotation of one frame's N tokens, for those of all frames in a row: (B, heads, T·N, d) → the same."""

    def turn(heads: Tensor) -> Tensor:
        each = heads.unflatten(2, (frames, -1)).transpose(1, 2).flatten(0, 1)  # (B·T, heads, N, d)
        return rotate(each).unflatten(0, (-1, frames)).transpose(1, 2).flatten(2, 3)

    return turn


def first_and_former(x: Tensor) -> Tensor:
    """What the frames of x (B, T, N, dim) look at in Tune-A-Video, as (B·T, 2·N, dim): tokens of frames 1 and i − 1.

    For `Attention(x.flatten(0, 1), seen)`: 2·N keys a frame where the mask has T·N. Frame 1 has itself twice, frame 2
    frame 1 twice, as in the official code; a key that is there twice changes no softmax-weighted mean.
    """
    require(x.ndim == 4, "x", describe(x), "tokens (B, T, N, dim)")
    former = (torch.arange(x.shape[1], device=x.device) - 1).clamp(min=0)
    return torch.cat([x[:, :1].expand_as(x), x[:, former]], 2).flatten(0, 1)


class FrameTransformer(nn.Module):
    """(B, C, T, H, W) → the same: a `Block` along time at every pixel, plus a skip. The map back starts at zero.

    What `PixelTransformer` is in space: a temporal layer for U-Nets (diffusers' TransformerTemporalModel, ModelScope,
    AnimateDiff). The norm goes over a clip's frames together. rotary: as in `AlongTime`.
    """

    def __init__(self, channels: int, heads: int = 4, rotary: bool = True):
        super().__init__()
        self.norm = nn.GroupNorm(groups(channels), channels, eps=1e-6)
        self.into, self.back = nn.Linear(channels, channels), zeroed(nn.Linear(channels, channels))
        self.along = AlongTime(Block(channels, heads, gated=True), rotary=rotary)

    def forward(self, x: Tensor) -> Tensor:
        require(x.ndim == 5, "x", describe(x), "clips (B, C, T, H, W)")
        tokens = self.into(self.norm(x).permute(0, 2, 3, 4, 1).flatten(2, 3))  # (B, T, H·W, C)
        return x + self.back(self.along(tokens)).unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)


class AcrossFrames(nn.Module):
    """A convolution along time at every pixel: (B, C, T, …) → (B, C, T, …), an odd `kernel`, zeros beyond the ends.

    identity: it starts as Dirac's kernel and no bias, so that a new one changes nothing, exactly.
    """

    def __init__(self, channels: int, kernel: int = 3, identity: bool = True):
        super().__init__()
        require(integer("kernel", kernel) % 2 == 1, "kernel", kernel, "an odd number of frames")
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        if identity:
            nn.init.dirac_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        tracks = x.flatten(3).permute(0, 3, 1, 2)  # (B, pixels, C, T)
        mixed = self.conv(tracks.flatten(0, 1)).unflatten(0, tracks.shape[:2])
        return mixed.permute(0, 2, 3, 1).reshape(len(x), -1, *x.shape[2:])


class Pseudo3D(nn.Module):
    """A convolution in space, then one along time that begins as the identity (Make-A-Video, arXiv 2209.14792).

    conv: a layer of a network of pictures, (B, C, H, W) → (B, C', H', W'), taken as it is; clips are (B, C, T, H, W).
    """

    def __init__(self, conv: nn.Conv2d, kernel: int = 3):
        super().__init__()
        self.space, self.time = conv, AcrossFrames(conv.out_channels, kernel)

    def forward(self, x: Tensor, temporal: bool = True) -> Tensor:
        z = clips_of(self.space(frames_of(x)), len(x))
        return self.time(z) if temporal else z


class TemporalConv(nn.Module):
    """(B, C, T, H, W) → the same: four normed convolutions along time, plus a skip; the last one starts at zero.

    Imagen Video's temporal layer of high resolutions (arXiv 2210.02303), in ModelScope's form (2308.06571; diffusers'
    TemporalConvLayer). The norms go over a clip's frames together.
    """

    def __init__(self, channels: int, depth: int = 4):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(groups(channels), channels) for _ in range(integer("depth", depth)))
        self.convs = nn.ModuleList(AcrossFrames(channels, identity=False) for _ in range(depth))
        zeroed(self.convs[-1])

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs):
            h = conv(F.silu(norm(h)))
        return x + h
