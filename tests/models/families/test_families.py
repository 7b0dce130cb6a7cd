"""What is asked of families that nobody knows."""

import pytest

from smidgen.errors import Unsupported
from smidgen.models import families


def test_unknown_architectures_name_the_known() -> None:
    with pytest.raises(
        Unsupported, match=r"'GPT2LMHeadModel' .* Known: Gemma2ForCausalLM, Gemma3ForCausalLM, H2OVLChat"
    ):
        families.for_architecture("GPT2LMHeadModel")
    with pytest.raises(Unsupported, match="'bert' cannot be taken apart"):
        families.for_gguf({"general.architecture": "bert"})


def test_a_family_without_experts_says_so() -> None:
    with pytest.raises(TypeError, match="Llama has no experts"):
        families.for_architecture("LlamaForCausalLM").with_experts(None, 2)
