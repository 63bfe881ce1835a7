_base_ = './g2sd_generic_vit-small_mae-base_in1k.py'

model = dict(
    student=dict(
        backbone=dict(
            arch=dict(embed_dims=192, num_heads=3, feedforward_channels=768)),
        neck=dict(embed_dim=192, decoder_embed_dim=128, decoder_num_heads=4)),
    losses=dict(loss_g2sd=dict(student_dims=128)))

default_hooks = dict(keep=dict(name='g2sd_generic_vit-tiny_mae-base'))
