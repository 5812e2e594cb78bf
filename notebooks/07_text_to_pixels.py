# %% [markdown]
# # 07 From text to pixels: the framework, cross-attention, Imagen, cascades
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Nothing is trained here: six small models are shipped.
#
# You type a sentence, and get that picture: this chapter builds the way there. Something has to *read* the sentence, something has to *draw*,
# and the two have to meet: at every place of the picture, in every layer, at every step. Then the small picture becomes a large one.
#
# **What you will learn.** One interface for every text-to-picture system; cross-attention, written out, its maps, and a surgery on them; why a reader
# that never saw a picture will do; cascades and the noise between their stages; what to do when guidance is strong; why pictures come coarse first.
#
# **Parts.** *Core*: sections 1 to 9, about 120 minutes. *Extra*: sections 10 and 11, about 20 minutes.
#
# **Before.** Chapter 05 (guidance). **Read along:** [lecture](../lectures/07_text_to_pixels.md) (the derivations). **Then do:**
# [exercises](../exercises/07_text_to_pixels.ipynb).

# %%
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.cascade import lowered, staged
from minidiff.data.captions import captions
from minidiff.data.prompts import Prompt, place
from minidiff.data.scenes import render
from minidiff.guidance import cfg
from minidiff.judges.scorecard import matches
from minidiff.randomness import initialised, randn, seeded
from minidiff.samplers import ddpm, sample
from minidiff.show.figures import text_to_pixels as draw
from minidiff.systems import imagen, text_lm

# %%
from minidiff.training import pick_device

device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks
base = imagen.BASE.load().to(device)

# %% [markdown]
# ## 1. One framework (core, 15 minutes)
#
# The world: ten sprites that nobody here drew, alone, side by side, on one another's back, in the snow; pictures of 64×64 pixels and their area
# means, 32×32 and 16×16. One content in eight never occurs in training; only such sentences are asked for here.
#
# A first model draws 16×16 pixels. Its reader, `text_lm`, was trained on *sentences only*, then frozen. Everything from the sentence to the picture
# is in the next cell. **Predict.** Does it give the very pictures of the library's `generate(texts, w, seeds)`, and what if the seeds are others?

# %%
sentences = ["an astronaut riding a horse", "a cat left of a dog", "a snowman in the snow", "a house and a fish"]


def draw_by_hand(texts: list[str], w: float, seeds: list[int], steps: int = 25) -> Tensor:
    cond = {name: value.to(device) for name, value in imagen.read(texts).items()}  # {"tokens": (B, 18)}
    null = {name: value[0].to(device) for name, value in imagen.read([""]).items()}
    generators = seeded(seeds)  # one for each picture: it depends on its own seed and on nothing else
    noise = randn((len(texts), 3, 16, 16), generators, device=device)
    guided = cfg(base, cond, null, w)  # (1 + w)·with the sentence − w·without
    clipped = lambda x_t, t: guided(x_t, t).clamp(-1, 1)
    *_, x0 = sample(clipped, noise, times.linear(steps), ddpm(base.schedule), generators)
    return x0.cpu()


by_hand = draw_by_hand(sentences, 1.0, [0, 1, 2, 3])
by_library = imagen.small_of(base, steps=25)(sentences, 1.0, [0, 1, 2, 3]).cpu()
other_seeds = draw_by_hand(sentences, 1.0, [4, 5, 6, 7])
assert float((by_hand - by_library).abs().max()) < 1e-3 < 0.1 < float((by_hand - other_seeds).abs().max())

# %% [markdown]
# The judge reads a picture back exactly, whatever its size. `shown` asks it whether pictures show what was asked: these things, so many, so placed, and
# nothing else. Three readers, the same design of generator, the same noise: sentences alone (frozen); CLIP, trained on sentences *with pictures* (frozen, too); word
# vectors that learned along with the generator. **Predict** who reads best, and what the same pictures score for another sentence.


# %%
def shown(prompts: list[Prompt], pictures: Tensor) -> float:
    """The share of pictures, of any size, that show their prompts wholly."""
    return float(matches(prompts, imagen.seen(pictures)).double().mean())


asked_1 = imagen.WORLD.prompts(24, 11, "test")
reads_of = lambda name: imagen.read_clip if name == "CLIP" else imagen.read  # each reader numbers words its own way
readers = {name: (shipped, reads_of(name)) for name, shipped in imagen.ENCODERS.items()}
drawn_1 = {
    name: imagen.small_of(shipped.load().to(device), reads, steps=25)(captions(asked_1), 1.0, range(24))
    for name, (shipped, reads) in readers.items()
}
rows_1 = {name: [shown(asked_1, x), shown(asked_1[1:] + asked_1[:1], x)] for name, x in drawn_1.items()}
assert min(right for right, _ in rows_1.values()) > 0.5 > 0.3 > max(other for _, other in rows_1.values())
show.table(rows_1, ["the reader", "24 sentences shown", "the next one's (control)"], digits=2)

