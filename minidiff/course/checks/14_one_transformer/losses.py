"""Exercise 14-losses: Transfusion's loss of a batch in which some rows begin with the text, some with the picture."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from minidiff.course.exercise import Exercise, Inputs, Mistake
from minidiff.nn import masks
from minidiff.validate import require
from minidiff.values import describe_value

from .._common import normal

Net = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Signs = tuple[int, int, int, int]


def _net(vocab: int, width: int, g: Generator, dtype: torch.dtype) -> Net:
    """One attention whose answers depend on ids, their order, squares, time and mask."""
    dim = 6
    table, into, keys, values = (normal(s, g, dtype) for s in ((vocab, dim), (width, dim), (dim, dim), (dim, dim)))
    words, squares = normal((dim, vocab), g, dtype), normal((dim, width), g, dtype)

    def net(ids: Tensor, noisy: Tensor, t: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        (b, long), full = ids.shape, (ids.shape[0], ids.shape[1], ids.shape[1])
        require(tuple(noisy.shape) == (b, long, width), "noisy", tuple(noisy.shape), f"shape {(b, long, width)}")
        require(tuple(t.shape) == (b,), "t", tuple(t.shape), f"shape ({b},)")
        fits = mask.dtype == torch.bool and tuple(mask.shape) in (full, (1, *full[1:]), full[1:])
        require(fits, "mask", describe_value(mask), f"bool, shape {full}")
        order = torch.arange(long, dtype=dtype)[:, None]
        x = table[ids] + noisy.to(dtype) @ into + t.to(dtype)[:, None, None] + (order * torch.arange(1, dim + 1)).cos()
        scores = (x @ keys @ x.mT / dim).masked_fill(~mask, -torch.inf)
        x = x + scores.softmax(-1).nan_to_num() @ x @ values
        return x @ words, x @ squares

    return net


def _draw_rows(seed: int) -> list[Inputs]:
    g = Generator().manual_seed(seed)

    def case(lengths: Sequence[int], n: int, first: Sequence[bool], dtype: torch.dtype = torch.float64) -> Inputs:
        """lengths: of the texts, in words without START and END."""
        b, width, vocab = len(lengths), 5, 12
        signs = (1, 9, 10, 11)
        texts = torch.zeros(b, max(lengths) + 2, dtype=torch.int64)
        for row, length in zip(texts, lengths):
            row[0], row[length + 1] = 1, 2
            row[1 : length + 1] = torch.randint(3, 9, (length,), generator=g)
        squares, eps = normal((b, n, width), g, dtype), normal((b, n, width), g, dtype).requires_grad_()
        t, weight = (k * torch.rand(b, generator=g, dtype=torch.float64).to(dtype) for k in (1, 8))
        return _net(vocab, width, g, dtype), texts, squares, eps, t, torch.tensor(first), signs, weight

    return [
        case([2, 2, 2], 4, [True, False, True]),
        case([3, 1, 2, 0], 3, [False, True, False, True]),  # texts of many lengths; nothing said
        case([2], 4, [True]),
        case([1], 1, [False]),
        case([0, 3], 2, [False, True], torch.float32),
    ]


def mixed_loss(
    net: Net, texts: Tensor, squares: Tensor, eps: Tensor, t: Tensor, picture_first: Tensor, signs: Signs,
    weight: Tensor,
) -> Tensor:  # fmt: skip
    """Words + weight·picture, (B,), by `nn.masks.blocks`."""
    start, begin, square, finish = signs
    picture = torch.tensor([begin, *[square] * squares.shape[1], finish])
    rows = [
        torch.cat([picture, row[row > 0]] if first else [row[row > 0], picture])
        for row, first in zip(texts, picture_first)
    ]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mine = ids == square
    noisy = squares.new_zeros(*ids.shape, squares.shape[2])
    noisy[mine] = torch.lerp(squares, eps, t[:, None, None]).flatten(0, 1)
    logits, clean = net(ids, noisy, t, masks.blocks(torch.where(mine, 0, -1)))
    wanted = F.pad(ids[:, 1:], (0, 1))
    wanted = torch.where(torch.isin(wanted, torch.tensor([start, square, finish])), 0, wanted)
    each = F.cross_entropy(logits.mT, wanted, reduction="none", ignore_index=0)
    errors = (clean[mine] - squares.flatten(0, 1)).square().unflatten(0, squares.shape[:2])
    return each.sum(1) / (wanted > 0).sum(1) + weight * errors.mean((1, 2))


def _by_rows(flaw: str = "") -> Callable[..., Tensor]:
    """Row by row, without padding, with one thing wrong: which one, `flaw` says; "" is right."""

    def mixed_loss(
        net: Net, texts: Tensor, squares: Tensor, eps: Tensor, t: Tensor, picture_first: Tensor, signs: Signs,
        weight: Tensor,
    ) -> Tensor:  # fmt: skip
        start, begin, square, finish = signs
        found = []
        for text, x0, noise, now, first, own in zip(texts, squares, eps, t, picture_first, weight):
            words, picture = [k for k in text.tolist() if k], [begin, *[square] * len(x0), finish]
            ids = torch.tensor([picture + words if first else words + picture])
            at, place = ids[0] == square, torch.arange(ids.shape[1])
            noisy = x0.new_zeros(1, ids.shape[1], x0.shape[1])
            noisy[0, at] = x0 + 0 * noise if flaw == "clean" else (1 - now) * x0 + now * noise
            mask = place[:, None] >= place
            if flaw != "causal":
                mask = mask | (at[:, None] & at) | (flaw == "open")
            logits, clean = net(ids, noisy, now[None], mask[None])
            likely = logits[0].log_softmax(-1)
            target = ids[0] if flaw == "itself" else ids[0].roll(-1)
            skipped = [start] if flaw == "all" else [start, square, finish, *([begin] if flaw == "no-begin" else [])]
            asked = [i for i in range(len(target) - 1) if int(target[i]) not in skipped]
            said = -sum(likely[i, target[i]] for i in asked) / len(asked)
            found.append(said + own * (clean[0, at] - x0).pow(2).mean())
        return torch.stack(found)

    return mixed_loss


def _seen(answer: object, net: Net, texts: Tensor, squares: Tensor, eps: Tensor, *rest: object) -> tuple[Tensor, ...]:
    """The losses, and their gradient in the noise, which comes through the network."""
    fits = isinstance(answer, Tensor) and answer.shape == (len(texts),)
    require(fits, "what your function returns", describe_value(answer), f"a loss a row, shape ({len(texts)},)")
    assert isinstance(answer, Tensor)
    if not answer.requires_grad:
        return answer, torch.zeros_like(eps)
    return answer, *torch.autograd.grad(answer.sum(), [eps], materialize_grads=True)


EXERCISE = Exercise(
    id="14-losses",
    title="Build it: one loss for words and pictures",
    points=6,
    difficulty=4,
    importance=5,
    minutes=45,
    draw=_draw_rows,
    reference=mixed_loss,
    probe=_seen,
    rtol=1e-4,
    atol=1e-5,
    mistakes=(
        Mistake("causal", _by_rows("causal"), "Your squares look only at those before them. Your mask is causal "
            "everywhere; squares of a picture all look at one another."),
        Mistake("open", _by_rows("open"), "Everything looks at everything, so that a word sees the one it is asked "
            "for. The loss of words falls to 0, and nothing can be written with it: causal, but for the squares."),
        Mistake("itself", _by_rows("itself"), "You asked every token for itself. It can read itself, so that nothing "
            "is learned: token i is asked for the id of token i + 1."),
        Mistake("all-asked", _by_rows("all"), "You asked for squares and FINISH, too. They follow from BEGIN: what "
            "never fails to come teaches nothing, and it thins out the words' mean."),
        Mistake("no-begin", _by_rows("no-begin"), "You left out BEGIN. After the END of a text that comes first it is "
            "asked for: this is where the model says that a picture comes now."),
        Mistake("clean", _by_rows("clean"), "You gave the network the clean squares. They are noised first, each row "
            "to its own time: (1 − t)·x0 + t·ε. What is asked for is the clean picture."),
    ),
    alternatives=(_by_rows(),),
    shortcuts=("minidiff.backbones.transfusion.Transfusion", "minidiff.nn.masks.spans", "minidiff.nn.masks.packed"),
    hints=(
        "Four steps: rows of ids, with zeros behind the shorter ones; noisy squares put where the id is SQUARE; the "
        "mask; and two means a row. A loop over rows is needed for the first step alone.",
        "`mine = ids == square`; `noisy[mine] = ((1 - t) * squares + t * eps).flatten(0, 1)` with t of shape (B, 1, 1);"
        " the mask is `tril | mine[:, :, None] & mine[:, None]`. Nobody looks at padding behind him anyway.",
        "`wanted = F.pad(ids[:, 1:], (0, 1))`, `asked = ~torch.isin(wanted, torch.tensor([0, start, square, finish]))`,"
        " `each = F.cross_entropy(logits.mT, wanted, reduction=\"none\") * asked`; then sums over asked.sum(1).",
    ),
    expected="after 300 steps 0.85 ± 0.05 of 48 pictures are drawn as asked and 1.00 ± 0.00 of 48 are named (5 seeds); "
    "as another text or thing has it, none. Naming comes first: after 150 steps it is 0.99 ± 0.02, drawing 0.66 ± "
    "0.06.",
    trap="every one of these trains, and most of them to a lower loss: a mask that lets words see what they are asked "
    "for, or targets that never fail to come, look like progress. Only what is drawn and written tells.",
)  # fmt: skip
