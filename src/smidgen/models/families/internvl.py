"""InternVL: an InternViT, a projector of two layers, and a language model that is a Llama, a Mistral or a Qwen2."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.models.anatomy import Anatomy, Block, Projection
from smidgen.models.families._internvl_names import PROJECTOR, own_names, projector_names, published_names
from smidgen.models.vision import PLACE, Picture, Shown, Vision, pictures_of, tiles, with_outputs
from smidgen.models.vision.family import SeeingFamily, State

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerFast

    from smidgen.models.model import Model

BEGIN, CONTEXT, END = "<img>", "<IMG_CONTEXT>", "</img>"
LANGUAGES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
NATIVE = "internvl"
"""The ``model_type`` of folders that transformers itself wrote."""

PROJECTOR_WIDTH = "projector_width"
"""Entry of the configuration that says how wide the projector is inside, where that is not the model's width."""

TILES_AT_ONCE = 4

_KEPT = ("smidgen", "head_dim", "rope_parameters", "model_type", "architectures")
"""Entries of a language model's configuration that are written though the published one has none."""

_AGAIN = "Fetch the model again."


class Internvl(SeeingFamily):
    """The InternVL family.

    Peculiar: published files name everything otherwise than transformers and keep query, key and value of the tower as
    one matrix; folders that transformers wrote have its own names. An image is cut into up to 12 tiles; of a tile's
    1,024 patches four at a time become one token. Source: arXiv 2404.16821.
    """

    architecture: ClassVar[str] = "InternVLForConditionalGeneration"
    published_architectures: ClassVar[tuple[str, ...]] = ("InternVLChatModel",)
    most_tiles: ClassVar[int] = 12

    def language_config(self, published: Mapping[str, Any]) -> Any:
        """Build the configuration of the language model."""
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        given = dict(_entry(published, "text_config" if _is_native(published) else "llm_config"))
        for name in ("auto_map", "_name_or_path"):
            given.pop(name, None)
        kind = str(given.pop("model_type", ""))
        name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
        if name in LANGUAGES:
            config = CONFIG_MAPPING[kind].from_dict(given)
            config.architectures = [name]
            return config
        known = ", ".join(name.removesuffix("ForCausalLM") for name in LANGUAGES)
        raise Unsupported(
            f"The language model inside this {type(self).__name__} is of the kind {kind!r}, which is not known.",
            remedy=f"Known inside it: {known}.",
        )

    def eyes(self, published: Mapping[str, Any], language: Any) -> Any:
        """Build transformers' ``InternVLModel`` without its language model."""
        import torch
        from transformers import InternVLModel, LlamaConfig

        # A language model of no size stands in for the one that is a module of its own.
        none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        counts = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"), 1)
        nobody = LlamaConfig(hidden_size=language.hidden_size, **counts, **none)
        nobody.hidden_size = published.get(PROJECTOR_WIDTH, language.hidden_size)
        config = self.native_config(published, nobody)
        tower, config.vision_config = config.vision_config, type(config.vision_config)(num_hidden_layers=0)
        config.vision_config.hidden_size = tower.hidden_size
        module: Any = InternVLModel(config)
        module.config.vision_config, module.language_model = tower, None
        module.vision_tower = self.build_tower(tower)
        if nobody.hidden_size != language.hidden_size:
            last = torch.nn.Linear(nobody.hidden_size, language.hidden_size)
            module.multi_modal_projector.linear_2 = last
        return module

    def native_config(self, published: Mapping[str, Any], language: Any) -> Any:
        """Build transformers' ``InternVLConfig``.

        Raises:
            Unsupported: The model computes what transformers' InternVL does not.
        """
        from transformers import InternVLConfig

        if _is_native(published):
            config = InternVLConfig.from_dict({**published, "text_config": language.to_dict()})
            config.text_config = language
            return config
        for name, expected in (("ps_version", "v2"), ("select_layer", -1)):
            if published.get(name, expected) != expected:
                raise Unsupported(f"Models with {name} {published[name]!r} are not known, only with {expected!r}.")
        return InternVLConfig(
            vision_config=_tower_config(_entry(published, "vision_config"), published),
            text_config=language,
            image_seq_length=self.places_of_a_tile(published),
            downsample_ratio=published.get("downsample_ratio", 0.5),
            tie_word_embeddings=bool(language.tie_word_embeddings),
        )

    def divided(self, published: Mapping[str, Any], state: State) -> tuple[State, State]:
        """Divide published weights; the tower's fused matrices come apart."""
        language: State = {}
        eyes: State = {}
        for name, value in state.items():
            if name.endswith("rotary_emb.inv_freq"):
                continue
            short = name.removeprefix("model.") if _is_native(published) else name
            if short.startswith("language_model."):
                rest = short.removeprefix("language_model.")
                # transformers keeps the head outside: what it calls language_model is the model without it.
                inner = short != name or (_is_native(published) and not rest.startswith(("model.", "lm_head.")))
                language[f"model.{rest}" if inner else rest] = value
            elif short.startswith("lm_head."):
                language[short] = value
            else:
                eyes |= own_names(short, value)
        return language, eyes

    def joined(self, published: Mapping[str, Any], language: State, eyes: State) -> State:
        """Name weights as they are published."""
        if _is_native(published):
            inner = {name: f"model.language_model.{name.removeprefix('model.')}" for name in language}
            state = {name if name.startswith("lm_head.") else inner[name]: value for name, value in language.items()}
            return state | {f"model.{name}": value for name, value in eyes.items()}
        state = {f"language_model.{name}": value for name, value in language.items()}
        for name, value in eyes.items():
            state |= published_names(name, value, eyes)
        return state

    def described(self, model: Model) -> dict[str, Any]:
        """Return the published configuration with the present counts."""
        vision = model.vision
        assert vision is not None
        published, native = dict(copy.deepcopy(vision.published)), _is_native(vision.published)
        key, now = "text_config" if native else "llm_config", model.config.to_dict()
        given = {name: value for name, value in published[key].items() if name not in (*_KEPT, "_name_or_path")}
        kept = {name: now[name] for name in now if name in given or name in _KEPT}
        published[key] = given | kept | {"architectures": [model.family.architecture]}
        tower, described = vision.module.vision_tower.config, dict(published["vision_config"])
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            described[name] = getattr(tower, name)
        if getattr(tower, "head_dim", None) is not None:
            described["head_dim"] = tower.head_dim
        inner = vision.module.multi_modal_projector.linear_1.out_features
        own = {PROJECTOR_WIDTH: inner} if inner != model.config.hidden_size else {}
        return published | {"vision_config": described} | own

    def grids(self, vision: Vision, size: tuple[int, int], count: int) -> list[tiles.Grid]:
        """Return the grids that an image is cut by, one after the other.

        Args:
            vision: The model's eyes.
            size: Width and height of the image.
            count: How many images the conversation shows.
        """
        published = vision.published
        if not published.get("dynamic_image_size", True):
            return [(1, 1)]
        return [tiles.nearest(size, tiles.grids(*self.tile_counts(published)), self.side(vision))]

    def tile_counts(self, published: Mapping[str, Any]) -> tuple[int, int]:
        """Return into how many tiles an image is cut at least and at most."""
        return published.get("min_dynamic_patch", 1), published.get("max_dynamic_patch", self.most_tiles)

    def side(self, vision: Vision) -> int:
        """Return the pixels of a tile's side."""
        return int(vision.module.vision_tower.config.image_size[0])

    def places_of_a_tile(self, published: Mapping[str, Any]) -> int:
        """Return how many tokens a tile takes."""
        if _is_native(published):
            return int(published.get("image_seq_length", 256))
        tower = _tower_config(_entry(published, "vision_config"), published)
        patches = tower.image_size[0] // tower.patch_size[0]
        return int(patches * published.get("downsample_ratio", 0.5)) ** 2

    def picture(self, vision: Vision, image: Image, *, count: int = 1) -> Picture:
        """Cut an RGB image into tiles."""
        side, chosen = self.side(vision), self.grids(vision, image.size, count)
        passes = [tiles.cut(image, grid, side) for grid in chosen]
        cut = passes[0]
        for more in passes[1:]:  # the later look stands first, and the whole image once, at the end
            cut = [*more[:-1], *cut[:-1], more[-1]]
        values = tiles.pixels(cut)
        return Picture(values, len(values) * self.places_of_a_tile(vision.published), chosen[0])

    def features(self, vision: Vision, picture: Picture) -> torch.Tensor:
        """Return what the projector makes of every tile, one after the other."""
        import torch

        parts = [
            vision.module.get_image_features(pixel_values=part, **_features_of(vision.module.config)).pooler_output
            for part in torch.split(picture.pixels, TILES_AT_ONCE)
        ]
        return torch.cat(parts).flatten(0, 1)

    def layout(self, vision: Vision, tokenizer: PreTrainedTokenizerFast, turns: Sequence[Shown]) -> list[int]:
        """Lay a conversation out with the tokenizer's own template."""
        from smidgen.models.vision.texts import templated

        return numbered(tokenizer, templated(tokenizer, [(turn.role, spelled(turn)) for turn in turns]), turns)

    def narrowed(self, vision: Vision, kept: torch.Tensor) -> Vision:
        """Let the projector's last layer write these channels only; its hidden layer keeps its width."""
        return with_outputs(vision, f"{PROJECTOR}linear_2", kept)

    def build_tower(self, config: Any) -> Any:
        """Build transformers' ``InternVLVisionModel``, of as many heads as there are."""
        from transformers import InternVLVisionModel

        own = copy.deepcopy(config)
        if _has_own_heads(config):  # transformers builds only heads that make up the width
            own.num_attention_heads = 1
        tower: Any = InternVLVisionModel(own)
        tower.config = config
        _fit_heads(tower)
        return tower

    def tower_anatomy(self, config: Any) -> Anatomy:
        """Name every part; layout as in transformers' ``InternVLVisionModel``."""
        return Anatomy(
            embedding="embeddings.patch_embeddings.projection",
            head="layernorm",
            tied=False,
            final_norm="layernorm",
            layers="encoder.layer",
            rotary="embeddings",
            blocks=tuple(_tower_block(config, index) for index in range(config.num_hidden_layers)),
            hidden_size=config.hidden_size,
            vocabulary_size=0,
            context_length=0,
        )

    def projector(self, vision: Vision) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the keys and names that llama.cpp reads for its projector ``internvl``.

        Raises:
            Unsupported: llama.cpp would see something else than the model does.
        """
        published, tower = vision.published, vision.module.vision_tower.config
        if _has_own_heads(tower) or tower.hidden_act != "gelu":
            raise Unsupported(
                "llama.cpp runs InternVL's tower with heads that make up its width and with GELU.",
                remedy="Cut neurons or layers of the tower instead of heads, or ask for safetensors.",
            )
        (least, most), dynamic = self.tile_counts(published), published.get("dynamic_image_size", True)
        numbers = {
            "image_size": self.side(vision),
            "patch_size": tower.patch_size[0],
            "embedding_length": tower.hidden_size,
            "feed_forward_length": tower.intermediate_size,
            "projection_dim": vision.module.multi_modal_projector.linear_2.out_features,
            "block_count": tower.num_hidden_layers,
            "attention.head_count": tower.num_attention_heads,
            "attention.layer_norm_epsilon": float(tower.layer_norm_eps),
            "image_mean": list(self.mean),
            "image_std": list(self.deviation),
            "projector.scale_factor": round(1 / published.get("downsample_ratio", 0.5)),
            "preproc_min_tiles": least if dynamic else 1,
            "preproc_max_tiles": most if dynamic else 1,
        }
        own: dict[str, Any] = {
            "clip.has_vision_encoder": True,
            "clip.projector_type": "internvl",
            "clip.use_gelu": True,
        }
        return own | {f"clip.vision.{key}": value for key, value in numbers.items()}, projector_names(vision.module)

    def in_projector(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Put the class token's position last, since llama.cpp puts that token behind the patches."""
        return weight.roll(-1, dims=1) if name.endswith(".position_embeddings") else weight

    def native(self, model: Model) -> Any:
        """Return transformers' ``InternVLForConditionalGeneration`` of a model, which shares its weights.

        Raises:
            Unsupported: Its blocks differ, or its tower lost heads, which transformers cannot hold.
        """
        import torch
        from transformers import InternVLForConditionalGeneration

        vision = model.vision
        assert vision is not None
        described = self.described(model)
        config = self.native_config(described, model.config)
        if hasattr(model.config, "smidgen") or _has_own_heads(config.vision_config) or PROJECTOR_WIDTH in described:
            raise Unsupported("transformers holds no InternVL that lost width, heads of its tower, or parts unevenly.")
        with torch.device("meta"):
            whole: Any = InternVLForConditionalGeneration(config)
        eyes = dict(vision.module.named_parameters())
        language = dict(model.module.state_dict(keep_vars=True))
        whole.load_state_dict(self.joined({"model_type": NATIVE}, language, eyes), assign=True)
        whole.model.language_model.rotary_emb = model.module.model.rotary_emb
        return whole.eval()


