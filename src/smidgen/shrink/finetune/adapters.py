"""Low-rank adapters through PEFT: put on a model, kept apart, read back, merged into its weights."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.models.model import Model
from smidgen.models.packed import is_packed, unpacked
from smidgen.shrink.finetune.zeros import pruned_places, require_keepable

if TYPE_CHECKING:
    import torch

METHODS = ("dora", "full", "lora", "qlora")
TRAINED = "*.lora_*"
"""Names of the parameters that an adapter adds."""
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PARTS = {"attention": ("query", "key", "value", "output"), "mlp": ("gate", "up", "down")}


@dataclass(frozen=True)
class Adapter:
    """What training added to a model that itself stayed as it was.

    Attributes:
        rank: Inner width of the two factors.
        alpha: The factors' product is scaled by ``alpha / rank``.
        targets: Paths of the linear layers it is put on.
        decomposed: Whether it is a DoRA: length and direction of each row apart.
        dropout: Share of the inputs that training left out.
        weights: By PEFT's names, ``base_model.model.<path>.lora_A.weight`` ``[rank, in]``, ``lora_B`` ``[out, rank]``.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    decomposed: bool = False
    dropout: float = 0.0
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise InvalidInput(
                f"An adapter needs a rank of at least 1, an alpha above 0 and a dropout from 0 to below 1, not "
                f"{self.rank}, {self.alpha} and {self.dropout}."
            )

    def config(self, base: str | None = None) -> Any:
        """Return PEFT's configuration; ``base`` names the model it belongs to."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.targets),
            use_dora=self.decomposed,
            task_type="CAUSAL_LM",
            base_model_name_or_path=base,
            inference_mode=True,
        )

    def put_on(self, module: Any, seed: int) -> Any:
        """Put a fresh adapter on a module, in place; it changes nothing until it is trained.

        Returns:
            PEFT's wrapper; the module itself now computes with the adapter as well.
        """
        import torch
        from peft import get_peft_model

        config = self.config()
        config.inference_mode = False
        with torch.random.fork_rng(), warnings.catch_warnings():
            # PEFT asks transformers for a property that has got another name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            torch.manual_seed(seed)
            return get_peft_model(module, config)

    def taken_from(self, wrapper: Any) -> Adapter:
        """Return the adapter with the weights that were trained."""
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(wrapper, save_embedding_layers=False)
        return replace(self, weights={name: each.detach().float().cpu().clone() for name, each in found.items()})

    def merged(self, model: Model) -> Model:
        """Return a copy of a model with the adapter worked into its weights; their packed bytes are dropped.

        Where single weights of the model were pruned, they stay zero.

        Raises:
            InvalidInput: The adapter belongs to a model of other parts.
            Unsupported: It is a DoRA, and single weights of the model were pruned.
        """
        from peft import set_peft_model_state_dict

        require_keepable(model, decomposed=self.decomposed)
        result = unpacked(model) if is_packed(model.module) else model.clone()
        missing = sorted({*self.targets} - {path for path, _ in result.module.named_modules()})
        if missing:
            raise InvalidInput(f"The adapter is for a model that has {missing[0]!r}, and this one has not.")
        zeros = pruned_places(result, self.targets)
        wrapper = self.put_on(result.module, 0)
        try:
            set_peft_model_state_dict(wrapper, dict(self.weights))
        except RuntimeError as error:
            raise InvalidInput(
                f"The adapter is for a model of other sizes: {str(error).strip().splitlines()[-1].strip()}"
            ) from error
        module = wrapper.merge_and_unload()
        for path, zero in zeros.items():
            module.get_submodule(path).weight.data.masked_fill_(zero, 0.0)
        changed = {f"{path}.weight" for path in self.targets}
        packed = {name: each for name, each in model.packed.items() if name not in changed}
        return replace(result, module=module.requires_grad_(True).train(model.module.training), packed=packed)

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Read an adapter from a folder as PEFT keeps it.

        Raises:
            ReferenceNotFound: The folder holds none.
            DamagedFile: It cannot be read, or is no LoRA.
        """
        import json

        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not (folder / CONFIG_FILE).is_file():
            raise ReferenceNotFound(f"{folder} holds no {CONFIG_FILE}.", remedy="Name the folder of a PEFT adapter.")
        try:
            facts = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS_FILE)
            paths = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in weights}
            rank, alpha = int(facts["r"]), float(facts["lora_alpha"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DamagedFile(f"The adapter in {folder} cannot be read: {error}.") from error
        dropout, decomposed = float(facts.get("lora_dropout") or 0), bool(facts.get("use_dora"))
        return cls(rank, alpha, tuple(sorted(paths)), decomposed, dropout, weights)


def targets(model: Model, chosen: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of the linear layers that a choice means.

    Args:
        model: Whose blocks.
        chosen: ``all``, ``attention``, ``mlp``, or patterns of paths as ``("*.q_proj", "*.v_proj")``.

    Raises:
        InvalidInput: None is meant.
    """
    import torch

    parts = _PARTS | {"all": (*_PARTS["attention"], *_PARTS["mlp"])}
    roles = parts.get(chosen) if isinstance(chosen, str) else None
    patterns = (chosen,) if isinstance(chosen, str) else chosen
    every = [each for block in model.anatomy.blocks for each in block.projections.values()]
    found = dict.fromkeys(
        each.path
        for each in every
        if (each.role in roles if roles else any(fnmatch.fnmatchcase(each.path, pattern) for pattern in patterns))
        and isinstance(model.module.get_submodule(each.path), torch.nn.Linear)
    )
    if not found:
        raise InvalidInput(
            f"No linear layer of the model is meant by {chosen!r}.",
            remedy=f"Say 'all', 'attention', 'mlp' or patterns of paths such as {every[0].path!r}.",
        )
    return tuple(found)
