"""Lists what a server has and tries to use each, by the Python SDK:
client.py URL TOKEN legacy|VERSION"""

import asyncio
import json
import sys

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import PromptReference, ResourceTemplateReference

KINDS = ["open", "write", "closed"]
DENIED = 403


async def listed(ask, name):
    """All pages, with the scopes that an entry needs."""
    entries, cursor = {}, None
    while True:
        page = await ask(cursor=cursor)
        for entry in name(page):
            needs = (entry[1].meta or {}).get("mcp-authz/requiredScopes", [])
            entries[str(entry[0])] = needs
        cursor = page.next_cursor
        if cursor is None:
            return entries


async def allowed(coroutine):
    """Whether it is not denied: the server may know no such method."""
    try:
        await coroutine
    except MCPError as error:
        return error.code != DENIED
    return True


async def called(client, tool, n):
    try:
        result = await client.call_tool(tool, {"n": n})
    except MCPError:
        return False
    return not result.is_error and result.content[0].text == f"called with {n}"


async def got(client, prompt, n):
    try:
        result = await client.get_prompt(prompt, {"n": n})
    except MCPError:
        return False
    return result.messages[0].content.text == f"asked with {n}"


async def read(client, uri):
    try:
        result = await client.read_resource(uri)
    except MCPError:
        return False
    return result.contents[0].text.startswith("read")


async def completed(client, ref):
    try:
        result = await client.complete(ref, {"name": "name", "value": "v"})
    except MCPError:
        return False
    return result.completion.values == ["v!"]


async def listen(client, uri):
    async with client.listen(resource_subscriptions=[uri]):
        pass


async def main(url, token, mode):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            subscribe = client.subscribe_resource
            if mode != "legacy":
                subscribe = lambda uri: listen(client, uri)
            tools = [f"{KINDS[number % 3]}_{number}" for number in range(30)]
            uris = [f"file:///{kind}/a" for kind in KINDS]
            templates = [f"file:///{kind}/of/{{name}}" for kind in KINDS]
            prompt_refs = [PromptReference(name=kind) for kind in KINDS]
            template_refs = [ResourceTemplateReference(uri=uri) for uri in templates]
            seen = {
                "tools": {
                    "listed": await listed(
                        client.list_tools, lambda page: [(t.name, t) for t in page.tools]
                    ),
                    "usable": [
                        t for t in tools if any([await called(client, t, n) for n in (0, 101)])
                    ],
                },
                "prompts": {
                    "listed": await listed(
                        client.list_prompts, lambda page: [(p.name, p) for p in page.prompts]
                    ),
                    "usable": [
                        p for p in KINDS if any([await got(client, p, n) for n in ("0", "1")])
                    ],
                },
                "resources": {
                    "listed": await listed(
                        client.list_resources, lambda page: [(r.uri, r) for r in page.resources]
                    ),
                    "usable": [uri for uri in uris if await read(client, uri)],
                },
                "templates": {
                    "listed": await listed(
                        client.list_resource_templates,
                        lambda page: [(t.uri_template, t) for t in page.resource_templates],
                    ),
                    "usable": [
                        uri for uri in templates if await read(client, uri.replace("{name}", "x"))
                    ],
                },
                "completed": [ref.name for ref in prompt_refs if await completed(client, ref)]
                + [str(ref.uri) for ref in template_refs if await completed(client, ref)],
                "subscribed": [uri for uri in uris if await allowed(subscribe(uri))],
            }
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
