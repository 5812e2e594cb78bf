"""The exercises of chapter 04: inputs, right answers, and wrong ones that deserve an answer of their own."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.data.mixtures import isotropic
from minidiff.samplers import ddim, sample
from minidiff.schedules import Cosine, Linear, Schedule
from minidiff.shapes import expand_like

Classifier = Callable[[Tensor, Tensor], Tensor]
Field = Callable[[Tensor, Tensor], Tensor]


def _small_classifier(g: Generator, size: int, n_classes: int, dtype: torch.dtype) -> Classifier:
    """Logits (B, n_classes) of a fixed random two-layer network, which also depends on t: a scalar or (B,)."""
    first = torch.randn(size, 8, generator=g, dtype=torch.float64).to(dtype)
    second = torch.randn(8, n_classes, generator=g, dtype=torch.float64).to(dtype)

    def logits(x_t: Tensor, t: Tensor) -> Tensor:
        level = t.to(x_t.dtype).reshape(-1, 1)
        return torch.tanh(x_t.flatten(1) @ first + level) @ second * (1.5 - level)

    return logits


# --- 1: the gradient of a classifier ----------------------------------------------------------------------------------


def _draw_classified(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], n_classes: int, t: float, dtype: torch.dtype = torch.float64) -> Inputs:
        x_t = torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)
        y = torch.randint(n_classes, shape[:1], generator=g)
        classifier = _small_classifier(g, x_t[0].numel(), n_classes, dtype)
        return classifier, x_t, torch.tensor(t, dtype=torch.float64), y

    return [
        case((6, 2), 3, 0.4),  # points
        case((3, 2), 3, 0.0),  # no noise
        case((1, 3), 2, 1.0),  # a batch of one, pure noise
        case((4, 1, 3, 3), 5, 0.7, torch.float32),  # pictures
    ]


def _gradient_of(value: Callable[[Tensor], Tensor], x_t: Tensor) -> Tensor:
    x_t = x_t.detach().clone().requires_grad_()
    return torch.autograd.grad(value(x_t).sum(), x_t)[0]


def _chosen(per_class: Tensor, y: Tensor) -> Tensor:
    return per_class.gather(1, y[:, None])[:, 0]


def classifier_gradient(classifier: Classifier, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇ log f(y|x_t), one gradient per picture."""
    return _gradient_of(lambda x: _chosen(classifier(x, t).log_softmax(1), y), x_t)


