"""The claims of chapter 10, each with a control that must fail."""

import json
import math
import re

import pytest
import torch

from minidiff.conditioning import Channels, Encoded
from minidiff.data.captions import captions
from minidiff.data.photos import photographs, sheet
from minidiff.data.prompts import place
from minidiff.encoders.text_lm import corrupt
from minidiff.judges.framing import cut_off, explained
from minidiff.nn.embeddings import waves
from minidiff.randomness import randn, seeded
from minidiff.systems import latent, sdxl, stable_diffusion, text_lm
from minidiff.systems.sdxl_scores import PLAIN, upright

FAMILIES = ("one", "relation", "pair", "riding", "snow")
MEANS = torch.tensor([[-2.0, 0.0, 3.0], [1.0, 2.5, -1.0]], dtype=torch.float64)
"""Of x for sentence y and framing a, with variance 1: a world in which all is known."""


def log_p(x: torch.Tensor, y: list[int], a: list[int]) -> torch.Tensor:
    """log p(x | y, a), of several equally likely y and a the mixture's."""
    some = MEANS[y][:, a].flatten()
    return torch.logsumexp(-0.5 * (x[:, None] - some).square(), 1) - math.log(len(some))


def score(f) -> torch.Tensor:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(f(x).sum(), x)[0]


# ---------------------------------------------------------------- told and not told


def test_the_score_of_a_mixture_averages_over_what_may_have_been_done():
    """(2), and question 1: what follows it draws each fault as often as it was shown."""
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    parts = torch.stack([log_p(x, [0], [a]) for a in range(3)], 1)
    slopes = torch.stack([score(lambda x, a=a: log_p(x, [0], [a])) for a in range(3)], 1)
    mixed = score(lambda x: log_p(x, [0], [0, 1, 2]))
    assert torch.allclose((parts.softmax(1) * slopes).sum(1), mixed)
    assert not torch.allclose(slopes.mean(1), mixed, atol=0.1)  # the control: not by what is seen in x
    walk = torch.zeros(4000, dtype=torch.float64)  # Langevin steps along the mixture's score
    generator = seeded(0)
    for _ in range(1500):
        walk = walk.detach().requires_grad_()
        (slope,) = torch.autograd.grad(log_p(walk, [0], [0, 1, 2]).sum(), walk)
        walk = walk.detach() + 0.05 * slope + (0.1 * torch.ones(())).sqrt() * randn(walk.shape, generator)
    share = float((log_p(walk, [0], [2]) > torch.maximum(log_p(walk, [0], [0]), log_p(walk, [0], [1]))).double().mean())
    assert share == pytest.approx(1 / 3, abs=0.06)


def test_guidance_with_the_same_sizes_in_both_branches_speaks_of_the_sentence_alone():
    """(4), (5), and other sizes; question 2."""
    whole = lambda y, a: lambda x: log_p(x, y, a)
    of_sentence = score(lambda x: log_p(x, [0], [2]) - torch.logaddexp(log_p(x, [0], [2]), log_p(x, [1], [2])))
    same = score(whole([0], [2])) - score(whole([0, 1], [2]))
    assert torch.allclose(same, of_sentence)
    none = score(whole([0], [2])) - score(whole([0, 1], [0, 1, 2]))
    of_framing = score(lambda x: log_p(x, [0, 1], [2]) - log_p(x, [0, 1], [0, 1, 2]))
    assert torch.allclose(none, of_sentence + of_framing)
    assert not torch.allclose(none, of_sentence, atol=0.1)  # the control
    other = score(whole([0], [2])) - score(whole([0, 1], [0]))
    assert torch.allclose(other, of_sentence + score(lambda x: log_p(x, [0, 1], [2]) - log_p(x, [0, 1], [0])))


@torch.no_grad()
def test_both_branches_of_the_shipped_guidance_are_told_the_same_sizes():
    model, z, t = sdxl.BASE.load(), randn((2, 4, 16, 16), seeded(0)), torch.tensor(0.7)
    sizes = torch.tensor([upright(8), upright(24)]).float()
    told = sdxl.conditions(model, ["a cat in the snow", ""], sizes)
    strong, plain = sdxl.guided(model, told, 3.0)(z, t), model(z, t, **told)
    assert torch.allclose(strong[1], plain[1], atol=1e-4)  # no sentence: the branches are equal, w does nothing
    assert (strong[0] - plain[0]).abs().max() > 0.05


