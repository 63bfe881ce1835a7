import importlib.util
from pathlib import Path

import pytest
import torch

from comparison.networks import Network
from mmcompress.results import read_records

TOOL = Path(__file__).parents[3] / 'tools' / 'benchmarks' / 'packed.py'
spec = importlib.util.spec_from_file_location('packed', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The tool, with metrics that are given."""
    torch.save(
        dict(state_dict=dict(a=torch.zeros(9), b=torch.zeros(1))),
        tmp_path / 'net.pth')

    def run(trained, folded, packed, config='configs/net.py', options=()):
        found = {None: trained, 'folded': folded, 'packed': packed}
        monkeypatch.setattr(
            tool, 'pack_file',
            lambda config, checkpoint, out: Path(out).write_bytes(bytes(8)))
        monkeypatch.setattr(
            tool, 'metrics',
            lambda config, checkpoint, twin: dict(top1=found[twin], top5=99.0))
        monkeypatch.setattr('sys.argv', [
            'packed.py', config,
            str(tmp_path / 'net.pth'), '--work-dir',
            str(tmp_path / 'packed'), *options
        ])
        return tool.main(), capsys.readouterr()

    return run


def test_a_row_has_the_first_metric_and_the_bytes(run):
    status, said = run(90.05, 90.0, 90.0)
    assert status == 0
    assert said.out.splitlines()[-1] == (
        '| net | top1 | 90.05 | 90 | 90 | 40 | 8 | 5.0 |')


def test_a_seed_makes_a_record_of_it(run, tmp_path, monkeypatch):
    network = Network('classification', 'ResNet', ['LSQ'], 'w4a4', 10)
    monkeypatch.setattr(tool, 'network_of', lambda *_: network)
    config = TOOL.parents[2] / 'configs' / 'lsq' / 'lsq_resnet_w4_a4_mini.py'
    options = ['--seed', '1', '--store', str(tmp_path)]
    for packed in (90.0, 89.0):
        assert run(90.05, packed, packed, str(config), options)[0] == 0
    # the newer one
    record, = read_records(tmp_path / 'packed.json')
    assert record.config == 'configs/lsq/lsq_resnet_w4_a4_mini.py'
    assert record.form('packed').metrics['top1'] == 89.0
    assert record.form('as trained').bytes == 40
    assert record.form('packed').bits == 'w4a4'
    assert record.settings['method'] == 'lsq_resnet_w4_a4'


def test_twins_that_differ_are_an_error(run):
    status, said = run(90.0, 90.0, 89.95)
    assert status == 1
    assert 'net: the metrics of the folded twin' in said.err
    assert '| net |' not in said.out


def test_a_config_without_its_checkpoint_is_refused(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['packed.py', 'a.py', 'a.pth', 'b.py'])
    with pytest.raises(SystemExit):
        tool.main()
    assert 'b.py has no checkpoint' in capsys.readouterr().err
