"""Phi-3 vision and Phi-3.5 vision: the tower of a CLIP, a projector, and a Phi-3."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.anatomy import Anatomy, Block, Projection
from smidgen.models.families import _phi3v_images as images
from smidgen.models.families import _phi3v_prompt as prompt
from smidgen.models.families._decoder import head_size
from smidgen.models.vision import Picture, Shown, Vision, with_outputs
from smidgen.models.vision.family import SeeingFamily, State

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerFast

    from smidgen.models.model import Model

KIND = "phi3_v"
EYES = "model.vision_embed_tokens."
SECOND_EMBEDDING = f"{EYES}wte.weight"
"""What programs that train the model further may write the embedding as, beside its own name or in its place."""

PROJECTION = "img_projection.2"
"""The layer that writes what the language model reads."""

EMBEDDING = "model.embed_tokens.weight"
POSITIONS = "embeddings.position_ids"
"""Older towers keep the numbers of their patches among their weights."""

LARGE_FIRST, SMALL_FIRST = "sub_glb", "glb_sub"
EXPECTED: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "embd_layer": {
        "embedding_cls": ("image",),
        "projection_cls": ("mlp",),
        "use_hd_transform": (True,),
        "with_learnable_separator": (True,),
        "hd_transform_order": (LARGE_FIRST, SMALL_FIRST),
    },
    "img_processor": {"name": ("clip_vision_model",), "type_feature": ("patch",)},
}
"""What entries of a configuration may say where they say anything."""

LONG = "longrope"
"""What transformers calls the rope that older files call "su" or "yarn"."""

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Matrices of a Phi-3, and those of a Llama that they are made of."""

ROPE = ("rope_scaling", "rope_theta", "rope_parameters")
OWN = ("embd_layer", "img_processor", "vision_config", "projection_size")
"""Entries that are not the language model's."""

COUNTS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
OUTER = ("model_type", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "_name_or_path")


