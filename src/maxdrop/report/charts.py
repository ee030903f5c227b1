"""The two charts, as SVG that a page can hold: no script, no font and nothing to load."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from maxdrop.report.facts import Facts, describe

ACCENT = "#0a66c2"
MUTED = "#a9b1bb"
INK = "#1f2933"
LINE = "#e4e7eb"

MOST_BARS = 40
_WIDE_RANGE = 20
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "maxdrop",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
_SVG = "http://www.w3.org/2000/svg"


def drop_chart(facts: Facts) -> str:
    """Drop of every trial in order, with the limit as a line; SVG."""
    shown = [t for t in facts.trials if t.drop is not None]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.4)
        titles: dict[str, str] = {}
        axes.plot([t.number for t in shown], [t.drop for t in shown], color=LINE, linewidth=1.5, zorder=1)
        for trial in shown:
            key = f"trial-{trial.number}"
            colour = ACCENT if facts.passes(trial) else MUTED
            if trial.upper is not None:
                axes.plot([trial.number] * 2, [trial.drop, trial.upper], color=colour, linewidth=1.5, zorder=2)
            fill = "white" if trial.state == "rejected" else colour
            axes.plot(
                [trial.number], [trial.drop], "o", color=colour, markerfacecolor=fill, markersize=8, gid=key, zorder=3
            )
            titles[key] = f"trial {trial.number}: {describe(trial)}, drop {trial.drop:.4g}"
        _mark_chosen(axes, facts)
        axes.axhline(facts.max_drop, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        _label_limit(axes, facts)
        _scale_drops(axes, [t.bound for t in shown if t.bound is not None], facts.max_drop)
        axes.set_xlabel("trial")
        axes.set_ylabel(f"drop ({facts.drop_type})")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.06)
        axes.grid(axis="y")
        return _to_svg(figure, titles)


def sensitivity_chart(facts: Facts) -> str:
    """Output error that each op causes alone, the largest first, coloured by what it is in the result; SVG."""
    errors = dict(sorted(facts.sensitivity.items(), key=lambda item: (-item[1], item[0]))[:MOST_BARS])
    positive = [error for error in errors.values() if error > 0]
    floor = min(positive, default=1e-12) / 3
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.9 + 0.24 * len(errors))
        titles: dict[str, str] = {}
        for row, (op, error) in enumerate(errors.items()):
            key = f"op-{row}"
            colour = MUTED if op in facts.float_ops else ACCENT
            axes.barh(row, max(error, floor) - floor, left=floor, height=0.62, color=colour, gid=None)
            axes.patches[-1].set_gid(key)
            titles[key] = f"{op}: {error:.3g} ({'float' if op in facts.float_ops else 'int8'})"
        axes.set_xscale("log")
        axes.set_xlim(left=floor)
        axes.set_yticks(range(len(errors)), [shorten(op) for op in errors])
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(len(errors) - 0.4, -0.6)
        axes.set_xlabel("error of the output when this op alone is int8 (NMSE, log scale)")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _to_svg(figure, titles)


def shorten(name: str, most: int = 44) -> str:
    """A long name with its middle left out."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9.4, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    return figure, axes


def _mark_chosen(axes: Any, facts: Facts) -> None:
    if facts.chosen is None or facts.chosen.drop is None:
        return
    at = (facts.chosen.number, facts.chosen.drop)
    axes.plot(*at, "o", markerfacecolor="none", markeredgecolor=ACCENT, markersize=15, markeredgewidth=1.6, zorder=2)
    axes.annotate("result", at, xytext=(0, 12), textcoords="offset points", ha="center", color=ACCENT, weight="bold")


def _label_limit(axes: Any, facts: Facts) -> None:
    axes.annotate(
        f"limit {facts.max_drop:g}",
        (1.0, facts.max_drop),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
    )


def _scale_drops(axes: Any, drops: list[float], limit: float) -> None:
    """Linear, or with its far end compressed when some drop is many times the limit."""
    furthest = max((abs(drop) for drop in drops), default=0.0)
    if limit > 0 and furthest > _WIDE_RANGE * limit:
        axes.set_yscale("symlog", linthresh=2 * limit, linscale=1.5)
    axes.margins(y=0.15)


def _to_svg(figure: Figure, titles: Mapping[str, str]) -> str:
    """The drawing, with a tooltip on every element that `titles` names."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        text = titles.get(element.get("id", ""))
        if text is not None:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = text
            element.insert(0, title)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    return ElementTree.tostring(root, encoding="unicode")
