"""Films hold the pixels they were given, play in their order, and mark what was read where it was read."""

from base64 import b64decode

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.data.clips import ClipPrompt, ClipWorld, Mover, place, render
from minidiff.judges.clips import tracks
from minidiff.show import films

PASSING = ClipPrompt((Mover("circle", "red", None), Mover("square", "blue", None)), "passing behind")
CIRCLING = ClipPrompt((Mover("star", "green", "circling clockwise"),))


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def clips():
    return render(place([PASSING, CIRCLING, CIRCLING], 0))


def test_frames_stand_side_by_side_in_order_and_are_clipped():
    x = torch.linspace(-1.5, 1.5, 3 * 2).reshape(3, 1, 2, 1, 1).expand(3, 1, 2, 4, 6)
    sheet = films.frames(x, columns=2, scale=3)
    assert sheet.shape == (2, 2 * (4 * 3 + 4), 2 * (6 * 3 + 4), 3)
    expected = ((x[:, 0, :, 0, 0].clamp(-1, 1) + 1) / 2 * 255).round().numpy().astype(np.uint8)  # (clips, frames)
    for t in range(2):
        middle = sheet[t, 8::16, 11::22, 0]
        assert middle.reshape(-1)[:3].tolist() == expected[:, t].tolist()
        assert middle[1, 1] == 255  # nobody stands there
    assert (sheet[:, :2] == 255).all()  # the gap


def test_odd_sizes_become_even_ones():
    assert films.frames(torch.zeros(1, 3, 2, 5, 7), scale=1).shape == (2, 10, 12, 3)


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_a_video_holds_the_frames(clips, container):
    pytest.importorskip("av")
    pictures = films.frames(clips)
    video = films.encode(pictures, container=container)
    again = films.decode(video)
    assert again.shape == pictures.shape
    away = lambda a, b: float(np.abs(a.astype(int) - b.astype(int)).mean())
    assert away(again, pictures) < 1.5
    assert away(again, pictures[::-1]) > 3 * away(again, pictures)  # the control: played backwards it is another film
    assert len(video) < 20_000


@pytest.mark.parametrize("fps", [1, 8, 12.5, 60])
def test_a_video_lasts_as_long_as_its_frames(clips, fps):
    av = pytest.importorskip("av")
    import io

    with av.open(io.BytesIO(films.encode(films.frames(clips, scale=2), fps))) as file:
        stream = file.streams.video[0]
        times = [float(frame.pts * stream.time_base) for frame in file.decode(video=0)]
    assert np.diff(times) == pytest.approx([1 / fps] * 7, rel=0.01)


def test_the_output_carries_the_video_and_a_strip(clips, monkeypatch):
    pytest.importorskip("av")
    shown = []
    monkeypatch.setattr(films, "display", lambda bundle, raw: shown.append((bundle, raw)))
    films.film(clips, names=["one", "two", "three"], columns=2)
    ((bundle, raw),) = shown
    assert raw
    assert bundle["text/plain"] == "[film of 8 frames: one; two; three]"
    video = b64decode(bundle["text/html"].split("base64,")[1].split('"')[0])
    assert films.decode(video).shape == films.frames(clips, 2).shape
    assert all(word in bundle["text/html"] for word in ("autoplay", "loop", "muted", 'type="video/mp4"'))
    assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_names_cannot_break_out_of_the_page(clips):
    pytest.importorskip("av")
    html = films.output(clips[:1], names=["<script>alert(1)</script>"])["text/html"]
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_strip_shows_every_frame_where_it_belongs(clips):
    ax = films.strip(clips, names=["a", "b", "c"])
    assert len(ax.images) == 3 * 8
    for n, image in enumerate(ax.images):
        i, k = divmod(n, 8)
        wanted = (clips[i, :, k].permute(1, 2, 0) + 1) / 2
        assert np.allclose(np.asarray(image.get_array()), wanted.numpy(), atol=1e-6)
        left, right, bottom, top = image.get_extent()
        assert (left, right - left, bottom - top) == (k * 17, 16, pytest.approx(16))
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    tops = [image.get_extent()[3] for image in ax.images[::8]]
    assert tops == sorted(tops)


def test_marks_are_where_things_were_read(clips):
    told = tracks(clips)
    ax = films.strip(clips, told=told)
    n = sum(len(each.tracks) for each in told) * 8
    assert len(ax.lines) == n == 32
    red = [track.kind for track in told[0].tracks].index("circle")
    track = told[0].tracks[red]
    for k in range(8):
        mark = ax.lines[2 * k + red]
        row, column = track.places[k].tolist()
        assert mark.get_xdata()[0] == k * 17 + column + 0.5
        assert mark.get_ydata()[0] == 1 + row + 0.5
        assert (mark.get_markerfacecolor() == "none") == (not bool(track.seen[k]))
    assert not bool(track.seen.all())  # behind the square: rings


def test_traces_follow_the_tracks_and_say_what_they_are(clips):
    told = tracks(clips)
    ax = films.traces(clips[1], told[1], title="round")
    assert ax.get_title() == "round" or ax.get_title(loc="left") == "round"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["green star: circling clockwise"]
    line = ax.lines[0]
    places = told[1].tracks[0].places
    assert np.allclose(line.get_xdata(), places[:, 1] + 0.5)
    assert np.allclose(line.get_ydata(), places[:, 0] + 0.5)
    (empty,) = tracks(torch.full((1, 3, 8, 16, 16), 0.9))
    assert films.traces(torch.full((3, 8, 16, 16), 0.9), empty).get_legend() is None
    wide = render(place(ClipWorld(cells=(16, 24)).prompts(1, 0), 1, cells=(16, 24)), 32)
    ax = films.traces(wide[0], tracks(wide)[0])
    assert ax.get_xlim() == (0, 48)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.sampled_from((torch.float32, torch.uint8)))
def test_what_is_no_clip_is_refused_by_name(shape, dtype):
    x = torch.zeros(shape, dtype=dtype)
    good = len(shape) == 5 and shape[0] > 0 and shape[1] in (1, 3) and min(shape[2:]) > 0
    if good and dtype == torch.float32:
        assert films.frames(x, scale=1).dtype == np.uint8
    else:
        with pytest.raises(ValueError, match=r"^clips: got .*, expected shape \(B, 1 or 3, T, H, W\)"):
            films.frames(x)


def test_bad_input_is_named(clips):
    with pytest.raises(ValueError, match="names: got 1 of them, expected none, or 3"):
        films.strip(clips, names=["one"])
    with pytest.raises(ValueError, match="told: got 1 of them, expected none, or 3"):
        films.strip(clips, told=tracks(clips[:1]))
    with pytest.raises(ValueError, match="clip: got float32 tensor"):
        films.traces(clips, tracks(clips)[0])
    with pytest.raises(ValueError, match="scale: got int 0"):
        films.frames(clips, scale=0)
    with pytest.raises(ValueError, match="columns: got int -1"):
        films.frames(clips, columns=-1)
    pictures = films.frames(clips)
    for bad, name in (
        ({"container": "gif"}, "container: got 'gif'"),
        ({"fps": 0}, "fps: got int 0"),
        ({"fps": float("nan")}, "fps: got float nan"),
    ):
        with pytest.raises(ValueError, match=name):
            films.encode(pictures, **bad)
    for wrong in (pictures[:, 1:], pictures[0], pictures.astype(float), torch.zeros(1)):
        with pytest.raises(ValueError, match=r"pictures: got .*, expected uint8"):
            films.encode(wrong)
