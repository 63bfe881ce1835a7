"""Signals, codes, files, and the commands."""
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tinc import TINC, decode, load_signal, psnr, read, save_signal
from tinc.coding import Decoder, Encoder, FormatError, fit_distribution
from tinc.command import main
from tinc.file_format import encode, largest_size
from tinc.signal import Signal, from_normalized

PROJECT = Path(__file__).parents[1]


def picture(height=16, width=16, channels=3):
    """Smooth on the left, textured on the right."""
    y, x, c = np.meshgrid(
        *map(np.arange, (height, width, channels)), indexing='ij')
    wave = 60 * np.sin(2.1 * x + 1.3 * y + c) * (x > width / 2)
    return np.round(120 + 3 * x - 2 * y + 10 * c + wave).clip(0, 255).astype(
        np.uint8)


def saved(folder, pixels, name='picture.png'):
    path = folder / name
    save_signal(Signal.of(pixels), path)
    return str(path)


def deep_png(pixels):
    """A PNG of 16 bits for each of three colours, which pillow can't write."""

    def chunk(name, data):
        check = zlib.crc32(name + data).to_bytes(4, 'big')
        return len(data).to_bytes(4, 'big') + name + data + check

    height, width, _ = pixels.shape
    sizes = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
    return b'\x89PNG\r\n\x1a\n' + chunk(
        b'IHDR', sizes + bytes([16, 2, 0, 0, 0])) + chunk(
            b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.fixture
def model(tmp_path):
    """Not trained; its quantizers begin when they are asked for codes."""
    pytest.importorskip('constriction')

    def build(pixels=None, bpp=16., levels=3, **kwargs):
        torch.manual_seed(0)
        path = saved(tmp_path, picture() if pixels is None else pixels)
        return TINC(dict(file=path), bpp, levels, **kwargs)

    return build


# ---- Signals ----------------------------------------------------------------


@pytest.mark.parametrize('name, dtype, shape', [
    ('a.png', 'uint8', (5, 6, 3)),
    ('a.png', 'uint8', (5, 6, 1)),
    ('a.png', 'uint16', (5, 6, 1)),
    ('a.tif', 'float32', (5, 6, 1)),
    ('a.tif', 'uint8', (3, 5, 6, 1)),
    ('a.tif', 'uint16', (3, 5, 6, 1)),
    ('a.tif', 'float32', (3, 5, 6, 1)),
    ('a.npy', 'uint8', (3, 5, 6, 1)),
    ('a.npy', 'float64', (3, 5, 6, 1)),
    ('a.npy', 'float64', (5, 6, 1)),
    ('a.NPY', 'float64', (5, 6, 1)),
    ('a.bmp', 'uint8', (5, 6, 3)),
    ('a.TIF', 'uint16', (3, 5, 6, 1)),
])
def test_a_saved_signal_is_loaded_again(tmp_path, name, dtype, shape):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60000 if dtype == 'uint16' else 255, shape)
    pixels = pixels.astype(dtype)
    signal = load_signal(saved(tmp_path, pixels, name))
    assert signal.pixels.dtype == dtype
    np.testing.assert_array_equal(signal.pixels, pixels)
    unit = signal.normalized()
    assert (unit.min(), unit.max()) == (-1, 1)


@pytest.mark.parametrize('name, shape, dtype, message', [
    ('a.jpg', (4, 4, 3), 'uint8', 'would change'),
    ('a.JPG', (4, 4, 3), 'uint8', 'would change'),
    ('a.avif', (4, 4, 3), 'uint8', 'would change'),
    ('a.png', (4, 4, 1), 'float32', 'real numbers'),
    ('a.png', (4, 4, 4, 1), 'uint8', 'a volume'),
    ('a.tif', (4, 4, 1), 'float64', 'float64'),
])
def test_what_a_format_does_not_hold_is_not_written(tmp_path, name, shape,
                                                    dtype, message):
    with pytest.raises(ValueError, match=message):
        saved(tmp_path, np.ones(shape, dtype), name)


