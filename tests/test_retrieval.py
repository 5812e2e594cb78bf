"""Retrieval: exact where it says so, recall where it does not; planted duplicates, mismatches and unsafe pictures."""

import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import retrieval
from minidiff.checkpoints import save_tensors
from minidiff.randomness import randn, seeded
from minidiff.retrieval import Hit, Index, auc, hide_duplicates, match_scores, near_duplicates, recall


def clustered(n: int, seed: int, d: int = 32, centres: int = 100) -> Tensor:
    """n unit vectors around `centres` points of the sphere, noise of norm 0.7: pairs of one cluster at cosine 0.67."""
    middle = F.normalize(randn((centres, d), seeded(1234)), dim=1)
    at = torch.randint(centres, (n,), generator=seeded(seed))
    return F.normalize(middle[at] + 0.7 * randn((n, d), seeded(seed + 1)) / d**0.5, dim=1)


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    return clustered(20_000, 0)


@pytest.fixture(scope="module")
def queries() -> Tensor:
    return clustered(200, 10)


@pytest.fixture(scope="module")
def exact(vectors, queries) -> Tensor:
    return (queries @ vectors.T).topk(10, dim=1).indices


@pytest.fixture(scope="module")
def flat(vectors) -> Index:
    return Index.build(vectors)


@pytest.fixture(scope="module")
def ivf(vectors) -> Index:
    return Index.build(vectors, "ivf")


def test_a_flat_index_is_brute_force(vectors, queries, exact, flat):
    cosines, rows = flat.neighbours(queries, 10)
    assert recall(rows, exact) == 1.0
    assert torch.allclose(cosines, (queries @ vectors.T).gather(1, rows), atol=1e-5)
    assert (cosines.diff(dim=1) <= 0).all()
    hits = flat.search(queries[:1], 3)
    assert [hit.index for hit in hits[0]] == exact[0, :3].tolist()
    assert flat.cells == 1
    assert len(flat) == 20_000


def test_an_inverted_file_finds_what_brute_force_finds(queries, exact, ivf):
    """1/16 of the cells give 1.0 (seeds 0 to 2: 1.0); one cell of 282 gives 0.64: neighbours lie across borders."""
    assert ivf.cells == 282
    assert recall(ivf.neighbours(queries, 10)[1], exact) >= 0.99
    assert recall(ivf.neighbours(queries, 10, probes=ivf.cells)[1], exact) == 1.0
    assert recall(ivf.neighbours(queries, 10, probes=1)[1], exact) <= 0.85
    assert recall(ivf.neighbours(queries.roll(1, 0), 10)[1], exact) <= 0.05


def test_the_same_seed_gives_the_same_cells(vectors, queries, ivf):
    again, other = Index.build(vectors, "ivf"), Index.build(vectors, "ivf", seed=1)
    one_cell = lambda index: index.neighbours(queries, 10, probes=1)[1]
    assert torch.equal(one_cell(again), one_cell(ivf))
    assert not torch.equal(one_cell(other), one_cell(ivf))


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_only_safe_ones_come_back_and_all_places_are_filled(vectors, queries, kind):
    safe = torch.rand(len(vectors), generator=seeded(5)) > 0.3
    index = Index.build(vectors, kind, safe=safe)
    _, rows = index.neighbours(queries, 10, safe_only=True)
    wanted = (queries @ vectors.T).masked_fill(~safe, -2.0).topk(10, dim=1).indices
    assert safe[rows].all()
    assert recall(rows, wanted) >= 0.99
    assert not safe[index.neighbours(queries, 10)[1]].all()


