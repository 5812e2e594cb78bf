"""CLIP: two towers that put a picture and its caption at the same place on a sphere (arXiv 2103.00020).

A batch of B pairs makes B² similarities; in each row and each column of that table the true pair is the right answer to
a B-way question. Pictures are in [−1, 1]; tokens come from `encoders.tokenizer`. `encoders.clip_folder` reads OpenAI's
and OpenCLIP's weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.conditioning import Encoded
from minidiff.encoders.tokenizer import END, require_ids
from minidiff.nn import masks
from minidiff.nn.block import Activation, Block
from minidiff.validate import integer, require, require_floating, require_shape

MAX_LOG_SCALE = math.log(100.0)
INITIAL_LOG_SCALE = math.log(1 / 0.07)


def contrastive_loss(image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of B pairs of unit vectors (B, D), one value per pair, (B,) (arXiv 2103.00020, figure 3).

    With logits S = scale·I·Tᵀ, pair i loses −½·log softmax(S[i, :])[i] − ½·log softmax(S[:, i])[i]. At scale 0 every
    pair loses ln B: chance.
    """
    require_shape("image_embeddings", image_embeddings, (None, None))
    require_shape("text_embeddings", text_embeddings, image_embeddings.shape)
    dtype = torch.promote_types(image_embeddings.dtype, text_embeddings.dtype)
    logits = scale * image_embeddings.to(dtype) @ text_embeddings.to(dtype).T  # (B pictures, B texts)
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (
        F.cross_entropy(logits, target, reduction="none") + F.cross_entropy(logits.T, target, reduction="none")
    )


class TextTower(nn.Module):
    """Tokens (B, L) int64, L ≤ length → (B, out): a causal transformer, read at the first END.

    The causal mask lets END alone see the whole caption, and nothing that follows it. vocab: number of ids. end: the
    id of END (49407 in OpenAI's vocabulary). hidden: width of the MLPs, 4·dim unless given. eps: of all norms.
    """

    def __init__(
        self,
        vocab: int,
        length: int,
        dim: int,
        depth: int,
        heads: int,
        out: int,
        *,
        hidden: int | None = None,
        activation: Activation = F.gelu,
        eps: float = 1e-5,
        end: int = END,
    ):
        super().__init__()
        self.vocab, self.length, self.end, self.dim, self.out = vocab, length, end, dim, out
        self.token = nn.Embedding(vocab, dim)
        self.position = nn.Parameter(0.01 * torch.randn(length, dim))
        blocks = [Block(dim, heads, hidden=hidden, activation=activation, eps=eps) for _ in range(depth)]
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(dim, eps)
        self.projection = nn.Linear(dim, out, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.projection.weight, std=dim**-0.5)

    def features(self, tokens: Tensor, skip: int = 0) -> Tensor:
        """One vector per token, (B, L, dim): what cross-attention looks at. skip: the last blocks are left out."""
        self._require_tokens(tokens)
        skip = integer("skip", skip, least=0)
        require(skip <= len(self.blocks), "skip", skip, f"at most the {len(self.blocks)} blocks there are")
        x = self.token(tokens) + self.position[: tokens.shape[1]]  # (B, L, dim)
        seen = masks.causal(tokens.shape[1], x.device)
        for block in self.blocks[: len(self.blocks) - skip]:
            x = block(x, mask=seen)
        return self.norm(x)

    def encode(self, tokens: Tensor) -> Encoded:
        """The caption's vector, one vector per token, and which tokens stand at or before END (`conditioning`)."""
        features = self.features(tokens)
        first_end = self.first_end(tokens)
        pooled = self.projection(features[torch.arange(len(tokens), device=tokens.device), first_end])  # (B, out)
        return Encoded(pooled, features, self.told(tokens))

    def first_end(self, tokens: Tensor) -> Tensor:
        """Where each caption ends, (B,)."""
        return (tokens == self.end).int().argmax(1)  # argmax takes the first of equals

    def told(self, tokens: Tensor) -> Tensor:
        """Which tokens stand at or before END, (B, L) bool."""
        return torch.arange(tokens.shape[1], device=tokens.device) <= self.first_end(tokens)[:, None]

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = self.encode(tokens).vector
        assert pooled is not None
        return pooled

    def _require_tokens(self, tokens: Tensor) -> None:
        require_ids(tokens, self.length, self.vocab - 1)
        if tokens.device.type == "cpu":  # on a GPU reading them would make the host wait
            ended = bool((tokens == self.end).any(1).all())
            require(ended, "tokens", f"a row without END ({self.end})", "END in every row")


