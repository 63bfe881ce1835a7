"""How large each loss is, and how strongly it pulls at the taps."""
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmcompress.distill.distiller import distiller_of
from mmcompress.distill.gradient_norms import short_name
from mmcompress.registry import HOOKS
from mmcompress.tables import format_table


@HOOKS.register_module()
class LossGradientHook(Hook):
    """Log the size and the gradient norm of each loss.

    The norm is that of the loss's gradient at the modules of the student that
    a distillation loss taps: it is what one weighs losses by, since the size
    of a loss says little about its pull. The numbers go into the log as a
    table, and as scalars ``gradient.<loss>@<tapping loss>`` to the
    visualizer. A measured step costs one more backward per loss, down to the
    taps.

    Args:
        interval (int): Measure every so many iterations. Defaults to 50.

    Raises:
        ValueError: If the model is not built by ``mmcompress.Distill``.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Find the distiller."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        self.distiller = distiller_of(model)
        if self.distiller is None:
            raise ValueError(
                'LossGradientHook measures losses at the taps of '
                f'mmcompress.Distill, which {type(model).__name__} has not')

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Let the distiller measure in this step, or not."""
        self.distiller.log_gradients = self.every_n_train_iters(
            runner, self.interval)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Log what was measured."""
        if not self.distiller.log_gradients:
            return
        self.distiller.log_gradients = False
        norms = {
            tuple(key[len('gradient.'):].split('@')): value.item()
            for key, value in outputs.items() if key.startswith('gradient.')
        }
        taps = list(dict.fromkeys(tap for _, tap in norms))
        measured = {loss for loss, _ in norms}
        rows = [[key, f'{value.item():.4g}'] +
                [f'{norms[short_name(key), tap]:.4g}' for tap in taps]
                for key, value in outputs.items()
                if 'loss' in key and short_name(key) in measured]
        runner.logger.info(
            format_table(
                f'Losses and their gradients, iteration {runner.iter + 1}',
                ['loss', 'value'] + [f'gradient at {tap}' for tap in taps],
                rows))
