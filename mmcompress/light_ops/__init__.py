"""Operators of mmcv in plain torch, for set-ups that compile nothing.

``mmcv-lite`` has every Python file of mmcv; only ``mmcv._ext``, the compiled
operators, is missing. :mod:`.hook` puts :mod:`.ext` in its place, where the
user chose so and mmcv has none; nothing is written into mmcv.
"""
