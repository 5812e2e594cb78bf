"""Exercise 04-classifier-gradient: the gradient of a classifier."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake

from ._common import Classifier, chosen, gradient_of, small_classifier


def _draw_classified(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(
        shape: tuple[int, ...], n_classes: int, t: float, dtype: torch.dtype = torch.float64, sharp: float = 1.0
    ) -> Inputs:
        x_t = torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)
        classifier, level = small_classifier(g, shape, n_classes, dtype, sharp), torch.tensor(t, dtype=torch.float64)
        # The sharp classifier is asked for the class it believes in least, as guidance does at the start.
        y = torch.randint(n_classes, shape[:1], generator=g) if sharp == 1.0 else classifier(x_t, level).argmin(1)
        return classifier, x_t, level, y

    return [
        case((6, 2), 3, 0.4),  # points
        case((3, 2), 3, 0.0),  # no noise
        case((1, 3), 2, 1.0),  # a batch of one, pure noise
        case((4, 1, 3, 3), 5, 0.7, torch.float32),  # pictures
        case((3, 2), 3, 0.2, sharp=2000.0),  # a classifier that is sure of another class: f(y|x_t) is 0 in float64
        case((2, 1, 2, 2), 2, 0.5),
    ]


def classifier_gradient(classifier: Classifier, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """∇ log f(y|x_t), one gradient per picture."""
    return gradient_of(lambda x: chosen(classifier(x, t).log_softmax(1), y), x_t)


def _untracked(classifier: Classifier, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.autograd.grad(chosen(classifier(x_t, t).log_softmax(1), y).sum(), x_t)[0]


EXERCISE = Exercise(
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
            lambda classifier, x_t, t, y: gradient_of(lambda x: chosen(classifier(x, t).softmax(1), y), x_t),
            "You differentiated the probability, not its logarithm. ∇p = p·∇log p: it is smallest exactly where the "
            "classifier disagrees and the push is needed most. Use `log_softmax`.",
        ),
        Mistake(
            "logit",
            lambda classifier, x_t, t, y: gradient_of(lambda x: chosen(classifier(x, t), y), x_t),
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
            "every-label",
            lambda classifier, x_t, t, y: gradient_of(lambda x: classifier(x, t).log_softmax(1)[:, y], x_t),
            "You took, for every picture, the columns of all labels in y: `[:, y]` is a (B, B) table. Each picture "
            "asks for its own class only: `[torch.arange(len(y)), y]` or `gather(1, y[:, None])`.",
        ),
        Mistake(
            "underflow",
            lambda classifier, x_t, t, y: gradient_of(lambda x: chosen(classifier(x, t).softmax(1), y).log(), x_t),
            "You took the softmax first and its logarithm afterwards. Where the classifier is sure of another class, "
            "the probability of y rounds to 0, its logarithm is −∞ and the gradient NaN, just where the push is "
            "needed most. `log_softmax` never leaves the logarithms.",
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
            -gradient_of(lambda x: F.cross_entropy(classifier(x, t), y, reduction="sum"), x_t)
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
