"""The changeable parts of one runnable: what stands in a prompt, the source of a function, what tools are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.prompts import (
    BasePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)
from langchain_core.prompts.chat import BaseMessagePromptTemplate
from langchain_core.prompts.few_shot_with_templates import FewShotPromptWithTemplates

from trace_adapters import ParameterError
from trace_adapters_langchain import templates
from trace_adapters_langchain.chains import model_copy

PROMPT, EXAMPLES, PARTIAL, CODE, TOOL = KINDS = ("prompt", "examples", "partial", "code", "tool")

Write = Callable[[Any, Any, bool], Any]


@dataclass(frozen=True)
class Part:
    """Something in a runnable that may be changed.

    Attributes:
        role: What it is to the runnable: "system", "examples", "code"; "" for the only text of a prompt.
        kind: One of `KINDS`.
        value: What stands there.
        about: What it is for, for optimizers.
        constraint: What a new value must satisfy, in words.
        check: Raises `ParameterError` with the reason if a new value cannot stand there.
        write: runnable, value, whether code becomes a plain function -> a copy of the runnable with that value.
        names: The variables in it, to tell it from others of the same role.
        put: For code: runnable, function -> a copy of the runnable with that function.
    """

    role: str
    kind: str
    value: Any
    about: str
    constraint: str
    check: Callable[[Any], None]
    write: Write
    names: tuple[str, ...] = ()
    put: Callable[[Any, Callable[..., Any]], Any] | None = None


def prompt_parts(prompt: Any) -> list[Part]:
    """The parts of a prompt of LangChain's own kinds; none for others."""
    found = list(_parts_of(prompt))
    if isinstance(prompt, BasePromptTemplate):
        found += _partial_parts(prompt)
    return found


def tool_parts(binding: Any) -> list[Part]:
    """The descriptions of tools that were bound to a model, and of their arguments.

    `bind_tools` writes what the model is told into the binding, so that is where it is changed: later changes of the
    tool do nothing.
    """
    found: list[Part] = []
    tools = getattr(binding, "kwargs", {}).get("tools")
    for number, tool in enumerate(tools if isinstance(tools, (list, tuple)) else ()):
        inner = _tool_path(tool)
        if inner is not None:
            found += _one_tool(_get(tool, inner), number, inner)
    return found


def read_variables(prompt: Any) -> list[str] | None:
    """The variables that a prompt takes from its input; None if it is no prompt."""
    if not isinstance(prompt, BasePromptTemplate):
        return None
    return list(dict.fromkeys([*prompt.input_variables, *getattr(prompt, "optional_variables", ())]))


def _parts_of(prompt: Any) -> Iterator[Part]:
    if isinstance(prompt, PromptTemplate):
        yield _template(prompt.template, prompt.template_format, "", "A prompt template.", "template")
    elif isinstance(prompt, ChatPromptTemplate):
        for number, message in enumerate(prompt.messages):
            for part in _message_parts(message):
                yield _at_index(part, "messages", number)
    elif isinstance(prompt, FewShotPromptTemplate):
        for name in ("prefix", "suffix"):
            about = f"What stands {'before' if name == 'prefix' else 'after'} the examples of a prompt."
            if getattr(prompt, name):
                yield _template(getattr(prompt, name), prompt.template_format, name, about, name)
        yield from _examples(prompt, prompt.example_prompt, prompt.template_format)
    elif isinstance(prompt, FewShotChatMessagePromptTemplate):
        yield from _examples(prompt, prompt.example_prompt, None)
    elif isinstance(prompt, FewShotPromptWithTemplates):
        for name in ("prefix", "suffix"):
            for part in _parts_of(getattr(prompt, name)):
                yield _within(part, name, name)
        yield from _examples(prompt, prompt.example_prompt, prompt.template_format)


def _template(text: str, form: str, role: str, about: str, attribute: str) -> Part:
    return Part(
        role,
        PROMPT,
        text,
        about,
        templates.constraint(text, form),
        lambda new: templates.check_template(new, text, form),
        lambda prompt, new, _: model_copy(prompt, **{attribute: new}),
        tuple(templates.variables(text, form)),
    )


def _message_parts(message: Any) -> Iterator[Part]:
    if isinstance(message, BaseMessage):
        if isinstance(message.content, str):
            text = message.content
            yield Part(
                _role_of(message),
                PROMPT,
                text,
                f"A message of the prompt, as it is sent: role {_role_of(message)}.",
                "A text, sent as it is: braces are no variables.",
                lambda new: templates.check_text(new, text),
                lambda old, new, _: model_copy(old, content=new),
            )
    elif isinstance(message, BasePromptTemplate):
        yield from prompt_parts(message)
    elif isinstance(message, BaseMessagePromptTemplate) and hasattr(message, "prompt"):
        inner = message.prompt
        role = _role_of(message)
        for number, prompt in enumerate(inner if isinstance(inner, list) else [inner]):
            for part in prompt_parts(prompt):
                part = replace(part, about=f"The {role} message of the prompt." if not part.role else part.about)
                part = _at_index(part, "prompt", number) if isinstance(inner, list) else _within(part, "", "prompt")
                yield replace(part, role=_joined(role, part.role))


def _role_of(message: Any) -> str:
    kind = getattr(message, "type", None)
    if isinstance(message, BaseMessage) and isinstance(kind, str):
        return str(getattr(message, "role", kind)) if kind == "chat" else kind
    given = getattr(message, "role", None)
    name = type(message).__name__.removesuffix("MessagePromptTemplate").lower()
    return str(given) if given else name or "message"


