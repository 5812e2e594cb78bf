"""A chat model that has seen pictures, and a generator that edits by what it sees (chapter 12).

    SEEING  the chat model of `llm`, shown 16-px scenes in 16 squares before it is asked about them
    EDITOR  a generator that looks at SEEING's states of a picture and an instruction, and draws the edited scene

The generator never sees the picture itself. So whatever it keeps, a language model has told it: give it another
picture with the same instruction, and it edits that one (Qwen-Image's editing, arXiv 2508.02324, section 2, which
adds the picture's latents; without them nothing else could carry the picture here).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import times
from minidiff.backbones.dit import DiT
from minidiff.conditioning import Conditioned, Frozen, Given
from minidiff.data.captions import caption
from minidiff.data.edits import KINDS_OF_EDIT, Edit, after, before, edit_of, edits
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import SHAPES, Object, render
from minidiff.data.web import WORLD
from minidiff.denoiser import Denoiser
from minidiff.encoders.language import LanguageModel, Layers
from minidiff.encoders.tokenizer import trimmed
from minidiff.judges.scenes import parse
from minidiff.optim import Muon, muon_groups
from minidiff.predictions import X0, velocity_weight
from minidiff.schedules import Linear
from minidiff.systems import llm
from minidiff.systems.generator import generator
from minidiff.systems.shipped import Shipped
from minidiff.training import Batch, Draw, chunked, diffuse
from minidiff.weights import load_weights

SIDE, PATCH = 16, 4
DESCRIBE = "user : what is there ? assistant :"
Asked = tuple[str, str]


def present(prompt: Prompt, rng: Random) -> Asked:
    """`llm.present`, of shapes alone."""
    return llm.present(prompt, rng, SHAPES)


QUESTIONS = (present, llm.colour, llm.number, llm.relation, llm.relation)


def build() -> LanguageModel:
    """The chat model with its weights, and a linear map for squares of 4×4 pixels: 0.49 M parameters."""
    model = LanguageModel(len(llm.tokenizer()), llm.LENGTH, picture=(SIDE, PATCH), other=0.0)
    model.load_state_dict(model.state_dict() | load_weights(llm.MODEL.name))
    return model


def asked(prompt: Prompt, objects: list[Object], rng: Random) -> Asked:
    """What a user asks of a picture, up to "assistant :", and the answer.

    A third each: what there is; a question; an edit, answered by what there is afterwards. Only what can be named
    without doubt is edited.
    """
    prompt, kind = replace(prompt, absent=None), rng.choice(("describe", "ask", "edit"))
    if kind == "edit" and len({thing[:2] for thing in objects}) == len(objects):
        edit = edit_of(objects, rng)
        return f"user : {edit.text} . assistant :", listed(edit.after)
    found = None
    while kind == "ask" and found is None:
        found = rng.choice(QUESTIONS)(prompt, rng)
    return (DESCRIBE, caption(prompt)) if found is None else (f"user : {found[0]} assistant :", found[1])


def listed(objects: Sequence[Object]) -> str:
    """A caption of what there is, wherever it is."""
    return caption(Prompt(tuple(Group(kind, colour) for kind, colour, *_ in objects)))


def draw_looks(batch: int) -> Draw:
    """Scenes of the training split and dialogues about them: {"pictures", "tokens", "answer"} of `LanguageModel`."""

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            prompts = WORLD.prompts(n, generator, "train")
            scenes, rng = place(prompts, generator), Random(int(torch.randint(2**62, (1,), generator=generator)))
            tokens, answer = llm.rows([asked(prompt, scenes.objects(i), rng) for i, prompt in enumerate(prompts)])
            return {"pictures": render(scenes), "tokens": tokens, "answer": answer}

        return draw

    whole = chunked(rows, batch, chunk=16)

    def draw(generator: Generator) -> Batch:
        found = whole(generator)
        tokens = trimmed(found["tokens"])
        return {**found, "tokens": tokens, "answer": found["answer"][:, : tokens.shape[1]]}

    return draw


@torch.no_grad()
def scores(model: LanguageModel, n: int = 300) -> dict[str, float]:
    """Held-out questions about held-out pictures answered right; beside them with the next picture, and with none."""
    found, rng = {}, Random(1)
    for question in dict.fromkeys(QUESTIONS):
        prompts, said = [], []
        for prompt in WORLD.prompts(6 * n, 1, "test"):
            answered = question(replace(prompt, absent=None), rng)
            if answered is not None and len(said) < n:
                prompts.append(prompt)
                said.append(answered)
        x0, texts = render(place(prompts, 1)), [f"user : {text} assistant :" for text, _ in said]
        shown = {"": x0, ", the next picture": x0.roll(1, 0), ", no picture": None}
        for name, pictures in shown.items():
            right = [a == wanted for a, (_, wanted) in zip(llm.ask(model, texts, pictures), said)]
            found[question.__name__ + name] = round(sum(right) / len(said), 4)
    return found


SEEING = Shipped(
    name="vlm", purpose="the chat model, shown pictures of scenes and asked about them (chapter 12)",
    build=build, draw=lambda: draw_looks(48), steps=4000, scores=scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.99},
)  # fmt: skip


# ---------------------------------------------------------------- edits


class Seen(Frozen):
    """tokens (B, L), picture (B, 3, 16, 16) → context: a seeing chat model's states of both. It does not learn."""

    def forward(self, batch: int, *, tokens: Tensor, picture: Tensor) -> Given:  # type: ignore[override]
        return self.told(batch, tokens, picture)


