"""Words and pictures in one sequence and one transformer: each word is asked for the next, each picture for itself
without noise (Transfusion, arXiv 2408.11039).

    text first      START a red star END  BEGIN ▦▦▦…▦ FINISH      a picture of a text
    picture first   BEGIN ▦▦▦…▦ FINISH  START a red star END      a text about a picture

The mask is causal, but the squares of a picture look at one another. Nothing else tells the two directions apart: they
have the same weights.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.encoders.tokenizer import END, PAD
from minidiff.nn import masks
from minidiff.nn.block import Block
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.nn.init import zeroed
from minidiff.schedules import Linear, Schedule
from minidiff.shapes import patch_sides, patchify, unpatchify
from minidiff.validate import describe, require, require_floating, require_like, require_time


class Read(NamedTuple):
    """Logits of what follows each token, (B, L, vocab + 2), and what the picture is without noise, like x_t."""

    words: Tensor
    picture: Tensor


def nats(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of ids wanted (B, …, L) under logits (B, …, L, ids): the mean over what is no padding, (B, …)."""
    each = F.cross_entropy(logits.movedim(-1, 1), wanted, reduction="none", ignore_index=PAD)
    return each.sum(-1) / (wanted != PAD).sum(-1).clamp(min=1)


class Transfusion(nn.Module):
    """`net(x_t, t, tokens=…)` → x̂0 for `Denoiser` with X0, and logits of words, by one stack of blocks.

    tokens (B, L ≤ length) int64: START, words, END, padding. Two more ids stand behind the `vocab` of a tokenizer:
    BEGIN and FINISH of a picture. A square of patch×patch pixels goes in through one linear map, with its place and the
    time's embedding added, and comes out through another (the paper's simpler variant; its U-Net variant has down and
    up blocks there). Text has a place by its index in the text. weight: λ of `loss`, 5 in the paper. weigh: what an
    error of x̂0 counts at each time (`predictions.velocity_weight`); 1 unless given. modulated: the time also
    modulates the norms at the squares, one modulation for all blocks (arXiv 2310.00426), which the paper does not do;
    words have the blocks' own constants there, and every block is the identity at first. whole: the squares of a
    picture look at one another; False, the paper's ablation, leaves them causal like words.
    """

    def __init__(
        self, vocab: int, length: int, channels: int = 3, size: Sequence[int] = (16, 16), patch: int = 4,
        dim: int = 128, depth: int = 6, heads: int = 4, weight: float = 5.0, schedule: Schedule | None = None,
        weigh: Callable[[Schedule, Tensor], Tensor] | None = None, modulated: bool = False, whole: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.schedule, self.weigh, self.whole = schedule or Linear(), weigh, whole
        self.vocab, self.length, self.channels, self.size = vocab, length, channels, tuple(size)
        self.patch, self.weight = patch_sides(patch, len(self.size)), weight
        inside, squares = channels * prod(self.patch), prod(n // p for n, p in zip(self.size, self.patch))
        self.begin, self.finish = vocab, vocab + 1
        self.word = nn.Embedding(vocab + 2, dim)
        place = lambda n: nn.Parameter(0.3 * torch.randn(n, dim))  # found sooner than 0.02, as in `conditioning.Words`
        self.place, self.spot = place(length), place(squares)
        self.stem, self.time = nn.Linear(inside, dim), TimeEmbedding(dim)
        self.modulation = zeroed(nn.Linear(dim, 6 * dim)) if modulated else None
        self.blocks = nn.ModuleList(Block(dim, heads, activation=F.silu, shared=modulated) for _ in range(depth))
        self.norm, self.next_word, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocab + 2), nn.Linear(dim, inside)

    def read(self, tokens: Tensor, x_t: Tensor, t: Tensor, picture_first: bool = False) -> Read:
        """One sequence of a text (B, L) and a picture (B, C, H, W) at the times t (B,), in either order."""
        self._require(tokens, x_t, t)
        text = self.word(tokens) + self.place[: tokens.shape[1]]
        marks = self.word(torch.tensor([self.begin, self.finish], device=text.device)).expand(len(text), -1, -1)
        time = self.time(t)  # (B, dim)
        squares = self.stem(patchify(x_t, self.patch)) + self.spot + time[:, None]
        picture = torch.cat([marks[:, :1], squares, marks[:, 1:]], 1)  # BEGIN, squares, FINISH
        n, long, wide = squares.shape[1], text.shape[1], picture.shape[1]
        x = torch.cat([picture, text] if picture_first else [text, picture], 1)
        first = 1 if picture_first else long + 1
        real = F.pad(tokens != PAD, (wide, 0) if picture_first else (0, wide), value=True)
        mask = masks.both(masks.spans(x.shape[1], [(first, first + n)] * self.whole, x.device), masks.keys(real))
        told = None
        if self.modulation is not None:  # (B, all tokens, 6·dim): the time at the squares, nothing at words and marks
            made = self.modulation(F.silu(time))[:, None].expand(-1, n, -1)
            told = F.pad(made, (0, 0, first, x.shape[1] - first - n))
        for block in self.blocks:
            x = block(x, told, mask=mask)
        x = self.norm(x)
        words = x[:, -long:] if picture_first else x[:, :long]
        return Read(self.next_word(words), unpatchify(self.head(x[:, first : first + n]), self.patch, self.size))

    def forward(self, x_t: Tensor, t: Tensor, *, tokens: Tensor) -> Tensor:
        """The picture after a text, x̂0 like x_t."""
        return self.read(tokens, x_t, t.expand(len(x_t))).picture

    def losses(self, x0: Tensor, t: Tensor, eps: Tensor, tokens: Tensor, picture_first: bool) -> tuple[Tensor, Tensor]:
        """Cross-entropy a word in nats, and the error of x̂0 as `weigh` has it, the mean over numbers: (B,) each.

        After a text END is asked for BEGIN: there a picture is to be drawn. After a picture nothing follows END.
        """
        require_like("eps", eps, x0, "x0")
        read = self.read(tokens, self.schedule.add_noise(x0, eps, t), t, picture_first)
        wanted = F.pad(tokens[:, 1:], (0, 1), value=PAD)
        if not picture_first:
            wanted = torch.where(tokens == END, self.begin, wanted)
        errors = (read.picture - x0).square().flatten(1).mean(1)
        return nats(read.words, wanted), errors if self.weigh is None else errors * self.weigh(self.schedule, t)

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, tokens: Tensor, picture_first: Tensor) -> Tensor:
        """Words + λ·picture (arXiv 2408.11039, eq. 4), (B,); picture_first (B,) bool, each row in its own order."""
        require_like("eps", eps, x0, "x0")
        fits = picture_first.dtype == torch.bool and picture_first.shape == (len(x0),)
        require(fits, "picture_first", describe(picture_first), f"bool, shape ({len(x0)},)")
        total = torch.zeros(len(x0), device=x0.device)
        for order in (True, False):
            rows = (picture_first == order).nonzero()[:, 0]
            if len(rows):
                words, picture = self.losses(x0[rows], t[rows], eps[rows], tokens[rows], order)
                total = total.index_add(0, rows, words + self.weight * picture)
        return total

    @torch.no_grad()
    def describe(self, pictures: Tensor, start: Tensor, noise: float = 0.0) -> Tensor:
        """The most probable words about pictures (B, C, H, W) at level `noise`, (B, length) int64; start: its id."""
        require_floating("pictures", pictures, min_dim=4)
        t = torch.full((len(pictures),), noise, device=pictures.device)
        tokens = torch.full((len(pictures), 1), int(start), device=pictures.device)
        while tokens.shape[1] < self.length and not bool((tokens == END).any(1).all()):
            logits = self.read(tokens, pictures, t, picture_first=True).words[:, -1, : self.vocab]
            ended = (tokens == END).any(1)
            tokens = torch.cat([tokens, torch.where(ended, PAD, logits.argmax(-1))[:, None]], 1)
        return tokens

    def _require(self, tokens: Tensor, x_t: Tensor, t: Tensor) -> None:
        fits = tokens.dtype == torch.int64 and tokens.ndim == 2 and tokens.shape[1] <= self.length
        require(fits, "tokens", describe(tokens), f"int64 (B, L), L ≤ {self.length}")
        shape = (len(tokens), self.channels, *self.size)
        require(tuple(x_t.shape) == shape, "x_t", describe(x_t), f"shape {shape}")
        require_time(t, batch=len(x_t))
