"""What Phi-3.5 vision has in front of its Phi-3: CLIP's tower, separators and a projector.

Imported only where torch and transformers are needed anyway. Modules bear the names of the published weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoder

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig

USUAL = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
"""The tower that published configurations name without describing it, openai/clip-vit-large-patch14-336."""


class Patches(nn.Module):
    """Makes an embedding of every patch of a tile, the class token's before them.

    Args:
        config: The tower's configuration.
    """

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, size = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, size, size, bias=False)
        self.position_embedding = nn.Embedding((config.image_size // size) ** 2 + 1, width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return ``[tiles, 1 + patches, width]`` for pixels ``[tiles, 3, side, side]``."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        found: torch.Tensor = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return found


class Tower(nn.Module):
    """CLIP's vision transformer, computed as far as it is read.

    Args:
        config: Its configuration. ``layer_idx`` is the hidden state that is read, counted as transformers counts them:
            0 is what the first block reads, -1 what the last block gives, -2 what the last but one gives. Heads of
            ``head_dim`` need not make up the width.

    Raises:
        ValueError: It has no such state.
    """

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        own = copy.deepcopy(config)
        if has_own_heads(config):
            own.num_attention_heads = 1  # transformers builds only heads that make up the width
        self.config, self.blocks_read = config, blocks_read(config)
        self.embeddings = Patches(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = CLIPEncoder(own)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if has_own_heads(config):
            for block in self.encoder.layers:
                block.self_attn = _attention(config)

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        """Return what is read: the class token's state and that of every patch, ``[tiles, 1 + patches, width]``."""
        hidden = self.pre_layrnorm(self.embeddings(pixel_values))
        for block in self.encoder.layers[: self.blocks_read]:
            hidden = block(hidden, None)
        return BaseModelOutput(last_hidden_state=hidden)


def blocks_read(config: CLIPVisionConfig) -> int:
    """Return how many blocks come before the hidden state that is read."""
    states = int(config.num_hidden_layers) + 1
    if not -states <= config.layer_idx < states:
        raise ValueError(f"a tower of {states - 1} blocks has no hidden state {config.layer_idx}")
    return int(config.layer_idx % states)


def without_unread(tower: Tower) -> Tower:
    """Return a tower without the blocks that nothing reads; it shares the weights of the others."""
    config = copy.deepcopy(tower.config)
    config.num_hidden_layers, config.layer_idx = tower.blocks_read, -1
    with torch.device("meta"):
        found = Tower(config)
    state = {name: value for name, value in tower.state_dict(keep_vars=True).items() if name in found.state_dict()}
    found.load_state_dict(state, assign=True)
    return found.train(tower.training).requires_grad_(False)


def has_own_heads(config: CLIPVisionConfig) -> bool:
    """Whether the heads do not make up the width, because some were cut."""
    size = getattr(config, "head_dim", None)
    return size is not None and size * config.num_attention_heads != config.hidden_size


def _attention(config: CLIPVisionConfig) -> CLIPAttention:
    """Build attention of as many heads as there are."""
    own, width = copy.deepcopy(config), config.hidden_size
    own.hidden_size = config.head_dim * config.num_attention_heads
    found: CLIPAttention = CLIPAttention(own)
    for name in ("q_proj", "k_proj", "v_proj"):
        setattr(found, name, nn.Linear(width, own.hidden_size))
    found.out_proj = nn.Linear(own.hidden_size, width)
    return found


class Eyes(nn.Module):
    """Makes what the language model reads of an image's tiles.

    Patches are joined two by two, tiles laid out as one page, every line of it ended by one separator, and the large
    page divided from the small one by another; then comes the projector.

    Args:
        config: The tower's configuration.
        hidden_size: Width of the language model.
        inner_size: Width of the projector's hidden layer.
        large_first: Whether the tiles come before the small whole.
    """

    def __init__(
        self, config: CLIPVisionConfig, hidden_size: int, inner_size: int, *, large_first: bool = True
    ) -> None:
        super().__init__()
        joined = 4 * config.hidden_size
        self.large_first = large_first
        self.img_processor = nn.ModuleDict({"vision_model": Tower(config)})
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, joined))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, joined))
        self.img_projection = nn.Sequential(
            nn.Linear(joined, inner_size), nn.GELU(), nn.Linear(inner_size, hidden_size)
        )

    @property
    def tower(self) -> Tower:
        """The tower."""
        tower = self.img_processor["vision_model"]
        assert isinstance(tower, Tower)
        return tower

    def forward(self, pixels: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Return an image's tokens, ``[tokens, hidden]``.

        Args:
            pixels: The whole image made small, and its tiles row by row, ``[1 + rows·columns, 3, side, side]``.
            rows: Rows of tiles.
            columns: Columns of tiles.
        """
        features = joined_patches(self.tower(pixels.to(self.glb_GN.dtype)).last_hidden_state[:, 1:])
        small, large = self._lines(features[:1], 1, 1), self._lines(features[1:], rows, columns)
        first, last = (large, small) if self.large_first else (small, large)
        tokens: torch.Tensor = self.img_projection(torch.cat([first, self.glb_GN[0], last]))
        return tokens

    def _lines(self, tiles: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Lay tiles ``[rows·columns, side, side, width]`` out as one page and end each of its lines."""
        _, side, _, width = tiles.shape
        page = tiles.reshape(rows, columns, side, side, width).transpose(1, 2)
        page = page.reshape(rows * side, columns * side, width)
        ends = self.sub_GN[0].expand(rows * side, 1, width)
        return torch.cat([page, ends], dim=1).flatten(0, 1)


def joined_patches(features: torch.Tensor) -> torch.Tensor:
    """Join patches two by two: ``[tiles, patches, width]`` to ``[tiles, side, side, 4·width]``.

    The channels of the upper left patch come first, then those of the upper right, lower left and lower right one.

    Example:
        >>> joined_patches(torch.arange(16.0).reshape(1, 16, 1))[0, 0].tolist()
        [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    count, patches, width = features.shape
    side = round(patches**0.5) // 2
    pairs = features.reshape(count, side, 2, side, 2, width).transpose(2, 3)
    return pairs.reshape(count, side, side, 4 * width)


def tower_config(values: Mapping[str, Any], layer: int) -> CLIPVisionConfig:
    """Return the configuration of the published tower, with some of its values changed.

    Args:
        values: Those that are otherwise.
        layer: See `Tower`.
    """
    from transformers import CLIPVisionConfig

    known = {name: values[name] for name in (*USUAL, "hidden_act", "layer_norm_eps", "head_dim") if name in values}
    heads = known.get("num_attention_heads", USUAL["num_attention_heads"])
    if known.get("head_dim") is not None:  # transformers takes only counts of heads that divide the width
        known["num_attention_heads"] = 1
    config: CLIPVisionConfig = CLIPVisionConfig(**(USUAL | known))
    config.num_attention_heads, config.layer_idx = heads, layer
    if config.image_size % (2 * config.patch_size):
        raise ValueError(f"patches of {config.patch_size} pixels do not go in twos into {config.image_size}")
    config._attn_implementation = "sdpa"
    return config
