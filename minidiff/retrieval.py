"""Searching a million embeddings, as LAION's index of captioned pictures is searched (arXiv 2210.08402, section 4).

    text → CLIP → nearest picture embeddings → hide near-duplicates, drop what is not flagged safe

All vectors are unit vectors of any floating-point type, so that the inner product is the cosine, in float32. The index
is faiss's (arXiv 2401.08281): exact ("flat"), or an inverted file ("ivf") that sorts the vectors into cells by k-means
and looks only into the `probes` cells nearest to a query. faiss comes with the extra: pip install "minidiff[lab]".
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from torch import Tensor

from minidiff.checkpoints import load_tensors, save_tensors
from minidiff.validate import describe, integer, number, require, require_floating, require_shape

Kind = Literal["auto", "flat", "ivf"]
FLAT_UP_TO = 50_000  # below, "auto" searches exactly: it takes milliseconds
UNIT = 1e-2  # how far from 1 a norm may be: embeddings kept in half precision are a little off
ROUNDING = 1e-6  # how far float32 may put the cosine of two vectors that are the same
LINKS = 2**20  # pairs that `near_duplicates` holds at a time


def _faiss() -> Any:
    """faiss, loaded on first use: the library works without it. It takes as many threads as PyTorch does."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError('retrieval needs faiss: pip install "minidiff[lab]" (or pip install faiss-cpu)') from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _require_units(argument: str, vectors: Tensor) -> None:
    require_floating(argument, vectors, finite=True)
    require_shape(argument, vectors, (None, None))
    norms = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.promote_types(vectors.dtype, torch.float32))
    off = float((norms - 1).abs().max()) if len(vectors) else 0.0
    require(off <= UNIT, argument, f"norms up to {off:.3g} away from 1", "unit vectors (F.normalize(x, dim=1))")


def _array(vectors: Tensor) -> NDArray[np.float32]:
    """Of norm 1 up to float32's rounding, whatever they were rounded to before."""
    return F.normalize(vectors.detach().float().cpu(), dim=1).contiguous().numpy()


@dataclass(frozen=True)
class Hit:
    """One found vector: its row in the index, and its cosine with the query."""

    index: int
    similarity: float


