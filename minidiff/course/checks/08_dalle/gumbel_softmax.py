"""Exercise 08-gumbel-softmax: a draw among codes, and a gradient for it."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.validate import describe, require
from minidiff.values import describe_value

from .._common import normal

Three = tuple[Tensor, Tensor, Tensor]


def _draw_logits(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, int, int, int], temperature: float, spread: float = 1.5, dtype: torch.dtype = torch.float64
    ) -> Inputs:
        u = torch.rand(shape, generator=g, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        return (spread * normal(shape, g)).to(dtype).requires_grad_(), u.to(dtype), temperature

    alike = lambda inputs: (torch.zeros_like(inputs[0]).requires_grad_(), torch.full_like(inputs[1], 0.4), inputs[2])
    return [
        case((3, 5, 2, 4), 0.7),
        case((4, 4, 4, 4), 1.0),  # as many pictures as codes, rows and columns
        case((1, 6, 1, 3), 2.5),  # one picture
        case((2, 3, 2, 2), 0.5, dtype=torch.float32),
        case((2, 4, 3, 1), 0.02, spread=20.0),  # exponents that overflow without care
        case((2, 1, 2, 2), 0.3),  # one code: nothing to choose
        alike(case((2, 3, 2, 1), 0.8)),  # all alike, even the noise: the first is taken
    ]


def gumbel_softmax(logits: Tensor, u: Tensor, temperature: float) -> Three:
    """(the codes drawn, their softened one-hot, the one-hot with the gradient of the softened)."""
    noisy = logits - (-u.log()).log()
    soft, codes = (noisy / temperature).softmax(1), noisy.argmax(1)
    return codes, soft, _straight(codes, soft)


def _straight(codes: Tensor, soft: Tensor) -> Tensor:
    hard = F.one_hot(codes, soft.shape[1]).movedim(-1, 1).to(soft)
    return soft + (hard - soft).detach()


def _one_logarithm(logits: Tensor, u: Tensor, temperature: float) -> Three:
    noisy = logits - u.log()
    soft = (noisy / temperature).softmax(1)
    return noisy.argmax(1), soft, _straight(noisy.argmax(1), soft)


def _upside_down(logits: Tensor, u: Tensor, temperature: float) -> Three:
    noisy = logits + (-u.log()).log()
    soft = (noisy / temperature).softmax(1)
    return noisy.argmax(1), soft, _straight(noisy.argmax(1), soft)


def _noise_after(logits: Tensor, u: Tensor, temperature: float) -> Three:
    noisy = logits / temperature - (-u.log()).log()
    soft = noisy.softmax(1)
    return noisy.argmax(1), soft, _straight(noisy.argmax(1), soft)


def _no_gradient(logits: Tensor, u: Tensor, temperature: float) -> Three:
    soft = ((logits - (-u.log()).log()) / temperature).softmax(1)
    codes = soft.argmax(1)
    return codes, soft, torch.zeros_like(soft).scatter(1, codes[:, None], 1.0)


def _never_hard(logits: Tensor, u: Tensor, temperature: float) -> Three:
    soft = ((logits - (-u.log()).log()) / temperature).softmax(1)
    return soft.argmax(1), soft, soft


def _last_axis(logits: Tensor, u: Tensor, temperature: float) -> Three:
    noisy = logits - (-u.log()).log()
    soft, codes = (noisy / temperature).softmax(-1), noisy.argmax(1)
    return codes, soft, _straight(codes, soft)


def _by_logarithms(logits: Tensor, u: Tensor, temperature: float) -> Three:
    """By places in rows, and the gradient as a factor that is 1."""
    rows = (logits - torch.log(torch.log(1 / u))).movedim(1, -1) / temperature
    soft = (rows - rows.logsumexp(-1, keepdim=True)).exp()
    codes = rows.max(-1).indices
    hard = torch.eye(logits.shape[1], dtype=logits.dtype)[codes]
    there = lambda y: y.movedim(-1, 1)
    return codes, there(soft), there(hard) + there(soft) - there(soft).detach()


def _seen(answer: Three, logits: Tensor, u: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """The three things, and the gradients that reach the logits from the second and from the third."""
    fits = isinstance(answer, (tuple, list)) and len(answer) == 3
    require(fits, "what your function returns", describe_value(answer), "three things: codes, soft, straight")
    codes, soft, straight = answer
    pull, gradients = torch.arange(logits.numel(), dtype=logits.dtype).reshape(logits.shape).cos(), []
    for name, value in (("soft", soft), ("straight", straight)):
        fits = isinstance(value, Tensor) and value.shape == logits.shape
        require(fits, f"your {name}", describe(value), f"the shape of logits, {tuple(logits.shape)}")
        if not value.requires_grad:
            gradients.append(torch.zeros_like(logits))
            continue
        gradients += torch.autograd.grad((value * pull).sum(), [logits], retain_graph=True, materialize_grads=True)
    return codes, soft, straight, *gradients


EXERCISE = Exercise(
    id="08-gumbel-softmax",
    title="A draw with a gradient",
    points=3,
    difficulty=3,
    importance=4,
    minutes=15,
    draw=_draw_logits,
    reference=gumbel_softmax,
    probe=_seen,
    mistakes=(
        Mistake("one-logarithm", _one_logarithm, "Your noise is −ln u, which is exponential. The argmax with it is no "
            "draw from the softmax: Gumbel's noise takes a second logarithm, −ln(−ln u)."),
        Mistake("upside-down", _upside_down, "You added ln(−ln u). That is Gumbel's noise with its sign turned, whose "
            "long tail points down. The draws come out flatter than the softmax says. Add −ln(−ln u)."),
        Mistake("noise-after-the-temperature", _noise_after, "You divided the logits by τ and added the noise then. So "
            "τ changes *which* codes are drawn. Here it is to soften one and the same draw: divide the noisy sum."),
        Mistake("no-gradient", _no_gradient, "Your one-hot has the right value and no gradient: the encoder behind it "
            "would never learn. Add the softened one and take it away again, detached."),
        Mistake("never-hard", _never_hard, "Your third tensor is the softened one. The decoder would learn to read "
            "mixtures, which it is never given later. Its value must be a one-hot, only its gradient the soft one's."),
        Mistake("over-the-places", _last_axis, "Your softmax goes along the last axis, so that places compete for a "
            "code. Codes compete at each place: take it along axis 1."),
    ),
    alternatives=(_by_logarithms,),
    shortcuts=("minidiff.codecs.dvae.gumbel_softmax", "minidiff.codecs.dvae.DVAE", "minidiff.randomness.gumbel"),
    hints=(
        "Logits plus noise once; its argmax along axis 1; its softmax, divided by τ; then a tensor with the value of "
        "one and the gradient of the other.",
        "Noise: `-torch.log(-torch.log(u))`. One-hot: `F.one_hot(codes, K)` has the codes on the *last* axis: "
        "`.movedim(-1, 1)`, and the dtype of `soft`.",
        "`soft + (hard - soft).detach()`: the two `soft` cancel in value, not in gradient.",
    ),
    expected="the mean gradient is off by 0.91 ± 0.00 of the exact one at τ = 4, 0.52 ± 0.00 at 1, 0.05 ± 0.01 at "
    "0.12; one draw scatters by 0.06, 0.66 and 3.5 ± 0.0 times it, straight through by 0.26, 1.4 and 5.6 ± 0.0 "
    "(5 seeds).",
    trap="with the wrong noise everything trains, as any noise explores a little, and a softened one-hot trains even "
    "better, until the decoder is given real codes.",
)  # fmt: skip
