"""Clips by a transformer of pictures: T = 1 is the image model, frames before and after φ, any size; packed clips."""

import pytest
import torch
from torch.autograd.functional import jacobian

from minidiff import times
from minidiff.backbones import packed
from minidiff.backbones.dit import DiT
from minidiff.backbones.packed import Packed
from minidiff.backbones.video_dit import VideoDiT
from minidiff.conditioning import Conditioned, Words
from minidiff.denoiser import Denoiser
from minidiff.guidance import cfg
from minidiff.nn.spacetime import clips_of, frames_of
from minidiff.predictions import VELOCITY
from minidiff.randomness import randn, seeded
from minidiff.samplers import heun, sample
from minidiff.schedules import Linear
from minidiff.training import diffuse, fit
from minidiff.weights import fingerprint

WIDE = 12  # of the context
X, TIME, TEXT = randn((2, 3, 4, 8, 8), seeded(0)), torch.tensor([0.3, 0.7]), randn((2, 5, WIDE), seeded(1))
VALID = torch.arange(5) < torch.tensor([5, 2])[:, None]


def shaken(net: torch.nn.Module, seed: int = 5) -> torch.nn.Module:
    """None of the parameters is zero."""
    generator = seeded(seed)
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return net.eval().requires_grad_(False)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def image(**options) -> DiT:
    return shaken(DiT(3, (8, 8), 2, dim=32, depth=2, heads=2, **options))


PICTURES = {
    "plain": ({}, {}),
    "rotary": ({"rotary": (8, 8), "qk_norm": True}, {}),
    "adaLN": ({"conditioning": "adaLN"}, {"vector": randn((2, 32), seeded(3))}),
    "shared": ({"shared": True}, {"vector": randn((2, 32), seeded(3))}),
    "cross": ({"context_dim": WIDE, "rotary": (8, 8)}, {"context": TEXT, "context_mask": VALID}),
    "merged": ({"context_dim": WIDE, "reads": "merged"}, {"context": TEXT, "context_mask": VALID}),
}
kinds = pytest.mark.parametrize("kind", PICTURES)


@kinds
@pytest.mark.parametrize("sparse", [False, True])
def test_a_clip_of_one_frame_is_the_image_models_picture_to_the_bit(kind, sparse):
    """Before φ has learned anything, and after."""
    options, given = PICTURES[kind]
    net, one = VideoDiT(image(**options), sparse=sparse), X[:, :, :1]
    wanted = net.image(X[:, :, 0], TIME, **given)
    assert torch.equal(net(one, TIME, **given)[:, :, 0], wanted)
    shaken(net.time)
    assert torch.equal(net(one, TIME, **given)[:, :, 0], wanted)
    assert gap(net(one, TIME, temporal=True, **given)[:, :, 0], wanted) > 1e-2
    assert gap(net(one, TIME.flip(0), **given)[:, :, 0], wanted) > 1e-2


@kinds
@pytest.mark.parametrize("alpha", [None, 0.5])
def test_new_temporal_blocks_leave_every_frame_to_the_image_model(kind, alpha):
    options, given = PICTURES[kind]
    net = VideoDiT(image(**options), alpha=alpha)
    apart = net(X, TIME, temporal=False, **given)
    assert torch.equal(net(X, TIME, **given), apart)
    every = {k: v.repeat_interleave(4, 0) for k, v in given.items()}
    wanted = clips_of(net.image(frames_of(X), TIME.repeat_interleave(4), **every), 2)
    assert gap(apart, wanted) <= 1e-5
    shaken(net.time)
    assert torch.equal(net(X, TIME, temporal=False, **given), apart)
    assert gap(net(X, TIME, **given), apart) > 1e-2


@pytest.mark.parametrize("sparse", [False, True])
def test_frames_depend_on_one_another_through_what_is_temporal_alone(sparse):
    net, x = VideoDiT(image(rotary=(8, 8)), sparse=sparse), X[:1, :, :, :2, :2]
    shaken(net.time)

    def reach(temporal):
        slopes = jacobian(lambda z: net(z, TIME[:1], temporal=temporal), x)
        return slopes.abs().movedim((2, 7), (0, 1)).flatten(2).amax(2)  # (T, T)

    apart = reach(False)
    assert float((apart - apart.diag().diag()).sum()) == 0
    assert float(apart.diag().min()) > 1e-2
    assert float(reach(True).min()) > 1e-4


@kinds
def test_clips_of_a_batch_do_not_mix(kind):
    options, given = PICTURES[kind]
    net = shaken(VideoDiT(image(**options)))
    out, second = net(X, TIME, **given), {k: v[1:] for k, v in given.items()}
    assert gap(net(X[1:], TIME[1:], **second), out[1:]) <= 1e-5
    assert gap(net(X[:1], TIME[1:], **second), out[1:]) > 1e-2


