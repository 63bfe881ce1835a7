"""Adapter of the LSQ+ fixtures."""
from golden import Case, lsq
from torch import Tensor


def run(case: Case) -> dict[str, Tensor]:
    """LSQ with a real offset."""
    return lsq.run(case, 'beta')
