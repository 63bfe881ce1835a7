"""The two distances as distillation losses."""
import warnings

from torch import Tensor

from mmcompress.distill import DistillLoss
from mmcompress.distill.losses.base import channel_adapter
from mmcompress.distill.losses.checks import check_maps, check_tensors
from mmcompress.registry import MODELS
from .distances import channel_semantic_distance, relation_distance


@MODELS.register_module()
class RelationDistanceLoss(DistillLoss):
    """Relation distance of DisWOT (Dong et al., CVPR 2023, 2303.15678).

    ``loss_weight`` times :func:`diswot.distances.relation_distance`, which is
    similarity preserving distillation: images that are alike for the teacher
    shall be for the student. Channels and sizes may differ, so no adapter is
    needed.

    The images are those of one device, and the distance shrinks with their
    number: a weight belongs to a batch size.

    Args:
        loss_weight (float): Defaults to 3000, as the official scripts have
            it, for batches of 64.

    Raises:
        TypeError: In ``forward``, if student or teacher is not a tensor.
        ValueError: If they are not of the same images.
    """

    images_first = True

    def __init__(self, loss_weight: float = 3000.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, ...), such as (N, C, H, W).
            teacher (Tensor): Shape (N, ...), without gradient.

        Returns:
            Tensor: Scalar; 0 without images, and for a single one, with a
            warning.
        """
        check_tensors(self, student=student, teacher=teacher)
        if student.dim() < 2 or teacher.dim() < 2 or \
                len(student) != len(teacher):
            raise ValueError(
                f'RelationDistanceLoss: student {tuple(student.shape)} and '
                f'teacher {tuple(teacher.shape)} must be (N, ...), features '
                'of the same images; tap modules that see each image once')
        if not student.numel() or not teacher.numel():
            return self.zero(student)
        if len(student) == 1:
            warnings.warn('RelationDistanceLoss: one image is like no other '
                          'and adds nothing; use larger batches')
            return self.zero(student)
        return self.loss_weight * relation_distance(student, teacher)


@MODELS.register_module()
class ChannelSemanticLoss(DistillLoss):
    """Semantic distance of DisWOT (Dong et al., CVPR 2023, 2303.15678).

    ``loss_weight`` times :func:`diswot.distances.channel_semantic_distance`,
    which is inter-channel correlation distillation: in each image, channels
    that respond together in the teacher shall do so in the student.

    Args:
        loss_weight (float): Neither paper nor official code gives one for
            this use; 2.5 is a choice.
        student_channels (int | None): With ``teacher_channels``: a 1x1
            convolution adapts the student's channels to the teacher's.
            None: they must be equal.
        teacher_channels (int | None): See ``student_channels``.

    Raises:
        TypeError: In ``forward``, if student or teacher is not a tensor.
        ValueError: If only one of the channels is given, or in ``forward`` if
            these are no maps, or of other images or channels.
    """

    images_first = True

    def __init__(self,
                 loss_weight: float = 2.5,
                 student_channels: int | None = None,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.channels = student_channels, teacher_channels
        self.adapter = channel_adapter(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one level.

        Args:
            student (Tensor): Shape (N, C, H, W).
            teacher (Tensor): Shape (N, C, H', W'), without gradient.

        Returns:
            Tensor: Scalar; 0 without images.
        """
        check_maps(self, student, teacher, self.channels, same_size=False)
        if not student.numel() or not teacher.numel():
            return self.zero(student)
        return self.loss_weight * channel_semantic_distance(
            self.adapter(student), teacher)
