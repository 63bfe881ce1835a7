"""Shared models are the ones that were trained, wherever they are loaded."""
import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from mmengine.config import Config

from mmcompress.deploy.file.checkpoint import write_packed
from mmcompress.deploy.file.config import packed_config
from mmcompress.deploy.twins import fold_in_place, on_kernels
from mmcompress.hub import (from_pretrained, load_folder, push_to_hub,
                            save_pretrained)
from mmcompress.model.config import build_model, read_config
from mmcompress.pruning.structure import PrunedTensor
from mmcompress.results import Form, Latency, Record, write_record

# through whole models and files: beside the suite
pytestmark = [pytest.mark.slow, pytest.mark.gate]

pytest.importorskip('huggingface_hub')
pytest.importorskip('safetensors')

ROOT = Path(__file__).parents[2]
FLOAT = ROOT / 'configs/kd/kd_resnet_mini.py'
ONE_BIT = ROOT / 'configs/react/react_r18_mini.py'
INT8 = ROOT / 'configs/lsq/lsq_resnet_w8_a8_mini.py'
CLASSES = [f'class {i}' for i in range(10)]


def make_run(folder, source, name='trained'):
    """What training leaves, with random weights."""
    folder.mkdir(exist_ok=True)
    cfg = read_config(str(source))
    model = build_model(cfg)
    state = model.state_dict()
    state['distill.adapter.weight'] = torch.ones(1)
    torch.save(
        dict(
            meta=dict(dataset_meta=dict(classes=CLASSES), seed=3),
            state_dict=state,
            optimizer=dict(state={})), folder / f'{name}.pth')
    cfg.dump(str(folder / f'{name}.py'))
    return model.eval()


def same(a, b):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(a(x), b(x))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'run'
    return folder, make_run(folder, FLOAT)


@pytest.fixture(scope='module')
def packed_run(tmp_path_factory):
    """A run of compress.py, as far as sharing looks at it."""
    folder = tmp_path_factory.mktemp('packed') / 'run'
    model = make_run(folder, ONE_BIT)
    folded, _ = fold_in_place(copy.deepcopy(model))
    meta = dict(dataset_meta=dict(classes=CLASSES))
    write_packed(
        on_kernels(folded),
        packed_config(Config.fromfile(folder / 'trained.py')), meta,
        folder / 'packed.pth', [])
    latency = Latency(1.25, 1.2, 1.5, 20, size=[64, 64], threads=1)
    record = Record(
        'compress',
        'classification',
        'ReActNet', ['ReActNet'],
        'mine.py',
        '0' * 12, [
            Form('float', 'a.py', '/home/me/a.pth', 'float', {'top1': 92.75}),
            Form('compressed', 'trained.py', 'trained.pth', 'w1a1'),
            Form('packed', 'packed.py', str(folder / 'packed.pth'), 'w1a1',
                 {'top1': 91.5}, 1000, 123456, latency)
        ],
        metric='top1',
        data='200 images | mine',
        machine='2 cores',
        settings=dict(data='/home/me/data'),
        remarks=['1x1 convolutions: left float'])
    write_record(record, folder / 'record.json')
    return folder, model


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants, file_download
    server = Hub()
    # what HF_ENDPOINT is read to, when huggingface_hub is imported
    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    monkeypatch.setattr(
        file_download, 'HUGGINGFACE_CO_URL_TEMPLATE',
        server.url + '/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_PROGRESS_BARS', True)
    yield server
    server.stop()


def test_a_trained_model_comes_back_without_its_training(run, tmp_path):
    folder, model = run
    shared = save_pretrained(folder, tmp_path / 'shared', 'apache-2.0')
    assert sorted(p.name for p in shared.iterdir()) == [
        'README.md', 'config.py', 'model.safetensors'
    ]
    text = (shared / 'config.py').read_text()
    for word in ('teacher', 'optim_wrapper', 'train_dataloader', '_base_'):
        assert word not in text
    loaded = from_pretrained(shared)
    assert same(loaded, model)
    assert loaded.dataset_meta['classes'] == CLASSES
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert 'kd_resnet' in (shared / 'README.md').read_text()


def test_quantizers_keep_their_state(tmp_path):
    model = make_run(tmp_path / 'run', INT8)
    shared = save_pretrained(tmp_path / 'run', tmp_path / 'shared', 'mit')
    loaded = load_folder(shared)
    own = model.state_dict()
    assert loaded.state_dict().keys() == own.keys()
    for key, value in loaded.state_dict().items():
        assert value.dtype == own[key].dtype and torch.equal(value, own[key])


def test_marks_of_pruned_weights_stay(run, tmp_path):
    shutil.copytree(run[0], tmp_path / 'run')
    path = tmp_path / 'run' / 'trained.pth'
    saved = torch.load(path)
    key = 'head.fc.weight'
    saved['state_dict'][key] = PrunedTensor(key, saved['state_dict'][key])
    torch.save(saved, path)
    shared = save_pretrained(tmp_path / 'run', tmp_path / 'shared', 'mit')
    assert same(load_folder(shared), run[1])
    state = torch.load(shared / 'model.pth')['state_dict']
    assert isinstance(state[key], PrunedTensor)


