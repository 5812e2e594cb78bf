"""Is the right answer among the most similar? Recall at k, for retrieval; and of two pairs that differ in one thing."""

from torch import Tensor

from minidiff.validate import describe, require


def recall_at(similarity: Tensor, k: int = 1) -> float:
    """Share of rows i of (N, M ≥ N) whose right answer, column i, is among the k most similar.

    Ties count against it, so that a tower that says the same of everything scores 0.
    """
    fits = similarity.ndim == 2 and similarity.shape[0] <= similarity.shape[1]
    require(fits, "similarity", describe(similarity), "shape (N, M), M ≥ N")
    at_least = (similarity >= similarity.diagonal()[:, None]).sum(1)
    return float((at_least <= k).double().mean())


def winoground(similarity: Tensor) -> dict[str, Tensor]:
    """Which of N minimal pairs are told apart: {"text", "image", "group"}, (N,) bool each (arXiv 2204.03162, 4.1).

    similarity (N, 2, 2): of picture a (second axis) with caption b (third), where 0 belongs to 0 and 1 to 1. text: each
    picture prefers its own caption. image: each caption prefers its own picture. group: both. Ties count against. By
    chance text and image are 1/4, and group is 1/6: of the 24 orders of four numbers four put both right ones on top.
    """
    fits = similarity.ndim == 3 and similarity.shape[1:] == (2, 2)
    require(fits, "similarity", describe(similarity), "shape (N, 2, 2)")
    (a, b), (c, d) = (row.unbind(-1) for row in similarity.unbind(1))  # a, d: what belongs together
    text, image = (a > b) & (d > c), (a > c) & (d > b)
    return {"text": text, "image": image, "group": text & image}
