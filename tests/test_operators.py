"""Forward models: linearity, adjoints, what each keeps and loses, the noise's size, and clear refusals."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from minidiff.operators import (
    blur,
    downsample,
    grey,
    log_likelihood,
    mask,
    matrix,
    misfit,
    observe,
    pseudo_inverse,
    residual,
    strokes,
)
from minidiff.randomness import seeded

F64 = torch.float64
KEEP = torch.rand(16, 16, generator=seeded(5)) < 0.5
OPERATORS = {
    "mask": mask(KEEP), "blur": blur(1.0), "grey": grey(), "downsample": downsample(4), "strokes": strokes(4),
}  # fmt: skip
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def pictures(seed: int = 0, n: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=seeded(seed), dtype=F64)


@every_operator
def test_linear_and_one_picture_at_a_time(operator):
    x, y = pictures(0), pictures(1)
    torch.testing.assert_close(operator(2 * x - 3 * y), 2 * operator(x) - 3 * operator(y))
    torch.testing.assert_close(operator(x)[1:2], operator(x[1:2]))


@every_operator
def test_the_gradient_of_the_likelihood_is_the_adjoint_of_the_misfit(operator):
    """⟨∇ log p(y|x), v⟩ = ⟨y − A x, A v⟩/σ² for every v, with A v computed forwards; and not for another y."""
    x, v, noise = pictures(0).requires_grad_(), pictures(1), 0.3
    y = operator(pictures(2))
    (gradient,) = torch.autograd.grad(log_likelihood(operator, y, noise)(x).sum(), x)
    want = ((y - operator(x.detach())) * operator(v)).sum() / noise**2
    assert float((gradient * v).sum()) == pytest.approx(float(want), rel=1e-10)
    other = ((y.flip(0) - operator(x.detach())) * operator(v)).sum() / noise**2
    assert float((gradient * v).sum()) != pytest.approx(float(other), rel=1e-2)


def test_blur_is_scipys():
    x = pictures(n=1)
    for sigma in (0.6, 1.0, 1.7):
        radius = math.ceil(3 * sigma)
        want = gaussian_filter(x[0, 1].numpy(), sigma, radius=radius, mode="mirror")  # torch's "reflect"
        torch.testing.assert_close(blur(sigma)(x)[0, 1], torch.from_numpy(want))
    assert not torch.allclose(blur(1.0)(x), blur(1.2)(x), atol=1e-2)


@pytest.mark.parametrize("name", ["blur", "downsample", "strokes", "grey"])
def test_a_flat_picture_stays_flat(name):
    y = OPERATORS[name](torch.full((2, 3, 16, 16), 0.37, dtype=F64))
    torch.testing.assert_close(y, torch.full_like(y, 0.37))


def test_what_each_operator_keeps():
    x = pictures()
    assert bool((OPERATORS["mask"](x)[..., ~KEEP] == 0).all())
    assert torch.equal(OPERATORS["mask"](x)[..., KEEP], x[..., KEEP])
    assert OPERATORS["grey"](x).shape == (3, 1, 16, 16)
    torch.testing.assert_close(OPERATORS["downsample"](x)[1, 2, 3, 0], x[1, 2, 12:16, 0:4].mean())
    painted = OPERATORS["strokes"](x)
    torch.testing.assert_close(OPERATORS["strokes"](painted), painted)  # a projection
    torch.testing.assert_close(painted[:, :, ::4, ::4], OPERATORS["downsample"](x))
    A = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]], dtype=F64)
    points = torch.tensor([[1.0, 1.0], [0.5, 2.0]], dtype=F64)
    torch.testing.assert_close(matrix(A)(points), torch.tensor([[3.0, -1, 3], [4.5, -2, 1.5]], dtype=F64))


@every_operator
def test_the_residual_of_the_truth_is_the_noise(operator):
    x = pictures(n=200)
    y = observe(operator, x, 0.2, seeded(1))
    assert float(residual(operator, x, y).square().mean().sqrt()) == pytest.approx(0.2, rel=0.03)
    assert float(residual(operator, pictures(7, n=200), y).mean()) > 0.3
    assert torch.equal(observe(operator, x, 0.0, seeded(1)), operator(x))
    assert misfit(operator, x, y[:1]).shape == y.shape  # one observation for all


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
def test_the_gradient_of_no_residual_is_zero(dtype):
    """‖r‖ has a corner at 0; its gradient there is 0, not 0/0, for one picture as for all."""
    x = pictures(0).to(dtype).requires_grad_()
    y = strokes(4)(x).detach()
    y[1] += 1
    for at in ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0]):
        value = residual(strokes(4), x, y) * torch.tensor(at)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert bool(torch.isfinite(gradient).all())
        assert torch.equal(gradient.flatten(1).any(1), torch.tensor([False, at[1] > 0, False]))
    leaf = (strokes(4)(x) - y).detach().requires_grad_()
    (naive,) = torch.autograd.grad(leaf.flatten(1).square().mean(1).sqrt().sum(), leaf)
    assert bool(torch.isnan(naive[0]).any())  # the control


def test_half_precision_sums_its_squares_in_float32():
    x, y = torch.zeros(2, 3, 16, 16, dtype=torch.float16), torch.full((1, 3, 16, 16), 300.0, dtype=torch.float16)
    assert residual(lambda x: x, x, y).tolist() == pytest.approx([300, 300], rel=1e-3)
    assert log_likelihood(lambda x: x, y, 1.0)(x).tolist() == pytest.approx([-768 * 45_000] * 2, rel=1e-3)
    assert bool(torch.isinf(y.square().sum()))  # the control


@every_operator
def test_the_pseudo_inverse_explains_with_the_smallest_picture(operator):
    inverse, x = pseudo_inverse(operator, (3, 16, 16)), pictures()
    y = operator(x)
    back = inverse(y)
    kept = inverse(operator(back))
    torch.testing.assert_close(kept, back, rtol=1e-8, atol=1e-8)  # A⁺A is a projection
    assert float(((x - back) * back).sum().abs()) < 1e-8 * float(x.square().sum())  # … an orthogonal one
    if operator is not OPERATORS["blur"]:  # a blur shrinks some directions below rtol
        torch.testing.assert_close(operator(back), y)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: misfit(mask(KEEP), pictures(), 1.0), "y"),
        (lambda: misfit(mask(KEEP), pictures(), torch.tensor(1.0)), "y"),
        (lambda: mask(torch.ones(4)), "keep"),
        (lambda: blur(0.0), "sigma"),
        (lambda: blur(math.nan), "sigma"),
        (lambda: blur(1.0, 4), "size"),
        (lambda: blur(1.0, 9)(torch.zeros(1, 3, 4, 4)), "size"),
        (lambda: blur(1.0)(torch.zeros(3, 16, 16)), "x"),
        (lambda: grey()(torch.zeros(1, 1, 8, 8)), "x"),
        (lambda: downsample(0), "factor"),
        (lambda: downsample(3)(torch.zeros(1, 3, 16, 16)), "x"),
        (lambda: matrix(torch.ones(3)), "A"),
        (lambda: observe(grey(), torch.zeros(1, 3, 8, 8), -0.1, None), "noise"),
        (lambda: log_likelihood(grey(), torch.zeros(1, 1, 8, 8), 0.0), "noise"),
        (lambda: residual(grey(), torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)), "y"),
        (lambda: residual(grey(), torch.zeros(2, 3, 8, 8), torch.zeros(3, 1, 8, 8)), "y"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: got .+, expected .+"):
        call()