def _partial_parts(prompt: BasePromptTemplate[Any]) -> Iterator[Part]:
    for name, value in prompt.partial_variables.items():
        if isinstance(value, str):
            yield Part(
                name,
                PARTIAL,
                value,
                f"What the prompt has for its variable {name}.",
                "A text, put into the prompt as it is.",
                lambda new, value=value: templates.check_text(new, value),  # type: ignore[misc]
                lambda old, new, _, name=name: model_copy(  # type: ignore[misc]
                    old, partial_variables={**old.partial_variables, name: new}
                ),
            )


def _examples(prompt: Any, example_prompt: Any, outer_format: str | None) -> Iterator[Part]:
    examples = prompt.examples
    if examples is not None:
        names = tuple(example_prompt.input_variables)
        yield Part(
            "examples",
            EXAMPLES,
            [dict(example) for example in examples],
            "Examples that the prompt shows to the model.",
            f"A list of mappings, each with {', '.join(names)}."
            + (" Braces in values are written twice: {{ and }}." if outer_format == templates.F_STRING else ""),
            lambda new: _check_examples(new, names, outer_format),
            lambda old, new, _: model_copy(old, examples=[dict(example) for example in new]),
            names,
        )
    for part in _parts_of(example_prompt) if isinstance(example_prompt, BasePromptTemplate) else ():
        yield _within(part, "example", "example_prompt")
    if not isinstance(example_prompt, BasePromptTemplate):
        for part in _message_parts(example_prompt):
            yield _within(part, "example", "example_prompt")


def _check_examples(new: Any, names: Sequence[str], outer_format: str | None) -> None:
    if not isinstance(new, list) or not all(isinstance(example, Mapping) for example in new):
        raise ParameterError(f"Expected a list of mappings with {', '.join(names)}, got {new!r}.")
    for example in new:
        missing = [name for name in names if name not in example]
        if missing:
            raise ParameterError(f"The example {dict(example)!r} lacks {', '.join(missing)}.")
        for name in names if outer_format is not None else ():
            if isinstance(example[name], str):
                _check_filled_twice(example[name], name, str(outer_format))


def _check_filled_twice(text: str, name: str, form: str) -> None:
    """A few-shot prompt fills the examples' texts a second time, with its own variables."""
    try:
        templates.check_template(text, " ", form)
    except ParameterError as error:
        advice = (
            "write braces twice in examples: {{ and }}" if form == templates.F_STRING else "leave out what it fills"
        )
        raise ParameterError(f"The example's {name} {text!r} would be filled as a template; {advice}.") from error


def _tool_path(tool: Any) -> tuple[str, ...] | None:
    """Where in a bound tool its name and description stand; None for forms that are not known."""
    if not isinstance(tool, Mapping):
        return None
    for path in (("function",), ()):
        inner = _get(tool, path)
        if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
            return path
    return None


def _one_tool(tool: Mapping[str, Any], number: int, path: tuple[str, ...]) -> Iterator[Part]:
    name = tool["name"]
    about = f"What the model is told about its tool {name}"
    if isinstance(tool.get("description"), str):
        yield _tool_part(f"{name}.description", f"{about}.", number, (*path, "description"), tool["description"])
    for schema in ("parameters", "input_schema"):
        properties = _get(tool, (schema, "properties"))
        for argument, facts in properties.items() if isinstance(properties, Mapping) else ():
            if isinstance(facts, Mapping) and isinstance(facts.get("description"), str):
                where = (*path, schema, "properties", argument, "description")
                yield _tool_part(
                    f"{name}.{argument}", f"{about}'s argument {argument}.", number, where, facts["description"]
                )


def _tool_part(role: str, about: str, number: int, path: tuple[str, ...], text: str) -> Part:
    return Part(
        role,
        TOOL,
        text,
        about,
        "A text. The names of the tool and of its arguments stay.",
        lambda new: templates.check_text(new, text),
        lambda binding, new, _: _with_tool_text(binding, number, path, new),
    )


def _with_tool_text(binding: Any, number: int, path: tuple[str, ...], text: str) -> Any:
    tools = list(binding.kwargs["tools"])
    tools[number] = _put(tools[number], path, text)
    return model_copy(binding, kwargs={**binding.kwargs, "tools": tools})


def _get(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _put(value: Mapping[str, Any], path: Sequence[str], text: str) -> dict[str, Any]:
    first, *rest = path
    return {**value, first: _put(value[first], rest, text) if rest else text}


def _at_index(part: Part, attribute: str, number: int) -> Part:
    """A part of one item of a list that a model holds, as a part of that model."""

    def write(model: Any, value: Any, plain: bool) -> Any:
        items = list(getattr(model, attribute))
        items[number] = part.write(items[number], value, plain)
        return model_copy(model, **{attribute: items})

    return replace(part, write=write)


def _within(part: Part, role: str, attribute: str) -> Part:
    """A part of a model that another model holds, as a part of that one."""

    def write(model: Any, value: Any, plain: bool) -> Any:
        return model_copy(model, **{attribute: part.write(getattr(model, attribute), value, plain)})

    return replace(part, role=_joined(role, part.role), write=write)


def _joined(first: str, second: str) -> str:
    return f"{first}.{second}" if first and second else first or second
