"""The search space: ResNets of chosen block, width and numbers of blocks."""
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from mmengine.registry import TASK_UTILS

# channels that a block puts out, as a multiple of its stage's width
EXPANSION = dict(BasicBlock=1, Bottleneck=4)
_SHORT = dict(BasicBlock='basic', Bottleneck='bottleneck')


@dataclass(frozen=True)
class Candidate:
    """One network of a space.

    Attributes:
        block (str): ``'BasicBlock'`` or ``'Bottleneck'``.
        base_channels (int): Width of the first stage.
        stage_blocks (tuple[int, ...]): Blocks of each stage.
    """
    block: str
    base_channels: int
    stage_blocks: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as ``'basic-w16-d3.5.7'``; different for others."""
        depths = '.'.join(map(str, self.stage_blocks))
        return f'{_SHORT[self.block]}-w{self.base_channels}-d{depths}'

    def as_dict(self) -> dict:
        """As stored in results."""
        return {**asdict(self), 'stage_blocks': list(self.stage_blocks)}


def _distinct(name: str, values: Sequence) -> list:
    values = list(values)
    if not values or len(set(values)) < len(values):
        raise ValueError(f'space.{name}={values} must be a list of different '
                         'choices')
    return values


@TASK_UTILS.register_module()
class ResNetSpace:
    """All ResNets of some blocks, widths and numbers of blocks per stage.

    The student's backbone in the config is one of ``StageResNet``,
    ``StageResNetCIFAR`` and ``StageDetResNet``; a candidate changes its
    ``block``, ``base_channels`` and ``stage_blocks``, and the
    ``in_channels`` of what follows: of the neck where that has them, else of
    the head. The stem keeps its width.

    A mutation chooses one of block, width and numbers of blocks, among those
    with several choices, and gives it another value.

    Args:
        stage_blocks (Sequence[Sequence[int]]): For each stage, the numbers of
            blocks to choose from.
        base_channels (Sequence[int]): Widths of the first stage.
        block (Sequence[str]): Of ``'BasicBlock'`` and ``'Bottleneck'``.

    Raises:
        ValueError: If there is nothing to choose, or a choice is none.
    """

    def __init__(
        self,
        stage_blocks: Sequence[Sequence[int]],
        base_channels: Sequence[int],
        block: Sequence[str] = ('BasicBlock', )
    ) -> None:
        if isinstance(block, str):
            raise ValueError(f'space.block={block!r} must be a list')
        unknown = set(block) - set(EXPANSION)
        if unknown:
            raise ValueError(f'space.block: {", ".join(map(str, unknown))} is '
                             f'none of {", ".join(EXPANSION)}')
        if not all(
                isinstance(c, Sequence)
                for c in (stage_blocks, base_channels, *stage_blocks)):
            raise ValueError(
                f'space.stage_blocks={stage_blocks}, space.base_channels='
                f'{base_channels}: write a list of choices for the width, and '
                'one for each stage')
        if not 1 <= len(stage_blocks) <= 4:
            raise ValueError(f'space.stage_blocks has {len(stage_blocks)} '
                             'stages; ResNets have one to four')
        self.axes = [
            _distinct('block', block),
            _distinct('base_channels', base_channels),
            *(_distinct(f'stage_blocks[{i}]', choices)
              for i, choices in enumerate(stage_blocks))
        ]
        for axis in self.axes[1:]:
            if not all(isinstance(n, int) and n > 0 for n in axis):
                raise ValueError(f'space: {axis} must be positive integers')
        if self.size < 2:
            raise ValueError('space: there is only one candidate')

    @property
    def size(self) -> int:
        """Number of candidates."""
        return math.prod(map(len, self.axes))

    def __iter__(self) -> Iterator[Candidate]:
        for block, width, *depths in itertools.product(*self.axes):
            yield Candidate(block, width, tuple(depths))

    def sample(self, rng: random.Random) -> Candidate:
        """Draw a candidate, all equally likely."""
        block, width, *depths = map(rng.choice, self.axes)
        return Candidate(block, width, tuple(depths))

    def mutate(self, candidate: Candidate, rng: random.Random) -> Candidate:
        """Change one choice of a candidate to another one."""
        chosen = rng.choice(
            [i for i, axis in enumerate(self.axes) if len(axis) > 1])
        values = [
            candidate.block, candidate.base_channels, *candidate.stage_blocks
        ]
        values[chosen] = rng.choice(
            [v for v in self.axes[chosen] if v != values[chosen]])
        block, width, *depths = values
        return replace(
            candidate,
            block=block,
            base_channels=width,
            stage_blocks=tuple(depths))

    def options(self, candidate: Candidate, model: dict) -> dict:
        """What a candidate changes in the config of the student.

        Args:
            candidate (Candidate): One of this space.
            model (dict): Config of the student.

        Returns:
            dict: Nested, to be merged into ``model``.

        Raises:
            ValueError: If the student is of another form.
        """
        backbone = model.get('backbone') or {}
        if 'stage_blocks' not in backbone:
            raise ValueError(
                'the backbone of the student has no `stage_blocks` to choose; '
                f'its type is {backbone.get("type")!r}, write '
                "'mmcompress.StageResNet', 'mmcompress.StageResNetCIFAR' or, "
                "for detectors, 'mmcompress.StageDetResNet'")
        stages = len(candidate.stage_blocks)
        for key in ('strides', 'dilations'):
            if key in backbone and len(backbone[key]) != stages:
                raise ValueError(f'backbone.{key}={tuple(backbone[key])}, but '
                                 f'space.stage_blocks has {stages} stages')
        widths = [
            candidate.base_channels * 2**i * EXPANSION[candidate.block]
            for i in range(stages)
        ]
        outputs = backbone.get('out_indices') or (stages - 1, )
        if max(outputs) >= stages:
            raise ValueError(f'backbone.out_indices={tuple(outputs)}, but '
                             f'space.stage_blocks has {stages} stages')
        channels = [widths[i] for i in outputs]
        changed = dict(backbone=candidate.as_dict())
        if 'in_channels' in (model.get('neck') or {}):
            before = model['neck']['in_channels']
            changed['neck'] = dict(in_channels=channels[-1] if isinstance(
                before, int) else channels)
        elif 'in_channels' in (model.get('head') or {}):
            changed['head'] = dict(in_channels=channels[-1])
        else:
            raise ValueError('neither `neck` nor `head` of the student has '
                             '`in_channels`, which candidates change')
        return changed
