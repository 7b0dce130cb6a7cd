"""The module of a tower that the passes shrink; see `smidgen.models.vision.tower`."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from smidgen.models.vision.family import SeeingFamily


@cache
def kind_of(family: type[SeeingFamily]) -> type[nn.Module]:
    """Return the class of the towers of a family, built from a configuration alone as transformers' models are."""

    class Tower(nn.Module):
        """Reads tiles whose tokens are the values of their pixels, colour by colour and row by row."""

        generation_config: Any = None

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config, self.owner = config, family()
            self.tower = self.owner.build_tower(config)

        @property
        def base_model(self) -> nn.Module:
            """Itself: there is no head."""
            return self

        def tie_weights(self) -> None:
            """Do nothing: no weight is shared."""

        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
            """Return the last states, ``[tiles, length, hidden]``, of tiles ``[tiles, 3·side²]`` of values to 255."""
            mean, deviation = (torch.tensor(each)[:, None, None] for each in (self.owner.mean, self.owner.deviation))
            side = round((input_ids.shape[1] // 3) ** 0.5)
            pixels = (input_ids.reshape(-1, 3, side, side).float() / 255 - mean) / deviation
            dtype = next(self.parameters()).dtype
            return SimpleNamespace(last_hidden_state=self.tower(pixel_values=pixels.to(dtype)).last_hidden_state)

    return Tower
