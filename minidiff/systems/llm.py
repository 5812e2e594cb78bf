"""A chat model of sentences about scenes: it has read captions in every wording, and questions with their answers.

What it says does not matter to a generator; what its layers hold does (chapter 12). A text-only encoder that hides
words (`text_lm`, chapter 07) has to know which words go together. This model has to know what is *meant*: which of two
objects is on the left, how many there are, what is absent, and how else the same thing can be said.

    user : draw this picture : a red circle and no square . assistant : …
    user : a red circle and no square . is there a square ? assistant : no
"""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import torch
from torch import Generator, Tensor

from minidiff.data.captions import NUMBERS, caption, noun, vocabulary
from minidiff.data.prompts import FAMILIES, OPPOSITE, SCENIC, Group, Prompt
from minidiff.data.scenes import KINDS, SHAPES, SPRITES
from minidiff.encoders.language import LanguageModel
from minidiff.encoders.tokenizer import END, PAD, WordTokenizer, trimmed
from minidiff.judges.sentences import read
from minidiff.optim import Muon, muon_groups
from minidiff.systems.shipped import Shipped
from minidiff.systems.text_lm import Texts
from minidiff.training import Batch, Draw

LENGTH = 160
"""A long caption, a question and its answer."""
STYLES = {"short": 0.45, "paraphrase": 0.45, "long": 0.1}
WORLD = Texts(kinds=(*SHAPES, *SHAPES, *SPRITES), families=(*FAMILIES[1:], *SCENIC))
"""Shapes as often as sprites."""
SPOKEN = "user assistant : ? draw this picture is the what colour how many are there say it shortly yes nothing show"
INSTRUCTED = "make remove turn into now add change to and please where which swap them undo back again bigger smaller"
"""Words of instructions to edit (`vlm`), which this model never reads while it learns."""
SHORTLY, DRAW = "say it shortly .", "draw this picture :"
BEFORE, AFTER = f"user : {DRAW}", ". assistant :"
"""The template around a caption that is to be drawn."""
CUT = 1 + len(BEFORE.split())
"""Tokens of the template before the caption, START among them."""
Asked = tuple[str, str]


@lru_cache
def tokenizer() -> WordTokenizer:
    """The words of captions in all wordings, of questions, and of a chat."""
    return WordTokenizer([*vocabulary(), "some", *SPOKEN.split(), *INSTRUCTED.split()], LENGTH)


def chat(texts: Sequence[str]) -> Tensor:
    """Captions to be drawn, in the template, with END behind it: (B, at most 160)."""
    return trimmed(tokenizer().encode([f"{BEFORE} {text} {AFTER}" for text in texts]))


# ---------------------------------------------------------------- what it is asked


def the(group: Group) -> str:
    return f"the {noun(group, article=False)}"


def present(prompt: Prompt, rng: Random, of: Sequence[str] = KINDS) -> Asked:
    """Of something that is there, or that is not: what the prompt says is absent, else any other kind of `of`."""
    kinds = [group.kind for group in prompt.groups]
    others = [prompt.absent] if prompt.absent else [kind for kind in of if kind not in kinds]
    kind, there = (rng.choice(kinds), "yes") if rng.random() < 0.5 else (rng.choice(others), "no")
    return f"is there {noun(Group(str(kind), 'red' if kind in SHAPES else None)).replace('red ', '')} ?", there


def colour(prompt: Prompt, rng: Random) -> Asked | None:
    """Of a shape whose kind occurs once."""
    kinds = [group.kind for group in prompt.groups]
    known = [g for g in prompt.groups if g.count == 1 and g.colour and kinds.count(g.kind) == 1]
    if not known:
        return None
    group = rng.choice(known)
    return f"what colour is the {group.kind} ?", str(group.colour)


def number(prompt: Prompt, rng: Random) -> Asked | None:
    """Of one group's objects, or of none."""
    looks = [group.look for group in prompt.groups]
    known = [group for group in prompt.groups if looks.count(group.look) == 1]
    if not known:
        return None
    group = rng.choice(known)
    named = noun(Group(group.kind, group.colour, "medium", 2)).removeprefix("two ")
    return f"how many {named} are there ?", NUMBERS[group.count]


def relation(prompt: Prompt, rng: Random) -> Asked | None:
    """What stands where, seen from either object, or whether it does."""
    if prompt.relation not in OPPOSITE:
        return None
    a, b = prompt.groups
    if rng.random() < 0.5:
        return (f"what is {prompt.relation} {the(b)} ?", noun(a)) if rng.random() < 0.5 else (
            f"what is {OPPOSITE[prompt.relation]} {the(a)} ?", noun(b)
        )  # fmt: skip
    first, second, so = (a, b, "yes") if rng.random() < 0.5 else (b, a, "no")
    return f"is {the(first)} {prompt.relation} {the(second)} ?", so


def reworded(prompt: Prompt, rng: Random) -> Asked | None:
    """The caption, shortly: one sentence, whatever the wording was. Not of a list, which has no order of its own."""
    listed = prompt.relation is None and len(prompt.groups) > 1
    return None if listed else (SHORTLY, caption(prompt))


