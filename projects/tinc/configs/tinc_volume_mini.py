# A rendered volume of 48^3 voxels in an octree of 8 blocks.
_base_ = './tinc_china_mini.py'

signal = dict(file='rendered:48', crop=None)
levels = 2
# it is smoother than a photo
model = dict(signal=signal, levels=levels, bpp=0.25, omega_0=10.)
train_dataloader = dict(dataset=dict(signal=signal, levels=levels))
