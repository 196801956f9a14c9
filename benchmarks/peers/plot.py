# SPDX-License-Identifier: MIT
"""The growth with RAM size as a picture. Needs matplotlib."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

#: Work, format and party of each line, with its colour, marker and label.
_LINES = {
    "save": (
        ("stream", "pyemu", "#1b6ca8", "o-", "pyemu, stream"),
        ("stream", "QEMU", "#1b6ca8", "o--", "QEMU, stream"),
        ("mapped-ram, multifd 2", "pyemu", "#c8553d", "s-", "pyemu, mapped-ram + multifd 2"),
        ("mapped-ram, multifd 2", "QEMU", "#c8553d", "s--", "QEMU, mapped-ram + multifd 2"),
        ("mapped-ram, multifd 2", "plain", "#777777", "^:", "plain copy, 2 threads"),
    ),
    "restore": (
        ("stream", "pyemu", "#1b6ca8", "o-", "pyemu, stream"),
        ("stream", "QEMU", "#1b6ca8", "o--", "QEMU, stream"),
        ("mapped-ram, multifd 2", "pyemu", "#c8553d", "s-", "pyemu, mapped-ram + multifd 2"),
        ("mapped-ram, multifd 2", "QEMU", "#c8553d", "s--", "QEMU, mapped-ram + multifd 2"),
        ("mapped-ram, multifd 2", "plain", "#777777", "^:", "plain read"),
        ("lazy", "pyemu", "#3a7d44", "d-", "pyemu, lazy: state loaded"),
    ),
}


def draw(results: dict[str, Any], path: Path) -> Path | None:
    """Draws the growth; None if nothing was measured.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    if not results["growth"]:
        return None
    try:
        import matplotlib
    except ImportError as error:
        raise RuntimeError("the plot needs matplotlib: pip install matplotlib") from error
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "pyemu"
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5.2), sharey=True, layout="constrained")
    for axis, (work, lines) in zip(axes, _LINES.items(), strict=True):
        for form, party, colour, style, label in lines:
            points = _points(results["growth"], work, form, party)
            if points:
                axis.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=5, linewidth=1.4)
        axis.set_title({"save": "Save", "restore": "Restore"}[work])
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        sizes = sorted({cell["size"] for cell in results["growth"]})
        axis.set_xticks([s / 2**30 for s in sizes], [f"{s >> 20} MiB" if s < 2**30 else f"{s >> 30} GiB" for s in sizes])
        axis.minorticks_off()
        axis.set_xlabel("guest RAM, a quarter of it zero")
        axis.grid(True, which="major", alpha=0.3)
        # Below the picture: no line is hidden whatever the figures are.
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    axes[0].set_ylabel("seconds")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _points(cells: list[dict[str, Any]], work: str, form: str, party: str) -> list[tuple[float, float]]:
    points = []
    for cell in cells:
        matches = cell["work"] == "lazy" if form == "lazy" else (cell["work"], cell["format"]) == (work, form)
        if matches and party in cell["rounds"][0]:
            key = "loaded" if form == "lazy" else "seconds"
            points.append((cell["size"] / 2**30, statistics.median(r[party][key] for r in cell["rounds"])))
    return sorted(points)
