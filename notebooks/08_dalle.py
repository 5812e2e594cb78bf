# %% [markdown]
# # 08 DALL-E 1 and 2
#
# **Budget: 60 s on two CPU cores.** No GPU needed, nothing is downloaded. Nothing is trained here: the models are shipped.
#
# A language model continues any text. Could a *picture* be the continuation of its caption? DALL-E 1 says yes: 64 more words, from a vocabulary that a first network invented. DALL-E 2 goes another way: it asks
# CLIP where the picture of this sentence would lie, and draws what lies there. You take both apart, and put a picture into your own hands: others like it, the way to another one.
#
# **What you will learn.** How to draw a choice and still have a slope (Gumbel); a codebook; why a mask lets one pass train all places; sampling, and what keeping keys and values saves; what the best of $n$ can do and cannot;
# why a caption's embedding is no picture's; diffusion of a vector; variations, walks, text diffs.
#
# **Parts.** *Core*: sections 1 to 8, about 120 minutes. *Extra*: sections 9 to 11, about 35 minutes.
#
# **Before.** Chapters 06 (CLIP) and 07 (from text to pixels). **Read along:** [lecture](../lectures/08_dalle.md) (the derivations). **Then do:**
# [exercises](../exercises/08_dalle.ipynb).

# %%
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show, times
from minidiff.data.captions import captions
from minidiff.data.prompts import LECTURE, Group, Prompt, place
from minidiff.data.scenes import render
from minidiff.guidance import bind
from minidiff.judges.scenes import Parsed, parse, same
from minidiff.judges.scorecard import matches
from minidiff.randomness import gumbel, rand, randn, seeded
from minidiff.samplers import ddpm, sample

# %%
from minidiff.show.figures import dalle as draw
from minidiff.show.figures.text_to_pixels import same_noise
from minidiff.systems import clip_sprites, dalle1, imagen, unclip
from minidiff.training import pick_device

device = pick_device()
torch.set_grad_enabled(False)  # everything here only looks
dvae, writer = dalle1.DVAE.load().to(device), dalle1.PRIOR.load().to(device)
clip = clip_sprites.MODEL.load().to(device)
generate_1 = dalle1.pictures_of(writer, dvae)
small, large = unclip.shipped(ups=False), unclip.shipped()  # 16 pixels, fast; and 64
WORLD = imagen.WORLD


# %%
def held_out(n: int, seed: int, world=WORLD) -> list[Prompt]:
    """n prompts of contents that training never drew, no two with one caption."""
    many = world.prompts(10 * n, seed, "test")
    return list(dict(zip(captions(many), many)).values())[:n]


def shown(prompts: list[Prompt], pictures: Tensor | Parsed) -> float:
    """The share of pictures, of any size, that show their prompts wholly; what was read once is not read again."""
    read = pictures if isinstance(pictures, Parsed) else imagen.seen(pictures)
    return float(matches(prompts, read).double().mean())


# %% [markdown]
# **Two sentences, two systems**, first seeds. In training no astronaut was ever with a horse, and no cat alone in the snow. Of DALL-E 1 you see the best of 8 by CLIP, of unCLIP what comes first.

# %%
asked_0 = ["an astronaut riding a horse", "a cat in the snow"]
many_0 = [text for text in asked_0 for _ in range(3)]
first_0 = {
    "DALL-E 1, best of 8": dalle1.best_of(generate_1, 8, clip)(many_0, 0.0, range(6)).cpu(),
    "unCLIP": large.generate(many_0, 0.0, range(6)).cpu(),
}
right_0 = {name: shown([LECTURE[text] for text in many_0], x) for name, x in first_0.items()}
assert max(right_0.values()) > 0.3
same_noise(first_0, many_0, "Neither content was seen in training")

# %% [markdown]
# ## 1. A draw with a slope (core, 20 minutes)
#
# The encoder is to *choose* one of $K$ codes, at random, by probabilities that it learns. Add Gumbel noise to the logits and take the largest. **Predict**: how often does each code win? And would normal noise of the same variance do?


# %%
def gumbel_max(logits: Tensor, n: int, generator) -> Tensor:
    """n draws: the winner of logits + G, with G = −ln(−ln u)."""
    u = rand((n, len(logits)), generator).clamp(min=2**-25)
    noise = -torch.log(-torch.log(u))
    return (logits + noise).argmax(1)


# %%
logits_1, n_1 = torch.tensor([2.0, 1.0, 0.0, 0.0, -2.0]), 200_000
often = lambda drawn: (torch.bincount(drawn, minlength=5) / n_1).tolist()
normal_1 = (math.pi / 6**0.5) * randn((n_1, 5), seeded(1))  # Gumbel noise has the variance π²/6
wins = {"softmax": logits_1.softmax(0).tolist(), "with Gumbel noise": often(gumbel_max(logits_1, n_1, seeded(0)))}
wins["with normal noise (control)"] = often((logits_1 + normal_1).argmax(1))
away = lambda name: max(abs(a - b) for a, b in zip(wins[name], wins["softmax"]))
by_library = (logits_1 + gumbel((50, 5), seeded(3))).argmax(1)
assert torch.equal(gumbel_max(logits_1, 50, seeded(3)), by_library)
assert away("with Gumbel noise") < 0.005 < 0.01 < away("with normal noise (control)")
draw.bars(
    wins, [f"logit {v:g}" for v in logits_1], "how often it wins", "Logits plus Gumbel noise: a draw from softmax"
)

# %% [markdown]
# An argmax has no slope. A softmax at temperature τ has. **Predict** the shares that *one* draw gives to sixteen codes with equal logits, at τ = 4, 1, ¼ and 1/16, the noise being the same.


# %%
def soft(logits: Tensor, tau: float, generator) -> Tensor:
    """Shares of the codes, (B, K): softmax((logits + G)/τ)."""
    return ((logits + gumbel(logits.shape, generator)) / tau).softmax(1)


from minidiff.codecs.dvae import gumbel_softmax, kl_uniform

