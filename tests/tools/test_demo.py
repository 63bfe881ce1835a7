import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRINT = """
import os, sys
sys.modules['torch'] = type(sys)('torch')  # whose import would read it
sys.modules['torch'].nn = type('nn', (), {'Module': None})
import demo
print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))
"""


@pytest.mark.parametrize('given, policy', [
    ({}, 'passive None'),
    ({'OMP_WAIT_POLICY': 'active'}, 'active None'),
    ({'GOMP_SPINCOUNT': '5'}, 'None 5'),
])  # yapf: disable
def test_threads_wait_without_spinning_unless_told_otherwise(given, policy):
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')
    }
    done = subprocess.run([sys.executable, '-S', '-c', PRINT],
                          env={
                              **inherited,
                              **given, 'PYTHONPATH': str(ROOT / 'tools')
                          },
                          capture_output=True,
                          text=True)
    assert done.stdout.strip() == policy, done.stderr
