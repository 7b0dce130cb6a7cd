"""Safetensors folders: configuration, weights, tokenizer, as transformers keeps them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, Unsupported

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

LINEAGE_FILE = "smidgen.json"


def read_config(folder: Path, place: str | None = None) -> dict[str, Any]:
    """Read ``config.json``, refusing models that only their own code could build.

    Args:
        folder: Where it lies.
        place: The model's name in errors; the folder where None.

    Raises:
        InvalidInput: The folder holds no ``config.json``.
        DamagedFile: It is not a JSON object.
        Unsupported: The model needs code from its repository.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no config.json.", remedy="Give a folder in the transformers layout.")
    config = read_object(path)
    if "auto_map" in config:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        from smidgen.models import families

        if config.get("model_type") not in CONFIG_MAPPING_NAMES and families.seeing(config) is None:
            raise Unsupported(
                f"{place or folder} brings its own code for the architecture {config.get('model_type')!r}; "
                "remote code is never executed.",
                remedy="Use a model whose architecture transformers or smidgen itself knows.",
            )
    return config


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        DamagedFile: It holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON: {error}.", remedy="Fetch the model again.") from error
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} is not a JSON object.", remedy="Fetch the model again.")
    return content


def read_module(folder: Path, dtype: torch.dtype) -> Any:
    """Load the transformers model of a folder, from safetensors only.

    Raises:
        DamagedFile: A weights file is missing or cut short, or does not fit the configuration.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    again = "Fetch the model again."
    try:
        module, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except StrictDataclassError as error:
        raise DamagedFile(f"{folder / 'config.json'} cannot be: {_last_line(error)}", remedy=again) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(f"The weights in {folder} cannot be read: {first}", remedy=again) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise DamagedFile(
            f"The weights in {folder} lack {len(missing)} tensors, the first is {missing[0]!r}.", remedy=again
        )
    return module.eval()


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2].strip()


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the fast tokenizer of a folder as its ``tokenizer.json`` describes it.

    Transformers rebuilds the tokenizers of some architectures from their vocabulary and splits text as it knows
    that architecture to do; what the file says would be lost. A folder without that file gets what transformers
    makes of it. Padding and truncation that were saved with a tokenizer are switched off.

    Raises:
        DamagedFile: There is none, or it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # An absolute path, since transformers looks up a relative one on the hub.
            tokenizer: PreTrainedTokenizerFast = kind.from_pretrained(
                str(folder.resolve()), trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # the tokenizers package raises Exception itself
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(
            f"The tokenizer in {folder} cannot be read: {first}", remedy="Fetch the model again."
        ) from error
    if not tokenizer.is_fast:
        raise Unsupported(f"The tokenizer in {folder} has no fast form.", remedy="Use a model with a tokenizer.json.")
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer
