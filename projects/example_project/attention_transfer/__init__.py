from .loss import AttentionTransferLoss

__all__ = ['AttentionTransferLoss']
