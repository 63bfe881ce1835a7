"""What a run does, one stage after the other, each once."""
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config

from mmcompress.analysis.complexity import complexity, total
from mmcompress.analysis.subject import load_weights
from mmcompress.atomic import replacing
from mmcompress.deploy.file.convert import pack_file
from mmcompress.lowbit import LowBitLayer
from mmcompress.model.checkpoint import fill, read_checkpoint, weights_of
from mmcompress.model.config import build_untrained, read_config
from mmcompress.model.inputs import noise_batch
from mmcompress.model.plain_file import plain_content
from mmcompress.model.training_images import training_images
from mmcompress.pruning.prune_file import Choice, prune_file
from mmcompress.pruning.pruned_config import dense_parts
from mmcompress.quantization.calibration import begin_scales, calibrate
from mmcompress.quantization.post_training import (post_training, rounding_of,
                                                   scale_names)
from mmcompress.quantization.quantizer import Quantizer, bypassed
from mmcompress.results import Subject
from .balance import apply, balance
from .low_bit import steps_for_bits
from .pays import slower, what_pays
from .plan import Plan, losses_of_pruned
from .state import State
from .training import train
from .written import write_model_config, write_training_config

# images that set scales where only the time of layers is looked at
_PROBE_IMAGES = 2
# a training of so many seconds is worth another one, to compare with
_CONTROL_SECONDS = 900
_ALL_SLOWER = ('All layers are slower than in float here; they have few bits '
               'nevertheless, for a smaller file')


