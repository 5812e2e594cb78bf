"""A caption and a picture as one sequence of integers, and one causal transformer over it (arXiv 2102.12092, section
2.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.conditioning import require_tokens
from minidiff.encoders.tokenizer import PAD
from minidiff.nn import masks
from minidiff.nn.block import Block, Past
from minidiff.randomness import Randomness, gumbel
from minidiff.validate import describe, indexing, integer, not_negative, number, require, require_shape


class TextToCodes(nn.Module):
    """[caption; BEGIN; codes row by row], each token asked for the next: (words of `vocab`, then codes of `size`).

    tokens (B, L ≤ length) int64: START, words, END, padding. codes (B, side, side) int64. Words and codes have vectors
    and heads of their own; a word has its place, a code its row and its column. Padding is never looked at and never
    asked for. (The paper learns a vector for padding at each place instead. Without one a caption may be padded to any
    length, and means the same.) BEGIN is a vector behind the caption, where the first code is asked for.

    weight: of the codes in `loss`, against 1 of the words (7 in the paper). `ValueError` for other shapes and ids.
    """

    def __init__(
        self, vocab: int, length: int, size: int, side: int = 8, dim: int = 96, depth: int = 6, heads: int = 4,
        weight: float = 7.0,
    ):  # fmt: skip
        super().__init__()
        self.vocab, self.length, self.size, self.side = vocab, length, integer("size", size), integer("side", side)
        self.weight = not_negative("weight", weight)
        self.word, self.code = nn.Embedding(vocab, dim), nn.Embedding(size, dim)
        place = lambda n: nn.Parameter(0.3 * torch.randn(n, dim))  # found sooner than 0.02, as in `conditioning.Words`
        self.place, self.row, self.column, self.begin = place(length), place(side), place(side), place(1)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.next_word, self.next_code = nn.LayerNorm(dim), nn.Linear(dim, vocab), nn.Linear(dim, size)

    def caption(self, tokens: Tensor) -> Tensor:
        """Vectors of a caption and of BEGIN behind it: (B, L + 1, dim)."""
        require_tokens(tokens, len(tokens), self.length)
        last, device = self.vocab - 1, self.place.device
        with indexing("tokens", tokens, last, f"ids 0 … {last}", device):
            words = self.word(tokens.to(device)) + self.place[: tokens.shape[1]]
        return torch.cat([words, self.begin.expand(len(words), 1, -1)], 1)

    def picture(self, codes: Tensor, first: int = 0) -> Tensor:
        """Vectors of codes (B, n), row by row from place `first` on: (B, n, dim)."""
        fits = codes.dtype == torch.int64 and codes.ndim == 2 and first + codes.shape[1] <= self.side**2
        require(fits, "codes", describe(codes), f"int64, shape (B, n), n ≤ {self.side**2 - first}")
        places = (self.row[:, None] + self.column).flatten(0, 1)[first : first + codes.shape[1]]
        device = self.place.device
        with indexing("codes", codes, self.size - 1, f"codes 0 … {self.size - 1}", device):
            return self.code(codes.to(device)) + places

    def forward(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the words after each token, (B, L − 1, vocab), and of all codes, (B, side², size)."""
        require_shape("codes", codes, (len(tokens), self.side, self.side))
        told = self.caption(tokens)
        x = torch.cat([told, self.picture(codes.flatten(1)[:, :-1])], 1)  # the last code has no next
        mask = masks.both(masks.causal(x.shape[1], x.device), masks.keys(_seen(tokens, x.shape[1]).to(x.device)))
        for block in self.blocks:
            x = block(x, mask=mask)
        words, drawn = self.norm(x).split([told.shape[1] - 1, self.side**2], 1)
        return self.next_word(words[:, :-1]), self.next_code(drawn)

    def losses(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats, the mean over a caption's words (END too) and over a picture's codes: (B,) each."""
        words, drawn = self(tokens, codes)
        wanted = tokens[:, 1:].to(words.device)
        each = F.cross_entropy(words.transpose(1, 2), wanted, reduction="none", ignore_index=PAD)
        text = each.sum(1) / (wanted != PAD).sum(1).clamp(min=1)
        picture = F.cross_entropy(drawn.transpose(1, 2), codes.flatten(1).to(drawn.device), reduction="none").mean(1)
        return text, picture

    def loss(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """(text + weight·picture)/(1 + weight), (B,): for `training.fit`."""
        text, picture = self.losses(tokens, codes)
        return (text + self.weight * picture) / (1 + self.weight)

    @torch.no_grad()
    def sample(
        self, tokens: Tensor, generator: Randomness, temperature: float = 1.0, top_k: int | None = None, w: float = 0.0,
        null: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes (B, side, side) for captions (B, L), one after another; with a list of generators, one per picture.

        temperature, top_k: of `choose`. w: guidance, logits (1 + w)·caption − w·null with null (L,) the tokens of "no
        caption"; w = 0 never evaluates it.
        """
        require(w == 0 or null is not None, "null", None, "tokens of the empty caption, as w ≠ 0")
        noise = gumbel((len(tokens), self.side**2, self.size), generator, self.place.device)
        readers = [Reader(self, tokens)]
        if w != 0 and null is not None:
            readers.append(Reader(self, null.expand(len(tokens), -1)))
        codes = torch.empty(len(tokens), 0, dtype=torch.int64, device=self.place.device)
        for place in range(self.side**2):
            logits, *empty = (reader.logits for reader in readers)
            for other in empty:
                logits = (1 + w) * logits - w * other
            code = choose(logits, noise[:, place], temperature, top_k)[:, None]
            codes = torch.cat([codes, code], 1)
            if place + 1 < self.side**2:
                for reader in readers:
                    reader.read(code)
        return codes.unflatten(1, (self.side, self.side))


class Reader:
    """A `TextToCodes` that reads a caption, then code by code, and keeps what its blocks made of them (`Past`).

    logits (B, size): of the next code. Equal to those of the whole sequence at once, ≤ 1e-5.
    """

    def __init__(self, model: TextToCodes, tokens: Tensor):
        self.model, self.place, self.pasts = model, 0, [Past() for _ in model.blocks]
        x = model.caption(tokens)
        self.seen = _seen(tokens, x.shape[1]).to(x.device)
        causal = masks.causal(x.shape[1], x.device)
        self.logits = self._through(x, masks.both(causal, masks.keys(self.seen)))

    def read(self, codes: Tensor) -> None:
        """The next code of each picture, (B, 1)."""
        x = self.model.picture(codes, self.place)
        self.place += 1
        self.seen = F.pad(self.seen, (0, 1), value=True)
        self.logits = self._through(x, masks.keys(self.seen))

    def _through(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for block, past in zip(self.model.blocks, self.pasts):
            x = block(x, mask=mask, past=past)
        return self.model.next_code(self.model.norm(x[:, -1]))


def choose(logits: Tensor, noise: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """A draw from softmax(logits/τ) among the top_k largest of each row, (B, K) → (B,): argmax (logits + τ·noise).

    noise: Gumbel's, (B, K) (`randomness.gumbel`). temperature τ = 0 takes the largest. top_k None: all (1805.04833,
    section 5.4). Of logits that are equal to the last of the top_k, none is left out.
    """
    require_shape("noise", noise, logits.shape)
    temperature = number("temperature", temperature, "a number ≥ 0", lambda v: 0 <= v < float("inf"))
    if top_k is not None and integer("top_k", top_k) < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    return (logits + temperature * noise).argmax(-1)


def _seen(tokens: Tensor, n: int) -> Tensor:
    """(B, n) bool: padding is not looked at, what stands behind the caption is."""
    return F.pad(tokens != PAD, (0, n - tokens.shape[1]), value=True)
