"""The prior equals diffusers' PriorTransformer, the decoder's conditioning UnCLIPTextProjModel, on the same weights."""

import pytest
import torch
from diffusers import PriorTransformer
from torch import Tensor, nn

from minidiff.backbones.prior import Prior
from minidiff.conditioning import Conditioned, Encoded, FromEmbedding, Frozen
from minidiff.randomness import randn, seeded

try:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
except ImportError:  # where it stood before diffusers 0.37
    from diffusers.pipelines.unclip.text_proj import UnCLIPTextProjModel

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
CHANNELS, LENGTH, DIM, BATCH = 20, 7, 64, 3


def shaken(module: nn.Module) -> nn.Module:
    generator = seeded(3)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval().requires_grad_(False)


class Told(nn.Module):
    """A reader that says what it was given, whatever the tokens."""

    dim = out = CHANNELS

    def __init__(self, encoded: Encoded):
        super().__init__()
        self.encoded, self.weight = encoded, nn.Parameter(torch.zeros(1))

    def encode(self, tokens: Tensor) -> Encoded:
        return self.encoded


def theirs() -> PriorTransformer:
    net = PriorTransformer(
        num_attention_heads=4, attention_head_dim=DIM // 4, num_layers=3, embedding_dim=CHANNELS,
        num_embeddings=LENGTH, additional_embeddings=4,
    )  # fmt: skip
    return shaken(net)


def copied(other: PriorTransformer, encoded: Encoded) -> Conditioned:
    reader = Frozen(Told(encoded), LENGTH, context_dim=DIM, vector_dim=DIM)
    ours = Prior(CHANNELS, LENGTH, DIM, depth=3, heads=4, features=DIM)
    pairs = [(reader.to_context, other.encoder_hidden_states_proj), (reader.to_vector, other.embedding_proj)]
    pairs += [(ours.stem, other.proj_in), (ours.norm, other.norm_out), (ours.head, other.proj_to_clip_embeddings)]
    pairs += [(ours.time.mlp[0], other.time_embedding.linear_1), (ours.time.mlp[2], other.time_embedding.linear_2)]
    for block, given in zip(ours.blocks, other.transformer_blocks, strict=True):
        at, mine = given.attn1, block.attention
        pairs += [(mine.q, at.to_q), (mine.k, at.to_k), (mine.v, at.to_v), (mine.out, at.to_out[0])]
        pairs += [(block.norm1, given.norm1), (block.norm2, given.norm3)]
        pairs += [(block.up, given.ff.net[0].proj), (block.down, given.ff.net[2])]
    for mine, given in pairs:
        mine.load_state_dict(given.state_dict())
    ours.place.data = other.positional_embedding[0].clone()
    ours.place.data[-1] += other.prd_embedding[0, 0]  # their query is a token and its place, ours its place
    return Conditioned(reader, ours).eval().requires_grad_(False)


def told(lengths: tuple[int, ...] = (7, 4, 2)) -> Encoded:
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    return Encoded(randn((BATCH, CHANNELS), seeded(1)), randn((BATCH, LENGTH, CHANNELS), seeded(2)), mask)


X_T, STEPS, TOKENS = randn((BATCH, CHANNELS), seeded(0)), torch.tensor([3, 500, 999]), torch.zeros(BATCH, LENGTH).long()


def wanted(other: PriorTransformer, encoded: Encoded, mask: Tensor | None, steps: Tensor = STEPS) -> Tensor:
    return other(X_T, steps, encoded.vector, encoded.context, mask).predicted_image_embedding


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_the_prior_is_theirs() -> None:
    other, encoded = theirs(), told()
    out = copied(other, encoded)(X_T, STEPS / 1000, tokens=TOKENS)
    assert gap(out, wanted(other, encoded, encoded.mask)) <= TOLERANCE
    assert out.std() > 0.1


def test_a_caption_that_is_all_padding() -> None:
    """−10,000 on every word lets a padded word look at those before it, ours at itself; the query sees none of them."""
    other, encoded = theirs(), told((0, 0, 0))
    assert gap(copied(other, encoded)(X_T, STEPS / 1000, tokens=TOKENS), wanted(other, encoded, encoded.mask)) <= 1e-5


def test_without_a_mask_of_words_theirs_is_not_causal_either() -> None:
    """Ours is: no mask means that every word counts."""
    other, encoded = theirs(), told()
    out = copied(other, encoded._replace(mask=None))(X_T, STEPS / 1000, tokens=TOKENS)
    assert gap(out, wanted(other, encoded, torch.ones(BATCH, LENGTH, dtype=torch.bool))) <= TOLERANCE
    assert gap(out, wanted(other, encoded, None)) > 1000 * TOLERANCE


