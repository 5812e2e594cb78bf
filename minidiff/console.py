"""What commands print must arrive on every console, whatever signs that can show."""

import io
import sys


def any_sign() -> None:
    """From here on a sign that the console cannot show is printed as its escape (→ as \\u2192), and raises nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's stream, or a window's, shows all of them
            stream.reconfigure(errors="backslashreplace")
