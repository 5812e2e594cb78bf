"""Any number of texts and pictures of any shapes in one sequence and one transformer (HunyuanImage 3.0, arXiv
2509.23951).

    START a wide picture of a red star END  BEGIN WIDE TIME ▦▦▦…▦ FINISH  START make the red star blue END  BEGIN …

Which shape a picture has is a token of the vocabulary, its *ratio*: the language model is asked for it after BEGIN, and
then as many squares follow as it says. So tokens alone tell the layout: what is a picture, where it begins, its rows
and columns. From that come the mask (`masks.blocks`) and the positions (`rope.interleaved`).

The last picture is the one that is drawn, at the time t; earlier ones are seen as they are, at t = 0. A time stands in
a token of its own before each picture, and in the convolutions through which squares go in and out. Nothing in the
sequence before it changes with t, or with what is drawn.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.backbones.transfusion import Read, nats
from minidiff.encoders.tokenizer import PAD, START, UNKNOWN
from minidiff.nn import masks, rope
from minidiff.nn.block import Block
from minidiff.nn.conv import ResBlock
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.nn.init import groups
from minidiff.schedules import Linear, Schedule
from minidiff.shapes import patchify, unpatchify
from minidiff.validate import describe, require, require_like, require_time


class Signs:
    """The ids behind a tokenizer's `vocab`: BEGIN, FINISH, TIME, SQUARE, then one for each shape (rows, columns).

    shapes: of pictures, in squares.
    """

    def __init__(self, vocab: int, shapes: Sequence[tuple[int, int]]):
        self.begin, self.finish, self.time, self.square, self.ratio = range(vocab, vocab + 5)
        self.shapes = [(rows, columns) for rows, columns in shapes]
        require(bool(self.shapes) and all(min(s) >= 1 for s in self.shapes), "shapes", shapes, "(rows, columns), ≥ 1")

    def __len__(self) -> int:
        """Size of the vocabulary, the tokenizer's included."""
        return self.ratio + len(self.shapes)

    def picture(self, shape: int) -> list[int]:
        """The tokens of one picture of shapes[shape]: BEGIN, ratio, TIME, squares, FINISH."""
        rows, columns = self.shapes[shape]
        return [self.begin, self.ratio + shape, self.time, *[self.square] * (rows * columns), self.finish]


class Pictures(NamedTuple):
    """The P pictures of one shape in a batch of sequences."""

    shape: tuple[int, int]
    row: Tensor
    """(P,), which sequence."""
    at: Tensor
    """(P, rows·columns), where its squares stand; TIME is right before the first."""
    last: Tensor
    """(P,) bool, whether no other picture follows it."""


def pictures_in(tokens: Tensor, signs: Signs) -> list[Pictures]:
    """All pictures in tokens (B, L) int64, by shape. `ValueError` for squares that are not as many as a ratio says."""
    row, place = (tokens >= signs.ratio).nonzero(as_tuple=True)
    latest = torch.full((len(tokens),), -1, device=tokens.device).scatter_reduce(0, row, place, "amax")
    kind, found, squares = tokens[row, place] - signs.ratio, [], 0
    for number, (rows, columns) in enumerate(signs.shapes):
        ours, n = kind == number, rows * columns
        at = place[ours, None] + 2 + torch.arange(n, device=tokens.device)
        found.append(Pictures((rows, columns), row[ours], at, latest[row[ours]] == place[ours]))
        squares += at.numel()
        fits = not at.numel() or (
            int(at.max()) < tokens.shape[1] and bool((tokens[row[ours, None], at] == signs.square).all())
        )
        require(
            fits, "tokens", "a ratio without its squares", f"TIME and {n} squares after the one of {rows}×{columns}"
        )
    total = int((tokens == signs.square).sum())
    require(total == squares, "tokens", f"{total} squares", f"{squares}, as the ratios say")
    return [pictures for pictures in found if len(pictures.row)]