# %%
four = [0, 1, 2, 3]
draw.same_noise({name: x[four] for name, x in drawn_1.items()}, [captions(asked_1)[i] for i in four], "Same noise")

# %% [markdown]
# Frozen means frozen: the reader inside the trained system is, to the bit, the one that was trained on sentences. **Predict.** How many of the system's
# parameters learned from pictures?

# %%
alone, inside = text_lm.MODEL.load(), base.net.conditioning.encoder
fresh = initialised(text_lm.build, seed=0)
equal = lambda a, b: all(
    torch.equal(x.cpu(), y.cpu()) for x, y in zip(a.state_dict().values(), b.state_dict().values())
)
count = lambda module: sum(p.numel() for p in module.parameters())
assert equal(alone, inside)
assert not equal(alone, fresh)  # the control
parts_1 = {"the reader: learned from sentences alone": [count(inside)]}
parts_1["two maps between them, and the generator: from pictures"] = [count(base) - count(inside)]
show.table(parts_1, ["part", "parameters"])

# %% [markdown]
# ## 2. The architecture, as it runs (core, 10 minutes)
#
# Nothing below is drawn by hand: the figure is made from the modules that were called when one picture went through the network, and from the
# shapes that left them. It is a *U-Net*: down to fewer, broader places, and up again. An arrow from below means that a module's queries looked at the
# words. **Predict.** Where do words enter: at the coarsest places only, or everywhere?

# %%
from minidiff.conditioning import Frozen
from minidiff.nn.conv import PixelAttention, PixelTransformer, ResBlock
from minidiff.nn.embeddings import TimeEmbedding
from minidiff.show.architecture import diagram, trace

kinds = (torch.nn.Conv2d, ResBlock, PixelTransformer, PixelAttention, TimeEmbedding, Frozen)
one_cond = {name: value.to(device) for name, value in imagen.read(sentences[:1]).items()}
half = torch.tensor(0.5)
calls = trace(base, lambda: base(torch.zeros(1, 3, 16, 16, device=device), half, **one_cond), kinds)
as_it_ran = diagram(calls, "The 16-px stage, as it ran")

# %%
looking = [call for call in calls if call.looks_at is not None]
boxed = [call for call in calls if call.kind != "TimeEmbedding"]
assert {call.kind for call in looking} == {"PixelTransformer", "PixelAttention"}
assert len({call.shapes[""][-1] for call in looking}) == 2  # on both resolutions
words_18 = looking[0].looks_at
path = {f"{i + 1}. {c.kind}": [c.text, c.parameters, c.looks_at or "–"] for i, c in enumerate(boxed)}
show.table(path, ["one picture through", "what comes out", "parameters", "looks at tokens"])

# %% [markdown]
# ## 3. Cross-attention, written out (core, 15 minutes)
#
# A place asks with a query, each word answers to a key, and what the place receives is a mean of messages, weighed by how well they fit. Padding must get the weight 0.
# Here it is, and beside it what the network itself computed in one of its layers. **Predict.** What is worse: forgetting $\sqrt d$, or to
# set the padding's vectors to 0 and leave the mask out?


# %%
from minidiff.nn.block import Attention


