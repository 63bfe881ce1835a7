"""Count parameters, bytes, FLOPs and bit operations of a config's model."""
import argparse
import json
import logging
import warnings
from dataclasses import asdict

import torch
from mmengine.logging import MMLogger

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.complexity import FLOAT, LayerCost, complexity, total
from mmcompress.analysis.subject import build_subject
from mmcompress.launch import add_cfg_options
from mmcompress.model.config import read_config
from mmcompress.model.inputs import noise_batch
from mmcompress.tables import format_table

NOTES = '''\
FLOPs: multiply-accumulates of floats, each counted once, as in the papers of
1-bit networks. Only convolutions, matrix products and attention count.
BOPs: multiply-accumulates of low-bit operands times the bits of both.
OPs = BOPs / 64 + FLOPs. All are for one image.
Bytes: parameters and buffers as a checkpoint of this model holds them, and
once low-bit weights take their bits.'''


def count(config: str,
          shape: list[int] | None = None,
          options: dict | None = None) -> tuple[str, list[LayerCost]]:
    """Build a config's model with random weights and count.

    Args:
        config (str): A path, or ``'mmdet::folder/name.py'``.
        shape (list[int] | None): Height and width of the image; None for
            what the config tests on.
        options (dict | None): Keys of the config to override.

    Returns:
        tuple[str, list[LayerCost]]: The model and its input, in words, and
        the costs by layer.
    """
    cfg = read_config(config, options)
    model = build_subject(cfg)
    batch = noise_batch(cfg, model, shape)
    # of vision-language models, images
    inputs = batch['images'] if 'images' in batch else batch['inputs']
    if not isinstance(inputs, torch.Tensor):
        inputs = inputs[0]
    size = ' x '.join(map(str, inputs.shape[1:]))
    return f'{type(model).__name__}, input {size}', complexity(model, batch)


def _row(cost: LayerCost) -> list[str]:
    return [
        cost.name or '(model)', cost.kind,
        '/'.join(map(str, cost.bits)) if min(cost.bits) < FLOAT else '',
        *(f'{value:,}' if value else '-'
          for value in (cost.params, cost.bytes_stored, cost.bytes_packed,
                        cost.flops, cost.bops, round(cost.ops)))
    ]  # yapf: disable


def as_table(title: str, costs: list[LayerCost]) -> str:
    """The costs by layer, their sums, and what the columns mean."""
    header = [
        'layer', 'class', 'bits w/a', 'params', 'bytes stored', 'bytes packed',
        'FLOPs', 'BOPs', 'OPs'
    ]
    sums = total(costs)
    lines = [
        format_table(title, header,
                     [*map(_row, costs), ['', *[''] * 8],
                      _row(sums)]), NOTES,
        f'Parameters {sums.params:,} | stored {sums.bytes_stored / 1e6:.2f} MB'
        f' | packed {sums.bytes_packed / 1e6:.2f} MB | '
        f'FLOPs {sums.flops:.3e} | BOPs {sums.bops:.3e} | OPs {sums.ops:.3e}'
    ]
    if not any(cost.is_low_bit for cost in costs):
        lines.append('No layer has low-bit weights and activations.')
    return '\n'.join(lines)


def as_json(title: str, costs: list[LayerCost]) -> str:
    """The same, to be read by a program."""

    def entry(cost: LayerCost) -> dict:
        return dict(asdict(cost), ops=cost.ops)

    sums = entry(total(costs))
    for key in ('name', 'kind', 'bits'):
        sums.pop(key)
    return json.dumps(
        dict(
            subject=title,
            convention=' '.join(NOTES.split()),
            total=sums,
            layers=[entry(cost) for cost in costs]),
        indent=2)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config',
        help='of mmdet, mmpose, mmpretrain, mmseg or mmcompress; '
        'a path, or mmdet::folder/name.py')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the image, in pixels; by default what the config tests on')
    parser.add_argument(
        '--json', action='store_true', help='print JSON instead of a table')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Count and print."""
    args = parse_args()
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        counted = count(args.config, args.shape, args.cfg_options)
    print(as_json(*counted) if args.json else as_table(*counted))


if __name__ == '__main__':
    main()
