# Trains on what tools/deploy/prune.py --channels 0.5 --uniform left, see the
# page of the method; the tool writes such a config itself.
_base_ = '../kd/kd_resnet_mini_teacher.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.KeepChannels',
            channels={
                'backbone.bn1': 16,
                'backbone.conv1': (3, 16),
                'backbone.layer1.0.bn1': 16,
                'backbone.layer1.0.bn2': 16,
                'backbone.layer1.0.conv1': (16, 16),
                'backbone.layer1.0.conv2': (16, 16),
                'backbone.layer1.0.downsample.0': (16, 16),
                'backbone.layer1.0.downsample.1': 16,
                'backbone.layer1.1.bn1': 16,
                'backbone.layer1.1.bn2': 16,
                'backbone.layer1.1.conv1': (16, 16),
                'backbone.layer1.1.conv2': (16, 16),
                'backbone.layer2.0.bn1': 32,
                'backbone.layer2.0.bn2': 32,
                'backbone.layer2.0.conv1': (16, 32),
                'backbone.layer2.0.conv2': (32, 32),
                'backbone.layer2.0.downsample.0': (16, 32),
                'backbone.layer2.0.downsample.1': 32,
                'backbone.layer2.1.bn1': 32,
                'backbone.layer2.1.bn2': 32,
                'backbone.layer2.1.conv1': (32, 32),
                'backbone.layer2.1.conv2': (32, 32),
                'backbone.layer3.0.bn1': 64,
                'backbone.layer3.0.bn2': 64,
                'backbone.layer3.0.conv1': (32, 64),
                'backbone.layer3.0.conv2': (64, 64),
                'backbone.layer3.0.downsample.0': (32, 64),
                'backbone.layer3.0.downsample.1': 64,
                'backbone.layer3.1.bn1': 64,
                'backbone.layer3.1.bn2': 64,
                'backbone.layer3.1.conv1': (64, 64),
                'backbone.layer3.1.conv2': (64, 64),
                'head.fc': (64, 10)
            })
    ])

load_from = 'work_dirs/channel_pruning_resnet_mini.pth'

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(end=2)
default_hooks = dict(keep=dict(name=None))
