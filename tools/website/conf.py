"""Sphinx's settings. The sources are what `stage.py` laid out; `build.py` calls Sphinx with both folders."""

import shutil
from importlib import metadata
from pathlib import Path

from website.docstrings import signature, to_rst

project = "minidiff"
author = copyright = "The minidiff authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
exclude_patterns = ["downloads"]
language = "en"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # execute.py has done it
nb_merge_streams = True
nb_output_stderr = "remove"
nb_ipywidgets_js = {}

viewcode_follow_imported_members = False
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "a11y-dark"
html_title = "minidiff"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False
html_theme_options = {"light_css_variables": {"font-stack--monospace": "ui-monospace, 'DejaVu Sans Mono', monospace"}}
# One file with every TeX package and its letters as SVG paths: nothing is loaded later, and no font at all.
mathjax_path = "mathjax.js"


def mathjax_file() -> Path:
    """The one script of the package that bundles MathJax."""
    files = metadata.files("sphinx-mathjax-offline") or []
    (script,) = [file.locate() for file in files if file.name == "tex-svg-full.js"]
    return Path(str(script))


def bring_mathjax(app, exception) -> None:
    if exception is None and app.builder.format == "html":
        shutil.copyfile(mathjax_file(), Path(app.outdir) / "_static" / mathjax_path)


def process_docstring(app, what, name, obj, options, lines) -> None:
    lines[:] = to_rst(lines)


def process_signature(app, what, name, obj, options, arguments, result):
    own_init = isinstance(obj, type) and "__init__" in vars(obj) and not hasattr(obj, "__dataclass_fields__")
    return signature(obj.__init__ if own_init else obj)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("build-finished", bring_mathjax)
