"""Test a model: the ``test.py`` of the library the config belongs to."""
from mmcompress.launch import run_tool

USAGE = """usage: python tools/test.py CONFIG CHECKPOINT [options]

The options are those of the library that the config's default_scope names;
`python tools/test.py CONFIG CHECKPOINT --help` prints them. All know
  --work-dir DIR         where the metrics go
  --show-dir DIR         draw the predictions there
  --cfg-options K=V ...  override keys of the config
  --launcher pytorch     under torchrun; see tools/dist_test.sh
  --local_rank, --local-rank"""

if __name__ == '__main__':
    run_tool('test.py', USAGE)
