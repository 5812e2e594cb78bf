"""The scorecard of clips: of a perfect generator, of one that does not listen, of mixed frames; and the measures."""

import math

import pytest
import torch

from minidiff.data.clip_captions import captions
from minidiff.data.clips import ClipPrompt, ClipWorld, Mover, place, render
from minidiff.judges.clip_cnn import LABELS, JudgeClips, labelled, labels
from minidiff.judges.clip_measures import flicker, frame_correlation, identity
from minidiff.judges.clip_scorecard import (
    ASKED,
    QUESTIONS,
    Answers,
    answer,
    measures,
    said,
    scorecard,
    shares,
    shuffled,
)
from minidiff.judges.clips import sightings, tracks
from minidiff.judges.frechet import frechet
from minidiff.randomness import initialised, randn, seeded

N = 24


def told_by(heard):
    """A generator that draws, for each caption, what `heard` makes of the list of prompts."""

    def generate(texts, w, seeds):
        return render(place(heard([PROMPTS[text] for text in texts]), 3))

    return generate


PROMPTS: dict[str, ClipPrompt] = {}


@pytest.fixture(scope="module", autouse=True)
def _words():
    """Every prompt that these tests ask for, by its captions."""
    for question in QUESTIONS:
        family, motions = ASKED[question]
        asked = ClipWorld(motions=motions, families=(family,)).prompts(N, 0, "test")
        for style in ("short", "long"):
            PROMPTS.update(zip(captions(asked, style), asked))
    for family in ClipWorld().families:
        asked = ClipWorld(families=(family,)).prompts(N, 0, "test")
        PROMPTS.update(zip(captions(asked), asked))


@pytest.fixture(scope="module")
def cards():
    perfect, deaf = told_by(lambda prompts: prompts), told_by(lambda prompts: prompts[1:] + prompts[:1])
    return scorecard(perfect, ClipWorld(), n=N), scorecard(deaf, ClipWorld(), n=N)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_perfect_generator_answers_everything_and_one_that_does_not_listen_does_not(cards, question):
    perfect, deaf = cards
    assert perfect.answers[question].right.right >= N - 1
    assert deaf.answers[question].right.share < 0.4
    assert perfect.answers[question].right.asked == N
    # What the perfect one scores for the next caption is what the deaf one scores for its own, and the other way round.
    assert perfect.answers[question].other.share < 0.4
    assert len(deaf.failures[question]) == 8
    caption, told, clip = deaf.failures[question][0]
    assert caption in PROMPTS
    assert isinstance(told, str)
    assert clip.shape == (3, 8, 16, 16)


def test_mixed_frames_answer_no_question_of_motion(cards):
    perfect, _ = cards
    for question in set(QUESTIONS) - {"one object", "two objects"}:
        assert perfect.answers[question].shuffled.share < 0.2, question
    assert "frames shuffled" in str(perfect)
    assert len(str(perfect).splitlines()) == len(QUESTIONS)


def test_shares_by_family_with_both_controls():
    found = shares(told_by(lambda prompts: prompts), ClipWorld(), n=N)
    assert set(found) == set(ClipWorld().families)
    for family, each in found.items():
        assert isinstance(each, Answers)
        assert each.right.right >= N - 1
        assert each.other.share < 0.3
        assert each.shuffled.share < (0.5 if family == "one" else 0.2)  # what stands still does so in any order


def test_questions_ask_for_one_thing_at_a_time():
    left = ClipPrompt((Mover("circle", "red", "moving left slowly"),))
    fast = ClipPrompt((Mover("circle", "red", "moving left quickly"),))
    right = ClipPrompt((Mover("circle", "red", "moving right slowly"),))
    blue = ClipPrompt((Mover("circle", "blue", "moving left slowly"),))
    (told,) = tracks(render(place([left], 0)))
    for question, expected in (
        ("one object", (True, True, True, False)),
        ("direction", (True, True, False, False)),
        ("speed", (True, False, False, False)),
    ):
        assert tuple(answer(question, p, told) for p in (left, fast, right, blue)) == expected
    assert said(told) == "red circle moving left slowly"


def test_what_was_read_in_words():
    passing = ClipPrompt((Mover("circle", "red", None), Mover("square", "blue", None)), "passing behind")
    (told,) = tracks(render(place([passing], 0)))
    assert said(told).endswith(": red circle passing behind the other")
    (noise,) = tracks(randn((1, 3, 8, 16, 16), seeded(0)))
    assert said(noise).startswith("unreadable (")


def test_shuffled_leaves_no_clip_in_order_and_keeps_every_frame():
    seen = sightings(render(place(ClipWorld().prompts(40, 0), 1)))
    mixed = shuffled(seen)
    moves = (seen.clips[:, :, 1:] != seen.clips[:, :, :-1]).flatten(1).any(1)
    changed = (mixed.clips != seen.clips).flatten(1).any(1)
    assert bool(changed[moves].float().mean() > 0.9)  # frames may be equal
    frames = [each.clips.sum((1, 3, 4)).sort(1).values for each in (mixed, seen)]  # (B, T)
    torch.testing.assert_close(*frames)


# ---------------------------------------------------------------- measures


