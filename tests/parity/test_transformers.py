"""CLIP equals transformers' CLIPModel on the same weights (float32), read from a folder that transformers wrote."""

import pytest
import torch
import transformers

from minidiff.encoders.clip import CLIP
from minidiff.encoders.clip_folder import OPENAI_MEAN, OPENAI_STD, read_clip

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
VOCAB, LENGTH, SIDE = 50, 12, 16


def written(folder, seed: int, activation: str = "quick_gelu", eos: int = VOCAB - 1) -> transformers.CLIPModel:
    """A small CLIPModel with random weights, none of them at its initial 0 or 1, saved to `folder`."""
    text = {
        "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": LENGTH, "hidden_act": activation,
        "eos_token_id": eos, "bos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
        "image_size": SIDE, "patch_size": 4, "hidden_act": activation,
    }  # fmt: skip
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.eval().save_pretrained(folder)
    return model


def inputs(seed: int, eos: int = VOCAB - 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with END at different places and other ids after it; pictures in [−1, 1]."""
    generator = torch.Generator().manual_seed(100 + seed)
    tokens = torch.randint(3, VOCAB - 1, (6, LENGTH), generator=generator)
    tokens[torch.arange(6), torch.tensor([2, 4, 6, 8, 10, 11])] = eos
    return tokens, 2 * torch.rand((5, 3, SIDE, SIDE), generator=generator) - 1


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


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
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