def test_unknown_pixels_are_refused(tmp_path):
    Image.new('RGBA', (4, 4)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='mode RGBA'):
        load_signal(tmp_path / 'a.png')
    with pytest.raises(TypeError, match='int32'):
        Signal.of(np.zeros((4, 4, 1), np.int32))
    with pytest.raises(ValueError, match='finite'):
        Signal.of(np.full((4, 4, 1), np.nan, np.float32))
    np.save(tmp_path / 'a.npy', np.zeros(3))
    with pytest.raises(ValueError, match=r'shape \(3,\)'):
        load_signal(tmp_path / 'a.npy')
    (tmp_path / 'a.npy').write_bytes(b'')
    with pytest.raises(ValueError, match='can not be read as an array'):
        load_signal(tmp_path / 'a.npy')
    (tmp_path / 'a.png').write_bytes(deep_png(np.full((2, 3, 3), 300)))
    with pytest.raises(ValueError, match='colours of 16 bits'):
        load_signal(tmp_path / 'a.png')


def test_a_range_that_float32_does_not_resolve_is_refused():
    wave = np.sin(np.arange(9.)).reshape(3, 3, 1)
    with pytest.raises(ValueError, match='subtract a constant'):
        Signal.of(1e9 + wave)
    assert Signal.of(1e3 + wave).high == pytest.approx(1e3 + wave.max())
    # of equal numbers there is no range
    constant = Signal.of(np.full((3, 3, 1), 0.1))
    decoded = from_normalized(constant.normalized(), constant.low,
                              constant.high, 'float64')
    assert psnr(constant, decoded) > 140


def test_a_crop_is_starts_and_sizes(tmp_path):
    pixels = picture()
    path = saved(tmp_path, pixels)
    np.testing.assert_array_equal(
        load_signal(path, [2, 3, 5, 4]).pixels, pixels[2:7, 3:7])
    for crop in ([2, 3, 5], [2, 3, 15, 4], [-1, 0, 2, 2], [0, 0, 0, 4]):
        with pytest.raises(ValueError, match='2 starts and 2 sizes'):
            load_signal(path, crop)


def test_psnr_is_that_of_the_mean_squared_error():
    a = Signal.of(np.zeros((2, 2, 1), np.uint8))
    b = Signal.of(np.full((2, 2, 1), 5, np.uint8))
    assert psnr(a, b) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(a, a) == float('inf')


def test_real_values_become_the_nearest_pixels():
    values = np.array([-1.5, -1, -0.1, 0.1, 1, 7]).reshape(1, 6, 1)
    signal = from_normalized(values, 0., 5., 'uint8')
    assert signal.pixels.ravel().tolist() == [0, 0, 2, 3, 5, 5]
    signal = from_normalized(values, 0., 5., 'float32')
    np.testing.assert_allclose(signal.pixels.ravel(), [0, 0, 2.25, 2.75, 5, 5])


def test_the_volume_has_smooth_and_textured_parts():
    volume = load_signal('rendered:16')
    assert volume.shape == (16, 16, 16) and volume.pixels.max() == 255
    assert volume.pixels.std() > 20
    with pytest.raises(ValueError, match='positive size'):
        load_signal('rendered:0')
    with pytest.raises(ValueError, match='such as rendered:48'):
        load_signal('rendered:large')


# ---- Codes ------------------------------------------------------------------


@pytest.mark.parametrize('draw, number', [
    (lambda rng: rng.normal(3, 6, 5000), range(1, 128)),
    (lambda rng: rng.laplace(-2, 4, 5000), range(128, 255)),
    (lambda rng: rng.uniform(-32.5, 31.5, 5000), [0]),
    (lambda rng: np.zeros(5000), range(1, 255)),
])
def test_codes_come_back_in_about_their_entropy(draw, number):
    pytest.importorskip('constriction')
    codes = draw(np.random.default_rng(0)).round().clip(-32, 31).astype(int)
    fitted = fit_distribution(codes, -32, 31)
    assert fitted[0] in number
    encoder = Encoder()
    encoder.uniform(np.array([4, 7]), 3, 7)
    encoder.fitted(codes, *fitted, -32, 31)
    data = encoder.get_bytes()
    decoder = Decoder(data)
    assert decoder.uniform(2, 3, 7).tolist() == [4, 7]
    np.testing.assert_array_equal(
        decoder.fitted(5000, *fitted, -32, 31), codes)
    part = np.unique(codes, return_counts=True)[1] / 5000
    entropy = -(part * np.log2(part)).sum() * 5000
    assert entropy <= 8 * len(data) <= 1.03 * entropy + 96


