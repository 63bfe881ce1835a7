"""Whatever is wrong with a file, nothing of it gets into the model."""
import copy
import pickle
import zipfile

import pytest
import torch
import torch.nn as nn
from deploy.networks import as_if_trained, bi_resnet, build
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint

from mmcompress.binary import BiRealConv2d, XNORLinear
from mmcompress.deploy import pack
from mmcompress.deploy.file.record import FORMAT_VERSION, checksum
from mmcompress.registry import MODELS

WEIGHT = 'layers.3.chain.0.weight_bits'


@pytest.fixture(scope='module')
def packed():
    return pack(build('ida_det')[0])[1]


@pytest.fixture
def state(packed):
    return copy.deepcopy(packed.state_dict())


def empty_model(**kwargs):
    """As a config builds it: packed layers without weights."""
    cfg = {**bi_resnet(), **kwargs}
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(
            dict(type='mmcompress.Packed', packed_type=cfg.pop('type'), **cfg))


def refuse(model, path, match):
    """mmengine's way to load, which only warns of missing keys."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match=match) as error:
        load_checkpoint(model, str(path), map_location='cpu')
    assert str(path) in str(error.value)
    assert all(model.state_dict()[k].equal(v) for k, v in before.items())


def test_a_good_file_loads(packed, state, tmp_path):
    torch.save(dict(state_dict=state), tmp_path / 'good.pth')
    model = empty_model()
    load_checkpoint(model, str(tmp_path / 'good.pth'))
    x = torch.randn(1, 3, 64, 64)
    assert all(a.equal(b) for a, b in zip(model(x), packed(x)))
    model.load_state_dict(state, strict=True)


def _flip(state):
    state[WEIGHT][5] ^= 1


def _shorten(state):
    state[WEIGHT] = state[WEIGHT][:-1]


@pytest.mark.parametrize(
    'damage', [
        _flip, _shorten, lambda state: state.pop(WEIGHT),
        lambda state: state.pop('packed_fingerprint'),
        lambda state: state.pop('packed_checksum'),
        lambda state: state['layers.0.weight'].mul_(2),
        lambda state: state.update(more=torch.zeros(1))
    ],
    ids=[
        'bit', 'shape', 'missing', 'fingerprint', 'checksum', 'float', 'more'
    ])
def test_damaged_values(state, damage, tmp_path):
    damage(state)
    torch.save(dict(state_dict=state), tmp_path / 'bad.pth')
    refuse(empty_model(), tmp_path / 'bad.pth', 'damaged')


def _remove(state):
    del state[WEIGHT]


def _rename(state):
    state['layers.3.chain.0.bits'] = state.pop(WEIGHT)


def _as_floats(state):
    state[WEIGHT] = state[WEIGHT].float()


def _as_signed(state):
    state[WEIGHT] = state[WEIGHT].view(torch.int8)


def _half_constant(state):
    state['layers.3.chain.0.scale'] = state['layers.3.chain.0.scale'].half()


def _reshape(state):
    state[WEIGHT] = state[WEIGHT][None]


def _expand(state):
    state[WEIGHT] = state[WEIGHT][:1].expand(len(state[WEIGHT]))


def _sparse(state):
    state['layers.0.weight'] = state['layers.0.weight'].to_sparse()


def _no_tensor(state):
    state[WEIGHT] = state[WEIGHT].tolist()


def _number(state):
    state['layers.3.chain.0.scale'] = 1.0


def _version(value):

    def change(state):
        state['packed_version'] = value

    return change


@pytest.mark.parametrize('change', [
    _remove, _rename, _as_floats, _as_signed, _half_constant, _reshape,
    _expand, _sparse, _no_tensor, _number,
    _version(torch.tensor(0)), _version(torch.tensor(1.0)),
    _version(torch.tensor([1, 1])), _version(torch.tensor(-1)),
    _version(1), _version(None)
])  # yapf: disable
def test_a_recomputed_checksum_does_not_help(state, change, tmp_path):
    change(state)
    try:
        state['packed_checksum'] = checksum(state)
    except (AttributeError, RuntimeError, TypeError):
        # nor would a digest of it be one
        pass
    torch.save(dict(state_dict=state), tmp_path / 'bad.pth')
    refuse(empty_model(), tmp_path / 'bad.pth', 'damaged')


def test_a_tensor_that_claims_gigabytes_is_not_looked_at(state):
    # 4 TB of one byte
    state[WEIGHT] = torch.zeros(1, dtype=torch.uint8).expand(2**42)
    with pytest.raises(RuntimeError, match='damaged.*claims more bytes'):
        empty_model().load_state_dict(state)


def test_a_tensor_without_values_is_refused(state):
    state[WEIGHT] = state[WEIGHT].to('meta')
    with pytest.raises(RuntimeError, match='damaged.*no dense tensor'):
        empty_model().load_state_dict(state)


def test_a_model_in_another_precision_takes_the_file(packed, state):
    model = empty_model().half()
    model.load_state_dict(state)
    assert model.layers[0].weight.dtype == torch.float16
    assert model.layers[3].chain[0].scale.equal(
        packed.layers[3].chain[0].scale)


def test_buildered_records_are_not_unpacked(state, tmp_path):
    torch.save(dict(state_dict=state), tmp_path / 'good.pth')
    with zipfile.ZipFile(tmp_path / 'good.pth') as good, zipfile.ZipFile(
            tmp_path / 'bad.pth', 'w', zipfile.ZIP_DEFLATED) as bad:
        for record in good.infolist():
            bad.writestr(record.filename, good.read(record))
    refuse(empty_model(), tmp_path / 'bad.pth', 'is compressed')


def test_overlapping_records_are_not_read(state, tmp_path):
    torch.save(dict(state_dict=state), tmp_path / 'bad.pth')
    content = bytearray((tmp_path / 'bad.pth').read_bytes())
    # sizes of an entry of the directory at the end: packed and unpacked
    entry = content.rindex(b'PK\x01\x02')
    content[entry + 20:entry + 28] = 2 * (2**30).to_bytes(4, 'little')
    (tmp_path / 'bad.pth').write_bytes(content)
    refuse(empty_model(), tmp_path / 'bad.pth', 'more bytes than the file has')


def test_names_of_classes_are_checked_too(state, tmp_path):
    file = tmp_path / 'bad.pth'
    torch.save(dict(meta=dict(classes=['truck']), state_dict=state), file)
    file.write_bytes(file.read_bytes().replace(b'truck', b'trick'))
    refuse(empty_model(), file, r'bad.pth: .*damaged: Bad CRC-32.*data.pkl')


@pytest.mark.parametrize('size', [0, 100, 0.5, 0.99])
def test_truncated_file(state, size, tmp_path):
    torch.save(dict(state_dict=state), tmp_path / 'bad.pth')
    content = (tmp_path / 'bad.pth').read_bytes()
    end = int(size * len(content)) if size < 1 else size
    (tmp_path / 'bad.pth').write_bytes(content[:end])
    refuse(empty_model(), tmp_path / 'bad.pth', 'bad.pth is damaged')


def test_newer_format(state, tmp_path):
    state['packed_version'] += 1
    torch.save(dict(state_dict=state), tmp_path / 'bad.pth')
    refuse(empty_model(), tmp_path / 'bad.pth',
           f'format {FORMAT_VERSION + 1}.*update mmcompress')


@pytest.mark.parametrize('change, match', [
    (dict(base_channels=16), r'layers\.0\.weight has shape \(8, 3, 7, 7\)'),
    (dict(strides=(1, 2, 2, 1)), 'architecture'),
    (dict(out_indices=(3, )), 'architecture'),
    (dict(block='bireal'), 'architecture'),
])  # yapf: disable
def test_another_architecture(state, change, match, tmp_path):
    torch.save(dict(state_dict=state), tmp_path / 'bad.pth')
    refuse(empty_model(**change), tmp_path / 'bad.pth', match)


def test_weights_that_are_not_packed(tmp_path):
    model, _ = build('ida_det')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'bad.pth')
    refuse(empty_model(), tmp_path / 'bad.pth', 'run tools/deploy/pack.py')


def test_copies_still_check(packed, state):
    state['packed_version'] += 1
    for model in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        with pytest.raises(RuntimeError, match='update mmcompress'):
            model.load_state_dict(state)


def test_a_prefix_of_a_wrapper_is_no_problem(packed, state):
    wrapper = nn.ModuleDict(dict(module=copy.deepcopy(packed)))
    wrapper.load_state_dict({f'module.{k}': v for k, v in state.items()})


def test_half_precision_of_the_same_values_has_the_same_checksum(state):
    name = 'layers.0.weight'
    state[name] = state[name].half().float()
    digest = checksum(state)
    state[name] = state[name].half()
    assert checksum(state).equal(digest)


@pytest.mark.parametrize('name', ['ida_det', 'vgg', 'resnet18'])
def test_packed_weights_in_a_model_that_is_not_packed(name, tmp_path):
    model, _ = build(name)
    torch.save(
        dict(state_dict=pack(model)[1].state_dict()), tmp_path / 'packed.pth')
    refuse(model, tmp_path / 'packed.pth', 'the checkpoint is a packed one')


def plain_network():
    """Layers in a row, as somebody without any mm library has them."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), BiRealConv2d(8, 16, 3),
        nn.BatchNorm2d(16), nn.PReLU(16), BiRealConv2d(16, 8, 3),
        nn.Flatten(), XNORLinear(72, 5))  # yapf: disable


def test_a_plain_network_comes_back_from_its_packed_weights(tmp_path):
    torch.manual_seed(0)
    model = as_if_trained(plain_network())
    packed = pack(model)[1]
    torch.save(packed.state_dict(), tmp_path / 'packed.pth')
    loaded = pack(plain_network())[1]
    loaded.load_state_dict(torch.load(tmp_path / 'packed.pth'))
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        assert torch.equal(loaded(x), packed(x))
        torch.testing.assert_close(packed(x), model(x))
