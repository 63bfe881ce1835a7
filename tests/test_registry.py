"""Look-ups find what is asked for, and import nothing else."""
import json
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope

import mmcompress
from mmcompress import registry
from mmcompress.registry import DATASETS, HOOKS, MODELS, SCHEDULES, STEPS
from mmcompress.scoped_registry import registrations

REGISTRIES = [getattr(registry, name) for name in registry.__all__]
LIBRARIES = {
    'mmcv', 'mmdet', 'mmpose', 'mmpretrain', 'mmseg', 'sklearn', 'torchvision'
}
PACKAGES = [
    'mmcompress.backbones', 'mmcompress.binary', 'mmcompress.binary.backbones',
    'mmcompress.binary.heads', 'mmcompress.binary.layers',
    'mmcompress.binary.necks', 'mmcompress.datasets', 'mmcompress.distill',
    'mmcompress.distill.losses', 'mmcompress.hooks'
]


def imported_by(*steps):
    """What each step imports, one after the other, in a new interpreter."""
    code = 'import json, sys\n'
    for step in steps:
        code += f'before = set(sys.modules)\n{step}\n'
        code += 'print("@" + json.dumps(sorted({*sys.modules} - before)))\n'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                          capture_output=True,
                          text=True,
                          check=True)
    return [
        set(json.loads(line[1:])) for line in done.stdout.splitlines()
        if line.startswith('@')
    ]


def test_a_look_up_imports_the_module_that_has_the_name():
    steps = [
        'from mmcompress.registry import MODELS',
        "MODELS.get('mmcompress.FGDLoss')",
        'from mmengine.runner import CheckpointLoader\n'
        "assert 'cache://' in CheckpointLoader._schemes",
        *(f'assert MODELS.get({name!r}) is not None'
          for name in ('KDLoss', 'mmcompress.XNORConv2d',
                       'mmcompress.PointNet', 'mmcompress.Distill',
                       'mmcompress.Compress')), 'import ' + ', '.join(PACKAGES)
    ]
    imported = imported_by(*steps)
    assert not LIBRARIES & set().union(*imported)
    base = 'mmcompress.distill.losses.base'
    losses = [{m for m in modules if m.startswith(base[:-4])}
              for modules in imported]  # yapf: disable
    own = {base, f'{base[:-4]}checks', f'{base[:-4]}fgd'}
    assert losses[:3] == [set(), own, set()]
    assert losses[3] == {f'{base[:-4]}kd'}
    assert 'mmcompress.compat' in imported[1]


@pytest.mark.parametrize('package', PACKAGES)
def test_a_package_offers_what_it_lists(package):
    module = import_module(package)
    assert module.__all__ and set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        offered = getattr(module, name)
        # a module of that name would hide it
        assert callable(offered) and offered.__name__ == name
    with pytest.raises(AttributeError, match=f'{package}.*no_such_name'):
        module.no_such_name


def test_everything_that_is_registered_was_read_off_the_sources():
    for file in Path(mmcompress.__file__).parent.rglob('*.py'):
        parts = file.relative_to(Path(mmcompress.__file__).parents[1])
        if file.stem not in ('__main__', '__init__'):
            import_module('.'.join(parts.with_suffix('').parts))
    for variable, registered in zip(registry.__all__, REGISTRIES):
        ours = {
            name: module.__module__
            for name, module in registered._module_dict.items()
            if module.__module__.startswith('mmcompress.')
        }
        assert ours == registrations()[variable]


def test_a_registration_may_have_names(tmp_path, monkeypatch):
    (tmp_path / 'a.py').write_text(
        "@MODELS.register_module(name=['One', 'Two'])\n"
        '@torch.no_grad()\ndef Three():\n    pass\n\n\n'
        "@HOOKS.register_module('Four', force=True)\n"
        '@HOOKS.register_module()\nclass Five:\n    pass\n\n\n'
        "STEPS.register_module(name='Six', module=Five)\n"
        'STEPS.register_module(\n    module=Five)\n')
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / '__init__.py'
     ).write_text('@HOOKS.register_module()\nclass Seven:\n    pass\n')
    (tmp_path / '.mim').mkdir()
    (tmp_path / '.mim' /
     'a.py').write_text('@HOOKS.register_module()\nclass Eight:\n    pass\n')
    monkeypatch.setattr('mmcompress.scoped_registry.__file__',
                        str(tmp_path / 'scoped_registry.py'))
    home = 'mmcompress.a'
    assert registrations.__wrapped__() == dict(
        MODELS=dict(One=home, Two=home),
        HOOKS=dict(Four=home, Five=home, Seven='mmcompress.b'),
        STEPS=dict(Six=home, Five=home))


@pytest.mark.parametrize('key', [
    'mmcompress.FGDLoss', 'mmcompress.distill.losses.FGDLoss',
    'mmcompress.distill.losses.fgd.FGDLoss'
])
def test_every_way_to_name_it_is_the_same_class(key):
    from mmcompress.distill.losses.fgd import FGDLoss
    assert ROOT_MODELS.get(key) is MODELS.get(key) is FGDLoss
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert ROOT_MODELS.get(key) is FGDLoss


