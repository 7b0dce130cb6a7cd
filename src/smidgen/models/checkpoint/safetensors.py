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


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``, refusing configurations that ask for remote code.

    Raises:
        InvalidInput: The folder holds no ``config.json``.
        DamagedFile: It is not JSON.
        Unsupported: The model needs code from its repository.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no config.json.", remedy="Give a folder in the transformers layout.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path} is not JSON: {error}.", remedy="Fetch the model again.") from error
    if "auto_map" in config:
        raise Unsupported(f"{folder} needs code from its repository, and smidgen never runs remote code.")
    return config


def read_module(folder: Path, dtype: torch.dtype) -> Any:
    """Load the transformers model of a folder, from safetensors only.

    Raises:
        DamagedFile: A weights file is cut short or does not fit the configuration.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        module, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise DamagedFile(
            f"The weights in {folder} cannot be read: {first}", remedy="Fetch the model again."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise DamagedFile(
            f"The weights in {folder} lack {len(missing)} tensors, the first is {missing[0]!r}.",
            remedy="Fetch the model again.",
        )
    return module.eval()


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the fast tokenizer of a folder.

    Raises:
        DamagedFile: There is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = AutoTokenizer.from_pretrained(
                folder, use_fast=True, trust_remote_code=False, local_files_only=True
            )
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise DamagedFile(f"The tokenizer in {folder} cannot be read: {first}") from error
    result: PreTrainedTokenizerFast = tokenizer
    return result
