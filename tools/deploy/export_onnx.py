"""Write a trained model, float, quantized or packed, as ONNX."""
import argparse
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import track

from mmcompress.deploy.onnx import (ExportReport, Predictions,
                                    custom_ops_library, export_file)
from mmcompress.deploy.onnx.nodes import PACKED
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


def say_layers(report: ExportReport) -> None:
    """Which layers are computed how."""
    if report.left_out:
        print(report.left_out)
    if not report.is_quantized:
        print('The model has no low-bit layers: the file is float')
        return
    counts = sorted(report.integers.items())
    kinds = ', '.join(f'{n} {kind}' for kind, n in counts)
    print(f'onnxruntime computes {sum(report.integers.values())} layers and '
          f'products in integers: {kinds or "none"}')
    if set(report.integers) & set(PACKED):
        print(f'It needs the operators of {custom_ops_library()}')
    if report.floats:
        print(
            format_table('Low-bit layers that are not among them',
                         ['module', 'why'],
                         [[name, why] for name, why in report.floats.items()]))


def say_agreement(report: ExportReport) -> None:
    """How near onnxruntime comes."""
    agreement = report.agreement
    if report.predictions is None:
        print(f'On {report.images}, outputs of onnxruntime differ by '
              f'{agreement.difference:.2e} of their norm, a value by '
              f'{agreement.largest:.2e} of the largest')
    if agreement.codes:
        print(f'{100 * agreement.equal:.3f} % of {agreement.codes} codes of '
              f'activations are equal, {100 * agreement.nearly:.3f} % differ '
              f'by at most 1 (fewest equal: {agreement.worst})')
    if agreement.bits:
        print(f'Of {agreement.bits} bits of packed layers '
              f'{agreement.different_bits} differ')


def say_predictions(predictions: Predictions, images: str) -> None:
    """How many predictions are equal."""
    of = predictions.of
    print(f'On {images}, {100 * predictions.share:.2f} % of {of} are equal: '
          f'the model has {predictions.expected} and the file '
          f'{predictions.found}, of which {predictions.matched} were compared '
          f'and {predictions.equal} agree, {predictions.near} to 1 pixel and '
          '0.01 of a score')
    parts = [
        f'{name} by {value:.2g}{unit}'
        for name, value, unit in (('a coordinate', predictions.position,
                                   ' pixels'), ('a score', predictions.score,
                                                '')) if value is not None
    ]
    if parts:
        print(f'Largest differences: {", ".join(parts)}')


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
    say_layers(report)
    say_agreement(report)
    if report.predictions is not None:
        say_predictions(report.predictions, report.images)
    if report.metrics is not None:
        say_metrics(report.metrics)
    size = report.size
    print(f'Written: {report.out}, {report.bytes / 1e6:.2f} MB, images of '
          f'{size[0]} x {size[1]}')


if __name__ == '__main__':
    main()
