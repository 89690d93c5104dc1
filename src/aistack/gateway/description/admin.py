"""The admin API, described; operations of the same path are told apart by their method."""

from aistack.gateway.allowances import LIMIT_NAMES, SCOPES
from aistack.gateway.description.schema import (
    Json,
    Operation,
    constant,
    count,
    either,
    listed,
    maybe,
    number,
    parameter,
    ref,
    text,
    thing,
)

_ONCE = "Its secret, `ask_...`; shown this once."
_ABOUT_KEY: dict[str, Json] = {
    "id": text(),
    "name": text(),
    "owner": maybe(text()),
    "created": text("A time in UTC, as all of these are."),
    "expires": maybe(text()),
    "revoked": maybe(text()),
    "scopes": listed(text()),
    "models": maybe(listed(text(), "None: all.")),
    "weight": {"type": "number"},
    "old_secret_until": maybe(text("How long the secret of before a rotation works.")),
    "limits": thing({name: {"type": "integer"} for name in LIMIT_NAMES}, about="Those of its own."),
}
_LIMIT: Json = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 10**15}, {"type": "null"}]}
_TERMS: dict[str, Json] = {
    "owner": maybe(text("Whom it belongs to; usage is added up by it.")),
    "scopes": either(listed(text("", *SCOPES), least=1), {"type": "null"}, about="Null: all but `admin`."),
    "models": either(listed(text(least=1), least=1), {"type": "null"}, about="What it may use; null: all."),
    "expires": either(
        {"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"},
        about="A time with its zone, or seconds since 1970; null: never.",
    ),
    "weight": either(number(least=0.01, most=100), {"type": "null"}, about="Its share when requests wait in line."),
    "limits": either(
        thing(dict.fromkeys(LIMIT_NAMES, _LIMIT)), {"type": "null"}, about="0: no limit; null: that of the site."
    ),
}  # fmt: skip
_NAME = text("What it is called; no other live key is.", least=1)

SCHEMAS: dict[str, Json] = {
    "Key": thing(_ABOUT_KEY, *_ABOUT_KEY),
    "KeyWithSecret": thing({**_ABOUT_KEY, "key": text(_ONCE)}, *_ABOUT_KEY, "key"),
    "Keys": thing({"object": constant("list"), "data": listed(ref("Key"))}, "object", "data"),
    "NewKey": thing({"name": _NAME, **_TERMS}, "name"),
    "KeyChanges": thing({"name": _NAME, **_TERMS}, about="What is not named stays."),
    "Rotation": thing({"overlap_seconds": count("How long the old secret still works.")}),
    "UsageLine": thing(
        {
            "id": text("`user:...`, `key:...`, a model, or a day in UTC."),
            "name": text(),
            "requests": count(),
            "prompt_tokens": {"type": "integer"},
            "completion_tokens": {"type": "integer"},
        },
        "id", "name", "requests", "prompt_tokens", "completion_tokens",
    ),
    "Usage": thing({"object": constant("list"), "data": listed(ref("UsageLine"))}, "object", "data"),
    "Node": thing(
        {
            "name": text(),
            "kind": text("Empty for one that is removed.", "llamacpp", "ollama", "openai", ""),
            "state": text("`ready`, `draining`, `down`, `resting`, or two of these; `removed`: drained, and gone."),
            "problem": text("Why it is down or spared."),
            "slots": count("How many requests it works on at once for a model."),
            "in_flight": count("How many it works on now."),
            "models": listed(text()),
            "only_here": listed(text(), "Those of its models that no other node could answer for now."),
        },
        "name", "kind", "state", "problem", "slots", "in_flight", "models", "only_here",
    ),
    "Nodes": thing({"object": constant("list"), "data": listed(ref("Node"))}, "object", "data"),
}  # fmt: skip

_MOMENT = "A day, a time (in UTC unless it says otherwise), or so many days ago (`30d`)."

OPERATIONS: dict[str, Operation] = {
    "GET keys": Operation("List all keys, revoked ones too", answer=ref("Keys")),
    "POST keys": Operation(
        "Make a key",
        "The answer alone has its secret: only a hash of it is kept.",
        request=ref("NewKey"),
        answer=ref("KeyWithSecret"),
        example={"name": "nightly", "owner": "ada", "scopes": ["embed"], "limits": {"tokens_per_day": 2000000}},
    ),
    "GET keys/{id}": Operation("Tell of one live key", "By its id or its name, as all of these.", answer=ref("Key")),
    "PATCH keys/{id}": Operation(
        "Change what a key may do",
        "It counts from the next request on.",
        request=ref("KeyChanges"),
        answer=ref("Key"),
        example={"limits": {"tokens_per_day": 500000}},
    ),
    "DELETE keys/{id}": Operation(
        "Revoke a key", "The next request with it is refused; its name is free again.", answer=ref("Key")
    ),
    "POST keys/{id}/rotate": Operation(
        "Give a key a new secret",
        "Without a body the old one ends at once.",
        request=ref("Rotation"),
        needs_request=False,
        answer=ref("KeyWithSecret"),
        example={"overlap_seconds": 604800},
    ),
    "GET usage": Operation(
        "Say who used how much",
        "The rows of `aistack usage`, up to half a second old. Numbers are kept by the hour: `since` and `until` work "
        "by whole ones.",
        answer=ref("Usage"),
        parameters=(
            parameter("by", text("What to add up; `user` unless set.", "user", "key", "model", "day")),
            parameter("since", text(f"From the hour on that this is in. {_MOMENT}")),
            parameter("until", text(f"Up to this; the hour that it is in counts whole. {_MOMENT}")),
        ),
    ),
    "GET nodes": Operation("Say how the engine nodes are", answer=ref("Nodes")),
    "POST nodes/{name}/drain": Operation(
        "Send a node nothing new",
        "What it was sent it finishes: it is idle when `in_flight` is 0. It stays so over restarts, in all gateways.",
        answer=ref("Node"),
    ),
    "POST nodes/{name}/resume": Operation(
        "Send a node requests again", "Or forget one that is `removed`.", answer=ref("Node")
    ),
}