flat_1 = torch.zeros(1, 16)
drawn_1 = {f"τ = {tau:g}": soft(flat_1, tau, seeded(5))[0] for tau in (4, 1, 0.25, 0.0625)}
winner = (flat_1 + gumbel((1, 16), seeded(5))).argmax(1)
assert torch.equal(soft(flat_1, 0.3, seeded(5)), gumbel_softmax(flat_1, 0.3, seeded(5)))
assert all(int(shares.argmax()) == int(winner) for shares in drawn_1.values())  # the same winner at every τ
assert float(drawn_1["τ = 0.0625"].max()) > 0.9 > 0.3 > float(drawn_1["τ = 4"].max())
draw.softness(drawn_1, "One draw: from a mixture to a choice")

# %% [markdown]
# Then why not begin at 1/16? **Predict**, for two codes with $q=.73$: as τ falls, what do the mean of the slope $\partial s/\partial\ell$ and its mean square do? The lecture says $q(1-q)$ and $q(1-q)/6\tau$.

# %%
taus = torch.tensor([4.0, 2.0, 1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16])


def slopes_at(tau: float, n: int = 100_000) -> Tensor:
    with torch.enable_grad():
        two = torch.tensor([[1.0, 0.0]]).repeat(n, 1).requires_grad_()
        (slope,) = torch.autograd.grad(gumbel_softmax(two, tau, seeded(2))[:, 0].sum(), two)
    return slope[:, 0]


q_1 = float(torch.tensor(1.0).sigmoid())
found_1 = [slopes_at(float(tau)) for tau in taus]
mean_1, square_1 = (torch.stack([f(s) for s in found_1]) for f in (torch.mean, lambda s: s.square().mean()))
told_1 = {"mean": torch.full_like(taus, q_1 * (1 - q_1)), "mean square": q_1 * (1 - q_1) / (6 * taus)}
assert abs(float(mean_1[-1]) / (q_1 * (1 - q_1)) - 1) < 0.1 < abs(float(mean_1[0]) / (q_1 * (1 - q_1)) - 1)
assert abs(float(square_1[-1] / told_1["mean square"][-1]) - 1) < 0.1
draw.slopes(
    taus, {"mean": mean_1, "mean square": square_1}, told_1, "Cold: the right slope on average, and ever wilder"
)

# %% [markdown]
# So τ starts at 1 and ends at 1/16. The other setting is β, the weight of $KL(q\Vert\text{uniform})$. If code $k$ costs $d_k$, the lecture's best $q$ is softmax$(-d/\beta)$. **Predict** the gradient of
# $\sum q_kd_k+\beta\,KL$ there, and which codes are hardly ever drawn when β is small.

# %%
d_1 = torch.tensor([0.1, 0.15, 0.4, 0.8])


def slope_of_price(logits: Tensor, beta: float) -> float:
    with torch.enable_grad():
        logits = logits.clone().requires_grad_()
        price = logits.softmax(0) @ d_1 + beta * kl_uniform(logits[None, :, None, None]).sum()
        return float(torch.autograd.grad(price, logits)[0].abs().max())


rows_1 = {f"β = {b:g}": [*(-d_1 / b).softmax(0).tolist(), slope_of_price(-d_1 / b, b)] for b in (0.02, 0.1, 1.0)}
rows_1["β = 0.1, all alike (control)"] = [*torch.zeros(4).softmax(0).tolist(), slope_of_price(torch.zeros(4), 0.1)]
assert all(row[-1] < 1e-5 for name, row in rows_1.items() if "control" not in name)
assert rows_1["β = 0.1, all alike (control)"][-1] > 0.01
show.table(rows_1, ["q of the codes with d =", *(f"{d:g}" for d in d_1), "gradient left"], digits=2)

# %% [markdown]
# ## 2. A picture as 64 integers (core, 15 minutes)
#
# The discrete VAE as it runs, and its loss in eight lines. **Predict.** The loss is random: what happens if the Gumbel noise is left out?

# %%
from minidiff.codecs.losses import pixel_loss, psnr
from minidiff.nn.conv import Residual
from minidiff.show.architecture import trace

prompts_2 = WORLD.prompts(300, 1, "test")
real = render(place(prompts_2, 1), 64).to(device)
kinds_2 = (torch.nn.Conv2d, torch.nn.PixelUnshuffle, torch.nn.PixelShuffle, Residual)
calls_2 = trace(dvae, lambda: dvae.decode(dvae.encode(real[:1])), kinds_2)
assert (dvae.size, 8, 8) in [call.shapes[""] for call in calls_2]  # a logit for each code at each place
rows_2 = {f"{i + 1}. {call.kind}": [call.text, call.parameters] for i, call in enumerate(calls_2)}
show.table(rows_2, ["one picture through", "what comes out", "parameters"])


# %%
def dvae_loss(dvae, x: Tensor, generator, noisy: float = 1.0) -> Tensor:
    logits = dvae.logits(x)  # (B, K, 8, 8)
    noise = noisy * gumbel(logits.shape, generator, x.device)
    shares = ((logits + noise) / dvae.temperature).softmax(1)
    mixed = torch.einsum("bkhw,kd->bdhw", shares, dvae.codebook.codebook)
    log_q = logits.log_softmax(1)
    kl = (log_q.exp() * (log_q + math.log(dvae.size))).sum(1).mean((1, 2))  # ln K − entropy, a place
    return pixel_loss(dvae.body.decode(mixed), x) + dvae.kl_weight * kl


ours_2, theirs_2 = dvae_loss(dvae, real[:8], seeded(0)), dvae.loss(real[:8], seeded(0))
silent_2 = dvae_loss(dvae, real[:8], seeded(0), noisy=0.0)
assert torch.allclose(ours_2, theirs_2, rtol=1e-4)
assert not torch.allclose(silent_2, theirs_2, rtol=1e-2)  # the control
losses_2 = {"with Gumbel noise": [ours_2.mean()], "without (the likeliest, softly)": [silent_2.mean()]}
show.table(losses_2, ["the loss of 8 held-out pictures", "nats and pixels"], digits=3)

