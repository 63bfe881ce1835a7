"""Bars and points of what was measured, as SVG."""
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib


@dataclass(frozen=True)
class Panel:
    """Bars of one quantity, one for each form.

    Attributes:
        name (str): Of the quantity, with its unit.
        values (list[float | None]): One for each form; None: not measured.
        texts (list[str]): Written at the bars, as in the table.
        color (str): As for matplotlib.
        intervals (list[tuple[float, float]]): Drawn as lines; empty without.
    """
    name: str
    values: list[float | None]
    texts: list[str]
    color: str = 'C0'
    intervals: list[tuple[float, float] | None] = field(default_factory=list)


@dataclass(frozen=True)
class Point:
    """A form in a plane of two quantities.

    Attributes:
        x (float): What it costs.
        y (float): How good it is.
        label (str): Written beside it.
        group (str): Forms of one have one colour.
        low (float | None): Of an interval of ``x``.
        high (float | None): Of an interval of ``x``.
    """
    x: float
    y: float
    label: str
    group: str
    low: float | None = None
    high: float | None = None


@contextmanager
def _plots() -> Iterator[Any]:
    """Matplotlib, so that equal numbers give equal files."""
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    with plt.rc_context({
            'svg.hashsalt': 'mmcompress',
            'svg.fonttype': 'none',
            'font.size': 9
    }):
        yield plt


def draw_panel(axes: Any, labels: Sequence[str], panel: Panel) -> None:
    """Bars of one quantity, from top to bottom.

    Args:
        axes (Axes): Of matplotlib; those that share its labels are inverted
            by the caller.
        labels (Sequence[str]): Names of the forms, each of its own.
        panel (Panel): The quantity.
    """
    widths = [value or 0.0 for value in panel.values]
    axes.barh(labels, widths, color=panel.color)
    ends = list(widths)
    for i, interval in enumerate(panel.intervals):
        if interval is not None:
            axes.plot(interval, [labels[i]] * 2, color='black', linewidth=1)
            ends[i] = max(interval)
    for end, label, text in zip(ends, labels, panel.texts):
        axes.annotate(
            text, (end, label),
            xytext=(3, 0),
            textcoords='offset points',
            va='center')
    axes.margins(x=0.35)
    axes.set_title(panel.name, fontsize=10)
    axes.set_xticks([])
    axes.tick_params(left=False)
    axes.spines[['top', 'right', 'bottom']].set_visible(False)


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata=dict(Date=None))
    return file.getvalue()


def bars(labels: Sequence[str], panel: Panel) -> str:
    """One panel as SVG.

    Args:
        labels (Sequence[str]): Names of the forms.
        panel (Panel): What to draw.
    """
    with _plots() as plt:
        figure, axes = plt.subplots(
            figsize=(4.6, 0.6 + 0.32 * len(labels)), layout='constrained')
        draw_panel(axes, labels, panel)
        axes.invert_yaxis()
        text = _svg(figure)
        plt.close(figure)
    return text


def panels_in_a_row(labels: Sequence[str], panels: Sequence[Panel], title: str,
                    path: str) -> None:
    """Several panels beside each other, in a file.

    Args:
        labels (Sequence[str]): Names of the forms.
        panels (Sequence[Panel]): What to draw.
        title (str): Line above them.
        path (str): Where to write; the suffix says the format.
    """
    with _plots() as plt:
        figure, all_axes = plt.subplots(
            1,
            len(panels),
            figsize=(10, 1 + 0.45 * len(labels)),
            sharey=True,
            layout='constrained')
        for axes, panel in zip(all_axes, panels):
            draw_panel(axes, labels, panel)
        # shared: inverts all
        all_axes[0].invert_yaxis()
        figure.suptitle(title, fontsize=10)
        figure.savefig(
            path,
            metadata=dict(Date=None) if str(path).endswith('.svg') else None)
        plt.close(figure)


def points(found: Sequence[Point], x: str, y: str, title: str = '') -> str:
    """Points in a plane, as SVG.

    Args:
        found (Sequence[Point]): What to draw; forms of a group have one
            colour.
        x (str): Name of what it costs; the axis is logarithmic.
        y (str): Name of how good it is.
        title (str): Line above.
    """
    groups = list(dict.fromkeys(point.group for point in found))
    with _plots() as plt:
        figure, axes = plt.subplots(figsize=(5.4, 3.8), layout='constrained')
        for i, group in enumerate(groups):
            members = [p for p in found if p.group == group]
            axes.scatter([p.x for p in members], [p.y for p in members],
                         color=f'C{i}', label=group)  # yapf: disable
            for p in members:
                if p.low is not None:
                    axes.plot([p.low, p.high], [p.y, p.y], color=f'C{i}')
                axes.annotate(
                    p.label, (p.x, p.y),
                    xytext=(4, 4),
                    textcoords='offset points',
                    fontsize=8)
        axes.set_xscale('log')
        # numbers instead of powers of ten
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('{x:g}')
        axes.tick_params(axis='x', which='minor', labelsize=7)
        axes.margins(x=0.25, y=0.15)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        if title:
            axes.set_title(title, fontsize=9)
        if len(groups) > 1:
            axes.legend(fontsize=8)
        text = _svg(figure)
        plt.close(figure)
    return text
