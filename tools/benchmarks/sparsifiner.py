"""What Sparsifiner's masks find and keep, and what they would cost as code.

With a config and a checkpoint: for each layer, which share of the keys with
the most attention the predictor finds, of a batch of the test data; the
metrics of the model, and with as many random keys. A model in the first stage
is as the stage left it.

  python tools/benchmarks/sparsifiner.py configs/sparsifiner/sparsifiner_vit_mini_recon.py work_dirs/sparsifiner_vit_mini_recon/epoch_3.pth

Without: times of dense attention, with a mask, of the predictor, and of
attention to gathered keys, for heads of DeiT-S.

  OMP_NUM_THREADS=1 python tools/benchmarks/sparsifiner.py
"""  # noqa: E501
import argparse
import time
from statistics import median

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject
from mmcompress.analysis.timing import interleaved, machine
from mmcompress.model.loader import build_loader
from mmcompress.model.testing import measure
from mmcompress.sparse_attention import MaskPredictor, largest

NUM_HEADS, HEAD_DIMS = 6, 64

# ---- What masks find -------------------------------------------------------


def recall(mask: Tensor, q: Tensor, k: Tensor, extra: int) -> float:
    """Share of the keys with the most attention that a mask keeps.

    Args:
        mask (Tensor): Bool, shape (B, H, N, N), as many in each row past the
            first.
        q (Tensor): Queries, shape (B, H, N, D).
        k (Tensor): Keys, shape (B, H, N, D).
        extra (int): Rows at the front that keep everything, and don't count.
    """
    rows = mask[:, :, extra:]
    scores = (q @ k.mT)[:, :, extra:]
    true = largest(scores, int(rows[0, 0, 0].sum()))
    return ((rows & true).sum() / true.sum()).item()


def recalls(model: nn.Module, cfg: Config) -> dict[str, tuple[float, float]]:
    """Recall of each predictor, and the share of keys that it keeps."""
    found = {}

    def note(name: str):

        def hook(predictor: MaskPredictor, args: tuple, approx: Tensor):
            q, k, *_ = args
            mask = predictor.mask(approx)
            found[name] = (recall(mask, q, k, predictor.num_extra_tokens),
                           predictor.budget / predictor.num_tokens)

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if isinstance(module, MaskPredictor)
    ]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = build_loader(cfg, cfg.test_dataloader)
    model.eval()
    with torch.no_grad():
        model.test_step(next(iter(loader)))
    for handle in handles:
        handle.remove()
    return found


def choose_at_random(model: nn.Module) -> None:
    """Let the masks be random, with as many keys."""
    for predictor in model.modules():
        if isinstance(predictor, MaskPredictor):
            choose = predictor.mask
            predictor.mask = lambda approx, *args, choose=choose: choose(
                torch.rand_like(approx), *args)


def report(config: str, checkpoint: str) -> None:
    """Print what a model finds and how well it does."""
    cfg = Config.fromfile(config)
    model = build_subject(cfg, checkpoint)
    for name, (share, random) in recalls(model, cfg).items():
        print(f'{name}: finds {share:.3f} of the keys with the most attention,'
              f' of which random ones are {random:.3f}')
    print(f'its keys: {measure(cfg, model)}')
    torch.manual_seed(0)
    choose_at_random(model)
    print(f'random keys: {measure(cfg, model)}')


# ---- What they would cost --------------------------------------------------


def gathered_attention(q: Tensor, k: Tensor, v: Tensor,
                       index: Tensor) -> Tensor:
    """Attention of each query to keys of its own.

    Args:
        q (Tensor): Shape (B, H, N, D).
        k (Tensor): Shape (B, H, N, D).
        v (Tensor): Shape (B, H, N, D).
        index (Tensor): Of K keys for each query, shape (B, H, N, K).
    """
    where = index.flatten(2)[..., None].expand(-1, -1, -1, q.shape[-1])
    k, v = (x.gather(2, where).unflatten(2, index.shape[2:]) for x in (k, v))
    attn = (k @ q[..., None]) * q.shape[-1]**-0.5
    return (attn.softmax(-2).mT @ v).squeeze(-2)


def times(num_tokens: int, keep: float, rounds: int) -> dict[str, float]:
    """Milliseconds of one image, thread time."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, NUM_HEADS, num_tokens, HEAD_DIMS)
    predictor = MaskPredictor(num_tokens, NUM_HEADS, HEAD_DIMS, keep).eval()
    with torch.no_grad():
        # as after training: no zeros
        predictor.proj_back_n.uniform_(0.02, 1)
        mask = predictor.mask(predictor(q, k))
        index = predictor(q, k).topk(predictor.budget).indices
        index = F.pad(index, (0, 0, 1, 0))
        attend = F.scaled_dot_product_attention
        seconds = interleaved(
            {
                'dense': lambda: attend(q, k, v),
                'masked': lambda: attend(q, k, v, mask),
                'prediction': lambda: predictor(q, k),
                'with selection': lambda: predictor.mask(predictor(q, k)),
                'gathered': lambda: gathered_attention(q, k, v, index)
            },
            rounds,
            clock=time.thread_time)
    return {name: 1e3 * median(values) for name, values in seconds.items()}


def main() -> None:
    """Print one or the other."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--tokens', type=int, nargs='+', default=[197, 785])
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args()
    if (args.config is None) != (args.checkpoint is None):
        parser.error('give a config and its checkpoint, or neither')
    if args.config is not None:
        report(args.config, args.checkpoint)
        return
    print(machine('cpu'))
    for num_tokens in args.tokens:
        for keep in (0.25, 0.1):
            of = times(num_tokens, keep, args.rounds)
            sparse = of['with selection'] + of['gathered']
            print(f'| {num_tokens} | {keep} | ' +
                  ' | '.join(f'{value:.3g}' for value in of.values()) +
                  f' | {sparse / of["dense"]:.1f} |')


if __name__ == '__main__':
    main()
