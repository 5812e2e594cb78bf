"""What SDXL adds to the time equals diffusers' UNet2DConditionModel with addition_embed_type "text_time" (fp32)."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from minidiff.conditioning import Channels, Encoded, Sized
from minidiff.nn.embeddings import add_vector
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
POOLED, WAVES, WIDTH = 12, 16, 16
TOLERANCE = 1e-5


class Given(nn.Module):
    """A pooled sentence that is there already."""

    def forward(self, batch, *, pooled):
        return {"vector": pooled}


def theirs(numbers: int) -> UNet2DConditionModel:
    net = UNet2DConditionModel(
        sample_size=8, block_out_channels=(WIDTH, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=4,
        cross_attention_dim=20, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=WAVES,
        projection_class_embeddings_input_dim=POOLED + numbers * WAVES,
    )  # fmt: skip
    generator = seeded(3)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return net.eval().requires_grad_(False)


def ours(net: UNet2DConditionModel, numbers: int) -> Sized:
    module, added = Sized(Given(), POOLED, numbers, 4 * WIDTH, WAVES), net.add_embedding
    for mine, given in ((module.mlp[0], added.linear_1), (module.mlp[2], added.linear_2)):
        mine.load_state_dict(given.state_dict())
    return module.eval().requires_grad_(False)


def embedding_in(net, t, **added) -> torch.Tensor:
    """What the first residual block of a whole forward pass gets beside its picture: (B, 4·WIDTH)."""
    seen = []
    handle = net.down_blocks[0].resnets[0].register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    net(randn((2, 4, 8, 8), seeded(0)), t, randn((2, 5, 20), seeded(1)), added_cond_kwargs=added)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("numbers", [6, 5], ids=["base", "refiner"])
def test_the_time_gets_the_sentence_and_the_sizes(numbers):
    net, t = theirs(numbers), torch.tensor([700, 13])
    pooled = randn((2, POOLED), seeded(2))
    sizes = torch.tensor([[64.0, 96, 0, 17, 64, 64], [24, 16, 9, 0, 64, 64]])[:, :numbers]
    expected = embedding_in(net, t, text_embeds=pooled, time_ids=sizes)
    module, time = ours(net, numbers), net.time_embedding(net.time_proj(t))
    got = lambda sizes, pooled: add_vector(time, module(2, sizes=sizes, pooled=pooled)["vector"])
    gap = lambda sizes, pooled: float((got(sizes, pooled) - expected).abs().max())
    assert gap(sizes, pooled) <= TOLERANCE
    for wrong in ((sizes.roll(1, 1), pooled), (sizes.flip(0), pooled), (sizes, pooled.flip(0)), (sizes + 1, pooled)):
        assert gap(*wrong) > 100 * TOLERANCE
    assert module.mlp[0].weight.shape == (4 * WIDTH, POOLED + numbers * WAVES)


def test_two_encoders_are_joined_as_in_the_pipeline():
    """StableDiffusionXLPipeline.encode_prompt: `hidden_states[-2]` of both, dim=-1, and the pooled one of the last."""
    small = {"vocab_size": 30, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    config = lambda width: CLIPTextConfig(
        hidden_size=width, projection_dim=10, bos_token_id=28, eos_token_id=29, pad_token_id=0, **small
    )
    torch_models = [CLIPTextModel(config(8)).eval(), CLIPTextModelWithProjection(config(12)).eval()]
    tokens = torch.tensor([[28, 4, 5, 29, 0], [28, 7, 29, 0, 0]])

    class Theirs(nn.Module):
        def __init__(self, model, dim):
            super().__init__()
            self.model, self.dim, self.out = model, dim, 10

        def encode(self, tokens):
            read = self.model(tokens, output_hidden_states=True)
            return Encoded(getattr(read, "text_embeds", None), read.hidden_states[-2], None)

    with torch.no_grad():
        read = [model(tokens, output_hidden_states=True) for model in torch_models]
        expected = torch.cat([r.hidden_states[-2] for r in read], dim=-1)
        said = Channels([Theirs(m, d) for m, d in zip(torch_models, (8, 12))], [None, None]).encode(tokens)
    assert said.mask is None
    assert torch.equal(said.context, expected)
    assert torch.equal(said.vector, read[1].text_embeds)
    assert said.context.shape == (2, 5, 20)
