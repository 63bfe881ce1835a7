"""Time packed 1-bit networks in PyTorch and on onnxruntime.

    python ops/benchmarks/bench_ort_ops.py

Random weights, one image, one thread, the thread's CPU time: the float
network and the packed one, each in PyTorch and on onnxruntime, with the
operators of ``libmmcompress_ort.so``. All take turns in one process; the ratio
is the median over the rounds of the ratio in one round. Of detectors it is
what is exported: backbone, neck and the first head.
"""
import argparse
import logging
import sys
import time
import warnings
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_binary import RESULTS, save  # noqa: E402

import mmcompress.compat  # noqa: E402, F401
from mmcompress import __version__, ops  # noqa: E402
from mmcompress.analysis import timing  # noqa: E402
from mmcompress.deploy import pack  # noqa: E402
from mmcompress.deploy.onnx import Network, Session, export  # noqa: E402
from mmcompress.lowbit import float_twin  # noqa: E402
from mmcompress.model.config import build_untrained, read_config  # noqa: E402
from mmcompress.model.inputs import noise_batch  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    'react/react_r18_step2.py': None,
    'ida_det/ida_det_student_r18.py': (608, 1024)
}
BASE = 'onnxruntime, float'


def networks(path: str, size: tuple[int, int] | None) -> tuple[dict, str]:
    """What to time, by name, and what it is of.

    Args:
        path (str): A config of a 1-bit model.
        size (tuple[int, int] | None): Of images; None: as the config says.
    """
    cfg = read_config(path, None)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = build_untrained(cfg)
        model.eval()
        size = tuple(noise_batch(cfg, model, size)['inputs'].shape[-2:])
        plain, packed = float_twin(model), pack(model)[1]
        last = float_twin(model).to(memory_format=torch.channels_last)
        forms = {
            'PyTorch, float': Network(plain, size),
            'PyTorch, float, channels last': Network(last, size),
            'PyTorch, packed': Network(packed, size),
            BASE: Session(export(plain, size).proto),
            'onnxruntime, packed': Session(export(packed, size).proto)
        }
    image = forms['PyTorch, packed'].example()
    calls = {name: partial(form, image) for name, form in forms.items()}
    return calls, f'{Path(path).stem}, {size[0]} x {size[1]}'


@torch.no_grad()
def measure(calls: dict, subject: str, rounds: int) -> list[dict]:
    """Time them.

    Returns:
        list[dict]: Of each its name, milliseconds, and how many times as fast
        it is as the float network on onnxruntime, with the interval.
    """
    seconds = timing.interleaved(calls, rounds, clock=time.thread_time)
    return [
        dict(network=subject, form=name, **found)
        for name, found in timing.against(seconds, BASE).items()
    ]


def as_markdown(cases: list[dict], about: dict) -> str:
    """A row for each network and form."""
    lines = [
        f'{about["machine"]}, onnxruntime {about["onnxruntime"]}, kernels: '
        f'{about["kernels"]}, CPU time, {about["rounds"]} rounds\n',
        '| network | | ms | x onnxruntime, float [95 %] |',
        '| :-- | :-- | --: | --: |'
    ]
    for case in cases:
        low, high = case['interval']
        lines.append(f'| {case["network"]} | {case["form"]} | '
                     f'{case["ms"]:.1f} | {case["ratio"]:.2f} '
                     f'[{low:.2f}, {high:.2f}] |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('configs', nargs='*', help='of 1-bit models')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), help='of images')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--out', type=Path, default=RESULTS)
    args = parser.parse_args()
    for name in ('torch.onnx', 'onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    torch.set_num_threads(1)
    timing.keep_freed_memory()
    subjects = dict.fromkeys(args.configs, args.size) or {
        str(ROOT / 'configs' / name): size
        for name, size in CONFIGS.items()
    }
    cases = []
    for path, size in subjects.items():
        cases += measure(*networks(path, size), args.rounds)
    about = dict(
        machine=timing.machine('cpu'),
        onnxruntime=metadata.version('onnxruntime'),
        kernels=ops.build_info().get('isa'),
        rounds=args.rounds,
        mmcompress=__version__)
    text = as_markdown(cases, about)
    print(text)
    path = save(args.out, 'ort_ops', about, text, '_1t', cases=cases)
    print(f'written to {path}.md and .json')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