QUESTIONS = (present, colour, number, relation, relation, reworded, reworded)
"""Relations twice: only some prompts have one."""


def dialogue(prompt: Prompt, style: str, rng: Random) -> tuple[str, str]:
    """What a user says of one prompt, up to "assistant :", and the answer."""
    text = caption(prompt, style, rng)
    if rng.random() < 0.15:
        return f"{BEFORE} {text} {AFTER}", caption(prompt)
    asked = None
    while asked is None:
        asked = rng.choice(QUESTIONS)(prompt, rng)
    return f"user : {text} {asked[0] if text.endswith('.') else '. ' + asked[0]} assistant :", asked[1]


def rows(dialogues: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) of questions followed by their answers, and which belong to an answer, END included (B, L) bool."""
    said = tokenizer().encode([f"{question} {answer}" for question, answer in dialogues])
    begins = tokenizer().lengths([question for question, _ in dialogues]) - 1  # without END
    place = torch.arange(said.shape[1])
    return said, (place >= begins[:, None]) & (said != PAD)


def corpus(n: int, style: str, seed: int, split: str = "train") -> list[tuple[str, str]]:
    rng = Random(seed)
    return [dialogue(prompt, style, rng) for prompt in WORLD.prompts(n, seed, split)]


def build() -> LanguageModel:
    """0.47 M parameters: width 80, 6 blocks."""
    return LanguageModel(len(tokenizer()), LENGTH)


def draw_dialogues(batch: int, n: int = 40_000) -> Draw:
    """Rows of a corpus of n dialogues, one style a batch: {"tokens": (batch, L) int64, "answer": (batch, L) bool}."""
    held = {style: rows(corpus(max(1, round(share * n)), style, i)) for i, (style, share) in enumerate(STYLES.items())}
    weights = torch.tensor(list(STYLES.values()))

    def draw(generator: Generator) -> Batch:
        style = list(STYLES)[int(torch.multinomial(weights, 1, generator=generator))]
        said, answer = held[style]
        chosen = torch.randint(len(said), (batch,), generator=generator)
        tokens = trimmed(said[chosen])
        return {"tokens": tokens, "answer": answer[chosen][:, : tokens.shape[1]]}

    return draw


# ---------------------------------------------------------------- what it has learnt


def ask(model: LanguageModel, questions: Sequence[str], pictures: Tensor | None = None, batch: int = 250) -> list[str]:
    """The answers to questions that end with "assistant :", each the most probable words."""
    said = []
    for i in range(0, len(questions), batch):
        tokens = tokenizer().encode(questions[i : i + batch])
        tokens = trimmed(tokens.masked_fill(tokens == END, PAD)).to(model.place.device)
        shown = None if pictures is None else pictures[i : i + batch].to(model.place.device)
        said += tokenizer().decode(model.answer(tokens, pictures=shown).cpu())
    return said


def shortly(model: LanguageModel, texts: Sequence[str]) -> list[str]:
    """Captions in short words of the model's own: what a user wrote becomes what a generator was trained on.

    DALL·E 3's captions are rewritten by a language model in the same way before it draws (its report, section 3.5).
    """
    stop = lambda text: text if text.endswith(".") else f"{text} ."
    return ask(model, [f"user : {stop(text)} {SHORTLY} assistant :" for text in texts])


def means(said: str, wanted: str) -> bool:
    """The same words; or, of a sentence, the same scene seen from the other object."""
    a, b = read(said), read(wanted)
    turned = a is not None and a.relation in OPPOSITE and a.turned() == b
    return said == wanted or turned


@torch.no_grad()
def scores(model: LanguageModel, n: int = 300) -> dict[str, float]:
    """Held-out questions answered word by word right, by kind and wording; beside answers to the next question."""
    found = {}
    for style in STYLES:
        for question in dict.fromkeys(QUESTIONS):
            rng, asked = Random(1), []
            for prompt in WORLD.prompts(4 * n, 1, "test"):
                answered = question(prompt, rng)
                if answered is not None and len(asked) < n:
                    text = caption(prompt, style, rng)
                    stop = "" if text.endswith(".") else ". "
                    asked.append((f"user : {text} {stop}{answered[0]} assistant :", answered[1]))
            asked = asked[: n if style != "long" else n // 3]
            said = ask(model, [question for question, _ in asked])
            right = [means(a, wanted) for a, (_, wanted) in zip(said, asked)]
            other = [means(a, wanted) for a, (_, wanted) in zip(said[1:] + said[:1], asked)]
            found[f"{question.__name__}, {style}"] = round(sum(right) / len(asked), 4)
            found[f"{question.__name__}, {style}, another's answer"] = round(sum(other) / len(asked), 4)
    return found


MODEL = Shipped(
    name="llm", purpose="a chat model of sentences about scenes, whose layers a generator reads (chapter 12)",
    build=build, draw=lambda: draw_dialogues(48), steps=4500, scores=scores, bits=8,
    options={"optimizer": Muon, "groups": muon_groups, "ema_decay": 0.99},
)  # fmt: skip
