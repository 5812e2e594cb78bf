# %% [markdown]
# # Exercises 06: CLIP and retrieval
#
# Six small functions: the loss that trains CLIP, the place where its text tower is read, the classifier made of words, and
# three measures that a search engine of pictures lives by. The [notebook](../notebooks/06_clip_retrieval.ipynb) takes
# them from the library, the [lecture](../lectures/06_clip_retrieval.md) derives them. Predict, write, check. About an
# hour in all.
#
# A wrong answer never stops the notebook: it goes on with the library's version and says so.
#
# **Graded?** Only the cells with your functions count: put what a function needs, imports too, into its own cell.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff import show
from minidiff.course import check, hint
from minidiff.data.captions import captions
from minidiff.data.prompts import Group, Prompt, place
from minidiff.data.scenes import COLOURS, SHAPES, render
from minidiff.encoders.tokenizer import END
from minidiff.randomness import seeded
from minidiff.systems import clip_scenes

model = clip_scenes.MODEL.load()  # trained before: 16-px scenes and their captions


def look(prompts: list[Prompt], seed: int = 0) -> Tensor:
    """Unit vectors (B, 64) of pictures of these prompts."""
    return model.encode_image(render(place(prompts, seed)))


def read(texts: list[str]) -> Tensor:
    """Unit vectors (B, 64) of captions."""
    return model.encode_text(clip_scenes.tokens(texts))


# %% [markdown]
# ## Exercise 06-clip-loss
#
# **Predict first.** A batch of 50 pairs whose vectors are random: what is the loss, about? And with the scale at 0? (One number, without
# a computer.)
#
# **Derivation.**
#
# 1. Bring every row to length 1; then the $B \times B$ table of inner products holds cosines. Multiply it by the scale $s$.
# 2. Row $i$ asks: which of the $B$ texts belongs to picture $i$? The softmax over the row answers; the right one is $i$.
# 3. Column $i$ asks the same of text $i$ and all pictures.
# 4. The loss is the mean of both cross-entropies: $-\tfrac{1}{2B} \sum_i \big[\log \mathrm{softmax}(S_{i,:})_i + \log \mathrm{softmax}(S_{:,i})_i\big]$.
#
# In code: `images` and `texts` are the towers' raw outputs (B, D), row i of both is pair i; `scale` is $s$.


# %% answer="06-clip-loss"
def clip_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """The loss of CLIP (arXiv 2103.00020, figure 3).

    images, texts: (B, D), same dtype, of any length. scale > 0. Returns a scalar: the mean over pairs and directions.
    """
    ### BEGIN SOLUTION
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T  # (B pictures, B texts)
    target = torch.arange(len(logits), device=logits.device)
    # Rows ask for the text of a picture, columns for the picture of a text.
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    ### END SOLUTION


# %% [markdown]
# **Use it.** The trained model on 50 held-out pairs, and on the same pictures with the captions passed on by one. Chance is $\ln 50 = 3.91$.
# **Predict**: is the loss of the wrong pairs close to chance?

# %%
prompts = clip_scenes.held_out(50, seed=0)
images, texts = look(prompts), read(captions(prompts))
right = float(checked_clip_loss(images, texts, float(model.scale)))
wrong = float(checked_clip_loss(images, texts.roll(1, 0), float(model.scale)))
print(f"right pairs {right:.3f}, wrong pairs {wrong:.2f}, chance {torch.tensor(50.0).log():.2f}")
assert right < 0.5
assert wrong > 2 * 3.91

# %% [markdown]
# **Want more?** The wrong pairs cost far more than chance: a large scale makes the model sure, and being surely wrong is expensive.
# Plot the loss of the right pairs against the scale, from 0.1 to 1000. Where is its minimum, and where did training end?

# %% [markdown]
# ## Exercise 06-read-at-end
#
# **Predict first.** The text tower is causal: position $i$ sees positions $0 \dots i$ only. Which positions have seen the whole caption? Which of them
# change if more padding is added?
#
# **Derivation.**
#
# 1. A caption is START, words, END, and then padding up to a fixed length.
# 2. Under a causal mask END has seen START and every word, and nothing that follows it.
# 3. So the feature at END is a summary of the caption that does not depend on the padding.
# 4. Some tokenizers pad with END itself (OpenAI's does): it is the *first* END that counts.
#
# In code: `features` (B, L, D) is the tower's output for every token, `tokens` (B, L) the ids, `end` the id of END.


# %% answer="06-read-at-end"
def read_at_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    """The feature of the first END of every row.

    features: (B, L, D). tokens: (B, L) int64, every row holds `end` at least once. Returns (B, D), same dtype.
    """
    ### BEGIN SOLUTION
    first = (tokens == end).int().argmax(1)  # argmax takes the first among equals
    return features[torch.arange(len(tokens), device=tokens.device), first]
    ### END SOLUTION


# %% [markdown]
# **Use it.** Two ways to read the tower, and the same captions with 8 more places of padding. By how much does each vector change?

