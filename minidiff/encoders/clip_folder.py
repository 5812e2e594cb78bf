"""CLIP models from a folder in the layout of transformers' CLIPModel: OpenAI's and OpenCLIP's weights."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from minidiff.checkpoints import load_tensors
from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.nn.block import Activation, gelu_tanh, quick_gelu
from minidiff.validate import require

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of pixels in [0, 1]
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
# What transformers' CLIPTextConfig and CLIPVisionConfig take where a folder leaves a field out.
TEXT = {
    "vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 512, "intermediate_size": 2048,
    "num_hidden_layers": 12, "num_attention_heads": 8, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "eos_token_id": 49407, "model_type": "clip_text_model",
}  # fmt: skip
VISION = {
    "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "model_type": "clip_vision_model",
}  # fmt: skip


def read_clip(folder: str | Path) -> CLIP:
    """Weights in transformers' layout: `config.json`, `model.safetensors`, perhaps the processor's file.

    Fields that `config.json` leaves out are transformers' defaults. Pictures are [−1, 1] here as everywhere; they are
    normalised inside, by the mean and standard deviation of `processor_config.json` or `preprocessor_config.json`, or
    OpenAI's. Resize them to `clip.image.side` first. The model comes in eval mode: dropout plays no part. `ValueError`
    if a file is missing, cut off or another model's, and for what is not computed here, by the name of its field.
    Pickled weights (`pytorch_model.bin`) are not read.
    """
    folder = Path(folder)
    config = _read_json(folder / "config.json")
    fits = config.get("model_type", "clip") == "clip"
    require(fits, "folder", f"{folder}, whose config.json is not a CLIPModel's", "one with the model_type 'clip'")
    width = _integer(config | {"projection_dim": config.get("projection_dim", 512)}, "projection_dim")
    model = CLIP(_text_tower(_section(config, "text_config", TEXT), width),
                 _image_tower(_section(config, "vision_config", VISION), width, _pixels(folder)))  # fmt: skip
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
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"folder: got {path}, which is cut off or not JSON ({error})") from error
    require(isinstance(told, dict), "folder", f"{path}, which is a {type(told).__name__}", "named values")
    return told


def _section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one tower. Old folders have them in `…_config_dict`, which then counts, also for what it omits."""
    told, old = config.get(name) or {}, config.get(f"{name}_dict")
    fits = isinstance(told, dict) and isinstance(old, (dict, type(None)))
    require(fits, "folder", f"{name} {told!r} in config.json", "named values")
    fields = {**defaults, **told, **({} if old is None else {**defaults, **old})}
    kind = fields["model_type"]
    require(
        kind == defaults["model_type"], "folder", f"a {name} of {kind!r}, not a CLIPModel's", defaults["model_type"]
    )
    return fields


def _integer(fields: Mapping[str, Any], name: str) -> int:
    value = fields[name]
    require(type(value) is int and value >= 1, "folder", f"{name} {value!r} in its configuration", "an integer ≥ 1")
    return value


def _integers(fields: Mapping[str, Any], *names: str) -> tuple[int, int, int]:
    a, b, c = (_integer(fields, name) for name in names)
    return a, b, c


def _shared(fields: Mapping[str, Any]) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """What both towers have: width, depth and heads; and by name the MLP's width, its activation and the norms' ε."""
    known: Mapping[str, Activation] = {
        "quick_gelu": quick_gelu, "gelu": F.gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh
    }  # fmt: skip
    name, eps = fields["hidden_act"], fields["layer_norm_eps"]
    require(isinstance(name, str) and name in known, "folder", f"hidden_act {name!r}", f"one of {sorted(known)}")
    require(isinstance(eps, (int, float)) and eps > 0, "folder", f"layer_norm_eps {eps!r}", "a positive number")
    sizes = _integers(fields, "hidden_size", "num_hidden_layers", "num_attention_heads")
    return sizes, {"hidden": _integer(fields, "intermediate_size"), "activation": known[name], "eps": float(eps)}


def _text_tower(fields: Mapping[str, Any], out: int) -> TextTower:
    sizes, named = _shared(fields)
    vocab, length = _integer(fields, "vocab_size"), _integer(fields, "max_position_embeddings")
    # Folders written before transformers 4.32 say 2 for OpenAI's END, which is the last id of the vocabulary.
    end = vocab - 1 if fields["eos_token_id"] == 2 else fields["eos_token_id"]
    fits = type(end) is int and 0 <= end < vocab
    require(fits, "folder", f"eos_token_id {end!r}", f"an id below vocab_size = {vocab}")
    return TextTower(vocab, length, *sizes, out, end=end, **named)


def _image_tower(fields: Mapping[str, Any], out: int, pixels: Mapping[str, Any]) -> ImageTower:
    sizes, named = _shared(fields)
    shape = _integers(fields, "num_channels", "image_size", "patch_size")
    return ImageTower(*shape, *sizes, out, **named, **pixels)


def _pixels(folder: Path) -> dict[str, tuple[float, ...]]:
    """mean and std of the processor beside the weights, for pixels in [0, 1]; newer folders nest its fields."""
    fields: Any = {}
    for name, inner in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        told = _read_json(folder / name) if (folder / name).is_file() else {}
        fields = (told.get(inner) if inner else told) or fields
    require(isinstance(fields, dict), "folder", f"image_processor {fields!r}", "named values")
    scaled, factor = fields.get("do_rescale", True), fields.get("rescale_factor", 1 / 255)
    fits = scaled is True and isinstance(factor, float) and abs(255 * factor - 1) < 1e-6
    require(fits, "folder", f"do_rescale {scaled!r}, rescale_factor {factor!r}", "pixels divided by 255")
    found = {}
    for name, default, unchanged in (("mean", OPENAI_MEAN, 0.0), ("std", OPENAI_STD, 1.0)):
        values = fields.get(f"image_{name}", default)
        fits = isinstance(values, (list, tuple)) and all(isinstance(value, (int, float)) for value in values)
        require(fits, "folder", f"image_{name} {values!r}", "a number per channel")
        found[name] = tuple(float(value) if fields.get("do_normalize", True) else unchanged for value in values)
    return found


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
