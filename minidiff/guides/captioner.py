"""An autoregressive captioner p(caption | x_t): it reads noisy pictures, and its gradient can guide.

p(y | x_t) = Π_k p(y_k | y_<k, x_t). Trained by itself on pictures at all noise levels, it is a classifier whose
classes are sentences, and ∇_x Σ_k log p(y_k | y_<k, x_t) its guidance.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from minidiff.encoders.tokenizer import END, PAD, START
from minidiff.nn import masks
from minidiff.nn.block import Block, gelu_tanh
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.schedules import Schedule
from minidiff.shapes import differentiable, patchify
from minidiff.validate import describe, not_negative, require, require_inside


class Captioner(nn.Module):
    """One transformer over both: picture tokens see each other, a word sees them all and the words before it.

    side, channels, patch: of the pictures. vocabulary: size of the tokenizer. length: tokens of a caption, START and
    END included. schedule: how the pictures are noised, for `loss`.
    """

    def __init__(
        self, schedule: Schedule, vocabulary: int, length: int, side: int = 16, channels: int = 3, patch: int = 4,
        dim: int = 128, depth: int = 4, heads: int = 4,
    ):  # fmt: skip
        super().__init__()
        self.schedule, self.side, self.channels, self.patch, self.length = schedule, side, channels, patch, length
        self.n = (side // patch) ** 2
        self.time = TimeEmbedding(dim)
        self.stem, self.words = nn.Linear(patch**2 * channels, dim), nn.Embedding(vocabulary, dim)
        self.place = nn.Parameter(0.02 * torch.randn(self.n + length - 1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, cond_dim=dim, activation=gelu_tanh) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocabulary)

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Logits (B, L, vocabulary) of the token after each of `tokens` (B, L), START first, L < length."""
        fits = x_t.ndim == 4 and tuple(x_t.shape[1:]) == (self.channels, self.side, self.side)
        require(fits, "x_t", describe(x_t), f"(B, {self.channels}, {self.side}, {self.side})")
        right = isinstance(tokens, Tensor) and tokens.dtype == torch.int64
        right = right and tokens.ndim == 2 and len(tokens) == len(x_t)
        expected = f"int64 tokens (B, L), B = {len(x_t)} and L < {self.length}"
        require(right and tokens.shape[1] < self.length, "tokens", describe(tokens), expected)
        self._require_inside(tokens)
        words = self.words(differentiable(tokens).to(self.place.device))
        z = torch.cat([self.stem(patchify(x_t, self.patch)), words], dim=1) + self.place[: self.n + tokens.shape[1]]
        seen = masks.prefix(self.n, z.shape[1], z.device)
        condition = self.time(t.to(z.device).expand(len(x_t)))
        for block in self.blocks:
            z = block(z, condition, mask=seen)
        return self.head(self.norm(z[:, self.n :]))

    def _require_inside(self, tokens: Tensor) -> None:
        n = self.words.num_embeddings
        require_inside("tokens", tokens, n - 1, f"ids 0 … {n - 1} of a vocabulary of {n}")

    def log_prob(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """log p(caption | x_t) = Σ_k log p(y_k | y_<k, x_t), (B,). tokens: (B, length) as a tokenizer makes them."""
        fits = isinstance(tokens, Tensor) and tokens.ndim == 2 and tokens.shape[1] > 1
        require(fits, "tokens", describe(tokens), "int64 tokens (B, length)")
        self._require_inside(tokens)
        target = differentiable(tokens)[:, 1:].to(x_t.device)
        logits = self(x_t, t, tokens[:, :-1])
        losses = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")  # (B, length − 1)
        return -(losses * (target != PAD)).sum(1)

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, tokens: Tensor) -> Tensor:
        """−log p(caption | x_t) per word, (B,); 0 for a caption without any."""
        x_t = self.schedule.add_noise(x0, eps, t)
        return -self.log_prob(x_t, t, tokens) / (tokens[:, 1:] != PAD).sum(1).clamp(min=1).to(x_t.device)

    @torch.no_grad()
    def write(self, x_t: Tensor, t: Tensor, temperature: float = 0.0, generator: Generator | None = None) -> Tensor:
        """Captions for pictures, token by token: (B, length) int64. temperature 0 takes the likeliest word."""
        temperature = not_negative("temperature", temperature)
        tokens = torch.full((len(x_t), 1), START, device=x_t.device)
        ended = torch.zeros(len(x_t), dtype=torch.bool, device=x_t.device)
        while tokens.shape[1] < self.length:
            logits = self(x_t, t, tokens)[:, -1]
            if temperature > 0:
                p = (logits / temperature).softmax(1).cpu()
                new = torch.multinomial(p, 1, generator=generator)[:, 0].to(x_t.device)
            else:
                new = logits.argmax(1)
            new = torch.where(ended, PAD, new)
            ended = ended | (new == END)
            tokens = torch.cat([tokens, new[:, None]], dim=1)
        return tokens
