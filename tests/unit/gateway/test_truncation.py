from typing import Any

from aistack.gateway.truncation import words_in


def test_the_words_of_every_surface_are_counted_and_nothing_else() -> None:
    parts = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "data:a b c"}}]
    assert words_in({"model": "a b", "messages": [{"role": "user", "content": parts}, {"content": "three"}]}) == 3
    assert words_in({"prompt": "one two", "system": "three"}) == 3
    assert words_in({"input": ["one", "two three"]}) == 3
    assert words_in({"query": "one", "documents": ["two", {"text": "three"}]}) == 3
    assert words_in({"prompt": 7, "messages": None}) == 0


def test_deep_nesting_is_no_trap() -> None:
    nested: Any = "one"
    for _ in range(100_000):
        nested = [nested]
    assert words_in({"messages": nested}) == 1
    while isinstance(nested, list):  # or its end would be one
        nested = nested.pop()


def test_only_so_much_of_a_very_long_text_is_looked_at() -> None:
    assert words_in({"prompt": "a " * 20_000_000}) == 500_000
