"""The pages of systems, and the models that they ship: the one list of names in the library, for `minidiff train`."""

import importlib
from functools import cache

from minidiff.systems.shipped import Shipped
from minidiff.validate import require

PAGES = (
    "fashion",
    "scenes_unconditional",
    "scenes_captioner",
    "scenes_text",
    "latent",
    "stable_diffusion",
    "sdxl",
    "dit",
    "sprite_features",
    "latent_strings",
    "text_lm",
    "imagen",
    "dalle1",
    "unclip",
    "clip_scenes",
    "clip_sprites",
    "clip_german",
    "clip_emoji",
    "llm",
    "readers",
    "vlm",
    "ways_in",
    "transfusion",
    "hunyuan",
    "guess_codes",
    "guess",
    "corners",
    "frames",
    "scenes_any",
)


@cache
def shipped() -> dict[str, Shipped]:
    """{name: model} of every page, in the order of the pages. `ValueError` if two share a name."""
    found: dict[str, Shipped] = {}
    for page in PAGES:
        module = importlib.import_module(f"minidiff.systems.{page}")
        for model in vars(module).values():
            if isinstance(model, Shipped):
                require(found.setdefault(model.name, model) is model, "name", model.name, "a name of one model only")
    return found


def table() -> str:
    """What `minidiff train` shows: of each model its name, steps, seconds and size as shipped, and what it is for."""
    models = shipped()
    width = max(map(len, models))
    rows = [f"{'name':{width}}   steps  seconds    MB  purpose"]
    for name, model in models.items():
        entry = model.record()
        size = entry["bytes"] / 1e6
        rows.append(f"{name:{width}}  {model.steps:6d}  {entry['seconds']:7d}  {size:4.1f}  {model.purpose}")
    return "\n".join(rows)
