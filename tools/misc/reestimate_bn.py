"""Recompute the batch norms' statistics of a checkpoint on a few batches."""
import argparse
import itertools
import logging
import warnings
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint, set_random_seed
from rich.progress import track

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.batch_norm import reestimate_statistics
from mmcompress.analysis.subject import build_subject, load_weights
from mmcompress.data_paths import check_data_paths
from mmcompress.hooks.plain_checkpoint import to_plain
from mmcompress.launch import add_cfg_options, add_device
from mmcompress.model.checkpoint import weights_of
from mmcompress.model.config import read_config
from mmcompress.model.loader import build_loader
from mmcompress.pruning.structure import mark_pruned

DESCRIPTION = '''Recomputes the running means and variances of all batch norms
on batches of the training data, with the weights as they are. For weights
that the statistics don't belong to: averaged ones, or latent weights that
became signs. Writes a checkpoint with the same weights, without the state of
the training.'''


def training_batches(cfg: Config, num: int, seed: int) -> Iterator[dict]:
    """Batches of the training data, shuffled as in training.

    Raises:
        ValueError: If the training data has fewer.
    """
    check_data_paths(cfg, ['train_dataloader'])
    loader = build_loader(cfg, cfg.train_dataloader, seed)
    if num > len(loader):
        raise ValueError(f'--batches {num}: the training data has only '
                         f'{len(loader)} batches of {loader.batch_size}')
    # nothing is read before the model is known to have batch norms
    yield from itertools.islice(loader, num)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument('config', help='of the training')
    parser.add_argument('checkpoint', help='file or URL')
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--batches',
        type=int,
        default=100,
        help='of the training data, each as large as in training')
    add_device(parser)
    parser.add_argument('--seed', type=int, default=0)
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Re-estimate and write."""
    args = parse_args()
    if args.batches < 1:
        raise ValueError(f'--batches must be positive, got {args.batches}')
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    cfg = read_config(args.config, args.cfg_options)
    set_random_seed(args.seed)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = build_subject(cfg)
        checkpoint = load_weights(model, args.checkpoint)
        model.to(args.device)
        batches = training_batches(cfg, args.batches, args.seed)
        called = reestimate_statistics(
            model, track(batches, 'batches', total=args.batches))
    weights = weights_of(checkpoint)
    for name in called:
        for key, value in model.get_submodule(name).named_buffers():
            weights[f'{name}.{key}'] = value.cpu()
    mark_pruned(model, weights)
    meta = to_plain(checkpoint.get('meta', {}), ('meta', ), [])
    save_checkpoint(dict(meta=meta, state_dict=weights), args.out)
    print(f'{args.out}: {len(called)} batch norms with the statistics of '
          f'{args.batches} batches')


if __name__ == '__main__':
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        main()
