"""Stable Diffusion 3 joins its text encoders as `encoders.joined` does: diffusers' pipeline, tiny random encoders."""

from types import SimpleNamespace

import pytest
import torch

from minidiff.encoders.joined import join

pytestmark = pytest.mark.parity

TEXTS = ["a cat left of a dog", "a dog"]


class Tokenizer:
    """Words by their place in a list, for a pipeline that wants a tokenizer."""

    model_max_length = 77

    def __init__(self, end: int, vocab: int):
        self.end, self.vocab = end, vocab

    def __call__(self, texts, padding="max_length", max_length=77, **_):
        rows = [[len(word) % (self.vocab - 3) for word in text.split()] + [self.end] for text in texts]
        longest = max_length if padding == "max_length" else max(map(len, rows))
        return SimpleNamespace(input_ids=torch.tensor([row + [0] * (longest - len(row)) for row in rows]))

    def batch_decode(self, ids):
        return [""] * len(ids)


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusion3Pipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    torch.manual_seed(0)

    def tower(width, out):
        options = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2}
        return CLIPTextModelWithProjection(
            CLIPTextConfig(vocab_size=40, projection_dim=out, num_hidden_layers=3, eos_token_id=39, **options)
        ).eval()

    t5 = T5EncoderModel(T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).eval()
    words, joint = Tokenizer(39, 40), SimpleNamespace(config=SimpleNamespace(joint_attention_dim=32))
    pipe = StableDiffusion3Pipeline.__new__(StableDiffusion3Pipeline)  # its encoders alone: no transformer, no VAE
    parts = {
        "text_encoder": tower(8, 6), "text_encoder_2": tower(12, 10), "text_encoder_3": t5, "tokenizer": words,
        "tokenizer_2": words, "tokenizer_3": words, "transformer": joint,
    }  # fmt: skip
    for name, part in parts.items():
        object.__setattr__(pipe, name, part)
    pipe.tokenizer_max_length = 77
    return pipe


@torch.no_grad()
def theirs(pipe):
    found = pipe.encode_prompt(
        TEXTS, None, None, device=torch.device("cpu"), do_classifier_free_guidance=False, max_sequence_length=20
    )
    return found[0], found[2]


@torch.no_grad()
def parts(pipe):
    """Penultimate states and pooled vectors of the CLIPs, and T5's states, as the pipeline reads them."""
    ids = Tokenizer(39, 40)(TEXTS).input_ids
    clips = [tower(ids, output_hidden_states=True) for tower in (pipe.text_encoder, pipe.text_encoder_2)]
    long = pipe.text_encoder_3(Tokenizer(39, 40)(TEXTS, max_length=20).input_ids)[0]
    return [c.hidden_states[-2] for c in clips], [c.text_embeds for c in clips], long


def test_channels_zeros_and_sequence_are_the_pipelines(pipeline):
    context, pooled = theirs(pipeline)
    states, vectors, long = parts(pipeline)
    assert context.shape == (2, 77 + 20, 32)
    assert torch.equal(join(states, long), context)
    assert torch.equal(torch.cat(vectors, 1), pooled)
    assert not torch.equal(join(states[::-1], long), context)  # the control: the other CLIP first
