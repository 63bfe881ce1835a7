"""Time and memory of a whole training step of real models.

Writes results/models.json: for full training, for training the last layers
exactly, and with their gradients filtered.
"""
import argparse
import copy
import time

import gradient_filter  # noqa: F401
import torch
import torch.nn as nn
from memory import peak_bytes, saved_bytes
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from record import write

from mmcompress.analysis.timing import (against, interleaved,
                                        keep_freed_memory, machine)
from mmcompress.model.config import read_config, without_downloads
from mmcompress.model.inputs import made_up_batch

_CLASSIFIER = ['*', '~backbone.layer4.*.conv?', '~head']
_SEGMENTER = ['*', '~decode_head', '~backbone.layer4.*.conv?']
# config, library, height and width, images, and what of it is filtered
MODELS_MEASURED = {
    'ResNet-18':
    dict(
        cfg='mmpretrain::resnet/resnet18_8xb32_in1k.py',
        scope='mmpretrain',
        size=(224, 224),
        num=8,
        layers=['backbone.layer4.*.conv?'],
        freeze=_CLASSIFIER),
    'PSPNet-R18':
    dict(
        cfg='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
        scope='mmseg',
        size=(256, 256),
        num=2,
        layers=['backbone.layer4.*.conv?', 'decode_head.bottleneck.conv'],
        freeze=_SEGMENTER,
        changes=dict(
            auxiliary_head=None,
            pretrained=None,
            backbone=dict(norm_cfg=dict(type='BN')),
            decode_head=dict(norm_cfg=dict(type='BN'))))
}


def steps_of(subject: dict) -> dict[str, list[dict]]:
    """What is done to the model, by variant."""
    step = dict(type='mmcompress.FilterGradients', norm_eval=True)
    part = dict(step, freeze=subject['freeze'])
    return {
        'all, exact': [dict(step, layers={})],
        'last, exact': [dict(part, layers={})]
    } | {
        f'last, r{patch}':
        [dict(part, layers=dict.fromkeys(subject['layers'], patch))]
        for patch in (2, 4)
    }


def build(subject: dict, steps: list[dict]) -> nn.Module:
    """A model with random weights, in training mode."""
    cfg = read_config(subject['cfg'], dict(model=subject.get('changes', {})))
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(
        dict(type='mmcompress.Compress', model=cfg.model, steps=steps))
    without_downloads(model)
    model.init_weights()
    return model.train()


def measure(subject: dict, rounds: int) -> dict:
    """Seconds and bytes of a model's training step, by variant.

    Args:
        subject (dict): One of :data:`MODELS_MEASURED`.
        rounds (int): Measurements of each variant.
    """
    forwards, steps, result = {}, {}, {}
    for name, step in steps_of(subject).items():
        torch.manual_seed(0)
        model = build(subject, step)
        batch = made_up_batch(model, subject['scope'], subject['size'],
                              subject['num'])
        wrapper = OptimWrapper(
            torch.optim.SGD([p for p in model.parameters() if p.requires_grad],
                            lr=1e-6))

        def loss(model=model, batch=batch):
            return model.parse_losses(
                model(**copy.deepcopy(batch), mode='loss'))[0]

        def train(loss=loss, wrapper=wrapper):
            wrapper.update_params(loss())

        forwards[name], steps[name] = loss, train
        train()
        result[name] = dict(
            saved_bytes=saved_bytes(loss, model), peak_bytes=peak_bytes(train))
        print(name, result[name], flush=True)
    parts = {('step', name): part for name, part in steps.items()}
    parts |= {('forward', name): part for name, part in forwards.items()}
    # of one thread, on a machine where others compute
    seconds = interleaved(parts, rounds, 1, clock=time.process_time)
    found = against(seconds, ('step', 'last, exact'))
    for name, numbers in result.items():
        step = found['step', name]
        numbers.update(
            step_ms=step['ms'],
            forward_ms=found['forward', name]['ms'],
            against_last_exact=step['ratio'],
            interval=step['interval'])
    return result


def main() -> None:
    """Measure all models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    numbers = {}
    for name, subject in MODELS_MEASURED.items():
        with DefaultScope.overwrite_default_scope(subject['scope']):
            variants = measure(subject, args.rounds)
        numbers[name] = dict(
            size=subject['size'], num=subject['num'], variants=variants)
        write('models',
              dict(machine=machine('cpu'), rounds=args.rounds, models=numbers))


if __name__ == '__main__':
    main()