# ---------------------------------------------------------------- six numbers


def test_a_corner_moves_everything_and_cuts():
    """(6); question 3."""
    scenes = place(PLAIN.prompts(40, 3, "train"), 3)
    shown, whole = photographs(scenes, seeded(3)), sheet(scenes)
    for x, (h, w, top, left, *_), picture in zip(shown["x0"], shown["sizes"].int().tolist(), whole):
        if min(h, w) == 64:
            assert torch.equal(x, picture[:, top : top + 64, left : left + 64])
    at = {top: whole[:, :, top : top + 64, :64] for top in (0, 16)}
    assert not bool(cut_off(at[0]).any())
    assert float(cut_off(at[16]).float().mean()) > 0.25
    assert 20 / (64 / 32) == 10


def test_waves_know_differences_and_a_shift_is_a_rotation():
    """(7) and (8), for six numbers in double precision."""
    n, features = torch.tensor([0.0, 3.0, 10.0, 20.0, 27.0, 64.0], dtype=torch.float64), 32
    speed = 10_000.0 ** (-2 * torch.arange(16, dtype=torch.float64) / features)
    embedded = waves(n, features)
    assert torch.allclose(embedded, torch.cat([(n[:, None] * speed).cos(), (n[:, None] * speed).sin()], 1))
    alike = lambda a, b: float(embedded[a] @ embedded[b])
    assert alike(1, 2) == pytest.approx(alike(3, 4), abs=1e-9) == pytest.approx(float((7 * speed).cos().sum()))
    assert alike(1, 2) < alike(1, 1) == pytest.approx(16)
    assert abs(alike(1, 2) - alike(1, 3)) > 0.1  # the control: another difference
    turn, (cos, sin) = 5 * speed, embedded.chunk(2, 1)
    turned = torch.cat([cos * turn.cos() - sin * turn.sin(), sin * turn.cos() + cos * turn.sin()], 1)
    assert torch.allclose(turned, waves(n + 5, features), atol=1e-9)
    assert not torch.allclose(turned, waves(n + 6, features), atol=0.1)


def test_how_much_the_mlp_reads(lecture):
    sums = {"SDXL, base": (256, 6, 1280), "SDXL, refiner": (256, 5, 1280)}
    for name, model in (("here, base", sdxl.BASE), ("here, refiner", sdxl.REFINER)):
        told = model.untrained().net.conditioning
        sums[name] = told.features, told.numbers, told.inner.to_vector.out_features
        assert told.mlp[0].in_features == told.features * told.numbers + told.inner.to_vector.out_features
    for name, (features, numbers, pooled) in sums.items():
        (row,) = (line for line in lecture.splitlines() if line.startswith(f"| {name} |"))
        total = f"{numbers}·{features} + {pooled} = {numbers * features + pooled}"
        assert [cell.strip() for cell in row.strip("|").split("|")[1:]] == [*map(str, sums[name]), total]


def test_r2_without_a_line():
    told = torch.arange(0.0, 33, 2)
    assert explained(told, told) == 1
    assert explained(told, torch.full((17,), 16.0)) == 0
    assert explained(told, told.flip(0)) == pytest.approx(-3)


# ---------------------------------------------------------------- two encoders, two networks


class Said(torch.nn.Module):
    out = 2

    def __init__(self, vectors):
        super().__init__()
        self.vectors, self.dim = torch.nn.Parameter(vectors), vectors.shape[1]

    def encode(self, tokens):
        return Encoded(self.vectors[tokens].mean(1)[:, :2], self.vectors[tokens], None)


@torch.no_grad()
def test_channels_add_logits_and_more_words_share_them():
    """(10); question 4."""
    c, d = randn((6, 3), seeded(0)).double(), randn((6, 4), seeded(1)).double()
    pair = Channels([Said(c), Said(d)], [None, None]).double().encode(torch.arange(6)[None]).context[0]
    q, w = randn((5,), seeded(2)).double(), randn((5, 7), seeded(3)).double()
    one, two = q @ w[:, :3] @ c.T, q @ w[:, 3:] @ d.T
    beside = (q @ w @ pair.T).softmax(0)
    product = one.exp() * two.exp()
    assert torch.allclose(beside, product / product.sum())
    behind = torch.cat([one, two]).softmax(0)  # the control: twice as many words
    assert not torch.allclose(behind[:6] + behind[6:], beside, atol=1e-2)
    assert round(math.exp(2), 1) == 7.4
    assert round(math.exp(1), 1) == 2.7


