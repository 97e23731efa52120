"""The HTTP API of a node, switched on by `[web]` in its settings (docs/api.md).

`server` runs uvicorn in the node's loop; `app` puts the parts together: `guard` before everything
else, `routes` over the answers of `node/api/`, `stream` for server-sent events, `metrics`. Nothing
here is imported where `[web]` is absent: its libraries take 15 MiB.
"""
