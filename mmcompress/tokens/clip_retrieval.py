"""CLIP to be trained and tested for retrieval, which mmpretrain's isn't."""
import copy
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmpretrain.registry import TOKENIZER
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcompress.check_env import TRANSFORMERS
from mmcompress.registry import MODELS
from mmcompress.scoped_registry import add_to_roots
from .clip_classes import CLIP, WITH_MULTIMODAL
from .cross_loss import cross_features, js_loss, repeated
from .text_tower import TextTransformer

# of the official code: temperatures from 1 to 0.01
_MAX_LOGIT_SCALE = 4.6052

add_to_roots('mmpretrain.registry')


def contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor,
                     ids: Tensor) -> Tensor:
    """Cross entropy of images to texts and back; equal ids belong together.

    Args:
        image (Tensor): Features, shape (B, D).
        text (Tensor): Features, shape (B, D).
        logit_scale (Tensor): Logarithm of the factor of cosines.
        ids (Tensor): Shape (B, ).

    Returns:
        Tensor: Mean over the batch and both directions.
    """
    logits = logit_scale.exp() * (
        F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t())
    targets = (ids.view(-1, 1) == ids).to(logits.dtype)
    targets = targets / targets.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, targets) +
            F.cross_entropy(logits.t(), targets)) / 2


def gather_all(x: Tensor) -> Tensor:
    """Rows of all processes, which may have different numbers of them."""
    if dist.get_world_size() == 1:
        return x
    size = torch.tensor(len(x), device=x.device)
    sizes = [int(n) for n in dist.all_gather(size)]
    padded = x.new_zeros((max(sizes), *x.shape[1:]))
    padded[:len(x)] = x
    return torch.cat([y[:n] for y, n in zip(dist.all_gather(padded), sizes)])


class _NoTokenizer:
    """In its place until there are texts."""

    def get_vocab(self) -> dict:
        """What CLIP asks for when it is built."""
        return {}


