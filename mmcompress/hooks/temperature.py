"""Raise the temperature of Quantization Networks while they train."""
import torch
import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmcompress.quantization import QNActivation, QNWeight, QuantLayer
from mmcompress.registry import HOOKS


def soft_difference(model: nn.Module) -> float | None:
    """How far the weights in training are from those in evaluation.

    Args:
        model (nn.Module): Whose layers have weights by :class:`QNWeight`.

    Returns:
        float | None: Sum of absolute differences, divided by that of what
        evaluation uses; None if there is nothing to compare.
    """
    sums = [
        layer.weight_quant.soft_difference(layer.weight)
        for layer in model.modules()
        if isinstance(layer, QuantLayer) and isinstance(
            layer.weight_quant, QNWeight) and layer.weight_quant.is_initialized
    ]
    if not sums:
        return None
    difference, total = torch.stack(sums).sum(0).tolist()
    return difference / total if total else 0.


@HOOKS.register_module()
class TemperatureHook(Hook):
    """Sets the temperatures of :class:`QNWeight` and :class:`QNActivation`.

    In epoch ``e``, counted from 1, it is ``e * step``: the larger, the closer
    the values of the training are to those of the evaluation, and the fewer
    weights still move. It is in the log, as is how far the weights of the
    training are from those of the evaluation after each epoch.

    Temperatures follow from the progress of the run alone, so a resumed
    training goes on with the right ones.

    Args:
        step_w (float | None): Of weights. None: there are none.
        step_a (float | None): Of activations. None: there are none.
        interval (int | None): Iterations after which the temperature rises by
            a step, instead of an epoch; 1 for a training of few epochs, whose
            steps are small then. Needed where a loop counts iterations.

    Raises:
        ValueError: If a step or the interval isn't positive; if a training
            has quantizers without a step, a step without quantizers, or no
            epochs.
    """

    def __init__(self,
                 step_w: float | None = None,
                 step_a: float | None = None,
                 interval: int | None = None) -> None:
        for name, value in dict(
                step_w=step_w, step_a=step_a, interval=interval).items():
            if value is not None and value <= 0:
                raise ValueError(f'TemperatureHook: {name} must be positive, '
                                 f'got {value}')
        self.steps = {QNWeight: step_w, QNActivation: step_a}
        self.interval = interval
        self.is_set = False

    def before_train(self, runner: Runner) -> None:
        """Look whether steps and quantizers belong together."""
        self.quantizers = {
            kind: [m for m in runner.model.modules() if isinstance(m, kind)]
            for kind in self.steps
        }
        for (kind, step), name in zip(self.steps.items(),
                                      ('step_w', 'step_a')):
            there = len(self.quantizers[kind])
            if there and step is None:
                raise ValueError(
                    f'TemperatureHook has no {name}, by which the temperature '
                    f'of {there} {kind.__name__} rises every epoch: write '
                    f'{name}=10')
            if step is not None and not there:
                raise ValueError(
                    f'TemperatureHook has {name}={step}, and the model no '
                    f'{kind.__name__}: leave out {name}, or quantize with '
                    "type='mmcompress.QuantizeLayers'")
        if (self.interval is None
                and isinstance(runner.train_loop, IterBasedTrainLoop)):
            raise ValueError(
                'TemperatureHook: a loop over iterations has no epochs, say '
                'after how many iterations the temperature rises: '
                'interval=1000')

    def before_train_epoch(self, runner: Runner) -> None:
        """Set them for an epoch."""
        if self.interval is None:
            self._set(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set them where an interval begins, and where a run does."""
        if self.interval is None:
            return
        begins = runner.iter % self.interval == 0
        if begins or not self.is_set:
            self._set(runner, runner.iter // self.interval)

    def after_train_epoch(self, runner: Runner) -> None:
        """Say how far training and evaluation are from each other."""
        difference = soft_difference(runner.model)
        if difference is not None:
            runner.logger.info(
                f'The weights that Quantization Networks trains with differ '
                f'from those that it evaluates with by {difference:.2%}')

    def _set(self, runner: Runner, past: int) -> None:
        self.is_set = True
        for kind, step in self.steps.items():
            if step is None:
                continue
            value = (past + 1) * step
            for quantizer in self.quantizers[kind]:
                quantizer.set_temperature(value)
            name = 'temperature_' + ('w' if kind is QNWeight else 'a')
            runner.message_hub.update_scalar(f'train/{name}', value)
