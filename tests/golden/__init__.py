"""Golden fixtures: numbers that the official code produced.

``tests/golden/<method>.py`` holds the adapter of a method: a function
``run(case)`` that computes with this package what a fixture stores. The same
adapters serve the test suite and ``tools/dev/check_golden.py``. A project has
its adapter and its fixtures in its own tests, under ``golden/``.
"""
import importlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parent.parent / 'data' / 'golden'
PROJECTS = sorted(FOLDER.parents[2].glob('projects/*/tests/golden'))

# `golden.<method>` is also what a project has in its `tests/golden`
__path__ += [str(folder) for folder in PROJECTS]


@dataclass
class Case:
    """One fixture.

    Attributes:
        name (str): File name without the suffix, ``<method>__<case>``.
        kind (str): Which of the method's parts it is about, may be empty.
        hyper (dict): Hyperparameters.
        rtol (float): Tolerance relative to the largest element.
        atol (float): Absolute tolerance, added to it.
        arrays (dict[str, Tensor]): All arrays, by key such as ``in/x``.
    """
    name: str
    kind: str
    hyper: dict
    rtol: float
    atol: float
    arrays: dict[str, Tensor]

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Arrays whose key starts with ``prefix/``, without the prefix."""
        prefix += '/'
        return {
            key.removeprefix(prefix): value
            for key, value in self.arrays.items() if key.startswith(prefix)
        }

    def error(self, key: str, actual: Tensor) -> float:
        """Largest deviation, divided by what is allowed.

        Args:
            key (str): Key of the expected array.
            actual (Tensor): What was computed, of the same shape.

        Returns:
            float: At most 1 when they agree, infinite on another shape or
            where only one of them is finite.
        """
        expected = self.arrays[key]
        if expected.shape != actual.shape:
            return float('inf')
        if not expected.numel():
            return 0.0
        actual = actual.detach().to(torch.float64)
        expected = expected.to(torch.float64)
        difference = (actual - expected).abs()
        # equal infinities agree; NaN agrees with NaN
        same = (actual == expected) | (actual.isnan() & expected.isnan())
        difference = difference.masked_fill(same, 0).max().item()
        if difference == 0:
            return 0.0
        finite = expected[expected.isfinite()]
        largest = finite.abs().max().item() if finite.numel() else 0.0
        allowed = self.rtol * largest + self.atol
        if difference != difference or allowed == 0:
            return float('inf')
        return difference / allowed


def load(file: Path) -> Case:
    """Read a fixture."""
    with np.load(file) as npz:
        meta = json.loads(str(npz['meta']))
        arrays = {
            key: torch.from_numpy(np.array(npz[key]))
            for key in npz.files if key != 'meta'
        }
    if meta.get('schema') != 1:
        raise ValueError(f'{file}: schema {meta.get("schema")} is not known')
    return Case(
        name=Path(file).stem,
        kind=meta.get('kind', ''),
        hyper=meta.get('hyper', {}),
        rtol=meta['rtol'],
        atol=meta['atol'],
        arrays=arrays)


def golden(method: str):
    """Parametrize a test over the committed fixtures ``<method>__*.npz``."""
    files = sorted(
        file for folder in (FOLDER, *PROJECTS)
        for file in folder.glob(f'{method}__*.npz'))
    assert files, f'no fixture {method}__*.npz in {FOLDER} or in a project'
    return pytest.mark.parametrize(
        'case', [load(file) for file in files], ids=[f.stem for f in files])


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores, with its method's adapter.

    Returns:
        dict[str, Tensor] | None: Computed arrays by the fixture's keys
        (``out/...``, ``grad/...``); None where no adapter covers it.
    """
    method = case.name.split('__')[0]
    if importlib.util.find_spec(f'golden.{method}') is None:
        return None
    return importlib.import_module(f'golden.{method}').run(case)


def errors(case: Case, actual: dict[str, Tensor]) -> dict[str, float]:
    """Errors of all expected arrays, divided by the tolerance.

    An expected array that was not computed is an infinite error.
    """
    keys = [k for k in case.arrays if k.startswith(('out/', 'grad/'))]
    return {
        key: case.error(key, actual[key]) if key in actual else float('inf')
        for key in keys
    }


def assert_golden(case: Case) -> None:
    """Fail where what the adapter computes differs from the fixture."""
    actual = run(case)
    assert actual is not None, f'{case.name} has no adapter'
    wrong = {k: v for k, v in errors(case, actual).items() if not v <= 1}
    assert not wrong, wrong
