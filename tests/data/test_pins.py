"""Draws that shipped models and recorded numbers rest on: rules may be moved and refused prompts added, not changed."""

import zlib

import pytest
import torch

from minidiff.data.captions import STYLES, vocabulary
from minidiff.data.prompts import FAILURES, FAMILIES, LECTURE, World, minimal_pairs, place
from minidiff.data.scenes import KINDS, SHAPES


def told(values) -> int:
    return zlib.crc32(repr(values).encode())


def parts(prompt) -> tuple:
    return [(g.kind, g.colour, g.size, g.count) for g in prompt.groups], prompt.relation, prompt.absent, prompt.ground


DRAWN = {
    "shapes": {
        "empty": 371657495,
        "one": 1386162384,
        "relation": 3001566254,
        "pair": 740379465,
        "count": 3201367705,
        "counts": 1393536197,
        "several": 2184351243,
        "negation": 368352670,
        "surrounding": 4036248369,
        "sizes": 3634132193,
    },
    "all kinds": {
        "empty": 371657495,
        "one": 2405932605,
        "relation": 2092506791,
        "pair": 2265412162,
        "count": 1777687727,
        "counts": 4050931462,
        "several": 3262374177,
        "negation": 3414417485,
        "surrounding": 2790052823,
        "sizes": 1772524553,
    },
}
PAIRS = {
    "shapes": {
        "relation": 4161372554,
        "negation": 1988491202,
        "count": 2505141021,
        "length": 113500209,
        "attribute": 38881630,
        "surrounding": 3708263283,
    },
    "all kinds": {
        "relation": 2379343563,
        "negation": 1224391626,
        "count": 139553321,
        "length": 3504782040,
        "attribute": 1068040736,
        "surrounding": 4097615367,
    },
}
VOCABULARY = {
    "short": 3365288261,
    "paraphrase": 182059121,
    "long": 749202208,
    "german": 2645321411,
}
both_worlds = pytest.mark.parametrize(("kinds", "name"), [(SHAPES, "shapes"), (KINDS, "all kinds")])


@both_worlds
def test_worlds_draw_what_they_always_drew(kinds, name):
    prompts = {f: World(kinds=kinds, families=(f,)).prompts(300, 0) for f in FAMILIES}
    assert {f: told([parts(p) for p in ps]) for f, ps in prompts.items()} == DRAWN[name]


@both_worlds
def test_minimal_pairs_are_what_they_always_were(kinds, name):
    pairs = {f: minimal_pairs(f, 100, 0, World(kinds=kinds)) for f in (*FAILURES, "surrounding")}
    assert {f: told([(parts(a), parts(b)) for a, b in two]) for f, two in pairs.items()} == PAIRS[name]


def test_riding_and_snow_stand_where_they_always_stood():
    s = place(list(LECTURE.values()) * 50, 0)
    columns = torch.cat([s.kind, s.colour, s.size, s.row, s.column, s.ground[:, None]], dim=1)
    assert told(columns.tolist()) == 1228531604


@pytest.mark.parametrize("style", STYLES)
def test_vocabularies_hold_what_they_always_held(style):
    """Ids are places in the sorted list: one word more and every shipped embedding belongs to another."""
    assert told(vocabulary((style,))) == VOCABULARY[style]
