"""What became of a model that was written as ONNX, in words."""
from collections.abc import Iterator

from mmcompress.tables import format_table
from .custom_ops import custom_ops_library
from .exporting import ExportReport
from .nodes import PACKED
from .postprocess.agreement import Predictions


def sentences(report: ExportReport) -> list[str]:
    """Which layers are computed how, and how near onnxruntime comes.

    Args:
        report (ExportReport): Of the file.

    Returns:
        list[str]: Sentences, perhaps a table.
    """
    said = [*_layers(report), *_agreement(report)]
    if report.predictions is not None:
        said += _predictions(report.predictions, report.images)
    return said


def _layers(report: ExportReport) -> Iterator[str]:
    if report.left_out:
        yield report.left_out
    if not report.is_quantized:
        yield 'The model has no low-bit layers: the file is float'
        return
    counts = sorted(report.integers.items())
    kinds = ', '.join(f'{n} {kind}' for kind, n in counts)
    yield (f'onnxruntime computes {sum(report.integers.values())} layers and '
           f'products in integers: {kinds or "none"}')
    if set(report.integers) & set(PACKED):
        yield f'It needs the operators of {custom_ops_library()}'
    if report.floats:
        yield format_table('Low-bit layers that are not among them',
                           ['module', 'why'],
                           [[name, why]
                            for name, why in report.floats.items()])


def _agreement(report: ExportReport) -> Iterator[str]:
    agreement = report.agreement
    if report.predictions is None:
        yield (f'On {report.images}, outputs of onnxruntime differ by '
               f'{agreement.difference:.2e} of their norm, a value by '
               f'{agreement.largest:.2e} of the largest')
    if agreement.codes:
        yield (f'{100 * agreement.equal:.3f} % of {agreement.codes} codes of '
               f'activations are equal, {100 * agreement.nearly:.3f} % differ '
               f'by at most 1 (fewest equal: {agreement.worst})')
    if agreement.bits:
        yield (f'Of {agreement.bits} bits of packed layers '
               f'{agreement.different_bits} differ')


def _predictions(predictions: Predictions, images: str) -> Iterator[str]:
    of = predictions.of
    yield (
        f'On {images}, {100 * predictions.share:.2f} % of {of} are equal: '
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
        yield f'Largest differences: {", ".join(parts)}'