# %%
texts = ["a red circle", "a blue star left of a green cross", "three yellow squares"]
short = clip_scenes.tokens(texts)
longer = torch.cat([short, torch.zeros(len(short), 8, dtype=torch.int64)], dim=1)  # 0 is PAD
before, after = model.text.features(short), model.text.features(longer)
moved = (checked_read_at_end(after, longer, END) - checked_read_at_end(before, short, END)).norm(dim=1).max()
naive = (after[:, -1] - before[:, -1]).norm(dim=1).max()
print(f"more padding moves the vector at END by {moved:.1e}, the vector at the last position by {naive:.2f}")
assert moved < 1e-4 < 0.5 < naive

# %% [markdown]
# **Want more?** Change a word *after* END in `longer`. What happens to the vector at END, and why?

# %% [markdown]
# ## Exercise 06-zero-shot
#
# **Predict first.** You average two unit vectors that are $90^\circ$ apart. How long is the mean? Which class of a classifier made of such means is at a
# disadvantage?
#
# **Derivation.**
#
# 1. One prompt per class ("a red circle") is noisy: it says more than the class. Take several, and average.
# 2. A prompt's direction is its meaning; its length means nothing. So bring each to length 1 before averaging.
# 3. The mean of unit vectors is shorter than 1, the shorter the more they differ. Bring it to length 1 again.
# 4. The answer is the class with the largest cosine.
#
# In code: `pictures` (B, D) are unit vectors; `prompts[k, t]` is the raw vector of template t of class k.


# %% answer="06-zero-shot"
def zero_shot_cosines(pictures: Tensor, prompts: Tensor) -> Tensor:
    """Cosine of every picture with every class, a class being an ensemble of prompts (arXiv 2103.00020, section 3.1.4).

    pictures: (B, D), unit rows. prompts: (K, T, D), same dtype, of any length. Returns (B, K).
    """
    ### BEGIN SOLUTION
    directions = F.normalize(prompts, dim=2)
    classes = F.normalize(directions.mean(1), dim=1)  # the mean of unit vectors is shorter than 1
    return pictures @ classes.T
    ### END SOLUTION


# %% [markdown]
# **Use it.** Which shape? The classifier is made of five words, and nobody ever labelled a picture with a shape alone. With one prompt
# per shape ("a circle"), and with six ("a red circle", "a green circle", …). Control: the pictures in another order.

# %%
everything = [Prompt((Group(kind, colour),)) for kind in SHAPES for colour in COLOURS] * 10
pictures, kind = look(everything), torch.arange(5).repeat_interleave(6).repeat(10)
bare = read([f"a {kind}" for kind in SHAPES])[:, None]
ensemble = torch.stack([read([f"a {colour} {kind}" for colour in COLOURS]) for kind in SHAPES])
share = {
    name: float((checked_zero_shot_cosines(pictures, prompts).argmax(1) == kind).double().mean())
    for name, prompts in (("one prompt", bare), ("six prompts", ensemble))
}
mixed = kind[torch.randperm(len(kind), generator=seeded(0))]
control = float((checked_zero_shot_cosines(pictures, ensemble).argmax(1) == mixed).double().mean())
print({name: f"{value:.3f}" for name, value in share.items()}, f"control {control:.3f}, chance 0.2")
assert share["six prompts"] > 0.95
assert control < 0.3

# %% [markdown]
# **Want more?** Here both do equally well; on ImageNet, with its ambiguous names, OpenAI gained 3.5 points by 80 prompts per class. Do the
# same for colours, averaging over shapes. Leave out the second normalisation: does any answer change?

# %% [markdown]
# ## Exercise 06-recall-at-k
#
# **Predict first.** A model gives every pair the same similarity. What should its recall at 5 be, among 50?
#
# **Derivation.**
#
# 1. A query has one right answer. Its rank is the number of answers that are at least as similar, itself included.
# 2. Recall at $k$ is the share of queries whose right answer has a rank of at most $k$.
# 3. With ≥ in step 1, ties count against the model: one that finds everything alike has rank $M$ everywhere.
# 4. Chance is $k/M$, for $M$ answers.
#
# In code: `similarity` (N, M), one row per query; `right` (N,) the column of each query's right answer.


# %% answer="06-recall-at-k"
def recall_at_k(similarity: Tensor, right: Tensor, k: int) -> float:
    """Share of queries whose right answer is among the k most similar; ties count against.

    similarity: (N, M). right: (N,) int64 in 0 … M − 1. k: 1 … M. Returns a Python number in [0, 1].
    """
    ### BEGIN SOLUTION
    own = similarity.gather(1, right[:, None])  # (N, 1)
    rank = (similarity >= own).sum(1)  # 1 is best; ties count against
    return float((rank <= k).double().mean())
    ### END SOLUTION


# %% [markdown]
# **Use it.** A thousand held-out pairs, far more than the 50 of the usual test: find the picture of each caption. Control: the captions
# passed on by one.