def look_up(q: Tensor, k: Tensor, v: Tensor, is_word: Tensor) -> Tensor:
    """q (B, heads, L, d); k, v (B, heads, M, d); is_word (B, M) → (B, heads, L, d)."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, heads, L, M)
    scores = scores.masked_fill(~is_word[:, None, None, :], -torch.inf)
    return scores.softmax(-1) @ v


crosses = {name: m for name, m in base.named_modules() if isinstance(m, Attention) and "cross" in name}
seen_by: dict[str, tuple] = {}
layer = list(crosses)[-1]
hook = crosses[layer].attend.register_forward_hook(lambda m, given, out: seen_by.update({"layer": (*given, out)}))
x_two = randn((2, 3, 16, 16), seeded([0, 1]), device=device)
two = imagen.read(sentences[:2])["tokens"].to(device)
base(x_two, half, tokens=two)
hook.remove()

# %%
q, k, v, mask, theirs = seen_by["layer"]
is_word = two != 0
no_root = look_up(q * math.sqrt(q.shape[-1]), k, v, is_word)
zeros = look_up(q, k * is_word[:, None, :, None], v * is_word[:, None, :, None], torch.ones_like(is_word))
shuffled_words = torch.randperm(int(is_word[0].sum()), generator=seeded(0)).to(device)
first = lambda x, order: look_up(q[:1], k[:1, :, order], x[:1, :, order], is_word[:1, order])
gap_of = lambda ours, other: float((ours - other).norm() / other.norm())
gaps_3 = {"written out": [gap_of(look_up(q, k, v, is_word), theirs)]}
gaps_3["words in another order"] = [gap_of(first(v, shuffled_words), theirs[:1])]
gaps_3 |= {"√d forgotten": [gap_of(no_root, theirs)], "zeros for a mask": [gap_of(zeros, theirs)]}
assert max(gaps_3["written out"][0], gaps_3["words in another order"][0]) < 1e-5
assert min(gaps_3["√d forgotten"][0], gaps_3["zeros for a mask"][0]) > 0.01
show.table(gaps_3, ["one layer's attention", "relative difference"], digits=2)

# %% [markdown]
# The second row matters: to this layer a sentence is a *bag* of vectors. Who is left of whom, the reader must have written into the vectors before.
#
# ## 4. Where does a word look? (core, 10 minutes)
#
# The weights of one word, over all places, are a picture. `attention_maps` keeps those of every call: softmax of the very queries and keys that were
# used. Below: their mean over heads, layers and the steps after $t = 0.8$. **Predict.** "A cat left of a dog": where is the map of *cat* dark, where that of *of*?

# %%
from minidiff.nn.block import attention_maps


def mean_map(kept: dict[str, list[Tensor]]) -> Tensor:
    """A map of every token, (B, M, 16, 16)."""
    found = []
    for every_step in (kept[name] for name in crosses):
        weights = torch.stack(every_step[len(every_step) // 5 :]).mean((0, 2)).cpu()  # (B, L, M)
        side = math.isqrt(weights.shape[1])
        squares = weights.transpose(1, 2).unflatten(2, (side, side))
        found.append(F.interpolate(squares, size=(16, 16), mode="bilinear"))
    return torch.stack(found).mean(0)


def draw_and_look(texts: list[str], seeds: list[int], model=base) -> tuple[Tensor, Tensor]:
    with attention_maps(model) as kept:
        pictures = imagen.small_of(model, steps=25)(texts, 0.0, seeds)
    return pictures.cpu(), mean_map(kept)


# %%
from minidiff.encoders.tokenizer import split

pairs = [p for p in imagen.WORLD.prompts(120, 5, "test") if len(p.groups) == 2 and p.relation][:24]
pictures_4, maps_4 = draw_and_look(captions(pairs), range(24))
spoken = [split(text) for text in captions(pairs)]
chosen_4 = [i for i in range(24) if len(spoken[i]) == 6][:3]
parts_4 = [maps_4[i, 1:7] for i in chosen_4]  # token 0 is START
draw.word_maps(pictures_4[chosen_4], [spoken[i] for i in chosen_4], parts_4, "Nouns look at their objects")

# %% [markdown]
# Is that true, or do we see what we want to? The judge reads where each object is. The AUC is the probability that a place on the object is darker than one off it;
# ½ is chance. Two controls: an untrained network of the same design, and the map of the *other* noun, which may well know that here is *an* object.

# %%
from minidiff.data.scenes import assemble
from minidiff.retrieval import auc


def hits(prompts: list[Prompt], pictures: Tensor, maps: Tensor, other: bool = False) -> float:
    """Mean AUC of the nouns' maps against the masks of the objects that the judge reads."""
    read, values = imagen.seen(pictures).scenes, []
    for i, prompt in enumerate(prompts):
        for thing in read.objects(i):
            alone = render(assemble([[thing]]), 64)
            mask = (lowered(alone - render(assemble([[]]), 64), 4).abs().amax(1) > 0.1)[0]
            named = [g.kind for g in prompt.groups if (g.kind == thing[0]) != other]
            if thing[0] in [g.kind for g in prompt.groups] and named:
                word = 1 + split(captions([prompt])[0]).index(named[0])
                values.append(auc(maps[i, word].flatten(), mask.flatten()))
    return sum(values) / len(values)


# %%
blank = initialised(lambda: imagen.build(imagen.frozen_text), seed=0).to(device)
_, maps_blank = draw_and_look(captions(pairs), range(24), blank)
aucs = {"the noun's own object": [hits(pairs, pictures_4, maps_4)]}
aucs["the other noun's (control)"] = [hits(pairs, pictures_4, maps_4, other=True)]
aucs["untrained network (control)"] = [hits(pairs, pictures_4, maps_blank)]
assert aucs["the noun's own object"][0] > max(0.85, aucs["the other noun's (control)"][0] + 0.1)
assert aucs["untrained network (control)"][0] < 0.65
show.table(aucs, ["maps against", "AUC"], digits=2)

