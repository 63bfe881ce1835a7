"""Write a trained model, float, quantized or packed, as ONNX."""
import argparse
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import track

from mmcompress.deploy.onnx import export_file
from mmcompress.deploy.onnx.sentences import sentences
from mmcompress.launch import add_cfg_options
from mmcompress.tables import format_table

DESCRIPTION = '''Writes backbone, neck and head of a model of any mm library
as an ONNX file, opset 21, for images of one size; with --postprocess also
what it predicts: boxes after suppression, classes, maps of classes,
keypoints. Layers with quantizers, of QuantizeLayers or tools/quantize.py,
become integers of onnxruntime, packed 1-bit layers operators of a library for
it; batch norms are folded. Says which layers onnxruntime computes in integers
and which not, and compares its outputs with the model's.'''


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument('config', help='of the trained model')
    parser.add_argument('checkpoint', help='its weights, file or URL')
    parser.add_argument('out', help='the file to write, OUT.onnx')
    parser.add_argument(
        '--postprocess',
        action='store_true',
        help='write predictions, instead of what the head returns')
    parser.add_argument(
        '--with-preprocessing',
        action='store_true',
        help='with --postprocess: also normalise and pad in the file, whose '
        'images are uint8, (1, h, w, 3), then')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of preprocessed images; by default what the test pipeline gives,'
        ' padded as batches are')
    parser.add_argument(
        '--images',
        type=int,
        default=4,
        help='of the test data, to compare on (noise without data)')
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help='test the model and the written file by the test loop of the '
        'config')
    add_cfg_options(parser)
    return parser.parse_args()


def say_metrics(metrics: dict[str, tuple[float, float]]) -> None:
    """The metric of the model, and of the file."""
    rows = [[key, f'{before:.6g}', f'{after:.6g}', f'{after - before:+.4f}']
            for key, (before, after) in metrics.items()]
    print(
        format_table('Metric', ['', 'PyTorch', 'onnxruntime', 'difference'],
                     rows))


def progress(items: Iterable, what: str) -> Iterable:
    """A bar on standard error."""
    return track(items, what, console=Console(file=sys.stderr))


def main() -> None:
    """Write, look at what onnxruntime makes of it, and compare."""
    args = parse_args()
    report = export_file(
        args.config,
        args.checkpoint,
        args.out,
        size=args.size,
        postprocess=args.postprocess,
        preprocessing=args.with_preprocessing,
        images=args.images,
        evaluate=args.evaluate,
        options=args.cfg_options,
        progress=progress)
    for sentence in sentences(report):
        print(sentence)
    if report.metrics is not None:
        say_metrics(report.metrics)
    size = report.size
    print(f'Written: {report.out}, {report.bytes / 1e6:.2f} MB, images of '
          f'{size[0]} x {size[1]}')


if __name__ == '__main__':
    main()
