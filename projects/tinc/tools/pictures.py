"""Draws the curves, and what a rate looks like."""
from pathlib import Path

import matplotlib
import numpy as np
from codecs_of_pillow import best_within
from PIL import Image, ImageDraw
from tinc import Signal, psnr

matplotlib.use('agg')
import matplotlib.pyplot as plt  # noqa: E402

TITLES = dict(
    china='china.jpg, 256 x 256, RGB',
    flower='flower.jpg, 256 x 256, RGB',
    volume='rendered volume, 48^3')
_STYLES = {
    (1, 'variance'): ('TINC, 1 level', 'C0', ':'),
    (2, 'variance'): ('TINC, 2 levels', 'C0', '--'),
    (3, 'variance'): ('TINC, 3 levels', 'C0', '-'),
    (3, 'equal'): ('TINC, 3 levels, equal shares', 'C1', '-')
}


def draw_curves(found: dict, path: Path) -> None:
    """PSNR by bits per pixel, a panel for each signal."""
    plt.rcParams.update({'svg.hashsalt': 'tinc', 'svg.fonttype': 'none'})
    figure, axes = plt.subplots(1, len(TITLES), figsize=(15, 5))
    for axis, (signal, title) in zip(axes, TITLES.items()):
        for i, (codec, points) in enumerate(found['codecs'][signal].items()):
            axis.plot([p['bpp'] for p in points], [p['psnr'] for p in points],
                      color=('0.6', '0.2')[i % 2],
                      linestyle=('-', '--')[i // 2],
                      label=codec)
        for tree, (label, colour, line) in _STYLES.items():
            runs = sorted((r['bpp'], r['psnr']) for r in found['runs']
                          if (r['levels'], r['allotment']) == tree
                          and r['signal'] == signal and r['seed'] == 0)
            axis.plot(
                *zip(*runs),
                f'{line}o',
                color=colour,
                label=label,
                markersize=4)
        axis.set(
            title=title,
            xlabel='bits per pixel (whole file)',
            ylabel='PSNR, dB',
            xlim=(0.05, 2.3),
            xscale='log')
        # what is right of the limit sets no height
        seen = [
            p['psnr'] for points in found['codecs'][signal].values()
            for p in points if 0.05 < p['bpp'] < 2.3
        ]
        axis.set_ylim(min(seen) - 3, max(seen) + 1)
        ticks = (0.1, 0.25, 0.5, 1, 2)
        axis.set_xticks(ticks, [f'{t:g}' for t in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata=dict(Date=None))
    plt.close(figure)


def draw_pictures(original: Signal, ours: Signal, size: int,
                  path: Path) -> None:
    """A part of the original, and of what codecs make of it in as many bytes.

    Args:
        original (Signal): RGB.
        ours (Signal): What TINC makes of it.
        size (int): Bytes of its file; the others are the best with at most
            as many.
        path (Path): A png file.
    """
    shown = [('original', original.pixels),
             (f'TINC {psnr(original, ours):.1f} dB', ours.pixels)]
    for codec in ('JPEG', 'JPEG 2000'):
        pixels = best_within(original.pixels, codec, size)
        decibels = psnr(original, Signal.of(pixels))
        shown.append((f'{codec} {decibels:.1f} dB', pixels))
    part = 128
    canvas = Image.new('RGB', (len(shown) * (part + 4) - 4, part + 14),
                       'white')
    write = ImageDraw.Draw(canvas)
    for i, (name, pixels) in enumerate(shown):
        left = i * (part + 4)
        middle = np.array(pixels.shape[:2]) // 2 - part // 2
        crop = pixels[middle[0]:middle[0] + part, middle[1]:middle[1] + part]
        canvas.paste(Image.fromarray(crop), (left, 14))
        write.text((left, 1), name, fill='black')
    canvas.save(path, optimize=True)
