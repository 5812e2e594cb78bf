"""CLIP equals transformers' CLIPModel on the same weights (float32), read from a folder that transformers wrote."""

import json

import pytest
import torch
import transformers

from minidiff.encoders.clip import CLIP
from minidiff.encoders.clip_folder import OPENAI_MEAN, OPENAI_STD, TEXT, VISION, read_clip

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
VOCAB, LENGTH, SIDE = 50, 12, 16


def written(
    folder, seed: int, activation: str = "quick_gelu", eos: int = VOCAB - 1, omit: tuple[str, str] = ("", ""), **more
) -> transformers.CLIPModel:
    """A small CLIPModel with random weights, none of them at its initial 0 or 1, saved to `folder`.

    omit: a field that config.json leaves out, and where. more: fields that both towers share.
    """
    text = {
        "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": LENGTH, "hidden_act": activation,
        "eos_token_id": eos, "bos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
        "image_size": SIDE, "patch_size": 4, "hidden_act": activation,
    }  # fmt: skip
    config = {"text_config": text | more, "vision_config": vision | more, "projection_dim": 20}
    (config.get(omit[0]) or config).pop(omit[1], None)
    model = transformers.CLIPModel(transformers.CLIPConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.eval().save_pretrained(folder)
    if any(omit):
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return model


def inputs(seed: int, eos: int = VOCAB - 1, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with END at different places and other ids after it; pictures in [−1, 1]."""
    generator = torch.Generator().manual_seed(100 + seed)
    tokens = torch.randint(3, VOCAB - 1, (6, LENGTH), generator=generator)
    tokens[torch.arange(6), torch.tensor([2, 4, 6, 8, 10, 11])] = eos
    return tokens, 2 * torch.rand((5, 3, side, side), generator=generator) - 1


@torch.no_grad()
def reference(model: transformers.CLIPModel, tokens, pictures) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean, std = (torch.tensor(v)[:, None, None] for v in (OPENAI_MEAN, OPENAI_STD))
    out = model(input_ids=tokens, pixel_values=((pictures + 1) / 2 - mean) / std)
    return out.text_embeds, out.image_embeds, out.logits_per_image


@torch.no_grad()
def ours(model: CLIP, tokens, pictures) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return model.encode_text(tokens), model.encode_image(pictures), model.logits(pictures, tokens)


def gaps(found, wanted) -> list[float]:
    return [float((a - b).abs().max()) for a, b in zip(found, wanted)]


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_new"])
@pytest.mark.parametrize("seed", range(3))
def test_embeddings_and_logits_are_equal(tmp_path, seed, activation):
    model, (tokens, pictures) = written(tmp_path, seed, activation), inputs(seed)
    wanted = reference(model, tokens, pictures)
    assert max(gaps(ours(read_clip(tmp_path), tokens, pictures), wanted)) <= TOLERANCE
    assert float(wanted[2].std()) > 0.1  # the pairs are told apart: equality means something


@pytest.mark.parametrize("eos", [2, 7], ids=["folders before transformers 4.32", "any other id"])
def test_the_id_of_end_is_that_of_the_folder(tmp_path, eos):
    """With 2, transformers reads the largest id of each row."""
    model = written(tmp_path, 0, eos=eos)
    tokens, pictures = inputs(0, eos=VOCAB - 1 if eos == 2 else eos)
    assert max(gaps(ours(read_clip(tmp_path), tokens, pictures), reference(model, tokens, pictures))) <= TOLERANCE


OMITTED = [("text_config", name) for name in TEXT if name != "eos_token_id"]
OMITTED += [("vision_config", name) for name in VISION] + [("", "projection_dim"), ("", "model_type")]


@pytest.mark.parametrize("omit", OMITTED, ids="-".join)
def test_a_field_that_is_left_out_is_transformers_default(tmp_path, omit):
    """Control: the tests above, where it stands and is followed."""
    more, side = {"image_size": ({"patch_size": 32}, 224), "patch_size": ({"image_size": 32}, 32)}.get(
        omit[1], ({}, SIDE)
    )
    model, (tokens, pictures) = written(tmp_path, 0, omit=omit, **more), inputs(0, side=side)
    assert omit[1] not in json.loads((tmp_path / "config.json").read_text(encoding="utf-8")).get(omit[0], {})
    assert max(gaps(ours(read_clip(tmp_path), tokens, pictures), reference(model, tokens, pictures))) <= TOLERANCE


def test_the_norms_epsilon_is_that_of_the_folder(tmp_path):
    model, (tokens, pictures) = written(tmp_path, 0, layer_norm_eps=0.1), inputs(0)
    read, wanted = read_clip(str(tmp_path)), reference(model, tokens, pictures)
    assert max(gaps(ours(read, tokens, pictures), wanted)) <= TOLERANCE
    for module in read.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    assert min(gaps(ours(read, tokens, pictures), wanted)) > 1000 * TOLERANCE


def edited(folder, name: str, **fields) -> None:
    """Fields set in a JSON file of `folder`; a dict is merged into the one that stands there."""
    told = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).exists() else {}
    for key, value in fields.items():
        told[key] = told[key] | value if isinstance(value, dict) and isinstance(told.get(key), dict) else value
    (folder / name).write_text(json.dumps(told), encoding="utf-8")


def test_old_folders_count_on_their_second_configuration(tmp_path):
    written(tmp_path, 0, activation="gelu")
    edited(tmp_path, "config.json", text_config_dict=None)
    assert read_clip(tmp_path).text.blocks[0].activation is torch.nn.functional.gelu
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    second = {k: v for k, v in config["text_config"].items() if k != "hidden_act"}
    edited(tmp_path, "config.json", text_config_dict=second)
    theirs = transformers.CLIPModel.from_pretrained(tmp_path)  # what the second omits is the default, quick_gelu
    tokens, pictures = inputs(0)
    assert max(gaps(ours(read_clip(tmp_path), tokens, pictures), reference(theirs, tokens, pictures))) <= TOLERANCE


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_what_the_processor_does_to_pixels(tmp_path, name):
    model, (tokens, pictures) = written(tmp_path, 0), inputs(0)

    def put(**fields):
        (tmp_path / name).unlink(missing_ok=True)
        edited(tmp_path, name, **(fields if name[:3] == "pre" else {"image_processor": fields}))

    for fields, pixels in (
        ({"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 2, 3]}, None),
        ({"do_normalize": False}, (pictures + 1) / 2),
    ):
        put(**fields)
        theirs = transformers.CLIPImageProcessor.from_pretrained(tmp_path)
        mean, std = (torch.tensor(v)[:, None, None] for v in (theirs.image_mean, theirs.image_std))
        pixels = ((pictures + 1) / 2 - mean) / std if pixels is None else pixels
        with torch.no_grad():
            wanted = model(input_ids=tokens, pixel_values=pixels).image_embeds
        assert float((ours(read_clip(tmp_path), tokens, pictures)[1] - wanted).abs().max()) <= TOLERANCE
    for fields in ({"image_mean": "grey"}, {"image_std": None}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}):
        put(**fields)
        with pytest.raises(ValueError, match=f"folder: got .*{list(fields)[-1]}"):
            read_clip(tmp_path)


def test_pictures_of_any_precision(tmp_path):
    written(tmp_path, 0)
    read, (_, pictures) = read_clip(tmp_path), inputs(0)
    with torch.no_grad():
        assert torch.equal(read.encode_image(pictures.double()), read.encode_image(pictures))
        assert torch.allclose(read.double().encode_image(pictures), read.encode_image(pictures.double()), atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "siglip"}, "not a CLIPModel's"),
        ({"text_config": {"model_type": "chinese_clip_text_model"}}, "not a CLIPModel's"),
        ({"text_config": [1]}, "text_config"),
        ({"projection_dim": None}, "projection_dim None"),
        ({"text_config": {"hidden_act": "mish"}}, "hidden_act 'mish'"),
        ({"text_config": {"hidden_size": "32"}}, "hidden_size '32'"),
        ({"text_config": {"layer_norm_eps": None}}, "layer_norm_eps None"),
        ({"text_config": {"eos_token_id": [2, 3]}}, r"eos_token_id \[2, 3\]"),
        ({"text_config": {"eos_token_id": 49407}}, "eos_token_id 49407"),
        ({"vision_config": {"patch_size": [4, 4]}}, r"patch_size \[4, 4\]"),
        ({"vision_config": {"image_size": True}}, "image_size True"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, fields, message):
    written(tmp_path, 0)
    edited(tmp_path, "config.json", **fields)
    with pytest.raises(ValueError, match=f"folder: got .*{message}.*expected"):
        read_clip(tmp_path)


def slip_activation(model: CLIP) -> None:
    for block in model.text.blocks:
        block.activation = torch.nn.functional.gelu


def slip_causal(model: CLIP) -> None:
    for block in model.text.blocks:
        block.register_forward_pre_hook(lambda _, inputs, named: (inputs, named | {"mask": None}), with_kwargs=True)


def slip_pixels(model: CLIP) -> None:
    model.image.mean, model.image.std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)


def slip_norms(model: CLIP) -> None:
    model.image.norm_in, model.image.norm_out = model.image.norm_out, model.image.norm_in


@pytest.mark.parametrize("slip", [slip_activation, slip_causal, slip_pixels, slip_norms])
def test_slight_differences_are_found(tmp_path, slip):
    theirs, (tokens, pictures) = written(tmp_path, 0), inputs(0)
    model = read_clip(tmp_path)
    slip(model)
    assert max(gaps(ours(model, tokens, pictures), reference(theirs, tokens, pictures))) > 100 * TOLERANCE


def test_half_precision_and_a_processor_beside_it(tmp_path):
    model, (tokens, pictures) = written(tmp_path, 1), inputs(1)
    transformers.CLIPImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(tmp_path)
    model.half().save_pretrained(tmp_path)
    read = read_clip(tmp_path)
    assert torch.allclose(read.image.mean.flatten(), torch.tensor([0.5, 0.4, 0.3]))
    assert torch.allclose(read.image.std.flatten(), torch.tensor([0.2, 0.3, 0.4]))
    assert {p.dtype for p in read.parameters()} == {torch.float32}
    wanted = reference(model.float(), tokens, pictures)[0]  # texts know nothing of pixels
    assert float((ours(read, tokens, pictures)[0] - wanted).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_and_cut_off_files_are_named(tmp_path, name):
    written(tmp_path, 0)
    whole = (tmp_path / name).read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=name):
            read_clip(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=name):
        read_clip(tmp_path)


def test_another_models_folder_is_named(tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a CLIPModel's"):
        read_clip(tmp_path)
    written(tmp_path, 0)
    config = transformers.CLIPConfig.from_pretrained(tmp_path)
    config.text_config.num_hidden_layers = 4
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="do not fit"):
        read_clip(tmp_path)
