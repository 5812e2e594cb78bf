"""CLIP: two towers that put a picture and its caption at the same place on a sphere (arXiv 2103.00020).

A batch of B pairs makes B² similarities; in each row and each column of that table the true pair is the right answer to
a B-way question. Pictures are in [−1, 1]; tokens come from `encoders.tokenizer`. `CLIP.from_folder` reads OpenAI's and
OpenCLIP's weights from a folder in the layout of transformers' CLIPModel.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.checkpoints import load_tensors
from minidiff.encoders.tokenizer import END
from minidiff.nn.transformer import Block, quick_gelu
from minidiff.validate import describe, require, require_floating, require_shape

Activation = Callable[[Tensor], Tensor]
MAX_LOG_SCALE = math.log(100.0)
INITIAL_LOG_SCALE = math.log(1 / 0.07)
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of pixels in [0, 1]
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def contrastive_loss(image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of B pairs of unit vectors (B, D), one value per pair, (B,) (arXiv 2103.00020, figure 3).

    With logits S = scale·I·Tᵀ, pair i loses −½·log softmax(S[i, :])[i] − ½·log softmax(S[:, i])[i]. At scale 0 every
    pair loses ln B: chance.
    """
    require_shape("image_embeddings", image_embeddings, (None, None))
    require_shape("text_embeddings", text_embeddings, image_embeddings.shape)
    logits = scale * image_embeddings @ text_embeddings.T  # (B pictures, B texts)
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (
        F.cross_entropy(logits, target, reduction="none") + F.cross_entropy(logits.T, target, reduction="none")
    )


