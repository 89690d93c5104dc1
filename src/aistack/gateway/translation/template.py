"""A caller's own template for `/api/generate`: the part of Go's templates that prompts use.

Known are `{{ .System }}`, `{{ .Prompt }}`, `{{ .Response }}`, `{{ if .X }}`, `{{ else }}`, `{{ end }}` and
the trimming marks `{{-` and `-}}`; anything else is refused, never guessed.
"""

import re
from collections.abc import Iterator

from aistack.gateway.refusals import bad_request

_FIELD = re.compile(r"\.(System|Prompt|Response)")
_LONGEST = 100_000


def filled(template: str, *, system: str, prompt: str) -> str:
    """The prompt that `template` makes, up to where the model's response begins.

    Raises Refusal 400 for a template that uses more than is known here.
    """
    if not isinstance(template, str) or len(template) > _LONGEST:
        raise bad_request("template must be a string")
    values = {"System": system, "Prompt": prompt, "Response": ""}
    written: list[str] = []
    # One entry an open `if`: whether its present branch is written.
    branches: list[bool] = []
    for is_action, text in _pieces(template):
        if not is_action:
            if all(branches):
                written.append(text)
        elif field := _FIELD.fullmatch(text):
            if all(branches):
                if field[1] == "Response":
                    return "".join(written)
                written.append(values[field[1]])
        else:
            _branch(text, values, branches)
    if branches:
        raise bad_request("template: an {{ if }} has no {{ end }}")
    return "".join(written)


def _branch(action: str, values: dict[str, str], branches: list[bool]) -> None:
    word, _, condition = action.partition(" ")
    field = _FIELD.fullmatch(condition.strip())
    if word == "if" and field:
        branches.append(bool(values[field[1]]))
    elif action == "else" and branches:
        branches[-1] = not branches[-1]
    elif action == "end" and branches:
        branches.pop()
    else:
        raise bad_request(
            f"template: {{{{ {action} }}}} is not supported here; send the finished prompt with raw: true"
        )


def _pieces(template: str) -> Iterator[tuple[bool, str]]:
    """The template as (is an action, text) in order, with the trimming marks obeyed."""
    position, trimming = 0, False
    # No regular expression: one that takes white space and anything lazily can be made to take for ever.
    while (start := template.find("{{", position)) >= 0 and (end := template.find("}}", start)) >= 0:
        text, action = template[position:start], template[start + 2 : end]
        yield False, _trimmed(text, left=trimming, right=action.startswith("-"))
        yield True, action.removeprefix("-").removesuffix("-").strip()
        position, trimming = end + 2, action.endswith("-")
    yield False, _trimmed(template[position:], left=trimming, right=False)


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text
