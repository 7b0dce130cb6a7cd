"""Lays out conversations with templates in Go's language, by the rules that Modelfiles are written for.

A template that reads ``.Messages`` gets the whole conversation. An older one, which reads ``.System``, ``.Prompt``
and ``.Response``, is filled in once for each exchange, and the last time only up to the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.inference.go_template import GoTemplate

Think = bool | str | None


def lay_out(
    template: GoTemplate,
    turns: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    think: Think = None,
) -> str:
    r"""Return a conversation as the text that the model continues.

    Args:
        template: The layout.
        turns: Mappings with "role" and "content", and where there are any "thinking", "tool_calls" (each with
            "function": {"name", "arguments"}), "tool_name" and "tool_call_id". An assistant's last turn is continued.
        tools: Functions that the model may call, as JSON describes them.
        think: Whether the model shall think, or how hard ("low", "medium", "high"); None where nobody says.

    Raises:
        InvalidInput: The template cannot be filled in with this.

    Example:
        >>> from smidgen.inference.go_template import parse
        >>> old = parse("{{ if .System }}{{ .System }}\n{{ end }}Q: {{ .Prompt }}\nA: {{ .Response }}\n")
        >>> said = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye")]
        >>> lay_out(old, [{"role": role, "content": text} for role, text in said])
        'Q: Hi\nA: Yes?\nQ: Bye\nA: '
    """
    merged = _merged(turns)
    more = {
        "Think": bool(think),
        "ThinkLevel": think if isinstance(think, str) else "",
        "IsThinkSet": think is not None,
    }
    if "messages" in template.names:
        system = "\n\n".join(str(turn.get("content") or "") for turn in turns if turn["role"] == "system")
        values = {"System": system, "Messages": merged, "Tools": list(tools), "Response": "", **more}
        return template.render(values)
    return _exchanges(template, merged, more)


def lay_out_prompt(
    template: GoTemplate, prompt: str, *, system: str | None = None, suffix: str = "", think: Think = None
) -> str:
    """Return a single prompt as the text that the model continues.

    Args:
        template: The layout.
        prompt: What is asked, or with a suffix what stands before the place that is to be filled.
        system: What the model is to be.
        suffix: What stands behind that place; for templates that read ``.Suffix``.
        think: As for `lay_out`.
    """
    if suffix:
        return template.until("Response").render({"Prompt": prompt, "Suffix": suffix, "System": system or ""})
    begin = [{"role": "system", "content": system}] if system else []
    return lay_out(template, [*begin, {"role": "user", "content": prompt}], think=think)


def capabilities(template: GoTemplate) -> tuple[str, ...]:
    """Return what a template shows that its model can do beside completing: "tools", "insert", "thinking".

    Example:
        >>> from smidgen.inference.go_template import parse
        >>> capabilities(parse("{{ .Prompt }}<FILL>{{ .Suffix }}"))
        ('insert',)
    """
    marks = {"tools": "tools", "insert": "suffix", "thinking": "thinking"}
    return tuple(name for name, field in marks.items() if field in template.names)


def _merged(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join neighbouring turns of one role, as templates expect; calls and results of tools stay apart."""
    merged: list[dict[str, Any]] = []
    for turn in turns:
        last = merged[-1] if merged else None
        plain = not turn.get("tool_calls") and turn["role"] != "tool"
        if last is not None and last["role"] == turn["role"] and plain and not last.get("tool_calls"):
            last["content"] = f"{last.get('content') or ''}\n\n{turn.get('content') or ''}"
        else:
            merged.append(dict(turn))
    return merged


def _exchanges(template: GoTemplate, turns: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> str:
    written: list[str] = []
    shown = "response" in template.names
    state = {"System": "", "Prompt": "", "Response": ""}

    def write(layout: GoTemplate) -> None:
        written.append(layout.render({**state, **more}))
        if not shown:
            written.append(state["Response"])
        state.update(System="", Prompt="", Response="")

    for turn in turns:
        role, content = turn["role"], str(turn.get("content") or "")
        if role == "system":
            if state["Prompt"] or state["Response"]:
                write(template)
            state["System"] = content
        elif role in ("user", "tool"):
            if state["Response"]:
                write(template)
            state["Prompt"] = f"{state['Prompt']}\n\n{content}" if state["Prompt"] else content
        elif role == "assistant":
            state["Response"] = content
    write(template.until("Response"))
    return "".join(written)