def test_the_encoder_of_texts_is_asked_at_hidden_words_by_its_last_block():
    model = text_lm.MODEL.load().requires_grad_(True)
    rows = text_lm.tokens(captions(sdxl.WORLD.prompts(32, 1, "test")))
    inputs, targets, _ = corrupt(rows, len(text_lm.tokenizer()), seeded(0), 0.3)
    heard = []
    handle = model.blocks[-1].register_forward_hook(lambda m, given, out: heard.append(out))
    loss = model.loss(targets, inputs).mean()
    handle.remove()
    (slope,) = torch.autograd.grad(loss, heard)
    asked = slope.abs().amax(2) > 0
    assert int(asked.any(0).sum()) > 4  # at many places, not at one
    assert not bool(asked.all())  # the control: nothing is asked where no word is hidden


def test_where_the_refiner_begins(lecture):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha2 = float(torch.cumprod(1 - betas, 0)[199])
    ratio = ((1 - alpha2) / alpha2) ** 0.5
    assert ratio == pytest.approx(0.57, abs=0.005)
    assert ratio / (1 + ratio) == pytest.approx(0.36, abs=0.005)
    assert f"{sdxl.SWITCH:g}"[1:] == ".35"
    assert "we take }.35" in lecture
    assert round(20 * 0.65 / 0.35) == 37