def _untracked(classifier: Classifier, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.autograd.grad(_chosen(classifier(x_t, t).log_softmax(1), y).sum(), x_t)[0]


CLASSIFIER_GRADIENT = Exercise(
    id="04-classifier-gradient",
    title="The gradient of a classifier",
    points=2,
    difficulty=2,
    importance=5,
    minutes=8,
    draw=_draw_classified,
    reference=classifier_gradient,
    mistakes=(
        Mistake(
            "probability",
            lambda classifier, x_t, t, y: _gradient_of(lambda x: _chosen(classifier(x, t).softmax(1), y), x_t),
            "You differentiated the probability, not its logarithm. ∇p = p·∇log p: it is smallest exactly where the "
            "classifier disagrees and the push is needed most. Use `log_softmax`.",
        ),
        Mistake(
            "logit",
            lambda classifier, x_t, t, y: _gradient_of(lambda x: _chosen(classifier(x, t), y), x_t),
            "You differentiated the logit of y. Logits are not log-probabilities: the normaliser "
            "log Σ exp(logits) depends on x as well. Take `log_softmax` over the classes first.",
        ),
        Mistake(
            "mean",
            lambda classifier, x_t, t, y: classifier_gradient(classifier, x_t, t, y) / len(x_t),
            "You averaged over the batch, so each picture's gradient is divided by the batch size: the same picture "
            "would be guided less in company. Use `.sum()`: every picture depends on its own log-probability alone.",
        ),
        Mistake(
            "all-classes",
            lambda classifier, x_t, t, y: _gradient_of(lambda x: classifier(x, t).log_softmax(1), x_t),
            "You added up the log-probabilities of all classes, so y plays no part. Pick the column of y for each "
            "row: `gather(1, y[:, None])` or `[torch.arange(len(y)), y]`.",
        ),
        Mistake(
            "predicted-class",
            lambda classifier, x_t, t, y: classifier_gradient(classifier, x_t, t, classifier(x_t, t).argmax(1)),
            "You took the class the classifier finds most likely. That makes it surer of what it sees already; "
            "guidance needs the class that was *asked for*, y.",
        ),
        Mistake(
            "not-tracked",
            _untracked,
            "PyTorch did not record what happened to x_t, because nobody asked it to. Before you call the classifier: "
            "`x_t = x_t.detach().requires_grad_()`, which also leaves the caller's tensor alone.",
        ),
    ),
    alternatives=(
        lambda classifier, x_t, t, y: (
            -_gradient_of(lambda x: F.cross_entropy(classifier(x, t), y, reduction="sum"), x_t)
        ),
        lambda classifier, x_t, t, y: torch.cat(
            [classifier_gradient(classifier, x_t[i : i + 1], t, y[i : i + 1]) for i in range(len(y))]
        ),
    ),
    hints=(
        "Three steps: make x_t a leaf that PyTorch tracks, compute one log-probability per picture, differentiate.",
        "log f(y|x_t) is the entry of y in `classifier(x_t, t).log_softmax(1)`. A gradient needs one number: add up "
        "the batch, as picture i appears in term i only.",
        "`torch.autograd.grad(log_prob.sum(), x_t)[0]`, with `x_t = x_t.detach().requires_grad_()` before it.",
    ),
    expected="with the exact classifier of `decoys` the gradient equals the difference of the exact scores; the "
    "largest difference is below 1e-11 in float64.",
    trap="with one picture in the batch, mean and sum agree; and for two equally likely classes the gradients of p and "
    "log p point the same way and differ by a factor only.",
)

# --- 2: the loss of a noise-aware classifier --------------------------------------------------------------------------


def _draw_labelled(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], schedule: Schedule, dtype: torch.dtype = torch.float64) -> Inputs:
        x0, eps = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        y, t = (
            torch.randint(3, shape[:1], generator=g),
            torch.rand(shape[0], generator=g, dtype=torch.float64).to(dtype),
        )
        return _small_classifier(g, x0[0].numel(), 3, dtype), schedule, x0, y, t, eps

    # As many pictures as pixels in a row: a noise level laid along the wrong axis goes unnoticed by PyTorch.
    return [
        case((4, 1, 4, 4), Linear()),
        case((2, 2), Cosine()),
        case((3, 1, 3, 3), Linear(), torch.float32),
        case((1, 2), Linear()),  # a batch of one
    ]


