"""The exercises of chapter 14: wrong answers that look right, and right ones beside them."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from _answers import answers
from torch import Tensor

# ---------------------------------------------------------------- who may look at whom


def looks(
    earlier=lambda i, j: j <= i, same=lambda a, b, i, j: a == b and a >= 0, join=lambda x, y: x or y,
    whole=lambda found: found,
):  # fmt: skip
    def seen(owner):
        n = range(owner.shape[1])
        rows = owner.tolist()
        found = [[[join(earlier(i, j), same(row[i], row[j], i, j)) for j in n] for i in n] for row in rows]
        return whole(torch.tensor(found, dtype=torch.bool))

    return seen


SEEN = {
    "strictly before": looks(earlier=lambda i, j: j < i),
    "what comes after": looks(earlier=lambda i, j: j >= i),
    "everything": looks(earlier=lambda i, j: True),
    "both rules": looks(join=lambda x, y: x and y),
    "one of both": looks(join=lambda x, y: x != y),
    "words of the same text": looks(same=lambda a, b, i, j: a == b),
    "owner above 0": looks(same=lambda a, b, i, j: a == b and a > 0),
    "every square": looks(same=lambda a, b, i, j: min(a, b) >= 0),
    "neighbours alone": looks(same=lambda a, b, i, j: a == b >= 0 and abs(i - j) < 2),
    "a square sees words behind it": looks(same=lambda a, b, i, j: a >= 0 and b in (a, -1)),
    "the first row's mask": looks(whole=lambda found: found[:1].expand_as(found)),
    "without the batch": looks(whole=lambda found: found[0]),
    "barred, not allowed": looks(whole=lambda found: ~found),
    "columns look": looks(whole=lambda found: found.mT),
    "as numbers": looks(whole=lambda found: found.float()),
    "with an axis for heads": looks(whole=lambda found: found[:, None]),
}

# ---------------------------------------------------------------- places


def stood(
    corner=lambda h, w: ((w * h - h) / 2, (w * h - w) / 2), word=lambda p: (p, p), takes=lambda h, w: h * w,
    cells=lambda h, w: [(i, j) for i in range(h) for j in range(w)], whole=lambda places: places, start=0,
):  # fmt: skip
    def stands(parts):
        places, first = [], start
        for part in parts:
            if isinstance(part, int):
                places += [word(first + k) for k in range(part)]
                first += part
            else:
                y, x = corner(*part)
                places += [(first + y + i, first + x + j) for i, j in cells(*part)]
                first += takes(*part)
        return whole(torch.tensor(places, dtype=torch.float32))

    return stands


STANDS = {
    "from 1": stood(start=1),
    "half a side": stood(corner=lambda h, w: (-h / 2, -w / 2)),
    "not minus the side": stood(corner=lambda h, w: (w * h / 2, w * h / 2)),
    "rows for both": stood(corner=lambda h, w: ((w * h - h) / 2,) * 2),
    "one less": stood(corner=lambda h, w: ((w * h - h - 1) / 2, (w * h - w - 1) / 2)),
    "rounded up": stood(corner=lambda h, w: (-(-(w * h - h) // 2), -(-(w * h - w) // 2))),
    "by the square root": stood(corner=lambda h, w: ((w * h - (w * h) ** 0.5) / 2,) * 2),
    "text after one": stood(takes=lambda h, w: 1),
    "text after the rows": stood(takes=lambda h, w: h),
    "text after both sides": stood(takes=lambda h, w: h + w),
    "text at its own count": stood(takes=lambda h, w: 0),
    "column by column": stood(cells=lambda h, w: [(i, j) for j in range(w) for i in range(h)]),
    "words on rows alone": stood(word=lambda p: (p, 0)),
    "columns, rows": stood(whole=lambda places: places.flip(1)),
    "whole numbers": stood(whole=lambda places: places.long()),
    "double": stood(whole=lambda places: places.double()),
    "three axes": stood(whole=lambda places: F.pad(places, (1, 0))),
    "axes first": stood(whole=lambda places: places.T),
}

# ---------------------------------------------------------------- what follows


def next_of(
    words=lambda may, vocab: may[: vocab + 1].fill_(True), ratio=lambda may, vocab: may[vocab + 3 :].fill_(True),
    square=lambda may, vocab: may[vocab + 2 : vocab + 3].fill_(True),
    full=lambda may, vocab: may[vocab + 1 : vocab + 2].fill_(True),
    drawn=lambda tokens, at: len(tokens) - 1 - at, at=lambda places: int(places[-1]), kind=0,
    whole=lambda may: may,
):  # fmt: skip
    def follows(tokens, vocab, squares):
        may, last = torch.zeros(vocab + 3 + len(squares), dtype=torch.bool), int(tokens[-1])
        if last <= vocab + 1 and last != vocab:
            words(may, vocab)
        elif last == vocab:
            ratio(may, vocab)
        else:
            place = at((tokens >= vocab + 3).nonzero()[:, 0])
            wanted = squares[(int(tokens[place]) - vocab - 3 + kind) % len(squares)]
            (square if drawn(tokens, place) < wanted else full)(may, vocab)
        return whole(may)

    return follows


FOLLOWS = {
    "words alone": next_of(words=lambda may, vocab: may[:vocab].fill_(True)),
    "FINISH among words": next_of(words=lambda may, vocab: may[: vocab + 2].fill_(True)),
    "anything among words": next_of(words=lambda may, vocab: may.fill_(True)),
    "only BEGIN": next_of(words=lambda may, vocab: may[vocab : vocab + 1].fill_(True)),
    "the first ratio": next_of(ratio=lambda may, vocab: may[vocab + 3 : vocab + 4].fill_(True)),
    "a square or a ratio": next_of(ratio=lambda may, vocab: may[vocab + 2 :].fill_(True)),
    "words among squares": next_of(square=lambda may, vocab: may[: vocab + 3].fill_(True)),
    "BEGIN when full": next_of(full=lambda may, vocab: may[vocab : vocab + 1].fill_(True)),
    "one square more, when full": next_of(full=lambda may, vocab: may[vocab + 1 : vocab + 3].fill_(True)),
    "one too few": next_of(drawn=lambda tokens, at: len(tokens) - at),
    "all tokens count": next_of(drawn=lambda tokens, at: len(tokens)),
    "the first picture": next_of(at=lambda places: int(places[0])),
    "the next ratio's size": next_of(kind=1),
    "as numbers": next_of(whole=lambda may: may.float()),
    "the ids": next_of(whole=lambda may: may.nonzero()[:, 0]),
    "what may not": next_of(whole=lambda may: ~may),
}

# ---------------------------------------------------------------- pulls


def pulled(
    kept=lambda a, b: a is not None and b is not None, join=lambda vectors: torch.cat(vectors),
    share=lambda a, b, weight: weight * b.norm() / (weight * b.norm() + a.norm()),
    cosine=lambda a, b, weight: (a * b).sum() / (a.norm() * b.norm()), order=lambda share, cosine: (share, cosine),
):  # fmt: skip
    def pulls(words, pictures, weight):
        pairs = [(a, b) for a, b in zip(words, pictures) if kept(a, b)]
        like = lambda x, y: torch.zeros_like(y) if x is None else x
        a, b = join([like(a, b).flatten() for a, b in pairs]), join([like(b, a).flatten() for a, b in pairs])
        return order(share(a, b, weight), cosine(a, b, weight))

    return pulls


PULLS = {
    "all tensors": pulled(kept=lambda a, b: True),
    "what the words reach": pulled(kept=lambda a, b: a is not None),
    "matrices alone": pulled(kept=lambda a, b: a is not None and b is not None and a.ndim == 2),
    "the words' part": pulled(share=lambda a, b, weight: a.norm() / (weight * b.norm() + a.norm())),
    "how many times": pulled(share=lambda a, b, weight: weight * b.norm() / a.norm()),
    "no λ below": pulled(share=lambda a, b, weight: weight * b.norm() / (b.norm() + a.norm())),
    "λ of the words": pulled(share=lambda a, b, weight: b.norm() / (b.norm() + weight * a.norm())),
    "sums of sizes": pulled(share=lambda a, b, weight: weight * b.abs().sum() / (weight * b.abs().sum()
        + a.abs().sum())),
    "largest numbers": pulled(share=lambda a, b, weight: weight * b.abs().max() / (weight * b.abs().max()
        + a.abs().max())),
    "root mean squares of all": pulled(cosine=lambda a, b, weight: (a * b).mean() / (a.std() * b.std())),
    "λ in the cosine": pulled(cosine=lambda a, b, weight: weight * (a @ b) / (a.norm() * b.norm())),
    "its size": pulled(cosine=lambda a, b, weight: ((a @ b) / (a.norm() * b.norm())).abs()),
    "centred": pulled(cosine=lambda a, b, weight: torch.cosine_similarity(a - a.mean(), b - b.mean(), dim=0)),
    "an angle": pulled(cosine=lambda a, b, weight: torch.cosine_similarity(a, b, dim=0).acos()),
    "cosine first": pulled(order=lambda share, cosine: (cosine, share)),
    "the share alone": pulled(order=lambda share, cosine: share),
}  # fmt: skip

# ---------------------------------------------------------------- the build

SLIPS = {
    "text always first": ("picture + words if first else words + picture", "words + picture"),
    "picture first where text is": ("picture + words if first else words + picture",
        "words + picture if first else picture + words"),
    "zeros within": ("text[text > 0].tolist()", "text.tolist()"),
    "no FINISH": ("[begin, *[square] * n, finish]", "[begin, *[square] * n]"),
    "padding in front": ("row + [0] * (long - len(row))", "[0] * (long - len(row)) + row"),
    "noise for the picture": ("torch.lerp(squares, eps,", "torch.lerp(eps, squares,"),
    "noise added": ("torch.lerp(squares, eps, t[:, None, None])", "(squares + t[:, None, None] * eps)"),
    "one time for all": ("eps, t[:, None, None])", "eps, t[:1, None, None])"),
    "time 0 told": ("net(ids, noisy, t, mask)", "net(ids, noisy, 0 * t, mask)"),
    "squares see squares alone": ("tril() | (mine[:, :, None] & mine[:, None])",
        "tril() & (mine[:, :, None] == mine[:, None])"),
    "words see squares to come": ("(mine[:, :, None] & mine[:, None])", "mine[:, None]"),
    "squares see all": ("(mine[:, :, None] & mine[:, None])", "mine[:, :, None]"),
    "the mask of the first row": ("logits, clean = net(ids, noisy, t, mask)",
        "logits, clean = net(ids, noisy, t, mask[:1].expand_as(mask))"),
    "two further": ("F.pad(ids[:, 1:], (0, 1))", "F.pad(ids[:, 2:], (0, 2))"),
    "the one before": ("F.pad(ids[:, 1:], (0, 1))", "F.pad(ids[:, :-1], (1, 0))"),
    "START asked": ("torch.tensor([0, start, square, finish])", "torch.tensor([0, square, finish])"),
    "FINISH asked": ("torch.tensor([0, start, square, finish])", "torch.tensor([0, start, square])"),
    "padding asked": ("torch.tensor([0, start, square, finish])", "torch.tensor([start, square, finish])"),
    "END not asked": ("torch.tensor([0, start, square, finish])", "torch.tensor([0, start, square, finish, 2])"),
    "what is asked exchanged": ("~torch.isin", "torch.isin"),
    "logits over tokens": ("logits.mT, wanted", "logits.softmax(1).mT, wanted"),
    "a sum of words": ("/ asked.sum(1)", ""),
    "a mean over the row": ("/ asked.sum(1)", "/ long"),
    "a mean over the batch's words": ("/ asked.sum(1)", "/ asked.sum() * b"),
    "all squares of the batch": (".square().mean((1, 2))", ".square().mean()"),
    "a sum over squares": (".square().mean((1, 2))", ".square().sum((1, 2))"),
    "absolute errors": (".square().mean((1, 2))", ".abs().mean((1, 2))"),
    "noise asked": ("(b, n)) - squares)", "(b, n)) - eps)"),
    "velocity asked": ("(b, n)) - squares)", "(b, n)) - eps + squares)"),
    "errors of all tokens": ("(clean[mine].unflatten(0, (b, n)) - squares).square()", "(clean - noisy).square()"),
    "no weight": ("+ weight * off", "+ off"),
    "words weighed": ("return each.sum(1) / asked.sum(1) + weight * off",
        "return weight * each.sum(1) / asked.sum(1) + off"),
    "pictures of drawing rows alone": ("+ weight * off", "+ weight * off * ~picture_first"),
    "words of naming rows alone": ("return each.sum(1)", "return picture_first * each.sum(1)"),
    "the mean": ("return each.sum(1) / asked.sum(1) + weight * off",
        "return (each.sum(1) / asked.sum(1) + weight * off).mean()"),
    "two losses": ("asked.sum(1) + weight * off", "asked.sum(1), weight * off"),
    "no gradient": ("logits, clean = net(ids, noisy, t, mask)",
        "logits, clean = (x.detach() for x in net(ids, noisy, t, mask))"),
}  # fmt: skip


@pytest.fixture
def built(master):
    """The master's solution of the build with some things changed."""
    return partial(master, "14-losses", {"torch": torch, "F": F, "Tensor": Tensor})


TestAnswers = answers(
    chapter="14_one_transformer",
    build="14-losses",
    experiment="14-trade",
    wrong={"14-seen": SEEN, "14-stands": STANDS, "14-follows": FOLLOWS, "14-pulls": PULLS},
    right={"14-seen": looks(), "14-stands": stood(), "14-follows": next_of(), "14-pulls": pulled()},
    slips=SLIPS,
)
