"""Labelled Gaussian mixtures: the worlds where every score is known.

x0 ~ Σ_k π_k N(m_k, C_k), each component k carrying a label y_k. Noised by x_t = α·x0 + σ·ε it stays a mixture,

    p_t(x) = Σ_k π_k N(x; α·m_k, α²·C_k + σ²·I),

so the density, the score, E[x0|x_t], p(y|x_t) and everything conditioned on y are sums over components. A `schedule`
below is any function t → (α, σ); t is a scalar or has shape (B,). The dtype is that of `means`; float64 is best.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from minidiff.shapes import expand_like
from minidiff.validate import describe, integer, positive, require, require_floating, require_shape, require_time

Levels = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Mixture:
    """means (K, D); covariances (K, D, D); weights (K,) summing to 1; labels (K,) int64, all 0 … n_classes − 1 in use.

    Covariances are symmetric and positive semi-definite up to rounding, as those measured from data: an eigenvalue that
    is negative by less than 1e-5 of the largest counts as 0. Along such an axis a component has no density at σ = 0;
    σ² is read as a tiny number there, so that what is asked at t = 0 has its limit.

    Methods take x_t of shape (B, D); with `y`, an int or (B,) int64, they condition on the label; with `y=None`, or −1
    in single entries of a tensor, they do not.
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor
    labels: Tensor
    _axes: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)  # of the covariances, see `_axes_of`
    _scale: float = field(init=False, repr=False, compare=False)  # the largest variance or squared coordinate

    def __post_init__(self) -> None:
        require_floating("means", self.means, finite=True)
        fits = self.means.ndim == 2 and self.means.dtype in (torch.float32, torch.float64)
        require(fits, "means", describe(self.means), "shape (K, D), float32 or float64")
        k, d = self.means.shape
        require_floating("covariances", self.covariances, finite=True)
        require_shape("covariances", self.covariances, (k, d, d))
        weights, labels = self.weights, self.labels
        fits = weights.shape == (k,) and bool((weights >= 0).all()) and abs(float(weights.sum()) - 1) < 1e-6
        require(fits, "weights", weights.tolist(), f"{k} non-negative numbers that sum to 1")
        require(labels.shape == (k,) and labels.dtype == torch.int64, "labels", describe(labels), f"int64 ({k},)")
        used = labels.unique().tolist()
        require(used == list(range(len(used))), "labels", used, "labels 0 … n_classes − 1, all in use")
        axes = _axes_of(covariances := self.covariances.to(self.means))
        scale = max(float(self.means.abs().max()) ** 2, float(axes[0].max())) or 1.0
        own = {"covariances": covariances, "weights": weights.to(self.means), "_axes": axes, "_scale": scale}
        self.__dict__.update(own)  # a frozen dataclass lets nobody else write

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    def of_class(self, y: int) -> "Mixture":
        """p(x0 | y): the components with label y, relabelled 0."""
        y = integer("y", y, least=0)
        require(y < self.n_classes, "y", y, f"a label 0 … {self.n_classes - 1} of {self.n_classes} classes")
        rows = self.labels == y
        weights = self.weights[rows] / self.weights[rows].sum()
        return Mixture(self.means[rows], self.covariances[rows], weights, torch.zeros_like(self.labels[rows]))

    def sample(self, n: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """n exact samples: x0 (n, D) and their labels y (n,)."""
        k = torch.multinomial(self.weights, integer("n", n), replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, generator=generator, dtype=self.means.dtype)
        return self.means[k] + torch.einsum("nij,nj->ni", self._roots()[k], noise), self.labels[k]

    def _roots(self) -> Tensor:
        """R with R·Rᵀ = C, (K, D, D), also of singular matrices."""
        values, vectors = self._axes
        return vectors * values.sqrt()[:, None, :]

    def draw(self, batch_size: int) -> Callable[[Generator], dict[str, Tensor]]:
        """A draw for training: generator → {"x0": (B, D) float32, "y": (B,)}."""

        def batch(generator: Generator) -> dict[str, Tensor]:
            x0, y = self.sample(batch_size, generator)
            return {"x0": x0.float(), "y": y}

        return batch

    def _spread(self, x_t: Tensor, t: Tensor, schedule: Levels) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """α and σ, scalars or (B, 1, 1); the eigenvalues of α²·C_k + σ²·I, (K, D) or (B, K, D), and C_k's `_axes`."""
        require_floating("x_t", x_t)
        require(x_t.ndim == 2 and x_t.shape[1] == self.dim, "x_t", describe(x_t), f"shape (B, {self.dim})")
        require_time(t, batch=len(x_t))
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        levels = schedule(expand_like(t.to(self.means.dtype), x_t[:, None]))
        alpha, sigma, values, vectors = (v.to(x_t.device, dtype) for v in (*levels, *self._axes))
        least = torch.finfo(dtype).eps ** 1.5 * self._scale
        return alpha, sigma, (alpha**2 * values + sigma**2).clamp(min=least), values, vectors

    def _components(self, x_t: Tensor, t: Tensor, schedule: Levels) -> tuple[Tensor, Tensor, Tensor]:
        """log N(x_t; α·m_k, α²·C_k + σ²·I) of shape (B, K); its gradient and E[x0 | x_t, k], both (B, K, D)."""
        alpha, _, spread, values, vectors = self._spread(x_t, t, schedule)
        means = self.means.to(vectors)
        away = torch.einsum("kji,bkj->bki", vectors, x_t.to(vectors)[:, None, :] - alpha * means)  # on C_k's axes
        solved = away / spread  # (α²·C_k + σ²·I)⁻¹ (x_t − α·m_k)
        log_normal = -0.5 * ((away * solved).sum(-1) + spread.log().sum(-1) + self.dim * math.log(2 * math.pi))
        back = lambda along: torch.einsum("kij,bkj->bki", vectors, along)
        return log_normal, -back(solved), means + back(alpha * values * solved)

    def _log_priors(self, y: int | Tensor | None, like: Tensor) -> Tensor:
        """log π_k given y, (1 or B, K): −∞ for components of another label; unconditioned where y is None or −1."""
        log_weights, labels = self.weights.to(like).log(), self.labels.to(like.device)
        if y is None:
            return log_weights[None]
        wanted = self._wanted(y, like, -1)
        masked = log_weights.masked_fill((wanted >= 0) & (labels != wanted), -torch.inf)
        total = masked.logsumexp(1, keepdim=True)
        require(bool((total > -torch.inf).all()), "y", describe(y), "labels whose components do not all weigh 0")
        return masked - total

    def _wanted(self, y: int | Tensor, like: Tensor, least: int) -> Tensor:
        """y as int64 labels (1 or B, 1), from `least` on."""
        wanted = torch.as_tensor(y, device=like.device).reshape(-1, 1)
        expected = f"labels 0 … {self.n_classes - 1} of {self.n_classes} classes" + (", or −1" if least < 0 else "")
        whole = not (wanted.is_floating_point() or wanted.is_complex() or wanted.dtype == torch.bool)
        require(whole and len(wanted) in (1, len(like)), "y", describe(y), f"{expected}, an int or ({len(like)},)")
        require(bool(((wanted >= least) & (wanted < self.n_classes)).all()), "y", describe(y), expected)
        return wanted.long()

    def log_prob(self, x_t: Tensor, t: Tensor, schedule: Levels, y: int | Tensor | None = None) -> Tensor:
        """log p_t(x_t) or log p_t(x_t | y), shape (B,)."""
        log_normal, _, _ = self._components(x_t, t, schedule)
        return (self._log_priors(y, log_normal) + log_normal).logsumexp(1)

    def score(self, x_t: Tensor, t: Tensor, schedule: Levels, y: int | Tensor | None = None) -> Tensor:
        """∇_x log p_t(x_t) or ∇_x log p_t(x_t | y), shape (B, D), in closed form."""
        log_normal, slope, _ = self._components(x_t, t, schedule)
        return self._averaged(slope, log_normal, y, x_t)

    def denoise(self, x_t: Tensor, t: Tensor, schedule: Levels, y: int | Tensor | None = None) -> Tensor:
        """E[x0 | x_t] or E[x0 | x_t, y], shape (B, D), in closed form (also at σ = 0 and α = 0)."""
        log_normal, _, x0 = self._components(x_t, t, schedule)
        return self._averaged(x0, log_normal, y, x_t)

    def _averaged(self, values: Tensor, log_normal: Tensor, y: int | Tensor | None, like: Tensor) -> Tensor:
        shares = (self._log_priors(y, log_normal) + log_normal).softmax(1)
        return torch.einsum("bk,bkd->bd", shares, values).to(like.dtype)

    def log_prob_label(self, x_t: Tensor, t: Tensor, schedule: Levels, y: int | Tensor) -> Tensor:
        """log p(y | x_t), shape (B,): the exact noise-aware classifier."""
        y = self._wanted(y, x_t, 0)[:, 0]
        prior = self.log_prior_label(x_t)[y]
        return prior + self.log_prob(x_t, t, schedule, y) - self.log_prob(x_t, t, schedule)

    def observed(self, A: Tensor, y: Tensor, noise: float) -> "Mixture":
        """p(x0 | y) for y = A·x0 + noise·n, n ~ N(0, I): another mixture, exact. A: (m, D), y: (m,), noise > 0.

        Per component, with S = A·C·Aᵀ + noise²·I and K = C·Aᵀ·S⁻¹ (Kalman's gain): mean m + K(y − A·m), covariance
        (I − K·A)·C, weight ∝ π·N(y; A·m, S). Labels stay.
        """
        A, y, noise = self._observation(A, y, noise)
        log_evidence, gain = self._evidence(self.means, self._roots(), A, y, noise)
        means = self.means + torch.einsum("kdm,km->kd", gain, y - self.means @ A.T)
        rest = (torch.eye(self.dim, dtype=A.dtype) - gain @ A) @ self._roots()
        # Joseph's form of (I − K·A)·C: a sum of two squares, so that rounding leaves no negative eigenvalue.
        covariances = rest @ rest.mT + noise**2 * gain @ gain.mT
        return Mixture(means, covariances, (self.weights.log() + log_evidence).softmax(0), self.labels)

    def log_prob_observation(
        self, x_t: Tensor, t: Tensor, schedule: Levels, A: Tensor, y: Tensor, noise: float
    ) -> Tensor:
        """log p(y | x_t), shape (B,), for y = A·x0 + noise·n: the exact forward model of a *noisy* x_t.

        Given x_t and component k, x0 is Gaussian with covariance V_k = C_k − α²·C_k·(α²·C_k + σ²·I)⁻¹·C_k around
        E[x0|x_t, k], and y around its image with covariance A·V_k·Aᵀ + noise²·I. DPS leaves V_k out.
        """
        A, y, noise = self._observation(A, y, noise)
        log_normal, _, x0 = self._components(x_t, t, schedule)
        log_share = (self._log_priors(None, log_normal) + log_normal).log_softmax(1)
        _, sigma, spread, values, vectors = self._spread(x_t, t, schedule)
        # On the axes of C_k, V_k is λ − α²·λ²/(α²·λ + σ²) = λ·σ²/(α²·λ + σ²): (K, D, D) or (B, K, D, D).
        left = vectors * (values / spread)[..., None, :].sqrt() * sigma[..., None]
        log_evidence, _ = self._evidence(x0, left, A.to(x0), y.to(x0), noise)
        return (log_share + log_evidence).logsumexp(1)

    def _observation(self, A: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor, float]:
        require_floating("A", A, finite=True)
        require(A.ndim == 2 and A.shape[1] == self.dim, "A", describe(A), f"shape (m, {self.dim})")
        require_floating("y", y, finite=True)
        require(y.shape == A.shape[:1], "y", describe(y), f"shape ({len(A)},)")
        return A.to(self.means), y.to(self.means), positive("noise", noise, "a positive standard deviation")

    @staticmethod
    def _evidence(means: Tensor, roots: Tensor, A: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """For x0 ~ N(mean, C = root·rootᵀ), (…, D) and (…, D, D): log N(y; A·mean, S), (…), and K = C·Aᵀ·S⁻¹."""
        seen = A @ roots
        # S on its axes. No eigenvalue is less than noise², though rounding may say so where A·C·Aᵀ is singular.
        values, vectors = torch.linalg.eigh(seen @ seen.mT)
        values = values.clamp(min=0) + noise**2
        gain = roots @ seen.mT @ (vectors / values[..., None, :]) @ vectors.mT
        away = ((y - means @ A.T)[..., None, :] @ vectors)[..., 0, :]
        far = (away.square() / values + values.log()).sum(-1)
        return -0.5 * (far + len(A) * math.log(2 * math.pi)), gain

    def log_prior_label(self, like: Tensor) -> Tensor:
        """log p(y), shape (n_classes,), with the dtype and device of `like`."""
        share = torch.zeros(self.n_classes, dtype=self.weights.dtype).index_add(0, self.labels, self.weights)
        return share.log().to(like)

    def posterior_label(self, x_t: Tensor, t: Tensor, schedule: Levels) -> Tensor:
        """p(y | x_t) for every y, shape (B, n_classes), rows summing to 1."""
        log_normal, _, _ = self._components(x_t, t, schedule)
        share = (self._log_priors(None, log_normal) + log_normal).softmax(1)  # (B, K)
        return share.new_zeros(len(x_t), self.n_classes).index_add(1, self.labels.to(x_t.device), share)

    def denoiser(self, schedule: Levels) -> Callable[..., Tensor]:
        """The exact denoiser, to be used like a trained one: `bind(mixture.denoiser(schedule), y=labels)`."""
        return lambda x_t, t, *, y=None: self.denoise(x_t, t, schedule, y)


def _axes_of(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (K, D) along the axes of each component, the columns of (K, D, D); what is near 0 is made 0.

    `ValueError` for matrices that are not symmetric and positive semi-definite, up to the rounding of float32.
    """
    expected, turned = "symmetric positive semi-definite matrices", covariances.mT
    uneven = (covariances - turned).abs().amax((1, 2)) > 1e-5 * covariances.abs().amax((1, 2))
    require(not bool(uneven.any()), "covariances", "a matrix that is not its transpose", expected)
    values, vectors = torch.linalg.eigh((covariances + turned) / 2)
    largest = values.abs().amax(1, keepdim=True)
    got = f"a negative eigenvalue, {float(values.min()):.3g}, beside {float(values.max()):.3g}"
    require(bool((values >= -1e-5 * largest).all()), "covariances", got, expected)
    return values.where(values > 4 * torch.finfo(values.dtype).eps * largest, 0.0), vectors


def gaussian(mean: Tensor, covariance: Tensor) -> Mixture:
    """A single Gaussian, mean (D,), covariance (D, D), as a mixture of one."""
    one = torch.ones(1, dtype=mean.dtype)
    return Mixture(mean[None], covariance[None], one, torch.zeros(1, dtype=torch.int64))


def isotropic(
    means: Tensor, std: float | Tensor, labels: Tensor | None = None, weights: Tensor | None = None
) -> Mixture:
    """Round components: means (K, D), one std or (K,); by default equal weights and label k for component k."""
    require_floating("means", means)
    k, d = means.shape
    std = torch.as_tensor(std, dtype=means.dtype)
    require(tuple(std.shape) in ((), (1,), (k,)), "std", describe(std), f"one standard deviation, or ({k},)")
    weights = torch.full((k,), 1 / k, dtype=means.dtype) if weights is None else weights
    labels = torch.arange(k) if labels is None else labels
    return Mixture(means, std.expand(k)[:, None, None] ** 2 * torch.eye(d, dtype=means.dtype), weights, labels)


def three_modes(dtype: torch.dtype = torch.float64) -> Mixture:
    """A 1-D toy: three modes at −1.2, 0.2 and 1.2 of unequal weight and width, labels 0, 1, 2."""
    means = torch.tensor([[-1.2], [0.2], [1.2]], dtype=dtype)
    std, weights = torch.tensor([0.25, 0.15, 0.3], dtype=dtype), torch.tensor([0.5, 0.2, 0.3], dtype=dtype)
    return isotropic(means, std, weights=weights)


def ring(
    n: int = 8, radius: float = 1.5, std: float = 0.2, n_classes: int = 2, dtype: torch.dtype = torch.float64
) -> Mixture:
    """A 2-D toy: n round components on a circle, labels 0 … n_classes − 1 in turn."""
    n, n_classes = integer("n", n), integer("n_classes", n_classes)
    angle = torch.arange(n, dtype=dtype) * (2 * math.pi / n)
    means = torch.as_tensor(radius, dtype=dtype) * torch.stack([angle.cos(), angle.sin()], dim=1)
    return isotropic(means, std, labels=torch.arange(n) % n_classes)


def lookalikes(std: float = 0.25, dtype: torch.dtype = torch.float64) -> Mixture:
    """A 2-D toy: two classes of three components each, mirrored left and right.

    The first component of each class, at (∓1.2, 0), is typical: far from the other class. The other two, at
    (∓0.15, ±1.5), all but coincide with the other class's. Labels 0 (left) and 1 (right), equal weights.
    """
    left = torch.tensor([[-1.2, 0.0], [-0.15, 1.5], [-0.15, -1.5]], dtype=dtype)
    means = torch.cat([left, left * torch.tensor([-1.0, 1.0], dtype=dtype)])
    return isotropic(means, std, labels=torch.arange(6) // 3)


def decoys(dtype: torch.dtype = torch.float64) -> Mixture:
    """A 2-D toy: three classes, 88 % of each in a main cloud at radius 1, 12 % in a small one on the opposite side.

    Seen from afar (at much noise) a class lies where its main cloud is; seen closely (at little noise), in both clouds.
    """
    angle = math.pi / 2 + torch.arange(3, dtype=dtype) * (2 * math.pi / 3)
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)
    std = torch.tensor([0.35] * 3 + [0.2] * 3, dtype=dtype)
    weights = torch.tensor([0.88] * 3 + [0.12] * 3, dtype=dtype) / 3
    return isotropic(torch.cat([direction, -1.8 * direction]), std, labels=torch.arange(6) % 3, weights=weights)
