from .dataset import SignalBlocks
from .file_format import decode, encode, read
from .fit import build_config, fit
from .hooks import PrintProgressHook, QuantizeFromHook, WriteTINCHook
from .model import TINC
from .signal import Signal, load_signal, psnr, save_signal

__all__ = [
    'TINC', 'PrintProgressHook', 'QuantizeFromHook', 'Signal', 'SignalBlocks',
    'WriteTINCHook', 'build_config', 'decode', 'encode', 'fit', 'load_signal',
    'psnr', 'read', 'save_signal'
]
