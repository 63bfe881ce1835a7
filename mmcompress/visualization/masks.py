"""Masks and attentions of distillation losses, as the losses compute them."""
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmcompress.distill.losses import FGDLoss, IDaDetLoss, MGDLoss
from mmcompress.distill.losses.fgd import attention, foreground_background
from mmcompress.distill.losses.ida_det import paint, predict_proposals, select
from .features import activation, tapped


@dataclass
class Panel:
    """One picture of a level.

    Attributes:
        title (str): What it shows.
        values (Tensor): Of the positions, shape (H, W), or of the channels,
            shape (C, ).
    """
    title: str
    values: Tensor


def _levels(value: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [value] if isinstance(value, Tensor) else value


def fgd_panels(loss: FGDLoss, seen: dict, sample,
               model: nn.Module) -> list[list[Panel]]:
    """FGD: scale masks, and the teacher's attentions."""
    boxes = sample.gt_instances.bboxes
    size = sample.metainfo[loss.mask_ref][:2]
    rows = []
    for level, teacher in zip(loss.levels, _levels(seen['teacher'])):
        foreground, background = foreground_background(boxes, size,
                                                       teacher.shape[-2:])
        spatial, channel = attention(teacher, level.temp)
        rows.append([
            Panel('foreground: 1 / cells of its box', foreground),
            Panel('background: 1 / cells outside', background),
            Panel("teacher's spatial attention", spatial[0]),
            Panel("teacher's channel attention", channel[0])
        ])
    return rows


def mgd_panels(loss: MGDLoss, seen: dict, sample,
               model: nn.Module) -> list[list[Panel]]:
    """MGD: a draw of the mask, and what is generated from the rest."""
    rows = []
    for level, student, teacher in zip(loss.levels, _levels(seen['student']),
                                       _levels(seen['teacher'])):
        mask = loss.draw_mask(teacher, loss.mask_type, loss.lambda_mgd)
        kept = mask[0, 0] if loss.mask_type == 'spatial' else mask[0, :, 0, 0]
        rows.append([
            Panel(f'kept: {kept.mean():.0%}', kept),
            Panel('generated',
                  activation(level(student, mask))[0]),
            Panel("teacher's",
                  activation(teacher)[0])
        ])
    return rows


def ida_det_panels(loss: IDaDetLoss, seen: dict, sample,
                   model: nn.Module) -> list[list[Panel]]:
    """IDa-Det: discrepancy of the candidate boxes, and what is imitated."""
    student, teacher = seen['student'], seen['teacher']
    meta = sample.metainfo
    cfg = model.train_cfg.get('rpn_proposal', model.test_cfg.rpn)
    boxes = loss.boxes(
        predict_proposals(model, student['rpn'], [meta], cfg),
        predict_proposals(model.distill.teacher.model, teacher['rpn'], [meta],
                          cfg))
    masks, _ = loss.masks(student['neck'], teacher['neck'], boxes, [meta])
    rows = []
    for s, t, mask in zip(student['neck'], teacher['neck'], masks):
        size = s.shape[-2:]
        regions, discrepancy = loss.candidates(s[0], t[0], boxes[0], meta)
        largest = s.new_zeros(size)
        for region, value in zip(regions, discrepancy):
            inside = paint(region[None], size, loss.variant)
            largest = torch.where(inside, largest.maximum(value), largest)
        num = len(select(discrepancy, loss.gamma, loss.variant))
        rows.append([
            Panel(f'discrepancy of {len(regions)} candidates', largest),
            Panel(f'imitated: {num} boxes', mask[0].float())
        ])
    return rows


DRAWN = {
    FGDLoss: fgd_panels,
    MGDLoss: mgd_panels,
    IDaDetLoss: ida_det_panels,
}  # yapf: disable


def drawable(model: nn.Module, name: str | None = None) -> list[str]:
    """Names of the losses whose masks can be drawn.

    Args:
        model (nn.Module): From :func:`build_distilled`.
        name (str | None): Only this one.

    Raises:
        ValueError: If there is none, or not this one.
    """
    losses = dict(model.distill.named_children())
    names = [k for k, loss in losses.items() if type(loss) in DRAWN]
    if not names or name not in (None, *names):
        have = ', '.join(f'{k} ({type(v).__name__})'
                         for k, v in losses.items())
        can = ', '.join(kind.__name__ for kind in DRAWN)
        raise ValueError(
            f'masks of {name or "the losses"}: the config has {have}; those '
            f'of {can} can be drawn')
    return [name] if name else names


def mask_panels(model: nn.Module, batch: dict,
                names: list[str]) -> dict[str, list[list[Panel]]]:
    """Pictures of the losses' masks for one image.

    Args:
        model (nn.Module): From :func:`build_distilled`.
        batch (dict): From :func:`image_batch`; for FGD after
            :func:`add_boxes`.
        names (list[str]): From :func:`drawable`.

    Returns:
        dict[str, list[list[Panel]]]: By name of the loss, by level.
    """
    seen = tapped(model, batch)
    panels = {}
    for name in names:
        loss = model.distill.get_submodule(name)
        sides = {side: seen[side][name] for side in seen}
        with torch.no_grad():
            panels[name] = DRAWN[type(loss)](loss, sides,
                                             batch['data_samples'][0], model)
    return panels


def annotated_boxes(cfg: Config, image: str) -> Tensor | None:
    """Boxes of an image that a config tests or trains on.

    Args:
        cfg (Config): Whole config.
        image (str): Path of an image.

    Returns:
        Tensor | None: (x1, y1, x2, y2) in pixels of the file, shape (M, 4);
        None if the image is in neither dataset, or they are not there.
    """
    for key in ('test_dataloader', 'train_dataloader'):
        if cfg.get(key) is None:
            continue
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            try:
                dataset = DATASETS.build(cfg[key].dataset)
            except FileNotFoundError:
                continue
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            if osp.realpath(info['img_path']) == osp.realpath(image):
                boxes = [
                    x['bbox'] for x in info['instances']
                    if not x.get('ignore_flag')
                ]
                return torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return None


def add_boxes(cfg: Config, model: nn.Module, batch: dict, image: str,
              score_thr: float) -> str:
    """Give a detector's data sample boxes, as training would.

    Args:
        cfg (Config): Whole config.
        model (nn.Module): From :func:`build_distilled`.
        batch (dict): From :func:`image_batch`.
        image (str): Its path.
        score_thr (float): Where the image is not annotated, the teacher's
            predictions with a higher score are taken.

    Returns:
        str: Whose boxes they are.
    """
    sample, = batch['data_samples']
    boxes, source = annotated_boxes(cfg, image), 'annotated'
    if boxes is None:
        guess, = model.distill.teacher.predict(
            batch['inputs'], [sample.clone()], rescale=False)
        guess = guess.pred_instances
        boxes, source = guess.bboxes[guess.scores > score_thr], 'predicted'
    else:
        height, width = (
            new / old for new, old in zip(sample.img_shape, sample.ori_shape))
        boxes = boxes * boxes.new_tensor([width, height, width, height])
    sample.gt_instances = InstanceData(bboxes=boxes)
    return f'{len(boxes)} boxes, {source}'
