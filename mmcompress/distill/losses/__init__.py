from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        base=['DistillLoss'],
        bi_vit=['RankDistillLoss'],
        cwd=['CWDLoss'],
        dwpose=['DWPoseFeatureLoss', 'DWPoseLogitLoss'],
        feature_l2=['FeatureL2Loss'],
        fgd=['FGDLoss'],
        g2sd=['G2SDDetLoss', 'G2SDGenericLoss', 'HardKDLoss'],
        ida_det=['IDaDetLoss'],
        ie_kd=['IEKDLoss'],
        kd=['KDLoss'],
        mgd=['MGDLoss'],
        nkd=['NKDLoss'],
        pkd=['PKDLoss'],
        q_detr=['DRDLoss'],
        q_vit=['DGDLoss'],
        sparsifiner=['AttentionReconLoss', 'TokenDistillLoss'],
        uskd=['TfNKDLoss', 'USKDLoss'],
        vitkd=['ViTKDLoss']))
