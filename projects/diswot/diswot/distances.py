"""How far two networks are from each other on one batch."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32

# rows shorter than this are divided by it instead of by their length
EPS = 1e-12


def fc_gradient(pooled: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross entropy for the classifier's weight.

    With a linear classifier ``logits = pooled @ W.T + b`` it is ``(softmax(
    logits) - onehot(labels)).T @ pooled / N``, so nothing is differentiated.

    Args:
        pooled (Tensor): What the classifier sees, shape (N, C).
        logits (Tensor): What it yields, shape (N, K).
        labels (Tensor): Classes in [0, K), shape (N, ), integers.

    Returns:
        Tensor: Shape (K, C), at least float32.

    Raises:
        ValueError: If shapes don't fit, or a label is no class.
    """
    if pooled.dim() != 2 or logits.dim() != 2 or \
            labels.shape != logits.shape[:1] or len(pooled) != len(labels):
        raise ValueError(
            f'pooled {tuple(pooled.shape)}, logits {tuple(logits.shape)} and '
            f'labels {tuple(labels.shape)} must be (N, C), (N, K) and (N, ), '
            'with one label for each image')
    num_classes = logits.shape[1]
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'labels go from {labels.min()} to {labels.max()}; a classifier '
            f'of {num_classes} classes knows 0 to {num_classes - 1}')
    pooled, logits = at_least_float32(pooled), at_least_float32(logits)
    error = logits.softmax(1) - F.one_hot(labels.long(), num_classes)
    with torch.autocast(error.device.type, enabled=False):
        return error.T @ pooled / len(pooled)


def _normalized_gram(rows: Tensor) -> Tensor:
    """Products of all rows with each other, each row of length 1.

    Not in half precision under autocast: products of a few hundred squares
    overflow there.

    Args:
        rows (Tensor): Shape (..., R, D).

    Returns:
        Tensor: Shape (..., R, R).
    """
    with torch.autocast(rows.device.type, enabled=False):
        return F.normalize(rows @ rows.transpose(-1, -2), dim=-1, eps=EPS)


def channel_semantic_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Semantic distance of feature maps, ``D_sem`` in its general form.

    For each image, which channels respond together: the Gram matrix of the
    channels, each row of length 1.

    Args:
        student (Tensor): Shape (N, C, ...), such as (N, C, H, W).
        teacher (Tensor): Shape (N, C, ...); only N and C must be equal.

    Returns:
        Tensor: Squared differences of the matrices, summed and divided by
        ``N * C``; a scalar in [0, 4], at least float32.

    Raises:
        ValueError: If images or channels differ.
    """
    if student.dim() < 2 or student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f'student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} must be (N, C, ...) with equal N and C; '
            'the relation distance compares different channels')
    gram_s, gram_t = (
        _normalized_gram(
            at_least_float32(x).flatten(2) if x.dim() >
            2 else at_least_float32(x)[..., None]) for x in (student, teacher))
    return (gram_s - gram_t).square().sum() / gram_s.shape[:2].numel()


def semantic_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Semantic distance of two classifiers, from their gradients.

    It equals :func:`channel_semantic_distance` of the gradients as maps (K,
    C, 1), whose matrices of rank 1 need not be written out: row i is ``c_i``
    times ``g / |g|``, with ``c_i`` the sign of ``g_i``. So it is the mean
    over classes of ``2 * (1 - a * cos(g_s, g_t))``, with ``a`` the mean
    product of signs.

    Args:
        student (Tensor): See :func:`fc_gradient`, shape (K, C).
        teacher (Tensor): Shape (K, C).

    Returns:
        Tensor: Scalar in [0, 4], at least float32.

    Raises:
        ValueError: If classes or channels differ.
    """
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            f'gradients of the student {tuple(student.shape)} and of the '
            f'teacher {tuple(teacher.shape)} must be (K, C), of equal classes '
            'and channels; else only the relation distance is defined')
    units, signs = [], []
    for gradient in map(at_least_float32, (student, teacher)):
        length = gradient.norm(dim=1, keepdim=True)
        tiny = torch.finfo(length.dtype).tiny
        units.append(gradient / length.clamp(min=tiny))
        # the sign, unless the row is shorter than EPS
        signs.append(gradient * length /
                     (gradient.abs() * length).clamp(min=EPS))
    cosine = (units[0] * units[1]).sum(1, keepdim=True)
    squares = signs[0].square() + signs[1].square()
    return (squares - 2 * signs[0] * signs[1] * cosine).mean()


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Relation distance ``D_rel``: which images a network takes for alike.

    The Gram matrix of the images' features, each row of length 1. It doesn't
    depend on how many features there are, nor on a rotation of them.

    Args:
        student (Tensor): Shape (N, ...).
        teacher (Tensor): Shape (N, ...); only N must be equal.

    Returns:
        Tensor: Squared differences of the matrices, summed and divided by
        ``N ** 2``, a scalar; always 0 for one image. It shrinks with N:
        compare only values of equal N.

    Raises:
        ValueError: If the numbers of images differ.
    """
    if student.dim() < 2 or teacher.dim() < 2 or len(student) != len(teacher):
        raise ValueError(
            f'student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} must be (N, ...), of the same images')
    gram_s, gram_t = (
        _normalized_gram(at_least_float32(x).flatten(1))
        for x in (student, teacher))
    return (gram_s - gram_t).square().sum() / len(student)**2
