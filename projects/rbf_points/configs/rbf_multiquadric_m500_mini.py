_base_ = './rbf_gaussian_m500_mini.py'

model = dict(backbone=dict(kernel='inverse_multiquadric'))