# %% [markdown]
# ## 5. Two words trade messages (core, 15 minutes)
#
# A map shows where a message was *taken*. Whether the message decides what is drawn, an operation shows: in every layer and step exchange the rows $v_i$ and $v_j$ of two words, and leave the keys. Colours are the
# easiest to tell, so take the model of scenes from chapter 03's world, "a red circle left of a blue star". (Its places look at one another and at the words in *one* softmax, as in Imagen's own two smaller stages; words have
# keys and messages of their own there, too.) **Predict** what "red" and "blue" do when they trade messages: do the colours trade places, or the objects? And if keys *and* messages are exchanged?

# %%
from minidiff.data.prompts import World
from minidiff.judges.scenes import parse
from minidiff.nn.block import Block
from minidiff.systems import scenes_text

scenic = scenes_text.TEXT.load().to(device)
readers_of_words = [m for m in scenic.modules() if isinstance(m, Block) and m.merged]
related = World(families=("relation",)).prompts(700, 3, "test")
differ = lambda p: len({g.colour for g in p.groups}) == len({g.kind for g in p.groups}) == 2
sided = [p for p in related if p.relation == "left of" and differ(p)][:24]
told_5 = captions(sided)  # tokens: 0 START, 1 a, 2 red, 3 circle, 4 left, 5 of, 6 a, 7 blue, 8 star, 9 END


# %%
def traded(swaps: list[tuple[int, int]], parts: str = "v") -> Tensor:
    """Pictures of told_5 while tokens i and j have each other's messages ("v") or keys ("k")."""

    def exchange(module, given, out: Tensor) -> Tensor:
        order = list(range(out.shape[1]))
        for i, j in swaps:
            order[i], order[j] = j, i
        return out[:, order]

    layers = [getattr(m, f"context_{part}") for m in readers_of_words for part in parts]
    hooks = [layer.register_forward_hook(exchange) for layer in layers]
    drawn = scenes_text.pictures_of(scenic, 10, steps=25)(told_5, 0.0, range(len(told_5)))
    for hook in hooks:
        hook.remove()
    return drawn.cpu()


# %%
def sides(pictures: Tensor) -> list[float]:
    """Shares of pictures with colours as said, colours exchanged, kinds as said, kinds exchanged (left, right)."""
    seen, found = parse(pictures), torch.zeros(4)
    for i, prompt in enumerate(sided):
        things = sorted(seen.scenes.objects(i), key=lambda thing: thing[4]) if seen.readable[i] else []
        if len(things) == 2:
            colours, kinds = ([thing[k] for thing in things] for k in (1, 0))
            told = [[getattr(g, name) for g in prompt.groups] for name in ("colour", "kind")]
            found += torch.tensor(
                [colours == told[0], colours == told[0][::-1], kinds == told[1], kinds == told[1][::-1]]
            )
    return (found / len(sided)).tolist()


# %%
surgeries = {"nothing": ([], "v"), "messages of the colours": ([(2, 7)], "v"), "keys of the colours": ([(2, 7)], "k")}
surgeries |= {"keys and messages": ([(2, 7)], "kv"), "messages of the nouns": ([(3, 8)], "v")}
surgeries["messages of the two “a” (control)"] = ([(1, 6)], "v")
drawn_5 = {name: traded(*how) for name, how in surgeries.items()}
rows_5 = {name: sides(x) for name, x in drawn_5.items()}
assert rows_5["nothing"][0] > 0.85 > 0.4 > rows_5["nothing"][1]
assert rows_5["messages of the colours"][1] > 0.4 > 0.1 > rows_5["messages of the colours"][0]
assert rows_5["messages of the two “a” (control)"][0] > 0.85
assert float((drawn_5["keys and messages"] - drawn_5["nothing"]).abs().max()) < 1e-2
assert float((drawn_5["keys of the colours"] - drawn_5["messages of the colours"]).abs().max()) < 1e-2
show.table(rows_5, ["exchanged", "colours as said", "traded", "kinds as said", "traded "], digits=2)

# %%
rows_shown = {name: drawn_5[name][:6] for name in list(surgeries) if "keys" not in name}
draw.same_noise(rows_shown, told_5[:6], "Same noise, same sentence; what was exchanged")

# %% [markdown]
# Three things. Exchanging both is exchanging nothing, for a softmax does not number its words; so keys alone and messages alone are *one* surgery. The messages decide: the colours trade places. But their kinds go with them,
# and the nouns' messages count for little: this reader (one block, learned with the generator) has written "red circle" as a whole into the word "red". $K$ says where and $V$ says what, but of *what*, the reader decides.
#
# ## 6. A reader that never saw a picture (core, 10 minutes)
#
# How can a network that only ever filled gaps in sentences know who stands on the left? From texts that say things twice: "a cat left of a dog . there is a dog with a cat
# on its left". Ask its frozen vectors with a linear map: at the place of a noun, is that the one on the left (or above), or the other one? Contents it never read.
# **Predict** the share for the trained reader, for an untrained one, and for a bag of words, which knows *which* words there are.

