"""Synthesise image features of ImageNet classes from features of training photos.

Captions cover a small part of the thousand classes that the image tower knows. The classifier's
weights give the direction of a class in feature space, so features of the class can be synthesised
from any photo and paired with sentences of its name.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from retrieval.encoders.towers import ImageFeatures, ImageTower

SIDE = 9
STRENGTH = (35.0, 85.0)
BACKGROUND = (0.5, 1.0)


class ClassPainter:
    """Synthesise image tower outputs of given classes from those of given photos.

    The direction of a class in the map is its classifier row, less the mean row, carried back
    through `conv_head` without its nonlinearity. A photo's map is shrunk towards the mean map
    (the remainder is the background), and the direction is added under a Gaussian bump at a
    random position. Pooled features and logits follow from the map through the tower's last
    layers, so the classifier's confusions stay realistic. With `STRENGTH` and `BACKGROUND` the
    classifier is as accurate and confident as on real photos.
    """

    def __init__(self, tower: ImageTower, mean_map: Tensor) -> None:
        rows = tower.class_weights - tower.class_weights.mean(0)
        self._directions = F.normalize(rows @ tower.head_weight, dim=1)
        self._tower = tower
        self._mean = mean_map
        middles = torch.arange(SIDE, device=mean_map.device, dtype=torch.float32)
        self._places = torch.cartesian_prod(middles, middles)

    @torch.no_grad()
    def __call__(self, maps: Tensor, classes: Tensor) -> ImageFeatures:
        """Paint class i onto map i.

        Args:
            maps: (n, 81, 352) float32, maps of real photos.
            classes: (n,) int64 in [0, 1000).
        """
        n = len(maps)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(n, *shape, device=maps.device)

        distance = (self._places - uniform(1, SIDE - 2, 1, 2)).square().sum(2)
        bump = torch.exp(-distance / (2 * uniform(1, 3, 1).square()))[:, :, None]
        background = uniform(*BACKGROUND, 1, 1) * (1 - bump / 2) * (maps - self._mean)
        object_ = uniform(*STRENGTH, 1, 1) * bump * self._directions[classes][:, None]
        painted = self._mean + background + object_
        pooled = self._tower.pool(painted)
        return ImageFeatures(painted, pooled, self._tower.classify(pooled))