def noise_aware_loss(
    classifier: Classifier, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    """Cross-entropy of f(y|x_t, t), one value per picture."""
    return F.cross_entropy(classifier(schedule.add_noise(x0, eps, t), t), y, reduction="none")


def _unscaled(classifier: Classifier, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    x_t = expand_like(schedule(t)[0], x0) * x0 + eps
    return F.cross_entropy(classifier(x_t, t), y, reduction="none")


def _last_axis(classifier: Classifier, schedule: Schedule, x0: Tensor, y: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    alpha, sigma = schedule(t)
    return F.cross_entropy(classifier(alpha * x0 + sigma * eps, t), y, reduction="none")


NOISE_AWARE_LOSS = Exercise(
    id="04-noise-aware-loss",
    title="Teach a classifier to see through noise",
    points=2,
    difficulty=2,
    importance=5,
    minutes=8,
    draw=_draw_labelled,
    reference=noise_aware_loss,
    mistakes=(
        Mistake(
            "clean-picture",
            lambda classifier, schedule, x0, y, t, eps: F.cross_entropy(classifier(x0, t), y, reduction="none"),
            "You showed the classifier the clean picture and told it that it is noisy. It will never have seen what "
            "the sampler shows it. Add the noise first: x_t = α·x0 + σ·ε.",
        ),
        Mistake(
            "time-zero",
            lambda classifier, schedule, x0, y, t, eps: noise_aware_loss(
                lambda x, at: classifier(x, torch.zeros_like(at)), schedule, x0, y, t, eps
            ),
            "You showed the noisy picture but told the classifier t = 0. It cannot know how much of what it sees is "
            "noise, nor how sure it may be. Hand it t.",
        ),
        Mistake(
            "one-time-for-all",
            lambda classifier, schedule, x0, y, t, eps: noise_aware_loss(
                classifier, schedule, x0, y, t[:1].expand(len(t)), eps
            ),
            "You used the first picture's noise level for the whole batch. Each picture has its own t: that is how one "
            "batch teaches all noise levels.",
        ),
        Mistake(
            "last-axis",
            _last_axis,
            "Your formula is right, but α and σ of shape (B,) line up with the *last* axis of the pictures, so each "
            "column of pixels got its own noise level. `schedule.add_noise` does it right, or `expand_like(t, x0)`.",
        ),
        Mistake(
            "noise-unscaled",
            _unscaled,
            "You added ε without σ(t): every picture gets the full noise, whatever its t. x_t = α·x0 + σ·ε.",
        ),
        Mistake(
            "probability",
            lambda classifier, schedule, x0, y, t, eps: (
                -_chosen(classifier(schedule.add_noise(x0, eps, t), t).softmax(1), y)
            ),
            "You used minus the probability as the loss. Its minimum is a classifier that bets everything on the "
            "likeliest class; minus the *logarithm* is minimal at the true p(y|x_t), and guidance needs that.",
        ),
    ),
    alternatives=(
        lambda classifier, schedule, x0, y, t, eps: (
            -_chosen(classifier(schedule.add_noise(x0, eps, t), t).log_softmax(1), y)
        ),
        lambda classifier, schedule, x0, y, t, eps: torch.cat(
            [noise_aware_loss(classifier, schedule, *(v[i : i + 1] for v in (x0, y, t, eps))) for i in range(len(x0))]
        ),
    ),
    hints=(
        "What will the sampler show this classifier, and when? Train it on exactly that.",
        "x_t = α(t)·x0 + σ(t)·ε; then the ordinary loss of a classifier, −log f(y|x_t, t), kept per picture.",
        '`schedule.add_noise(x0, eps, t)` and `F.cross_entropy(logits, y, reduction="none")`.',
    ),
    expected="at t = 0.6 on `decoys` the exact p(y|x_t) has the loss 1.004 ± 0.005 (5 seeds), knowing nothing log 3 = "
    "1.099, and the exact classifier of clean points 3.18 ± 0.05.",
    trap="a classifier trained on clean data has an excellent loss on clean data. The number says nothing about the "
    "noisy points where guidance asks it.",
)

# --- 3: from the gradient to the guess --------------------------------------------------------------------------------


def _draw_guesses(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], alpha: float, sigma: float, w: float, dtype: torch.dtype = torch.float64
    ) -> Inputs:
        x0, gradient = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        return x0, gradient, torch.tensor(alpha, dtype=dtype), torch.tensor(sigma, dtype=dtype), w

    return [
        case((4, 2), 0.6, 0.4, w=1.0),  # Linear at t = 0.4
        case((4, 2), 0.6, 0.8, w=3.0),  # a schedule with α² + σ² = 1
        case((1, 3), 0.1, 0.9, w=-1.0),  # a batch of one
        case((2, 1, 3, 3), 0.9, 0.1, w=0.0, dtype=torch.float32),  # no guidance
        case((3, 2), 1.0, 0.0, w=2.0),  # t = 0: no noise left
        case((3, 2), 0.0, 1.0, w=2.0),  # t = 1: a learned gradient is not exactly zero here
        case((2, 1, 3, 3), 0.0, 1.0, w=0.0, dtype=torch.float32),
    ]


def guided_x0(x0: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, w: float) -> Tensor:
    """x̂0 + w·σ²/α·∇log f, and x̂0 where α = 0."""
    return x0 + w * sigma**2 / alpha * gradient if alpha > 0 else x0.clone()


GUIDED_X0 = Exercise(
    id="04-guided-x0",
    title="From the gradient to the guess",
    points=2,
    difficulty=3,
    importance=4,
    minutes=10,
    draw=_draw_guesses,
    reference=guided_x0,
    mistakes=(
        Mistake(
            "division-by-zero",
            lambda x0, gradient, alpha, sigma, w: x0 + w * sigma**2 / alpha * gradient,
            "Your formula is right, but at t = 1 it divides by α = 0 and fills the picture with infinities or NaN. "
            "0·∞ has a limit there, but the gradient alone does not hold it: return x0 as it is.",
        ),
        Mistake(
            "eps-shift",
            lambda x0, gradient, alpha, sigma, w: x0 - w * sigma * gradient,
            "You shifted x̂0 the way ε is shifted: by −w·σ·∇log f. In x̂0 = (x_t − σ·ε)/α the guess of the noise has "
            "the factor −σ/α, so the shift becomes +w·σ²/α·∇log f.",
        ),
        Mistake(
            "sigma-once",
            lambda x0, gradient, alpha, sigma, w: guided_x0(x0, gradient / sigma.clamp(min=1e-9), alpha, sigma, w),
            "You have σ/α where σ²/α belongs. One σ turns the gradient into a shift of ε, the other one turns ε into "
            "a shift of the picture.",
        ),
        Mistake(
            "no-alpha",
            lambda x0, gradient, alpha, sigma, w: x0 + w * sigma**2 * gradient if alpha > 0 else x0.clone(),
            "You left out 1/α. x_t holds α·x0, so a shift of x_t by σ²·∇log f is a shift of x0 that is 1/α times "
            "as large.",
        ),
        Mistake(
            "minus",
            lambda x0, gradient, alpha, sigma, w: guided_x0(x0, -gradient, alpha, sigma, w),
            "You subtracted the shift. It is the guess of the *noise* that loses w·σ·∇log f; the guess of the picture "
            "gains, and moves uphill on log f.",
        ),
        Mistake(
            "one-plus-w",
            lambda x0, gradient, alpha, sigma, w: guided_x0(x0, gradient, alpha, sigma, 1 + w),
            "You weighed the gradient by 1 + w. That is the habit of classifier-free guidance (chapter 05), which "
            "starts at the conditional model. Here you start at the unconditional one: w = 0 leaves x0 as it is.",
        ),
    ),
    alternatives=(
        lambda x0, gradient, alpha, sigma, w: (
            x0 + torch.where(alpha > 0, w * sigma**2 / alpha.clamp(min=1e-30), torch.zeros_like(alpha)) * gradient
        ),
        # By way of ε, with x_t = 0: ε̂ = ε − w·σ·∇log f and x̂0 = (x_t − σ·ε̂)/α.
        lambda x0, gradient, alpha, sigma, w: (
            x0.clone() if alpha == 0 or sigma == 0 else -sigma * (-alpha * x0 / sigma - w * sigma * gradient) / alpha
        ),
    ),
    hints=(
        "Start from what you know: guidance replaces ε by ε − w·σ·∇log f. And x̂0 = (x_t − σ·ε)/α.",
        "Put the first into the second: the x_t part stays, and −σ/α · (−w·σ·∇log f) is left. What happens at α = 0?",
        "`x0 + w * sigma**2 / alpha * gradient`, except where `alpha == 0`: there, `x0`.",
    ),
    expected="at w = 1, with the exact gradient, the guided guess equals E[x0|x_t, y] to 1e-12 at every t up to 0.99; "
    "at t = 1 it is off by 0.66, the length of E[x0|y] − E[x0].",
    trap="for σ = 1 and α = 1 every version agrees, and near t = 0 they all shift by next to nothing. A missing "
    "factor shows in the middle; a missing case only at the very first step, as a picture full of NaN.",
)

# --- 4: Algorithm 1 ---------------------------------------------------------------------------------------------------


def _draw_steps(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], variance: float | None, w: float, dtype: torch.dtype = torch.float64) -> Inputs:
        mean, gradient, noise = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(3))
        learned = torch.rand(*shape, generator=g, dtype=torch.float64)
        spread = learned if variance is None else torch.tensor(variance, dtype=torch.float64)
        return mean, spread.to(dtype), gradient, w, noise

    return [
        case((4, 2), 0.3, w=1.0),
        case((4, 2), 0.04, w=3.0),
        case((2, 1, 3, 3), None, w=2.0, dtype=torch.float32),  # a variance for every pixel, as learned models have
        case((1, 3), 0.3, w=0.0),  # no guidance
        case((3, 2), 0.0, w=2.0),  # the last step
    ]