class Stages:
    """The stages of a run; what is done already is not done again.

    Args:
        plan (Plan): What is to be done.
        state (State): What is done.
        say (Callable): Gets sentences and tables.
    """

    def __init__(self, plan: Plan, state: State, say: Callable[[str],
                                                               None]) -> None:
        self.plan = plan
        self.state = state
        self.say = say
        self.options = plan.options
        self.folder = plan.folder

    def _once(self, stage: str, work: Callable) -> object:
        """The result of a stage, computed if it is not there yet."""
        if stage not in self.state:
            self.state.finish(stage, work())
        return self.state[stage]

    def _path(self, suffix: str) -> Path:
        return self.folder / f'{self.plan.name}{suffix}'

    # ---- Structure ---------------------------------------------------------

    def prune(self) -> None:
        """Remove units or channels; the rest starts from what is left."""
        if not self.options.prune:
            return

        def work() -> str:
            out = self._path('_pruned.pth')
            choice = Choice(ratio=self.options.prune)
            if not self.plan.units:
                choice = Choice(channels=dict(ratio=self.options.prune))
            prune_file(
                self.options.config,
                self.options.checkpoint,
                str(out),
                choice,
                options=self.options.cfg_options)
            return str(out)

        self._once('prune', work)

    def _start(self) -> str:
        """The checkpoint of float weights."""
        if 'prune' in self.state:
            return self.state['prune']
        return self.options.checkpoint

    def _start_config(self) -> Config:
        """The config of the float weights."""
        if 'prune' in self.state:
            return read_config(self.state['prune'].replace('.pth', '.py'))
        return self.plan.cfg

    def steps(self, exclude: list[str]) -> list[dict]:
        """All steps that change the dense model, without slow layers."""
        _, steps = dense_parts(self._start_config())
        steps = [*steps, *self.plan.token_steps()]
        if self.plan.low_bit:
            for_onnx = self.options.export == 'onnx'
            steps += steps_for_bits(self.plan.family, self.options.bits,
                                    self.plan.model, exclude, for_onnx).steps
        return steps

    def _build(self) -> tuple[nn.Module, dict]:
        """The compressed model with the float weights, and their meta."""
        cfg = read_config(str(self._path('.py')))
        model = build_untrained(cfg)
        checkpoint = read_checkpoint(self._start())
        fill(model, weights_of(checkpoint))
        # not chained: train() of some backbones in mm libraries returns None
        model.eval()
        return model, checkpoint.get('meta', {})

    def write_config(self, probe: bool = True) -> None:
        """Write the config of the compressed model; slow layers stay float.

        Args:
            probe (bool): Whether to time the layers.
        """

        def work() -> list[str]:
            exclude = list(self.options.exclude)
            write_model_config(self.plan, self.steps(exclude))
            if probe and self.plan.low_bit and not self.options.keep_slow:
                exclude += self._slow_layers()
                write_model_config(self.plan, self.steps(exclude))
            return exclude

        self._once('config', work)

    def _slow_layers(self) -> list[str]:
        """Names of layers that are faster as float ones, on this machine."""
        cfg = read_config(str(self._path('.py')))
        model, _ = self._build()
        if any(isinstance(m, Quantizer) for m in model.modules()):
            begin = calibrate if self.options.calibrates else begin_scales
            begin(model, training_images(cfg, _PROBE_IMAGES))
        self.say('Timing the low-bit layers against the float ones')
        times = what_pays(self._float_twin(), model, cfg, self.options.device)
        names, sentences = slower(times)
        if all(n in names for n, m in model.named_modules()
               if isinstance(m, LowBitLayer)):
            names, sentences = [], [_ALL_SLOWER]
        self.state.finish('slower', sentences)
        for sentence in sentences:
            self.say(sentence)
        return names

    def _float_twin(self) -> nn.Module:
        """The float model, pruned if the other one is."""
        model = build_untrained(self._start_config())
        load_weights(model, self._start())
        model.eval()
        return model

    # ---- Weights -----------------------------------------------------------

    def _save(self, model: nn.Module, meta: dict, path: Path) -> str:
        with replacing(path) as temporary:
            torch.save(plain_content(model, meta), temporary)
        return str(path)

    def calibrate(self) -> None:
        """Set scales by images; the result, or where training starts."""
        if self.plan.low_bit and not self.options.calibrates:
            return

        def work() -> dict:
            model, meta = self._build()
            names = None
            if self.options.calibrates:
                cfg = read_config(str(self._path('.py')))
                batches = training_images(cfg, self.options.images, fewer=True)
                model.to(self.options.device)
                post_training(
                    model,
                    batches,
                    self.say,
                    rounding=rounding_of(self._weight_bits()))
                names = scale_names(model)
            suffix = '_start.pth' if self.options.trains else '.pth'
            return dict(
                checkpoint=self._save(model, meta, self._path(suffix)),
                scales=names)

        self._once('calibrate', work)

    def _weight_bits(self) -> int:
        return int(self.plan.low_bit.label[1:].partition('a')[0])

    def _training_start(self) -> tuple[str, list[str] | None]:
        """Where training starts, and scales without weight decay."""
        if 'calibrate' in self.state:
            found = self.state['calibrate']
            return found['checkpoint'], found['scales']
        model, _ = self._build()
        return self._start(), scale_names(model) or None

    def train(self) -> None:
        """Train, with a teacher if there is one."""
        if not self.options.trains:
            return
        start, scales = self._training_start()
        losses = self._balanced(start, scales)
        config = write_training_config(self.plan, start, scales, losses)
        found = self._once('train',
                           lambda: self._trained(config, 'train', 'training'))
        if 'weights' not in self.state:
            self._take(found['checkpoint'], self._path('.pth'))
            self.state.finish('weights', str(self._path('.pth')))
        self._control(start, scales, found['seconds'])

    def _trained(self, config: Path, folder: str, what: str) -> dict:
        checkpoint, seconds = train(
            config,
            self.folder / folder,
            self.plan.budget.iterations,
            what,
            say=self.say)
        return dict(checkpoint=str(checkpoint), seconds=seconds)

    def _take(self, checkpoint: str, path: Path) -> None:
        """Write the weights of a training as those of the plain model."""
        model = build_untrained(read_config(str(self._path('.py'))))
        meta = load_weights(model, checkpoint).get('meta', {})
        self._save(model, meta, path)

    def _balanced(self, start: str, scales: list[str] | None) -> dict | None:
        """Losses, weighed so that none outweighs the model's own."""
        if not self.plan.distillation:
            return None

        def work() -> dict:
            losses = self.plan.distillation.losses
            if self.options.prune:
                losses = losses_of_pruned(self.plan, self._float_twin())
            config = write_training_config(self.plan, start, scales, losses)
            cfg = read_config(str(config))
            found = balance(cfg, device=self.options.device)
            for one in found:
                self.say(one.sentence())
            return apply(losses, found)

        return self._once('balance', work)

    def _control(self, start: str, scales: list[str] | None,
                 seconds: float) -> None:
        """Train the student alone, to see what the teacher gives."""
        if not self.plan.distillation or self.options.control == 'no':
            return
        if self.options.control == 'auto' and seconds > _CONTROL_SECONDS:
            self.say(f'Not compared with the student alone: its training '
                     f'would take about {seconds / 60:.0f} minutes '
                     '(--control yes)')
            return
        config = write_training_config(self.plan, start, scales, alone=True)

        def work() -> dict:
            found = self._trained(config, 'alone', 'the student alone')
            out = self._path('_alone.pth')
            self._take(found['checkpoint'], out)
            return dict(found, checkpoint=str(out))

        self._once('alone', work)

    # ---- Files for inference -----------------------------------------------

    def pack(self) -> None:
        """Pack the low-bit layers."""
        if not self.plan.low_bit:
            return

        def work() -> str:
            out = self.folder / 'packed.pth'
            pack_file(
                str(self._path('.py')), str(self._path('.pth')), str(out))
            return str(out)

        self._once('pack', work)

    def export(self) -> None:
        """Write the ONNX file: of the packed model, if it has 1-bit layers."""
        if not self.options.export:
            return

        if 'export' in self.state and not self.state['export']['file']:
            # what was missing may be there now
            self.state.finish('export', self._exported())
        for sentence in self._once('export', self._exported)['said']:
            self.say(sentence)

    def _exported(self) -> dict:
        # not of those who don't export
        from mmcompress.deploy.onnx import NoPostprocess, export_file
        from mmcompress.deploy.onnx.sentences import sentences
        out = self.folder / 'model.onnx'
        config, checkpoint = self._path('.py'), self._path('.pth')
        if self.options.bits == '1':
            config, checkpoint = (
                self.folder / f'packed.{end}' for end in ('py', 'pth'))
        files = dict(config=str(config), checkpoint=str(checkpoint))
        said = []
        try:
            try:
                report = export_file(*files.values(), str(out))
            except NoPostprocess as error:
                said.append(f'{error}: the file ends with what the head '
                            'returns')
                report = export_file(
                    *files.values(), str(out), postprocess=False)
        except (ValueError, RuntimeError, ImportError) as error:
            # what was compressed so far is not lost
            return dict(files, file=None, said=[f'No ONNX file: {error}'])
        return dict(files, file=str(out), said=said + sentences(report))

    # ---- What is measured --------------------------------------------------

    def subjects(self) -> list[Subject]:
        """Forms of the model, the float one first, the smallest one last."""
        options = self.options
        label = self.plan.low_bit.label if self.plan.low_bit else 'float'
        config = str(self._path('.py'))
        found = [Subject('float', self._float_config(), options.checkpoint)]
        if 'alone' in self.state:
            found.append(
                Subject('student alone', config,
                        self.state['alone']['checkpoint'], label))
        if options.trains and options.calibrates:
            found.append(
                Subject('without training', config,
                        self.state['calibrate']['checkpoint'], label))
        found.append(
            Subject('compressed', config, str(self._path('.pth')), label))
        if 'pack' in self.state:
            packed = self.state['pack']
            found.append(
                Subject('packed', packed.replace('.pth', '.py'), packed,
                        label))
        onnx = self.state['export'] if 'export' in self.state else {}
        if onnx.get('file'):
            found.append(
                Subject('onnx', onnx['config'], onnx['checkpoint'], label,
                        onnx['file']))
        return found

    def _float_config(self) -> str:
        """The user's config, with the options of the run."""
        base = self._path('_base.py')
        return str(base) if base.exists() else self.options.config

    def methods(self) -> list[str]:
        """Names of what was done, as in the metafiles."""
        options, plan = self.options, self.plan
        names = []
        if options.prune:
            names.append('UPop' if plan.units else 'Channel pruning')
        if options.tokens:
            names.append('ToMe')
        if plan.low_bit:
            names.append(plan.low_bit.label)
        if plan.distillation:
            names.append(plan.distillation.recipe)
        return names

    def remarks(self) -> list[str]:
        """Sentences of the stages about what did not pay."""
        said = list(self.state['slower']) if 'slower' in self.state else []
        if 'export' in self.state and not self.state['export']['file']:
            said += self.state['export']['said']
        return said

    def sizes(self) -> str:
        """What the compressed model will hold, before it is trained."""
        model = build_untrained(self.plan.cfg)
        # norms of pooled features refuse a batch of one while they train
        model.eval()
        before = total(complexity(model, noise_batch(self.plan.cfg, model)))
        cfg = read_config(str(self._path('.py')))
        model, _ = self._build()
        with bypassed(model):
            after = total(complexity(model, noise_batch(cfg, model)))
        return (f'expected: {before.params / 1e6:.2f} M parameters -> '
                f'{after.params / 1e6:.2f} M; '
                f'{before.bytes_stored / 1e6:.2f} MB -> '
                f'{after.bytes_packed / 1e6:.2f} MB; multiply-accumulates '
                f'{before.macs / 1e9:.3f} G -> {after.macs / 1e9:.3f} G, '
                f'{after.flops / 1e9:.3f} G of them float')
