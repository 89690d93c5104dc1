"""What is neither API but the gateway's own, described."""

from aistack.gateway.description.schema import Operation, anything, listed, ref, text, thing

_STATUS = thing({"status": text()}, "status")

OPERATIONS: dict[str, Operation] = {
    "health": Operation("Say whether some engine answers", answer=_STATUS),
    "live": Operation("Say that the gateway runs", answer=_STATUS),
    "metrics": Operation("Tell Prometheus the numbers", "Not for the outside.", answer=text(), content="text/plain"),
    "nodes": Operation("Say how the engine nodes are", "Not for the outside.", answer=listed(ref("Node"))),
    "authorize-admin": Operation(
        "Say whether the credential is that of an administrator of the chat",
        "For nginx, which asks this before it shows the programs that only they may see.",
    ),
    "openapi": Operation("This description, for programs", answer=anything("An OpenAPI document.")),
    "docs": Operation("This description, for people", answer=text(), content="text/html"),
}
