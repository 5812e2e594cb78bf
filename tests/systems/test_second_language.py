"""A second language: a tower aligned on translations finds what the first tower finds; on shuffled ones it does not."""

import pytest
import torch

from minidiff.encoders.clip import CLIP, ImageTower, TextTower
from minidiff.encoders.tokenizer import WordTokenizer
from minidiff.randomness import initialised, seeded
from minidiff.retrieval import Index
from minidiff.systems.clip_german import SecondLanguage, align

COLOURS, SHAPES = ("red", "green", "blue", "white"), ("circle", "square", "star", "heart")
GERMAN = dict(zip(COLOURS + SHAPES, ("rot", "grün", "blau", "weiß", "kreis", "quadrat", "stern", "herz")))
ENGLISH = [f"a {c} {s} and a {d} {t}" for c in COLOURS for s in SHAPES for d in COLOURS for t in SHAPES]
TRANSLATED = ["{3} ist {2}, {1} ist {0}".format(*(GERMAN[w] for w in text.split() if w in GERMAN)) for text in ENGLISH]
first, second = WordTokenizer.from_texts(ENGLISH, length=10), WordTokenizer.from_texts(TRANSLATED, length=12)


def teacher() -> CLIP:
    """Untrained: its embeddings of captions are arbitrary, but all different, which is what a student has to match."""
    clip = CLIP(TextTower(len(first), 10, 24, 1, 2, 16), ImageTower(3, 8, 4, 16, 1, 2, 16))
    torch.nn.init.normal_(clip.text.token.weight)
    return clip.eval()


def student() -> SecondLanguage:
    return SecondLanguage(TextTower(len(second), 12, 24, 1, 2, 16))


def found_at_ten(tower: SecondLanguage, clip: CLIP, rows: torch.Tensor) -> float:
    """Share of translations whose original is among the ten nearest of all 256 English captions (chance: 4 %)."""
    with torch.no_grad():
        index = Index.build(clip.encode_text(first.encode(ENGLISH)))
        _, hits = index.neighbours(tower.encode_text(second.encode(TRANSLATED))[rows], 10)
    return float((hits == rows[:, None]).any(1).float().mean())


def trained(shuffled: bool, seed: int, steps: int = 250) -> tuple[float, float]:
    """found_at_ten on the 56 sentences left out of training, and the last loss."""
    clip, tower = initialised(teacher, seed), initialised(student, seed + 1)
    before = [p.clone() for p in clip.parameters()]
    order = torch.randperm(len(ENGLISH), generator=seeded(seed))
    seen, unseen = order[:200], order[200:]
    theirs = seen[torch.randperm(200, generator=seeded(seed))] if shuffled else seen
    tokens, translated = first.encode(ENGLISH)[seen], second.encode(TRANSLATED)[theirs]
    *_, last = align(tower, clip, tokens, translated, steps, batch=32, lr=5e-3, seed=seed, bar=False)
    assert all(torch.equal(p, q) for p, q in zip(before, clip.parameters()))  # the teacher stays
    return found_at_ten(last.ema, clip, unseen), last.loss


@pytest.mark.slow
def test_translations_never_seen_find_their_originals():
    (true, loss), (shuffled, loss_shuffled) = trained(False, 0), trained(True, 0)
    assert true >= 0.7
    assert shuffled <= 0.25
    assert loss < 0.5 * loss_shuffled


def test_loss_is_the_squared_distance_of_unit_vectors():
    clip, tower = initialised(teacher, 0), initialised(student, 1)
    tokens, target = second.encode(TRANSLATED[:5]), clip.encode_text(first.encode(ENGLISH[:5]))
    cosine = torch.nn.functional.cosine_similarity(tower.encode_text(tokens), target)
    assert torch.allclose(tower.loss(tokens, target), 2 - 2 * cosine, atol=1e-5)
    assert torch.allclose(tower.loss(tokens, tower.encode_text(tokens)), torch.zeros(5), atol=1e-6)


def test_unusable_input_is_named():
    clip, tower = initialised(teacher, 0), initialised(student, 1)
    with pytest.raises(ValueError, match="translated: got"):
        align(tower, clip, first.encode(ENGLISH[:5]), second.encode(TRANSLATED[:4]), 1)
    with pytest.raises(ValueError, match="target: got"):
        tower.loss(second.encode(TRANSLATED[:4]), torch.zeros(4, 3))
