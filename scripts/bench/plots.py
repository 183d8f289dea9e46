"""Curves as small SVG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from scripts.bench.report import title_of

Points = Mapping[int, float]

TITLES = {"cpu_us": "CPU µs per delivery"}
"""What a table has no room for."""

mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text: smaller, and readable in a diff
        "svg.hashsalt": "deltawire",  # the same curves give the same file
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def draw(path: Path, title: str, panels: Sequence[tuple[str, Mapping[str, Points]]]) -> None:
    """Draw panels side by side, both axes logarithmic.

    Args:
        path: of the SVG file.
        title: what grows along the x axis.
        panels: the figure of each, and its points by system.
    """
    figure = Figure(figsize=(3.6 * len(panels), 2.8), layout="constrained")
    for axes, (metric, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, points in lines.items():
            axes.plot(list(points), list(points.values()), marker="o", markersize=3, linewidth=1.4, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(title)
        axes.set_title(TITLES.get(metric, title_of(metric)), fontsize=10)
        axes.minorticks_off()
        axes.grid(alpha=0.3, linewidth=0.4)
        axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