WIDTH, TOLD = 96, 14
"""Of the network; tokens of the longest instruction."""


def build_editor() -> Denoiser:
    """The generator of `readers`, of width 96, which looks at 16 squares and an instruction."""
    seen = Seen(Layers(SEEING.load(), (-2,)), llm.LENGTH, WIDTH)
    net = DiT(
        patch=4, dim=WIDTH, depth=6, context_dim=WIDTH, reads="merged", shared=True, place_std=0.3, activation=F.silu
    )
    return Denoiser(Conditioned(seen, net), Linear(), X0, velocity_weight)


def instructed(texts: Sequence[str]) -> Tensor:
    """Instructions as a user's turn, (B, 14)."""
    return llm.tokenizer().encode([f"user : {text} . assistant :" for text in texts])[:, :TOLD]


def draw_edits(batch: int) -> Draw:
    """{"x0": after the edit, "picture": before it, "tokens": the instruction}; a tenth of them is silent and sees grey.

    A fifth asks for nothing: the picture is to be drawn as it is.
    """

    def rows(n: int) -> Draw:
        def draw(generator: Generator) -> Batch:
            found = edits(n, generator, "train")
            rng = Random(int(torch.randint(2**62, (1,), generator=generator)))
            same = [rng.random() < 0.2 for _ in found]
            texts = ["draw this picture" if s else edit.text for s, edit in zip(same, found)]
            x = before(found)
            x0 = torch.where(torch.tensor(same)[:, None, None, None], x, after(found))
            return {"x0": x0, "picture": x, "tokens": instructed(texts)}

        return draw

    whole = chunked(rows, batch, chunk=16)
    return diffuse(whole, times.logit_normal(0.5, 1.0, stratified=True), drop=0.1, null=null())


def null() -> dict[str, Tensor]:
    """No instruction, and an empty picture in the middle of grey."""
    return {"tokens": instructed([""])[0], "picture": torch.zeros(3, SIDE, SIDE)}


def editor(model: Denoiser, steps: int = 50) -> Callable[[Tensor, Sequence[str], float, Sequence[int]], Tensor]:
    """`edit(pictures, texts, w, seeds)` → (B, 3, 16, 16): what is drawn of pictures (B, 3, 16, 16) and instructions."""

    def edit(pictures: Tensor, texts: Sequence[str], w: float, seeds: Sequence[int]) -> Tensor:
        reads = lambda texts: {"tokens": instructed(texts), "picture": pictures}
        return generator(model, reads, null(), (3, SIDE, SIDE), steps=steps, batch=len(texts))(texts, w, seeds)

    return edit


def done(found: Sequence[Edit], pictures: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) bool each: a picture shows exactly the kinds and colours of the edited scene; and that where they were.

    Where they were: each within 2 of 16 places of its own.
    """
    seen = parse(pictures)
    same, there = [], []
    for i, edit in enumerate(found):
        things = seen.scenes.objects(i) if seen.readable[i] else None
        alike = things is not None and sorted(t[:2] for t in things) == sorted(t[:2] for t in edit.after)
        same.append(alike)
        there.append(alike and _near(things or [], edit.after))
    return torch.tensor(same), torch.tensor(there)


def _near(things: Sequence[Object], wanted: Sequence[Object]) -> bool:
    where = {t[:2]: t[3:] for t in wanted}
    return all(max(abs(y - where[k, c][0]), abs(x - where[k, c][1])) <= 2 for k, c, _, y, x in things)


def editor_scores(model: Denoiser, n: int = 100) -> dict[str, float]:
    """By kind of edit, w = 1: pictures edited as told, also in their places; when shown the next picture, and grey."""
    found, draw = {}, editor(model)
    for what in KINDS_OF_EDIT:
        asked = edits(n, 1, "test", what)
        texts, x = [edit.text for edit in asked], before(asked)
        ways = {"": (x, texts), ", the next picture": (x.roll(-1, 0), texts), ", grey": (torch.zeros_like(x), texts)}
        for name, (shown, told) in ways.items():
            same, there = done(asked, draw(shown, told, 1.0, range(n)))
            found[what + name] = round(float(same.float().mean()), 4)
            if not name:
                found[f"{what}, in place"] = round(float(there.float().mean()), 4)
    return found


EDITOR = Shipped(
    name="vlm-editor", purpose="an edit of a 16-px scene that a seeing chat model is told and shown (chapter 12)",
    build=build_editor, draw=lambda: draw_edits(32), steps=6000, scores=editor_scores, bits=8, apart=".encoder.",
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.998},
)  # fmt: skip
