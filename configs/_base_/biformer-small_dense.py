# BiFormer-S of dense tasks: four maps, each with a norm of its own, and maps
# of any size; it starts from biformer-small_8xb128_in1k.py
biformer = dict(
    type='mmcompress.BiFormer',
    arch='small',
    auto_pad=True,
    out_indices=(0, 1, 2, 3),
    final_norm=False,
    extra_norms=True,
    init_cfg=dict(type='Pretrained', checkpoint='cache://biformer-small'))