def test_without_the_coder_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'constriction', None)
    with pytest.raises(ModuleNotFoundError, match='pip install constriction'):
        Encoder()


# ---- Files ------------------------------------------------------------------


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(levels=1),
    dict(levels=2, depth=4, allotment='equal'),
    dict(pixels=picture(13, 17), bpp=12.),
    dict(pixels=picture(9, 8, 1), bpp=24., levels=2),
])
def test_a_file_holds_the_networks_and_the_shape(model, kwargs):
    model = model(**kwargs)
    data = model.to_bytes()
    header = read(data)
    assert header.dtype == 'uint8'
    assert header.plan.tree.shape == model.signal.shape
    assert header.bits == (6, 8)
    for ours, its in zip(model.network.plan.widths, header.plan.widths):
        np.testing.assert_array_equal(ours, its)
    for (parameter, quantizer), codes, scale in zip(model.network.tensors(),
                                                    header.codes,
                                                    header.scales):
        expected = quantizer.quantize_int(parameter)
        np.testing.assert_array_equal(expected.values, codes)
        assert scale == pytest.approx(expected.scale.item(), rel=1e-3)
    # the values of the decoder are those that training sees
    model.quantize(True)
    tree = model.network.plan.tree
    with torch.no_grad():
        blocks = model([torch.from_numpy(tree.coordinates())])
    values = (tree.join(blocks.numpy()).clip(-1, 1) + 1) / 2
    low, high = model.signal.low, model.signal.high
    error = decode(data).pixels - (low + (high - low) * values)
    assert abs(error).max() < 3


@pytest.mark.parametrize('levels', [1, 2, 3])
def test_more_budget_is_more_bytes_and_is_kept(model, levels):
    sizes = [len(model(bpp=b, levels=levels).to_bytes()) for b in (8, 14, 24)]
    assert sizes == sorted(set(sizes))
    for size, bpp in zip(sizes, (8, 14, 24)):
        assert 0.7 * bpp * 32 < size <= bpp * 32


def test_no_codes_exceed_the_size_that_was_planned(model):
    model = model()
    model.to_bytes()
    rng = np.random.default_rng(0)
    for parameter, quantizer in model.network.tensors():
        codes = rng.integers(quantizer.low, quantizer.high + 1,
                             parameter.numel())
        parameter.data = torch.from_numpy(codes) * quantizer.scale.data
    data = model.to_bytes()
    largest = largest_size(model.network.plan, (6, 8))
    assert len(data) <= largest <= model.budget
    assert len(data) > 0.95 * largest


def test_a_file_beyond_the_budget_is_an_error(model):
    model = model()
    model.budget = 100
    with pytest.raises(RuntimeError, match='bytes, and the budget is 100'):
        model.to_bytes()


def test_a_constant_signal_is_exact(model):
    pixels = np.full((9, 8, 3), 77, np.uint8)
    data = model(pixels=pixels, bpp=24.).to_bytes()
    np.testing.assert_array_equal(decode(data).pixels, pixels)


def test_black_beside_white_has_no_nan(model):
    pixels = np.zeros((8, 8, 1), np.uint8)
    pixels[:, 4:] = 255
    reconstructed = decode(model(pixels=pixels, bpp=24.).to_bytes())
    assert psnr(Signal.of(pixels), reconstructed) > 20