def spelled(turn: Shown) -> str:
    """Write a turn's parts out, its pictures as the tokens that stand for them, each on a line of its own.

    Raises:
        InvalidInput: A text of it spells such a token, which would be taken for a place of an image.
    """
    written = ""
    for part in turn.parts:
        if isinstance(part, Picture):
            written += f"{BEGIN}{CONTEXT * part.places}{END}\n"
        elif CONTEXT in part:
            raise InvalidInput(f"A text holds {CONTEXT}, which stands for an image.", remedy="Leave it out.")
        else:
            written += part
    return written


def numbered(tokenizer: PreTrainedTokenizerFast, text: str, turns: Sequence[Shown]) -> list[int]:
    """Cut a laid out conversation into tokens, `PLACE` where pictures stand; no token is added before it.

    Raises:
        DamagedFile: The tokenizer does not know the token of images.
    """
    number = tokenizer.convert_tokens_to_ids(CONTEXT)
    if number is None or number == tokenizer.unk_token_id:
        raise DamagedFile(f"The model's tokenizer has no token {CONTEXT}.", remedy=_AGAIN)
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    found = [PLACE if each == number else each for each in ids]
    expected = sum(picture.places for picture in pictures_of(turns))
    if found.count(PLACE) != expected:
        raise DamagedFile(
            f"The layout of the conversation holds {found.count(PLACE):,} places for images, not {expected:,}.",
            remedy=_AGAIN,
        )
    return found


