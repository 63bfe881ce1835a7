"""Channel-wise divergence; the loss classes go by the official names."""
from golden import Case
from golden.kd import run_pair
from torch import Tensor

from mmcompress.distill.losses import CWDLoss


def run(case: Case) -> dict[str, Tensor] | None:
    """``in/preds_S``, ``in/preds_T`` -> ``out/loss``, ``grad/preds_S``."""
    hyper = dict(case.hyper)
    if hyper.pop('type') != 'ChannelWiseDivergence':
        return None
    return run_pair(CWDLoss(**hyper), case)