def test_fewer_vectors_than_asked_for_are_no_hits():
    vectors = clustered(5, 0)
    for kind in ("flat", "ivf"):
        index = Index.build(vectors, kind, safe=torch.tensor([True, False, True, False, False]))
        hits = index.search(vectors[:1], 9, probes=index.cells, safe_only=True)[0]
        assert [hit.index for hit in hits] == [0, 2]
        assert hits[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert len(Index.build(vectors[:1], "ivf").search(vectors[:1], 2)[0]) == 1


def test_planted_duplicates_are_grouped_and_hidden(vectors):
    """2,000 originals, 1,000 copies of the first 500 at cosine 0.995; two originals hardly ever pass 0.97."""
    originals, noise = vectors[:2000], randn((1000, 32), seeded(7)) / 32**0.5
    parents = torch.randint(500, (1000,), generator=seeded(8))
    everything = torch.cat([originals, F.normalize(originals[parents] + 0.1 * noise, dim=1)])
    groups = near_duplicates(everything, 0.97)
    same = groups[2000:] == groups[parents]
    assert float(same.float().mean()) >= 0.95
    assert groups[:2000].unique().numel() >= 1990  # originals stay apart
    assert groups.unique().tolist() == list(range(int(groups.max()) + 1))
    family = torch.cat([torch.arange(2000), parents])
    repeats = lambda hits: len(hits) - family[[hit.index for hit in hits]].unique().numel()
    before, after = 0, 0
    for hits in Index.build(everything).search(originals[:100], 20):
        kept = hide_duplicates(hits, groups)
        assert kept[0] == hits[0]
        before, after = before + repeats(hits), after + repeats(kept)
    assert before >= 300
    assert after <= 0.05 * before
    assert near_duplicates(everything, 1.0).unique().numel() >= 2990  # the threshold does it


def test_groups_are_connected_through_others():
    """Three vectors 20° apart in a row: neighbours are near, the ends are not."""
    angles = torch.deg2rad(torch.tensor([0.0, 20.0, 40.0, 120.0]))
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert near_duplicates(vectors, 0.9).tolist() == [0, 0, 0, 1]
    assert near_duplicates(vectors[[0, 2, 3]], 0.9).tolist() == [0, 1, 2]
    assert hide_duplicates([Hit(2, 0.9), Hit(3, 0.8), Hit(0, 0.7)], torch.tensor([0, 0, 0, 1])) == [
        Hit(2, 0.9),
        Hit(3, 0.8),
    ]


def test_copies_are_one_group_at_threshold_one():
    """In any precision; what is a little off is no copy. Control: the plain product of a vector and its copy is < 1."""
    originals = clustered(200, 3, d=96)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        copies = torch.cat([originals, originals, originals.flip(0)]).to(dtype)
        expected = torch.arange(200)
        assert near_duplicates(copies, 1.0).tolist() == torch.cat([expected, expected, expected.flip(0)]).tolist()
    assert bool(((originals * originals).sum(1) < 1).any())
    near = F.normalize(originals + 0.01 * originals.roll(1, 0), dim=1)
    assert near_duplicates(torch.cat([originals, near]), 1.0).unique().numel() == 400
    assert len(Index.build(originals).within(originals.double(), 1.0)[0]) == 200


def test_links_are_united_block_by_block(monkeypatch):
    """As all at once. 3,000 copies of one vector are nine million links, and 64 are held at a time."""
    vectors = torch.cat([clustered(150, 4), clustered(150, 4)[::3]])
    whole, chain = near_duplicates(vectors, 0.75), torch.deg2rad(torch.arange(0.0, 90.0, 0.5))
    row = torch.stack([chain.cos(), chain.sin()], dim=1)[torch.randperm(180, generator=seeded(0))]
    sizes = []
    united = retrieval.connected_components
    count = lambda graph, **options: sizes.append(graph.nnz) or united(graph, **options)
    monkeypatch.setattr(retrieval, "connected_components", count)
    monkeypatch.setattr(retrieval, "LINKS", 64)
    assert torch.equal(near_duplicates(vectors, 0.75), whole)
    assert 1 < whole.unique().numel() < 150
    assert near_duplicates(row, math.cos(math.radians(0.6))).tolist() == [0] * 180
    assert near_duplicates(row, math.cos(math.radians(0.4))).tolist() == list(range(180))
    sizes.clear()
    assert near_duplicates(vectors[:1].expand(3000, -1), 0.9).tolist() == [0] * 3000
    assert max(sizes) <= 64 + 32 * 3000


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_embeddings_of_any_precision(vectors, queries, kind):
    index, double = (Index.build(v[:2000], kind) for v in (vectors, vectors.double()))
    for one, other in zip(index.neighbours(queries, 5), double.neighbours(queries.double(), 5)):
        assert torch.equal(one, other)
    half = Index.build(vectors[:2000].half(), kind)
    assert recall(half.neighbours(queries.bfloat16(), 5)[1], index.neighbours(queries, 5)[1]) > 0.9
    assert float(half.neighbours(vectors[:50].half(), 1)[0].sub(1).abs().max()) < 1e-6  # cosines, whatever the rounding
    assert torch.equal(near_duplicates(vectors[:500].double(), 0.8), near_duplicates(vectors[:500], 0.8))


def test_scores_of_mixed_precision(queries):
    text = queries.roll(1, 0)
    exact = (queries.double() * text.double()).sum(1)
    for one, other, dtype in (
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float64),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float16, torch.float32),
    ):
        scores = match_scores(queries.to(one), text.to(other))
        rounded = (queries.to(one).double() * text.to(other).double()).sum(1)
        assert scores.dtype == dtype
        assert torch.allclose(scores.double(), rounded, atol=1e-6)
        assert torch.allclose(scores.double(), exact, atol=1e-2)


def test_large_sets_are_grouped_by_an_inverted_file(vectors, monkeypatch):
    everything = torch.cat([vectors[:3000], vectors[:300]])
    exactly = near_duplicates(everything, 0.999)
    monkeypatch.setattr(retrieval, "FLAT_UP_TO", 1000)
    assert torch.equal(near_duplicates(everything, 0.999), exactly)
    assert torch.equal(exactly[3000:], exactly[:300])


