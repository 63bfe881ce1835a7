"""Tables of the measured numbers, as the README has them."""
import numpy as np

TREES = ((1, 'variance'), (2, 'variance'), (3, 'variance'), (3, 'equal'))


def _at(points: list[dict], bpp: float) -> str:
    """PSNR of a codec at a rate, between its points."""
    rates = [p['bpp'] for p in points]
    if not rates[0] <= bpp <= rates[-1]:
        return '-'
    return f'{np.interp(bpp, rates, [p["psnr"] for p in points]):.2f}'


def curve_table(found: dict) -> str:
    """PSNR of the trees, and of codecs at as many bits as the second."""
    lines = []
    for signal, codecs in found['codecs'].items():
        lines += [
            '', f'{signal} | ' + ' | '.join(f'{n} {a}' for n, a in TREES) +
            ' | bpp of 2 levels | ' + ' | '.join(codecs)
        ]
        runs = {
            (r['budget'], r['levels'], r['allotment']): r
            for r in found['runs'] if r['signal'] == signal and r['seed'] == 0
        }
        for budget in sorted({key[0] for key in runs}):
            mine = [runs.get((budget, *tree)) for tree in TREES]
            bpp = runs[(budget, *TREES[1])]['bpp']
            cells = ['-' if r is None else f'{r["psnr"]:.2f}' for r in mine]
            cells += [f'{bpp:.3f}'] + [_at(p, bpp) for p in codecs.values()]
            lines.append(f'{budget} | ' + ' | '.join(cells))
    return '\n'.join(lines)


def spread_table(found: dict) -> str:
    """Mean and standard deviation over seeds, where there are several."""
    groups = {}
    for run in found['runs']:
        key = tuple(run[k]
                    for k in ('signal', 'budget', 'levels', 'allotment'))
        groups.setdefault(key, []).append(run['psnr'])
    return '\n'.join(f'{" ".join(map(str, key))}: {np.mean(values):.2f} ± '
                     f'{np.std(values, ddof=1):.2f} ({len(values)} seeds)'
                     for key, values in groups.items() if len(values) > 1)