def algorithm_1_step(mean: Tensor, variance: Tensor, gradient: Tensor, w: float, noise: Tensor) -> Tensor:
    """A draw from N(μ + w·Σ·g, Σ), made of the given standard normal noise."""
    return mean + w * variance * gradient + variance.sqrt() * noise


ALGORITHM_1_STEP = Exercise(
    id="04-algorithm-1-step",
    title="One step of Algorithm 1",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_steps,
    reference=algorithm_1_step,
    mistakes=(
        Mistake(
            "root-on-gradient",
            lambda mean, variance, gradient, w, noise: mean + variance.sqrt() * (w * gradient + noise),
            "You multiplied the gradient by the standard deviation √Σ. The square you complete has Σ⁻¹ in front of "
            "(x − μ)², and its inverse is the variance: the shift is w·Σ·g. √Σ belongs to the noise.",
        ),
        Mistake(
            "variance-on-noise",
            lambda mean, variance, gradient, w, noise: mean + w * variance * gradient + variance * noise,
            "You multiplied the noise by the variance. Σ·z has the variance Σ²; a draw with variance Σ is √Σ·z.",
        ),
        Mistake(
            "no-variance",
            lambda mean, variance, gradient, w, noise: mean + w * gradient + variance.sqrt() * noise,
            "You added the gradient without Σ. A step may move only about as far as it is uncertain: towards the end "
            "Σ goes to 0, and so must the push.",
        ),
        Mistake(
            "w-on-noise",
            lambda mean, variance, gradient, w, noise: mean + w * (variance * gradient + variance.sqrt() * noise),
            "You let w scale the noise as well. w shifts the mean; the covariance stays Σ. Otherwise strong guidance "
            "is drowned in noise, and w = 0 never adds any.",
        ),
        Mistake(
            "w-in-variance",
            lambda mean, variance, gradient, w, noise: mean + w * variance * gradient + (w * variance).sqrt() * noise,
            "You scaled Σ itself by w, in the shift and in the noise. Only the shift of the mean has the factor w.",
        ),
        Mistake(
            "minus",
            lambda mean, variance, gradient, w, noise: mean - w * variance * gradient + variance.sqrt() * noise,
            "You shifted the mean against the gradient, away from y. The minus sign is that of the guess of the noise "
            "in Algorithm 2; means move uphill.",
        ),
    ),
    alternatives=(
        lambda mean, variance, gradient, w, noise: torch.addcmul(mean, variance * w, gradient) + variance**0.5 * noise,
        lambda mean, variance, gradient, w, noise: (
            mean + torch.where(variance > 0, variance, 0 * variance) * (w * gradient) + noise * variance.sqrt()
        ),
    ),
    hints=(
        "You derived it: near μ, p(x_s|x_t)·p(y|x_s)^w is a Gaussian again. Which mean, which covariance?",
        "The mean is μ + w·Σ·g, the covariance is still Σ. How do you make a draw from N(m, Σ) out of standard noise?",
        "`mean + w * variance * gradient` is the mean; add `variance.sqrt() * noise`.",
    ),
    expected="with 200 steps on `three_modes` and y = 0: W1 = 0.012 ± 0.004 at w = 1 (5 seeds; floor 0.008 ± 0.002).",
    trap="at Σ = 1 the variance and its root are the same number, and at w = 1 it does not matter what w multiplies.",
)

