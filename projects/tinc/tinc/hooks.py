"""When quantization begins, and what is written at the end."""
import math
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmcompress.atomic import replacing
from mmcompress.registry import HOOKS
from .coding import constriction_module
from .file_format import decode
from .model import TINC
from .signal import psnr


def _model(runner: Runner) -> TINC:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


@HOOKS.register_module()
class QuantizeFromHook(Hook):
    """Train with real parameters first, then with their codes.

    Args:
        begin (float): Part of the training that comes first, in [0, 1).

    Raises:
        ValueError: If nothing would be trained with codes.
    """

    def __init__(self, begin: float = 0.6) -> None:
        if not 0 <= begin < 1:
            raise ValueError(f'begin must be in [0, 1), got {begin}; the last '
                             'part of the training is with codes')
        self.begin = begin

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: dict | None = None) -> None:
        _model(runner).quantize(runner.iter >= self.begin * runner.max_iters)


@HOOKS.register_module()
class WriteTINCHook(Hook):
    """Writes the file when training ends, and says how good it is.

    ``psnr``, ``bpp`` and ``bytes`` are those of the file as it is decoded
    again; they are logged, and stay in the attribute ``results``.

    Args:
        file (str): Its name in the work folder, or a path.
    """

    def __init__(self, file: str = 'signal.tinc') -> None:
        self.file = file
        self.results: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        # its absence would be told after the training
        constriction_module()

    def after_train(self, runner: Runner) -> None:
        model = _model(runner)
        data = model.to_bytes()
        signal = model.signal
        self.results = dict(
            psnr=psnr(signal, decode(data)),
            bpp=8 * len(data) / signal.num_pixels,
            bytes=len(data))
        path = Path(runner.work_dir, self.file)
        with replacing(path) as beside:
            beside.write_bytes(data)
        runner.logger.info(
            f'{path}: {len(data)} bytes, {self.results["bpp"]:.4f} bits per '
            f'pixel, PSNR {self.results["psnr"]:.2f} dB')
        runner.visualizer.add_scalars(self.results, step=runner.iter)


@HOOKS.register_module()
class PrintProgressHook(Hook):
    """Prints ten lines during a training, without a logger.

    Their PSNR is that of the part that is trained on, in units of the
    signal's range.
    """

    priority = 'VERY_LOW'

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        step = runner.iter + 1
        if step % max(1, runner.max_iters // 10) and step < runner.max_iters:
            return
        # of values in [-1, 1]
        loss = max(outputs['loss'].item(), 1e-12)
        decibels = 10 * math.log10(4 / loss)
        print(
            f'step {step:5d} of {runner.max_iters}: {decibels:5.2f} dB',
            flush=True)
