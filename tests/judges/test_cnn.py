"""The judge of clean pictures takes them in any precision, and nothing else."""

import pytest
import torch

from minidiff.judges.cnn import JudgeCNN
from minidiff.randomness import initialised, randn, seeded


def test_pictures_of_any_precision():
    judge = initialised(lambda: JudgeCNN(1, 10, width=4).eval(), seed=0)
    pictures = randn((3, 1, 16, 16), seeded(0)).half()
    assert torch.equal(judge(pictures), judge(pictures.float()))
    assert torch.equal(judge(pictures.double()), judge(pictures.float()))
    assert torch.equal(judge.predict(pictures.double()), judge.predict(pictures))
    assert not torch.allclose(judge(pictures), judge(pictures.flip(3)))
    for bad in (pictures[0], pictures.expand(-1, 3, -1, -1), (255 * pictures).to(torch.uint8)):
        with pytest.raises(ValueError, match="pictures: got"):
            judge(bad)
