"""The exercises of chapter 06: inputs, right answers, and wrong ones that deserve an answer of their own."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff import retrieval
from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.encoders.clip import contrastive_loss


def _normal(g: Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


# --- 1: the loss ------------------------------------------------------------------------------------------------------


def _draw_features(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, d: int, scale: float, dtype: torch.dtype = torch.float64) -> Inputs:
        images = _normal(g, b, d)
        texts = images + _normal(g, b, d)  # captions that fit, more or less
        lengths = 0.3 + 3 * torch.rand(2, b, 1, generator=g, dtype=torch.float64)
        return (images * lengths[0]).to(dtype), (texts * lengths[1]).to(dtype), scale

    return [
        case(6, 4, 5.0),
        case(3, 8, 14.0, torch.float32),
        case(4, 4, 0.5),  # as many pairs as numbers: a wrong axis goes unnoticed by PyTorch
        case(1, 5, 3.0),  # a single pair cannot be mistaken: 0
    ]


def _crossed(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def _units(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    return F.normalize(images, dim=1), F.normalize(texts, dim=1)


def clip_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Symmetric InfoNCE of B pairs, averaged."""
    return contrastive_loss(*_units(images, texts), scale).mean()


def _one_direction(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    a, b = _units(images, texts)
    return _crossed(scale * a @ b.T)


def _raw(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    logits = scale * images @ texts.T
    return (_crossed(logits) + _crossed(logits.T)) / 2


def _batch_axis(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    return _raw(F.normalize(images, dim=0), F.normalize(texts, dim=0), scale)


def _pulling_only(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    a, b = _units(images, texts)
    return -scale * (a * b).sum(1).mean()


CLIP_LOSS = Exercise(
    id="06-clip-loss",
    title="Symmetric InfoNCE",
    points=3,
    difficulty=3,
    importance=5,
    minutes=12,
    draw=_draw_features,
    reference=clip_loss,
    mistakes=(
        Mistake(
            "one-direction",
            _one_direction,
            "You asked one question only: which text belongs to this picture? Row by row, no column ever competes. "
            "Ask the other one too, which picture belongs to this text (`logits.T`), and take the mean of the two.",
        ),
        Mistake(
            "no-scale",
            lambda images, texts, scale: clip_loss(images, texts, 1.0),
            "You left the scale out. Cosines lie in [−1, 1], so their softmax is nearly flat however well the pairs "
            "fit: the loss cannot get near 0. Multiply the cosines by `scale`.",
        ),
        Mistake(
            "divided",
            lambda images, texts, scale: clip_loss(images, texts, 1 / scale),
            "You divided by `scale`. A *temperature* τ divides; the scale is 1/τ and multiplies.",
        ),
        Mistake(
            "not-normalised",
            _raw,
            "You compared inner products of raw features. Then a long vector is similar to everything. Bring every "
            "row to length 1 first: the tables must hold cosines.",
        ),
        Mistake(
            "normalised-over-the-batch",
            _batch_axis,
            "You normalised along the batch: every *column* of numbers got length 1, not every vector. "
            "A picture's vector must not depend on its company: `F.normalize(x, dim=1)`.",
        ),
        Mistake(
            "pulling-only",
            _pulling_only,
            "You pull the pairs together, and nothing pushes the others apart: all pictures and texts on one spot "
            "would be perfect. The softmax over the other texts, and the other pictures, is what pushes.",
        ),
    ),
    alternatives=(
        lambda images, texts, scale: (lambda s: (s.logsumexp(0) + s.logsumexp(1) - 2 * s.diagonal()).mean() / 2)(
            scale * F.cosine_similarity(images[:, None], texts[None], dim=2)
        ),
        lambda images, texts, scale: contrastive_loss(*_units(texts, images), scale).mean(),
    ),
    hints=(
        "Three steps: unit vectors, the B×B table of scaled cosines, and a B-way question in every row and column.",
        "In row i and in column i the right answer is i. `F.cross_entropy(logits, torch.arange(B))` asks the rows.",
        "`(F.cross_entropy(logits, t) + F.cross_entropy(logits.T, t)) / 2`, with `logits = scale * a @ b.T`.",
    ),
    expected="the trained model on 50 held-out pairs: 0.016 ± 0.015; with the captions passed on by one "
    "37.0 ± 1.2 (5 seeds).",
    trap="with pairs drawn at random, rows and columns of the table look alike, and the loss of one direction is close "
    "to that of the other; only where one caption fits many pictures do the two part.",
)

# --- 2: where the text tower is read ----------------------------------------------------------------------------------


def _draw_tokens(seed: int) -> list[Inputs]:
    g, end, start, pad = Generator().manual_seed(seed), 2, 1, 0

    def case(lengths: list[int], width: int, d: int, fill: int = pad, dtype: torch.dtype = torch.float64) -> Inputs:
        tokens = torch.full((len(lengths), width), fill)
        for row, n in zip(tokens, lengths):
            row[: n - 1] = torch.randint(4, 30, (n - 1,), generator=g)
            row[0], row[n - 1] = start, end
        return _normal(g, len(lengths), width, d, dtype=dtype), tokens, end

    return [
        case([4, 7, 2], 9, 3),
        case([6, 3, 5, 4], 6, 4, dtype=torch.float32),  # the first is full: END comes last
        case([3, 5], 8, 2, fill=end),  # OpenAI's own padding: END, END, END, …
        case([4], 4, 5),  # a batch of one
    ]


def read_at_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    """The feature of each row's first END."""
    first = (tokens == end).int().argmax(1)
    return features[torch.arange(len(tokens)), first]


def _before_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    return features[torch.arange(len(tokens)), (tokens == end).int().argmax(1) - 1]


def _last_end(features: Tensor, tokens: Tensor, end: int) -> Tensor:
    last = tokens.shape[1] - 1 - (tokens == end).int().flip(1).argmax(1)
    return features[torch.arange(len(tokens)), last]


READ_AT_END = Exercise(
    id="06-read-at-end",
    title="Where the text tower is read",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_tokens,
    reference=read_at_end,
    mistakes=(
        Mistake(
            "last-position",
            lambda features, tokens, end: features[:, -1],
            "You read the last position of the row. In a caption that is shorter than the row it is padding. "
            "Read where the token is `end`.",
        ),
        Mistake(
            "first-position",
            lambda features, tokens, end: features[:, 0],
            "You read the first position, as one does with the class token of a picture. Here the mask is causal: "
            "START has seen nothing but itself, so every caption would get the same vector.",
        ),
        Mistake(
            "largest-id",
            lambda features, tokens, end: features[torch.arange(len(tokens)), tokens.argmax(1)],
            "You looked for the largest id. That is OpenAI's own line, and right there: their END is the last id of "
            "the vocabulary. Here END is another number: compare with `end`.",
        ),
        Mistake(
            "last-end",
            _last_end,
            "You read the *last* END of the row. Where rows are padded with END, as OpenAI pads, that is padding "
            "again, and the vector would depend on how long the row is. Read the first.",
        ),
        Mistake(
            "before-end",
            _before_end,
            "You read the token before END, the last word. It has seen the caption, but it stands for a word too: "
            "CLIP trains END to stand for the whole.",
        ),
        Mistake(
            "mean",
            lambda features, tokens, end: features.mean(1),
            "You averaged all positions, padding included: the longer the row, the less the words count.",
        ),
    ),
    alternatives=(
        lambda features, tokens, end: torch.stack([row[ids.tolist().index(end)] for row, ids in zip(features, tokens)]),
        lambda features, tokens, end: (features * ((tokens == end) & ((tokens == end).cumsum(1) == 1))[:, :, None]).sum(
            1
        ),
    ),
    hints=(
        "Which position holds the *first* END, in every row? Then one feature per row.",
        "`(tokens == end).int().argmax(1)`: among equal largest values argmax takes the first.",
        "`features[torch.arange(len(tokens)), first]` picks position `first[i]` of row i.",
    ),
    expected="8 more places of padding move the vector at END by 1.6e-6 ± 0.2e-6 (rounding), that of the "
    "last place by 12 ± 3 (5 seeds).",
    trap="if every caption fills its row, the last position *is* END, and in OpenAI's vocabulary the largest id is.",
)

# --- 3: a classifier out of words -------------------------------------------------------------------------------------


def _draw_prompts(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(b: int, k: int, t: int, d: int, dtype: torch.dtype = torch.float64) -> Inputs:
        pictures = F.normalize(_normal(g, b, d), dim=1).to(dtype)
        prompts = _normal(g, k, 1, d) + _normal(g, k, t, d)
        lengths = 0.2 + 4 * torch.rand(k, t, 1, generator=g, dtype=torch.float64)
        return pictures, (prompts * lengths).to(dtype)

    return [case(5, 3, 4, 6), case(4, 4, 4, 3, torch.float32), case(1, 2, 7, 5), case(3, 3, 1, 4)]


def zero_shot_cosines(pictures: Tensor, prompts: Tensor) -> Tensor:
    """Cosine of every picture with every class."""
    classes = F.normalize(F.normalize(prompts, dim=2).mean(1), dim=1)
    return pictures @ classes.T


ZERO_SHOT = Exercise(
    id="06-zero-shot",
    title="A classifier out of words",
    points=2,
    difficulty=2,
    importance=5,
    minutes=8,
    draw=_draw_prompts,
    reference=zero_shot_cosines,
    mistakes=(
        Mistake(
            "not-normalised-after",
            lambda pictures, prompts: pictures @ F.normalize(prompts, dim=2).mean(1).T,
            "You averaged unit vectors and stopped there. The mean of unit vectors is shorter than 1, the shorter the "
            "more its prompts differ: such a class loses every contest. Normalise the mean again.",
        ),
        Mistake(
            "not-normalised-before",
            lambda pictures, prompts: pictures @ F.normalize(prompts.mean(1), dim=1).T,
            "You averaged vectors of different lengths: a long one outvotes the others. The tower's lengths mean "
            "nothing (training never saw them); bring each prompt to length 1 before you average.",
        ),
        Mistake(
            "averaged-classes",
            lambda pictures, prompts: pictures @ F.normalize(F.normalize(prompts, dim=2).mean(0), dim=1).T,
            "You averaged over the classes and kept the templates apart. Axis 0 of `prompts` is the class, axis 1 the "
            "template.",
        ),
        Mistake(
            "mean-of-cosines",
            lambda pictures, prompts: torch.einsum("bd,ktd->bk", pictures, F.normalize(prompts, dim=2)),
            "You added up the cosines with the single prompts. That ranks like the mean vector *without* the second "
            "normalisation, and a sum grows with the number of templates.",
        ),
        Mistake(
            "best-template",
            lambda pictures, prompts: torch.einsum("bd,ktd->bkt", pictures, F.normalize(prompts, dim=2)).amax(2),
            "You took each class's best template. A class with an odd template wins whatever that one likes; the "
            "ensemble is meant to average the templates' oddities away.",
        ),
    ),
    alternatives=(
        lambda pictures, prompts: F.cosine_similarity(
            pictures[:, None], F.normalize(prompts, dim=2).sum(1)[None], dim=2
        ),
    ),
    hints=(
        "One vector per class: the direction of the mean of its prompts' directions.",
        "`F.normalize(prompts, dim=2)` makes unit vectors, `.mean(1)` goes over the templates. What is the length now?",
        "`classes = F.normalize(F.normalize(prompts, dim=2).mean(1), dim=1)`, then `pictures @ classes.T`.",
    ),
    expected="shapes by six prompts each: 1.000 ± 0.000 of 300 pictures (5 seeds); with the pictures in another "
    "order chance, 0.2.",
    trap="if the prompts of all classes spread equally, their means are equally short, and the forgotten second "
    "normalisation changes no answer.",
)

# --- 4: recall at k ---------------------------------------------------------------------------------------------------


def _draw_tables(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, m: int, k: int, tied: bool = False) -> Inputs:
        table, right = _normal(g, n, m), torch.randint(m, (n,), generator=g)
        table[torch.arange(n), right] += 1.0
        return (table * 0 if tied else table), right, k

    return [case(12, 8, 1), case(20, 20, 3), case(15, 9, 5), case(6, 6, 6), case(5, 7, 2, tied=True)]


def recall_at_k(similarity: Tensor, right: Tensor, k: int) -> float:
    """Share of queries whose right answer is among the k most similar; ties count against."""
    own = similarity.gather(1, right[:, None])
    return float(((similarity >= own).sum(1) <= k).double().mean())


def _kind_to_ties(similarity: Tensor, right: Tensor, k: int) -> float:
    own = similarity.gather(1, right[:, None])
    return float(((similarity > own).sum(1) < k).double().mean())


def _off_by_one(similarity: Tensor, right: Tensor, k: int) -> float:
    own = similarity.gather(1, right[:, None])
    return float(((similarity >= own).sum(1) < k).double().mean())


RECALL_AT_K = Exercise(
    id="06-recall-at-k",
    title="Recall at k",
    points=2,
    difficulty=2,
    importance=4,
    minutes=8,
    draw=_draw_tables,
    reference=recall_at_k,
    mistakes=(
        Mistake(
            "only-the-best",
            lambda similarity, right, k: recall_at_k(similarity, right, 1),
            "You looked at the best answer only, whatever k is. At k the right answer may stand anywhere among the "
            "first k.",
        ),
        Mistake(
            "kind-to-ties",
            _kind_to_ties,
            "You counted the answers that are *strictly* better. A model that finds everything equally similar then "
            "has a recall of 1. Count ties against it: ≥, not >.",
        ),
        Mistake(
            "off-by-one",
            _off_by_one,
            "You demand a rank below k, counting the right answer itself as rank 1: that is recall at k − 1.",
        ),
        Mistake(
            "least-similar",
            lambda similarity, right, k: recall_at_k(-similarity, right, k),
            "You took the k *smallest* values, as one does with distances. Similar means large.",
        ),
        Mistake(
            "divided-by-k",
            lambda similarity, right, k: recall_at_k(similarity, right, k) / k,
            "You divided by k. That is precision: which share of what was shown is right. Each query has one right "
            "answer, and recall asks whether it was found.",
        ),
    ),
    alternatives=(
        lambda similarity, right, k: float(
            torch.tensor([float(sum(s >= row[j] for s in row) <= k) for row, j in zip(similarity, right)])
            .double()
            .mean()
        ),
    ),
    hints=(
        "For each query: how many answers are at least as similar as the right one, itself included?",
        "`own = similarity.gather(1, right[:, None])` is the similarity of the right answers, (N, 1).",
        "`((similarity >= own).sum(1) <= k).double().mean()`.",
    ),
    expected="R@1 of 1000 held-out pairs: 0.965 ± 0.004 (5 seeds); chance is 0.001.",
    trap="without ties, > and ≥ give the same number; and `topk` breaks ties by place, which rewards whoever stands "
    "first.",
)

# --- 5: near-duplicates -----------------------------------------------------------------------------------------------


def _draw_chains(seed: int) -> list[Inputs]:
    """Points along a circle: near ones are linked, so that a chain joins ends that are far apart."""
    g = Generator().manual_seed(seed)

    def case(steps: list[float], d: int, threshold: float, mixed: bool = True) -> Inputs:
        angle = torch.tensor(steps, dtype=torch.float64).cumsum(0) * 0.05
        basis = torch.linalg.qr(_normal(g, d, 2)).Q.T
        order = torch.randperm(len(steps), generator=g) if mixed else torch.arange(len(steps))
        return (torch.stack([angle.cos(), angle.sin()], 1) @ basis)[order].float(), threshold

    return [
        # 0.05 rad apart: cosine 0.99875. Chains of five and three, one alone; a chain of sixteen; no two alike.
        case([0, 1, 1, 1, 1, 9, 1, 1, 9], 4, 0.998, mixed=False),
        case([0, *[1] * 15], 3, 0.998),
        case([0, 5, 5, 5], 5, 0.998),
        case([0, 1, 6, 1, 6, 1], 2, 0.998),
    ]


def _numbered(first: Tensor) -> Tensor:
    """Labels → 0, 1, … in order of first appearance."""
    seen: dict[int, int] = {}
    return torch.tensor([seen.setdefault(int(value), len(seen)) for value in first])


def duplicate_groups(vectors: Tensor, threshold: float) -> Tensor:
    """Group ids of near-duplicates, 0 upwards in order of first appearance."""
    return retrieval.near_duplicates(vectors, threshold)


def _closed(vectors: Tensor, threshold: float) -> Tensor:
    """The smallest row that links lead to, for every row."""
    linked = (vectors @ vectors.T) >= threshold
    for _ in vectors:
        linked = (linked.double() @ linked.double()) > 0
    return linked.int().argmax(1)


def _greedy(vectors: Tensor, threshold: float) -> Tensor:
    near, groups = (vectors @ vectors.T) >= threshold, []
    kept: list[int] = []
    for i in range(len(vectors)):
        home = next((n for n, j in enumerate(kept) if near[i, j]), None)
        groups.append(len(kept) if home is None else home)
        if home is None:
            kept.append(i)
    return torch.tensor(groups)


DUPLICATES = Exercise(
    id="06-duplicate-groups",
    title="Near-duplicates",
    points=3,
    difficulty=4,
    importance=3,
    minutes=15,
    draw=_draw_chains,
    reference=duplicate_groups,
    mistakes=(
        Mistake(
            "one-link",
            lambda vectors, threshold: _numbered(((vectors @ vectors.T) >= threshold).int().argmax(1)),
            "You gave each picture the first one it is linked to *directly*. A copy of a copy is in the same group "
            "even if it is no longer close to the original: follow the links to their end.",
        ),
        Mistake(
            "greedy",
            _greedy,
            "You compared each picture only with the first of each group. The groups then depend on the order in "
            "which pictures arrive, and two groups that a later picture links are never joined.",
        ),
        Mistake(
            "not-numbered",
            _closed,
            "The groups are right, but their numbers are rows. Number them 0, 1, 2, … in order of first appearance.",
        ),
        Mistake(
            "distance",
            lambda vectors, threshold: duplicate_groups(vectors, 1 - threshold),
            "You linked what is at least 1 − threshold similar. The threshold is a cosine: close to 1 means alike.",
        ),
        Mistake(
            "every-one-alone",
            lambda vectors, threshold: torch.arange(len(vectors)),
            "Every picture is alone in its group. Did you compare vectors for equality? Near-duplicates are near, "
            "not equal.",
        ),
    ),
    alternatives=(lambda vectors, threshold: _numbered(_closed(vectors, threshold)),),
    hints=(
        "Links make a graph: i and j are linked where their cosine is ≥ threshold. The groups are its connected parts.",
        "Give every picture its own row number as a label; then let each take the smallest label among those it is "
        "linked to, again and again, until nothing changes.",
        "`labels = torch.where(linked, labels, N).amin(1)` in a loop; then number the labels in order of appearance.",
    ),
    expected="60 groups, and all copies with their original, at a threshold of 0.98 (5 seeds).",
    trap="with one copy per picture all groups are pairs: one link is then the whole way, and every method agrees.",
)

# --- 6: is a score any good at finding mismatches? --------------------------------------------------------------------


def _draw_scores(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(n: int, share: float, digits: int = 9) -> Inputs:
        matched = torch.rand(n, generator=g) > share
        matched[0], matched[1] = True, False
        return (_normal(g, n) + 1.2 * matched).round(decimals=digits), matched

    return [case(30, 0.3), case(40, 0.5, digits=0), case(12, 0.8), case(2, 0.5)]


def mismatch_auc(scores: Tensor, matched: Tensor) -> float:
    """P(a matched pair scores above a mismatched one) + ½·P(equal)."""
    return retrieval.auc(scores, matched)


def _compared(scores: Tensor, matched: Tensor, tie: float) -> float:
    gap = scores[matched][:, None] - scores[~matched][None]
    return float(((gap > 0).double() + tie * (gap == 0)).mean())


def _accuracy(scores: Tensor, matched: Tensor) -> float:
    return float(((scores > scores.mean()) == matched).double().mean())


AUC = Exercise(
    id="06-mismatch-auc",
    title="How well does a score find mismatches?",
    points=2,
    difficulty=3,
    importance=3,
    minutes=10,
    draw=_draw_scores,
    reference=mismatch_auc,
    mistakes=(
        Mistake(
            "ties-lost",
            lambda scores, matched: _compared(scores, matched, 0.0),
            "You gave nothing for ties. A score that says the same of everything then has an AUC of 0 instead of ½, "
            "as if it were always wrong. Two equal scores are a coin flip: count ½.",
        ),
        Mistake(
            "ties-won",
            lambda scores, matched: _compared(scores, matched, 1.0),
            "You counted ties as wins. A score that says the same of everything would be perfect. Count ½.",
        ),
        Mistake(
            "upside-down",
            lambda scores, matched: 1 - mismatch_auc(scores, matched),
            "You asked how often a *mismatched* pair scores higher. Matched pairs are the ones that should.",
        ),
        Mistake(
            "accuracy",
            _accuracy,
            "You chose a threshold and counted right decisions. The AUC needs no threshold: it compares every matched "
            "pair with every mismatched one.",
        ),
        Mistake(
            "difference-of-means",
            lambda scores, matched: float(scores[matched].mean() - scores[~matched].mean()),
            "You subtracted the mean scores. That depends on the unit of the score; the AUC depends on the order only.",
        ),
    ),
    alternatives=(lambda scores, matched: _compared(scores, matched, 0.5),),
    hints=(
        "Take one matched and one mismatched pair at random. How likely does the matched one score higher?",
        "All such comparisons at once: `scores[matched][:, None] - scores[~matched][None, :]`.",
        "The mean of `(gap > 0) + 0.5 * (gap == 0)`.",
    ),
    expected="1.000 ± 0.000 on 1,000 pairs (5 seeds); a constant score has 0.5 exactly.",
    trap="scores with many digits never tie, and then all three ways to count ties agree.",
)

EXERCISES = (CLIP_LOSS, READ_AT_END, ZERO_SHOT, RECALL_AT_K, DUPLICATES, AUC)
