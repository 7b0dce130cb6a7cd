"""Keeping a conversation's model, settings and turns under a name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from smidgen.inference.options import GenerationOptions
from smidgen.models.modelfile import Modelfile, Turn, of_facts

if TYPE_CHECKING:
    from smidgen.cli._conversation import Chat
    from smidgen.models.sources import LocalModel


def save(chat: Chat, local: LocalModel, name: str) -> str:
    """Store a conversation's model with what was set and said in it; returns its full name.

    Args:
        chat: The conversation.
        local: Its model.
        name: The name to keep it under.
    """
    from smidgen.recipe.create import Creation, create

    return create(Creation(name, modelfile(chat, local))).name


def modelfile(chat: Chat, local: LocalModel) -> Modelfile:
    """Return the Modelfile that a conversation amounts to."""
    defaults, own = GenerationOptions(), chat.setup.parameters
    changed = {
        each.name: getattr(chat.options, each.name)
        for each in fields(GenerationOptions)
        if each.name != "num_thread"
        and (each.name in own or getattr(chat.options, each.name) != getattr(defaults, each.name))
    }
    turns = [*chat.setup.messages, *chat.said]
    said = of_facts({"parameters": changed}, source=local.name, system=chat.system)
    return replace(said, messages=tuple(Turn(turn.role, turn.content) for turn in turns))
