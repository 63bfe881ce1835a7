"""Puts the package of every project on the path, as PYTHONPATH does."""
import sys
from pathlib import Path

import torch

# the workers of pytest-xdist share the cores
torch.set_num_threads(1)
sys.path += [str(p.parent) for p in Path(__file__).parent.glob('*/README.md')]
