"""Charts as SVG texts, drawn by matplotlib without a window; each axis is named with its unit by whoever draws it.

The same data give the same bytes: ids are salted by a constant, no date is written, and text stays text.
"""

# B scenario, T point along the horizontal axis

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
"""Told apart by color-blind readers too. Source: Okabe, Ito, "Color Universal Design" (2008)."""

BANDS: Final = ((0.05, 0.95, 0.16), (0.25, 0.75, 0.32))
"""Quantiles of a fan's bands, and how opaque each is."""

_WIDTH: Final = 10.6  # inches of a whole row
_STYLE: Final[Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "penstock",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """Hold a line, float64 [T], with a band from `low` to `high` around it where they are given."""

    label: str
    values: Floats
    color: str
    low: Floats | None = None
    high: Floats | None = None
    is_dashed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Fan:
    """Hold a sample float64 [B, T], of which the median and the bands of `BANDS` are drawn."""

    sample: Floats
    color: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Hold one layer of a stack, float64 [T]."""

    label: str
    values: Floats
    color: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Hold one figure with its interval, drawn behind the last point: what the lines come to in the end."""

    label: str
    value: float
    low: float
    high: float
    color: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Hold one picture of a chart: what is drawn in it, and how its axes are named, units included.

    `zero` draws a line at zero. A horizontal axis counts from 1.
    """

    title: str
    x_label: str
    y_label: str
    content: Sequence[Line | Fan | Layer | Mark]
    zero: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Hold values float64 [B] whose distribution is drawn."""

    label: str
    values: Floats
    color: str


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """Return a color for each name, by its place.

    >>> colors_of(["ts_ddr", "sddp"])
    {'ts_ddr': '#0072b2', 'sddp': '#d55e00'}
    """
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}


def draw_panels(rows: Sequence[Sequence[Panel]], *, description: str, row_height: float = 2.5) -> str:
    """Return a grid of panels as SVG; those of a row share their vertical axis, so that they can be compared.

    Args:
        rows: of equally many panels.
        description: what the chart shows, in words, for those who cannot see it.
        row_height: in inches.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, row_height * len(rows) + 0.5), layout="constrained")
        grid = figure.subplots(len(rows), len(rows[0]), sharex=True, sharey="row", squeeze=False)
        for axes_of_row, panels in zip(grid, rows, strict=True):
            for place, (axes, panel) in enumerate(zip(axes_of_row, panels, strict=True)):
                _fill(axes, panel, is_left=place == 0, is_lowest=panels is rows[-1])
        figure.align_ylabels(grid[:, 0].tolist())
        _share_legend(figure, grid.ravel().tolist())
        return _svg(figure, description)


def draw_distributions(
    samples: Sequence[Sample], *, x_label: str, description: str, zero: bool = False, height: float = 3.0
) -> str:
    """Return the share of scenarios below each value, one step line for each sample, with its mean as a dot.

    `zero` draws a line at zero.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for sample in samples:
            ordered = np.sort(sample.values)
            share = np.arange(1, ordered.size + 1) / ordered.size
            axes.step(ordered, share, where="post", color=sample.color, linewidth=1.6, label=sample.label)
            mean = ordered.mean()
            below = np.searchsorted(ordered, mean) / ordered.size
            axes.plot([mean], [below], "o", color=sample.color, markersize=6)
        if zero:
            axes.axvline(0.0, color="#444444", linewidth=0.9)
        axes.set_xlabel(x_label)
        axes.set_ylabel("share of scenarios below")
        axes.set_ylim(0.0, 1.0)
        _group_thousands(axes.xaxis)
        _share_legend(figure, [axes])
        return _svg(figure, description)


def _fill(axes: Axes, panel: Panel, *, is_left: bool, is_lowest: bool) -> None:
    layers = [one for one in panel.content if isinstance(one, Layer)]
    if layers:
        _draw_stack(axes, layers)
    for one in panel.content:
        if isinstance(one, Fan):
            _draw_fan(axes, one)
        elif isinstance(one, Line):
            _draw_line(axes, one)
    _draw_marks(axes, panel)
    if panel.zero:
        axes.axhline(0.0, color="#444444", linewidth=0.9)
    axes.set_title(panel.title)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    _group_thousands(axes.yaxis)
    if is_left:
        axes.set_ylabel(panel.y_label)
    if is_lowest:
        axes.set_xlabel(panel.x_label)


def _draw_fan(axes: Axes, fan: Fan) -> None:
    places = _places(fan.sample.shape[1])
    for low, high, opacity in BANDS:
        bottom, top = np.quantile(fan.sample, (low, high), axis=0)
        label = f"{100 * low:.0f} to {100 * high:.0f} % of scenarios"
        axes.fill_between(places, bottom, top, color=fan.color, alpha=opacity, linewidth=0, label=label)
    axes.plot(places, np.median(fan.sample, axis=0), color=fan.color, linewidth=1.7, label="median")


def _draw_line(axes: Axes, line: Line) -> None:
    places = _places(line.values.size)
    if line.low is not None and line.high is not None:
        axes.fill_between(places, line.low, line.high, color=line.color, alpha=0.16, linewidth=0)
    style = "--" if line.is_dashed else "-"
    axes.plot(places, line.values, style, color=line.color, linewidth=1.7, label=line.label)


def _draw_marks(axes: Axes, panel: Panel) -> None:
    ends = [one.values.size for one in panel.content if isinstance(one, Line)]
    for place, mark in enumerate(one for one in panel.content if isinstance(one, Mark)):
        at = max(ends, default=1) * (1.015 + 0.012 * place)
        reach = [[mark.value - mark.low], [mark.high - mark.value]]
        axes.errorbar(
            [at], [mark.value], yerr=reach, fmt="D", color=mark.color, markersize=5, capsize=3, label=mark.label
        )


def _draw_stack(axes: Axes, layers: Sequence[Layer]) -> None:
    places = _places(layers[0].values.size)
    axes.stackplot(
        places,
        [layer.values for layer in layers],
        colors=[layer.color for layer in layers],
        labels=[layer.label for layer in layers],
        alpha=0.85,
        linewidth=0,
    )


def _places(count: int) -> Floats:
    return np.arange(1, count + 1, dtype=np.float64)


def _group_thousands(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")))


def _share_legend(figure: Figure, all_axes: Sequence[Axes]) -> None:
    """Put one legend above all panels; bands that differ in color alone are named once, in gray."""
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        columns = min(len(handles), 6)
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=columns)


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def _svg(figure: Figure, description: str) -> str:
    """Return the figure as an SVG element that scales with the page and says what it shows."""
    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    element = text[text.index("<svg") :]
    named = element.replace("<svg", f'<svg role="img" aria-label="{_attribute(description)}"', 1)
    return _scaling(named)


def _scaling(svg: str) -> str:
    """Leave the size to the page: the view box keeps the proportions.

    >>> _scaling('<svg width="10pt" height="5pt" viewBox="0 0 10 5"><path/></svg>')
    '<svg viewBox="0 0 10 5"><path/></svg>'
    """
    head, end, rest = svg.partition(">")
    words = [word for word in head.split(" ") if not word.startswith(("width=", "height="))]
    return " ".join(words) + end + rest


def _attribute(text: str) -> str:
    return escape(text, quote=True)