@pytest.mark.parametrize("size", [(1, 8, 8), (2, 4, 12), (7, 6, 2)])
def test_any_number_of_frames_and_any_aspect(size):
    net = shaken(VideoDiT(image(rotary=(8, 8))))
    assert net(randn((1, 3, *size), seeded(0)), TIME[:1]).shape == (1, 3, *size)
    fixed = shaken(VideoDiT(image()))
    assert fixed(randn((1, 3, 6, 8, 8), seeded(0)), TIME[:1]).shape == (1, 3, 6, 8, 8)
    with pytest.raises(ValueError, match="x_t: got"):
        fixed(randn((1, 3, 6, 8, 6), seeded(0)), TIME[:1])


@pytest.mark.parametrize("sparse", [False, True])
def test_a_time_per_frame_is_that_frames_own(sparse):
    net = VideoDiT(image(**PICTURES["cross"][0]), sparse=sparse)
    given, frames = PICTURES["cross"][1], torch.tensor([[0.1, 0.4, 0.6, 0.9], [0.2, 0.2, 0.2, 0.8]])
    as_map = frames[:, None, :, None, None]
    every = {k: v.repeat_interleave(4, 0) for k, v in given.items()}
    wanted = clips_of(net.image(frames_of(X), frames.flatten(), **every), 2)
    assert gap(net(X, as_map, temporal=False, **given), wanted) <= 1e-5
    assert gap(net(X, as_map.flip(2), temporal=False, **given), wanted) > 1e-2
    shaken(net.time)
    alike = TIME[:, None, None, None, None]
    wanted = net(X, TIME, **given)
    for times_of in (alike, alike.expand(2, 1, 4, 1, 1), alike.expand(2, 1, 4, 8, 8)):
        assert gap(net(X, times_of, **given), wanted) <= 1e-5
    assert gap(net(X, as_map, **given), wanted) > 1e-2


def test_rows_that_are_pictures_pass_by_the_temporal_blocks():
    net, marked = shaken(VideoDiT(image(rotary=(8, 8)), alpha=0.5)), torch.tensor([False, True])
    found = net(X, TIME, pictures=marked)
    assert gap(found[1], net(X, TIME, temporal=False)[1]) <= 1e-6
    assert gap(found[0], net(X, TIME)[0]) <= 1e-6
    assert gap(found[1], net(X, TIME)[1]) > 1e-2


def test_a_picture_beside_every_frame():
    net, beside = shaken(VideoDiT(image(concat=2))), randn((2, 2, 4, 8, 8), seeded(4))
    found = net(X, TIME, concat=beside, temporal=False)
    wanted = net.image(X[:, :, 2], TIME, concat=beside[:, :, 2])
    assert gap(found[:, :, 2], wanted) <= 1e-5
    assert gap(found[:, :, 1], wanted) > 1e-2


def test_only_phi_learns_and_a_denoiser_of_clips_samples_as_one_of_pictures_does():
    """θ by its hash, to the bit; and the image model gives the same pictures as before."""
    words, net = Words(9, 5, WIDE, heads=2), VideoDiT(image(**PICTURES["cross"][0]))
    model = Denoiser(Conditioned(words, net), Linear(), VELOCITY).requires_grad_(True)
    tokens, before = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]]), fingerprint(net.image)
    said, began = fingerprint(words), fingerprint(net.time)
    draw = lambda g: {"x0": torch.randn(2, 3, 4, 8, 8, generator=g), "tokens": tokens}
    *_, last = fit(model, diffuse(draw), 3, groups=lambda m: m.net.backbone.temporal_parameters(), bar=False)
    assert (fingerprint(net.image), fingerprint(words)) == (before, said)
    assert fingerprint(net.time) != began
    guided = cfg(last.ema, {"tokens": tokens}, {"tokens": torch.zeros_like(tokens)}, 2.0)
    *_, clips = sample(guided, X, times.linear(2), heun(Linear()))
    assert clips.shape == X.shape
    assert gap(clips, X) > 1e-2
    *_, last = fit(model, diffuse(draw), 3, groups=lambda m: m.net.backbone.parameters(), bar=False)
    assert fingerprint(net.image) != before  # the control: with all parameters in the group, θ moves


def test_another_image_model_takes_the_place_of_theta():
    """φ, trained on one θ, goes on top of a θ that was fine-tuned elsewhere."""
    net, other = shaken(VideoDiT(image(rotary=(8, 8)))), shaken(image(rotary=(8, 8)), seed=9)
    before, phi = net(X, TIME), fingerprint(net.time)
    net.image = other
    assert torch.equal(net(X[:, :, :1], TIME)[:, :, 0], other(X[:, :, 0], TIME))
    assert fingerprint(net.time) == phi
    assert gap(net(X, TIME), before) > 1e-2


