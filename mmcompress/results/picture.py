"""What forms of a model find in images, side by side."""
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from .metrics import main_metric
from .record import Form
from .scenes import SCENES, Scenes
from .subjects import Loaded, Subject, load, validation_data
from .tables import metric_text

SCORE = 0.3
# inches of an image, and what makes its text as large as it is
WIDTH, DPI = 3.4, 140
TRUTH = 'ground truth'
# named below segmentations
MOST_CLASSES = 18
# how many guesses of a classifier are shown
GUESSES = 3


@contextmanager
def _same_colors() -> Iterator[None]:
    """Let what visualizers draw by chance be the same each time."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _palette(meta: Mapping, num: int) -> list[tuple]:
    """A colour for each class; the data set's, if it is of these classes."""
    own = meta.get('palette') or ()
    if len(own) == num:
        return [tuple(color) for color in own]
    colors = (
        matplotlib.colormaps['tab10'](range(num)) if num <= 10 else
        matplotlib.colormaps['turbo'](np.linspace(0.05, 0.95, num)))
    return [tuple(int(255 * c) for c in color[:3]) for color in colors]


class _Boxes:
    """Draws detections.

    Args:
        scenes (Scenes): The images.
        found (list): What the first model finds in them.
    """

    def __init__(self, scenes: Scenes, found: list[InstanceData]) -> None:
        from mmdet.visualization import DetLocalVisualizer
        self.visualizer = DetLocalVisualizer(
            line_width=2, alpha=0.9, text_color=(255, 255, 255))
        classes = scenes.meta.get('classes') or ()
        self.visualizer.dataset_meta = dict(
            classes=classes, palette=_palette(scenes.meta, len(classes)))
        self.least = _threshold([f.scores for f in found],
                                sum(map(len, scenes.truths())))
        self.caption = f'boxes of a score of at least {self.least:.2g}'

    def __call__(self, axes, image: np.ndarray, instances: InstanceData,
                 is_truth: bool) -> None:
        """Draw into axes."""
        if 'scores' in instances:
            instances = instances[instances.scores >= self.least]
        # a box beyond the border would make the drawing larger
        height, width = image.shape[:2]
        instances.bboxes = instances.bboxes.clip(0,
                                                 (width - 1, height - 1) * 2)
        meta = self.visualizer.dataset_meta
        with _same_colors():
            drawn = self.visualizer._draw_instances(image, instances,
                                                    meta['classes'],
                                                    meta['palette'])
        axes.imshow(drawn)


def _threshold(scores: list[np.ndarray], number: int) -> float:
    """The usual least score; or that of as many finds as are right.

    A model that was trained for a short time is sure of nothing.

    Args:
        scores (list[np.ndarray]): Of what was found, by image.
        number (int): How many there are to find.
    """
    best = np.sort(np.concatenate([s.ravel() for s in scores]))[::-1]
    if not len(best) or not number:
        return SCORE
    return min(SCORE, float(best[min(number, len(best)) - 1]))


class _Overlay:
    """Draws classes of pixels over the image."""
    caption = ''

    def __init__(self, scenes: Scenes, found: list) -> None:
        from mmseg.visualization import SegLocalVisualizer
        self.visualizer = SegLocalVisualizer(alpha=0.6)
        self.classes = scenes.meta.get('classes') or ()
        self.palette = _palette(scenes.meta, len(self.classes))
        self.pixels: Counter = Counter()

    def __call__(self, axes, image: np.ndarray, labels, is_truth) -> None:
        """Draw into axes."""
        self.pixels.update(
            labels.data[labels.data < len(self.classes)].flatten().tolist())
        axes.imshow(
            self.visualizer._draw_sem_seg(
                image, labels, self.classes, self.palette, with_labels=False))

    def legend(self) -> dict[str, tuple]:
        """Colours of the classes that have the most pixels."""
        return {
            self.classes[i]: tuple(c / 255 for c in self.palette[i])
            for i in sorted(
                i for i, _ in self.pixels.most_common(MOST_CLASSES))
        }


class _Skeletons:
    """Draws keypoints."""

    def __init__(self, scenes: Scenes, found: list) -> None:
        from mmpose.visualization import PoseLocalVisualizer
        few = len(scenes.meta.get('keypoint_id2name') or ()) < 40
        self.visualizer = PoseLocalVisualizer(
            radius=4 if few else 2, line_width=2 if few else 1)
        self.visualizer.set_dataset_meta(scenes.meta)
        visible = [t.keypoints_visible > 0 for t in scenes.truths()]
        self.least = _threshold([f.keypoints_visible for f in found],
                                int(sum(v.sum() for v in visible)))
        self.caption = f'keypoints of a score of at least {self.least:.2g}'

    def __call__(self, axes, image: np.ndarray, instances, is_truth) -> None:
        """Draw into axes."""
        least = SCORE if is_truth else self.least
        axes.imshow(
            self.visualizer._draw_instances_kpts(image, instances, least))