# %%
from minidiff.systems.text_lm import bag, linear_probe, questions, two_colours

sides_6 = [questions(two_colours(n, seed, split), seed) for n, seed, split in ((1500, 0, "train"), (500, 1, "test"))]
order_6 = [torch.tensor([0, 1]).repeat(len(rows)) for rows, _, _ in sides_6]
at_nouns = lambda rows, places, vectors: vectors[torch.arange(len(rows))[:, None], places].flatten(0, 1)


def knows_who(vectors_of) -> float:
    x, y = (at_nouns(rows, places, vectors_of(rows)) for rows, places, _ in sides_6)
    return float((linear_probe(x, order_6[0], y) == order_6[1]).double().mean())


in_bag = lambda rows: torch.cat([F.one_hot(rows, 128), bag(rows)[:, None].expand(-1, rows.shape[1], -1)], 2).float()
whose = {"trained on sentences": [knows_who(lambda rows: alone.encode(rows).context)]}
whose["untrained (control)"] = [knows_who(lambda rows: fresh.encode(rows).context)]
whose["the word, and a bag of all (control)"] = [knows_who(in_bag)]
assert whose["trained on sentences"][0] > 0.75 > whose["untrained (control)"][0] > 0.5
assert abs(whose["the word, and a bag of all (control)"][0] - 0.5) < 0.07
show.table(whose, ["asked of", "left or upper one, told right"], digits=2)

# %% [markdown]
# ## 7. From 16 to 64 pixels (core, 20 minutes)
#
# $p(x^{64}|y)=p(x^{64}|x^{32},y)\,p(x^{32}|x^{16},y)\,p(x^{16}|y)$: three models. The second and third get the smaller picture, enlarged, beside $x_t$.
# **Predict.** A sprite is six pixels wide in the first picture. Who decides how a cat's ears look: the first stage, or the later ones? And if one stage draws
# another picture than it was given, is that a fault?

# %%
ups = {side: shipped.load().to(device) for side, shipped in ((32, imagen.UP_32), (64, imagen.UP_64))}
enlarge = [imagen.enlarger(model, side, level=0.1) for side, model in ups.items()]
first_7 = imagen.small_of(base)(sentences, 1.0, range(4))
stages_7 = [x.cpu() for x in staged(first_7, enlarge, sentences, 1.0, range(4))]
draw.cascade(stages_7, sentences, "Each stage draws what the one before left open")

