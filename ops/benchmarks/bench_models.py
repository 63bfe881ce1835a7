"""Time whole networks: float, as trained, and packed.

    python ops/benchmarks/bench_models.py --clock cpu    # or: make bench

Each line is a run of tools/analysis_tools/benchmark.py with random weights,
seed 0: the 1-bit ResNet-18 of ReActNet and of IDa-Det at 224x224; IDa-Det's
Faster R-CNN at 1000x600, post-processing included; two of these with INT8 in
the place of what stays real-valued; and INT8 networks. Results are kept in
ops/benchmarks/results; ``MMCOMPRESS_ISA`` chooses the kernels.
"""
import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = [
    ['configs/react/react_r18_step2.py'],
    ['configs/react/react_r18_int8.py'],
    ['configs/ida_det/ida_det_pretrain_r18_step2.py'],
    ['configs/lsq/lsq_resnet50_w8_a8_in1k.py'],
    ['configs/lsq/lsq_resnet50_w8_a8_in1k.py', '--shape', '480', '640'],
    ['configs/lsq/lsq_deit-small_w8_a8_in1k.py'],
    ['configs/ida_det/ida_det_student_r18.py', '--whole'],
    ['configs/ida_det/ida_det_student_r18_int8.py', '--whole'],
]


def main() -> None:
    """Run all; options are those of benchmark.py."""
    parser = argparse.ArgumentParser(
        description='Further options are those of benchmark.py, such as '
        '--clock cpu or --rounds 31.')
    parser.add_argument(
        '--out', default=str(ROOT / 'ops' / 'benchmarks' / 'results'))
    args, options = parser.parse_known_args()
    for network in NETWORKS:
        subprocess.run([
            sys.executable, 'tools/analysis_tools/benchmark.py', *network,
            '--keep-memory', '--out', args.out, *options
        ],
                       cwd=ROOT,
                       check=True)


if __name__ == '__main__':
    main()