class Hidden(nn.Module):
    """A text tower's tokens alone, for `conditioning.Frozen`: of its last block, or of the `skip`-th before it.

    The tower's last norm follows in both cases. Stable Diffusion 1 reads CLIP's last block, 2 the penultimate one
    (skip 1). What the last block makes of any token but END is never looked at while CLIP trains; what the one before
    makes of it is, as the last block's keys and values.
    """

    def __init__(self, tower: TextTower, skip: int = 0):
        super().__init__()
        self.tower, self.skip, self.dim, self.out = tower, integer("skip", skip, least=0), tower.dim, 0

    def encode(self, tokens: Tensor) -> Encoded:
        return Encoded(None, self.tower.features(tokens, self.skip), self.tower.told(tokens))


class ImageTower(nn.Module):
    """Pictures (B, channels, side, side) in [−1, 1] → (B, out): a vision transformer read at its class token.

    patch: side of the squares that become tokens, a divisor of side. mean, std: per channel, of pixels in [0, 1], to
    normalise by; the default leaves [−1, 1] as it is. hidden, eps: as in `TextTower`. Source: arXiv 2010.11929, with
    CLIP's norm before the blocks.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        side: int,
        patch: int,
        dim: int,
        depth: int,
        heads: int,
        out: int,
        *,
        hidden: int | None = None,
        activation: Activation = F.gelu,
        eps: float = 1e-5,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ):
        super().__init__()
        require(side % patch == 0, "patch", patch, f"a divisor of side = {side}")
        self.channels, self.side = channels, side
        self.class_token = nn.Parameter(dim**-0.5 * torch.randn(dim))
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch, bias=False)
        self.position = nn.Parameter(0.01 * torch.randn(1 + (side // patch) ** 2, dim))
        blocks = [Block(dim, heads, hidden=hidden, activation=activation, eps=eps) for _ in range(depth)]
        self.norm_in, self.blocks, self.norm_out = nn.LayerNorm(dim, eps), nn.ModuleList(blocks), nn.LayerNorm(dim, eps)
        self.projection = nn.Linear(dim, out, bias=False)
        nn.init.normal_(self.projection.weight, std=dim**-0.5)
        for name, given in (("mean", mean), ("std", std)):
            values = (0.5,) * channels if given is None else given
            require(len(values) == channels, name, values, f"{channels} numbers")
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def features(self, pictures: Tensor) -> Tensor:
        """The class token's vector, then one per patch, row by row, before the last norm: (B, 1 + patches, dim)."""
        require_floating("pictures", pictures)
        require_shape("pictures", pictures, (None, self.channels, self.side, self.side))
        pictures = pictures.to(self.class_token.dtype)  # float64 from NumPy, or half-precision weights
        x = self.patches(((pictures + 1) / 2 - self.mean) / self.std)  # (B, dim, side/patch, side/patch)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], dim=1) + self.position
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, pictures: Tensor) -> Tensor:
        return self.projection(self.norm_out(self.features(pictures)[:, 0]))  # (B, out)


class CLIP(nn.Module):
    """A text tower and an image tower with the same `out`, and one learned scale, exp(log_scale) ≤ 100."""

    def __init__(self, text: TextTower, image: ImageTower):
        super().__init__()
        widths = text.projection.out_features, image.projection.out_features
        require(widths[0] == widths[1], "text, image", widths, "towers with the same out")
        self.text, self.image = text, image
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    @property
    def scale(self) -> Tensor:
        """1/temperature, at most 100; 1/0.07 before training."""
        return self.log_scale.clamp(max=MAX_LOG_SCALE).exp()

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 → unit vectors (B, out)."""
        return F.normalize(self.text(tokens), dim=-1)

    def encode_image(self, pictures: Tensor) -> Tensor:
        """(B, channels, side, side) in [−1, 1] → unit vectors (B, out)."""
        return F.normalize(self.image(pictures), dim=-1)

    def logits(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        """scale · cosine of every picture with every text, (pictures, texts)."""
        return self.scale * self.encode_image(pictures) @ self.encode_text(tokens).T

    def loss(self, x0: Tensor, tokens: Tensor) -> Tensor:
        """`contrastive_loss` of a batch of pairs, (B,), for `training.fit`; other processes' pairs are not compared."""
        with torch.no_grad():  # set back, not clamped on the way: a clamp's gradient is 0, and the scale would be stuck
            self.log_scale.clamp_(max=MAX_LOG_SCALE)
        return contrastive_loss(self.encode_image(x0), self.encode_text(tokens), self.log_scale.exp())
