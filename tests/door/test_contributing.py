"""The examples of CONTRIBUTING.md do what the page says: they are taken from it and run."""

import re
import sys
from types import ModuleType

import pytest
import torch

from minidiff.judges.scorecard import Generate
from minidiff.nn.block import Block
from minidiff.training import fit


@pytest.fixture(scope="module")
def page(root) -> dict[str, str]:
    """{first line's comment: code} of the Python blocks."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"```python\n# (\w+|%% \[markdown\])\n(.*?)```", text, re.DOTALL))


def module(code: str, name: str) -> ModuleType:
    made = ModuleType(name)
    sys.modules[name] = made
    exec(compile(code, name, "exec"), made.__dict__)
    return made


def test_the_block_mixes_along_time_and_nowhere_else(page):
    torch.manual_seed(0)
    layer, x = module(page["block"], "example_block").AlongTime(16, 4).eval(), torch.randn(2, 3, 5, 16)
    changed = x.clone()
    changed[1, 2, 0, 0] += 1.0  # one number of one token: the same for all of them would be normed away
    moved = (layer(changed) - layer(x)).abs().amax(-1) > 1e-5
    expected = torch.zeros(2, 3, 5, dtype=torch.bool)
    expected[1, :, 0] = True
    assert torch.equal(moved, expected)
    plain = Block(16, 4).eval()  # the control: attention over all tokens reaches them all
    assert bool(((plain(changed.flatten(1, 2)) - plain(x.flatten(1, 2)))[1].abs().amax(-1) > 1e-5).all())


def test_the_system_is_short_and_starts_to_learn(page):
    code = page["system"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 60
    system = module(code, "example_system")
    losses = [p.loss for p in fit(system.MODEL.untrained(), system.MODEL.draw(), 40, bar=False, **system.MODEL.options)]
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    generate: Generate = system.pictures_of(system.MODEL.untrained())
    texts = ["a red circle", "a blue square"]
    assert generate(texts, 1.0, [0, 1]).shape == (2, 3, 16, 16)
    assert torch.allclose(generate(texts, 1.0, [0, 1])[1:], generate(texts[1:], 1.0, [1]), atol=1e-5)


@pytest.mark.stress
def test_the_system_learns_in_its_two_minutes(page, tmp_path):
    found = module(page["system"], "example_system").MODEL.train(tmp_path / "run", tmp_path / "out")
    assert found["scores"]["shows its caption"] >= 0.9
    assert found["scores"]["shows the next caption"] <= 0.25


def test_the_notebook_builds_and_runs(page, tmp_path):
    jupytext = pytest.importorskip("jupytext")
    notebook = jupytext.reads("# %% [markdown]\n" + page["%% [markdown]"], fmt="py:percent")
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 2
    exec("\n".join(code), {})
    with pytest.raises(AssertionError):  # the control: its assertion can fail
        exec("\n".join(code).replace("manual_seed(1)", "manual_seed(0)"), {})
