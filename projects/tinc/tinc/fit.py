"""One file through the Runner: a config for it, and its bytes."""
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from .hooks import PrintProgressHook, WriteTINCHook
from .model import TINC

# what is changed for a file
BASE = Path(__file__).parents[1] / 'configs' / 'tinc_china_mini.py'


def build_config(file: str,
                 bpp: float,
                 crop: Sequence[int] | None = None,
                 levels: int = 2,
                 depth: int | None = None,
                 allotment: str = 'variance',
                 bits: int = 6,
                 omega_0: float = 30.,
                 steps: int = 2000,
                 lr: float | None = None,
                 seed: int = 0) -> Config:
    """The config that compresses a file.

    Args:
        file (str): As of :func:`~tinc.signal.load_signal`.
        bpp (float): Bits per pixel, at most.
        crop (Sequence[int] | None): As of the same.
        levels (int): Of the tree.
        depth (int | None): As of :class:`~tinc.model.TINC`.
        allotment (str): As of the same.
        bits (int): Of a weight.
        omega_0 (float): As of the same.
        steps (int): Of training.
        lr (float | None): Rate of Adam; None: the base config's.
        seed (int): Of everything random.

    Raises:
        ValueError: If there is no step.
    """
    if steps < 1:
        raise ValueError(f'steps must be at least 1, got {steps}')
    cfg = Config.fromfile(BASE)
    # no library is needed without its tools/train.py
    cfg.default_scope = 'mmengine'
    signal = dict(file=str(file), crop=None if crop is None else list(crop))
    cfg.signal = signal
    cfg.model.update(
        signal=signal,
        bpp=bpp,
        levels=levels,
        depth=depth,
        allotment=allotment,
        omega_0=omega_0)
    cfg.model.weight_quant.bits = bits
    cfg.train_dataloader.dataset.update(
        signal=signal, levels=levels, seed=seed)
    cfg.train_cfg.max_iters = steps
    cfg.param_scheduler[0].update(end=steps, T_max=steps)
    if lr is not None:
        cfg.optim_wrapper.optimizer.lr = lr
    cfg.randomness = dict(seed=seed)
    return cfg


@contextmanager
def _globals_restored() -> Iterator[None]:
    """Random numbers and default scope, which a Runner sets for all."""
    before = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices), \
            DefaultScope.overwrite_default_scope('mmengine'):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@_globals_restored()
def fit(cfg: Config, is_quiet: bool = False) -> tuple[bytes, dict]:
    """Train a config of :func:`build_config`.

    The caller's random numbers and default scope stay as they are.

    Args:
        cfg (Config): Its work folder is a temporary one.
        is_quiet (bool): Whether nothing is printed.

    Returns:
        tuple[bytes, dict]: The file, and its ``psnr``, ``bpp`` and ``bytes``.
    """
    cfg = cfg.copy()
    cfg.work_dir = tempfile.mkdtemp(prefix='tinc_')
    cfg.log_level = 'WARNING'
    cfg.default_hooks.checkpoint = None
    # loggers of one name are one
    cfg.experiment_name = f'tinc_{os.getpid()}_{time.monotonic_ns()}'
    try:
        runner = Runner.from_cfg(cfg)
        if not is_quiet:
            _introduce(runner.model)
            runner.register_hook(PrintProgressHook())
        runner.train()
        hook = next(h for h in runner.hooks if isinstance(h, WriteTINCHook))
        data = Path(cfg.work_dir, hook.file).read_bytes()
    finally:
        shutil.rmtree(cfg.work_dir, ignore_errors=True)
    return data, hook.results


def _introduce(model: TINC) -> None:
    plan = model.network.plan
    widths = ', '.join(
        f'{w.min()}' if w.min() == w.max() else f'{w.min()} to {w.max()}'
        for w in plan.widths)
    print(
        f'{plan.tree.num_leaves} leaves of up to '
        f'{" x ".join(map(str, plan.tree.block))} pixels, '
        f'{plan.num_weights() + plan.num_biases()} parameters; widths by '
        f'level: {widths}',
        flush=True)