def test_tune_a_video_trains_its_queries_and_what_is_temporal():
    net = VideoDiT(image(**PICTURES["cross"][0]), sparse=True)
    tuned = {id(p) for p in net.tuned_parameters()}
    names = {name for name, p in net.named_parameters() if id(p) in tuned}
    theta = {f"image.blocks.{k}.{at}.q.{kind}" for k in (0, 1) for at in ("attention", "cross") for kind in PARTS}
    assert {name for name in names if not name.startswith("time.")} == theta
    assert {name for name in names if name.startswith("time.")} == {f"time.{n}" for n, _ in net.time.named_parameters()}


PARTS = ("weight", "bias")


# --- packed clips and pictures


def clip_net(**options) -> DiT:
    return shaken(DiT(3, (4, 8, 8), (1, 2, 2), dim=24, depth=2, heads=2, rotary=(4, 4, 4), **options))


MIXED = [randn((3, *size), seeded(i)) for i, size in enumerate([(4, 4, 4), (1, 8, 6), (2, 2, 8), (1, 4, 4)])]
WHEN, TEXTS = torch.tensor([0.2, 0.5, 0.9, 0.4]), randn((4, 5, WIDE), seeded(1))
KNOWN = torch.arange(5) < torch.tensor([5, 2, 3, 1])[:, None]
READS = {
    "no text": ({}, {}),
    "vector": ({"shared": True}, {"vector": randn((4, 24), seeded(3))}),
    "cross": ({"context_dim": WIDE}, {"context": TEXTS, "context_mask": KNOWN}),
    "merged": ({"context_dim": WIDE, "reads": "merged"}, {"context": TEXTS, "context_mask": KNOWN}),
    "all words": ({"context_dim": WIDE}, {"context": TEXTS}),
}


@pytest.mark.parametrize("name", READS)
def test_packed_is_separate(name, monkeypatch):
    """Each clip and picture comes out as if it were alone; without the mask, it does not."""
    options, given = READS[name]
    net = clip_net(**options)
    rows = [{k: v[i : i + 1] for k, v in given.items()} for i in range(4)]
    alone = [net(x[None], WHEN[i : i + 1], **row)[0] for i, (x, row) in enumerate(zip(MIXED, rows))]
    together = Packed(net)(MIXED, WHEN, **given)
    assert max(map(gap, together, alone)) <= 1e-5
    assert min(map(gap, Packed(net)(MIXED, WHEN.flip(0), **given), alone)) > 1e-2
    changed = [MIXED[0] + 1, *MIXED[1:]]
    assert all(torch.equal(a, b) for a, b in zip(Packed(net)(changed, WHEN, **given)[1:], together[1:]))
    monkeypatch.setattr(packed.masks, "packed", lambda owner: torch.ones(len(owner), len(owner), dtype=torch.bool))
    assert min(map(gap, Packed(net)(MIXED, WHEN, **given), alone)) > 1e-2


def test_packed_learns_as_separate_does():
    net = clip_net().requires_grad_(True)
    sum(out.square().sum() for out in Packed(net)(MIXED, WHEN)).backward()
    packed_grads = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    sum(net(x[None], WHEN[i : i + 1]).square().sum() for i, x in enumerate(MIXED)).backward()
    for mine, p in zip(packed_grads, net.parameters()):
        assert gap(mine, p.grad) <= 1e-4 * (1 + float(p.grad.abs().max()))
    assert max(float(g.abs().max()) for g in packed_grads) > 0.1


BAD = {
    "image": lambda: VideoDiT(image(conditioning="in-context")),
    "x_t": lambda: VideoDiT(image())(X[:, :, 0], TIME),
    "t": lambda: VideoDiT(image())(X, torch.rand(3)),
    "context": lambda: VideoDiT(image())(X, TIME, context=TEXT),
    "concat": lambda: VideoDiT(image(concat=2))(X, TIME, concat=X[:, :2, 0]),
    "pictures": lambda: VideoDiT(image())(X, TIME, pictures=torch.ones(2, dtype=torch.bool)),
    "net": lambda: Packed(DiT(3, (4, 8, 8), (1, 2, 2), dim=24, depth=1, heads=2)),
    "parts": lambda: Packed(clip_net())([X[0, :, 0]], TIME[:1]),
    "t of parts": lambda: Packed(clip_net())([X[0]], TIME),
    "context of parts": lambda: Packed(clip_net(context_dim=WIDE))([X[0]], TIME[:1], context=TEXT),
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_named(argument):
    with pytest.raises(ValueError, match=rf"^{argument.split()[0]}: got"):
        BAD[argument]()
