"""ViTKD: mimic a vision transformer's first layers, generate its last."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.registry import MODELS
from .base import DistillLoss
from .checks import check_keys, check_lists, check_tensors


def dropped_tokens(noise: Tensor, ratio: float) -> Tensor:
    """Which tokens are dropped: those with the largest noise.

    Args:
        noise (Tensor): Shape (N, L).
        ratio (float): Share of tokens that is dropped.

    Returns:
        Tensor: Bool, shape (N, L). ``int(L * (1 - ratio))`` are kept.
    """
    num_kept = int(noise.shape[1] * (1 - ratio))
    rank = noise.argsort(dim=1, stable=True).argsort(dim=1)
    return rank >= num_kept


def random_noise(tokens: Tensor) -> Tensor:
    """Uniform noise of shape (N, L) for tokens of shape (N, L, C)."""
    return torch.rand(tokens.shape[:2], device=tokens.device)


@MODELS.register_module()
class ViTKDLoss(DistillLoss):
    """Loss of ViTKD (Yang et al., CVPRW 2024, arXiv:2209.02432).

    - ``loss_lr``, mimicking: ``alpha_vitkd`` times the squared differences of
      the first layers' patch tokens after a linear layer each.
    - ``loss_gen``, generation: of the last layer's tokens, after a linear
      layer, a random part is replaced by a learnt token; two convolutions over
      the grid generate the teacher's. ``beta_vitkd / lambda_vitkd`` times the
      squared differences where tokens were replaced.

    Both are sums, divided by N only. There are no linear layers where the
    widths agree.

    Taps of mmpretrain's transformers: ``dict(low=['backbone.layers.0',
    'backbone.layers.1'], high='backbone.ln1')``, for both sides. Depths may
    differ.

    Args:
        student_dims (int): Width of the student.
        teacher_dims (int): Width of the teacher.
        alpha_vitkd (float): Weight of mimicking.
        beta_vitkd (float): Weight of generation.
        lambda_vitkd (float): Share of the tokens that is replaced.
        num_low (int): How many layers are mimicked.
        student_extra_tokens (int): Tokens before the patches: 1 for the class
            token, 2 with a distillation token.
        teacher_extra_tokens (int): The same of the teacher.

    Raises:
        ValueError: If ``lambda_vitkd`` is not in (0, 1], or in ``forward`` if
            layers, widths or numbers of tokens don't fit, or the patches are
            not a square.

    Attributes:
        draw_noise (Callable): Tokens -> noise, which decides what is replaced.
            Replace it on an instance to inject masks. Defaults to
            :func:`random_noise`.
    """

    weight_names = ('alpha_vitkd', 'beta_vitkd')

    def __init__(self,
                 student_dims: int,
                 teacher_dims: int,
                 alpha_vitkd: float = 3e-5,
                 beta_vitkd: float = 3e-6,
                 lambda_vitkd: float = 0.5,
                 num_low: int = 2,
                 student_extra_tokens: int = 1,
                 teacher_extra_tokens: int = 1) -> None:
        super().__init__()
        if not 0 < lambda_vitkd <= 1:
            raise ValueError(
                f'lambda_vitkd must be in (0, 1], got {lambda_vitkd}')
        self.dims = student_dims, teacher_dims
        self.extra_tokens = student_extra_tokens, teacher_extra_tokens
        self.alpha_vitkd = alpha_vitkd
        self.beta_vitkd = beta_vitkd
        self.lambda_vitkd = lambda_vitkd
        self.draw_noise = random_noise

        def align() -> nn.Module:
            return nn.Identity() if student_dims == teacher_dims else \
                nn.Linear(student_dims, teacher_dims)

        self.align2 = nn.ModuleList(align() for _ in range(num_low))
        self.align = align()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, teacher_dims))
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_dims, teacher_dims, 3, padding=1), nn.ReLU(),
            nn.Conv2d(teacher_dims, teacher_dims, 3, padding=1))

    def forward(self, student: dict, teacher: dict) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            student (dict): ``low``, a list of tensors, and ``high``, a tensor,
                all of shape (N, extra tokens + patches, student_dims).
            teacher (dict): The same, of teacher_dims.

        Returns:
            dict[str, Tensor]: ``loss_lr`` and ``loss_gen``; 0 without images
            or patches.
        """
        check_keys(self, ('low', 'high'), student=student, teacher=teacher)
        low_s, high_s = self._patches(student, 0)
        low_t, high_t = self._patches(teacher, 1)
        shapes = [tuple(x.shape[:2]) for x in (*low_s, *low_t, high_t, high_s)]
        if len(set(shapes)) > 1:
            raise ValueError(
                f'ViTKDLoss: images and patches differ, {shapes}; both need '
                'the same patch size, and student_extra_tokens and '
                'teacher_extra_tokens are those before the patches')
        if not high_s.numel():
            zero = self.zero(*student['low'], student['high'])
            return dict(loss_lr=zero, loss_gen=zero)
        # sums over all tokens overflow in half precision
        with torch.autocast(high_s.device.type, enabled=False):
            mimic = sum((align(s) - t).square().sum()
                        for align, s, t in zip(self.align2, low_s, low_t))
            dropped = dropped_tokens(
                self.draw_noise(high_t), self.lambda_vitkd)[..., None]
            squares = (self.generate(high_s, dropped) - high_t).square()
            missing = torch.where(dropped, squares, 0).sum()
        n = len(high_s)
        return dict(
            loss_lr=self.alpha_vitkd * mimic / n,
            loss_gen=self.beta_vitkd / self.lambda_vitkd * missing / n)

    def generate(self, high: Tensor, dropped: Tensor) -> Tensor:
        """Tokens (N, L, teacher_dims) from those that are not dropped.

        Args:
            high (Tensor): Shape (N, L, student_dims).
            dropped (Tensor): Bool, shape (N, L, 1).
        """
        tokens = torch.where(dropped, self.mask_token, self.align(high))
        n, length, dims = tokens.shape
        side = round(length**0.5)
        if side**2 != length:
            raise ValueError(f'ViTKDLoss: {length} patches are not a square; '
                             'are student_extra_tokens and '
                             'teacher_extra_tokens right?')
        grid = tokens.mT.reshape(n, dims, side, side)
        return self.generation(grid).flatten(2).mT

    def _patches(self, tapped: dict, side: int) -> tuple[list, Tensor]:
        """Patch tokens of the first layers and of the last, checked."""
        extra, dims = self.extra_tokens[side], self.dims[side]
        name = ('student', 'teacher')[side]
        check_lists(self, **{f'{name}.low': tapped['low']})
        check_tensors(self, **{f'{name}.high': tapped['high']})
        tokens = [*tapped['low'], tapped['high']]
        if len(tokens) != len(self.align2) + 1:
            raise ValueError(f'ViTKDLoss: {name}.low yields {len(tokens) - 1} '
                             f'layers, and num_low is {len(self.align2)}')
        wrong = [tuple(t.shape) for t in tokens if t.shape[2:] != (dims, )]
        if wrong:
            raise ValueError(f'ViTKDLoss: {name}_dims is {dims}, and the taps '
                             f'yield {wrong}, not (N, L, {dims})')
        tokens = [t[:, extra:] for t in tokens]
        dtype = torch.promote_types(tokens[0].dtype, torch.float32)
        *low, high = [t.to(dtype) for t in tokens]
        return low, high
