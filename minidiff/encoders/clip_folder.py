"""CLIP models from a folder in the layout of transformers' CLIPModel: OpenAI's and OpenCLIP's weights."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from minidiff.checkpoints import load_tensors
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.nn.block import Activation, quick_gelu
from minidiff.validate import require

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of pixels in [0, 1]
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def read_clip(folder: Path) -> CLIP:
    """Weights in transformers' layout: `config.json`, `model.safetensors`, perhaps `preprocessor_config.json`.

    Pictures are [−1, 1] here as everywhere; they are normalised inside, by the folder's mean and standard deviation
    or OpenAI's. Resize them to `clip.image.side` first. `ValueError` if a file is missing, cut off or another
    model's. Pickled weights (`pytorch_model.bin`) are not read.
    """
    config = _read_json(folder / "config.json")
    processor = folder / "preprocessor_config.json"
    pixels = _read_json(processor) if processor.exists() else {}
    try:
        model = CLIP(_text_tower(config), _image_tower(config, pixels))
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
