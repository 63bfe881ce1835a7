import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mmcompress.analysis.subject import build_subject
from mmcompress.model.config import read_config

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'token_matchings.py'
spec = importlib.util.spec_from_file_location('token_matchings', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

CONFIG = """_base_ = '{base}'

few = dict(dataset=dict(settings=dict(num_train=8, num_val=8)))
val_dataloader = few
test_dataloader = val_dataloader
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Config and checkpoint of a vision transformer and of few images."""
    folder = tmp_path_factory.mktemp('tokens')
    config = folder / 'few.py'
    base = ROOT / 'configs' / 'tome' / 'vit_mini.py'
    config.write_text(CONFIG.format(base=base))
    torch.manual_seed(0)
    state = build_subject(read_config(str(config))).state_dict()
    torch.save(dict(state_dict=state), folder / 'vit.pth')
    return str(config), str(folder / 'vit.pth')


def values(trained, r, options, seed=0):
    config, checkpoint = trained
    return tool.evaluate(read_config(config), checkpoint, r, options,
                         seed=seed)  # yapf: disable


@pytest.mark.parametrize(
    'name, left',
    [
        ('ToMe', 9),
        pytest.param(
            'ToMe, no proportional attention', 9, marks=pytest.mark.slow),
        pytest.param('complete graph', 9, marks=pytest.mark.slow),
        pytest.param('EViT', 5, marks=pytest.mark.slow),
        pytest.param('PiToMe', 9, marks=pytest.mark.slow),
        # 12 are those of four cells
        ('2x2 cells in the first layer, then ToMe', 9),
        pytest.param(
            'random tokens, most similar partner', 9, marks=pytest.mark.slow),
        pytest.param('random pairs', 9, marks=pytest.mark.slow),
    ])
def test_each_matching_leaves_as_many_tokens(trained, name, left):
    result = values(trained, 12, tool.BY_NUMBER[name])
    assert result['tokens'] == left and result['name'] == 'accuracy/top1'


def test_dense_has_all_tokens_and_thresholds_decide_per_image(trained):
    assert values(trained, None, None)['tokens'] == 65
    options = dict(matching=dict(type='threshold', above=0.9))
    assert values(trained, None, options)['tokens'] % 1


def fake_evaluate(cfg, checkpoint, r, options, metric, seed, device):
    """As of a model without a class token."""
    if options and options.get('matching') == 'evit':
        raise ValueError('there is no class token')
    return dict(name='mIoU', value=40. + seed, tokens=65 if r is None else 9)


def test_tool_prints_a_table_and_keeps_every_value(tmp_path, monkeypatch,
                                                   capsys):
    out = tmp_path / 'new' / 'log.json'
    config = str(ROOT / 'configs' / 'tome' / 'vit_mini.py')
    monkeypatch.setattr(tool, 'evaluate', fake_evaluate)
    monkeypatch.setattr('sys.argv', [
        str(TOOL), config, 'a/first.pth', 'a/second.pth', '--r', '8',
        '(16, -1)', '--matchings', 'EViT', 'random pairs', '--above', '.9',
        '--out', str(out)
    ])  # yapf: disable
    tool.main()
    printed = capsys.readouterr().out
    assert 'EViT: there is no class token' in printed
    assert printed.endswith(
        '| matching | r = 8 | r = (16, -1) |\n'
        '| :-- | --: | --: |\n'
        '| dense | 40.5 ± 0.7 (65) |  |\n'
        '| random pairs | 40.5 ± 0.7 (9) | 40.5 ± 0.7 (9) |\n'
        '| all pairs above 0.9 | 40.5 ± 0.7 (65) |  |\n\n')
    records = json.loads(out.read_text())['records']
    assert len(records) == 8
    assert records[1] == dict(matching='dense', column='', seed=1,
                              checkpoint='second.pth', name='mIoU', value=41.,
                              tokens=65)  # yapf: disable


def test_the_metric_is_one_of_the_config(trained):
    config, checkpoint = trained
    with pytest.raises(SystemExit, match='mIoU: the config measures accuracy'):
        tool.evaluate(read_config(config), checkpoint, None, None, 'mIoU')
