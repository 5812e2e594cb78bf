"""Exercise 03-project: overwrite what was measured (naive projection)."""

import torch
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake


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


EXERCISE = Exercise(
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
