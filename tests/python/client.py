"""Lists the tools of a server and calls each, by the Python SDK:
client.py URL TOKEN legacy|VERSION"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def listed(client):
    """All pages, with the scopes that a tool needs."""
    tools, cursor = {}, None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            tools[tool.name] = (tool.meta or {}).get("mcp-authz/requiredScopes", [])
        cursor = page.next_cursor
        if cursor is None:
            return tools


async def called(client, tool, n):
    try:
        result = await client.call_tool(tool, {"n": n})
    except Exception:
        return False
    return not result.is_error and result.content[0].text == f"called with {n}"


async def main(url, token, mode):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            tools = await listed(client)
            kinds = ["open", "write", "closed"]
            callable = []
            for number in range(30):
                tool = f"{kinds[number % 3]}_{number}"
                if any([await called(client, tool, n) for n in (0, 101)]):
                    callable.append(tool)
    print(json.dumps({"listed": tools, "callable": callable}))


asyncio.run(main(*sys.argv[1:]))
