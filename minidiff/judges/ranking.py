"""Is the right answer among the most similar? Recall at k, for retrieval in either direction."""

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
