"""Shared parts of pictures: colours that colour-blind readers can distinguish, a figure, and its PNG.

Source: Okabe and Ito, Color Universal Design, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
DOTS_PER_INCH = 150


def make_figure(width: float, height: float, background: str) -> Figure:
    """An empty figure, in inches; made without pyplot, so no window and no global state."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=background)


def render_png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    return content.getvalue()


def render_jpeg(pixels: np.ndarray, *, largest: int) -> bytes:
    """One grey picture, made smaller where a side has more pixels than ``largest``.

    Args:
        pixels: (H,W) float from 0 (black) to 1 (white).
    """
    from PIL import Image

    picture = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    picture.thumbnail((largest, largest))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return content.getvalue()