@pytest.mark.parametrize('change, message', [
    (lambda data: b'\x89PNG' + data[4:], 'no TINC file'),
    (lambda data: b'', 'no TINC file'),
    (lambda data: data[:4] + b'\x02' + data[5:], 'version 2.*version 1'),
    (lambda data: data[:5], 'cut short or damaged'),
    (lambda data: data[:-1], 'cut short or damaged'),
    (lambda data: data[:len(data) // 2], 'cut short or damaged'),
    (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], 'damaged'),
])
def test_damaged_and_foreign_files_are_refused(model, change, message):
    with pytest.raises(FormatError, match=message):
        read(change(model().to_bytes()))


@pytest.mark.parametrize('place, byte, message', [
    (5, 9, 'pixels of kind 9'),
    (6, 4, '4 axes'),
    (7, 255, 'no codes'),
    (8, 0, 'no such tree'),
    (20, 200, 'no such tree'),
    (21, 0, 'impossible'),
    (22, 200, 'impossible'),
    (27, 255, 'without layers or units'),
])
def test_a_check_sum_does_not_make_it_right(model, place, byte, message):
    data = bytearray(model().to_bytes()[:-4])
    data[place] = byte
    data += zlib.crc32(data).to_bytes(4, 'little')
    with pytest.raises(FormatError, match=message):
        read(bytes(data))


def test_axes_that_a_file_does_not_hold_are_refused_before_training(tmp_path):
    path = saved(tmp_path, np.zeros((1, 65536, 1), np.uint8), 'a.npy')
    with pytest.raises(ValueError, match='65535 pixels along an axis'):
        TINC(dict(file=path), 8., levels=1)


@pytest.mark.parametrize('quantizer', [
    dict(type='LSQ', bits=6, offset='beta'),
    dict(type='DoReFaWeight', bits=4)
])
def test_quantizers_with_other_levels_are_refused(model, quantizer):
    with pytest.raises(ValueError, match='signed integers times one scale'):
        model(weight_quant=quantizer).to_bytes()


def test_a_network_without_codes_is_refused(model):
    model = model()
    network = type(model.network)(model.network.plan)
    with pytest.raises(ValueError, match='need quantizers'):
        encode(network, model.signal)


# ---- Commands ---------------------------------------------------------------


def test_a_fresh_process_decodes_the_same_pixels(model, tmp_path):
    data = model(pixels=picture(17, 14)).to_bytes()
    expected = decode(data).pixels
    (tmp_path / 'a.tinc').write_bytes(data)
    for path in tmp_path.glob('*.png'):
        path.unlink()
    subprocess.run([
        sys.executable, PROJECT / 'decompress.py', tmp_path / 'a.tinc',
        tmp_path / 'b.png'
    ],
                   check=True)
    np.testing.assert_array_equal(
        load_signal(tmp_path / 'b.png').pixels, expected)


def test_the_commands_compress_tell_and_decompress(tmp_path, capsys):
    pytest.importorskip('constriction')
    source = saved(tmp_path, picture())
    target = str(tmp_path / 'a.tinc')
    main([
        'compress', source, target, '--bpp', '16', '--steps', '5', '--levels',
        '3'
    ])
    main(['info', target])
    main(['decompress', target, str(tmp_path / 'b.png')])
    text = capsys.readouterr().out
    assert 'level 2: 16 nodes, 1 sine layers' in text
    assert 'step     5 of 5' in text and '16 x 16, 3 channels' in text
    assert load_signal(tmp_path / 'b.png').shape == (16, 16)


@pytest.mark.parametrize('arguments, message', [
    (['compress', 'none.png', 'a.tinc'], 'none.png'),
    (['compress', 'a.png', 'none/a.tinc'], 'no folder'),
    (['compress', 'a.png', 'a.tinc', '--bpp', '0.1'], 'raise bpp'),
    (['compress', 'a.png', 'a.tinc', '--bits', '9', '--bpp', '9'], 'bits'),
    (['compress', 'a.png', 'a.tinc', '--levels', '6'], '32 parts'),
    (['compress', 'a.png', 'a.tinc', '--steps', '0'], 'steps'),
    (['compress', 'a.png', 'a.tinc', '--bpp', 'inf'], 'must be positive'),
    (['compress', 'a.png', 'a.tinc', '--depth', '0'], 'depth=0'),
    (['compress', 'a.png', '.'], 'name of a file'),
    (['decompress', 'a.png', 'b.png'], 'no TINC file'),
])
def test_mistakes_are_said_in_a_line(tmp_path, monkeypatch, arguments,
                                     message):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, picture(), 'a.png')
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        main(arguments)
    assert not (tmp_path / 'a.tinc').exists()
