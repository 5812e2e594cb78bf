"""`Block` under a causal mask is a block of transformers' GPT-2 on the same weights, at once and token by token."""

import pytest
import torch
import transformers
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from minidiff.nn import masks
from minidiff.nn.block import Block, Past, gelu_tanh
from minidiff.randomness import randn, seeded

pytestmark = pytest.mark.parity
DIM, HEADS, N = 24, 4, 7


def pair(seed: int) -> tuple[Block, transformers.GPT2Model]:
    """Ours, and theirs as the one block of a model: random weights, none at its initial 0 or 1."""
    config = transformers.GPT2Config(
        vocab_size=5,
        n_positions=N,
        n_embd=DIM,
        n_layer=1,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    theirs, generator = transformers.GPT2Model(config).eval(), seeded(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.3 * randn(parameter.shape, generator)
    block = theirs.h[0]
    assert isinstance(block, GPT2Block)
    ours = Block(DIM, HEADS, activation=gelu_tanh).eval()
    ours.load_state_dict(renamed(block.state_dict()))
    return ours, theirs


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """GPT-2 keeps (in, out) matrices, and queries, keys and values in one."""
    maps = {
        "ln_1": "norm1", "attn.c_proj": "attention.out", "ln_2": "norm2", "mlp.c_fc": "up", "mlp.c_proj": "down",
    }  # fmt: skip
    found = {}
    for theirs, ours in maps.items():
        weight = state[f"{theirs}.weight"]
        found |= {f"{ours}.weight": weight.T if weight.ndim == 2 else weight, f"{ours}.bias": state[f"{theirs}.bias"]}
    parts = zip("qkv", state["attn.c_attn.weight"].chunk(3, 1), state["attn.c_attn.bias"].chunk(3))
    for name, weight, bias in parts:
        found |= {f"attention.{name}.weight": weight.T, f"attention.{name}.bias": bias}
    return found


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_a_block_equals_gpt2s(seed):
    ours, theirs = pair(seed)
    x = randn((3, N, DIM), seeded(10 + seed))
    # The model adds its positions and has a last norm: both are undone by hand.
    wanted = theirs(inputs_embeds=x).last_hidden_state
    found = theirs.ln_f(ours(x + theirs.wpe.weight, mask=masks.causal(N)))
    assert (found - wanted).abs().max() <= 1e-5
    past, parts = Past(), []
    for i in range(N):
        parts.append(ours((x + theirs.wpe.weight)[:, i : i + 1], past=past))
    assert (theirs.ln_f(torch.cat(parts, 1)) - wanted).abs().max() <= 1e-5
    # Controls: without the mask, and with the exact GELU, it is another block.
    assert (theirs.ln_f(ours(x + theirs.wpe.weight)) - wanted).abs().max() > 1e-2
    exact = Block(DIM, HEADS).eval()
    exact.load_state_dict(ours.state_dict())
    assert (theirs.ln_f(exact(x + theirs.wpe.weight, mask=masks.causal(N))) - wanted).abs().max() > 2e-5