@MODELS.register_module()
class CLIPRetrieval(CLIP):
    """CLIP with a loss, for retrieval of images by texts and texts by images.

    It has the parameters of mmpretrain's ``CLIPZeroShot``, and loads its
    checkpoints. For ``RetrievalTestLoop`` and ``RetrievalRecall``.

    Args:
        tokenizer (dict): Config of a tokenizer, such as
            ``dict(type='AutoTokenizer', name_or_path=FOLDER,
            use_fast=False)``. It needs transformers, and is built when the
            first text comes.
        js_weight (float): With cross tokens, see :class:`~mmcompress.tokens
            .CrossGET`: share of the loss that their agreement has.
        **kwargs: Of mmpretrain's ``CLIP``.
    """

    def __init__(self,
                 *,
                 tokenizer: dict,
                 js_weight: float = 0.5,
                 **kwargs) -> None:
        # its constructor writes into configs
        kwargs = copy.deepcopy(kwargs)
        super().__init__(tokenizer=dict(type=_NoTokenizer), **kwargs)
        self.tokenizer_cfg = copy.deepcopy(tokenizer)
        self.js_weight = js_weight
        TextTransformer.take_over(self.transformer)

    def forward(self,
                images: Tensor | None = None,
                data_samples: list[DataSample] | None = None,
                mode: str = 'tensor') -> Any:
        """As of mmpretrain's retrieval models.

        Args:
            images (Tensor | None): Shape (B, 3, H, W).
            data_samples (list[DataSample] | None): With ``text``, a text or a
                list of them.
            mode (str): ``'tensor'``: a dict of features. ``'loss'``: a dict
                of losses; samples need ``image_id``, equal for those that
                belong together. ``'predict'``: samples with scores, of images
                and of texts.
        """
        if mode == 'tensor':
            return self.extract_feats(images, data_samples)
        if mode == 'loss':
            return self.loss(images, data_samples)
        if mode == 'predict':
            return self.predict(images, data_samples)
        raise RuntimeError(f"mode must be 'tensor', 'loss' or 'predict', got "
                           f'{mode!r}')

    # ---- Features ----------------------------------------------------------

    def run_image(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features of images, and cross tokens of all layers.

        Args:
            images (Tensor): Shape (B, 3, H, W).

        Returns:
            tuple: Features, shape (B, D); cross tokens, shape (B, C) each,
            none without :class:`~mmcompress.tokens.CrossGET`.
        """
        # not by its class: what compiles or shards it wraps it
        if getattr(self.visual, 'has_cross_token', False):
            outs, crosses = self.visual(images, True)
        else:
            outs, crosses = self.visual(images), ()
        return self.visual_proj(outs)[0], crosses

    def run_text(self, texts: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features at the end of each text, and cross tokens of all layers.

        Args:
            texts (Tensor): Numbers of tokens, shape (B, T); the mark of the
                end has the largest.

        Returns:
            tuple: As of :meth:`run_image`.
        """
        x = self.token_embedding(texts)
        x = x + self.positional_embedding[:texts.size(1)]
        state = self.transformer(x, texts.argmax(dim=-1))
        feature = self.ln_final(state.at_end()) @ self.text_projection
        return feature, state.crosses

    def extract_text_feat(self, texts: Tensor) -> Tensor:
        """As of mmpretrain's."""
        return self.run_text(texts)[0]

    def tokenize(self, texts: str | list[str]) -> Tensor:
        """Numbers of the tokens of texts, shape (B, T), int64.

        Raises:
            ImportError: If transformers is missing.
        """
        if isinstance(self.tokenizer, _NoTokenizer):
            if not WITH_MULTIMODAL:
                raise ImportError(
                    f'CLIPRetrieval needs {TRANSFORMERS} for its tokenizer: '
                    '`pip install "mmcompress[multimodal]"`')
            self.tokenizer = TOKENIZER.build(self.tokenizer_cfg)
            self.tokenizer.vocab = self.tokenizer.get_vocab()
        return super().tokenize(texts)

    def tokenize_samples(self, data_samples: list[DataSample]) -> Tensor:
        """Numbers of the tokens of all texts, in the order of the samples."""
        texts = []
        for sample in data_samples:
            texts.extend(_as_list(sample.get('text')))
        return self.tokenize(texts).to(self.logit_scale.device)

    def extract_feats(
            self, images: Tensor | None,
            data_samples: list[DataSample] | None) -> dict[str, Tensor]:
        """Features of length 1, for the loops of retrieval.

        Returns:
            dict[str, Tensor]: ``image_feat`` of images, ``text_feat`` of the
            samples' texts, each if given.
        """
        feats = {}
        if images is not None:
            image = self.extract_image_feat(images)
            feats['image_feat'] = F.normalize(image, dim=-1)
        if data_samples is not None and 'text' in data_samples[0]:
            ids = self.tokenize_samples(data_samples)
            feats['text_feat'] = F.normalize(
                self.extract_text_feat(ids), dim=-1)
        return feats

    # ---- Training ----------------------------------------------------------

    def loss(self, images: Tensor,
             data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of images and of their texts, one each.

        Raises:
            ValueError: If a sample has not one text and a number.
        """
        for sample in data_samples:
            texts = _as_list(sample.get('text', []))
            number = sample.get('image_id')
            if len(texts) != 1 or not isinstance(number, Integral):
                raise ValueError(
                    'to be trained on, a sample needs one `text`, and a '
                    'number `image_id`, equal for what belongs together; one '
                    f'has text={texts} and image_id={number!r}')
        ids = torch.as_tensor([sample.image_id for sample in data_samples],
                              device=images.device)
        return self.losses(images, self.tokenize_samples(data_samples), ids)

    def losses(self, images: Tensor, texts: Tensor,
               ids: Tensor) -> dict[str, Tensor]:
        """Losses of numbers of tokens.

        Args:
            images (Tensor): Shape (B, 3, H, W).
            texts (Tensor): Shape (B, T).
            ids (Tensor): Equal for what belongs together, shape (B, ).
        """
        self.logit_scale.data.clamp_(0, _MAX_LOGIT_SCALE)
        image, image_crosses = self.run_image(images)
        text, text_crosses = self.run_text(texts)
        loss = contrastive_loss(image, text, self.logit_scale, ids)
        if not (image_crosses and text_crosses and self.js_weight):
            return dict(loss_ita=loss)
        num = max(len(image_crosses), len(text_crosses))
        agreement = js_loss(
            cross_features(
                repeated(image_crosses, num), self.visual.pre_norm,
                self.visual_proj.proj),
            cross_features(
                repeated(text_crosses, num), self.ln_final,
                self.text_projection))
        return dict(
            loss_ita=(1 - self.js_weight) * loss,
            loss_js=self.js_weight * agreement)

    # ---- Retrieval ---------------------------------------------------------

    def predict(
        self, images: Tensor, data_samples: list[DataSample]
    ) -> tuple[list[DataSample], list[DataSample]]:
        """Retrieval among the images and texts of one batch."""
        return self.predict_all(
            self.extract_feats(images, data_samples), data_samples)

    def predict_all(
        self,
        feats: dict[str, Tensor],
        data_samples: list[DataSample],
        num_images: int | None = None,
        num_texts: int | None = None
    ) -> tuple[list[DataSample], list[DataSample]]:
        """Cosines of all images and texts.

        Args:
            feats (dict[str, Tensor]): Of :meth:`extract_feats`; of this
                process.
            data_samples (list[DataSample]): As many as images.
            num_images (int | None): Of all processes; what is behind them was
                repeated by the sampler.
            num_texts (int | None): Of all processes.

        Returns:
            tuple: A sample per image, with scores of all texts, and a sample
            per text, with scores of all images.
        """
        image, text = feats['image_feat'], feats['text_feat']
        all_images = gather_all(image)[:num_images]
        all_texts = gather_all(text)[:num_texts]
        texts = [(sample, i) for sample in data_samples
                 for i in range(len(_as_list(sample.get('text'))))]
        for sample, score in zip(data_samples, image @ all_texts.t()):
            _score(sample, score, sample.get('gt_text_id'))
        of_texts = []
        for (sample, i), score in zip(texts, text @ all_images.t()):
            right = sample.get('gt_image_id')
            found = DataSample(text=_as_list(sample.text)[i])
            of_texts.append(
                _score(found, score, None if right is None else right[i]))
        return data_samples, of_texts


def _as_list(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def _score(sample: DataSample, score: Tensor, right: Any) -> DataSample:
    if right is not None:
        sample.set_gt_label(right)
    sample.set_pred_score(score)
    return sample.set_pred_label(score.argmax(keepdim=True))
