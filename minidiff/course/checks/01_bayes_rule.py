"""The exercises of chapter 01: inputs, right answers, and wrong ones that deserve an answer of their own."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic, ring, three_modes
from minidiff.guidance import classifier
from minidiff.schedules import Linear
from minidiff.shapes import expand_like

LogDensity = Callable[[Tensor], Tensor]


def _draw_scores(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: float, dtype: torch.dtype = torch.float64) -> Inputs:
        prior, likelihood = (torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2))
        return prior.to(dtype), likelihood.to(dtype), w

    return [
        case((5, 2), w=1.0),  # Bayes' rule
        case((5, 2), w=2.5),
        case((5, 2), w=0.0),  # the condition switched off
        case((1, 3), w=-1.0),  # away from the condition, batch of one
        case((2, 1, 4, 4), w=3.0, dtype=torch.float32),  # pictures
    ]


def posterior_score(prior_score: Tensor, likelihood_score: Tensor, w: float) -> Tensor:
    """∇ log p(x|y) with the likelihood weighed by w."""
    return prior_score + w * likelihood_score


POSTERIOR_SCORE = Exercise(
    id="01-posterior-score",
    title="Bayes' rule for scores",
    points=2,
    difficulty=1,
    importance=5,
    minutes=5,
    draw=_draw_scores,
    reference=posterior_score,
    mistakes=(
        Mistake(
            "w-forgotten",
            lambda prior_score, likelihood_score, w: prior_score + likelihood_score,
            "You left out w: the two scores are added as they are, which is right only at w = 1.",
        ),
        Mistake(
            "one-plus-w",
            lambda prior_score, likelihood_score, w: prior_score + (1 + w) * likelihood_score,
            "You weighed the likelihood by 1 + w instead of w. The factor 1 + w belongs to classifier-free guidance, "
            "which starts from the conditional score; here you start from the unconditional one.",
        ),
        Mistake(
            "mixture",
            lambda prior_score, likelihood_score, w: (1 - w) * prior_score + w * likelihood_score,
            "You mixed the two scores with weights 1 − w and w. Bayes' rule multiplies the densities, so their "
            "logarithms add, and the prior keeps the weight 1.",
        ),
        Mistake(
            "minus",
            lambda prior_score, likelihood_score, w: prior_score - w * likelihood_score,
            "You subtracted the likelihood's score. The minus sign in Bayes' rule belongs to log p(y), "
            "whose gradient with respect to x is zero.",
        ),
        Mistake(
            "w-on-both",
            lambda prior_score, likelihood_score, w: w * (prior_score + likelihood_score),
            "You weighed both terms by w. Only the likelihood is weighed; the prior keeps the weight 1.",
        ),
    ),
    alternatives=(lambda prior_score, likelihood_score, w: torch.add(prior_score, likelihood_score, alpha=w),),
    hints=(
        "Write down log p(x|y) with Bayes' rule: three terms. Which of them depend on x?",
        "The gradient of log p(y) with respect to x is zero, so two scores are left, and they add.",
        "At w = 1: `prior_score + likelihood_score`. Now let w weigh the term that speaks of y.",
    ),
    expected="at w = 1 the sum equals the exact conditional score; the largest difference is below 1e-12 in float64.",
    trap="at w = 1, the value everybody tries first, leaving w out, mixing and Bayes' rule can all look plausible; "
    "try w = 0, which must give back the prior's score and nothing else.",
)


def _draw_hills(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(x: Tensor, k: int, dtype: torch.dtype = torch.float64) -> Inputs:
        means, stds = torch.randn(k, generator=g) * 1.5, 0.4 + 0.4 * torch.rand(k, generator=g)
        weights = torch.rand(k, generator=g) + 0.2
        return tuple(v.to(dtype) for v in (x, means, stds, (weights.double() / weights.double().sum())))

    return [
        case(torch.randn(7, generator=g), k=3),
        case(torch.randn(5, generator=g), k=2),
        case(torch.tensor([60.0, -60.0]), k=3),  # so far out that every density is 0 in float64
        case(torch.randn(1, generator=g), k=1),  # one hill, one point
        case(torch.randn(6, generator=g), k=4, dtype=torch.float32),
    ]


def mixture_score(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    """The score of a 1-D Gaussian mixture."""
    mixture = isotropic(means[:, None], stds, weights=weights)
    return mixture.score(x[:, None], torch.zeros((), dtype=x.dtype), Linear())[:, 0]


def _log_normal(x: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """log N(x; m_k, s_k²) without its constant −½·log 2π: (B, K)."""
    return -0.5 * ((x[:, None] - means) / stds) ** 2 - stds.log()


def _pull(x: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    return (means - x[:, None]) / stds**2


def _blend(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor, pull: Tensor) -> Tensor:
    return ((weights.log() + _log_normal(x, means, stds)).softmax(1) * pull).sum(1)


def _bare_softmax(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    share = (weights.log() - 0.5 * ((x[:, None] - means) / stds) ** 2).softmax(1)
    return (share * _pull(x, means, stds)).sum(1)


def _by_division(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    density = weights * _log_normal(x, means, stds).exp()
    return (density * _pull(x, means, stds)).sum(1) / density.sum(1)


def _slope_of_density(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    density = weights * _log_normal(x, means, stds).exp() / (2 * torch.pi) ** 0.5
    return (density * _pull(x, means, stds)).sum(1)


def _by_autograd(x: Tensor, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    log_p = (weights.log() + _log_normal(x, means, stds)).logsumexp(1)
    return torch.autograd.grad(log_p.sum(), x)[0]


MIXTURE_SCORE = Exercise(
    id="01-mixture-score",
    title="The score of a few hills",
    points=3,
    difficulty=2,
    importance=4,
    minutes=10,
    draw=_draw_hills,
    reference=mixture_score,
    mistakes=(
        Mistake(
            "prior-weights",
            lambda x, means, stds, weights: (weights * _pull(x, means, stds)).sum(1),
            "You averaged the hills' pulls with the fixed weights π_k. At x a hill counts by its responsibility "
            "r_k(x), its share of the density *there*: a far hill has no say.",
        ),
        Mistake(
            "no-variance",
            lambda x, means, stds, weights: _blend(x, means, stds, weights, means - x[:, None]),
            "Each hill's pull is missing its 1/s_k²: the slope of −(x − m)²/(2s²) is (m − x)/s².",
        ),
        Mistake(
            "std-for-variance",
            lambda x, means, stds, weights: _blend(x, means, stds, weights, (means - x[:, None]) / stds),
            "You divided the pull by the standard deviation s_k; it is the variance, s_k², that belongs there.",
        ),
        Mistake(
            "no-width",
            _bare_softmax,
            "Your responsibilities leave out the factor 1/s_k of each Gaussian: a wide hill is also a low one. It "
            "cancels only where all hills are equally wide; add −log s_k before the softmax.",
        ),
        Mistake(
            "underflow",
            _by_division,
            "The formula is right, but you divide a sum of densities by another, and far from all hills both are 0 "
            "in floating point, so that 0/0 gives NaN. Stay with logarithms and take the shares by a softmax.",
        ),
        Mistake(
            "slope-of-p",
            _slope_of_density,
            "This is the slope of p, not of log p: divide it by p(x), or use responsibilities that sum to 1. The "
            "score must be large far from the data, where p itself is flat.",
        ),
    ),
    alternatives=(_by_autograd,),
    hints=(
        "∇p/p with p = Σ π_k N_k: every term π_k ∇N_k equals π_k N_k·(m_k − x)/s_k². Divide by p: what is the factor?",
        "That factor is r_k = π_k N_k / Σ_j π_j N_j. Its logarithm, up to a constant: "
        "log π_k − log s_k − (x − m_k)²/(2s_k²). Which PyTorch function turns such logarithms into shares?",
        "`x[:, None] - means` has shape (B, K); a `.softmax(1)` of the logarithms gives the shares, and "
        "`(shares * pull).sum(1)` the score.",
    ),
    expected="at the centres of the three hills the score is 0.000, 0.032 and −0.000: next to nothing, and not quite 0 "
    "where a neighbour pulls (no random numbers here, so the spread is 0).",
    trap="inside a hill one responsibility is nearly 1, so wrong weights and missing widths hardly show. Look into a "
    "valley, where two hills pull, or at a point far out.",
    rtol=1e-4,
    atol=1e-5,
)


def _bowl(x: Tensor) -> Tensor:
    return -x / 0.25  # the score of N(0, 0.5²)


def _hills(x: Tensor) -> Tensor:
    return three_modes(x.dtype).score(x, torch.zeros((), dtype=x.dtype), Linear())


def _draw_walks(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(score: LogDensity, n: int, b: int, step: float, d: int = 1, dtype: torch.dtype = torch.float64) -> Inputs:
        x, noise = torch.randn(b, d, generator=g), torch.randn(n, b, d, generator=g)
        return score, x.to(dtype), step, noise.to(dtype)

    return [
        case(_bowl, n=5, b=4, step=0.02, d=2),
        case(_hills, n=8, b=6, step=0.005),
        case(_hills, n=1, b=3, step=0.01),  # a single step
        case(_bowl, n=0, b=3, step=0.01),  # none: where you started
        case(_bowl, n=4, b=1, step=0.1, d=3, dtype=torch.float32),  # batch of one
    ]


def langevin(score: LogDensity, x: Tensor, step: float, noise: Tensor) -> Tensor:
    """Langevin's walk, one step per entry of `noise`."""
    for z in noise:
        x = x + step * score(x) + (2 * step) ** 0.5 * z
    return x