@pytest.mark.parametrize("seed", range(3))
def test_planted_mismatches_score_lower(seed):
    text = clustered(2000, 100 * seed)
    image = F.normalize(text + 0.5 * randn(text.shape, seeded(seed)) / 32**0.5, dim=1)
    wrong = torch.rand(2000, generator=seeded(seed)) < 0.3
    image[wrong] = image[wrong].roll(1, 0)
    scores = match_scores(image, text)
    assert torch.allclose(scores, F.cosine_similarity(image, text), atol=1e-5)
    assert auc(-scores, wrong) >= 0.95
    shuffled = wrong[torch.randperm(2000, generator=seeded(seed))]
    assert abs(auc(-scores, shuffled) - 0.5) <= 0.05  # three times its standard deviation of 0.014


def test_auc_counts_pairs():
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8, 0.9])
    positive = torch.tensor([False, True, False, True, False])
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(float(sum(pairs)) / 6)
    assert auc(scores, scores > 0.5) == 1.0
    assert auc(-scores, scores > 0.5) == 0.0
    assert auc(torch.zeros(5), positive) == 0.5


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_an_index_survives_a_file(tmp_path, vectors, queries, kind):
    safe = torch.rand(len(vectors), generator=seeded(5)) > 0.3
    index = Index.build(vectors, kind, safe=safe)
    index.save(tmp_path / "index.safetensors")
    again = Index.load(str(tmp_path / "index.safetensors"))
    again.save(str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "index.safetensors").read_bytes()
    assert again.cells == index.cells
    for options in ({}, {"probes": 1}, {"safe_only": True}):
        for one, other in zip(again.neighbours(queries, 5, **options), index.neighbours(queries, 5, **options)):
            assert torch.equal(one, other)


def test_cut_off_and_changed_files_are_named(tmp_path, vectors):
    path = tmp_path / "index.safetensors"
    Index.build(vectors[:100]).save(path)
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match="path: got"):
            Index.load(path)
    path.write_bytes(whole[:-5000] + bytes([whole[-5000] ^ 255]) + whole[-4999:])
    with pytest.raises(ValueError, match="bytes were changed"):
        Index.load(path)
    save_tensors(path, {"x": torch.zeros(3)}, {})
    with pytest.raises(ValueError, match="written by Index"):
        Index.load(path)
    with pytest.raises(ValueError, match="existing"):
        Index.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("first", ["torch", "faiss"])
def test_torch_and_faiss_share_a_process_in_either_order(first):
    """Each brings an OpenMP of its own; on some systems two of them in one process abort it."""
    second = "faiss" if first == "torch" else "torch"
    program = f"""
import {first}, {second}
from minidiff.retrieval import Index, recall
x = torch.nn.functional.normalize(torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)), dim=1)
torch.set_num_threads(2)
for _ in range(3):
    rows = Index.build(x, "ivf").neighbours(x[:50], 5, probes=108)[1]
    print(recall(rows, (x[:50] @ x.T).topk(5).indices))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1.0"] * 3


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"minidiff\[lab\]"):
        Index.build(clustered(5, 0))
    assert importlib.util.find_spec("minidiff.retrieval")


def test_faiss_takes_pytorchs_number_of_threads(vectors):
    """Set for PyTorch, not for faiss: after `import torch` both may share one OpenMP, and then there is one number."""
    import faiss

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 2)
        Index.build(vectors[:10])
        assert faiss.omp_get_max_threads() == torch.get_num_threads() == before + 2
    finally:
        torch.set_num_threads(before)


def test_unusable_input_is_named(vectors, flat, ivf):
    nan = torch.full((2, 32), np.nan)
    for bad in (2 * vectors[:5], vectors[0], vectors[:0], vectors[:5].long(), nan):
        with pytest.raises(ValueError, match="vectors: got"):
            Index.build(bad)
    with pytest.raises(ValueError, match="kind: got"):
        Index.build(vectors[:5], "hnsw")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="safe: got"):
        Index.build(vectors[:5], safe=torch.ones(4, dtype=torch.bool))
    for queries in (vectors[:2, :16], F.normalize(vectors[:2, :16], dim=1), 2 * vectors[:2]):
        with pytest.raises(ValueError, match="queries: got"):
            flat.search(queries, 3)
        with pytest.raises(ValueError, match="queries: got"):
            ivf.within(queries, 0.9)
    for threshold in (1.2, float("nan"), "0.9"):
        with pytest.raises(ValueError, match="threshold: got"):
            flat.within(vectors[:2], threshold)
    with pytest.raises(ValueError, match="k: got"):
        flat.search(vectors[:2], 0)
    for index, probes in ((flat, 2), (ivf, 0), (ivf, 283)):
        with pytest.raises(ValueError, match="probes: got"):
            index.search(vectors[:2], 3, probes=probes)
    with pytest.raises(ValueError, match="threshold: got"):
        near_duplicates(vectors[:5], 1.2)
    with pytest.raises(ValueError, match="positive: got"):
        auc(torch.zeros(3), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="text_embeddings: got"):
        match_scores(vectors[:3], vectors[:2])
    with pytest.raises(ValueError, match="exact: got"):
        recall(torch.zeros(3), torch.zeros(3))