# --- 5: Algorithm 2 ---------------------------------------------------------------------------------------------------


def _draw_journeys(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, dim: int, steps: int, schedule: Schedule, w: float, start: float = 0.95) -> Inputs:
        world = isotropic(torch.randn(3, dim, generator=g, dtype=torch.float64), 0.4)

        def eps_model(x: Tensor, t: Tensor) -> Tensor:
            return -schedule(t)[1] * world.score(x, t, schedule)

        def gradient(x: Tensor, t: Tensor) -> Tensor:
            return world.score(x, t, schedule, 0) - world.score(x, t, schedule)

        x = torch.randn(n, dim, generator=g, dtype=torch.float64)
        times = torch.linspace(start, 0.0, steps + 1, dtype=torch.float64)
        return eps_model, gradient, x, times, schedule, w

    return [
        case(4, 2, 8, Linear(), w=1.0),
        case(4, 1, 8, Cosine(), w=3.0),
        case(3, 2, 2, Linear(), w=0.0),  # plain DDIM
        case(1, 2, 1, Linear(), w=1.0, start=0.5),  # a batch of one, a single step
    ]


def algorithm_2(eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float) -> Tensor:
    """DDIM with the guided guess of the noise."""

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule(t)
        return (x_t - sigma * (eps_model(x_t, t) - sigma * w * gradient(x_t, t))) / alpha

    *_, x = sample(guided, x, times, ddim(schedule))
    return x


