"""Train a model: the ``train.py`` of the library the config belongs to."""
from mmcompress.launch import run_tool

USAGE = """usage: python tools/train.py CONFIG [options]

The options are those of the library that the config's default_scope names;
`python tools/train.py CONFIG --help` prints them. All libraries know
  --work-dir DIR         where logs and checkpoints go
  --resume [CHECKPOINT]  go on from the latest, or from this one
  --amp                  mixed precision
  --auto-scale-lr        (not mmseg) scale the rate with the batch size
  --cfg-options K=V ...  override keys of the config
  --launcher pytorch     under torchrun; see tools/dist_train.sh
  --local_rank, --local-rank"""

if __name__ == '__main__':
    run_tool('train.py', USAGE)
