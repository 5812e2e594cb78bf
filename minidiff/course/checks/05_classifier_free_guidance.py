"""The exercises of chapter 05: inputs, right answers, and wrong ones that deserve an answer of their own."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.guidance import Denoise, bind, extrapolate, within
from minidiff.judges.coverage import covered, precision, recall
from minidiff.predictions import EPS, VELOCITY
from minidiff.schedules import Linear
from minidiff.training import drop_condition

# --- 1: the formula, one strength per picture -------------------------------------------------------------------------


def _draw_branches(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], w: list[float], dtype: torch.dtype = torch.float64) -> Inputs:
        cond, null = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
        return cond, null, torch.tensor(w, dtype=dtype)

    # As many pictures as pixels in a row: a strength that is laid along the wrong axis goes unnoticed by PyTorch.
    return [
        case((4, 1, 4, 4), [0.0, 1.0, 3.0, 7.5]),
        case((3, 3), [-1.0, 0.0, 2.0]),  # unconditional, conditional, guided
        case((3, 3), [0.5, 0.5, 0.5], torch.float32),
        case((1, 2, 3, 3), [3.0]),  # a batch of one
    ]


def combine(cond: Tensor, null: Tensor, w: Tensor) -> Tensor:
    """(1 + w)·cond − w·null, one w per picture."""
    return extrapolate(lambda x, t: cond, lambda x, t: null, w)(cond, torch.tensor(0.0))


def _per_picture(w: Tensor, like: Tensor) -> Tensor:
    return w.reshape(-1, *[1] * (like.ndim - 1))


COMBINE = Exercise(
    id="05-combine-branches",
    title="Combine the two branches",
    points=2,
    difficulty=2,
    importance=5,
    minutes=8,
    draw=_draw_branches,
    reference=combine,
    mistakes=(
        Mistake(
            "scale-for-w",
            lambda cond, null, w: null + _per_picture(w, cond) * (cond - null),
            "You used w where other libraries have their guidance_scale s = 1 + w: your w = 1 gives the plain "
            "conditional, and w = 0 ignores the condition. Here w counts from the conditional branch.",
        ),
        Mistake(
            "swapped",
            lambda cond, null, w: null + _per_picture(w, cond) * (null - cond),
            "You swapped the branches: this starts at the unconditional one and runs away from the condition. "
            "At w = 0 you must get `cond` back.",
        ),
        Mistake(
            "plus",
            lambda cond, null, w: (1 + _per_picture(w, cond)) * cond + _per_picture(w, cond) * null,
            "You added w·null instead of subtracting it. The two weights must add up to 1: (1 + w) and −w.",
        ),
        Mistake(
            "interpolation",
            lambda cond, null, w: (1 - _per_picture(w, cond)) * cond + _per_picture(w, cond) * null,
            "You moved from `cond` towards `null`: (1 − w) and w. Guidance goes the other way, past `cond` and "
            "away from `null`: (1 + w) and −w.",
        ),
        Mistake(
            "last-axis",
            lambda cond, null, w: cond + w * (cond - null),
            "Your formula is right, but w of shape (B,) lines up with the *last* axis of the pictures, so each column "
            "of pixels got its own strength. Give w trailing ones first: shape (B, 1, 1, 1) for pictures.",
        ),
    ),
    alternatives=(
        lambda cond, null, w: (1 + _per_picture(w, cond)) * cond - _per_picture(w, cond) * null,
        lambda cond, null, w: torch.stack([(1 + a) * c - a * n for c, n, a in zip(cond, null, w)]),
        lambda cond, null, w: torch.lerp(null, cond, 1 + _per_picture(w, cond)),
    ),
    hints=(
        "Three values you know: w = 0 is `cond`, w = −1 is `null`, and the formula is a straight line in w.",
        "The line through both is cond + w·(cond − null). Now look at the shapes: w is (B,), cond is (B, …).",
        "`w.reshape(-1, *[1] * (cond.ndim - 1))` has one strength per picture and broadcasts over the rest.",
    ),
    expected="of 500 guided points 1.000 ± 0.000 (5 seeds) are judged class 0 at w = 3, and 0.81 ± 0.02 at w = 0.",
    trap="null + w·(cond − null) is what most libraries compute, under the name guidance_scale: same formula, w "
    "shifted by one. And a strength along the wrong axis raises no error when there are as many pictures as columns.",
)

# --- 2: dropping labels -----------------------------------------------------------------------------------------------


def _draw_labels(seed: int) -> list[Inputs]:
    # So many that two right answers with different random numbers differ by 0.004 (one standard deviation) in the
    # smallest class: the tolerance of 0.02 is five times as wide.
    def case(i: int, p: float, n_classes: int = 10, n: int = 200_000) -> Inputs:
        g = Generator().manual_seed(10 * seed + i)
        y = torch.randint(n_classes, (n,), generator=g).sort().values
        return y, n_classes, p, g

    return [case(0, 0.15), case(1, 0.5, n_classes=3), case(2, 0.1), case(3, 0.0, n=50), case(4, 1.0, n=50)]


def drop_labels(y: Tensor, null: int, p: float, generator: Generator) -> Tensor:
    """Each label becomes `null` with probability p, independently of the others."""
    return drop_condition({"y": y}, {"y": torch.tensor(null)}, p, generator)["y"]


def _dropped(answer: Tensor, y: Tensor, null: int, p: float, generator: Generator) -> tuple[Tensor, ...]:
    """Shares dropped (of all, of class 0), share of the rest that kept its label, and the answer's shape and type."""
    if not isinstance(answer, Tensor) or answer.shape != y.shape:
        return (answer,)
    gone = answer == null
    kept = (answer == y) | gone
    return gone.double().mean(), gone[y == 0].double().mean(), kept.double().mean(), torch.zeros_like(answer)


