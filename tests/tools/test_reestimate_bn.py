import importlib.util
from pathlib import Path

import pytest
import torch
from distill.models import build, retinanet
from integration.small_runs import write_config

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'misc' / 'reestimate_bn.py'

spec = importlib.util.spec_from_file_location('reestimate_bn', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def run(folder, monkeypatch):
    """Call the tool as from the command line, in the folder."""

    def call(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr('sys.argv', [str(TOOL), *arguments])
        tool.main()

    return call


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A config of a detector on 8 images, and a checkpoint of a training."""
    folder = tmp_path_factory.mktemp('bn')
    model = retinanet(num_classes=10)
    write_config(folder / 'config.py', model)
    state = build(model).state_dict()
    state['distill.adapter.weight'] = torch.zeros(3)
    torch.save(
        dict(
            meta=dict(epoch=3, dataset_meta=dict(classes=('a', 'b'))),
            state_dict=state,
            optimizer=dict(state={0: torch.zeros(1)})), folder / 'epoch_3.pth')
    return folder


def test_only_statistics_change_and_the_result_loads_plainly(
        folder, run, capsys):
    run('config.py', 'epoch_3.pth', 'out.pth', '--batches', '3')
    assert '20 batch norms' in capsys.readouterr().out
    before = torch.load(folder / 'epoch_3.pth')
    after = torch.load(folder / 'out.pth', weights_only=True)
    assert set(after) == {'meta', 'state_dict'}
    assert after['meta'] == before['meta']
    old, new = before['state_dict'], after['state_dict']
    assert list(old) == list(new)
    for key in old:
        moved = key.split('.')[-1] in ('running_mean', 'running_var',
                                       'num_batches_tracked')
        assert torch.equal(old[key], new[key]) != moved, key
    build(retinanet(num_classes=10)).load_state_dict(new, strict=False)


def test_more_batches_than_there_are_is_an_error(folder, run):
    with pytest.raises(ValueError, match='has only 4 batches of 2'):
        run('config.py', 'epoch_3.pth', 'never.pth', '--batches', '9')
    assert not (folder / 'never.pth').exists()


def test_a_checkpoint_of_another_model_is_an_error(folder, run):
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), folder / 'other.pth')
    with pytest.raises(RuntimeError, match='is not of this config'):
        run('config.py', 'other.pth', 'never.pth')
    assert not (folder / 'never.pth').exists()
