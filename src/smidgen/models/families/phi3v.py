"""Phi-3 vision and Phi-3.5 vision: the tower of a CLIP, a projector, and a Phi-3."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.models.families import _phi3v_images as images
from smidgen.models.vision import PLACE, Picture, Shown, Vision, pictures_of
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
TAG = re.compile(r"<\|image_(\d{1,4})\|>")
"""How a prompt says where an image belongs."""

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
        tower = tower_config(_entry(published, "vision_config"))
        layer = _entry(published, "img_processor").get("layer_idx", -2)
        inner = published.get("projection_size") or language.hidden_size
        large_first = _entry(published, "embd_layer").get("hd_transform_order", LARGE_FIRST) == LARGE_FIRST
        return Eyes(tower, layer, language.hidden_size, inner, large_first)

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
        first, tower = module.img_projection[0], module.config
        if first.out_features != model.anatomy.hidden_size:
            described["projection_size"] = first.out_features
        counts = {name: getattr(tower, name) for name in COUNTS}
        given = published.get("vision_config")
        if given or any(count != USUAL[name] for name, count in counts.items()):
            described["vision_config"] = dict(given or {}) | counts
        return described

    def picture(self, vision: Vision, image: Image, *, count: int = 1) -> Picture:
        """Cut an image into tiles, fewer where it is one of several."""
        tower = vision.module.config
        most = images.ONE_IMAGE if count == 1 else images.SEVERAL_IMAGES
        found = images.layout(image.width, image.height, most, tower.image_size)
        places = found.tokens(tower.image_size // tower.patch_size // 2)
        return Picture(images.tiles(image, most, tower.image_size), places, (found.columns, found.rows))

    def features(self, vision: Vision, picture: Picture) -> torch.Tensor:
        """Return the image's tokens."""
        columns, rows = picture.grid
        found: torch.Tensor = vision.module(picture.pixels, rows, columns)
        return found

    def narrowed(self, vision: Vision, kept: torch.Tensor) -> Vision:
        """Let the projector's last layer write these channels only; its hidden layer keeps its width."""
        import torch

        module = copy.deepcopy(vision.module)
        last = module.get_submodule(PROJECTION)
        last.out_features = len(kept)
        for name in ("weight", "bias"):
            value = getattr(last, name).detach().index_select(0, kept.to(last.weight.device))
            setattr(last, name, torch.nn.Parameter(value, requires_grad=False))
        packed = {name: each for name, each in vision.packed.items() if name != f"{PROJECTION}.weight"}
        return replace(vision, module=module, packed=packed)

    def layout(self, vision: Vision, tokenizer: PreTrainedTokenizerFast, turns: Sequence[Shown]) -> list[int]:
        """Lay a conversation out; a text may say itself where its images belong, ``<|image_1|>`` and so on.

        Raises:
            InvalidInput: Texts name some of the images and not all, or one that is not there.
        """
        mark = f"<{uuid.uuid4().hex}>"
        pieces = re.split(f"{mark}(\\d+)\\|", _written(tokenizer, _with_marks(turns, mark)))
        shown, ids = pictures_of(turns), list[int]()
        for index, piece in enumerate(pieces):
            ids += [PLACE] * shown[int(piece) - 1].places if index % 2 else tokenizer(piece).input_ids
        return ids


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


def _with_marks(turns: Sequence[Shown], mark: str) -> Iterator[tuple[str, str]]:
    """Yield every turn's role and text, with ``mark``, a number and a bar where the image of that number belongs.

    An image that no text names stands where it was shown, on a line of its own.
    """
    count = len(pictures_of(turns))
    texts = [part for turn in turns for part in turn.parts if isinstance(part, str)]
    named = [int(found[1]) for text in texts for found in TAG.finditer(text)]
    if named and sorted(named) != list(range(1, count + 1)):
        raise InvalidInput(
            f"The texts name the images {', '.join(f'<|image_{number}|>' for number in named)}, and {count} are shown.",
            remedy="Name each image once, beginning with <|image_1|>, or none of them.",
        )
    number = 0
    for turn in turns:
        text = ""
        for part in turn.parts:
            if isinstance(part, str):
                text += TAG.sub(lambda found: f"{mark}{found[1]}|", part)
                continue
            number += 1
            text += "" if named else f"{mark}{number}|\n"
        yield turn.role, text


def _written(tokenizer: PreTrainedTokenizerFast, turns: Iterator[tuple[str, str]]) -> str:
    """Lay texts out as the tokenizer's template says, or as published where it has none."""
    from smidgen.models.vision.texts import templated

    said = list(turns)
    if tokenizer.chat_template:
        return templated(tokenizer, said)
    return "".join(f"<|{role}|>\n{text}<|end|>\n" for role, text in said) + "<|assistant|>\n"