# %%
keeps = lambda large, small: float((lowered(large, large.shape[-1] // small.shape[-1]) - small).square().mean().sqrt())
kept_7 = {
    f"{b.shape[-1]} px, of {a.shape[-1]} px": [keeps(b, a), keeps(b, a.roll(1, 0))]
    for a, b in ((stages_7[0], stages_7[1]), (stages_7[1], stages_7[2]))
}
assert all(own < 0.2 < other for own, other in kept_7.values())
show.table(kept_7, ["the area means of", "differ by (rms)", "from another's (control)"], digits=2)

# %% [markdown]
# **The gap between training and drawing.** A stage learned from *real* small pictures, and is given *drawn* ones. Put the same noise on both and their
# divergence falls: here for two narrow Gaussians, where it can be computed, beside the bound of the lecture (section 3: Imagen). **Predict** where the curves begin at $s=0$.

# %%
s = torch.linspace(0.0, 0.9, 91, dtype=torch.float64)
apart, narrow = 0.3, 0.02  # the mean's distance, and the standard deviation of both
variance = (1 - s) ** 2 * narrow**2 + s**2
divergence = ((1 - s) * apart) ** 2 / (2 * variance)
bound = ((1 - s) * apart) ** 2 / (2 * s**2)
assert bool((divergence.diff() < 0).all())
assert bool((divergence <= bound).all())
assert float(divergence[0]) > 100 > 1 > float(divergence[30])
draw.closer(s[1:], {"two narrow Gaussians, noised": divergence[1:], "the bound": bound[1:]}, "Noise brings them closer")

# %% [markdown]
# Now in pictures: small real ones are blurred, a fault that no stage was trained on. `UP_32_PLAIN` learned from clean small pictures only; `UP_32` from noisy ones, told how noisy they
# are, and when drawing we choose the level $s$. **Predict** for both: what becomes of blurred pictures, and what does $s$ cost where nothing is blurred?

# %%
from minidiff.codecs.losses import psnr

asked_7 = imagen.WORLD.prompts(12, 21, "test")
told_7, real_64 = captions(asked_7), render(place(asked_7, 2), 64)
real_32, clean = lowered(real_64, 2), lowered(real_64, 4)
given_7 = {"clean": clean, "blurred": imagen.blurred(clean)}
plain_32 = imagen.UP_32_PLAIN.load().to(device)
ways = {"learned from clean ones, s = 0": (plain_32, 0.0), "from noisy ones, s = 0": (ups[32], 0.0)}
ways |= {f"from noisy ones, s = {level:g}": (ups[32], level) for level in (0.1, 0.3)}
made_7 = {
    (way, name): imagen.enlarger(model, 32, level=level)(small, told_7, 0.0, range(12)).cpu()
    for way, (model, level) in ways.items()
    for name, small in given_7.items()
}

# %%
told_of = lambda way, name: [shown(asked_7, made_7[way, name]), float(psnr(made_7[way, name], real_32).mean())]
rows_7 = {way: [*told_of(way, "clean"), *told_of(way, "blurred")] for way in ways}
best_7 = max(list(ways)[1:], key=lambda way: rows_7[way][3])
assert rows_7[best_7][3] > rows_7["learned from clean ones, s = 0"][3] + 1
show.table(rows_7, ["the 32-px stage", "clean: shown", "PSNR", "blurred: shown", "PSNR "], digits=3)

# %%
some_7 = {"blurred": given_7["blurred"].repeat_interleave(2, 2).repeat_interleave(2, 3)[:6]}
some_7 |= {way.replace(", ", "\n"): made_7[way, "blurred"][:6] for way in ways} | {"real": real_32[:6]}
draw.same_noise(some_7, told_7[:6], "Blur is enlarged, or taken for noise and drawn anew")

# %% [markdown]
# Who learned from clean pictures is the best on clean ones, and enlarges blur as blur. Who has seen noise has learned not to believe every pixel: blur is no noise, and still it is repaired. At $s = 0$ already: the training pays, not the noise added when drawing, which at $s=0.3$ begins to cost. (Where the stage before
# makes worse faults than blur, some of it pays, too: Imagen's authors try several $s$.)
#
# **Does a later stage need the sentence?** `UP_32_BLIND` is `UP_32` without words, trained as long. Small *real* pictures of six pixels a sprite, with so much noise ($s = 0.6$) that one hardly sees whether it is a cat or a dog.
# **Predict** the share drawn right: by the blind stage, by the other one with its sentence, with no sentence, with somebody else's.

# %%
blind = imagen.UP_32_BLIND.load().to(device)
larger = lambda model, texts, **how: imagen.enlarger(model, 32, level=0.6, **how)(clean, texts, 0.0, range(12)).cpu()
seen_blind = {"its sentence": larger(ups[32], told_7)}
seen_blind["a stage that never had any"] = larger(blind, told_7, blind=True)
seen_blind["no sentence"] = larger(ups[32], [""] * 12)
seen_blind["another's sentence (control)"] = larger(ups[32], told_7[1:] + told_7[:1])
rows_blind = {name: [shown(asked_7, x), float(psnr(x, real_32).mean())] for name, x in seen_blind.items()}
assert rows_blind["its sentence"][0] > max(row[0] for row in list(rows_blind.values())[1:]) + 0.15
show.table(rows_blind, ["the 32-px stage has", "content shown", "PSNR"], digits=3)

# %% [markdown]
# ## 8. Large w (core, 15 minutes)
#
# $\hat x_w=\hat x_c+w(\hat x_c-\hat x_\varnothing)$ is no mean of pictures, and leaves $[-1,1]$. *Static* thresholding clips; *dynamic* thresholding divides each picture by its own 99.5 % quantile, if
# that is above 1. **Predict** for $w = 15$: how far out does $\hat x_w$ get without either, and what share of the numbers ends at ±1?


# %%
def static(denoise):
    return lambda x_t, t: denoise(x_t, t).clamp(-1, 1)


def dynamic(denoise, share: float = 0.995):
    def thresholded(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        r = x0.abs().flatten(1).quantile(share, dim=1).clamp(min=1)[:, None, None, None]  # one for each picture
        return x0.clamp(-r, r) / r

    return thresholded


rules = {"neither": lambda denoise: denoise, "static": static, "dynamic": dynamic}
asked_8 = imagen.WORLD.prompts(12, 31, "test")
guide = lambda rule, w: imagen.small_of(base, steps=25, threshold=rule)(captions(asked_8), w, range(12)).cpu()
strong = {name: guide(rule, 15.0) for name, rule in rules.items()} | {"w = 1": guide(static, 1.0)}

# %%
from minidiff import thresholding

far = randn((4, 3, 8, 8), seeded(0)) * 3
assert torch.allclose(dynamic(lambda x, t: x)(far, half), thresholding.dynamic(lambda x, t: x)(far, half))
assert torch.equal(dynamic(lambda x, t: x)(far / 30, half), far / 30)  # nothing to do: nothing done
ended = lambda x: float((x.abs() >= 0.99).double().mean())
rows_8 = {name: [float(x.abs().max()), ended(x), shown(asked_8, x.clamp(-1, 1))] for name, x in strong.items()}
real_16 = lowered(render(place(asked_8, 3), 64), 4)
rows_8["real pictures"] = [float(real_16.abs().max()), ended(real_16), 1.0]
assert rows_8["dynamic"][1] < 0.02 < 2 * rows_8["w = 1"][1] < rows_8["static"][1]
show.table(rows_8, ["w = 15", "largest number", "share at ±1", "sentence shown"], digits=2)

# %%
draw.same_noise(
    {name: x[:6] for name, x in strong.items()}, captions(asked_8)[:6], "w = 15 under three rules, and w = 1"
)

# %% [markdown]
# *Neither* explodes: each step starts from where no noised picture is. *Static* keeps the range, at the price of flat, glaring regions. *Dynamic* saturates least, and divides all contrast by $r$: these grounds are nearly white, and turn grey. No
# rule makes $w = 15$ good in this world; for photographs, whose numbers are spread over the whole range, Imagen's authors preferred the last one.
#
# ## 9. Coarse first (core, 15 minutes)
#
# White noise is equally strong in every band of frequencies, pictures are not: their power $P(f)$ falls. In $x_t=(1-t)x_0+t\varepsilon$ a band stands out while
# $(1-t)^2P(f)>t^2$, so until $t^*(f)=\sqrt{P}/(1+\sqrt P)$. Half settled is a band of $\hat x_0$ once half of the power by which it differed from the finished picture at $t=1$ has gone. **Predict.** In which order do the
# bands settle, and sooner or later than $t^*$ says?


# %%
def bands(x: Tensor) -> Tensor:
    """(B, 3, S, S) → (B, S/2): the mean power of the waves with 1, 2, … S/2 periods a picture; noise has power 1."""
    side = x.shape[-1]
    waves = torch.fft.fft2(x.double(), norm="ortho").abs().square().mean(1)
    f = torch.fft.fftfreq(side, 1 / side)
    ring = (f[:, None] ** 2 + f[None] ** 2).sqrt().round().long()  # (S, S)
    return torch.stack([waves[:, ring == k].mean(1) for k in range(1, side // 2 + 1)], 1)


power = bands(lowered(render(place(imagen.WORLD.prompts(300, 4, "train"), 0), 64), 4)).mean(0)
expected = power.sqrt() / (1 + power.sqrt())
asked_9, seen_9 = imagen.WORLD.prompts(24, 41, "test"), []
watch = lambda denoise: lambda x_t, t: seen_9.append((float(t), denoise(x_t, t))) or seen_9[-1][1]
final_9 = imagen.small_of(base, threshold=watch)(captions(asked_9), 0.0, range(24)).cpu()

# %%
from scipy.stats import spearmanr

at_t = torch.tensor([t for t, _ in seen_9])
open_at = torch.stack([bands(x0.cpu() - final_9).mean(0) for _, x0 in seen_9])  # (steps, bands)
half_settled = [float(at_t[open_at[:, k] <= open_at[0, k] / 2].max()) for k in range(8)]
rho = float(spearmanr(half_settled, expected).statistic)
by_chance = float(spearmanr(half_settled, expected[torch.randperm(8, generator=seeded(1))]).statistic)
assert rho >= 0.9 > abs(by_chance)
found_9 = {"P(f) of real pictures says": expected.tolist(), "seen while drawing": half_settled}
draw.settled(range(1, 9), found_9, f"Low bands settle first (rank correlation {rho:.2f})")

# %%
at = [0, 10, 20, 30, 35, 40, 45]
strip = torch.stack([x for i in range(3) for x in (*(seen_9[j][1][i].cpu() for j in at), final_9[i])])
draw.previews(strip, [float(at_t[j]) for j in at] + [0.0], "What the network would draw if it had to stop at t")

# %% [markdown]
# The order is the one that $P(f)$ says. The times are not: fine bands settle long before their own waves stand out of the noise. The formula reads each wave on its own. A network knows that a cat's place, told by slow waves, fixes the
# fast ones, too: the formula is a floor.
#
# ## 10. The reader or the painter? (extra, 10 minutes)
#
# Imagen's claim: a larger reader helps more than a larger generator. `benchmarks/scaling.py` trained 27 small systems on the scenes of chapter 06: three readers × three generators × three seeds, equal steps; the readers first, on
# sentences alone. A run is on the *frontier* if none that costs as much or less reaches as much. **Predict**: which of the two sizes pays in this world of some hundred words?

# %%
import json
from pathlib import Path

stored = json.loads(Path("../benchmarks/results/scaling.json").read_text(encoding="utf-8"))
runs = stored["runs"]


def frontier(runs: list[dict], cost: str = "flops", gain: str = "alignment") -> list[dict]:
    """The runs that nothing as cheap or cheaper reaches, cheapest first."""
    kept: list[dict] = []
    for run in sorted(runs, key=lambda run: (run[cost], -run[gain])):
        if not kept or run[gain] > kept[-1][gain]:
            kept.append(run)
    return kept


best_10 = frontier(runs)
assert [[run["encoder"], run["network"], run["seed"]] for run in best_10] == stored["frontier"]
assert len(runs) == 27

# %%
by_reader = {name: [run for run in runs if run["encoder"] == name] for name in ("small", "medium", "large")}
costs_10 = {f"{name} reader": [run["flops"] for run in some] for name, some in by_reader.items()}
scores_10 = {f"{name} reader": [run["alignment"] for run in some] for name, some in by_reader.items()}
edge = [(run["flops"], run["alignment"]) for run in best_10]
draw.frontier(costs_10, scores_10, edge, "27 runs, and those that nothing as cheap reaches")

# %% [markdown]
# How much for ten times the parameters? Least squares: $A = a + b_r\log_{10}(\text{reader}) + b_g\log_{10}(\text{generator})$, for each seed on its own. Control: the sizes dealt out at random.


# %%
def slopes(runs: list[dict], order: Tensor | None = None) -> Tensor:
    """(b_r, b_g): gain in alignment for ten times the parameters of either."""
    sizes = torch.tensor([[run["encoder_parameters"], run["network_parameters"]] for run in runs]).double().log10()
    sizes = sizes if order is None else sizes[order]
    design = torch.cat([torch.ones(len(runs), 1).double(), sizes], 1)
    return torch.linalg.lstsq(design, torch.tensor([[run["alignment"]] for run in runs]).double()).solution[1:, 0]


each = torch.stack([slopes([run for run in runs if run["seed"] == seed]) for seed in range(3)])  # (seeds, 2)
dealt = torch.stack([slopes(runs, torch.randperm(27, generator=seeded(i))) for i in range(200)])
sure = lambda values: f"{float(values.mean()):+.3f} ± {float(values.std()):.3f}"
rows_10 = {name: [sure(each[:, i]), sure(dealt[:, i])] for i, name in enumerate(("the reader", "the generator"))}
assert float(each.mean(0).max()) > 3 * float(dealt.std(0).max())  # one of them counts
show.table(rows_10, ["ten times the parameters of", "alignment (3 seeds)", "dealt out (control)"])

# %% [markdown]
# ## 11. Your turn: type a sentence (extra, 10 minutes)
#
# The ten sprites: *lightbulb, plant, cat, dog, astronaut, horse, tree, house, snowman, fish*; *left of, right of, above, below, riding, and, in the snow*. What does each reader make of "a
# horse riding an astronaut"? From which $w$ on do pictures get worse? Which word's map is everywhere?

# %%
from minidiff.show.playground import Painted, page

small = {name: shipped.load().to(device) for name, (shipped, _) in readers.items()}


def painter(name: str):
    reads = readers[name][1]

    def paint(text: str, w: float) -> Painted:
        with attention_maps(small[name]) as kept:
            first = imagen.small_of(small[name], reads, steps=25)([text], w, [0])
        stages = staged(first, enlarge, [text], w, [0])
        words = ["START", *split(text), "END"]
        return Painted([x[0].cpu() for x in stages], words[1:-1], mean_map(kept)[0, 1 : len(words) - 1])

    return paint


# %%
known = {word for text in captions(imagen.WORLD.prompts(600, 0)) for word in split(text)}
draw_page = page({name: painter(name) for name in readers}, known, longest=imagen.LENGTH - 2)
playground = show.explore(
    draw_page, sentence="a cat left of a dog", encoder=list(readers), w=show.Slider(0, 15, 0.5, start=1),
    static=[{}, {"sentence": "an astronaut riding a horse", "w": 3.0}],
)  # fmt: skip

# %% [markdown]
# ## What to try next
#
# - In section 4, take the maps of a single step, early and late. When do nouns find their objects?
# - In section 5, exchange the messages only for $t > 0.7$, then only below. When is it decided what becomes what?
# - In section 7, hand the 64-px stage another sentence than the first stage had. Who wins, and at which level $s$?
# - In section 8, guide only for $0.2 \le t \le 0.8$ (`guidance.within`). Is thresholding still needed?
# - In section 9, do the same at 64 px. Where do the curves move, and is it the shift of the lecture (section 5: coarse first)?
#
# Then the [exercises](../exercises/07_text_to_pixels.ipynb). [Chapter 08](08_dalle.ipynb) makes a picture 64 more words, and lets CLIP's vectors draw: DALL-E 1 and 2.