# %%
prompts = clip_scenes.held_out(1000, seed=1)
table = read(captions(prompts)) @ look(prompts).T
right = torch.arange(1000)
for k in (1, 5, 10):
    found, control = (checked_recall_at_k(t, right, k) for t in (table, table.roll(1, 0)))
    print(f"R@{k} of 1000: {found:.3f}, shuffled {control:.3f}, chance {k / 1000:.3f}")
assert found > 0.8
assert control < 0.1

# %% [markdown]
# **Want more?** Show the captions whose picture is *not* found first, beside the picture that won. What do the errors have in common?

# %% [markdown]
# ## Exercise 06-duplicate-groups
#
# **Predict first.** A picture is copied, the copy is copied, ten times over, and each copy differs a little from the one before. Are the first
# and the last near-duplicates of each other? Should a search show both?
#
# **Derivation.**
#
# 1. Two pictures are linked if their cosine is at least the threshold.
# 2. Links make a graph. A group is everything that can be reached over links: a connected part.
# 3. Number the groups 0, 1, 2, … in the order in which their first member appears.
#
# In code: `vectors` (N, D) are unit vectors; N is small enough for an N×N table.


# %% answer="06-duplicate-groups"
def duplicate_groups(vectors: Tensor, threshold: float) -> Tensor:
    """The group of every vector: near-duplicates, also of near-duplicates, share one.

    vectors: (N, D), unit rows. threshold: a cosine. Returns (N,) int64, numbered from 0 in order of first appearance.
    """
    ### BEGIN SOLUTION
    n = len(vectors)
    linked, labels = (vectors @ vectors.T) >= threshold, torch.arange(n)
    for _ in range(n):  # the smallest row number travels along the links; it has at most n − 1 of them to go
        labels = torch.where(linked, labels, n).amin(1)
    return torch.unique(labels, return_inverse=True)[1]  # the label is the group's first row, so the order is right
    ### END SOLUTION


# %% [markdown]
# **Use it.** Sixty different scenes, and five copies of the first twelve with a little noise. How many groups are found?

# %%
originals = render(place(clip_scenes.held_out(60, seed=2), 0))
noise = 0.05 * torch.randn(60, *originals.shape[1:], generator=seeded(0))
pictures = torch.cat([originals, originals[:12].repeat(5, 1, 1, 1) + noise])
groups = checked_duplicate_groups(model.encode_image(pictures), threshold=0.98)
copies = float((groups[60:] == groups[:12].repeat(5)).double().mean())
print(f"{int(groups.max()) + 1} groups of 60; {copies:.0%} of the copies are with their original")
assert copies > 0.95
assert groups.max() + 1 >= 50

# %% [markdown]
# **Want more?** Lower the threshold step by step. When do different scenes fall into one group, and which are the first to do so?

# %% [markdown]
# ## Exercise 06-mismatch-auc
#
# **Predict first.** A score is the same number for every pair. What is its AUC? And that of a score that is always right, times $-1$?
#
# **Derivation.**
#
# 1. Take one matched and one mismatched pair at random.
# 2. The AUC is the probability that the matched one scores higher, plus half the probability of a tie.
# 3. It is $\tfrac12$ for a score that knows nothing, 1 for one that always puts matched pairs above, and needs no threshold.
#
# In code: `scores` (N,), `matched` (N,) bool, with some of each.


# %% answer="06-mismatch-auc"
def mismatch_auc(scores: Tensor, matched: Tensor) -> float:
    """P(a matched pair scores above a mismatched one) + ½·P(equal).

    scores: (N,). matched: (N,) bool, at least one of each. Returns a Python number in [0, 1].
    """
    ### BEGIN SOLUTION
    gap = scores[matched][:, None] - scores[~matched][None]  # every matched pair against every mismatched one
    return float(((gap > 0).double() + 0.5 * (gap == 0)).mean())
    ### END SOLUTION


# %% [markdown]
# **Use it.** A thousand pairs, three in ten of them with somebody else's caption. Is the cosine of picture and caption a good detector?

# %%
prompts = clip_scenes.held_out(1000, seed=3)
matched = torch.rand(1000, generator=seeded(0)) > 0.3
strangers = [prompts[i] if ok else prompts[i - 1] for i, ok in enumerate(matched.tolist())]
scores = (look(prompts) * read(captions(strangers))).sum(1)
found = checked_mismatch_auc(scores, matched)
print(f"AUC {found:.3f}; of a score that is the same for all: {checked_mismatch_auc(0 * scores, matched):.1f}")
figure, ax = plt.subplots(figsize=(5.2, 2.8))
for name, part in (("matched", matched), ("mismatched", ~matched)):
    ax.hist(scores[part], bins=40, range=(-0.5, 1), alpha=0.6, label=name)
ax.set(xlabel="cosine of picture and caption", ylabel="pairs", title=f"Mismatches score low: AUC {found:.3f}")
ax.legend()
plt.show()
assert found > 0.95

# %% [markdown]
# **Want more?** Which mismatched pairs score highest? Compare with `strangers[i].content`.