def _whole_batch(y: Tensor, null: int, p: float, generator: Generator) -> Tensor:
    return torch.full_like(y, null) if float(torch.rand((), generator=generator)) < p else y.clone()


def _first_rows(y: Tensor, null: int, p: float, generator: Generator) -> Tensor:
    return torch.where(torch.arange(len(y)) < round(p * len(y)), null, y)


DROP = Exercise(
    id="05-drop-labels",
    title="Drop the condition, picture by picture",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_labels,
    reference=drop_labels,
    probe=_dropped,
    rtol=0.0,
    atol=0.02,
    mistakes=(
        Mistake(
            "whole-batch",
            _whole_batch,
            "You flipped one coin for the whole batch: all labels go or all stay. The rate is right over many batches, "
            "but every step then trains one branch only. Flip one coin per picture.",
        ),
        Mistake(
            "kept-with-p",
            lambda y, null, p, generator: torch.where(torch.rand(len(y), generator=generator) < p, y, null),
            "You kept each label with probability p and dropped the others. p is the share that is dropped.",
        ),
        Mistake(
            "class-zero",
            lambda y, null, p, generator: torch.where(torch.rand(len(y), generator=generator) < p, 0, y),
            "You replaced labels by 0, which is a class of its own: the network would learn that class 0 looks like "
            "everything. Replace them by `null`, the number that no class has.",
        ),
        Mistake(
            "first-rows",
            _first_rows,
            "You dropped the first p·B rows. If a batch is ordered (here by class), some classes are always dropped "
            "and others never. Which labels go must be random, and must not depend on the label.",
        ),
        Mistake(
            "never",
            lambda y, null, p, generator: y.clone(),
            "No label was dropped. Compare one random number per picture with p, and use the result.",
        ),
    ),
    alternatives=(
        lambda y, null, p, generator: y.masked_fill(torch.rand(y.shape, generator=generator) < p, null),
        lambda y, null, p, generator: torch.where(
            torch.bernoulli(torch.full(y.shape, p), generator=generator).bool(), torch.full_like(y, null), y
        ),
    ),
    hints=(
        "How many random numbers do you need for a batch of B labels? One, or B?",
        "`torch.rand(len(y), generator=generator) < p` is true for a share p of the pictures.",
        "`torch.where(mask, null, y)` takes `null` where the mask is true, and leaves `y` itself untouched.",
    ),
    expected="of the 2,000 labels of each class a share of 0.151 ± 0.008 (5 seeds) is dropped at p = 0.15.",
    trap="one coin per batch, or the first rows of each batch, drop the right share on average, so the loss curve "
    "looks healthy; what suffers is the null branch, which you only look at when you guide.",
)

# --- 3: guidance in velocity space ------------------------------------------------------------------------------------


