"""PKD; the loss classes go by the official names."""
from golden import Case
from golden.kd import run_pair
from torch import Tensor

from mmcompress.distill.losses import PKDLoss


def run(case: Case) -> dict[str, Tensor] | None:
    """``in/preds_S``, ``in/preds_T`` -> ``out/loss``, ``grad/preds_S``."""
    hyper = dict(case.hyper)
    if hyper.pop('type') != 'PKDLoss':
        return None
    return run_pair(PKDLoss(**hyper), case)
