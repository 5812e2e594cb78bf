"""A conversation of words and codes of pictures as one sequence of integers, and one causal transformer over it.

    START a red star END BEGIN ▪▪▪…▪   START make the star blue END BEGIN ▪▪▪…▪   START …

`autoregressive` with more turns. Each turn is a text, filled up to `length` tokens, then BEGIN, then the side² codes of
its picture. So a picture's codes stand where those of the picture before stood, one turn later, and to copy a code is
to look a fixed number of tokens back: positions are rotary, and a code has a learned row and column besides.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.backbones.autoregressive import choose
from minidiff.backbones.transfusion import nats
from minidiff.encoders.tokenizer import PAD
from minidiff.nn import masks, rope
from minidiff.nn.block import Block, Past
from minidiff.randomness import Randomness, gumbel
from minidiff.validate import describe, indexing, integer, not_negative, require, require_shape


class Conversation(nn.Module):
    """tokens (B, T, length) int64 and codes (B, T, side, side) int64, T turns → logits of what follows each of them.

    tokens: START, words of `vocab`, END, padding, which is never looked at and never asked for. codes: 0 … size − 1.
    weight: of the codes in `loss`, against 1 of the words. theta: of the rotary positions. Any number of turns goes
    through, but positions are learned for as many as there were in training. `ValueError` for other shapes and ids.
    """

    def __init__(
        self, vocab: int, length: int, size: int, side: int = 4, dim: int = 96, depth: int = 6, heads: int = 4,
        weight: float = 7.0, theta: float = 100.0,
    ):  # fmt: skip
        super().__init__()
        self.vocab, self.length, self.size, self.side = vocab, integer("length", length), size, integer("side", side)
        self.weight, self.theta, self.width = not_negative("weight", weight), theta, dim // heads
        self.word, self.code = nn.Embedding(vocab, dim), nn.Embedding(size, dim)
        place = lambda n: nn.Parameter(0.3 * torch.randn(n, dim))  # found sooner than 0.02, as in `conditioning.Words`
        self.place, self.row, self.column, self.begin = place(length), place(side), place(side), place(1)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.next_word, self.next_code = nn.LayerNorm(dim), nn.Linear(dim, vocab), nn.Linear(dim, size)

    @property
    def turn(self) -> int:
        """Tokens of a turn: text, BEGIN, codes."""
        return self.length + 1 + self.side**2

    def told(self, tokens: Tensor) -> Tensor:
        """Vectors of texts and of BEGIN behind each: (…, length) → (…, length + 1, dim)."""
        fits = tokens.dtype == torch.int64 and tokens.ndim >= 2 and tokens.shape[-1] == self.length
        require(fits, "tokens", describe(tokens), f"int64, shape (…, {self.length})")
        with indexing("tokens", tokens, self.vocab - 1, f"ids 0 … {self.vocab - 1}", self.place.device):
            words = self.word(tokens) + self.place
        return torch.cat([words, self.begin.expand(*words.shape[:-2], 1, -1)], -2)

    def shown(self, codes: Tensor, first: int = 0) -> Tensor:
        """Vectors of codes, row by row from place `first` on: (…, n) → (…, n, dim)."""
        fits = codes.dtype == torch.int64 and first + codes.shape[-1] <= self.side**2
        require(fits, "codes", describe(codes), f"int64, at most {self.side**2 - first} in a row")
        places = (self.row[:, None] + self.column).flatten(0, 1)[first : first + codes.shape[-1]]
        with indexing("codes", codes, self.size - 1, f"codes 0 … {self.size - 1}", self.place.device):
            return self.code(codes) + places

    def sequence(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, N, dim) of T turns, and which of them may be looked at, (B, N) bool.

        codes: of T turns, or of T − 1 where the last picture is still to come.
        """
        batch, turns = tokens.shape[:2]
        fits = codes.ndim == 4 and len(codes) == batch and codes.shape[1] in (turns - 1, turns)
        fits = fits and tuple(codes.shape[2:]) == (self.side, self.side)
        require(fits, "codes", describe(codes), f"shape ({batch}, {turns} or {turns - 1}, {self.side}, {self.side})")
        missing = turns - codes.shape[1]
        x = torch.cat([self.told(tokens), self.shown(F.pad(codes.flatten(2), (0, 0, 0, missing)))], 2).flatten(1, 2)
        seen = F.pad(tokens != PAD, (0, 1 + self.side**2), value=True).flatten(1)
        n = x.shape[1] - missing * self.side**2
        return x[:, :n], seen[:, :n]

    def through(self, x: Tensor, seen: Tensor, pasts: Sequence[Past | None] | None = None) -> Tensor:
        """The blocks and the last norm on the last tokens of a sequence; seen: (B, N) of the whole of it."""
        n, new, device = seen.shape[1], x.shape[1], x.device
        mask = masks.both(masks.causal(n, device)[n - new :], masks.keys(seen))
        rotate = rope.Rotary(torch.arange(n - new, n, device=device).float()[:, None], [self.width], self.theta)
        for block, past in zip(self.blocks, pasts or [None] * len(self.blocks)):
            x = block(x, mask=mask, rotate=rotate, past=past)
        return self.norm(x)

    def forward(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the words after each token, (B, T, length − 1, vocab), and of all codes, (B, T, side², size)."""
        require_shape("codes", codes, (*tokens.shape[:2], self.side, self.side))
        x = self.through(*self.sequence(tokens, codes)).unflatten(1, (tokens.shape[1], self.turn))
        return self.next_word(x[:, :, : self.length - 1]), self.next_code(x[:, :, self.length : -1])

    def losses(self, tokens: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats, the mean over a turn's words (END too) and over its codes: (B, T) each."""
        words, drawn = self(tokens, codes)
        of_codes = F.cross_entropy(drawn.movedim(-1, 1), codes.flatten(2), reduction="none")
        return nats(words, tokens[:, :, 1:]), of_codes.mean(-1)

    def loss(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """(text + weight·codes)/(1 + weight), the mean over turns, (B,): for `training.fit`."""
        text, drawn = self.losses(tokens, codes)
        return ((text + self.weight * drawn) / (1 + self.weight)).mean(1)

    @torch.no_grad()
    def sample(
        self, tokens: Tensor, codes: Tensor, generator: Randomness, temperature: float = 1.0, w: float = 0.0,
        null: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Codes (B, side, side) of the picture that follows T texts and the T − 1 pictures between them.

        temperature: of `autoregressive.choose`, 0 for the likeliest. w: guidance, logits (1 + w)·told − w·null, where
        the last text is null (length,). A list of generators is one per picture.
        """
        require(w == 0 or null is not None, "null", None, "tokens of the empty text, as w ≠ 0")
        require_shape("codes", codes, (len(tokens), tokens.shape[1] - 1, self.side, self.side))
        given = [tokens]
        if w != 0 and null is not None:
            given.append(torch.cat([tokens[:, :-1], null.expand(len(tokens), 1, -1)], 1))
        readers = [Reader(self, each, codes) for each in given]
        noise = gumbel((len(tokens), self.side**2, self.size), generator, self.place.device)
        drawn = []
        for k in range(self.side**2):
            if drawn:
                for reader in readers:
                    reader.read(drawn[-1])
            logits, *empty = (reader.logits for reader in readers)
            for other in empty:
                logits = (1 + w) * logits - w * other
            drawn.append(choose(logits, noise[:, k], temperature)[:, None])
        return torch.cat(drawn, 1).unflatten(1, (self.side, self.side))


class Reader:
    """A `Conversation` that has read T texts and T − 1 pictures, and reads on code by code; it keeps keys and values.

    logits (B, size): of the next code. Equal to those of the whole sequence at once, ≤ 1e-5.
    """

    def __init__(self, model: Conversation, tokens: Tensor, codes: Tensor):
        self.model, self.place, self.pasts = model, 0, [Past() for _ in model.blocks]
        x, self.seen = model.sequence(tokens, codes)
        self.logits = model.next_code(model.through(x, self.seen, self.pasts)[:, -1])

    def read(self, codes: Tensor) -> None:
        """The next code of each picture, (B, 1)."""
        self.seen = F.pad(self.seen, (0, 1), value=True)
        x = self.model.shown(codes, self.place)
        self.place += 1
        self.logits = self.model.next_code(self.model.through(x, self.seen, self.pasts)[:, -1])
