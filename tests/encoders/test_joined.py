"""Stable Diffusion 3's way to join text encoders: channels, zeros, sequence; each can be left out."""

import pytest
import torch
import torch.nn.functional as F

from minidiff.encoders.clip import TextTower
from minidiff.encoders.joined import Joined, hear, join
from minidiff.encoders.language import LanguageModel, Layers
from minidiff.randomness import initialised

TOKENS = torch.tensor([[1, 7, 8, 2, 0], [1, 9, 4, 5, 2]])
WORDS = torch.tensor([[1, 3, 4, 5, 2, 0], [1, 6, 7, 2, 0, 0]])
ALL = torch.ones(2, 3, dtype=torch.bool)


def joined() -> Joined:
    towers = lambda: [TextTower(12, 5, dim, 1, 2, out) for dim, out in ((8, 6), (12, 10))]
    make = lambda: Joined(towers(), Layers(LanguageModel(12, 9, dim=16, depth=2, heads=2)), (5, 9), 24, 20)
    return initialised(make, 0)


def test_places_of_every_number():
    a, b, c = (torch.full((1, n, d), float(v)) for n, d, v in ((2, 3, 1), (2, 1, 2), (3, 6, 3)))
    assert join([a, b], c)[0].tolist() == [[1, 1, 1, 2, 0, 0]] * 2 + [[3] * 6] * 3
    assert join([a, c[:, :2]], b)[0].tolist() == [[1] * 3 + [3] * 6] * 2 + [[2] + [0] * 8] * 2
    with pytest.raises(ValueError, match=r"side_by_side: .*one batch and length"):
        join([a, c], b)


def test_the_context_and_the_vector_are_what_the_parts_say():
    model = joined()
    first, second, language = model.encoder
    given = model(2, tokens=TOKENS, words=WORDS, heard=ALL)
    said = [tower.encode(TOKENS) for tower in (first, second)]
    context = join([s.context for s in said], language.encode(WORDS).context)
    assert context.shape == (2, 11, 20)
    assert torch.allclose(given["context"], model.to_context(context))
    assert torch.allclose(given["vector"], model.to_vector(torch.cat([s.vector for s in said], 1)))
    assert torch.equal(given["context_mask"], torch.cat([said[0].mask, WORDS != 0], 1))


@pytest.mark.parametrize("silent", [0, 1, 2], ids=["first", "second", "language"])
def test_who_is_not_heard_changes_nothing(silent):
    """Another sentence for the silent encoder leaves every number as it is; for the others it does not."""
    model, heard = joined(), ALL.clone()
    heard[:, silent] = False
    told = lambda tokens, words: model(2, tokens=tokens, words=words, heard=heard)
    a = told(TOKENS, WORDS)
    if silent == 2:
        b = told(TOKENS, WORDS.clone().masked_fill(WORDS == 4, 9))
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert not torch.equal(a["context"], told(TOKENS.masked_fill(TOKENS == 7, 9), WORDS)["context"])
        return
    clip = model.encoder[silent]
    with torch.no_grad():
        clip.token.weight.add_(1.0)
    b = told(TOKENS, WORDS)
    assert all(torch.equal(a[k], b[k]) for k in a)
    heard[:, silent] = True  # the control
    assert not torch.equal(a["context"], told(TOKENS, WORDS)["context"])


def test_rows_are_heard_by_themselves():
    model, mixed = joined(), torch.tensor([[True, False, True], [False, True, False]])
    both = model(2, tokens=TOKENS, words=WORDS, heard=mixed)
    for i in range(2):
        one = model(1, tokens=TOKENS[i : i + 1], words=WORDS[i : i + 1], heard=mixed[i : i + 1])
        assert torch.allclose(both["context"][i], one["context"][0], atol=1e-6)


def test_encoders_stay_as_they_are_and_the_maps_learn():
    model = joined().train()
    assert not any(part.training for part in model.encoder.modules())
    given = model(2, tokens=TOKENS, words=WORDS, heard=ALL)
    (given["context"].sum() + given["vector"].sum()).backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"to_context", "to_vector"}


def test_each_is_dropped_by_itself_and_all_together_in_a_tenth():
    heard = hear(20_000, 3, 0.1 ** (1 / 3), torch.Generator().manual_seed(0))
    assert heard.float().mean(0).tolist() == pytest.approx([1 - 0.1 ** (1 / 3)] * 3, abs=0.015)
    assert float((~heard).all(1).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(torch.corrcoef(heard.float().T)[0, 1]) == pytest.approx(0, abs=0.03)  # not together
    assert bool(hear(5, 3, 0.0, torch.Generator().manual_seed(0)).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heard": ALL[:, :2]}, r"heard: .*bool, shape \(2, 3\)"),
        ({"heard": ALL.float()}, "heard: .*bool"),
        ({"tokens": F.pad(TOKENS, (0, 1))}, "tokens: .*L ≤ 5"),
        ({"words": WORDS[:1]}, "words: .*B = 2"),
    ],
    ids=["two", "float", "long", "batch"],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        joined()(2, **({"tokens": TOKENS, "words": WORDS, "heard": ALL} | change))


def test_bad_probabilities_and_encoders_are_named():
    with pytest.raises(ValueError, match=r"drop: got float 1.0, expected a probability in \[0, 1\)"):
        hear(2, 3, 1.0, torch.Generator())
    language = Layers(LanguageModel(12, 9, dim=16, depth=2, heads=2))
    with pytest.raises(ValueError, match=r"clips: got \[0\], expected encoders that pool"):
        Joined([language], language, (5, 9), 24, 20)
