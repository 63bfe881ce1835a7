"""Measure TINC beside JPEG and JPEG 2000: a json file and two pictures.

usage: python projects/tinc/tools/rate_distortion.py [--plot]

Runs that ``results/rate_distortion.json`` has are not repeated; ``--plot``
only draws what is there. A run takes some ten seconds on a core.
"""
import argparse
import json
import time
from pathlib import Path

import torch
from codecs_of_pillow import curves
from pictures import draw_curves, draw_pictures
from tables import curve_table, spread_table
from tinc import build_config, decode, fit, load_signal

from mmcompress.atomic import replacing

RESULTS = Path(__file__).parents[1] / 'results'
STEPS = 600
# the volume is smoother than photos; tried on it: 10, 20 and 30
OMEGA_0 = dict(china=30., flower=30., volume=10.)
SIGNALS = {
    # top, left, height, width
    'china': dict(file='sklearn:china.jpg', crop=[100, 180, 256, 256]),
    'flower': dict(file='sklearn:flower.jpg', crop=[80, 150, 256, 256]),
    'volume': dict(file='rendered:48', crop=None),
}
RATES = {
    'china': (0.1, 0.25, 0.5, 1., 2.),
    'flower': (0.1, 0.25, 0.5, 1., 2.),
    'volume': (0.1, 0.25, 0.5, 1.),
}
TREES = ((3, 'variance'), (2, 'variance'), (1, 'variance'), (3, 'equal'))
# where the spread over seeds is measured
SEED_RATE = 0.5
# whose file is kept, and shown
SHOWN = dict(
    signal='china', budget=0.5, levels=3, allotment='variance', seed=0)


def settings() -> list[dict]:
    """Of all runs, those of one seed first; the spread comes last."""
    runs = []
    for trees in (TREES[:2], TREES[2:]):
        for budget in sorted(set(sum(RATES.values(), ()))):
            for signal, rates in RATES.items():
                for levels, allotment in trees:
                    # as wide as it is there, one network takes minutes
                    is_slow = levels == 1 and budget > 1
                    if budget in rates and not is_slow:
                        runs.append(
                            dict(
                                signal=signal,
                                budget=budget,
                                levels=levels,
                                allotment=allotment,
                                seed=0))
    at_one_rate = [run for run in runs if run['budget'] == SEED_RATE]
    return runs + [
        dict(run, seed=seed) for seed in (1, 2) for run in at_one_rate
    ]


def _write(path: Path, found: dict) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(found, indent=1) + '\n')


def measure(path: Path) -> dict:
    """Do what is missing in the json file."""
    found = dict(codecs={}, runs=[])
    if path.is_file():
        found = json.loads(path.read_text())
    for name, signal in SIGNALS.items():
        if name not in found['codecs']:
            pixels = load_signal(**signal).pixels
            is_volume = pixels.ndim == 4
            found['codecs'][name] = curves(
                pixels[..., 0] if is_volume else pixels, is_volume)
            _write(path, found)
    done = [{key: run[key] for key in SHOWN} for run in found['runs']]
    for setting in settings():
        if setting in done:
            continue
        options = dict(setting, **SIGNALS[setting['signal']], steps=STEPS)
        options['omega_0'] = OMEGA_0[options.pop('signal')]
        options['bpp'] = options.pop('budget')
        begin = time.process_time()
        data, results = fit(build_config(**options), is_quiet=True)
        run = dict(setting, steps=STEPS, **results)
        run['cpu_seconds'] = round(time.process_time() - begin, 1)
        run['threads'] = torch.get_num_threads()
        if setting == SHOWN:
            (path.parent / 'china.tinc').write_bytes(data)
        print(run, flush=True)
        found['runs'].append(run)
        _write(path, found)
    return found


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition(':')[0])
    parser.add_argument('--plot', action='store_true', help='only draw')
    args = parser.parse_args()
    path = RESULTS / 'rate_distortion.json'
    found = json.loads(path.read_text()) if args.plot else measure(path)
    print(curve_table(found), spread_table(found), sep='\n\n')
    draw_curves(found, RESULTS / 'rate_distortion.svg')
    data = (RESULTS / 'china.tinc').read_bytes()
    original = load_signal(**SIGNALS[SHOWN['signal']])
    draw_pictures(original, decode(data), len(data), RESULTS / 'pictures.png')


if __name__ == '__main__':
    main()
