_base_ = './g2sd_specific_upernet_vit-small_vit-base_ade20k-512x512.py'

model = dict(
    student=dict(pretrained='cache://g2sd_generic_vit-small_mae-large'),
    teacher=dict(
        cfg=
        '{{ fileDirname }}/g2sd_teacher_upernet_vit-large_ade20k-512x512.py',
        checkpoint='cache://g2sd_teacher_upernet_vit-large_ade20k-512x512'))