def test_what_there_is_counts_and_is_shown():
    assert 'FGDLoss' in MODELS and 'mmcompress.FGDLoss' in MODELS
    assert 'mmcompress.FGDLoss' in ROOT_MODELS and 'Conv2d' in MODELS
    assert 'FGDLos' not in MODELS and 'mmcompress.FGDLos' not in MODELS
    assert len(MODELS) >= len(registrations()['MODELS'])
    assert set(registrations()['HOOKS']) <= set(HOOKS.module_dict)
    assert 'ExactResumeHook' in repr(HOOKS)


@pytest.mark.parametrize('root', [ROOT_MODELS, MODELS])
def test_a_misspelt_name_lists_the_closest(root):
    with pytest.raises(KeyError, match="no model 'FGDLos'; closest: FGDLoss"):
        root.build(dict(type='mmcompress.FGDLos'))
    with pytest.raises(KeyError, match='closest: ReplaceConvs'):
        STEPS.build(dict(type='mmcompress.ReplaceConv'))
    with pytest.raises(KeyError, match='closest: InformTeacherHook'):
        ROOT_HOOKS.build(dict(type='mmcompress.InformTeachrHook'))


def test_somebody_elses_class_of_the_same_name_is_refused():
    with pytest.raises(KeyError, match='PKDLoss is already registered'):

        @MODELS.register_module()
        class PKDLoss:
            pass


def test_nor_is_ours_when_its_module_was_not_yet_imported(monkeypatch):
    module = 'mmcompress.distill.losses.pkd'
    monkeypatch.delitem(sys.modules, module, raising=False)
    others = {k: v for k, v in MODELS._module_dict.items() if k != 'PKDLoss'}
    monkeypatch.setattr(MODELS, '_module_dict', others)

    class PKDLoss:
        pass

    with pytest.raises(KeyError, match=f'already registered.* at {module}'):
        MODELS.register_module(module=PKDLoss)
    MODELS.register_module(module=PKDLoss, force=True)
    import_module(module)
    assert MODELS.get('mmcompress.PKDLoss') is PKDLoss


def test_steps_and_schedules_are_built_in_any_scope(monkeypatch):
    said = []
    monkeypatch.setattr('mmengine.logging.print_log',
                        lambda message, *args, **kwargs: said.append(message))
    with DefaultScope.overwrite_default_scope('mmdet'):
        for type in ('PiecewiseLinear', 'mmcompress.PiecewiseLinear'):
            SCHEDULES.build(dict(type=type, points=[(0, 1.0), (1, 0.0)]))
    assert said and 'Failed to search' not in str(said)


def test_classes_survive_pickling():
    for found in (MODELS.get('XNORConv2d'), DATASETS.get('Rendered')):
        assert pickle.loads(pickle.dumps(found)) is found


def test_in_a_base_of_ours_a_bare_name_is_the_librarys():
    from mmdet.models.dense_heads import SSDHead
    with DefaultScope.overwrite_default_scope('mmdet'):
        with ROOT_MODELS.switch_scope_and_registry('mmcompress') as found:
            assert found.get('SSDHead') is SSDHead
            assert found.get('mmcompress.SSDHead') is MODELS.get('SSDHead')
            assert MODELS.get('mmcompress.SSDHead') is not SSDHead
            # which mmdet doesn't have, and which we don't have
            assert found.get('FGDLoss') is MODELS.get('FGDLoss')
            assert MODELS.get('RetinaNet') is found.get('RetinaNet')
            assert found.get('Conv2d') is not None
        with pytest.raises(KeyError, match='Nothing is not in the mmdet::'):
            ROOT_MODELS.build(dict(type='Nothing', _scope_='mmcompress'))
        # called on ours, ours comes first
        with MODELS.switch_scope_and_registry('mmcompress') as found:
            assert found.get('SSDHead') is MODELS.get('mmcompress.SSDHead')


def test_registries_of_a_library_alone_know_our_scope():
    from mmpose.registry import KEYPOINT_CODECS
    with DefaultScope.overwrite_default_scope('mmpose'):
        ROOT_MODELS.build(
            dict(type='KLDiscretLoss', _scope_='mmcompress', beta=1.0))
        codec = KEYPOINT_CODECS.build(
            dict(
                type='SimCCLabel',
                _scope_='mmcompress',
                input_size=(64, 64),
                sigma=2.0))
    assert type(codec).__name__ == 'SimCCLabel'
    assert 'mmcompress' in KEYPOINT_CODECS.children


@pytest.mark.parametrize('module', [
    'mmcompress.datasets.tokenizer', 'mmcompress.tokens.clip_retrieval',
    'mmcompress.tokens.step', 'mmcompress.pruning.rebuild'
])
@pytest.mark.slow
def test_a_part_may_be_imported_before_the_registries(module):
    """Each in a process, in which nothing was imported before it."""
    code = f'import {module}; from mmcompress.registry import MODELS'
    subprocess.run([sys.executable, '-c', code], check=True)