class TextTower(nn.Module):
    """Tokens (B, L) int64, L ≤ length → (B, out): a causal transformer, read at the first END.

    The causal mask lets END alone see the whole caption, and nothing that follows it. vocab: number of ids. end: the
    id of END (49407 in OpenAI's vocabulary). hidden: width of the MLPs, 4·dim unless given.
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
        end: int = END,
    ):
        super().__init__()
        self.vocab, self.length, self.end = vocab, length, end
        self.token = nn.Embedding(vocab, dim)
        self.position = nn.Parameter(0.01 * torch.randn(length, dim))
        blocks = [Block(dim, heads, hidden=hidden, activation=activation, causal=True) for _ in range(depth)]
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, out, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.projection.weight, std=dim**-0.5)

    def features(self, tokens: Tensor) -> Tensor:
        """One vector per token, (B, L, dim): what cross-attention looks at."""
        self._require_tokens(tokens)
        x = self.token(tokens) + self.position[: tokens.shape[1]]  # (B, L, dim)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.features(tokens)
        first_end = (tokens == self.end).int().argmax(1)  # argmax takes the first of equals
        return self.projection(features[torch.arange(len(tokens), device=tokens.device), first_end])  # (B, out)

    def _require_tokens(self, tokens: Tensor) -> None:
        fits = tokens.ndim == 2 and tokens.dtype == torch.int64 and 1 <= tokens.shape[1] <= self.length
        require(fits, "tokens", describe(tokens), f"int64 of shape (B, at most {self.length})")
        if tokens.device.type == "cpu":  # on a GPU reading them would make the host wait
            inside = bool(((tokens >= 0) & (tokens < self.vocab)).all())
            require(inside, "tokens", "ids outside the vocabulary", f"ids 0 … {self.vocab - 1}")
            ended = bool((tokens == self.end).any(1).all())
            require(ended, "tokens", f"a row without END ({self.end})", "END in every row")


class ImageTower(nn.Module):
    """Pictures (B, channels, side, side) in [−1, 1] → (B, out): a vision transformer read at its class token.

    patch: side of the squares that become tokens, a divisor of side. mean, std: per channel, of pixels in [0, 1], to
    normalise by; the default leaves [−1, 1] as it is. Source: arXiv 2010.11929, with CLIP's norm before the blocks.
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
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ):
        super().__init__()
        require(side % patch == 0, "patch", patch, f"a divisor of side = {side}")
        self.channels, self.side = channels, side
        self.class_token = nn.Parameter(dim**-0.5 * torch.randn(dim))
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch, bias=False)
        self.position = nn.Parameter(0.01 * torch.randn(1 + (side // patch) ** 2, dim))
        blocks = [Block(dim, heads, hidden=hidden, activation=activation) for _ in range(depth)]
        self.norm_in, self.blocks, self.norm_out = nn.LayerNorm(dim), nn.ModuleList(blocks), nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, out, bias=False)
        nn.init.normal_(self.projection.weight, std=dim**-0.5)
        for name, values in (("mean", mean or (0.5,) * channels), ("std", std or (0.5,) * channels)):
            require(len(values) == channels, name, values, f"{channels} numbers")
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def features(self, pictures: Tensor) -> Tensor:
        """The class token's vector, then one per patch, row by row, before the last norm: (B, 1 + patches, dim)."""
        require_floating("pictures", pictures)
        require_shape("pictures", pictures, (None, self.channels, self.side, self.side))
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

    @classmethod
    def from_folder(cls, folder: Path) -> "CLIP":
        """Weights in transformers' layout: `config.json`, `model.safetensors`, perhaps `preprocessor_config.json`.

        Pictures are [−1, 1] here as everywhere; they are normalised inside, by the folder's mean and standard deviation
        or OpenAI's. Resize them to `clip.image.side` first. `ValueError` if a file is missing, cut off or another
        model's. Pickled weights (`pytorch_model.bin`) are not read.
        """
        config = _read_json(folder / "config.json")
        processor = folder / "preprocessor_config.json"
        pixels = _read_json(processor) if processor.exists() else {}
        try:
            model = cls(_text_tower(config), _image_tower(config, pixels))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"folder: got {folder}, whose config.json is not a CLIPModel's ({error!r})") from error
        tensors, _ = load_tensors(folder / "model.safetensors")
        named = {_renamed(k): v.float() for k, v in tensors.items() if not k.endswith("position_ids")}
        try:
            model.load_state_dict(named)
        except RuntimeError as error:
            raise ValueError(f"folder: got {folder}, whose weights do not fit its config.json ({error})") from error
        return model.eval()


def _read_json(path: Path) -> dict[str, Any]:
    require(path.is_file(), "folder", str(path.parent), f"a folder with {path.name}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: got {path}, which is cut off or not JSON ({error})") from error


def _activation(name: str) -> Activation:
    known: Mapping[str, Activation] = {"quick_gelu": quick_gelu, "gelu": F.gelu}
    require(name in known, "folder", f"hidden_act {name!r}", f"one of {sorted(known)}")
    return known[name]


def _text_tower(config: Mapping[str, Any]) -> TextTower:
    c = config["text_config"]
    # Folders written before transformers 4.32 say 2 for OpenAI's END, which is the last id of the vocabulary.
    end = c["vocab_size"] - 1 if c.get("eos_token_id", 2) == 2 else c["eos_token_id"]
    return TextTower(
        c["vocab_size"],
        c["max_position_embeddings"],
        c["hidden_size"],
        c["num_hidden_layers"],
        c["num_attention_heads"],
        config["projection_dim"],
        hidden=c["intermediate_size"],
        activation=_activation(c["hidden_act"]),
        end=end,
    )


def _image_tower(config: Mapping[str, Any], pixels: Mapping[str, Any]) -> ImageTower:
    c = config["vision_config"]
    return ImageTower(
        c.get("num_channels", 3),
        c["image_size"],
        c["patch_size"],
        c["hidden_size"],
        c["num_hidden_layers"],
        c["num_attention_heads"],
        config["projection_dim"],
        hidden=c["intermediate_size"],
        activation=_activation(c["hidden_act"]),
        mean=tuple(pixels.get("image_mean", OPENAI_MEAN)),
        std=tuple(pixels.get("image_std", OPENAI_STD)),
    )


RENAMES = (
    (r"^text_model\.embeddings\.token_embedding\.", "text.token."),
    (r"^text_model\.final_layer_norm\.", "text.norm."),
    (r"^text_projection\.", "text.projection."),
    (r"^vision_model\.embeddings\.class_embedding$", "image.class_token"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "image.patches."),
    (r"^vision_model\.pre_layrnorm\.", "image.norm_in."),  # transformers' own spelling
    (r"^vision_model\.post_layernorm\.", "image.norm_out."),
    (r"^visual_projection\.", "image.projection."),
    (r"^logit_scale$", "log_scale"),
    (r"^text_model\.", "text."),
    (r"^vision_model\.", "image."),
    (r"embeddings\.position_embedding\.weight$", "position"),
    (r"encoder\.layers\.", "blocks."),
    (r"\.self_attn\.(q|k|v|out)_proj\.", r".attention.\1."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.mlp\.fc1\.", ".up."),
    (r"\.mlp\.fc2\.", ".down."),
)


def _renamed(key: str) -> str:
    """The name here of a tensor that transformers calls `key`."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key