def test_a_packed_file_is_shared_as_it_is(packed_run, hub):
    folder, model = packed_run
    url = push_to_hub(folder, 'me/small', 'apache-2.0', token='secret')
    assert url.startswith(f'{hub.url}/me/small/commit/')
    files = hub.repos['me/small']
    assert sorted(files) == [
        'README.md', 'config.py', 'model.pth', 'record.json'
    ]
    assert files['model.pth'] == (folder / 'packed.pth').read_bytes()
    assert set(hub.tokens) <= {'Bearer secret', None}
    loaded = from_pretrained('me/small')
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-3, atol=1e-4)
    # what was there goes, as weights of the other format
    push_to_hub(folder, 'me/small', 'apache-2.0', form='compressed')
    assert 'model.safetensors' in files and 'model.pth' not in files
    assert same(from_pretrained('me/small'), model)


def test_nothing_of_this_machine_is_shared(packed_run, tmp_path):
    shared = save_pretrained(packed_run[0], tmp_path / 'shared', 'mit')
    for path in shared.iterdir():
        if path.suffix != '.pth':
            assert '/home/me' not in path.read_text()
            assert str(packed_run[0]) not in path.read_text()


def test_the_card_says_what_was_measured(packed_run, tmp_path):
    import yaml
    shared = save_pretrained(
        packed_run[0], tmp_path / 'shared', 'cc-by-4.0', name='me/small')
    _, head, text = (shared / 'README.md').read_text().split('---\n', 2)
    head = yaml.safe_load(head)
    assert head['license'] == 'cc-by-4.0'
    assert head['pipeline_tag'] == 'image-classification'
    assert ('| **packed** | w1a1 | 91.5 | 1,000 | 0.123 MB | '
            '1.25 ms (1.2 to 1.5) |') in text
    assert '200 images / mine' in text and '2 cores.' in text
    assert "from_pretrained('me/small', device='cpu')" in text
    assert '- 1x1 convolutions: left float' in text


@pytest.mark.parametrize('change, error, named', [
    (lambda f: f.joinpath('config.py').write_text(
        "import os\nmodel = dict(type='mmpretrain.ImageClassifier')"),
     ValueError, 'not an assignment'),
    (lambda f: f.joinpath('config.py').write_text(
        "model = dict(type='os.system', command='x')"), ValueError, 'os'),
    (lambda f: f.joinpath('config.py').unlink(), FileNotFoundError,
     'no config.py'),
    (lambda f: f.joinpath('model.safetensors').unlink(), FileNotFoundError,
     'neither model.safetensors nor'),
    (lambda f: f.joinpath('model.safetensors').write_bytes(b'\0' * 99),
     RuntimeError, 'damaged'),
    (lambda f: f.joinpath('config.py').write_text(
        f.joinpath('config.py').read_text().replace(
            'num_classes=10', 'num_classes=11')), RuntimeError,
     'do not fit its config'),
])
def test_what_is_no_shared_model_is_refused(run, tmp_path, change, error,
                                            named):
    shared = save_pretrained(run[0], tmp_path / 'shared', 'mit')
    change(shared)
    with pytest.raises(error, match=named):
        from_pretrained(shared)


def test_files_that_could_be_several_are_asked_for(run, tmp_path):
    with pytest.raises(ValueError, match='licence'):
        save_pretrained(run[0], tmp_path / 'shared', ' ')
    with pytest.raises(FileNotFoundError, match='no folder'):
        save_pretrained(tmp_path / 'nosuch', tmp_path / 'shared', 'mit')
    with pytest.raises(ValueError, match="no form 'packed'"):
        save_pretrained(run[0], tmp_path / 'shared', 'mit', form='packed')
    shutil.copytree(run[0], tmp_path / 'run')
    shutil.copy(run[0] / 'trained.pth', tmp_path / 'run' / 'best.pth')
    with pytest.raises(ValueError, match=r'best.pth, trained.pth\); name it'):
        save_pretrained(tmp_path / 'run', tmp_path / 'shared', 'mit')
    (tmp_path / 'run' / 'last_checkpoint').write_text('/gone/trained.pth')
    save_pretrained(tmp_path / 'run', tmp_path / 'shared', 'mit')


def test_names_and_missing_libraries(run, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='neither a folder nor'):
        from_pretrained(str(tmp_path / 'nosuch'))
    with pytest.raises(ValueError, match='revision'):
        from_pretrained(run[0], revision='v1')
    with pytest.raises(ValueError, match='owner/name'):
        push_to_hub(run[0], 'small', 'mit')
    monkeypatch.setitem(__import__('sys').modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r'mmcompress\[hub\]'):
        from_pretrained('me/small')


def test_a_repository_that_is_not_there(hub):
    from huggingface_hub.errors import RepositoryNotFoundError
    with pytest.raises(RepositoryNotFoundError):
        from_pretrained('me/nosuch')


def test_paths_of_data_are_replaced(run, tmp_path, logged):
    shutil.copytree(run[0], tmp_path / 'run')
    cfg = Config.fromfile(tmp_path / 'run' / 'trained.py')
    cfg.test_dataloader.dataset.data_root = '/secret/place/'
    cfg.dump(str(tmp_path / 'run' / 'trained.py'))
    shared = save_pretrained(tmp_path / 'run', tmp_path / 'shared', 'mit')
    cfg = load_folder(shared).cfg
    assert cfg.test_dataloader.dataset.data_root == 'data/place/'
    assert any('/secret/place' in line for line in logged)
    assert json.dumps(cfg.to_dict(), default=str).count('secret') == 0
