"""A server of thirty tools, one that deletes, and some prompts and resources, by the
Python SDK: server.py PORT json|events"""

import sys

from mcp.server.mcpserver import MCPServer
from mcp.types import Completion

KINDS = ["open", "write", "closed"]


def answer(n: int) -> str:
    """Says what it was called with."""
    return f"called with {n}"


def prompt(n: str) -> str:
    """Says what it was asked with."""
    return f"asked with {n}"


def delete(force: bool = False, level: int = 0, options: dict | None = None) -> str:
    """Says what it would do."""
    forced = force or level in [9, 10] or (options or {}).get("force", False)
    return "deleted by force" if forced else "asked first"


server = MCPServer("thirty tools")
server.tool(name="delete")(delete)
for number in range(30):
    server.tool(name=f"{KINDS[number % 3]}_{number}")(answer)
for kind in KINDS:
    server.prompt(name=kind)(prompt)
    server.resource(f"file:///{kind}/a", name=kind)(lambda: "read")
    server.resource(f"file:///{kind}/of/{{name}}", name=f"of {kind}")(lambda name: f"read {name}")


@server.completion()
async def complete(ref, argument, context):
    return Completion(values=[argument.value + "!"])


server.run(
    "streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response=sys.argv[2] == "json"
)