def test_flicker_is_root_two_times_the_noise_and_nothing_that_stays():
    prompts = ClipWorld(families=("one",)).prompts(12, 0)
    x = render(place(prompts, 1))
    assert float(flicker(x).max()) < 1e-6
    grey = torch.full((4, 3, 8, 16, 16), 0.5)  # far from the ends, so that nothing is clipped
    for sigma in (0.02, 0.05):
        noisy = grey + sigma * randn(grey.shape, seeded(0))
        still = grey + sigma * randn((4, 3, 1, 16, 16), seeded(0))
        torch.testing.assert_close(flicker(noisy), torch.full((4,), math.sqrt(2) * sigma), rtol=0.05, atol=0)
        assert float(flicker(still).max()) == 0


def test_frame_correlation_of_an_autoregression_is_its_coefficient():
    for rho in (0.0, 0.5, 0.9):
        frames, g = [randn((4, 3, 64, 64), seeded(0))], seeded(1)
        for _ in range(7):
            frames.append(rho * frames[-1] + math.sqrt(1 - rho**2) * randn(frames[0].shape, g))
        x = torch.stack(frames, 2)
        for lag in (1, 2):
            found = frame_correlation(x, lag)
            torch.testing.assert_close(found, torch.full((4,), rho**lag, dtype=torch.float64), rtol=0, atol=0.02)
    still = randn((2, 3, 1, 16, 16), seeded(0)).expand(-1, -1, 8, -1, -1)
    torch.testing.assert_close(frame_correlation(still), torch.ones(2, dtype=torch.float64))


def test_measures_of_drawn_clips_and_of_clips_whose_frames_come_from_others():
    prompts = ClipWorld(families=("one",)).prompts(40, 0)
    x = render(place(prompts, 1))
    found = measures(x, prompts)
    assert found["shows its caption"] == found["objects right"] == found["motion right"] == found["identity kept"] == 1
    assert found["flicker"] < 1e-6
    assert found["frame correlation"] > 0.6
    mixed = torch.stack([x[:, :, t].roll(t, 0) for t in range(8)], 2)
    broken = measures(mixed, prompts)
    assert broken["shows its caption"] == 0
    assert broken["frame correlation"] < 0.4
    assert broken["objects right"] < 0.1


def test_identity_counts_sightings():
    red = render(place([ClipPrompt((Mover("circle", "red"),))], 0))
    blue = render(place([ClipPrompt((Mover("circle", "blue"),))], 0))
    x = torch.cat([red[:, :, :6], blue[:, :, 6:]], 2)
    (told,) = tracks(x)
    assert identity(told) == pytest.approx(6 / 8)
    (empty,) = tracks(torch.full_like(x, 0.9))
    assert math.isnan(identity(empty))


# ---------------------------------------------------------------- the judge that learns


def test_labels_name_what_a_prompt_says():
    two = ClipPrompt((Mover("circle", "red", "still"), Mover("star", "red", "circling clockwise")))
    meet = ClipPrompt((Mover("circle", "red", None), Mover("cat", None, None)), "meeting")
    told = [{LABELS[i] for i in row.nonzero().flatten().tolist()} for row in labels([two, meet])]
    assert told == [{"circle", "star", "red", "still", "circling clockwise"}, {"circle", "cat", "red", "meeting"}]


def test_the_judge_learns_and_looks_at_the_order_of_frames():
    motions = ("moving left quickly", "moving right quickly")
    world = ClipWorld(kinds=("circle",), colours=("red", "blue", "green"), motions=motions, families=("one",))
    judge = initialised(lambda: JudgeClips(width=6), 0)
    draw, g = labelled(world, 16), seeded(0)
    optimizer = torch.optim.Adam(judge.parameters(), lr=4e-3)
    for _ in range(200):
        optimizer.zero_grad()
        judge.loss(**draw(g)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        rows = [labelled(world, 64)(seeded(seed)) for seed in (8, 9)]
        (a, b), y = (row["x0"] for row in rows), rows[0]["y"]
        left = LABELS.index("moving left quickly")
        assert float((judge.predict(a)[:, left] == (y[:, left] == 1)).double().mean()) > 0.95
        # Backwards, a clip shows the other motion: the control of what the judge goes by.
        assert float((judge.predict(a.flip(2))[:, left] == (y[:, left] == 1)).double().mean()) < 0.05
        floor = frechet(judge.features(a), judge.features(b))
        still = b[:, :, :1].expand(-1, -1, 8, -1, -1)
        assert frechet(judge.features(a), judge.features(still)) > 5 * floor
    with pytest.raises(ValueError, match="clips: got float32 tensor of shape \\(2, 3, 16, 16\\)"):
        judge(a[:2, :, 0])


def test_bad_questions_are_named():
    told = tracks(torch.full((1, 3, 8, 16, 16), 0.9))[0]
    with pytest.raises(ValueError, match="question: got 'beauty'"):
        answer("beauty", ClipPrompt((Mover("circle", "red"),)), told)
    with pytest.raises(ValueError, match="n: got int 1, expected an integer ≥ 2"):
        scorecard(lambda texts, w, seeds: torch.zeros(0), ClipWorld(), n=1)
    with pytest.raises(ValueError, match="generate: got float32 tensor of shape \\(2, 3, 16, 16\\), expected 2 clips"):
        scorecard(lambda texts, w, seeds: torch.zeros(2, 3, 16, 16), ClipWorld(), n=2)
    with pytest.raises(ValueError, match="lag: got 8"):
        frame_correlation(torch.zeros(1, 3, 8, 16, 16), 8)
    with pytest.raises(ValueError, match="clips: got 1 frame"):
        flicker(torch.zeros(1, 3, 1, 16, 16))