class _Guesses:
    """Draws bars of scores below the image."""
    caption = 'green: what is right'
    width = 2.2
    below = 0.34

    def __init__(self, scenes: Scenes, found: list) -> None:
        self.classes = scenes.meta.get('classes') or ()
        self.truth: list[int] = []

    def _name(self, label: int) -> str:
        known = label < len(self.classes)
        name = str(self.classes[label]) if known else f'class {label}'
        return textwrap.shorten(name.replace('_', ' '), 24, placeholder='...')

    def __call__(self, axes, image: np.ndarray, scores, is_truth) -> None:
        """Draw the image into axes."""
        axes.imshow(image)
        if is_truth:
            self.truth = scores

    def under(self, axes, scores, is_truth) -> None:
        """Draw the best guesses, or what is right, into axes."""
        if is_truth:
            text = ',\n'.join(self._name(i) for i in scores[:GUESSES])
            axes.text(0.5, 0.95, text, ha='center', va='top', fontsize=9)
            return
        best = np.argsort(-scores, kind='stable')[:GUESSES]
        colors = ['#8fd18f' if i in self.truth else '0.85' for i in best]
        axes.barh(range(len(best)), scores[best], color=colors)
        for row, label in enumerate(best):
            text = f' {self._name(label)} {100 * scores[label]:.0f} %'
            axes.text(0, row, text, va='center', fontsize=8)
        axes.set(xlim=(0, 1), ylim=(GUESSES - 0.5, -0.5))


_DRAWN = dict(
    mmdet=_Boxes, mmseg=_Overlay, mmpose=_Skeletons, mmpretrain=_Guesses)


def _shown(subjects: Sequence[Subject | Loaded]) -> list[Loaded]:
    """The first and the last form, ready to run."""
    ends = [subjects[0], subjects[-1]] if len(subjects) > 1 else subjects[:1]
    return [s if isinstance(s, Loaded) else load(s) for s in ends]


def _titles(loaded: list[Loaded], forms: Sequence[Form],
            metric: str) -> list[str]:
    """Names of the columns, with what was measured."""
    by_name = {form.name: form for form in forms}
    titles = [TRUTH]
    for one in loaded:
        name, bits = one.subject.name, one.subject.bits
        title = name if bits in ('float', name) else f'{name}, {bits}'
        form = by_name.get(name)
        key = metric or (main_metric(form.metrics) if form else '')
        text = metric_text(form, key) if form else ''
        titles.append(f'{title}\n{text}' if text else title)
    if any('\n' in title for title in titles):
        titles = [t if '\n' in t else f'{t}\n' for t in titles]
    return titles


def _figure(scenes: Scenes, columns: list[list[Any]], draw: Any,
            titles: list[str], path: Path) -> None:
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    width, below = getattr(draw, 'width', WIDTH), getattr(draw, 'below', 0)
    heights: list[float] = []
    for image in scenes.images:
        heights += [image.shape[0] / image.shape[1], below]
    heights = heights if below else heights[::2]
    figure, grid = plt.subplots(
        len(heights),
        len(columns),
        squeeze=False,
        layout='constrained',
        figsize=(width * len(columns), width * sum(heights) + 0.8),
        height_ratios=heights)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, image in enumerate(scenes.images):
        for column, found in enumerate(columns):
            axes = grid[row * (1 + bool(below)), column]
            draw(axes, image.copy(), found[row], column == 0)
            if below:
                draw.under(grid[2 * row + 1, column], found[row], column == 0)
    for axes, title in zip(grid[0], titles):
        axes.set_title(title, fontsize=11)
    _below(figure, draw)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _below(figure: Any, draw: Any) -> None:
    """Write what the drawing means below it."""
    from matplotlib.patches import Patch
    if draw.caption:
        figure.supxlabel(draw.caption, fontsize=8)
    legend = getattr(draw, 'legend', dict)()
    if legend:
        rows = -(-len(legend) // 6)
        figure.set_figheight(figure.get_figheight() + 0.2 * rows)
        figure.legend(
            handles=[
                Patch(color=color, label=textwrap.shorten(name, 24))
                for name, color in legend.items()
            ],
            loc='outside lower center',
            ncols=6,
            fontsize=8,
            frameon=False)


def side_by_side_picture(subjects: Sequence[Subject | Loaded],
                         path: str | Path,
                         images: int = 3,
                         forms: Sequence[Form] = (),
                         metric: str = '') -> None:
    """Draw what is right, and what the first and the last form find.

    Args:
        subjects (Sequence[Subject]): The forms, float first.
        path (str | Path): Of the picture, ``.png``.
        images (int): Of the validation data: those with the most objects.
        forms (Sequence[Form]): What was measured, for the titles.
        metric (str): Key of the metric in titles; by default what counts.

    Raises:
        ValueError: If the task is none of those that can be drawn, or there
            is no data.
        FileNotFoundError, RuntimeError: If there is no data.
    """
    loaded = _shown(subjects)
    scope = loaded[0].cfg.get('default_scope')
    if scope not in SCENES:
        raise ValueError(f'default_scope is {scope!r}; what models find can '
                         f'be drawn for {", ".join(SCENES)}')
    loaders = [validation_data(one.cfg, alone=True).loader for one in loaded]
    with DefaultScope.overwrite_default_scope(scope):
        scenes = SCENES[scope](loaders[0], images)
        columns = [
            scenes.predictions(one.tester, loader)
            for one, loader in zip(loaded, loaders)
        ]
        draw = _DRAWN[scope](scenes, columns[0])
        columns.insert(0, scenes.truths())
        _figure(scenes, columns, draw, _titles(loaded, forms, metric),
                Path(path))