# %% [markdown]
# **The vocabulary.** Average, for each code, the 8×8 pixels wherever it stands, and count how often each occurs in 300 held-out pictures. **Predict**: which code is used most, and which share of the others is used at all?

# %%
codes_2 = dvae.encode(real)  # (300, 8, 8) integers
uses = torch.bincount(codes_2.flatten(), minlength=dvae.size).cpu()
squares = real.cpu().unflatten(2, (8, 8)).unflatten(4, (8, 8)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
sums = torch.zeros(dvae.size, 3, 8, 8).index_add_(0, codes_2.flatten().cpu(), squares)
share_2 = uses / uses.sum()
perplexity_2 = float(torch.special.entr(share_2).sum().exp())
assert abs(perplexity_2 / float(dvae.perplexity(codes_2)) - 1) < 1e-3
assert float((uses > 0).float().mean()) >= 0.6
draw.codebook(
    sums / uses[:, None, None, None],
    uses,
    f"{int((uses > 0).sum())} of {dvae.size} codes in use, perplexity {perplexity_2:.0f}",
)

# %% [markdown]
# **A picture, its 64 numbers, and back.** **Predict.** The judge reads how many of 40 decoded pictures as what they were? And with the same 64 numbers in another order?

# %%
back_2 = dvae.decode(codes_2[:40], clamp=True)
order_2 = torch.randperm(64, generator=seeded(0)).to(device)
shuffled_2 = dvae.decode(codes_2[:40].flatten(1)[:, order_2].unflatten(1, (8, 8)), clamp=True)
truth_2 = parse(real[:40].cpu()).scenes


def read_right(pictures: Tensor) -> float:
    found = parse(pictures.cpu())
    return float((same(truth_2, found.scenes) & found.readable).double().mean())


rows_back = {"64 integers and back": [float(psnr(back_2, real[:40]).mean()), read_right(back_2)]}
rows_back["in another order (control)"] = [float(psnr(shuffled_2, real[:40]).mean()), read_right(shuffled_2)]
assert rows_back["64 integers and back"][1] > 0.6 > 0.1 > rows_back["in another order (control)"][1]
show.table(rows_back, ["held-out pictures", "PSNR", "read as drawn"])

# %%
k_2 = next(i for i, p in enumerate(prompts_2) if p.relation == "riding")
strip_2 = [real[k_2].cpu(), back_2[k_2].cpu(), back_2[k_2].cpu(), shuffled_2[k_2].cpu()]
titles_2 = ["a picture", "its 64 numbers", "drawn from them", "in another order"]
draw.numbered(strip_2, [None, codes_2[k_2].cpu(), None, None], titles_2, f"“{captions(prompts_2[k_2 : k_2 + 1])[0]}”")

# %% [markdown]
# ## 3. One sequence, one mask (core, 15 minutes)
#
# Caption, BEGIN, codes: one sequence. Every place is asked for the next code, and may look back only. Here is the whole network; `codes` may be any beginning of a picture. **Predict** what comes out if code 40 is exchanged: which of the 64 answers change?


# %%
def answers(model, tokens: Tensor, codes: Tensor, causal: bool = True) -> Tensor:
    """Logits (B, n + 1, K) of the codes after BEGIN and after each of codes (B, n); tokens (B, L) without padding."""
    words = model.word(tokens) + model.place[: tokens.shape[1]]
    begin = model.begin.expand(len(tokens), 1, -1)
    places = (model.row[:, None] + model.column).flatten(0, 1)[: codes.shape[1]]
    x = torch.cat([words, begin, model.code(codes) + places], 1)
    i = torch.arange(x.shape[1], device=x.device)
    mask = i[:, None] >= i if causal else None  # row i may look at column j ≤ i
    for block in model.blocks:
        x = block(x, mask=mask)
    return model.next_code(model.norm(x[:, tokens.shape[1] :]))


text_3 = captions(prompts_2[k_2 : k_2 + 1])
tokens_3, codes_3 = dalle1.read(text_3).to(device), codes_2[k_2][None]
by_hand_3, theirs_3 = answers(writer, tokens_3, codes_3.flatten(1)[:, :-1]), writer(tokens_3, codes_3)[1]
assert torch.allclose(by_hand_3, theirs_3, atol=1e-4)

# %%
other_3 = codes_3.flatten(1).clone()
other_3[:, 40] = (other_3[:, 40] + 1) % dvae.size
rows_3 = {}
for name_3, masked in (("causal mask", True), ("no mask (control)", False)):
    one, two = (answers(writer, tokens_3, c[:, :-1], masked) for c in (codes_3.flatten(1), other_3))
    moved = (one - two).abs().amax(-1)[0]  # answer j is asked for code j, and has seen codes 0 … j − 1
    rows_3[name_3] = [float(moved[:41].max()), float(moved[41:].max())]
assert rows_3["causal mask"][0] == 0.0 < rows_3["causal mask"][1]  # to the bit
assert rows_3["no mask (control)"][0] > 0
show.table(rows_3, ["code 40 is exchanged", "answers 0 … 40 move by", "answers 41 … 63 by"], digits=2)

# %%
length_3 = tokens_3.shape[1]
names_3 = [*text_3[0].split(), "END", "BEGIN", *(f"c{j}" for j in range(1, 6))]
side_3 = torch.arange(len(names_3))
looks_3 = {"causal: trained": side_3[:, None] >= side_3}
looks_3["everything: would copy its answer"] = torch.ones(len(names_3), len(names_3), dtype=torch.bool)
draw.looks(looks_3, names_3, "Who may look at whom (rows look at columns)")

# %% [markdown]
# So one pass gives 64 honest answers, and **the loss** adds them up: means over words and over codes, weighed 1 to 7. **Predict** where in the picture the next code is hardest to guess; and everywhere with another picture's caption.

# %%
tokens_l, codes_l = dalle1.read(captions(prompts_2[:200])).to(device), codes_2[:200]
words_l, drawn_l = writer(tokens_l, codes_l)
each_word = F.cross_entropy(words_l.transpose(1, 2), tokens_l[:, 1:], reduction="none", ignore_index=0)
each_code = F.cross_entropy(drawn_l.transpose(1, 2), codes_l.flatten(1), reduction="none")  # (200, 64) nats
text_l = each_word.sum(1) / (tokens_l[:, 1:] != 0).sum(1)
ours_l = (text_l + 7 * each_code.mean(1)) / 8
assert torch.allclose(ours_l, writer.loss(tokens_l, codes_l), atol=1e-4)
another_l = F.cross_entropy(
    writer(tokens_l.roll(1, 0), codes_l)[1].transpose(1, 2), codes_l.flatten(1), reduction="none"
)
nats = {"its caption": each_code.mean(0).view(8, 8).cpu(), "another's": another_l.mean(0).view(8, 8).cpu()}
own_l, theirs_l = (float(values.mean()) for values in nats.values())
assert theirs_l > own_l + 0.02
draw.surprise(nats, f"{own_l:.2f} nats a code; with another's caption {theirs_l:.2f}")

# %% [markdown]
# ## 4. Drawing, code after code (core, 15 minutes)
#
# Ask, draw, append, 64 times. Section 1's noise makes each draw: $\arg\max(\ell+T\,G)$. **Predict.** The loop below reads everything anew at each step; the library keeps keys and values. Same picture?


# %%
def draw_by_hand(model, tokens: Tensor, noise: Tensor, T: float = 1.0, top_k: int | None = None) -> Tensor:
    codes = torch.empty(len(tokens), 0, dtype=torch.int64, device=tokens.device)
    for j in range(64):
        logits = answers(model, tokens, codes)[:, -1]  # all of it, anew
        if top_k is not None:
            logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
        code = (logits + T * noise[:, j]).argmax(1)
        codes = torch.cat([codes, code[:, None]], 1)
    return codes.unflatten(1, (8, 8))


# %%
seeds_4 = [0, 1]
noise_4 = gumbel((2, 64, dvae.size), seeded(seeds_4), device)
tokens_4 = tokens_3.expand(2, -1)
anew_4 = draw_by_hand(writer, tokens_4, noise_4, top_k=20)
kept_4 = writer.sample(tokens_4, seeded(seeds_4), top_k=20)
others_4 = writer.sample(tokens_4, seeded([2, 3]), top_k=20)
assert torch.equal(anew_4, kept_4)
assert not torch.equal(others_4, kept_4)  # the control: other noise

# %% [markdown]
# Same picture. **Predict** the factor in operations: the caption is read once, then 63 codes; or everything at each of 64 steps.

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def operations(run) -> float:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e6


tokens_f = dalle1.tokenizer().encode(text_3).to(device)[:, :length_3]
cost_4 = {"kept": operations(lambda: writer.sample(tokens_f, seeded(0)))}
cost_4["anew"] = operations(lambda: draw_by_hand(writer, tokens_f, noise_4[:1]))
M_4, L_4 = length_3 + 1, length_3 + 64
places_4 = {"kept": L_4, "anew": (L_4 * (L_4 + 1) - M_4 * (M_4 - 1)) // 2}
rows_4 = {f"keys and values {name}": [mflop, places_4[name]] for name, mflop in cost_4.items()}
assert cost_4["anew"] / cost_4["kept"] > 0.8 * places_4["anew"] / places_4["kept"] > 20
show.table(rows_4, ["one picture", "MFLOP", "tokens through the blocks"])

# %% [markdown]
# **Temperature, and cutting the tail.** The same noise each time. **Predict** which temperature shows most sentences, and what $T=0$ does to two pictures of one sentence.

# %%
asked_4 = held_out(12, 13)
texts_4 = captions(asked_4)
ways_4 = {
    "T = 0": (0.0, None),
    "T = 0.5": (0.5, None),
    "T = 1": (1.0, None),
    "T = 1, top 8": (1.0, 8),
    "T = 1.5": (1.5, None),
}
pictures_4 = {
    name: dalle1.pictures_of(writer, dvae, *way)(texts_4, 0.0, range(12)).cpu() for name, way in ways_4.items()
}
twice_4 = {
    name: dalle1.pictures_of(writer, dvae, *way)(texts_4[:1] * 2, 0.0, [7, 8]).cpu() for name, way in ways_4.items()
}
# %%
unlike = lambda pair: float((pair[0] - pair[1]).square().mean().sqrt())
read_4 = {name: imagen.seen(x) for name, x in pictures_4.items()}
next_4 = asked_4[1:] + asked_4[:1]
rows_T = {name: [shown(asked_4, x), shown(next_4, x), unlike(twice_4[name])] for name, x in read_4.items()}
assert rows_T["T = 0"][2] == 0.0 < rows_T["T = 1"][2]
assert rows_T["T = 1"][0] > rows_T["T = 1.5"][0]
same_noise({name: x[:6] for name, x in pictures_4.items()}, texts_4[:6], "One noise in each column, five ways to draw")
show.table(rows_T, ["12 held-out sentences", "shown", "the next one's (control)", "two seeds differ by"], digits=2)

# %% [markdown]
# ## 5. The best of many (core, 20 minutes)
#
# Draw 32 pictures a sentence; let CLIP choose. First the law of the best, for any score: its rank, and how far it is from an ordinary draw. **Predict** the expected rank of the best of 7, and how many nats best-of-32 is away.

# %%
u_5 = torch.rand(40_000, 32, generator=seeded(0), dtype=torch.float64)
rows_rank = {}
for n in (1, 2, 8, 32):
    best = u_5[:, :n].amax(1)  # the rank of the best among all pictures there could be, uniform for one draw
    nats_5 = math.log(n) + (n - 1) * best.log().mean()
    rows_rank[f"best of {n}"] = [best.mean(), n / (n + 1), nats_5, math.log(n) - (n - 1) / n]
    assert abs(float(best.mean()) - n / (n + 1)) < 0.01
    assert abs(float(nats_5) - (math.log(n) - (n - 1) / n)) < 0.05
assert abs(float(rows_rank["best of 32"][2]) - math.log(32)) > 0.5  # the control: not ln n
show.table(rows_rank, ["", "mean rank", "n/(n + 1)", "nats from one draw", "ln n − (n − 1)/n"])

# %% [markdown]
# Now in earnest: 6 held-out sentences of the family that fails most, two things side by side, and 32 pictures of each. The judge, whom CLIP never asks, says which are right. **Predict** the curve over $n$ if CLIP chooses; if a die chooses; if the judge himself could choose.

# %%
asked_5 = held_out(6, 24, replace(WORLD, families=("pair",)))
texts_5 = captions(asked_5)
drawn_5 = generate_1([text for text in texts_5 for _ in range(32)], 0.0, range(6 * 32)).unflatten(0, (6, 32))
told_5 = [prompt for prompt in asked_5 for _ in range(32)]
right_5 = matches(told_5, imagen.seen(drawn_5.flatten(0, 1))).view(6, 32)
z_5 = clip.encode_image(drawn_5.flatten(0, 1)).unflatten(0, (6, 32))
h_5 = clip.encode_text(clip_sprites.tokens(texts_5).to(device))
cosine_5 = (z_5 * h_5[:, None]).sum(-1).cpu()  # (6, 32)
assert torch.equal(cosine_5.argmax(1), dalle1.rerank(texts_5, drawn_5, clip).cpu())

# %%
counts_5 = [1, 2, 4, 8, 16, 32]
by = lambda score, n: right_5.view(6, -1, n).gather(2, score.view(6, -1, n).argmax(2, keepdim=True))
mean_5 = lambda chosen: float(chosen.double().mean())
die_5 = rand((6, 32), seeded(4))
curves_5 = {
    "CLIP chooses": [mean_5(by(cosine_5, n)) for n in counts_5],
    "a die chooses (control)": [mean_5(by(die_5, n)) for n in counts_5],
    "the judge could": [mean_5(right_5.view(6, -1, n).any(2)) for n in counts_5],
}
assert curves_5["CLIP chooses"][-1] >= curves_5["CLIP chooses"][0] + 0.1
assert curves_5["the judge could"][-1] >= curves_5["CLIP chooses"][-1]
assert abs(mean_5(torch.tensor(curves_5["a die chooses (control)"])) - curves_5["CLIP chooses"][0]) < 0.15
draw.best_of(
    counts_5, curves_5, f"From {curves_5['CLIP chooses'][0]:.2f} to {curves_5['CLIP chooses'][-1]:.2f}, if CLIP chooses"
)

# %%
some_5 = [i for i in range(6) if 0 < int(right_5[i].sum()) < 32][:4]
draw.ranked(
    drawn_5[some_5, :10].cpu(),
    cosine_5[some_5, :10],
    [texts_5[i] for i in some_5],
    "Ten candidates, CLIP's favourite first",
)

# %% [markdown]
# What no candidate shows, no choice brings; and where CLIP errs, more candidates find its errors.
#
# ## 6. A caption's vector is no picture's (core, 15 minutes)
#
# unCLIP begins with CLIP's space. **Predict** four mean cosines: a picture with its own caption; two pictures; two captions; two pictures *of one caption*. If both towers filled one sphere, what would they be?

# %%
told_6 = held_out(90, 1)
look_6 = lambda seed: clip.encode_image(render(place(told_6, seed), 64).to(device)).cpu()
z_6, again_6 = look_6(1), look_6(2)  # the same prompts, placed twice
h_6 = clip.encode_text(clip_sprites.tokens(captions(told_6)).to(device)).cpu()
apart, half_6 = ~torch.eye(len(z_6), dtype=torch.bool), len(z_6) // 2
# %%
cosines_6 = {
    "picture, its caption": (z_6 * h_6).sum(1),
    "picture, another's caption": (z_6 @ h_6.T)[apart],
    "two pictures": (z_6 @ z_6.T)[apart],
    "two captions": (h_6 @ h_6.T)[apart],
    "two pictures of one caption": (z_6 * again_6).sum(1),
}
rule_6 = z_6[:half_6].mean(0) - h_6[:half_6].mean(0)  # a linear rule: on which side of the middle?
middle_6 = 0.5 * (z_6[:half_6].mean(0) + h_6[:half_6].mean(0)) @ rule_6
told_apart = float(torch.cat([z_6[half_6:] @ rule_6 > middle_6, h_6[half_6:] @ rule_6 < middle_6]).float().mean())
means_6 = {name: float(value.mean()) for name, value in cosines_6.items()}
assert means_6["two pictures of one caption"] > means_6["picture, its caption"] > means_6["picture, another's caption"]
draw.cosines(cosines_6, f"A line tells pictures from captions in {told_apart:.0%} of cases")

# %%
show.table({name: [value] for name, value in means_6.items()}, ["held-out pairs", "mean cosine"], digits=2)

# %% [markdown]
# Why does CLIP's own loss not close the gap? **Predict** what it does if *all* captions' vectors are shifted by one vector, one that is perpendicular to all differences of pictures.

# %%
from minidiff.encoders.clip import contrastive_loss

z_c, h_c = z_6[:32].double(), h_6[:32].double()
flat_6 = torch.linalg.svd(z_c - z_c.mean(0), full_matrices=True).Vh[40:]  # no picture of these differs along them
across = 2 * F.normalize(flat_6.sum(0), dim=0)
loss_6 = lambda texts: float(contrastive_loss(z_c, texts, 20.0).mean())
shifts = {"as they are": h_c, "all shifted by 2, where pictures are alike": h_c + across}
shifts["each shifted elsewhere (control)"] = h_c + 2 * F.normalize(randn(h_c.shape, seeded(0)).double(), dim=1)
rows_6 = {name: [loss_6(h), float((z_c * F.normalize(h, dim=1)).sum(1).mean())] for name, h in shifts.items()}
values_6 = [row[0] for row in rows_6.values()]
assert abs(values_6[0] - values_6[1]) < 1e-6 < 0.5 < abs(values_6[0] - values_6[2])
show.table(rows_6, ["captions' vectors", "CLIP's loss", "mean cosine with their pictures"], digits=3)

# %% [markdown]
# The loss sees differences only. So nothing brings the clouds together.
#
# ## 7. The prior: diffusion of a vector (core, 20 minutes)
#
# Sixty-four numbers are diffused, not a picture. Times √64 first: **predict** what $t=\tfrac12$ would act as if a unit vector were noised as it is.

# %%
unit_7, eps_7 = z_6[0], randn((64,), seeded(0))
rows_7 = {}
for t in (0.1, 0.5, 0.9):
    r = 1 / 8  # the standard deviation of a unit vector's 64 numbers
    acts_as = t / (t + r * (1 - t))
    noised, factor = (1 - t) * unit_7 + t * eps_7, r * (1 - t) + t
    assert torch.allclose(noised, factor * ((1 - acts_as) * 8 * unit_7 + acts_as * eps_7), atol=1e-5)
    assert not torch.allclose(noised, factor * ((1 - t) * 8 * unit_7 + t * eps_7), atol=0.05)  # the control
    rows_7[f"t = {t}"] = [acts_as]
show.table(rows_7, ["unscaled, the time", "acts as"])

# %% [markdown]
# The network is a causal transformer over [words, the caption's vector, $t$, $z_t$, query], asked at the query. **Predict**: if $z_t$ changes, at which tokens does anything change? What need not be computed anew at each step?

# %%
prior = small.prior
heard_7 = {}
hook_7 = prior.net.backbone.blocks[-1].register_forward_hook(
    lambda m, given, out: heard_7.setdefault(len(heard_7), out)
)
cond_7 = imagen.read_clip(["a cat left of a dog"])
for k in range(2):
    prior(randn((1, 64), seeded(k)), torch.tensor(0.5), **cond_7)
hook_7.remove()
moved_7 = (heard_7[0] - heard_7[1]).abs().amax(-1)[0]
# %%
parts_7 = {
    "words": moved_7[:-4],
    "caption's vector": moved_7[-4],
    "time": moved_7[-3],
    "z_t": moved_7[-2],
    "query": moved_7[-1],
}
assert max(float(parts_7[name].max()) for name in ("words", "caption's vector", "time")) == 0.0
assert float(parts_7["query"]) > 0
show.table(
    {name: [value.max()] for name, value in parts_7.items()}, ["another z_t", "the last block moves by"], digits=2
)

# %% [markdown]
# Drawing is any sampler's loop. **Predict.** Is this the library's embedding, and what do other seeds give: the same, or other pictures' embeddings of this sentence?


# %%
def imagine_by_hand(texts: list[str], seeds: list[int], steps: int = 25) -> Tensor:
    cond, generators = imagen.read_clip(texts), seeded(imagen.own_seeds(seeds, 100))
    start = randn((len(texts), 64), generators)
    *_, x0 = sample(bind(prior, **cond), start, times.linear(steps), ddpm(prior.schedule), generators)
    return F.normalize(x0, dim=-1)  # from length √64 to 1


asked_7 = held_out(30, 17)
texts_7 = captions(asked_7)
by_hand_7 = imagine_by_hand(texts_7, list(range(30)))
library_7 = unclip.shipped(ups=False, keep=1).imagine(texts_7, range(30))
others_7 = imagine_by_hand(texts_7, list(range(30, 60)))
assert torch.allclose(by_hand_7, library_7, atol=1e-4)
assert 0.3 < float((by_hand_7 * others_7).sum(1).mean()) < 0.999  # alike, not equal

# %% [markdown]
# **What it is worth.** The same decoder, the same noise, and four embeddings: the prior's; the caption's own; the caption's own, pushed away from pictures until its cosine is about that of CLIPs trained on the web; a real picture's. **Predict** the order. (Section 6 said how narrow the gap is here.)

# %%
real_7 = render(place(asked_7, 3), 64)
given_7 = {"the prior's": small.imagine(texts_7, range(30)), "the caption's own": small.hear(texts_7)}
away_7 = F.normalize(h_6.mean(0) - z_6.mean(0), dim=0)  # from the pictures' cloud to the captions'
given_7["the caption's, pushed away"] = F.normalize(small.hear(texts_7) + 2 * away_7, dim=1)
given_7["a real picture's"] = small.look(real_7)
decoded_7 = {name: small.draw(z, 0.0, range(30)) for name, z in given_7.items()}
# %%
read_7 = {name: imagen.seen(x) for name, x in decoded_7.items()}
told_7 = {name: shown(asked_7, x) for name, x in read_7.items()}
told_7["the prior's, the next sentence (control)"] = shown(asked_7[1:] + asked_7[:1], read_7["the prior's"])
assert min(told_7["the prior's"], told_7["the caption's own"]) >= told_7["the caption's, pushed away"] + 0.1
assert told_7["the prior's, the next sentence (control)"] < 0.3
same_noise(
    {name: x[:8] for name, x in decoded_7.items()}, texts_7[:8], "One decoder, one noise, four embeddings (16 px)"
)
show.table({name: [value] for name, value in told_7.items()}, ["the decoder is given", "30 sentences shown"], digits=2)

# %% [markdown]
# In this small world the caption's own vector does as well as the prior's: the clouds nearly meet. It is the gap that makes a prior necessary, not the idea that a sentence has many pictures.
#
# **The better of 2.** Several draws, the one nearest to the caption's vector is kept. **Predict** what more of them do: to the cosine, and to whether the right one of 30 captions is the nearest.

# %%
kept_7 = {f"best of {k}": unclip.shipped(ups=False, keep=k).imagine(texts_7, range(30)) for k in (1, 2, 4)}
kept_7["a real picture's"] = given_7["a real picture's"]
nearest = lambda z: float(((z @ small.hear(texts_7).T).argmax(1) == torch.arange(30)).float().mean())
rows_kept = {name: [float((z * small.hear(texts_7)).sum(1).mean()), nearest(z)] for name, z in kept_7.items()}
rows_kept["of the next caption (control)"] = [
    float((kept_7["best of 2"] * small.hear(texts_7).roll(1, 0)).sum(1).mean()),
    nearest(kept_7["best of 2"].roll(1, 0)),
]
assert rows_kept["best of 1"][0] <= rows_kept["best of 2"][0] <= rows_kept["best of 4"][0]
assert rows_kept["of the next caption (control)"][1] < 0.3
show.table(rows_kept, ["embedding", "cosine with its caption", "nearest of 30 captions"], digits=2)

# %% [markdown]
# ## 8. Others like this one (core, 15 minutes)
#
# Embed a picture, decode it with other noise: whatever CLIP keeps is kept. **Predict** which of these stay: the kinds, who is left of whom, the places, the sizes.

# %%
asked_8 = held_out(6, 43)
source_8 = render(place(asked_8, 8), 64)
others_8 = torch.stack([small.variations(x, 6, seed=8) for x in source_8])  # (6, 6, 3, 16, 16)
repeat_8 = lambda prompts: [p for p in prompts for _ in range(6)]


def spread(prompt: Prompt, pictures: Tensor) -> float:
    """Mean standard deviation, in cells of the judge's lattice, of where a picture's things are."""
    scenes = imagen.seen(pictures).scenes
    where = {
        g.kind: [t[3:] for i in range(len(pictures)) for t in scenes.objects(i) if t[0] == g.kind]
        for g in prompt.groups
    }
    far = [float(torch.tensor(w).double().std(0, correction=0).mean()) for w in where.values() if w]
    return sum(far) / max(1, len(far))


# %%
worlds_8 = [render(place([p] * 6, 9), 64) for p in asked_8]
read_8 = imagen.seen(others_8.flatten(0, 1))
rows_8 = {"variations": [shown(repeat_8(asked_8), read_8), sum(map(spread, asked_8, others_8)) / 6]}
rows_8["another picture's (control)"] = [shown(repeat_8(asked_8[1:] + asked_8[:1]), read_8), "–"]
rows_8["the world, placed at random"] = [
    shown(repeat_8(asked_8), torch.cat(worlds_8)),
    sum(map(spread, asked_8, worlds_8)) / 6,
]
assert rows_8["variations"][0] > 0.4 > 0.3 > rows_8["another picture's (control)"][0]
show.table(rows_8, ["pictures", "things and relation kept", "places vary by (cells)"], digits=2)

# %%
shown_8 = torch.stack([torch.cat([x[None], large.variations(x, 4, seed=8)]) for x in source_8[:3]])
show.grid(
    shown_8.flatten(0, 1),
    columns=5,
    rows=captions(asked_8[:3]),
    scale=1.2,
    title="A picture (left), and four of its variations",
)

# %% [markdown]
# ## 9. From one picture to another (extra, 10 minutes)
#
# Embeddings live on a sphere. **Predict** the length of the midpoint of the straight line between two of them, and the angles between neighbours on the great circle.


# %%
def great_circle(a: Tensor, b: Tensor, fractions: Tensor) -> Tensor:
    angle = torch.acos((a @ b).clamp(-1, 1))
    f = fractions[:, None]
    return (torch.sin((1 - f) * angle) * a + torch.sin(f * angle) * b) / torch.sin(angle)


# %%
ends_9 = small.look(source_8[:2])
fractions_9 = torch.linspace(0, 1, 6)
way_9 = great_circle(*ends_9, fractions_9)
straight = torch.lerp(ends_9[0], ends_9[1], fractions_9[:, None])
turned = lambda way: torch.acos((F.normalize(way[:-1], dim=1) * F.normalize(way[1:], dim=1)).sum(1).clamp(-1, 1))
angle_9 = torch.acos(ends_9[0] @ ends_9[1])
assert torch.allclose(way_9, unclip.slerp(*ends_9, fractions_9), atol=1e-5)
assert torch.allclose(turned(way_9), angle_9 / 5, atol=1e-3)
middle_9 = 0.5 * (ends_9[0] + ends_9[1])
assert abs(float(middle_9.norm()) - math.cos(float(angle_9) / 2)) < 1e-4
rows_9 = {"great circle": [1.0, turned(way_9).min(), turned(way_9).max()]}
rows_9["straight line (control)"] = [middle_9.norm(), turned(straight).min(), turned(straight).max()]
show.table(rows_9, ["the way", "length in the middle", "smallest step (rad)", "largest"], digits=3)

# %%
steps_9 = [0, 0.2, 0.4, 0.6, 0.8, 1]
walks_9 = {"one picture to another": large.interpolate(source_8[0], source_8[1], steps_9, seed=3)}
cat, dog, tree = Group("cat"), Group("dog"), Group("tree")
from_9, to_9 = (captions([Prompt((kind, tree), "left of")])[0] for kind in (cat, dog))
picture_9 = render(place([Prompt((cat, tree), "left of")], 2), 64)[0]
turn_9 = [0, 0.1, 0.2, 0.3, 0.4, 0.5]
walks_9[f"“{from_9}”\nto “{to_9}”"] = large.text_diff(picture_9, from_9, to_9, turn_9, seed=3)
draw.walk(walks_9, steps_9, "A walk between two pictures; and one turned by two sentences (half as far)")

# %% [markdown]
# **What the embedding does not say** is in the noise. Run DDIM backwards to the noise of a picture; then forwards. **Predict**: with its own embedding and noise, with other noise, with another embedding: which gives the picture back?

# %%
from minidiff.cascade import lowered

low_9, embedded_9 = lowered(source_8, 4), small.look(source_8)
back_9 = small.inverted(source_8)
tries_9 = {
    "its embedding, its noise": small.draw(embedded_9, 0.0, range(6), back_9),
    "its embedding, other noise": small.draw(embedded_9, 0.0, range(6), randn(back_9.shape, seeded(5))),
    "another's embedding, its noise": small.draw(embedded_9.roll(1, 0), 0.0, range(6), back_9),
}
rows_inv = {name: [float(psnr(x, low_9).mean()), shown(asked_8, x)] for name, x in tries_9.items()}
assert rows_inv["its embedding, its noise"][0] > max(row[0] for name, row in rows_inv.items() if "other" in name) + 3
same_noise({"pictures": low_9, **tries_9}, captions(asked_8), "Embedding and noise together are the picture (16 px)")
show.table(rows_inv, ["decoded from", "PSNR with the picture", "shows its sentence"], digits=3)

# %% [markdown]
# ## 10. Autoregressive against diffusion (extra, 5 minutes)
#
# Chapter 09's transformer has the same width and depth, and draws 16×16×4 latents in 50 steps. **Predict** which of the two shows more held-out sentences after its training, and which takes longer for a picture: 82 tokens, one by one, or 50 times 64 at once?

# %%
from time import process_time

from minidiff.systems import latent

systems_10 = {"DALL-E 1": (dalle1.PRIOR.record(), "test", generate_1)}
by_diffusion = latent.pictures_of(latent.LATENT.load().to(device), latent.AUTOENCODER.load().to(device))
systems_10["latent diffusion (chapter 09)"] = (latent.LATENT.record(), "w=0", by_diffusion)
rows_10 = {}
for name_10, (record_10, how, system_10) in systems_10.items():
    told_10 = [record_10["scores"][f"{family}, {how}"] for family in WORLD.families]
    began = process_time()
    system_10(captions(held_out(4, 13)), 0.0, range(4))
    each_10 = (process_time() - began) / 4
    rows_10[name_10] = [record_10["steps"], record_10["seconds"], sum(told_10) / 5, each_10]
show.table(rows_10, ["", "steps", "seconds of training", "held-out shown", "CPU s a picture"])

# %% [markdown]
# These two were not trained for equal time. `benchmarks/autoregressive.py` did that, 240 CPU seconds each. **Predict** who is ahead so soon: who learns from 64 questions a picture, or who learns from one?

# %%
import json
from pathlib import Path

versus = json.loads(Path("../benchmarks/results/autoregressive.json").read_text(encoding="utf-8"))
rows_equal = {}
for kind in ("autoregressive", "diffusion"):
    run = versus[kind]
    another_10 = sum(run["shares"][family]["another caption"] for family in WORLD.families) / 5
    rows_equal[kind] = [run["steps"], run["cpu_s"], run["shares"]["all"]["share"], another_10]
assert all(share > another for *_, share, another in rows_equal.values())
show.table(rows_equal, ["", "steps", "CPU s of training", "held-out shown", "another's caption (control)"])

# %% [markdown]
# ## 11. Your turn (extra, 15 minutes)
#
# Choose what stands in a picture and see its variations. Which kinds does CLIP confuse? Is "riding" kept more often than "above"? (16 pixels, so that it is quick.)

# %%
from minidiff.data.scenes import SPRITES
from minidiff.show.playground import row


def chosen(first: str, relation: str, second: str, seed: int) -> tuple[Prompt, Tensor]:
    second = second if second != first else next(kind for kind in SPRITES if kind != first)
    prompt = Prompt((Group(first), Group(second)), relation)
    return prompt, render(place([prompt], seed), 64)[0]


def vary(first: str, relation: str, second: str, w: float, seed: float):
    prompt, picture = chosen(first, relation, second, int(seed))
    others = small.variations(picture, 5, w, int(seed))
    x = torch.cat([lowered(picture[None], 4), others])
    kept = int(matches([prompt] * 5, imagen.seen(others)).sum())
    return row(
        x, f"“{captions([prompt])[0]}” (left) and variations · w = {w:g} (scale {1 + w:g}) · {kept} of 5 keep it"
    )


# %%
relations_11 = ["left of", "above", "riding"]
variations_11 = show.explore(
    vary, first=["astronaut", *SPRITES], relation=relations_11, second=["horse", *SPRITES],
    w=show.Slider(0, 4, 0.5, start=0), seed=show.Slider(0, 99, 1, start=1),
    static=[{"relation": "riding"}, {"first": "cat", "second": "tree"}],
)  # fmt: skip

# %% [markdown]
# And a slider between two pictures: the middle one of five is where you stand, its neighbours a tenth of the way to either side. Where does the cat stop being a cat?


# %%
def between(first: str, second: str, where: float, w: float, seed: float):
    (one, a), (two, b) = chosen(first, "left of", "tree", 1), chosen(second, "left of", "house", 1)
    near = [max(0.0, min(1.0, where + step)) for step in (-0.2, -0.1, 0, 0.1, 0.2)]
    walk_11 = small.interpolate(a, b, near, w, int(seed))
    x = torch.cat([lowered(a[None], 4), walk_11, lowered(b[None], 4)])
    return row(x, f"From “{captions([one])[0]}” to “{captions([two])[0]}”: around {where:.0%} of the way")


walk_widget = show.explore(
    between, first=["cat", *SPRITES], second=["dog", *SPRITES], where=show.Slider(0, 1, 0.05, start=0.5),
    w=show.Slider(0, 4, 0.5, start=0), seed=show.Slider(0, 99, 1, start=0), static=[{"where": 0.2}, {"where": 0.8}],
)  # fmt: skip

# %% [markdown]
# ## What to try next
#
# - In section 2, exchange one code for its next of kin (the nearest vector of the codebook). How often does the judge notice?
# - In section 4, give the upper half of a real picture's codes, and let the model draw the lower one.
# - In section 5, let CLIP choose by another caption. What is the most unlike picture of 32?
# - In section 7, feed `normalize(caption's vector + mean of pictures − mean of captions)`. How much of the gap does a shift close?
# - In section 9, turn a picture by *where*: from "left of" to "right of".
#
# Then the [exercises](../exercises/08_dalle.ipynb). [Chapter 09](09_latent_diffusion.ipynb) keeps the two stages, and lets diffusion write the codes, as numbers.