class Phi3V(SeeingFamily):
    """The Phi-3 vision family.

    Peculiar: an image is enlarged until its tiles of 336 pixels are as many as may be, 16 where it is the only one and
    4 else, and filled up with white; the whole of it, made small, is one more tile. Patches are joined two by two; each
    line of the pages ends in a separator, and another stands between the large page and the small one. The tower is
    read behind its last block but one. What a prompt says before, between and behind its images is cut into tokens
    piece by piece, each with the tokens that begin a text. Source: arXiv 2404.14219; tiles: arXiv 2404.06512.
    """

    architecture: ClassVar[str] = "Phi3VForCausalLM"
    published_architectures: ClassVar[tuple[str, ...]] = (KIND,)
    transcription: ClassVar[str] = "Write out all text in this image."
    tower: ClassVar[str] = "img_processor.vision_model"
    mean: ClassVar[tuple[float, float, float]] = images.CLIP_MEAN
    deviation: ClassVar[tuple[float, float, float]] = images.CLIP_DEVIATION

    def language_config(self, published: Mapping[str, Any]) -> Any:
        """Build the configuration of the Phi-3, or of the Llama that stands for one whose heads were cut."""
        from transformers import LlamaConfig, Phi3Config

        given = {name: value for name, value in published.items() if name not in (*OWN, *OUTER, *ROPE)}
        given["rope_parameters"] = _rope(published)
        if _is_llama(published):
            return LlamaConfig(**given, architectures=["LlamaForCausalLM"])
        return Phi3Config(**given, architectures=["Phi3ForCausalLM"])

    def eyes(self, published: Mapping[str, Any], language: Any) -> Any:
        """Build tower, separators and projector.

        Raises:
            Unsupported: The configuration asks for others.
        """
        from smidgen.models.families._phi3v_eyes import Eyes, tower_config

        for entry, expected in EXPECTED.items():
            given = _entry(published, entry)
            for name, known in expected.items():
                if given.get(name, known[0]) not in known:
                    raise Unsupported(
                        f"The configuration has {name} {given[name]!r} in {entry}; known is "
                        f"{' or '.join(map(repr, known))}."
                    )
        layer = _entry(published, "img_processor").get("layer_idx", -2)
        tower = tower_config(_entry(published, "vision_config"), layer)
        inner = published.get("projection_size") or language.hidden_size
        large_first = _entry(published, "embd_layer").get("hd_transform_order", LARGE_FIRST) == LARGE_FIRST
        return Eyes(tower, language.hidden_size, inner, large_first=large_first)

    def divided(self, published: Mapping[str, Any], state: State) -> tuple[State, State]:
        """Divide published weights; an embedding that is there twice is taken once."""
        language: State = {}
        eyes: State = {}
        for name, value in state.items():
            if name == SECOND_EMBEDDING:
                language.setdefault(EMBEDDING, value)
            elif not name.startswith(EYES):
                language[name] = value
            elif not name.endswith(POSITIONS):
                eyes[name.removeprefix(EYES)] = value
        return (_unfused(language, self.language_config(published)) if _is_llama(published) else language), eyes

    def joined(self, published: Mapping[str, Any], language: State, eyes: State) -> State:
        """Name weights as they are published."""
        return _fused(language) | {f"{EYES}{name}": value for name, value in eyes.items()}

    def described(self, model: Model) -> dict[str, Any]:
        """Return the published configuration with the present counts; what it says of the rope stays as it is."""
        from smidgen.models.families._phi3v_eyes import USUAL

        vision = model.vision
        assert vision is not None
        published, now = dict(copy.deepcopy(vision.published)), model.config.to_dict()
        kept = {name: value for name, value in published.items() if name not in now or name in (*ROPE, *OUTER)}
        kept.pop("smidgen", None)  # what one cut said of its blocks, another may have undone
        language = {name: value for name, value in now.items() if name not in (*ROPE, *OUTER)}
        module, described = vision.module, kept | language | {"model_type": KIND}
        first, tower = module.img_projection[0], module.tower.config
        if first.out_features != model.anatomy.hidden_size:
            described["projection_size"] = first.out_features
        counts = {name: getattr(tower, name) for name in (*COUNTS, "head_dim") if hasattr(tower, name)}
        if tower.layer_idx != _entry(published, "img_processor").get("layer_idx", -2):
            described["img_processor"] = dict(_entry(published, "img_processor")) | {"layer_idx": tower.layer_idx}
        given = published.get("vision_config")
        if given or any(count != USUAL.get(name) for name, count in counts.items()):
            described["vision_config"] = dict(given or {}) | counts
        return described

    def picture(self, vision: Vision, image: Image, *, count: int = 1) -> Picture:
        """Cut an image into tiles, fewer where it is one of several."""
        tower = vision.module.tower.config
        most = images.ONE_IMAGE if count == 1 else images.SEVERAL_IMAGES
        found = images.layout(image.width, image.height, most, tower.image_size)
        places = found.tokens(tower.image_size // tower.patch_size // 2)
        return Picture(images.tiles(image, most, tower.image_size), places, (found.columns, found.rows))

    def features(self, vision: Vision, picture: Picture) -> torch.Tensor:
        """Return the image's tokens."""
        columns, rows = picture.grid
        found: torch.Tensor = vision.module(picture.pixels, rows, columns)
        return found

    def build_tower(self, config: Any) -> Any:
        """Build a tower of this configuration; transformers' own blocks, whose heads need not make up the width."""
        from smidgen.models.families._phi3v_eyes import Tower

        return Tower(config)

    def tower_of(self, vision: Vision) -> Any:
        """Return the tower without its last block, which nothing reads: it is given up where the tower is shrunk."""
        from smidgen.models.families._phi3v_eyes import without_unread

        return without_unread(vision.module.tower)

    def tower_anatomy(self, config: Any) -> Anatomy:
        """Name every part; layout as in transformers' ``CLIPVisionModel``."""
        return Anatomy(
            embedding="embeddings.patch_embedding",
            head="post_layernorm",
            tied=False,
            final_norm="post_layernorm",
            layers="encoder.layers",
            rotary="embeddings",
            blocks=tuple(_tower_block(config, index) for index in range(config.num_hidden_layers)),
            hidden_size=config.hidden_size,
            vocabulary_size=0,
            context_length=0,
        )

    def narrowed(self, vision: Vision, kept: torch.Tensor) -> Vision:
        """Let the projector's last layer write these channels only; its hidden layer keeps its width."""
        return with_outputs(vision, PROJECTION, kept)

    def projector(self, vision: Vision) -> tuple[dict[str, Any], dict[str, str]]:
        """Refuse: of llama.cpp's projectors none lays tiles out as pages with separators between their lines."""
        raise Unsupported(
            "llama.cpp cannot run the vision part of a Phi-3 vision, and its language model alone would answer without "
            "having seen the image.",
            remedy="Ask for safetensors or packed matrices instead, which torch runs.",
        )

    def layout(self, vision: Vision, tokenizer: PreTrainedTokenizerFast, turns: Sequence[Shown]) -> list[int]:
        """Lay a conversation out; a text may say itself where its images belong, ``<|image_1|>`` and so on.

        Raises:
            InvalidInput: Texts name some of the images and not all, one that is not there, or a later one first.
        """
        return prompt.laid_out(tokenizer, turns)


def _tower_block(config: Any, index: int) -> Block:
    path = f"encoder.layers.{index}"
    parts = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
    parts |= {"output": "self_attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2"}
    first, second = f"{path}.layer_norm1", f"{path}.layer_norm2"
    return Block(
        index=index,
        path=path,
        projections={role: Projection(role, f"{path}.{module}") for role, module in parts.items()},
        norms=(first, second),
        query_heads=config.num_attention_heads,
        key_value_heads=config.num_attention_heads,
        head_size=head_size(config),
        neurons=config.intermediate_size,
        norm_before={"attention_input": first, "mlp_input": second},
    )


def _entry(published: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = published.get(name) or {}
    if not isinstance(found, Mapping):
        raise DamagedFile(f"The configuration's entry {name!r} is no object.", remedy="Fetch the model again.")
    return found


def _rope(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rope's parameters as transformers has them today."""
    found = dict(copy.deepcopy(_entry(published, "rope_parameters") or _entry(published, "rope_scaling")))
    kind = found.pop("type", found.get("rope_type", "default"))
    found["rope_type"] = LONG if kind in ("su", "yarn", LONG) else kind
    found.setdefault("rope_theta", published.get("rope_theta", 10000.0))
    if found["rope_type"] == LONG:
        found.setdefault("original_max_position_embeddings", published.get("original_max_position_embeddings", 4096))
    return found


def _is_llama(published: Mapping[str, Any]) -> bool:
    """Whether the language model is held as a Llama: transformers' Phi-3 has no long rope for heads that were cut."""
    size = published.get("head_dim")
    if _rope(published)["rope_type"] != LONG or size is None:
        return False
    return bool(size * published["num_attention_heads"] != published["hidden_size"])


def _unfused(state: State, config: Any) -> State:
    """Divide the fused matrices of a Phi-3 as a Llama of this configuration has them."""
    import torch

    from smidgen.models import families, uneven

    anatomy = uneven.adjusted(families.for_architecture("LlamaForCausalLM").anatomy(config), config)
    result = dict(state)
    for block in anatomy.blocks:
        shared = block.key_value_heads * block.head_size
        lengths = {
            "qkv_proj": [block.query_heads * block.head_size, shared, shared],
            "gate_up_proj": [block.neurons] * 2,
        }
        for fused, parts in FUSED.items():
            place = f"{block.path}.{'mlp' if fused == 'gate_up_proj' else 'self_attn'}"
            whole = result.pop(f"{place}.{fused}.weight", None)
            if whole is not None and len(whole) == sum(lengths[fused]):
                for name, part in zip(parts, torch.split(whole, lengths[fused]), strict=True):
                    result[f"{place}.{name}.weight"] = part.clone()
    return result


def _fused(state: State) -> State:
    """Join the matrices of a Llama as a Phi-3 has them; where they are joined they stay as they are."""
    import torch

    result = dict(state)
    for name in state:
        place, _, last = name.removesuffix(".weight").rpartition(".")
        for fused, parts in FUSED.items():
            if last == parts[0]:
                result[f"{place}.{fused}.weight"] = torch.cat([result.pop(f"{place}.{part}.weight") for part in parts])
    return result