def test_two_experts_are_never_worse_at_their_best():
    """(11), for weights that are one number, and a best answer that changes with t."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    best, split = (3 * t).sin(), t < 0.35
    loss = lambda rows, theta: float((best[rows] - theta).square().sum())
    one = loss(t >= 0, best.mean())
    two = loss(split, best[split].mean()) + loss(~split, best[~split].mean())
    assert two < one
    assert loss(~split, best[split].mean()) > loss(~split, best[~split].mean())  # question 5: beyond its times


# ---------------------------------------------------------------- the texts


@pytest.fixture(scope="module")
def lecture(root) -> str:
    return (root / "lectures" / "10_sdxl.md").read_text(encoding="utf-8")


def numbers(text: str) -> list[float]:
    return [float(x.replace("−", "-")) for x in re.findall(r"[−-]?\d*\.\d+", text)]


def starting(lecture: str, start: str) -> str:
    (line,) = (line for line in lecture.splitlines() if line.startswith(start))
    return line


def test_what_is_cut_off_is_what_the_records_say(lecture):
    told, untold = sdxl.BASE.record()["scores"], sdxl.UNSIZED.record()["scores"]
    shown = photographs(place(PLAIN.prompts(1000, 6, "train"), 6), seeded(6))
    share = float(cut_off(shown["x0"]).float().mean())
    kept = [told[f"an object is cut off, corner ({at}, 0)"] for at in (0, 8, 16, 24)]
    line = starting(lecture, "Photographs of the training set")
    assert numbers(line) == pytest.approx([share, untold["an object is cut off"], *kept], abs=0.0051)
    assert kept[0] <= untold["an object is cut off"] / 3
    faulty = (shown["sizes"] != torch.tensor(sdxl.FRAMED)).any(1).float().mean()
    assert float(faulty) == pytest.approx(0.8, abs=0.04)
    assert "faults in four of five pictures" in lecture


def test_corners_and_sizes_are_what_the_record_says(lecture):
    told = sdxl.BASE.record()["scores"]
    line = starting(lecture, "$R^2$ of top").replace("$R^2$", "")
    said = [told[f"{axis} of the crop, R²{kind}"] for kind in ("", ", another corner") for axis in ("top", "left")]
    said.append(told["top of the crop, R², not told"])
    assert numbers(line) == pytest.approx(said, abs=0.051)
    assert min(said[:2]) >= 0.9
    assert max(said[2:]) < 0
    for start, kind in (("| detail, drawn", ""), ("| detail, real files", ", real")):
        values = [told[f"detail at {side} px{kind}"] for side in (16, 24, 32, 48, 64)]
        assert numbers(starting(lecture, start)) == pytest.approx(values, abs=0.00051)
        assert values == sorted(values)


def test_the_ablation_is_what_the_benchmark_measured(root, lecture):
    found = json.loads((root / "benchmarks" / "results" / "sdxl.json").read_text(encoding="utf-8"))
    at, kinds = found["times"].index(0.95), ("right", "next", "swapped")
    rows = {name: [run["x0_error"][kind][at] for kind in kinds] for name, run in found["runs"].items()}
    for name, title in (("both", "both"), ("clip", "CLIP alone"), ("texts", "texts alone")):
        assert numbers(starting(lecture, f"| {title} |")) == pytest.approx(rows[name], abs=0.0006)
    more = {name: (row[1] - row[0], row[2] - row[0]) for name, row in rows.items()}
    said = [more["clip"][1], more["texts"][1], more["texts"][0], more["clip"][0], more["both"][1], more["both"][0]]
    line = starting(lecture, "By the last column less the first")
    assert numbers(line)[:6] == pytest.approx(said, abs=0.0011)
    relations = [run["relation, w=1"] for run in found["runs"].values()]
    assert numbers(line)[6:] == [min(relations), max(relations)]
    assert f"after {found['steps']} steps" in lecture
    assert min(row[0] for row in rows.values()) == rows["both"][0]


def test_the_refiner_is_what_record_and_benchmark_say(root, lecture):
    late = json.loads((root / "benchmarks" / "results" / "sdxl.json").read_text(encoding="utf-8"))["late"]
    assert all(ours < 0.8 * theirs for ours, theirs in zip(late["refiner"], late["base"]))
    found = sdxl.REFINER.record()["scores"]
    for t in (0.1, 0.2, 0.35):
        said = [
            found[f"real, from {t:g} by the {who}, {what}"]
            for what in ("error", "right")
            for who in ("base", "refiner")
        ]
        row = starting(lecture, f"| real, t = {t:g} |".replace("0.", "."))
        assert numbers(row)[1:] == pytest.approx(said, abs=0.00006)
        assert said[1] < said[0]
        assert said[3] == 1 > said[2]
    told = sdxl.REFINER.record()["scores"]
    for name in ("from 0.1", "from 0.2", "from 0.35", "from 0.6", "as img2img"):
        row = "| " + name.replace("as ", "").replace("0.", ".") + " |"
        said = [told[f"{name}, {what}"] for what in ("flaws of the base", "flaws", "right")]
        assert numbers(starting(lecture, row))[-3:] == pytest.approx(said, abs=0.0051 * 0.01)
    line = starting(lecture, "The refiner behind the base:")
    floor = told["real, flaws"]
    assert numbers(line) == pytest.approx([told["base alone, right"], floor], abs=0.00006)
    line = starting(lecture, "So an expert, and no gain.").split("details of")[1]
    assert numbers(line) == pytest.approx([told[f"score {score}, detail"] for score in (2, 6, 10)], abs=0.00001)
    assert told["from 0.35, flaws"] > told["from 0.35, flaws of the base"], "a gain would have to be told"
    assert abs(told["from 0.35, right"] - told["base alone, right"]) < 0.1
    assert told["from 0.6, right"] < told["base alone, right"] - 0.2


@pytest.mark.parametrize(
    ("row", "model"),
    [("SD 1", sdxl.SD_1), ("SD 2", stable_diffusion.MODEL), ("SDXL", sdxl.BASE)],
    ids=["SD 1", "SD 2", "SDXL"],
)
def test_the_scorecard_is_what_the_records_say(lecture, row, model):
    entry = model.record()
    line = starting(lecture, f"| {row}, {entry['steps']} steps")
    said = [entry["scores"][f"{family}, w=1{kind}"] for family in FAMILIES for kind in ("", ", another caption")]
    assert numbers(line) == pytest.approx(said, abs=0.0051)
    assert sum(said[::2]) > 3 * sum(said[1::2])


def test_what_the_notebook_asks_to_predict_is_folded_away(lecture):
    assert lecture.count("<details>") == lecture.count("</details>") >= 10
    shown = re.sub(r"<details>.*?</details>", "", lecture, flags=re.DOTALL)
    for told in (".584", ".97, of left", "told (8, 0) .29", ".94 *(.04)*", ".0297", "no gain"):
        assert told in lecture
        assert told not in shown
    assert "2816" in shown, "control: what is derived stays in sight"


def test_nothing_of_the_latent_world_is_told_wrongly(lecture):
    """Widths in the text are those of the modules."""
    read = sdxl.BASE.untrained().net.conditioning.inner
    assert (read.encoder.dim, read.encoder.out, read.to_context.out_features) == (80 + 64, 64, 64)
    assert "CLIP of sprites (80)" in lecture
    assert latent.LENGTH == 18