class Index:
    """Vectors to search among; made by `Index.build` or `Index.load`. `safe` (N,) bool flags the ones fit to show."""

    def __init__(self, faiss_index: Any, safe: Tensor):
        self.faiss_index, self.safe = faiss_index, safe

    def __len__(self) -> int:
        return self.faiss_index.ntotal

    @property
    def cells(self) -> int:
        """Cells of an inverted file; 1 for an exact index."""
        return getattr(self.faiss_index, "nlist", 1)

    @classmethod
    def build(cls, vectors: Tensor, kind: Kind = "auto", safe: Tensor | None = None, seed: int = 0) -> "Index":
        """An index of unit vectors (N, D).

        kind: "flat" compares with all of them; "ivf" has about 2·√N cells; "auto" is flat up to 50,000 vectors. safe:
        (N,) bool, all True unless given. seed: of the k-means that places the cells.
        """
        _require_units("vectors", vectors)
        require(len(vectors) >= 1, "vectors", describe(vectors), "at least one vector")
        require(kind in ("auto", "flat", "ivf"), "kind", repr(kind), "'auto', 'flat' or 'ivf'")
        safe = torch.ones(len(vectors), dtype=torch.bool) if safe is None else safe.cpu()
        fits = safe.dtype == torch.bool and safe.shape == (len(vectors),)
        require(fits, "safe", describe(safe), f"bool, shape ({len(vectors)},)")
        faiss, data = _faiss(), _array(vectors)
        if kind == "flat" or (kind == "auto" and len(vectors) <= FLAT_UP_TO):
            index = faiss.IndexFlatIP(data.shape[1])
        else:
            index = _untrained_ivf(faiss, len(data), data.shape[1], seed)
            index.train(data)
        index.add(data)
        return cls(index, safe)

    def neighbours(
        self, queries: Tensor, k: int, probes: int | None = None, safe_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Cosines (Q, k), falling, and rows (Q, k) of the nearest vectors; −∞ and −1 where there are fewer than k.

        probes: cells to look into per query, 1 … cells (an exact index has one); 1/16 of them unless given.
        safe_only: skip vectors that are not flagged safe, inside the search, so that k safe ones come back.
        """
        self._require_queries(queries)
        k = integer("k", k)
        found, rows = self.faiss_index.search(_array(queries), k, params=self._parameters(probes, safe_only))
        cosines, indices = torch.from_numpy(found), torch.from_numpy(rows)
        return cosines.masked_fill(indices < 0, -torch.inf), indices

    def search(self, queries: Tensor, k: int, probes: int | None = None, safe_only: bool = False) -> list[list[Hit]]:
        """For each query (Q, D) its hits, best first; arguments as for `neighbours`."""
        cosines, indices = self.neighbours(queries, k, probes, safe_only)
        return [
            [Hit(index, cosine) for cosine, index in zip(*row) if index >= 0]
            for row in zip(cosines.tolist(), indices.tolist())
        ]

    def within(self, queries: Tensor, threshold: float, probes: int | None = None) -> tuple[Tensor, Tensor]:
        """All pairs (query row, index row) with cosine ≥ threshold, up to 1e-6: two tensors (pairs,) int64."""
        self._require_queries(queries)
        radius = number("threshold", threshold, "a cosine in [−1, 1]", lambda c: -1.0 <= c <= 1.0) - ROUNDING
        ends, _, rows = self.faiss_index.range_search(_array(queries), radius, params=self._parameters(probes, False))
        per_query = torch.from_numpy(np.diff(ends.astype(np.int64)))
        return torch.arange(len(queries)).repeat_interleave(per_query), torch.from_numpy(rows)

    def _require_queries(self, queries: Tensor) -> None:
        _require_units("queries", queries)
        require_shape("queries", queries, (None, self.faiss_index.d))

    def _parameters(self, probes: int | None, safe_only: bool) -> Any:
        probes = max(1, self.cells // 16) if probes is None else probes
        probes = int(
            number("probes", probes, f"1 … {self.cells} cells", lambda n: 1 <= n <= self.cells and n == int(n))
        )
        faiss, chosen = _faiss(), {}
        if safe_only:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(self.safe.numpy(), bitorder="little"))
        if hasattr(self.faiss_index, "nlist"):
            return faiss.SearchParametersIVF(nprobe=probes, **chosen)
        return faiss.SearchParameters(**chosen)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, whole or not at all."""
        path = Path(path)
        data = _faiss().serialize_index(self.faiss_index)
        facts = {"kind": "minidiff index", "sha256": hashlib.sha256(data.data).hexdigest()}
        save_tensors(path, {"faiss": torch.from_numpy(data), "safe": self.safe}, facts)

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """An index written by `save`. `ValueError` if the file is missing, cut off or something else."""
        path = Path(path)
        tensors, facts = load_tensors(path)
        require(facts.get("kind") == "minidiff index", "path", str(path), "a file written by Index.save")
        data = tensors["faiss"].numpy()
        whole = hashlib.sha256(data.data).hexdigest() == facts["sha256"]  # faiss would read changed bytes, and crash
        require(whole, "path", f"{path}, whose bytes were changed", "a file as Index.save wrote it")
        return cls(_faiss().deserialize_index(data), tensors["safe"])


def _untrained_ivf(faiss: Any, n: int, d: int, seed: int) -> Any:
    """An empty inverted file with about 2·√n cells on the sphere."""
    index = faiss.index_factory(d, f"IVF{max(1, min(n // 2, 2 * math.isqrt(n)))},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.spherical = seed, True
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 64  # k-means on at most 64 per cell
    return index


def recall(found: Tensor, exact: Tensor) -> float:
    """Share of the true nearest rows `exact` (Q, k) that are among `found` (Q, k): recall@k."""
    require_shape("exact", exact, (None, None))
    require_shape("found", found, exact.shape)
    return float((exact[:, :, None] == found[:, None, :]).any(2).float().mean())


def near_duplicates(vectors: Tensor, threshold: float, probes: int | None = None, seed: int = 0) -> Tensor:
    """Group ids (N,) int64, 0 upwards in order of first appearance: near-duplicates share one.

    Two vectors are linked where their cosine is ≥ threshold, up to 1e-6, so that copies always are; a group is what
    links connect, also through others. Above 50,000 vectors the links are those that an inverted file finds with
    `probes` cells. Links are looked for in blocks and united: memory grows with N, not with its square.
    """
    number("threshold", threshold, "a cosine in [−1, 1]", lambda c: -1.0 <= c <= 1.0)
    index, n = Index.build(vectors, seed=seed), len(vectors)
    group, links, held = np.arange(n), [np.empty((2, 0), dtype=np.int64)], 0
    block = max(32, LINKS // n)  # all of it may be linked to all
    for first in range(0, n, block):
        one, other = index.within(vectors[first : first + block], threshold, probes)
        pairs = group[np.stack([one.numpy() + first, other.numpy()])]
        links.append(pairs[:, pairs[0] != pairs[1]])
        held += links[-1].shape[1]
        if held > LINKS or first + block >= n:
            united = coo_array((np.ones(held, dtype=bool), tuple(np.concatenate(links, axis=1))), shape=(n, n))
            group, links, held = connected_components(united, directed=False)[1][group].astype(np.int64), [], 0
    _, firsts, which = np.unique(group, return_index=True, return_inverse=True)
    return torch.from_numpy(firsts.argsort().argsort()[which])


def hide_duplicates(hits: Sequence[Hit], groups: Tensor) -> list[Hit]:
    """The first hit of each group of `near_duplicates`, in order."""
    shown: dict[int, Hit] = {}
    for hit in hits:
        shown.setdefault(int(groups[hit.index]), hit)
    return list(shown.values())


def match_scores(image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
    """Cosine of each picture with its own caption, (B,), from unit vectors (B, D): low where a pair does not match.

    In the wider of the two types, at least float32.

    LAION keeps pairs from 0.28 to 0.30 upwards, by OpenAI's CLIP (arXiv 2210.08402, section 3.2).
    """
    _require_units("image_embeddings", image_embeddings)
    _require_units("text_embeddings", text_embeddings)
    require_shape("text_embeddings", text_embeddings, image_embeddings.shape)
    wide = torch.promote_types(torch.promote_types(image_embeddings.dtype, text_embeddings.dtype), torch.float32)
    return (image_embeddings.to(wide) * text_embeddings.to(wide)).sum(1)


def auc(scores: Tensor, positive: Tensor) -> float:
    """P(a positive scores above a negative) + ½·P(equal), from scores (N,) and flags (N,) bool.

    Mann and Whitney's U divided by the number of pairs: 0.5 where the scores tell nothing.
    """
    require_floating("scores", scores, finite=True)
    fits = positive.dtype == torch.bool and positive.shape == scores.shape and scores.ndim == 1
    require(fits, "positive", describe(positive), f"bool, shape {tuple(scores.shape)}")
    n, m = int(positive.sum()), int((~positive).sum())
    require(n > 0 and m > 0, "positive", f"{n} True, {m} False", "some of each")
    ranks = rankdata(scores.detach().cpu().numpy())  # equal scores share their mean rank
    return float((ranks[positive.cpu().numpy()].sum() - n * (n + 1) / 2) / (n * m))
