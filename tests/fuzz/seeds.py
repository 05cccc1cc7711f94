"""Takes the bodies and policies of tests/corpus and of the examples as seeds of the
fuzz targets: seeds.py DIRECTORY"""

import hashlib
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]


def bodies():
    for file in ROOT.glob("tests/corpus/*/cases.json"):
        for case in json.loads(file.read_text()):
            if "body" in case:
                yield case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
            elif "message" in case:
                yield json.dumps({"jsonrpc": "2.0", "id": 1} | case["message"])
            elif "tool" in case.get("call", {}):
                params = {"name": case["call"]["tool"], "arguments": case["call"].get("arguments")}
                call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                yield json.dumps(call)


def policies():
    for pattern in ["tests/corpus/*/policy.yaml", "tests/validate/*.yaml", "examples/**/policy.yaml"]:
        for file in ROOT.glob(pattern):
            yield file.read_text()
    page = (ROOT / "examples/policies/README.md").read_text()
    yield from re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


for target, texts in {"body": bodies(), "policy": policies()}.items():
    directory = pathlib.Path(sys.argv[1]) / target
    directory.mkdir(parents=True, exist_ok=True)
    for text in texts:
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        (directory / name).write_text(text)
