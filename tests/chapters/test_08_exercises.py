"""The exercises of chapter 08: wrong answers that look right, and right ones beside them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from _answers import answers
from torch import Generator

from minidiff.backbones.autoregressive import TextToCodes
from minidiff.codecs import dvae
from minidiff.course.exercise import find

# ---------------------------------------------------------------- a draw with a gradient


def softened(
    noise=lambda u: -torch.log(-torch.log(u)),
    soften=lambda noisy, tau: (noisy / tau).softmax(1),
    code=lambda logits, noisy: noisy.argmax(1),
    straight=lambda hard, soft: soft + (hard - soft).detach(),
    plain=lambda soft: soft,
):
    def gumbel_softmax(logits, u, temperature):
        noisy = logits + noise(u)
        codes, soft = code(logits, noisy), soften(noisy, temperature)
        hard = F.one_hot(codes, logits.shape[1]).movedim(-1, 1).to(soft.dtype)
        return codes, plain(soft), straight(hard, soft)

    return gumbel_softmax


def overflowing(noisy, tau):
    return (noisy / tau).exp() / (noisy / tau).exp().sum(1, keepdim=True)


SOFTENED = {
    "no noise": softened(noise=torch.zeros_like),
    "uniform noise": softened(noise=lambda u: u),
    "normal noise": softened(noise=lambda u: 2**0.5 * torch.erfinv(2 * u - 1)),
    "noise of its own": softened(noise=lambda u: -torch.log(-torch.log(torch.rand_like(u)))),
    "the noise turned round": softened(noise=lambda u: -torch.log(-torch.log(1 - u))),
    "overflowing": softened(soften=overflowing),
    "times the temperature": softened(soften=lambda noisy, tau: (noisy * tau).softmax(1)),
    "no temperature": softened(soften=lambda noisy, tau: noisy.softmax(1)),
    "the likeliest code": softened(code=lambda logits, noisy: logits.argmax(1)),
    "the last of equal ones": softened(code=lambda logits, noisy: noisy.shape[1] - 1 - noisy.flip(1).argmax(1)),
    "the gradient doubled": softened(straight=lambda hard, soft: hard + 2 * (soft - soft.detach())),
    "the value of the soft one": softened(straight=lambda hard, soft: soft - hard + hard.detach()),
    "the sum of both": softened(straight=lambda hard, soft: hard + soft),
    "soft without a gradient": softened(plain=lambda soft: soft.detach()),
}

# ---------------------------------------------------------------- two losses


def weighed(
    text=lambda each, real: (each * real).sum(1) / real.sum(1).clamp(min=1),
    picture=lambda each: each.mean(1),
    share=lambda weight: 1 / (1 + weight),
    real=lambda wanted: wanted != 0,
    costs=lambda logits, wanted: F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none"),
):
    def weighted_loss(words, tokens, drawn, codes, weight):
        wanted = tokens[:, 1:]
        told = text(costs(words, wanted), real(wanted))
        return share(weight) * (told + weight * picture(costs(drawn, codes)))

    return weighted_loss


def by_probabilities(logits, wanted):
    return -logits.softmax(-1).gather(-1, wanted[..., None])[..., 0].log()


LOSSES = {
    "0/0 without words": weighed(text=lambda each, real: (each * real).sum(1) / real.sum(1)),
    "the sum of the words": weighed(text=lambda each, real: (each * real).sum(1)),
    "the sum of the codes": weighed(picture=lambda each: each.sum(1)),
    "the first padding counts": weighed(real=lambda wanted: F.pad(wanted[:, :-1] != 0, (1, 0), value=True)),
    "the padding of the weightiest": weighed(text=lambda each, real: (each * real).sum(1) / real.sum(1).max()),
    "always seven": weighed(share=lambda weight: 1 / 8),
    "by the weight": weighed(share=lambda weight: 1 / max(weight, 1)),
    "rounded to nothing": weighed(costs=by_probabilities),
    "bits": weighed(
        costs=lambda logits, wanted: F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none") * 1.4427
    ),
    "code 0 is padding, too": weighed(
        costs=lambda logits, wanted: F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none", ignore_index=0)
    ),
}

# ---------------------------------------------------------------- the next code


def chosen(
    bar=lambda logits, k: logits.topk(min(k, logits.shape[-1]), -1).values[:, -1:],
    below=lambda logits, bar: logits < bar,
    rest=float("-inf"),
    pick=lambda noisy: noisy.argmax(-1),
    mix=lambda logits, noise, tau: logits + tau * noise,
):
    def choose(logits, noise, temperature, top_k):
        return pick(mix(logits.masked_fill(below(logits, bar(logits, top_k)), rest), noise, temperature))

    return choose


CHOSEN = {
    "the bar itself is out": chosen(below=lambda logits, bar: logits <= bar),
    "no bar": chosen(below=lambda logits, bar: torch.zeros_like(logits, dtype=torch.bool)),
    "more than there are": chosen(bar=lambda logits, k: logits.topk(k, -1).values[:, -1:]),
    "one more": chosen(bar=lambda logits, k: logits.topk(min(k + 1, logits.shape[-1]), -1).values[:, -1:]),
    "by the size": chosen(below=lambda logits, bar: logits.abs() < bar.abs()),
    "minus ten": chosen(rest=-10.0),
    "the last of equal ones": chosen(pick=lambda noisy: noisy.shape[-1] - 1 - noisy.flip(-1).argmax(-1)),
    "divided by nothing": chosen(mix=lambda logits, noise, tau: logits / tau + noise),
    "almost cold": chosen(mix=lambda logits, noise, tau: logits + max(tau, 0.5) * noise),
    "the root of the temperature": chosen(mix=lambda logits, noise, tau: logits + tau**0.5 * noise),
    "noise subtracted": chosen(mix=lambda logits, noise, tau: logits - tau * noise),
    "noise of its own": chosen(mix=lambda logits, noise, tau: logits - tau * (-torch.rand_like(noise).log()).log()),
    "kept in a column": chosen(pick=lambda noisy: noisy.argmax(-1, keepdim=True)),
}

# ---------------------------------------------------------------- text diffs


def turned(
    direction=lambda z_from, z_to: F.normalize(z_to - z_from, dim=0),
    angle=lambda z, way: torch.acos((z @ way).clamp(-1, 1))[:, None],
    fractions=lambda f: (1 - f, f),
    guard=lambda angle, there, z: torch.where(angle.sin() > 1e-6, there / angle.sin(), z),
):
    def text_diff(z, z_from, z_to, fraction):
        way = direction(z_from, z_to)
        theta, (a, b) = angle(z, way), fractions(fraction)
        return guard(theta, (a * theta).sin() * z + (b * theta).sin() * way, z)

    return text_diff


TURNED = {
    "0/0": turned(guard=lambda angle, there, z: there / angle.sin()),
    "an angle where there is none": turned(guard=lambda angle, there, z: there / angle.sin().clamp(min=1e-6)),
    "normed instead of divided": turned(guard=lambda angle, there, z: F.normalize(there, dim=0)),
    "not divided": turned(guard=lambda angle, there, z: there),
    "backwards": turned(direction=lambda z_from, z_to: F.normalize(z_from - z_to, dim=0)),
    "from the other end": turned(fractions=lambda f: (f, 1 - f)),
    "half of the fraction": turned(fractions=lambda f: (1 - f / 2, f / 2)),
    "the angle of the sentences": turned(angle=lambda z, way: torch.acos(way[:1] * 0 + z[0] @ way).expand(len(z), 1)),
    "an acute angle": turned(angle=lambda z, way: torch.acos((z @ way).abs().clamp(0, 1))[:, None]),
    "the cosine for the angle": turned(angle=lambda z, way: (z @ way)[:, None]),
}

# ---------------------------------------------------------------- the build

SLIPS = {
    "no causal mask": (" & torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()", ""),
    "a token does not see itself": (".tril()", ".tril(-1)"),
    "it sees one token of the future": (".tril()", ".tril(1)"),
    "the past upside down": (".tril()", ".triu()"),
    "the whole caption is seen": (
        ".tril()",
        ".tril().logical_or(torch.arange(x.shape[1]) < told)",
    ),
    "padding seen": ("real = F.pad(tokens != 0", "real = F.pad(tokens >= 0"),
    "padding as a row": ("real[:, None, None, :]", "real[:, None, :, None]"),
    "BEGIN is not seen": ("F.pad(tokens != 0, (0, x.shape[1] - told), value=True)", "F.pad(F.pad(tokens != 0, (0, 1)), "
                          "(0, x.shape[1] - told - 1), value=True)"),
    "column by column": ("row[:, None] + column", "column[:, None] + row"),
    "codes without places": ("code[codes] + grid[: codes.shape[1]]", "code[codes]"),
    "places one too late": ("grid[: codes.shape[1]]", "grid.roll(-1, 0)[: codes.shape[1]]"),
    "words without places": ("word[tokens] + place[:told]", "word[tokens]"),
    "no root": (" / (dim // heads) ** 0.5", ""),
    "the root of all channels": ("(dim // heads) ** 0.5", "dim**0.5"),
    "keys for values": ("shares @ split(h @ v)", "shares @ split(h @ k)"),
    "heads interleaved": ("(heads, -1)).transpose(1, 2)", "(-1, heads)).permute(0, 3, 1, 2)"),
    "not normalised in the block": ("h = norm(x)", "h = x"),
    "not normalised before the MLP": ("F.gelu(norm(x) @ up)", "F.gelu(x @ up)"),
    "not normalised at the end": ("        x = norm(x)\n", ""),
    "another activation": ("F.gelu(", "F.relu("),
    "no way around the attention": ("x = x + (shares", "x = (shares"),
    "no way around the MLP": ("x = x + F.gelu", "x = F.gelu"),
    "one block": ("range(0, len(layers), 6)", "range(0, 6, 6)"),
    "the last word is asked, too": ("x[:, : told - 1] @ next_word", "x[:, :told] @ next_word"),
    "words from the second on": ("x[:, : told - 1] @ next_word", "x[:, 1:told] @ next_word"),
    "codes asked at themselves": ("return *logits(codes[:, :-1]), codes", "words, drawn = logits(codes)\n    return "
                                  "words, drawn[:, 1:], codes"),
    "BEGIN and all codes asked": ("logits(codes[:, :-1])", "logits(codes)"),
    "the first row chooses": ("[1][:, -1]", "[1][:, 0]"),
    "one noise for all places": ("noise[:, i])", "noise[:, 0])"),
    "the noise of the next": ("noise[:, i])", "noise[:, i - 1])"),
    "never chosen": ("choose(logits(codes)[1][:, -1], noise[:, i])", "logits(codes)[1][:, -1].argmax(-1)"),
    "what is given is forgotten": ("        for i in range(codes", "        codes = codes[:, :0]\n"
                                   "        for i in range(codes"),
    "no gradient": ("return *logits(codes[:, :-1]), codes", "with torch.no_grad():\n        return "
                    "*logits(codes[:, :-1]), codes"),
    "no gradient to the codes": ("code[codes] + grid", "code.detach()[codes] + grid"),
    "no gradient to the places": (".flatten(0, 1)  #", ".flatten(0, 1).detach()  #"),
}  # fmt: skip


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "08-write-codes", {"torch": torch, "F": F, "Tensor": torch.Tensor})


TestAnswers = answers(
    chapter="08_dalle",
    build="08-write-codes",
    experiment="08-how-cold",
    wrong={"08-gumbel-softmax": SOFTENED, "08-two-losses": LOSSES, "08-next-code": CHOSEN, "08-text-diff": TURNED},
    right={
        "08-gumbel-softmax": softened(),
        "08-two-losses": weighed(),
        "08-next-code": chosen(),
        "08-text-diff": turned(),
    },
    slips=SLIPS,
)


def test_the_softened_draw_is_the_librarys():
    logits = torch.randn(2, 5, 3, 3, generator=Generator().manual_seed(0))
    u = torch.rand(logits.shape, generator=Generator().manual_seed(1))
    soft = find("08-gumbel-softmax").reference(logits, u, 0.6)[1]
    assert torch.allclose(soft, dvae.gumbel_softmax(logits, 0.6, Generator().manual_seed(1)), atol=1e-6)
    assert not torch.allclose(soft, dvae.gumbel_softmax(logits, 0.6, Generator().manual_seed(2)), atol=0.1)  # control


def test_the_loss_is_the_librarys():
    g = Generator().manual_seed(0)
    model = TextToCodes(7, 5, 6, 2, dim=8, depth=1, heads=2)
    tokens, codes = torch.tensor([[1, 3, 4, 2, 0], [1, 5, 0, 0, 0]]), torch.randint(6, (2, 2, 2), generator=g)
    words, drawn = model(tokens, codes)
    loss = find("08-two-losses").reference
    found = loss(words, tokens, drawn, codes.flatten(1), 7.0)
    assert torch.allclose(found, model.loss(tokens, codes), atol=1e-6)
    assert not torch.allclose(found, loss(words, tokens, drawn, codes.flatten(1), 1.0), atol=1e-3)  # the control


def test_nothing_that_comes_later_changes_a_logit(built):
    weights, heads, tokens, codes, noise, choose = find("08-write-codes").draw(0)[1]
    write, other = built(), codes.clone()
    other[:, 5] = (other[:, 5] + 1) % 5
    with torch.no_grad():
        first, second = (write(weights, heads, tokens, given, noise, choose) for given in (codes, other))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1][:, :6], second[1][:, :6])
        assert float((first[1][:, 6:] - second[1][:, 6:]).abs().amax((0, 2)).min()) > 1e-6  # the control


def test_a_caption_may_be_padded_to_any_length(built):
    weights, heads, tokens, codes, noise, _ = find("08-write-codes").draw(0)[1]
    write, short = built(), tokens[:1, :3]
    one = lambda logits, noise: logits.argmax(-1)
    with torch.no_grad():
        longer = write(weights, heads, F.pad(short, (0, 1)), codes[:1], noise[:1], one)[1]
        found = write(weights, heads, short, codes[:1], noise[:1], one)[1]
        open_to_it = built(SLIPS["padding seen"])(weights, heads, F.pad(short, (0, 1)), codes[:1], noise[:1], one)[1]
    assert torch.allclose(longer, found, atol=1e-12)
    assert not torch.allclose(open_to_it, found, atol=1e-3)  # the control
