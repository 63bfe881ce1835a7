"""Code in an interpreter of its own."""
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(code):
    """Run code in a new interpreter; return what it printed last, as json."""
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    done = subprocess.run([sys.executable, '-c', code],
                          env={
                              **os.environ, 'PYTHONPATH': path,
                              'OMP_NUM_THREADS': '1'
                          },
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