def test_padding_cut_off_is_padding_masked() -> None:
    """The last four places stay where they are; counted from the words' end they would be others."""
    other, encoded = theirs(), told((4, 4, 4))
    expected = wanted(other, encoded, encoded.mask)
    ours = copied(other, Encoded(encoded.vector, encoded.context[:, :4], None))
    assert gap(ours(X_T, STEPS / 1000, tokens=TOKENS), expected) <= TOLERANCE
    ours.backbone.place.data[-4:] = ours.backbone.place.data[4:8].clone()
    assert gap(ours(X_T, STEPS / 1000, tokens=TOKENS), expected) > 1000 * TOLERANCE


SLIPS = {
    "padding looked at": lambda other, told: wanted(other, told, torch.ones_like(told.mask)),
    "time in [0, 1]": lambda other, told: wanted(other, told, told.mask, STEPS / 1000),
    "the place of another token": lambda other, told: wanted(turned(other), told, told.mask),
}


def turned(other: PriorTransformer) -> PriorTransformer:
    other.positional_embedding.data = other.positional_embedding.data.roll(1, 1)
    return other


@pytest.mark.parametrize("slip", SLIPS)
def test_what_would_differ(slip: str) -> None:
    other, encoded = theirs(), told()
    out = copied(other, encoded)(X_T, STEPS / 1000, tokens=TOKENS)
    assert gap(out, SLIPS[slip](other, encoded)) > 1000 * TOLERANCE


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3)], ids=["time first", "embedding before the time"])
def test_the_order_of_the_tokens_counts(order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    other, encoded = theirs(), told()
    ours, stack = copied(other, encoded), torch.stack
    with monkeypatch.context() as patch:
        patch.setattr(torch, "stack", lambda parts, dim: stack([parts[i] for i in order], dim))
        out = ours(X_T, STEPS / 1000, tokens=TOKENS)
    assert gap(out, wanted(other, encoded, encoded.mask)) > 100 * TOLERANCE


def test_embeddings_are_brought_to_the_noise_by_one_number_here_by_mean_and_deviation_there() -> None:
    """Ours is the special case of mean 0 and deviation 1/√d."""
    other, z = theirs(), randn((BATCH, CHANNELS), seeded(5))
    other.clip_mean.data.zero_()
    other.clip_std.data.fill_(CHANNELS**-0.5)
    assert gap(other.post_process_latents(z), z / CHANNELS**0.5) <= 1e-6
    other.clip_mean.data.fill_(0.1)
    assert gap(other.post_process_latents(z), z / CHANNELS**0.5) > 0.05


def test_an_embedding_for_the_decoder() -> None:
    """Their four tokens are columns of one matrix, ours rows: the same map with its outputs in another order."""
    width, embedding = 12, randn((BATCH, CHANNELS), seeded(0))
    other = shaken(UnCLIPTextProjModel(clip_embeddings_dim=CHANNELS, time_embed_dim=DIM, cross_attention_dim=width))
    other.learned_classifier_free_guidance_embeddings.data.zero_()  # as it is initialised
    prompt, hidden = randn((2 * BATCH, CHANNELS), seeded(1)), randn((2 * BATCH, LENGTH, CHANNELS), seeded(2))
    context, time = other(
        image_embeddings=embedding, prompt_embeds=prompt, text_encoder_hidden_states=hidden,
        do_classifier_free_guidance=True,
    )  # fmt: skip
    ours = FromEmbedding(CHANNELS, DIM, width).requires_grad_(False)
    ours.to_vector.load_state_dict(other.clip_image_embeddings_project_to_time_embeddings.state_dict())
    state = other.clip_extra_context_tokens_proj.state_dict()
    ours.to_context.load_state_dict(
        {k: v.unflatten(0, (width, 4)).transpose(0, 1).flatten(0, 1) for k, v in state.items()}
    )
    given = ours(2 * BATCH, embedding=torch.cat([torch.zeros_like(embedding), embedding]))  # nothing comes first there
    assert gap(given["context"], context[:, :4]) <= TOLERANCE
    assert gap(given["vector"], time - other.embedding_proj(prompt)) <= TOLERANCE
    ours.to_context.load_state_dict(state)
    assert gap(ours(BATCH, embedding=embedding)["context"], context[BATCH:, :4]) > 1000 * TOLERANCE
