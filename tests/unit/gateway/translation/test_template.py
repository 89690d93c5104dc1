import contextlib

import pytest

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation.template import filled

CHATML = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


def test_a_usual_template_ends_where_the_response_begins() -> None:
    assert filled(CHATML, system="be brief", prompt="hi") == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert filled(CHATML, system="", prompt="hi") == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_trimming_marks_take_white_space_away_on_their_side_only() -> None:
    assert filled("a \n {{- .Prompt -}} \n b", system="", prompt="X") == "aXb"
    assert filled("a {{- .Prompt }} b", system="", prompt="X") == "aX b"
    assert filled("a {{ .Prompt -}} b", system="", prompt="X") == "a Xb"
    assert filled("{{ .Prompt }} {{ .Prompt }}", system="", prompt="X") == "X X"


def test_else_is_the_other_branch_also_nested() -> None:
    template = "{{ if .System }}{{ if .Prompt }}both{{ else }}system{{ end }}{{ else }}none{{ end }}"
    assert filled(template, system="s", prompt="p") == "both"
    assert filled(template, system="s", prompt="") == "system"
    assert filled(template, system="", prompt="p") == "none"


def test_what_the_values_say_is_never_taken_for_template() -> None:
    assert filled("{{ .Prompt }}", system="", prompt="{{ .System }}") == "{{ .System }}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ range .Messages }}x{{ end }}",
        "{{ .Tools }}",
        "{{ if .System }}x",
        "{{ end }}",
        "{{ else }}",
        "{{ }}",
        7,
    ],
)
def test_what_is_not_known_is_refused(template: str) -> None:
    with pytest.raises(Refusal) as refused:
        filled(template, system="", prompt="x")
    assert refused.value.status == 400


@pytest.mark.timeout(60)
@pytest.mark.parametrize("hostile", ["{{" * 50_000, " " * 100_000, "{{" + " " * 99_000, "{{-" * 33_000 + "}}"])
def test_a_hostile_template_is_read_once(hostile: str) -> None:
    """Quadratic reading would take minutes, and hold up everybody."""
    with contextlib.suppress(Refusal):
        filled(hostile, system="", prompt="x")


def test_marks_trim_the_white_space_beside_them() -> None:
    assert filled("a \n {{- .Prompt -}} \n b {{ .Prompt }} c", system="", prompt="X") == "aXb X c"
