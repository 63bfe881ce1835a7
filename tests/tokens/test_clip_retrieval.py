"""The training model of CLIP, and BLIP's retrieval, with fewer tokens."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmpretrain.evaluation import RetrievalRecall
from mmpretrain.models.utils.clip_generator_helper import \
    ResidualAttentionBlock
from mmpretrain.structures import DataSample
from tokenizers_offline import needs_transformers, offline
from tokens.models import images
from tokens.test_crossget import TEXTS, clip

from mmcompress.builder import Compress
from mmcompress.tokens import clip_retrieval
from mmcompress.tokens.clip_classes import CLIP, CLIPTransformer
from mmcompress.tokens.clip_retrieval import contrastive_loss


def test_texts_are_those_of_mmpretrain():
    model = clip().eval()
    with torch.no_grad():
        ours = model.extract_text_feat(TEXTS)
        model.transformer.__class__ = CLIPTransformer
        mask = model.build_attention_mask()
        for block in model.transformer.resblocks:
            block.__class__, block.attn_mask = ResidualAttentionBlock, mask
        torch.testing.assert_close(ours, CLIP.extract_text_feat(model, TEXTS))


def test_images_and_texts_of_one_id_belong_together():
    image, text = torch.randn(2, 3, 5)
    scale = torch.tensor(1.3)
    ids = torch.tensor([4, 7, 4])
    logits = scale.exp() * F.cosine_similarity(image[:, None], text, dim=-1)
    right = torch.tensor([[.5, 0, .5], [0, 1, 0], [.5, 0, .5]])
    both = [
        -(right * x.log_softmax(1)).sum(1).mean() for x in (logits, logits.t())
    ]
    torch.testing.assert_close(
        contrastive_loss(image, text, scale, ids),
        sum(both) / 2)


def test_the_temperature_stays_in_its_limits():
    model = clip()
    for value, limit in ((9., 4.6052), (-1., 0.)):
        model.logit_scale.data.fill_(value)
        model.losses(images(), TEXTS, torch.tensor([0, 1]))
        assert model.logit_scale.item() == pytest.approx(limit)


@pytest.mark.parametrize('sample, said', [
    (dict(image_id=0), r'text=\[\] and image_id=0'),
    (dict(text=['a', 'b'], image_id=0), r"text=\['a', 'b'\]"),
    (dict(text='a'), 'image_id=None'),
    (dict(text='a', image_id='1.jpg'), "image_id='1.jpg'"),
])
def test_to_train_it_takes_a_text_and_a_number(sample, said):
    with pytest.raises(ValueError, match=said):
        clip()(images(1), [DataSample(metainfo=sample)], mode='loss')


def test_retrieval_by_captions_that_images_share():
    model = clip()
    samples = [
        DataSample(text=['a', 'b'], gt_text_id=[0], gt_image_id=[[0, 2], [1]]),
        DataSample(text=[], gt_text_id=[1], gt_image_id=[]),
        DataSample(text=[], gt_text_id=[0], gt_image_id=[])
    ]
    feats = dict(
        image_feat=torch.tensor([[1., 0], [0, 1], [0, 1]]),
        text_feat=torch.tensor([[1., 0], [0, 1]]))
    of_images, of_texts = model.predict_all(feats, samples, 3, 2)
    assert [s.pred_label.item() for s in of_images] == [0, 1, 1]
    assert [s.text for s in of_texts] == ['a', 'b']
    recalls = []
    for found in (of_images, of_texts):
        metric = RetrievalRecall(topk=(1, ))
        metric.process([], [sample.to_dict() for sample in found])
        recalls.append(metric.evaluate(len(found))['retrieval/Recall@1'])
    assert recalls == pytest.approx([100 * 2 / 3, 100])


def test_without_transformers_only_texts_are_missing(monkeypatch):
    monkeypatch.setattr(clip_retrieval, 'WITH_MULTIMODAL', False)
    model = clip()
    assert model(images())['image_feat'].shape == (2, 8)
    with pytest.raises(ImportError, match=r'mmcompress\[multimodal\]'):
        model(images(), [DataSample(text='a')])


BLIP = dict(
    type='mmpretrain.BlipRetrieval',
    tokenizer=dict(type='BlipTokenizer', name_or_path='nowhere'),
    vision_backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
        out_type='raw'),
    text_backbone=dict(
        type='XBertEncoder',
        med_config=dict(
            architectures=['BertModel'],
            hidden_act='gelu',
            hidden_size=16,
            intermediate_size=32,
            layer_norm_eps=1e-12,
            max_position_embeddings=32,
            model_type='bert',
            num_attention_heads=2,
            num_hidden_layers=2,
            pad_token_id=0,
            add_type_embeddings=False,
            vocab_size=40,
            encoder_width=16,
            add_cross_attention=True)),
    vision_neck=dict(type='Linear', in_features=16, out_features=8),
    text_neck=dict(type='Linear', in_features=16, out_features=8),
    head=dict(type='ITCHead', embed_dim=8, queue_size=8),
    multimodal_head=dict(type='ITMHead', hidden_size=16, with_pooler=False),
    max_txt_len=8)


@needs_transformers
def test_both_vision_transformers_of_blip_merge():
    torch.manual_seed(0)
    cfg = offline(ConfigDict(BLIP))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = Compress(
            model=cfg, steps=[dict(type='mmcompress.CrossGET', vision=3)])
    for tower in (model.vision_backbone, model.vision_backbone_m):
        assert tower(images())[-1].shape == (2, 17 - 9, 16)
    samples = [
        DataSample(
            text='small one above left',
            is_matched=True,
            metainfo=dict(image_id=i)) for i in range(2)
    ]
    model.train()
    losses = model(images(), samples, mode='loss')
    total = sum(v for k, v in losses.items() if 'loss' in k)
    total.backward()
    missing = [
        name for name, p in model.vision_backbone.named_parameters()
        if p.grad is None
    ]
    assert total.isfinite() and not missing
