"""A server of thirty tools, by the Python SDK: server.py PORT json|events"""

import sys

from mcp.server.mcpserver import MCPServer

KINDS = ["open", "write", "closed"]


def answer(n: int) -> str:
    """Says what it was called with."""
    return f"called with {n}"


server = MCPServer("thirty tools")
for number in range(30):
    server.tool(name=f"{KINDS[number % 3]}_{number}")(answer)
server.run(
    "streamable-http", host="127.0.0.1", port=int(sys.argv[1]), json_response=sys.argv[2] == "json"
)