def _walk(rule: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """A walk with another rule (x, score at x, z, step) → x."""

    def walk(score: LogDensity, x: Tensor, step: float, noise: Tensor) -> Tensor:
        for z in noise:
            x = rule(x, score(x), z, step)
        return x

    return walk


def _same_kick(score: LogDensity, x: Tensor, step: float, noise: Tensor) -> Tensor:
    for _ in range(len(noise)):
        x = x + step * score(x) + (2 * step) ** 0.5 * noise[0]
    return x


def _frozen_arrows(score: LogDensity, x: Tensor, step: float, noise: Tensor) -> Tensor:
    arrow = score(x)
    for z in noise:
        x = x + step * arrow + (2 * step) ** 0.5 * z
    return x


LANGEVIN = Exercise(
    id="01-langevin",
    title="A walk uphill with kicks",
    points=2,
    difficulty=2,
    importance=3,
    minutes=8,
    draw=_draw_walks,
    reference=langevin,
    mistakes=(
        Mistake(
            "kick-too-small",
            _walk(lambda x, s, z, h: x + h * s + h**0.5 * z),
            "Your kick is √h·z; it must be √(2h)·z. With √h the walkers settle at half the variance.",
        ),
        Mistake(
            "kick-linear",
            _walk(lambda x, s, z, h: x + h * s + 2 * h * z),
            "Your kick is 2h·z, without the square root. Independent kicks add their variances, and a variance of 2h "
            "per step needs a kick of √(2h)·z.",
        ),
        Mistake(
            "no-kick",
            _walk(lambda x, s, z, h: x + h * s),
            "You climb but never kick: that is gradient ascent, and every walker ends on a summit. Add √(2h)·z.",
        ),
        Mistake(
            "same-kick",
            _same_kick,
            "Every step gets the same kick `noise[0]`. The kicks must be independent: step i takes `noise[i]`.",
        ),
        Mistake(
            "frozen-arrows",
            _frozen_arrows,
            "You asked for the score once, at the start. It changes as the walker moves: call `score(x)` in the loop.",
        ),
        Mistake(
            "downhill",
            _walk(lambda x, s, z, h: x - h * s + (2 * h) ** 0.5 * z),
            "You walk downhill. The score points to more data, so it is added; the minus belongs to losses.",
        ),
    ),
    alternatives=(_walk(lambda x, s, z, h: torch.addcmul(x, s, torch.full_like(s, h)).add(z, alpha=(h + h) ** 0.5)),),
    hints=(
        "One loop over the kicks: `for z in noise:`. What is new in x after one step?",
        "Three terms: where you are, h times the arrow *there*, and √(2h) times the kick.",
        "`x = x + step * score(x) + ... * z`, then `return x` after the loop. (`x += ...` writes into the argument.)",
    ),
    expected="the walkers on N(1, 0.5²) settle at variance 0.260 ± 0.005 (5 seeds, 20,000 walkers, h = 0.02), as "
    "s²/(1 − h/(2s²)) = 0.2604 says: a little too wide, because h is not 0.",
    trap="without the kick, or with half of it, pictures even look better: cleaner, more alike. What is lost is the "
    "variance, which no single sample shows. Chapter 05 meets the same effect again, on purpose.",
)


def _draw_guides(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: float, dtype: torch.dtype = torch.float64, silent: int | None = None) -> Inputs:
        x0_hat, gradient = torch.randn(*shape, generator=g), torch.randn(*shape, generator=g)
        t = 0.1 + 0.8 * torch.rand(shape[0], generator=g)
        if silent is not None:  # pure noise: α = 0, and the classifier has no opinion
            t[silent], gradient[silent] = 1.0, 0.0
        return *(v.to(dtype) for v in (x0_hat, gradient, 1 - t, t)), w

    return [
        case((2, 2), w=1.0),
        case((4, 1, 4, 4), w=2.5),  # pictures as wide as the batch is long
        case((3, 3), w=1.0, silent=1),
        case((1, 2), w=-1.0),
        case((3, 3), w=0.0),
        case((5, 1, 5, 5), w=3.0, dtype=torch.float32),
    ]


def guided_guess(x0_hat: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """The guess of x0 after w·gradient was added to the score: the library's `guidance.classifier`."""
    levels = expand_like(alpha, x0_hat), expand_like(sigma, x0_hat)
    guided = classifier(
        lambda x, t: x0_hat,
        lambda x, t: (x * gradient).flatten(1).sum(1),  # a log-probability with this gradient
        lambda t: levels,  # type: ignore[arg-type]
        w,
    )
    return guided(x0_hat, sigma)


def _shifted(factor: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The guess shifted by w·factor(α, σ)·gradient, α and σ given trailing ones as they should be."""

    def shifted(x0_hat: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
        return x0_hat + w * factor(expand_like(alpha, x0_hat), expand_like(sigma, x0_hat)) * gradient

    return shifted


GUIDED_GUESS = Exercise(
    id="01-guided-guess",
    title="From arrows to guesses",
    points=3,
    difficulty=3,
    importance=5,
    minutes=10,
    draw=_draw_guides,
    reference=guided_guess,
    mistakes=(
        Mistake(
            "score-units",
            lambda x0_hat, gradient, alpha, sigma, w: x0_hat + w * gradient,
            "You added the gradient to the guess as if the guess were a score. Tweedie's formula says by which factor "
            "a change of the score changes x̂0: solve it for x̂0.",
        ),
        Mistake(
            "no-alpha",
            _shifted(lambda alpha, sigma: sigma**2),
            "Your factor is σ²; the division by α is missing. It is right only where nothing is shrunk (α = 1).",
        ),
        Mistake(
            "eps-factor",
            _shifted(lambda alpha, sigma: sigma / alpha),
            "Your factor is σ/α: that turns a change of ε into one of x̂0. A change of the *score* carries one more σ, "
            "as score = −ε/σ: the factor is σ²/α.",
        ),
        Mistake(
            "minus",
            _shifted(lambda alpha, sigma: -(sigma**2) / alpha),
            "The sign is wrong: ε̂ is *lowered* by σ·w·∇log p(y|x_t), but x̂0 = (x_t − σε̂)/α, so that x̂0 is raised.",
        ),
        Mistake(
            "wrong-axis",
            lambda x0_hat, gradient, alpha, sigma, w: x0_hat + w * sigma**2 / alpha * gradient,
            "`alpha` and `sigma` of shape (B,) were broadcast along the *last* axis: every column got the noise level "
            "of another picture, and no error was raised, as B equals the width. Give them trailing ones first: "
            "`alpha.reshape(-1, 1, 1, 1)`, or `minidiff.shapes.expand_like`.",
        ),
        Mistake(
            "zero-over-zero",
            _shifted(lambda alpha, sigma: sigma**2 / alpha),
            "Right, but for pure noise: at α = 0 the gradient is 0 as well, and 1/0·0 is NaN. There the condition says "
            "nothing, and the guess must come back unchanged.",
        ),
    ),
    alternatives=(_shifted(lambda alpha, sigma: sigma.square() / alpha.clamp(min=1e-12)),),
    hints=(
        "Tweedie: score = (α·x̂0 − x_t)/σ². Solve for x̂0, then replace the score by score + w·gradient.",
        "x̂0 = (x_t + σ²·score)/α, so the guess moves by σ²/α·w·gradient. Now mind shapes: `alpha` is (B,), `x0_hat` is "
        "(B, …). `expand_like(alpha, x0_hat)` gives it trailing ones.",
        "At α = 0 divide by something else: `sigma**2 / alpha.clamp(min=1e-12)`; the gradient is 0 there.",
    ),
    expected="20 steps from noise bring 97.6 % ± 0.3 % of the points to class 0 (5 seeds), as many as exact samples of "
    "p(x|y) (97.8 % ± 0.2 %), whose clouds overlap a little with the others; without guidance it is 34 %.",
    trap="on points of two dimensions in a batch of five, a forgotten axis is an error message. On square pictures in "
    "a batch as large as they are wide it is silence, and pictures that are guided at each other's noise level.",
)


def _draw_albums(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, n: int, t: float, d: int = 2, far: float = 0.0, dtype: torch.dtype = torch.float64) -> Inputs:
        x0 = torch.randn(n, d, generator=g)
        labels = torch.randint(0, 3, (n,), generator=g)
        labels[:5] = torch.tensor([0, 1, 2, 2, 2])  # all in use, and not equally common
        x_t = (1 - t) * torch.randn(b, d, generator=g) + t * torch.randn(b, d, generator=g) + far
        return x_t.to(dtype), x0.to(dtype), labels, 1 - t, t

    return [
        case(6, 12, t=0.5),
        case(1, 9, t=0.3),  # batch of one
        case(4, 15, t=0.9),
        case(2, 12, t=0.2, far=20.0),  # further than exp can reach
        case(5, 10, t=0.6, d=1, dtype=torch.float32),
    ]


def noisy_classifier(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    """p(y|x_t) if the data are exactly these points: a mixture of N hills of width 0, noised."""
    album = isotropic(x0, 0.0, labels)
    t = torch.zeros((), dtype=x_t.dtype)
    return album.posterior_label(x_t, t, lambda t: (torch.full_like(t, alpha), torch.full_like(t, sigma)))


def _votes(share: Tensor, labels: Tensor) -> Tensor:
    """Add up the shares (B, N) of the points of each class: (B, n_classes)."""
    return share @ torch.nn.functional.one_hot(labels).to(share)


def _square_gap(x_t: Tensor, x0: Tensor, alpha: float) -> Tensor:
    return (x_t[:, None] - alpha * x0).square().sum(-1)  # (B, N)


def _nearest(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    return torch.nn.functional.one_hot(labels)[_square_gap(x_t, x0, alpha).argmin(1)].to(x_t)


def _class_means(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    votes = _votes((-_square_gap(x_t, x0, alpha) / (2 * sigma**2)).softmax(1), labels) / labels.bincount()
    return votes / votes.sum(1, keepdim=True)


def _plain_exp(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    votes = _votes(torch.exp(-_square_gap(x_t, x0, alpha) / (2 * sigma**2)), labels)
    return votes / votes.sum(1, keepdim=True)


def _by_class(x_t: Tensor, x0: Tensor, labels: Tensor, alpha: float, sigma: float) -> Tensor:
    log_weight = -_square_gap(x_t, x0, alpha) / (2 * sigma**2)
    rows = [log_weight[:, labels == y].logsumexp(1) for y in range(int(labels.max()) + 1)]
    return torch.stack(rows, dim=1).softmax(1)


NOISY_CLASSIFIER = Exercise(
    id="01-noisy-classifier",
    title="A classifier that has seen noise",
    points=3,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_albums,
    reference=noisy_classifier,
    mistakes=(
        Mistake(
            "not-shrunk",
            lambda x_t, x0, labels, alpha, sigma: _votes(
                (-_square_gap(x_t, x0, 1.0) / (2 * sigma**2)).softmax(1), labels
            ),
            "You compared x_t with x0. Given x0, the noisy point lies around α·x0, not x0: shrink the data first.",
        ),
        Mistake(
            "nearest",
            _nearest,
            "You took the label of the nearest point, for certain. That is the classifier of clean points; with noise, "
            "others may be the origin too, each with the weight exp(−|x_t − α·x0|²/(2σ²)).",
        ),
        Mistake(
            "sigma-not-squared",
            lambda x_t, x0, labels, alpha, sigma: _votes(
                (-_square_gap(x_t, x0, alpha) / (2 * sigma)).softmax(1), labels
            ),
            "You divided the squared distance by 2σ; the Gaussian has 2σ².",
        ),
        Mistake(
            "no-half",
            lambda x_t, x0, labels, alpha, sigma: _votes((-_square_gap(x_t, x0, alpha) / sigma**2).softmax(1), labels),
            "The ½ of the Gaussian is missing: the exponent is −|x_t − α·x0|²/(2σ²). Without it the noise counts as "
            "weaker by √2, and the classifier is too sure of itself.",
        ),
        Mistake(
            "class-means",
            _class_means,
            "You averaged the weights within each class, which makes all classes equally likely beforehand: that is "
            "p(x_t|y), normalised. p(y|x_t) adds the weights up, so that a common class has more votes.",
        ),
        Mistake(
            "underflow",
            _plain_exp,
            "Right, until x_t is far from all data: then every exp(…) is 0 in floating point and 0/0 is NaN. "
            "A softmax over the N points does the same and subtracts the largest exponent first.",
        ),
    ),
    alternatives=(_by_class,),
    hints=(
        "Given x0, x_t is N(α·x0, σ²I). How likely does that make each point of the data as the origin of x_t?",
        "The weights are exp(−|x_t − α·x0|²/(2σ²)), divided by their sum over all N points: a `softmax(1)` of a (B, N) "
        "tensor. Then add up, for each class, the weights of its points.",
        "`share @ one_hot(labels).to(share)` with `torch.nn.functional.one_hot` adds them up: (B, N) @ (N, C).",
    ),
    expected="with 4,000 labelled points, p(y|x_t) at t = 0.5 is off by 0.008 ± 0.003 on average (5 seeds); the "
    "classifier of clean points, asked about x_t, by 0.194 ± 0.003.",
    trap="at small noise the nearest point decides nearly everything, so that a clean classifier seems to do. At large "
    "noise it is just as sure as before, and wrong.",
    rtol=1e-4,
    atol=1e-5,
)


def _draw_triples(seed: int) -> list[Inputs]:
    g, schedule = Generator().manual_seed(seed), Linear()

    def case(world: object, b: int, t: float, y: int, c: float = 0.0, stretch: float = 1.0) -> Inputs:
        m, at = (three_modes() if world == "line" else ring(6, n_classes=3)), torch.tensor(t, dtype=torch.float64)
        x = torch.randn(b, m.dim, generator=g, dtype=torch.float64)
        return (
            lambda x: m.log_prob(x, at, schedule),
            lambda x: stretch * m.log_prob_label(x, at, schedule, y) + c,
            lambda x: m.log_prob(x, at, schedule, y),
            x,
        )

    return [
        case("line", 8, t=0.3, y=2),  # Bayes' rule holds
        case("line", 8, t=0.5, y=0, c=2.0),  # and still does with any constant
        case("line", 5, t=0.4, y=1, stretch=2.0),
        case("plane", 6, t=0.5, y=1, stretch=0.5),
        case("plane", 1, t=0.8, y=0, c=-1.0, stretch=3.0),  # batch of one
    ]


def slope(f: LogDensity, x: Tensor) -> Tensor:
    """∇f(x) for f: (B, D) → (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]


def bayes_gap(log_prior: LogDensity, log_likelihood: LogDensity, log_posterior: LogDensity, x: Tensor) -> float:
    """‖∇log p(x) + ∇log p(y|x) − ∇log p(x|y)‖ / ‖∇log p(x|y)‖ over the batch."""
    prior, likelihood, posterior = (slope(f, x) for f in (log_prior, log_likelihood, log_posterior))
    return float((prior + likelihood - posterior).norm() / posterior.norm())


def _gap_of_values(log_prior: LogDensity, log_likelihood: LogDensity, log_posterior: LogDensity, x: Tensor) -> float:
    gap = log_prior(x) + log_likelihood(x) - log_posterior(x)
    return float(gap.norm() / log_posterior(x).norm())


def _measure(rule: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., float]:
    """Another measure, from the gradients of prior, likelihood and posterior."""
    return lambda log_prior, log_likelihood, log_posterior, x: float(
        rule(slope(log_prior, x), slope(log_likelihood, x), slope(log_posterior, x))
    )


def _in_one_go(log_prior: LogDensity, log_likelihood: LogDensity, log_posterior: LogDensity, x: Tensor) -> Tensor:
    gap = slope(lambda v: log_prior(v) + log_likelihood(v) - log_posterior(v), x)
    return gap.square().sum().sqrt() / slope(log_posterior, x).square().sum().sqrt()


BAYES_GAP = Exercise(
    id="01-bayes-gap",
    title="Which classifier may guide?",
    points=3,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_triples,
    reference=bayes_gap,
    mistakes=(
        Mistake(
            "values",
            _gap_of_values,
            "You compared the logarithms themselves. They differ by log p(y), and by any constant that the classifier "
            "is off by, which does no harm. Compare their gradients with respect to x.",
        ),
        Mistake(
            "signed",
            _measure(lambda prior, likelihood, posterior: (prior + likelihood - posterior).sum() / posterior.sum()),
            "You added up differences with their signs, so that errors to the left and to the right cancel. Take a "
            "norm: square first, then add.",
        ),
        Mistake(
            "not-relative",
            _measure(lambda prior, likelihood, posterior: (prior + likelihood - posterior).norm()),
            "You did not divide by ‖∇log p(x|y)‖. Scores grow without limit as t goes to 0: an error of 1 may be "
            "everything or nothing.",
        ),
        Mistake(
            "squared",
            _measure(
                lambda prior, likelihood, posterior: (
                    (prior + likelihood - posterior).square().sum() / posterior.square().sum()
                )
            ),
            "This is the square of the relative error: take the root. A gap of 10 % would pass as 1 %.",
        ),
        Mistake(
            "no-prior",
            _measure(lambda prior, likelihood, posterior: (likelihood - posterior).norm() / posterior.norm()),
            "You compared the classifier's gradient alone with that of p(x|y). The prior's must be added to it.",
        ),
        Mistake(
            "no-likelihood",
            _measure(lambda prior, likelihood, posterior: (prior - posterior).norm() / posterior.norm()),
            "You left the classifier out: this is the gap that guidance is there to close, whatever the classifier.",
        ),
    ),
    alternatives=(_in_one_go,),
    hints=(
        "You need three gradients with respect to x. Write a small helper: x must require a gradient, and "
        "`torch.autograd.grad` wants one number, so add up the batch.",
        "`x = x.detach().requires_grad_()`, then `torch.autograd.grad(f(x).sum(), x)[0]` has shape (B, D). Adding up "
        "is harmless: f of one point does not depend on the others.",
        "`gap = prior + likelihood - posterior`, and `gap.norm() / posterior.norm()` is the number.",
    ),
    expected="right, with or without a constant: below 1e-15; twice as sure: 0.60 ± 0.01; told t = 0.4 instead of "
    "0.5: 0.51 ± 0.02; a clean one: 2.79 ± 0.08 (5 seeds).",
    trap="the logarithms themselves look like the natural thing to compare. But log p(x) + log p(y|x) − log p(x|y) "
    "is log p(y), not 0, even for the perfect classifier; only its gradient is 0. (And the prediction: twice as sure "
    "is exactly as far off as no classifier, as both are wrong by one times the classifier's gradient.)",
    atol=1e-9,
)

EXERCISES = (POSTERIOR_SCORE, MIXTURE_SCORE, LANGEVIN, GUIDED_GUESS, NOISY_CLASSIFIER, BAYES_GAP)