class Grid(nn.Module):
    """Squares of a picture through convolutions over their grid, with its time: (P, N, a) and (P, d) → (P, N, b).

    The patch maps of HunyuanImage 3.0, a U-Net's first and last layers without its skips: 3×3 then `ResBlock` into the
    transformer, `ResBlock` then 3×3 out of it (`out`). Its squares are those of a VAE; here they are patches.
    """

    def __init__(self, a: int, hidden: int, b: int, d: int, out: bool = False):
        super().__init__()
        self.time, self.out = TimeEmbedding(d), out
        self.res = ResBlock(a, hidden, d) if out else ResBlock(hidden, b, d)
        self.norm = nn.GroupNorm(groups(hidden), hidden) if out else nn.Identity()
        self.conv = nn.Conv2d(hidden, b, 3, padding=1) if out else nn.Conv2d(a, hidden, 3, padding=1)

    def forward(self, squares: Tensor, shape: Sequence[int], t: Tensor) -> Tensor:
        x, time = unpatchify(squares, 1, shape), self.time(t)
        x = self.conv(F.silu(self.norm(self.res(x, time)))) if self.out else self.res(self.conv(x), time)
        return patchify(x, 1)


class Interleaved(nn.Module):
    """`net(x_t, t, tokens=…, pixels=…)` → x̂0 of the last picture for `Denoiser` with X0, and logits of what follows.

    tokens (B, L) int64: words and `Signs`, padding at the end alone. pixels (B, L, patch²·channels): the squares of
    pictures, each at its token, whatever elsewhere. shapes: (rows, columns) in squares of the pictures that the ratios
    name. hidden: channels of the convolutions that squares go through. weight: λ of the pictures' loss beside the
    words' (arXiv 2408.11039). weigh: what an error of x̂0 counts at each time. truncated, theta: of the positions
    (`nn.rope`).
    """

    def __init__(
        self, vocab: int, shapes: Sequence[tuple[int, int]], channels: int = 3, patch: int = 4, dim: int = 128,
        depth: int = 6, heads: int = 4, hidden: int = 64, weight: float = 5.0, schedule: Schedule | None = None,
        weigh: Callable[[Schedule, Tensor], Tensor] | None = None, truncated: bool = True, theta: float = 10_000.0,
    ):  # fmt: skip
        super().__init__()
        self.signs, self.schedule, self.weigh, self.weight = Signs(vocab, shapes), schedule or Linear(), weigh, weight
        self.channels, self.patch, self.inside = channels, patch, channels * patch**2
        self.truncated, self.theta, self.width = truncated, theta, dim // heads
        self.word, self.time = nn.Embedding(len(self.signs), dim), TimeEmbedding(dim)
        self.into = Grid(self.inside, hidden, dim, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, activation=F.silu, qk_norm=True) for _ in range(depth))
        self.norm, self.next_word = nn.LayerNorm(dim), nn.Linear(dim, len(self.signs))
        self.out = Grid(dim, hidden, self.inside, dim, out=True)

    def layout(self, tokens: Tensor, found: Sequence[Pictures]) -> tuple[Tensor, rope.Rotary]:
        """Who may look at whom, (B, L, L), and the turn of each token's queries and keys."""
        owner = torch.full_like(tokens, -1)
        places = (
            torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)[..., None].repeat(1, 1, 2).float()
        )
        for shape, row, at, _ in found:
            owner[row[:, None], at] = at[:, :1].expand_as(at)  # where it begins is which picture it is
            inside = rope.interleaved(shape, truncated=self.truncated).to(places)
            places[row[:, None], at] = at[:, :1, None] + inside
        return masks.blocks(owner), rope.Rotary(places, [self.width // 2] * 2, self.theta, woven=True)

    def read(self, tokens: Tensor, pixels: Tensor, t: Tensor) -> Read:
        """Logits (B, L, len(signs)) of what follows each token; x̂0 at the squares of the last pictures, else 0.

        t (B,): of the last picture of each sequence. pixels: earlier pictures clean, the last one noisy.
        """
        self._require(tokens, pixels, t)
        found = pictures_in(tokens, self.signs)
        mask, rotate = self.layout(tokens, found)
        x = self.word(tokens)
        times = [torch.where(last, t[row], 0.0) for _, row, _, last in found]
        for (shape, row, at, _), when in zip(found, times):
            x = x.index_put((row, at[:, 0] - 1), self.time(when).to(x))
            x = x.index_put((row[:, None], at), self.into(pixels[row[:, None], at], shape, when).to(x))
        for block in self.blocks:
            x = block(x, mask=mask, rotate=rotate)
        x = self.norm(x)
        drawn = torch.zeros_like(pixels)
        for (shape, row, at, last), when in zip(found, times):
            row, at, when = row[last], at[last], when[last]
            if len(row):
                drawn = drawn.index_put((row[:, None], at), self.out(x[row[:, None], at], shape, when).to(drawn))
        return Read(self.next_word(x), drawn)

    def last(self, tokens: Tensor) -> Tensor:
        """(B, L) bool: the squares of the last picture of each sequence."""
        mine = torch.zeros_like(tokens, dtype=torch.bool)
        for _, row, at, last in pictures_in(tokens, self.signs):
            mine[row[last, None], at[last]] = True
        return mine

    def forward(self, x_t: Tensor, t: Tensor, *, tokens: Tensor, pixels: Tensor) -> Tensor:
        """x̂0 like x_t (B, C, H, W): the last pictures, all of one shape, put among the `pixels` of earlier ones."""
        mine, size = self.last(tokens), x_t.shape[2:]
        squares = patchify(x_t, self.patch)
        fits = bool((mine.sum(1) == squares.shape[1]).all())
        require(fits, "x_t", describe(x_t), f"{mine.sum(1).tolist()} squares, as tokens say")
        filled = pixels.to(x_t).index_put(mine.nonzero(as_tuple=True), squares.flatten(0, 1))
        drawn = self.read(tokens, filled, t.expand(len(x_t))).picture
        return unpatchify(drawn[mine].unflatten(0, (len(x_t), -1)), self.patch, size)

    def ratios(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Log-probabilities (B, shapes) of the ratio after sequences that end with BEGIN, padding behind it."""
        end = (tokens != PAD).sum(1) - 1
        rows = torch.arange(len(tokens), device=tokens.device)
        fits = bool((tokens[rows, end] == self.signs.begin).all())
        require(fits, "tokens", "a sequence that ends otherwise", "BEGIN as the last token of each sequence")
        words = self.read(tokens, pixels, torch.zeros(len(tokens), device=tokens.device)).words
        return words[rows, end, self.signs.ratio :].log_softmax(-1)

    def losses(self, x0: Tensor, t: Tensor, eps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy a word in nats, and the error of x̂0 as `weigh` has it, the mean over numbers: (B,) each.

        x0, eps: as `pixels`. Asked for are words, END, BEGIN and ratios. What follows from a ratio is not (TIME,
        squares, FINISH), nor is a user's START, nor what was dropped (UNKNOWN).
        """
        require_like("eps", eps, x0, "x0")
        mine = self.last(tokens)[..., None]
        noisy = self.schedule.add_noise(x0, eps, t)
        read = self.read(tokens, torch.where(mine, noisy, x0), t)
        wanted = F.pad(tokens[:, 1:], (0, 1), value=PAD)
        given = torch.tensor(
            [START, UNKNOWN, self.signs.time, self.signs.square, self.signs.finish], device=tokens.device
        )
        wanted = torch.where(torch.isin(wanted, given), PAD, wanted)
        errors = ((read.picture - x0).square() * mine).flatten(1).sum(1) / (mine.sum((1, 2)) * self.inside).clamp(min=1)
        return nats(read.words, wanted), errors if self.weigh is None else errors * self.weigh(self.schedule, t)

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, tokens: Tensor) -> Tensor:
        """Words + λ·picture (arXiv 2408.11039, eq. 4), (B,)."""
        words, picture = self.losses(x0, t, eps, tokens)
        return words + self.weight * picture

    def _require(self, tokens: Tensor, pixels: Tensor, t: Tensor) -> None:
        fits = tokens.dtype == torch.int64 and tokens.ndim == 2 and bool((tokens < len(self.signs)).all())
        require(fits, "tokens", describe(tokens), f"int64 (B, L), ids below {len(self.signs)}")
        shape = (*tokens.shape, self.inside)
        require(tuple(pixels.shape) == shape, "pixels", describe(pixels), f"shape {shape}")
        require_time(t, batch=len(tokens))
