"""A server of thirty tools and some prompts and resources, by the Python SDK:
server.py PORT json|events"""

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


server = MCPServer("thirty tools")
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
