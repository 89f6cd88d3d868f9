"""Pictures as PNG files, under one rule in all packages.

A picture that is there is left as it is unless --overwrite is given; only the very same one, drawn again from the same
input, is no reason to stop. The pages of a report are the exception: its pictures go with its text, and are drawn anew.
"""

import io

from matplotlib.figure import Figure


def png(figure: Figure, dots_an_inch: int) -> bytes:
    """Draw a figure; the same one gives the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_an_inch)
    return drawn.getvalue()
