import importlib.util
from pathlib import Path

import pytest
import torch
from distill.pose_models import build, rtmpose

from mmcompress.distill.converters import convert_dwpose

TOOL = Path(__file__).parents[2] / 'tools/model_converters/official_dwpose.py'


def wrapped(student, teacher):
    """Weights as the official distiller names them."""
    return {
        **{f'teacher.{k}': v
           for k, v in teacher.state_dict().items()},
        **{f'student.{k}': v
           for k, v in student.state_dict().items()},
        'distill_losses.loss_fea.align.weight': torch.zeros(1)
    }  # yapf: disable


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the tool in an empty folder."""
    spec = importlib.util.spec_from_file_location('official_dwpose', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr('sys.argv', [str(TOOL), *arguments])
        tool.main()

    return call


@pytest.mark.parametrize('with_neck', [False, True])
@pytest.mark.parametrize('two_dis', [False, True])
def test_the_tool_writes_what_a_plain_model_loads(two_dis, with_neck, run):
    cfg = rtmpose(with_neck=with_neck)
    student, teacher, plain = (build(cfg, seed=i) for i in range(3))
    torch.save(
        dict(
            meta=dict(epoch=7),
            state_dict=wrapped(student, teacher),
            message_hub={},
            optimizer={}), 'official.pth')
    run('official.pth', 'plain.pth', *['--two-dis'] * two_dis)
    loaded = torch.load('plain.pth', weights_only=True)
    assert set(loaded) == {'meta', 'state_dict'}
    plain.load_state_dict(loaded['state_dict'], strict=True)
    for name, part in plain.named_children():
        source = teacher if two_dis and name != 'head' else student
        for key, value in source.get_submodule(name).state_dict().items():
            assert torch.equal(part.state_dict()[key], value), key


@pytest.mark.parametrize('two_dis', [False, True])
def test_a_plain_checkpoint_is_refused(two_dis):
    state = build(rtmpose()).state_dict()
    with pytest.raises(ValueError, match='backbone.stem.0.conv.weight'):
        convert_dwpose(dict(state_dict=state), two_dis)


@pytest.mark.parametrize('two_dis', [False, True])
def test_mmposes_left_over_of_another_method_becomes_a_part_of_the_head(
        two_dis):
    state = {
        'teacher.backbone.a': 1,
        'distill_losses.loss_mgd.down.b': 2,
        'student.head.c': 3
    }
    expected = {'backbone.a': 1, 'head.down.b': 2, 'head.c': 3}
    if not two_dis:
        expected = {'head.c': 3}
    converted = convert_dwpose(dict(state_dict=state), two_dis)['state_dict']
    assert list(converted.items()) == list(expected.items())