def _is_native(published: Mapping[str, Any]) -> bool:
    return published.get("model_type") == NATIVE


def _entry(published: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = published.get(name)
    if not isinstance(found, Mapping):
        raise DamagedFile(f"The configuration has no entry {name!r}.", remedy=_AGAIN)
    return found


def _tower_config(given: Mapping[str, Any], published: Mapping[str, Any]) -> Any:
    """Build the tower's configuration from the published one."""
    from transformers import InternVLVisionConfig

    same = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "hidden_act")
    values = {name: given[name] for name in (*same, "layer_norm_eps", "norm_type", "num_channels") if name in given}
    config = InternVLVisionConfig(
        **values,
        image_size=published.get("force_image_size") or given.get("image_size", 448),
        attention_bias=given.get("qkv_bias", True),
        use_qk_norm=given.get("qk_normalization", False),
        use_mean_pooling=True,
    )
    if given.get("head_dim") is not None:
        config.head_dim = given["head_dim"]
    return config


def _tower_block(config: Any, index: int) -> Block:
    path = f"encoder.layer.{index}"
    parts = {"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj"}
    parts |= {"output": "attention.projection_layer", "up": "mlp.fc1", "down": "mlp.fc2"}
    return Block(
        index=index,
        path=path,
        projections={role: Projection(role, f"{path}.{module}") for role, module in parts.items()},
        norms=(f"{path}.layernorm_before", f"{path}.layernorm_after"),
        query_heads=config.num_attention_heads,
        key_value_heads=config.num_attention_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        neurons=config.intermediate_size,
        norm_before={"attention_input": f"{path}.layernorm_before", "mlp_input": f"{path}.layernorm_after"},
    )


def _features_of(config: Any) -> dict[str, Any]:
    return {
        "vision_feature_layer": config.vision_feature_layer,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }


def _has_own_heads(tower: Any) -> bool:
    """Whether a tower's heads do not make up its width, because some were cut."""
    size = getattr(tower, "head_dim", None)
    return size is not None and size * tower.num_attention_heads != tower.hidden_size


def _fit_heads(tower: Any) -> None:
    """Give a tower that lost heads attention of those that it has, which transformers itself cannot build."""
    import torch

    if not _has_own_heads(tower.config):
        return
    heads, width = tower.config.num_attention_heads, tower.config.hidden_size
    for layer in tower.encoder.layer:
        own = copy.deepcopy(layer.attention.config)
        own.num_attention_heads, own.hidden_size = heads, heads * tower.config.head_dim
        attention = type(layer.attention)(own)
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(attention, name, torch.nn.Linear(width, own.hidden_size, bias=own.attention_bias))
        attention.projection_layer = torch.nn.Linear(own.hidden_size, width)
        layer.attention = attention