def _draw_velocities(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(shape: tuple[int, ...], t: float, w: float, dtype: torch.dtype = torch.float64) -> Inputs:
        x_t, cond, null = (torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(3))
        return x_t, torch.tensor(t, dtype=dtype), cond, null, w

    return [
        case((5, 2), 0.3, 3.0),
        case((5, 2), 0.8, 0.0),  # no guidance: only the change of coordinates is left
        case((5, 2), 0.5, -1.0),
        case((1, 2), 0.05, 7.0),
        case((2, 1, 4, 4), 0.9, 1.5, torch.float32),
    ]


def guided_velocity(x_t: Tensor, t: Tensor, eps_cond: Tensor, eps_null: Tensor, w: float) -> Tensor:
    """Guide two ε-predictions and return the velocity dx/dt of the Linear path."""
    eps = eps_cond + w * (eps_cond - eps_null)
    x0 = EPS.to_x0(Linear(), x_t, eps, t)
    return VELOCITY.target(Linear(), x0, eps, t)


def _velocity(x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return (eps - x_t) / (1 - t)


VELOCITIES = Exercise(
    id="05-velocity-guidance",
    title="Guide in one space, step in another",
    points=3,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_velocities,
    reference=guided_velocity,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake(
            "xt-for-x0",
            lambda x_t, t, eps_cond, eps_null, w: eps_cond + w * (eps_cond - eps_null) - x_t,
            "You subtracted x_t where the velocity ε − x0 needs the clean point x0. First solve "
            "x_t = (1 − t)·x0 + t·ε for x0.",
        ),
        Mistake(
            "mixed-spaces",
            lambda x_t, t, eps_cond, eps_null, w: _velocity(x_t, t, eps_cond) + w * (eps_cond - eps_null),
            "You added the guidance in ε to a velocity that is not guided: u_cond + w·(ε_cond − ε_null). That also "
            "happens if only the ε of ε − x0 is guided and x0 comes from the conditional branch. Make both from the "
            "guided ε.",
        ),
        Mistake(
            "offset-lost",
            lambda x_t, t, eps_cond, eps_null, w: (eps_cond + w * (eps_cond - eps_null)) / (1 - t),
            "The term with x_t is missing. The weights 1 + w and −w add up to 1, so the x_t of the two branches does "
            "not cancel: exactly one −x_t/(1 − t) stays.",
        ),
        Mistake(
            "t-for-one-minus-t",
            lambda x_t, t, eps_cond, eps_null, w: (eps_cond + w * (eps_cond - eps_null) - x_t) / t,
            "You divided by t. In x_t = (1 − t)·x0 + t·ε the clean point carries the factor 1 − t, "
            "and that is the one to divide by.",
        ),
        Mistake(
            "towards-data",
            lambda x_t, t, eps_cond, eps_null, w: -_velocity(x_t, t, eps_cond + w * (eps_cond - eps_null)),
            "Your arrow points from noise to data. dx/dt = ε − x0 points from data to noise, "
            "because t grows that way; the sampler's negative step turns it round.",
        ),
    ),
    alternatives=(
        lambda x_t, t, eps_cond, eps_null, w: _velocity(x_t, t, (1 + w) * eps_cond - w * eps_null),
        lambda x_t, t, eps_cond, eps_null, w: (1 + w) * _velocity(x_t, t, eps_cond) - w * _velocity(x_t, t, eps_null),
    ),
    hints=(
        "Guide first, in ε. What is left is one change of coordinates, from the guided ε to the velocity.",
        "From x_t = (1 − t)·x0 + t·ε follows x0 = (x_t − t·ε)/(1 − t); put it into the velocity ε − x0.",
        "All terms together: `(eps - x_t) / (1 - t)`, with `eps = eps_cond + w * (eps_cond - eps_null)`.",
    ),
    expected="guiding before and after the change of coordinates agree to 1e-12 in float64 (5 seeds).",
    trap="at w = 0 mixing the spaces costs nothing, and at small t neither do t-dependent factors: 1 − t is near 1. "
    "So a picture at small w looks fine, and the error shows as too little guidance at large t.",
)

# --- 4: what variance CFG gives ---------------------------------------------------------------------------------------


def _draw_variances(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)
    c, d = 0.5 + torch.rand(2, generator=g, dtype=torch.float64)
    return [
        (1.0, 2.0, 1.0),  # the lecture's pair
        (1.0, 2.0, 2.0),
        (float(c), float(c + d), 3.0),
        (float(c), float(c + d), 0.0),  # the conditional itself
        (float(c), float(c + d), -1.0),  # the unconditional
        (0.25, 0.25, 7.0),  # the condition says nothing about the width
    ]


def cfg_variances(c: float, d: float, w: float) -> tuple[float, float]:
    """(variance that the guided ODE samples, variance of the tilted density)."""
    ode = math.exp((1 + w) * math.log(c) - w * math.log(d))
    return ode, 1 / ((1 + w) / c - w / d)


VARIANCES = Exercise(
    id="05-cfg-variance",
    title="The variance that guidance samples",
    points=3,
    difficulty=4,
    importance=4,
    minutes=15,
    draw=_draw_variances,
    reference=cfg_variances,
    mistakes=(
        Mistake(
            "tilted-twice",
            lambda c, d, w: (1 / ((1 + w) / c - w / d),) * 2,
            "Both of your values are the variance of the tilted density. That is what guidance is often said to "
            "sample; the ODE ends elsewhere. Integrate it: its log-variance is a difference of two logarithms.",
        ),
        Mistake(
            "standard-deviation",
            lambda c, d, w: (c ** ((1 + w) / 2) * d ** (-w / 2), 1 / ((1 + w) / c - w / d)),
            "Your first value is a standard deviation: the ODE is for x, and the variance grows with x². Square it.",
        ),
        Mistake(
            "scale-for-w",
            lambda c, d, w: (c**w * d ** (1 - w), 1 / (w / c + (1 - w) / d)),
            "You took w for the weight γ of the conditional branch. That weight is 1 + w, and the other one −w: "
            "at w = 0 both values must be c.",
        ),
        Mistake(
            "straight-line",
            lambda c, d, w: ((1 + w) * c - w * d, 1 / ((1 + w) / c - w / d)),
            "You extrapolated the variances themselves; for c = 1, d = 2, w = 1 that would be 0. "
            "The *scores* are extrapolated. In the integral that makes a straight line in log-variance.",
        ),
        Mistake(
            "inverted",
            lambda c, d, w: (d ** (1 + w) * c**-w, 1 / ((1 + w) / d - w / c) if (1 + w) / d != w / c else math.inf),
            "You exchanged the conditional (c) and the unconditional (d): at w = 0 both values must be c.",
        ),
    ),
    alternatives=(
        lambda c, d, w: (c * (c / d) ** w, c * d / ((1 + w) * d - w * c)),
        lambda c, d, w: (torch.tensor(c) ** (1 + w) / torch.tensor(d) ** w, 1 / (1 / c + w * (1 / c - 1 / d))),
    ),
    hints=(
        "Two checks before you start: at w = 0 both values are c, at w = −1 both are d.",
        "Tilted: exponents add, so precisions (1/variance) combine with the weights 1 + w and −w. ODE: with u = σ², "
        "dx/du = x/2·((1 + w)/(c + u) − w/(d + u)); integrate d log x.",
        "log x² = (1 + w)·log(c + u) − w·log(d + u) + constant. Take u → ∞, where x² ≈ u, and u = 0.",
    ),
    expected="for c = 1, d = 2, w = 2 the sampler gives 0.252 ± 0.005 (5 seeds of 20,000 points): the ODE's 1/4, "
    "not the tilted density's 1/2.",
    trap="at w = 0 and w = −1, the two values everybody checks, the ODE's answer and the tilted density agree. "
    "They part at every other w, because noising and tilting do not commute.",
)

# --- 5: guidance in an interval ---------------------------------------------------------------------------------------


class _Counting:
    """A smooth made-up model of (x_t, t, y) that counts the pictures it is asked about."""

    def __init__(self, seed: int):
        g = Generator().manual_seed(seed)
        self.shift = torch.randn(4, 2, generator=g, dtype=torch.float64)
        self.pictures = 0

    def __call__(self, x_t: Tensor, t: Tensor, *, y: Tensor) -> Tensor:
        self.pictures += len(x_t)
        return torch.tanh(x_t + self.shift[y].to(x_t)) * (1 - t / 2)


def _draw_intervals(seed: int) -> list[Inputs]:
    def case(i: int, n: int, w: float, low: float, high: float) -> Inputs:
        y = torch.arange(n) % 3
        return _Counting(10 * seed + i), y, torch.full((n,), 3), w, low, high

    return [
        case(0, 5, 3.0, 0.25, 0.75),
        case(1, 1, 7.0, 0.0, 0.5),
        case(2, 4, -1.0, 0.5, 1.0),
        case(3, 3, 1.0, 0.0, 1.0),
    ]


def interval(model: Callable[..., Tensor], y: Tensor, null: Tensor, w: float, low: float, high: float) -> Denoise:
    """Classifier-free guidance while low ≤ t ≤ high, the plain conditional outside."""
    plain = bind(model, y=y)
    return within(extrapolate(plain, bind(model, y=null), w), plain, low, high)


def _along_t(answer: Denoise, model: _Counting, y: Tensor, *rest: object) -> tuple[Tensor, ...]:
    """x̂0 at five times, ends of the interval included, and how many pictures the model saw on the way."""
    x = torch.linspace(-1, 1, 2 * len(y), dtype=torch.float64).reshape(len(y), 2)
    found = [answer(x, torch.tensor(t, dtype=torch.float64)) for t in (1.0, 0.75, 0.5, 0.25, 0.0)]
    return torch.stack(found), torch.tensor(model.pictures)


def _switched(when: Callable[[float, float, float], bool], outside: str = "cond") -> Callable[..., Denoise]:
    def wrong(model: Callable[..., Tensor], y: Tensor, null: Tensor, w: float, low: float, high: float) -> Denoise:
        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            if not when(float(t), low, high):
                return model(x_t, t, y=y if outside == "cond" else null)
            cond = model(x_t, t, y=y)
            return cond + w * (cond - model(x_t, t, y=null))

        return denoise

    return wrong


def _wasteful(model, y, null, w, low, high):
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        cond, uncond = model(x_t, t, y=y), model(x_t, t, y=null)
        return cond + w * (cond - uncond) if low <= float(t) <= high else cond

    return denoise


def _batched(model, y, null, w, low, high):
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if not low <= float(t) <= high:
            return model(x_t, t, y=y)
        cond, uncond = model(torch.cat([x_t, x_t]), t, y=torch.cat([y, null])).chunk(2)
        return torch.lerp(uncond, cond, 1 + w)

    return denoise


INTERVAL = Exercise(
    id="05-guidance-interval",
    title="Guide only where it helps",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_intervals,
    reference=interval,
    probe=_along_t,
    mistakes=(
        Mistake(
            "inside-out",
            _switched(lambda t, low, high: not low <= t <= high),
            "You guide outside the interval and leave the inside plain. Turn the condition round.",
        ),
        Mistake(
            "null-outside",
            _switched(lambda t, low, high: low <= t <= high, outside="null"),
            "Outside the interval you fall back to the unconditional branch, so the label is forgotten there. "
            "Fall back to the conditional one (w = 0), not to w = −1.",
        ),
        Mistake(
            "both-always",
            _wasteful,
            "The values are right, but you evaluate the null branch also where nothing uses it. Half of the gain of an "
            "interval is speed: call the model once outside it.",
        ),
        Mistake(
            "one-sided",
            _switched(lambda t, low, high: t <= high),
            "You check the upper end of the interval only: below `low` guidance should be off as well.",
        ),
        Mistake(
            "open-ends",
            _switched(lambda t, low, high: low < t < high),
            "Your interval leaves out its own ends. They belong to it: low ≤ t ≤ high. At t = 1, pure noise, "
            "this decides whether the very first step is guided.",
        ),
        Mistake(
            "always",
            _switched(lambda t, low, high: True),
            "You guide at every t: `low` and `high` are not used.",
        ),
    ),
    alternatives=(_batched, _switched(lambda t, low, high: not (t < low or t > high))),
    hints=(
        "Return a function of (x_t, t) that asks: is t in the interval?",
        "Outside: `model(x_t, t, y=y)` and nothing else. Inside: both branches, combined with w.",
        "`if low <= float(t) <= high:` … Beware of evaluating the null branch before this line.",
    ),
    expected="w = 3 for t ≤ 0.4 gives accuracy 0.995 ± 0.003 with 0.56 ± 0.02 of the points in the lookalike clouds; "
    "guided everywhere only 0.23 ± 0.03 are there (5 seeds).",
    trap="evaluating both branches everywhere gives the right points, so no picture tells you; only the clock does.",
)

# --- 6: neighbour recall ----------------------------------------------------------------------------------------------


def _draw_clouds(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def cloud(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return scale * torch.randn(n, d, generator=g, dtype=torch.float64) + shift

    return [
        (cloud(60, 2), cloud(60, 2), 3),
        (cloud(60, 2), cloud(60, 2, 0.5), 3),  # fakes that vary too little
        (cloud(40, 3), cloud(70, 3, 1.0, 1.0), 2),  # unequal sizes, fakes beside the data
        (torch.cat([cloud(30, 2), cloud(30, 2, 1.0, 20.0)]), cloud(50, 2), 1),  # one of two modes forgotten
        (cloud(5, 2), cloud(4, 2), 3),  # k is as large as it may be
    ]


def neighbour_recall(real: Tensor, fake: Tensor, k: int) -> float:
    """Share of real points in at least one ball around a fake point."""
    return recall(real, fake, k)


def _radii(cloud: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other point."""
    return torch.cdist(cloud, cloud, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, k]


def _self_counted(real: Tensor, fake: Tensor, k: int) -> float:
    return float((torch.cdist(real, fake) <= _radii(fake, k - 1)).any(1).double().mean())


def _nearest_ball(real: Tensor, fake: Tensor, k: int) -> float:
    distance, nearest = torch.cdist(real, fake).min(1)
    return float((distance <= _radii(fake, k)[nearest]).double().mean())


def _by_hand(real: Tensor, fake: Tensor, k: int) -> float:
    hits = 0
    radius = [torch.linalg.vector_norm(fake - f, dim=1).sort().values[k] for f in fake]
    for r in real:
        hits += any(torch.linalg.vector_norm(r - f) <= size for f, size in zip(fake, radius))
    return hits / len(real)


RECALL = Exercise(
    id="05-neighbour-recall",
    title="Measure what guidance costs",
    points=3,
    difficulty=3,
    importance=4,
    minutes=12,
    draw=_draw_clouds,
    reference=neighbour_recall,
    mistakes=(
        Mistake(
            "precision",
            lambda real, fake, k: precision(real, fake, k),
            "This is precision: the share of fakes near the data. Recall asks the other way round: "
            "which share of the *real* points lies in the balls around the *fakes*?",
        ),
        Mistake(
            "self-counted",
            _self_counted,
            "Each fake point counted itself among its neighbours, at distance 0, so all balls are one neighbour too "
            "small (and empty for k = 1). Take the k-th nearest *other* point.",
        ),
        Mistake(
            "real-radius",
            lambda real, fake, k: float(
                (torch.cdist(real, fake) <= _radii(real, min(k, len(real) - 1))[:, None]).any(1).double().mean()
            ),
            "Your balls are centred on the real points. That measure exists under the name of coverage "
            "(arXiv 2002.09797), but recall builds its balls around the fakes, with the fakes' own spacing.",
        ),
        Mistake(
            "nearest-ball",
            _nearest_ball,
            "You tested the ball of the nearest fake only. A lonely fake further away may have a ball large enough to "
            "reach the point: it is covered if *any* ball holds it.",
        ),
        Mistake(
            "mean-radius",
            lambda real, fake, k: float((torch.cdist(real, fake) <= _radii(fake, k).mean()).any(1).double().mean()),
            "You gave all balls the same, average radius. Each fake has its own: the distance to its k-th neighbour, "
            "small in crowds and large in thin places.",
        ),
    ),
    alternatives=(
        _by_hand,
        lambda real, fake, k: covered(real, fake, k).double().mean(),
    ),
    shortcuts=("minidiff.judges.coverage.covered", "minidiff.judges.coverage.precision"),
    hints=(
        "Two steps: a radius for every fake point, then a yes or no for every real point.",
        "`torch.cdist(fake, fake)` has zeros on its diagonal: each point is its own nearest. Which order statistic is "
        "the k-th nearest *other* one?",
        "`radius = torch.cdist(fake, fake).sort(1).values[:, k]`; a real point counts if its distance to any fake is "
        "at most that fake's radius.",
    ),
    expected="recall is 0.970 ± 0.007 at w = 0, 0.53 ± 0.02 at w = 3 and 0.21 ± 0.03 at w = 7 (5 seeds of 500 points).",
    trap="precision and recall are the same function with the arguments exchanged, and for a good sampler they are the "
    "same number. Guidance pulls them apart: precision stays, recall falls.",
)

EXERCISES = (COMBINE, DROP, VELOCITIES, VARIANCES, INTERVAL, RECALL)