def _journey(
    noise_for_x0: Callable[..., Tensor], noise_for_step: Callable[..., Tensor], stuck: bool = False
) -> Callable[..., Tensor]:
    """Algorithm 2 with its two uses of the guessed noise left open: each is a function of (ε, w·∇log f, α, σ)."""

    def walk(eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float) -> Tensor:
        for t, s in pairwise(times):
            (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(t if stuck else s)
            seen = eps_model(x, t), w * gradient(x, t), alpha, sigma
            x0 = (x - sigma * noise_for_x0(*seen)) / alpha
            x = alpha_s * x0 + sigma_s * noise_for_step(*seen)
        return x

    return walk


def _right(eps: Tensor, g: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return eps - sigma * g


def _plain(eps: Tensor, g: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return eps


def _everywhere(noise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return _journey(noise, noise)


ALGORITHM_2 = Exercise(
    id="04-algorithm-2",
    title="Algorithm 2, the whole loop",
    points=3,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_journeys,
    reference=algorithm_2,
    mistakes=(
        Mistake(
            "guess-not-guided",
            _journey(_plain, _right),
            "You guided the noise that is put back, but computed x̂0 from the unguided ε. Then α·x̂0 + σ·ε̂ is no longer "
            "x_t, and every step adds a jump, however small the step: with 200 steps the samples fly away. Use ε̂ in "
            "both places.",
        ),
        Mistake(
            "noise-not-guided",
            _journey(_right, _plain),
            "You computed x̂0 from the guided ε̂ but put the unguided ε back. Then α·x̂0 + σ·ε is no longer x_t, and "
            "every step adds a jump: with many steps all samples end on one spot. Use ε̂ in both places.",
        ),
        Mistake(
            "alpha-for-sigma",
            _everywhere(lambda eps, g, alpha, sigma: eps - alpha * g),
            "You scaled the gradient by α = √ᾱ. The paper's √(1 − ᾱ) is our σ: ε = −σ·score, so a gradient that is "
            "added to the score is subtracted from ε with the factor σ.",
        ),
        Mistake(
            "no-sigma",
            _everywhere(lambda eps, g, alpha, sigma: eps - g),
            "You subtracted w·∇log f from ε without the factor σ. Scores and ε differ by −σ; what is added to one must "
            "be converted before it is added to the other.",
        ),
        Mistake(
            "plus",
            _everywhere(lambda eps, g, alpha, sigma: eps + sigma * g),
            "You added the gradient to the guess of the noise. ε = −σ·score points *away* from likely pictures: "
            "subtract, or you sample what is not y.",
        ),
        Mistake(
            "stuck",
            _journey(_right, _right, stuck=True),
            "You put the noise back at level t, where you came from, and so return to the same x. The new x belongs to "
            "the next time s: α_s·x̂0 + σ_s·ε̂.",
        ),
    ),
    alternatives=(
        _everywhere(_right),
        # x_s = (α_s/α_t)·x_t + (σ_s − α_s·σ_t/α_t)·ε̂, the two lines of the loop multiplied out.
        lambda eps_model, gradient, x, times, schedule, w: _multiplied_out(eps_model, gradient, x, times, schedule, w),
    ),
    hints=(
        "Per step: guess the noise, guide the guess, turn it into x̂0, and put x̂0 and the noise together at the next "
        "level. Four lines in a loop over `pairwise(times)`.",
        "ε̂ = ε − σ_t·w·∇log f, then x̂0 = (x − σ_t·ε̂)/α_t. Everything so far belongs to level t.",
        "`x = alpha_s * x0 + sigma_s * eps`, with `alpha_s, sigma_s = schedule(s)` and the *guided* eps.",
    ),
    expected="with 200 steps on `three_modes` and y = 1: W1 = 0.008 ± 0.003 at w = 1 (5 seeds; floor 0.005 ± 0.001); "
    "at w = 3 the variance is 0.00006, where p(x|y) has 0.0225.",
    trap="with the unguided ε put back, every sample still lands in class y, and a judge of classes is delighted. "
    "Only a distance between distributions shows that with 200 steps they have all become the same sample.",
)


def _multiplied_out(
    eps_model: Field, gradient: Field, x: Tensor, times: Tensor, schedule: Schedule, w: float
) -> Tensor:
    for t, s in pairwise(times):
        (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(s)
        eps = eps_model(x, t) - w * sigma * gradient(x, t)
        x = alpha_s / alpha * x + (sigma_s - alpha_s * sigma / alpha) * eps
    return x


# --- 6: is a learned gradient any good? -------------------------------------------------------------------------------


def _draw_fields(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], zero: str = "", dtype: torch.dtype = torch.float64) -> Inputs:
        length = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=g, dtype=torch.float64) * 3
        exact = torch.randn(*shape, generator=g, dtype=torch.float64) * length
        got = exact + torch.randn(*shape, generator=g, dtype=torch.float64)
        got = got * torch.rand(length.shape, generator=g, dtype=torch.float64) * 5
        for name, field in (("got", got), ("exact", exact)):
            if name in zero:
                field[0] = 0.0
        return got.to(dtype), exact.to(dtype)

    return [
        case((6, 2)),
        case((5, 2), zero="exact"),  # nothing to say there, and no weight
        case((5, 3), zero="got"),  # a classifier that says nothing where it should
        case((5, 2), zero="got exact", dtype=torch.float32),
        case((4, 2, 3, 3)),  # pictures: one arrow each, of 18 numbers
    ]


def mean_cosine(got: Tensor, exact: Tensor) -> Tensor:
    """Σ ‖exact‖·cos(got, exact) / Σ ‖exact‖ over the batch."""
    got, exact = got.flatten(1), exact.flatten(1)
    cosine = F.cosine_similarity(got, exact, dim=1, eps=1e-12)
    length = exact.norm(dim=1)
    return (length * cosine).sum() / length.sum()


def _cosines(got: Tensor, exact: Tensor) -> Tensor:
    return F.cosine_similarity(got.flatten(1), exact.flatten(1), dim=1, eps=1e-12)


def _divided(got: Tensor, exact: Tensor) -> Tensor:
    got, exact = got.flatten(1), exact.flatten(1)
    length = exact.norm(dim=1)
    return (length * (got * exact).sum(1) / (got.norm(dim=1) * length)).sum() / length.sum()


def _channels(got: Tensor, exact: Tensor) -> Tensor:
    length = exact.norm(dim=1)
    return (length * F.cosine_similarity(got, exact, dim=1, eps=1e-12)).sum() / length.sum()


MEAN_COSINE = Exercise(
    id="04-mean-cosine",
    title="Is a learned gradient any good?",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_fields,
    reference=mean_cosine,
    mistakes=(
        Mistake(
            "plain-mean",
            lambda got, exact: _cosines(got, exact).mean(),
            "You gave every point the same weight. Where the exact arrow is almost zero, its direction decides "
            "nothing and is hard to learn: weigh each cosine by the length of the exact arrow.",
        ),
        Mistake(
            "one-long-vector",
            lambda got, exact: F.cosine_similarity(got.flatten(), exact.flatten(), dim=0),
            "You made one long vector of the whole batch and took its cosine. That also judges the lengths: a field "
            "with perfect directions and uneven lengths would be marked down. One cosine per point, then the average.",
        ),
        Mistake(
            "weighed-by-got",
            lambda got, exact: (
                (_cosines(got, exact) * got.flatten(1).norm(dim=1)).sum() / got.flatten(1).norm(dim=1).sum()
            ),
            "You weighed by the length of the *learned* arrow. Then a classifier chooses its own exam: it can be "
            "silent where it is wrong. Weigh by the exact arrow.",
        ),
        Mistake(
            "not-normalised",
            lambda got, exact: (_cosines(got, exact) * exact.flatten(1).norm(dim=1)).mean(),
            "Your weights do not add up to 1, so the result depends on how long the arrows are and can exceed 1. "
            "Divide by the sum of the weights, not by the number of points.",
        ),
        Mistake(
            "zero-by-zero",
            _divided,
            "Your formula is right, but an arrow of length zero makes it 0/0. A silent classifier has cosine 0 there; "
            "`F.cosine_similarity` sees to that, or clamp the length from below.",
        ),
        Mistake(
            "one-axis-only",
            _channels,
            "You took lengths and products along axis 1 only. For points that is the whole arrow, but a picture's "
            "arrow is all its numbers together: `flatten(1)` first.",
        ),
    ),
    alternatives=(
        lambda got, exact: (
            (F.normalize(got.flatten(1), dim=1) * exact.flatten(1)).sum() / exact.flatten(1).norm(dim=1).sum()
        ),
        lambda got, exact: (
            torch.stack([(g * e).sum() / g.norm().clamp(min=1e-12) for g, e in zip(got, exact)]).sum()
            / torch.stack([e.norm() for e in exact]).sum()
        ),
    ),
    hints=(
        "First one cosine per point: ⟨got, exact⟩/(‖got‖·‖exact‖), over everything but the batch axis.",
        "Then a weighted average: Σ weight·cosine / Σ weight, where the weight is ‖exact‖.",
        "`F.cosine_similarity(got.flatten(1), exact.flatten(1), dim=1)` and `exact.flatten(1).norm(dim=1)`.",
    ),
    expected="the exact *clean* classifier of `decoys`, asked at t = 0.9, has the mean cosine 0.634 ± 0.007 (5 seeds).",
    trap="the plain mean is the same number wherever all arrows are about equally long, and the cosine of one long "
    "vector is the same wherever the learned lengths are right as well.",
)

EXERCISES = (CLASSIFIER_GRADIENT, NOISE_AWARE_LOSS, GUIDED_X0, ALGORITHM_1_STEP, ALGORITHM_2, MEAN_COSINE)
