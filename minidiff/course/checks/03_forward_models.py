"""The exercises of chapter 03: inputs, right answers, and wrong ones that deserve an answer of their own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import operators
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic
from minidiff.editing import gaussian_sdedit
from minidiff.encoders.tokenizer import END, N_SPECIALS, PAD, START
from minidiff.guidance import Denoise, likelihood
from minidiff.operators import Operator
from minidiff.schedules import DDPM, Cosine, Linear, Schedule

LogLikelihood = Callable[[Tensor], Tensor]

# --- 1: the physics as a log-likelihood -------------------------------------------------------------------------------


def _draw_measured(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], operator: Operator, noise: float, dtype: torch.dtype = torch.float64) -> Inputs:
        truth, x0 = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        clean = operator(truth)
        y = clean + noise * torch.randn(clean.shape, generator=g, dtype=torch.float64).to(dtype)
        return operator, x0, y, noise

    matrix = torch.randn(3, 5, generator=g, dtype=torch.float64)
    return [
        case((4, 5), operators.matrix(matrix), 0.5),  # points: three numbers measured of five
        case((4, 5), lambda x: x[:, :2], 1.0),  # two coordinates, as noisy as the data
        case((1, 5), operators.matrix(matrix), 2.0),  # a batch of one
        case((3, 3, 4, 4), operators.grey(), 0.5, torch.float32),  # pictures seen in grey
        case((2, 3, 4, 4), operators.downsample(2), 0.3),  # pictures seen in blocks
    ]


def log_likelihood(operator: Operator, x0: Tensor, y: Tensor, noise: float) -> Tensor:
    """−‖y − A(x0)‖²/(2·noise²), one value per picture."""
    return operators.log_likelihood(operator, y, noise)(x0)


LOG_LIKELIHOOD = Exercise(
    id="03-log-likelihood",
    title="What a measurement says about a picture",
    points=2,
    difficulty=1,
    importance=5,
    minutes=6,
    draw=_draw_measured,
    reference=log_likelihood,
    mistakes=(
        Mistake(
            "mean",
            lambda operator, x0, y, noise: -((y - operator(x0)) ** 2).flatten(1).mean(1) / (2 * noise**2),
            "You averaged over the measured numbers. Independent measurements multiply their probabilities, so their "
            "logarithms add: a thousand measured pixels say more than one. Use `sum`.",
        ),
        Mistake(
            "no-half",
            lambda operator, x0, y, noise: 2 * log_likelihood(operator, x0, y, noise),
            "You divided by σ², not by 2σ². The Gaussian's exponent is −(y − Ax)²/(2σ²); without the 2 every gradient "
            "is twice too long, as if w were 2.",
        ),
        Mistake(
            "sigma-once",
            lambda operator, x0, y, noise: noise * log_likelihood(operator, x0, y, noise),
            "You divided by the standard deviation where the variance belongs: −‖y − A(x0)‖²/(2σ²). `noise` is σ.",
        ),
        Mistake(
            "root",
            lambda operator, x0, y, noise: -(y - operator(x0)).flatten(1).norm(dim=1) / (2 * noise**2),
            "You took the length ‖y − A(x0)‖ and not its square. `norm` has a root in it; the gradient would then be "
            "equally long however far the picture is from the measurement.",
        ),
        Mistake(
            "one-axis-only",
            lambda operator, x0, y, noise: -((y - operator(x0)) ** 2).sum(1) / (2 * noise**2),
            "You added up over axis 1 only. For points that is everything, but a picture's measurement has more axes: "
            "`flatten(1)` first, so that one number per picture remains.",
        ),
        Mistake(
            "constant-kept",
            lambda operator, x0, y, noise: (
                torch.distributions.Normal(operator(x0), noise).log_prob(y).flatten(1).sum(1)
            ),
            "You kept the constant −log(σ√2π) of every measured number. It is part of the density, but it does not "
            "depend on x0, so it has no gradient; here, as in the library, it is left out.",
        ),
    ),
    alternatives=(
        lambda operator, x0, y, noise: -0.5 * (((operator(x0) - y) / noise) ** 2).reshape(len(x0), -1).sum(dim=-1),
        lambda operator, x0, y, noise: torch.stack(
            [-F.mse_loss(seen, want, reduction="sum") / (2 * noise**2) for seen, want in zip(operator(x0), y)]
        ),
    ),
    hints=(
        "y − A(x0) is the noise that would have been needed. How likely is noise of that size, for a Gaussian?",
        "log N(r; 0, σ²) = −r²/(2σ²) + a constant, for every measured number r; independent ones add up.",
        "`((y - operator(x0)) ** 2).flatten(1).sum(1)`; then the sign and 2σ².",
    ),
    expected="at the true picture it is −m/2 ± √(m/2) for m measured numbers: over 4000 draws with m = 12 the mean "
    "is −5.99 ± 0.06 (5 seeds, with σ = 0.1 and σ = 2).",
    trap="mean and sum have the same maximum, and so have ‖r‖ and ‖r‖²: a fit by gradient descent alone would not "
    "tell. Against a prior, which has its own opinion, the size of the gradient is what counts.",
)

# --- 2: the exact posterior of a Gaussian -----------------------------------------------------------------------------


def _draw_gaussians(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(dim: int, m: int, noise: float, known: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
        root = torch.randn(dim, dim, generator=g, dtype=torch.float64) + torch.eye(dim, dtype=torch.float64)
        root[:known] = 0  # these coordinates are known beforehand: variance 0
        mean, y = (torch.randn(n, generator=g, dtype=torch.float64) for n in (dim, m))
        matrix = torch.randn(m, dim, generator=g, dtype=torch.float64)
        return mean.to(dtype), (root @ root.T).to(dtype), matrix.to(dtype), y.to(dtype), noise

    return [
        case(3, 2, 0.5),
        case(2, 2, 2.0, dtype=torch.float32),
        case(3, 1, 0.0),  # measured without noise
        case(4, 2, 0.3, known=1),  # a prior that knows one coordinate
        case(1, 1, 1.0),
    ]


def gaussian_posterior(
    mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p(x0 | y) for x0 ~ N(mean, covariance), y = A·x0 + noise·n."""
    seen = matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix)).to(matrix)
    gain = torch.linalg.solve(seen, matrix @ covariance).T
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance


def _kalman(mean: Tensor, covariance: Tensor, matrix: Tensor, added: float) -> tuple[Tensor, Tensor]:
    """The gain K with `added` on the diagonal of A·C·Aᵀ, and K·A·C."""
    seen = matrix @ covariance @ matrix.T + added * torch.eye(len(matrix)).to(matrix)
    gain = torch.linalg.solve(seen, matrix @ covariance).T
    return gain, gain @ matrix @ covariance


def _with_noise(added: Callable[[float], float]) -> Callable[..., tuple[Tensor, Tensor]]:
    def posterior(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        gain, explained = _kalman(mean, covariance, matrix, added(noise))
        return mean + gain @ (y - matrix @ mean), covariance - explained

    return posterior


def _absolute(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    gain, explained = _kalman(mean, covariance, matrix, noise**2)
    return mean + gain @ y, covariance - explained


def _no_news(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    return gaussian_posterior(mean, covariance, matrix, y, noise)[0], covariance.clone()


def _less_known(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    gain, explained = _kalman(mean, covariance, matrix, noise**2)
    return mean + gain @ (y - matrix @ mean), covariance + explained


def _precisions(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    prior = torch.linalg.inv(covariance)
    after = torch.linalg.inv(prior + matrix.T @ matrix / noise**2)
    return after @ (prior @ mean + matrix.T @ y / noise**2), after


def _joseph(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """The same covariance as a sum of two squares, which rounding cannot make negative (Joseph's form)."""
    gain, _ = _kalman(mean, covariance, matrix, noise**2)
    left = torch.eye(len(mean)).to(mean) - gain @ matrix
    return left @ mean + gain @ y, left @ covariance @ left.T + noise**2 * gain @ gain.T


def _one_by_one(mean: Tensor, covariance: Tensor, matrix: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """One measured number after the other: each posterior is the next one's prior."""
    for row, value in zip(matrix, y):
        shared = covariance @ row
        gain = shared / (row @ shared + noise**2)
        mean, covariance = mean + gain * (value - row @ mean), covariance - torch.outer(gain, shared)
    return mean, covariance


GAUSSIAN_POSTERIOR = Exercise(
    id="03-gaussian-posterior",
    title="The posterior that can be computed",
    points=3,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_gaussians,
    reference=gaussian_posterior,
    mistakes=(
        Mistake(
            "no-noise",
            _with_noise(lambda noise: 0.0),
            "You left out the noise of the measurement: the covariance of y is A·C·Aᵀ + σ²·I. Without σ² every "
            "measurement is taken for exact, and its noise ends up in your estimate.",
        ),
        Mistake(
            "sigma-once",
            _with_noise(lambda noise: noise),
            "You added σ to the covariance of y; `noise` is a standard deviation, so add its square, σ²·I.",
        ),
        Mistake(
            "absolute",
            _absolute,
            "You let the gain act on y itself. What corrects the prior mean is the surprise, y − A·mean: a measurement "
            "that is just as expected must move nothing.",
        ),
        Mistake(
            "covariance-kept",
            _no_news,
            "Your mean is right, but you returned the prior's covariance. After a measurement you know more: "
            "subtract K·A·C.",
        ),
        Mistake(
            "covariance-grown",
            _less_known,
            "You added K·A·C to the covariance. A measurement cannot make you less certain: subtract it.",
        ),
        Mistake(
            "precisions",
            _precisions,
            "Your formula (add the precisions) is right where it exists, but it needs the inverse of the prior "
            "covariance and 1/σ². A prior that knows a coordinate, or a measurement without noise, breaks it. "
            "K = C·Aᵀ·(A·C·Aᵀ + σ²·I)⁻¹ needs neither.",
        ),
    ),
    alternatives=(_joseph, _one_by_one),
    hints=(
        "x0 and y are jointly Gaussian. What are the mean of y, the covariance of y, and that of x0 with y?",
        "Cov(x0, y) = C·Aᵀ and Cov(y) = A·C·Aᵀ + σ²·I. The gain is K = Cov(x0, y)·Cov(y)⁻¹.",
        "`mean + K @ (y - A @ mean)` and `covariance - K @ A @ covariance`; A is called `matrix`.",
    ),
    expected="with prior covariance [[1, 0.9], [0.9, 1]], x₁ measured as 1.5 with σ = 0.5: mean (1.200, 1.080), "
    "variances 0.200 and 0.352; a million weighted samples agree to 0.002 ± 0.001 (5 seeds).",
    trap="where the prior is wide and the noise is small, K·A is near the identity: then y and y − A·mean, with and "
    "without σ², give nearly the same mean. The covariance tells them apart.",
    rtol=1e-4,
    atol=1e-5,
)

# --- 3: naive projection ----------------------------------------------------------------------------------------------


def _draw_projections(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, matrix: Tensor, dtype: torch.dtype = torch.float64) -> Inputs:
        x0 = torch.randn(n, matrix.shape[1], generator=g, dtype=torch.float64)
        y = torch.randn(n, len(matrix), generator=g, dtype=torch.float64)
        return x0.to(dtype), matrix.to(dtype), y.to(dtype)

    def rows(m: int, dim: int) -> Tensor:
        return torch.randn(m, dim, generator=g, dtype=torch.float64)

    blocks = torch.zeros(2, 6, dtype=torch.float64)
    blocks[0, :3] = blocks[1, 3:] = 1 / 3  # the means of two blocks
    return [
        case(4, rows(2, 5)),
        case(3, torch.eye(4, dtype=torch.float64)[[0, 2]]),  # a mask
        case(3, blocks),
        case(1, rows(1, 3), torch.float32),  # a batch of one, one number measured
        case(2, rows(3, 3) + 2 * torch.eye(3, dtype=torch.float64)),  # everything measured
    ]


def project(x0: Tensor, matrix: Tensor, y: Tensor) -> Tensor:
    """x̂0 + A⁺(y − A·x̂0): the nearest picture that fits the measurement exactly."""
    return x0 + (y - x0 @ matrix.T) @ torch.linalg.pinv(matrix).T


PROJECT = Exercise(
    id="03-project",
    title="Overwrite what was measured",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_projections,
    reference=project,
    mistakes=(
        Mistake(
            "transpose",
            lambda x0, matrix, y: x0 + (y - x0 @ matrix.T) @ matrix,
            "You used Aᵀ in place of A⁺. For a mask they are the same; for any other A the result does not fit the "
            "measurement. A⁺ = Aᵀ(A·Aᵀ)⁻¹, `torch.linalg.pinv(matrix)`.",
        ),
        Mistake(
            "nothing-kept",
            lambda x0, matrix, y: y @ torch.linalg.pinv(matrix).T,
            "You returned A⁺y. It fits the measurement, but everything that was *not* measured is now zero: keep x̂0 "
            "there, x̂0 + A⁺(y − A·x̂0).",
        ),
        Mistake(
            "added",
            lambda x0, matrix, y: x0 + y @ torch.linalg.pinv(matrix).T,
            "You added A⁺y on top of what x̂0 already shows there. Take that away first: A⁺ acts on the difference "
            "y − A·x̂0.",
        ),
        Mistake(
            "minus",
            lambda x0, matrix, y: 2 * x0 - project(x0, matrix, y),
            "You moved away from the measurement: the difference must be y − A·x̂0, what is missing, and be added.",
        ),
        Mistake(
            "one-step",
            lambda x0, matrix, y: x0 + (y - x0 @ matrix.T) @ matrix / (matrix**2).sum(),
            "You made one gradient step, with Aᵀ divided by ‖A‖². With a single measured number that is the "
            "projection; with several it falls short. Divide by A·Aᵀ, the matrix: A⁺ = Aᵀ(A·Aᵀ)⁻¹.",
        ),
    ),
    alternatives=(
        lambda x0, matrix, y: x0 + torch.linalg.solve(matrix @ matrix.T, (y - x0 @ matrix.T).T).T @ matrix,
        lambda x0, matrix, y: x0 + torch.linalg.lstsq(matrix, (y - x0 @ matrix.T).T, driver="gelsd").solution.T,
    ),
    hints=(
        "Of all corrections d with A(x̂0 + d) = y take the shortest. What does A·d have to be?",
        "A·d = y − A·x̂0, and the shortest solution of A·d = r is d = A⁺r. For a mask: y where it was measured.",
        "`torch.linalg.pinv(matrix)` is A⁺, shape (D, m); rows are pictures, so A⁺r is `r @ pinv.T`.",
    ),
    expected="the first number measured as 1.5 without noise: the second one is 0.928 ± 0.002 on average (5 seeds), "
    "with the standard deviation 0.586 ± 0.007; the exact posterior has 1.35 and 0.436.",
    trap="for a mask, the usual case, Aᵀ and A⁺ are the same matrix, and a wrong projection looks right in every "
    "picture of an inpainting.",
    rtol=1e-4,
    atol=1e-5,
)

# --- 4: through the denoiser ------------------------------------------------------------------------------------------


def _draw_guided(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], m: int, t: float, schedule: Schedule, w: float, dtype: torch.dtype = torch.float64
    ) -> Inputs:
        x_t = torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)
        dim = x_t[0].numel()
        world = isotropic(torch.randn(3, dim, generator=g, dtype=torch.float64), 0.6)
        matrix = torch.randn(m, dim, generator=g, dtype=torch.float64).to(dtype)
        y = torch.randn(len(x_t), m, generator=g, dtype=torch.float64).to(dtype)
        time = torch.tensor(t, dtype=torch.float64)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return world.denoise(x.flatten(1), t, schedule).reshape(x.shape)

        def log_p(x0: Tensor) -> Tensor:
            return log_likelihood(lambda x: x.flatten(1) @ matrix.T, x0, y, 0.8)

        return denoise, log_p, x_t, time, schedule, w

    return [
        case((4, 2), 1, 0.5, Linear(), w=1.0),
        case((3, 3), 2, 0.8, Cosine(), w=0.5),
        case((2, 1, 2, 2), 2, 0.3, Linear(), w=2.0, dtype=torch.float32),  # pictures
        case((1, 2), 1, 0.6, DDPM(), w=1.0),  # a batch of one
        case((3, 2), 1, 0.4, Linear(), w=0.0),  # no guidance
    ]


def dps(
    denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
) -> Tensor:
    """x̂0 + w·σ²/α·∇_{x_t} log p(y | x̂0(x_t))."""
    return likelihood(denoise, log_likelihood, schedule, w)(x_t, t)


def _dps(shift: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """DPS whose last term is `shift`(denoise, log p, x_t, t, α, σ), to be multiplied by w."""

    def guided(
        denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
    ) -> Tensor:
        return denoise(x_t, t) + w * shift(denoise, log_likelihood, x_t, t, *schedule(t)).to(x_t)

    return guided


def _gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(value(leaf).sum(), leaf)[0]


def _through(denoise: Denoise, log_p: LogLikelihood, x_t: Tensor, t: Tensor) -> Tensor:
    return _gradient(lambda x: log_p(denoise(x, t)), x_t)


def _detached(
    denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
) -> Tensor:
    leaf = x_t.detach().requires_grad_()
    return torch.autograd.grad(log_likelihood(denoise(leaf, t).detach()).sum(), leaf)[0]


def _jacobian(
    denoise: Denoise, log_likelihood: LogLikelihood, x_t: Tensor, t: Tensor, schedule: Schedule, w: float
) -> Tensor:
    """Jᵀ·g, with g the gradient at x̂0 and J the derivative of x̂0 by x_t, which is α/σ² × Cov[x0 | x_t]."""
    alpha, sigma = schedule(t)
    x0 = denoise(x_t, t)
    gradient = torch.func.vjp(lambda x: denoise(x, t), x_t)[1](_gradient(log_likelihood, x0))[0]
    return x0 + (w * sigma**2 / alpha).to(x_t) * gradient


DPS = Exercise(
    id="03-dps",
    title="Guide through the denoiser",
    points=3,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_guided,
    reference=dps,
    mistakes=(
        Mistake(
            "no-chain-rule",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: sigma**2 / alpha * _gradient(log_p, denoise(x_t, t))),
            "You differentiated with respect to x̂0. The score lives at x_t: follow the chain rule through the "
            "denoiser, which turns a correction of measured pixels into one of all the pixels that go with them.",
        ),
        Mistake(
            "noisy-picture",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: sigma**2 / alpha * _gradient(log_p, x_t)),
            "You showed the measurement the noisy x_t. The forward model was made for clean pictures: ask it about "
            "the guess x̂0 = denoise(x_t, t).",
        ),
        Mistake(
            "no-factor",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: _through(denoise, log_p, x_t, t)),
            "You added the gradient of the score to x̂0 as it is. By Tweedie's formula a score that grows by g makes "
            "x̂0 grow by (σ²/α)·g.",
        ),
        Mistake(
            "minus",
            _dps(lambda denoise, log_p, x_t, t, alpha, sigma: -(sigma**2) / alpha * _through(denoise, log_p, x_t, t)),
            "You moved downhill, away from the measurement. The log-likelihood is to grow: add its gradient. (With a "
            "squared error as the loss, which is to shrink, the sign is the other one.)",
        ),
        Mistake(
            "detached",
            _detached,
            "Between x_t and the log-likelihood the thread is cut: a `.detach()`, a `torch.no_grad()`, or a new tensor "
            "made of x̂0. Make x_t the leaf, call the denoiser on that leaf, and hand its result on as it is.",
        ),
        Mistake(
            "mean",
            _dps(
                lambda denoise, log_p, x_t, t, alpha, sigma: (
                    sigma**2 / alpha * _through(denoise, log_p, x_t, t) / len(x_t)
                )
            ),
            "You averaged the log-likelihood over the batch, so each picture is guided less the more company it has. "
            "Use `.sum()`: each picture depends on its own term alone.",
        ),
    ),
    alternatives=(
        _jacobian,
        _dps(lambda denoise, log_p, x_t, t, alpha, sigma: sigma**2 / alpha * _through(denoise, log_p, x_t, t)),
    ),
    hints=(
        "Three parts: the guess x̂0 as a function of a tracked x_t, one log-likelihood per picture, its "
        "gradient at x_t.",
        "`leaf = x_t.detach().requires_grad_()`, then `x0 = denoise(leaf, t)`, then `log_likelihood(x0).sum()`. The "
        "factor from a score to x̂0 is σ²/α.",
        "`x0.detach() + w * sigma**2 / alpha * gradient`, with "
        "`(gradient,) = torch.autograd.grad(log_likelihood(x0).sum(), leaf)`.",
    ),
    expected="plain DPS with σ = 0.5: means (1.472 ± 0.004, 1.447 ± 0.002), variances (0.112 ± 0.005, 0.226 ± 0.007) "
    "over 5 seeds; exact are (1.200, 1.080) and (0.200, 0.352), reached to 0.02 once Cov[x0|x_t] is added.",
    trap="near t = 0 the denoiser hardly changes its input, so with or without the chain rule, at x̂0 or at x_t, "
    "everything agrees there; and the measured pixels come right in every version.",
)

# --- 5: SDEdit --------------------------------------------------------------------------------------------------------


def _draw_strokes(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], t0: float, schedule: Schedule, dtype: torch.dtype = torch.float64) -> Inputs:
        guide = (2 * torch.randn(*shape, generator=g, dtype=torch.float64)).to(dtype)
        mean, std = (float(v) for v in torch.rand(2, generator=g, dtype=torch.float64) + 0.3)
        return mean, std, guide, torch.tensor(t0, dtype=dtype), schedule

    return [
        case((5,), 0.5, Linear()),
        case((4,), 0.7, Cosine()),
        case((2, 3), 0.3, Linear(), torch.float32),
        case((3,), 1.0, Linear()),  # nothing of the guide is left
        case((3,), 0.0, Linear()),  # nothing is changed
    ]


def sdedit_gaussian(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean and variance of x0 ~ p(x0 | x_t0) with x_t0 = α·guide + σ·ε, for a prior N(mean, std²)."""
    means, variances = gaussian_sdedit(mean, std, guide, float(t0), schedule)
    return means.to(guide), variances.flatten()[0].to(t0)


def _sdedit(of: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A wrong answer from `of`(mean, std, guide, α, σ, gain, left), left = Var[x0 | x_t0]."""

    def edited(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule(t0)
        seen = alpha**2 * std**2 + sigma**2
        return of(mean, std, guide, alpha, sigma, alpha * std**2 / seen, std**2 * sigma**2 / seen)

    return edited


def _without_alpha(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    _, sigma = schedule(t0)
    gain = std**2 / (std**2 + sigma**2)
    return mean + gain * (guide - mean), gain**2 * sigma**2 + gain * sigma**2


def _two_stages(mean: float, std: float, guide: Tensor, t0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Through the moments of x_t0: E = m + k(E[x_t0] − α·m), Var = k²·Var[x_t0] + (1 − k·α)·s²."""
    alpha, sigma = schedule(t0)
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return mean + gain * (alpha * guide - alpha * mean), (gain * sigma) ** 2 + (1 - gain * alpha) * std**2


SDEDIT = Exercise(
    id="03-sdedit-gaussian",
    title="How much of the strokes survives?",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_strokes,
    reference=sdedit_gaussian,
    mistakes=(
        Mistake(
            "noise-not-carried",
            _sdedit(lambda mean, std, guide, alpha, sigma, gain, left: (mean + gain * alpha * (guide - mean), left)),
            "You have the variance of x0 for *one* x_t0. The noise ε that made x_t0 differs from sample to sample and "
            "moves the mean with it: add its share, k²σ².",
        ),
        Mistake(
            "mean-only",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * alpha * (guide - mean),
                    (gain * sigma) ** 2,
                )
            ),
            "You have the variance of the mean E[x0 | x_t0] alone. A stochastic sampler also draws around it: add "
            "Var[x0 | x_t0] = s²σ²/(α²s² + σ²).",
        ),
        Mistake(
            "prior-variance",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * alpha * (guide - mean),
                    torch.full_like(sigma, std**2),
                )
            ),
            "You took the variance of the prior, s². That is right for noise drawn from p(x_t0); all your samples "
            "start from the same guide, and stay closer together the smaller t0 is.",
        ),
        Mistake(
            "alpha-lost",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * (guide - mean),
                    gain**2 * sigma**2 + left,
                )
            ),
            "You lost one α in the mean. x_t0 holds α·guide, and what it is compared with is α·m: the surprise is "
            "α·(guide − m), and the gain k has an α of its own.",
        ),
        Mistake(
            "no-alpha",
            _without_alpha,
            "You left out α: as if the guide were covered with noise but not faded. x_t0 = α·guide + σ·ε, so "
            "k = α·s²/(α²s² + σ²). At t0 = 1 nothing of the guide may be left.",
        ),
        Mistake(
            "unnoised-mean",
            _sdedit(
                lambda mean, std, guide, alpha, sigma, gain, left: (
                    mean + gain * (guide - alpha * mean),
                    gain**2 * sigma**2 + left,
                )
            ),
            "You put the guide itself where the noised guide belongs. The sampler starts at α·guide + σ·ε: its mean is "
            "α·guide, and the surprise α·guide − α·m.",
        ),
    ),
    alternatives=(
        _two_stages,
        lambda mean, std, guide, t0, schedule: _by_precisions(mean, std, guide, *schedule(t0)),
    ),
    hints=(
        "Exercise 2 with A = α, noise = σ and y = x_t0 gives the mean and the variance of x0 given x_t0. But x_t0 is "
        "random as well.",
        "E[x0 | x_t0] = m + k·(x_t0 − α·m), k = α·s²/(α²s² + σ²). Now put x_t0 = α·guide + σ·ε in: what is the mean of "
        "this over ε, and what its variance?",
        "Mean m + k·α·(guide − m). Variance: k²σ², from ε, plus s²σ²/(α²s² + σ²), from the draw around the mean.",
    ),
    expected="prior N(0.3, 0.5²), guide 2, t0 = 0.5: mean 0.640, variance 0.240; the sampler with 200 steps 0.637 ± "
    "0.002 and 0.234 ± 0.005 (5 seeds).",
    trap="at t0 = 0 and at t0 = 1 most versions agree: all of the guide, or none. The trade in between, which one "
    "chooses t0 for, is where they differ.",
)


def _by_precisions(mean: float, std: float, guide: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of the guide, c = kα, is α²s²/(α²s² + σ²); everything is a function of it."""
    c = (alpha * std) ** 2 / ((alpha * std) ** 2 + sigma**2)
    return torch.lerp(torch.full_like(guide, mean), guide, c), std**2 * (1 - c) * (1 + c)


# --- 6: a captioner's opinion -----------------------------------------------------------------------------------------


def _draw_captions(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(lengths: list[int], length: int, vocabulary: int, dtype: torch.dtype = torch.float64) -> Inputs:
        tokens = torch.randint(N_SPECIALS, vocabulary, (len(lengths), length), generator=g)
        place, ends = torch.arange(length), torch.tensor(lengths)[:, None] + 1
        tokens = torch.where(place == ends, END, torch.where(place > ends, PAD, tokens))
        tokens[:, 0] = START
        logits = 2 * torch.randn(len(lengths), length - 1, vocabulary, generator=g, dtype=torch.float64)
        return logits.to(dtype), tokens

    return [
        case([3, 1, 5], 7, 9),  # captions of several lengths: padding after END
        case([4, 4], 6, 7, torch.float32),  # no padding at all
        case([2], 6, 8),  # a batch of one
        case([0, 2], 5, 6),  # an empty caption: START, END
    ]


def caption_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Σ_k log p(token k+1 | tokens up to k) over everything but padding, one value per picture."""
    target = tokens[:, 1:]
    return (_chosen(logits.log_softmax(2), target) * (target != PAD)).sum(1)


def _chosen(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(2, target[..., None])[..., 0]


def _per_word(logits: Tensor, tokens: Tensor) -> Tensor:
    return caption_log_prob(logits, tokens) / (tokens[:, 1:] != PAD).sum(1)


def _shifted(logits: Tensor, tokens: Tensor) -> Tensor:
    target = tokens[:, :-1]
    return (_chosen(logits.log_softmax(2), target) * (target != PAD)).sum(1)


def _open_ended(logits: Tensor, tokens: Tensor) -> Tensor:
    target = tokens[:, 1:]
    return (_chosen(logits.log_softmax(2), target) * (target != PAD) * (target != END)).sum(1)


CAPTION_LOG_PROB = Exercise(
    id="03-caption-log-prob",
    title="How likely is this caption?",
    points=2,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_captions,
    reference=caption_log_prob,
    mistakes=(
        Mistake(
            "per-word",
            _per_word,
            "You averaged over the words, as the training loss does. The probability of a sentence is a *product* of "
            "its words' probabilities, so the logarithms add: a mean would guide long captions less.",
        ),
        Mistake(
            "off-by-one",
            _shifted,
            "You asked each position for the word it has just read, START included. `logits[:, k]` is about the *next* "
            "token: compare it with `tokens[:, k + 1]`.",
        ),
        Mistake(
            "padding-counted",
            lambda logits, tokens: _chosen(logits.log_softmax(2), tokens[:, 1:]).sum(1),
            "You counted the padding after END. Those tokens are not part of the caption, and the captioner never "
            "learned to predict them: leave out every target equal to PAD.",
        ),
        Mistake(
            "softmax-twice",
            lambda logits, tokens: caption_log_prob(logits.softmax(2), tokens),
            "You made probabilities of probabilities: `log_softmax` and `cross_entropy` take logits. After a first "
            "softmax all numbers lie between 0 and 1, so every word looks nearly equally likely and the gradient dies.",
        ),
        Mistake(
            "end-left-out",
            _open_ended,
            "You left out END. Then you have the probability that a caption *begins* like this: over all captions "
            "these do not add up to 1, and the shortest always wins. END is a prediction like any other.",
        ),
        Mistake(
            "logits",
            lambda logits, tokens: (_chosen(logits, tokens[:, 1:]) * (tokens[:, 1:] != PAD)).sum(1),
            "You added up logits. They are log-probabilities only up to a constant that differs from position to "
            "position, and that depends on the picture: take `log_softmax` over the vocabulary first.",
        ),
    ),
    alternatives=(
        lambda logits, tokens: (
            -F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none", ignore_index=PAD).sum(1)
        ),
        lambda logits, tokens: torch.stack([_word_by_word(*pair) for pair in zip(logits, tokens)]),
    ),
    hints=(
        "log p(caption) = Σ_k log p(token k+1 | tokens up to k). Which column of the tokens belongs to `logits[:, k]`?",
        "The targets are `tokens[:, 1:]`. `log_softmax` over the last axis, then the entry of the target (`gather`), "
        "then 0 wherever the target is PAD.",
        "`logits.log_softmax(2).gather(2, target[..., None])[..., 0]`, (B, L − 1); times `(target != PAD)`; `.sum(1)`.",
    ),
    expected="of 16 pictures, 10.2 ± 1.3 show their captions at w = 16 (5 seeds), 0.6 ± 0.5 at w = 0, and 6.8 ± 2.6 "
    "with the mean per word at w = 16; none shows the other caption.",
    trap="the mean over words is the training loss, and falls as nicely; and with captions of one length a counted END "
    "or a constant number of PADs changes every value alike, so that rankings stay the same.",
)


def _word_by_word(logits: Tensor, tokens: Tensor) -> Tensor:
    target = tokens[1 : int((tokens == END).nonzero()[0]) + 1]
    seen = logits[: len(target)]
    return (seen[torch.arange(len(target)), target] - seen.logsumexp(1)).sum()


EXERCISES = (LOG_LIKELIHOOD, GAUSSIAN_POSTERIOR, PROJECT, DPS, SDEDIT, CAPTION_LOG_PROB)
