"""A small decoder language model that is asked and answers, and may be shown a picture first (GPT, LLaVA).

Its hidden states are what newer generators look at in place of CLIP's: every token has seen the text before it, and
which layer to take, what to cut away, and what stands in the place of padding are choices (`Layers`, `Registers`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.conditioning import Encoded, Given
from minidiff.encoders.tokenizer import END, PAD, require_ids
from minidiff.nn import masks
from minidiff.nn.block import Block
from minidiff.shapes import patchify
from minidiff.validate import describe, integer, require, require_shape


class LanguageModel(nn.Module):
    """Tokens (B, L ≤ length) int64, each asked for the next: (B, L, vocab) logits. Padding stands on the right.

    A causal transformer (GPT-2's, with the output map tied to the word vectors, arXiv 1608.05859). picture = (side,
    patch): it may also be shown pictures (B, 3, side, side) in [−1, 1], whose squares of patch×patch pixels become
    (side/patch)² tokens before the text by one linear map; they look at one another, the text at them and at what was
    said (LLaVA, arXiv 2304.08485, with no vision tower between). other: weight of tokens that are no answer in `loss`.
    """

    def __init__(
        self, vocab: int, length: int, dim: int = 80, depth: int = 6, heads: int = 4,
        picture: tuple[int, int] | None = None, other: float = 0.3,
    ):  # fmt: skip
        super().__init__()
        self.vocab, self.length, self.dim, self.depth, self.other = vocab, length, dim, depth, other
        self.picture = picture
        self.token = nn.Embedding(vocab, dim)
        self.place = nn.Parameter(0.3 * torch.randn(length, dim))  # found sooner than 0.02, as in `conditioning.Words`
        if picture is not None:
            side, patch = picture
            require(side % patch == 0, "picture", picture, "a side that the patch divides")
            self.look = nn.Linear(3 * patch**2, dim)
            self.spot = nn.Parameter(0.3 * torch.randn((side // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.bias = nn.LayerNorm(dim), nn.Parameter(torch.zeros(vocab))

    def states(self, tokens: Tensor, pictures: Tensor | None = None) -> list[Tensor]:
        """What stands at each place before the first block and after each: depth + 1 of (B, [squares +] L, dim)."""
        x, first = self._embedded(tokens), 0
        if pictures is not None:
            seen = self._squares(pictures)
            x, first = torch.cat([seen, x], 1), seen.shape[1]
        mask, found = masks.prefix(first, x.shape[1], x.device), [x]
        for block in self.blocks:
            found.append(block(found[-1], mask=mask))
        return found

    def logits(self, state: Tensor) -> Tensor:
        """How well each token of the vocabulary would come next, from the last of `states`: (…, dim) → (…, vocab)."""
        return self.norm(state) @ self.token.weight.T / self.dim**0.5 + self.bias

    def forward(self, tokens: Tensor, pictures: Tensor | None = None) -> Tensor:
        return self.logits(self.states(tokens, pictures)[-1][:, -tokens.shape[1] :])

    def loss(self, tokens: Tensor, answer: Tensor, pictures: Tensor | None = None) -> Tensor:
        """Cross-entropy in nats, (B,): the mean over a row's answer, plus `other` times that over the rest of it.

        tokens (B, L); answer (B, L) bool, True for the tokens of an answer. Padding is never asked for.
        """
        require_shape("answer", answer, tokens.shape)
        wanted, told = tokens[:, 1:], answer[:, 1:]
        each = F.cross_entropy(self(tokens, pictures)[:, :-1].transpose(1, 2), wanted, reduction="none")
        rest = ~told & (wanted != PAD)
        mean = lambda where: (each * where).sum(1) / where.sum(1).clamp(min=1)
        return mean(told) + self.other * mean(rest)

    @torch.no_grad()
    def answer(self, tokens: Tensor, most: int = 24, pictures: Tensor | None = None) -> Tensor:
        """The most probable next token, again and again, until END: (B, at most `most`) int64, padded behind END.

        tokens (B, L): a question without END, padded on the right to different lengths.
        """
        rows, place = torch.arange(len(tokens), device=tokens.device), (tokens != PAD).sum(1)
        tokens = F.pad(tokens, (0, integer("most", most)), value=PAD)
        said = torch.full((len(tokens), most), PAD, device=tokens.device)
        open_ = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        for i in range(most):
            upto = int(place.max())
            chosen = self(tokens[:, :upto], pictures)[rows, place - 1].argmax(-1)
            chosen = torch.where(open_, chosen, PAD)
            said[:, i], tokens[rows, place] = chosen, chosen
            open_, place = open_ & (chosen != END), torch.where(open_, place + 1, place)
            if not bool(open_.any()) or int(place.max()) >= self.length:
                break
        return said

    def _embedded(self, tokens: Tensor) -> Tensor:
        require_ids(tokens, self.length, self.vocab - 1)
        return self.token(tokens) + self.place[: tokens.shape[1]]

    def _squares(self, pictures: Tensor) -> Tensor:
        require(
            self.picture is not None, "pictures", describe(pictures), "None: this model was built without `picture`"
        )
        assert self.picture is not None
        side, patch = self.picture
        require_shape("pictures", pictures, (None, 3, side, side))
        return self.look(patchify(pictures.to(self.place), (patch, patch))) + self.spot


class Layers(nn.Module):
    """A language model's hidden states as a `TextEncoder`: of some layers, side by side in channels.

    layers: 0 is what enters the first block, `depth` what leaves the last; −2 is the one before the last, as in Z-Image
    (Qwen3), and three layers are stacked in Flux 2 (Mistral 3, layers 10, 20 and 30 of 40). Each is normalised by
    itself, so that none is louder than another. cut: so many tokens of a chat's template are left out at the front (34
    in Qwen-Image, arXiv 2508.02324); they have seen nothing of the caption, for the mask is causal. pictures: as in
    `LanguageModel.states`; then the squares' states come first, and nothing of them is cut.
    """

    def __init__(self, model: LanguageModel, layers: Sequence[int] = (-1,), cut: int = 0):
        super().__init__()
        names = range(model.depth + 1)
        require(len(layers) > 0 and all(-len(names) <= k < len(names) for k in layers), "layers", layers, f"of {names}")
        self.model, self.layers, self.cut = model, tuple(layers), integer("cut", cut, least=0)
        self.dim, self.out = model.dim * len(self.layers), 0

    def encode(self, tokens: Tensor, pictures: Tensor | None = None) -> Encoded:
        require(tokens.shape[1] > self.cut, "tokens", describe(tokens), f"more than the {self.cut} that are cut")
        states = self.model.states(tokens, pictures)
        squares = states[0].shape[1] - tokens.shape[1]
        kept = torch.cat([torch.arange(squares), torch.arange(squares + self.cut, states[0].shape[1])])
        context = torch.cat([F.layer_norm(states[k], (self.model.dim,)) for k in self.layers], -1)[:, kept]
        told = F.pad((tokens != PAD)[:, self.cut :], (squares, 0), value=True)
        return Encoded(None, context, told)


class Registers(nn.Module):
    """A conditioning whose context always has `length` tokens: learned ones stand where there was padding.

    So nothing is masked, and the registers are free to hold what no word says (LTX-2 has 128, arXiv 2601.03233).
    """

    def __init__(self, inner: nn.Module, length: int, dim: int):
        super().__init__()
        self.inner, self.registers = inner, nn.Parameter(0.3 * torch.randn(integer("length", length), dim))

    def forward(self, batch: int, *, tokens: Tensor) -> Given:
        given = self.inner(batch, tokens=tokens)
        n, most = given["context"].shape[1], len(self.registers)
        require(n <= most, "tokens", describe(tokens), f"at most {most} that are looked at")
        context, told = F.pad(given["context"], (0, 0, 0, most - n)), F.pad(given["context_mask"], (0, most - n))
        return {
            **given,
            "context": torch.where(told[..., None], context, self.registers),
            "context_mask": torch.ones_like(told),
        }
