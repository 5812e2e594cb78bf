"""A small encoder that has read texts only, and is then frozen: what T5 is to Imagen (arXiv 2205.11487, section 2.1).

Pictures play no part in its training: words of a text are hidden, and the rest of the text has to say which they were.
This is BERT's task (arXiv 1810.04805, section 3.1). T5's (arXiv 1910.10683, section 3.1.4) hides runs of words, each
behind one sign, and a decoder writes down what was there. Here there is no decoder: one answer is read at the place of
each hidden word, so every word keeps a place of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.conditioning import Encoded
from minidiff.encoders.tokenizer import N_SPECIALS, PAD, require_ids
from minidiff.nn import masks
from minidiff.nn.block import Block
from minidiff.randomness import Randomness, rand
from minidiff.validate import describe, integer, number, require, require_shape


def corrupt(
    tokens: Tensor, vocab: int, generator: Randomness, rate: float = 0.15, hidden: float = 0.8, wrong: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """(inputs, targets, chosen), each (B, L): every word is chosen with probability `rate`, specials never are.

    A chosen word is hidden behind the id `vocab`, one past the tokenizer's (with probability `hidden`), replaced by any
    word (`wrong`), or left as it is: later nothing is ever hidden, so what is said of seen words has to count, too
    (arXiv 1810.04805, section 3.1). targets are the tokens where chosen, −100 elsewhere, `F.cross_entropy`'s default
    for "no target". With a list of generators row i depends on generator[i] alone, and not on how far it is padded.
    """
    fits = isinstance(tokens, Tensor) and tokens.dtype == torch.int64 and tokens.ndim == 2
    require(fits, "tokens", describe(tokens), "int64 of shape (B, L)")
    vocab = integer("vocab", vocab, least=N_SPECIALS + 1)
    expected = "a probability in [0, 1]"
    rate, hidden, wrong = (number(name, value, expected, lambda v: 0 <= v <= 1) for name, value in
                           (("rate", rate), ("hidden", hidden), ("wrong", wrong)))  # fmt: skip
    require(hidden + wrong <= 1, "hidden, wrong", (hidden, wrong), "a sum of at most 1")
    choice, kind, word = rand((*tokens.shape, 3), generator, tokens.device).unbind(-1)  # in [0, 1)
    chosen = (choice < rate) & (tokens >= N_SPECIALS)
    inputs = torch.where(chosen & (kind < hidden), vocab, tokens)
    words = N_SPECIALS + (word * (vocab - N_SPECIALS)).long()
    inputs = torch.where(chosen & (kind >= hidden) & (kind < hidden + wrong), words, inputs)
    return inputs, torch.where(chosen, tokens, -100), chosen


class TextLM(nn.Module):
    """Tokens (B, L ≤ length) int64 → one vector per token, each of which has seen the whole text.

    vocab: number of the tokenizer's ids; here one more stands for a hidden word. Padding is never looked at. A word is
    named by comparing what stands at its place with the word vectors themselves (arXiv 1608.05859).
    """

    def __init__(self, vocab: int, length: int, dim: int = 64, depth: int = 2, heads: int = 4):
        super().__init__()
        self.vocab, self.length, self.dim, self.out = vocab, length, dim, dim
        self.token = nn.Embedding(vocab + 1, dim)  # of variance 1, PyTorch's default
        self.place = nn.Parameter(0.3 * torch.randn(length, dim))  # found sooner than 0.02, as in `conditioning.Words`
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.bias = nn.LayerNorm(dim), nn.Parameter(torch.zeros(vocab))

    def features(self, tokens: Tensor) -> Tensor:
        """One vector per token, (B, L, dim): what cross-attention looks at."""
        require_ids(tokens, self.length, self.vocab)
        x = self.token(tokens) + self.place[: tokens.shape[1]]  # (B, L, dim)
        seen = masks.keys(tokens != PAD)
        for block in self.blocks:
            x = block(x, mask=seen)
        return self.norm(x)

    def encode(self, tokens: Tensor) -> Encoded:
        """The mean over a text's tokens (arXiv 2108.08877), one vector per token, and which are no padding."""
        features, told = self.features(tokens), tokens != PAD
        pooled = (features * told[..., None]).sum(1) / told.sum(1, keepdim=True)
        return Encoded(pooled, features, told)

    def logits(self, features: Tensor) -> Tensor:
        """How well each word of the vocabulary fits a place: (…, dim) → (…, vocab)."""
        return features @ self.token.weight[: self.vocab].T / self.dim**0.5 + self.bias

    def loss(self, tokens: Tensor, inputs: Tensor) -> Tensor:
        """Cross-entropy in nats, (B,): each row's mean over its targets, 0 for a row without.

        tokens, inputs (B, L): targets and inputs of `corrupt`. For `training.fit`.
        """
        require_shape("inputs", inputs, tokens.shape)
        wanted = tokens >= 0
        named = self.logits(self.features(inputs)[wanted])  # (targets, vocab): only where a word is asked for
        losses = F.cross_entropy(named, tokens[wanted], reduction="none")
        rows = torch.zeros(tokens.shape, dtype=losses.dtype, device=losses.device).masked_scatter(wanted, losses)
        return rows.sum(1) / wanted.sum(1).clamp(min=1)
